//! The introduction and the live line: rewritten on a terminal, one line every few seconds elsewhere.
//!
//! Plain ASCII, at most 100 columns; the live line fits into 80.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::Value;

use crate::support::proxy::ProxyUnderTest;
use crate::tally::{Counts, MINUTE, Tally, TokenHistory};
use crate::{AGENTS, LIMITS, work};

/// On a terminal a line stays this often; in between it is rewritten.
const ROW_STAYS_EVERY: Duration = Duration::from_secs(15);

/// Without a terminal nothing is rewritten.
const PLAIN_ROW_EVERY: Duration = Duration::from_secs(5);

/// The columns of [`Row::line`].
const HEADING: &str = "     |      straight, no proxy       |              through the proxy\n\
                       time | done fail 429s  stop gen/60s | done fail 429s gen/60s queue oldest budget";

/// What will happen, before it does.
pub(crate) fn show_introduction(straight: &str, proxied: &str, duration: Duration, human: Duration) {
    let demand = work::unhindered_tokens_per_minute(AGENTS) / 1_000.0;
    print(&format!(
        "Eight coding agents share one Fireworks account that allows {} generated tokens a minute.\n\
         Left alone, they would generate about {demand:.0},000. The same agents with the same work run twice at\n\
         the same time for {} s, each time against a fake Fireworks of their own:\n\n  \
         straight  {straight}\n  \
         proxy     {proxied}\n\n\
         After a 429 an agent tries twice more, as SDKs do; then its step has failed, and it stops until a\n\
         human says \"continue\", some {} s later (--human N).\n\n\
         done    steps finished                       stop    agents that wait for a human now\n\
         fail    steps given up after all retries     queue   requests in the proxy's queue (/health)\n\
         429s    429s that the agents got             oldest  the longest of them has waited (/health)\n\
         gen/60s generated tokens of the last 60 s    budget  generated tokens used + reserved (/usage)\n",
        grouped(LIMITS.generated),
        duration.as_secs(),
        human.as_secs(),
    ));
}

/// One look at both sides while they run.
pub(crate) struct Row {
    at: Duration,
    straight: Counts,
    proxied: Counts,
    last_minute: [u64; 2],
    health: Value,
    usage: Value,
}

impl Row {
    pub(crate) fn look(
        at: Duration,
        tallies: [&Tally; 2],
        histories: &[TokenHistory; 2],
        proxy: &ProxyUnderTest,
    ) -> Self {
        let [straight, proxied] = tallies.map(Tally::counts);
        let last_minute = [histories[0].in_last(MINUTE), histories[1].in_last(MINUTE)];
        Self { at, straight, proxied, last_minute, health: proxy.health(), usage: proxy.usage() }
    }

    fn line(&self) -> String {
        let Self { straight, proxied, health, .. } = self;
        let [straight_tokens, proxied_tokens] = self.last_minute.map(grouped);
        let counts =
            |counts: &Counts| format!("{:>4} {:>4} {:>4}", counts.finished, counts.failed, counts.seen_429);
        format!(
            "{:>3}s | {} {:>5} {straight_tokens:>7} | {} {proxied_tokens:>7} {:>5} {:>5.1}s {:>6}",
            self.at.as_secs(),
            counts(straight),
            straight.stopped_now,
            counts(proxied),
            count(&health["queue_depth"]),
            health["oldest_wait_seconds"].as_f64().unwrap_or_default(),
            self.budget(),
        )
    }

    /// How much of the budget is used and how much is reserved, in percent.
    fn budget(&self) -> String {
        let Some(budget) = generated_budget(&self.usage) else { return "-".to_owned() };
        let percent = |name: &str| 100 * count(&budget[name]) / count(&budget["effective"]).max(1);
        format!("{}+{}%", percent("used_60s"), percent("reserved"))
    }
}

/// The part of the screen that lives.
pub(crate) struct LiveLine {
    is_terminal: bool,
    next_row: Duration,
}

impl LiveLine {
    pub(crate) fn begin() -> Self {
        print(HEADING);
        Self { is_terminal: io::stdout().is_terminal(), next_row: Duration::ZERO }
    }

    pub(crate) fn show(&mut self, row: &Row) {
        let is_due = row.at >= self.next_row;
        match (self.is_terminal, is_due) {
            (true, true) => print(&format!("\r{}", row.line())),
            (true, false) => print_here(&format!("\r{}", row.line())),
            (false, true) => print(&row.line()),
            (false, false) => {}
        }
        if is_due {
            self.next_row += if self.is_terminal { ROW_STAYS_EVERY } else { PLAIN_ROW_EVERY };
        }
    }

    /// Leaves the last line where it is.
    pub(crate) fn end(self) {
        if self.is_terminal {
            print("");
        }
    }
}

/// The budget of generated tokens of the only lane there is.
pub(crate) fn generated_budget(usage: &Value) -> Option<&Value> {
    usage["lanes"].get(0)?["budgets"].get("generated")
}

pub(crate) fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// `12345` as `12,345`.
pub(crate) fn grouped(number: u64) -> String {
    if number < 1_000 {
        number.to_string()
    } else {
        format!("{},{:03}", grouped(number / 1_000), number % 1_000)
    }
}

pub(crate) fn print(text: &str) {
    print_here(&format!("{text}\n"));
}

/// Prints without ending the line. Whoever has closed our output misses nothing of the rest.
fn print_here(text: &str) {
    let mut output = io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}
