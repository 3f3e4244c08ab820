//! The fixed policy: rolling windows at 0.8 of the configured limits, and for each request a reservation of its body's
//! characters / 3.5 and of its `max_tokens`, or 2,048. First come, first served; what is refused is tried again.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    time::Duration,
};

use fireworks_proxy::{budget::Tokens, time::Mono};

use super::Contestant;
use crate::{
    model::{Action, Answer, Refusal, Request, float, tokens},
    upstream::{Upstream, limits::Tpm},
};

const RATIO: f64 = 0.8;
const CHARS_PER_TOKEN: f64 = 3.5;
const OUTPUT_RESERVE: u64 = 2_048;
const WINDOW: Duration = Duration::from_secs(60);
const WAIT_MAX: Duration = Duration::from_secs(120);
const RETRIES_MAX: u32 = 5;

/// The fixed policy.
#[derive(Debug)]
pub(crate) struct Fixed {
    limits: Tpm,
    queue: VecDeque<(Mono, Rc<Request>)>,
    flights: BTreeMap<u64, Flight>,
    used: VecDeque<(Mono, [u64; 3])>,
    reserved: [u64; 3],
    retries: BTreeSet<(Mono, u64)>,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Flight {
    request: Rc<Request>,
    held: [u64; 3],
    retries: u32,
}

impl Fixed {
    /// With these limits configured, and no way to learn that they changed.
    pub(crate) fn new(limits: Tpm) -> Self {
        Self {
            limits,
            queue: VecDeque::new(),
            flights: BTreeMap::new(),
            used: VecDeque::new(),
            reserved: [0; 3],
            retries: BTreeSet::new(),
            actions: VecDeque::new(),
        }
    }

    fn start(&mut self, now: Mono) {
        while self.used.front().is_some_and(|(at, _)| *at + WINDOW <= now) {
            self.used.pop_front();
        }
        while self.queue.front().is_some_and(|(until, _)| *until <= now) {
            let (_, request) = self.queue.pop_front().expect("there is a first");
            self.actions.push_back(Action::Refuse(request.id, Refusal::default()));
        }
        while let Some((_, request)) = self.queue.front() {
            let held = demand(request);
            if !self.has_room(held) {
                return;
            }
            let (_, request) = self.queue.pop_front().expect("there is a first");
            (0..3).for_each(|index| self.reserved[index] += held[index]);
            self.actions.push_back(Action::Send(request.id));
            self.flights.insert(request.id, Flight { request, held, retries: 0 });
        }
    }

    fn has_room(&self, held: [u64; 3]) -> bool {
        (0..3).all(|index| {
            let used: u64 = self.used.iter().map(|(_, used)| used[index]).sum();
            let counted = used + self.reserved[index];
            counted == 0 || counted + held[index] <= tokens(float(self.limits[index]) * RATIO)
        })
    }

    fn release(&mut self, id: u64) -> Option<Flight> {
        let flight = self.flights.remove(&id)?;
        (0..3).for_each(|index| self.reserved[index] -= flight.held[index]);
        Some(flight)
    }
}

fn demand(request: &Request) -> [u64; 3] {
    let prompt = tokens(float(request.body_chars()) / CHARS_PER_TOKEN);
    [prompt, prompt, request.max_tokens.unwrap_or(OUTPUT_RESERVE)]
}

impl Contestant for Fixed {
    fn submit(&mut self, request: &Rc<Request>, now: Mono) {
        self.queue.push_back((now + WAIT_MAX, request.clone()));
        self.start(now);
    }

    fn answered(&mut self, id: u64, answer: &Answer, now: Mono) {
        if answer.status == 200 {
            return;
        }
        let flight = self.flights.get_mut(&id).expect("it was sent");
        if flight.retries == RETRIES_MAX {
            self.release(id);
            self.actions.push_back(Action::Refuse(id, Refusal { retry_after: None, is_upstreams: true }));
        } else {
            let pause = Duration::from_millis(500) * 2u32.pow(flight.retries);
            flight.retries += 1;
            self.retries.insert((now + pause, id));
        }
    }

    fn ended(&mut self, id: u64, used: Tokens, now: Mono) {
        let flight = self.release(id).expect("it was sent");
        self.used.push_back((now, [used.prompt, used.uncached_prompt, used.generated]));
        self.actions.push_back(Action::Finish(flight.request.id));
        self.start(now);
    }

    fn wake(&mut self, now: Mono) {
        while let Some((_, id)) = self.retries.first().copied().filter(|(at, _)| *at <= now) {
            self.retries.pop_first();
            self.actions.push_back(Action::Send(id));
        }
        self.start(now);
    }

    fn next_wake(&self) -> Option<Mono> {
        let window = self.used.front().map(|(at, _)| *at + WINDOW).filter(|_| !self.queue.is_empty());
        let refusal = self.queue.front().map(|(until, _)| *until);
        let retry = self.retries.first().map(|(at, _)| *at);
        [window, refusal, retry].into_iter().flatten().min()
    }

    fn next_action(&mut self, _upstream: &Upstream, _now: Mono) -> Option<Action> {
        self.actions.pop_front()
    }
}
