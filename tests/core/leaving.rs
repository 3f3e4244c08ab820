//! Clients that leave: in every phase nothing is left behind, and others have the room.

use fireworks_proxy::{event::Input, failure::FailureClass};

use super::{BODY, SECOND, one_at_a_time, phases::Phase};
use crate::support::world::chat;

/// How far the request had come, as its line in the log and the count of failures say.
fn side(phase: Phase) -> &'static str {
    match phase {
        Phase::Body | Phase::Queued | Phase::Connecting => "never_reached",
        Phase::Sending | Phase::Sent => "may_have_reached",
        _ => "acknowledged",
    }
}

#[test]
fn in_every_phase_who_leaves_leaves_nothing_behind() {
    for phase in Phase::ALL {
        for breaks in [false, true] {
            let what = format!("{phase:?}, breaks: {breaks}");
            let mut world = one_at_a_time(&[]);
            let client = phase.enter(&mut world);
            world.client_with(&chat("next", "", BODY));
            let requests = world.stats().requests;
            if breaks {
                world.breaks(client, FailureClass::CutInStream);
            } else {
                world.input(client, Input::Eof);
            }
            assert!(world.upstream_of("a").is_none_or(|upstream| world.is_closed(upstream)), "{what}");
            world.connects = true;
            // An answer that is there goes out, as far as it can.
            assert_eq!(world.is_closed(client), breaks || phase != Phase::Flushing, "{what}");
            if world.upstream_of("blocker").is_some() {
                world.fail("blocker");
            }
            world.advance(SECOND * 62);
            let starts = world.starts_of("next").len();
            assert_eq!(starts, 1, "{what}: there is room");
            world.fail("next");
            let gone = u64::from(!matches!(phase, Phase::Head | Phase::Flushing));
            assert_eq!(world.stats().client_gone, gone, "{what}");
            if gone == 1 {
                let expected = format!(" outcome=client_gone upstream={} ", side(phase));
                let line = world.request_lines().into_iter().find(|line| line.contains("client_gone"));
                assert!(line.as_ref().is_some_and(|line| line.contains(&expected)), "{what}: {line:?}");
                let counted = format!("{} client_gone", side(phase));
                assert!(world.failures().contains(&(counted, 1)), "{what}: {:?}", world.failures());
            }
            assert!(requests > 0);
            world.advance(SECOND * 600);
            world.assert_settled();
            assert_eq!(world.proxy.poll_timeout(), None, "{what}: nothing is left to wait for");
        }
    }
}

#[test]
fn who_leaves_before_anything_was_sent_gives_its_place_in_the_bucket_back() {
    for phase in [Phase::Queued, Phase::Connecting, Phase::Paused, Phase::ConnectingAgain] {
        let mut world = one_at_a_time(&[("RPS", "0.01")]);
        if phase == Phase::Queued {
            // The one in front has the only place.
            world.client_with(&chat("first", "", r#"{"model":"other"}"#));
        }
        let client = phase.enter(&mut world);
        world.input(client, Input::Eof);
        let available = world.page("/usage")["bucket"]["available"].clone();
        assert_eq!(available == 1, phase == Phase::Connecting, "{phase:?}: {available}");
    }
}

#[test]
fn a_client_that_leaves_its_pause_is_not_called_back() {
    let mut world = one_at_a_time(&[]);
    let client = Phase::Paused.enter(&mut world);
    world.advance(SECOND / 2);
    world.input(client, Input::Eof);
    world.advance(SECOND * 100);
    assert_eq!((world.starts_of("a").len(), world.stats().retries), (1, 0));
    let line = world.request_lines().pop().expect("a line");
    assert!(line.ends_with("waited=0.500s took=0.500s"), "{line}");
    world.assert_settled();
}

#[test]
fn a_request_behind_the_one_that_is_tried_again_waits_for_its_answer() {
    let mut world = one_at_a_time(&[]);
    let client = Phase::SentAgain.enter(&mut world);
    let next = chat("pipelined", "", BODY);
    world.deliver(client, &next);
    world.advance(SECOND * 10);
    assert_eq!(world.names(), ["a", "a"]);
    world.fail("a");
    assert_eq!(world.names(), ["a", "a", "pipelined"]);
    world.fail("pipelined");
    world.assert_settled();
}
