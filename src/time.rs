//! The crate's own time types. This module reads no clock: `net` reads it once per turn and hands
//! the reading in as [`Now`].
//!
//! Spans are [`std::time::Duration`], which is a plain number and not a clock.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A point on the monotonic clock, in microseconds since the process started.
///
/// Timers, windows and waits are decided on this clock, because it never steps back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Mono(u64);

impl Mono {
    /// The start of the process.
    pub const ZERO: Self = Self(0);

    /// The point `micros` microseconds after the start of the process.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the process started.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The span from `earlier` to this point; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    /// Saturates at the end of time, which is half a million years away.
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;

    /// Saturates at the start of the process.
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// A point on the wall clock, in milliseconds since 1970-01-01T00:00:00Z.
///
/// Only what a person reads is decided on this clock: the day of the ledger and timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Wall(i64);

impl Wall {
    /// The earliest point the calendar types can show: 0001-01-01T00:00:00Z.
    const UNIX_MILLIS_MIN: i64 = -62_135_596_800_000;
    /// The latest: 9998-12-31T23:59:59Z, a year short of the limit so that a time zone's offset fits.
    const UNIX_MILLIS_MAX: i64 = 253_370_764_799_000;

    /// The point `millis` milliseconds after the Unix epoch, held within the years 1 to 9998 so that
    /// no clock, however wrong, can leave the calendar.
    pub fn from_unix_millis(millis: i64) -> Self {
        Self(millis.clamp(Self::UNIX_MILLIS_MIN, Self::UNIX_MILLIS_MAX))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_unix_millis(self) -> i64 {
        self.0
    }

    /// The span from `earlier` to this point; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(if self.0 > earlier.0 { self.0.abs_diff(earlier.0) } else { 0 })
    }
}

impl Add<Duration> for Wall {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self::from_unix_millis(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// One reading of both clocks: the time of a turn of the event loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// The monotonic clock.
    pub mono: Mono,
    /// The wall clock.
    pub wall: Wall,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_to_an_earlier_point_is_zero() {
        let (early, late) = (Mono::from_micros(5), Mono::from_micros(9));
        assert_eq!(late.since(early), Duration::from_micros(4));
        assert_eq!(early.since(late), Duration::ZERO);
    }

    #[test]
    fn a_mad_wall_clock_stays_within_the_calendar() {
        assert_eq!(Wall::from_unix_millis(i64::MAX), Wall(Wall::UNIX_MILLIS_MAX));
        assert_eq!(Wall::from_unix_millis(i64::MIN), Wall(Wall::UNIX_MILLIS_MIN));
    }
}
