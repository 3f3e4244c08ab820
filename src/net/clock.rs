//! The clocks.

use std::time::{Instant, SystemTime};

use crate::time::{Mono, Now, Wall};

/// Both clocks, read together: once a turn for the core, and once more to know how long to wait.
#[derive(Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The time of a turn.
    pub(super) fn now(&self) -> Now {
        let mono = Mono::ZERO + self.start.elapsed();
        Now { mono, wall: wall() }
    }
}

/// The wall clock.
pub(super) fn wall() -> Wall {
    let millis = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    };
    Wall::from_unix_millis(millis)
}
