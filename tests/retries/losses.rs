//! Connections that fail, and requests that may not be sent twice.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
};

use crate::{
    NO_BUCKET, assert_good, retries, send,
    support::{
        certs::CertificateKind,
        client::Client,
        fake::{FakeFireworks, FakeOptions},
        front::{Front, Plan},
        proxy::ProxyUnderTest,
        wire::{CHAT, MESSAGES, RESPONSES, await_page, body_of, error_code, pair, proxy_to},
    },
};

#[test]
fn a_connection_that_ends_before_an_answer_is_tried_again() {
    let (fake, proxy) = pair(&[("MAX_RETRIES", "1"), NO_BUCKET]);
    let asked = [(CHAT, true), (CHAT, false), (MESSAGES, true), (MESSAGES, false), (RESPONSES, true)];
    let mut clients = asked.map(|(path, stream)| {
        let headers = [("x-fake-cut", "before-head"), ("x-fake-times", "1")];
        (path, stream, send(&proxy, path, &headers, &body_of(path, stream)))
    });
    for (path, stream, client) in &mut clients {
        let response = client.read_response();
        assert_good(path, *stream, &response);
        assert_eq!(retries(&response), 1);
    }
    let usage = proxy.usage();
    assert_eq!(usage["failures"]["may_have_reached"]["closed_before_head"], asked.len());
    assert_eq!((&usage["requests"]["failed"], &usage["requests"]["retries"]), (&0.into(), &5.into()));
    assert_eq!(fake.statistics().connections, 10);
}

#[test]
fn a_connection_that_is_lost_in_the_tls_handshake_is_tried_again() {
    let fake = FakeFireworks::start_default();
    // The second is lost within the server's first flight.
    let fronts = [Plan::Close, Plan::CutAnswer(100)]
        .map(|plan| Front::start(&fake, move |at| if at == 0 { plan } else { Plan::Pass }));
    let mut asked = fronts.each_ref().map(|front| {
        let url = front.base_url();
        let proxy = ProxyUnderTest::start(&fake, &[("UPSTREAM", &url), ("MAX_RETRIES", "1")]);
        let client = send(&proxy, MESSAGES, &[], &body_of("m", true));
        (front, proxy, client)
    });
    for (front, proxy, client) in &mut asked {
        let response = client.read_response();
        assert_good(MESSAGES, true, &response);
        assert_eq!((retries(&response), front.connections()), (1, 2));
        assert_eq!(proxy.usage()["failures"]["never_reached"]["tls_other"], 1);
    }
    assert_eq!(fake.requests().len(), 2);
}

/// Takes one connection, and answers its request well.
fn serve_one(listener: &socket2::Socket) {
    let (stream, _) = listener.accept().expect("the proxy connects");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        (&stream).read_exact(&mut byte).expect("a head comes whole");
        head.extend(byte);
    }
    (&stream)
        .write_all(b"HTTP/1.1 204 No Content\r\nX-Up: again\r\n\r\n")
        .expect("the proxy reads the answer");
}

#[test]
fn a_refused_connection_is_tried_again_until_somebody_listens() {
    // A socket that has a port and does not listen on it: connections are refused, and nobody else gets it.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback has a free port");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
    let proxy = proxy_to(&format!("http://{address}"), &[("MAX_RETRIES", "5")]);
    let mut client = proxy.connect();
    client.request("GET", "/v1/models", &[], b"");
    let refused = |usage: &serde_json::Value| usage["failures"]["never_reached"]["connect_refused"] == 1;
    await_page(|| proxy.usage(), refused);
    socket.listen(8).expect("a bound socket listens");
    serve_one(&socket);
    let response = client.read_response();
    assert_eq!((response.status(), response.header("x-up"), retries(&response)), (204, Some("again"), 1));
}

#[test]
fn when_no_try_is_left_the_failure_is_told_in_the_paths_dialect() {
    // Nobody listens on the lowest port, and RFC 6761 reserves the name.
    let upstreams = [("http://127.0.0.1:1", "connect_refused"), ("https://no-such-host.invalid", "dns")];
    let asked = upstreams.map(|(upstream, code)| {
        let proxy = proxy_to(upstream, &[("MAX_RETRIES", "1"), NO_BUCKET]);
        let clients = [CHAT, MESSAGES].map(|path| (path, send(&proxy, path, &[], &body_of(path, true))));
        (code, proxy, clients)
    });
    for (code, proxy, clients) in asked {
        for (path, mut client) in clients {
            let response = client.read_response();
            assert_eq!((response.status(), error_code(path, &response).as_str()), (502, code));
            let error = &response.json()["error"];
            assert_eq!((retries(&response), &error["upstream"]), (1, &"never_reached".into()));
            assert!(response.text().contains("the last of 2 tries"), "{}", response.text());
        }
        let usage = proxy.usage();
        assert_eq!(usage["failures"]["never_reached"][code], 4, "each try is counted: {usage:#}");
        assert_eq!((&usage["requests"]["failed"], &usage["requests"]["retries"]), (&2.into(), &2.into()));
    }
}

#[test]
fn what_would_be_the_same_again_is_not_tried_again() {
    let untrusted = FakeOptions { certificate: CertificateKind::UnknownIssuer, ..FakeOptions::default() };
    for (options, headers, code, reach) in [
        (untrusted, &[][..], "tls_certificate", "never_reached"),
        (FakeOptions::default(), &[("x-fake-garbage-head", "1")][..], "bad_head", "acknowledged"),
    ] {
        let fake = FakeFireworks::start(options);
        let proxy = ProxyUnderTest::start(&fake, &[("MAX_RETRIES", "5")]);
        for path in [CHAT, MESSAGES] {
            let response = proxy.post(path, headers, &body_of(path, true));
            assert_eq!((response.status(), error_code(path, &response).as_str()), (502, code));
            assert_eq!((retries(&response), &response.json()["error"]["upstream"]), (0, &reach.into()));
        }
        assert_eq!(fake.statistics().connections, 2);
    }
}

/// Asks for something that makes no model work.
fn ask(proxy: &ProxyUnderTest, method: &str, path: &str, fault: (&str, &str)) -> Client {
    let mut client = proxy.connect();
    let id = format!("{method} {fault:?}");
    client.request(method, path, &[fault, ("x-fake-times", "1"), ("x-fake-id", &id)], b"");
    client
}

#[test]
fn what_may_not_be_done_twice_is_sent_again_only_where_it_was_not_done() {
    let (fake, proxy) = pair(&[("MAX_RETRIES", "3"), NO_BUCKET]);
    let (broken, lost) = (("x-fake-status", "500"), ("x-fake-cut", "before-head"));
    let (refused, overloaded) = (("x-fake-status", "429"), ("x-fake-status", "503"));
    let mut asked = Vec::new();
    for method in ["POST", "PATCH", "GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        for fault in [broken, lost, refused, overloaded] {
            let is_repeatable = !["POST", "PATCH"].contains(&method);
            let tries = if is_repeatable || fault == refused || fault == overloaded { 2 } else { 1 };
            let client = ask(&proxy, method, "/v1/files", fault);
            asked.push((method, fault, tries, client));
        }
    }
    let total: u64 = asked.iter().map(|(_, _, tries, _)| tries).sum();
    for (method, fault, tries, mut client) in asked {
        let response = client.read_response();
        // The fake knows no such path.
        let expected = match (tries, fault) {
            (2, _) => 404,
            (_, ("x-fake-status", _)) => 500,
            _ => 502,
        };
        assert_eq!(response.status(), expected, "{method} {fault:?}: {}", response.text());
        assert_eq!(retries(&response), tries - 1, "{method} {fault:?}");
    }
    assert_eq!(fake.statistics().requests, total);
}

#[test]
fn nothing_is_tried_again_once_the_client_has_a_head() {
    let (fake, proxy) = pair(&[("MAX_RETRIES", "5"), NO_BUCKET]);
    for cut in ["after-head", "mid-stream", "in-chunk"] {
        for stream in [true, false] {
            let mut client = send(&proxy, CHAT, &[("x-fake-cut", cut)], &body_of("m", stream));
            assert_eq!(client.read_final_head().header("x-fireworks-proxy-retries"), Some("0"));
            client.read_body_to_end().expect_err("it is cut");
        }
    }
    let usage = proxy.usage();
    assert_eq!((fake.requests().len(), &usage["requests"]["retries"]), (6, &0.into()));
    assert_eq!(usage["failures"]["acknowledged"]["cut_in_stream"], 6);
}
