//! Answers that begin before the request has been sent, and what comes before an answer.

use std::io::Read;

use crate::support::{
    raw_upstream::{Call, RawUpstream},
    wire::{CHAT, MESSAGES, body_of, error_code, large_body, pieces, proxy_to},
};

/// Reads until so much of a body has come.
fn read_some(call: &mut Call, bytes: usize) -> Vec<u8> {
    let mut some = vec![0; bytes];
    call.stream.read_exact(&mut some).expect("the proxy goes on sending");
    some
}

#[test]
fn a_stream_may_begin_before_its_request_has_been_sent() {
    let body = large_body(8 << 20);
    let expected = body.clone();
    let upstream = RawUpstream::start(move |mut call| {
        call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut received = Vec::new();
        for piece in [1 << 20, 3 << 20] {
            received.extend(read_some(&mut call, piece));
            call.send(format!("{:x}\r\n{} MB\r\n", "1 MB".len(), piece >> 20).as_bytes());
        }
        received.extend(read_some(&mut call, expected.len() - received.len()));
        let verdict = if received == expected { "same" } else { "torn" };
        call.send(format!("4\r\n{verdict}\r\n0\r\n\r\n").as_bytes());
        call.finish();
    });
    let proxy = proxy_to(&upstream.base_url(), &[]);
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.request("POST", MESSAGES, &[("Content-Length", &body.len().to_string())], b"");
        pieces(&body).for_each(|piece| client.send(piece).expect("the proxy takes the piece"));
        let response = client.read_response();
        assert_eq!((response.status(), response.text().as_str()), (200, "1 MB3 MBsame"));
    }
}

#[test]
fn an_answer_that_is_whole_before_its_request_was_sent_ends_the_sending() {
    let upstream = RawUpstream::start(|mut call| {
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nenough!");
        call.finish();
    });
    let proxy = proxy_to(&upstream.base_url(), &[]);
    let body = large_body(8 << 20);
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.request("POST", CHAT, &[], &body);
        let response = client.read_response();
        assert_eq!((response.status(), response.text().as_str()), (200, "enough!"));
    }
    let requests = proxy.usage()["requests"].clone();
    assert_eq!((&requests["finished"], &requests["failed"]), (&2.into(), &0.into()));
}

#[test]
fn an_answer_that_breaks_off_before_its_request_was_sent_is_cut() {
    let upstream = RawUpstream::start(|mut call| {
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nenou");
        call.finish();
    });
    let proxy = proxy_to(&upstream.base_url(), &[]);
    let mut client = proxy.connect();
    client.request("POST", CHAT, &[], &large_body(8 << 20));
    assert_eq!(client.read_final_head().status, 200);
    assert_eq!(client.read_body_to_end().expect_err("it is cut").got, b"enou");
    assert_eq!(proxy.usage()["failures"]["acknowledged"]["cut_in_stream"], 1);
}

#[test]
fn interim_answers_are_no_beginning_and_too_many_are_a_bad_one() {
    let upstream = RawUpstream::start(|mut call| {
        call.read_body();
        call.send(b"HTTP/1.1 100 Continue\r\n\r\n");
        // One falls silent, the other never does.
        if call.head.contains("?silent") {
            return call.finish_when_closed();
        }
        while call.try_send(&b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(100)) {}
    });
    let proxy = proxy_to(&upstream.base_url(), &[("MAX_HOLD", "1"), ("MAX_RETRIES", "5")]);
    let mut clients = ["silent", "chatty"].map(|manner| {
        let mut client = proxy.connect();
        client.request("POST", &format!("{MESSAGES}?{manner}"), &[], body_of("m", true).as_bytes());
        client
    });
    for (client, expected) in clients.iter_mut().zip([(504, "head_timeout"), (502, "bad_head")]) {
        let response = client.read_response();
        assert_eq!((response.status(), error_code(MESSAGES, &response).as_str()), expected);
    }
}
