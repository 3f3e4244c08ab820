//! The real binary and the signals that stop it: what is let end, what is refused, what is cut, and the exit code.
//! On Windows they are what a console tells its programs, and the tests need a program of C that tells it:
//! `.ci/windows` builds it and names it in `CONSOLE_EVENT_EXE`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::{
    net::TcpStream,
    path::Path,
    sync::{Mutex, mpsc},
};

use serde_json::{Value, json};
use support::{
    binary::{Binary, await_true, quiet_zone},
    client::{Client, Response},
    fake::FakeFireworks,
    raw_upstream::RawUpstream,
    wire::{CHAT, MESSAGES, RESPONSES, SOON, body_of, error_code},
};

/// A budget that one request without a cap on its output fills, so that those after it wait.
const ONE_AT_A_TIME: [(&str, &str); 3] =
    [("GENERATED_TPM_LIMIT", "125"), ("TPM_SAFETY_RATIO", "0.8"), ("OUTPUT_TOKEN_RESERVE", "100")];

const UNCAPPED: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// What an Anthropic stream tells at its start, and at its end. The start has one generated token.
const TOLD_AT_START: [(&str, &str); 4] = [
    ("x-fake-usage", "genuine-anthropic"),
    ("x-fake-prompt-tokens", "1200"),
    ("x-fake-cached-tokens", "1000"),
    ("x-fake-generated", "42"),
];

fn start(fake: &FakeFireworks, settings: &[(&str, &str)]) -> Binary {
    Binary::start(fake, &[&[("TIMEZONE", quiet_zone())], settings].concat())
}

fn send(proxy: &Binary, path: &str, headers: &[(&str, &str)], body: &str) -> Client {
    let mut client = Client::connect(proxy.address());
    client.request("POST", path, headers, body.as_bytes());
    client
}

/// A stream that is held in its middle, when its client has seen the beginning.
fn stream_at_gate(fake: &FakeFireworks, proxy: &Binary, body: &str) -> Client {
    let at_gate = fake.statistics().at_gate;
    let mut client =
        send(proxy, MESSAGES, &[&TOLD_AT_START[..], &[("x-fake-gate", "middle")]].concat(), body);
    assert_eq!(client.read_final_head().status, 200);
    client.read_until("amber").expect("the first word comes before the gate");
    fake.wait_for_gate(at_gate + 1, SOON);
    client
}

/// A connection that is open between two requests.
fn idle(proxy: &Binary) -> Client {
    let mut client = Client::connect(proxy.address());
    client.request("GET", "/v1/models", &[], b"");
    assert_eq!(client.read_response().status(), 200);
    client
}

/// Sends a signal and waits until it has been heeded.
fn stop(proxy: &Binary, signal: &str) -> String {
    proxy.signal(signal);
    proxy.wait_for_line(&["INFO stopping: "])
}

/// Whether the process ended as it wanted. Windows ends it, too, when the console has gone, and may be the first.
fn is_of_its_own(code: Option<i32>, signal: &str, wanted: i32) -> bool {
    code == Some(wanted) || (cfg!(windows) && signal == "HUP")
}

#[track_caller]
fn assert_draining(path: &str, response: &Response) {
    assert_eq!((response.status(), error_code(path, response).as_str()), (503, "draining"));
    let seconds = response.header("retry-after").expect("a time to come back").parse::<u64>();
    assert!((1..=60).contains(&seconds.expect("whole seconds")));
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(response.json()["error"]["upstream"], "never_reached");
}

/// Prompt and generated tokens of the day in the state file.
fn kept(folder: &Path) -> [Value; 2] {
    let file = std::fs::read(folder.join("daily_usage.json")).expect("a state file");
    let state: Value = serde_json::from_slice(&file).expect("JSON");
    ["prompt_tokens", "generated_tokens"].map(|name| state[name].clone())
}

#[test]
#[cfg_attr(windows, ignore = "needs CONSOLE_EVENT_EXE")]
fn a_signal_lets_a_stream_end_and_refuses_what_waits_and_what_is_new() {
    for signal in ["INT", "TERM", "HUP"] {
        let fake = FakeFireworks::start_default();
        let proxy = start(&fake, &ONE_AT_A_TIME);
        let mut stream = stream_at_gate(&fake, &proxy, UNCAPPED);
        let mut waiting = [CHAT, MESSAGES, RESPONSES].map(|path| (path, send(&proxy, path, &[], UNCAPPED)));
        await_true("three wait", || proxy.page("/health")["queue_depth"] == 3);
        let (mut looks, mut asks, _idle) = (idle(&proxy), [idle(&proxy), idle(&proxy)], idle(&proxy));

        let line = stop(&proxy, signal);
        assert!(line.contains(" 1 in flight ") && line.contains(" 3 waiting "), "{line}");
        assert!(TcpStream::connect(proxy.address()).is_err(), "{signal}: nobody listens any more");
        for (path, client) in &mut waiting {
            assert_draining(path, &client.read_response());
            assert!(client.is_closed_by_peer(SOON), "{signal}: {path}");
        }
        drop(waiting);
        for _ in 0..2 {
            looks.request("GET", "/health", &[], b"");
            let health = looks.read_response();
            assert_eq!((health.status(), &health.json()["status"]), (503, &json!("draining")));
            assert_eq!((&health.json()["in_flight"], &health.json()["queue_depth"]), (&json!(1), &json!(0)));
        }
        for (client, path) in asks.iter_mut().zip([CHAT, MESSAGES]) {
            client.request("POST", path, &[], body_of("new", true).as_bytes());
            assert_draining(path, &client.read_response());
        }
        drop(asks);
        assert_eq!(fake.release(), 1);
        let rest = stream.read_body_to_end().expect("a whole stream").text();
        assert!(rest.contains("café") && rest.ends_with("data: {\"type\":\"message_stop\"}\n\n"), "{rest}");
        let (code, lines, folder) = proxy.wait_for_end();
        assert!(is_of_its_own(code, signal, 0), "{signal}: {code:?}: {lines:#?}");
        assert!(lines.last().expect("lines").ends_with("INFO Fireworks proxy stopped"), "{lines:#?}");
        assert_eq!(lines.iter().filter(|line| line.contains("outcome=draining")).count(), 5, "{lines:#?}");
        assert!(!lines.iter().any(|line| line.contains(" cut ")), "{lines:#?}");
        assert_eq!(kept(folder.path()), [json!(1200), json!(42)], "{signal}");
        assert_eq!(fake.statistics().requests, 5, "{signal}: what was refused went nowhere");
    }
}

#[test]
#[cfg_attr(windows, ignore = "needs CONSOLE_EVENT_EXE")]
fn what_outlasts_the_drain_is_cut_and_counts_with_what_it_had_reported() {
    let fake = FakeFireworks::start_default();
    let proxy = start(&fake, &[("DRAIN", "0.3")]);
    let mut stream = stream_at_gate(&fake, &proxy, &body_of("cut", true));
    let mut unanswered = send(&proxy, CHAT, &[("x-fake-gate", "head")], &body_of("unanswered", false));
    fake.wait_for_gate(2, SOON);
    let mut upload = Client::connect(proxy.address());
    upload.request("POST", CHAT, &[("Content-Length", "100")], b"{");
    let _idle = idle(&proxy);

    stop(&proxy, "TERM");
    let raw = stream.read_raw_until_eof();
    assert!(!raw.ends_with(b"0\r\n\r\n"), "no ending is faked: {}", String::from_utf8_lossy(&raw));
    for client in [&mut unanswered, &mut upload] {
        assert!(client.read_raw_until_eof().is_empty(), "there is nothing true to say");
    }
    let (code, lines, folder) = proxy.wait_for_end();
    assert_eq!(code, Some(1), "{lines:#?}");
    for parts in [
        ["WARN 3 connections were cut", "within a request or an answer"],
        ["request | POST /v1/messages status=200 outcome=stopped upstream=acknowledged", "model=cut"],
        [
            "request | POST /v1/chat/completions status=- outcome=stopped upstream=may_have_reached",
            "=unanswered",
        ],
    ] {
        let is_there = lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(is_there, "{parts:?}: {lines:#?}");
    }
    assert_eq!(kept(folder.path()), [json!(1200), json!(1)]);
}

#[test]
#[cfg_attr(windows, ignore = "needs CONSOLE_EVENT_EXE")]
fn a_second_signal_ends_it_at_once() {
    let fake = FakeFireworks::start_default();
    for second in ["TERM", "INT"] {
        let proxy = start(&fake, &[("DRAIN", "3600")]);
        let mut stream = stream_at_gate(&fake, &proxy, &body_of("m", true));
        stop(&proxy, "INT");
        proxy.signal(second);
        stream.read_body_to_end().expect_err("it is cut");
        let (code, lines, folder) = proxy.wait_for_end();
        assert_eq!(code, Some(1), "{lines:#?}");
        assert_eq!(kept(folder.path()), [json!(1200), json!(1)]);
    }
}

#[test]
#[cfg_attr(windows, ignore = "needs CONSOLE_EVENT_EXE")]
fn with_nothing_under_way_it_ends_at_once_in_good_order() {
    let fake = FakeFireworks::start_default();
    let proxy = start(&fake, &[("DRAIN", "3600")]);
    let (mut between, mut silent) = (idle(&proxy), Client::connect(proxy.address()));
    let mut begun = Client::connect(proxy.address());
    begun.send(b"POST /v1/chat/comple").expect("the proxy takes it");
    let tokens = [("x-fake-prompt-tokens", "10"), ("x-fake-generated", "5")];
    assert_eq!(proxy.post(CHAT, &tokens, &body_of("m", false)).status(), 200);
    proxy.signal("TERM");
    for client in [&mut between, &mut silent, &mut begun] {
        assert!(client.read_raw_until_eof().is_empty());
    }
    let (code, lines, folder) = proxy.wait_for_end();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert_eq!(kept(folder.path()), [json!(10), json!(5)]);
}

#[test]
#[cfg_attr(windows, ignore = "needs CONSOLE_EVENT_EXE")]
fn without_a_drain_the_first_signal_cuts() {
    let fake = FakeFireworks::start_default();
    let proxy = start(&fake, &[("DRAIN", "0")]);
    let mut stream = stream_at_gate(&fake, &proxy, &body_of("m", true));
    proxy.signal("TERM");
    stream.read_body_to_end().expect_err("it is cut");
    let (code, lines, folder) = proxy.wait_for_end();
    assert_eq!(code, Some(1), "{lines:#?}");
    assert_eq!(kept(folder.path()), [json!(1200), json!(1)]);
}

#[test]
#[cfg_attr(windows, ignore = "needs CONSOLE_EVENT_EXE")]
fn another_proxy_has_the_port_while_the_first_one_drains() {
    let fake = FakeFireworks::start_default();
    let old = start(&fake, &[]);
    let mut stream = stream_at_gate(&fake, &old, &body_of("old", true));
    let _idle = idle(&old);
    stop(&old, "TERM");
    let port = old.address().port().to_string();
    let new = start(&fake, &[("PORT", &port)]);
    assert_eq!(new.address(), old.address());
    assert_eq!(new.post(CHAT, &[], &body_of("new", true)).status(), 200);
    assert_eq!(fake.release(), 1, "the old one's stream was there all the time");
    assert!(stream.read_body_to_end().expect("a whole stream").text().contains("message_stop"));
    let (code, lines, _) = old.wait_for_end();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert_eq!(new.post(CHAT, &[], &body_of("new", true)).status(), 200);
}

#[test]
#[cfg_attr(windows, ignore = "needs CONSOLE_EVENT_EXE")]
fn nothing_is_tried_again_once_it_stops() {
    let fake = FakeFireworks::start_default();
    let proxy = start(&fake, &[]);
    // A request that waits to be tried again when the signal comes.
    let mut paused = send(&proxy, CHAT, &[("x-fake-status", "503")], &body_of("paused", true));
    proxy.wait_for_line(&["INFO retry | ", " after=503 ", " model=paused "]);
    // Requests that meet what would be tried again only after it.
    let refused = [("x-fake-status", "429"), ("x-fake-body", "html"), ("x-fake-gate", "head")];
    let mut refused = send(&proxy, MESSAGES, &refused, &body_of("refused", true));
    let lost = [("x-fake-cut", "before-head"), ("x-fake-gate", "head")];
    let mut lost = send(&proxy, CHAT, &lost, &body_of("lost", true));
    fake.wait_for_gate(2, SOON);

    stop(&proxy, "TERM");
    let sent = fake.statistics().requests;
    let response = paused.read_response();
    assert_eq!((response.status(), error_code(CHAT, &response).as_str()), (503, "draining"));
    fake.release();
    let response = refused.read_response();
    assert_eq!(response.status(), 429, "{}", response.text());
    assert!(response.text().starts_with("<html>") && response.header("retry-after").is_some());
    let response = lost.read_response();
    assert_eq!((response.status(), error_code(CHAT, &response).as_str()), (502, "closed_before_head"));
    let (code, lines, _) = proxy.wait_for_end();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert_eq!(fake.statistics().requests, sent);
}

#[test]
#[cfg_attr(windows, ignore = "needs CONSOLE_EVENT_EXE")]
fn an_answer_that_was_held_back_when_it_stops_is_passed_on() {
    let fake = FakeFireworks::start_default();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = RawUpstream::start(move |mut call| {
        call.read_body();
        call.send(b"HTTP/1.1 503 Not Now\r\nContent-Length: 8\r\n\r\nhalf");
        let _ = may_go_on.lock().expect("one call at a time").recv_timeout(SOON);
        call.send(b"half");
        call.finish();
    });
    let proxy = start(&fake, &[("UPSTREAM", &upstream.base_url())]);
    let mut client = send(&proxy, CHAT, &[], &body_of("m", true));
    await_true("the answer has begun", || proxy.page("/usage")["requests"]["upstream_503"] == 1);
    stop(&proxy, "TERM");
    go_on.send(()).expect("the upstream waits for it");
    let response = client.read_response();
    assert!(response.status() == 503 && response.header("retry-after").is_some());
    // On a machine that is very busy the wait for its rest may be over, and the request waits to be tried again.
    let text = response.text();
    assert!(text == "halfhalf" || text.contains("\"draining\""), "{text}");
    let (code, lines, _) = proxy.wait_for_end();
    assert_eq!(code, Some(0), "{lines:#?}");
}

#[test]
#[cfg_attr(windows, ignore = "needs CONSOLE_EVENT_EXE")]
fn an_upload_that_ends_within_the_drain_is_answered() {
    let fake = FakeFireworks::start_default();
    let proxy = start(&fake, &[]);
    let body = body_of("m", true);
    let uploads = [CHAT, MESSAGES].map(|path| {
        let mut client = Client::connect(proxy.address());
        client.request("POST", path, &[("Content-Length", &body.len().to_string())], b"{");
        (path, client)
    });
    // Their heads are read before the signal is heeded: a page that is asked for after them is there.
    proxy.page("/health");
    stop(&proxy, "TERM");
    for (path, mut client) in uploads {
        client.send(&body.as_bytes()[1..]).expect("the proxy takes the rest");
        assert_draining(path, &client.read_response());
    }
    let (code, lines, _) = proxy.wait_for_end();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert_eq!(fake.statistics().connections, 0);
}

/// Windows ends the process five seconds after it said so, whatever the settings say of a drain.
#[cfg(windows)]
#[test]
#[ignore = "needs CONSOLE_EVENT_EXE"]
fn a_console_that_is_closed_leaves_time_to_save_the_day_and_none_for_a_long_drain() {
    let fake = FakeFireworks::start_default();
    let proxy = start(&fake, &[("DRAIN", "3600")]);
    let mut stream = stream_at_gate(&fake, &proxy, &body_of("m", true));
    stop(&proxy, "HUP");
    stream.read_body_to_end().expect_err("it is cut");
    let (code, lines, folder) = proxy.wait_for_end();
    assert!(is_of_its_own(code, "HUP", 1), "{code:?}: {lines:#?}");
    assert!(lines.last().expect("lines").ends_with("INFO Fireworks proxy stopped"), "{lines:#?}");
    assert_eq!(kept(folder.path()), [json!(1200), json!(1)]);
}

/// Windows tells every program of it. Who serves one who was logged on ends with him.
#[cfg(windows)]
#[test]
#[ignore = "needs CONSOLE_EVENT_EXE"]
fn the_end_of_a_session_ends_its_programs_in_good_order() {
    let fake = FakeFireworks::start_default();
    let proxy = start(&fake, &[("DRAIN", "3600"), ("SESSIONNAME", "Console")]);
    let mut stream = stream_at_gate(&fake, &proxy, &body_of("m", true));
    stop(&proxy, "LOGOFF");
    stream.read_body_to_end().expect_err("it is cut");
    let (code, lines, folder) = proxy.wait_for_end();
    assert_eq!(code, Some(1), "{lines:#?}");
    assert_eq!(kept(folder.path()), [json!(1200), json!(1)]);
}

/// A service has no session. Its log-off is somebody else's, and is left to Windows: that lets services live on, and
/// ends at once what is none, as here.
#[cfg(windows)]
#[test]
#[ignore = "needs CONSOLE_EVENT_EXE"]
fn somebody_who_logs_off_is_nothing_to_a_service() {
    let fake = FakeFireworks::start_default();
    let proxy = start(&fake, &[]);
    let _stream = stream_at_gate(&fake, &proxy, &body_of("m", true));
    proxy.signal("LOGOFF");
    let (_, lines, _) = proxy.wait_for_end();
    assert!(!lines.iter().any(|line| line.contains(" INFO stopping: ")), "{lines:#?}");
}
