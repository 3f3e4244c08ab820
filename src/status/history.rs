//! `/history`: the last hour, sampled every ten seconds.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{seconds, unix_seconds};
use crate::{
    budget::LaneId,
    context::Context,
    history::{INTERVAL, SPAN, Sample},
    http::write::Answer,
    time::Now,
};

/// What a query asks for: `since=1763763440.0`, the `at` of the last sample that is known already. Anything else asks
/// for nothing.
pub fn since(query: &str) -> Option<f64> {
    let since = query.split('&').find_map(|part| part.strip_prefix("since=")?.parse().ok());
    since.filter(|since: &f64| since.is_finite())
}

/// The page: all samples, or those after `since`, in Unix seconds.
pub fn page(ctx: &Context, since: Option<f64>, now: Now) -> Answer {
    let history = &ctx.history;
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
            "samples": news(history.samples(now).collect(), since).map(|it| sample(it, &index)).collect::<Vec<_>>(),
        }),
    )
}

/// The samples that somebody lacks who knows those up to the one that was taken at `since`. All that came behind that
/// one are news, whatever time they show: the wall clock may have been set back since.
fn news(samples: Vec<&Sample>, since: Option<f64>) -> impl Iterator<Item = &Sample> {
    let at = |sample: &Sample| unix_seconds(sample.at.wall);
    let known =
        since.and_then(|since| samples.iter().rposition(|sample| at(sample).total_cmp(&since).is_eq()));
    let is_news = move |index: usize, sample: &Sample| match (known, since) {
        (Some(known), _) => index > known,
        (None, Some(since)) => at(sample) > since,
        (None, None) => true,
    };
    samples
        .into_iter()
        .enumerate()
        .filter(move |(index, sample)| is_news(*index, sample))
        .map(|(_, sample)| sample)
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
