//! The ablation: each technique switched off in turn, to show what it is worth. One that buys nothing is left out of the
//! proxy.

use fireworks_proxy::config::Technique;

use crate::{
    model::float,
    options::{Options, Who},
    report,
    runs::{self, Run},
    scenarios::Scenario,
    tally::Tally,
    targets,
};

/// Where a technique is meant to help, beside the scenarios that have a target.
const fn home_of(technique: Technique) -> &'static [&'static str] {
    match technique {
        Technique::PromptSize => &["cjk-images", "cold-prompts", "missing"],
        Technique::Measured => &["cjk-images", "long-prompts"],
        Technique::PromptCache => &["long-prompts", "32-windows"],
        Technique::Output => &["16-windows", "32-windows"],
        Technique::Progress => &["16-windows", "32-windows"],
        Technique::Foresight => &["16-windows", "32-windows"],
        Technique::Burst => &["8-buckets-15", "16-buckets-10", "32-buckets-15"],
        Technique::Others => &["others", "noisy"],
        Technique::Suspicion => &["missing", "partial", "noisy"],
        Technique::SmoothStarts => &["ramp", "noisy"],
        Technique::Shares => &["hog", "sub-agents"],
        Technique::Passing => &["32-windows", "long-prompts"],
    }
}

/// What came of one scenario with all techniques but one, or with all.
struct Outcome {
    scenario: &'static str,
    without: Option<Technique>,
    figures: Figures,
}

/// Figures of one run, or the mean of several.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    share: f64,
    rate_limited: f64,
    refusals: f64,
    p95_seconds: f64,
    stall_seconds: f64,
    fairness: f64,
}

impl Figures {
    fn of(scenario: &Scenario, ours: &Tally, oracle: &Tally) -> Self {
        Self {
            share: scenario.share(ours, oracle),
            rate_limited: float(ours.rate_limited_at.len() as u64),
            refusals: float(ours.refusals),
            p95_seconds: ours.wait(0.95),
            stall_seconds: ours.longest_wait(),
            fairness: ours.fairness().unwrap_or(1.0),
        }
    }

    fn mean(all: &[Self]) -> Self {
        let mean = |field: fn(&Self) -> f64| all.iter().map(field).sum::<f64>() / float(all.len() as u64);
        Self {
            share: mean(|it| it.share),
            rate_limited: mean(|it| it.rate_limited),
            refusals: mean(|it| it.refusals),
            p95_seconds: mean(|it| it.p95_seconds),
            stall_seconds: mean(|it| it.stall_seconds),
            fairness: mean(|it| it.fairness),
        }
    }
}

/// Plays everything and prints one table: for each technique where it is meant to help, with it and without it, and the
/// mean over all scenarios that have a target.
///
/// # Errors
/// The trace cannot be read.
pub(crate) fn report(options: &Options) -> Result<(), String> {
    println!(
        "{} virtual minutes a run; means over {} seeds from {} on",
        options.minutes, options.seeds, options.seed
    );
    report::note_missing_trace(options);
    let outcomes = play(options)?;
    println!(
        "{:<14} {:<42} {:>15} {:>15} {:>13} {:>15} {:>15} {:>13}",
        "off", "scenarios", "/oracle", "429s", "refused", "p95 s", "stall s", "Jain"
    );
    let common: Vec<&str> =
        targets::scenarios().filter(|it| options.can_play(it)).map(|it| it.name).collect();
    for technique in Technique::ALL {
        line(technique, &home_of(technique).join(" "), home_of(technique), &outcomes);
        line(technique, "all that have a target", &common, &outcomes);
    }
    Ok(())
}

fn line(technique: Technique, title: &str, scenarios: &[&str], outcomes: &[Outcome]) {
    let mean = |without: Option<Technique>| {
        let counts = |it: &&Outcome| it.without == without && scenarios.contains(&it.scenario);
        let all: Vec<Figures> = outcomes.iter().filter(counts).map(|it| it.figures).collect();
        Figures::mean(&all)
    };
    let (with, off) = (mean(None), mean(Some(technique)));
    println!(
        "{:<14} {title:<42} {:>5.3} -> {:>5.3}  {:>5.1} -> {:>5.1}  {:>4.1} -> {:>4.1} {:>6.1} -> {:>5.1} {:>6.1} -> {:>5.1} \
         {:>4.3} -> {:>4.3}",
        technique.name(),
        with.share,
        off.share,
        with.rate_limited,
        off.rate_limited,
        with.refusals,
        off.refusals,
        with.p95_seconds,
        off.p95_seconds,
        with.stall_seconds,
        off.stall_seconds,
        with.fairness,
        off.fairness
    );
}

fn play(options: &Options) -> Result<Vec<Outcome>, String> {
    let mut planned = Vec::new();
    for seed in options.seed..options.seed + options.seeds {
        for scenario in options.scenarios() {
            let run = |who, techniques| Run { scenario, who, seed, techniques };
            let worth: Vec<Technique> =
                Technique::ALL.into_iter().filter(|technique| matters(*technique, scenario)).collect();
            if worth.is_empty() {
                continue;
            }
            planned.push((None, run(Who::Oracle, options.techniques)));
            planned.push((None, run(Who::Ours, options.techniques)));
            for technique in worth {
                planned.push((Some(technique), run(Who::Ours, options.techniques.without(technique))));
            }
        }
    }
    let (without, runs): (Vec<Option<Technique>>, Vec<Run>) = planned.into_iter().unzip();
    let (mut outcomes, mut oracle) = (Vec::new(), Tally::default());
    let mut without = without.into_iter();
    runs::play(&runs, options, |run, tally| {
        let without = without.next().expect("one for every run");
        if run.who == Who::Oracle {
            oracle = tally;
            return;
        }
        let figures = Figures::of(run.scenario, &tally, &oracle);
        outcomes.push(Outcome { scenario: run.scenario.name, without, figures });
    })?;
    Ok(outcomes)
}

/// Whether a scenario says something of a technique.
fn matters(technique: Technique, scenario: &Scenario) -> bool {
    home_of(technique).contains(&scenario.name) || targets::scenarios().any(|it| it.name == scenario.name)
}
