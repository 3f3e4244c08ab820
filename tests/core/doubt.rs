//! How long refusals in a row are held against a lane.

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
