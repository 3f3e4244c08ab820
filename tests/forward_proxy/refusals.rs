//! Every way in which there is no tunnel, as clients, the log and the pages are told of it.

use std::net::TcpListener;

use super::tunnels::before;
use crate::support::{
    failing::expect_failure,
    fake::FakeFireworks,
    forward_proxy::{ESTABLISHED, ForwardProxy, Reply},
    wire::{CHAT, MESSAGES, body_of, error_code},
};

/// For what is waited for in vain, in seconds.
const SHORT: &str = "0.3";

/// Checks that everybody is told of this failure, with these words, and that nothing of it reached the upstream.
#[track_caller]
fn expect(url: &str, settings: &[(&str, &str)], status: u16, code: &str, words: &[&str]) {
    let fake = FakeFireworks::start_default();
    let proxy = before(&fake, url, settings);
    for answer in expect_failure(&proxy, &[], status, code, "never_reached") {
        let text = answer.text();
        for part in words {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert_eq!(fake.statistics().connections, 0, "{code}");
}

#[test]
fn a_name_that_does_not_resolve() {
    let words = ["the name of the forward proxy before it does not resolve (no-such-proxy.invalid: "];
    expect("http://no-such-proxy.invalid:3128", &[], 502, "proxy_dns", &words);
}

#[test]
fn a_port_on_which_nobody_listens() {
    // Nobody listens on the lowest port, and no test can be given it.
    let words = ["no address of the forward proxy before it accepts the connection (127.0.0.1:1: "];
    expect("http://user:hunter2@127.0.0.1:1", &[], 502, "proxy_unreachable", &words);
}

#[test]
fn no_answer_in_time() {
    // The system completes the TCP connection; nobody ever accepts it.
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = silent.local_addr().expect("a bound listener has an address").to_string();
    let slow = ForwardProxy::always(Reply::Hold(ESTABLISHED.as_bytes()[..20].to_vec()));
    for url in [address, slow.url("")] {
        let words = ["the forward proxy before it took too long (no progress for 0.3 s"];
        expect(&url, &[("CONNECT_TIMEOUT", SHORT)], 504, "proxy_timeout", &words);
    }
    // From there on it is not the proxy's.
    let open = ForwardProxy::always(Reply::Hold(ESTABLISHED.into()));
    expect(&open.url(""), &[("CONNECT_TIMEOUT", SHORT)], 504, "connect_timeout", &[]);
}

#[test]
fn credentials_that_are_missing_wrong_or_of_another_kind() {
    let asks = |schemes: &str| {
        let head =
            format!("HTTP/1.1 407 Proxy Authentication Required\r\n{schemes}Content-Length: 3\r\n\r\nNo!");
        ForwardProxy::always(Reply::Answer(head.into_bytes()))
    };
    let basic = asks("Proxy-Authenticate: Basic realm=\"corp\"\r\n");
    let answered = format!("{} answered 407 Proxy Authentication Required", basic.address());
    let none = format!("the forward proxy before it asks for credentials ({answered}; none are set; ");
    expect(&basic.url(""), &[], 502, "proxy_auth", &[&none]);
    let wrong = format!("({answered}; it does not accept those in FIREWORKS_PROXY_UPSTREAM_PROXY; ");
    expect(&basic.url("user:hunter2@"), &[], 502, "proxy_auth", &[&wrong]);
    let ntlm = asks("Proxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n");
    expect(
        &ntlm.url(""),
        &[],
        502,
        "proxy_auth",
        &["it takes NTLM, Negotiate, and here Basic alone is known"],
    );
}

#[test]
fn a_refusal_for_good() {
    for status in ["403 Forbidden", "404 Not Found", "302 Found", "400 Bad Request"] {
        let forward = ForwardProxy::always(Reply::status(status));
        let words = format!("lets nothing through to it ({} answered {status}; ", forward.address());
        expect(&forward.url("user:hunter2@"), &[], 502, "proxy_denied", &[&words]);
    }
}

#[test]
fn a_failure_of_the_proxy() {
    let garbage = b"\x00\x01\x02\x03".to_vec();
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(20_000)).into_bytes();
    for (reply, how) in [
        (Reply::status("502 Bad Gateway"), "answered 502 Bad Gateway"),
        (Reply::status("503 Service Unavailable"), "answered 503 Service Unavailable"),
        (Reply::status("504 Gateway Timeout"), "answered 504 Gateway Timeout"),
        (Reply::Answer(Vec::new()), "it closed the connection"),
        (Reply::Answer(ESTABLISHED.as_bytes()[..30].to_vec()), "it closed the connection"),
        (Reply::Hold(garbage), "a control character in the head"),
        (Reply::Hold(endless), "an answer of more than 16384 bytes"),
        (Reply::Hold(b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec()), "it switches protocols"),
    ] {
        let forward = ForwardProxy::always(reply);
        let words = ["the forward proxy before it could not reach it", &forward.address().to_string(), how];
        expect(&forward.url(""), &[], 502, "proxy_failed", &words);
    }
}

#[test]
fn what_may_pass_is_tried_again_and_what_would_be_the_same_again_is_not() {
    let fake = FakeFireworks::start_default();
    for (first, code) in [
        (Reply::status("503 Service Unavailable"), Some("proxy_failed")),
        (Reply::Answer(Vec::new()), Some("proxy_failed")),
        (Reply::status("403 Forbidden"), None),
        (Reply::status("407 Proxy Authentication Required"), None),
    ] {
        let forward =
            ForwardProxy::start(move |number, _| if number == 0 { first.clone() } else { Reply::Pass });
        let proxy = before(&fake, &forward.url(""), &[("MAX_RETRIES", "5")]);
        let response = proxy.post(MESSAGES, &[], &body_of("m", true));
        if let Some(code) = code {
            assert_eq!((response.status(), response.header("x-fireworks-proxy-retries")), (200, Some("1")));
            assert_eq!(proxy.usage()["failures"]["never_reached"][code], 1);
        } else {
            assert_eq!(response.status(), 502);
            assert_eq!(
                (forward.heads().len(), error_code(MESSAGES, &response).starts_with("proxy_")),
                (1, true)
            );
        }
        assert_eq!(proxy.post(CHAT, &[], &body_of("m", true)).status(), 200);
    }
}
