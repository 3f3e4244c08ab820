//! `/history`: the last hour, sampled every ten seconds.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::seconds;
use crate::{
    budget::LaneId,
    context::Context,
    history::{INTERVAL, SPAN, Sample},
    http::write::Answer,
    time::{Now, Wall},
};

/// What a query asks for: `since=1763763440.0`, the `at` of the last sample that is known already. Anything else asks
/// for nothing.
pub fn since(query: &str) -> Option<f64> {
    query.split('&').find_map(|part| part.strip_prefix("since=")?.parse().ok())
}

/// The page: all samples, or those after `since`, in Unix seconds.
pub fn page(ctx: &Context, since: Option<f64>, now: Now) -> Answer {
    let history = &ctx.history;
    let is_news = |sample: &&Sample| since.is_none_or(|since| unix_seconds(sample.at.wall) > since);
    let lanes: Vec<_> = history.lanes().collect();
    let index: BTreeMap<LaneId, usize> =
        lanes.iter().enumerate().map(|(index, lane)| (lane.0, index)).collect();
    let named = |(_, model, credential): &(LaneId, &str, u64)| json!({"model": model, "credential": super::credential(*credential)});
    super::page(
        200,
        &json!({
            "interval_seconds": INTERVAL.as_secs(),
            "span_seconds": SPAN.as_secs(),
            "now": unix_seconds(now.wall),
            "lanes": lanes.iter().map(named).collect::<Vec<_>>(),
            "samples": history.samples(now).filter(is_news).map(|it| sample(it, &index)).collect::<Vec<_>>(),
        }),
    )
}

fn sample(sample: &Sample, index: &BTreeMap<LaneId, usize>) -> Value {
    let mut failures = Map::new();
    for ((reach, class), count) in &sample.failures {
        let side = failures.entry(reach.name()).or_insert_with(|| json!({}));
        side[*class] = (*count).into();
    }
    let lanes = sample.lanes.iter().map(|lane| {
        json!({
            "lane": index.get(&lane.lane),
            "used_60s": lane.used,
            "effective": lane.effective,
            "limit": lane.limit,
        })
    });
    json!({
        "at": unix_seconds(sample.at.wall),
        "queued": sample.queued,
        "in_flight": sample.in_flight,
        "started": sample.started,
        "wait_seconds": sample.waits.map(|[p50, p95]| json!({"p50": seconds(p50), "p95": seconds(p95)})),
        "upstream_429": sample.upstream_429,
        "upstream_503": sample.upstream_503,
        "failures": failures,
        "lanes": lanes.collect::<Vec<_>>(),
    })
}

/// A moment as seconds since 1970.
#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are below 2^53 for long")]
fn unix_seconds(at: Wall) -> f64 {
    at.as_unix_millis() as f64 / 1_000.0
}
