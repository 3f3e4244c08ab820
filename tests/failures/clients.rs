//! Time limits of clients, and what else goes wrong on their side.

use std::{
    io::{ErrorKind, Write},
    sync::mpsc,
    time::Duration,
};

use crate::support::{
    client::{Client, Response},
    failing::assert_only_failure,
    log,
    proxy::ProxyUnderTest,
    raw_upstream::{Call, RawUpstream},
    wire::{CHAT, MESSAGES, SOON, await_page, body_of, error_code, pair, proxy_to},
};

/// For what is waited for in vain, in seconds.
const SHORT: &str = "0.3";

/// For what has to get on before it stops, on a busy machine too.
const ENOUGH: &str = "1";

/// How far apart the bytes of a client that is slow on purpose are.
const PACE: Duration = Duration::from_millis(20);

/// Sends bytes one by one until something comes back, and gives that.
fn trickle(client: &mut Client, bytes: &[u8]) -> Option<Response> {
    client.set_read_timeout(PACE);
    for byte in bytes {
        if client.send(&[*byte]).is_err() {
            return None;
        }
        // What was read of a head stays, so this can be asked again.
        if let Ok(head) = client.try_read_head() {
            client.set_read_timeout(SOON);
            let body = client.read_body_to_end().expect("a whole body");
            return Some(Response { head, body });
        }
    }
    None
}

/// Checks that a request was refused because it came too slowly, and that nobody waits for more of it.
#[track_caller]
fn assert_too_slow(path: &str, client: &mut Client, response: &Response) {
    assert_eq!((response.status(), error_code(path, response).as_str()), (408, "client_timeout"));
    assert_eq!(response.json()["error"]["upstream"], "never_reached");
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.is_closed_by_peer(SOON));
}

#[test]
fn a_head_that_stalls_or_trickles_is_refused() {
    let (fake, proxy) = pair(&[("CLIENT_HEAD_TIMEOUT", SHORT)]);
    let mut client = proxy.connect();
    client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n").expect("the proxy takes it");
    let response = client.read_response();
    assert_too_slow(CHAT, &mut client, &response);

    let mut client = proxy.connect();
    let head = format!("POST /v1/messages HTTP/1.1\r\nX-Long: {}", "x".repeat(10_000));
    let response = trickle(&mut client, head.as_bytes()).expect("progress is no excuse within a head");
    assert_too_slow(CHAT, &mut client, &response);

    // The next request on a connection has its own time.
    let mut client = proxy.connect();
    client.request("GET", "/health", &[], b"");
    client.read_response();
    client.send(b"G").expect("the proxy takes it");
    let response = client.read_response();
    assert_too_slow(CHAT, &mut client, &response);
    assert_only_failure(&proxy, "never_reached", "client_timeout", 3);
    assert_eq!((&proxy.usage()["requests"]["refused"], fake.statistics().connections), (&3.into(), 0));
}

#[test]
fn a_body_that_stalls_or_trickles_is_refused_in_the_paths_dialect() {
    log::collect();
    let (fake, proxy) = pair(&[("CLIENT_BODY_TIMEOUT", ENOUGH)]);
    let mut clients = [CHAT, MESSAGES].map(|path| {
        let mut client = proxy.connect();
        client.request("POST", path, &[("Content-Length", "100")], b"{\"model\":");
        (path, client)
    });
    for (path, client) in &mut clients {
        let response = client.read_response();
        assert_too_slow(path, client, &response);
    }
    for path in [CHAT, MESSAGES] {
        let begin = format!("WARN request | POST {path} status=408 outcome=client_timeout ");
        log::await_line(&[&begin, r#"message="the request did not arrive in time""#]);
    }

    let mut client = proxy.connect();
    client.request("POST", CHAT, &[("Content-Length", "1000")], b"");
    let response = trickle(&mut client, &[b'x'; 999]).expect("a byte now and then is no progress");
    assert_too_slow(CHAT, &mut client, &response);
    assert_only_failure(&proxy, "never_reached", "client_timeout", 3);
    assert_eq!(fake.statistics().connections, 0);
}

/// More than the buffers of both connections hold.
const HUGE_BYTES: usize = 256 << 20;

/// Sends [`HUGE_BYTES`] for as long as the peer takes them or waits; says when it has closed.
fn send_hugely(mut call: Call, closed: &mpsc::Sender<ErrorKind>) {
    call.read_body();
    call.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {HUGE_BYTES}\r\n\r\n").as_bytes());
    let piece = vec![b'x'; 64 * 1024];
    let error = (0..HUGE_BYTES / piece.len()).find_map(|_| call.stream.get_mut().write_all(&piece).err());
    let _ = closed.send(error.map_or(ErrorKind::Other, |error| error.kind()));
}

#[test]
fn a_client_that_takes_nothing_of_an_answer_is_let_go_and_its_upstream_with_it() {
    log::collect();
    let (tell, closed) = mpsc::channel();
    let upstream = RawUpstream::start(move |call| send_hugely(call, &tell));
    let proxy = proxy_to(&upstream.base_url(), &[("CLIENT_BODY_TIMEOUT", SHORT)]);
    let model = format!("huge.{}", proxy.address().port());
    let mut client = proxy.connect();
    client.request("POST", CHAT, &[], body_of(&model, true).as_bytes());
    assert_eq!(client.read_final_head().status, 200);
    let kind = closed.recv_timeout(SOON).expect("the upstream is not held up for ever");
    assert!(!matches!(kind, ErrorKind::Other | ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind}");
    log::await_line(&[&format!("model={model} "), "status=200 outcome=client_gone upstream=acknowledged"]);
    assert_only_failure(&proxy, "acknowledged", "client_gone", 1);
    client.read_body_to_end().expect_err("what it has not taken is lost");
}

#[test]
fn a_client_that_takes_nothing_of_an_answer_that_is_there_is_let_go() {
    let (_fake, proxy) = pair(&[("CLIENT_BODY_TIMEOUT", SHORT)]);
    let mut client = proxy.connect();
    let request = b"GET /usage HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    // It asks and does not read: at some time its answers fill every buffer, and it is waited for in vain.
    let error = (0..10_000).find_map(|_| client.send(&request).err());
    let kind = error.expect("nobody takes a million requests from such a client").kind();
    assert!(!matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind}");
    assert_eq!(proxy.health()["status"], "ok");
}

#[test]
fn an_idle_connection_is_closed_without_a_word_and_a_busy_one_is_not() {
    let (fake, proxy) = pair(&[("CLIENT_IDLE_TIMEOUT", ENOUGH), ("CLIENT_HEAD_TIMEOUT", ENOUGH)]);
    let mut busy = proxy.connect();
    busy.request("POST", CHAT, &[("x-fake-gate", "head")], body_of("m", true).as_bytes());
    fake.wait_for_gate(1, SOON);
    let mut silent = proxy.connect();
    let mut served = proxy.connect();
    served.request("GET", "/v1/models", &[], b"");
    assert_eq!(served.read_response().status(), 200);
    // They came later than the busy one, so its time would be over, too.
    for idle in [&mut silent, &mut served] {
        assert!(idle.is_closed_by_peer(SOON), "and nothing is sent before");
    }
    fake.open_gates();
    assert_eq!(busy.read_response().status(), 200);
    assert_only_failure(&proxy, "", "", 0);
}

fn leave(proxy: &ProxyUnderTest, client: Client, left_before: u64) {
    client.close();
    await_page(|| proxy.usage(), |usage| usage["requests"]["client_gone"] == left_before + 1);
}

#[test]
fn a_client_that_leaves_is_counted_by_how_far_its_request_had_come() {
    log::collect();
    let limits =
        [("GENERATED_TPM_LIMIT", "125"), ("TPM_SAFETY_RATIO", "0.8"), ("OUTPUT_TOKEN_RESERVE", "100")];
    for (reach, gate, status) in [
        ("never_reached", None, "-"),
        ("may_have_reached", Some("head"), "-"),
        ("acknowledged", Some("middle"), "200"),
    ] {
        let (fake, proxy) = pair(&limits);
        let model = format!("left.{}", proxy.address().port());
        let body = format!(r#"{{"model":"{model}","stream":true}}"#);
        let send = |gate| {
            let mut client = proxy.connect();
            client.request("POST", CHAT, &[("x-fake-gate", gate)], body.as_bytes());
            client
        };
        let mut client = send(gate.unwrap_or("head"));
        fake.wait_for_gate(1, SOON);
        // Where it is to wait, it waits behind that one.
        let _holder = gate.is_none().then(|| std::mem::replace(&mut client, send("head")));
        if gate.is_none() {
            await_page(|| proxy.usage(), |usage| usage["requests"]["queued"] == 1);
        }
        if gate == Some("middle") {
            assert_eq!(client.read_final_head().status, 200);
        }
        leave(&proxy, client, 0);
        let line =
            format!("INFO request | POST {CHAT} status={status} outcome=client_gone upstream={reach} ");
        log::await_line(&[&format!("model={model} "), &line]);
        assert_only_failure(&proxy, reach, "client_gone", 1);
    }
}

#[test]
fn what_the_proxy_refuses_is_counted_by_its_code() {
    log::collect();
    let settings = [
        ("GENERATED_TPM_LIMIT", "100"),
        ("TPM_SAFETY_RATIO", "1"),
        ("OUTPUT_TOKEN_RESERVE", "100"),
        ("MAX_WAIT", "0.2"),
        ("MAX_BODY_MIB", "1"),
        ("DAILY_TOKEN_LIMIT", "2"),
    ];
    for (path, status_line) in [(CHAT, "OpenAI"), (MESSAGES, "Anthropic")] {
        let (fake, proxy) = pair(&settings);
        let model = format!("{status_line}.{}", proxy.address().port());
        let body = format!(r#"{{"model":"{model}","stream":true}}"#);
        let expect = |response: &Response, status: u16, code: &str| {
            assert_eq!((response.status(), error_code(path, response).as_str()), (status, code));
            assert_eq!(response.json()["error"]["upstream"], "never_reached");
        };
        let mut client = proxy.connect();
        client.request("POST", path, &[("Content-Length", "2000000")], b"");
        expect(&client.read_response(), 413, "bad_request");
        assert_only_failure(&proxy, "never_reached", "bad_request", 1);

        // Each has a proxy of its own, so that nothing else is counted there.
        let proxy = ProxyUnderTest::start(&fake, &settings);
        let mut holder = proxy.connect();
        holder.request("POST", path, &[("x-fake-gate", "head")], body.as_bytes());
        fake.wait_for_gate(1, SOON);
        let late = proxy.post(path, &[], &body);
        expect(&late, 429, "queue_timeout");
        assert!(late.header("retry-after").is_some());
        assert_only_failure(&proxy, "never_reached", "queue_timeout", 1);
        fake.open_gates();
        assert_eq!(holder.read_response().status(), 200);

        let proxy = ProxyUnderTest::start(&fake, &settings);
        assert_eq!(proxy.post(path, &[("x-fake-prompt-tokens", "10")], &body).status(), 200);
        await_page(|| proxy.usage(), |usage| usage["day"]["remaining"] == 0);
        expect(&proxy.post(path, &[], &body), 429, "daily_limit");
        assert_only_failure(&proxy, "never_reached", "daily_limit", 1);
        for code in ["queue_timeout", "daily_limit"] {
            let outcome =
                format!("WARN request | POST {path} status=429 outcome={code} upstream=never_reached ");
            log::await_line(&[&format!("model={model} "), &outcome]);
        }
    }
}
