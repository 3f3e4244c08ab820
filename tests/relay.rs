//! Requests through the running proxy, over real sockets and real TLS.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use support::{fake::FakeFireworks, proxy::ProxyUnderTest};

#[test]
fn a_completion_comes_back() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &[]);
    let response = proxy.post(
        "/v1/chat/completions",
        &[("Authorization", "Bearer fw_test")],
        r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#,
    );
    assert_eq!(response.status(), 200, "{}", response.text());
    println!("{}\n{}", String::from_utf8_lossy(&response.head.raw), response.text());
    println!("{:#}", proxy.usage());
}
