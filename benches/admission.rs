//! What one decision of the wait queue costs: less than 20 µs with 10,000 requests waiting.
//!
//! `cargo bench --bench admission`
#![allow(missing_docs, reason = "criterion's macros write none")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a bench reads the clock")]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Bencher, BenchmarkId, Criterion, criterion_group, criterion_main};
use fireworks_proxy::{
    admission::{Admission, Reservation, Waiter},
    budget::{LANES_MAX, LaneId, Reception, Spent, Tokens, demand::Asked},
    config::{Config, TokenLimit, TokenLimits},
    inspect::{ContentSize, Prefix},
    json::TextSize,
    queue::SessionKey,
    time::Mono,
};

/// How many requests wait, and of how many sessions.
const CROWDS: [(u64, u64); 4] = [(10, 8), (1_000, 64), (10_000, 64), (10_000, 1_000)];

/// Of so many conversations, whose prefixes a lane remembers nearly all.
const CONVERSATIONS: u64 = 240;

/// How many prefixes a request has, and how many of them are new since the last answer in its conversation.
const PREFIXES: u64 = 60;
const PREFIXES_NEW: u64 = 2;

/// One conversation of so many is new: the lane knows none of its prefixes but the first.
const NEW_CONVERSATIONS: u64 = 4;

/// Between two decisions: fast enough for the window to hold very many requests.
const TURN: Duration = Duration::from_millis(1);

/// The longest that an answer is remembered as something that a cache may serve.
const WINDOW: Duration = Duration::from_secs(62);

/// An admission in which requests wait.
struct Crowd {
    admission: Admission<u64>,
    lanes: Vec<LaneId>,
    conversations: Vec<Arc<[Prefix]>>,
    sessions: u64,
    now: Mono,
    /// The state of a small generator (xorshift, Marsaglia 2003).
    random: u64,
}

impl Crowd {
    fn new(sessions: u64, lanes: usize, tokens_per_minute: u64) -> Self {
        let limit = TokenLimit { tokens_per_minute, is_ceiling: true };
        let config = Config {
            limits: TokenLimits { prompt: limit, uncached_prompt: limit, generated: limit },
            safety_ratio: Some(1.0),
            chars_per_token: 1.0,
            requests_per_second: 1_000_000.0,
            ..Config::defaults()
        };
        let mut admission = Admission::new(&config);
        let lane = |number| admission.find_or_add_lane(number as u64, "model", Mono::ZERO);
        let lanes = (0..lanes).map(lane).collect();
        let conversations = (0..CONVERSATIONS).map(|name| prefixes(name, PREFIXES)).collect();
        let random = 88_172_645_463_325_252;
        Self { admission, lanes, conversations, sessions, now: Mono::ZERO, random }
    }

    /// The first lane has answered each conversation once, but for those that are new.
    fn taught(mut self) -> Self {
        let known = (0..CONVERSATIONS).filter(|name| name % NEW_CONVERSATIONS != 0);
        for name in known {
            let prefixes = prefixes(name, PREFIXES - PREFIXES_NEW);
            let size = prefixes.last().map_or_else(ContentSize::default, |last| last.size);
            let prompt = size.text.ascii;
            let reservation = self.start(Asked { size, prefixes, output_cap: None });
            let tokens = Tokens { prompt, uncached_prompt: prompt, generated: 100 };
            self.finish(reservation, tokens);
            self.now = self.now + WINDOW;
        }
        self
    }

    fn draw(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    /// One of whom nobody is in the way.
    fn start(&mut self, asked: Asked) -> Reservation {
        let waiter = Waiter { client: u64::MAX, asked, since: self.now };
        let deadline = self.now + WINDOW * 10;
        self.admission.enqueue(Some(self.lanes[0]), SessionKey(u64::MAX), deadline, waiter, self.now);
        self.admission.admit(self.now).expect("there is room for one").1
    }

    fn finish(&mut self, mut reservation: Reservation, tokens: Tokens) {
        self.admission.sent(&mut reservation, self.now);
        self.admission.received(&mut reservation, Reception::Admitted, self.now);
        self.admission.settle(reservation, Spent { tokens, is_reported: true }, self.now);
    }

    /// The next request of a client, with about so many tokens.
    fn enqueue(&mut self, client: u64, prompt: u64) {
        let wait = Duration::from_secs(100) + Duration::from_millis(self.draw(20_000));
        self.enqueue_for(wait, client, prompt);
    }

    fn enqueue_for(&mut self, wait: Duration, client: u64, prompt: u64) {
        let lanes = self.lanes.len() as u64;
        let lane = self.lanes[usize::try_from(client % lanes).expect("few lanes")];
        let deadline = self.now + wait;
        let conversation = usize::try_from(client % CONVERSATIONS).expect("few of them");
        let prefixes = Arc::clone(&self.conversations[conversation]);
        let known = prefixes.last().map_or(0, |last| last.size.text.ascii);
        let asked = Asked { size: size_of(known + prompt), prefixes, output_cap: None };
        let waiter = Waiter { client, asked, since: self.now };
        self.admission.enqueue(Some(lane), SessionKey(client % self.sessions), deadline, waiter, self.now);
    }
}

const fn size_of(ascii: u64) -> ContentSize {
    ContentSize { text: TextSize { ascii, narrow: 0, wide: 0 }, attachments: 0 }
}

/// The beginnings of a conversation. All have the first one in common.
fn prefixes(name: u64, count: u64) -> Arc<[Prefix]> {
    let hash = |number: u64| (name * 1_000 + number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let prefix =
        |number| Prefix { hash: if number == 0 { 1 } else { hash(number) }, size: size_of(number * 50) };
    (0..count).map(prefix).collect()
}

/// Which part of a request's way is measured.
#[derive(Clone, Copy)]
enum Part {
    Enqueue,
    Admit,
    Settle,
}

/// Requests are admitted, go on for no time at all, and come again; one part of that is measured.
fn turn_around(bencher: &mut Bencher<'_>, crowd: &mut Crowd, measured: Part) {
    bencher.iter_custom(|count| {
        let mut total = Duration::ZERO;
        for _ in 0..count {
            crowd.now = crowd.now + TURN;
            let begun = Instant::now();
            let (waiter, reservation) = crowd.admission.admit(crowd.now).expect("there is room for one");
            let admitted = Instant::now();
            let prompt = crowd.draw(50_000);
            let generated = crowd.draw(1_000);
            crowd.finish(reservation, Tokens { prompt, uncached_prompt: prompt / 10, generated });
            let settled = Instant::now();
            crowd.enqueue(waiter.client, prompt);
            total += match measured {
                Part::Admit => admitted - begun,
                Part::Settle => settled - admitted,
                Part::Enqueue => settled.elapsed(),
            };
        }
        total
    });
}

/// There is room for all.
fn admission(criterion: &mut Criterion) {
    for (part, name) in [(Part::Admit, "admit"), (Part::Enqueue, "enqueue"), (Part::Settle, "settle")] {
        let mut group = criterion.benchmark_group(name);
        let crowds = CROWDS.map(|(waiting, sessions)| (waiting, sessions, 1));
        for (waiting, sessions, lanes) in crowds.into_iter().chain([(10_000, 64, LANES_MAX)]) {
            let mut crowd = Crowd::new(sessions, lanes, u64::MAX / 1_000_000).taught();
            (0..waiting).for_each(|client| crowd.enqueue(client, 1_000));
            let id = format!("{waiting} waiting of {sessions} sessions in {lanes} lanes");
            let id = BenchmarkId::from_parameter(id);
            group.bench_function(id, |bencher| turn_around(bencher, &mut crowd, part));
        }
        group.finish();
    }
}

/// What is used at once of a limit, and what those who wait ask for: the first one can start when the first half of that
/// has left the minute, and every other one could start now and would delay it.
const LIMIT: u64 = 1_000_000;
const USED: u64 = 220_000;
const BLOCKED: u64 = 600_000;
const BEHIND: u64 = 450_000;

/// Something happens all the time in a lane whose first request is blocked, and none of those behind may pass it.
fn refusal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ask a full lane again");
    for (waiting, sessions) in CROWDS {
        let mut crowd = Crowd::new(sessions, 1, LIMIT).taught();
        let mut running = crowd.start(Asked { output_cap: Some(1), ..Asked::default() });
        for _ in 0..2 {
            let asked = Asked { size: size_of(USED), output_cap: Some(1), ..Asked::default() };
            let reservation = crowd.start(asked);
            crowd.finish(reservation, Tokens { prompt: USED, uncached_prompt: USED, generated: 1 });
            crowd.now = crowd.now + WINDOW / 4;
        }
        crowd.enqueue_for(Duration::from_secs(99), 1, BLOCKED);
        (2..=waiting).for_each(|client| crowd.enqueue(client, BEHIND));
        assert!(crowd.admission.admit(crowd.now).is_none(), "it is full");
        assert!(crowd.admission.next_admission().is_some(), "it is known when the first can start");
        let id = BenchmarkId::from_parameter(format!("{waiting} waiting of {sessions} sessions"));
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                crowd.admission.sent(&mut running, crowd.now);
                assert!(black_box(crowd.admission.admit(crowd.now)).is_none(), "it is full");
            });
        });
        crowd.admission.refund(running, crowd.now);
    }
    group.finish();
}

criterion_group!(benches, admission, refusal);
criterion_main!(benches);
