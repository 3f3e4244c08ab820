//! The table, and what is printed beside it.

use crate::{
    options::{Options, Who},
    runs::{self, Run},
    scenarios::{ALL, Scenario},
    tally::Tally,
};

/// Says when what needs the trace is left out.
pub(crate) fn note_missing_trace(options: &Options) {
    if options.trace.is_none() {
        println!("without a trace, its scenarios are left out: name one with --trace");
    }
}

/// The names of the scenarios, and what they are.
pub(crate) fn list() {
    for scenario in &ALL {
        println!("{:<14} {}", scenario.name, scenario.about);
    }
}

/// Every contestant in every scenario, beside the oracle.
///
/// # Errors
/// The trace cannot be read.
pub(crate) fn compare(options: &Options) -> Result<(), String> {
    let mut planned = Vec::new();
    for scenario in options.scenarios() {
        // The oracle runs in any case: it is what the others are measured by.
        for who in Who::ALL.into_iter().filter(|who| *who == Who::Oracle || options.wants(*who)) {
            planned.push(Run { scenario, who, seed: options.seed, techniques: options.techniques });
        }
    }
    head(options);
    let mut oracle = Tally::default();
    runs::play(&planned, options, |run, tally| {
        if run.who == Who::Oracle {
            oracle = tally.clone();
        }
        if options.wants(run.who) {
            line(run.scenario, run.who, &tally, &oracle);
        }
    })
}

fn head(options: &Options) {
    println!("{} virtual minutes a run, seed {}", options.minutes, options.seed);
    println!(
        "429s, 503s: the upstream's; late: 429s after the first two minutes; refused: errors that clients got; \
         passed: those of them that the upstream sent"
    );
    note_missing_trace(options);
    println!(
        "{:<14} {:<10} {:>8} {:>7} {:>8} {:>6} {:>6} {:>6} {:>8} {:>6} {:>7} {:>7} {:>7} {:>8} {:>6}",
        "scenario",
        "who",
        "steps/m",
        "ktok/m",
        "/oracle",
        "429s",
        "late",
        "503s",
        "refused",
        "passed",
        "p50 s",
        "p95 s",
        "p99 s",
        "stall s",
        "Jain"
    );
}

fn line(scenario: &Scenario, who: Who, tally: &Tally, oracle: &Tally) {
    let fairness = tally.fairness().map_or_else(|| "-".to_owned(), |index| format!("{index:.3}"));
    println!(
        "{:<14} {:<10} {:>8.2} {:>7.0} {:>8.3} {:>6} {:>6} {:>6} {:>8} {:>6} {:>7.1} {:>7.1} {:>7.1} {:>8.1} {:>6}",
        scenario.name,
        who.name(),
        tally.steps_per_minute(),
        tally.tokens_per_minute() / 1_000.0,
        scenario.share(tally, oracle),
        tally.rate_limited_at.len(),
        tally.rate_limited_later(),
        tally.overloaded,
        tally.refusals,
        tally.passed_on,
        tally.wait(0.50),
        tally.wait(0.95),
        tally.wait(0.99),
        tally.longest_wait(),
        fairness
    );
}
