//! Long runs by dice against an upstream with every fault and clients with every whim: who is tried again, for
//! how long, and that nothing is left behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fireworks_proxy::{
    event::{ConnId, Input},
    failure::FailureClass,
    proxy::Stopped,
    retry::Verdict,
    time::Mono,
};

use super::{SECOND, utc};
use crate::support::world::{Dice, World, answer_with, chat, streamed};

/// How many runs there are, unless `STORM_SEEDS` says otherwise.
const SEEDS: u64 = 150;
const STEPS: usize = 250;

/// A client with its one request.
struct Asker {
    conn: ConnId,
    is_stream: bool,
    has_lane: bool,
    /// When its time until an answer is over.
    hold_until: Mono,
    /// The answers that the upstream has given it, and whether each was given whole.
    answers: Vec<(u64, u16, bool)>,
}

/// An answer on its way.
struct Answer {
    number: u64,
    status: u16,
    left: Vec<u8>,
    ends_with_close: bool,
}

struct Storm {
    world: World,
    dice: Dice,
    tries_max: usize,
    max_hold: Duration,
    askers: Vec<Asker>,
    answers: BTreeMap<ConnId, Answer>,
    stalled: BTreeSet<ConnId>,
    numbers: u64,
}

/// Says which run it was if that ends in a panic.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed is {}", self.0);
        }
    }
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let retries = *dice.pick(&["0", "1", "3", "5"]).expect("one");
        let max_hold = *dice.pick(&["5", "30", "240"]).expect("one");
        let settings = [
            ("MAX_RETRIES", retries),
            ("MAX_HOLD", max_hold),
            ("MAX_WAIT", *dice.pick(&["3", "60", "1000"]).expect("one")),
            ("READ_TIMEOUT", *dice.pick(&["20", "1800"]).expect("one")),
            ("RPS", *dice.pick(&["2", "1000"]).expect("one")),
            ("GENERATED_TPM_LIMIT", *dice.pick(&["200", "100000"]).expect("one")),
            ("OUTPUT_TOKEN_RESERVE", "10"),
        ];
        let mut world = World::new(&settings, utc(5, 21, 2, 0));
        world.connects = false;
        Self {
            world,
            dice,
            tries_max: retries.parse::<usize>().expect("a number") + 1,
            max_hold: SECOND * max_hold.parse().expect("a number"),
            askers: Vec::new(),
            answers: BTreeMap::new(),
            stalled: BTreeSet::new(),
            numbers: 0,
        }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..20 => self.ask(),
            20..40 => self.connect(),
            40..75 => self.answer(),
            75..80 => self.leave(),
            80..84 => self.stall(),
            84..90 => {
                // To a moment at which something is due, whatever that is.
                let due = self.world.proxy.poll_timeout().map_or_else(|| self.world.now(), |(at, _)| at);
                self.world.advance_to(due.max(self.world.now()));
            }
            90..99 => self.pass(2_000),
            _ => self.pass(100_000),
        }
        self.check();
    }

    fn pass(&mut self, millis_max: u64) {
        let span = Duration::from_millis(self.dice.below(millis_max));
        self.world.advance(span);
    }

    fn ask(&mut self) {
        self.numbers += 1;
        let name = format!("r{}", self.numbers);
        let (is_stream, has_lane) = (self.dice.chance(60), !self.dice.chance(15));
        let patience = 6 + self.dice.below(60);
        let stated = self.dice.chance(20).then_some(patience);
        let key = *self.dice.pick(&["a", "b"]).expect("one");
        let model = *self.dice.pick(&["m", "n"]).expect("one");
        let mut fields = format!("x-api-key: {key}\r\n");
        fields.extend(stated.map(|seconds| format!("x-stainless-timeout: {seconds}\r\n")));
        let request = chat(&name, &fields, &format!(r#"{{"model":"{model}","stream":{is_stream}}}"#));
        let mut request = String::from_utf8(request).expect("UTF-8");
        if !has_lane {
            let method = *self.dice.pick(&["POST", "PUT", "GET"]).expect("one");
            request = request.replacen("POST /v1/chat/completions", &format!("{method} /other"), 1);
        }
        let conn = self.world.client();
        let arrived = self.world.now();
        let split = usize::try_from(self.dice.below(request.len() as u64 / 2)).expect("small");
        self.world.deliver(conn, &request.as_bytes()[..request.len() - split]);
        if split > 0 {
            self.pass(3_000);
        }
        let ours = self.world.now() + self.max_hold;
        // The head may have come with the second part, so that its time is known to a few seconds.
        let usable = stated.map(|seconds| SECOND * u32::try_from(seconds).expect("small"));
        let theirs = usable.map(|limit| self.world.now() + (limit.saturating_sub(SECOND * 5)).max(limit / 2));
        let hold_until = theirs.map_or(ours, |theirs| ours.min(theirs));
        assert!(hold_until >= arrived);
        self.world.deliver(conn, &request.as_bytes()[request.len() - split..]);
        let is_stream = is_stream && has_lane;
        self.askers.push(Asker { conn, is_stream, has_lane, hold_until, answers: Vec::new() });
    }

    fn connect(&mut self) {
        let Some(upstream) = self.world.dialed.pop_front() else { return };
        match self.dice.below(10) {
            0 => self.world.breaks(upstream, FailureClass::Dns),
            1 => self.world.breaks(upstream, FailureClass::TlsOther),
            2 => self.world.breaks(upstream, FailureClass::TlsCertificate),
            // It is made, and takes nothing of the request.
            3 => {
                self.world.stall(upstream);
                self.world.input(upstream, Input::Connected);
            }
            // It hangs.
            4 => self.world.dialed.push_back(upstream),
            _ => self.world.input(upstream, Input::Connected),
        }
    }

    /// The upstream goes on with one of its answers, or begins one, or breaks.
    fn answer(&mut self) {
        let open: Vec<ConnId> = self
            .world
            .live_upstreams()
            .into_iter()
            .filter(|conn| !self.world.dialed.contains(conn))
            .collect();
        let Some(upstream) = self.dice.pick(&open).copied() else { return };
        if self.dice.chance(12) {
            let is_end = self.dice.chance(50);
            self.answers.remove(&upstream);
            return if is_end {
                self.world.input(upstream, Input::Eof);
            } else {
                self.world.breaks(upstream, FailureClass::CutInStream);
            };
        }
        if !self.answers.contains_key(&upstream) {
            let answer = self.new_answer();
            let client = self.world.owners[&upstream];
            let asker = self.askers.iter_mut().find(|asker| asker.conn == client).expect("it asked");
            asker.answers.push((answer.number, answer.status, false));
            self.answers.insert(upstream, answer);
        }
        let answer = self.answers.get_mut(&upstream).expect("it was put there");
        let count = match self.dice.below(4) {
            0 => usize::try_from(self.dice.below(answer.left.len() as u64 + 1)).expect("small"),
            _ => answer.left.len(),
        };
        let bytes: Vec<u8> = answer.left.drain(..count).collect();
        let ends_with_close = answer.ends_with_close && answer.left.is_empty();
        let number = answer.number;
        if answer.left.is_empty() {
            let client = self.world.owners[&upstream];
            let asker = self.askers.iter_mut().find(|asker| asker.conn == client).expect("it asked");
            asker.answers.last_mut().filter(|last| last.0 == number).expect("the latest").2 = true;
        }
        self.world.deliver(upstream, &bytes);
        if ends_with_close {
            self.world.input(upstream, Input::Eof);
        }
    }

    fn new_answer(&mut self) -> Answer {
        self.numbers += 1;
        let number = self.numbers;
        let status =
            *self.dice.pick(&[200, 200, 200, 429, 429, 503, 503, 529, 500, 502, 408, 400]).expect("one");
        let seconds = self.dice.chance(30).then(|| self.dice.below(12));
        let asks = seconds.map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
        let fields = format!("x-answer: {number}\r\n{asks}");
        let body = "x".repeat(usize::try_from(self.dice.below(200)).expect("small"));
        let whole = answer_with(status, &fields, &body);
        let (text, ends_with_close) = match self.dice.below(3) {
            0 if status == 200 => {
                let stream = streamed(&["one", "two"]) + "0\r\n\r\n";
                (stream.replacen("\r\n", &format!("\r\n{fields}"), 1), false)
            }
            1 => (whole.replace("content-length", "x-length"), true),
            _ => (whole, false),
        };
        Answer { number, status, left: text.into_bytes(), ends_with_close }
    }

    fn leave(&mut self) {
        let here: Vec<ConnId> =
            self.askers.iter().map(|asker| asker.conn).filter(|conn| !self.world.is_closed(*conn)).collect();
        let Some(client) = self.dice.pick(&here).copied() else { return };
        if self.dice.chance(50) {
            self.world.input(client, Input::Eof);
        } else {
            self.world.breaks(client, FailureClass::CutInStream);
        }
    }

    /// A client stops to take its answer, or goes on.
    fn stall(&mut self) {
        let conns: Vec<ConnId> = self.askers.iter().map(|asker| asker.conn).collect();
        let Some(conn) = self.dice.pick(&conns).copied() else { return };
        if self.stalled.remove(&conn) {
            self.world.flow(conn);
        } else {
            self.stalled.insert(conn);
            self.world.stall(conn);
        }
    }
}

/// What must hold at every moment.
impl Storm {
    fn check(&mut self) {
        let live = self.world.live_upstreams();
        let has_lane = |upstream: &&ConnId| {
            let client = self.world.owners[*upstream];
            self.askers.iter().find(|asker| asker.conn == client).expect("its client is there").has_lane
        };
        let with_lane = live.iter().filter(has_lane).count();
        self.check_lanes(with_lane);
        assert_eq!(self.world.stats().in_flight, live.len() as u64, "an exchange is its connection");
        for asker in &self.askers {
            self.check_asker(asker, &live);
        }
        let world = &self.world;
        self.askers.retain(|asker| !world.is_closed(asker.conn));
    }

    /// Reservations are exchanges, and who waits has a reason to that will pass.
    fn check_lanes(&mut self, with_lane: usize) {
        let admission = &mut self.world.proxy.context_mut().admission;
        let lanes: Vec<_> =
            admission.budgets_mut().lanes_mut().map(|(id, lane)| (id, lane.in_flight)).collect();
        assert_eq!(lanes.iter().map(|(_, in_flight)| in_flight).sum::<usize>(), with_lane);
        for (id, in_flight) in lanes {
            if admission.waiting_in(Some(id)) > 0 {
                let refusal = admission.refusal_of(Some(id)).expect("who waits was refused");
                assert!(refusal.until.is_some() || in_flight > 0, "nobody will ever ask again: {refusal:?}");
            }
        }
    }

    fn check_asker(&self, asker: &Asker, live: &[ConnId]) {
        let Asker { conn, is_stream, hold_until, answers, .. } = asker;
        let world = &self.world;
        let pending = String::from_utf8_lossy(world.proxy.pending_write(*conn)).into_owned();
        let told = world.text_of(*conn) + &pending;
        let tries = world.owners.values().filter(|client| *client == conn).count();
        assert!(tries <= self.tries_max, "{tries} tries");
        if told.is_empty() && !world.is_closed(*conn) {
            let is_worked_on = |upstream: &ConnId| {
                world.owners[upstream] == *conn && world.sent_to(*upstream).ends_with(b"}")
            };
            let may_last = !is_stream && live.iter().any(is_worked_on);
            assert!(world.now() < *hold_until || may_last, "{conn:?} is held beyond {hold_until:?}");
            assert!(world.proxy.poll_timeout().is_some(), "{conn:?} waits without a timer");
        }
        if told.is_empty() {
            return;
        }
        assert_eq!(told.matches("HTTP/1.1 ").count(), 1, "one answer: {told}");
        let field = |name: &str| -> Option<u64> {
            let (_, rest) = told.split_once(&format!("{name}: "))?;
            rest.lines().next()?.parse().ok()
        };
        let retries = field("x-fireworks-proxy-retries").expect("every answer says it");
        assert_eq!(retries, tries.saturating_sub(1) as u64, "{told}");
        let Some(number) = field("x-answer") else {
            assert!(told.contains(r#""message":"fireworks-proxy: "#), "{told}");
            return;
        };
        let place = answers.iter().position(|(other, ..)| *other == number).expect("one of its own");
        let (_, status, _) = answers[place];
        let later = &answers[place + 1..];
        assert!(later.iter().all(|(.., is_whole)| !is_whole), "not the last answer: {number} of {answers:?}");
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
        if Verdict::of(status) != Verdict::Final && asker.has_lane && self.tries_max > 1 {
            assert!(told.to_ascii_lowercase().contains("\r\nretry-after: "), "{told}");
        }
    }

    /// Nobody does anything any more: the clock alone brings everything to an end.
    fn run_out(&mut self) {
        self.world.advance(SECOND * 3 * 3_600);
        self.check();
        assert!(self.askers.is_empty(), "somebody is still there");
        assert_eq!(self.world.proxy.poll_timeout(), None);
        self.world.assert_settled();
    }

    fn stop(&mut self) {
        let dialed = self.world.dials.len();
        self.world.shutdown();
        let second = self.dice.chance(30).then(|| self.dice.below(40));
        for step in 0..40 {
            match self.dice.below(4) {
                0 => self.connect(),
                1 => self.answer(),
                2 => self.pass(500),
                _ => self.leave(),
            }
            if second == Some(step) {
                self.world.shutdown();
                assert!(self.world.proxy.stopped().is_some(), "a second word stops at once");
            }
            self.check();
        }
        self.world.advance(SECOND * 30);
        let stopped = self.world.proxy.stopped().expect("thirty seconds are over");
        self.check();
        assert!(self.askers.is_empty(), "somebody is still there");
        assert_eq!(self.world.dials.len(), dialed, "something new went to the upstream");
        let is_cut = self.world.log.iter().any(|line| line.contains("were cut"));
        assert_eq!(is_cut, matches!(stopped, Stopped::Cut(_)));
        self.world.assert_settled();
    }
}

#[test]
fn whatever_happens_every_request_comes_to_one_end_in_its_time() {
    let seeds = std::env::var("STORM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let mut seen = BTreeMap::<String, usize>::new();
    for seed in 1..=seeds {
        let _seed = Seed(seed);
        // Seeds that are neighbours would begin alike.
        let mut storm = Storm::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for _ in 0..STEPS {
            storm.step();
        }
        if storm.dice.chance(40) {
            storm.stop();
        } else {
            storm.run_out();
        }
        for line in storm.world.request_lines() {
            let words = line
                .split(' ')
                .filter(|word| ["status=", "outcome=", "after="].iter().any(|name| word.starts_with(name)));
            for word in words.chain(line.split(' ').take(1)) {
                *seen.entry(word.to_owned()).or_default() += 1;
            }
        }
    }
    for word in [
        "after=429",
        "after=503",
        "after=529",
        "after=500",
        "after=408",
        "after=dns",
        "after=tls_other",
        "after=connect_timeout",
        "after=write_timeout",
        "after=closed_before_head",
        "after=head_timeout",
        "status=200",
        "status=429",
        "status=503",
        "status=500",
        "outcome=queue_timeout",
        "outcome=tls_certificate",
        "outcome=dns",
        "outcome=connect_timeout",
        "outcome=write_timeout",
        "outcome=head_timeout",
        "outcome=closed_before_head",
        "outcome=cut_in_stream",
        "outcome=idle_in_stream",
        "outcome=client_gone",
        "outcome=stopped",
        "outcome=draining",
    ] {
        assert!(seen.contains_key(word), "the dice never came to {word}: {seen:#?}");
    }
}
