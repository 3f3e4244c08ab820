//! What `/usage` shows of a lane: what it has learned, and what it waits for.

use super::{SECOND, Value, World, answer, ask, lane_of, learn, new_world, start};
use crate::support::world::chat;

#[test]
fn a_lane_shows_what_it_has_learned() {
    let mut world = new_world();
    ask(&mut world, "a", "m", "");
    let learned = lane_of(&mut world, "m")["learned"].clone();
    assert_eq!(learned["chars_per_token"]["ascii"], 3.5);
    assert_eq!(
        (&learned["chars_per_token"]["wide"], &learned["attachment_tokens"]),
        (&1.0.into(), &1_600.0.into())
    );
    for unknown in ["generated_mean", "first_token_seconds", "tokens_per_second"] {
        assert_eq!(learned[unknown], Value::Null, "{unknown}");
    }
    answer(&mut world, "a", "", 495);
    learn(&mut world, "m", "");
    let learned = lane_of(&mut world, "m")["learned"].clone();
    let number = |pointer: &str| learned.pointer(pointer).and_then(Value::as_f64).expect("a number");
    assert!((4.9..5.1).contains(&number("/chars_per_token/ascii")), "{learned:#}");
    assert!(number("/prompt_error") < 0.1 && number("/cache_error") < 0.1, "{learned:#}");
    assert!((490.0..500.0).contains(&number("/generated_mean")), "{learned:#}");
    assert!((number("/first_token_seconds") - 0.5).abs() < 0.01, "{learned:#}");
    assert!((150.0..180.0).contains(&number("/tokens_per_second")), "{learned:#}");
}

#[test]
fn a_budget_shows_its_margin_what_others_use_and_its_burst() {
    let mut world = new_world();
    let fields =
        "x-ratelimit-limit-tokens-generated: 36000\r\nx-ratelimit-remaining-tokens-generated: 20000\r\n";
    learn(&mut world, "m", fields);
    let budgets = lane_of(&mut world, "m")["budgets"].clone();
    assert_eq!(
        (&budgets["generated"]["margin"], &budgets["generated"]["burst_seconds"]),
        (&0.8.into(), &30.0.into())
    );
    // Of the 16,000 that are gone, up to 4,950 are ours.
    let others = budgets["generated"]["others_60s"].as_u64().expect("a number");
    assert!((11_000..=16_000).contains(&others), "{others}");
    assert_eq!(budgets["prompt"]["others_60s"], 0);
}

/// A core whose lanes have room for one request at a time.
fn one_at_a_time() -> World {
    let settings = [
        ("GENERATED_TPM_LIMIT", "100"),
        ("OUTPUT_TOKEN_RESERVE", "100"),
        ("TPM_SAFETY_RATIO", "1"),
        ("RPS", "1000"),
    ];
    World::new(&settings, start())
}

fn waits(world: &mut World) -> [Value; 3] {
    let lane = lane_of(world, "m");
    ["waits_for", "next_start_in_seconds", "waiting"].map(|name| lane[name].clone())
}

#[test]
fn a_lane_says_what_it_waits_for_and_how_long() {
    let mut world = one_at_a_time();
    let body = r#"{"model":"m"}"#;
    world.client_with(&chat("a", "", body));
    assert_eq!(waits(&mut world), [Value::Null, Value::Null, Value::Null], "nobody waits");
    // What is started near a limit comes apart a little.
    world.advance(SECOND);
    world.client_with(&chat("b", "", body));
    let only_an_answer = "waiting for generated tokens; next start when an answer ends";
    assert_eq!(waits(&mut world), ["generated".into(), Value::Null, only_an_answer.into()]);
    world.answer("a", 10, 100);
    let [waits_for, next_start, sentence] = waits(&mut world);
    let seconds = next_start.as_f64().expect("a time");
    assert!(waits_for == "generated" && (20.0..=61.0).contains(&seconds), "{seconds}");
    assert_eq!(sentence, format!("waiting for generated tokens; next start in {seconds:.1} s"));
    world.advance(SECOND * 10);
    let later = waits(&mut world)[1].as_f64().expect("a time");
    assert!((seconds - later - 10.0).abs() < 0.002, "{seconds} and then {later}");
    world.advance(SECOND * 60);
    assert_eq!(waits(&mut world)[0], Value::Null, "it has started");
    assert!(world.upstream_of("b").is_some());
}

#[test]
fn a_lane_that_was_refused_says_that_it_waits_for_its_turn() {
    let mut world = one_at_a_time();
    let body = r#"{"model":"m"}"#;
    world.client_with(&chat("a", "", body));
    world.client_with(&chat("b", "", body));
    world.refuse("a", 429, "retry-after: 3\r\n");
    let [waits_for, next_start, sentence] = waits(&mut world);
    assert_eq!(waits_for, "pace");
    let seconds = next_start.as_f64().expect("a time");
    assert!((2.5..=4.5).contains(&seconds), "{seconds}");
    let expected =
        "waiting for its turn among starts that come apart, near a limit or after a refusal; next start in";
    assert_eq!(sentence, format!("{expected} {seconds:.1} s"));
}

#[test]
fn a_full_request_rate_is_named() {
    let mut world = World::new(&[("RPS", "1")], start());
    let body = r#"{"model":"m"}"#;
    for name in ["a", "b"] {
        world.client_with(&chat(name, "", body));
    }
    let [waits_for, next_start, sentence] = waits(&mut world);
    assert_eq!((waits_for, next_start), ("requests".into(), 1.0.into()));
    assert_eq!(sentence, "waiting for the request rate; next start in 1.0 s");
}
