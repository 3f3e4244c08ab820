//! The rules, and who broke them. No rule is about how long something took.

use crate::attacks::{Attack, Lasts, Reaches};
use crate::options::Options;
use crate::phase::Phase;
use crate::run::{Results, Siege};

/// How much of what an attack took the allocator may keep for the next time. Nothing of it is lost: see
/// [`KEPT_AGAIN_BYTES_MAX`].
const KEPT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How much more it may keep after the same attack once more: for what lay elsewhere this time. A leak of 512 bytes for
/// each of 10,000 connections is more, and of each body.
const KEPT_AGAIN_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How many failures of one phase are told.
const FAILURES_TOLD_MAX: usize = 5;

/// What was broken; nothing if all is well.
pub(crate) fn judge(results: &Results) -> Vec<String> {
    let mut violations = Vec::new();
    for siege in &results.sieges {
        let phase = &siege.phase;
        let mut broke = |what: String| violations.push(format!("{}: {what}", phase.name()));
        for phase in [phase].into_iter().chain(&siege.again) {
            judge_users(phase, &mut broke);
            for what in &phase.rest.missing {
                broke(format!("long after the end: {what}"));
            }
        }
        if let Some(attack) = phase.attack {
            judge_attack(attack, phase, &mut broke);
            judge_memory(attack, siege, &results.options, &mut broke);
        }
        judge_end(siege, &mut broke);
    }
    violations
}

fn judge_end(siege: &Siege, broke: &mut impl FnMut(String)) {
    if let Err(how) = &siege.ended {
        broke(how.clone());
    }
    for line in siege.log.iter().filter(|line| line.contains(" ERROR ") || line.contains("panicked")) {
        broke(format!("in the log: {line}"));
    }
}

fn judge_users(phase: &Phase, broke: &mut impl FnMut(String)) {
    let failures = phase.honest_failures();
    failures
        .iter()
        .take(FAILURES_TOLD_MAX)
        .for_each(|failure| broke(format!("an honest request: {failure}")));
    if failures.len() > FAILURES_TOLD_MAX {
        broke(format!("and {} more failures of honest users", failures.len() - FAILURES_TOLD_MAX));
    }
    if phase.seen.began.is_empty() || phase.seen.probes.is_empty() {
        broke("no honest request was answered at all".to_owned());
    }
}

/// An attack that did not take place proves nothing.
fn judge_attack(attack: &Attack, phase: &Phase, broke: &mut impl FnMut(String)) {
    let (tally, connections) = (&phase.tally, phase.connections);
    if tally.opened < connections {
        let why = tally.trouble.as_deref().unwrap_or("it took too long");
        broke(format!("only {} of {connections} connections could be opened: {why}", tally.opened));
    }
    if attack.lasts == Lasts::UntilAllAreAnswered && tally.answers.len() < connections {
        broke(format!("{} of {connections} requests were not answered", connections - tally.answers.len()));
    }
    let reached = match attack.reaches_upstream {
        Reaches::Nothing => return,
        Reaches::Some => 1,
        Reaches::All => connections as u64,
    };
    if phase.at_upstream < reached {
        broke(format!("{} requests at the upstream at once, {reached} were to be", phase.at_upstream));
    }
}

fn judge_memory(attack: &Attack, siege: &Siege, options: &Options, broke: &mut impl FnMut(String)) {
    let (phase, kib) = (&siege.phase, |bytes: u64| bytes / 1024);
    let (grown, allowed) = (siege.growth(), attack.allowance.bytes(phase.connections, options));
    if grown > allowed {
        let (grown, allowed) = (kib(grown), kib(allowed));
        broke(format!("memory grew by {grown} KiB; {allowed} KiB are allowed"));
    }
    let kept = siege.kept();
    if kept > KEPT_BYTES_MAX {
        broke(format!("{} KiB were not given back; {} may be", kib(kept), kib(KEPT_BYTES_MAX)));
    }
    let kept_again = siege.kept_again();
    if kept_again > KEPT_AGAIN_BYTES_MAX {
        let (kept, allowed) = (kib(kept_again), kib(KEPT_AGAIN_BYTES_MAX));
        broke(format!("{kept} KiB more were not given back after the second time; {allowed} may be"));
    }
}
