//! What of a request reaches the upstream, and how.

use serde_json::json;

use crate::support::{
    certs::TlsVersions,
    fake::{FakeFireworks, FakeOptions},
    proxy::ProxyUnderTest,
    raw_upstream::RawUpstream,
    wire::{CHAT, MESSAGES, SOON, body_of, large_body, pair, pieces, proxy_to, send_in_chunks, the_request},
};

#[test]
fn the_base_path_is_put_before_the_target_once_and_the_query_stays() {
    let (fake, proxy) = pair(&[]);
    let targets = [
        ("/v1/models", "/inference/v1/models"),
        ("/v1/messages?beta=true", "/inference/v1/messages?beta=true"),
        ("/inference/v1/models", "/inference/v1/models"),
        ("/inference/v1/messages?a=b&c=%20d", "/inference/v1/messages?a=b&c=%20d"),
        ("/inferences", "/inference/inferences"),
        ("/v1/models?next=/inference/x", "/inference/v1/models?next=/inference/x"),
        ("//v1//models/", "/inference//v1//models/"),
    ];
    let mut client = proxy.connect();
    for (asked, _) in targets {
        client.request("DELETE", asked, &[], b"");
        client.read_response();
    }
    let received: Vec<String> = fake.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(received, targets.map(|(_, expected)| expected));
}

#[test]
fn a_head_is_forwarded_as_it_came_but_for_the_listed_fields() {
    let (fake, proxy) = pair(&[]);
    let body = body_of("m", false);
    let length = body.len();
    let head = format!(
        "POST /v1/messages?beta=true HTTP/1.1\r\nX-FIRST:   spaced \t\r\nhOsT: localhost:8787\r\nX-Api-Key: fw_1\r\n\
         authorization: Bearer fw_2\r\nanthropic-Version: 2023-06-01\r\nanthropic-beta: a, b\r\naccept-encoding: gzip, br\r\n\
         anthropic-beta: c\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nUpgrade: websocket\r\n\
         x-session-affinity: ses_1\r\nX-Session-Id: ses_1\r\nX-Claude-Code-Session-Id: cc\r\nsession-id: s\r\nACCEPT: */*\r\n\
         Cookie: a=b; c=d\r\nx-empty:\r\nX-Stainless-Timeout: NOT_GIVEN\r\nContent-Type: application/json\r\n\
         CONTENT-length: {length}\r\nX-Odd: caf"
    );
    let head = [head.as_bytes(), &[0xe9], b"\r\n\r\n"].concat();
    let mut client = proxy.connect();
    client.send(&[&head, body.as_bytes()].concat()).expect("the proxy takes the request");
    assert_eq!(client.read_response().status(), 200);
    let expected = format!(
        "POST /inference/v1/messages?beta=true HTTP/1.1\r\nX-FIRST: spaced\r\nhOsT: localhost:{}\r\nX-Api-Key: fw_1\r\n\
         authorization: Bearer fw_2\r\nanthropic-Version: 2023-06-01\r\nanthropic-beta: a, b\r\naccept-encoding: identity\r\n\
         anthropic-beta: c\r\nx-session-affinity: ses_1\r\nX-Session-Id: ses_1\r\nX-Claude-Code-Session-Id: cc\r\n\
         session-id: s\r\nACCEPT: */*\r\nCookie: a=b; c=d\r\nx-empty: \r\nX-Stainless-Timeout: NOT_GIVEN\r\n\
         Content-Type: application/json\r\nCONTENT-length: {length}\r\nX-Odd: caf",
        fake.port()
    );
    let expected = [expected.as_bytes(), &[0xe9], b"\r\nConnection: close\r\n\r\n"].concat();
    let received = the_request(&fake);
    assert_eq!(String::from_utf8_lossy(&received.head), String::from_utf8_lossy(&expected));
    assert_eq!(received.head, expected);
    assert_eq!(received.body, body.as_bytes());
}

#[test]
fn an_offer_to_upgrade_to_http2_is_neither_taken_up_nor_passed_on() {
    let (fake, proxy) = pair(&[]);
    let headers = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
    ];
    let response = proxy.post(CHAT, &headers, &body_of("m", false));
    assert_eq!((response.status(), response.header("upgrade")), (200, None));
    let received = the_request(&fake);
    assert_eq!((received.header("upgrade"), received.header("http2-settings")), (None, None));
    assert_eq!(received.header("connection"), Some("close"));
}

#[test]
fn a_body_of_eight_megabytes_in_many_small_writes_arrives_unchanged() {
    let (fake, proxy) = pair(&[]);
    let body = large_body(8 << 20);
    let mut client = proxy.connect();
    client.request("POST", CHAT, &[("Content-Length", &body.len().to_string())], b"");
    for piece in pieces(&body) {
        client.send(piece).expect("the proxy takes the body");
    }
    assert_eq!(client.read_response().status(), 200);
    assert!(the_request(&fake).body == body, "the body was changed on the way");
}

#[test]
fn a_chunked_upload_is_joined_and_gets_a_length() {
    let (fake, proxy) = pair(&[]);
    let body = large_body(1 << 20);
    let mut client = proxy.connect();
    client.request("POST", CHAT, &[("Transfer-Encoding", "chunked"), ("Trailer", "X-Sum")], b"");
    send_in_chunks(&mut client, &body);
    assert_eq!(client.read_response().status(), 200);
    let received = the_request(&fake);
    assert!(received.body == body, "the body was changed on the way");
    assert_eq!(received.header("content-length"), Some(body.len().to_string().as_str()));
    assert_eq!((received.header("transfer-encoding"), received.header("trailer")), (None, None));
}

#[test]
fn an_expectation_is_answered_before_the_body_and_not_passed_on() {
    let (fake, proxy) = pair(&[]);
    let body = body_of("m", false);
    for framing in [("Content-Length", body.len().to_string()), ("Transfer-Encoding", "chunked".to_owned())] {
        let mut client = proxy.connect();
        let requests_before = fake.statistics().requests;
        let headers = [("Expect", "100-Continue"), (framing.0, framing.1.as_str())];
        client.request("POST", CHAT, &headers, b"");
        assert_eq!(client.read_head().status, 100, "{framing:?}");
        assert_eq!(fake.statistics().connections, requests_before, "nothing goes up before the body is here");
        let is_chunked = framing.0 == "Transfer-Encoding";
        let sent = if is_chunked { format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()) } else { body.clone() };
        client.send(sent.as_bytes()).expect("the proxy takes the body");
        assert_eq!(client.read_head().status, 200, "{framing:?}");
        client.read_body_to_end().expect("a whole body");
    }
    for received in fake.requests() {
        assert_eq!((received.header("expect"), received.body.as_slice()), (None, body.as_bytes()));
    }
}

#[test]
fn a_body_that_is_not_json_is_forwarded_all_the_same() {
    let (fake, proxy) = pair(&[]);
    let bodies: [&[u8]; 6] =
        [b"", b"not json", b"\xff\xfe\x00\r\n\r\n0\r\n", br#"{"model":"#, b"[]", b"{\"model\":\"m\"}{}"];
    for body in bodies {
        let mut client = proxy.connect();
        client.request("POST", CHAT, &[], body);
        let response = client.read_response();
        // The fake answers what it cannot read with 400; the proxy has no say in it.
        let expected = if body == b"[]" { 200 } else { 400 };
        assert_eq!(response.status(), expected, "{}", response.text());
    }
    let received: Vec<_> = fake.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(received, bodies);
}

#[test]
fn each_request_has_an_upstream_connection_of_its_own() {
    let (fake, proxy) = pair(&[]);
    let mut client = proxy.connect();
    for count in 1..=4 {
        client.request("POST", MESSAGES, &[], body_of("m", count % 2 == 0).as_bytes());
        assert_eq!(client.read_response().status(), 200);
    }
    let connections: Vec<u64> = fake.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [1, 2, 3, 4]);
    assert!(fake.wait_until(SOON, |statistics| statistics.connections_open == 0), "none is kept");
    assert_eq!(fake.statistics().connections, 4);
    assert!(fake.requests().iter().all(|request| request.header("connection") == Some("close")));
}

#[test]
fn upstreams_that_speak_one_version_of_tls_are_reached() {
    for tls_versions in [TlsVersions::Only12, TlsVersions::Only13] {
        let fake = FakeFireworks::start(FakeOptions { tls_versions, ..FakeOptions::default() });
        let proxy = ProxyUnderTest::start(&fake, &[]);
        for stream in [false, true] {
            let response = proxy.post(CHAT, &[], &body_of("m", stream));
            assert_eq!(response.status(), 200, "{tls_versions:?}: {}", response.text());
        }
    }
}

#[test]
fn an_upstream_on_loopback_may_do_without_tls() {
    let fake = FakeFireworks::start(FakeOptions { tls: false, ..FakeOptions::default() });
    let proxy = ProxyUnderTest::start(&fake, &[]);
    assert_eq!(proxy.post(CHAT, &[], &body_of("m", true)).status(), 200);
    assert_eq!(the_request(&fake).header("host"), Some(format!("127.0.0.1:{}", fake.port()).as_str()));
}

#[test]
fn localhost_is_every_loopback_address_of_the_machine() {
    let (fake, proxy) = pair(&[("HOST", "localhost")]);
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    assert!(proxy.addresses()[0].is_ipv4());
    assert_eq!(proxy.addresses().iter().any(std::net::SocketAddr::is_ipv6), has_ipv6);
    let port = proxy.address().port();
    for address in proxy.addresses() {
        assert!(address.ip().is_loopback() && address.port() == port, "{address}");
        let response = crate::support::client::post_json(address, CHAT, &[], &body_of("m", true));
        assert_eq!(response.status(), 200);
    }
    assert_eq!(fake.requests().len(), proxy.addresses().len());
}

#[test]
fn signs_of_life_and_pages_are_answered_without_the_upstream() {
    let (fake, proxy) = pair(&[]);
    let mut client = proxy.connect();
    for target in ["/", "/?x=1", "/health", "/usage"] {
        client.request("GET", target, &[], b"");
        let page = client.read_response();
        client.request("HEAD", target, &[], b"");
        let head = client.read_response();
        assert_eq!((page.status(), head.status()), (200, 200), "{target}");
        assert_eq!(page.header("content-type"), Some("application/json"));
        assert!(page.json().is_object() && head.body.bytes.is_empty(), "{target}");
        assert!(head.header("content-length").is_some_and(|length| length != "0"), "{target}");
    }
    assert_eq!(fake.statistics().connections, 0);
}

#[test]
fn requests_that_do_not_generate_are_forwarded_and_cost_no_tokens() {
    let (fake, proxy) = pair(&[]);
    let mut client = proxy.connect();
    client.request("GET", "/v1/models", &[], b"");
    let models = client.read_response();
    assert_eq!(models.status(), 200);
    assert_eq!(models.json()["object"], "list");
    client.request("POST", "/v1/messages/count_tokens", &[], body_of("m", false).as_bytes());
    let counted = client.read_response();
    assert_eq!((counted.status(), counted.json()["error"]["code"].as_str()), (404, Some("NOT_FOUND")));
    let usage = proxy.usage();
    assert_eq!((&usage["lanes"], &usage["day"]["used"]), (&json!([]), &json!(0)));
    assert_eq!(usage["requests"]["total"], 2);
    assert_eq!(fake.statistics().statuses, [(200, 1), (404, 1)].into());
}

#[test]
fn an_answer_that_comes_before_the_body_was_sent_is_passed_on() {
    let upstream = RawUpstream::start(|mut call| {
        call.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\n\r\nlate");
        call.finish();
    });
    let proxy = proxy_to(&upstream.base_url(), &[]);
    let mut client = proxy.connect();
    client.request("POST", CHAT, &[], &large_body(8 << 20));
    let response = client.read_response();
    assert_eq!((response.status(), response.text().as_str()), (413, "late"));
}
