//! The fake Fireworks, looked at directly: what the other tests rely on must itself be right.

// A test is made of what the core may not touch.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

#[path = "fake/faults.rs"]
mod faults;
#[path = "fake/tools.rs"]
mod tools;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::certs::{CertificateKind, TlsVersions};
use support::client::{Client, CutReason, Response};
use support::fake::limits::{Lane, Limiter};
use support::fake::{Dimension, FakeFireworks, FakeOptions, Limits, Outcome, answer_text};

const CHAT: &str = "/inference/v1/chat/completions";
const MESSAGES: &str = "/inference/v1/messages?beta=true";
const RESPONSES: &str = "/inference/v1/responses";
/// Long enough for a busy machine, short enough to wait for.
const SOON: Duration = Duration::from_secs(10);

fn connect(fake: &FakeFireworks) -> Client {
    Client::connect_tls(fake.address(), "localhost", fake.client_config())
}

fn post(fake: &FakeFireworks, path: &str, headers: &[(&str, &str)], body: &Value) -> Response {
    let mut client = connect(fake);
    client.request("POST", path, headers, body.to_string().as_bytes());
    client.read_response()
}

fn stream() -> Value {
    json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "hello"}]})
}

fn data(response: &Response) -> Vec<Value> {
    let lines = response.body.sse_data().into_iter().filter(|line| line != "[DONE]");
    lines.map(|line| serde_json::from_str(&line).expect("each data line is JSON")).collect()
}

#[test]
fn chat_stream_carries_usage_on_the_finish_chunk() {
    let fake = FakeFireworks::start_default();
    let headers =
        [("x-fake-prompt-tokens", "1200"), ("x-fake-cached-tokens", "1024"), ("x-fake-events", "3")];
    let response = post(&fake, CHAT, &headers, &stream());
    let events = data(&response);
    let usage = json!({"prompt_tokens": 1200, "total_tokens": 1242, "completion_tokens": 42,
        "prompt_tokens_details": {"cached_tokens": 1024}});
    assert_eq!(response.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(response.body.chunks.len(), 7, "role, reasoning, three words, finish, end mark");
    assert!(response.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let words: Vec<_> =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(words.concat(), answer_text(3));
    assert_eq!(events[5]["choices"][0]["finish_reason"], "stop");
    assert_eq!(events[5]["usage"], usage);
    let statistics = fake.statistics();
    assert_eq!((statistics.prompt_tokens, statistics.generated_tokens), (1200, 42));
    assert!(
        fake.wait_until(SOON, |statistics| statistics.uncached_tokens == 176 && statistics.completed == 1)
    );
}

#[test]
fn chat_stream_carries_usage_on_a_trailing_chunk_when_asked() {
    let fake = FakeFireworks::start_default();
    let mut body = stream();
    body["stream_options"] = json!({"include_usage": true});
    body["max_tokens"] = json!(5);
    let events = data(&post(&fake, CHAT, &[], &body));
    let [.., finish, trailing] = events.as_slice() else { panic!("too few events") };
    assert_eq!(finish["usage"], Value::Null);
    assert_eq!(finish["choices"][0]["finish_reason"], "length");
    assert_eq!(trailing["choices"], json!([]));
    assert_eq!(trailing["usage"]["completion_tokens"], 5);
}

#[test]
fn messages_stream_carries_usage_in_message_delta() {
    let fake = FakeFireworks::start_default();
    let headers =
        [("x-fake-prompt-tokens", "1200"), ("x-fake-cached-tokens", "1024"), ("x-fake-events", "2")];
    let events = data(&post(&fake, MESSAGES, &headers, &stream()));
    let kinds: Vec<_> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let expected = "message_start content_block_start ping content_block_delta content_block_delta \
                    content_block_stop message_delta message_stop";
    assert_eq!(kinds.join(" "), expected);
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 0);
    assert_eq!(events[3]["delta"]["text"], answer_text(1));
    let usage = json!({"input_tokens": 176, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 1024,
        "output_tokens": 42});
    assert_eq!(events[6]["usage"], usage);
}

#[test]
fn responses_stream_carries_usage_in_response_completed() {
    let fake = FakeFireworks::start_default();
    let events = data(&post(&fake, RESPONSES, &[("x-fake-events", "2")], &stream()));
    let numbers: Vec<_> = events.iter().filter_map(|event| event["sequence_number"].as_u64()).collect();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    assert_eq!(events[0]["type"], "response.created");
    let last = &events[9];
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["output"][0]["content"][0]["text"], answer_text(2));
    assert_eq!(last["response"]["usage"]["completion_tokens"], 42);
}

#[test]
fn answers_that_are_not_streamed_are_json_with_token_headers() {
    let fake = FakeFireworks::start_default();
    let body = json!({"model": "m", "prompt": "12345678", "input": ""});
    for (path, text) in [
        (CHAT, "/choices/0/message/content"),
        ("/inference/v1/completions", "/choices/0/text"),
        (MESSAGES, "/content/0/text"),
        (RESPONSES, "/output/0/content/0/text"),
    ] {
        let response = post(&fake, path, &[], &body);
        assert_eq!(response.status(), 200);
        assert_eq!(response.header("fireworks-prompt-tokens"), Some("3"), "nine characters");
        assert_eq!(response.json().pointer(text), Some(&json!(answer_text(8))), "{path}");
    }
    let embeddings = post(&fake, "/inference/v1/embeddings", &[], &body);
    assert_eq!(embeddings.json()["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    let count_tokens = post(&fake, "/inference/v1/messages/count_tokens", &[], &body);
    assert_eq!((count_tokens.status(), &count_tokens.json()["error"]["code"]), (404, &json!("NOT_FOUND")));
}

#[test]
fn a_limit_in_use_is_answered_429() {
    let limits = Some(Limits::enforced(1000, 500, 100));
    let fake = FakeFireworks::start(FakeOptions { limits, ..FakeOptions::default() });
    let first = post(&fake, CHAT, &[("x-fake-prompt-tokens", "2000")], &stream());
    assert_eq!(first.status(), 200, "larger than the whole limit, but alone");
    assert_eq!(first.header("x-ratelimit-limit-tokens-cache-adjusted-prompt"), Some("500"));
    let second = post(&fake, CHAT, &[], &stream());
    assert_eq!(second.status(), 429);
    assert_eq!(second.body.bytes.len(), 146);
    assert_eq!(second.header("x-ratelimit-remaining-tokens-prompt"), Some("0"));
    assert_eq!(second.header("x-ratelimit-over-limit"), Some("no"));
    assert_eq!(second.header("retry-after"), None);
    let other_lane = post(&fake, MESSAGES, &[("x-api-key", "fw_other")], &stream());
    assert_eq!(other_lane.status(), 200);
    assert_eq!(fake.statistics().refused_by(Dimension::Prompt), 1);
    fake.set_limits(None);
    assert_eq!(post(&fake, CHAT, &[], &stream()).status(), 200);
}

#[test]
fn limits_roll_with_the_window() {
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let lane = Lane::default();
    let mut limiter = Limiter::new(Some(Limits::enforced(100, 50, 10)), 60 * second, Some(2));
    assert_eq!(limiter.admit(&lane, 60, start), Ok(()));
    assert_eq!(limiter.admit(&lane, 41, start), Err(Dimension::Prompt));
    assert_eq!(limiter.admit(&lane, 40, start), Ok(()), "exactly the limit");
    assert_eq!(limiter.admit(&lane, 0, start), Err(Dimension::Requests));
    limiter.charge(&lane, Dimension::Generated, 11, start + 30 * second);
    limiter.charge(&lane, Dimension::Uncached, 51, start + 10 * second);
    assert_eq!(limiter.admit(&lane, 1, start + 59 * second), Err(Dimension::Prompt));
    assert_eq!(limiter.admit(&lane, 1, start + 60 * second), Err(Dimension::Uncached));
    assert_eq!(limiter.admit(&lane, 1, start + 75 * second), Err(Dimension::Generated));
    assert_eq!(limiter.admit(&lane, 1, start + 90 * second), Ok(()));
    assert_eq!(limiter.used(&lane, start + 90 * second).prompt, 1);
}

#[test]
fn prefix_cache_counts_what_the_session_sent_before() {
    let fake = FakeFireworks::start(FakeOptions { prefix_cache: true, ..FakeOptions::default() });
    let body = json!({"messages": "x".repeat(4000), "model": "m"});
    let cached = |headers: &[(&str, &str)]| {
        let response = post(&fake, CHAT, headers, &body);
        response.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().expect("a number")
    };
    assert_eq!(cached(&[("x-session-id", "one")]), 0);
    assert_eq!(cached(&[("x-session-id", "two")]), 0);
    assert!(cached(&[("x-session-id", "one")]) >= 1000);
}

#[test]
fn cuts_are_seen_where_they_were_asked_for() {
    let fake = FakeFireworks::start_default();
    for (place, got) in
        [("before-head", None), ("after-head", Some(0)), ("mid-stream", Some(4)), ("in-chunk", Some(4))]
    {
        let mut client = connect(&fake);
        client.request(
            "POST",
            CHAT,
            &[("x-fake-cut", place), ("x-fake-events", "4")],
            stream().to_string().as_bytes(),
        );
        let head = client.try_read_head();
        assert_eq!(head.is_ok(), got.is_some(), "{place}");
        if let Some(got) = got {
            let cut = client.read_body_to_end().expect_err("a cut body");
            assert_eq!(cut.reason, CutReason::EofWithoutCloseNotify, "{place}");
            let whole = String::from_utf8_lossy(&cut.got).matches("\n\n").count();
            assert_eq!(whole, got, "{place}");
            assert_eq!(cut.got.ends_with(b"\n\n") || got == 0, place != "in-chunk", "{place}");
        }
    }
    assert!(fake.wait_until(SOON, |statistics| statistics.cut == 4 && statistics.connections_open == 0));
}

#[test]
fn a_body_ended_by_close_is_told_from_one_without_close_notify() {
    let fake = FakeFireworks::start_default();
    let close = ("x-fake-framing", "close");
    let whole = post(&fake, CHAT, &[close], &stream());
    assert!(whole.text().ends_with("data: [DONE]\n\n"));
    let mut client = connect(&fake);
    let headers = [close, ("x-fake-cut", "no-close-notify")];
    client.request("POST", CHAT, &headers, stream().to_string().as_bytes());
    assert_eq!(client.read_final_head().status, 200);
    let cut = client.read_body_to_end().expect_err("a cut body");
    assert_eq!(cut.got.len(), whole.body.bytes.len());
}

#[test]
fn gates_hold_until_released_or_left() {
    let fake = FakeFireworks::start_default();
    let mut client = connect(&fake);
    client.request("POST", CHAT, &[("x-fake-gate", "middle")], stream().to_string().as_bytes());
    client.read_final_head();
    fake.wait_for_gate(1, SOON);
    let before = client.read_until("delta ").expect("half of the words");
    assert!(!before.contains("ember"));
    assert_eq!(fake.release(), 1);
    assert!(client.read_body_to_end().expect("the other half").text().contains("ember"));

    let mut leaver = connect(&fake);
    leaver.request("POST", CHAT, &[("x-fake-gate", "head")], stream().to_string().as_bytes());
    fake.wait_for_gate(1, SOON);
    leaver.close();
    assert!(fake.wait_until(SOON, |statistics| statistics.cancelled == 1 && statistics.at_gate == 0));
    let outcome = fake.requests()[1].outcome;
    assert_eq!(outcome, Outcome::ClosedByPeer { after_last_event: false });
}

#[test]
fn leaving_before_the_last_chunk_is_told_from_leaving_earlier() {
    let fake = FakeFireworks::start_default();
    let mut client = connect(&fake);
    client.request("POST", CHAT, &[("x-fake-tail-ms", "60000")], stream().to_string().as_bytes());
    client.read_final_head();
    client.read_until("[DONE]").expect("the end mark comes before the tail");
    client.close();
    assert!(fake.wait_until(SOON, |statistics| statistics.cancelled == 1));
    assert_eq!(fake.requests()[0].outcome, Outcome::ClosedByPeer { after_last_event: true });
}

#[test]
fn errors_have_the_body_of_their_dialect() {
    let fake = FakeFireworks::start_default();
    let overloaded = post(&fake, CHAT, &[("x-fake-status", "503"), ("x-fake-retry-after", "3")], &stream());
    assert_eq!(overloaded.json()["error"]["message"], "Service Overloaded");
    assert_eq!(overloaded.header("retry-after"), Some("3"));
    let limited = post(&fake, MESSAGES, &[("x-fake-status", "429")], &stream());
    assert_eq!(limited.json()["error"]["type"], "rate_limit_error");
    let page = post(&fake, CHAT, &[("x-fake-status", "520"), ("x-fake-body", "html")], &stream());
    assert!(page.text().starts_with("<html>"));
    let twice = [("x-fake-status", "503"), ("x-fake-times", "2")];
    let statuses: Vec<_> = (0..3).map(|_| post(&fake, CHAT, &twice, &stream()).status()).collect();
    assert_eq!(statuses, [503, 503, 200]);
    assert_eq!(post(&fake, CHAT, &[("x-fake-stauts", "503")], &stream()).status(), 400);
    assert_eq!(fake.statistics().script_errors, 1);
}

#[test]
fn odd_heads_and_encodings_are_sent_as_asked() {
    let fake = FakeFireworks::start_default();
    let mut client = connect(&fake);
    let headers = [("x-fake-interim", "103"), ("x-fake-split", "byte"), ("x-fake-limits", "prompt-only")];
    client.request("POST", CHAT, &headers, stream().to_string().as_bytes());
    assert_eq!(client.read_head().status, 103);
    let response = client.read_response();
    assert_eq!(response.header("x-ratelimit-limit-tokens-prompt"), Some("3600000"));
    assert_eq!(response.header("x-ratelimit-limit-tokens-generated"), None);
    let gzip = [
        ("x-fake-encoding", "gzip"),
        ("x-fake-limits", "per-second"),
        ("x-fake-uncached-spelling", "uncached"),
    ];
    let opaque = post(&fake, CHAT, &gzip, &json!({}));
    let padded = post(&fake, CHAT, &[("x-fake-padding", "70000"), ("x-fake-events", "2")], &stream());
    assert!(padded.body.bytes.len() > 140_000);
    assert_eq!(data(&padded).len(), 5, "role, reasoning, two words, finish");
    assert!(opaque.body.bytes.starts_with(&[0x1f, 0x8b]));
    assert_eq!(opaque.header("x-ratelimit-limit-tokens-uncached-prompt"), Some("15000"));
    client.request("POST", CHAT, &[("x-fake-garbage-head", "1")], b"{}");
    assert!(matches!(client.try_read_head().expect_err("no HTTP").reason, CutReason::BadFraming(_)));
}

#[test]
fn connections_are_kept_counted_and_ended() {
    let fake = FakeFireworks::start_default();
    let mut client = connect(&fake);
    client.request("GET", "/inference/v1/models", &[], b"");
    assert_eq!(client.read_response().json()["object"], "list");
    client.request(
        "POST",
        CHAT,
        &[("Connection", "close"), ("Transfer-Encoding", "chunked")],
        b"2\r\n{}\r\n0\r\n\r\n",
    );
    assert_eq!(client.read_response().header("connection"), Some("close"));
    assert!(client.is_closed_by_peer(SOON));
    drop(client);
    post(&fake, CHAT, &[], &json!({}));
    let requests = fake.wait_for_requests(3, SOON);
    assert_eq!(requests.iter().map(|request| request.connection).collect::<Vec<_>>(), [1, 1, 2]);
    assert_eq!(requests[1].body, b"{}");
    assert!(fake.wait_until(SOON, |statistics| statistics.connections_open == 0));
}

#[test]
fn dropping_the_fake_ends_what_it_was_doing() {
    let fake = FakeFireworks::start_default();
    let (mut waiting, mut idle) = (connect(&fake), connect(&fake));
    waiting.request("POST", CHAT, &[("x-fake-gate", "first-event")], stream().to_string().as_bytes());
    waiting.read_final_head();
    idle.request("GET", "/inference/v1/models", &[], b"");
    idle.read_response();
    let (address, started) = (fake.address(), Instant::now());
    drop(fake);
    assert!(started.elapsed() < SOON, "all threads ended");
    assert!(waiting.read_body_to_end().is_err());
    assert!(idle.is_closed_by_peer(SOON));
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn malformed_requests_are_counted() {
    for bad in [
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nHost: x\r\n\r\n",
        "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let fake = FakeFireworks::start(FakeOptions { tls: false, ..FakeOptions::default() });
        let mut client = Client::connect(fake.address());
        client.send(bad.as_bytes()).expect("the fake reads");
        assert_eq!(client.read_response().status(), 400, "{bad}");
        assert_eq!(fake.statistics().malformed, 1, "{bad}");
    }
}

#[test]
fn certificates_and_versions_are_as_ordered() {
    for tls_versions in [TlsVersions::Only12, TlsVersions::Only13] {
        let fake = FakeFireworks::start(FakeOptions { tls_versions, ..FakeOptions::default() });
        assert_eq!(post(&fake, CHAT, &[], &json!({})).status(), 200);
    }
    for certificate in [CertificateKind::Expired, CertificateKind::WrongHost, CertificateKind::UnknownIssuer]
    {
        let fake = FakeFireworks::start(FakeOptions { certificate, ..FakeOptions::default() });
        assert!(connect(&fake).send(b"GET / HTTP/1.1\r\n\r\n").is_err(), "{certificate:?}");
        assert!(fake.wait_until(SOON, |statistics| statistics.handshakes_failed == 1), "{certificate:?}");
    }
}
