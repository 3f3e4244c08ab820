//! How much of a minute's tokens may be used at once.

use std::time::Duration;

use super::knowledge::{LearnedBurst, to_decimals};
use crate::time::Mono;

/// What it holds at most, as the time in which that flows in.
const SPAN_START: Duration = Duration::from_secs(30);

/// What it holds at least.
const SPAN_MIN: Duration = Duration::from_secs(5);

/// What a refusal leaves at most of what had been taken out when it came.
const STEP_DOWN: f64 = 0.9;

/// How long that stands. A refusal may have been for something else, and the bucket is not to stay small for that.
const STANDS_FOR: Duration = Duration::from_secs(1_800);

/// What it grows by from then on with each request that was let in while it was nearly used up.
const STEP_UP: f64 = 1.01;

/// From this share of it on it is.
const NEARLY: f64 = 0.8;

/// What is left of the most that was let in with each further request: half of it after some ten busy minutes.
const FADING: f64 = 0.999;

/// A token bucket beside the window. Fireworks does not say how its minute is kept, and a limiter that is a bucket
/// refuses what a window would let in at once.
///
/// Estimates how much may be used at once, as the time in which it flows in. It is half a minute's worth, which costs
/// little where the limiter is a window, until a refusal comes with more taken out than was let in before; then it lies
/// between the two. How wrong: by one refusal each time that it has grown too far.
///
/// What was taken and has not flowed back is kept as a time, the point at which the bucket will be full again; so a
/// limit that changes needs no conversion.
#[derive(Debug, Clone)]
pub(super) struct Burst {
    full_at: Mono,
    /// All that it holds.
    span: Duration,
    /// The most that had been taken out lately when a request was let in.
    proven: Duration,
    /// Until when what the last refusal told stands: [`STANDS_FOR`] after it.
    stands_until: Mono,
}

impl Default for Burst {
    fn default() -> Self {
        Self { full_at: Mono::ZERO, span: SPAN_START, proven: Duration::ZERO, stands_until: Mono::ZERO }
    }
}

impl Burst {
    /// Takes out tokens.
    pub(super) fn take(&mut self, tokens: u64, per_minute: u64, now: Mono) {
        let full_at = self.full_at.max(now) + span_of(tokens, per_minute);
        self.full_at = full_at.min(now + self.span + OVERDRAWN_MAX);
    }

    /// All that it holds, as the time in which that flows in.
    pub(super) fn span(&self) -> Duration {
        self.span
    }

    /// What refusals had told by a time, to be kept.
    pub(super) fn knowledge(&self, at: Mono) -> Option<LearnedBurst> {
        let age = STANDS_FOR.saturating_sub(self.stands_until.since(at));
        let span_seconds = to_decimals(self.span.as_secs_f64(), 2);
        (self.span < SPAN_START).then_some(LearnedBurst { span_seconds, age_seconds: age.as_secs() })
    }

    /// Takes up what was kept for so long, as far as a refusal can have told it.
    pub(super) fn restore(&mut self, kept: LearnedBurst, kept_for: Duration, now: Mono) {
        if (SPAN_MIN.as_secs_f64()..=SPAN_START.as_secs_f64()).contains(&kept.span_seconds) {
            let age = Duration::from_secs(kept.age_seconds).saturating_add(kept_for);
            self.span = Duration::from_secs_f64(kept.span_seconds);
            self.stands_until = now + STANDS_FOR.saturating_sub(age);
        }
    }

    /// Puts back what was taken too much.
    pub(super) fn give_back(&mut self, tokens: u64, per_minute: u64) {
        self.full_at = self.full_at - span_of(tokens, per_minute);
    }

    /// When the bucket will have room for `tokens`, if nothing else is taken. What is larger than the bucket has room
    /// when it is full.
    pub(super) fn room_at(&self, tokens: u64, per_minute: u64) -> Mono {
        self.full_at + span_of(tokens, per_minute).min(self.span) - self.span
    }

    /// The same if so much is taken out before.
    pub(super) fn room_behind(&self, before: u64, tokens: u64, per_minute: u64, now: Mono) -> Mono {
        let full_at = self.full_at.max(now) + span_of(before, per_minute);
        full_at + span_of(tokens, per_minute).min(self.span) - self.span
    }

    /// What was taken out and has not flowed back, as the time that this takes.
    pub(super) fn taken(&self, now: Mono) -> Duration {
        self.full_at.since(now)
    }

    /// The upstream has let a request in with so much taken out.
    pub(super) fn prove(&mut self, taken: Duration, now: Mono) {
        self.proven = taken.max(self.proven.mul_f64(FADING));
        if taken > self.span.mul_f64(NEARLY) && now > self.stands_until {
            self.span = self.span.mul_f64(STEP_UP).min(SPAN_START);
        }
    }

    /// Whether so much is more than was ever let in lately, and more than nothing to speak of.
    pub(super) fn is_new(&self, taken: Duration) -> bool {
        taken >= SPAN_MIN && taken > self.proven
    }

    /// What is taken out, as a multiple of the most that was let in lately.
    pub(super) fn beyond_proven(&self, taken: Duration) -> f64 {
        taken.as_secs_f64() / self.proven.as_secs_f64().max(1.0)
    }

    /// The upstream has refused a request for so much taken out. What it lets in lies between that and what it has let
    /// in before, of which no more than half is given up. Gives what is taken out at most from now on.
    pub(super) fn refused(&mut self, taken: Duration, now: Mono) -> Duration {
        let held = self.proven.clamp(taken / 2, taken.mul_f64(STEP_DOWN));
        self.limit(held, now);
        self.span
    }

    /// No more than this is taken out from now on.
    pub(super) fn limit(&mut self, span: Duration, now: Mono) {
        self.stands_until = now + STANDS_FOR;
        self.span = self.span.min(span).max(SPAN_MIN);
    }
}

/// The longest that what was used beyond what the bucket holds keeps it shut. By then it has left the minute.
const OVERDRAWN_MAX: Duration = Duration::from_secs(60);

/// The time in which so many tokens flow in.
fn span_of(tokens: u64, per_minute: u64) -> Duration {
    let micros = u128::from(tokens) * 60_000_000 / u128::from(per_minute.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A thousand tokens flow in within a second.
    const PER_MINUTE: u64 = 60_000;

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + SECOND * u32::try_from(seconds).expect("a short time")
    }

    #[test]
    fn what_was_taken_out_flows_back() {
        let mut burst = Burst::default();
        burst.take(25_000, PER_MINUTE, at(100));
        assert_eq!(burst.taken(at(100)), SECOND * 25);
        assert_eq!(burst.room_at(5_000, PER_MINUTE), at(100), "5 s of the 30 are left");
        assert_eq!(burst.room_at(15_000, PER_MINUTE), at(110));
        assert_eq!(burst.room_at(90_000, PER_MINUTE), at(125), "what is larger has room in a full one");
        burst.give_back(20_000, PER_MINUTE);
        assert_eq!(burst.taken(at(100)), SECOND * 5);
    }

    #[test]
    fn what_was_overdrawn_does_not_shut_it_for_long() {
        let mut burst = Burst::default();
        burst.take(10_000_000, PER_MINUTE, at(0));
        assert_eq!(burst.room_at(1, PER_MINUTE), at(60) + span_of(1, PER_MINUTE));
    }

    #[test]
    fn a_refusal_tells_how_much_it_holds() {
        let mut burst = Burst::default();
        burst.prove(SECOND * 12, at(0));
        assert!(burst.is_new(SECOND * 16) && !burst.is_new(SECOND * 11));
        assert_eq!(burst.refused(SECOND * 16, at(1)), SECOND * 12, "that was let in");
        assert_eq!(burst.refused(SECOND * 11, at(2)), SECOND * 11 * 9 / 10, "that was not any more");
        assert_eq!(burst.refused(SECOND, at(3)), SPAN_MIN);
    }

    #[test]
    fn it_grows_again_when_that_is_long_ago() {
        let mut burst = Burst::default();
        burst.limit(SECOND * 10, at(0));
        burst.prove(SECOND * 9, at(60));
        assert_eq!(burst.span, SECOND * 10);
        for _ in 0..1_000 {
            burst.prove(burst.span, at(4_000));
        }
        assert_eq!(burst.span, SPAN_START);
        burst.prove(SECOND * 3, at(4_000));
        assert_eq!(burst.span, SPAN_START, "what is not used up proves nothing");
    }
}
