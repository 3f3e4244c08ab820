//! Lines for the log. They hold names, counts and times; never a credential, a query or a body.

use std::{fmt::Write as _, time::Duration};

use log::Level;

use crate::{
    budget::Tokens,
    context::Context,
    failure::Reach,
    time::{Mono, Now},
};

/// The longest name that a line shows: enough for every real model and session id.
const NAME_CHARS_MAX: usize = 80;

/// One finished request.
#[derive(Debug, Clone, Copy)]
pub struct AccessRecord<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The model.
    pub model: Option<&'a str>,
    /// The session of the agent.
    pub agent_session: Option<&'a str>,
    /// The time in the queue and in pauses between tries.
    pub waited: Duration,
    /// The time from the head's arrival to the end.
    pub took: Duration,
    /// The status that the client got, if it got one.
    pub status: Option<u16>,
    /// What was settled.
    pub tokens: Option<Tokens>,
    /// How often it was tried again.
    pub retries: u32,
    /// How it ended, if not well, and how far it had come.
    pub outcome: Option<(&'static str, Reach)>,
}

/// One request that is tried again.
#[derive(Debug, Clone, Copy)]
pub struct RetryRecord<'a> {
    /// The request.
    pub request: AccessRecord<'a>,
    /// The status or the class of the failure that it met.
    pub after: &'a str,
    /// When it is tried again, from now.
    pub pause: Duration,
    /// How often a request is tried again at most.
    pub retries_max: u32,
}

/// The line for one request that is tried again.
pub fn retry_line(record: &RetryRecord<'_>) -> String {
    let RetryRecord { request, after, pause, retries_max } = record;
    format!(
        "retry | {} {} after={after} retry={}/{retries_max} in={:.3}s model={} session={} took={:.3}s",
        shown(request.method),
        shown(request.path),
        request.retries,
        pause.as_secs_f64(),
        request.model.map_or_else(|| "-".to_owned(), shown),
        request.agent_session.map_or_else(|| "-".to_owned(), shown),
        request.took.as_secs_f64(),
    )
}

/// The line for one finished request.
pub fn access_line(record: &AccessRecord<'_>) -> String {
    let status = record.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let mut line = format!("request | {} {} status={status}", shown(record.method), shown(record.path));
    let mut add = |name: &str, value: &dyn std::fmt::Display| {
        write!(line, " {name}={value}").expect("a String takes every write");
    };
    if let Some((outcome, reach)) = record.outcome {
        add("outcome", &outcome);
        add("upstream", &reach.name());
    }
    add("model", &record.model.map_or_else(|| "-".to_owned(), shown));
    add("session", &record.agent_session.map_or_else(|| "-".to_owned(), shown));
    add("waited", &format_args!("{:.3}s", record.waited.as_secs_f64()));
    if record.retries > 0 {
        add("retries", &record.retries);
    }
    if let Some(tokens) = record.tokens {
        add("prompt", &tokens.prompt);
        add("cached", &tokens.prompt.saturating_sub(tokens.uncached_prompt));
        add("generated", &tokens.generated);
    }
    add("took", &format_args!("{:.3}s", record.took.as_secs_f64()));
    line
}

/// Logs the line of statistics, and sees to the next one while anything is under way.
pub fn stats_line(ctx: &mut Context, now: Now) {
    ctx.roll_day(now);
    let line = stats_text(ctx, now.mono);
    ctx.log(Level::Info, line);
    if ctx.stats.in_flight > 0 || ctx.admission.waiting() > 0 || ctx.stats.paused > 0 {
        ctx.set_stats_line(now.mono);
    }
}

fn stats_text(ctx: &mut Context, now: Mono) -> String {
    let last_minute = ctx.stats.last_minute(now);
    let waiting = ctx.admission.waiting();
    let oldest = ctx.admission.oldest_wait(now).unwrap_or_default().as_secs_f64();
    let (paused, in_flight) = (ctx.stats.paused, ctx.stats.in_flight);
    let budgets = ctx.admission.budgets_mut();
    let bucket = format!("{}/{}", budgets.bucket().available(now), budgets.bucket().capacity());
    let lanes = budgets.lanes_mut().filter_map(|(_, lane)| {
        let balances = lane.balances(now);
        let is_busy = lane.in_flight > 0 || balances.iter().any(|balance| balance.used > 0);
        let amounts = balances.map(|balance| {
            let taken = balance.used + balance.reserved;
            format!("{}={taken}/{}", balance.dimension.name(), balance.effective)
        });
        is_busy.then(|| format!("{}: {}", shown(&lane.model), amounts.join(" ")))
    });
    let lanes = lanes.collect::<Vec<_>>().join("; ");
    let ledger = &ctx.ledger;
    let (limit, remaining) = match (ledger.limit(), ledger.remaining()) {
        (Some(limit), Some(remaining)) => (limit.to_string(), remaining.to_string()),
        _ => ("unlimited".to_owned(), "unlimited".to_owned()),
    };
    format!(
        "stats | bucket={{{bucket}}} | last_60s={last_minute} req | token_budgets={{{lanes}}} | \
         queue={{waiting={waiting} oldest={oldest:.1}s paused={paused} in_flight={in_flight}}} | \
         daily_tokens={}/{limit} remaining={remaining}",
        ledger.used()
    )
}

/// A name from outside as a line shows it: no control characters, no spaces to fake a field with, and
/// not for ever.
fn shown(name: &str) -> String {
    let plain = |character: char| if character.is_ascii_graphic() { character } else { '?' };
    let mut text: String = name.chars().take(NAME_CHARS_MAX).map(plain).collect();
    if name.chars().nth(NAME_CHARS_MAX).is_some() {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_whole_story_and_names_cannot_forge_one() {
        let record = AccessRecord {
            method: "POST",
            path: "/v1/messages",
            model: Some("kimi\n2026-01-01 00:00:00,000 INFO forged"),
            agent_session: None,
            waited: Duration::from_millis(1_500),
            took: Duration::from_secs(3),
            status: Some(200),
            tokens: Some(Tokens { prompt: 1_200, uncached_prompt: 176, generated: 42 }),
            retries: 0,
            outcome: None,
        };
        assert_eq!(
            access_line(&record),
            "request | POST /v1/messages status=200 model=kimi?2026-01-01?00:00:00,000?INFO?forged session=- \
             waited=1.500s prompt=1200 cached=1024 generated=42 took=3.000s"
        );
        let outcome = Some(("client_gone", Reach::MayHaveReached));
        let gone = AccessRecord { status: None, tokens: None, retries: 2, outcome, ..record };
        let line = access_line(&gone);
        let begin =
            "request | POST /v1/messages status=- outcome=client_gone upstream=may_have_reached model=";
        assert!(line.starts_with(begin) && line.ends_with(" waited=1.500s retries=2 took=3.000s"), "{line}");
        assert_eq!(shown(&"x".repeat(200)).len(), NAME_CHARS_MAX + 3);
    }
}
