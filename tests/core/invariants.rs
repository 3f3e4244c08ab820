//! What must hold at every moment of a storm of faults, and at its end, in many of them.

use std::collections::BTreeMap;

use fireworks_proxy::{event::ConnId, proxy::Stopped, retry::Verdict};

use super::{
    SECOND,
    faults::{Asker, Storm},
};

/// How many runs there are, unless `STORM_SEEDS` says otherwise.
const SEEDS: u64 = 80;
const STEPS: usize = 250;

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
    pub(super) fn check(&mut self) {
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

#[test]
fn the_same_storm_is_the_same_twice() {
    let run = |seed| {
        let mut storm = Storm::new(seed);
        (0..STEPS).for_each(|_| storm.step());
        storm.world.trace
    };
    assert!(run(0x5eed) == run(0x5eed), "two runs differ");
}
