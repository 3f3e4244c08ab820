//! How much of a prompt the upstream's cache will serve.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    inspect::{ContentSize, Prefix},
    time::Mono,
};

/// The most prefixes that are remembered, of about 60 bytes each: those of 120 long conversations, in half a MiB.
pub const KNOWN_PREFIXES_MAX: usize = 8_192;

/// Beyond that, so many of those that were used longest ago are forgotten at once.
const FORGOTTEN_AT_ONCE: usize = KNOWN_PREFIXES_MAX / 4;

/// What was sent so long ago is looked at apart from what was sent later; nothing is expected of what is
/// older than the last of them.
const AGES: [Duration; 4] =
    [Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(900), Duration::from_secs(3_600)];

/// Up to this age, what holds for what was sent later is taken to hold too, until a report tells.
const TRUSTED_AGE: Duration = Duration::from_secs(300);

/// Expects as cached what was answered before, as far as such prompts were served from the cache before.
///
/// Estimates the cached tokens of one request of a lane, from the longest of its [`Prefix`]es that a
/// request which has been answered had too, and from the share of such a prefix that was reported
/// as cached. That share covers what cannot be seen from here: that a cache is of one replica and the next
/// request may meet another, that it forgets, and that it counts whole blocks. It is learned apart for
/// prompts that go on from a whole earlier one, which clients lead to the same replica, and for those
/// that only begin alike; and apart by the time since. Until a report has told of its kind, nothing
/// is expected.
///
/// How wrong it may be: a single request is served nearly whole or hardly at all, so one expectation
/// may be off by all of it, and the sum over many is about right. Tokens of the last answer that came into
/// the cache with it are not expected. [`Self::relative_error`] tells.
#[derive(Debug, Clone, Default)]
pub struct PromptCache {
    known: BTreeMap<u64, Known>,
    /// By [`Kinship`], then by age.
    served: [[RecentMean; AGES.len()]; 2],
    error: RecentMean,
}

/// What is known of a prefix that was in a request which has been answered.
#[derive(Debug, Clone, Copy)]
struct Known {
    first_answered: Mono,
    last_answered: Mono,
    tokens: u64,
    /// Whether the prefix was all of a prompt, so that its tokens were reported and not guessed.
    is_whole: bool,
}

/// How a request is related to the one that sent its longest known prefix.
#[derive(Debug, Clone, Copy)]
enum Kinship {
    /// It goes on from all of it.
    Continues,
    /// It begins like it: another conversation with the same tools, or one that was changed.
    Begins,
}

/// A prefix whose tokens were reported when it was all of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Its prompt tokens.
    pub tokens: u64,
    /// Its size, so that only the rest of the prompt has to be estimated.
    pub size: ContentSize,
}

/// What is known of the beginnings of one prompt.
#[derive(Debug, Clone, Copy, Default)]
pub struct Found {
    /// The longest that has been answered.
    longest: Option<Known>,
    /// The longest whose tokens were reported, to estimate the prompt from: how a text is cut into tokens does not
    /// change, so this may be long ago.
    pub measured: Option<Measured>,
}

impl PromptCache {
    /// What is known of a prompt's beginnings.
    pub fn find(&self, prefixes: &[Prefix], now: Mono) -> Found {
        let mut found = Found::default();
        for prefix in prefixes.iter().rev() {
            let known = self.known.get(&prefix.hash).filter(|known| known.first_answered <= now);
            let Some(known) = known else { continue };
            found.longest.get_or_insert(*known);
            if known.is_whole {
                found.measured = Some(Measured { tokens: known.tokens, size: prefix.size });
                break;
            }
        }
        found
    }

    /// How many tokens of a prompt of so many will probably be served from the cache.
    pub fn expect(&self, found: &Found, prompt_tokens: u64, now: Mono) -> u64 {
        let Some(known) = found.longest else { return 0 };
        share_of(known.tokens.min(prompt_tokens), self.share(known.kinship(), known.age(now)))
    }

    /// Learns from what was reported of a request that was sent at `sent_at` and is answered now. Only what
    /// had been answered before it was sent could serve it.
    pub fn observe(&mut self, prefixes: &[Prefix], sent_at: Mono, prompt: u64, cached: u64, now: Mono) {
        if prompt == 0 {
            return;
        }
        let found = self.find(prefixes, sent_at);
        let expected = self.expect(&found, prompt, sent_at);
        self.error.add(ratio(expected.abs_diff(cached), prompt));
        if let Some(known) = found.longest
            && let Some(age) = age_index(known.age(sent_at))
        {
            let could_be = known.tokens.clamp(1, prompt);
            self.served[known.kinship() as usize][age].add(ratio(cached, could_be));
        }
        self.remember(prefixes, prompt, now);
    }

    /// How far the last expectations were from what was reported as cached, as a share of the prompt, on
    /// the average of about eight; 1 before any report.
    pub fn relative_error(&self) -> f64 {
        self.error.mean().unwrap_or(1.0)
    }

    /// The share that was served of prefixes of such a kind and age. Where no report has told, that of older
    /// ones, which cannot be better off; up to [`TRUSTED_AGE`] else that of younger ones.
    fn share(&self, kinship: Kinship, age: Duration) -> f64 {
        let Some(index) = age_index(age) else { return 0.0 };
        let (younger, others) = self.served[kinship as usize].split_at(index);
        let as_old_or_older = others.iter().find_map(RecentMean::mean);
        let trusted = younger.iter().rev().filter(|_| age < TRUSTED_AGE);
        as_old_or_older.or_else(|| trusted.into_iter().find_map(RecentMean::mean)).unwrap_or(0.0)
    }

    fn remember(&mut self, prefixes: &[Prefix], prompt: u64, now: Mono) {
        let Some((whole, parts)) = prefixes.split_last() else { return };
        for part in parts {
            let guess = share_of(prompt, rough_share(&part.size, &whole.size));
            let new = Known { first_answered: now, last_answered: now, tokens: guess, is_whole: false };
            self.known.entry(part.hash).or_insert(new).last_answered = now;
        }
        let new = Known { first_answered: now, last_answered: now, tokens: prompt, is_whole: true };
        let known = self.known.entry(whole.hash).or_insert(new);
        *known = Known { first_answered: known.first_answered, ..new };
        if self.known.len() > KNOWN_PREFIXES_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let mut by_age: Vec<_> =
            self.known.iter().map(|(hash, known)| (known.last_answered, *hash)).collect();
        by_age.sort_unstable();
        for (_, hash) in by_age.iter().take(FORGOTTEN_AT_ONCE) {
            self.known.remove(hash);
        }
    }
}

impl Known {
    const fn kinship(&self) -> Kinship {
        if self.is_whole { Kinship::Continues } else { Kinship::Begins }
    }

    const fn age(&self, now: Mono) -> Duration {
        now.since(self.last_answered)
    }
}

fn age_index(age: Duration) -> Option<usize> {
    AGES.iter().position(|oldest| age < *oldest)
}

/// The share of a prompt's tokens that are in a part of it, roughly: good enough for what is multiplied
/// with a learned share anyway.
fn rough_share(part: &ContentSize, whole: &ContentSize) -> f64 {
    let weight = |size: &ContentSize| {
        let text = size.text;
        text.ascii + text.narrow + 4 * text.wide + 4_000 * size.attachments
    };
    ratio(weight(part), weight(whole))
}

/// At most 1, also of nothing.
#[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    (part as f64 / whole.max(1) as f64).min(1.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of 0 to 1 of a token count"
)]
fn share_of(tokens: u64, share: f64) -> u64 {
    (tokens as f64 * share) as u64
}

/// The mean of samples, in which those before the last eight or so fade.
#[derive(Debug, Clone, Copy, Default)]
struct RecentMean {
    mean: f64,
    samples: u32,
}

impl RecentMean {
    const SAMPLES_MAX: u32 = 8;

    fn add(&mut self, sample: f64) {
        self.samples = (self.samples + 1).min(Self::SAMPLES_MAX);
        self.mean += (sample - self.mean) / f64::from(self.samples);
    }

    fn mean(&self) -> Option<f64> {
        (self.samples > 0).then_some(self.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{budget::prompt_size::PromptSize, json::TextSize};

    fn at(seconds: u64) -> Mono {
        Mono::from_micros(seconds * 1_000_000)
    }

    /// The prefixes of a conversation of 1,000 tokens for the tools and 100 for each of its messages.
    fn conversation(name: u64, messages: u64) -> Vec<Prefix> {
        let prefix = |number: u64| {
            let text = TextSize { ascii: 4 * tokens(number), ..TextSize::default() };
            let hash = if number == 0 { 0 } else { name << 32 | number };
            Prefix { hash, size: ContentSize { text, attachments: 0 } }
        };
        (0..=messages).map(prefix).collect()
    }

    const fn tokens(messages: u64) -> u64 {
        1_000 + 100 * messages
    }

    impl PromptCache {
        /// A call of the conversation, answered at once with a share of what was sent before as cached.
        fn call(&mut self, name: u64, messages: u64, cached: u64, seconds: u64) {
            let sent_at = at(seconds);
            self.observe(&conversation(name, messages), sent_at, tokens(messages), cached, sent_at);
        }

        fn expected(&self, name: u64, messages: u64, seconds: u64) -> u64 {
            self.expect(&self.find(&conversation(name, messages), at(seconds)), tokens(messages), at(seconds))
        }
    }

    #[test]
    fn nothing_is_expected_before_a_report_told_of_cached_tokens() {
        let mut cache = PromptCache::default();
        assert_eq!(cache.expected(1, 3, 0), 0);
        cache.call(1, 1, 0, 0);
        assert_eq!(cache.expected(1, 3, 5), 0, "known, and no cache seen yet");
        cache.call(1, 3, tokens(1), 5);
        assert_eq!(cache.expected(1, 5, 10), tokens(3));
        assert_eq!(
            cache.expected(2, 5, 10),
            0,
            "another conversation begins alike, which is not known to help"
        );
        cache.call(2, 1, 1_000, 10);
        assert_eq!(cache.expected(3, 1, 11), 1_000);
        assert_eq!(cache.expected(1, 5, 11), tokens(3), "one is no evidence on the other");
    }

    #[test]
    fn an_upstream_without_a_cache_is_believed() {
        let mut cache = PromptCache::default();
        for call in 0..5 {
            cache.call(1, 1 + 2 * call, 0, 10 * call);
            assert_eq!(cache.expected(1, 3 + 2 * call, 10 * call + 5), 0);
        }
        assert!(cache.relative_error() < 0.001);
    }

    #[test]
    fn what_was_not_answered_yet_serves_nobody() {
        let mut cache = PromptCache::default();
        cache.call(1, 1, 0, 0);
        cache.call(1, 3, tokens(1), 1);
        // Two at once of a new conversation: the second was sent before the first was answered.
        cache.observe(&conversation(9, 2), at(10), tokens(2), 0, at(20));
        let expected = cache.expected(9, 2, 21);
        cache.observe(&conversation(9, 2), at(11), tokens(2), 0, at(21));
        assert_eq!(cache.expected(9, 2, 22), expected, "its miss is no evidence");
        assert_eq!(cache.expected(9, 2, 12), 0, "as long as neither was answered");
    }

    #[test]
    fn a_share_of_misses_is_expected_to_go_on() {
        let mut cache = PromptCache::default();
        let mut expected_sum = 0;
        for call in 0..40 {
            let before = tokens((2 * call + 1_u64).saturating_sub(2));
            // Every fourth call meets a replica that has not seen the conversation.
            let cached = if call % 4 == 0 { 0 } else { before };
            expected_sum += cache.expected(1, 2 * call + 1, 5 * call);
            cache.call(1, 2 * call + 1, cached, 5 * call);
        }
        let cached_sum: u64 = (1..40).filter(|call| call % 4 != 0).map(|call| tokens(2 * call - 1)).sum();
        assert!(expected_sum.abs_diff(cached_sum) * 20 < cached_sum, "{expected_sum} of {cached_sum}");
        assert!((0.2..0.5).contains(&cache.relative_error()), "{}", cache.relative_error());
    }

    #[test]
    fn how_long_a_cache_remembers_is_learned() {
        let mut cache = PromptCache::default();
        cache.call(1, 1, 0, 0);
        cache.call(1, 3, tokens(1), 10);
        assert_eq!(cache.expected(1, 5, 10 + 299), tokens(3), "trusted until a report tells");
        assert_eq!(cache.expected(1, 5, 10 + 300), 0, "older, and no evidence");
        cache.call(1, 5, tokens(3), 10 + 800);
        assert_eq!(cache.expected(1, 7, 810 + 899), tokens(5), "it lasts a quarter of an hour");
        assert_eq!(cache.expected(1, 7, 810 + 900), 0);
        cache.call(1, 7, 0, 810 + 200);
        cache.call(1, 9, 0, 1_010 + 200);
        assert_eq!(cache.expected(1, 11, 1_210 + 200), 0, "now it forgets within minutes");
        assert_eq!(cache.expected(1, 11, 1_210 + 5), tokens(9));
    }

    #[test]
    fn a_changed_conversation_is_known_up_to_the_change_and_measured_where_it_was_whole() {
        let mut cache = PromptCache::default();
        cache.call(1, 4, 0, 0);
        let changed: Vec<_> = conversation(1, 3).into_iter().chain(conversation(2, 6).split_off(4)).collect();
        cache.observe(&changed, at(1), tokens(6), tokens(3), at(1));
        assert_eq!(
            cache.expect(&cache.find(&changed[..5], at(2)), 2_000, at(2)),
            tokens(4),
            "not more than it shares"
        );
        assert_eq!(cache.find(&conversation(1, 3), at(2)).measured, None, "guessed");
        let whole = Measured { tokens: tokens(4), size: conversation(1, 4)[4].size };
        assert_eq!(cache.find(&conversation(1, 9), at(10_000)).measured, Some(whole));
    }

    /// A lane of two conversations, of prose and of code, whose characters per token differ by half.
    #[test]
    fn with_its_beginning_measured_a_prompt_is_estimated_far_better() {
        let (mut cache, mut size) = (PromptCache::default(), PromptSize::new(3.5));
        let (mut error_of_size, mut error_with_measured) = (0.0, 0.0);
        for call in 1..=60_u64 {
            let name = 1 + call % 2;
            let prefixes = conversation(name, call);
            let whole = prefixes.last().expect("a prefix").size;
            let reported = 10 * whole.text.ascii / if name == 1 { 44 } else { 30 };
            let guess = cache.find(&prefixes, at(call)).measured.map_or_else(
                || size.estimate(&whole),
                |known| known.tokens + size.estimate(&whole.without(known.size)),
            );
            error_of_size += ratio(size.estimate(&whole).abs_diff(reported), reported) / 60.0;
            error_with_measured += ratio(guess.abs_diff(reported), reported) / 60.0;
            size.observe(&whole, reported);
            cache.observe(&prefixes, at(call), reported, 0, at(call));
        }
        println!("{error_of_size:.3} by size, {error_with_measured:.3} with the beginning measured");
        assert!(error_of_size > 0.1 && error_with_measured < error_of_size / 5.0);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_are_forgotten() {
        let mut cache = PromptCache::default();
        for name in 1..=2_000 {
            cache.call(name, 20, tokens(0), name);
            assert!(cache.known.len() <= KNOWN_PREFIXES_MAX);
        }
        assert!(cache.known.len() > KNOWN_PREFIXES_MAX / 2);
        assert!(cache.find(&conversation(2_000, 20), at(2_001)).measured.is_some());
        assert!(cache.find(&conversation(1_900, 20), at(2_001)).measured.is_some());
        assert!(cache.find(&conversation(1_000, 20), at(2_001)).measured.is_none());
        assert!(cache.known.contains_key(&0), "what all share is used all the time");
    }

    #[test]
    fn mad_reports_keep_the_expectation_within_the_prompt() {
        let mut cache = PromptCache::default();
        for (prompt, cached) in [(0, 5), (1, u64::MAX), (u64::MAX, 1), (u64::MAX, u64::MAX), (10, 10)] {
            cache.observe(&conversation(1, 2), at(1), prompt, cached, at(1));
            assert!(cache.expect(&cache.find(&conversation(1, 2), at(2)), 7, at(2)) <= 7);
        }
        cache.observe(&[], at(1), 10, 10, at(1));
        assert_eq!(cache.expect(&cache.find(&[], at(2)), 10, at(2)), 0);
    }
}
