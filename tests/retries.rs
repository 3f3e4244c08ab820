//! Retries through the running proxy: what is tried again and what is not, when, and what the client gets.
//!
//! A pause before a retry lasts for a second at least, so what can wait at the same time does.
//!
//! - [`answers`]: answers of the upstream that are tried again, and those that pass.
//! - [`endings`]: what the client gets when there is no try or no time left.
//! - [`losses`]: connections that fail, and requests that may not be sent twice.
//! - [`waits`]: how long is waited, and what the upstream has to say about it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

#[path = "retries/answers.rs"]
mod answers;
#[path = "retries/endings.rs"]
mod endings;
#[path = "retries/losses.rs"]
mod losses;
#[path = "retries/waits.rs"]
mod waits;

use support::{
    client::{Client, Response},
    fake::{FakeFireworks, RecordedRequest},
    proxy::ProxyUnderTest,
    wire::{CHAT, MESSAGES, RESPONSES, STREAM_ENDS},
};

/// Lets requests go out as fast as they come: the bucket is not what these tests are about.
const NO_BUCKET: (&str, &str) = ("RPS", "1000");

/// Sends a request on a connection of its own.
fn send(proxy: &ProxyUnderTest, path: &str, headers: &[(&str, &str)], body: &str) -> Client {
    let mut client = proxy.connect();
    client.request("POST", path, headers, body.as_bytes());
    client
}

/// How often the proxy says that it tried again.
#[track_caller]
fn retries(response: &Response) -> u64 {
    let stated = response.header("x-fireworks-proxy-retries").expect("every answer to a request has it");
    stated.parse().expect("a number")
}

/// The seconds that a client is asked to wait.
#[track_caller]
fn retry_after(response: &Response) -> u64 {
    let all: Vec<_> = response.head.headers.iter().filter(|(name, _)| name == "Retry-After").collect();
    assert_eq!(all.len(), 1, "{:?}", response.head);
    all[0].1.parse().expect("whole seconds, which every client can read")
}

/// Checks that an answer is whole and good.
#[track_caller]
fn assert_good(path: &str, stream: bool, response: &Response) {
    assert_eq!(response.status(), 200, "{path}: {}", response.text());
    if stream {
        let (_, end) = STREAM_ENDS.iter().find(|(of, _)| *of == path).expect("a dialect's path");
        assert!(response.text().contains(end), "{path}: {}", response.text());
    } else if [CHAT, MESSAGES, RESPONSES].contains(&path) {
        assert!(response.json()["usage"].is_object(), "{path}: {}", response.text());
    }
}

/// The requests that a fake has received for this model, in order of arrival.
fn requests_of(fake: &FakeFireworks, model: &str) -> Vec<RecordedRequest> {
    let is_its = |request: &RecordedRequest| request.json().is_some_and(|json| json["model"] == model);
    fake.requests().into_iter().filter(is_its).collect()
}
