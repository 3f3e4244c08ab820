//! What the client gets when there is no try or no time left.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::{
    NO_BUCKET, requests_of, retries, retry_after, send,
    support::{
        client::{Client, Response},
        fake::FakeOptions,
        raw_upstream::RawUpstream,
        wire::{
            CHAT, MESSAGES, Twins, await_page, body_of, direct, error_code, lane_of, lasting_lines, pair,
            proxy_to, settled,
        },
    },
};

/// The lines of a head that were there before the proxy, and those that it has added.
fn lines_of(response: &Response) -> Vec<String> {
    lasting_lines(response).into_iter().filter(|line| !line.starts_with("Retry-After: ")).collect()
}

#[test]
fn when_no_try_is_left_the_last_answer_passes_as_it_was_with_a_time_to_come_back() {
    let twins = Twins::start_with(&FakeOptions::default(), &[("MAX_RETRIES", "1"), NO_BUCKET]);
    let mut asked = Vec::new();
    for status in ["408", "429", "500", "502", "503", "504", "520", "524", "529"] {
        for (path, shape, framing, own) in [
            (CHAT, "json", "length", None),
            (MESSAGES, "html", "chunked", None),
            (CHAT, "empty", "length", Some("1")),
            (MESSAGES, "string-error", "close", Some("2")),
            (MESSAGES, "json", "length", Some("Soon!")),
        ] {
            let mut headers =
                vec![("x-fake-status", status), ("x-fake-body", shape), ("x-fake-framing", framing)];
            headers.extend(own.map(|value| ("x-fake-retry-after", value)));
            let body = body_of(&format!("{status} {shape} {path}"), shape != "json");
            let client = send(&twins.proxy, path, &headers, &body);
            asked.push((path, headers, body, own, client));
        }
    }
    let count = asked.len();
    for (path, headers, body, own, mut client) in asked {
        let mut straight = direct(&twins.plain);
        straight.request("POST", &format!("/inference{path}"), &headers, body.as_bytes());
        let (straight, through) = (straight.read_response(), client.read_response());
        let what = format!("{headers:?}");
        assert_eq!(lines_of(&through), lines_of(&straight), "{what}");
        assert_eq!(through.body.bytes, straight.body.bytes, "{what}");
        assert_eq!(retries(&through), 1, "{what}");
        match own {
            Some(_) => assert_eq!(through.header("retry-after"), own, "{what}"),
            None => assert!((1..=60).contains(&retry_after(&through)), "{what}"),
        }
        // The connection is as good as before.
        client.request("GET", "/v1/models", &[], b"");
        assert_eq!(client.read_response().status(), 200, "{what}");
    }
    assert_eq!(twins.proxied.statistics().requests, 3 * count as u64);
    let usage = twins.proxy.usage();
    let requests = &usage["requests"];
    for (name, expected) in [("finished", 2 * count), ("retries", count), ("failed", 0), ("in_flight", 0)] {
        assert_eq!(requests[name], expected, "{name}");
    }
    for lane in usage["lanes"].as_array().expect("a list") {
        assert_eq!(settled(lane), [0; 3], "what was refused cost nothing");
    }
}

/// How the first and the second try of a request go: an answer, or none.
type Tries = [Option<&'static str>; 2];

const BUSY: Option<&str> = Some(
    "HTTP/1.1 503 Busy\r\nX-Try: first\r\nTransfer-Encoding: chunked\r\n\r\n4;a\r\nbusy\r\n0\r\nT: 1\r\n\r\n",
);
const ENOUGH: Option<&str> = Some("HTTP/1.1 429 Enough\r\nX-Try: second\r\nContent-Length: 6\r\n\r\nenough");
const NONE: Option<&str> = Some("HTTP/1.1 404 Not Here\r\nX-Try: second\r\nContent-Length: 4\r\n\r\nnone");
/// It never comes to its end, so that it cannot be kept.
const HALF: Option<&str> = Some("HTTP/1.1 502 Bad\r\nX-Try: first\r\nContent-Length: 8\r\n\r\nhalf");

/// The tries with what the client gets of them: the status, the body, the `X-Try`, and whether it is asked to wait.
const ENDINGS: [(Tries, u16, &str, Option<&str>, bool); 5] = [
    // It is the last answer that passes and not the first.
    ([BUSY, ENOUGH], 429, "enough", Some("second"), true),
    // What would not be tried again passes, whatever it is.
    ([BUSY, NONE], 404, "none", Some("second"), false),
    // Where the last try gets no answer, an earlier one passes as it was.
    ([BUSY, None], 503, "busy", Some("first"), true),
    ([None, None], 502, "closed_before_head", None, false),
    ([HALF, None], 502, "closed_before_head", None, false),
];

#[test]
fn the_client_gets_the_last_answer_that_there_was() {
    let tries = ENDINGS.map(|_| AtomicUsize::new(0));
    let upstream = RawUpstream::start(move |mut call| {
        call.read_body();
        let at: usize = call.head.split(['?', ' ']).nth(2).and_then(|at| at.parse().ok()).expect("a number");
        if let Some(answer) = ENDINGS[at].0[tries[at].fetch_add(1, Ordering::AcqRel)] {
            call.send(answer.as_bytes());
            call.finish();
        }
    });
    let proxy = proxy_to(&upstream.base_url(), &[("MAX_RETRIES", "1"), NO_BUCKET]);
    let mut clients: Vec<_> = (0..ENDINGS.len())
        .map(|at| send(&proxy, &format!("{MESSAGES}?{at}"), &[], &body_of(&at.to_string(), true)))
        .collect();
    for (client, (tries, status, body, seen, asks_to_wait)) in clients.iter_mut().zip(ENDINGS) {
        let response = client.read_response();
        assert_eq!((response.status(), retries(&response)), (status, 1), "{tries:?}: {}", response.text());
        assert_eq!(response.header("x-try"), seen, "{tries:?}");
        match seen {
            Some(_) => assert_eq!(response.text(), body, "{tries:?}"),
            None => assert_eq!(error_code(MESSAGES, &response), body, "{tries:?}"),
        }
        assert_eq!(response.header("retry-after").is_some(), asks_to_wait, "{tries:?}");
        // Nothing of it is left over on the connection.
        client.request("GET", "/health", &[], b"");
        assert_eq!(client.read_response().status(), 200, "{tries:?}");
    }
    assert_eq!(proxy.usage()["failures"]["may_have_reached"]["closed_before_head"], 4);
}

#[test]
fn a_request_whose_time_is_over_gets_the_last_answer_too() {
    // The first pause fits, a second one of two seconds at least does not.
    let (fake, proxy) = pair(&[("MAX_RETRIES", "100"), ("MAX_HOLD", "2.5"), NO_BUCKET]);
    let mut clients = [("503", CHAT), ("500", MESSAGES)]
        .map(|(status, path)| send(&proxy, path, &[("x-fake-status", status)], &body_of(status, true)));
    for client in &mut clients {
        let response = client.read_response();
        assert!([500, 503].contains(&response.status()), "{}", response.text());
        assert!(retries(&response) <= 1 && (1..=60).contains(&retry_after(&response)));
    }
    assert!(fake.requests().len() <= 4);
}

#[test]
fn a_wait_that_would_outlast_the_time_is_not_begun() {
    let (fake, proxy) = pair(&[("MAX_RETRIES", "5"), ("MAX_HOLD", "20"), NO_BUCKET]);
    for (model, asked_for, client_limit) in [
        ("longer", "30", None),
        ("for-ever", "999999999999999", None),
        // Of this a second is left for the wait, and a pause is longer.
        ("impatient", "0", Some("2")),
    ] {
        let mut headers = vec![("x-fake-status", "429"), ("x-fake-retry-after", asked_for)];
        headers.extend(client_limit.map(|seconds| ("x-stainless-timeout", seconds)));
        let response = proxy.post(MESSAGES, &headers, &body_of(model, true));
        assert_eq!((response.status(), retries(&response)), (429, 0), "{model}");
        assert_eq!(response.header("retry-after"), Some(asked_for), "{model}: it had one");
        assert_eq!(requests_of(&fake, model).len(), 1, "{model}");
    }
    assert_eq!(proxy.post(CHAT, &[], &body_of("another", true)).status(), 200);
}

#[test]
fn a_client_that_leaves_in_a_pause_is_not_asked_for_again() {
    let (fake, proxy) = pair(&[("MAX_RETRIES", "5"), NO_BUCKET]);
    let clients = [("answered", ("x-fake-status", "503")), ("lost", ("x-fake-cut", "before-head"))]
        .map(|(model, fault)| send(&proxy, CHAT, &[fault], &body_of(model, true)));
    // Once both have failed neither is at the upstream.
    let have_failed = |usage: &Value| {
        let lost = &usage["failures"]["may_have_reached"]["closed_before_head"];
        lost == 1 && usage["requests"]["upstream_503"] == 1 && usage["requests"]["in_flight"] == 0
    };
    await_page(|| proxy.usage(), have_failed);
    clients.into_iter().for_each(Client::close);
    let usage = await_page(|| proxy.usage(), |usage| usage["requests"]["client_gone"] == 2);
    assert_eq!((&usage["requests"]["queued"], &usage["requests"]["in_flight"]), (&0.into(), &0.into()));
    let gone = |reach: &str| usage["failures"][reach]["client_gone"].clone();
    assert_eq!([gone("acknowledged"), gone("may_have_reached"), gone("never_reached")], [1, 1, 0]);
    assert_eq!(settled(&lane_of(&usage, "answered")), [0; 3]);
    assert_eq!(fake.requests().len(), 2);
}
