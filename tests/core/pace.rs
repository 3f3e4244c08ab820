//! What a refusal of one request means for the others of its lane.

use std::time::Duration;

use fireworks_proxy::{
    event::{ConnId, Input},
    time::Mono,
};
use serde_json::json;

use super::{MICRO, SECOND, at, phases::STREAM, utc};
use crate::support::world::{World, chat, streamed};

const MILLI: Duration = Duration::from_millis(1);

/// A request that is expected to use next to nothing.
const SMALL: &str = r#"{"model":"m","stream":true,"max_tokens":1}"#;

/// Near a limit starts come so far apart in these worlds.
const NEAR_GAP: Duration = Duration::from_millis(4);

/// A core in which one request without `max_tokens` is expected to use most of a limit.
fn world(settings: &[(&str, &str)]) -> World {
    let limits = [
        ("GENERATED_TPM_LIMIT", "1000000000000"),
        ("OUTPUT_TOKEN_RESERVE", "700000000000"),
        ("TPM_SAFETY_RATIO", "1"),
        ("RPS", "1000"),
    ];
    World::new(&[&limits, settings].concat(), utc(5, 21, 2, 0))
}

/// Brings a lane near its limit, so that a refusal is taken to be for that. The answer has begun, and goes on.
fn fill(world: &mut World, fields: &str) -> ConnId {
    world.client_with(&chat("filler", fields, STREAM));
    world.reply("filler", streamed(&["one"]));
    world.upstream_of("filler").expect("it is there")
}

/// Ends the answer that fills a lane, of which little was used then.
fn empty(world: &mut World, filler: ConnId) {
    world.deliver(filler, b"0\r\n\r\n");
    assert!(world.is_closed(filler));
}

fn send(world: &mut World, names: impl IntoIterator<Item = String>) {
    for name in names {
        world.client_with(&chat(&name, "", SMALL));
    }
}

fn named(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

/// When the upstream got a request, from a moment on.
fn starts_from(world: &World, from: Mono) -> Vec<Mono> {
    world.dials.iter().map(|(at, _)| *at).filter(|at| *at >= from).collect()
}

/// Lets the upstream answer, this long after each has come, every request that it has not answered.
fn answer_each_after(world: &mut World, latency: Duration, until: Mono) {
    while world.now() < until {
        world.advance(MILLI * 10);
        for (begun, upstream) in world.dials.clone() {
            if !world.is_closed(upstream) && world.now().since(begun) >= latency {
                world.deliver(upstream, (streamed(&["one"]) + "0\r\n\r\n").as_bytes());
            }
        }
    }
}

#[test]
fn eight_waiters_after_a_429_do_not_run_into_the_limit_together() {
    let mut world = world(&[]);
    let names = named("r", 8);
    send(&mut world, names.clone());
    assert_eq!(world.dials.len(), 8);
    let filler = fill(&mut world, "");
    world.advance(SECOND / 4);
    for name in &names {
        world.refuse(name, 429, "");
    }
    // More of them come while the lane is closed.
    send(&mut world, named("new", 4));
    assert_eq!((world.dials.len(), world.waiting()), (9, 4));

    let latency = MILLI * 300;
    let mut is_first = true;
    let mut most = 0;
    while world.dials.len() < 21 {
        assert!(world.now() < at(20.0), "they never come: {:?}", world.dials);
        world.advance(MILLI * 10);
        let is_open = |upstream: ConnId| upstream != filler && !world.is_closed(upstream);
        let open: Vec<_> = world.dials.iter().filter(|(_, upstream)| is_open(*upstream)).copied().collect();
        if is_first && !open.is_empty() {
            assert!(open.len() == 1 && world.names().last() == Some(&"r0".to_owned()), "the refused one");
            assert!(world.now() > at(1.25), "not before the one that was refused first may come back");
            is_first = false;
        }
        most = most.max(open.len());
        for (begun, upstream) in open {
            if world.now().since(begun) >= latency {
                world.deliver(upstream, (streamed(&["one"]) + "0\r\n\r\n").as_bytes());
            }
        }
    }
    let starts = starts_from(&world, at(1.0));
    let gaps: Vec<Duration> = starts.windows(2).map(|two| two[1].since(two[0])).collect();
    assert!(gaps[..3].iter().all(|gap| *gap >= latency), "one after another at first: {gaps:?}");
    assert!(gaps[..5].iter().all(|gap| *gap >= MILLI * 60), "then step by step: {gaps:?}");
    empty(&mut world, filler);
    answer_each_after(&mut world, Duration::ZERO, at(30.0));
    assert_eq!(world.ends(), [13, 0, 0, 0]);
    world.assert_settled();
}

#[test]
fn good_answers_open_the_lane_step_by_step() {
    let mut world = world(&[]);
    send(&mut world, ["a".to_owned()]);
    fill(&mut world, "");
    world.refuse("a", 429, "");
    world.advance(SECOND * 2);
    world.refuse("a", 400, "");
    world.advance(NEAR_GAP);
    for gap in [1_000, 500, 250, 125] {
        world.advance(NEAR_GAP);
        let from = world.now();
        send(&mut world, named(&format!("gap{gap}-"), 2));
        assert_eq!(starts_from(&world, from), [from], "one, and the next not before it is answered");
        world.advance(MILLI * gap - MICRO);
        assert_eq!(world.waiting(), 1, "{gap} ms");
        world.advance(MICRO);
        assert_eq!(world.waiting(), 0, "or after {gap} ms");
        // Two good answers would halve the gap twice, so that one of them is lost instead.
        world.refuse(&format!("gap{gap}-0"), 400, "");
        let lost = world.upstream_of(&format!("gap{gap}-1")).expect("it is there");
        let client = world.clients_without_answer();
        world.input(client[0], Input::Eof);
        assert!(world.is_closed(lost));
    }
    world.advance(NEAR_GAP);
    send(&mut world, ["last".to_owned()]);
    world.refuse("last", 400, "");
    world.advance(NEAR_GAP);
    let from = world.now();
    send(&mut world, named("burst", 9));
    world.advance(SECOND);
    let starts: Vec<Mono> = (0..9).map(|place| from + NEAR_GAP * place).collect();
    assert_eq!(starts_from(&world, from), starts, "nobody waits any more for an answer");
}

#[test]
fn an_answer_that_has_begun_is_a_good_one() {
    let mut world = world(&[]);
    send(&mut world, named("r", 4));
    fill(&mut world, "");
    for name in named("r", 4) {
        world.refuse(&name, 429, "retry-after: 1.5\r\n");
    }
    let mut at_upstream = 5;
    world.advance_to(at(3.0));
    for name in named("r", 4) {
        at_upstream += 1;
        assert_eq!(world.dials.len(), at_upstream, "the next comes when the one before has begun");
        world.reply(&name, streamed(&["one"]));
        world.advance(NEAR_GAP);
    }
    assert_eq!(world.live_upstreams().len(), 5, "they all go on");
}

#[test]
fn what_breaks_says_nothing_of_a_limit() {
    for status in [408, 500, 502, 504, 520] {
        let mut world = world(&[]);
        send(&mut world, ["a".to_owned()]);
        world.refuse("a", status, "retry-after: 100\r\n");
        send(&mut world, named("r", 5));
        assert_eq!(world.dials.len(), 6, "{status}");
    }
}

#[test]
fn without_answers_the_next_waits_for_two_seconds_and_no_longer() {
    let mut world = world(&[]);
    send(&mut world, ["a".to_owned()]);
    let filler = fill(&mut world, "");
    world.refuse("a", 429, "");
    // Their answers come whole, after minutes.
    for name in named("long", 5) {
        world.client_with(&chat(&name, "", r#"{"model":"m","max_tokens":1}"#));
    }
    world.advance(SECOND * 30);
    let starts = starts_from(&world, at(0.5));
    assert_eq!(starts.len(), 6, "the refused one and five more");
    assert!(starts.windows(2).all(|two| two[1].since(two[0]) == SECOND * 2), "{starts:?}");
    for name in named("long", 5) {
        world.answer(&name, 1, 1);
    }
    world.fail("a");
    empty(&mut world, filler);
    world.assert_settled();
}

#[test]
fn a_probe_that_is_refused_closes_the_lane_until_it_comes_back() {
    let mut world = world(&[]);
    send(&mut world, ["a".to_owned(), "b".to_owned()]);
    let filler = fill(&mut world, "");
    world.refuse("a", 429, "");
    world.advance(SECOND / 10);
    world.refuse("b", 400, "");
    send(&mut world, named("c", 3));
    world.advance_to(at(2.0));
    assert_eq!((world.starts_of("a").len(), world.waiting()), (2, 3), "an old good answer opens nothing");
    let again = world.now();
    world.refuse("a", 429, "retry-after: 9\r\n");
    // Two refusals in a row leave half of the limit, which is less than what is expected of this one.
    empty(&mut world, filler);
    world.advance(SECOND * 9);
    assert_eq!((world.starts_of("a").len(), world.waiting()), (2, 3));
    world.advance(SECOND);
    assert_eq!((world.starts_of("a").len(), world.waiting()), (3, 3));
    assert!(world.starts_of("a")[2] >= again + SECOND * 9);
    let lane = world.page("/usage")["lanes"][0].clone();
    assert_eq!((&lane["waits_for"], &lane["queued"]), (&json!("pace"), &json!(3)));
}

#[test]
fn a_request_that_does_not_come_back_holds_up_nobody_for_its_many_tries() {
    let mut world = world(&[("MAX_RETRIES", "4")]);
    send(&mut world, ["a".to_owned()]);
    for tries in 1..=5 {
        world.refuse("a", 429, "");
        world.advance(if tries < 5 { SECOND * 9 } else { Duration::ZERO });
    }
    assert_eq!(world.starts_of("a").len(), 5, "it has no try left, and would have waited for 16 s");
    send(&mut world, ["b".to_owned()]);
    world.advance(SECOND - MICRO);
    assert_eq!(world.starts_of("b").len(), 0);
    world.advance(SECOND);
    assert_eq!(world.starts_of("b").len(), 1);
}

#[test]
fn a_burst_that_is_refused_slows_its_lane_once_and_for_no_longer_than_the_first_of_it() {
    let mut world = world(&[]);
    send(&mut world, named("r", 3));
    fill(&mut world, "");
    world.refuse("r0", 429, "retry-after: 3\r\n");
    world.advance(SECOND / 10);
    world.refuse("r1", 429, "retry-after: 30\r\n");
    world.refuse("r2", 429, "retry-after: 60\r\n");
    send(&mut world, ["new".to_owned()]);
    world.advance_to(at(4.0));
    assert_eq!((world.starts_of("r0").len(), world.starts_of("new").len()), (2, 0));
    world.refuse("r0", 400, "");
    assert_eq!(world.starts_of("new").len(), 1, "it is let in on the good answer");
    assert_eq!((world.starts_of("r1").len(), world.starts_of("r2").len()), (1, 1), "they wait as asked");
}

#[test]
fn other_lanes_and_requests_without_one_are_not_slowed() {
    let mut world = world(&[]);
    let key = |name: &str, key: &str, model: &str| {
        let body = format!(r#"{{"model":"{model}","stream":true,"max_tokens":1}}"#);
        chat(name, &format!("x-api-key: {key}\r\n"), &body)
    };
    world.client_with(&key("a", "k", "m"));
    fill(&mut world, "x-api-key: k\r\n");
    world.refuse("a", 429, "retry-after: 100\r\n");
    let models = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nx-name: models\r\n\r\n";
    world.client_with(&key("same", "k", "m"));
    world.client_with(&key("model", "k", "n"));
    world.client_with(&key("model too", "k", "n"));
    world.client_with(&key("key", "l", "m"));
    world.client_with(models.as_bytes());
    assert_eq!(world.names(), ["a", "filler", "model", "model too", "key", "models"]);
    world.refuse("models", 429, "retry-after: 100\r\n");
    world.client_with(models.replace("models", "others").as_bytes());
    world.client_with(&key("model three", "k", "n"));
    assert_eq!(world.names()[6..], ["others", "model three"], "a 429 of something else closes nothing");
}

#[test]
fn an_overload_spaces_starts_and_closes_nothing() {
    for status in [503, 529] {
        let mut world = world(&[]);
        send(&mut world, named("r", 4));
        for name in named("r", 4) {
            world.refuse(&name, status, "retry-after: 50\r\n");
        }
        send(&mut world, named("new", 3));
        world.advance(SECOND);
        let starts = starts_from(&world, Mono::ZERO).split_off(4);
        assert_eq!(starts, [at(0.0), at(0.25), at(0.5)], "{status}: four of one burst are one piece of news");
        world.reply("new0", streamed(&["one"]));
        world.reply("new1", streamed(&["one"]));
        let from = world.now();
        send(&mut world, named("more", 3));
        world.advance(SECOND);
        let gaps: Vec<Duration> = starts_from(&world, from).iter().map(|at| at.since(from)).collect();
        assert_eq!(
            gaps,
            [Duration::ZERO, MILLI * 62 + MICRO * 500, MILLI * 125],
            "good answers take it back"
        );
    }
}

#[test]
fn overloads_one_after_another_space_starts_up_to_two_seconds() {
    let mut world = world(&[]);
    let mut gaps = Vec::new();
    for round in 0..6 {
        let from = world.now();
        let names = named(&format!("{round}-"), 2);
        send(&mut world, names.clone());
        world.advance(SECOND * 4);
        gaps.extend(starts_from(&world, from).get(1).map(|at| at.since(from)));
        world.refuse(&names[0], 503, "retry-after: 200\r\n");
        world.refuse(&names[1], 400, "");
    }
    assert_eq!(gaps, [0, 250, 500, 1_000, 2_000, 2_000].map(Duration::from_millis));
}

#[test]
fn a_lane_is_not_closed_for_longer_than_a_minute() {
    let mut world = world(&[("MAX_WAIT", "240")]);
    send(&mut world, ["a".to_owned()]);
    let filler = fill(&mut world, "");
    world.refuse("a", 429, "retry-after: 86400\r\n");
    world.advance(SECOND * 10);
    let client = world.client_with(&chat("b", "", SMALL));
    world.advance_to(at(60.0) - MICRO);
    assert_eq!(world.names(), ["a", "filler"]);
    world.advance(MICRO);
    assert_eq!(world.names(), ["a", "filler", "b"], "somebody has to ask again");
    world.refuse("b", 429, "retry-after: 86000\r\n");
    empty(&mut world, filler);
    assert_eq!(world.field_of(client, "retry-after").as_deref(), Some("86000"));
    // Who cannot wait so long is told why.
    let client = world.client_with(&chat("c", "x-stainless-timeout: 30\r\n", SMALL));
    world.advance(SECOND * 25);
    let message = world.json_of(client)["error"]["message"].as_str().expect("a message").to_owned();
    assert!(message.contains("waited 25.0 s behind requests that Fireworks refused"), "{message}");
    assert_eq!(world.field_of(client, "retry-after").as_deref(), Some("35"));
    world.assert_settled();
}

#[test]
fn a_refusal_that_no_limit_explains_closes_nothing_and_starts_rise_slowly_for_ten_minutes() {
    let mut world = world(&[("MAX_RETRIES", "0")]);
    send(&mut world, ["refused".to_owned()]);
    world.refuse("refused", 429, "retry-after: 100\r\n");
    world.advance_to(at(5.0));
    for round in 0..20 {
        // Before each of these nobody has come for so long that one a second is all that is let through.
        let from = world.now();
        let is_careful = from.since(at(0.0)) < SECOND * 600;
        let names = named(&format!("{round}-"), 3);
        send(&mut world, names.clone());
        world.advance(SECOND * 5);
        let gaps: Vec<Duration> = starts_from(&world, from).iter().map(|start| start.since(from)).collect();
        let expected = if is_careful { [0, 1, 2] } else { [0; 3] };
        assert_eq!(gaps, expected.map(|seconds| SECOND * seconds), "at {from:?}");
        for name in &names {
            world.refuse(name, 400, "");
        }
        world.advance(SECOND * 35);
    }
    assert!(world.now() > at(700.0), "both were seen");
}

#[test]
fn where_many_start_they_rise_by_half_in_a_minute_after_a_refusal_that_no_limit_explains() {
    let mut world = world(&[("MAX_WAIT", "600")]);
    // Four a second for a minute.
    for count in 0..240 {
        let name = format!("before{count}");
        send(&mut world, [name.clone()]);
        world.refuse(&name, 400, "");
        world.advance(SECOND / 4);
    }
    send(&mut world, ["refused".to_owned()]);
    world.refuse("refused", 429, "retry-after: 300\r\n");
    let refused_at = world.now();
    send(&mut world, named("crowd", 100));
    world.advance(SECOND * 10);
    let starts = starts_from(&world, refused_at + MICRO);
    // Six a second are half as many again as four, and a little more as they rise.
    assert!((60..=68).contains(&starts.len()), "{}", starts.len());
    let gaps = starts.windows(2).map(|two| two[1].since(two[0]));
    assert!(gaps.min() >= Some(MILLI * 140), "they come one after another");
}

#[test]
fn the_third_refusal_in_a_row_is_one_of_a_limit_whatever_the_books_say() {
    let mut world = world(&[("MAX_RETRIES", "0")]);
    for name in ["first", "second"] {
        send(&mut world, [name.to_owned()]);
        world.refuse(name, 429, "retry-after: 40\r\n");
        world.advance(SECOND);
        send(&mut world, [format!("behind the {name}")]);
        assert_eq!(world.waiting(), 0, "{name}");
        world.advance(SECOND);
    }
    send(&mut world, ["third".to_owned()]);
    world.refuse("third", 429, "retry-after: 40\r\n");
    let refused_at = world.now();
    send(&mut world, ["behind".to_owned()]);
    world.advance_to(refused_at + SECOND * 40 - MICRO);
    assert_eq!(world.waiting(), 1, "the lane is closed");
    world.advance(SECOND * 2);
    assert_eq!(world.waiting(), 0);
}

#[test]
fn near_a_limit_starts_come_apart() {
    let mut world = world(&[("RPS", "20")]);
    fill(&mut world, "");
    let from = world.now();
    send(&mut world, named("r", 4));
    world.advance(SECOND);
    let starts: Vec<Duration> = world.dials.iter().map(|(start, _)| start.since(from)).collect();
    assert_eq!(starts, [0, 200, 400, 600, 800].map(Duration::from_millis));
    let mut far = World::new(&[("RPS", "1000")], utc(5, 21, 2, 0));
    let from = far.now();
    send(&mut far, named("r", 4));
    assert_eq!(starts_from(&far, from), [from; 4], "and far from it they do not");
}
