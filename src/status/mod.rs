//! How the proxy shows itself: its pages and its lines in the log.
//!
//! Field names of the pages are documented in PAGES.md and stay as they are.

pub mod dashboard;
mod exposition;
pub mod health;
pub mod history;
pub mod live;
mod log_line;
pub mod metrics;
pub mod settings;
mod stats_line;
pub mod usage;

use serde_json::{Value, json};

use crate::{calendar, context::Context, http::write::Answer, journal::seconds, route::Page, time::Wall};

pub use log_line::{AccessRecord, End, RetryRecord, access_line, failure_line, retry_line};
pub use stats_line::stats_line;

/// `GET /` and `HEAD /`: a sign of life for clients that probe.
pub fn root() -> Answer {
    page(
        200,
        &json!({
            "service": "fireworks-proxy",
            "version": env!("CARGO_PKG_VERSION"),
            "pages": Page::ALL.iter().skip(1).map(|page| page.path()).collect::<Vec<_>>(),
        }),
    )
}

/// A page that loads nothing, runs nothing and stands in no frame.
const NOTHING_BUT_TEXT: &str = "default-src 'none'; frame-ancestors 'none'";

/// A page of JSON.
fn page(status: u16, body: &Value) -> Answer {
    protected(Answer::json(status, body), NOTHING_BUT_TEXT)
}

/// What every page of ours tells browsers: that no cache keeps it, that it is what its type says, what it
/// may do, and that other sites neither embed it nor learn its address.
fn protected(page: Answer, content_security_policy: &str) -> Answer {
    page.with("Cache-Control", "no-store")
        .with("X-Content-Type-Options", "nosniff")
        .with("Content-Security-Policy", content_security_policy)
        .with("Referrer-Policy", "no-referrer")
        .with("Cross-Origin-Resource-Policy", "same-origin")
}

/// A moment in the configured time zone.
fn moment(ctx: &Context, at: Wall) -> String {
    calendar::rfc3339(ctx.config.timezone, at)
}

/// A moment as seconds since 1970, to the millisecond.
#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are below 2^53 for long")]
fn unix_seconds(at: Wall) -> f64 {
    at.as_unix_millis() as f64 / 1_000.0
}

/// Four digits of a keyed hash: tells keys apart, and tells nothing about them.
fn credential(hash: u64) -> String {
    format!("{:04x}", hash & 0xffff)
}
