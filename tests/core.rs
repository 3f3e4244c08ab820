//! The core under virtual time: order, deadlines, windows, days; retries, time limits and the stop, each in
//! its own file. Long runs by dice are in `simulation`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
// A span that a test takes from a shorter one is a bug of the test, and may panic.
#![allow(clippy::unchecked_time_subtraction)]

mod support;

#[path = "core/answers.rs"]
mod answers;
#[path = "core/books.rs"]
mod books;
#[path = "core/clocks.rs"]
mod clocks;
#[path = "core/doubt.rs"]
mod doubt;
#[path = "core/fair.rs"]
mod fair;
#[path = "core/holds.rs"]
mod holds;
#[path = "core/leaving.rs"]
mod leaving;
#[path = "core/memory.rs"]
mod memory;
#[path = "core/pace.rs"]
mod pace;
#[path = "core/phases.rs"]
mod phases;
#[path = "core/retries.rs"]
mod retries;
#[path = "core/saving.rs"]
mod saving;
#[path = "core/sessions.rs"]
mod sessions;
#[path = "core/stopping.rs"]
mod stopping;
#[path = "core/timeouts.rs"]
mod timeouts;

use std::time::Duration;

use fireworks_proxy::{
    event::Input,
    failure::FailureClass,
    time::{Mono, Wall},
};
use serde_json::json;
use support::world::{World, chat};

const MICRO: Duration = Duration::from_micros(1);
const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: f64) -> Mono {
    Mono::ZERO + Duration::from_secs_f64(seconds)
}

/// A moment in UTC.
fn utc(month: u8, day: u8, hour: u8, minute: u8) -> Wall {
    let month = time::Month::try_from(month).expect("a month");
    let date = time::Date::from_calendar_date(2026, month, day).expect("a date");
    let moment = date.with_hms(hour, minute, 0).expect("a time").assume_utc();
    Wall::from_unix_millis(moment.unix_timestamp() * 1_000)
}

/// A core whose lanes have room for one request at a time.
fn one_at_a_time(further: &[(&str, &str)]) -> World {
    let settings = [
        ("GENERATED_TPM_LIMIT", "100"),
        ("OUTPUT_TOKEN_RESERVE", "100"),
        ("TPM_SAFETY_RATIO", "1"),
        ("CHARS_PER_TOKEN", "1"),
        ("RPS", "1000"),
    ];
    World::new(&[&settings[..], further].concat(), utc(5, 21, 2, 0))
}

const BODY: &str = r#"{"model":"m"}"#;

#[test]
fn the_earliest_deadline_goes_first_whoever_asks() {
    let mut world = one_at_a_time(&[]);
    world.client_with(&chat("running", "", BODY));
    for (name, fields) in [
        ("default first", ""),
        ("60 s", "x-stainless-timeout: 60\r\n"),
        ("30 s", "x-stainless-read-timeout: 30.5\r\n"),
        ("no number", "x-stainless-timeout: NOT_GIVEN\r\n"),
        ("600 s", "x-stainless-timeout: 600\r\n"),
        ("60 s later", "x-stainless-timeout: 60\r\n"),
    ] {
        world.advance(SECOND / 1_000);
        world.client_with(&chat(name, fields, BODY));
    }
    let order =
        ["running", "30 s", "60 s", "60 s later", "default first", "no number", "600 s"].map(str::to_owned);
    for count in 1..=order.len() {
        assert_eq!(world.names(), order[..count]);
        world.advance(SECOND);
        world.fail(&order[count - 1]);
    }
    world.assert_settled();
}

#[test]
fn a_full_lane_holds_up_no_other_model_and_no_other_key() {
    let mut world = one_at_a_time(&[]);
    world.client_with(&chat("a", "", BODY));
    world.client_with(&chat("waits", "", BODY));
    world.client_with(&chat("other model", "", r#"{"model":"n"}"#));
    world.client_with(&chat("other key", "Authorization: Bearer k\r\n", BODY));
    world.client_with(&chat("another key", "X-Api-Key: k2\r\n", BODY));
    assert_eq!(world.names(), ["a", "other model", "other key", "another key"]);
    assert_eq!(world.waiting(), 1);
}

#[test]
fn a_wait_ends_at_its_deadline_and_not_a_microsecond_before() {
    for (path, max_wait, fields, seconds) in [
        ("/v1/chat/completions", "2.5", "", 2.5),
        ("/v1/messages", "120", "", 120.0),
        ("/v1/messages", "120", "x-stainless-timeout: 47\r\n", 42.0),
        ("/v1/responses", "120", "x-stainless-read-timeout: 3\r\n", 1.5),
        ("/v1/responses", "1", "x-stainless-timeout: 600\r\n", 1.0),
    ] {
        let mut world = one_at_a_time(&[("MAX_WAIT", max_wait)]);
        world.client_with(&chat("running", "", BODY));
        world.advance_to(at(10.0));
        let request = String::from_utf8(chat("late", fields, BODY)).expect("UTF-8");
        let late = world.client_with(request.replace("/v1/chat/completions", path).as_bytes());
        world.advance_to(at(10.0 + seconds) - MICRO);
        assert_eq!((world.text_of(late).as_str(), world.waiting()), ("", 1));
        world.advance_to(at(10.0 + seconds));
        assert_eq!((world.status_of(late), world.waiting()), (Some(429), 0));
        let error = &world.json_of(late)["error"];
        let message = error["message"].as_str().expect("a message").to_owned();
        let waited = format!("waited {seconds:.1} s for room in the generated budget");
        assert!(message.contains(&waited), "{message}");
        assert_eq!(world.names(), ["running"], "it never reached the upstream");
        world.fail("running");
        world.assert_settled();
    }
}

#[test]
fn what_was_used_counts_for_60_to_60_and_a_quarter_seconds() {
    for offset in [0.0, 0.1, 0.25, 0.499, 0.5, 0.75, 0.999_999] {
        let mut world = one_at_a_time(&[]);
        world.client_with(&chat("first", "", BODY));
        let used_at = at(100.0 + offset);
        world.advance_to(used_at);
        world.answer("first", 10, 100);
        world.client_with(&chat("second", "", BODY));
        world.advance_to(used_at + SECOND * 60);
        assert_eq!(world.names(), ["first"], "{offset}");
        world.advance_to(used_at + SECOND * 60 + SECOND / 4);
        assert_eq!(world.names(), ["first", "second"], "{offset}");
        world.answer("second", 10, 1);
        world.assert_settled();
    }
}

#[test]
fn a_prompt_counts_from_when_it_was_sent_also_for_who_asked_before_that() {
    let settings = [("PROMPT_TPM_LIMIT", "1000"), ("GENERATED_TPM_LIMIT", "100000")];
    let mut world = one_at_a_time(&settings);
    world.connects = false;
    let text = |count: usize| format!(r#"{{"model":"m","x":"{}"}}"#, "x".repeat(count));
    world.client_with(&chat("streams long", "", &text(600)));
    let upstream = world.dialed[0];
    // It asks while the first request is still on its way.
    world.client_with(&chat("second", "", &text(600)));
    world.connects = true;
    world.dialed.pop_front();
    world.advance_to(at(1.0));
    world.input(upstream, Input::Connected);
    assert_eq!(world.names(), ["streams long"]);
    // Half a second longer than the rest, for the upstream begins to count it when it has come there.
    world.advance_to(at(61.5));
    assert_eq!(world.names(), ["streams long"]);
    world.advance_to(at(61.75));
    assert_eq!(world.names(), ["streams long", "second"], "the first one's prompt has left the window");
}

#[test]
fn a_request_bigger_than_the_whole_budget_goes_alone() {
    let settings =
        [("UNCACHED_PROMPT_TPM_LIMIT", "1000"), ("GENERATED_TPM_LIMIT", "100000"), ("MAX_WAIT", "600")];
    let mut world = one_at_a_time(&settings);
    let huge = format!(r#"{{"model":"m","x":"{}"}}"#, "x".repeat(5_000));
    world.client_with(&chat("at once", "", &huge));
    assert_eq!(world.names(), ["at once"], "the window is empty");
    world.client_with(&chat("small", "", BODY));
    world.client_with(&chat("again", "", &huge));
    world.advance_to(at(5.0));
    world.answer("at once", 5_006, 1);
    assert_eq!(world.names(), ["at once"], "its tokens are in the window");
    world.advance_to(at(65.2));
    assert_eq!(world.names(), ["at once"]);
    world.advance_to(at(65.25));
    assert_eq!(world.names(), ["at once", "small"], "now a small one goes, and a huge one has to wait again");
    world.answer("small", 6, 1);
    world.advance_to(at(125.4));
    assert_eq!(world.names(), ["at once", "small"]);
    world.advance_to(at(125.5));
    assert_eq!(world.names(), ["at once", "small", "again"], "alone");
    world.client_with(&chat("last", "", BODY));
    assert_eq!(world.waiting(), 1, "nobody goes beside it");
}

#[test]
fn a_day_ends_at_local_midnight_also_when_clocks_change() {
    // The first moment of a day in Melbourne, its name, its length and how its end is written.
    for (start, date, hours, resets_at) in [
        (utc(5, 20, 14, 0), "2026-05-21", 24, "2026-05-22T00:00:00.000+10:00"),
        (utc(4, 4, 13, 0), "2026-04-05", 25, "2026-04-06T00:00:00.000+10:00"),
        (utc(10, 3, 14, 0), "2026-10-04", 23, "2026-10-05T00:00:00.000+11:00"),
    ] {
        let before = Wall::from_unix_millis(start.as_unix_millis() - 60_000);
        let mut world = World::new(&[("DAILY_TOKEN_LIMIT", "1000")], before);
        let midnight = at(60.0);
        let spend = |world: &mut World, name: &str, tokens: u64| {
            let client = world.client_with(&chat(name, "", BODY));
            if world.upstream_of(name).is_some() {
                world.answer(name, tokens, 0);
            }
            let status = world.status_of(client);
            (status, world.page("/usage")["day"]["used"].as_u64(), world.json_of(client))
        };
        assert_eq!(spend(&mut world, "day before", 2_000).1, Some(2_000));
        assert_ne!(world.page("/usage")["day"]["date"], date);
        world.advance_to(midnight - MICRO * 1_000);
        assert_eq!(spend(&mut world, "refused", 1).0, Some(429));
        world.advance_to(midnight);
        let day = world.page("/usage")["day"].clone();
        assert_eq!((&day["date"], &day["used"]), (&json!(date), &json!(0)));
        assert_eq!(day["resets_at"], resets_at);
        let (status, used, _) = spend(&mut world, "first", 10);
        assert_eq!((status, used), (Some(200), Some(10)));
        world.advance_to(midnight + SECOND * 3600 * hours - MICRO * 1_000);
        let (status, used, _) = spend(&mut world, "last", 990);
        assert_eq!((status, used), (Some(200), Some(1_000)));
        let (status, _, body) = spend(&mut world, "too late", 1);
        let message = body["error"]["message"].as_str().expect("a message").to_owned();
        assert!(status == Some(429) && message.contains(resets_at), "{message}");
        world.advance_to(midnight + SECOND * 3600 * hours);
        let (status, used, _) = spend(&mut world, "day after", 5);
        assert_eq!((status, used), (Some(200), Some(5)));
        world.advance(SECOND * 2);
        let saved = String::from_utf8(world.saves.pop().expect("saved")).expect("UTF-8");
        assert!(saved.contains(&resets_at[..10]) && saved.contains(r#""prompt_tokens":5"#), "{saved}");
    }
}

#[test]
fn an_answer_that_ends_after_midnight_counts_for_the_new_day() {
    let mut world = World::new(&[("TIMEZONE", "UTC")], utc(5, 20, 23, 59));
    world.client_with(&chat("long", "", BODY));
    world.advance(SECOND * 120);
    world.answer("long", 100, 10);
    let day = world.page("/usage")["day"].clone();
    assert_eq!((&day["date"], &day["used"]), (&json!("2026-05-21"), &json!(110)));
}

#[test]
fn an_idle_connection_is_closed_after_300_seconds() {
    let mut world = one_at_a_time(&[]);
    let fresh = world.client();
    let used = world.client_with(&chat("a", "", BODY));
    world.advance_to(at(200.0));
    world.answer("a", 1, 1);
    world.advance_to(at(300.0) - MICRO);
    assert!(!world.is_closed(fresh));
    world.advance_to(at(300.0));
    assert!(world.is_closed(fresh) && !world.is_closed(used));
    world.advance_to(at(500.0) - MICRO);
    assert!(!world.is_closed(used));
    world.advance_to(at(500.0));
    assert!(world.is_closed(used));
    assert_eq!(world.proxy.poll_timeout(), None, "nothing is left to wait for");
}

#[test]
fn every_split_of_a_request_makes_the_same_request_upstream() {
    let body = r#"{"stream":true,"messages":[{"content":"é\u00e9 \"x\""}],"model":"m","max_tokens":5}"#;
    let whole =
        String::from_utf8(chat("split", "Cookie: a=b\r\nExpect: 100-continue\r\n", body)).expect("UTF-8");
    let length = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let (first, second) = body.split_at(41);
    let chunks = format!("29\r\n{first}\r\n{:x};ext=1\r\n{second}\r\n0\r\nX-T: 1\r\n\r\n", second.len());
    let chunked = whole.replace(&length, &format!("Transfer-Encoding: chunked\r\n\r\n{chunks}"));
    for request in [whole.as_bytes(), chunked.as_bytes()] {
        let sent = |pieces: &[&[u8]]| {
            let mut world = one_at_a_time(&[]);
            let client = world.client();
            for piece in pieces {
                assert_eq!(world.upstream_of("split"), None);
                world.deliver(client, piece);
                world.advance(SECOND / 1_000);
            }
            let balances = world.balances();
            world.upstream_of("split").map(|upstream| (world.sent_to(upstream).to_vec(), balances))
        };
        let expected = sent(&[request]);
        let head_and_body = String::from_utf8(expected.clone().expect("sent").0).expect("UTF-8");
        assert!(head_and_body.ends_with(&format!("\r\n\r\n{body}")), "{head_and_body}");
        for split in 1..request.len() {
            let (left, right) = request.split_at(split);
            assert_eq!(sent(&[left, right]), expected, "split at {split}");
        }
        let single: Vec<&[u8]> = request.chunks(1).collect();
        assert_eq!(sent(&single), expected);
    }
}

#[test]
fn who_leaves_the_queue_makes_room_in_the_same_turn() {
    let mut world = one_at_a_time(&[("PROMPT_TPM_LIMIT", "1000"), ("GENERATED_TPM_LIMIT", "250")]);
    world.client_with(&chat("running", "", BODY));
    let big = format!(r#"{{"model":"m","x":"{}"}}"#, "x".repeat(995));
    let in_front = world.client_with(&chat("in front", "", &big));
    world.client_with(&chat("behind", "", BODY));
    assert_eq!((world.names(), world.waiting()), (vec!["running".to_owned()], 2));
    world.input(in_front, Input::Eof);
    assert_eq!((world.names(), world.waiting()), (vec!["running".to_owned(), "behind".to_owned()], 0));
    assert!(world.is_closed(in_front));
    let gone = world.client_with(&chat("alone in the queue", "", &big));
    world.breaks(gone, FailureClass::CutInStream);
    assert_eq!(world.waiting(), 0);
    world.fail("running");
    world.fail("behind");
    world.advance(SECOND * 100);
    assert_eq!(world.names(), ["running", "behind"]);
    world.assert_settled();
}
