//! `/history`: when it is sampled, how far it goes back, and what somebody gets who has seen a part of it.

use fireworks_proxy::{event::Input, time::Wall};
use serde_json::{Value, json};

use super::{SECOND, body, busy_world, world};
use crate::support::world::{World, chat};

#[test]
fn the_last_hour_is_sampled_while_something_goes_on() {
    let mut world = busy_world();
    let history = world.page("/history");
    let samples = history["samples"].as_array().expect("a list");
    assert_eq!(samples.len(), 1);
    let sample = &samples[0];
    assert_eq!(sample["at"], json!(1_779_287_529.0));
    assert_eq!(
        (&sample["queued"], &sample["in_flight"], &sample["started"]),
        (&json!(2), &json!(1), &json!(4))
    );
    assert_eq!(sample["failures"], json!({"may_have_reached": {"closed_before_head": 1}}));
    let lane = |model: &str| {
        let index =
            history["lanes"].as_array().expect("a list").iter().position(|lane| lane["model"] == model);
        let lanes = sample["lanes"].as_array().expect("a list");
        lanes.iter().find(|lane| lane["lane"] == json!(index)).expect("it was used").clone()
    };
    assert_eq!(lane("other")["used_60s"], json!([30, 30, 5]));
    assert_eq!(lane("other")["limit"], json!([1_000_000, 900_000, 100]));
    // When all is over and has left the minute, nothing wakes the proxy any more.
    world.reply("runs", "0\r\n\r\n");
    for _ in 0..700 {
        for name in ["waits", "waits behind", "lost again", "pauses"] {
            if world.upstream_of(name).is_some_and(|upstream| !world.is_closed(upstream)) {
                world.answer(name, 10, 100);
            }
        }
        world.advance(SECOND);
    }
    let count = |world: &mut World| world.page("/history")["samples"].as_array().expect("a list").len();
    let samples = count(&mut world);
    world.advance(SECOND * 600);
    assert_eq!(count(&mut world), samples, "an idle proxy samples nothing");
    world.advance(SECOND * 3_600);
    let history = world.page("/history");
    assert_eq!((&history["samples"], &history["now"]), (&json!([]), &json!(1_779_287_519.0 + 4_913.0)));
}

#[test]
fn an_hour_of_traffic_is_kept_and_no_more() {
    let mut world = world(1_000_000, 1_000_000, &[]);
    for number in 0..500 {
        let name = format!("c{number}");
        world.client_with(&chat(&name, "", &body(&format!("model {}", number % 40), "s")));
        world.answer(&name, 100, 10);
        world.advance(SECOND * 10);
    }
    let history = world.page("/history");
    let samples = history["samples"].as_array().expect("a list");
    assert!((355..=361).contains(&samples.len()), "{}", samples.len());
    let last_but_two = &samples[samples.len() - 3]["at"];
    let news = world.page(&format!("/history?x=1&since={last_but_two}"))["samples"].clone();
    assert_eq!(news.as_array().map(Vec::len), Some(2));
    assert_eq!(
        world.page("/history?since=yesterday")["samples"].as_array().map(Vec::len),
        Some(samples.len())
    );
    let now = history["now"].as_f64().expect("a number");
    assert!(samples.iter().all(|sample| now - sample["at"].as_f64().expect("a number") <= 3_600.0));
    assert_eq!(
        samples.iter().filter_map(|sample| sample["started"].as_u64()).sum::<u64>(),
        samples.len() as u64
    );
}

/// The times of the samples on a page.
fn times(page: &Value) -> Vec<f64> {
    let samples = page["samples"].as_array().expect("a list");
    samples.iter().map(|sample| sample["at"].as_f64().expect("a number")).collect()
}

/// One request that goes on, so that a sample is taken every ten seconds.
fn running_world() -> World {
    let mut world = world(1_000_000, 1_000_000, &[]);
    world.client_with(&chat("runs", "", &body("m", "s")));
    world
}

#[test]
fn a_clock_that_is_set_back_hides_no_sample() {
    let mut world = running_world();
    world.advance(SECOND * 30);
    let before = times(&world.page("/history"));
    world.set_wall(Wall::from_unix_millis(1_779_287_519_000 - 3_600_000));
    world.advance(SECOND * 20);
    let all = times(&world.page("/history"));
    assert_eq!((before.len(), all.len()), (3, 5));
    assert!(all[3] < all[0], "{all:?}");
    let after = |world: &mut World, known: f64| times(&world.page(&format!("/history?since={known}")));
    assert_eq!(after(&mut world, all[2]), all[3..]);
    assert_eq!(after(&mut world, all[3]), all[4..]);
    assert_eq!(after(&mut world, all[4]), [0.0; 0]);
    // Of a time at which none was taken, the later ones are news.
    assert_eq!(after(&mut world, all[1] - 0.5), all[1..3]);
    for odd in ["NaN", "inf", "-inf"] {
        assert_eq!(times(&world.page(&format!("/history?since={odd}"))), all, "{odd}");
    }
}

#[test]
fn what_an_idle_proxy_refuses_is_told_of_when_it_was() {
    let mut world = world(1_000_000, 1_000_000, &[]);
    world.advance(SECOND * 600);
    world.client_with(b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    let half =
        world.client_with(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n");
    world.input(half, Input::Eof);
    world.advance(SECOND * 600);
    let history = world.page("/history");
    let samples = history["samples"].as_array().expect("a list");
    assert_eq!(samples.len(), 1, "nothing goes on after it");
    assert_eq!(samples[0]["failures"], json!({"never_reached": {"misdirected": 1, "client_gone": 1}}));
    assert_eq!(samples[0]["at"], json!(1_779_287_519.0 + 610.0));
}
