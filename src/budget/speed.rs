//! How fast answers come.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{knowledge::to_decimals, output::Speed};

/// Answers that are wanted before they are believed.
const SAMPLES_MIN: u32 = 3;

/// A shorter span says little of the speed: an answer of a few words is there at once.
const SPAN_MIN: Duration = Duration::from_millis(500);

/// Nothing is kept that is slower or faster than any model: an hour to the first token, a million a second.
const KEPT_SECONDS_MAX: f64 = 3_600.0;
const KEPT_TOKENS_PER_SECOND_MAX: f64 = 1e6;

/// What was learned, in plain numbers, to be kept over a restart. What too few answers have told is absent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// The mean time to the first token, and its mean deviation.
    pub first_token_seconds: Option<(f64, f64)>,
    /// The mean speed from then on, and its mean deviation.
    pub tokens_per_second: Option<(f64, f64)>,
}

/// How long models take until they begin, and how fast they go on.
///
/// Estimates the time to the first token and the tokens per second of one lane, as means over the last dozen answers or
/// so. How wrong: by a third for a single answer, since the time to the first token grows with the prompt and replicas
/// differ.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AnswerSpeed {
    to_first_token: Average,
    tokens_per_second: Average,
}

impl AnswerSpeed {
    /// Learns from one answer: how long it was waited for, and how many tokens then came in which time.
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
    pub fn observe(&mut self, waited: Option<Duration>, generated: u64, span: Duration) {
        if let Some(waited) = waited {
            self.to_first_token.add(waited.as_secs_f64());
        }
        if span >= SPAN_MIN {
            self.tokens_per_second.add(generated as f64 / span.as_secs_f64());
        }
    }

    /// The mean time to the first token, once there were enough answers.
    pub fn first_token_seconds(&self) -> Option<f64> {
        self.to_first_token.mean()
    }

    /// The mean of tokens per second from then on, once there were enough answers.
    pub fn tokens_per_second(&self) -> Option<f64> {
        self.tokens_per_second.mean()
    }

    /// What was learned, to be kept; nothing before there were enough answers.
    pub fn learned(&self) -> Option<Learned> {
        let [first_token_seconds, tokens_per_second] =
            [&self.to_first_token, &self.tokens_per_second].map(Average::learned);
        let learned = Learned { first_token_seconds, tokens_per_second };
        (first_token_seconds.is_some() || tokens_per_second.is_some()).then_some(learned)
    }

    /// Goes on from what was kept, as far as it can have been learned.
    pub fn restore(&mut self, kept: Learned) {
        self.to_first_token.restore(kept.first_token_seconds, KEPT_SECONDS_MAX);
        self.tokens_per_second.restore(kept.tokens_per_second, KEPT_TOKENS_PER_SECOND_MAX);
    }

    /// What is to be expected, once there were enough answers.
    pub fn expect(&self) -> Option<Speed> {
        let tokens_per_second = self.tokens_per_second.mean()?;
        Some(Speed { to_first_token: self.to_first_token.mean().unwrap_or(0.0), tokens_per_second })
    }

    /// How long it takes until the first token, in nearly all cases; nothing before enough is known.
    pub fn first_token_after(&self) -> Duration {
        Duration::from_secs_f64(self.to_first_token.low().unwrap_or(0.0))
    }
}

/// A running mean and mean deviation, weighted towards the latest samples as in RFC 6298.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Average {
    mean: f64,
    deviation: f64,
    samples: u32,
}

impl Average {
    fn add(&mut self, sample: f64) {
        if self.samples == 0 {
            self.mean = sample;
        } else {
            let error = sample - self.mean;
            self.deviation += (error.abs() - self.deviation) / 4.0;
            self.mean += error / 8.0;
        }
        self.samples = self.samples.saturating_add(1);
    }

    fn learned(&self) -> Option<(f64, f64)> {
        self.mean().map(|mean| (to_decimals(mean, 3), to_decimals(self.deviation, 3)))
    }

    fn restore(&mut self, kept: Option<(f64, f64)>, max: f64) {
        let is_sound =
            |(mean, deviation): &(f64, f64)| [mean, deviation].iter().all(|it| (0.0..=max).contains(*it));
        if let Some((mean, deviation)) = kept.filter(is_sound) {
            *self = Self { mean, deviation, samples: SAMPLES_MIN };
        }
    }

    fn mean(&self) -> Option<f64> {
        (self.samples >= SAMPLES_MIN).then_some(self.mean)
    }

    /// A value that few samples fall short of.
    fn low(&self) -> Option<f64> {
        self.mean().map(|mean| (mean - self.deviation).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_few_answers_are_wanted() {
        let mut speed = AnswerSpeed::default();
        for _ in 0..SAMPLES_MIN {
            assert_eq!((speed.expect(), speed.first_token_after()), (None, Duration::ZERO));
            speed.observe(Some(SECOND * 2), 300, SECOND * 3);
        }
        assert_eq!(speed.expect(), Some(Speed { to_first_token: 2.0, tokens_per_second: 100.0 }));
        assert_eq!(speed.first_token_after(), SECOND * 2);
    }

    #[test]
    fn answers_that_are_there_at_once_say_nothing_of_the_speed() {
        let mut speed = AnswerSpeed::default();
        for _ in 0..10 {
            speed.observe(Some(SECOND), 300, SECOND * 3);
            speed.observe(Some(SECOND), 300, SECOND / 100);
            speed.observe(None, 0, Duration::ZERO);
        }
        assert_eq!(speed.expect().map(|speed| speed.tokens_per_second), Some(100.0));
    }

    #[test]
    fn the_first_token_is_rarely_there_before_it_is_expected() {
        let mut speed = AnswerSpeed::default();
        for round in 0..100 {
            speed.observe(Some(SECOND * (1 + round % 3)), 100, SECOND);
        }
        let after = speed.first_token_after();
        assert!(after > SECOND && after < SECOND * 2, "{after:?}");
    }
}
