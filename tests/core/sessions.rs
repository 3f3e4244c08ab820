//! Sessions at their edges: several ends in one turn, midnight in the queue, blank lines, dead sockets.

use fireworks_proxy::{
    budget::LANES_MAX,
    config::Config,
    event::{Input, Output},
    failure::{Failure, FailureClass},
    proxy::Proxy,
    time::{Now, Wall},
};

use super::{BODY, MICRO, SECOND, at, one_at_a_time, phases::STREAM, utc};
use crate::support::world::{World, answer_with, chat, streamed};

#[test]
fn all_whose_wait_ends_in_one_turn_are_told_of_the_same_budget() {
    let mut world = one_at_a_time(&[]);
    world.client_with(&chat("running", "", BODY));
    let waiting = ["a", "b", "c"].map(|name| world.client_with(&chat(name, "", BODY)));
    world.advance_to(at(120.0));
    for client in waiting {
        let message = world.json_of(client)["error"]["message"].as_str().expect("a message").to_owned();
        assert!(message.contains("waited 120.0 s for room in the generated budget"), "{message}");
    }
    world.fail("running");
    world.assert_settled();
}

#[test]
fn a_request_that_was_queued_over_midnight_is_judged_by_the_new_day() {
    let midnight = utc(5, 21, 0, 0).as_unix_millis();
    let settings = [
        ("GENERATED_TPM_LIMIT", "100"),
        ("OUTPUT_TOKEN_RESERVE", "100"),
        ("TPM_SAFETY_RATIO", "1"),
        ("DAILY_TOKEN_LIMIT", "1000"),
        ("TIMEZONE", "UTC"),
    ];
    let mut world = World::new(&settings, Wall::from_unix_millis(midnight - 60_750));
    world.client_with(&chat("spends the day", "", BODY));
    let queued = world.client_with(&chat("queued", "", BODY));
    world.advance_to(at(1.0));
    world.answer("spends the day", 2_000, 50);
    // Room is there at 61.25 s, and the last line of statistics, which looks at the day too, at 60 s.
    world.advance_to(at(61.25));
    assert_eq!(world.status_of(queued), None, "{}", world.text_of(queued));
    world.answer("queued", 1, 1);
    assert_eq!(world.status_of(queued), Some(200));
}

#[test]
fn a_request_that_is_still_queued_when_the_day_is_spent_gets_429() {
    let mut world = one_at_a_time(&[("DAILY_TOKEN_LIMIT", "1000")]);
    world.client_with(&chat("spends the day", "", BODY));
    let queued = world.client_with(&chat("queued", "", BODY));
    world.answer("spends the day", 2_000, 0);
    assert_eq!(world.json_of(queued)["error"]["code"], "daily_limit");
    world.assert_settled();
}

#[test]
fn blank_lines_between_requests_do_not_move_the_idle_time() {
    let mut world = one_at_a_time(&[]);
    let client = world.client_with(&chat("a", "", BODY));
    world.answer("a", 1, 1);
    for second in [10.0, 100.0, 299.0] {
        world.advance_to(at(second));
        world.deliver(client, b"\r\n");
        assert!(!world.is_closed(client), "at {second} s");
    }
    world.advance_to(at(300.0) - MICRO);
    assert!(!world.is_closed(client));
    world.advance_to(at(300.0));
    assert!(world.is_closed(client));
}

#[test]
fn a_head_that_stalls_is_answered_408_after_30_seconds() {
    let mut world = one_at_a_time(&[]);
    let client = world.client_with(b"POST /v1/mess");
    world.advance(SECOND * 29);
    world.deliver(client, b"a");
    assert_eq!(world.status_of(client), None, "a byte does not buy time");
    world.advance(SECOND);
    assert_eq!(world.status_of(client), Some(408));
}

#[test]
fn a_socket_that_dies_under_an_answer_is_closed_at_once() {
    let now = Now { wall: utc(5, 21, 0, 0), ..Now::default() };
    let mut proxy = Proxy::new(Config::defaults(), 7, now);
    let client = proxy.next_conn_id();
    proxy.handle_input(client, Input::Accepted, now);
    proxy.handle_input(client, Input::Received(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"), now);
    assert!(!proxy.pending_write(client).is_empty());
    while proxy.poll_output().is_some() {}
    let broken = Failure::new(FailureClass::CutInStream, "reset");
    proxy.handle_input(client, Input::Failed(broken), now);
    assert!(std::iter::from_fn(|| proxy.poll_output()).any(|output| output == Output::Close(client)));
}

#[test]
fn the_daily_limit_that_is_reached_during_a_pause_ends_the_request() {
    let mut world = one_at_a_time(&[("DAILY_TOKEN_LIMIT", "1000"), ("GENERATED_TPM_LIMIT", "1000")]);
    let client = world.client_with(&chat("a", "", STREAM));
    world.reply("a", answer_with(503, "", "full"));
    world.client_with(&chat("spends the day", "", BODY));
    world.answer("spends the day", 2_000, 0);
    assert_eq!(world.text_of(client), "");
    let available = world.page("/usage")["bucket"]["available"].clone();
    world.advance(SECOND * 2);
    let error = world.json_of(client)["error"].clone();
    assert_eq!((&error["code"], &error["upstream"]), (&"daily_limit".into(), &"acknowledged".into()));
    assert_eq!(world.field_of(client, "x-fireworks-proxy-retries").as_deref(), Some("0"));
    assert_eq!((world.starts_of("a").len(), world.stats().retries), (1, 0));
    assert!(world.page("/usage")["bucket"]["available"].as_u64() >= available.as_u64());
    world.assert_settled();

    // An answer that has begun goes on, and counts.
    let mut world = one_at_a_time(&[("DAILY_TOKEN_LIMIT", "1000"), ("GENERATED_TPM_LIMIT", "1000")]);
    world.client_with(&chat("a", "", STREAM));
    world.reply("a", streamed(&["one"]));
    world.client_with(&chat("spends the day", "", BODY));
    world.answer("spends the day", 2_000, 0);
    world.reply("a", "5\r\ndata:\r\n0\r\n\r\n");
    assert_eq!(world.stats().finished, 2);
    world.assert_settled();
}

#[test]
fn a_lane_that_makes_room_for_others_during_a_pause_leaves_its_request_unharmed() {
    let mut world = World::new(&[("RPS", "1000")], utc(5, 21, 2, 0));
    let client = world.client_with(&chat("a", "", STREAM));
    world.reply("a", answer_with(503, "retry-after: 30\r\n", ""));
    for number in 0..LANES_MAX {
        let name = format!("other {number}");
        world.client_with(&chat(&name, "", &format!(r#"{{"model":"{number}"}}"#)));
        world.fail(&name);
        world.advance(SECOND / 1_000);
    }
    assert!(world.balances().iter().all(|(model, _)| model != "m"), "it was idle for longest");
    world.advance(SECOND * 31);
    world.answer("a", 1, 1);
    assert_eq!(world.status_of(client), Some(200));
    world.assert_settled();
}

#[test]
fn nothing_is_begun_for_a_request_whose_time_ended_while_the_machine_slept() {
    let mut world = World::new(&[("MAX_HOLD", "5")], utc(5, 21, 2, 0));
    let tried = world.client_with(&chat("a", "", STREAM));
    world.refuse("a", 429, "retry-after: 3\r\n");
    let queued = world.client_with(&chat("b", "", STREAM));
    // The pause, which closes the lane, is over when it wakes up, and so is the time of both.
    world.sleep(SECOND * 10);
    assert_eq!((world.status_of(tried), world.dials.len()), (Some(429), 1));
    assert_eq!(world.field_of(tried, "x-fireworks-proxy-retries").as_deref(), Some("0"));
    assert_eq!(world.json_of(queued)["error"]["code"], "queue_timeout");
    assert_eq!(world.page("/usage")["bucket"]["available"], 20, "nothing was taken");
    world.assert_settled();
}
