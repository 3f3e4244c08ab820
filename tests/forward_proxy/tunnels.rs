//! Requests that get through.

use crate::support::{
    binary::await_true,
    client::Client,
    failing::expect_failure,
    fake::FakeFireworks,
    forward_proxy::{ESTABLISHED, ForwardProxy, Reply},
    proxy::ProxyUnderTest,
    wire::{CHAT, MESSAGES, RESPONSES, SOON, STREAM_ENDS, body_of, large_body},
};

/// A proxy of ours before a fake, with this forward proxy in between.
pub(crate) fn before(fake: &FakeFireworks, url: &str, settings: &[(&str, &str)]) -> ProxyUnderTest {
    ProxyUnderTest::start(fake, &[&[("UPSTREAM_PROXY", url)], settings].concat())
}

#[test]
fn every_request_has_a_tunnel_of_its_own_to_the_upstream_by_name() {
    let (fake, forward) = (FakeFireworks::start_default(), ForwardProxy::passing());
    let proxy = before(&fake, &forward.url(""), &[]);
    for (path, end) in STREAM_ENDS {
        let response = proxy.post(path, &[("x-api-key", "fw_secret")], &body_of("m", true));
        assert_eq!(response.status(), 200, "{}", response.text());
        assert!(response.text().contains(end), "{path}");
    }
    let target = format!("localhost:{}", fake.port());
    let version = env!("CARGO_PKG_VERSION");
    let asked = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: fireworks-proxy/{version}\r\n\r\n"
    );
    assert_eq!(forward.heads(), [asked.as_str(), &asked, &asked], "and nothing of the request is in it");
    assert_eq!((fake.requests().len(), fake.statistics().connections), (3, 3));
    assert_eq!(proxy.health()["forward_proxy"], forward.url(""));
}

#[test]
fn credentials_go_to_the_forward_proxy_and_no_further() {
    let (fake, forward) = (FakeFireworks::start_default(), ForwardProxy::passing());
    // RFC 7617, section 2.
    let proxy = before(&fake, &forward.url("Aladdin:open%20sesame@"), &[]);
    assert_eq!(proxy.post(CHAT, &[], &body_of("m", true)).status(), 200);
    let head = &forward.heads()[0];
    assert!(head.contains("\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"), "{head}");
    let received = String::from_utf8_lossy(&fake.requests()[0].head).to_ascii_lowercase();
    assert!(!received.contains("proxy-authorization"), "{received}");
}

#[test]
fn the_name_is_looked_up_by_the_forward_proxy_and_the_certificate_has_to_be_for_it() {
    let fake = FakeFireworks::start_default();
    let forward = ForwardProxy::always(Reply::PassTo(fake.address()));
    // RFC 6761, section 6.4: nobody can look it up.
    let settings = [("UPSTREAM", "https://no-such-host.invalid:4443/inference")];
    let proxy = before(&fake, &forward.url(""), &settings);
    for answer in expect_failure(&proxy, &[], 502, "tls_certificate", "never_reached") {
        let text = answer.text();
        assert!(text.contains("not for no-such-host.invalid"), "{text}");
    }
    assert!(forward.heads()[0].starts_with("CONNECT no-such-host.invalid:4443 HTTP/1.1\r\n"));
    assert!(fake.requests().is_empty());
}

#[test]
fn the_answer_may_come_byte_by_byte_behind_others_and_with_fields_that_mean_nothing() {
    let fake = FakeFireworks::start_default();
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\
                  Content-Length: 10\r\nVia: 1.1 x\r\n\r\n";
    let forward = ForwardProxy::always(Reply::PassAfter(answer.to_owned()));
    let proxy = before(&fake, &forward.url(""), &[]);
    for path in [CHAT, MESSAGES, RESPONSES] {
        assert_eq!(proxy.post(path, &[], &body_of("m", true)).status(), 200);
    }
}

#[test]
fn what_comes_with_the_answer_belongs_to_tls() {
    let fake = FakeFireworks::start_default();
    // A fatal alert of TLS 1.2, "handshake failure" (RFC 5246, section 7.2), which would be missed if it were lost.
    let bytes = [ESTABLISHED.as_bytes(), &[21, 3, 3, 0, 2, 2, 40]].concat();
    let forward = ForwardProxy::always(Reply::Hold(bytes));
    let proxy = before(&fake, &forward.url(""), &[]);
    for answer in expect_failure(&proxy, &[], 502, "tls_other", "never_reached") {
        assert!(answer.text().contains("HandshakeFailure"), "{}", answer.text());
    }
}

#[test]
fn a_large_request_gets_through_and_an_answer_is_passed_on_as_it_comes() {
    let (fake, forward) = (FakeFireworks::start_default(), ForwardProxy::passing());
    let proxy = before(&fake, &forward.url(""), &[]);
    let body = large_body(4 << 20);
    let mut client = proxy.connect();
    client.request("POST", CHAT, &[], &body);
    assert_eq!(client.read_response().status(), 200);
    assert!(fake.requests()[0].body == body, "the body was changed on the way");

    let mut streaming = ask(&proxy);
    assert_eq!(streaming.read_final_head().status, 200, "the head is here while the rest is held back");
    fake.wait_for_gate(1, SOON);
    assert_eq!(forward.open_tunnels(), 1);
    fake.open_gates();
    let body = streaming.read_body_to_end().expect("it is whole").text();
    assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
    await_true("the tunnel is closed with the answer", || forward.open_tunnels() == 0);
}

/// Asks for an answer that stops in the middle until the gates are opened.
fn ask(proxy: &ProxyUnderTest) -> Client {
    let mut client = proxy.connect();
    client.request("POST", CHAT, &[("x-fake-gate", "middle")], body_of("streamed", true).as_bytes());
    client
}

#[test]
fn a_client_that_leaves_in_mid_answer_takes_the_tunnel_with_it() {
    let (fake, forward) = (FakeFireworks::start_default(), ForwardProxy::passing());
    let proxy = before(&fake, &forward.url(""), &[]);
    let mut client = ask(&proxy);
    client.read_final_head();
    assert_eq!(forward.open_tunnels(), 1);
    client.close();
    await_true("the tunnel is closed", || forward.open_tunnels() == 0);
    assert!(fake.wait_until(SOON, |statistics| statistics.cancelled == 1), "{:?}", fake.statistics());
    assert_eq!(proxy.usage()["requests"]["client_gone"], 1);
}

#[test]
fn a_client_that_leaves_before_the_tunnel_is_open_takes_the_connection_with_it() {
    let fake = FakeFireworks::start_default();
    let (left, has_left) = std::sync::mpsc::channel();
    let left = std::sync::Mutex::new(left);
    let forward = ForwardProxy::start(move |_, head| {
        left.lock().expect("no test panics here").send(head.to_owned()).expect("the test waits");
        Reply::Hold(Vec::new())
    });
    let proxy = before(&fake, &forward.url(""), &[]);
    let client = ask(&proxy);
    has_left.recv_timeout(SOON).expect("the tunnel is asked for");
    client.close();
    await_true("it is counted", || proxy.usage()["requests"]["client_gone"] == 1);
    assert_eq!(proxy.usage()["failures"]["never_reached"]["client_gone"], 1);
    await_true("its connection is closed", || forward.held_to_end() == 1);
}
