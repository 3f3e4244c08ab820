//! What a request will probably cost, from its size and from what its lane has cost so far.

use super::Tokens;

/// What is known of a request before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Prompt tokens, guessed from the size of the text; see [`guess_tokens`].
    pub prompt_guess: u64,
    /// The most tokens that the client lets the model generate.
    pub output_cap: Option<u64>,
}

/// What an image or a file is taken to cost, in tokens. Vision models charge 700 to 1,600 tokens for
/// a screenshot; the base64 of one would be counted as hundreds of thousands.
pub const ATTACHMENT_TOKENS: u64 = 1_600;

/// Guesses the tokens of a text: `narrow` characters by the ratio of the setting, each `wide` one
/// (CJK and the like) a token of its own, and a fixed number for each attachment.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a body holds at most 2^30 characters and the ratio is bounded by its setting"
)]
pub fn guess_tokens(narrow: u64, wide: u64, attachments: u64, chars_per_token: f64) -> u64 {
    (narrow as f64 / chars_per_token).ceil() as u64 + wide + attachments * ATTACHMENT_TOKENS
}

/// What the requests of a lane cost, learned from what was reported.
///
/// Estimates, from the last dozen or so reports: how far the guess of the prompt is off, which share
/// of a prompt no cache serves, and how much is generated. Until [`SAMPLES_MIN`] reports are in, the
/// guess stands, nothing is expected from a cache, and the configured reserve is generated. Each
/// estimate lies about two mean deviations above the mean, so that few requests cost more.
#[derive(Debug, Clone, Default)]
pub struct Estimator {
    prompt_per_guess: Average,
    uncached_share: Average,
    generated: Average,
}

/// Reports that are wanted before they are believed.
const SAMPLES_MIN: u32 = 4;

/// How far off the guess of a prompt may be believed to be: languages and tokenizers differ by less.
const PROMPT_PER_GUESS: std::ops::RangeInclusive<f64> = 0.25..=4.0;

impl Estimator {
    /// What a request will probably cost.
    pub fn demand(&self, asked: Asked, output_reserve_tokens: u64) -> Tokens {
        let ratio = self.prompt_per_guess.high().unwrap_or(1.0);
        let prompt =
            scale(asked.prompt_guess, ratio.clamp(*PROMPT_PER_GUESS.start(), *PROMPT_PER_GUESS.end()));
        let uncached_share = self.uncached_share.high().unwrap_or(1.0).clamp(0.0, 1.0);
        let generated = self.generated.high().map_or(output_reserve_tokens, |tokens| scale(1, tokens));
        Tokens {
            prompt,
            uncached_prompt: scale(prompt, uncached_share),
            generated: generated.min(asked.output_cap.unwrap_or(u64::MAX)),
        }
    }

    /// Learns from one report.
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
    pub fn observe(&mut self, asked: Asked, reported: Tokens) {
        if reported.prompt > 0 {
            self.prompt_per_guess.add(reported.prompt as f64 / asked.prompt_guess.max(1) as f64);
            self.uncached_share.add(reported.uncached_prompt as f64 / reported.prompt as f64);
        }
        self.generated.add(reported.generated as f64);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the factor is not negative, and a cast of a float saturates"
)]
fn scale(tokens: u64, factor: f64) -> u64 {
    (tokens as f64 * factor).ceil() as u64
}

/// A running mean and mean deviation, weighted towards the latest samples as in RFC 6298.
#[derive(Debug, Clone, Copy, Default)]
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

    /// A value that few samples exceed, once there are enough of them.
    fn high(&self) -> Option<f64> {
        (self.samples >= SAMPLES_MIN).then_some(self.mean + 2.0 * self.deviation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_guessed_by_kind() {
        assert_eq!(guess_tokens(35, 0, 0, 3.5), 10);
        assert_eq!(guess_tokens(36, 0, 0, 3.5), 11);
        assert_eq!(guess_tokens(0, 7, 2, 3.5), 7 + 2 * ATTACHMENT_TOKENS);
    }

    #[test]
    fn before_reports_the_settings_stand() {
        let asked = Asked { prompt_guess: 1_000, output_cap: Some(50_000) };
        let demand = Estimator::default().demand(asked, 2_048);
        assert_eq!(demand, Tokens { prompt: 1_000, uncached_prompt: 1_000, generated: 2_048 });
        let small = Asked { output_cap: Some(5), ..asked };
        assert_eq!(Estimator::default().demand(small, 2_048).generated, 5);
    }

    #[test]
    fn steady_reports_are_believed() {
        let mut estimator = Estimator::default();
        let asked = Asked { prompt_guess: 1_000, output_cap: None };
        for _ in 0..SAMPLES_MIN {
            assert_eq!(estimator.demand(asked, 2_048).generated, 2_048);
            estimator.observe(asked, Tokens { prompt: 800, uncached_prompt: 40, generated: 300 });
        }
        assert_eq!(
            estimator.demand(asked, 2_048),
            Tokens { prompt: 800, uncached_prompt: 40, generated: 300 }
        );
    }

    #[test]
    fn scattered_reports_are_met_with_caution_and_no_guess_is_believed_to_be_far_off() {
        let mut estimator = Estimator::default();
        let asked = Asked { prompt_guess: 10, output_cap: None };
        for round in 0..20 {
            let generated = if round % 2 == 0 { 100 } else { 1_900 };
            estimator.observe(asked, Tokens { prompt: 1_000, uncached_prompt: 1_000, generated });
        }
        let demand = estimator.demand(asked, 2_048);
        assert!((2_000..4_000).contains(&demand.generated), "{demand:?}");
        assert_eq!(demand.prompt, 40);
    }
}
