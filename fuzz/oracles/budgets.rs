//! The budgets as a list of operations, with a model that knows the rules alone: what each request holds and
//! has used, and when.

use std::time::Duration;

use fireworks_proxy::{
    budget::{
        Balance, Budgets, Dimension, LaneId, Reception, Refusal, Reservation, Spent, Tokens, WaitsFor,
        demand::Asked,
    },
    config::{Config, TokenLimit, TokenLimits},
    time::Mono,
};

use super::{Outcome, operations::Operations};

/// Tokens count for at least so long, and for at most so much longer.
const COUNTED: Duration = Duration::from_secs(61);
const COUNTED_SPREAD: Duration = Duration::from_millis(500);

/// What headers and refusals have taught passes by itself after so long without news; until then a refusal's
/// time holds.
const LEARNED_FOR: Duration = Duration::from_secs(600);

const LANES: [(u64, &str); 3] = [(1, "m"), (1, "n"), (2, "m")];
const REQUESTS_PER_SECOND: f64 = 4.0;
const BURST: usize = 4;

/// Spans reach about so far: some minutes.
const SPAN_BITS_MAX: u32 = 28;

/// A request that was let in and has not ended.
struct Running {
    reservation: Reservation,
    lane: usize,
    started_at: Mono,
    held: Tokens,
    sent_at: Option<Mono>,
    /// What it has in the window of prompt tokens.
    entry: Option<usize>,
}

/// Tokens that were used.
#[derive(Debug, Clone, Copy)]
struct Used {
    lane: usize,
    dimension: Dimension,
    at: Mono,
    tokens: u64,
}

/// A request that was refused, and until when, if nothing happens.
#[derive(Debug, Clone, Copy)]
struct Refused {
    lane: Option<usize>,
    asked: Asked,
    at: Mono,
    refusal: Refusal,
}

struct Model {
    budgets: Budgets,
    lanes: Vec<LaneId>,
    now: Mono,
    running: Vec<Running>,
    used: Vec<Used>,
    /// When requests were let in, but for those that were given back.
    starts: Vec<Mono>,
    /// When places in the bucket were given back that had not flowed back by themselves.
    given_back: Vec<Mono>,
    /// When the bucket was last full and a request was let in.
    full_at: Mono,
    refused: Option<Refused>,
    /// When headers last spoke, by lane and dimension.
    learned_at: [[Option<Mono>; 3]; LANES.len()],
}

/// `data` is the operations.
pub fn budgets(data: &[u8]) -> Outcome {
    let mut operations = Operations::new(data);
    let mut model = Model::new(operations.byte());
    while let Some(operation) = operations.next() {
        model.step(operation, &mut operations);
        model.check();
    }
    while !model.running.is_empty() {
        model.refund(0);
    }
    model.check();
    Outcome::Accepted
}

impl Model {
    fn new(settings: u8) -> Self {
        let limit = |tokens_per_minute| TokenLimit { tokens_per_minute, is_ceiling: settings & 1 == 1 };
        let config = Config {
            requests_per_second: REQUESTS_PER_SECOND,
            limits: TokenLimits {
                prompt: limit(10_000),
                uncached_prompt: limit(4_000),
                generated: limit(if settings & 2 == 0 { 1_000 } else { 10 }),
            },
            safety_ratio: if settings & 4 == 0 { 0.8 } else { 1.0 },
            output_reserve_tokens: 1 + u64::from(settings >> 3),
            ..Config::defaults()
        };
        let mut budgets = Budgets::new(&config);
        let now = Mono::ZERO + LEARNED_FOR;
        let lanes = LANES.map(|(key, name)| budgets.find_or_add_lane(key, name, now, |_| true)).to_vec();
        Self {
            budgets,
            lanes,
            now,
            running: Vec::new(),
            used: Vec::new(),
            starts: Vec::new(),
            given_back: Vec::new(),
            full_at: now,
            refused: None,
            learned_at: [[None; 3]; LANES.len()],
        }
    }

    fn step(&mut self, operation: u8, operations: &mut Operations<'_>) {
        let index = |operations: &mut Operations<'_>, running: &[Running]| {
            usize::from(operations.byte()).checked_rem(running.len())
        };
        match operation % 12 {
            0..=2 => {
                let lane = Some(operations.below(4)).filter(|lane| *lane < LANES.len());
                let guess = operations.number(22);
                let output_cap = Some(u64::from(operations.byte())).filter(|cap| *cap > 0);
                self.reserve(lane, Asked { prompt_guess: guess, output_cap });
            }
            3 => index(operations, &self.running).into_iter().for_each(|at| self.send(at)),
            4 => {
                if let Some(at) = index(operations, &self.running) {
                    self.receive(at, operations);
                }
            }
            5 | 6 => {
                if let Some(at) = index(operations, &self.running) {
                    self.settle(at, operations);
                }
            }
            7 => index(operations, &self.running).into_iter().for_each(|at| self.refund(at)),
            8 => {
                let (lane, dimension) = (operations.below(LANES.len()), operations.below(3));
                self.refused = None;
                self.learned_at[lane][dimension] = Some(self.now);
                let (id, dimension) = (self.lanes[lane], Dimension::ALL[dimension]);
                self.budgets.learn(id, dimension, operations.number(30), self.now);
            }
            9 => self.pass(operations.span(SPAN_BITS_MAX)),
            10 => self.ask_again(true, operations.byte()),
            _ => self.ask_again(false, operations.byte()),
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    /// Asks for room, and checks what the answer means.
    fn reserve(&mut self, lane: Option<usize>, asked: Asked) -> bool {
        let id = lane.map(|lane| self.lanes[lane]);
        let before = lane.map(|lane| self.balances(lane));
        let is_full = self.budgets.bucket().available(self.now) == self.budgets.bucket().capacity();
        match self.budgets.try_reserve(id, asked, self.now) {
            Ok(reservation) => {
                let held = reservation.held();
                before.into_iter().flatten().for_each(|balance| assert_room(&balance, &held));
                assert!(lane.is_some() || held == Tokens::default());
                assert!(asked.output_cap.is_none_or(|cap| held.generated <= cap));
                assert!(held.uncached_prompt <= held.prompt);
                self.starts.push(self.now);
                self.full_at = if is_full { self.now } else { self.full_at };
                self.assert_rate();
                self.refused = None;
                let lane = lane.unwrap_or(usize::MAX);
                let started_at = self.now;
                self.running.push(Running {
                    reservation,
                    lane,
                    started_at,
                    held,
                    sent_at: None,
                    entry: None,
                });
                true
            }
            Err(refusal) => {
                self.assert_refusal(lane, &refusal);
                self.refused = Some(Refused { lane, asked, at: self.now, refusal });
                false
            }
        }
    }

    /// Who waits is told of a time to come, or waits for somebody who is under way.
    fn assert_refusal(&self, lane: Option<usize>, refusal: &Refusal) {
        if let Some(until) = refusal.until {
            assert!(until > self.now, "told to ask again at once: {refusal:?}");
        } else {
            let is_under_way = self.running.iter().any(|running| Some(running.lane) == lane);
            assert!(is_under_way && matches!(refusal.waits_for, WaitsFor::Tokens(_)), "nobody will settle");
        }
    }

    /// In no span are more requests let in than the burst, what has flowed in since, and the places of those
    /// that were never sent.
    fn assert_rate(&self) {
        for (index, start) in self.starts.iter().enumerate() {
            let given_back = self.given_back.iter().filter(|at| *at >= start).count();
            let count = (self.starts.len() - index).saturating_sub(given_back);
            let flowed = self.now.since(*start).as_secs_f64() * REQUESTS_PER_SECOND;
            #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
            let (count, burst) = (count as f64, BURST as f64);
            assert!(count <= burst + flowed + 0.01, "{count} requests since {start:?}");
        }
    }

    /// The one that was refused asks again: before its time, when the answer must be the same, or at it. A
    /// time may be too early, so that it is refused again; it is never too late.
    fn ask_again(&mut self, is_early: bool, share: u8) {
        let Some(Refused { lane, asked, at, refusal }) = self.refused else { return };
        let later = self.now + Duration::from_secs(u64::from(share));
        let end = refusal.until.unwrap_or(later);
        if is_early && end > self.now {
            let span = end.since(self.now).mul_f64(f64::from(share) / 256.0);
            self.now = (self.now + span).max(self.now);
            let is_same = self.now < end || refusal.until.is_none();
            // What was learned may be forgotten on the way, and then there is another limit.
            let is_forgotten = |learned: &Mono| (at..=self.now).contains(&(*learned + LEARNED_FOR));
            let is_stable = !self.learned_at.as_flattened().iter().flatten().any(is_forgotten);
            let was_let_in = self.reserve(lane, asked);
            assert!(!(was_let_in && is_same && is_stable), "there was room since {at:?} before {refusal:?}");
        } else {
            self.now = self.now.max(end);
            self.reserve(lane, asked);
        }
    }

    fn send(&mut self, at: usize) {
        let running = &mut self.running[at];
        self.budgets.sent(&mut running.reservation, self.now);
        self.refused = None;
        if running.sent_at.is_none() {
            running.sent_at = Some(self.now);
            running.entry = Some(self.used.len());
            let (lane, tokens) = (running.lane, running.held.prompt);
            self.used.push(Used { lane, dimension: Dimension::Prompt, at: self.now, tokens });
        }
    }

    fn receive(&mut self, at: usize, operations: &mut Operations<'_>) {
        let reception = match operations.below(4) {
            0 => Reception::Admitted,
            1 => Reception::RateLimited { until: self.now + operations.span(SPAN_BITS_MAX) },
            2 => Reception::Overloaded,
            _ => Reception::Unknown,
        };
        self.budgets.received(&mut self.running[at].reservation, reception, self.now);
        self.refused = None;
    }

    fn settle(&mut self, at: usize, operations: &mut Operations<'_>) {
        let prompt = operations.number(20);
        let uncached_prompt = prompt.min(operations.number(20));
        let tokens = Tokens { prompt, uncached_prompt, generated: operations.number(18) };
        let spent = Spent { tokens, is_reported: operations.byte().is_multiple_of(2) };
        let running = self.running.swap_remove(at);
        self.count(&running, &tokens);
        self.budgets.settle(running.reservation, spent, self.now);
        self.refused = None;
    }

    fn refund(&mut self, at: usize) {
        let running = self.running.swap_remove(at);
        self.count(&running, &Tokens::default());
        if running.sent_at.is_none() {
            let place = self.starts.iter().position(|start| *start == running.started_at);
            self.starts.remove(place.expect("it was started"));
            // What was taken out before the bucket was full has flowed back since.
            self.given_back.extend(Some(self.now).filter(|_| running.started_at >= self.full_at));
        }
        self.budgets.refund(running.reservation, self.now);
        self.refused = None;
    }

    /// What a request has used: its prompt from when it was sent, the rest from now.
    fn count(&mut self, running: &Running, tokens: &Tokens) {
        let lane = running.lane;
        for dimension in Dimension::ALL {
            let tokens = tokens.get(dimension);
            match running.entry.filter(|_| dimension == Dimension::Prompt) {
                Some(entry) => self.used[entry].tokens = tokens,
                None => self.used.push(Used { lane, dimension, at: self.now, tokens }),
            }
        }
    }

    fn balances(&mut self, lane: usize) -> [Balance; 3] {
        let id = self.lanes[lane];
        let (_, lane) = self.budgets.lanes_mut().find(|(other, _)| *other == id).expect("it is kept");
        lane.balances(self.now)
    }

    /// What is held is what the running requests hold; what is used is what was used in the last minute.
    fn check(&mut self) {
        for lane in 0..LANES.len() {
            let of_lane: Vec<&Running> = self.running.iter().filter(|running| running.lane == lane).collect();
            let reserved = |dimension: Dimension| -> u64 {
                let holds = |running: &&&Running| dimension != Dimension::Prompt || running.sent_at.is_none();
                of_lane.iter().filter(holds).map(|running| running.held.get(dimension)).sum()
            };
            let reserved = Dimension::ALL.map(reserved);
            for (balance, reserved) in self.balances(lane).into_iter().zip(reserved) {
                assert_eq!(balance.reserved, reserved, "{balance:?}");
                let [most, least] = [COUNTED + COUNTED_SPREAD, COUNTED].map(|span| {
                    let counts = |used: &&Used| {
                        (used.lane, used.dimension) == (lane, balance.dimension)
                            && self.now.since(used.at) < span
                    };
                    self.used.iter().filter(counts).map(|used| used.tokens).sum::<u64>()
                });
                assert!((least..=most).contains(&balance.used), "{least} to {most}: {balance:?}");
                assert!(balance.effective >= 1);
            }
        }
        let in_flight: usize = self.budgets.lanes_mut().map(|(_, lane)| lane.in_flight).sum();
        assert_eq!(in_flight, self.running.iter().filter(|running| running.lane < LANES.len()).count());
        let bucket = self.budgets.bucket();
        assert!(bucket.available(self.now) <= bucket.capacity());
    }
}

/// A request goes within the budget, or alone where it is bigger than all of it.
fn assert_room(before: &Balance, held: &Tokens) {
    let tokens = held.get(before.dimension);
    let taken = before.used + before.reserved;
    let is_alone = taken == 0;
    assert!(tokens == 0 || is_alone || taken + tokens <= before.effective, "{tokens} more than {before:?}");
}
