//! A histogram over fixed buckets: how often something took how long.
//!
//! Observing costs a search among a dozen bounds, and no memory. The buckets are counted apart and added up only when
//! somebody looks.

use std::time::Duration;

/// How long requests wait for room. Most do not at all; `FIREWORKS_PROXY_MAX_WAIT` is 120 s unless it is set, and
/// the whole hold twice that.
pub const WAIT_BOUNDS: &[Duration] = &[
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(90),
    Duration::from_secs(120),
    Duration::from_secs(240),
];

/// How long it takes until an answer begins: tenths of a second when there is room and it streams, minutes when it
/// waits for room or is generated whole first.
pub const FIRST_BYTE_BOUNDS: &[Duration] = &[
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(120),
    Duration::from_secs(240),
];

/// How long requests take from their arrival to their end: a moment for a list of models, up to an hour for a long
/// piece of work.
pub const DURATION_BOUNDS: &[Duration] = &[
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(120),
    Duration::from_secs(300),
    Duration::from_secs(600),
    Duration::from_secs(1_800),
    Duration::from_secs(3_600),
];

/// How often something took how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    /// The largest span of each bucket, rising.
    bounds: &'static [Duration],
    /// How many spans each bucket has, and at the end those beyond the last bound.
    counts: Vec<u64>,
    sum: Duration,
}

impl Histogram {
    /// Nothing, over these bounds, which have to rise.
    pub fn new(bounds: &'static [Duration]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: Duration::ZERO }
    }

    /// Something took so long. It belongs to the first bucket whose bound it does not exceed.
    pub fn observe(&mut self, span: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < span);
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(span);
    }

    /// Each bound, with how many spans did not exceed it. Those beyond the last bound are in [`Self::count`] alone.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.bounds.iter().zip(&self.counts).scan(0, |total, (bound, count)| {
            *total += count;
            Some((*bound, *total))
        })
    }

    /// How many spans there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_falls_below_every_bound_that_it_does_not_exceed() {
        const BOUNDS: &[Duration] = &[Duration::from_secs(1), Duration::from_secs(5)];
        let mut histogram = Histogram::new(BOUNDS);
        for millis in [0, 1_000, 1_001, 5_000, 5_001, 1_000_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let cumulative: Vec<_> = histogram.cumulative().collect();
        assert_eq!(cumulative, [(BOUNDS[0], 2), (BOUNDS[1], 4)]);
        assert_eq!((histogram.count(), histogram.sum()), (6, Duration::from_millis(1_012_002)));
    }

    #[test]
    fn bounds_rise() {
        for bounds in [WAIT_BOUNDS, FIRST_BYTE_BOUNDS, DURATION_BOUNDS] {
            assert!(bounds.is_sorted_by(|one, next| one < next));
        }
    }
}
