//! `/health`: whether the proxy works, in one look.

use serde_json::json;

use super::{moment, seconds};
use crate::{
    context::Context,
    http::write::Answer,
    time::{Mono, Now},
};

/// The page.
pub fn page(ctx: &mut Context, now: Now) -> Answer {
    ctx.roll_day(now);
    let stats = &ctx.stats;
    let last_error = stats.last_error.as_ref();
    let (code, health) = if ctx.is_draining() { (503, "draining") } else { (200, "ok") };
    super::page(
        code,
        &json!({
            "status": health,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": seconds(now.mono.since(Mono::ZERO)),
            "day": ctx.ledger.state().name(),
            "queue_depth": ctx.admission.waiting(),
            "oldest_wait_seconds": seconds(ctx.admission.oldest_wait(now.mono).unwrap_or_default()),
            "paused": stats.paused,
            "in_flight": stats.in_flight,
            "upstream": ctx.config.upstream.to_string(),
            "forward_proxy": ctx.config.forward_proxy.as_ref().map(ToString::to_string),
            "last_upstream_success": stats.last_success.map(|at| moment(ctx, at)),
            "last_upstream_error": last_error.map(|(at, text)| json!({"at": moment(ctx, *at), "error": text})),
        }),
    )
}
