//! The day's count: kept over restarts and kills, put aside when it is of no use, and capped.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{
    binary::{Binary, SOON, await_some, await_true, quiet_zone},
    client::{self, Response},
    fake::FakeFireworks,
    proxy::ProxyUnderTest,
};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// What the fake is to report.
const TOKENS: [(&str, &str); 2] = [("x-fake-prompt-tokens", "1200"), ("x-fake-generated", "34")];

/// The state file's count, once it parses.
fn kept(file: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// Waits until the state file holds these counts.
#[track_caller]
fn await_kept(file: &Path, prompt: u64, generated: u64) -> Value {
    await_some("the count in the state file", || {
        kept(file).filter(|state| {
            state["prompt_tokens"] == json!(prompt) && state["generated_tokens"] == json!(generated)
        })
    })
}

/// Waits until `/usage` tells this many tokens of the day. An answer is counted when it has ended,
/// which its client may see a moment before.
#[track_caller]
fn await_used(mut usage: impl FnMut() -> Value, used: u64) -> Value {
    await_some("the count in /usage", || {
        let day = usage()["day"].clone();
        (day["used"] == json!(used)).then_some(day)
    })
}

/// A proxy that goes on with the state file of another.
fn restart(proxy: ProxyUnderTest, fake: &FakeFireworks, settings: &[(&str, &str)]) -> ProxyUnderTest {
    let folder = proxy.stop();
    let (upstream, ca_file) = (fake.base_url(), folder.path().join("ca.pem"));
    let mut all = vec![("UPSTREAM", upstream.as_str()), ("CA_FILE", ca_file.to_str().expect("UTF-8"))];
    all.extend_from_slice(settings);
    ProxyUnderTest::start_with(folder, &all)
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn what_responses_report_is_counted_on_the_page_and_in_the_file() {
    let fake = FakeFireworks::start_default();
    let zone = quiet_zone();
    let settings = [("TIMEZONE", zone), ("DAILY_TOKEN_LIMIT", "100000"), ("DAILY_TOKEN_WARN_RATIO", "0.5")];
    let proxy = ProxyUnderTest::start(&fake, &settings);
    for (path, body) in [(CHAT, BODY), (CHAT, STREAM), (MESSAGES, BODY), (MESSAGES, STREAM)] {
        assert_eq!(proxy.post(path, &TOKENS, body).status(), 200);
    }
    let day = await_used(|| proxy.usage(), 4 * 1234);
    assert_eq!((&day["prompt_tokens"], &day["generated_tokens"]), (&json!(4800), &json!(136)));
    assert_eq!((&day["limit"], &day["remaining"]), (&json!(100_000), &json!(100_000 - 4936)));
    assert_eq!((&day["warn_at"], &day["warned"]), (&json!(50_000), &json!(false)));
    assert_eq!(day["time_zone"], zone);
    assert!(day["resets_at"].as_str().expect("a time").contains("T00:00:00.000"), "{day}");
    let state = await_kept(&proxy.state_file(), 4800, 136);
    assert_eq!((&state["date"], &state["time_zone"]), (&day["date"], &json!(zone)));
}

#[test]
fn what_costs_nothing_is_not_counted() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &[("TIMEZONE", quiet_zone())]);
    assert_eq!(proxy.post(CHAT, &[("x-fake-status", "429")], BODY).status(), 429);
    assert_eq!(client::get(proxy.address(), "/v1/models").status(), 200);
    assert_eq!(proxy.post("/v1/messages/count_tokens", &[], BODY).status(), 404, "as the fake has none");
    assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 200);
    await_used(|| proxy.usage(), 1234);
}

#[test]
fn the_count_survives_a_restart() {
    let fake = FakeFireworks::start_default();
    let settings = [("TIMEZONE", quiet_zone())];
    let mut proxy = ProxyUnderTest::start(&fake, &settings);
    for round in 1..=3 {
        assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 200);
        await_used(|| proxy.usage(), round * 1234);
        proxy = restart(proxy, &fake, &settings);
        assert_eq!(proxy.usage()["day"]["used"], round * 1234);
    }
    let names = names_in(proxy.folder());
    assert!(names.iter().all(|name| ["ca.pem", "daily_usage.json"].contains(&name.as_str())), "{names:?}");
}

#[test]
fn what_was_learned_survives_a_kill() {
    let fake = FakeFireworks::start_default();
    let settings = [("TIMEZONE", quiet_zone())];
    let mut proxy = Binary::start(&fake, &settings);
    let generated_mean = |proxy: &Binary| {
        let lane = &proxy.page("/usage")["lanes"][0];
        lane["learned"]["generated_mean"].as_f64()
    };
    // Before four answers nothing is believed of them, and in no run is there more than one.
    for round in 1..=4 {
        assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 200);
        await_kept(&proxy.state_file(), round * 1200, round * 34);
        let expected = if round < 4 { None } else { Some(34.0) };
        assert_eq!(generated_mean(&proxy), expected, "round {round}");
        let (_, folder) = proxy.kill();
        proxy = Binary::start_in(folder, &fake, &settings);
    }
}

#[test]
fn the_count_survives_a_kill() {
    let fake = FakeFireworks::start_default();
    let settings = [("TIMEZONE", quiet_zone())];
    let mut proxy = Binary::start(&fake, &settings);
    for round in 1..=3 {
        assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 200);
        await_kept(&proxy.state_file(), round * 1200, round * 34);
        let (_, folder) = proxy.kill();
        proxy = Binary::start_in(folder, &fake, &settings);
        proxy.wait_for_line(&[" INFO ", &format!("{} tokens were used today already", round * 1234)]);
        assert_eq!(proxy.page("/usage")["day"]["used"], round * 1234);
    }
}

#[test]
fn a_file_that_is_of_no_use_is_put_aside_with_a_warning() {
    let fake = FakeFireworks::start_default();
    let damaged = "is damaged";
    let other_day = "is of 2001-02-03";
    for (content, warning, aside) in [
        (&b""[..], damaged, "daily_usage.json.damaged"),
        (b"{\"version\":1,\"date\":\"20", damaged, "daily_usage.json.damaged"),
        (b"\xff\xfe\x00not JSON", damaged, "daily_usage.json.damaged"),
        (b"{\"version\":2}", damaged, "daily_usage.json.damaged"),
        (
            br#"{"version":1,"date":"2001-02-03","time_zone":"UTC","prompt_tokens":7,"generated_tokens":8,"warned":true}"#,
            other_day,
            "daily_usage.json.2001-02-03",
        ),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("daily_usage.json"), content).expect("written");
        let proxy = Binary::start_in(folder, &fake, &[("TIMEZONE", quiet_zone())]);
        proxy.wait_for_line(&[" WARN ", warning, "put aside"]);
        assert_eq!(std::fs::read(proxy.folder().join(aside)).expect("it is kept"), content);
        assert_eq!(proxy.page("/usage")["day"]["used"], 0);
        assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 200);
        await_kept(&proxy.state_file(), 1200, 34);
    }
}

#[test]
fn the_count_of_the_python_original_is_taken_over() {
    let fake = FakeFireworks::start_default();
    let settings = [("TIMEZONE", quiet_zone())];
    let proxy = Binary::start(&fake, &settings);
    let today = proxy.page("/usage")["day"]["date"].as_str().expect("a date").to_owned();
    let (_, folder) = proxy.kill();
    let original = format!(r#"{{"date": "{today}", "total_tokens": 5000, "requests": 12}}"#);
    std::fs::write(folder.path().join("daily_usage.json"), &original).expect("written");
    let proxy = Binary::start_in(folder, &fake, &settings);
    proxy.wait_for_line(&[" INFO ", "is of the Python original", "5000 tokens today"]);
    await_kept(&proxy.state_file(), 5000, 0);
    assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 200);
    await_kept(&proxy.state_file(), 6200, 34);
    // A second start takes it for what it is by now: a file of ours.
    let (_, folder) = proxy.kill();
    let proxy = Binary::start_in(folder, &fake, &settings);
    proxy.wait_for_line(&[" INFO ", "6234 tokens were used today already"]);
    let aside = proxy.folder().join("daily_usage.json.python");
    assert_eq!(std::fs::read_to_string(aside).expect("it is kept"), original);
}

#[test]
fn the_folder_of_the_state_file_is_made() {
    let fake = FakeFireworks::start_default();
    let proxy = Binary::start(&fake, &[("TIMEZONE", quiet_zone()), ("USAGE_STATE", "deep/er/count.json")]);
    assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 200);
    await_kept(&proxy.folder().join("deep/er/count.json"), 1200, 34);
}

#[test]
fn a_state_file_that_cannot_be_written_draws_a_warning_and_stops_nothing() {
    let fake = FakeFireworks::start_default();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("daily_usage.json/full")).expect("made");
    std::fs::write(folder.path().join("file"), "").expect("written");
    let zone = ("TIMEZONE", quiet_zone());
    let proxy = Binary::start_in(folder, &fake, &[zone]);
    // It comes at once, not with the first request.
    proxy.wait_for_line(&[" WARN ", "daily_usage.json cannot be written"]);
    for round in 1..=2 {
        assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 200);
        await_used(|| proxy.page("/usage"), round * 1234);
    }
    let (lines, folder) = proxy.kill();
    let warned = lines.iter().filter(|line| line.contains("cannot be written")).count();
    assert_eq!(warned, 1, "tried every second, told once a minute: {lines:#?}");
    let beneath_a_file = Binary::start_in(folder, &fake, &[zone, ("USAGE_STATE", "file/count.json")]);
    beneath_a_file.wait_for_line(&[" WARN ", "cannot be written"]);
    assert_eq!(beneath_a_file.post(CHAT, &TOKENS, BODY).status(), 200);
}

#[test]
fn what_could_not_be_written_is_written_when_it_can_be() {
    let fake = FakeFireworks::start_default();
    let proxy = Binary::start(&fake, &[("TIMEZONE", quiet_zone())]);
    let (file, blocking) = (proxy.state_file(), proxy.folder().join("daily_usage.json.tmp"));
    let spend = |round: u64| {
        assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 200);
        await_used(|| proxy.page("/usage"), round * 1234);
    };
    spend(1);
    await_kept(&file, 1200, 34);
    std::fs::create_dir(&blocking).expect("made");
    spend(2);
    proxy.wait_for_line(&[" WARN ", "daily_usage.json cannot be written"]);
    spend(3);
    assert_eq!(kept(&file).expect("it is whole")["prompt_tokens"], 1200, "as it was before");
    std::fs::remove_dir(&blocking).expect("removed");
    await_kept(&file, 3600, 102);
    proxy.wait_for_line(&[" INFO ", "daily_usage.json is written again"]);
    spend(4);
    await_kept(&file, 4800, 136);
    let (lines, folder) = proxy.kill();
    assert_eq!(names_in(folder.path()).len(), 2, "nothing is left over: {:?}", names_in(folder.path()));
    let told = lines.iter().filter(|line| line.contains(" written")).count();
    assert_eq!(told, 2, "once that it cannot be, once that it is again: {lines:#?}");
}

/// Checks the answer to a request past the day's cap, and gives its error.
fn assert_daily_limit(response: &Response, used: u64, limit: u64, resets_at: &str) -> Value {
    assert_eq!(response.status(), 429, "{}", response.text());
    assert_eq!(response.header("x-should-retry"), Some("false"));
    assert_eq!(response.header("retry-after"), None);
    let error = response.json()["error"].clone();
    assert_eq!(error["code"], "daily_limit");
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains(&format!("{used} of {limit}")) && message.contains(resets_at), "{message}");
    error
}

#[test]
fn past_the_cap_generation_is_refused_in_both_dialects_and_the_rest_passes() {
    let fake = FakeFireworks::start_default();
    let settings = [("TIMEZONE", quiet_zone()), ("DAILY_TOKEN_LIMIT", "1234")];
    let proxy = ProxyUnderTest::start(&fake, &settings);
    assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 200);
    let day = await_used(|| proxy.usage(), 1234);
    assert_eq!(day["remaining"], 0);
    let resets_at = day["resets_at"].as_str().expect("a time");
    let openai = proxy.post(CHAT, &TOKENS, BODY);
    assert_eq!(assert_daily_limit(&openai, 1234, 1234, resets_at)["type"], "insufficient_quota");
    let anthropic = proxy.post("/v1/messages?beta=true", &TOKENS, STREAM);
    assert_eq!(assert_daily_limit(&anthropic, 1234, 1234, resets_at)["type"], "rate_limit_error");
    assert_eq!(anthropic.json()["type"], "error");
    for path in ["/v1/responses", "/v1/completions", "/v1/embeddings"] {
        assert_daily_limit(&proxy.post(path, &[], BODY), 1234, 1234, resets_at);
    }
    assert_eq!(client::get(proxy.address(), "/v1/models").status(), 200);
    assert_eq!(proxy.post("/v1/messages/count_tokens", &[], BODY).status(), 404, "of the fake");
    assert_eq!(fake.statistics().requests, 3, "what was refused never reached the upstream");
    let again = restart(proxy, &fake, &settings);
    assert_daily_limit(&again.post(CHAT, &TOKENS, BODY), 1234, 1234, resets_at);
}

#[test]
fn a_refused_request_leaves_the_connection_usable() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &[("TIMEZONE", quiet_zone()), ("DAILY_TOKEN_LIMIT", "1")]);
    let mut client = proxy.connect();
    client.request("POST", CHAT, &TOKENS, BODY.as_bytes());
    assert_eq!(client.read_response().status(), 200);
    await_used(|| proxy.usage(), 1234);
    for _ in 0..2 {
        client.request("POST", CHAT, &TOKENS, BODY.as_bytes());
        assert_eq!(client.read_response().status(), 429);
    }
    client.request("GET", "/v1/models", &[], b"");
    assert_eq!(client.read_response().status(), 200);
}

#[test]
fn a_request_in_flight_finishes_past_the_cap() {
    let fake = FakeFireworks::start_default();
    let settings = [("TIMEZONE", quiet_zone()), ("DAILY_TOKEN_LIMIT", "1234")];
    let proxy = ProxyUnderTest::start(&fake, &settings);
    let mut in_flight = proxy.connect();
    in_flight.request(
        "POST",
        MESSAGES,
        &[&TOKENS[..], &[("x-fake-gate", "middle")]].concat(),
        STREAM.as_bytes(),
    );
    fake.wait_for_gate(1, SOON);
    assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 200);
    await_used(|| proxy.usage(), 1234);
    assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 429);
    fake.release();
    let response = in_flight.read_response();
    assert_eq!(response.status(), 200);
    assert!(response.text().contains("message_stop"), "{}", response.text());
    let day = await_used(|| proxy.usage(), 2 * 1234);
    assert_eq!(day["remaining"], 0);
}

#[test]
fn a_limit_of_zero_is_no_cap() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &[("TIMEZONE", quiet_zone()), ("DAILY_TOKEN_LIMIT", "0")]);
    let huge = [("x-fake-prompt-tokens", "300000000"), ("x-fake-generated", "34")];
    assert_eq!(proxy.post(CHAT, &huge, BODY).status(), 200);
    let day = await_used(|| proxy.usage(), 300_000_034);
    assert_eq!(
        (&day["limit"], &day["remaining"], &day["warn_at"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    // Another key, because the first one's prompt budget is used up.
    assert_eq!(proxy.post(CHAT, &[("X-Api-Key", "other")], BODY).status(), 200);
}

#[test]
fn the_log_tells_of_a_day_near_its_cap_and_at_it_and_again_at_a_start() {
    let fake = FakeFireworks::start_default();
    let settings =
        [("TIMEZONE", quiet_zone()), ("DAILY_TOKEN_LIMIT", "5000"), ("DAILY_TOKEN_WARN_RATIO", "0.40")];
    let count = |lines: &[String], part: &str| lines.iter().filter(|line| line.contains(part)).count();
    let proxy = Binary::start(&fake, &settings);
    for round in 1..=3 {
        assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 200);
        let day = await_used(|| proxy.page("/usage"), round * 1234);
        assert_eq!(day["warned"], round >= 2, "the warning is due at 2000");
    }
    proxy.wait_for_line(&[" WARN DAILY TOKEN WARNING: 2468 of 5000 tokens of "]);
    assert_eq!(proxy.page("/health")["day"], "warned");
    await_true("the count is kept", || {
        kept(&proxy.state_file()).is_some_and(|state| state["warned"] == true)
    });
    await_kept(&proxy.state_file(), 3600, 102);
    let (lines, folder) = proxy.kill();
    assert_eq!(count(&lines, "WARN DAILY TOKEN WARNING"), 1, "{lines:#?}");
    let proxy = Binary::start_in(folder, &fake, &settings);
    for _ in 0..2 {
        assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 200);
    }
    proxy.wait_for_line(&[" ERROR DAILY TOKEN LIMIT REACHED: 6170 of 5000 tokens of "]);
    assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 429);
    await_kept(&proxy.state_file(), 6000, 170);
    assert_eq!(proxy.page("/health")["day"], "spent");
    let (lines, folder) = proxy.kill();
    // The start says again what another run has said.
    assert_eq!(count(&lines, "WARN DAILY TOKEN WARNING: 3702 of 5000"), 1, "{lines:#?}");
    assert_eq!(count(&lines, "ERROR DAILY TOKEN LIMIT REACHED"), 1, "{lines:#?}");
    assert_eq!(count(&lines, "ERROR ====="), 2, "it stands in a frame: {lines:#?}");
    let proxy = Binary::start_in(folder, &fake, &settings);
    proxy.wait_for_line(&[" ERROR DAILY TOKEN LIMIT REACHED: 6170 of 5000 tokens of "]);
}
