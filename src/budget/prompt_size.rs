//! How many tokens a prompt has, by its size.

use serde::{Deserialize, Serialize};

use super::{demand::ATTACHMENT_TOKENS, knowledge::to_decimals};
use crate::inspect::ContentSize;

/// The kinds of content that are told apart: ASCII, other narrow and wide characters, and attachments.
pub const KINDS: usize = 4;

/// How far from the truth a start may be, as a share of it: English at 4.4 characters a token and
/// code at 3.0 lie so far to both sides of 3.5, ideographs at 0.6 to 1.4 tokens of one, images at 700 to
/// 1,600 tokens of what is assumed.
const START_ERROR: [f64; KINDS] = [0.3, 0.5, 0.4, 0.6];

/// A kind is never believed to cost less or more than so many times its start.
const TIMES_START: std::ops::RangeInclusive<f64> = 0.2..=5.0;

/// What no choice of weights explains of a report, as a share of it: prose and code differ within a lane.
const REPORT_ERROR: f64 = 0.1;

/// How much of its start error a weight may drift between two reports.
const DRIFT_PER_REPORT: f64 = 0.05;

/// A report that is further off than so many standard deviations moves the weights as if it were so far.
const SURPRISE_MAX: f64 = 2.5;

/// Estimates the prompt tokens of a request from its [`ContentSize`], for one lane, that is for one
/// tokenizer.
///
/// A weighted sum over the kinds of content; what a token of each kind costs starts from the settings
/// and is learned from reported prompts with a Kalman filter (Kalman 1960), which moves those weights
/// that are known least and had the largest part in the prompt. One odd report moves them little.
///
/// How wrong it may be: before the first report by half, for a lane of one kind of text within a few per
/// cent after five reports. A lane that mixes conversations in prose and in code stays off by the
/// difference from their mean, about a fifth; what was measured of a conversation's beginning
/// ([`Found::measured`](super::cached::Found::measured)) has not that error. [`Self::relative_error`] tells.
#[derive(Debug, Clone)]
pub struct PromptSize {
    /// What one of each kind costs by the settings, in tokens.
    start: [f64; KINDS],
    /// What one of each kind costs, over what it was taken to cost at the start.
    times_start: [f64; KINDS],
    /// The mean distance of reports from their estimates, as a share of the report.
    relative_error: f64,
    /// The covariance of [`Self::times_start`].
    covariance: [[f64; KINDS]; KINDS],
}

/// What was learned, in plain numbers, to be kept over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// What one of each kind costs, in tokens, whatever the settings say.
    pub tokens_each: [f64; KINDS],
    /// The mean distance of reports from their estimates, as a share of the report.
    pub relative_error: f64,
}

impl PromptSize {
    /// By the settings: so many narrow characters to a token, and each wide one a token of its own.
    pub fn new(chars_per_token: f64) -> Self {
        let narrow = 1.0 / chars_per_token;
        #[expect(clippy::cast_precision_loss, reason = "a small constant")]
        let attachment = ATTACHMENT_TOKENS as f64;
        let mut covariance = [[0.0; KINDS]; KINDS];
        for (kind, error) in START_ERROR.iter().enumerate() {
            covariance[kind][kind] = error * error;
        }
        let start = [narrow, narrow, 1.0, attachment];
        Self { start, times_start: [1.0; KINDS], relative_error: START_ERROR[0], covariance }
    }

    /// The prompt tokens of so much content.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the sum is not negative, and a cast of a float saturates"
    )]
    pub fn estimate(&self, size: &ContentSize) -> u64 {
        self.exact(&self.start_tokens(size)).ceil() as u64
    }

    /// Learns from the prompt tokens that were reported for so much content.
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
    pub fn observe(&mut self, size: &ContentSize, reported: u64) {
        let tokens = self.start_tokens(size);
        let estimate = self.exact(&tokens);
        if reported == 0 || estimate < 1.0 {
            return;
        }
        let reported = reported as f64;
        let error = (reported - estimate).abs() / reported;
        self.relative_error += (error.min(1.0) - self.relative_error) / 8.0;
        // In shares of the estimate, so that a long prompt says no more than a short one.
        let shares = tokens.map(|tokens| tokens / estimate);
        self.correct(&shares, reported / estimate - 1.0);
    }

    /// How far the last reports were from their estimates, as a share of the report, on the average
    /// of about eight.
    pub const fn relative_error(&self) -> f64 {
        self.relative_error
    }

    /// What was learned, to be kept.
    pub fn learned(&self) -> Learned {
        let tokens_each = self.tokens_each().map(|tokens| to_decimals(tokens, 6));
        Learned { tokens_each, relative_error: to_decimals(self.relative_error, 4) }
    }

    /// What one of each kind is taken to cost, in tokens: ASCII, other narrow and wide characters, and attachments.
    pub fn tokens_each(&self) -> [f64; KINDS] {
        std::array::from_fn(|kind| self.start[kind] * self.times_start[kind])
    }

    /// Goes on from what was kept, as far as it can have been learned, and no surer of it than at the start.
    pub fn restore(&mut self, kept: Learned) {
        let times_start: [f64; KINDS] = std::array::from_fn(|kind| kept.tokens_each[kind] / self.start[kind]);
        let is_known = times_start.iter().all(|times| TIMES_START.contains(times));
        if is_known && (0.0..=1.0).contains(&kept.relative_error) {
            self.times_start = times_start;
            self.relative_error = kept.relative_error;
        }
    }

    /// The tokens of each kind, by the settings.
    #[expect(clippy::cast_precision_loss, reason = "a body holds at most 2^30 characters")]
    fn start_tokens(&self, size: &ContentSize) -> [f64; KINDS] {
        let counts = [size.text.ascii, size.text.narrow, size.text.wide, size.attachments];
        std::array::from_fn(|kind| counts[kind] as f64 * self.start[kind])
    }

    fn exact(&self, start_tokens: &[f64; KINDS]) -> f64 {
        dot(start_tokens, &self.times_start)
    }

    /// One step of the filter: the weights drift, and a report tells of a sum of them.
    fn correct(&mut self, shares: &[f64; KINDS], surprise: f64) {
        self.drift();
        let Self { times_start, covariance, .. } = self;
        let toward = covariance.map(|row| dot(&row, shares));
        let variance = dot(&toward, shares) + REPORT_ERROR * REPORT_ERROR;
        let bound = SURPRISE_MAX * variance.sqrt();
        let surprise = surprise.clamp(-bound, bound);
        for kind in 0..KINDS {
            let gain = toward[kind] / variance;
            times_start[kind] =
                (times_start[kind] + gain * surprise).clamp(*TIMES_START.start(), *TIMES_START.end());
            for (other, toward_other) in toward.iter().enumerate() {
                covariance[kind][other] -= gain * toward_other;
            }
        }
    }

    /// What was learned grows less certain, up to what it was at the start.
    fn drift(&mut self) {
        for (kind, error) in START_ERROR.iter().enumerate() {
            let variance = &mut self.covariance[kind][kind];
            *variance = (*variance + (DRIFT_PER_REPORT * error).powi(2)).min(error * error);
        }
    }
}

fn dot(one: &[f64; KINDS], other: &[f64; KINDS]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::TextSize;

    /// What kinds of content really cost.
    #[derive(Clone, Copy)]
    struct Truth {
        chars_per_token: f64,
        tokens_per_wide: f64,
        image_tokens: f64,
    }

    const ENGLISH: Truth = Truth { chars_per_token: 4.4, tokens_per_wide: 0.7, image_tokens: 800.0 };
    const CODE: Truth = Truth { chars_per_token: 3.0, tokens_per_wide: 0.7, image_tokens: 1_500.0 };

    /// Random numbers that repeat (Knuth's MMIX generator).
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    fn size(ascii: u64, wide: u64, attachments: u64) -> ContentSize {
        ContentSize { text: TextSize { ascii, wide, ..TextSize::default() }, attachments }
    }

    impl Truth {
        /// What is reported for a prompt of so much, within three per cent.
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        fn report(self, size: &ContentSize, dice: &mut Dice) -> u64 {
            let text =
                size.text.ascii as f64 / self.chars_per_token + size.text.wide as f64 * self.tokens_per_wide;
            let all = text + size.attachments as f64 * self.image_tokens;
            (all * (0.97 + dice.below(60) as f64 / 1_000.0)) as u64
        }
    }

    /// A prompt of a growing conversation: text, and some of the other kinds where they are asked for.
    fn prompt(dice: &mut Dice, has_wide: bool, has_images: bool) -> ContentSize {
        let ascii = 20_000 + dice.below(200_000);
        let wide = if has_wide { dice.below(60_000) } else { 0 };
        size(ascii, wide, if has_images { dice.below(12) } else { 0 })
    }

    #[expect(clippy::cast_precision_loss)]
    fn error(of: &PromptSize, size: &ContentSize, reported: u64) -> f64 {
        (of.estimate(size) as f64 / reported as f64 - 1.0).abs()
    }

    /// The mean error of an estimate over a hundred prompts like those that were learned from.
    fn mean_error(of: &PromptSize, truth: Truth, has: (bool, bool), dice: &mut Dice) -> f64 {
        let mut errors = || {
            let size = prompt(dice, has.0, has.1);
            error(of, &size, truth.report(&size, dice))
        };
        (0..100).map(|_| errors()).sum::<f64>() / 100.0
    }

    #[test]
    fn before_reports_the_settings_stand() {
        let estimate = PromptSize::new(3.5);
        assert_eq!(estimate.estimate(&size(35, 7, 0)), 17);
        assert_eq!(estimate.estimate(&size(36, 0, 2)), 11 + 2 * ATTACHMENT_TOKENS);
        assert_eq!(estimate.estimate(&ContentSize::default()), 0);
    }

    #[test]
    fn what_each_kind_costs_is_learned() {
        for (seed, (truth, has, before_min)) in [
            (ENGLISH, (false, false), 0.2),
            (CODE, (false, false), 0.1),
            (ENGLISH, (true, false), 0.2),
            (ENGLISH, (false, true), 0.2),
            (CODE, (true, true), 0.03),
        ]
        .into_iter()
        .enumerate()
        {
            let mut dice = Dice(seed as u64);
            let mut estimate = PromptSize::new(3.5);
            let before = mean_error(&estimate, truth, has, &mut dice);
            let mut learn = |estimate: &mut PromptSize, reports: usize| {
                for _ in 0..reports {
                    let size = prompt(&mut dice, has.0, has.1);
                    estimate.observe(&size, truth.report(&size, &mut dice));
                }
                mean_error(estimate, truth, has, &mut dice)
            };
            let after_5 = learn(&mut estimate, 5);
            let after_50 = learn(&mut estimate, 45);
            println!("{seed}: {before:.3}, after 5 {after_5:.3}, after 50 {after_50:.3}");
            assert!(before > before_min && after_5 < 0.09 && after_50 < 0.03, "case {seed}");
            assert!(estimate.relative_error() < 0.05, "case {seed}: {}", estimate.relative_error());
        }
    }

    #[test]
    fn one_odd_report_does_little_harm_and_a_new_truth_is_learned() {
        let mut dice = Dice(7);
        let mut estimate = PromptSize::new(3.5);
        let mut learn = |estimate: &mut PromptSize, truth: Truth, reports: u32| {
            for _ in 0..reports {
                let size = prompt(&mut dice, false, false);
                estimate.observe(&size, truth.report(&size, &mut dice));
            }
        };
        learn(&mut estimate, CODE, 20);
        let usual = size(90_000, 0, 0);
        for odd in [1, 3_000_000, u64::MAX] {
            estimate.observe(&usual, odd);
            assert!(error(&estimate, &usual, 30_000) < 0.12, "{}", estimate.estimate(&usual));
            learn(&mut estimate, CODE, 10);
        }
        estimate.observe(&usual, 0);
        learn(&mut estimate, ENGLISH, 25);
        assert!(error(&estimate, &usual, 20_454) < 0.04, "{}", estimate.estimate(&usual));
    }

    #[test]
    fn no_report_leads_out_of_bounds_and_no_kind_is_learned_that_was_not_seen() {
        let mut estimate = PromptSize::new(3.5);
        let start = estimate.estimate(&size(35_000, 0, 0));
        for _ in 0..1_000 {
            estimate.observe(&size(35_000, 0, 0), 1);
        }
        assert_eq!(estimate.estimate(&size(35_000, 0, 0)), start / 5);
        for _ in 0..1_000 {
            estimate.observe(&size(35_000, 0, 0), u64::MAX);
        }
        assert_eq!(estimate.estimate(&size(35_000, 0, 0)), start * 5);
        assert_eq!(estimate.estimate(&size(0, 100, 1)), 100 + ATTACHMENT_TOKENS);
    }

    #[test]
    fn what_was_learned_outlives_a_restart_and_nonsense_does_not_come_in() {
        let mut dice = Dice(3);
        let (mut estimate, mut next) = (PromptSize::new(3.5), PromptSize::new(3.5));
        for _ in 0..20 {
            let size = prompt(&mut dice, true, true);
            estimate.observe(&size, ENGLISH.report(&size, &mut dice));
        }
        next.restore(estimate.learned());
        let size = size(100_000, 5_000, 3);
        assert!(next.estimate(&size).abs_diff(estimate.estimate(&size)) <= 1);
        let kept = next.learned();
        for tokens_each in [[0.25, f64::NAN, 1.0, 800.0], [0.25, -1.0, 1.0, 800.0], [0.25, 0.25, 1.0, 1e9]] {
            next.restore(Learned { tokens_each, ..kept });
        }
        for relative_error in [f64::NAN, f64::INFINITY, -1.0, 1.1] {
            next.restore(Learned { relative_error, tokens_each: [0.3, 0.3, 1.0, 1_600.0] });
        }
        assert_eq!(next.learned(), kept);
        // It is not of the settings of the run that has learned it.
        let mut other = PromptSize::new(3.0);
        other.restore(kept);
        assert!(other.estimate(&size).abs_diff(next.estimate(&size)) <= 1);
    }
}
