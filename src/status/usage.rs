//! `/usage`: the day, the budgets of every lane, and how long requests wait.

use std::time::Duration;

use serde_json::{Value, json};

use super::{live::Live, moment, seconds};
use crate::{
    budget::{Balance, Lane, LaneId, Refusal, WaitsFor, demand::Estimator},
    context::Context,
    failure::{CLIENT_GONE, FailureClass, Reach, STOPPED},
    http::write::Answer,
    ledger::{Ledger, Names},
    stats::Stats,
    time::{Mono, Now},
};

/// What can go wrong beside the exchange with the upstream, and how far a request has come by then.
const OWN_CLASSES: [(Reach, &str); 14] = [
    (Reach::NeverReached, "bad_request"),
    (Reach::NeverReached, "misdirected"),
    (Reach::NeverReached, "cross_site"),
    (Reach::NeverReached, "client_token"),
    (Reach::NeverReached, "client_timeout"),
    (Reach::NeverReached, "queue_timeout"),
    (Reach::NeverReached, "daily_limit"),
    (Reach::NeverReached, "draining"),
    (Reach::NeverReached, CLIENT_GONE),
    (Reach::MayHaveReached, CLIENT_GONE),
    (Reach::Acknowledged, CLIENT_GONE),
    (Reach::NeverReached, STOPPED),
    (Reach::MayHaveReached, STOPPED),
    (Reach::Acknowledged, STOPPED),
];

/// The most models, and the most sessions, that the day is divided by.
const NAMES_SHOWN_MAX: usize = 32;

/// The page.
pub fn page(ctx: &mut Context, live: &Live<'_>, now: Now) -> Answer {
    ctx.roll_day(now);
    let [p50, p95, p99] = ctx.stats.wait_percentiles().map(seconds);
    super::page(
        200,
        &json!({
            "version": env!("CARGO_PKG_VERSION"),
            "started_at": moment(ctx, ctx.started_at()),
            "day": day(ctx),
            "requests": requests(ctx, now.mono),
            "failures": failures(&ctx.stats),
            "wait_seconds": {"p50": p50, "p95": p95, "p99": p99},
            "memory": memory(ctx),
            "bucket": bucket(ctx, now.mono),
            "lanes": lanes(ctx, now.mono),
            "waiting": live.waiting(now.mono),
            "running": live.running(now.mono),
        }),
    )
}

fn day(ctx: &Context) -> Value {
    let ledger = &ctx.ledger;
    let spenders = ledger.spenders();
    json!({
        "state": ledger.state().name(),
        "date": ledger.date(),
        "time_zone": ledger.time_zone(),
        "used": ledger.used(),
        "prompt_tokens": ledger.prompt_tokens(),
        "generated_tokens": ledger.generated_tokens(),
        "limit": ledger.limit(),
        "remaining": ledger.remaining(),
        "warn_at": ledger.warn_at(),
        "warned": ledger.has_warned(),
        "resets_at": moment(ctx, ledger.resets_at()),
        "by_model": by_name(&spenders.models, ledger),
        "by_session": by_name(&spenders.sessions, ledger),
    })
}

/// The names that have spent most, and at the end, without a name, what is left of the day's tokens.
fn by_name(names: &Names, ledger: &Ledger) -> Vec<Value> {
    let mut left = (ledger.prompt_tokens(), ledger.generated_tokens());
    let mut row = |name: Option<String>, prompt: u64, generated: u64| {
        left = (left.0.saturating_sub(prompt), left.1.saturating_sub(generated));
        json!({"name": name, "prompt_tokens": prompt, "generated_tokens": generated})
    };
    let largest = names.largest_first().into_iter().take(NAMES_SHOWN_MAX);
    let mut rows: Vec<Value> =
        largest.map(|named| row(Some(named.name), named.prompt_tokens, named.generated_tokens)).collect();
    if left != (0, 0) {
        rows.push(json!({"name": null, "prompt_tokens": left.0, "generated_tokens": left.1}));
    }
    rows
}

fn requests(ctx: &mut Context, now: Mono) -> Value {
    let last_minute = ctx.stats.last_minute(now);
    let stats = &ctx.stats;
    json!({
        "last_60s": last_minute,
        "total": stats.requests,
        "finished": stats.finished,
        "refused": stats.refused,
        "client_gone": stats.client_gone,
        "failed": stats.failed,
        "retries": stats.retries,
        "upstream_429": stats.upstream_429,
        "upstream_503": stats.upstream_503,
        "queued": ctx.admission.waiting(),
        "paused": stats.paused,
        "in_flight": stats.in_flight,
    })
}

/// Every class under the side that it was on, those that never happened too.
fn failures(stats: &Stats) -> Value {
    let mut sides = json!({});
    for (reach, class) in failure_classes() {
        sides[reach.name()][class] = stats.failures(reach, class).into();
    }
    sides
}

/// Everything that can go wrong: how far a request has come by then, and the class.
pub(super) fn failure_classes() -> impl Iterator<Item = (Reach, &'static str)> {
    let upstream = FailureClass::ALL.into_iter().map(|class| (class.reach(), class.name()));
    upstream.chain(OWN_CLASSES)
}

fn memory(ctx: &Context) -> Value {
    json!({
        "held_bytes": ctx.memory.held_bytes(),
        "limit_bytes": ctx.config.buffered_bytes_max,
        "is_tight": ctx.memory.is_tight(),
    })
}

fn bucket(ctx: &mut Context, now: Mono) -> Value {
    let requests_per_second = ctx.config.requests_per_second;
    let bucket = ctx.admission.budgets_mut().bucket();
    json!({
        "requests_per_second": requests_per_second,
        "capacity": bucket.capacity(),
        "available": bucket.available(now),
    })
}

fn lanes(ctx: &mut Context, now: Mono) -> Vec<Value> {
    let ids: Vec<LaneId> = ctx.admission.budgets_mut().lanes_mut().map(|(id, _)| id).collect();
    let waits: Vec<(usize, Option<Refusal>)> = ids
        .iter()
        .map(|id| {
            let queued = ctx.admission.waiting_in(Some(*id));
            (queued, ctx.admission.refusal_of(Some(*id)).filter(|_| queued > 0))
        })
        .collect();
    let lanes = ctx.admission.budgets_mut().lanes_mut();
    lanes.zip(waits).map(|((_, it), (queued, refusal))| lane(it, queued, refusal, now)).collect()
}

fn lane(lane: &mut Lane, queued: usize, refusal: Option<Refusal>, now: Mono) -> Value {
    let next_start = refusal.and_then(|refusal| refusal.until).map(|until| until.since(now));
    let budgets = lane.balances(now).map(|balance| (balance.dimension.name().to_owned(), budget(&balance)));
    json!({
        "model": lane.model,
        "credential": super::credential(lane.credential),
        "in_flight": lane.in_flight,
        "queued": queued,
        "starts_60s": lane.starts(now),
        "binds": lane.binding(now).name(),
        "waits_for": refusal.map(|refusal| refusal.waits_for.name()),
        "next_start_in_seconds": next_start.map(seconds),
        "waiting": refusal.map(|refusal| waiting(refusal.waits_for, next_start)),
        "learned": learned(&lane.estimator),
        "budgets": serde_json::Map::from_iter(budgets),
    })
}

/// What a lane waits for, for people.
fn waiting(waits_for: WaitsFor, next_start: Option<Duration>) -> String {
    let what = waits_for.in_words();
    match next_start {
        Some(after) => format!("waiting for {what}; next start in {:.1} s", after.as_secs_f64()),
        None => format!("waiting for {what}; next start when an answer ends"),
    }
}

/// What was learned of what requests cost, and how far off it has been lately.
fn learned(estimator: &Estimator) -> Value {
    let Estimator { prompt_size, cache, output, speed, .. } = estimator;
    let [ascii, narrow, wide, attachment] = prompt_size.tokens_each();
    json!({
        "chars_per_token": {
            "ascii": to_millis(1.0 / ascii),
            "narrow": to_millis(1.0 / narrow),
            "wide": to_millis(1.0 / wide),
        },
        "attachment_tokens": attachment.round(),
        "prompt_error": to_millis(prompt_size.relative_error()),
        "cache_error": to_millis(cache.relative_error()),
        "generated_mean": output.mean().map(f64::round),
        "first_token_seconds": speed.first_token_seconds().map(to_millis),
        "tokens_per_second": speed.tokens_per_second().map(to_millis),
    })
}

/// A number to three decimals.
fn to_millis(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

fn budget(balance: &Balance) -> Value {
    json!({
        "configured": balance.configured,
        "learned": balance.learned,
        "limit": balance.limit,
        "effective": balance.effective,
        "used_60s": balance.used,
        "reserved": balance.reserved,
        "margin": to_millis(balance.margin),
        "others_60s": balance.others,
        "burst_seconds": seconds(balance.burst),
    })
}
