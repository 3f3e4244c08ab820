//! The model's own books of a lane and of the request bucket.
//!
//! Two sums are kept of each budget, for the model does not see what the proxy reserves: one that the proxy
//! certainly counts, which must leave something of the limit where a request starts; and one that it cannot
//! exceed, which must not keep anybody waiting where there is room.
//!
//! What is under way counts by when it will be charged. Until enough was reported it counts at once, so that a
//! start has to fit beside all of it. From then on it is expected in the time that answers take, and has to fit
//! beside what of the window is left by then. The model knows no means: it takes the longest that any answer has
//! taken for an upper bound of what is expected, and has nothing to say where that is longer than the proxy looks
//! ahead.

use std::{collections::VecDeque, time::Duration};

use fireworks_proxy::{budget::outlook::HORIZONS, time::Mono};

/// Tokens stay in a window for so long at least, prompt tokens half a second longer than others.
const STAY_LEAST: [Duration; 3] =
    [Duration::from_millis(60_500), Duration::from_secs(60), Duration::from_secs(60)];

/// And for so much longer at most.
const STAY_SPREAD: Duration = Duration::from_millis(250);

/// Reports that teach how long it takes until the first token, and how much is generated.
const REPORTS_TO_LEARN: [u64; 3] = [u64::MAX, 3, 4];

/// The first token is expected after so many times what it usually takes.
const FIRST_TOKEN_FACTOR: f64 = 1.5;

/// So much of what is generated at least is expected while an answer goes by: longer ones than any before may come,
/// and where not much has gone by yet that is taken for a shorter one.
const EXPECTED_PERCENT_MIN: u64 = 90;

/// And so much at most: of answers a quarter more is expected than what has gone by.
const EXPECTED_PERCENT_MAX: [u64; 3] = [100, 100, 130];

/// From this share of a limit on, in percent, starts come apart, and a refusal is one of a limit.
const NEAR_PERCENT: u64 = 60;

/// The share of the requests per second at which they do.
const NEAR_SHARE: f64 = 0.25;

/// How much of a minute's tokens may be used at once.
const BURST_SHARE: u64 = 2;

/// So many refusals in a row are of a limit, whatever the books say.
const UNEXPLAINED_MAX: u64 = 3;

/// Tokens of the last minute.
#[derive(Debug)]
struct Window {
    stay: Duration,
    entries: VecDeque<(Mono, u64)>,
    sum: u64,
}

impl Window {
    const fn new(stay: Duration) -> Self {
        Self { stay, entries: VecDeque::new(), sum: 0 }
    }

    fn add(&mut self, at: Mono, tokens: u64) {
        let index = self.entries.partition_point(|(other, _)| *other <= at);
        self.entries.insert(index, (at, tokens));
        self.sum += tokens;
    }

    /// Takes back what was added at a time, if it is still there.
    fn remove(&mut self, at: Mono, tokens: u64) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| **entry == (at, tokens)) {
            entry.1 = 0;
            self.sum -= tokens;
        }
    }

    /// What counts of it at a time to come, if nothing is added.
    fn left_at(&self, time: Mono) -> u64 {
        let is_left = |(at, _): &&(Mono, u64)| *at + self.stay > time;
        self.entries.iter().filter(is_left).map(|(_, tokens)| tokens).sum()
    }

    fn used(&mut self, now: Mono) -> u64 {
        while let Some((at, tokens)) = self.entries.front().copied().filter(|(at, _)| *at + self.stay <= now)
        {
            debug_assert!(at <= now);
            self.sum -= tokens;
            self.entries.pop_front();
        }
        self.sum
    }
}

/// What was taken out of a bucket and has not flowed back, at most.
#[derive(Debug, Default, Clone, Copy)]
struct Taken {
    tokens: f64,
    at: Mono,
}

impl Taken {
    #[expect(clippy::cast_precision_loss, reason = "limits of runs are far below 2^53")]
    fn take(&mut self, tokens: u64, per_minute: u64, now: Mono) {
        self.tokens = self.at(per_minute, now) + tokens as f64;
        self.at = now;
    }

    #[expect(clippy::cast_precision_loss, reason = "limits of runs are far below 2^53")]
    fn at(self, per_minute: u64, now: Mono) -> f64 {
        (self.tokens - now.since(self.at).as_secs_f64() * per_minute as f64 / 60.0).max(0.0)
    }
}

/// What the answers of a lane have taught.
#[derive(Debug, Default, Clone, Copy)]
pub struct Taught {
    /// Answers that reported all that they cost.
    reports: u64,
    /// The longest that any of them took, from when its request was sent.
    longest: Duration,
    /// Whether the upstream has ever refused here, which slows the lane in ways that are tested elsewhere.
    pub had_trouble: bool,
}

impl Taught {
    /// An answer has ended that reported what it cost.
    pub fn learn(&mut self, took: Duration) {
        self.reports += 1;
        self.longest = self.longest.max(took);
    }

    /// The longest until what is under way in a dimension is expected to be charged.
    fn charged_within(&self, dimension: usize) -> Duration {
        match dimension {
            _ if self.holds_all(dimension) => Duration::ZERO,
            1 => self.longest.mul_f64(FIRST_TOKEN_FACTOR),
            // What it takes to the first token, and from then on.
            _ => self.longest * 2,
        }
    }

    /// The share of what will be charged that is expected at least, in percent.
    fn expected_percent(&self, dimension: usize) -> u64 {
        if dimension < 2 || self.holds_all(dimension) { 100 } else { EXPECTED_PERCENT_MIN }
    }

    /// Whether all that a request will be charged in a dimension is held from its start on.
    pub fn holds_all(&self, dimension: usize) -> bool {
        self.reports < REPORTS_TO_LEARN[dimension]
    }
}

/// The books of one lane.
#[derive(Debug)]
pub struct LaneBook {
    in_flight: [u64; 3],
    pub count: u64,
    least: [Window; 3],
    most: [Window; 3],
    taken: [Taken; 3],
    last_start: Mono,
    pub closed_until: Mono,
    /// Tries that began before this one's place are no news.
    refused_at_place: u64,
    /// Refusals with no good answer in between, and the last of them.
    refusals: u64,
    refused_at: Mono,
}

impl Default for LaneBook {
    fn default() -> Self {
        Self {
            in_flight: [0; 3],
            count: 0,
            least: STAY_LEAST.map(Window::new),
            most: STAY_LEAST.map(|stay| Window::new(stay + STAY_SPREAD)),
            taken: [Taken::default(); 3],
            last_start: Mono::ZERO,
            closed_until: Mono::ZERO,
            refused_at_place: 0,
            refusals: 0,
            refused_at: Mono::ZERO,
        }
    }
}

/// What a request costs in each dimension, and how that is known.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub tokens: [u64; 3],
    /// Whether the proxy reserves just that. If not, only what was reported is known.
    pub is_exact: bool,
}

/// How a try ended, for the books.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub cost: [u64; 3],
    /// Since when it counts, by dimension, where it did before it ended.
    pub since: [Option<Mono>; 3],
    /// What was certainly counted.
    pub counted: [u64; 3],
}

impl LaneBook {
    /// Checks that a request may start, and counts it as started.
    pub fn start(&mut self, cost: Cost, limits: [u64; 3], taught: &Taught, now: Mono) {
        for (at, limit) in limits.into_iter().enumerate() {
            let used = self.least[at].used(now);
            // A cache may be expected to serve all of a prompt, so that nothing is wanted of this one.
            let may_want_nothing = at == 1 && !cost.is_exact;
            assert!(used == 0 || used < limit || may_want_nothing, "used up {at}: {used} of {limit}");
            if cost.is_exact && self.in_flight[at] + used > 0 {
                self.check_foresight(at, cost.tokens[at], limit, taught, now);
            }
            self.in_flight[at] += cost.tokens[at];
        }
        self.count += 1;
        self.last_start = now;
    }

    /// By when all that is under way and this one are charged, they fit beside what is left then.
    fn check_foresight(&self, at: usize, cost: u64, limit: u64, taught: &Taught, now: Mono) {
        let within = taught.charged_within(at);
        let Some(horizon) = HORIZONS.into_iter().find(|horizon| *horizon >= within) else { return };
        let left = self.least[at].left_at(now + horizon);
        let expected = (self.in_flight[at] + cost) * taught.expected_percent(at) / 100;
        let in_flight = self.in_flight[at];
        assert!(
            left + expected <= limit,
            "over budget {at} in {horizon:?}: {left} left, {in_flight} under way and {cost} of {limit}"
        );
    }

    /// Something that was under way counts from now on: a prompt from when it was sent, its uncached part from
    /// the head of its answer on.
    pub fn counts(&mut self, at: usize, tokens: u64, limits: [u64; 3], now: Mono) {
        self.in_flight[at] -= tokens;
        self.least[at].add(now, tokens);
        self.most[at].add(now, tokens);
        self.taken[at].take(tokens, limits[at], now);
    }

    pub fn end(&mut self, ended: &Ended, limits: [u64; 3], now: Mono) {
        self.count -= 1;
        for (at, limit) in limits.into_iter().enumerate() {
            let (cost, counted) = (ended.cost[at], ended.counted[at]);
            if let Some(since) = ended.since[at] {
                self.least[at].remove(since, cost);
                self.least[at].add(since, counted);
            } else {
                self.in_flight[at] -= cost;
                self.least[at].add(now, counted);
                self.most[at].add(now, cost.max(counted));
                self.taken[at].take(cost.max(counted), limit, now);
            }
        }
    }

    /// An answer has begun to a try that began at a place. A refusal that is news closes the lane if a limit
    /// explains it: what is near, or that it is not the first.
    pub fn answered(&mut self, answer: Reception, whole_limits: [u64; 3], now: Mono) {
        let Reception { is_good, refused_for, began, place } = answer;
        self.refusals = if is_good { 0 } else { self.refusals };
        let Some(pause) = refused_for.filter(|_| began > self.refused_at_place) else { return };
        // As long as a refusal may close a lane; then it is not the same trouble.
        let is_old = now.since(self.refused_at) >= Duration::from_secs(60);
        self.refusals = if is_old { 1 } else { self.refusals + 1 };
        (self.refused_at, self.refused_at_place) = (now, place);
        let is_near = (0..3).any(|at| {
            let counted = self.in_flight[at] + self.least[at].used(now);
            counted * 100 >= whole_limits[at] * (NEAR_PERCENT + 1)
        });
        if is_near || self.refusals >= UNEXPLAINED_MAX {
            self.closed_until = self.closed_until.max(now + pause);
        }
    }

    /// Whether a request would certainly find room, and need not wait for the one before to be some way ahead.
    #[expect(clippy::cast_precision_loss, reason = "limits of runs are far below 2^53")]
    pub fn has_room(&mut self, cost: [u64; 3], swarm: &Limits, now: Mono) -> bool {
        let near_gap = Duration::from_secs_f64(1.0 / (swarm.requests_per_second * NEAR_SHARE));
        (0..3).all(|at| {
            let expected = self.in_flight[at] * EXPECTED_PERCENT_MAX[at] / 100;
            let others = expected + self.most[at].used(now);
            let limit = swarm.effective[at];
            // What is learned is a mean, rounded up.
            let cost = cost[at] + u64::from(at == 2);
            let fits = others + cost <= limit;
            let wanted = (expected + cost) as f64 + self.taken[at].at(limit, now);
            let is_small = wanted <= (limit / BURST_SHARE) as f64;
            let is_far = others * 100 < swarm.whole[at] * NEAR_PERCENT;
            (others == 0 || (fits && is_small)) && (is_far || now >= self.last_start + near_gap)
        })
    }
}

/// How the upstream received a try.
#[derive(Debug, Clone, Copy)]
pub struct Reception {
    pub is_good: bool,
    /// For how long the lane is to be closed, if it met a limit.
    pub refused_for: Option<Duration>,
    /// The places of its start and of this.
    pub began: u64,
    pub place: u64,
}

/// What the settings say of a lane.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub whole: [u64; 3],
    pub effective: [u64; 3],
    pub requests_per_second: f64,
}

/// The request bucket: so many a second, and as many at once.
#[derive(Debug)]
pub struct Bucket {
    rate: f64,
    capacity: f64,
    tokens: f64,
    at: Mono,
    /// When it was full last, and a request was taken out.
    begun_at: Mono,
}

impl Bucket {
    pub fn new(rate: f64) -> Self {
        let capacity = rate.floor().max(1.0);
        Self { rate, capacity, tokens: capacity, at: Mono::ZERO, begun_at: Mono::ZERO }
    }

    pub fn tokens(&mut self, now: Mono) -> f64 {
        self.tokens = (self.tokens + now.since(self.at).as_secs_f64() * self.rate).min(self.capacity);
        self.at = now;
        self.tokens
    }

    pub fn take(&mut self, now: Mono) {
        let tokens = self.tokens(now);
        assert!(tokens > 0.99, "over the requests per second: {tokens} of a request is left");
        if tokens > self.capacity - 0.000_1 {
            self.begun_at = now;
        }
        self.tokens -= 1.0;
    }

    /// A request that was never sent whole gets its place back, if it has not flowed back by itself.
    pub fn give_back(&mut self, taken_at: Mono, now: Mono) {
        let back = if taken_at >= self.begun_at { 1.0 } else { 0.0 };
        self.tokens = (self.tokens(now) + back).min(self.capacity);
    }
}
