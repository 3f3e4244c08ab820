//! Time limits of the upstream, and answers that stop.

use std::{
    net::TcpListener,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use crate::support::{
    client::{Client, CutReason},
    failing::{assert_only_failure, expect_failure},
    fake::FakeFireworks,
    front::{Front, Plan},
    log,
    proxy::ProxyUnderTest,
    raw_upstream::{Call, RawUpstream},
    wire::{
        CHAT, MESSAGES, SOON, STREAM_ENDS, await_page, body_of, error_code, lane_of, large_body, pair,
        proxy_to, settled,
    },
};

/// For what is waited for in vain, in seconds.
const SHORT: &str = "0.3";

/// For what has to get on before it stops, on a busy machine too.
const ENOUGH: &str = "1";

fn send(proxy: &ProxyUnderTest, path: &str, headers: &[(&str, &str)], body: &str) -> Client {
    let mut client = proxy.connect();
    client.request("POST", path, headers, body.as_bytes());
    client
}

#[test]
fn a_tls_handshake_that_stalls_is_a_gateway_timeout() {
    // The system completes the TCP connection; nobody ever accepts it.
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = silent.local_addr().expect("a bound listener has an address");
    let proxy = proxy_to(&format!("https://{address}/inference"), &[("CONNECT_TIMEOUT", SHORT)]);
    expect_failure(&proxy, &[], 504, "connect_timeout", "never_reached");

    let fake = FakeFireworks::start_default();
    let front = Front::start(&fake, |_| Plan::StallAnswer(100));
    let url = front.base_url();
    let proxy = ProxyUnderTest::start(&fake, &[("UPSTREAM", &url), ("CONNECT_TIMEOUT", SHORT)]);
    expect_failure(&proxy, &[], 504, "connect_timeout", "never_reached");
    assert!(fake.requests().is_empty());
}

/// A port whose backlog is full, and whose connections nobody accepts: packets to it are dropped.
#[cfg(target_os = "linux")]
#[test]
fn an_upstream_that_swallows_packets_is_a_gateway_timeout() {
    use std::net::{Ipv4Addr, SocketAddr, TcpStream};

    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback has a free port");
    socket.listen(0).expect("a bound socket listens");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let _backlog: Vec<TcpStream> = std::iter::from_fn(connect).collect();
    let proxy = proxy_to(&format!("http://{address}/inference"), &[("CONNECT_TIMEOUT", SHORT)]);
    expect_failure(&proxy, &[], 504, "connect_timeout", "never_reached");
}

#[test]
fn a_handshake_that_stalled_is_tried_again() {
    let fake = FakeFireworks::start_default();
    let front = Front::start(&fake, |at| if at == 0 { Plan::StallAnswer(0) } else { Plan::Pass });
    let url = front.base_url();
    // It has to suffice for the handshake that is not stalled, on a busy machine too.
    let settings = [("UPSTREAM", url.as_str()), ("CONNECT_TIMEOUT", "2"), ("MAX_RETRIES", "5")];
    let proxy = ProxyUnderTest::start(&fake, &settings);
    let response = proxy.post(MESSAGES, &[], &body_of("m", true));
    assert_eq!(response.status(), 200, "{}", response.text());
    assert!(proxy.usage()["failures"]["never_reached"]["connect_timeout"] != 0);
    assert_ne!(response.header("x-fireworks-proxy-retries"), Some("0"));
}

#[test]
fn an_upstream_that_takes_nothing_of_a_request_is_a_gateway_timeout_or_tried_again() {
    let fake = FakeFireworks::start_default();
    let stalls = Front::start(&fake, |_| Plan::StallRequest(64 * 1024));
    let stalls_once =
        Front::start(&fake, |at| if at == 0 { Plan::StallRequest(64 * 1024) } else { Plan::Pass });
    // More than the buffers on the way hold.
    let body = large_body(16 << 20);
    let mut asked = [(&stalls, "0", CHAT), (&stalls_once, "5", MESSAGES)].map(|(front, retries, path)| {
        let url = front.base_url();
        let settings = [("UPSTREAM", url.as_str()), ("WRITE_TIMEOUT", "1"), ("MAX_RETRIES", retries)];
        let proxy = ProxyUnderTest::start(&fake, &settings);
        let mut client = proxy.connect();
        client.request("POST", path, &[], &body);
        (proxy, client)
    });
    let response = asked[0].1.read_response();
    assert_eq!((response.status(), error_code(CHAT, &response).as_str()), (504, "write_timeout"));
    assert_eq!(response.json()["error"]["upstream"], "may_have_reached");
    assert_only_failure(&asked[0].0, "may_have_reached", "write_timeout", 1);
    assert_eq!(settled(&lane_of(&asked[0].0.usage(), "m")), [0; 3], "what was not sent whole is not charged");

    let response = asked[1].1.read_response();
    assert_eq!(response.status(), 200, "{}", response.text());
    assert_ne!(response.header("x-fireworks-proxy-retries"), Some("0"));
    let received = fake.requests();
    assert!(received.len() == 1 && received[0].body == body, "the second try brought all of it");
}

#[test]
fn an_upstream_that_begins_no_answer_is_a_gateway_timeout() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &[("READ_TIMEOUT", SHORT)]);
    for answer in expect_failure(&proxy, &[("x-fake-gate", "head")], 504, "head_timeout", "may_have_reached")
    {
        assert!(answer.text().contains("no progress for 0.3 s"), "{}", answer.text());
    }
    assert!(fake.wait_until(SOON, |seen| seen.cancelled == 4 && seen.connections_open == 0));
}

#[test]
fn a_stream_has_to_begin_within_the_hold_and_a_whole_answer_may_take_its_time() {
    let (fake, proxy) = pair(&[("MAX_HOLD", ENOUGH), ("MAX_RETRIES", "5")]);
    let mut whole = send(&proxy, CHAT, &[("x-fake-gate", "head")], &body_of("whole", false));
    fake.wait_for_gate(1, SOON);
    // Sent later, so that when its time is over that of the first is, too.
    let mut stream = send(&proxy, MESSAGES, &[("x-fake-gate", "head")], &body_of("stream", true));
    let response = stream.read_response();
    assert_eq!((response.status(), error_code(MESSAGES, &response).as_str()), (504, "head_timeout"));
    assert!(response.text().contains("its 1 s to begin an answer are over"), "{}", response.text());
    fake.open_gates();
    assert_eq!(whole.read_response().status(), 200);
    assert_only_failure(&proxy, "may_have_reached", "head_timeout", 1);
}

#[test]
fn an_answer_that_did_not_begin_is_tried_again_while_there_is_time() {
    let tries = AtomicUsize::new(0);
    let upstream = RawUpstream::start(move |mut call| {
        call.read_body();
        if tries.fetch_add(1, Ordering::AcqRel) > 0 {
            call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
        }
        // The first is waited for in vain.
        let _ = std::io::copy(&mut call.stream, &mut std::io::sink());
    });
    let proxy = proxy_to(&upstream.base_url(), &[("READ_TIMEOUT", ENOUGH), ("MAX_RETRIES", "1")]);
    let response = proxy.post(CHAT, &[], &body_of("m", true));
    assert_eq!((response.status(), response.text().as_str()), (200, "good"));
    assert_eq!(response.header("x-fireworks-proxy-retries"), Some("1"));
}

#[test]
fn an_answer_that_stalls_is_cut_and_settled_with_what_was_seen() {
    log::collect();
    let asked = STREAM_ENDS.map(|(path, end)| {
        let (fake, proxy) = pair(&[("READ_TIMEOUT", ENOUGH), ("MAX_RETRIES", "5")]);
        let model = format!("stalls.{}", proxy.address().port());
        let headers = [("x-fake-gate", "middle"), ("x-fake-events", "6")];
        let client = send(&proxy, path, &headers, &body_of(&model, true));
        (path, end, fake, proxy, model, client)
    });
    // Of six words three come, "amber birch café ", and in the first dialect a thought before them, "Think.":
    // 23 and 17 characters, at four to a token.
    for ((path, end, fake, proxy, model, mut client), tokens) in asked.into_iter().zip([6, 5, 5]) {
        assert_eq!(client.read_final_head().status, 200);
        let cut = client.read_body_to_end().expect_err("no ending is faked");
        let text = String::from_utf8_lossy(&cut.got).into_owned();
        assert!(matches!(cut.reason, CutReason::Eof | CutReason::Failed(_)), "{path}: {cut}");
        assert!(text.contains("café") && !text.contains("ember") && !text.contains(end), "{path}: {text}");
        let line =
            format!("WARN request | POST {path} status=200 outcome=idle_in_stream upstream=acknowledged ");
        log::await_line(&[&line, &format!(" model={model} "), &format!(" generated={tokens} ")]);
        let [prompt, _, generated] = settled(&lane_of(&proxy.usage(), &model));
        assert!(prompt > 0 && generated == tokens, "{path}: {prompt} {generated}");
        assert_only_failure(&proxy, "acknowledged", "idle_in_stream", 1);
        let error = proxy.health()["last_upstream_error"]["error"].to_string();
        assert!(error.contains("idle_in_stream") && error.contains("its answer stalled"), "{error}");
        assert!(fake.wait_until(SOON, |seen| seen.cancelled == 1), "{path}: and the upstream is let go");
    }
}

#[test]
fn an_answer_in_one_piece_that_stalls_is_cut_too() {
    let (_fake, proxy) = pair(&[("READ_TIMEOUT", ENOUGH)]);
    let mut clients = ["length", "chunked", "close"].map(|framing| {
        let headers = [("x-fake-gate", "middle"), ("x-fake-framing", framing)];
        send(&proxy, CHAT, &headers, &body_of(framing, false))
    });
    for client in &mut clients {
        assert_eq!(client.read_final_head().status, 200);
        client.read_body_to_end().expect_err("half an answer is none");
    }
    await_page(|| proxy.usage(), |usage| usage["requests"]["failed"] == 3);
    assert_only_failure(&proxy, "acknowledged", "idle_in_stream", 3);
}

#[test]
fn a_stream_may_last_longer_than_the_silence_that_is_allowed() {
    let (_fake, proxy) = pair(&[("READ_TIMEOUT", "2"), ("MAX_HOLD", "2")]);
    let headers = [("x-fake-interval-ms", "500"), ("x-fake-events", "6")];
    let response = proxy.post(MESSAGES, &headers, &body_of("m", true));
    assert!(response.text().contains("message_stop"), "{}", response.text());
}

#[test]
fn an_answer_that_breaks_off_is_one_line_and_one_count() {
    log::collect();
    for (path, _) in STREAM_ENDS {
        for cut in ["after-head", "mid-stream", "in-chunk"] {
            let (_fake, proxy) = pair(&[("MAX_RETRIES", "5")]);
            let model = format!("{cut}.{}", proxy.address().port());
            let mut client = send(&proxy, path, &[("x-fake-cut", cut)], &body_of(&model, true));
            client.read_final_head();
            client.read_body_to_end().expect_err("it is cut");
            let line =
                format!("WARN request | POST {path} status=200 outcome=cut_in_stream upstream=acknowledged ");
            log::await_line(&[&line, &format!(" model={model} ")]);
            assert_only_failure(&proxy, "acknowledged", "cut_in_stream", 1);
        }
    }
}

/// Closes a connection so that the peer is told of a reset, and not of an end.
fn reset(call: Call) {
    let socket = socket2::SockRef::from(call.stream.get_ref());
    socket.set_linger(Some(Duration::ZERO)).expect("a connected socket has the option");
    drop(call);
}

#[test]
fn an_upstream_that_resets_its_connection_has_broken_off() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = RawUpstream::start(move |mut call| {
        call.read_body();
        if call.head.contains("?in-answer") {
            call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n");
            let _ = may_go_on.lock().expect("one call at a time").recv_timeout(SOON);
        }
        reset(call);
    });
    let proxy = proxy_to(&upstream.base_url(), &[]);
    expect_failure(&proxy, &[], 502, "closed_before_head", "may_have_reached");

    let proxy = proxy_to(&upstream.base_url(), &[("MAX_RETRIES", "5")]);
    let mut client = send(&proxy, &format!("{CHAT}?in-answer"), &[], &body_of("m", true));
    assert_eq!(client.read_final_head().status, 200);
    assert_eq!(client.read_until("good").expect("it came before the reset"), "good");
    go_on.send(()).expect("the upstream waits for it");
    let cut = client.read_body_to_end().expect_err("no ending is faked");
    assert!(cut.got.is_empty(), "{cut}");
    assert_only_failure(&proxy, "acknowledged", "cut_in_stream", 1);
}

#[test]
fn a_failure_of_an_upstream_shows_until_another_does() {
    let (_fake, proxy) = pair(&[]);
    assert_eq!(proxy.health()["last_upstream_error"], serde_json::Value::Null);
    let failing = proxy.post(CHAT, &[("x-fake-cut", "before-head")], &body_of("m", true));
    assert_eq!(failing.status(), 502);
    await_page(
        || proxy.health(),
        |health| health["last_upstream_error"]["error"].to_string().contains("closed_before_head"),
    );
    assert_eq!(proxy.post(CHAT, &[("x-fake-status", "500")], &body_of("m", true)).status(), 500);
    let health = proxy.health();
    assert_eq!(health["last_upstream_error"]["error"], "the upstream answered 500");
}
