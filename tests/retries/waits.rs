//! How long is waited before a retry, and what the upstream has to say about it.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::{
    NO_BUCKET, retries, send,
    support::{
        client::get,
        raw_upstream::RawUpstream,
        wire::{CHAT, MESSAGES, SOON, await_page, body_of, lane_of, pair, proxy_to},
    },
};

/// What an answer can ask for, and the least that is waited then. Without it a pause is one to two seconds.
const ASKED: [(&str, u64); 6] = [
    ("", 1_000),
    ("retry-after: 3\r\n", 3_000),
    ("Retry-After-Ms: 2500\r\n", 2_500),
    ("retry-after: 1\r\nretry-after-ms: 2600\r\n", 2_600),
    ("date: Sat, 21 Nov 2026 12:00:00 GMT\r\nretry-after: Sat, 21 Nov 2026 12:00:03 GMT\r\n", 3_000),
    ("retry-after: 0\r\nretry-after-ms: soon\r\n", 1_000),
];

#[test]
fn what_the_upstream_asks_for_is_the_least_that_is_waited() {
    let (tell, told) = mpsc::channel();
    let upstream = RawUpstream::start(move |mut call| {
        let arrived = Instant::now();
        let body: serde_json::Value = serde_json::from_slice(&call.read_body()).expect("JSON");
        let at: usize = body["model"].as_str().and_then(|name| name.parse().ok()).expect("a number");
        let status = if at.is_multiple_of(2) { "503 Busy" } else { "429 Enough" };
        call.send(format!("HTTP/1.1 {status}\r\n{}Content-Length: 0\r\n\r\n", ASKED[at].0).as_bytes());
        let answered = Instant::now();
        call.finish();
        let _ = tell.send((at, arrived, answered));
    });
    let proxy = proxy_to(&upstream.base_url(), &[("MAX_RETRIES", "1"), NO_BUCKET]);
    let mut clients: Vec<_> =
        (0..ASKED.len()).map(|at| send(&proxy, MESSAGES, &[], &body_of(&at.to_string(), true))).collect();
    for client in &mut clients {
        let response = client.read_response();
        assert!([429, 503].contains(&response.status()) && retries(&response) == 1, "{}", response.text());
    }
    let mut tries: Vec<_> =
        (0..2 * ASKED.len()).map(|_| told.recv_timeout(SOON).expect("two each")).collect();
    tries.sort_by_key(|(at, arrived, _)| (*at, *arrived));
    for pair in tries.chunks(2) {
        let [(at, arrived, _), (_, again, _)] = pair else { panic!("an even number") };
        let (asked, least) = ASKED[*at];
        // The answer was decided on after it arrived, so the time between arrivals is no shorter.
        assert!(*again - *arrived >= Duration::from_millis(least), "{asked:?}: {:?}", *again - *arrived);
    }
}

#[test]
fn a_refused_request_holds_up_its_own_lane_and_nobody_else() {
    // One request is expected to use most of a limit, so that a refusal is taken to be for it.
    let (fake, proxy) = pair(&[("GENERATED_TPM_LIMIT", "1500"), ("MAX_RETRIES", "1"), NO_BUCKET]);
    let _filler = send(&proxy, CHAT, &[("x-fake-gate", "first-event")], &body_of("m", true));
    fake.wait_for_gate(1, SOON);
    let small = r#"{"model":"m","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let headers = [("x-fake-status", "429"), ("x-fake-times", "1"), ("x-fake-retry-after", "2")];
    let mut refused = send(&proxy, CHAT, &headers, small);
    await_page(|| proxy.usage(), |usage| usage["requests"]["upstream_429"] == 1);
    await_page(|| proxy.health(), |health| health["in_flight"] == 1);
    let mut behind = send(&proxy, MESSAGES, &[], small);
    let usage = await_page(|| proxy.usage(), |usage| usage["requests"]["queued"] == 1);
    assert_eq!(lane_of(&usage, "m")["waits_for"], "pace", "{usage:#}");

    assert_eq!(proxy.post(CHAT, &[], &body_of("another model", true)).status(), 200);
    assert_eq!(proxy.post(CHAT, &[("x-api-key", "another")], &body_of("m", true)).status(), 200);
    assert_eq!(get(proxy.address(), "/v1/models").status(), 200);
    assert_eq!(fake.requests().len(), 5, "and the lane is closed still");

    let (refused, behind) = (refused.read_response(), behind.read_response());
    assert_eq!((refused.status(), retries(&refused)), (200, 1));
    assert_eq!((behind.status(), retries(&behind)), (200, 0), "it was not sent into the same refusal");
    let requests = fake.requests();
    assert_eq!(requests[5].path(), "/inference/v1/chat/completions", "the refused one keeps its place");
}
