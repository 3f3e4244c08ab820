//! How much a model generates for a request, and when that is charged.

use serde::{Deserialize, Serialize};

use super::{
    knowledge::to_decimals,
    outlook::{HORIZONS, Outlook},
};

/// Each bucket of the histogram is half an octave wide, so they reach to 2^24 tokens.
const BUCKETS: usize = 48;
const BUCKETS_PER_OCTAVE: f64 = 2.0;

/// What is left of a sample's weight after each further one: the last hundred or so make the picture.
const FADING: f64 = 0.99;

/// No bucket comes to weigh more: the sum of all fadings.
const KEPT_WEIGHT_MAX: f64 = 100.0;

/// No answer is believed to have been longer.
const KEPT_TOKENS_MAX: f64 = 1e9;

/// The weight of samples that is wanted before they are believed.
const WEIGHT_MIN: f64 = 3.5;

/// The weight of an answer half as long again as what has gone by: longer ones than any so far do come.
const LONGER_WEIGHT: f64 = 0.25;
const LONGER_FACTOR: f64 = 1.5;

/// What was kept counts for no more than so many answers, so that other work soon shows.
const RESTORED_WEIGHT_MAX: f64 = 20.0;

/// Less of a bucket is not worth keeping.
const KEPT_WEIGHT_MIN: f64 = 0.01;

/// What was learned, in plain numbers, to be kept over a restart: for each bucket that is not empty the mean of its
/// samples in tokens, and their weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learned(Vec<(f64, f64)>);

impl Learned {
    /// Whether it can have been learned.
    pub(super) fn is_sound(&self) -> bool {
        let is_bucket = |&(mean, weight): &(f64, f64)| {
            (0.0..=KEPT_TOKENS_MAX).contains(&mean) && (0.0..=KEPT_WEIGHT_MAX).contains(&weight)
        };
        self.0.len() <= BUCKETS && self.0.iter().all(is_bucket)
    }
}

/// How much is generated, as the answers of a lane reported it.
///
/// Estimates, for a request that has generated some tokens already, what it will have been charged by when. From: a
/// histogram of the last hundred or so reports, of which only those count that went beyond what the request has
/// generated, and the speed at which answers come. How wrong: answers of agents are heavy-tailed, with a deviation of
/// about twice their mean, so one estimate says little; the sum over a dozen requests is within a third or so, and gets
/// better as streams go on.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputDistribution {
    buckets: [Bucket; BUCKETS],
    weight: f64,
}

/// The samples of a bucket: their weight, and their tokens multiplied with it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bucket {
    weight: f64,
    tokens: f64,
}

/// How fast answers come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// What it takes until the first token, in seconds.
    pub to_first_token: f64,
    /// Tokens per second from then on.
    pub tokens_per_second: f64,
}

impl Speed {
    /// What is not known takes no time: to be charged at once is the worst case.
    pub const AT_ONCE: Self = Self { to_first_token: 0.0, tokens_per_second: f64::INFINITY };
}

impl Default for OutputDistribution {
    fn default() -> Self {
        Self { buckets: [Bucket::default(); BUCKETS], weight: 0.0 }
    }
}

impl OutputDistribution {
    /// Learns from one report.
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
    pub fn observe(&mut self, generated: u64) {
        for bucket in &mut self.buckets {
            bucket.weight *= FADING;
            bucket.tokens *= FADING;
        }
        self.weight = self.weight * FADING + 1.0;
        let bucket = &mut self.buckets[bucket_of(generated as f64)];
        bucket.weight += 1.0;
        bucket.tokens += generated as f64;
    }

    /// The mean of the last hundred or so reports, in tokens. Nothing before enough was reported.
    pub fn mean(&self) -> Option<f64> {
        let tokens: f64 = self.buckets.iter().map(|bucket| bucket.tokens).sum();
        (self.weight >= WEIGHT_MIN).then(|| tokens / self.weight)
    }

    /// What was learned, to be kept; nothing before there was a report.
    pub fn learned(&self) -> Option<Learned> {
        let worth = self.buckets.iter().filter(|bucket| bucket.weight >= KEPT_WEIGHT_MIN);
        let plain =
            |bucket: &Bucket| (to_decimals(bucket.tokens / bucket.weight, 1), to_decimals(bucket.weight, 2));
        let learned: Vec<_> = worth.map(plain).collect();
        (!learned.is_empty()).then_some(Learned(learned))
    }

    /// Goes on from what was kept, if it can have been learned.
    pub fn restore(&mut self, learned: &Learned) {
        if !learned.is_sound() {
            return;
        }
        let Learned(kept) = learned;
        let all: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let scale = (RESTORED_WEIGHT_MAX / all.max(RESTORED_WEIGHT_MAX)).min(1.0);
        *self = Self { weight: all * scale, ..Self::default() };
        for (mean, weight) in kept {
            let bucket = &mut self.buckets[bucket_of(*mean)];
            bucket.weight += weight * scale;
            bucket.tokens += mean * weight * scale;
        }
    }

    /// What a request will be charged by when that has generated `seen` tokens so far and may generate `cap`. Nothing
    /// before enough was reported.
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
    pub fn expect(&self, seen: u64, cap: Option<u64>, speed: Speed) -> Option<Outlook> {
        if self.weight < WEIGHT_MIN {
            return None;
        }
        let (seen, cap) = (seen as f64, cap.map_or(f64::MAX, |cap| cap as f64));
        // A request in the middle of a bucket may end within it.
        let beyond = self.buckets[bucket_of(seen)..].iter().filter(|bucket| bucket.weight > 0.0);
        let beyond = beyond.map(|bucket| (bucket.weight, (bucket.tokens / bucket.weight).max(seen)));
        let wait = if seen > 0.0 { 0.0 } else { speed.to_first_token };
        let (mut weight, mut by, mut total) = (0.0, [0.0; HORIZONS.len()], 0.0);
        let longer = (seen > 0.0).then_some((LONGER_WEIGHT, seen * LONGER_FACTOR));
        for (its_weight, tokens) in beyond.chain(longer) {
            let tokens = tokens.min(cap);
            let ends_in = wait + (tokens - seen).max(0.0) / speed.tokens_per_second.max(1.0);
            weight += its_weight;
            total += its_weight * tokens;
            for (sum, horizon) in by.iter_mut().zip(HORIZONS) {
                if ends_in <= horizon.as_secs_f64() {
                    *sum += its_weight * tokens;
                }
            }
        }
        // A mean of equal numbers may be a little more than each.
        let mean = |sum: f64| whole((sum / weight).min(cap));
        Some(Outlook { by: by.map(mean), total: mean(total) })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the logarithm is not negative, and small"
)]
fn bucket_of(tokens: f64) -> usize {
    ((tokens.max(1.0).log2() * BUCKETS_PER_OCTAVE) as usize).min(BUCKETS - 1)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean of token counts")]
fn whole(tokens: f64) -> u64 {
    tokens.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEED: Speed = Speed { to_first_token: 1.0, tokens_per_second: 100.0 };

    fn learned(samples: impl IntoIterator<Item = u64>) -> OutputDistribution {
        let mut distribution = OutputDistribution::default();
        samples.into_iter().for_each(|sample| distribution.observe(sample));
        distribution
    }

    fn expect(distribution: &OutputDistribution, seen: u64, cap: Option<u64>) -> Outlook {
        distribution.expect(seen, cap, SPEED).expect("enough was reported")
    }

    /// Nine short answers and a long one, over and over.
    fn heavy_tailed() -> OutputDistribution {
        learned((0..200).map(|index| if index % 10 == 9 { 8_000 } else { 200 }))
    }

    #[test]
    fn nothing_is_expected_before_enough_was_reported() {
        assert_eq!(learned([10, 20, 30]).expect(0, None, SPEED), None);
        assert!(learned([10, 20, 30, 40]).expect(0, None, SPEED).is_some());
    }

    #[test]
    fn the_mean_is_expected_and_when_it_comes() {
        let outlook = expect(&heavy_tailed(), 0, None);
        assert!((950..=1_030).contains(&outlook.total), "{outlook:?}");
        // The short ones are there after three seconds, the long ones after eighty.
        assert_eq!(outlook.by[..3], [0, 0, 0]);
        assert!((150..=200).contains(&outlook.by[3]) && outlook.by[7] == outlook.by[3], "{outlook:?}");
    }

    #[test]
    fn what_goes_on_longer_than_most_is_one_of_the_long_ones() {
        let distribution = heavy_tailed();
        let outlook = expect(&distribution, 1_000, None);
        assert!((7_500..=8_000).contains(&outlook.total), "{outlook:?}");
        let nearly_there = expect(&distribution, 7_900, None);
        assert!(nearly_there.by[2] > 7_000, "a second is enough: {nearly_there:?}");
    }

    #[test]
    fn what_goes_on_longer_than_any_before_ends_some_time() {
        let outlook = expect(&learned([100; 20]), 10_000, None);
        assert_eq!((outlook.total, outlook.by[6]), (15_000, 0));
    }

    #[test]
    fn nothing_beyond_the_cap_is_expected() {
        let outlook = expect(&heavy_tailed(), 0, Some(500));
        assert!((200..=260).contains(&outlook.total), "{outlook:?}");
        assert_eq!(outlook.by[4], outlook.total, "with the cap all have ended after six seconds");
    }

    #[test]
    fn the_latest_answers_count_most() {
        let distribution = learned(std::iter::repeat_n(100, 300).chain(std::iter::repeat_n(1_000, 300)));
        let outlook = expect(&distribution, 0, None);
        assert!((900..=1_010).contains(&outlook.total), "{outlook:?}");
    }
}
