//! Requests that are malformed or too large: refused as JSON, the connection closed, nothing sent upstream. Which
//! requests are malformed is the table in `tests/strict/`; here is how they are told so.

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

#[test]
fn malformed_heads_are_refused_as_openai_does_and_counted() {
    let (fake, proxy) = pair(&[]);
    let requests = [
        (400, "GET /v1/messages\r\n\r\n"),
        (
            417,
            "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nExpect: a-miracle\r\nContent-Length: 2\r\n\r\n{}",
        ),
        (501, "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n"),
        (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ];
    for (status, request) in requests {
        // Whose dialect the client speaks is not known before its head is.
        let response = refusal(send(&proxy, request.as_bytes()), "/", request);
        assert_eq!(response.status(), status, "{request:?}: {}", response.text());
    }
    assert_eq!(fake.statistics().connections, 0);
    assert_eq!(proxy.usage()["requests"]["refused"], requests.len());
    assert_eq!(proxy.post(CHAT, &[], &body_of("m", true)).status(), 200, "and it serves on");
}

#[test]
fn malformed_chunks_are_refused_in_the_paths_dialect() {
    let (fake, proxy) = pair(&[]);
    let body = "5\r\nhello0\r\n\r\n";
    for path in [CHAT, MESSAGES] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        // In one piece with the head, and after it.
        let at_once = send(&proxy, format!("{head}{body}").as_bytes());
        assert_eq!(refusal(at_once, path, body).status(), 400);
        let mut later = send(&proxy, format!("{head}1\r\n").as_bytes());
        later.send(format!("x\r\n{body}").as_bytes()).expect("the proxy reads on");
        assert_eq!(refusal(later, path, body).status(), 400);
    }
    assert_eq!(fake.statistics().connections, 0);
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
