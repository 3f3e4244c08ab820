//! Answers of the upstream that are tried again, and those that pass.

use std::{sync::mpsc, time::Duration};

use crate::{
    NO_BUCKET, assert_good, requests_of, retries, send,
    support::{
        client::Response,
        fake::{FakeOptions, RecordedRequest},
        raw_upstream::{Call, RawUpstream},
        wire::{
            CHAT, MESSAGES, RESPONSES, SOON, Twins, body_of, large_body, lasting_lines, pair, pieces,
            proxy_to, send_in_chunks,
        },
    },
};

/// Every status that may pass.
const PASSING: [u16; 16] = [408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 528, 529];

#[test]
fn a_status_that_may_pass_is_tried_again_and_the_client_sees_only_the_good_answer() {
    let (fake, proxy) = pair(&[("MAX_RETRIES", "1"), NO_BUCKET]);
    let mut asked = Vec::new();
    for (at, status) in PASSING.into_iter().enumerate() {
        for (path, stream) in [(CHAT, at % 2 == 0), (MESSAGES, at % 2 == 1), (RESPONSES, at % 3 == 0)] {
            let model = format!("{at} {status} {path}");
            let (status, shape) = (status.to_string(), ["json", "html", "empty"][at % 3]);
            let mut headers = vec![
                ("x-fake-status", status.as_str()),
                ("x-fake-times", "1"),
                ("x-fake-body", shape),
                ("x-fake-framing", ["length", "chunked", "close"][at / 3 % 3]),
            ];
            headers.extend((at % 4 == 0).then_some(("x-fake-interim", "103")));
            let client = send(&proxy, path, &headers, &body_of(&model, stream));
            asked.push((path, stream, model, client));
        }
    }
    let count = asked.len();
    for (path, stream, model, mut client) in asked {
        // The first head that a client sees is that of the good answer.
        let head = client.read_head();
        let response = Response { head, body: client.read_body_to_end().expect("a whole body") };
        assert_good(path, stream, &response);
        assert_eq!(retries(&response), 1, "{model}");
        let wait: u64 = response.header("x-fireworks-proxy-wait-ms").expect("stated").parse().expect("ms");
        // Reading the refusal is a part of the pause, and no waiting.
        assert!(wait >= 500, "{model}: the pause counts as waiting: {wait}");
        let [first, second] = &requests_of(&fake, &model)[..] else { panic!("{model}: not two requests") };
        assert_eq!((&first.head, &first.body), (&second.head, &second.body), "{model}");
        assert_ne!(first.connection, second.connection, "{model}: a fresh one each time");
    }
    let requests = proxy.usage()["requests"].clone();
    for (name, expected) in [("total", count), ("finished", count), ("retries", count), ("failed", 0)] {
        assert_eq!(requests[name], expected, "{name}");
    }
    assert_eq!((&requests["upstream_429"], &requests["upstream_503"]), (&3.into(), &3.into()));
}

#[test]
fn every_other_error_passes_at_once_and_unmodified() {
    let twins = Twins::start_with(&FakeOptions::default(), &[("MAX_RETRIES", "3"), NO_BUCKET]);
    let statuses = [
        400, 401, 402, 403, 404, 405, 406, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423,
        424, 425, 426, 428, 431, 451, 499, 501, 505, 506, 507, 508, 511, 519, 530, 599,
    ];
    for status in statuses {
        let (path, shape) = if status % 2 == 0 { (CHAT, "html") } else { (MESSAGES, "json") };
        let status = status.to_string();
        let headers = [("x-fake-status", status.as_str()), ("x-fake-body", shape)];
        let (straight, through) = twins.ask("POST", path, &headers, &body_of("m", true));
        assert_eq!(lasting_lines(&through), lasting_lines(&straight), "{status}");
        assert_eq!(through.body.bytes, straight.body.bytes, "{status}");
        assert_eq!(retries(&through), 0, "{status}");
    }
    assert_eq!(twins.proxied.requests().len(), statuses.len());
    assert_eq!(twins.proxy.usage()["requests"]["retries"], 0);
}

#[test]
fn a_body_is_sent_again_as_it_was_however_large_and_however_it_came() {
    let (fake, proxy) = pair(&[("MAX_RETRIES", "2"), NO_BUCKET]);
    let body = large_body(8 << 20);
    let length = body.len().to_string();
    let ask = |id, fault: (&'static str, &'static str), framing: (&str, &str)| {
        let mut client = proxy.connect();
        // Each has a key and so a lane of its own.
        let headers = [("x-fake-id", id), ("x-api-key", id), fault, ("x-fake-times", "1"), framing];
        client.request("POST", CHAT, &headers, b"");
        client
    };
    let mut whole = ask("whole", ("x-fake-status", "503"), ("Content-Length", &length));
    let mut chunked = ask("chunked", ("x-fake-status", "429"), ("Transfer-Encoding", "chunked"));
    let mut lost = ask("lost", ("x-fake-cut", "before-head"), ("Content-Length", &length));
    pieces(&body).for_each(|piece| whole.send(piece).expect("the proxy takes the piece"));
    lost.send(&body).expect("the proxy takes the body");
    send_in_chunks(&mut chunked, &body);
    for client in [&mut whole, &mut chunked, &mut lost] {
        let response = client.read_response();
        assert_eq!((response.status(), retries(&response)), (200, 1));
    }
    let received = fake.requests();
    assert_eq!(received.len(), 6);
    for id in ["whole", "chunked", "lost"] {
        let tries: Vec<_> =
            received.iter().filter(|request| request.header("x-fake-id") == Some(id)).collect();
        assert!(tries.len() == 2 && tries[0].connection != tries[1].connection, "{id}");
        assert_eq!(tries[0].head, tries[1].head, "{id}");
        assert!(tries.iter().all(|request| request.body == body), "{id}: the body was changed on the way");
    }
}

/// An upstream that handles the first try of each target by this, and answers every other one well.
fn first_try(handle: impl Fn(Call) + Send + Sync + 'static) -> RawUpstream {
    let seen = std::sync::Mutex::new(std::collections::BTreeSet::new());
    RawUpstream::start(move |mut call| {
        let target = call.head.split(' ').nth(1).expect("a target").to_owned();
        if seen.lock().expect("no test panics here").insert(target) {
            return handle(call);
        }
        let body = call.read_body();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        call.send(&[answer.as_bytes(), &body].concat());
        call.finish();
    })
}

#[test]
fn a_refusal_that_comes_before_the_body_was_sent_is_tried_again_with_all_of_it() {
    let upstream = first_try(|mut call| {
        let head = "HTTP/1.1 429 Slow Down\r\nRetry-After-Ms: 1\r\nContent-Length: 4\r\n\r\nslow";
        call.send(head.as_bytes());
        // One reads what still comes, the other closes on it, which resets the connection.
        if call.head.contains("?finish") {
            call.finish();
        }
    });
    let proxy = proxy_to(&upstream.base_url(), &[("MAX_RETRIES", "1")]);
    let body = large_body(8 << 20);
    let mut clients = ["/v1/messages?finish", "/v1/messages?close"].map(|path| {
        let mut client = proxy.connect();
        client.request("POST", path, &[("x-api-key", path)], &body);
        client
    });
    for client in &mut clients {
        let response = client.read_response();
        assert_eq!((response.status(), retries(&response)), (200, 1), "{}", response.text());
        assert!(response.body.bytes == body, "the second try brought all of it");
    }
}

#[test]
fn a_refusals_body_is_not_waited_for() {
    let (closed, closings) = mpsc::channel();
    let upstream = first_try(move |mut call| {
        call.read_body();
        let (status, framing, piece) = match call.head.split(['?', ' ']).nth(2) {
            // Longer than what is kept.
            Some("long") => ("500 A", "Content-Length: 1000000", "x".repeat(1_000_000)),
            Some("stalls") => ("502 B", "Content-Length: 10", "five!".to_owned()),
            Some("breaks") => ("503 C", "Transfer-Encoding: chunked", "zz\r\n".to_owned()),
            Some("ends-early") => ("504 D", "Content-Length: 10", "five!".to_owned()),
            Some("trickles") => ("520 E", "Transfer-Encoding: chunked", "1\r\nx\r\n".to_owned()),
            other => panic!("an unknown target: {other:?}"),
        };
        call.send(format!("HTTP/1.1 {status}\r\n{framing}\r\n\r\n").as_bytes());
        call.send(piece.as_bytes());
        if call.head.contains("ends-early") {
            return call.finish();
        }
        // The proxy does not wait for the rest: it closes, which ends the reading.
        let patience = Some(Duration::from_millis(100));
        call.stream.get_ref().set_read_timeout(patience).expect("a positive timeout is accepted");
        while let Err(error) = std::io::copy(&mut call.stream, &mut std::io::sink()) {
            if error.kind() != std::io::ErrorKind::WouldBlock && error.kind() != std::io::ErrorKind::TimedOut
            {
                break;
            }
            if call.head.contains("trickles") {
                call.send(piece.as_bytes());
            }
        }
        let _ = closed.send(());
    });
    let proxy = proxy_to(&upstream.base_url(), &[("MAX_RETRIES", "1"), NO_BUCKET]);
    let mut clients = ["long", "stalls", "breaks", "ends-early", "trickles"]
        .map(|what| (what, send(&proxy, &format!("/v1/messages?{what}"), &[], &body_of(what, true))));
    for (what, client) in &mut clients {
        let response = client.read_response();
        assert_eq!((response.status(), retries(&response)), (200, 1), "{what}");
    }
    for _ in 0..4 {
        closings.recv_timeout(SOON).expect("each of the first connections is closed");
    }
}

#[test]
fn eight_agents_that_are_refused_twice_each_get_their_answers() {
    let (fake, proxy) = pair(&[("MAX_RETRIES", "5")]);
    let mut clients: Vec<_> = (0..8)
        .map(|agent| {
            let id = agent.to_string();
            // 503 closes no lane: where a 429 does, they would go one after another.
            let headers = [("x-fake-id", id.as_str()), ("x-fake-status", "503"), ("x-fake-times", "2")];
            send(&proxy, MESSAGES, &headers, &body_of("m", true))
        })
        .collect();
    for client in &mut clients {
        let response = client.read_response();
        assert_good(MESSAGES, true, &response);
        assert_eq!(retries(&response), 2);
        let wait: u64 = response.header("x-fireworks-proxy-wait-ms").expect("stated").parse().expect("ms");
        assert!(wait >= 2_000, "both pauses count as waiting: {wait}");
    }
    for agent in 0..8 {
        let is_its =
            |request: &&RecordedRequest| request.header("x-fake-id") == Some(agent.to_string().as_str());
        let arrived: Vec<_> = fake.requests().iter().filter(is_its).map(|request| request.arrived).collect();
        let pauses = [arrived[1] - arrived[0], arrived[2] - arrived[1]].map(|pause| pause.as_secs());
        assert!(pauses[0] >= 1 && pauses[1] >= 2, "each pause is longer than the one before: {pauses:?}");
    }
    assert_eq!(fake.statistics().statuses, [(200, 8), (503, 16)].into());
    let usage = proxy.usage();
    let requests = &usage["requests"];
    for (name, expected) in [("finished", 8), ("retries", 16), ("queued", 0), ("in_flight", 0), ("failed", 0)]
    {
        assert_eq!(requests[name], expected, "{name}: {usage:#}");
    }
}
