//! Response headers other than framing: content type, usage, limits, origin.

use std::fmt::Display;

use super::super::demand::{Dialect, Usage};
use super::super::limits::{Dimension, Limits};
use super::super::script::{LimitHeaders, Script};
use super::LimitView;

type Header = (String, String);

/// The limits an account starts with; announced when a script asks for headers and the fake has no limits.
const STARTING: Limits = Limits { prompt: 3_600_000, uncached: 900_000, generated: 36_000, enforce: false };

pub(super) fn content_type(dialect: Dialect, stream: bool) -> Header {
    let value = match (stream, dialect) {
        (false, _) => "application/json",
        (true, Dialect::OpenAi) => "text/event-stream; charset=utf-8",
        (true, Dialect::Anthropic) => "text/event-stream",
    };
    header("content-type", &value)
}

/// The token counts every non-streamed answer carries.
pub(super) fn usage(usage: Usage) -> Vec<Header> {
    vec![
        header("fireworks-prompt-tokens", &usage.prompt),
        header("fireworks-cached-prompt-tokens", &usage.cached),
        header("fireworks-server-time-to-first-token", &"0.211"),
        header("fireworks-server-processing-time", &"0.842"),
    ]
}

/// Request id and server name.
pub(super) fn origin(id: &str) -> Vec<Header> {
    vec![header("x-request-id", &id), header("server", &"istio-envoy")]
}

/// The limit headers as the script wants them, then `x-ratelimit-over-limit`.
pub(super) fn limits(script: &Script, view: &LimitView) -> Vec<Header> {
    let configured = view.limits.unwrap_or(STARTING);
    let announced = match script.limits {
        LimitHeaders::None => None,
        LimitHeaders::AsConfigured => view.limits,
        LimitHeaders::PromptOnly => Some(configured),
        LimitHeaders::PerSecond => Some(per_second(configured)),
        LimitHeaders::Literal(prompt, uncached, generated) => {
            Some(Limits::announced(prompt, uncached, generated))
        }
    };
    let mut headers = announced.map_or_else(Vec::new, |limits| pairs(limits, script, view));
    if script.limits == LimitHeaders::PromptOnly {
        headers.truncate(2);
    }
    headers.push(header("x-ratelimit-over-limit", &"no"));
    headers
}

fn per_second(limits: Limits) -> Limits {
    Limits::announced(limits.prompt / 60, limits.uncached / 60, limits.generated / 60)
}

/// Limit and remaining of each dimension, the prompt's first.
fn pairs(limits: Limits, script: &Script, view: &LimitView) -> Vec<Header> {
    let uncached = if script.uncached_spelling { "uncached-prompt" } else { "cache-adjusted-prompt" };
    let rows = [
        ("prompt", Dimension::Prompt, limits.prompt, view.used.prompt),
        (uncached, Dimension::Uncached, limits.uncached, view.used.uncached),
        ("generated", Dimension::Generated, limits.generated, view.used.generated),
    ];
    let pair = |(name, dimension, limit, used): (&str, Dimension, u64, u64)| {
        let remaining = if view.refused == Some(dimension) { 0 } else { limit.saturating_sub(used) };
        [
            header(&format!("x-ratelimit-limit-tokens-{name}"), &limit),
            header(&format!("x-ratelimit-remaining-tokens-{name}"), &remaining),
        ]
    };
    rows.into_iter().flat_map(pair).collect()
}

fn header(name: &str, value: &dyn Display) -> Header {
    (name.to_owned(), value.to_string())
}
