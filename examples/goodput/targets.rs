//! The check: what the proxy must reach, scenario by scenario, beside the oracle.

use std::time::Duration;

use fireworks_proxy::time::Mono;

use crate::{
    calibration,
    model::{at, float},
    options::{Options, Who},
    report,
    runs::{self, Run},
    scenarios::Scenario,
    tally::Tally,
};

/// What is asked of one scenario.
struct Target {
    scenario: &'static str,
    /// The least share of the oracle's work.
    share: f64,
    demands: &'static [Demand],
}

/// What is asked beside the share.
#[derive(Debug, Clone, Copy)]
enum Demand {
    /// No upstream 429 after the first two minutes.
    NoneLate,
    /// At most so many upstream 429s in a thousand requests.
    PerThousand(f64),
    /// At most so many upstream 429s within two minutes of each lowering of the limits.
    PerLowering(u64),
    /// No 429 of the upstream reaches a client.
    NonePassedOn,
    /// Jain's index over the agents is at least this.
    Fairness(f64),
    /// No more refusals than the oracle's, which refuses what has waited for two minutes, as the proxy does. They are
    /// counted and not matched: in a closed loop the two do not meet the same requests at the same time.
    RefusalsOfOracle,
    /// No limit is ever taken for less than this share of itself after the first two minutes.
    LimitKept(f64),
    /// The 95th percentile of the wait is at most so many times the oracle's, or a second, which nobody notices.
    WaitRatio(f64),
}

use Demand::{
    Fairness, LimitKept, NoneLate, NonePassedOn, PerLowering, PerThousand, RefusalsOfOracle, WaitRatio,
};

/// How long after the limits were lowered its 429s are counted.
const LOWERING: Duration = Duration::from_secs(120);
/// A p95 below this needs no comparison.
const WAIT_UNNOTICED_SECONDS: f64 = 1.0;

const fn target(scenario: &'static str, share: f64, demands: &'static [Demand]) -> Target {
    Target { scenario, share, demands }
}

const CROWDED: &[Demand] = &[Fairness(0.97), RefusalsOfOracle];
const HARD_TO_READ: &[Demand] = &[LimitKept(0.5)];
const OPEN_LOOP: &[Demand] = &[WaitRatio(1.2)];

const ALL: [Target; 16] = [
    target("8-windows", 0.95, &[NoneLate]),
    target("8-buckets-15", 0.90, &[PerThousand(1.0)]),
    target("halved", 0.90, &[PerLowering(3), NonePassedOn]),
    target("doubled", 0.90, &[NonePassedOn]),
    target("adaptive", 0.90, &[NonePassedOn]),
    target("32-windows", 0.95, CROWDED),
    // As with 8 agents, less is asked where the limits are not kept as rolling windows.
    target("32-buckets-15", 0.90, CROWDED),
    target("noisy", 0.90, HARD_TO_READ),
    target("partial", 0.90, HARD_TO_READ),
    target("missing", 0.90, HARD_TO_READ),
    target("trace-1x", 0.95, OPEN_LOOP),
    target("trace-2x", 0.95, OPEN_LOOP),
    target("trace-4x", 0.95, OPEN_LOOP),
    target("503", 0.90, &[]),
    target("sub-agents", 0.90, &[]),
    target("cjk-images", 0.90, &[]),
];

/// Played twice, to see that the same seed gives the same figures.
const PLAYED_TWICE: &str = "16-buckets-10";

/// The scenarios that have a target.
pub(crate) fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    ALL.iter().map(|target| named(target.scenario))
}

/// The scenario of a name that the bench itself uses.
pub(crate) fn named(name: &str) -> &'static Scenario {
    Scenario::named(name).expect("the bench names its own scenarios")
}

/// Judges ours by every target, the agents by their calibration, and the bench by its word that the same seed gives the
/// same figures. True if all hold.
///
/// # Errors
/// The trace cannot be read.
pub(crate) fn check(options: &Options) -> Result<bool, String> {
    println!("{} virtual minutes a run, seed {}", options.minutes, options.seed);
    report::note_missing_trace(options);
    let mut holds = calibration::report(options.seed);
    let targets: Vec<&Target> =
        ALL.iter().filter(|target| options.can_play(named(target.scenario))).collect();
    let run = |scenario: &str, who| Run {
        scenario: named(scenario),
        who,
        seed: options.seed,
        techniques: options.techniques,
    };
    let mut planned: Vec<Run> =
        targets.iter().flat_map(|it| [Who::Oracle, Who::Ours].map(|who| run(it.scenario, who))).collect();
    planned.extend([Who::Ours; 2].map(|who| run(PLAYED_TWICE, who)));

    let mut first = None;
    let mut remaining = targets.into_iter();
    runs::play(&planned, options, |run, tally| {
        let Some(other) = first.take() else {
            first = Some(tally);
            return;
        };
        holds &= match remaining.next() {
            Some(target) => judge(target, run.scenario, &tally, &other),
            None => {
                row(PLAYED_TWICE, &[(String::from("the same seed gives the same figures"), tally == other)])
            }
        };
    })?;
    Ok(holds)
}

fn judge(target: &Target, scenario: &Scenario, ours: &Tally, oracle: &Tally) -> bool {
    let share = scenario.share(ours, oracle);
    let mut findings = vec![(format!("share {share:.3} (>= {:.2})", target.share), share >= target.share)];
    findings.extend(target.demands.iter().map(|demand| demand.judge(scenario, ours, oracle)));
    row(scenario.name, &findings)
}

/// Prints what was found, and says whether all of it holds.
fn row(name: &str, findings: &[(String, bool)]) -> bool {
    let holds = findings.iter().all(|(_, holds)| *holds);
    let marked = |(text, holds): &(String, bool)| if *holds { text.clone() } else { format!("** {text}") };
    let text: Vec<String> = findings.iter().map(marked).collect();
    println!("{} {name:<14} {}", if holds { "PASS" } else { "FAIL" }, text.join(", "));
    holds
}

impl Demand {
    /// What was measured and what is asked, and whether it holds.
    fn judge(self, scenario: &Scenario, ours: &Tally, oracle: &Tally) -> (String, bool) {
        match self {
            NoneLate => {
                let late = ours.rate_limited_later();
                (format!("429s after two minutes {late} (0)"), late == 0)
            }
            PerThousand(most) => {
                let rate = 1_000.0 * float(ours.rate_limited_at.len() as u64) / float(ours.arrivals);
                (format!("429s in 1,000 requests {rate:.2} (<= {most})"), rate <= most)
            }
            PerLowering(most) => per_lowering(most, scenario, ours),
            NonePassedOn => (format!("429s seen by clients {} (0)", ours.passed_on), ours.passed_on == 0),
            Fairness(least) => {
                let index = ours.fairness().unwrap_or(0.0);
                (format!("Jain {index:.3} (>= {least})"), index >= least)
            }
            RefusalsOfOracle => {
                let (refused, most) = (ours.refusals, oracle.refusals);
                (format!("refusals {refused} (<= {most})"), refused <= most)
            }
            LimitKept(least) => {
                let lowest = ours.lowest_limit.unwrap_or(0.0);
                (format!("lowest limit believed {lowest:.2} of the real one (>= {least})"), lowest >= least)
            }
            WaitRatio(most) => {
                let (wait, reference) = (ours.wait(0.95), oracle.wait(0.95));
                let holds = wait <= (most * reference).max(WAIT_UNNOTICED_SECONDS);
                (format!("p95 wait {wait:.1} s (<= {most} x {reference:.1} s, or 1 s)"), holds)
            }
        }
    }
}

fn per_lowering(most: u64, scenario: &Scenario, ours: &Tally) -> (String, bool) {
    let after = |lowered: Mono| ours.rate_limited_between(lowered, lowered + LOWERING);
    let counts: Vec<u64> = scenario.behaviour.limits.lowered_at().map(|seconds| after(at(seconds))).collect();
    let holds = counts.iter().all(|count| *count <= most);
    (format!("429s after each lowering {counts:?} (<= {most})"), holds)
}
