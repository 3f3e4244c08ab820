//! Lanes in doubt: how long refusals in a row are held against one, and what if it is dropped meanwhile.

use fireworks_proxy::budget::LANES_MAX;

use super::{SECOND, phases::STREAM, utc};
use crate::support::world::{World, chat, streamed};

fn world(settings: &[(&str, &str)]) -> World {
    World::new(&[&[("RPS", "1000")], settings].concat(), utc(5, 21, 2, 0))
}

/// Refuses a request so many times, each time as soon as it has come back.
fn refuse_in_a_row(world: &mut World, name: &str, count: usize) {
    for tries in 1..=count {
        for _ in 0..200 {
            if world.starts_of(name).len() == tries {
                break;
            }
            world.advance(SECOND / 2);
        }
        assert_eq!(world.starts_of(name).len(), tries, "it comes back");
        world.refuse(name, 429, "");
    }
}

#[test]
fn answers_that_go_on_for_long_do_not_keep_a_doubted_lane_shut() {
    let mut world = world(&[]);
    for name in ["one", "two", "three", "four"] {
        world.client_with(&chat(name, "", STREAM));
        world.reply(name, streamed(&["a word"]));
    }
    world.client_with(&chat("refused", "", STREAM));
    refuse_in_a_row(&mut world, "refused", 4);
    let client = world.client_with(&chat("waiting", "", STREAM));
    // The four go on for longer than anybody waits, and the upstream has long been willing again.
    world.advance(SECOND * 63);
    assert_eq!(world.starts_of("refused").len(), 5, "{:#?}", world.request_lines());
    world.reply("refused", streamed(&["at last"]));
    world.advance(SECOND * 2);
    assert_eq!(world.starts_of("waiting").len(), 1, "{}", world.text_of(client));
}

#[test]
fn a_request_that_comes_back_has_a_lane_also_where_its_own_was_dropped_meanwhile() {
    let mut world = World::new(&[("RPS", "1000")], utc(5, 21, 2, 0));
    world.client_with(&chat("a", "", STREAM));
    world.refuse("a", 429, "");
    for number in 0..LANES_MAX + 20 {
        let name = format!("other{number}");
        world.client_with(&chat(&name, "", &format!(r#"{{"model":"{name}"}}"#)));
        world.fail(&name);
    }
    world.advance(SECOND * 2);
    assert_eq!(world.starts_of("a").len(), 2);
    let reserved = |world: &mut World| {
        let balances = world.balances().into_iter().filter(|(model, _)| model == "m");
        balances.map(|(_, balances)| balances[2].reserved).collect::<Vec<_>>()
    };
    assert_eq!(reserved(&mut world), [2_048], "it is counted");
    world.fail("a");
    world.assert_settled();
}
