//! Clients that leave before the end, or right at it.

use crate::support::{
    client::Client,
    fake::Outcome,
    proxy::ProxyUnderTest,
    wire::{CHAT, COST, MESSAGES, SOON, STREAM_ENDS, await_page, body_of, lane_of, pair, settled},
};

fn ask(proxy: &ProxyUnderTest, path: &str, headers: &[(&str, &str)], body: &str) -> Client {
    let mut client = proxy.connect();
    client.request("POST", path, headers, body.as_bytes());
    client
}

fn await_queue_depth(proxy: &ProxyUnderTest, depth: u64) {
    await_page(|| proxy.health(), |health| health["queue_depth"] == depth);
}

#[test]
fn a_client_that_leaves_while_queued_for_the_request_bucket_is_taken_out() {
    let (fake, proxy) = pair(&[("RPS", "0.05")]);
    assert_eq!(proxy.post(CHAT, &[], &body_of("m", true)).status(), 200);
    let waiting = [ask(&proxy, CHAT, &[], &body_of("m", true)), ask(&proxy, CHAT, &[], &body_of("n", true))];
    await_queue_depth(&proxy, 2);
    for (left, client) in waiting.into_iter().enumerate() {
        client.close();
        await_queue_depth(&proxy, 1 - left as u64);
    }
    let requests = proxy.usage()["requests"].clone();
    assert_eq!((&requests["client_gone"], &requests["finished"]), (&2.into(), &1.into()));
    assert_eq!(fake.statistics().connections, 1, "they never reached the upstream");
}

#[test]
fn a_place_in_a_full_lane_goes_to_the_next_when_a_client_leaves_it() {
    let limits =
        [("GENERATED_TPM_LIMIT", "125"), ("TPM_SAFETY_RATIO", "0.8"), ("OUTPUT_TOKEN_RESERVE", "100")];
    let (fake, proxy) = pair(&limits);
    let capped =
        |session: &str| format!(r#"{{"model":"m","stream":true,"max_tokens":50,"user":"{session}"}}"#);
    let holding = r#"{"model":"m","stream":true}"#;
    let mut holder = ask(&proxy, CHAT, &[("x-fake-gate", "head"), ("x-fake-generated", "42")], holding);
    fake.wait_for_gate(1, SOON);
    let leaver = ask(&proxy, CHAT, &[], &capped("leaver"));
    await_queue_depth(&proxy, 1);
    let mut stayer = ask(&proxy, CHAT, &[], &capped("stayer"));
    await_queue_depth(&proxy, 2);
    // Near a limit it waits for the one before it to be some way ahead, and then for tokens.
    await_page(|| proxy.usage(), |usage| lane_of(usage, "m")["waits_for"] == "generated");
    leaver.close();
    await_queue_depth(&proxy, 1);

    // 42 of the 100 are used then, which leaves room for one of the two.
    fake.release();
    assert_eq!(holder.read_response().status(), 200);
    assert_eq!(stayer.read_response().status(), 200);
    let users: Vec<_> =
        fake.requests().iter().map(|request| request.json().expect("JSON")["user"].clone()).collect();
    assert_eq!(users, [serde_json::Value::Null, "stayer".into()]);
}

#[test]
fn a_client_that_leaves_in_mid_answer_has_its_upstream_connection_closed() {
    for (path, _) in STREAM_ENDS {
        let (fake, proxy) = pair(&[]);
        let mut client = ask(&proxy, path, &[("x-fake-gate", "middle")], &body_of("m", true));
        client.read_final_head();
        client.read_until("amber").expect("the first word comes before the gate");
        fake.wait_for_gate(1, SOON);
        client.close();
        assert!(
            fake.wait_until(SOON, |seen| seen.cancelled == 1 && seen.connections_open == 0),
            "{path}: {:#?}",
            fake.statistics()
        );
        assert_eq!(fake.requests()[0].outcome, Outcome::ClosedByPeer { after_last_event: false });
        let usage = proxy.usage();
        let [prompt, uncached, generated] = settled(&lane_of(&usage, "m"));
        assert!(prompt > 0 && uncached > 0 && generated > 0, "{path}: what was seen is settled: {usage:#}");
        assert!(generated < 42, "{path}: and no more");
        let requests = &usage["requests"];
        assert_eq!(
            (&requests["client_gone"], &requests["finished"], &requests["in_flight"]),
            (&1.into(), &0.into(), &0.into())
        );
    }
}

#[test]
fn a_client_that_leaves_before_the_answer_begins_has_its_upstream_connection_closed() {
    let (fake, proxy) = pair(&[]);
    for (stream, model) in [(true, "streamed"), (false, "whole")] {
        let client = ask(&proxy, CHAT, &[("x-fake-gate", "head")], &body_of(model, stream));
        fake.wait_for_gate(1, SOON);
        let left_before = fake.statistics().cancelled;
        client.close();
        assert!(fake.wait_until(SOON, |seen| seen.cancelled > left_before && seen.connections_open == 0));
        let [prompt, _, generated] = settled(&lane_of(&proxy.usage(), model));
        assert!(prompt > 0, "{model}: the upstream has read the prompt");
        assert_eq!(generated > 0, !stream, "{model}: a whole answer may have been made already");
    }
    assert_eq!(proxy.usage()["requests"]["client_gone"], 2);
}

#[test]
fn a_client_that_closes_right_after_the_final_event_has_ended_normally() {
    for (path, end) in STREAM_ENDS {
        let (fake, proxy) = pair(&[]);
        // The end of the framing would come after the test has failed.
        let headers = [&COST[..], &[("x-fake-tail-ms", "120000")]].concat();
        let mut client = ask(&proxy, path, &headers, &body_of("m", true));
        client.read_final_head();
        client.read_until(end).expect("every event comes before the tail");
        client.close();
        assert!(
            fake.wait_until(SOON, |seen| seen.cancelled == 1 && seen.connections_open == 0),
            "{path}: the upstream connection is of no more use"
        );
        assert_eq!(fake.requests()[0].outcome, Outcome::ClosedByPeer { after_last_event: true });
        let usage = proxy.usage();
        let requests = &usage["requests"];
        assert_eq!((&requests["finished"], &requests["client_gone"]), (&1.into(), &0.into()), "{path}");
        assert_eq!(usage["day"]["used"], 1242, "{path}");
        assert_eq!(settled(&lane_of(&usage, "m")), [1200, 176, 42], "{path}");
    }
}

#[test]
fn a_client_that_ends_its_side_has_left() {
    // Nobody is known to half-close and wait.
    for gate in ["head", "first-event", "middle"] {
        let (fake, proxy) = pair(&[]);
        let mut client = ask(&proxy, CHAT, &[("x-fake-gate", gate)], &body_of("m", true));
        fake.wait_for_gate(1, SOON);
        client.shutdown_write();
        assert!(fake.wait_until(SOON, |seen| seen.cancelled == 1 && seen.connections_open == 0), "{gate}");
        let raw = client.read_raw_until_eof();
        assert!(!raw.ends_with(b"\r\n0\r\n\r\n"), "{gate}: {}", String::from_utf8_lossy(&raw));
        assert_eq!(proxy.usage()["requests"]["client_gone"], 1, "{gate}");
    }
}

#[test]
fn a_client_that_ends_its_side_while_it_waits_is_not_sent_on() {
    let (fake, proxy) = pair(&[("RPS", "0.05"), ("MAX_RETRIES", "5")]);
    let refused = ask(&proxy, CHAT, &[("x-fake-status", "503")], &body_of("m", true));
    await_page(|| proxy.usage(), |usage| usage["requests"]["upstream_503"] == 1);
    let queued = ask(&proxy, MESSAGES, &[], &body_of("n", true));
    await_queue_depth(&proxy, 1);
    for client in [&refused, &queued] {
        client.shutdown_write();
    }
    await_page(|| proxy.usage(), |usage| usage["requests"]["client_gone"] == 2);
    await_queue_depth(&proxy, 0);
    assert_eq!(fake.statistics().requests, 1);
}

#[test]
fn a_client_that_ends_its_side_after_the_final_event_has_ended_normally() {
    let (fake, proxy) = pair(&[]);
    let headers = [&COST[..], &[("x-fake-tail-ms", "120000")]].concat();
    let mut client = ask(&proxy, MESSAGES, &headers, &body_of("m", true));
    client.read_final_head();
    client.read_until("message_stop").expect("every event comes before the tail");
    client.shutdown_write();
    assert!(fake.wait_until(SOON, |seen| seen.cancelled == 1 && seen.connections_open == 0));
    let requests = proxy.usage()["requests"].clone();
    assert_eq!((&requests["finished"], &requests["client_gone"]), (&1.into(), &0.into()));
}

#[test]
fn a_client_that_leaves_within_its_request_costs_nothing() {
    let (fake, proxy) = pair(&[]);
    for part in [
        "POST /v1/chat",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"mo",
    ] {
        let mut client = proxy.connect();
        client.send(part.as_bytes()).expect("the proxy takes it");
        client.shutdown_write();
        assert!(client.is_closed_by_peer(SOON), "{part:?}: there is nothing to answer");
    }
    // Half a head is no request; half a body is one, whose client has left.
    let usage = proxy.usage();
    assert_eq!((&usage["requests"]["total"], &usage["requests"]["client_gone"]), (&1.into(), &1.into()));
    assert_eq!(usage["failures"]["never_reached"]["client_gone"], 1);
    assert_eq!(
        (fake.statistics().connections, &usage["bucket"]["available"]),
        (0, &usage["bucket"]["capacity"])
    );
}

#[test]
fn a_client_that_leaves_behind_more_than_is_read_is_noticed() {
    let (fake, proxy) = pair(&[]);
    let mut client = ask(&proxy, CHAT, &[("x-fake-gate", "head")], &body_of("m", true));
    fake.wait_for_gate(1, SOON);
    // A pipelined request that fills what is kept of one, so that nothing more is read, and that the
    // system still takes whole.
    client.request("POST", CHAT, &[], &vec![b'x'; 90_000]);
    client.close();
    assert!(fake.wait_until(SOON, |seen| seen.cancelled == 1 && seen.connections_open == 0));
}
