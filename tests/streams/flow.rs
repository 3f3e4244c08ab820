//! What passes, in which pieces, and on which connections.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::support::{
    fake::answer_text,
    raw_upstream::{Call, RawUpstream},
    wire::{
        CHAT, MESSAGES, RESPONSES, SOON, STREAM_ENDS, Twins, assert_same_body, await_page, body_of, direct,
        lasting_lines, pair, proxy_to,
    },
};

#[test]
fn events_arrive_while_the_rest_of_the_stream_is_still_held() {
    let (fake, proxy) = pair(&[]);
    for (path, end) in STREAM_ENDS {
        let mut client = proxy.connect();
        let headers = [("x-fake-gate", "middle"), ("x-fake-events", "4")];
        client.request("POST", path, &headers, body_of("m", true).as_bytes());
        assert_eq!(client.read_final_head().status, 200);
        let seen = client.read_until("birch").expect("the second word comes before the gate");
        fake.wait_for_gate(1, SOON);
        assert!(seen.contains("amber") && !seen.contains("café") && !seen.contains(end), "{path}: {seen}");
        assert_eq!(fake.release(), 1, "{path}: the rest was held all the time");
        let rest = client.read_body_to_end().expect("a whole stream").text();
        assert!(rest.contains("café") && rest.contains("delta") && rest.contains(end), "{path}: {rest}");
    }
}

#[test]
fn the_head_arrives_while_the_first_event_is_still_held() {
    let (fake, proxy) = pair(&[]);
    for framing in ["chunked", "length", "close"] {
        let mut client = proxy.connect();
        let headers = [("x-fake-gate", "first-event"), ("x-fake-framing", framing)];
        client.request("POST", CHAT, &headers, body_of("m", true).as_bytes());
        assert_eq!(client.read_final_head().status, 200, "{framing}");
        fake.wait_for_gate(1, SOON);
        assert_eq!(fake.release(), 1, "{framing}");
        assert!(client.read_body_to_end().expect("whole").text().ends_with("data: [DONE]\n\n"), "{framing}");
    }
}

#[test]
fn a_body_of_known_length_is_not_held_back_either() {
    let (fake, proxy) = pair(&[]);
    for framing in ["chunked", "length", "close"] {
        let mut client = proxy.connect();
        let headers = [("x-fake-gate", "middle"), ("x-fake-framing", framing)];
        client.request("POST", CHAT, &headers, body_of("m", false).as_bytes());
        client.read_final_head();
        let first = client.read_chunk().expect("the first half").expect("a piece of it");
        fake.wait_for_gate(1, SOON);
        assert_eq!(fake.release(), 1, "{framing}");
        let rest = client.read_body_to_end().expect("the second half").bytes;
        let whole: serde_json::Value = serde_json::from_slice(&[first, rest].concat()).expect("JSON");
        assert_eq!(whole["choices"][0]["message"]["content"], answer_text(8), "{framing}");
    }
}

#[test]
fn the_upstreams_own_chunks_reach_the_client_byte_for_byte() {
    let twins = Twins::start();
    for path in [CHAT, MESSAGES, RESPONSES] {
        let headers = [("Connection", "close"), ("x-fake-events", "50")];
        let mut straight = direct(&twins.plain);
        straight.request("POST", &format!("/inference{path}"), &headers, body_of("m", true).as_bytes());
        straight.read_final_head();
        let mut through = twins.proxy.connect();
        through.request("POST", path, &headers, body_of("m", true).as_bytes());
        through.read_final_head();
        let (straight, through) = (straight.read_raw_until_eof(), through.read_raw_until_eof());
        assert!(straight.ends_with(b"\r\n0\r\n\r\n"), "the framing is looked at, not the payload");
        assert_eq!(String::from_utf8_lossy(&through), String::from_utf8_lossy(&straight), "{path}");
    }
}

#[test]
fn odd_but_valid_chunks_are_kept_too() {
    let body = "0003;a=\"b\"\r\nabc\r\nA\r\n0123456789\r\n00;last\r\nX-Sum: 1\r\nx-more:\r\n\r\n";
    let upstream =
        RawUpstream::answering(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n{body}"));
    let proxy = proxy_to(&upstream.base_url(), &[]);
    let mut client = proxy.connect();
    client.request("GET", "/v1/x", &[("Connection", "close")], b"");
    client.read_final_head();
    assert_eq!(String::from_utf8_lossy(&client.read_raw_until_eof()), body);
}

#[test]
fn an_answer_that_comes_byte_by_byte_is_the_same_answer() {
    let twins = Twins::start();
    for (path, _) in STREAM_ENDS {
        for stream in [false, true] {
            let (straight, through) =
                twins.ask("POST", path, &[("x-fake-split", "byte")], &body_of("m", stream));
            assert_eq!(lasting_lines(&through), lasting_lines(&straight), "{path}");
            assert_same_body(&through, &straight);
        }
    }
}

#[test]
fn a_client_connection_serves_one_request_after_another() {
    let (fake, proxy) = pair(&[]);
    let mut client = proxy.connect();
    let rounds: [(&str, bool, &str); 8] = [
        (CHAT, true, "chunked"),
        (MESSAGES, false, "length"),
        (RESPONSES, true, "close"),
        (CHAT, false, "close"),
        (MESSAGES, true, "length"),
        (RESPONSES, false, "chunked"),
        (CHAT, false, "length"),
        (MESSAGES, true, "chunked"),
    ];
    for (path, stream, framing) in rounds {
        client.request("POST", path, &[("x-fake-framing", framing)], body_of("m", stream).as_bytes());
        let response = client.read_response();
        assert_eq!((response.status(), response.header("connection")), (200, None), "{path} {framing}");
        client.request("POST", path, &[("x-fake-status", "500")], body_of("m", stream).as_bytes());
        assert_eq!(client.read_response().status(), 500, "after an error, too");
    }
    client.request("GET", "/health", &[("Connection", "close")], b"");
    assert_eq!(client.read_response().json()["status"], "ok");
    assert!(client.is_closed_by_peer(SOON), "when it is asked to");
    assert_eq!(fake.statistics().connections, 16);
}

#[test]
fn a_pipelined_request_waits_its_turn() {
    let (fake, proxy) = pair(&[]);
    let request = |path: &str, fields: &str, model: &str| {
        let body = body_of(model, true);
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{fields}\r\n{body}",
            body.len()
        )
    };
    let mut client = proxy.connect();
    let both = request(CHAT, "x-fake-gate: middle\r\n", "first")
        + &request(MESSAGES, "x-fake-gate: head\r\n", "second")
        + "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.expect_answer_to("POST");
    client.send(both.as_bytes()).expect("the proxy takes all three");

    fake.wait_for_gate(1, SOON);
    let health = proxy.health();
    assert_eq!((&health["in_flight"], &health["queue_depth"]), (&1.into(), &0.into()));
    assert_eq!(fake.requests().len(), 1, "the second is not sent before the first is answered");
    assert_eq!(fake.release(), 1);
    let first = client.read_response();
    assert!(first.text().ends_with("data: [DONE]\n\n"), "{}", first.text());

    fake.wait_for_gate(1, SOON);
    assert_eq!(fake.release(), 1);
    let second = client.read_response();
    assert!(second.text().contains("message_stop"), "{}", second.text());
    assert_eq!(client.read_response().json()["status"], "ok", "a page waits its turn, too");
    let models: Vec<_> =
        fake.requests().iter().filter_map(|request| Some(request.json()?["model"].to_string())).collect();
    assert_eq!(models, ["\"first\"", "\"second\""]);
}

/// More than the buffers of both connections hold.
const HUGE_BYTES: usize = 256 << 20;

/// Sends [`HUGE_BYTES`], and says as soon as the peer has taken nothing for half a second, or all. Does not block:
/// after a blocking write has timed out, Windows does not say what of it was sent.
fn send_hugely(mut call: Call, stalled: &mpsc::Sender<usize>) {
    call.read_body();
    call.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {HUGE_BYTES}\r\n\r\n").as_bytes());
    // Nobody listens any more once the test has seen the first stall.
    let report = |sent| stalled.send(sent).unwrap_or_default();
    let patience = Duration::from_millis(500);
    call.stream.get_ref().set_nonblocking(true).expect("a socket can be told not to block");
    let (piece, mut sent, mut moved_at) = (vec![b'x'; 64 * 1024], 0, Instant::now());
    while sent < HUGE_BYTES && moved_at.elapsed() < 3 * SOON {
        match std::io::Write::write(call.stream.get_mut(), &piece[..piece.len().min(HUGE_BYTES - sent)]) {
            Ok(count) => (sent, moved_at) = (sent + count, Instant::now()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if moved_at.elapsed() >= patience {
                    report(sent);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) => return,
        }
    }
    report(sent);
    call.stream.get_ref().set_nonblocking(false).expect("a socket can be told to block");
    call.finish();
}

#[test]
fn a_client_that_does_not_read_stalls_its_own_upstream_and_nobody_else() {
    let (stalled, stalls) = mpsc::channel();
    let upstream = RawUpstream::start(move |mut call| {
        if call.head.starts_with("GET /base/v1/huge ") {
            return send_hugely(call, &stalled);
        }
        call.read_body();
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall");
        call.finish();
    });
    let proxy = proxy_to(&upstream.base_url(), &[]);
    let mut idle = proxy.connect();
    idle.request("GET", "/v1/huge", &[], b"");
    assert_eq!(idle.read_head().status, 200);
    let sent = stalls.recv_timeout(3 * SOON).expect("the upstream stalls or is done");
    assert!(sent < HUGE_BYTES, "the proxy holds what its client does not read");

    for _ in 0..3 {
        assert_eq!(proxy.post(CHAT, &[], &body_of("m", true)).text(), "small");
    }
    assert_eq!(proxy.health()["in_flight"], 1);
    let mut read = 0;
    while let Some(piece) = idle.read_chunk().expect("nothing is lost") {
        assert!(piece.iter().all(|byte| *byte == b'x'));
        read += piece.len();
    }
    assert_eq!(read, HUGE_BYTES);
    await_page(|| proxy.health(), |health| health["in_flight"] == 0);
}
