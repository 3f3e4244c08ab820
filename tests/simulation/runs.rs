//! Whole runs, slices of seeds for the test runner, and what all of them together must have met.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use super::{engine::Simulation, swarm::ODDS};

/// How many seeds there are, unless `SIMULATION_SEEDS` says otherwise.
const SEEDS: u64 = 256;

/// How many tests share them, so that the runner has something to do on every core.
const SLICES: u64 = 8;

/// Steps until a run comes to its end, unless `SIMULATION_STEPS` says otherwise.
const STEPS: u64 = 4_000;

/// What a run has come to.
#[derive(Debug)]
struct Outcome {
    steps: u64,
    events: u64,
    hash: u64,
    seconds: u64,
    seen: BTreeMap<String, u64>,
    odds: [u64; ODDS.len()],
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn run(seed: u64, steps: u64) -> Outcome {
    let mut simulation = Simulation::new(seed);
    while simulation.steps < steps {
        simulation.step();
    }
    simulation.come_to_an_end();
    Outcome {
        steps: simulation.steps,
        events: simulation.history.events,
        hash: simulation.history.hash,
        seconds: simulation.now.since(fireworks_proxy::time::Mono::ZERO).as_secs(),
        odds: simulation.odds_seen,
        seen: std::mem::take(&mut simulation.history.seen),
    }
}

impl Simulation {
    /// Nobody new comes. Either all goes on to its end, or everybody and everything falls silent and the clock
    /// alone has to end it.
    fn come_to_an_end(&mut self) {
        self.is_lively = false;
        if self.process.is_none() {
            self.agenda.clear();
            self.start();
        }
        self.disk.full_until = self.now;
        if self.dice.chance(50) {
            self.history.saw("silence");
            self.agenda.clear();
            // Nothing arrives any more: all of them seem to be slow.
            self.clients.values_mut().for_each(|client| client.has_hung = true);
        }
        let latest = self.now + Duration::from_secs(4 * 3_600);
        while self.step() {
            assert!(self.now < latest, "it never ends");
            if self.process.is_none() && self.agenda.is_empty() {
                break;
            }
        }
        if self.process.is_some() {
            self.check_end();
        }
    }
}

fn run_slice(slice: u64) {
    let seeds = number("SIMULATION_SEEDS").unwrap_or(SEEDS);
    let steps = number("SIMULATION_STEPS").unwrap_or(STEPS);
    let mut total = Outcome::NONE;
    for seed in (slice..seeds).step_by(usize::try_from(SLICES).expect("small")) {
        let outcome = run(seed, steps);
        total.add(outcome);
    }
    println!("{} steps, {} events, {} s of virtual time", total.steps, total.events, total.seconds);
    // Tests may run in any order: whichever is the last of all slices looks at the whole.
    let mut all = ALL.lock().expect("no slice has failed");
    all.0 += 1;
    all.1.add(total);
    if all.0 == SLICES && seeds >= SEEDS && steps >= STEPS {
        check_coverage(&all.1);
    }
}

/// How many slices have ended well, and what they have come to.
static ALL: Mutex<(u64, Outcome)> = Mutex::new((0, Outcome::NONE));

impl Outcome {
    const NONE: Self =
        Self { steps: 0, events: 0, hash: 0, seconds: 0, seen: BTreeMap::new(), odds: [0; ODDS.len()] };

    fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.events += other.events;
        self.seconds += other.seconds;
        self.odds.iter_mut().zip(other.odds).for_each(|(sum, count)| *sum += count);
        for (what, count) in other.seen {
            *self.seen.entry(what).or_default() += count;
        }
    }
}

/// What the runs of every day come to, each at least once: how requests end, why they are tried again, and
/// what becomes of the process.
#[rustfmt::skip]
const ENDINGS: [&str; 54] = [
    "after=408", "after=429", "after=500", "after=502", "after=503", "after=504", "after=520", "after=529",
    "after=closed_before_head", "after=connect_refused", "after=connect_timeout", "after=dns",
    "after=head_timeout", "after=tls_other", "after=write_timeout", "continue", "cut", "disk full",
    "ended by closing", "outcome=bad_head", "outcome=client_gone", "outcome=closed_before_head",
    "outcome=connect_refused", "outcome=connect_timeout", "outcome=cut_in_stream", "outcome=daily_limit",
    "outcome=dns", "outcome=draining", "outcome=head_timeout", "outcome=idle_in_stream",
    "outcome=queue_timeout", "outcome=stopped", "outcome=tls_certificate", "outcome=tls_other",
    "outcome=write_timeout", "relayed", "silence", "status=200", "status=400", "status=429", "status=502",
    "status=503", "status=504", "stopped", "tight memory", "memory eases", "made room",
    "whole after a retry", "counts that add up", "first of its session", "first of sessions", "a turn for who has had less",
    "beyond what was foreseen", "passed",
];

/// A world that never meets a rule proves nothing.
fn check_coverage(total: &Outcome) {
    for ((odd, _), count) in ODDS.iter().zip(&total.odds) {
        assert!(*count > 0, "{odd:?} never happened");
    }
    for what in ENDINGS {
        assert!(total.seen.contains_key(what), "no run came to {what}: {:?}", total.seen);
    }
    println!("all runs together: {total:?}");
}

macro_rules! slices {
    ($($name:ident $slice:literal,)*) => {
        $(
            #[test]
            fn $name() {
                run_slice($slice);
            }
        )*
    };
}

slices! {
    every_rule_holds_in_slice_0 0,
    every_rule_holds_in_slice_1 1,
    every_rule_holds_in_slice_2 2,
    every_rule_holds_in_slice_3 3,
    every_rule_holds_in_slice_4 4,
    every_rule_holds_in_slice_5 5,
    every_rule_holds_in_slice_6 6,
    every_rule_holds_in_slice_7 7,
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 77, 0xdead_beef] {
        let (first, second) = (run(seed, 1_500), run(seed, 1_500));
        assert_eq!((first.hash, first.events, first.steps), (second.hash, second.events, second.steps));
        assert_ne!(first.hash, run(seed + 1, 1_500).hash, "the seed matters");
    }
}

/// Runs the one seed of `SIMULATION_SEED` again.
#[test]
fn replay() {
    if let Some(seed) = number("SIMULATION_SEED") {
        let outcome = run(seed, number("SIMULATION_STEPS").unwrap_or(STEPS));
        println!("{outcome:#?}");
    }
}
