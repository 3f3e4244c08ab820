//! Percentiles of times.

use std::time::Duration;

/// The smallest time that so many percent of all do not exceed, from 1 to 100; zero if there are none.
pub(crate) fn nearest_rank(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}
