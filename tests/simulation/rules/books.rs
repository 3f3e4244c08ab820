//! The model's own books of a lane and of the request bucket.
//!
//! Two sums are kept of each budget, for the model does not see what the proxy reserves: one that the proxy
//! certainly counts, which must stay within the limit; and one that it cannot exceed, which must not keep
//! anybody waiting where there is room.

use std::{collections::VecDeque, time::Duration};

use fireworks_proxy::time::Mono;

/// Tokens stay in a window for 61 to 61.5 seconds.
const STAY_LEAST: Duration = Duration::from_secs(61);
const STAY_MOST: Duration = Duration::from_millis(61_500);

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

/// The books of one lane.
#[derive(Debug)]
pub struct LaneBook {
    in_flight: [u64; 3],
    pub count: u64,
    least: [Window; 3],
    most: [Window; 3],
    /// Whether the upstream has ever refused here, which slows the lane in ways that are tested elsewhere.
    pub had_trouble: bool,
    pub closed_until: Mono,
    /// Tries that began before this one's place are no news.
    pub refused_at_place: u64,
}

impl Default for LaneBook {
    fn default() -> Self {
        Self {
            in_flight: [0; 3],
            count: 0,
            least: [0; 3].map(|_| Window::new(STAY_LEAST)),
            most: [0; 3].map(|_| Window::new(STAY_MOST)),
            had_trouble: false,
            closed_until: Mono::ZERO,
            refused_at_place: 0,
        }
    }
}

/// How a try ended, for the books.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub cost: [u64; 3],
    pub sent_at: Option<Mono>,
    /// What was certainly counted.
    pub counted: [u64; 3],
}

impl LaneBook {
    /// Checks that a request may start, and counts it as started.
    pub fn start(&mut self, cost: [u64; 3], limits: [u64; 3], now: Mono) {
        for at in 0..3 {
            let others = self.in_flight[at] + self.least[at].used(now);
            let is_within = others == 0 || others + cost[at] <= limits[at];
            assert!(is_within, "over budget {at}: {others} and {} of {}", cost[at], limits[at]);
            self.in_flight[at] += cost[at];
        }
        self.count += 1;
    }

    /// The prompt counts from when it was sent.
    pub fn sent(&mut self, prompt: u64, now: Mono) {
        self.in_flight[0] -= prompt;
        self.least[0].add(now, prompt);
        self.most[0].add(now, prompt);
    }

    pub fn end(&mut self, ended: Ended, now: Mono) {
        self.count -= 1;
        for at in 0..3 {
            let was_moved = at == 0 && ended.sent_at.is_some();
            if !was_moved {
                self.in_flight[at] -= ended.cost[at];
                self.least[at].add(now, ended.counted[at]);
                self.most[at].add(now, ended.cost[at].max(ended.counted[at]));
            }
        }
        if let Some(sent_at) = ended.sent_at {
            self.least[0].remove(sent_at, ended.cost[0]);
            self.least[0].add(sent_at, ended.counted[0]);
        }
    }

    /// Whether a request would certainly find room.
    pub fn has_room(&mut self, cost: [u64; 3], limits: [u64; 3], now: Mono) -> bool {
        (0..3).all(|at| {
            let others = self.in_flight[at] + self.most[at].used(now);
            others == 0 || others + cost[at] <= limits[at]
        })
    }
}

/// The request bucket: so many a second, and as many at once.
#[derive(Debug)]
pub struct Bucket {
    rate: f64,
    capacity: f64,
    tokens: f64,
    at: Mono,
}

impl Bucket {
    pub fn new(rate: f64) -> Self {
        let capacity = rate.floor().max(1.0);
        Self { rate, capacity, tokens: capacity, at: Mono::ZERO }
    }

    pub fn tokens(&mut self, now: Mono) -> f64 {
        self.tokens = (self.tokens + now.since(self.at).as_secs_f64() * self.rate).min(self.capacity);
        self.at = now;
        self.tokens
    }

    pub fn take(&mut self, now: Mono) {
        let tokens = self.tokens(now);
        assert!(tokens > 0.99, "over the requests per second: {tokens} of a request is left");
        self.tokens -= 1.0;
    }

    /// A request that was never sent whole gets its place back.
    pub fn give_back(&mut self, now: Mono) {
        self.tokens = (self.tokens(now) + 1.0).min(self.capacity);
    }
}
