//! The requests of real clients, as they were seen on the wire, through the proxy: answered as straight from the
//! upstream, and arrived there as they were sent.
//!
//! - [`shapes`]: the heads and bodies of each client.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

#[path = "client_shapes/shapes.rs"]
mod shapes;

use serde_json::json;
use shapes::{SHAPES, Shape};
use support::{
    client::Client,
    fake::{Outcome, RecordedRequest},
    wire::{CHAT, SOON, Twins, assert_same_body, await_page, direct, lane_of, lasting_lines, pair},
};

/// Sends a client's request; `base` is what the server has before the client's path.
fn send(client: &mut Client, base: &str, shape: &Shape, body: &str) {
    let headers = shape.headers(body);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    client.request(shape.method(), &format!("{base}{}", shape.target()), &headers, body.as_bytes());
}

/// Fields without those that are the proxy's business.
fn lasting<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<(&'a str, &'a str)> {
    const OF_THE_PROXY: [&str; 5] = ["host", "accept-encoding", "connection", "upgrade", "http2-settings"];
    let lasts = |(name, _): &(&str, &str)| !OF_THE_PROXY.contains(&name.to_ascii_lowercase().as_str());
    fields.into_iter().filter(lasts).collect()
}

/// Checks that a request arrived as the client sent it.
#[track_caller]
fn assert_arrived(received: &RecordedRequest, shape: &Shape, body: &str) {
    let sent = shape.headers(body);
    let sent = lasting(sent.iter().map(|(name, value)| (*name, value.as_str())));
    let arrived = lasting(received.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    assert_eq!(arrived, sent, "{}", shape.name);
    assert_eq!(received.target, format!("/inference{}", shape.target()), "{}", shape.name);
    assert!(received.body == body.as_bytes(), "{}: the body was changed", shape.name);
    assert_eq!(received.header("accept-encoding"), Some("identity"), "{}", shape.name);
    assert_eq!(received.header("connection"), Some("close"), "{}", shape.name);
}

#[test]
fn every_client_is_answered_through_the_proxy_as_straight_from_the_upstream() {
    let twins = Twins::start();
    for shape in &SHAPES {
        // Two steps of a session, on one connection where the client keeps it.
        let (mut straight, mut through) = (direct(&twins.plain), twins.proxy.connect());
        for step in 1..=2 {
            let body = shape.body(step);
            send(&mut straight, "/inference", shape, &body);
            send(&mut through, "", shape, &body);
            let (straight_answer, through_answer) = (straight.read_response(), through.read_response());
            assert_eq!(through_answer.status(), 200, "{}: {}", shape.name, through_answer.text());
            assert_eq!(lasting_lines(&through_answer), lasting_lines(&straight_answer), "{}", shape.name);
            assert_same_body(&through_answer, &straight_answer);
            assert_eq!(through_answer.header("connection"), None, "{}", shape.name);
            let requests = twins.proxied.requests();
            assert_arrived(requests.last().expect("it has just been answered"), shape, &body);
        }
    }
    assert_eq!(twins.proxied.statistics().malformed, 0);
    assert_eq!(twins.proxied.requests().len(), 2 * SHAPES.len());
}

#[test]
fn a_clients_model_and_credential_have_a_lane_of_their_own() {
    let (fake, proxy) = pair(&[]);
    for shape in &SHAPES {
        let mut client = proxy.connect();
        send(&mut client, "", shape, &shape.body(1));
        assert_eq!(client.read_response().status(), 200, "{}", shape.name);
    }
    let usage = proxy.usage();
    let lanes = usage["lanes"].as_array().expect("a list");
    let mut distinct: Vec<_> = SHAPES.iter().map(|shape| (shape.credential(), shape.model)).collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(lanes.len(), distinct.len(), "{usage:#}");
    assert!(distinct.iter().all(|(credential, _)| !usage.to_string().contains(credential)));
    for (_, model) in distinct {
        assert!(lane_of(&usage, model)["budgets"]["prompt"]["used_60s"].as_u64() > Some(0), "{model}");
    }
    let day =
        ["prompt_tokens", "generated_tokens"].map(|name| usage["day"][name].as_u64().expect("a number"));
    // The fake charges for an event just after it was sent.
    assert!(
        fake.wait_until(SOON, |charged| [charged.prompt_tokens, charged.generated_tokens] == day),
        "{day:?}: {:#?}",
        fake.statistics()
    );
}

#[test]
fn claude_code_probes_without_a_key_and_asks_on_another_connection() {
    let (fake, proxy) = pair(&[]);
    let mut probe = proxy.connect();
    let headers = [("Connection", "keep-alive"), ("User-Agent", "Bun/1.4.0"), ("Accept", "*/*")];
    probe.request("HEAD", "/", &headers, b"");
    assert_eq!(probe.read_response().status(), 200);
    let shape = Shape::named("claude-code");
    let mut client = proxy.connect();
    for step in 1..=3 {
        send(&mut client, "", shape, &shape.body(step));
        let answer = client.read_response();
        assert!(answer.text().contains("event: message_stop"), "{}", answer.text());
    }
    let received = fake.requests();
    assert_eq!(received.len(), 3, "the probe is answered by the proxy");
    for (step, request) in (1..).zip(&received) {
        assert_arrived(request, shape, &shape.body(step));
        assert_eq!(request.header("X-Claude-Code-Session-Id"), Some("0b0e7e9c-4c1c-4f0e-9f2e-0d4f6a1b2c3d"));
        assert_eq!(request.target, "/inference/v1/messages?beta=true");
    }
}

#[test]
fn codex_and_the_openai_sdk_close_after_the_final_event_and_connect_anew() {
    let (fake, proxy) = pair(&[]);
    let clients = [("codex", "\"type\":\"response.completed\""), ("kimi-cli-kimi", "data: [DONE]\n\n")];
    for (name, end) in clients {
        let shape = Shape::named(name);
        for step in 1..=2 {
            let mut client = proxy.connect();
            let headers = shape.headers(&shape.body(step));
            let tail = ("x-fake-tail-ms", "120000".to_owned());
            let headers: Vec<_> =
                headers.iter().chain([&tail]).map(|(name, value)| (*name, value.as_str())).collect();
            client.request(shape.method(), shape.target(), &headers, shape.body(step).as_bytes());
            client.read_final_head();
            client.read_until(end).expect("the final event comes before the tail");
            client.close();
        }
    }
    assert!(fake.wait_until(SOON, |seen| seen.cancelled == 4), "{:#?}", fake.statistics());
    let usage = await_page(|| proxy.usage(), |usage| usage["requests"]["in_flight"] == 0);
    assert_eq!((&usage["requests"]["finished"], &usage["requests"]["client_gone"]), (&4.into(), &0.into()));
    assert_eq!(usage["day"]["generated_tokens"], 4 * 42);
    let is_normal =
        |request: &RecordedRequest| request.outcome == Outcome::ClosedByPeer { after_last_event: true };
    assert!(fake.requests().iter().all(is_normal));
}

#[test]
fn eight_sessions_at_once_get_their_own_answers() {
    let (fake, proxy) = pair(&[]);
    let shape = Shape::named("opencode-openai");
    std::thread::scope(|scope| {
        for session in 0..8 {
            let proxy = &proxy;
            scope.spawn(move || {
                let session = format!("ses_{session}");
                let mut client = proxy.connect();
                for step in 1..=3 {
                    let body = json!({"model": session, "stream": true, "step": step}).to_string();
                    let headers = [("x-session-affinity", session.as_str()), ("X-Session-Id", &session)];
                    client.request("POST", shape.target(), &headers, body.as_bytes());
                    let text = client.read_response().text();
                    assert!(text.contains(&format!("\"model\":\"{session}\"")), "{text}");
                    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
                }
            });
        }
    });
    let received = fake.requests();
    assert_eq!(received.len(), 24);
    for request in received {
        let model = request.json().expect("JSON")["model"].clone();
        assert_eq!(model, request.header("x-session-affinity").expect("it was sent"));
        assert_eq!(model, request.header("x-session-id").expect("it was sent"));
    }
}

#[test]
fn curl_waits_for_its_expectation_to_be_met_before_a_large_body() {
    let twins = Twins::start();
    let shape = Shape::named("curl");
    let padding = "x".repeat(2 << 20);
    let image = format!("data:image/png;base64,{padding}");
    let content = json!([{"type": "image_url", "image_url": {"url": image}}]);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": content}]}).to_string();
    let headers = shape.headers(&body);
    let expect = ("Expect", "100-continue".to_owned());
    let headers: Vec<_> =
        headers.iter().chain([&expect]).map(|(name, value)| (*name, value.as_str())).collect();
    let answers = [(direct(&twins.plain), "/inference/v1/chat/completions"), (twins.proxy.connect(), CHAT)]
        .map(|(mut client, target)| {
            client.request("POST", target, &headers, b"");
            assert_eq!(client.read_head().status, 100);
            client.send(body.as_bytes()).expect("the body is taken");
            client.read_response()
        });
    let [straight, through] = answers;
    assert_eq!(lasting_lines(&through), lasting_lines(&straight));
    assert_same_body(&through, &straight);
    let received = &twins.proxied.requests()[0];
    assert_arrived(received, shape, &body);
    assert_eq!(received.header("expect"), None);
}

#[test]
fn curl_offers_http2_and_speaks_http1_0_when_it_is_told_to() {
    let (fake, proxy) = pair(&[]);
    let body = r#"{"model":"m","stream":true}"#;
    let common = format!(
        "Host: localhost:8787\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    let mut client = proxy.connect();
    client.expect_answer_to("POST");
    let offer =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n";
    let request = format!("POST {CHAT} HTTP/1.1\r\n{common}{offer}\r\n{body}");
    client.send(request.as_bytes()).expect("the proxy takes it");
    let response = client.read_response();
    assert_eq!((response.status(), response.header("upgrade")), (200, None));
    assert!(response.text().ends_with("data: [DONE]\n\n"));

    let mut old = proxy.connect();
    let request = format!("POST {CHAT} HTTP/1.0\r\n{common}\r\n{body}");
    old.send(request.as_bytes()).expect("the proxy takes it");
    let answer = String::from_utf8(old.read_raw_until_eof()).expect("text");
    let (head, stream) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && !head.to_lowercase().contains("transfer-encoding"),
        "{head}"
    );
    assert!(stream.starts_with("data: {") && stream.ends_with("data: [DONE]\n\n"), "{stream}");
    for request in fake.requests() {
        assert_eq!((request.header("upgrade"), request.header("http2-settings")), (None, None));
        assert!(!request.http10);
    }
}
