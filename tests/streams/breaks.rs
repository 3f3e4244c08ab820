//! Upstreams that break off: nothing is faked, and what was seen is settled.

use crate::support::{
    client::{Body, Client, Cut, CutReason},
    raw_upstream::RawUpstream,
    wire::{CHAT, MESSAGES, STREAM_ENDS, body_of, error_code, lane_of, pair, proxy_to, settled},
};

/// Asks and reads the head, which must be one of success.
fn begin(client: &mut Client, path: &str, headers: &[(&str, &str)], stream: bool) {
    client.request("POST", path, headers, body_of("m", stream).as_bytes());
    assert_eq!(client.read_final_head().status, 200);
}

/// Checks that a body was cut by the end of the connection, and gives what came of it.
#[track_caller]
fn cut_text(body: Result<Body, Cut>) -> String {
    let cut = body.expect_err("no ending is faked");
    assert!(matches!(cut.reason, CutReason::Eof | CutReason::Failed(_)), "{cut}");
    String::from_utf8(cut.got).expect("text")
}

#[test]
fn an_upstream_that_closes_before_its_head_is_a_bad_gateway() {
    let (_fake, proxy) = pair(&[]);
    for (path, _) in STREAM_ENDS {
        let mut client = proxy.connect();
        for model in ["a", "b"] {
            let body = body_of(&format!("{model}{path}"), true);
            client.request("POST", path, &[("x-fake-cut", "before-head")], body.as_bytes());
            let response = client.read_response();
            assert_eq!(response.status(), 502);
            assert_eq!(error_code(path, &response), "closed_before_head");
            let text = response.text();
            assert!(text.contains("may have reached Fireworks") && !text.contains("never reached"), "{text}");
            let [prompt, ..] = settled(&lane_of(&proxy.usage(), &format!("{model}{path}")));
            assert!(prompt > 0, "the upstream has read the prompt");
        }
    }
    assert_eq!(proxy.usage()["requests"]["failed"], 6);
}

#[test]
fn a_stream_that_breaks_off_is_cut_without_an_ending() {
    let cuts = [("after-head", None), ("mid-stream", Some("café")), ("in-chunk", Some("café"))];
    for (path, end) in STREAM_ENDS {
        for (cut, last_seen) in cuts {
            for framing in ["chunked", "length", "close"] {
                let what = format!("{path} {cut} {framing}");
                let (_fake, proxy) = pair(&[]);
                let mut client = proxy.connect();
                let headers = [("x-fake-cut", cut), ("x-fake-framing", framing), ("x-fake-events", "6")];
                begin(&mut client, path, &headers, true);
                let text = cut_text(client.read_body_to_end());
                assert!(last_seen.map_or(text.is_empty(), |word| text.contains(word)), "{what}: {text}");
                assert!(!text.contains(end) && !text.contains("ember"), "{what}: {text}");
                let usage = proxy.usage();
                let [prompt, uncached, generated] = settled(&lane_of(&usage, "m"));
                assert!(prompt > 0 && uncached > 0, "{what}: the prompt was read");
                assert_eq!(generated > 0, last_seen.is_some(), "{what}: what was seen is settled");
                let requests = &usage["requests"];
                assert_eq!((&requests["failed"], &requests["finished"]), (&1.into(), &0.into()), "{what}");
                let error = proxy.health()["last_upstream_error"]["error"].to_string();
                assert!(error.contains("cut_in_stream"), "{what}: {error}");
            }
        }
    }
}

#[test]
fn no_last_chunk_is_sent_to_a_client_whose_stream_broke_off() {
    for framing in ["chunked", "close"] {
        let (_fake, proxy) = pair(&[]);
        let mut client = proxy.connect();
        begin(&mut client, CHAT, &[("x-fake-cut", "mid-stream"), ("x-fake-framing", framing)], true);
        let raw = client.read_raw_until_eof();
        assert!(
            !raw.is_empty() && raw.ends_with(b"\n\r\n"),
            "whole chunks: {}",
            String::from_utf8_lossy(&raw)
        );
        assert!(!raw.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&raw));
    }
}

#[test]
fn an_answer_in_one_piece_that_breaks_off_is_cut_short_of_its_length() {
    let (_fake, proxy) = pair(&[]);
    for (path, framing) in [(CHAT, "length"), (MESSAGES, "chunked"), (CHAT, "close")] {
        let mut client = proxy.connect();
        begin(&mut client, path, &[("x-fake-cut", "mid-stream"), ("x-fake-framing", framing)], false);
        let text = cut_text(client.read_body_to_end());
        assert!(text.starts_with('{') && !text.ends_with('}'), "{path} {framing}: {text}");
    }
    settled(&lane_of(&proxy.usage(), "m"));
}

#[test]
fn an_end_that_tls_was_not_told_of_is_one_only_where_the_framing_says_so() {
    let (_fake, proxy) = pair(&[]);
    for (framing, is_whole) in [("chunked", true), ("length", true), ("close", false)] {
        let mut client = proxy.connect();
        begin(&mut client, CHAT, &[("x-fake-cut", "no-close-notify"), ("x-fake-framing", framing)], true);
        let body = client.read_body_to_end();
        let text = if is_whole { body.expect("a whole body").text() } else { cut_text(body) };
        assert!(text.ends_with("data: [DONE]\n\n"), "{framing}: every byte came: {text}");
        settled(&lane_of(&proxy.usage(), "m"));
    }
    let requests = proxy.usage()["requests"].clone();
    assert_eq!((&requests["finished"], &requests["failed"]), (&2.into(), &1.into()));
}

#[test]
fn an_upstream_that_closes_early_in_good_order_has_broken_off_all_the_same() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nshort",
    ] {
        let upstream = RawUpstream::answering(answer);
        let proxy = proxy_to(&upstream.base_url(), &[]);
        let mut client = proxy.connect();
        client.request("GET", "/v1/x", &[], b"");
        assert_eq!(client.read_final_head().status, 200);
        assert_eq!(cut_text(client.read_body_to_end()), "short", "{answer:?}");
    }
    for answer in
        ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", "HTTP/1.1 100 Continue\r\n\r\n"]
    {
        let upstream = RawUpstream::answering(answer);
        let proxy = proxy_to(&upstream.base_url(), &[]);
        let response = proxy.post(CHAT, &[], &body_of("m", true));
        assert_eq!(response.status(), 502, "{answer:?}");
        assert_eq!(error_code(CHAT, &response), "closed_before_head", "{answer:?}");
    }
}

#[test]
fn the_proxy_serves_on_after_a_broken_stream() {
    let (fake, proxy) = pair(&[]);
    for cut in ["before-head", "after-head", "mid-stream", "in-chunk", "no-close-notify"] {
        let headers = [("x-fake-cut", cut), ("x-fake-times", "1"), ("x-fake-id", cut)];
        let mut client = proxy.connect();
        client.request("POST", CHAT, &headers, body_of("m", true).as_bytes());
        let _ = client.try_read_head().map(|_| client.read_body_to_end());
        let again = proxy.post(CHAT, &headers, &body_of("m", true));
        assert!(again.text().ends_with("data: [DONE]\n\n"), "{cut}");
    }
    assert_eq!(fake.requests().len(), 10);
}
