//! What was learned: how it outlives a restart in the state file beside the day's count, and how `/usage` shows it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

#[path = "learned/pages.rs"]
mod pages;
#[path = "learned/restarts.rs"]
mod restarts;

use std::time::Duration;

use fireworks_proxy::time::Wall;
use serde_json::{Value, json};
use support::world::{World, chat};

const SECOND: Duration = Duration::from_secs(1);

/// 2026-05-21T02:00:00Z.
const START_UNIX_MILLIS: i64 = 1_779_328_800_000;

/// Of each content of so many characters.
const CHARS: usize = 7_000;
const PROMPT_TOKENS: u64 = 1_400;

/// The settings of every run here.
const SETTINGS: [(&str, &str); 2] = [("TIMEZONE", "UTC"), ("MAX_RETRIES", "0")];

fn start() -> Wall {
    Wall::from_unix_millis(START_UNIX_MILLIS)
}

/// A core that knows nothing.
fn new_world() -> World {
    World::new(&SETTINGS, start())
}

/// The core of another run, so long after the clock showed `wall`, with what one before it has saved.
fn restarted(file: &[u8], wall: Wall, after: Duration) -> World {
    World::restarted(&SETTINGS, wall + after, Some(file))
}

/// Asks for a streamed answer. The content begins with the name, so that no two requests begin alike.
fn ask(world: &mut World, name: &str, model: &str, fields: &str) {
    let content = format!("{name:x<CHARS$}");
    let body = json!({"model": model, "stream": true, "messages": [{"role": "user", "content": content}]});
    world.client_with(&chat(name, fields, &body.to_string()));
}

/// Answers with limits in the headers: the first text after half a second, the last three seconds later.
fn answer(world: &mut World, name: &str, fields: &str, generated: u64) {
    let event = |data: &str| format!("{:x}\r\ndata: {data}\n\n\r\n", data.len() + 8);
    let text = r#"{"choices":[{"delta":{"content":"some text of an answer"}}]}"#;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n";
    world.advance(SECOND / 2);
    world.reply(name, format!("{head}{fields}\r\n{}", event(text)));
    world.advance(SECOND * 3);
    let usage = json!({"prompt_tokens": PROMPT_TOKENS, "completion_tokens": generated});
    let usage = json!({"choices": [], "usage": usage}).to_string();
    world.reply(name, format!("{}{}0\r\n\r\n", event(&usage), event("[DONE]")));
}

/// Ten answers of between 450 and 540 tokens.
fn learn(world: &mut World, model: &str, fields: &str) {
    for round in 0..10 {
        let name = format!("{model}-{round}");
        ask(world, &name, model, "");
        answer(world, &name, fields, 450 + round * 10);
    }
    world.advance(SECOND * 2);
}

/// The lane of a model on `/usage`; the last one, if there are several.
#[track_caller]
fn lane_of(world: &mut World, model: &str) -> Value {
    let usage = world.page("/usage");
    let lanes = usage["lanes"].as_array().expect("a list");
    let lane = lanes.iter().rev().find(|lane| lane["model"] == model);
    lane.unwrap_or_else(|| panic!("no lane of {model}: {usage:#}")).clone()
}

/// Uncached prompt and generated tokens that are held for a first request.
fn reserved_for_one(world: &mut World, model: &str) -> [u64; 2] {
    ask(world, "one", model, "");
    let lane = lane_of(world, model);
    assert_eq!(lane["in_flight"], 1, "{lane:#}");
    ["uncached_prompt", "generated"].map(|name| lane["budgets"][name]["reserved"].as_u64().expect("a number"))
}

/// The state file that was saved last.
#[track_caller]
fn saved(world: &World) -> Vec<u8> {
    world.saves.last().expect("something was saved").clone()
}

/// What a state file has kept.
#[track_caller]
fn kept(file: &[u8]) -> Vec<Value> {
    let state: Value = serde_json::from_slice(file).expect("JSON");
    state["learned"].as_array().cloned().unwrap_or_default()
}
