//! Whose turn it is: sessions take turns, whoever sends more or larger requests.

use super::{SECOND, at, utc};
use crate::support::world::{World, chat};

const BODY: &str = r#"{"model":"m"}"#;

/// A core in which one request takes up the minute of its lane, and may wait for an hour.
fn one_a_minute() -> World {
    let settings = [
        ("GENERATED_TPM_LIMIT", "100"),
        ("OUTPUT_TOKEN_RESERVE", "100"),
        ("TPM_SAFETY_RATIO", "1"),
        ("MAX_WAIT", "3600"),
        ("MAX_HOLD", "3600"),
        ("RPS", "1000"),
    ];
    World::new(&settings, utc(5, 21, 2, 0))
}

/// The names of requests in the order in which they get to the upstream, each of which is answered at once.
fn order(world: &mut World, count: usize) -> Vec<String> {
    for index in 0..count {
        let names = world.names();
        assert_eq!(names.len(), index + 1, "one after the other: {names:?}");
        world.answer(&names[index], 10, 100);
        world.advance(SECOND * 62);
    }
    world.names()[..count].to_vec()
}

fn send(world: &mut World, session: Option<&str>, names: &[&str]) {
    let field = session.map(|name| format!("x-claude-code-session-id: {name}\r\n")).unwrap_or_default();
    for name in names {
        world.client_with(&chat(name, &field, BODY));
    }
}

#[test]
fn a_session_with_ten_requests_does_not_starve_seven_with_one() {
    let mut world = one_a_minute();
    send(&mut world, Some("ten"), &["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"]);
    for name in ["b", "c", "d", "e", "f", "g", "h"] {
        send(&mut world, Some(name), &[name]);
    }
    let expected = ["a0", "b", "c", "d", "e", "f", "g", "h", "a1", "a2", "a3"];
    assert_eq!(order(&mut world, expected.len()), expected);
}

#[test]
fn who_names_no_session_counts_by_its_connection() {
    let mut world = one_a_minute();
    send(&mut world, Some("named"), &["a0", "a1", "a2"]);
    send(&mut world, None, &["b", "c"]);
    assert_eq!(order(&mut world, 5), ["a0", "b", "c", "a1", "a2"]);
    world.assert_settled();
}

#[test]
fn within_a_session_the_earliest_deadline_goes_first() {
    let mut world = one_a_minute();
    send(&mut world, Some("one"), &["running", "patient"]);
    for (name, seconds) in [("900 s", 900), ("600 s", 600)] {
        let fields = format!("x-claude-code-session-id: one\r\nx-stainless-timeout: {seconds}\r\n");
        world.client_with(&chat(name, &fields, BODY));
    }
    assert_eq!(order(&mut world, 4), ["running", "600 s", "900 s", "patient"]);
    assert!(world.now() > at(180.0));
    world.assert_settled();
}

#[test]
fn a_turn_is_a_turn_whatever_it_has_cost() {
    let mut world = one_a_minute();
    send(&mut world, Some("dear"), &["b0", "b1", "b2"]);
    send(&mut world, Some("cheap"), &["a0", "a1", "a2"]);
    let expected = ["b0", "a0", "b1", "a1", "b2", "a2"];
    for (index, name) in expected.into_iter().enumerate() {
        assert_eq!(world.names(), expected[..=index]);
        world.answer(name, 10, if name.starts_with('a') { 60 } else { 100 });
        world.advance(SECOND * 62);
    }
    world.assert_settled();
}

#[test]
fn who_has_nothing_under_way_goes_first_near_its_deadline() {
    let mut world = one_a_minute();
    send(&mut world, Some("patient"), &["a0", "a1", "a2"]);
    let fields = "x-claude-code-session-id: hurried\r\nx-stainless-timeout: 260\r\n";
    for name in ["b0", "b1", "b2"] {
        world.client_with(&chat(name, fields, BODY));
    }
    // By turns a1 would go before b2.
    assert_eq!(order(&mut world, 6), ["a0", "b0", "b1", "b2", "a1", "a2"]);
    world.assert_settled();
}
