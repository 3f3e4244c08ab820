//! The live limit of one dimension, learned from response headers.
//!
//! The rules follow what Fireworks was seen to do. Its headers come from several gateway replicas
//! with loosely shared counters, so one low sample may be one cold replica: it changes nothing, and
//! repeated ones do. Its documents (docs.fireworks.ai/serverless/rate-limits, 2026) say tokens per
//! second where the wire says per minute, so the unit is decided by magnitude: the limits published
//! in 2026 do not overlap in the two readings.

use std::time::Duration;

use super::{Dimension, knowledge::LearnedLimit};
use crate::{config::TokenLimit, time::Mono};

/// Consecutive low samples that lower a limit.
const LOW_SAMPLES: u8 = 3;

/// How long a learned limit stands without a header that confirms it: adaptive limits shrink while
/// an account is idle.
const LEARNED_TTL: Duration = Duration::from_secs(600);

/// How long what was used under a higher limit may still be refused: limits are per minute.
const FALLING_FOR: Duration = Duration::from_secs(60);

/// The most tokens per minute that a header is believed to allow, a thousand times the largest limit
/// published; sums and shares of it stay exact.
const LIMIT_TOKENS_MAX: u64 = 100_000_000_000;

/// How the value of a dimension's header is read. Published in 2026, as tokens per minute: prompt
/// 3,600,000 to 64,800,000, uncached 900,000 to 16,200,000, generated 36,000 to 648,000; per second a
/// sixtieth of that.
#[derive(Debug, Clone, Copy)]
struct Published {
    /// What a lower reading is raised to: the starting limits of 2025, the lowest there ever were.
    floor_per_minute: u64,
    /// From here to `per_minute_min` a value is tokens per second.
    per_second_min: u64,
    /// From here on a value is tokens per minute. It lies between the two published ranges.
    per_minute_min: u64,
}

impl Dimension {
    const fn published(self) -> Published {
        let (floor_per_minute, per_second_min, per_minute_min) = match self {
            Self::Prompt => (60_000, 60_000, 2_000_000),
            Self::UncachedPrompt => (15_000, 15_000, 500_000),
            Self::Generated => (6_000, 600, 20_000),
        };
        Published { floor_per_minute, per_second_min, per_minute_min }
    }

    /// The dimension whose limit a response field carries, if it is one of `x-ratelimit-limit-tokens-*`.
    pub fn of_limit_field(name: &str) -> Option<Self> {
        Self::behind("x-ratelimit-limit-tokens-", name)
    }

    /// The dimension of which a response field says what is left, if it is one of `x-ratelimit-remaining-tokens-*`.
    pub fn of_remaining_field(name: &str) -> Option<Self> {
        Self::behind("x-ratelimit-remaining-tokens-", name)
    }

    fn behind(prefix: &str, name: &str) -> Option<Self> {
        let (start, rest) = name.split_at_checked(prefix.len())?;
        if !start.eq_ignore_ascii_case(prefix) {
            return None;
        }
        match rest.to_ascii_lowercase().as_str() {
            "prompt" => Some(Self::Prompt),
            "cache-adjusted-prompt" | "uncached-prompt" => Some(Self::UncachedPrompt),
            "generated" => Some(Self::Generated),
            _ => None,
        }
    }

    /// A limit in tokens per minute, from the value of a header. Zero says nothing.
    pub fn per_minute(self, value: u64) -> Option<u64> {
        let published = self.published();
        let is_per_second = (published.per_second_min..published.per_minute_min).contains(&value);
        let per_minute = if is_per_second { value * 60 } else { value };
        (value > 0).then_some(per_minute.clamp(published.floor_per_minute, LIMIT_TOKENS_MAX))
    }
}

/// The limit of one dimension of one lane, in tokens per minute, before the safety ratio.
#[derive(Debug, Clone, Copy)]
pub(super) struct LiveLimit {
    configured: TokenLimit,
    learned: Option<u64>,
    /// Until when that stands: [`LEARNED_TTL`] after a header last spoke.
    stands_until: Mono,
    /// When the request was sent whose answer had that header.
    sent_at: Mono,
    low_samples: u8,
    /// The highest of the low samples in a row.
    low_sample_max: u64,
    /// When a header last said less than was believed.
    low_at: Option<Mono>,
}

impl LiveLimit {
    /// The limit as configured, with nothing learned.
    pub(super) const fn new(configured: TokenLimit) -> Self {
        Self {
            configured,
            learned: None,
            stands_until: Mono::ZERO,
            sent_at: Mono::ZERO,
            low_samples: 0,
            low_sample_max: 0,
            low_at: None,
        }
    }

    /// Takes one sample, in tokens per minute, from the answer to a request that was sent at `sent_at`. Answers overtake
    /// each other: what a request that was sent earlier met is no news.
    pub(super) fn learn(&mut self, sample: u64, sent_at: Mono, now: Mono) {
        if sent_at < self.sent_at {
            return;
        }
        self.sent_at = sent_at;
        if now >= self.stands_until {
            // What was forgotten must not come back because somebody speaks again.
            *self = Self { sent_at, ..Self::new(self.configured) };
        }
        let current = self.learned.unwrap_or(self.configured.tokens_per_minute);
        self.stands_until = now + LEARNED_TTL;
        if sample >= current {
            self.learned = Some(sample);
            self.low_samples = 0;
            self.low_sample_max = 0;
            return;
        }
        // A header that speaks keeps a learned limit from expiring, even while it is doubted.
        self.low_at = Some(now);
        self.low_samples += 1;
        self.low_sample_max = self.low_sample_max.max(sample);
        if self.low_samples == LOW_SAMPLES {
            self.learned = Some(self.low_sample_max);
            self.low_samples = 0;
            self.low_sample_max = 0;
        }
    }

    /// Whether headers said less within the last minute than was believed: what is refused then is refused for that.
    pub(super) fn is_falling(&self, now: Mono) -> bool {
        self.low_at.is_some_and(|at| now.since(at) < FALLING_FOR)
    }

    /// What headers have taught, if it is recent.
    pub(super) fn learned(&self, now: Mono) -> Option<u64> {
        self.learned.filter(|_| now < self.stands_until)
    }

    /// What headers had taught at a time, to be kept.
    pub(super) fn knowledge(&self, at: Mono) -> Option<LearnedLimit> {
        let age = LEARNED_TTL.saturating_sub(self.stands_until.since(at));
        self.learned(at)
            .map(|tokens_per_minute| LearnedLimit { tokens_per_minute, age_seconds: age.as_secs() })
    }

    /// Takes up a limit that was kept for so long, for as long as it would have stood anyway.
    pub(super) fn restore(&mut self, kept: LearnedLimit, kept_for: Duration, now: Mono) {
        let age = Duration::from_secs(kept.age_seconds).saturating_add(kept_for);
        if (1..=LIMIT_TOKENS_MAX).contains(&kept.tokens_per_minute) && age < LEARNED_TTL {
            self.learned = Some(kept.tokens_per_minute);
            self.stands_until = now + LEARNED_TTL.saturating_sub(age);
        }
    }

    /// The limit that holds: what was learned, where the operator set no lower ceiling.
    pub(super) fn tokens_per_minute(&self, now: Mono) -> u64 {
        let configured = self.configured;
        match self.learned(now) {
            Some(learned) if configured.is_ceiling => learned.min(configured.tokens_per_minute),
            Some(learned) => learned,
            None => configured.tokens_per_minute,
        }
    }

    /// The limit of the settings.
    pub(super) const fn configured(&self) -> TokenLimit {
        self.configured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: TokenLimit = TokenLimit { tokens_per_minute: 36_000, is_ceiling: false };

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn the_unit_is_decided_by_magnitude() {
        let cases = [
            (Dimension::Prompt, 60_000, 3_600_000),
            (Dimension::Prompt, 1_080_000, 64_800_000),
            (Dimension::Prompt, 3_600_000, 3_600_000),
            (Dimension::Prompt, 11_250_000, 11_250_000),
            (Dimension::Prompt, 6_000, 60_000),
            (Dimension::UncachedPrompt, 15_000, 900_000),
            (Dimension::UncachedPrompt, 5_400_000, 5_400_000),
            (Dimension::Generated, 600, 36_000),
            (Dimension::Generated, 10_800, 648_000),
            (Dimension::Generated, 36_000, 36_000),
            (Dimension::Generated, 100, 6_000),
        ];
        for (dimension, value, per_minute) in cases {
            assert_eq!(dimension.per_minute(value), Some(per_minute), "{dimension:?} {value}");
        }
        assert_eq!(Dimension::Generated.per_minute(0), None);
        assert_eq!(Dimension::Prompt.per_minute(u64::MAX), Some(LIMIT_TOKENS_MAX));
    }

    #[test]
    fn fields_are_known_in_both_spellings() {
        let of = Dimension::of_limit_field;
        assert_eq!(of("x-ratelimit-limit-tokens-prompt"), Some(Dimension::Prompt));
        assert_eq!(of("X-RateLimit-Limit-Tokens-Cache-Adjusted-Prompt"), Some(Dimension::UncachedPrompt));
        assert_eq!(of("x-ratelimit-limit-tokens-uncached-prompt"), Some(Dimension::UncachedPrompt));
        assert_eq!(of("X-Ratelimit-Limit-Tokens-Generated"), Some(Dimension::Generated));
        for other in [
            "x-ratelimit-remaining-tokens-prompt",
            "x-ratelimit-limit-requests",
            "x",
            "é".repeat(30).as_str(),
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_higher_sample_is_taken_at_once_and_one_low_one_is_not() {
        let mut limit = LiveLimit::new(DEFAULT);
        limit.learn(216_000, at(0), at(0));
        assert_eq!(limit.tokens_per_minute(at(1)), 216_000);
        for second in 1..30 {
            limit.learn(36_000, at(second * 2), at(second * 2));
            limit.learn(216_000, at(second * 2 + 1), at(second * 2 + 1));
            assert_eq!(limit.tokens_per_minute(at(60)), 216_000, "a cold replica now and then");
        }
    }

    #[test]
    fn repeated_low_samples_lower_it_to_the_highest_of_them() {
        let mut limit = LiveLimit::new(DEFAULT);
        limit.learn(216_000, at(0), at(0));
        limit.learn(100_000, at(1), at(1));
        limit.learn(36_000, at(2), at(2));
        assert_eq!(limit.tokens_per_minute(at(2)), 216_000);
        limit.learn(36_000, at(3), at(3));
        assert_eq!(limit.tokens_per_minute(at(3)), 100_000);
    }

    #[test]
    fn a_ceiling_can_be_lowered_and_not_raised() {
        let mut limit = LiveLimit::new(TokenLimit { is_ceiling: true, ..DEFAULT });
        limit.learn(216_000, at(0), at(0));
        assert_eq!((limit.learned(at(0)), limit.tokens_per_minute(at(0))), (Some(216_000), 36_000));
        for second in 1..=3 {
            limit.learn(12_000, at(second), at(second));
        }
        assert_eq!(limit.tokens_per_minute(at(3)), 12_000);
    }

    #[test]
    fn what_was_learned_grows_old() {
        let mut limit = LiveLimit::new(DEFAULT);
        limit.learn(216_000, at(0), at(0));
        assert_eq!(limit.tokens_per_minute(at(599)), 216_000);
        assert_eq!(limit.tokens_per_minute(at(600)), 36_000);
        limit.learn(20_000, at(1_200), at(1_200));
        assert_eq!(limit.tokens_per_minute(at(1_200)), 36_000, "what was forgotten does not come back");
        limit.learn(20_000, at(2_400), at(2_400));
        limit.learn(20_000, at(2_401), at(2_401));
        assert_eq!(limit.tokens_per_minute(at(2_401)), 36_000, "low samples before a silence do not count");
    }

    #[test]
    fn what_a_request_met_that_was_sent_earlier_is_no_news() {
        let mut limit = LiveLimit::new(DEFAULT);
        limit.learn(216_000, at(0), at(5));
        // The limit was halved; an answer from before that comes in between, and does not count.
        for (sent, sample) in [(10, 108_000), (9, 216_000), (11, 108_000), (8, 216_000), (12, 108_000)] {
            limit.learn(sample, at(sent), at(20));
        }
        assert_eq!(limit.learned(at(20)), Some(108_000));
    }

    #[test]
    fn it_falls_for_a_minute_after_a_header_said_less() {
        let mut limit = LiveLimit::new(DEFAULT);
        assert!(!limit.is_falling(at(0)));
        limit.learn(216_000, at(1), at(1));
        assert!(!limit.is_falling(at(1)));
        limit.learn(108_000, at(2), at(2));
        assert!(limit.is_falling(at(2)) && limit.is_falling(at(61)) && !limit.is_falling(at(62)));
    }
}
