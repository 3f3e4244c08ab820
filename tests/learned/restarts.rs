//! The state file between two runs.

use super::{
    Duration, PROMPT_TOKENS, SECOND, Value, World, answer, ask, json, kept, lane_of, learn, new_world,
    reserved_for_one, restarted, saved,
};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

const LIMITS: &str =
    "x-ratelimit-limit-tokens-generated: 216000\r\nx-ratelimit-limit-tokens-prompt: 7200000\r\n";

/// What is held for a first request by a core that knows nothing.
const UNKNOWN: [u64; 2] = [2_000, 2_048];

/// A core that has learned, and the file that it has saved.
fn learned() -> (World, Vec<u8>) {
    let mut world = new_world();
    learn(&mut world, "m", LIMITS);
    let file = saved(&world);
    (world, file)
}

/// The file with one thing that was learned of the only model put in another's place.
fn with(file: &[u8], pointer: &str, value: &Value) -> Vec<u8> {
    let mut state: Value = serde_json::from_slice(file).expect("JSON");
    let place = state.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}"));
    *place = value.clone();
    state.to_string().into_bytes()
}

#[test]
fn the_next_run_reserves_like_the_one_before() {
    let (mut world, file) = learned();
    let before = reserved_for_one(&mut world, "m");
    let [prompt, generated] = before;
    assert!(prompt.abs_diff(PROMPT_TOKENS) < 30 && (450..=540).contains(&generated), "{before:?}");
    let fresh = reserved_for_one(&mut new_world(), "m");
    assert!(fresh.iter().zip(UNKNOWN).all(|(fresh, unknown)| fresh.abs_diff(unknown) < 50), "{fresh:?}");
    for after in [SECOND, HOUR, DAY * 6] {
        let mut next = restarted(&file, world.wall(), after);
        let reserved = reserved_for_one(&mut next, "m");
        assert!(reserved.iter().zip(before).all(|(next, before)| next.abs_diff(before) <= 1), "{reserved:?}");
        assert_eq!(reserved_for_one(&mut restarted(&file, world.wall(), after), "another"), fresh);
    }
    let mut next = restarted(&file, world.wall(), DAY * 7);
    assert_eq!(reserved_for_one(&mut next, "m"), fresh, "after a week it is news no more");
    assert_eq!(kept(&saved(&next)), [Value::Null; 0], "and is not kept on");
}

#[test]
fn what_was_learned_passes_from_run_to_run_unchanged() {
    let (world, file) = learned();
    let (mut last, mut wall) = (file.clone(), world.wall());
    for _ in 0..3 {
        wall = wall + HOUR;
        let mut next = restarted(&last, wall, Duration::ZERO);
        // It is saved with the first count, which is of another model.
        ask(&mut next, "a", "other", "");
        answer(&mut next, "a", "", 5);
        next.shutdown();
        last = saved(&next);
        wall = next.wall();
        let models: Vec<_> = kept(&last).iter().map(|entry| entry["model"].clone()).collect();
        assert_eq!(models, ["other", "m"], "the newest first");
    }
    assert_eq!(kept(&last)[1], kept(&file)[0]);
}

#[test]
fn a_limit_is_remembered_with_its_age_and_forgotten_in_its_time() {
    let (world, file) = learned();
    let learned_limits = |world: &mut World| {
        let lane = lane_of(world, "m");
        ["prompt", "generated"].map(|name| lane["budgets"][name]["learned"].clone())
    };
    let (known, forgotten) = ([json!(7_200_000), json!(216_000)], [Value::Null, Value::Null]);
    let mut next = restarted(&file, world.wall(), SECOND * 300);
    ask(&mut next, "a", "m", "");
    assert_eq!(learned_limits(&mut next), known);
    assert_eq!(lane_of(&mut next, "m")["budgets"]["generated"]["effective"], 216_000 * 8 / 10);
    // Five seconds went by between the last header and the restart beside that.
    next.advance(SECOND * 294);
    assert_eq!(learned_limits(&mut next), known);
    next.advance(SECOND * 6);
    assert_eq!(learned_limits(&mut next), forgotten);
    for (after, expected) in [(590, known), (600, forgotten)] {
        let mut next = restarted(&file, world.wall(), SECOND * after);
        ask(&mut next, "a", "m", "");
        assert_eq!(learned_limits(&mut next), expected, "after {after} s");
    }
}

#[test]
fn the_margin_and_the_burst_are_remembered_for_an_hour() {
    let (world, file) = learned();
    let file = with(&file, "/learned/0/limits/generated/margin", &json!(0.55));
    let file = with(
        &file,
        "/learned/0/limits/generated",
        &json!({"margin": 0.55, "burst": {"span_seconds": 12.5, "age_seconds": 60}}),
    );
    let of = |file: &[u8], after, fixed: Option<&str>| {
        let settings: Vec<_> = fixed.map(|ratio| ("TPM_SAFETY_RATIO", ratio)).into_iter().collect();
        let mut next = World::restarted(&settings, world.wall() + after, Some(file));
        ask(&mut next, "a", "m", "");
        let budget = &lane_of(&mut next, "m")["budgets"]["generated"];
        json!([budget["margin"], budget["burst_seconds"]])
    };
    assert_eq!(of(&file, SECOND, None), json!([0.55, 12.5]));
    assert_eq!(of(&file, HOUR, None), json!([0.8, 30.0]));
    assert_eq!(of(&file, SECOND, Some("0.9")), json!([0.9, 12.5]), "the settings fix it");
    for margin in [json!(-1), json!(0), json!(1.5), json!("0.5"), json!(null)] {
        let file = with(&file, "/learned/0/limits/generated/margin", &margin);
        assert_eq!(of(&file, SECOND, None), json!([0.8, 12.5]), "{margin}");
    }
    for span in [json!(-5), json!(4), json!(31), json!(1e300), json!([])] {
        let file = with(&file, "/learned/0/limits/generated/burst/span_seconds", &span);
        assert_eq!(of(&file, SECOND, None), json!([0.55, 30.0]), "{span}");
    }
}

#[test]
fn nonsense_is_passed_over_item_by_item_and_never_costs_the_count() {
    let (mut world, file) = learned();
    let known = reserved_for_one(&mut world, "m");
    let fresh = reserved_for_one(&mut new_world(), "m");
    let used = world.page("/usage")["day"]["used"].clone();
    let check = |file: &[u8], expected: [u64; 2], what: &str| {
        let mut next = restarted(file, world.wall(), SECOND);
        let reserved = reserved_for_one(&mut next, "m");
        assert!(
            reserved.iter().zip(expected).all(|(one, other)| one.abs_diff(other) <= 1),
            "{what}: {reserved:?}"
        );
        assert_eq!(next.page("/usage")["day"]["used"], used, "{what}");
        assert!(next.log.iter().all(|line| !line.contains("damaged")), "{what}");
    };
    check(&file, known, "as it was");
    let numbers = [json!(-1), json!(1e308), json!(null), json!("7"), json!([1]), json!({})];
    for value in &numbers {
        for whole in ["/learned", "/learned/0", "/learned/0/model", "/learned/0/learned_at_unix_ms"] {
            check(&with(&file, whole, value), fresh, &format!("{whole} {value}"));
        }
        for part in [
            "/learned/0/prompt_size",
            "/learned/0/prompt_size/tokens_each/0",
            "/learned/0/prompt_size/relative_error",
        ] {
            check(&with(&file, part, value), [fresh[0], known[1]], &format!("{part} {value}"));
        }
        for part in ["/learned/0/output", "/learned/0/output/0/0"] {
            check(&with(&file, part, value), [known[0], fresh[1]], &format!("{part} {value}"));
        }
        check(&with(&file, "/learned/0/limits", value), known, &format!("limits {value}"));
        check(
            &with(&file, "/learned/0/limits/prompt/learned/age_seconds", value),
            known,
            &format!("age {value}"),
        );
    }
    check(
        &with(&file, "/learned/0/output", &json!(vec![[100.0, 50.0]; 60])),
        [known[0], fresh[1]],
        "too many",
    );
    check(&with(&file, "/learned/0/learned_at_unix_ms", &json!(i64::MAX)), fresh, "from the future");
    check(&with(&file, "/learned/0/learned_at_unix_ms", &json!(i64::MIN)), fresh, "of long ago");
}

#[test]
fn of_many_models_those_are_kept_that_were_used_last() {
    let mut world = new_world();
    for model in 0..20 {
        learn(&mut world, &format!("accounts/fireworks/models/model-{model}"), LIMITS);
    }
    world.shutdown();
    let file = saved(&world);
    println!("{} bytes for 16 models", file.len());
    assert!(file.len() < 16 * 2_048, "{} bytes", file.len());
    let models: Vec<_> = kept(&file).iter().map(|entry| entry["model"].clone()).collect();
    let expected: Vec<_> =
        (4..20).rev().map(|model| json!(format!("accounts/fireworks/models/model-{model}"))).collect();
    assert_eq!(models, expected);
    // What is in it twice is so once.
    let twice = with(&file, "/learned/1/model", &json!("accounts/fireworks/models/model-19"));
    let mut next = restarted(&twice, world.wall(), DAY);
    next.shutdown();
    assert_eq!(kept(&saved(&next)).len(), 15);
    // A file with more than that is none of ours, and is read no further.
    let mut state: Value = serde_json::from_slice(&file).expect("JSON");
    let again = state["learned"].clone();
    state["learned"].as_array_mut().expect("a list").extend(again.as_array().expect("a list").clone());
    let mut next = restarted(state.to_string().as_bytes(), world.wall(), SECOND);
    ask(&mut next, "a", "other", "");
    answer(&mut next, "a", "", 5);
    next.shutdown();
    let models: Vec<_> = kept(&saved(&next)).iter().map(|entry| entry["model"].clone()).collect();
    assert_eq!(models, [&[json!("other")], &expected[..15]].concat());
}

#[test]
fn of_two_keys_the_last_one_tells_and_no_key_is_in_the_file() {
    let mut world = new_world();
    for (key, generated) in [("fw_one", 900), ("fw_two", 100), ("fw_one", 900), ("fw_two", 100)] {
        for round in 0..5 {
            let name = format!("{key}-{generated}-{round}-{:?}", world.now());
            ask(&mut world, &name, "m", &format!("Authorization: Bearer {key}\r\n"));
            answer(&mut world, &name, "", generated);
        }
    }
    world.shutdown();
    let file = saved(&world);
    let [_, generated] = reserved_for_one(&mut restarted(&file, world.wall(), SECOND), "m");
    assert!((95..=100).contains(&generated), "{generated}");
    assert_eq!(kept(&file).len(), 1);
    let text = String::from_utf8(file).expect("JSON");
    assert!(!text.contains("fw_") && !text.contains("credential"), "{text}");
}

#[test]
fn it_is_saved_with_the_count_and_once_more_at_the_end() {
    let mut world = new_world();
    learn(&mut world, "m", "");
    world.advance(SECOND * 5);
    let attempts = world.save_attempts;
    // A refusal tells a limit and counts nothing.
    ask(&mut world, "refused", "m", "");
    world.refuse("refused", 429, LIMITS);
    world.advance(SECOND * 5);
    assert_eq!(world.save_attempts, attempts);
    assert_eq!(kept(&saved(&world))[0].pointer("/limits/generated/learned"), None);
    world.shutdown();
    assert_eq!(world.save_attempts, attempts + 1);
    let learned = kept(&saved(&world))[0].pointer("/limits/generated/learned").cloned();
    assert_eq!(learned, Some(json!({"tokens_per_minute": 216_000, "age_seconds": 0})));
    // And a run in which nothing was learned leaves the file alone.
    let mut next = restarted(&saved(&world), world.wall(), SECOND);
    next.shutdown();
    assert_eq!(next.save_attempts, 0);
}

#[test]
fn a_file_of_the_day_before_hands_on_what_was_learned() {
    let (mut world, file) = learned();
    let known = reserved_for_one(&mut world, "m");
    let mut next = restarted(&file, world.wall(), DAY);
    assert_eq!(next.page("/usage")["day"]["used"], 0);
    let first = saved(&next);
    assert_eq!(kept(&first), kept(&file), "it is in the file that takes the other's place");
    let reserved = reserved_for_one(&mut next, "m");
    assert!(reserved.iter().zip(known).all(|(one, other)| one.abs_diff(other) <= 1), "{reserved:?}");
}
