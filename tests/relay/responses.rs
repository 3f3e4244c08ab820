//! What of a response reaches the client.

use crate::support::{
    client::{Client, Response},
    proxy::ProxyUnderTest,
    raw_upstream::RawUpstream,
    wire::{
        CHAT, MESSAGES, RESPONSES, Twins, assert_same_body, body_of, direct, error_code, lasting_lines, pair,
        proxy_to,
    },
};

/// How long the proxy says that the request was queued.
#[track_caller]
fn wait_ms(response: &Response) -> u64 {
    let stated = response.header("x-fireworks-proxy-wait-ms").expect("every relayed response has it");
    stated.parse().expect("a number")
}

#[test]
fn a_response_passes_unmodified_but_for_hop_by_hop_fields_and_the_stated_wait() {
    let twins = Twins::start();
    let limits = [("x-fake-limits", "3600000/900000/36000")];
    for (path, stream) in
        [(CHAT, false), (CHAT, true), (MESSAGES, false), (MESSAGES, true), (RESPONSES, true)]
    {
        let (straight, through) = twins.ask("POST", path, &limits, &body_of("m", stream));
        assert_eq!(lasting_lines(&through), lasting_lines(&straight), "{path}");
        assert_same_body(&through, &straight);
        assert!(wait_ms(&through) < 60_000);
        assert_eq!(through.header("connection"), Some("close"), "it was asked for");
    }
    let (straight, through) = twins.ask("GET", "/v1/models", &[], "");
    assert_eq!(lasting_lines(&through), lasting_lines(&straight));
    assert_same_body(&through, &straight);
}

#[test]
fn errors_of_the_upstream_pass_unmodified() {
    let twins = Twins::start();
    let statuses = [400, 401, 402, 403, 404, 408, 409, 412, 413, 429, 500, 502, 503, 504, 520, 524, 529];
    for status in statuses {
        for shape in ["json", "html", "empty", "string-error"] {
            for path in [CHAT, MESSAGES] {
                let text = status.to_string();
                let headers = [
                    ("x-fake-status", text.as_str()),
                    ("x-fake-body", shape),
                    ("x-fake-retry-after", "Soon!"),
                ];
                // Each has a lane of its own, since a refusal slows its lane.
                let body = body_of(&format!("{status} {shape} {path}"), true);
                let (straight, through) = twins.ask("POST", path, &headers, &body);
                assert_eq!(through.status(), status);
                assert_eq!(lasting_lines(&through), lasting_lines(&straight), "{status} {shape} {path}");
                assert_eq!(through.body.bytes, straight.body.bytes, "{status} {shape} {path}");
                wait_ms(&through);
            }
        }
    }
}

/// A request of HTTP/1.0, with `Connection: keep-alive` to no effect, and the connection it was sent on.
fn old_request(proxy: &ProxyUnderTest, headers: &str, body: &str) -> Client {
    let head = format!(
        "POST {CHAT} HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    let mut client = proxy.connect();
    client.expect_answer_to("POST");
    client.send(&[head.as_bytes(), body.as_bytes()].concat()).expect("the proxy takes the request");
    client
}

#[test]
fn each_framing_of_the_upstream_reaches_each_client_in_a_form_it_knows() {
    let twins = Twins::start();
    for (framing, stream) in [
        ("length", false),
        ("chunked", false),
        ("close", false),
        ("length", true),
        ("chunked", true),
        ("close", true),
    ] {
        let what = format!("{framing}, stream: {stream}");
        let body = body_of("m", stream);
        let (straight, through) = twins.ask("POST", CHAT, &[("x-fake-framing", framing)], &body);
        assert_eq!(through.body.bytes, straight.body.bytes, "{what}");
        let has_length = framing == "length";
        assert_eq!(through.header("content-length").is_some(), has_length, "{what}");
        let coding = through.header("transfer-encoding");
        assert_eq!(coding, (!has_length).then_some("chunked"), "{what}: a cut must show");

        let mut old = old_request(&twins.proxy, &format!("x-fake-framing: {framing}\r\n"), &body);
        let head = old.read_head();
        assert_eq!(head.header("transfer-encoding"), None, "{what}");
        assert_eq!(head.header("content-length").is_some(), has_length, "{what}");
        assert_eq!(head.header("connection"), Some("close"), "{what}");
        // The answers differ in their number, which has four digits.
        assert_eq!(old.read_body_to_end().expect("whole").bytes.len(), straight.body.bytes.len(), "{what}");
        assert!(old.read_raw_until_eof().is_empty(), "{what}");
        // Bring the other fake's numbering in step.
        let mut straight = direct(&twins.plain);
        straight.request("POST", "/inference/v1/chat/completions", &[], body.as_bytes());
        straight.read_response();
    }
}

#[test]
fn an_answer_to_head_has_no_body_whatever_its_framing() {
    let (fake, proxy) = pair(&[]);
    let mut client = proxy.connect();
    for framing in ["length", "chunked", "close"] {
        client.request("HEAD", "/v1/models", &[("x-fake-framing", framing)], b"");
        let response = client.read_response();
        assert_eq!((response.status(), response.body.bytes.len()), (200, 0), "{framing}");
        wait_ms(&response);
        client.request("GET", "/v1/models", &[], b"");
        assert_eq!(client.read_response().json()["object"], "list", "after HEAD with {framing}");
    }
    assert_eq!(fake.requests().len(), 6);
}

#[test]
fn statuses_without_a_body_leave_the_connection_usable() {
    for head in [
        "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nX-A: 1\r\nContent-Length: 10\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nX-A: 1\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nX-A: 1\r\nContent-Length: 0\r\n\r\n",
    ] {
        let upstream = RawUpstream::answering(head);
        let proxy = proxy_to(&upstream.base_url(), &[]);
        let mut client = proxy.connect();
        for _ in 0..2 {
            client.request("GET", "/v1/models", &[], b"");
            let response = client.read_response();
            assert_eq!(response.header("x-a"), Some("1"), "{head}");
            assert!(response.body.bytes.is_empty() && response.header("connection").is_none(), "{head}");
        }
    }
}

#[test]
fn interim_responses_are_skipped() {
    let twins = Twins::start();
    for interim in ["100", "103"] {
        let (straight, through) =
            twins.ask("POST", CHAT, &[("x-fake-interim", interim)], &body_of("m", true));
        assert_eq!(lasting_lines(&through), lasting_lines(&straight));
        assert_same_body(&through, &straight);
    }
    let (_fake, proxy) = pair(&[]);
    let mut client = proxy.connect();
    client.request("POST", CHAT, &[("x-fake-interim", "103")], body_of("m", false).as_bytes());
    assert_eq!(client.read_head().status, 200, "the first head is the final one");
}

#[test]
fn several_interim_responses_and_bytes_after_the_end_do_no_harm() {
    let upstream = RawUpstream::answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 299 Fine, thanks\r\ncontent-LENGTH: 4\r\nX-B: 2\r\nConnection: x-b\r\n\r\nbodyHTTP/1.1 200 OK\r\n\r\n",
    );
    let proxy = proxy_to(&upstream.base_url(), &[]);
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.request("GET", "/v1/x", &[], b"");
        let head = client.read_head();
        let text = String::from_utf8_lossy(&head.raw).into_owned();
        let wait = head.header("x-fireworks-proxy-wait-ms").expect("the wait is stated");
        let id = head.header("x-fireworks-proxy-request-id").expect("and so is the id");
        let expected = format!(
            "HTTP/1.1 299 Fine, thanks\r\ncontent-LENGTH: 4\r\nx-fireworks-proxy-wait-ms: {wait}\r\n\
             x-fireworks-proxy-retries: 0\r\nx-fireworks-proxy-request-id: {id}\r\n\r\n"
        );
        assert_eq!(text, expected);
        assert_eq!(client.read_body_to_end().expect("whole").text(), "body");
    }
}

#[test]
fn heads_that_leave_doubt_are_a_bad_gateway_in_the_paths_dialect() {
    for head in [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX A: 1\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
    ] {
        let upstream = RawUpstream::answering(head);
        let proxy = proxy_to(&upstream.base_url(), &[]);
        for path in [CHAT, MESSAGES] {
            let response = proxy.post(path, &[], &body_of("m", false));
            assert_eq!(response.status(), 502, "{head}");
            assert_eq!(error_code(path, &response), "bad_head", "{head}");
        }
    }
}

#[test]
fn a_body_whose_chunks_are_malformed_is_cut_where_it_breaks() {
    for rest in ["zz\r\n", "3\r\nabcd\r\n", "5 \r\nabcde\r\n", "\r\n0\r\n\r\n", "3\nabc\r\n"] {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n";
        let upstream = RawUpstream::answering(format!("{head}{rest}"));
        let proxy = proxy_to(&upstream.base_url(), &[]);
        let mut client = proxy.connect();
        client.request("GET", "/v1/x", &[], b"");
        assert_eq!(client.read_head().status, 200);
        let got = String::from_utf8(client.read_raw_until_eof()).expect("text");
        assert!(got.starts_with("4\r\ngood") && !got.ends_with("0\r\n\r\n"), "{rest:?}: {got:?}");
    }
}
