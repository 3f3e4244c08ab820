//! What a request will probably cost, from its size and from what its lane has cost so far.

use std::sync::Arc;

use super::{
    Tokens,
    cached::{Found, PromptCache},
    knowledge::Knowledge,
    outlook::Outlook,
    output::{OutputDistribution, Speed},
    prompt_size::PromptSize,
    speed::AnswerSpeed,
};
use crate::{
    config::{Technique, Techniques},
    inspect::{ContentSize, Prefix},
    time::Mono,
};

/// What is known of a request before it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// The size of its prompt.
    pub size: ContentSize,
    /// The beginnings of its prompt, shortest first; see [`crate::inspect::Inspection::prefixes`].
    pub prefixes: Arc<[Prefix]>,
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

/// What a request will probably cost, in each dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand(pub [Outlook; 3]);

impl Demand {
    /// Adds what another request will cost.
    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, outlook)| sum.add(outlook));
    }

    /// What it will have cost in the end.
    pub const fn tokens(&self) -> Tokens {
        let [prompt, uncached_prompt, generated] = &self.0;
        Tokens { prompt: prompt.total, uncached_prompt: uncached_prompt.total, generated: generated.total }
    }
}

/// When things happened to a request that was answered whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Its last byte was sent.
    pub sent: Mono,
    /// The first of its answer's text came, if its text could be seen.
    pub begun: Option<Mono>,
    /// Its answer ended.
    pub ended: Mono,
}

/// What the requests of a lane cost: the estimates that are learned from its answers, put together.
#[derive(Debug, Clone)]
pub struct Estimator {
    /// Prompt tokens by the size of the content.
    pub prompt_size: PromptSize,
    /// What of a prompt the upstream's cache serves.
    pub cache: PromptCache,
    /// What is generated.
    pub output: OutputDistribution,
    /// How fast that comes.
    pub speed: AnswerSpeed,
    output_reserve_tokens: u64,
    techniques: Techniques,
}

/// What has gone by of an answer, as a multiple of which it is reserved at least before enough is known of others.
const SEEN_FACTOR: f64 = 1.25;

/// The uncached part of a prompt is known with the first token; this is how much of the usual time until then it is
/// expected to take.
const FIRST_TOKEN_FACTOR: f64 = 1.5;

impl Estimator {
    /// Knows nothing but the first guesses of the settings.
    pub fn new(chars_per_token: f64, output_reserve_tokens: u64, techniques: Techniques) -> Self {
        Self {
            prompt_size: PromptSize::new(chars_per_token),
            cache: PromptCache::default(),
            output: OutputDistribution::default(),
            speed: AnswerSpeed::default(),
            output_reserve_tokens,
            techniques,
        }
    }

    /// What a request will probably cost.
    pub fn demand(&self, asked: &Asked, now: Mono) -> Demand {
        let found = self.cache.find(&asked.prefixes, now);
        let prompt = self.prompt(asked, &found);
        let cached = if self.techniques.has(Technique::PromptCache) {
            self.cache.expect(&found, prompt, now)
        } else {
            0
        };
        let first_token_after = self.speed.first_token_after().mul_f64(FIRST_TOKEN_FACTOR);
        Demand([
            Outlook::at_once(prompt),
            Outlook::after(first_token_after, prompt - cached),
            self.generated(0, asked.output_cap),
        ])
    }

    /// The prompt tokens of a request: what was reported of its longest known beginning, and the rest by its size.
    fn prompt(&self, asked: &Asked, found: &Found) -> u64 {
        match found.measured.filter(|_| self.techniques.has(Technique::Measured)) {
            Some(measured) => measured.tokens + self.prompt_size.estimate(&asked.size.without(measured.size)),
            None => self.prompt_size.estimate(&asked.size),
        }
    }

    /// What a request will be charged by when that has generated so much and may generate `cap`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a multiple of a token count"
    )]
    pub fn generated(&self, seen: u64, cap: Option<u64>) -> Outlook {
        let speed = self.speed.expect().unwrap_or(Speed::AT_ONCE);
        let learned = self.output.expect(seen, cap, speed);
        learned.filter(|_| self.techniques.has(Technique::Output)).unwrap_or_else(|| {
            let reserve = self.output_reserve_tokens.max((seen as f64 * SEEN_FACTOR) as u64);
            Outlook::at_once(reserve.min(cap.unwrap_or(u64::MAX)))
        })
    }

    /// What was learned of a model, to be kept; of its limits nothing is known here.
    pub(super) fn knowledge(&self, model: &str) -> Knowledge {
        Knowledge {
            model: model.to_owned(),
            learned_at_unix_ms: 0,
            prompt_size: Some(self.prompt_size.learned()),
            output: self.output.learned(),
            speed: self.speed.learned(),
            limits: None,
        }
    }

    /// Goes on from what was kept.
    pub(super) fn restore(&mut self, kept: &Knowledge) {
        if let Some(learned) = kept.prompt_size.filter(|_| self.techniques.has(Technique::PromptSize)) {
            self.prompt_size.restore(learned);
        }
        if let Some(learned) = &kept.output {
            self.output.restore(learned);
        }
        if let Some(learned) = kept.speed {
            self.speed.restore(learned);
        }
    }

    /// Learns from one report.
    pub fn observe(&mut self, asked: &Asked, reported: Tokens, times: Times) {
        let Times { sent, begun, ended } = times;
        if reported.prompt > 0 {
            let cached = reported.prompt.saturating_sub(reported.uncached_prompt);
            self.cache.observe(&asked.prefixes, sent, reported.prompt, cached, ended);
            if self.techniques.has(Technique::PromptSize) {
                self.prompt_size.observe(&asked.size, reported.prompt);
            }
        }
        self.output.observe(reported.generated);
        let span = ended.since(begun.unwrap_or(sent));
        self.speed.observe(begun.map(|begun| begun.since(sent)), reported.generated, span);
    }
}

#[cfg(test)]
impl Asked {
    /// A prompt of so many letters, like no other.
    pub(crate) fn letters(count: u64) -> Self {
        let text = crate::json::TextSize { ascii: count, ..crate::json::TextSize::default() };
        Self { size: ContentSize { text, attachments: 0 }, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::from_micros(seconds * 1_000_000)
    }

    fn estimator() -> Estimator {
        Estimator::new(1.0, 2_048, Techniques::default())
    }

    /// Sent at a time, begun a second later, ended after two more.
    fn times(sent: u64) -> Times {
        Times { sent: at(sent), begun: Some(at(sent + 1)), ended: at(sent + 3) }
    }

    /// A prompt with one beginning, and with itself.
    fn conversation(name: u64, letters: u64) -> Asked {
        let asked = Asked::letters(letters);
        let half = Asked::letters(letters / 2).size;
        let prefixes =
            [Prefix { hash: name, size: half }, Prefix { hash: name << 32 | letters, size: asked.size }];
        Asked { prefixes: prefixes.into(), ..asked }
    }

    #[test]
    fn text_is_guessed_by_kind() {
        assert_eq!(guess_tokens(35, 0, 0, 3.5), 10);
        assert_eq!(guess_tokens(36, 0, 0, 3.5), 11);
        assert_eq!(guess_tokens(0, 7, 2, 3.5), 7 + 2 * ATTACHMENT_TOKENS);
    }

    #[test]
    fn before_reports_the_settings_stand() {
        let asked = Asked { output_cap: Some(50_000), ..Asked::letters(1_000) };
        let demand = estimator().demand(&asked, at(0));
        assert_eq!(demand.tokens(), Tokens { prompt: 1_000, uncached_prompt: 1_000, generated: 2_048 });
        assert_eq!(demand.0[2], Outlook::at_once(2_048), "nobody knows yet how long it takes");
        let small = Asked { output_cap: Some(5), ..asked };
        assert_eq!(estimator().demand(&small, at(0)).tokens().generated, 5);
    }

    #[test]
    fn steady_reports_are_believed() {
        let mut estimator = estimator();
        let asked = Asked::letters(1_000);
        for round in 0..60 {
            estimator.observe(
                &asked,
                Tokens { prompt: 800, uncached_prompt: 800, generated: 300 },
                times(round),
            );
        }
        let demand = estimator.demand(&asked, at(60));
        let Tokens { prompt, uncached_prompt, generated } = demand.tokens();
        assert!((790..=810).contains(&prompt) && uncached_prompt == prompt, "{demand:?}");
        assert!((300..=301).contains(&generated), "{demand:?}");
        // It is charged when it is known: in three seconds.
        assert_eq!(demand.0[2].by, [0, 0, 0, generated, generated, generated, generated, generated]);
        assert_eq!(demand.0[0].by, [prompt; 8]);
        assert_eq!(demand.0[1].by[0], 0, "the uncached part is known with the first token");
    }

    #[test]
    fn what_was_answered_before_is_expected_to_be_cached() {
        let mut estimator = estimator();
        let first = conversation(7, 1_000);
        estimator.observe(&first, Tokens { prompt: 1_000, uncached_prompt: 1_000, generated: 9 }, times(0));
        let again = Tokens { prompt: 1_000, uncached_prompt: 100, generated: 9 };
        estimator.observe(&first, again, times(10));
        let known = estimator.demand(&first, at(20)).tokens();
        assert!(known.uncached_prompt < 200, "{known:?}");
        let stranger = estimator.demand(&conversation(8, 1_000), at(20)).tokens();
        assert_eq!(stranger.uncached_prompt, stranger.prompt);
        let without = Techniques::default().without(Technique::PromptCache);
        let blind = Estimator { techniques: without, ..estimator };
        let demand = blind.demand(&first, at(20)).tokens();
        assert_eq!(demand.uncached_prompt, demand.prompt);
    }

    #[test]
    fn what_has_gone_by_is_the_least_that_is_expected() {
        let estimator = estimator();
        assert_eq!(estimator.generated(1_000, None).total, 2_048);
        assert_eq!(estimator.generated(8_000, None).total, 10_000);
        assert_eq!(estimator.generated(8_000, Some(9_000)).total, 9_000);
    }

    #[test]
    fn answers_that_come_whole_teach_too() {
        let mut estimator = estimator();
        let asked = Asked::letters(100);
        let whole = Times { begun: None, ..times(0) };
        for _ in 0..10 {
            estimator.observe(&asked, Tokens { prompt: 100, uncached_prompt: 100, generated: 300 }, whole);
        }
        let outlook = estimator.generated(0, None);
        // A hundred tokens a second from its start on.
        assert_eq!((outlook.total, outlook.by), (300, [0, 0, 0, 300, 300, 300, 300, 300]));
    }
}
