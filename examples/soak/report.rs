//! What is printed: an introduction, a line now and then, and all figures at the end.
//!
//! Plain ASCII, at most 110 columns but for what is quoted.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::books::{Outcome, Record, Tally};
use crate::common::process::Sample;
use crate::common::ranks::nearest_rank;
use crate::common::rest::Rest;
use crate::options::Options;
use crate::run::Results;
use crate::support::fake::Fault;
use crate::verdict::Verdict;

/// How many lines a list has at most: enough to see what is wrong, where everything is.
const LINES_MAX: usize = 50;

/// What will happen, before it does.
pub(crate) fn show_introduction(program: &Path, options: &Options, is_measured: bool) {
    let faults = Fault::ALL.map(|fault| format!("{} % {}", options.faults.percent(fault), fault.name()));
    print(&format!(
        "{} agents for {} minutes behind {}.\nThe upstream: {}. Seed {}.",
        options.agents,
        options.duration.as_secs() / 60,
        program.display(),
        faults.join(", "),
        options.seed,
    ));
    if !is_measured {
        print("Memory, descriptors and processor time: not measured on this system.");
    }
    print("");
}

/// One line while it runs.
pub(crate) fn show_progress(at: Duration, tally: &Tally, usage: Option<&Value>, sample: Option<&Sample>) {
    let minutes = at.as_secs() / 60;
    let of = |name: &str| usage.and_then(|page| page["requests"][name].as_u64()).unwrap_or(0);
    let errors: u64 = tally.statuses.values().sum();
    print(&format!(
        "{minutes:>3}:{:02} sent {} whole {} retries {} | errors seen {errors} cut {} left {} broken {} | queue {} \
         in flight {} | {}",
        at.as_secs() % 60,
        tally.all,
        tally.whole,
        tally.retries,
        tally.cut,
        tally.left + tally.unsent,
        tally.broken,
        of("queued"),
        of("in_flight"),
        sample.map_or_else(|| "process not measured".to_owned(), process),
    ));
}

/// All figures, and the verdict.
pub(crate) fn show(results: &Results, verdict: &Verdict) {
    show_requests(results, verdict);
    show_faults(results);
    show_waits(&results.records);
    show_process(results);
    show_rest(&results.rest);
    show_list("Errors that no further try within the hold could have spared", &verdict.excused);
    show_list("VIOLATIONS", &verdict.violations);
    print(if verdict.violations.is_empty() {
        "\nThe proxy kept every rule."
    } else {
        "\nThe proxy broke rules."
    });
}

fn show_requests(results: &Results, verdict: &Verdict) {
    let tally = &verdict.tally;
    print(&format!(
        "\nRequests by the agents' account: {} begun\n\
         {:>8} answered whole          {:>8} cut in mid-stream, and seen to be\n\
         {:>8} errors of the upstream  {:>8} failures and {} refusals that the proxy told of\n\
         {:>8} left after being sent   {:>8} left before that\n\
         {:>8} ended as none may",
        tally.all,
        tally.whole,
        tally.cut,
        tally.upstream_errors,
        tally.own_failures,
        tally.own_refusals,
        tally.left,
        tally.unsent,
        tally.broken,
    ));
    let statuses: Vec<String> =
        tally.statuses.iter().map(|(status, count)| format!("{count} x {status}")).collect();
    print(&format!(
        "Errors seen by status: {}",
        if statuses.is_empty() { "none".into() } else { statuses.join(", ") }
    ));
    print("\nThe proxy's /usage after the end, and what it may say by the agents' account");
    for row in &verdict.agreement {
        let agrees = if row.holds() { "agrees" } else { "DISAGREES" };
        let said = row.said.map_or_else(|| "-".to_owned(), |said| said.to_string());
        print(&format!("{:>12} {said:>8}   {} to {}   {agrees}", row.name, row.least, row.most));
    }
    let count =
        |name: &str| results.usage.as_ref().map_or(Value::Null, |page| page["requests"][name].clone());
    print(&format!(
        "    total {} = finished {} + refused {} + client gone {} + failed {}; queued {}, in flight {}",
        count("total"),
        count("finished"),
        count("refused"),
        count("client_gone"),
        count("failed"),
        count("queued"),
        count("in_flight"),
    ));
}

/// Each fault, and what came of it.
fn show_faults(results: &Results) {
    let mut fates: BTreeMap<(Fault, usize), u64> = BTreeMap::new();
    for record in &results.records {
        let attempts = results.attempts.get(&record.id).map_or(&[][..], Vec::as_slice);
        for (at, attempt) in attempts.iter().enumerate() {
            let fate = match &record.outcome {
                _ if at + 1 < attempts.len() => 0,
                Outcome::Left(_) | Outcome::Interrupted(_) => 2,
                _ => 1,
            };
            attempt.fault.into_iter().for_each(|fault| *fates.entry((fault, fate)).or_default() += 1);
        }
    }
    print("\nFaults at the upstream     injected  tried again  reached the agent  its agent had left");
    for fault in Fault::ALL {
        let injected = results.statistics.faults.get(&fault).copied().unwrap_or(0);
        let [again, seen, left] = [0, 1, 2].map(|fate| fates.get(&(fault, fate)).copied().unwrap_or(0));
        print(&format!("{:<26} {injected:>8}  {again:>11}  {seen:>17}  {left:>18}", fault.name()));
    }
    let refused = results.statistics.refused_total();
    print(&format!(
        "The upstream got {} requests and refused {refused} more by its own limits; malformed {}, not understood {}.",
        results.statistics.requests, results.statistics.malformed, results.statistics.script_errors,
    ));
}

fn show_waits(records: &[Record]) {
    let heads = || records.iter().filter_map(|record| record.head);
    print(&format!(
        "\nKept back by the proxy    {}",
        percentiles(heads().filter_map(|head| head.kept_back).collect())
    ));
    print(&format!("To the head of the answer {}", percentiles(heads().map(|head| head.after).collect())));
    let mut histogram: BTreeMap<u64, u64> = BTreeMap::new();
    heads().for_each(|head| *histogram.entry(head.retries.unwrap_or(0)).or_default() += 1);
    let bars: Vec<String> = histogram.iter().map(|(retries, count)| format!("{retries}: {count}")).collect();
    print(&format!("Answers by retries        {}", bars.join("  ")));
    let untold = heads().filter(|head| head.retries.is_none()).count();
    if untold > 0 {
        print(&format!("                          {untold} answers did not tell and count as 0"));
    }
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let [p50, p95, p99, max] = [50, 95, 99, 100].map(|percent| nearest_rank(&times, percent).as_secs_f64());
    format!("p50 {p50:.3} s  p95 {p95:.3} s  p99 {p99:.3} s  max {max:.3} s")
}

fn show_process(results: &Results) {
    let (Some(before), Some(after)) = (results.before, results.after) else {
        return print("\nMemory, descriptors, processor time: not measured");
    };
    print("\nThe process");
    print(&format!("  before the first request  {}", process(&before)));
    for (name, percent) in [("at a quarter", 25), ("at half", 50), ("at the end", 100)] {
        let due = results.options.duration * percent / 100;
        let sample = results.samples.iter().rfind(|sample| sample.at <= due);
        print(&format!("  {name:<24}  {}", sample.map_or_else(|| "-".to_owned(), process)));
    }
    print(&format!("  at rest after the end     {}", process(&after)));
    let most = results.samples.iter().map(|sample| sample.descriptors).max().unwrap_or(0);
    print(&format!("  most descriptors at once  {most}"));
    if let Some(growth) = results.growth() {
        print(&format!("  {growth}"));
    }
}

fn show_rest(rest: &Rest) {
    let (took, last) = (rest.took.as_secs_f64(), rest.last.join(", "));
    let word = if rest.missing.is_empty() { "At rest" } else { "Not at rest" };
    print(&format!("\n{word} {took:.1} s after the agents had gone."));
    if !last.is_empty() {
        print(&format!("Seen last before that: {last}."));
    }
}

fn process(sample: &Sample) -> String {
    let kib = sample.memory / 1024;
    format!("{kib} KiB, {} descriptors, {:.1} s CPU", sample.descriptors, sample.cpu.as_secs_f64())
}

fn show_list(name: &str, lines: &[String]) {
    print(&format!(
        "\n{name}: {}",
        if lines.is_empty() { "none".to_owned() } else { lines.len().to_string() }
    ));
    lines.iter().take(LINES_MAX).for_each(|line| print(&format!("  {line}")));
    if lines.len() > LINES_MAX {
        print(&format!("  and {} more", lines.len() - LINES_MAX));
    }
}

/// A line on standard output. If nobody reads it any more, the exit code still tells.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
