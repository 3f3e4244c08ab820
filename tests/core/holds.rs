//! A request's whole time until its answer begins, over the queue, the pauses and the tries together.

use fireworks_proxy::{event::Input, failure::FailureClass};

use super::{BODY, MICRO, SECOND, at, one_at_a_time, phases::Phase, phases::STREAM};
use crate::support::world::{World, answer_with, chat};

/// A core in which nothing but the whole time bounds a request.
fn bound_by_hold(further: &[(&str, &str)]) -> World {
    let settings = [("MAX_WAIT", "1000"), ("CONNECT_TIMEOUT", "1000"), ("WRITE_TIMEOUT", "1000")];
    one_at_a_time(&[&settings[..], further].concat())
}

/// How each phase ends when the time is over: the status, and the code if the answer is the proxy's own.
const ENDS: [(Phase, u16, Option<&str>); 7] = [
    (Phase::Queued, 429, Some("queue_timeout")),
    (Phase::Connecting, 504, Some("connect_timeout")),
    (Phase::Sending, 504, Some("write_timeout")),
    (Phase::Sent, 504, Some("head_timeout")),
    (Phase::QueuedAgain, 503, None),
    (Phase::ConnectingAgain, 503, None),
    (Phase::SentAgain, 503, None),
];

#[test]
fn no_phase_outlasts_the_time_that_a_request_has_and_each_lasts_as_long() {
    for (settings, seconds) in [(&[][..], 240.0), (&[("MAX_HOLD", "12.5")][..], 12.5)] {
        for (phase, status, code) in ENDS {
            let mut world = bound_by_hold(settings);
            let client = phase.enter(&mut world);
            world.advance_to(at(seconds) - MICRO);
            assert_eq!(world.text_of(client), "", "{phase:?}");
            world.advance(MICRO);
            assert_eq!(world.status_of(client), Some(status), "{phase:?}");
            if let Some(code) = code {
                let error = &world.json_of(client)["error"];
                assert_eq!(error["code"], code, "{phase:?}");
                let message = error["message"].as_str().expect("a message");
                let over = format!("its {seconds:.0} s to begin an answer are over");
                assert!(message.contains(&over) || phase == Phase::Queued, "{phase:?}: {message}");
            } else {
                assert!(world.text_of(client).ends_with("no room"), "{phase:?}");
                assert!(world.field_of(client, "retry-after").is_some(), "{phase:?}");
            }
            if world.upstream_of("blocker").is_some() {
                world.fail("blocker");
            }
            world.assert_settled();
        }
    }
}

#[test]
fn the_time_begins_when_the_request_is_whole() {
    let mut world = bound_by_hold(&[]);
    let request = chat("a", "", STREAM);
    let client = world.client_with(&request[..request.len() - 1]);
    world.advance_to(at(40.0));
    world.deliver(client, &request[request.len() - 1..]);
    world.advance_to(at(280.0) - MICRO);
    assert_eq!(world.text_of(client), "");
    world.advance(MICRO);
    assert_eq!(world.status_of(client), Some(504));
    world.assert_settled();
}

#[test]
fn what_a_client_states_of_its_own_patience_bounds_every_phase() {
    let patience = [
        ("x-stainless-timeout: 60\r\n", 55.0),
        ("x-stainless-read-timeout: 8\r\n", 4.0),
        ("x-stainless-timeout: 600\r\nx-stainless-read-timeout: 100.5\r\n", 95.5),
        ("x-stainless-timeout: 3600\r\n", 240.0),
    ];
    for (fields, seconds) in patience {
        for (connects, answers) in [(false, false), (true, false), (true, true)] {
            let mut world = bound_by_hold(&[]);
            world.connects = connects;
            let client = world.client_with(&chat("a", fields, STREAM));
            if answers {
                // Refused, tried again, and then never answered.
                world.refuse("a", 503, "");
            }
            world.advance_to(at(seconds) - MICRO);
            assert_eq!(world.text_of(client), "", "{fields}");
            world.advance(MICRO);
            assert_eq!(world.status_of(client), Some(if answers { 503 } else { 504 }), "{fields}");
            world.assert_settled();
        }
        let mut world = bound_by_hold(&[]);
        world.client_with(&chat("blocker", "", BODY));
        let client = world.client_with(&chat("a", fields, STREAM));
        world.advance_to(at(seconds) - MICRO);
        assert_eq!(world.text_of(client), "", "{fields}");
        world.advance(MICRO);
        assert_eq!(world.json_of(client)["error"]["code"], "queue_timeout", "{fields}");
    }
    // A pause that the client would not live to see is not begun.
    let mut world = bound_by_hold(&[]);
    let client = world.client_with(&chat("a", "x-stainless-timeout: 20\r\n", STREAM));
    world.refuse("a", 503, "retry-after: 15\r\n");
    assert_eq!(world.status_of(client), Some(503));
}

#[test]
fn an_answer_that_is_not_streamed_is_waited_for_as_long_as_the_upstream_may_be_silent() {
    let mut world = bound_by_hold(&[]);
    let client = world.client_with(&chat("a", "", BODY));
    world.advance_to(at(1_799.0));
    world.answer("a", 5, 5);
    assert_eq!(world.status_of(client), Some(200));

    let client = world.client_with(&chat("silent", "", r#"{"model":"n"}"#));
    let begun = world.now();
    world.advance_to(begun + SECOND * 1_800 - MICRO);
    assert_eq!(world.text_of(client), "");
    world.advance(MICRO);
    let message = world.json_of(client)["error"]["message"].as_str().expect("a message").to_owned();
    assert!(message.contains("no progress for 1800 s"), "{message}");
    assert_eq!(world.json_of(client)["error"]["code"], "head_timeout");

    // It is bound while it is not sent, and it has no second try after that.
    let mut world = bound_by_hold(&[]);
    world.connects = false;
    let client = world.client_with(&chat("a", "", BODY));
    world.advance_to(at(240.0));
    assert_eq!(world.json_of(client)["error"]["code"], "connect_timeout");
    world.connects = true;
    for (late, status) in [(503, 503), (200, 200)] {
        let client = world.client_with(&chat("late", "", r#"{"model":"n"}"#));
        world.advance(SECOND * 300);
        world.reply("late", answer_with(late, "", "{}"));
        assert_eq!(world.status_of(client), Some(status));
        assert_eq!(world.field_of(client, "retry-after").is_some(), late == 503);
    }
    let client = world.client_with(&chat("lost", "", r#"{"model":"n"}"#));
    world.advance(SECOND * 300);
    let upstream = world.upstream_of("lost").expect("it is there");
    world.input(upstream, Input::Eof);
    assert_eq!(world.json_of(client)["error"]["code"], "closed_before_head");
    world.assert_settled();
}

#[test]
fn of_mixed_failures_the_last_answer_counts_and_else_the_last_failure() {
    let mut world = bound_by_hold(&[]);
    world.connects = false;
    let client = world.client_with(&chat("a", "", STREAM));
    let next = |world: &mut World| {
        world.advance(SECOND * 20);
        world.dialed.pop_front().expect("another try")
    };
    let upstream = next(&mut world);
    world.breaks(upstream, FailureClass::Dns);
    for status in [500, 429] {
        let upstream = next(&mut world);
        world.input(upstream, Input::Connected);
        world.reply("a", answer_with(status, "", &format!("it was {status}")));
    }
    let upstream = next(&mut world);
    world.breaks(upstream, FailureClass::ConnectRefused);
    let upstream = next(&mut world);
    world.input(upstream, Input::Connected);
    world.input(upstream, Input::Eof);
    let upstream = next(&mut world);
    world.input(upstream, Input::Connected);
    world.advance_to(at(240.0));
    assert_eq!(world.status_of(client), Some(429));
    assert!(world.text_of(client).ends_with("\r\n\r\nit was 429"));
    assert_eq!(world.field_of(client, "x-fireworks-proxy-retries").as_deref(), Some("5"));
    world.assert_settled();

    let client = world.client_with(&chat("b", "", STREAM));
    let upstream = next(&mut world);
    world.input(upstream, Input::Connected);
    world.input(upstream, Input::Eof);
    for _ in 0..5 {
        let upstream = next(&mut world);
        world.breaks(upstream, FailureClass::Dns);
    }
    let error = world.json_of(client)["error"].clone();
    assert_eq!((&error["code"], &error["upstream"]), (&"dns".into(), &"may_have_reached".into()));
    let message = error["message"].as_str().expect("a message");
    assert!(message.ends_with("the last of 6 tries; an earlier try had come further"), "{message}");
    world.assert_settled();
}

#[test]
fn an_answer_that_could_not_be_kept_is_told_of() {
    let mut world = one_at_a_time(&[("MAX_WAIT", "20")]);
    world.connects = false;
    let client = world.client_with(&chat("a", "", STREAM));
    let upstream = world.dialed.pop_front().expect("a try");
    world.breaks(upstream, FailureClass::Dns);
    world.connects = true;
    world.advance(SECOND * 2);
    world.reply("a", "HTTP/1.1 503 No\r\ncontent-length: 9\r\n\r\nx");
    let upstream = world.upstream_of("a").expect("it is there");
    world.breaks(upstream, FailureClass::CutInStream);
    world.client_with(&chat("blocker", "", BODY));
    world.advance(SECOND * 30);
    let error = world.json_of(client)["error"].clone();
    assert_eq!((&error["code"], &error["upstream"]), (&"cut_in_stream".into(), &"acknowledged".into()));
    assert!(error["message"].as_str().is_some_and(|text| text.contains("it answered 503")), "{error}");
    let counted = [("acknowledged cut_in_stream", 1), ("never_reached dns", 1)];
    assert_eq!(world.failures(), counted.map(|(name, count)| (name.to_owned(), count)));
    world.fail("blocker");
    world.assert_settled();
}

#[test]
fn the_wait_in_the_queue_is_added_up_over_its_stays_and_pauses_are_none_of_it() {
    let mut world = one_at_a_time(&[("MAX_WAIT", "10")]);
    world.client_with(&chat("first", "", BODY));
    let client = world.client_with(&chat("a", "", STREAM));
    world.advance_to(at(4.0));
    world.fail("first");
    assert_eq!(world.starts_of("a"), [at(4.0)], "it has waited for four seconds of ten");
    world.advance_to(at(30.0));
    world.reply("a", answer_with(503, "retry-after: 20\r\n", "full"));
    world.client_with(&chat("second", "", BODY));
    let back_at = *world.starts_of("second").first().expect("it runs");
    assert_eq!(back_at, at(30.0));
    // It is back after 20 to 21 s, and may wait for six more.
    world.advance_to(at(56.0) - MICRO);
    assert_eq!(world.text_of(client), "");
    world.advance_to(at(57.0));
    assert_eq!(world.status_of(client), Some(503));
    assert!(world.text_of(client).ends_with("full"));
    let waited: u64 = world.field_of(client, "x-fireworks-proxy-wait-ms").expect("it").parse().expect("ms");
    assert!((30_000..31_000).contains(&waited), "4 in the queue, 20 and some, and 6: {waited}");
    assert_eq!(world.field_of(client, "x-fireworks-proxy-retries").as_deref(), Some("0"), "it never was");
    world.fail("second");
    world.assert_settled();
}

/// To within a hundredth of a second behind the end of a pause of 20 to 21 s.
fn until_queued(world: &mut World) {
    world.advance(SECOND * 20);
    for _ in 0..100 {
        if world.waiting() == 0 {
            world.advance(SECOND / 100);
        }
    }
    assert_eq!(world.waiting(), 1);
}

#[test]
fn each_stay_in_the_queue_counts_from_its_own_beginning() {
    let mut world = one_at_a_time(&[("MAX_WAIT", "10")]);
    let client = world.client_with(&chat("a", "", STREAM));
    for (name, stay) in [("first", 3), ("second", 4)] {
        world.reply("a", answer_with(503, "retry-after: 20\r\n", "full"));
        world.client_with(&chat(name, "", BODY));
        until_queued(&mut world);
        world.advance(SECOND * stay);
        world.fail(name);
    }
    assert_eq!(world.starts_of("a").len(), 3);
    world.reply("a", answer_with(503, "retry-after: 20\r\n", "full"));
    world.client_with(&chat("third", "", BODY));
    until_queued(&mut world);
    world.advance(SECOND * 29 / 10);
    assert_eq!(world.text_of(client), "", "seven seconds of ten are used up");
    world.advance(SECOND / 5);
    assert_eq!(world.status_of(client), Some(503));
    world.fail("third");
    world.assert_settled();
}

#[test]
fn who_comes_back_has_its_old_place() {
    let mut world = one_at_a_time(&[]);
    world.client_with(&chat("a", "", STREAM));
    world.refuse("a", 503, "retry-after: 10\r\n");
    world.advance(SECOND);
    for (name, fields) in [("b", ""), ("c", ""), ("hurried", "x-stainless-timeout: 60\r\n"), ("d", "")] {
        world.client_with(&chat(name, fields, STREAM));
        world.advance(SECOND);
    }
    world.advance_to(at(12.0));
    assert_eq!(world.names(), ["a", "b"]);
    for (ends, next) in [("b", "hurried"), ("hurried", "a"), ("a", "c"), ("c", "d")] {
        world.fail(ends);
        assert_eq!(world.names().last().map(String::as_str), Some(next), "after {ends}");
    }
    world.fail("d");
    world.assert_settled();
}

#[test]
fn an_answer_that_nobody_generates_has_to_begin_in_time() {
    let mut world = bound_by_hold(&[]);
    let models = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nx-name: models\r\n\r\n";
    let client = world.client_with(models.as_bytes());
    world.advance_to(at(240.0) - MICRO);
    assert_eq!(world.text_of(client), "");
    world.advance(MICRO);
    assert_eq!(world.json_of(client)["error"]["code"], "head_timeout");
    world.assert_settled();
}
