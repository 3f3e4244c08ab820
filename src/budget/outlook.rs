//! What a request will cost, and when it will be charged.

use std::time::Duration;

/// The points in time, from now on, at which it is asked what will have been charged by then.
///
/// Fireworks charges a prompt when the request arrives, its uncached part and what is generated when they are known. By
/// the time that an answer of half a minute is charged, half of what counts now has left the minute: who reserves its
/// tokens from its start on leaves a sixth of the limit unused.
pub const HORIZONS: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_millis(1_500),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// What is expected to be charged in one dimension, in tokens; of one request, or of all in flight.
///
/// Means, not worst cases: of a dozen requests some cost more and some less, and a start is held back anyway while
/// what was really used has reached the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outlook {
    /// By each of the [`HORIZONS`].
    pub by: [u64; HORIZONS.len()],
    /// In the end.
    pub total: u64,
}

impl Outlook {
    /// What is charged in one go, so long from now.
    pub fn after(delay: Duration, tokens: u64) -> Self {
        Self { by: HORIZONS.map(|horizon| if horizon < delay { 0 } else { tokens }), total: tokens }
    }

    /// What is charged at once.
    pub fn at_once(tokens: u64) -> Self {
        Self::after(Duration::ZERO, tokens)
    }

    /// Adds what another request will cost.
    pub(super) fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.by.iter_mut().zip(other.by).for_each(|(sum, tokens)| *sum += tokens);
    }

    /// Takes back what was added.
    pub(super) fn remove(&mut self, other: &Self) {
        self.total -= other.total;
        self.by.iter_mut().zip(other.by).for_each(|(sum, tokens)| *sum -= tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_later_is_not_charged_before() {
        let outlook = Outlook::after(Duration::from_secs(5), 10);
        assert_eq!((outlook.by, outlook.total), ([0, 0, 0, 0, 10, 10, 10, 10], 10));
        assert_eq!(Outlook::at_once(10).by, [10; 8]);
    }

    #[test]
    fn sums_come_back_to_what_they_were() {
        let mut sum = Outlook::at_once(3);
        let other = Outlook::after(Duration::from_secs(60), 7);
        sum.add(&other);
        assert_eq!((sum.by[0], sum.by[7], sum.total), (3, 10, 10));
        sum.remove(&other);
        assert_eq!(sum, Outlook::at_once(3));
    }
}
