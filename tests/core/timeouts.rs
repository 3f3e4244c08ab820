//! Every time limit of a single step, at its exact moment.

use std::time::Duration;

use fireworks_proxy::event::{ConnId, Input};

use super::{BODY, MICRO, SECOND, phases::STREAM, utc};
use crate::support::world::{World, chat, streamed};

/// A core without retries, so that a limit ends what it bounds.
fn world(settings: &[(&str, &str)]) -> World {
    let further = [("MAX_RETRIES", "0"), ("MAX_HOLD", "86400"), ("MAX_WAIT", "86400")];
    World::new(&[&further[..], settings].concat(), utc(5, 21, 2, 0))
}

/// Checks that a client is not told anything until this span is over, and is then.
#[track_caller]
fn ends_after(world: &mut World, client: ConnId, span: Duration, code: &str) {
    let end = world.now() + span;
    world.advance_to(end - MICRO);
    assert_eq!(world.text_of(client), "", "{code}: too early");
    world.advance(MICRO);
    assert_eq!(world.json_of(client)["error"]["code"], code);
    world.assert_settled();
}

/// Checks that a connection is open until this span is over, and is then not.
#[track_caller]
fn closes_after(world: &mut World, conn: ConnId, span: Duration) {
    let end = world.now() + span;
    world.advance_to(end - MICRO);
    assert!(!world.is_closed(conn), "too early");
    world.advance(MICRO);
    assert!(world.is_closed(conn), "still open after {span:?}");
}

/// A setting unset, and set to a fraction.
fn both(name: &'static str, default: u64) -> [(Vec<(&'static str, &'static str)>, Duration); 2] {
    [(vec![], SECOND * u32::try_from(default).expect("small")), (vec![(name, "2.5")], SECOND * 5 / 2)]
}

#[test]
fn connecting() {
    for (settings, span) in both("CONNECT_TIMEOUT", 10) {
        let mut world = world(&settings);
        world.connects = false;
        let client = world.client_with(&chat("a", "", BODY));
        ends_after(&mut world, client, span, "connect_timeout");
    }
}

#[test]
fn connecting_through_a_forward_proxy() {
    let through = ("UPSTREAM_PROXY", "http://proxy.example:3128");
    for (settings, span) in both("CONNECT_TIMEOUT", 10) {
        let settings = [&settings[..], &[through]].concat();
        for is_tunneled in [false, true] {
            let mut world = world(&settings);
            world.connects = false;
            let client = world.client_with(&chat("a", "", BODY));
            let upstream = world.dialed.pop_front().expect("it was dialed");
            world.advance(SECOND);
            if is_tunneled {
                world.input(upstream, Input::Tunneled);
            }
            // The tunnel is no progress that would give TLS more time.
            let code = if is_tunneled { "connect_timeout" } else { "proxy_timeout" };
            ends_after(&mut world, client, span - SECOND, code);
        }
    }
    // One that comes late means nothing.
    let mut world = world(&[through]);
    let client = world.client_with(&chat("a", "", BODY));
    let upstream = world.upstream_of("a").expect("it was sent");
    world.input(upstream, Input::Tunneled);
    world.answer("a", 30, 5);
    assert_eq!(world.status_of(client), Some(200));
}

#[test]
fn sending_a_request_without_progress() {
    for (settings, span) in both("WRITE_TIMEOUT", 30) {
        let mut world = world(&settings);
        world.connects = false;
        let client = world.client_with(&chat("a", "", BODY));
        let upstream = world.dialed.pop_front().expect("it was dialed");
        world.stall(upstream);
        world.advance(SECOND);
        world.input(upstream, Input::Connected);
        for _ in 0..50 {
            world.advance(span - MICRO);
            world.take(upstream, 1);
        }
        ends_after(&mut world, client, span, "write_timeout");
    }
}

#[test]
fn an_answer_that_does_not_begin() {
    for (settings, span) in both("READ_TIMEOUT", 1_800) {
        for body in [BODY, STREAM] {
            let mut world = world(&settings);
            let client = world.client_with(&chat("a", "", body));
            world.advance(span - MICRO);
            // A byte is a byte, also of a head, and of one that does not count.
            for byte in "HTTP/1.1 100 Continue\r\n\r\nHTTP".split_inclusive(char::is_alphanumeric) {
                world.reply("a", byte);
                world.advance(span - MICRO);
            }
            world.reply("a", "/");
            ends_after(&mut world, client, span, "head_timeout");
        }
    }
}

#[test]
fn half_an_hour_of_silence_within_a_stream() {
    for (settings, span) in both("READ_TIMEOUT", 1_800) {
        let mut world = world(&settings);
        let client = world.client_with(&chat("a", "", STREAM));
        world.reply("a", streamed(&["one"]));
        world.advance(span - MICRO);
        assert!(!world.is_closed(client));
        world.reply("a", "5\r\ndat");
        let upstream = world.upstream_of("a").expect("it is there");
        closes_after(&mut world, upstream, span);
        assert!(world.is_closed(client), "a cut is no end");
        assert!(world.text_of(client).ends_with("5\r\ndat"));
        assert_eq!(world.failures(), [("acknowledged idle_in_stream".to_owned(), 1)]);
        world.assert_settled();
    }
}

#[test]
fn a_stream_that_goes_on_may_last_for_days() {
    let mut world = World::new(&[], utc(5, 21, 2, 0));
    let client = world.client_with(&chat("a", "x-stainless-timeout: 600\r\n", STREAM));
    world.reply("a", streamed(&["one"]));
    for _ in 0..100 {
        world.advance(SECOND * 1_800 - MICRO);
        world.reply("a", "3\r\n:\n\n\r\n");
    }
    assert!(world.now().as_micros() > 49 * 3_600_000_000);
    world.reply("a", "0\r\n\r\n");
    assert!(world.text_of(client).ends_with("\r\n0\r\n\r\n") && !world.is_closed(client));
    assert_eq!(world.ends(), [1, 0, 0, 0]);
    world.assert_settled();
}

#[test]
fn a_head_from_a_client() {
    for (settings, span) in both("CLIENT_HEAD_TIMEOUT", 30) {
        let mut world = world(&settings);
        let client = world.client();
        world.advance(SECOND);
        world.deliver(client, b"G");
        world.advance(span / 2);
        world.deliver(client, b"E");
        world.advance(span / 2 - MICRO);
        assert_eq!(world.text_of(client), "");
        world.advance(MICRO);
        assert_eq!((world.status_of(client), world.stats().requests), (Some(408), 1));
        assert_eq!(world.failures(), [("never_reached client_timeout".to_owned(), 1)]);
    }
}

#[test]
fn a_body_from_a_client_without_progress() {
    for (settings, span) in both("CLIENT_BODY_TIMEOUT", 60) {
        let mut world = world(&settings);
        // As much as earns a client the time that it takes.
        let portion = 300_000;
        let request = chat("a", "", &"x".repeat(10 * portion));
        let (begun, rest) = request.split_at(request.len() - 10 * portion);
        let client = world.client_with(begun);
        for bytes in rest.chunks(portion).take(9) {
            world.advance(span - MICRO);
            world.deliver(client, bytes);
        }
        ends_after(&mut world, client, span, "client_timeout");
    }
}

#[test]
fn an_answer_that_its_client_does_not_take() {
    for (settings, span) in both("CLIENT_BODY_TIMEOUT", 60) {
        for is_whole in [false, true] {
            let mut world = world(&settings);
            let client = world.client_with(&chat("a", "", STREAM));
            world.stall(client);
            world.advance(SECOND * 7);
            world.reply("a", if is_whole { streamed(&["one"]) + "0\r\n\r\n" } else { streamed(&["one"]) });
            for _ in 0..20 {
                world.advance(span - MICRO);
                // That the upstream goes on is nothing that the client has done.
                if !is_whole {
                    world.reply("a", "3\r\n:\n\n\r\n");
                }
                world.take(client, 3);
            }
            world.advance(span / 2);
            if !is_whole {
                world.reply("a", "3\r\n:\n\n\r\n");
            }
            closes_after(&mut world, client, span / 2);
            assert_eq!(world.ends(), if is_whole { [1, 0, 0, 0] } else { [0, 0, 1, 0] });
            world.assert_settled();
        }
    }
}

#[test]
fn a_slow_client_is_not_taken_for_a_silent_upstream() {
    let mut world = world(&[("READ_TIMEOUT", "5"), ("CLIENT_BODY_TIMEOUT", "20")]);
    let client = world.client_with(&chat("a", "", STREAM));
    world.stall(client);
    world.reply("a", streamed(&["one"]));
    let upstream = world.upstream_of("a").expect("it is there");
    world.deliver(upstream, b"fffff\r\n");
    world.deliver(upstream, &vec![b'x'; world.proxy.window(upstream)]);
    assert_eq!(world.proxy.window(upstream), 0, "nothing more is read");
    world.advance(SECOND * 19);
    assert!(!world.is_closed(client));
    world.take(client, 1_000_000);
    closes_after(&mut world, upstream, SECOND * 5);
    world.assert_settled();
}

#[test]
fn between_the_requests_of_a_client() {
    for (settings, span) in both("CLIENT_IDLE_TIMEOUT", 300) {
        let mut world = world(&settings);
        let client = world.client();
        world.advance(span - MICRO);
        world.deliver(client, &chat("a", "", BODY));
        world.advance(SECOND * 1_000);
        world.answer("a", 1, 1);
        closes_after(&mut world, client, span);
        // As long as what it used is in the minute, the last hour is told of it.
        world.advance(SECOND * 80);
        assert_eq!(world.proxy.poll_timeout(), None);
    }
}

#[test]
fn waiting_is_bound_by_nothing_else() {
    let settings = [("CONNECT_TIMEOUT", "1"), ("WRITE_TIMEOUT", "1"), ("READ_TIMEOUT", "1")];
    let further = [
        ("CLIENT_HEAD_TIMEOUT", "1"),
        ("CLIENT_BODY_TIMEOUT", "1"),
        ("CLIENT_IDLE_TIMEOUT", "1"),
        ("GENERATED_TPM_LIMIT", "1"),
    ];
    let mut world = world(&[&settings[..], &further[..]].concat());
    world.client_with(&chat("first", "", BODY));
    world.answer("first", 1, 1_000);
    let client = world.client_with(&chat("a", "", BODY));
    world.advance(SECOND * 60 - MICRO);
    assert_eq!((world.text_of(client).as_str(), world.waiting()), ("", 1));
    world.advance(SECOND / 4 + MICRO);
    world.answer("a", 1, 1);
    assert_eq!(world.status_of(client), Some(200));
    world.assert_settled();
}
