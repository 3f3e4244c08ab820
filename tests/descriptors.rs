//! Out of file descriptors: idle connections make room; where none is idle, new clients wait, streams go on,
//! and all is well again when descriptors are free.
#![cfg(unix)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use support::{
    binary::{Binary, SOON, await_true, quiet_zone},
    client::{Client, Response},
    fake::FakeFireworks,
    wire::{CHAT, COST, body_of},
};

/// What the proxy may have open. It needs eight for itself.
const DESCRIPTORS: u32 = 40;

/// Far more than there are descriptors for.
const MANY_CLIENTS: usize = 100;

/// Clients that were there before.
const EARLY_CLIENTS: usize = 3;

/// Clients that have begun a request are not idle, and keep their descriptors for as long as this.
const PATIENT: (&str, &str) = ("CLIENT_HEAD_TIMEOUT", "3600");

const CANNOT: &str = "WARN cannot accept connections";
const AGAIN: &str = "INFO connections are accepted again";

/// A proxy with few descriptors, some early clients within the head of a request, and so many more that there
/// are none left.
fn exhausted(fake: &FakeFireworks) -> (Binary, Vec<Client>, Vec<TcpStream>) {
    let proxy = Binary::start_with_descriptors(
        DESCRIPTORS,
        fake,
        &[("TIMEZONE", quiet_zone()), ("MAX_RETRIES", "0"), PATIENT],
    );
    // Makes the upstream's address known, for a name cannot be looked up without a descriptor.
    assert_eq!(proxy.post(CHAT, &COST, &body_of("m", false)).status(), 200);
    let early = (0..EARLY_CLIENTS).map(|_| {
        let mut client = Client::connect(proxy.address());
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n").expect("it is read");
        client
    });
    let early = early.collect();
    let busy = take_all_descriptors(&proxy);
    (proxy, early, busy)
}

/// The rest of an early client's request, and its answer.
fn finish(mut client: Client) -> Response {
    let body = body_of("m", false);
    let fields = COST.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    let rest = format!("{fields}Content-Length: {}\r\n\r\n{body}", body.len());
    client.expect_answer_to("POST");
    client.send(rest.as_bytes()).expect("it is read");
    client.read_response()
}

fn take_all_descriptors(proxy: &Binary) -> Vec<TcpStream> {
    let busy = connect_many(proxy, b"P");
    proxy.wait_for_line(&[CANNOT]);
    busy
}

/// Connects as many clients as there are no descriptors for, each of which sends these bytes.
fn connect_many(proxy: &Binary, bytes: &[u8]) -> Vec<TcpStream> {
    let connect = |_| {
        let mut client = TcpStream::connect(proxy.address()).expect("the system takes it for the proxy");
        client.write_all(bytes).expect("the system takes it for the proxy");
        client
    };
    (0..MANY_CLIENTS).map(connect).collect()
}

#[track_caller]
fn assert_told_once(proxy: &Binary) {
    let lines = proxy.lines();
    for part in [CANNOT, AGAIN] {
        assert_eq!(lines.iter().filter(|line| line.contains(part)).count(), 1, "{part}: {lines:#?}");
    }
}

#[test]
fn a_stream_goes_on_and_ends_whole_while_others_have_every_descriptor() {
    let fake = FakeFireworks::start_default();
    let proxy = Binary::start_with_descriptors(DESCRIPTORS, &fake, &[("TIMEZONE", quiet_zone()), PATIENT]);
    let mut stream = Client::connect(proxy.address());
    let headers = [&COST[..], &[("x-fake-gate", "middle")]].concat();
    stream.request("POST", CHAT, &headers, body_of("m", true).as_bytes());
    assert_eq!(stream.read_final_head().status, 200);
    fake.wait_for_gate(1, SOON);
    let busy = take_all_descriptors(&proxy);
    fake.release();
    let body = stream.read_body_to_end().expect("the stream ends whole").text();
    assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
    drop(busy);
    proxy.wait_for_line(&[AGAIN]);
    for _ in 0..3 {
        assert_eq!(proxy.post(CHAT, &COST, &body_of("m", false)).status(), 200);
    }
    assert_told_once(&proxy);
    // What was counted while the state file could not be opened is in it afterwards.
    await_true("the count in the state file", || {
        std::fs::read_to_string(proxy.state_file())
            .is_ok_and(|state| state.contains(r#""prompt_tokens":4800"#))
    });
}

#[test]
fn a_request_without_a_descriptor_for_its_connection_fails_clearly() {
    let fake = FakeFireworks::start_default();
    let (proxy, mut early, busy) = exhausted(&fake);
    let last = early.pop().expect("an early client");
    for client in early {
        let response = finish(client);
        let text = response.text();
        assert_eq!(response.status(), 502, "{text}");
        assert!(text.contains("fireworks-proxy:") && text.contains("Too many open files"), "{text}");
    }
    drop(busy);
    proxy.wait_for_line(&[AGAIN]);
    assert_eq!(finish(last).status(), 200);
    assert_eq!(fake.statistics().requests, 2, "the first and the last");
    assert_told_once(&proxy);
}

#[test]
fn clients_that_wait_get_in_as_others_leave() {
    let fake = FakeFireworks::start_default();
    let (proxy, _early, mut busy) = exhausted(&fake);
    // The last ones of the line, who are let in when enough of the first have left.
    let mut waiting = Client::connect(proxy.address());
    waiting.request("GET", "/health", &[], b"");
    busy.drain(..MANY_CLIENTS - 10);
    assert_eq!(waiting.read_response().status(), 200);
    proxy.wait_for_line(&[AGAIN]);
    assert_told_once(&proxy);
}

#[test]
fn connections_that_wait_for_nothing_make_room_for_requests() {
    let fake = FakeFireworks::start_default();
    let proxy = Binary::start_with_descriptors(DESCRIPTORS, &fake, &[("TIMEZONE", quiet_zone())]);
    let mut stream = Client::connect(proxy.address());
    let headers = [&COST[..], &[("x-fake-gate", "middle")]].concat();
    stream.request("POST", CHAT, &headers, body_of("m", true).as_bytes());
    assert_eq!(stream.read_final_head().status, 200);
    let mut idle = connect_many(&proxy, b"");
    proxy.wait_for_line(&[AGAIN]);
    for _ in 0..3 {
        assert_eq!(proxy.post(CHAT, &COST, &body_of("m", false)).status(), 200, "with a new connection each");
    }
    let mut end = [0];
    assert_eq!(idle[0].read(&mut end).expect("an end in good order"), 0, "the one idle for the longest");
    idle[MANY_CLIENTS - 1].set_nonblocking(true).expect("a socket");
    let last = idle[MANY_CLIENTS - 1].read(&mut end).map_err(|error| error.kind());
    assert_eq!(last, Err(std::io::ErrorKind::WouldBlock), "the latest is still there");
    fake.release();
    assert!(stream.read_body_to_end().expect("the stream ends whole").text().ends_with("data: [DONE]\n\n"));
    assert_told_once(&proxy);
}
