//! The proxy's own pages under virtual time: what they show of requests under way, of the last hour and of the day,
//! and that every field of theirs is in `PAGES.md`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

#[path = "pages/history.rs"]
mod history;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fireworks_proxy::{failure::FailureClass, time::Wall};
use serde_json::{Value, json};
use support::world::{World, chat, streamed};

const PAGES: &str = include_str!("../PAGES.md");

const SECOND: Duration = Duration::from_secs(1);

/// Lanes with room for so many prompt tokens a minute, one to a character, and so many generated ones.
fn world(prompt: u64, generated: u64, further: &[(&str, &str)]) -> World {
    let (prompt, generated) = (prompt.to_string(), generated.to_string());
    let settings = [
        ("PROMPT_TPM_LIMIT", prompt.as_str()),
        ("GENERATED_TPM_LIMIT", generated.as_str()),
        ("TPM_SAFETY_RATIO", "1"),
        ("CHARS_PER_TOKEN", "1"),
        ("OUTPUT_TOKEN_RESERVE", "100"),
        ("TIMEZONE", "UTC"),
        ("RPS", "1000"),
    ];
    World::new(&[&settings[..], further].concat(), Wall::from_unix_millis(1_779_287_519_000))
}

/// A request's body, of a model and a session.
fn body(model: &str, session: &str) -> String {
    json!({"model": model, "stream": true, "metadata": {"user_id": session}}).to_string()
}

/// The ids of the requests in a list.
fn ids(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().filter_map(|row| row["id"].as_str()).collect()
}

/// Something of everything: requests that run, that wait and that pause, and one that has ended.
fn busy_world() -> World {
    let way = [("UPSTREAM_PROXY", "http://jane:hunter2@proxy.example:3128"), ("CA_FILE", "ca.pem")];
    let further = [&way[..], &[("CLIENT_TOKEN", ""), ("MAX_RETRIES", "5")]].concat();
    let mut world = world(1_000_000, 100, &further);
    world.client_with(&chat("done", "", &body("other", "s0")));
    world.answer("done", 30, 5);
    world.client_with(&chat("lost", "", &body("third", "s0")));
    let lost = world.upstream_of("lost").expect("it was sent");
    world.breaks(lost, FailureClass::ClosedBeforeHead);
    // It comes back by itself.
    world.advance(SECOND * 3);
    world.answer("lost", 30, 5);
    world.client_with(&chat("runs", "User-Agent: kimi-cli/1.5 (x)\r\n", &body("m", "s1")));
    world.reply("runs", streamed(&["twelve letters and more", "of them"]));
    world.client_with(&chat("waits", "User-Agent: claude-cli/2.1\r\n", &body("m", "s2")));
    world.client_with(&chat("waits behind", "", &body("m", "s3")));
    world.advance(SECOND * 10);
    world.client_with(&chat("pauses", "", &body("fourth", "s4")));
    world.refuse("pauses", 503, "retry-after: 3\r\n");
    world.client_with(&chat("lost again", "", &body("fifth", "s5")));
    let lost = world.upstream_of("lost again").expect("it was sent");
    world.breaks(lost, FailureClass::ClosedBeforeHead);
    world
}

#[test]
fn every_field_is_documented_and_no_others() {
    let mut world = busy_world();
    for path in ["/health", "/usage", "/history", "/settings"] {
        let page = world.page(path);
        assert!(!page.to_string().contains("hunter2"), "{path} shows the credentials of the forward proxy");
        let heading = format!("## `GET {path}`\n");
        let (_, part) = PAGES.split_once(&heading).unwrap_or_else(|| panic!("no part {heading}"));
        let part = part.split("\n## ").next().expect("a split has a first part");
        let mut real = BTreeSet::new();
        collect_fields(&page, "", &mut real);
        let documented: BTreeSet<String> = part.lines().filter_map(field).map(str::to_owned).collect();
        assert_eq!(documented, real, "{path}: {page:#}");
        for name in real.iter().filter_map(|path| path.rsplit('.').next()).filter(|name| *name != "*") {
            let name = name.trim_end_matches("[]");
            assert!(part.contains(&format!("\"{name}\":")), "{name} in the sample of {path}");
        }
    }
}

/// The field that a row of a table is about.
fn field(line: &str) -> Option<&str> {
    line.strip_prefix("| `")?.split_once("` |").map(|(name, _)| name)
}

/// The dotted path of every field. Where several are alike, they are named once.
fn collect_fields(value: &Value, path: &str, fields: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => {
            assert!(!items.is_empty(), "{path} is empty, so its fields cannot be seen");
            for item in items {
                collect_fields(item, &format!("{path}[]"), fields);
            }
        }
        Value::Object(members) => {
            // Sides of failures are documented by name where all of them are there.
            let are_codes = path.ends_with("failures.*");
            let are_alike = path.ends_with(".budgets") || path.ends_with("failures");
            for (name, member) in members {
                let below =
                    |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                let is_named = !are_codes && path != "samples[].failures";
                fields.insert(below(if is_named { name } else { "*" }));
                collect_fields(member, &below(if are_alike || are_codes { "*" } else { name }), fields);
            }
        }
        _ => {}
    }
}

#[test]
fn who_waits_and_who_runs_can_be_told_apart() {
    let mut world = busy_world();
    let usage = world.page("/usage");
    let running = &usage["running"][0];
    assert_eq!(ids(&usage["running"]).len(), 1, "{usage:#}");
    assert_eq!(
        [&running["model"], &running["session"], &running["client"], &running["state"]],
        ["m", "s1", "kimi-cli/1.5", "streaming"],
    );
    // Thirty letters at four to a token, since ten seconds.
    assert_eq!(running["generated_tokens"], 8);
    assert_eq!((&running["tokens_per_second"], &running["running_seconds"]), (&json!(0.8), &json!(10.0)));
    assert_eq!(running["first_token_seconds"], 0.0);
    let by_session: BTreeMap<&str, &Value> = usage["waiting"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (row["session"].as_str().expect("it has one"), row))
        .collect();
    let of = |session: &str, name: &str| by_session[session][name].clone();
    assert_eq!(by_session.keys().copied().collect::<Vec<_>>(), ["s2", "s3", "s4", "s5"]);
    assert_eq!((of("s2", "state"), of("s2", "waits_for")), (json!("queued"), json!("generated")));
    assert_eq!(of("s2", "reason"), "next of its model; waits for generated tokens");
    assert_eq!((of("s3", "waits_for"), of("s3", "client")), (json!("turn"), json!(null)));
    assert_eq!((of("s2", "waited_seconds"), of("s2", "client")), (json!(10.0), json!("claude-cli/2.1")));
    assert_eq!(of("s2", "gives_up_in_seconds"), 110.0);
    assert_eq!((of("s4", "state"), of("s4", "waits_for")), (json!("paused"), json!("retry")));
    assert_eq!(of("s4", "reason"), "to be tried again: Fireworks answered 503");
    assert!((3.0..4.0).contains(&of("s4", "expected_wait_seconds").as_f64().expect("a number")));
    assert_eq!(of("s5", "reason"), "to be tried again after closed_before_head");
    assert_eq!((&usage["requests"]["queued"], &usage["requests"]["paused"]), (&json!(2), &json!(2)));
    let lanes = usage["lanes"].as_array().expect("a list");
    let lane = lanes.iter().find(|lane| lane["model"] == "m").expect("it has been used");
    assert_eq!((&lane["binds"], &lane["starts_60s"]), (&json!("generated"), &json!(1)));
}

#[test]
fn a_request_that_gets_its_turn_changes_its_place_in_the_lists() {
    let mut world = busy_world();
    let id = |usage: &Value, list: &str| -> Option<String> {
        let rows = usage[list].as_array().expect("a list");
        rows.iter().find(|row| row["session"] == "s2").and_then(|row| row["id"].as_str()).map(str::to_owned)
    };
    let before = world.page("/usage");
    assert!(id(&before, "waiting").is_some() && id(&before, "running").is_none());
    world.reply("runs", "0\r\n\r\n");
    // What it generated leaves the minute.
    world.advance(SECOND * 61);
    let after = world.page("/usage");
    assert_eq!((id(&after, "waiting"), id(&after, "running")), (None, id(&before, "waiting")), "{after:#}");
}

#[test]
fn time_at_the_upstream_is_no_wait() {
    let mut world = world(1_000_000, 100, &[("MAX_RETRIES", "5")]);
    world.client_with(&chat("comes back", "", &body("m", "s1")));
    world.advance(SECOND * 50);
    world.client_with(&chat("passes", "", &body("m", "s2")));
    let lost = world.upstream_of("comes back").expect("it was sent");
    world.breaks(lost, FailureClass::ClosedBeforeHead);
    assert!(world.upstream_of("passes").is_some(), "there is room during the pause");
    world.advance(SECOND * 5);
    let usage = world.page("/usage");
    assert_eq!(usage["waiting"][0]["waited_seconds"], 5.0, "{usage:#}");
    assert_eq!(world.page("/health")["oldest_wait_seconds"], 5.0);
}

#[test]
fn lists_are_bounded_and_counts_are_not() {
    let mut world = world(1_000_000, 100, &[]);
    for number in 0..250 {
        world.client_with(&chat(&format!("c{number}"), "", &body("m", &format!("s{number}"))));
    }
    let usage = world.page("/usage");
    assert_eq!(ids(&usage["waiting"]).len(), 100);
    assert_eq!((&usage["requests"]["queued"], &usage["requests"]["in_flight"]), (&json!(249), &json!(1)));
}

/// What was expected of each request's wait when it began to wait behind all others, beside what it was.
#[test]
fn waits_come_out_as_they_were_foretold() {
    let text = "x".repeat(300);
    let mut world = world(1_000, 100_000, &[("MAX_WAIT", "600"), ("MAX_HOLD", "600")]);
    let mut foretold: BTreeMap<String, f64> = BTreeMap::new();
    let mut waited: BTreeMap<String, f64> = BTreeMap::new();
    let mut clients = BTreeMap::new();
    for number in 0..12 {
        let (name, session) = (format!("c{number}"), format!("s{number}"));
        let body = json!({
            "model": "m", "max_tokens": 10, "stream": true, "metadata": {"user_id": session},
            "messages": [{"role": "user", "content": text}],
        });
        clients.insert(name.clone(), world.client_with(&chat(&name, "", &body.to_string())));
        if world.upstream_of(&name).is_none() {
            let usage = world.page("/usage");
            let rows = usage["waiting"].as_array().expect("a list");
            let row = rows.iter().find(|row| row["session"] == session.as_str()).expect("it waits");
            foretold.insert(name, row["expected_wait_seconds"].as_f64().expect("a number"));
        }
    }
    assert!(foretold.len() >= 8, "{foretold:?}");
    let mut answered = BTreeSet::new();
    for second in 0..600 {
        for name in clients.keys() {
            if world.upstream_of(name).is_some() && answered.insert(name.clone()) {
                waited.insert(name.clone(), f64::from(second));
                // As large as it was thought to be.
                world.answer(name, 330, 10);
            }
        }
        world.advance(SECOND);
    }
    for (name, foretold) in &foretold {
        let waited = waited.get(name).unwrap_or_else(|| panic!("{name} never had its turn"));
        let allowed = (waited * 0.15).max(5.0);
        assert!(
            (foretold - waited).abs() <= allowed,
            "{name} waited {waited} s, and {foretold} s were foretold"
        );
    }
    assert!(waited.values().any(|waited| *waited > 150.0), "some waited long: {waited:?}");
}

#[test]
fn the_day_is_told_by_model_and_session_and_over_restarts() {
    let mut world = world(1_000_000, 1_000_000, &[]);
    for (name, model, session, agent) in
        [("a", "m", "s1", ""), ("b", "n", "s1", ""), ("c", "m", "", "User-Agent: curl/8.5.0\r\n")]
    {
        world.client_with(&chat(name, agent, &body(model, session)));
        world.answer(name, 100, 10);
    }
    let day = world.page("/usage")["day"].clone();
    let row = |name: Value, prompt: u64, generated: u64| json!({"name": name, "prompt_tokens": prompt, "generated_tokens": generated});
    assert_eq!(day["by_model"], json!([row("m".into(), 200, 20), row("n".into(), 100, 10)]));
    assert_eq!(day["by_session"], json!([row("s1".into(), 200, 20), row("curl/8.5.0".into(), 100, 10)]));
    world.advance(SECOND * 2);
    let saved = world.saves.last().expect("it was saved").clone();
    let settings = [("TIMEZONE", "UTC")];
    let page =
        |file: &[u8]| World::restarted(&settings, world.wall(), Some(file)).page("/usage")["day"].clone();
    let restarted = page(&saved);
    for name in ["used", "state", "by_model", "by_session"] {
        assert_eq!(restarted[name], day[name], "{name}");
    }
    // Whatever stands under the names never costs the count.
    let text = String::from_utf8(saved).expect("JSON");
    for (from, to) in [("\"by_model\":[", "\"by_model\":[7,"), ("\"by_model\":", "\"by_model\":null,\"x\":")]
    {
        let day = page(text.replace(from, to).as_bytes());
        assert_eq!(day["used"], 330, "{day}");
    }
    let without = page(text.replace("\"by_model\":", "\"x\":").as_bytes());
    assert_eq!(without["by_model"], json!([row(Value::Null, 300, 30)]), "nobody knows any more");
}

#[test]
fn settings_say_where_they_came_from_and_no_secret() {
    let mut world = world(1_000, 1_000, &[]);
    let page = world.page("/settings");
    let settings = page["settings"].as_array().expect("a list");
    let of =
        |name: &str| settings.iter().find(|setting| setting["name"] == name).expect("every setting").clone();
    let rps = of("FIREWORKS_PROXY_RPS");
    assert_eq!(
        (&rps["value"], &rps["default"], &rps["origin"]),
        (&json!("1000"), &json!("20"), &json!("environment"))
    );
    assert_eq!(of("FIREWORKS_PROXY_PORT")["flag"], "--port");
    assert_eq!(page["started_at"], world.page("/usage")["started_at"]);
    let head =
        "GET /settings HTTP/1.1\r\nHost: localhost\r\nx-fireworks-proxy-token: sixteen-letters!\r\n\r\n";
    let mut world = World::new(&[("CLIENT_TOKEN", "sixteen-letters!")], Wall::from_unix_millis(0));
    let client = world.client_with(head.as_bytes());
    let text = world.text_of(client);
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("***") && !text.contains("sixteen"), "{text}");
}

#[test]
fn without_the_secret_only_the_dashboard_is_shown_which_says_nothing() {
    let mut world = World::new(&[("CLIENT_TOKEN", "sixteen-letters!")], Wall::from_unix_millis(0));
    for (path, status) in
        [("/dashboard", 200), ("/usage", 400), ("/history", 400), ("/settings", 400), ("/", 400)]
    {
        for (host, status) in [("localhost", status), ("evil.example", 421)] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let client = world.client_with(head.as_bytes());
            assert_eq!(world.status_of(client), Some(status), "{path} {host}");
        }
        let foreign = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n");
        let client = world.client_with(foreign.as_bytes());
        assert_eq!(world.status_of(client), Some(403), "{path}");
    }
}
