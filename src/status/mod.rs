//! How the proxy shows itself: its pages and its lines in the log.
//!
//! Field names of the pages are documented in the README and stay as they are.

pub mod health;
mod log_line;
pub mod usage;

use std::time::Duration;

use serde_json::{Value, json};

use crate::{calendar, context::Context, http::write::Answer, time::Wall};

pub use log_line::{AccessRecord, RetryRecord, access_line, retry_line, stats_line};

/// `GET /` and `HEAD /`: a sign of life for clients that probe.
pub fn root() -> Answer {
    page(
        200,
        &json!({
            "service": "fireworks-proxy",
            "version": env!("CARGO_PKG_VERSION"),
            "pages": ["/health", "/usage"],
        }),
    )
}

/// A page: JSON that no cache keeps.
fn page(status: u16, body: &Value) -> Answer {
    Answer::json(status, body).with("Cache-Control", "no-store")
}

/// A moment in the configured time zone.
fn moment(ctx: &Context, at: Wall) -> String {
    calendar::rfc3339(ctx.config.timezone, at)
}

/// A span in seconds, to the millisecond.
fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1_000.0).round() / 1_000.0
}
