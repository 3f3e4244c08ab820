//! The budgets as a list of operations, with a model that knows the rules alone: what each request holds and
//! has used, and when.

use std::time::Duration;

use fireworks_proxy::{
    budget::{
        Balance, Budgets, Dimension, Header, LaneId, Reception, Refusal, Spent, Tokens, WaitsFor,
        demand::{Asked, Demand},
    },
    config::{Config, TokenLimit, TokenLimits},
    time::Mono,
};

use super::{
    Outcome,
    operations::Operations,
    room::{Books, Counted, Running, asked, load, sum},
};

/// What headers have taught passes by itself after so long without news; until then a refusal's time holds.
const LEARNED_FOR: Duration = Duration::from_secs(600);

/// And what they say of others passes after so long.
const OTHERS_FOR: Duration = Duration::from_secs(30);

/// From this share of a limit on starts come apart.
const NEARLY: f64 = 0.6;

/// Operations from here on are of kinds that were added later, so that old inputs mean what they meant.
const LATER_OPERATIONS: u8 = 240;

const LANES: [(u64, &str); 3] = [(1, "m"), (1, "n"), (2, "m")];
const REQUESTS_PER_SECOND: f64 = 4.0;
const BURST: usize = 4;

/// Spans reach about so far: some minutes.
const SPAN_BITS_MAX: u32 = 28;

/// A request that was refused, and until when, if nothing happens.
#[derive(Debug, Clone)]
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
    books: Books,
    /// When requests were let in, but for those that were given back.
    starts: Vec<Mono>,
    /// When places in the bucket were given back that had not flowed back by themselves.
    given_back: Vec<Mono>,
    /// When the bucket was last full and a request was let in.
    full_at: Mono,
    refused: Option<Refused>,
    /// When headers have spoken.
    heard_at: Vec<Mono>,
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
            safety_ratio: Some(0.8).filter(|_| settings & 4 == 0),
            output_reserve_tokens: 1 + u64::from(settings >> 3),
            chars_per_token: 1.0,
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
            books: Books::default(),
            starts: Vec::new(),
            given_back: Vec::new(),
            full_at: now,
            refused: None,
            heard_at: Vec::new(),
        }
    }

    fn step(&mut self, operation: u8, operations: &mut Operations<'_>) {
        let index = |operations: &mut Operations<'_>, running: &[Running]| {
            usize::from(operations.byte()).checked_rem(running.len())
        };
        if operation >= LATER_OPERATIONS {
            if let Some(at) = index(operations, &self.running) {
                match operation % 2 {
                    0 => self.progress(at, operations.number(18)),
                    _ => self.learn(at, operations, true),
                }
            }
            return;
        }
        match operation % 12 {
            0..=2 => {
                let lane = Some(operations.below(4)).filter(|lane| *lane < LANES.len());
                let guess = operations.number(22);
                let output_cap = Some(u64::from(operations.byte())).filter(|cap| *cap > 0);
                self.reserve(lane, &asked(guess, output_cap));
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
                if let Some(at) = index(operations, &self.running) {
                    self.learn(at, operations, false);
                }
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
    fn reserve(&mut self, lane: Option<usize>, asked: &Asked) -> bool {
        let id = lane.map(|lane| self.lanes[lane]);
        let expected = lane.map_or_else(Demand::default, |lane| self.expected(lane, asked, self.now));
        let before = lane.map(|lane| self.balances(lane));
        let is_full = self.budgets.bucket().available(self.now) == self.budgets.bucket().capacity();
        match self.budgets.try_reserve(id, asked, self.now) {
            Ok(reservation) => {
                assert_eq!(reservation.held(), expected.tokens());
                for balance in before.into_iter().flatten() {
                    self.assert_room(lane.expect("it has balances"), &balance, &expected);
                }
                assert!(asked.output_cap.is_none_or(|cap| expected.tokens().generated <= cap));
                assert!(expected.tokens().uncached_prompt <= expected.tokens().prompt);
                self.starts.push(self.now);
                self.full_at = if is_full { self.now } else { self.full_at };
                self.assert_rate();
                self.refused = None;
                self.running.push(Running {
                    reservation,
                    lane: lane.unwrap_or(usize::MAX),
                    asked: asked.clone(),
                    started_at: self.now,
                    expected,
                    seen: 0,
                    sent_at: None,
                    is_received: lane.is_none(),
                    counted: [None; 3],
                });
                true
            }
            Err(refusal) => {
                self.assert_refusal(lane, &refusal);
                self.refused = Some(Refused { lane, asked: asked.clone(), at: self.now, refusal });
                false
            }
        }
    }

    fn assert_room(&self, lane: usize, before: &Balance, cost: &Demand) {
        let index = before.dimension as usize;
        let others = self.running.iter().filter(|running| running.lane == lane);
        let expected = sum(others.filter_map(|running| running.awaited(before.dimension)));
        self.books.assert_room(lane, before, &expected, &cost.0[index], self.now);
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
        let Some(Refused { lane, asked, at, refusal }) = self.refused.clone() else { return };
        let later = self.now + Duration::from_secs(u64::from(share));
        let end = refusal.until.unwrap_or(later);
        if is_early && end > self.now {
            let span = end.since(self.now).mul_f64(f64::from(share) / 256.0);
            self.now = (self.now + span).max(self.now);
            let is_early = self.now < end || refusal.until.is_none();
            let must_be_same = is_early && self.is_stable(lane, &asked, at, refusal.waits_for);
            let was_let_in = self.reserve(lane, &asked);
            assert!(!(was_let_in && must_be_same), "there was room since {at:?} before {refusal:?}");
        } else {
            self.now = self.now.max(end);
            self.reserve(lane, &asked);
        }
    }

    /// Whether nothing that a refusal was for can have passed by itself before its time.
    fn is_stable(&mut self, lane: Option<usize>, asked: &Asked, since: Mono, waits_for: WaitsFor) -> bool {
        // What was learned may be forgotten on the way, and then there is another limit.
        let is_forgotten = |heard: &Mono| {
            [LEARNED_FOR, OTHERS_FOR].iter().any(|span| (since..=self.now).contains(&(*heard + *span)))
        };
        if self.heard_at.iter().any(is_forgotten) {
            return false;
        }
        let Some(lane) = lane else { return true };
        // Starts come apart near a limit, and the lane may be near one no more.
        let is_near = self.balances(lane).iter().any(|balance| load(balance) >= NEARLY);
        if waits_for == WaitsFor::Pace && !is_near {
            return false;
        }
        // With the time since a prompt was answered it changes what a cache is expected to serve.
        self.expected(lane, asked, since) == self.expected(lane, asked, self.now)
    }

    /// What the lane expects a request to cost.
    fn expected(&mut self, lane: usize, asked: &Asked, now: Mono) -> Demand {
        let id = self.lanes[lane];
        let (_, lane) = self.budgets.lanes_mut().find(|(other, _)| *other == id).expect("it is kept");
        lane.estimator.demand(asked, now)
    }

    fn send(&mut self, at: usize) {
        let running = &mut self.running[at];
        self.budgets.sent(&mut running.reservation, self.now);
        self.refused = None;
        if running.sent_at.is_none() {
            running.sent_at = Some(self.now);
            self.count_expected(at, Dimension::Prompt);
        }
    }

    /// What a request is expected to cost in a dimension counts from now on.
    fn count_expected(&mut self, at: usize, dimension: Dimension) {
        let running = &mut self.running[at];
        let tokens = running.expected.tokens().get(dimension);
        let counted = Counted { lane: running.lane, dimension, at: self.now, tokens };
        running.counted[dimension as usize] = Some(self.books.count(counted));
    }

    /// Some of an answer has gone by. What is expected of it is looked at anew when a good part has.
    fn progress(&mut self, at: usize, seen: u64) {
        let running = &mut self.running[at];
        let is_looked_at = self.budgets.progressed(&mut running.reservation, seen, self.now);
        let is_much = seen >= running.seen + running.seen / 8 + 32;
        assert_eq!(is_looked_at, is_much && running.lane < LANES.len(), "{seen} of {}", running.seen);
        running.seen = if is_much { seen } else { running.seen };
        if is_looked_at {
            let (id, cap) = (self.lanes[running.lane], running.asked.output_cap);
            let (_, lane) = self.budgets.lanes_mut().find(|(other, _)| *other == id).expect("it is kept");
            running.expected.0[Dimension::Generated as usize] = lane.estimator.generated(seen, cap);
            self.refused = None;
        }
    }

    /// The answer of a request has headers.
    fn learn(&mut self, at: usize, operations: &mut Operations<'_>, says_what_is_left: bool) {
        let dimension = Dimension::ALL[operations.below(3)];
        let limit = operations.number(30);
        let remaining = says_what_is_left.then(|| operations.number(30));
        self.refused = None;
        self.heard_at.push(self.now);
        let header = Header { limit, remaining };
        self.budgets.learn(&self.running[at].reservation, dimension, header, self.now);
    }

    fn receive(&mut self, at: usize, operations: &mut Operations<'_>) {
        let reception = match operations.below(4) {
            0 => Reception::Admitted,
            1 => Reception::RateLimited { until: self.now + operations.span(SPAN_BITS_MAX) },
            2 => Reception::Overloaded,
            _ => Reception::Unknown,
        };
        let running = &mut self.running[at];
        self.budgets.received(&mut running.reservation, reception, self.now);
        self.refused = None;
        // What is said first counts.
        if !std::mem::replace(&mut running.is_received, true) && reception == Reception::Admitted {
            self.count_expected(at, Dimension::UncachedPrompt);
        }
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

    /// What a request has used: from now on, where it is not counted already.
    fn count(&mut self, running: &Running, tokens: &Tokens) {
        for dimension in Dimension::ALL {
            let tokens = tokens.get(dimension);
            match running.counted[dimension as usize] {
                Some(place) => self.books.correct(place, tokens),
                None => {
                    self.books.count(Counted { lane: running.lane, dimension, at: self.now, tokens });
                }
            }
        }
    }

    fn balances(&mut self, lane: usize) -> [Balance; 3] {
        let id = self.lanes[lane];
        let (_, lane) = self.budgets.lanes_mut().find(|(other, _)| *other == id).expect("it is kept");
        lane.balances(self.now)
    }

    /// What is held is what running requests are expected to cost beyond what counts; what is used is what counts.
    fn check(&mut self) {
        for lane in 0..LANES.len() {
            for balance in self.balances(lane) {
                let of_lane = self.running.iter().filter(|running| running.lane == lane);
                let awaited = sum(of_lane.filter_map(|running| running.awaited(balance.dimension)));
                assert_eq!(balance.reserved, awaited.total, "{balance:?}");
                let (least, most) = self.books.used((lane, balance.dimension), self.now);
                assert!((least..=most).contains(&balance.used), "{least} to {most}: {balance:?}");
                // What others use may be all of it.
                assert!(balance.effective >= 1 || !self.heard_at.is_empty(), "{balance:?}");
            }
        }
        let in_flight: usize = self.budgets.lanes_mut().map(|(_, lane)| lane.in_flight).sum();
        assert_eq!(in_flight, self.running.iter().filter(|running| running.lane < LANES.len()).count());
        let bucket = self.budgets.bucket();
        assert!(bucket.available(self.now) <= bucket.capacity());
    }
}
