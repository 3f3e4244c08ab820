//! A state file that cannot be written: work goes on, the log is told now and then, and it is saved when it can be.

use super::{BODY, SECOND, at, utc};
use crate::support::world::{World, chat};

const CANNOT: &str = "cannot be written (No space left on device)";
const AGAIN: &str = "is written again";

/// A core with room for everybody.
fn world() -> World {
    World::new(&[("RPS", "1000")], utc(5, 21, 2, 0))
}

/// Counts this many tokens.
#[track_caller]
fn spend(world: &mut World, name: &str, tokens: u64) {
    let client = world.client_with(&chat(name, "", BODY));
    world.answer(name, tokens, 0);
    assert_eq!(world.status_of(client), Some(200), "work goes on");
}

#[test]
fn a_full_disk_is_tried_every_second_told_every_minute_and_written_when_there_is_room() {
    let mut world = world();
    spend(&mut world, "before", 5);
    world.advance_to(at(10.0));
    assert_eq!(world.saved_tokens(), 5);
    world.save_error = Some("No space left on device");
    let before = world.save_attempts;
    spend(&mut world, "first", 10);
    world.advance_to(at(40.0));
    spend(&mut world, "second", 100);
    world.advance_to(at(160.5));
    assert_eq!(world.save_attempts - before, 151, "at 10 s, and then every second");
    assert_eq!(world.times_logged(CANNOT), [at(10.0), at(70.0), at(130.0)]);
    assert!(world.log.iter().all(|line| !line.contains(CANNOT) || line.starts_with("WARN ")));
    assert_eq!((world.saved_tokens(), world.times_logged(AGAIN).len()), (5, 0));
    world.save_error = None;
    world.advance_to(at(161.0));
    assert_eq!((world.saved_tokens(), world.times_logged(AGAIN)), (115, vec![at(161.0)]));
    let attempts = world.save_attempts;
    world.advance_to(at(400.0));
    assert_eq!(world.save_attempts, attempts, "there is nothing more to save");
}

#[test]
fn a_disk_that_comes_and_goes_fills_no_log() {
    let mut world = world();
    let start = world.save_attempts;
    for second in 0..240_u32 {
        world.save_error = second.is_multiple_of(2).then_some("No space left on device");
        spend(&mut world, &format!("r{second}"), 1);
        world.advance(SECOND);
    }
    assert!((world.save_attempts - start) >= 240, "{} attempts", world.save_attempts);
    let (cannot, again) = (world.times_logged(CANNOT).len(), world.times_logged(AGAIN).len());
    assert!((4..=5).contains(&cannot) && again == cannot, "{cannot} warnings, {again} times well again");
    world.save_error = None;
    world.advance(SECOND * 2);
    assert_eq!(world.saved_tokens(), 240);
}

#[test]
fn many_answers_on_a_full_disk_are_one_attempt_a_second() {
    let mut world = world();
    world.save_error = Some("No space left on device");
    let before = world.save_attempts;
    for name in 0..400 {
        spend(&mut world, &name.to_string(), 1);
        world.advance(SECOND / 20);
    }
    let attempts = world.save_attempts - before;
    assert!((19..=21).contains(&attempts), "{attempts} attempts in 20 seconds");
}

#[test]
fn the_end_is_one_more_attempt() {
    let mut world = world();
    world.save_error = Some("No space left on device");
    spend(&mut world, "a", 7);
    world.advance(SECOND * 5);
    world.save_error = None;
    world.shutdown();
    assert_eq!(world.saved_tokens(), 7);
}

#[test]
fn a_count_that_is_lost_at_the_end_is_told_whatever_was_told_before() {
    let mut world = world();
    world.save_error = Some("No space left on device");
    spend(&mut world, "a", 7);
    world.advance(SECOND * 5);
    world.shutdown();
    let last = world.log.last().expect("a line");
    assert!(last.starts_with("ERROR ") && last.contains(CANNOT) && last.ends_with("is lost"), "{last}");
}
