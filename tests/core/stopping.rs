//! The end of the proxy: who may finish, who is refused, who is cut, and what is saved.

use fireworks_proxy::{
    event::{ConnId, Input},
    failure::FailureClass,
    proxy::Stopped,
};

use super::{BODY, MICRO, SECOND, one_at_a_time, phases::Phase, phases::STREAM};
use crate::support::world::{World, answer_with, chat, streamed};

/// Whether a client has an answer that is the proxy's own and says that it stops.
fn is_told_of_the_stop(world: &World, client: ConnId) -> bool {
    world.status_of(client) == Some(503)
        && world.field_of(client, "retry-after").is_some()
        && world.json_of(client)["error"]["code"] == "draining"
}

/// Lets everything that is at the upstream come to a good end.
fn finish(world: &mut World) {
    for name in ["a", "blocker"] {
        let Some(upstream) = world.upstream_of(name) else { continue };
        if String::from_utf8_lossy(world.sent_to(upstream)).contains(r#""stream":true"#) {
            world.deliver(upstream, (streamed(&["two"]) + "0\r\n\r\n").as_bytes());
        } else {
            world.answer(name, 5, 5);
        }
    }
}

#[test]
fn with_nothing_under_way_it_stops_at_once_and_saves() {
    let mut world = one_at_a_time(&[]);
    let idle = world.client_with(&chat("a", "", BODY));
    let fresh = world.client();
    world.answer("a", 20, 22);
    world.shutdown();
    assert_eq!(world.proxy.stopped(), Some(Stopped::Clean));
    assert!(world.is_closed(idle) && world.is_closed(fresh));
    let file = String::from_utf8(world.saves.pop().expect("saved")).expect("UTF-8");
    assert!(file.contains(r#""generated_tokens":22"#), "{file}");
    world.shutdown();
    assert_eq!(world.proxy.stopped(), Some(Stopped::Clean), "once more changes nothing");
    world.assert_settled();
}

#[test]
fn in_every_phase_who_waits_is_refused_and_who_is_at_the_upstream_may_finish() {
    for phase in Phase::ALL {
        let mut world = one_at_a_time(&[]);
        let client = phase.enter(&mut world);
        let bystander = world.client();
        let dialed = world.dials.len();
        world.shutdown();
        assert_eq!(is_told_of_the_stop(&world, client), phase.is_waiting(), "{phase:?}");
        if phase == Phase::Head {
            assert_eq!(world.proxy.stopped(), Some(Stopped::Clean), "half a head is no request");
            continue;
        }
        assert_eq!(world.proxy.stopped(), None, "{phase:?}");
        assert!(!world.is_closed(bystander), "{phase:?}");
        let late = world.client_with(&chat("late", "", BODY));
        assert!(is_told_of_the_stop(&world, late), "{phase:?}");
        if phase == Phase::Held {
            world.reply("a", "12345678");
            assert!(world.text_of(client).ends_with("x12345678"), "the last answer that there will be");
            assert!(world.field_of(client, "retry-after").is_some());
        }
        world.connects = true;
        for upstream in std::mem::take(&mut world.dialed) {
            world.input(upstream, Input::Connected);
        }
        for conn in world.dials.clone().into_iter().map(|(_, conn)| conn).chain([client]) {
            world.flow(conn);
        }
        if phase == Phase::Body {
            world.deliver(client, &STREAM.as_bytes()[STREAM.len() - 5..]);
            assert!(is_told_of_the_stop(&world, client), "it is not sent on");
        }
        finish(&mut world);
        world.input(client, Input::Eof);
        world.input(late, Input::Eof);
        assert_eq!(world.proxy.stopped(), Some(Stopped::Clean), "{phase:?}");
        assert_eq!(world.dials.len(), dialed, "{phase:?}: nothing new goes to the upstream");
        world.assert_settled();
    }
}

#[test]
fn in_every_phase_a_second_word_stops_at_once() {
    for phase in Phase::ALL {
        let mut world = one_at_a_time(&[]);
        let client = phase.enter(&mut world);
        // Somebody always has something to finish.
        world.client_with(&chat("other", "", r#"{"model":"other"}"#));
        world.shutdown();
        assert_eq!(world.proxy.stopped(), None, "{phase:?}");
        // The refused have gone by now, for they have been told.
        world.advance(SECOND * 3);
        let is_under_way = phase.is_at_upstream() || matches!(phase, Phase::Body | Phase::Flushing);
        let blocker = usize::from(world.upstream_of("blocker").is_some());
        let was_cut = 1 + blocker + usize::from(is_under_way && phase != Phase::Held);
        world.shutdown();
        assert_eq!(world.proxy.stopped(), Some(Stopped::Cut(was_cut)), "{phase:?}");
        assert!(world.is_closed(client), "{phase:?}");
        world.advance(SECOND * 1_000);
        world.assert_settled();
    }
}

#[test]
fn what_is_under_way_is_cut_when_its_time_is_over_and_counts() {
    for (settings, seconds) in [(&[][..], 30.0), (&[("DRAIN", "2.5")][..], 2.5), (&[("DRAIN", "0")][..], 0.0)]
    {
        let mut world = one_at_a_time(settings);
        let client = world.client_with(&chat("a", "", STREAM));
        world.reply("a", streamed(&["some words"]));
        let usage = "data: {\"usage\":{\"prompt_tokens\":70,\"completion_tokens\":7}}\n\n";
        world.reply("a", format!("{:x}\r\n{usage}\r\n", usage.len()));
        world.advance(SECOND * 5);
        let begun = world.now();
        world.shutdown();
        if seconds > 0.0 {
            world.advance_to(begun + SECOND.mul_f64(seconds) - MICRO);
            world.reply("a", "3\r\n:\n\n\r\n");
            assert_eq!((world.proxy.stopped(), world.is_closed(client)), (None, false));
        }
        world.advance_to(begun + SECOND.mul_f64(seconds));
        assert_eq!(world.proxy.stopped(), Some(Stopped::Cut(1)));
        assert!(world.is_closed(client) && !world.text_of(client).ends_with("0\r\n\r\n"), "a cut is no end");
        assert_eq!(world.ends(), [0, 0, 0, 1]);
        let saved = String::from_utf8(world.saves.pop().expect("saved")).expect("UTF-8");
        assert!(saved.contains(r#""prompt_tokens":70,"generated_tokens":7"#), "{saved}");
        world.assert_settled();
    }
}

#[test]
fn what_fails_while_the_proxy_stops_is_not_tried_again() {
    for (status, waits) in [(Some(503), true), (Some(429), true), (None, true), (None, false)] {
        let mut world = one_at_a_time(&[]);
        world.connects = waits;
        let client = world.client_with(&chat("a", "", STREAM));
        world.shutdown();
        match (status, world.dialed.pop_front()) {
            (Some(status), _) => world.reply("a", answer_with(status, "", "as it was")),
            (None, Some(upstream)) => world.breaks(upstream, FailureClass::Dns),
            (None, None) => {
                let upstream = world.upstream_of("a").expect("it is there");
                world.input(upstream, Input::Eof);
            }
        }
        assert_eq!(world.status_of(client), status.or(Some(502)));
        if status.is_some() {
            assert!(world.text_of(client).ends_with("as it was"));
            assert!(world.field_of(client, "retry-after").is_some());
        }
        world.input(client, Input::Eof);
        assert_eq!(world.proxy.stopped(), Some(Stopped::Clean));
        assert_eq!((world.dials.len(), world.stats().retries), (1, 0));
        world.assert_settled();
    }
    // A refusal that cannot be kept whole leaves nothing to pass on but word of it.
    let mut world = one_at_a_time(&[]);
    let client = world.client_with(&chat("a", "", STREAM));
    world.reply("a", "HTTP/1.1 503 No\r\ncontent-length: 9\r\n\r\nx");
    world.shutdown();
    let upstream = world.upstream_of("a").expect("it is there");
    world.input(upstream, Input::Eof);
    let error = world.json_of(client)["error"].clone();
    assert_eq!((&error["code"], &error["upstream"]), (&"cut_in_stream".into(), &"acknowledged".into()));
}

#[test]
fn health_says_that_it_stops_and_connections_end_behind_their_answers() {
    let mut world = one_at_a_time(&[]);
    world.client_with(&chat("a", "", STREAM));
    let asks = world.client();
    let [reused, old] = [world.client(), world.client()];
    assert_eq!(world.page("/health")["status"], "ok");
    world.shutdown();
    let health = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    world.deliver(asks, health.as_bytes());
    assert_eq!((world.status_of(asks), &world.json_of(asks)["status"]), (Some(503), &"draining".into()));
    assert_eq!(world.json_of(asks)["in_flight"], 1);
    world.deliver(reused, &chat("new", "", BODY));
    world.deliver(old, b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for client in [reused, old] {
        assert!(is_told_of_the_stop(&world, client));
        assert_eq!(world.field_of(client, "connection").as_deref(), Some("close"));
        assert!(!world.is_closed(client), "it has time to read that");
    }
    world.advance(SECOND * 2);
    assert!(world.is_closed(reused) && world.is_closed(old));
    finish(&mut world);
    assert_eq!((world.proxy.stopped(), world.ends()), (Some(Stopped::Clean), [1, 2, 0, 0]));
    world.assert_settled();
}

#[test]
fn the_log_tells_of_the_stop_and_how_long_each_had_waited() {
    let mut world = one_at_a_time(&[]);
    world.client_with(&chat("refused", "", BODY));
    world.reply("refused", answer_with(503, "retry-after: 60\r\n", ""));
    world.client_with(&chat("runs", "", BODY));
    world.advance(SECOND * 4);
    world.client_with(&chat("queued", "", BODY));
    world.advance(SECOND * 3);
    world.shutdown();
    let line = "INFO stopping: 1 in flight may end within 30 s, 2 waiting get 503; once more \
                stops at once";
    assert!(world.log.iter().any(|logged| logged == line), "{:#?}", world.log);
    let tail = |waited: &str| {
        let message = "the proxy is being stopped and takes no new requests; try again";
        format!("client=- model=m session=- waited={waited} took={waited} message={message:?}")
    };
    assert_eq!(
        world.request_lines()[1..],
        [
            format!(
                "WARN request | POST /v1/chat/completions status=503 outcome=draining upstream=acknowledged {}",
                tail("7.000s")
            ),
            format!(
                "WARN request | POST /v1/chat/completions status=503 outcome=draining upstream=never_reached {}",
                tail("3.000s")
            ),
        ]
    );
    world.shutdown();
    assert!(world.log.last().is_some_and(|line| line.contains("1 connections were cut")), "{:#?}", world.log);
}
