//! The values, beside those of `/usage`, of which other tests hold that they are right.

use serde_json::Value;

use super::{Page, SECOND, START_UNIX_MILLIS, World, ask, busy_world, metrics, new_world, serve};

fn number(page: &Value, pointer: &str) -> f64 {
    page.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}: {page:#}"))
}

/// The two pages at one time.
fn both(world: &mut World) -> (Page, Value) {
    (metrics(world), world.page("/usage"))
}

/// A family with some labels, and where the same stands on `/usage`.
type Pair<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

#[track_caller]
fn assert_same(metrics: &Page, usage: &Value, pairs: &[Pair<'_>]) {
    for (name, labels, pointer) in pairs {
        let (here, there) = (metrics.sum(&format!("fireworks_proxy_{name}"), labels), number(usage, pointer));
        assert!((here - there).abs() < 0.001, "{name} {labels:?} is {here}, and {pointer} {there}");
    }
}

#[test]
fn counts_are_those_of_usage() {
    let (metrics, usage) = both(&mut busy_world());
    assert_same(
        &metrics,
        &usage,
        &[
            ("requests_total", &[("outcome", "finished")], "/requests/finished"),
            ("requests_total", &[("outcome", "refused")], "/requests/refused"),
            ("requests_total", &[("outcome", "failed")], "/requests/failed"),
            ("requests_total", &[("class", "429")], "/requests/upstream_429"),
            ("upstream_responses_total", &[("code", "429")], "/requests/upstream_429"),
            ("upstream_responses_total", &[("code", "503")], "/requests/upstream_503"),
            ("retries_total", &[], "/requests/retries"),
            ("requests_in_flight", &[], "/requests/in_flight"),
            ("queue_depth", &[], "/requests/queued"),
            ("requests_paused", &[], "/requests/paused"),
            ("day_used_tokens", &[], "/day/used"),
            ("day_limit_tokens", &[], "/day/limit"),
            ("day_warn_tokens", &[], "/day/warn_at"),
            ("tokens_total", &[], "/day/used"),
            ("tokens_total", &[("kind", "generated")], "/day/generated_tokens"),
            ("bucket_available_requests", &[], "/bucket/available"),
            ("bucket_capacity_requests", &[], "/bucket/capacity"),
            ("memory_limit_bytes", &[], "/memory/limit_bytes"),
        ],
    );
    let held = metrics.sum("fireworks_proxy_memory_held_bytes", &[]) - number(&usage, "/memory/held_bytes");
    assert!((0.0..100.0).contains(&held), "the request for the page itself is held meanwhile: {held}");
    let ended = number(&usage, "/requests/total") - number(&usage, "/requests/in_flight");
    assert_eq!(metrics.sum("fireworks_proxy_requests_total", &[]), ended);
    for histogram in ["request_wait_seconds_count", "request_duration_seconds_count"] {
        assert_eq!(metrics.sum(&format!("fireworks_proxy_{histogram}"), &[]), ended, "{histogram}");
    }
    for (side, classes) in usage["failures"].as_object().expect("sides") {
        for (class, count) in classes.as_object().expect("classes") {
            let labels = [("side", side.as_str()), ("class", class.as_str())];
            assert_eq!(
                Some(metrics.sum("fireworks_proxy_failures_total", &labels)),
                count.as_f64(),
                "{labels:?}"
            );
        }
    }
}

#[test]
fn requests_and_tokens_are_told_by_model() {
    let metrics = metrics(&mut busy_world());
    let requests = |labels: &[(&str, &str)]| metrics.sum("fireworks_proxy_requests_total", labels);
    assert_eq!(requests(&[("model", "kimi"), ("class", "2xx")]), 2.0);
    assert_eq!(requests(&[("model", "kimi"), ("class", "429"), ("outcome", "finished")]), 1.0);
    assert_eq!(requests(&[("model", "kimi"), ("outcome", "failed")]), 1.0);
    assert_eq!(requests(&[("model", "odd \"name\" \\ \u{e9}")]), 1.0);
    assert_eq!(requests(&[("model", "other")]), 1.0, "the upstream did not know it");
    assert_eq!(requests(&[("model", ""), ("class", "bad_request")]), 1.0);
    assert_eq!(requests(&[("model", ""), ("class", "2xx")]), 1.0, "a list of models is of no model");
    for (kind, tokens) in [("prompt_cached", 120.0), ("prompt_uncached", 80.0), ("generated", 40.0)] {
        let labels = [("kind", kind), ("model", "kimi")];
        assert_eq!(metrics.sum("fireworks_proxy_tokens_total", &labels), tokens, "{kind}");
    }
    let took = metrics.sum("fireworks_proxy_request_duration_seconds_sum", &[("model", "kimi")]);
    let first_bytes = metrics.sum("fireworks_proxy_request_first_byte_seconds_count", &[("model", "kimi")]);
    assert_eq!((took, first_bytes), (2.0, 3.0), "two took a second; three were answered");
}

#[test]
fn budgets_are_those_of_usage() {
    let (metrics, usage) = both(&mut busy_world());
    let lanes = usage["lanes"].as_array().expect("a list");
    assert_eq!(lanes.len(), 3);
    for lane in lanes.iter().filter(|lane| lane["model"] != "unheard of") {
        let (model, credential) =
            (lane["model"].as_str().expect("a name"), lane["credential"].as_str().expect("digits"));
        for dimension in ["prompt", "uncached_prompt", "generated"] {
            let labels = [("model", model), ("credential", credential), ("dimension", dimension)];
            let of = |name: &str| metrics.sum(&format!("fireworks_proxy_budget_{name}_tokens"), &labels);
            let budget = &lane["budgets"][dimension];
            assert_eq!(of("used"), number(budget, "/used_60s"), "{labels:?}");
            assert_eq!(of("reserved"), number(budget, "/reserved"), "{labels:?}");
            assert_eq!(of("effective"), number(budget, "/effective"), "{labels:?}");
            let limit = |source| {
                let labels = [labels[0], labels[1], labels[2], ("source", source)];
                metrics.sum("fireworks_proxy_budget_limit_tokens", &labels)
            };
            assert_eq!(limit("configured"), number(budget, "/configured"));
            if !budget["learned"].is_null() {
                assert_eq!(limit("learned"), number(budget, "/learned"));
            }
        }
    }
    let learned = [("model", "kimi"), ("dimension", "generated"), ("source", "learned")];
    assert_eq!(metrics.sum("fireworks_proxy_budget_limit_tokens", &learned), 36_000.0);
}

#[test]
fn who_waits_is_told_with_how_long() {
    let mut world = new_world(&[("RPS", "1")]);
    serve(&mut world, "a", "kimi", "fw_1");
    for name in ["b", "c", "d"] {
        ask(&mut world, name, "kimi", "fw_1");
    }
    world.advance(SECOND / 2);
    let (metrics, usage) = both(&mut world);
    let queued = number(&usage, "/requests/queued");
    assert!(queued >= 1.0 && metrics.sum("fireworks_proxy_queue_depth", &[("model", "kimi")]) == queued);
    let oldest = number(&world.page("/health"), "/oldest_wait_seconds");
    assert_eq!(metrics.sum("fireworks_proxy_queue_oldest_wait_seconds", &[]), oldest);
    assert!(oldest >= 0.5);
}

#[test]
fn the_day_the_process_and_the_run_are_told() {
    let mut world = new_world(&[("DAILY_TOKEN_LIMIT", "130")]);
    let page = metrics(&mut world);
    let value = |page: &Page, name: &str| page.sum(name, &[]);
    assert_eq!(value(&page, "fireworks_proxy_day_warned") + value(&page, "fireworks_proxy_day_spent"), 0.0);
    serve(&mut world, "a", "kimi", "fw_1");
    let warned = metrics(&mut world);
    assert_eq!(value(&warned, "fireworks_proxy_day_warned"), 1.0);
    serve(&mut world, "b", "kimi", "fw_1");
    let spent = metrics(&mut world);
    assert_eq!(
        (value(&spent, "fireworks_proxy_day_spent"), value(&spent, "fireworks_proxy_day_warned")),
        (1.0, 1.0)
    );
    let start = f64::from(u32::try_from(START_UNIX_MILLIS / 1_000).expect("before 2106"));
    for (name, expected) in [
        ("fireworks_proxy_start_time_seconds", start),
        ("fireworks_proxy_upstream_last_success_timestamp_seconds", start + 2.0),
        ("fireworks_proxy_day_resets_timestamp_seconds", start + 22.0 * 3_600.0),
        ("fireworks_proxy_connections", 3.0),
        ("process_resident_memory_bytes", 9_000_000.0),
        ("process_virtual_memory_bytes", 70_000_000.0),
        ("process_cpu_seconds_total", 1.23),
        ("process_open_fds", 17.0),
        ("process_max_fds", 1_024.0),
        ("process_start_time_seconds", start - 0.5),
    ] {
        assert_eq!(value(&spent, name), expected, "{name}");
    }
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(spent.sum("fireworks_proxy_build_info", &version), 1.0);
}
