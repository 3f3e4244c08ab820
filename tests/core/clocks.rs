//! Clocks that jump: the machine sleeps, or somebody sets the time, forwards or backwards.

use std::{collections::BTreeMap, time::Duration};

use fireworks_proxy::{
    budget::Balance,
    event::{ConnId, Input},
    time::Wall,
};
use serde_json::json;

use super::{BODY, SECOND, at, one_at_a_time, utc};
use crate::support::world::{Dice, World, chat};

const HOUR: Duration = Duration::from_secs(3600);
const UTC: (&str, &str) = ("TIMEZONE", "UTC");

/// Counts this many tokens and tells how many are used of the day then.
#[track_caller]
fn spend(world: &mut World, tokens: u64) -> u64 {
    let name = format!("r{}", world.trace.len());
    world.client_with(&chat(&name, "", BODY));
    world.answer(&name, tokens, 0);
    used(world)
}

/// The tokens of the day.
fn used(world: &mut World) -> u64 {
    world.page("/usage")["day"]["used"].as_u64().expect("a number")
}

fn hours_later(wall: Wall, hours: i64) -> Wall {
    Wall::from_unix_millis(wall.as_unix_millis() + hours * 3_600_000)
}

#[test]
fn a_wall_clock_that_comes_back_over_midnight_neither_loses_nor_doubles_a_day() {
    for hours in [2, -30, 24 * 400, -24 * 365 * 56] {
        let evening = utc(5, 20, 23, 0);
        let mut world = World::new(&[UTC, ("RPS", "1000")], evening);
        assert_eq!(spend(&mut world, 100), 100);
        world.set_wall(hours_later(evening, hours));
        assert_eq!(used(&mut world), 0, "{hours} h");
        assert_eq!(spend(&mut world, 10), 10);
        world.advance(SECOND * 2);
        assert_eq!(world.saved_tokens(), 10);
        world.set_wall(evening);
        assert_eq!(used(&mut world), 100, "{hours} h");
        assert_eq!(spend(&mut world, 1), 101);
        world.set_wall(hours_later(evening, hours));
        assert_eq!(spend(&mut world, 5), 15);
        world.set_wall(evening);
        assert_eq!(used(&mut world), 101);
        // The night comes in its own time.
        world.advance(HOUR);
        let expected = if hours == 2 { 15 } else { 0 };
        assert_eq!(used(&mut world), expected, "{hours} h");
        assert_eq!(world.page("/usage")["day"]["date"], "2026-05-21");
        assert_eq!(
            world.times_logged("the clock shows 2026-05-20 again: its daily count goes on at").len(),
            2
        );
    }
}

#[test]
fn a_spent_day_is_not_given_twice() {
    let noon = utc(5, 20, 12, 0);
    let mut world = World::new(&[UTC, ("DAILY_TOKEN_LIMIT", "1000"), ("RPS", "1000")], noon);
    spend(&mut world, 1_000);
    let refused = world.client_with(&chat("refused", "", BODY));
    assert_eq!(world.status_of(refused), Some(429));
    world.set_wall(hours_later(noon, 24));
    spend(&mut world, 1);
    world.set_wall(noon);
    let refused = world.client_with(&chat("refused again", "", BODY));
    assert_eq!(world.json_of(refused)["error"]["code"], "daily_limit");
    assert_eq!(world.times_logged("REACHED").len(), 2, "it is said again when the clock comes back to it");
}

#[test]
fn a_spent_day_is_told_of_for_as_long_as_somebody_is_refused() {
    let noon = utc(5, 20, 12, 0);
    let mut world = World::new(&[UTC, ("DAILY_TOKEN_LIMIT", "1000"), ("RPS", "1000")], noon);
    spend(&mut world, 999);
    world.advance(SECOND * 10);
    assert_eq!(world.times_logged("WARN DAILY TOKEN WARNING: 999 of 1000 tokens of 2026-05-20").len(), 1);
    let is_stats = |line: &&String| line.contains(" stats |");
    let stats = world.log.iter().rfind(is_stats).expect("statistics");
    assert!(stats.starts_with("WARN ") && stats.ends_with(" remaining=1 day=warned"), "{stats}");
    spend(&mut world, 1);
    world.advance(HOUR * 2);
    let reached = "ERROR DAILY TOKEN LIMIT REACHED: 1000 of 1000 tokens of 2026-05-20";
    assert_eq!(world.times_logged(reached).len(), 1, "nobody is there to be told more");
    for _ in 0..60 {
        world.client_with(&chat("refused", "", BODY));
        world.advance(SECOND * 60);
    }
    assert_eq!(world.times_logged(reached).len(), 1 + 4, "every quarter of an hour");
    let stats = world.log.iter().rfind(is_stats).expect("statistics");
    assert!(stats.starts_with("WARN ") && stats.ends_with(" remaining=0 day=spent"), "{stats}");
    world.set_wall(hours_later(noon, 24));
    spend(&mut world, 1);
    world.advance(HOUR);
    assert_eq!(world.times_logged("REACHED").len(), 1 + 4, "another day");
}

#[test]
fn a_jump_within_the_day_changes_nothing() {
    let noon = utc(5, 20, 12, 0);
    let mut world = World::new(&[UTC, ("RPS", "1000")], noon);
    spend(&mut world, 100);
    world.advance(SECOND * 20);
    let before = (world.log.len(), world.save_attempts, world.page("/usage")["day"].clone());
    for hours in [-1, -12, 11, 0] {
        world.set_wall(hours_later(noon, hours));
        world.advance(SECOND * 20);
        assert_eq!((world.log.len(), world.save_attempts, world.page("/usage")["day"].clone()), before);
    }
}

#[test]
fn a_restart_while_the_clock_is_wrong_loses_no_day() {
    let settings = [UTC, ("RPS", "1000")];
    let noon = utc(5, 20, 12, 0);
    let file = |world: &mut World| {
        world.advance(SECOND * 2);
        world.saves.last().expect("saved").clone()
    };
    let mut world = World::new(&settings, noon);
    spend(&mut world, 100);
    // Without a battery a clock begins at 1970, and is set when there is a network.
    let mut world = World::restarted(&settings, Wall::from_unix_millis(0), Some(&file(&mut world)));
    assert_eq!(spend(&mut world, 7), 7);
    world.set_wall(noon);
    assert_eq!(spend(&mut world, 1), 101);
    // It is set wrong, the proxy is killed, and it is set right before the next start.
    world.set_wall(hours_later(noon, 24 * 30));
    assert_eq!(spend(&mut world, 3), 3);
    let mut world = World::restarted(&settings, noon, Some(&file(&mut world)));
    assert_eq!(used(&mut world), 101);
    assert_eq!(spend(&mut world, 1), 102);
    let mut world = World::restarted(&settings, noon, Some(&file(&mut world)));
    assert_eq!(used(&mut world), 102);
}

/// Whatever the clock does among four days, and whenever the proxy is started anew, every token is counted on
/// the day that the clock showed.
#[test]
fn by_dice_every_token_is_on_the_day_that_the_clock_showed() {
    let settings = [("TIMEZONE", "Australia/Melbourne"), ("RPS", "1000"), ("DAILY_TOKEN_LIMIT", "0")];
    for seed in [1, 0xc10c, 0xdead_beef] {
        let mut dice = Dice::new(seed);
        let days = [(5, 21), (5, 22), (1, 1), (12, 31)].map(|(month, day)| utc(month, day, 2, 0));
        let mut world = World::new(&settings, days[0]);
        let (mut file, mut model) = (Vec::new(), BTreeMap::<String, u64>::new());
        for _ in 0..400 {
            match dice.below(4) {
                0 => {
                    let day = *dice.pick(&days).expect("there are four");
                    let hours = i64::try_from(dice.below(10)).expect("small");
                    world.set_wall(hours_later(day, hours));
                }
                1 => {
                    world.advance(SECOND * 2);
                    file = world.saves.pop().unwrap_or(file);
                    world = World::restarted(&settings, world.wall(), Some(&file));
                }
                _ => {
                    let tokens = dice.below(50);
                    spend(&mut world, tokens);
                    let date = world.page("/usage")["day"]["date"].as_str().expect("a date").to_owned();
                    *model.entry(date).or_default() += tokens;
                }
            }
            let day = world.page("/usage")["day"].clone();
            let date = day["date"].as_str().expect("a date");
            assert_eq!(day["used"], json!(model.get(date).copied().unwrap_or(0)), "seed {seed}, {date}");
        }
        assert_eq!(model.len(), 4);
    }
}

/// A client in each phase that a session has.
struct Everybody {
    idle: ConnId,
    in_head: ConnId,
    in_body: ConnId,
    queued: ConnId,
    without_head: ConnId,
    in_stream: ConnId,
    connecting: ConnId,
}

impl Everybody {
    fn come(world: &mut World) -> Self {
        let key = |name: &str| format!("Authorization: Bearer {name}\r\n");
        let in_stream = world.client_with(&chat("in stream", &key("a"), BODY));
        let begun = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\ndata:\r\n";
        let upstream = world.upstream_of("in stream").expect("it was sent");
        world.deliver(upstream, begun.as_bytes());
        let without_head = world.client_with(&chat("without head", &key("b"), BODY));
        let queued = world.client_with(&chat("queued", &key("b"), BODY));
        let in_body =
            world.client_with(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{");
        let in_head = world.client_with(b"POST /v1/mess");
        let idle = world.client();
        world.connects = false;
        let connecting = world.client_with(&chat("connecting", &key("c"), BODY));
        Self { idle, in_head, in_body, queued, without_head, in_stream, connecting }
    }
}

#[test]
fn after_a_sleep_that_the_monotonic_clock_counts_nobody_is_stuck() {
    for span in [HOUR, HOUR * 30, HOUR * 24 * 30] {
        let mut world = one_at_a_time(&[UTC]);
        world.client_with(&chat("before", "", BODY));
        world.answer("before", 1, 100);
        world.advance_to(at(5.0));
        let all = Everybody::come(&mut world);
        world.sleep(span);
        assert!(
            world.proxy.poll_timeout().is_none_or(|(next, _)| next > world.now()),
            "all is done that was due"
        );
        let statuses = [all.in_head, all.in_body, all.queued, all.without_head, all.connecting];
        let statuses = statuses.map(|client| world.status_of(client));
        assert_eq!(statuses, [Some(408), Some(408), Some(429), Some(504), Some(504)], "{span:?}");
        assert!(world.is_closed(all.idle));
        assert!(
            world.is_closed(all.in_stream) && !world.text_of(all.in_stream).contains("\r\n0\r\n"),
            "it is cut"
        );
        world.assert_settled();
        let is_empty = |balances: &[Balance; 3]| balances.iter().all(|balance| balance.used == 0);
        assert!(is_empty(&world.balances()[0].1), "what was used before has left the window");
        // And the next one finds everything as on the first day.
        world.connects = true;
        world.client_with(&chat("after", "", BODY));
        world.answer("after", 1, 1);
        assert_eq!(used(&mut world), 2 + if span == HOUR { 101 } else { 0 });
        world.advance(SECOND * 62);
        // What was under way counts from when it ended.
        assert!(world.balances().iter().all(|(_, balances)| is_empty(balances)));
        world.advance(HOUR);
        assert_eq!(world.proxy.poll_timeout(), None, "nothing is left to wait for");
    }
}

#[test]
fn after_a_short_sleep_those_go_on_whose_time_is_not_up() {
    let mut world = one_at_a_time(&[]);
    let first = world.client_with(&chat("first", "", BODY));
    world.answer("first", 1, 100);
    let streams = world.client_with(&chat("streams", "Authorization: Bearer k\r\n", BODY));
    let queued = world.client_with(&chat("queued", "", BODY));
    world.sleep(SECOND * 100);
    assert_eq!(world.names(), ["first", "streams", "queued"], "the window is empty");
    world.answer("streams", 1, 1);
    world.answer("queued", 1, 1);
    for client in [first, streams, queued] {
        assert_eq!(world.status_of(client), Some(200));
    }
    world.assert_settled();
}

/// On Linux and macOS the monotonic clock stands still while the machine sleeps: only the wall clock jumps.
#[test]
fn a_wall_clock_that_jumps_alone_moves_no_timer_and_no_window() {
    let run = |jump: Option<i64>| {
        let mut world = one_at_a_time(&[UTC]);
        world.client_with(&chat("first", "", BODY));
        world.answer("first", 1, 100);
        world.advance_to(at(5.0));
        let second = world.client_with(&chat("second", "", BODY));
        let all = Everybody::come(&mut world);
        if let Some(millis) = jump {
            world.set_wall(Wall::from_unix_millis(millis));
        }
        world.input(all.idle, Input::Received(b"\r\n"));
        world.advance_to(at(60.2));
        assert!(world.upstream_of("second").is_none(), "the first one's tokens are in the window");
        world.connects = true;
        world.advance_to(at(60.25));
        world.answer("second", 1, 1);
        world.page("/usage");
        world.page("/health");
        for _ in 0..40 {
            world.advance(SECOND * 60);
        }
        world.assert_settled();
        assert_eq!(world.proxy.poll_timeout(), None, "nothing is left to wait for");
        assert_eq!(world.status_of(second), Some(200));
        let told = [all.in_head, all.in_body, all.queued, all.without_head, all.in_stream, all.connecting];
        (told.map(|client| world.text_of(client)), world.is_closed(all.idle), world.names())
    };
    let still = run(None);
    let day = utc(5, 21, 2, 0);
    for hours in [-100, -3, 3, 100] {
        assert_eq!(run(Some(hours_later(day, hours).as_unix_millis())), still, "{hours} h");
    }
    for millis in [i64::MIN, 0, i64::MAX] {
        assert_eq!(run(Some(millis)), still, "{millis} ms since 1970");
    }
}

#[test]
fn no_clock_is_too_wrong_for_a_refusal_a_page_or_a_line() {
    for zone in ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "Australia/Melbourne"] {
        let settings = [("TIMEZONE", zone), ("DAILY_TOKEN_LIMIT", "10"), ("RPS", "1000")];
        let mut world = World::new(&settings, utc(5, 21, 2, 0));
        for millis in [i64::MAX, i64::MIN, 0, -1_000_000_000_000, 1_800_000_000_000] {
            world.set_wall(Wall::from_unix_millis(millis));
            spend(&mut world, 10);
            let refused = world.client_with(&chat("refused", "", BODY));
            assert_eq!(world.status_of(refused), Some(429), "{millis} in {zone}");
            world.page("/health");
            world.advance(SECOND * 15);
            assert_eq!(world.saved_tokens(), 10);
            world = World::restarted(&settings, world.wall(), world.saves.last().map(Vec::as_slice));
            assert_eq!(used(&mut world), 10, "{millis} in {zone}");
        }
    }
}
