//! What others on the same account use.

use std::{collections::VecDeque, time::Duration};

use crate::time::Mono;

/// So many of the latest headers have to agree: gateways know of the traffic of each other late, and one that is cold
/// says nothing of the account.
const SAMPLES: usize = 6;

/// How long a header is believed: limits are per minute, and half of one is a different half by then.
const BELIEVED_FOR: Duration = Duration::from_secs(30);

/// Use up to this share of the limit is none: our own is counted at slightly different times there.
const NOISE: f64 = 0.04;

/// The use of one dimension by others.
///
/// Estimates what the upstream counts that we did not use, from the `remaining` headers of the latest answers and from
/// what our own books said when they came. It is the least of the last few, so it is rather too low: noise of single
/// gateways drops out, and what others have begun to use a moment ago is not seen yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Others {
    /// The latest samples: when, and how much in tokens. Negative where we count more than the upstream.
    samples: VecDeque<(Mono, i64)>,
}

impl Others {
    /// Takes in what a header says is left of a limit, while our own books say `used`.
    pub(super) fn observe(&mut self, limit: u64, remaining: u64, used: u64, now: Mono) {
        let counted = limit.saturating_sub(remaining);
        let others = i64::try_from(counted).unwrap_or(i64::MAX).saturating_sub_unsigned(used);
        self.samples.push_back((now, others));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    /// What they use, in tokens of the last minute.
    pub(super) fn used(&self, limit: u64, now: Mono) -> u64 {
        let recent = || self.samples.iter().filter(|(at, _)| now.since(*at) < BELIEVED_FOR);
        if recent().count() < SAMPLES {
            return 0;
        }
        let least = recent().map(|(_, others)| *others).min().unwrap_or(0);
        let noise = crate::config::share_of(limit, NOISE);
        u64::try_from(least).map_or(0, |least| if least > noise { least.min(limit) } else { 0 })
    }

    /// Until when that is believed, if no header comes.
    pub(super) fn believed_until(&self) -> Option<Mono> {
        self.samples.front().map(|(at, _)| *at + BELIEVED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 36_000;

    fn at(seconds: u64) -> Mono {
        Mono::from_micros(seconds * 1_000_000)
    }

    /// Headers that come a second apart: what is left, while our books say 10,000.
    fn heard(remaining: &[u64]) -> (Others, Mono) {
        let mut others = Others::default();
        for (second, remaining) in (0..).zip(remaining) {
            others.observe(LIMIT, *remaining, 10_000, at(second));
        }
        (others, at(remaining.len() as u64))
    }

    #[test]
    fn what_all_headers_see_beyond_our_own_use_is_others() {
        let (others, now) = heard(&[16_000, 15_000, 14_000, 15_000, 16_000, 12_000]);
        assert_eq!(others.used(LIMIT, now), 10_000);
    }

    #[test]
    fn a_few_headers_are_not_enough_and_one_that_disagrees_is_believed() {
        let (others, now) = heard(&[16_000; 5]);
        assert_eq!(others.used(LIMIT, now), 0);
        // A cold gateway says that nothing is left; it is outvoted by any other.
        let (others, now) = heard(&[0, 0, 0, 26_000, 0, 0]);
        assert_eq!(others.used(LIMIT, now), 0);
    }

    #[test]
    fn noise_is_nobody() {
        let (others, now) = heard(&[25_000, 24_900, 25_100, 25_000, 24_900, 25_000]);
        assert_eq!(others.used(LIMIT, now), 0, "1,000 of 36,000");
        let (others, now) = heard(&[36_000; 6]);
        assert_eq!(others.used(LIMIT, now), 0, "they see less than we used");
    }

    #[test]
    fn what_was_heard_half_a_minute_ago_is_over() {
        let (others, now) = heard(&[0; 6]);
        assert_eq!(others.used(LIMIT, now), 26_000);
        assert_eq!(others.used(LIMIT, at(40)), 0);
    }

    #[test]
    fn what_nobody_says_again_is_believed_until_then() {
        let (others, now) = heard(&[10_000; SAMPLES]);
        let until = others.believed_until().expect("headers came");
        assert!(others.used(LIMIT, now) > 0 && others.used(LIMIT, until - Duration::from_micros(1)) > 0);
        assert_eq!(others.used(LIMIT, until), 0);
        assert_eq!(Others::default().believed_until(), None);
    }
}
