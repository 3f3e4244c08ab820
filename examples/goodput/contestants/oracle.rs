//! The oracle: it knows what every request will cost and when, and the limiter's state. First come, first served, but
//! what fits now may pass what does not, unless that has waited long.
//!
//! [`Rule::WithinLimits`] never uses more than the limits allow. In rolling windows that means that every charge is within
//! the limit at the moment it is made, those to come included. A token bucket may be overdrawn by what is charged late,
//! because the debt flows back before anything else is let in, and so costs what it is worth.
//!
//! [`Rule::Unrefused`] only sees to it that nothing is refused on arrival: as what is generated is charged afterwards,
//! more than a window's limit can be had by starting much at the last moment. It is shown for what it is, a debt that a
//! stricter limiter would not grant.
//!
//! What it does not know are changes of the limits to come, others on the account who begin or end, and which gateway
//! or pool a request will come to.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    time::Duration,
};

use fireworks_proxy::{
    budget::{Dimension, Tokens},
    time::Mono,
};

use super::Contestant;
use crate::{
    model::{Action, Answer, Refusal, Request, TO_UPSTREAM, float},
    upstream::{Upstream, meter::Meter},
};

/// What the oracle holds itself to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Never to use more than the limits allow.
    WithinLimits,
    /// Never to be refused.
    Unrefused,
}

const WINDOW: Duration = Duration::from_secs(60);
/// Who has waited so long is not passed any more.
const PASSED_FOR: Duration = Duration::from_secs(30);
/// As long as the other contestants let a request wait.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// How often it looks again while somebody waits.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// No more are looked at for one that fits.
const CANDIDATES_MAX: usize = 64;
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A request that was sent, since when it is asked for, and what is planned for it.
struct Flight {
    request: Rc<Request>,
    since: Mono,
    planned: [(Mono, u64); 3],
}

/// The one that knows.
pub(crate) struct Oracle {
    rule: Rule,
    queue: VecDeque<(Mono, Rc<Request>)>,
    flights: BTreeMap<u64, Flight>,
    /// What requests on their way or under way will be charged, and when; by dimension.
    charges: [BTreeMap<(Mono, u64), u64>; 3],
    again: BTreeSet<(Mono, u64)>,
    actions: VecDeque<Action>,
    looked_at: Option<Mono>,
    sequence: u64,
}

impl Oracle {
    /// One that holds itself to this rule.
    pub(crate) fn new(rule: Rule) -> Self {
        Self {
            rule,
            queue: VecDeque::new(),
            flights: BTreeMap::new(),
            charges: Default::default(),
            again: BTreeSet::new(),
            actions: VecDeque::new(),
            looked_at: None,
            sequence: 0,
        }
    }

    fn start(&mut self, upstream: &Upstream, now: Mono) {
        for charges in &mut self.charges {
            while charges.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
                charges.pop_first();
            }
        }
        while self.queue.front().is_some_and(|(since, _)| *since + WAIT_MAX <= now) {
            let (_, request) = self.queue.pop_front().expect("there is a first");
            self.actions.push_back(Action::Refuse(request.id, Refusal::default()));
        }
        let mut index = 0;
        while index < self.queue.len().min(CANDIDATES_MAX) {
            let (since, request) = self.queue[index].clone();
            if self.fits(&request, upstream, now) {
                self.queue.remove(index);
                self.send(&request, since, upstream, now);
            } else if now.since(since) >= PASSED_FOR {
                return;
            } else {
                index += 1;
            }
        }
    }

    fn send(&mut self, request: &Rc<Request>, since: Mono, upstream: &Upstream, now: Mono) {
        self.sequence += 1;
        let planned = charges_of(request, upstream, now).map(|(dimension, at, amount)| {
            self.charges[dimension as usize].insert((at, self.sequence), amount);
            (at, self.sequence)
        });
        self.flights.insert(request.id, Flight { request: request.clone(), since, planned });
        self.actions.push_back(Action::Send(request.id));
    }

    fn fits(&self, request: &Request, upstream: &Upstream, now: Mono) -> bool {
        let in_transit = self.charges[0].len();
        if upstream.rises_too_fast(now + TO_UPSTREAM, in_transit) {
            return false;
        }
        charges_of(request, upstream, now).into_iter().all(|(dimension, at, amount)| {
            let book = Forecast {
                meter: &upstream.meters[dimension as usize],
                limit: upstream.limits.get(dimension),
                others_next: upstream.others_per_second(dimension, now),
                planned: &self.charges[dimension as usize],
            };
            let is_prompt = dimension == Dimension::Prompt;
            // What is used up on arrival refuses, whatever is charged later.
            let arrival = now + TO_UPSTREAM;
            let is_let_in = book.room_at(arrival, if is_prompt { amount } else { 1 });
            match self.rule {
                Rule::Unrefused => is_let_in,
                Rule::WithinLimits => is_let_in && book.stays_within(at, amount),
            }
        })
    }
}

/// What a request that is sent now will be charged, and when.
fn charges_of(request: &Request, upstream: &Upstream, now: Mono) -> [(Dimension, Mono, u64); 3] {
    let arrival = now + TO_UPSTREAM;
    let course = upstream.course(request, arrival);
    [
        (Dimension::Prompt, arrival, course.tokens.prompt),
        (Dimension::UncachedPrompt, arrival + course.to_first_token, course.tokens.uncached_prompt),
        (Dimension::Generated, arrival + course.to_end, course.tokens.generated),
    ]
}

/// One dimension with the charges that will come.
struct Forecast<'a> {
    meter: &'a Meter,
    limit: u64,
    /// The next charge of others, which come every second; beyond it, as much of theirs leaves a window as comes.
    others_next: f64,
    planned: &'a BTreeMap<(Mono, u64), u64>,
}

impl Forecast<'_> {
    /// Whether there is room for so much at a time, going by what will be charged before it.
    fn room_at(&self, at: Mono, amount: u64) -> bool {
        let before = self.planned.range(..=(at, u64::MAX)).map(|((when, _), amount)| (*when, *amount));
        let (room, is_untouched) = self.room(at, before);
        room >= float(amount) || is_untouched
    }

    /// Whether no charge goes beyond what is allowed at its time if this one is added.
    fn stays_within(&self, at: Mono, amount: u64) -> bool {
        if matches!(self.meter, Meter::Bucket { .. }) {
            return true;
        }
        if !self.room_at(at, amount) {
            return false;
        }
        // Those that come after it feel it too.
        let later: Vec<Mono> = self.planned.range((at, u64::MAX)..).map(|((when, _), _)| *when).collect();
        later.into_iter().take_while(|when| at + WINDOW > *when).all(|when| {
            let planned = self.planned.range(..=(when, u64::MAX)).map(|((when, _), amount)| (*when, *amount));
            let mut all: Vec<(Mono, u64)> = planned.collect();
            let place = all.partition_point(|(when, _)| *when <= at);
            all.insert(place, (at, amount));
            self.room(when, all.into_iter()).0 >= 0.0
        })
    }

    /// The room at a time after these charges, and whether nothing at all counts then.
    fn room(&self, at: Mono, charges: impl Iterator<Item = (Mono, u64)>) -> (f64, bool) {
        match self.meter {
            Meter::Window { charges: past, .. } => {
                let counts = |when: Mono| when + WINDOW > at;
                let past: u64 = past.iter().rev().take_while(|(when, _)| counts(*when)).map(|it| it.1).sum();
                let planned: u64 = charges.filter(|(when, _)| counts(*when)).map(|it| it.1).sum();
                (float(self.limit) - float(past + planned) - self.others_next, past + planned == 0)
            }
            Meter::Bucket { .. } => {
                let mut meter = self.meter.clone();
                for (when, amount) in charges {
                    meter.charge(amount, self.limit, when);
                }
                let room = meter.room(self.limit, at);
                (room - self.others_next, room >= meter.capacity(self.limit))
            }
        }
    }
}

impl Contestant for Oracle {
    fn submit(&mut self, request: &Rc<Request>, now: Mono) {
        self.queue.push_back((now, request.clone()));
        self.looked_at = None;
    }

    fn answered(&mut self, id: u64, answer: &Answer, now: Mono) {
        if answer.status != 200 {
            // Nothing is charged for it.
            let planned = self.flights[&id].planned;
            for (charges, key) in self.charges.iter_mut().zip(planned) {
                charges.remove(&key);
            }
            self.again.insert((now + RETRY_AFTER, id));
        }
    }

    fn ended(&mut self, id: u64, _used: Tokens, _now: Mono) {
        self.flights.remove(&id);
        self.actions.push_back(Action::Finish(id));
    }

    fn wake(&mut self, now: Mono) {
        while let Some((_, id)) = self.again.first().copied().filter(|(at, _)| *at <= now) {
            self.again.pop_first();
            let flight = self.flights.remove(&id).expect("it was sent");
            self.queue.push_front((flight.since, flight.request));
            self.looked_at = None;
        }
    }

    fn next_wake(&self) -> Option<Mono> {
        let look = self.looked_at.map(|at| at + LOOK_EVERY).filter(|_| !self.queue.is_empty());
        [look, self.again.first().map(|(at, _)| *at)].into_iter().flatten().min()
    }

    fn next_action(&mut self, upstream: &Upstream, now: Mono) -> Option<Action> {
        if self.looked_at.is_none_or(|at| at + LOOK_EVERY <= now) {
            self.looked_at = Some(now);
            self.start(upstream, now);
        }
        self.actions.pop_front()
    }
}
