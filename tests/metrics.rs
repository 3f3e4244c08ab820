//! `/metrics`: its form, read by a parser of this test's own; its values beside those of `/usage`; the bounds of its
//! labels; and all that names its families: `PAGES.md`, the dashboard and the alerts.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
#![allow(clippy::float_cmp, reason = "the same value is written twice")]

mod support;

#[path = "metrics/contrib.rs"]
mod contrib;
#[path = "metrics/exposition.rs"]
mod exposition;
#[path = "metrics/form.rs"]
mod form;
#[path = "metrics/series.rs"]
mod series;
#[path = "metrics/served.rs"]
mod served;
#[path = "metrics/values.rs"]
mod values;

use std::time::Duration;

use exposition::Page;
use fireworks_proxy::{event::ProcessFigures, failure::FailureClass, time::Wall};
use serde_json::json;
use support::world::{World, answer_with, chat};

const SECOND: Duration = Duration::from_secs(1);

/// 2026-05-21T02:00:00Z.
const START_UNIX_MILLIS: i64 = 1_779_328_800_000;

/// A core with a daily limit, on a system that tells everything of its process.
fn new_world(settings: &[(&str, &str)]) -> World {
    let mut all = vec![("TIMEZONE", "UTC"), ("MAX_RETRIES", "0"), ("DAILY_TOKEN_LIMIT", "1000000")];
    all.extend_from_slice(settings);
    let mut world = World::new(&all, Wall::from_unix_millis(START_UNIX_MILLIS));
    world.process = ProcessFigures {
        resident_bytes: Some(9_000_000),
        virtual_bytes: Some(70_000_000),
        cpu: Some(Duration::from_millis(1_230)),
        open_descriptors: Some(17),
        descriptors_max: Some(1_024),
        started_at: Some(Wall::from_unix_millis(START_UNIX_MILLIS - 500)),
    };
    world
}

#[track_caller]
fn metrics(world: &mut World) -> Page {
    Page::parse(&world.text_page("/metrics"))
}

/// A request of a model with a key.
fn ask(world: &mut World, name: &str, model: &str, key: &str) {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hello there"}]}).to_string();
    world.client_with(&chat(name, &format!("Authorization: Bearer {key}\r\n"), &body));
}

/// One whole request that the upstream answers well, a second later.
fn serve(world: &mut World, name: &str, model: &str, key: &str) {
    ask(world, name, model, key);
    world.advance(SECOND);
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 60}});
    let body = json!({"choices": [], "usage": usage}).to_string();
    let limits = "content-type: application/json\r\nx-ratelimit-limit-tokens-generated: 36000\r\n";
    world.reply(name, answer_with(200, limits, &body));
}

/// A bit of everything: two models, one with an odd name; answers, refusals, failures, one who leaves, one in flight.
fn busy_world() -> World {
    let mut world = new_world(&[]);
    serve(&mut world, "a", "kimi", "fw_1");
    serve(&mut world, "b", "odd \"name\" \\ \u{e9}", "fw_2");
    serve(&mut world, "c", "kimi", "fw_1");
    ask(&mut world, "d", "kimi", "fw_1");
    world.refuse("d", 429, "");
    // Until the lane goes on.
    world.advance(SECOND * 10);
    ask(&mut world, "e", "unheard of", "fw_1");
    world.refuse("e", 404, "");
    ask(&mut world, "f", "kimi", "fw_1");
    let f = world.upstream_of("f").expect("it is at the upstream");
    world.breaks(f, FailureClass::HeadTimeout);
    world.client_with(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nx-name: g\r\n\r\n");
    world.answer("g", 0, 0);
    world.client_with(b"NONSENSE\r\n\r\n");
    world.advance(SECOND * 5);
    ask(&mut world, "h", "kimi", "fw_1");
    world
}
