//! Who may come in, on the wire: nothing of what is refused is read, answered or sent on.
//!
//! - [`strangers`]: names that are not the proxy's, and pages of other origins.
//! - [`secret`]: the secret that clients prove themselves with.
//! - [`pages`]: what the proxy's own pages tell browsers.
//!
//! Every spelling of hosts, origins and secrets is in the unit tests of `access` and `config`; what the
//! start refuses is in `start`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

#[path = "access/pages.rs"]
mod pages;
#[path = "access/secret.rs"]
mod secret;
#[path = "access/strangers.rs"]
mod strangers;

use support::{
    client::{Client, Response},
    wire::{CHAT, MESSAGES, error_code},
};

/// Requests of each kind: pages, generation in both dialects, and what costs nothing.
const ASKED: [(&str, &str); 8] = [
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/usage"),
    ("GET", "/metrics"),
    ("POST", CHAT),
    ("POST", MESSAGES),
    ("GET", "/v1/models"),
    ("OPTIONS", CHAT),
];

/// Asks for something with these fields, and reads the refusal, which must be the end of its connection, not
/// to be kept by any cache, and of no use to a page of another origin.
#[track_caller]
fn refusal(mut client: Client, method: &str, path: &str, fields: &[(&str, &str)], code: &str) -> Response {
    client.request(method, path, fields, b"");
    let response = client.read_response();
    assert_eq!(error_code(path, &response), code, "{method} {path}");
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(response.json()["error"]["upstream"], "never_reached");
    assert_no_cors(&response);
    assert!(client.read_raw_until_eof().is_empty(), "{method} {path}: nothing comes after it");
    response
}

/// Checks that no script of another origin is allowed to read an answer.
#[track_caller]
fn assert_no_cors(response: &Response) {
    let allows = |(name, _): &(String, String)| name.to_ascii_lowercase().starts_with("access-control-");
    assert!(!response.head.headers.iter().any(allows), "{:?}", response.head.headers);
}
