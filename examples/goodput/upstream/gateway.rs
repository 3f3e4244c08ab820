//! The gateways: what they say of the limits, and those that refuse on their own.

use std::{collections::VecDeque, time::Duration};

use fireworks_proxy::time::Mono;

use super::limits::STARTING;
use crate::{
    dice::Dice,
    model::{float, tokens},
};

/// What the gateways of a scenario are like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Gateways {
    /// One, exact and complete.
    Exact,
    /// Sixteen with loosely shared counters: what remains jumps about, and one of them is cold, which says the starting
    /// limits and refuses what comes in a burst.
    Noisy,
    /// Each pair of fields is missing half of the time, and the pairs of what is charged later until there was use.
    Partial,
    /// No fields.
    Missing,
}

const NAMES: [(&str, &str); 3] = [
    ("x-ratelimit-limit-tokens-prompt", "x-ratelimit-remaining-tokens-prompt"),
    ("x-ratelimit-limit-tokens-cache-adjusted-prompt", "x-ratelimit-remaining-tokens-cache-adjusted-prompt"),
    ("x-ratelimit-limit-tokens-generated", "x-ratelimit-remaining-tokens-generated"),
];

/// One in so many requests comes to the cold gateway.
const COLD_ONE_IN: u64 = 16;
/// So many arrivals within a second are a burst to it.
const COLD_BURST: usize = 8;

/// The gateways.
#[derive(Debug)]
pub(crate) struct Gateway {
    kind: Gateways,
    dice: Dice,
    arrivals: VecDeque<Mono>,
    is_cold: bool,
}

impl Gateway {
    /// The gateways before any request came.
    pub(crate) fn new(kind: Gateways, seed: u64) -> Self {
        Self { kind, dice: Dice::new(seed, 0x6a7e), arrivals: VecDeque::new(), is_cold: false }
    }

    /// Whether a request that arrives now comes to the cold gateway in a burst, and is refused.
    pub(crate) fn is_cold(&mut self, now: Mono) -> bool {
        self.arrivals.push_back(now);
        while self.arrivals.front().is_some_and(|at| *at + Duration::from_secs(1) <= now) {
            self.arrivals.pop_front();
        }
        self.is_cold = self.kind == Gateways::Noisy && self.dice.bits().is_multiple_of(COLD_ONE_IN);
        self.is_cold && self.arrivals.len() > COLD_BURST
    }

    /// The fields of an answer.
    pub(crate) fn fields(
        &mut self,
        limits: [u64; 3],
        remaining: [u64; 3],
        status: u16,
    ) -> Vec<(&'static str, u64)> {
        let mut fields = Vec::new();
        if status == 503 || self.kind == Gateways::Missing {
            return fields;
        }
        for (index, (limit_name, remaining_name)) in NAMES.into_iter().enumerate() {
            let (mut limit, mut left) = (limits[index], remaining[index]);
            match self.kind {
                Gateways::Partial if self.dice.chance(0.5) || (index > 0 && left == limit) => continue,
                Gateways::Noisy if self.is_cold => {
                    limit = STARTING[index].min(limit);
                    left = if status == 429 && index == 2 { 0 } else { limit };
                }
                Gateways::Noisy => {
                    // A gateway knows of the others' traffic late, so some of the use is missing.
                    let seen = self.dice.between(0.7, 1.02);
                    left = limit.saturating_sub(tokens(float(limit - left.min(limit)) * seen));
                }
                _ => {}
            }
            fields.push((limit_name, limit));
            fields.push((remaining_name, left));
        }
        fields
    }
}
