//! The rules, and who broke them.
//!
//! - No agent sees a 429 or 5xx that a further try within the hold could have spared it.
//! - No agent gets an answer that ends as if it were whole and is not, and none is left without any answer.
//! - A request that the upstream cut in mid-stream is seen to be cut, and no other is.
//! - A request is tried again only after it failed, and the answer tells how often.
//! - `/usage` adds up, and agrees with the agents.
//! - Descriptors and memory do not grow, and nothing stays behind when the agents have gone.

use std::time::Duration;

use crate::books::{Attempt, HeadSeen, Outcome, Record, Stage, Tally};
use crate::run::Results;
use crate::support::fake::Fault;

/// How often the proxy tries again: `FIREWORKS_PROXY_MAX_RETRIES`.
pub(crate) const MAX_RETRIES: u64 = 5;

/// How long it holds a request that it tries again: `FIREWORKS_PROXY_MAX_HOLD`.
pub(crate) const MAX_HOLD: Duration = Duration::from_secs(240);

/// How long a request waits in the queue: `FIREWORKS_PROXY_MAX_WAIT`.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(120);

/// The pause before the first retry. Each further one is twice as long, and up to as much longer as this.
const BACKOFF: Duration = Duration::from_secs(1);

/// The most that an answer of the fake asks for in `retry-after`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3);

/// What the clocks of two processes on a loaded machine may differ by.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// What is tried again.
fn is_retryable(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 520..=529)
}

/// What there is to say in the end.
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    /// Every error that an agent saw and that no rule forbids.
    pub(crate) excused: Vec<String>,
    pub(crate) agreement: Vec<Agreement>,
    pub(crate) tally: Tally,
}

/// One count of `/usage`, and what it may be by the agents' account.
pub(crate) struct Agreement {
    pub(crate) name: &'static str,
    /// What the agents know of for certain.
    pub(crate) least: u64,
    /// With the requests that they left, which may have ended in several ways.
    pub(crate) most: u64,
    /// What the page says; None when there was no page.
    pub(crate) said: Option<u64>,
}

impl Agreement {
    pub(crate) fn holds(&self) -> bool {
        self.said.is_some_and(|said| (self.least..=self.most).contains(&said))
    }
}

/// Holds the results against the rules.
pub(crate) fn judge(results: &Results) -> Verdict {
    let tally = Tally::of(&results.records);
    let mut verdict =
        Verdict { violations: Vec::new(), excused: Vec::new(), agreement: agreement(results, &tally), tally };
    for record in &results.records {
        judge_record(record, results.attempts.get(&record.id).map_or(&[], Vec::as_slice), &mut verdict);
    }
    if verdict.tally.whole == 0 {
        verdict.violations.push("no request was answered".to_owned());
    }
    judge_usage(results, &mut verdict);
    judge_process(results, &mut verdict);
    verdict
}

fn judge_record(record: &Record, attempts: &[Attempt], verdict: &mut Verdict) {
    let retries = record.head.and_then(|head| head.retries).unwrap_or(0);
    let mut wrong = Vec::new();
    let last = attempts.last();
    match &record.outcome {
        Outcome::Whole if !last.is_some_and(|last| last.is_good()) => {
            wrong.push(format!("a whole answer, but the upstream sent none: {}", told(attempts)));
        }
        Outcome::Cut if last.and_then(|last| last.fault) != Some(Fault::CutMidStream) => {
            wrong.push(format!("its answer was cut, but not by the upstream: {}", told(attempts)));
        }
        Outcome::Status { status, own_code } => {
            let who = own_code
                .as_ref()
                .map_or_else(|| "the upstream".to_owned(), |code| format!("the proxy, {code}"));
            let held = record.head.map_or(Duration::ZERO, |head| head.after).as_secs_f64();
            let seen = format!("{status} of {who}, {retries} retries, held {held:.1} s: {}", told(attempts));
            if is_excused(*status, own_code.as_deref(), record.head, last) {
                verdict.excused.push(format!("request {} of agent {}: {seen}", record.id, record.agent));
            } else {
                wrong.push(format!("saw {seen}"));
            }
        }
        Outcome::Corrupt(how) => wrong.push(format!("a corrupt answer: {how}")),
        Outcome::NoAnswer(how) => wrong.push(format!("no answer: {how}; {}", told(attempts))),
        Outcome::Hung(stage) => wrong.push(format!("nothing came any more ({stage:?}): {}", told(attempts))),
        Outcome::NotConnected(why) => wrong.push(format!("no connection: {why}")),
        Outcome::Whole | Outcome::Cut | Outcome::Left(_) | Outcome::Interrupted(_) => {}
    }
    let tried_again = (attempts.len() as u64).saturating_sub(1);
    if record.head.is_some() && retries < tried_again {
        wrong.push(format!("the answer tells of {retries} retries: {}", told(attempts)));
    }
    if let Some(needless) = attempts.iter().rev().skip(1).find(|attempt| attempt.is_good()) {
        wrong.push(format!("tried again after a good answer ({needless:?}): {}", told(attempts)));
    }
    if matches!(record.outcome, Outcome::Left(Stage::Upload)) && !attempts.is_empty() {
        wrong.push("sent on although it never arrived whole".to_owned());
    }
    let named =
        wrong.into_iter().map(|wrong| format!("request {} of agent {}: {wrong}", record.id, record.agent));
    verdict.violations.extend(named);
}

/// Whether no further try within the hold could have spared an agent this error.
fn is_excused(status: u16, own_code: Option<&str>, head: Option<HeadSeen>, last: Option<&Attempt>) -> bool {
    let Some(head) = head.filter(|_| is_retryable(status)) else { return false };
    // A request that is tried again waits in the queue again, within the same bound.
    let is_wait_over = head.kept_back.unwrap_or(head.after) + CLOCK_SLACK >= MAX_WAIT;
    if own_code == Some("queue_timeout") {
        return is_wait_over;
    }
    let retries = head.retries.unwrap_or(0);
    let backoff = BACKOFF * 2_u32.saturating_pow(u32::try_from(retries).unwrap_or(u32::MAX)) + BACKOFF;
    let is_hold_over = head.after + backoff.max(RETRY_AFTER_MAX) + CLOCK_SLACK >= MAX_HOLD;
    // Whoever makes an error up has nothing to excuse it with.
    let has_failed = last.is_none_or(|last| !last.is_good());
    has_failed && (retries >= MAX_RETRIES || is_hold_over || is_wait_over)
}

/// What the upstream did to a request, try by try.
fn told(attempts: &[Attempt]) -> String {
    let told = attempts.iter().map(|attempt| match attempt.fault {
        Some(fault) => fault.name().to_owned(),
        None => format!("answered {}", attempt.status),
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() {
        "never reached the upstream".to_owned()
    } else {
        format!("upstream: {}", told.join(", "))
    }
}

/// The counts of `/usage` against the agents'.
fn agreement(results: &Results, tally: &Tally) -> Vec<Agreement> {
    let requests = results.usage.as_ref().map(|page| &page["requests"]);
    let said = |name: &str| requests.and_then(|requests| requests[name].as_u64());
    let unsure = tally.left + tally.broken;
    let finished = tally.whole + tally.upstream_errors;
    let failed = tally.cut + tally.own_failures;
    let row = |name, least, more| Agreement { name, least, most: least + more, said: said(name) };
    let mut rows = vec![
        // Of those that were left before they were sent whole, the proxy counts each whose head it has read.
        row("total", finished + failed + tally.own_refusals, unsure + tally.unsent),
        row("finished", finished, unsure),
        row("refused", tally.own_refusals, unsure),
        row("client_gone", 0, tally.left + tally.unsent),
        row("failed", failed, unsure),
    ];
    if said("retries").is_some() {
        // Of those that were left nobody was told how often they were tried.
        rows.push(row("retries", tally.retries, (MAX_RETRIES) * unsure));
    }
    rows
}

fn judge_usage(results: &Results, verdict: &mut Verdict) {
    let Some(page) = &results.usage else {
        verdict
            .violations
            .push(format!("the proxy does not answer; its last words: {:#?}", last_words(results)));
        return;
    };
    let count = |name: &str| page["requests"][name].as_u64().unwrap_or(0);
    let ends = ["finished", "refused", "client_gone", "failed"].map(count);
    if ends.iter().sum::<u64>() != count("total") {
        verdict.violations.push(format!("/usage does not add up: total {} is not {ends:?}", count("total")));
    }
    // Each one that the upstream got is the first try of a request, or a further one.
    let (tries, accounted) = (results.statistics.requests, count("total") + count("retries"));
    if tries > accounted {
        verdict.violations.push(format!("the upstream got {tries} requests, /usage knows of {accounted}"));
    }
    for row in verdict.agreement.iter().filter(|row| !row.holds()) {
        let (least, most) = (row.least, row.most);
        let said = row.said.map_or_else(|| "nothing".to_owned(), |said| said.to_string());
        verdict.violations.push(format!("/usage says {} {said}, the agents {least} to {most}", row.name));
    }
    verdict.violations.extend(results.rest.missing.iter().map(|what| format!("long after the end: {what}")));
}

fn judge_process(results: &Results, verdict: &mut Verdict) {
    verdict.violations.extend(results.ended.as_ref().err().cloned());
    let bad_lines = results.log.iter().filter(|line| line.contains(" ERROR ") || line.contains("panicked"));
    verdict.violations.extend(bad_lines.map(|line| format!("in the log: {line}")));
    if let Some(growth) = results.growth().filter(|growth| growth.is_too_much()) {
        verdict.violations.push(format!("memory grew: {growth}"));
    }
}

fn last_words(results: &Results) -> &[String] {
    &results.log[results.log.len().saturating_sub(10)..]
}
