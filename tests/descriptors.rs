//! Out of file descriptors: new clients wait, streams go on, and all is well again when descriptors are free.
#![cfg(unix)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::net::TcpStream;

use support::{
    binary::{Binary, SOON, await_true, quiet_zone},
    client::Client,
    fake::FakeFireworks,
    wire::{CHAT, COST, body_of},
};

/// What the proxy may have open. It needs eight for itself.
const DESCRIPTORS: u32 = 40;

/// Far more than there are descriptors for.
const IDLE_CLIENTS: usize = 100;

const CANNOT: &str = "WARN cannot accept connections";
const AGAIN: &str = "INFO connections are accepted again";

/// A proxy with few descriptors, an early client, and so many idle ones that there are none left.
fn exhausted(fake: &FakeFireworks) -> (Binary, Client, Vec<TcpStream>) {
    let proxy = Binary::start_with_descriptors(
        DESCRIPTORS,
        fake,
        &[("TIMEZONE", quiet_zone()), ("MAX_RETRIES", "0")],
    );
    let mut early = Client::connect(proxy.address());
    // Also makes the upstream's address known, for a name cannot be looked up without a descriptor.
    early.request("POST", CHAT, &COST, body_of("m", false).as_bytes());
    assert_eq!(early.read_response().status(), 200);
    let idle = take_all_descriptors(&proxy);
    (proxy, early, idle)
}

fn take_all_descriptors(proxy: &Binary) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect(proxy.address()).expect("the system takes it for the proxy");
    let idle = (0..IDLE_CLIENTS).map(connect).collect();
    proxy.wait_for_line(&[CANNOT]);
    idle
}

#[track_caller]
fn assert_told_once(proxy: &Binary) {
    let lines = proxy.lines();
    for part in [CANNOT, AGAIN] {
        assert_eq!(lines.iter().filter(|line| line.contains(part)).count(), 1, "{part}: {lines:#?}");
    }
}

#[test]
fn a_stream_goes_on_and_ends_whole_while_idle_clients_have_every_descriptor() {
    let fake = FakeFireworks::start_default();
    let proxy = Binary::start_with_descriptors(DESCRIPTORS, &fake, &[("TIMEZONE", quiet_zone())]);
    let mut stream = Client::connect(proxy.address());
    let headers = [&COST[..], &[("x-fake-gate", "middle")]].concat();
    stream.request("POST", CHAT, &headers, body_of("m", true).as_bytes());
    assert_eq!(stream.read_final_head().status, 200);
    fake.wait_for_gate(1, SOON);
    let idle = take_all_descriptors(&proxy);
    fake.release();
    let body = stream.read_body_to_end().expect("the stream ends whole").text();
    assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
    drop(idle);
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
    let (proxy, mut early, idle) = exhausted(&fake);
    for _ in 0..2 {
        early.request("POST", CHAT, &COST, body_of("m", false).as_bytes());
        let response = early.read_response();
        let text = response.text();
        assert_eq!(response.status(), 502, "{text}");
        assert!(text.contains("fireworks-proxy:") && text.contains("Too many open files"), "{text}");
    }
    drop(idle);
    proxy.wait_for_line(&[AGAIN]);
    early.request("POST", CHAT, &COST, body_of("m", false).as_bytes());
    assert_eq!(early.read_response().status(), 200);
    assert_eq!(fake.statistics().requests, 2, "the first and the last");
    assert_told_once(&proxy);
}

#[test]
fn clients_that_wait_get_in_as_others_leave() {
    let fake = FakeFireworks::start_default();
    let (proxy, _early, mut idle) = exhausted(&fake);
    // The last ones of the line, who are let in when enough of the first have left.
    let mut waiting = Client::connect(proxy.address());
    waiting.request("GET", "/health", &[], b"");
    idle.drain(..IDLE_CLIENTS - 10);
    assert_eq!(waiting.read_response().status(), 200);
    proxy.wait_for_line(&[AGAIN]);
    assert_told_once(&proxy);
}
