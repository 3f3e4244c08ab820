//! What the demo prints in the end: the table, the proxy's own pages, one sentence.
//!
//! Plain ASCII, at most 100 columns.

use std::time::Duration;

use serde_json::Value;

use crate::LIMITS;
use crate::screen::{count, generated_budget, grouped, print};
use crate::tally::{SideResult, TokenHistory};

/// Columns of the table: the name, and one for each side.
const COLUMNS: [usize; 3] = [50, 14, 14];

/// Everything known of one side in the end.
pub(crate) struct Side {
    pub(crate) result: SideResult,
    /// 429s that the fake has sent.
    pub(crate) refused: u64,
    pub(crate) history: TokenHistory,
}

/// Both sides, line by line.
pub(crate) fn show_table(straight: &Side, proxied: &Side, duration: Duration) {
    let limit_name = format!("generated tokens, busiest 60 s (limit {})", grouped(LIMITS.generated));
    show_line("", ["straight", "proxy"]);
    print(&"-".repeat(COLUMNS.iter().sum()));
    let line = |name: &str, value: &dyn Fn(&Side) -> String| {
        show_line(name, [&value(straight), &value(proxied)]);
    };
    let number = |name: &str, value: &dyn Fn(&SideResult) -> u64| {
        line(name, &|side| grouped(value(&side.result)));
    };
    let time = |name: &str, value: &dyn Fn(&SideResult) -> Duration| {
        line(name, &|side| format!("{:.1} s", value(&side.result).as_secs_f64()));
    };
    number("steps finished", &|result| result.counts.finished);
    number("steps failed, each needing a human", &|result| result.counts.failed);
    number("429s seen by the agents", &|result| result.counts.seen_429);
    line("429s sent by the fake Fireworks", &|side| grouped(side.refused));
    number("other errors", &|result| result.counts.other_errors);
    number("retries by the agents", &|result| result.counts.retries);
    time("a step took, mean", &|result| result.mean_step);
    time("a step took, 95 of 100 at most", &|result| result.p95_step);
    time("waited in the proxy's queue, all requests", &|result| result.counts.queued);
    time("stopped until a human came, all agents", &|result| result.counts.stopped);
    time("longest standstill of an agent", &|result| result.longest_standstill);
    line("generated tokens per minute, whole run", &|side| {
        grouped(side.history.total() * 60 / duration.as_secs().max(1))
    });
    line(&limit_name, &|side| grouped(side.history.busiest_minute()));
}

fn show_line(name: &str, values: [&str; 2]) {
    let [name_width, straight_width, proxied_width] = COLUMNS;
    let [straight, proxied] = values;
    print(&format!("{name:<name_width$}{straight:>straight_width$}{proxied:>proxied_width$}"));
}

/// What the proxy says of itself.
pub(crate) fn show_pages(health: &Value, usage: &Value) {
    let (requests, waits) = (&usage["requests"], &usage["wait_seconds"]);
    print(&format!(
        "\nWhat the proxy's pages said at the end:\n\
         /health  status {}, queue {}, oldest wait {} s, in flight {}\n\
         /usage   requests {}, finished {}, refused {}, failed {}, 429s of the upstream {}\n         \
         waited p50 {} s, p95 {} s, p99 {} s",
        health["status"].as_str().unwrap_or("unknown"),
        health["queue_depth"],
        health["oldest_wait_seconds"],
        health["in_flight"],
        requests["total"],
        requests["finished"],
        requests["refused"],
        requests["failed"],
        requests["upstream_429"],
        waits["p50"],
        waits["p95"],
        waits["p99"],
    ));
    if let Some(budget) = generated_budget(usage) {
        let amount = |name: &str| grouped(count(&budget[name]));
        let (used, reserved, allowed) = (amount("used_60s"), amount("reserved"), amount("effective"));
        print(&format!(
            "         generated tokens: {used} used in 60 s + {reserved} reserved, of {allowed} allowed"
        ));
    }
}

/// The whole in one sentence.
pub(crate) fn show_conclusion(straight: &Side, proxied: &Side) {
    let (straight, proxied) = (&straight.result, &proxied.result);
    let helped = |result: &SideResult| match result.counts.failed {
        0 => "without any help".to_owned(),
        1 => "with a human's help once".to_owned(),
        count => format!("with a human's help {} times", grouped(count)),
    };
    print(&format!(
        "\nStraight, eight agents met {} and finished {} {};\n\
         through the proxy they met {} and finished {} {},\n\
         and none of them stood still for more than {:.0} s (straight: {:.0} s).",
        number_of(straight.counts.seen_429, "429"),
        number_of(straight.counts.finished, "step"),
        helped(straight),
        number_of(proxied.counts.seen_429, "429"),
        number_of(proxied.counts.finished, "step"),
        helped(proxied),
        proxied.longest_standstill.as_secs_f64().ceil(),
        straight.longest_standstill.as_secs_f64().ceil(),
    ));
}

fn number_of(count: u64, noun: &str) -> String {
    match count {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{} {noun}s", grouped(count)),
    }
}
