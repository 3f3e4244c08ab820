//! Requests that are malformed or too large: refused as JSON, the connection closed, nothing sent upstream.

use crate::support::{
    client::{Client, Response},
    proxy::ProxyUnderTest,
    wire::{CHAT, MESSAGES, SOON, body_of, error_code, pair},
};

/// Sends raw bytes on a connection of its own.
fn send(proxy: &ProxyUnderTest, bytes: &[u8]) -> Client {
    let mut client = proxy.connect();
    client.expect_answer_to("POST");
    client.send(bytes).expect("the proxy reads before it refuses");
    client
}

/// Reads a refusal, which must be JSON and the last thing on its connection.
#[track_caller]
fn refusal(mut client: Client, path: &str, what: &str) -> Response {
    let response = client.read_response();
    assert_eq!(response.header("connection"), Some("close"), "{what}");
    assert_eq!(error_code(path, &response), "bad_request", "{what}");
    assert_eq!(response.header("x-fireworks-proxy-wait-ms"), None, "{what}: it never waited");
    let more = client.read_raw_until_eof();
    assert!(more.is_empty(), "{what}: more came: {}", String::from_utf8_lossy(&more));
    response
}

const MALFORMED_HEADS: [(u16, &str); 46] = [
    // The request line.
    (400, "GET\r\n\r\n"),
    (400, "GET /v1/models\r\n\r\n"),
    (400, " GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET  /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (505, "GET /v1/ models HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "G@T /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET /v1/models HTTP/1.1 \r\nHost: localhost\r\n\r\n"),
    (505, "GET /v1/models HTTP/1.2\r\nHost: localhost\r\n\r\n"),
    (505, "GET /v1/models HTTP/2.0\r\nHost: localhost\r\n\r\n"),
    (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (505, "GET /v1/models FTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "\x16\x03\x01\x02\x00\x01\x00\x01\u{7c}\x03\x03\r\n\r\n"),
    (400, "GET /v1/models#x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET /v1/\u{7f} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET /v1/caf\u{e9} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    // Forms for other kinds of proxies.
    (400, "GET http://localhost/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "CONNECT api.fireworks.ai:443 HTTP/1.1\r\nHost: api.fireworks.ai:443\r\n\r\n"),
    (400, "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    (400, "GET v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    // Host.
    (400, "GET /v1/models HTTP/1.1\r\n\r\n"),
    (400, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"),
    (400, "GET /v1/models HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    (400, "GET /v1/models HTTP/1.1\r\nHost: user@a\r\n\r\n"),
    // Fields.
    (400, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX A: 1\r\n\r\n"),
    (400, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-A : 1\r\n\r\n"),
    (400, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n: 1\r\n\r\n"),
    (400, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n"),
    (400, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\n folded\r\n\r\n"),
    (400, "GET /v1/models HTTP/1.1\r\n Host: localhost\r\n\r\n"),
    (400, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-A: \x01\r\n\r\n"),
    (400, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-A: a\0b\r\n\r\n"),
    // Line ends.
    (400, "GET /v1/models HTTP/1.1\nHost: a\n\n"),
    (400, "GET /v1/models HTTP/1.1\r\nHost: a\nX-A: 1\r\n\r\n"),
    (400, "GET /v1/models HTTP/1.1\r\nHost: localhost\rX-A: 1\r\n\r\n"),
    (400, "\nGET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    // Framing, the ways in which requests are smuggled.
    (
        400,
        "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        400,
        "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    ),
    (400, "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    (400, "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    (400, "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5, 5\r\n\r\nhello"),
    (400, "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\nhello"),
    (400, "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x5\r\n\r\nhello"),
    (400, "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\nhello"),
    (400, "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (
        400,
        "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (400, "POST /v1/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
];

#[test]
fn malformed_heads_are_refused_and_nothing_is_sent_upstream() {
    let (fake, proxy) = pair(&[]);
    for (status, request) in MALFORMED_HEADS {
        let response = refusal(send(&proxy, request.as_bytes()), "/", request);
        assert_eq!(response.status(), status, "{request:?}: {}", response.text());
    }
    assert_eq!(fake.statistics().connections, 0);
    assert_eq!(proxy.usage()["requests"]["refused"], MALFORMED_HEADS.len());
    assert_eq!(proxy.post(CHAT, &[], &body_of("m", true)).status(), 200, "and it serves on");
}

#[test]
fn an_unknown_expectation_is_refused() {
    let (fake, proxy) = pair(&[]);
    let request =
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nExpect: a-miracle\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(refusal(send(&proxy, request.as_bytes()), "/", request).status(), 417);
    assert_eq!(fake.statistics().connections, 0);
}

#[test]
fn malformed_chunks_are_refused_in_the_paths_dialect() {
    let (fake, proxy) = pair(&[]);
    let bodies = [
        "zz\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "3\r\nhello\r\n0\r\n\r\n",
        "10000000000000000\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nnot a trailer\r\n\r\n",
        "5\r\nhello\r\n0\r\n\nX",
    ];
    let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(300));
    let long_trailer = format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", "x".repeat(9_000));
    for path in [CHAT, MESSAGES] {
        for body in bodies.into_iter().chain([long_extension.as_str(), &long_trailer]) {
            let head =
                format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
            // In one piece with the head, and after it.
            let at_once = send(&proxy, format!("{head}{body}").as_bytes());
            assert_eq!(refusal(at_once, path, body).status(), 400, "{body:?}");
            let mut later = send(&proxy, format!("{head}1\r\n").as_bytes());
            later.send(format!("x\r\n{body}").as_bytes()).expect("the proxy reads on");
            assert_eq!(refusal(later, path, body).status(), 400, "{body:?}");
        }
    }
    assert_eq!(fake.statistics().connections, 0);
}

#[test]
fn a_smuggled_second_request_is_not_answered() {
    let (fake, proxy) = pair(&[]);
    let smuggled = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for framing in ["Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: xchunked\r\n"]
    {
        let request =
            format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n0\r\n\r\n{smuggled}{smuggled}");
        assert_eq!(refusal(send(&proxy, request.as_bytes()), "/", framing).status(), 400);
    }
    assert_eq!(fake.statistics().connections, 0);
}

#[test]
fn a_malformed_request_behind_a_good_one_is_refused_after_its_answer() {
    let (fake, proxy) = pair(&[]);
    let mut client = send(
        &proxy,
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\nGET nonsense HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    assert_eq!(client.read_response().status(), 200);
    assert_eq!(refusal(client, "/", "the second").status(), 400);
    assert_eq!(fake.requests().len(), 1);
}

#[test]
fn heads_and_targets_that_are_too_large_are_refused() {
    let (fake, proxy) = pair(&[]);
    let start = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n";
    let many_fields = format!("{start}{}\r\n", "X-A: 1\r\n".repeat(200));
    let long_field = format!("{start}X-A: {}\r\n\r\n", "x".repeat(70_000));
    let endless = format!("{start}X-A: {}", "x".repeat(70_000));
    let long_target = format!("GET /v1/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(20_000));
    for (status, request) in [(431, many_fields), (431, long_field), (431, endless), (414, long_target)] {
        let what = &request[..60];
        assert_eq!(refusal(send(&proxy, request.as_bytes()), "/", what).status(), status, "{what}");
    }
    assert_eq!(fake.statistics().connections, 0);
    let nearly = format!("{start}X-A: {}\r\nConnection: close\r\n\r\n", "x".repeat(60_000));
    assert_eq!(send(&proxy, nearly.as_bytes()).read_response().status(), 200, "no client comes near that");
}

#[test]
fn bodies_that_are_too_large_are_refused_in_the_paths_dialect() {
    let (fake, proxy) = pair(&[("MAX_BODY_MIB", "1")]);
    let mib = 1 << 20;
    for path in [CHAT, MESSAGES] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n");
        let declared = format!("{head}Content-Length: {}\r\n\r\n", mib + 1);
        let expecting = format!("{head}Content-Length: {}\r\nExpect: 100-continue\r\n\r\n", mib + 1);
        let chunk = format!("{:x}\r\n{}\r\n", mib, "x".repeat(mib));
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}1\r\nx\r\n0\r\n\r\n");
        let huge_chunk =
            format!("{head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{chunk}{chunk}");
        for request in [declared, expecting, chunked, huge_chunk] {
            let what = &request[..60];
            let mut client = send(&proxy, request.as_bytes());
            let response = client.read_response();
            assert_eq!(response.status(), 413, "{what}");
            assert_eq!(error_code(path, &response), "bad_request", "{what}");
            assert!(response.text().contains("FIREWORKS_PROXY_MAX_BODY_MIB"), "{}", response.text());
            assert!(client.is_closed_by_peer(SOON), "{what}");
        }
    }
    assert_eq!(fake.statistics().connections, 0);
}

#[test]
fn a_body_of_just_the_allowed_size_is_forwarded() {
    let (fake, proxy) = pair(&[("MAX_BODY_MIB", "1")]);
    let body = vec![b' '; 1 << 20];
    let mut client = proxy.connect();
    client.request("POST", "/v1/messages/count_tokens", &[], &body);
    assert_eq!(client.read_response().status(), 404, "the fake has no such page");
    assert!(fake.requests()[0].body == body);
}

#[test]
fn the_proxys_pages_are_read_only() {
    let (fake, proxy) = pair(&[]);
    for (method, page) in
        [("POST", "/health"), ("PUT", "/usage"), ("DELETE", "/usage?x"), ("OPTIONS", "/health")]
    {
        let mut client = proxy.connect();
        client.request(method, page, &[], b"{}");
        let response = client.read_response();
        assert_eq!(
            (response.status(), response.header("allow")),
            (405, Some("GET, HEAD")),
            "{method} {page}"
        );
        assert_eq!(error_code(page, &response), "bad_request");
    }
    assert_eq!(fake.statistics().connections, 0);
}
