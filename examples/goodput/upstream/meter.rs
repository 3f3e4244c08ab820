//! How much of one limit is used.

use std::{collections::VecDeque, time::Duration};

use fireworks_proxy::time::Mono;

use crate::model::{float, tokens};

const WINDOW: Duration = Duration::from_secs(60);

/// The two ways in which a limit per minute is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Metering {
    /// The tokens of the last 60 seconds.
    Windows,
    /// A bucket that holds so many seconds' worth and fills evenly.
    Buckets {
        /// What it holds, in seconds' worth of the limit.
        burst_seconds: f64,
    },
}

/// The account of one dimension.
#[derive(Debug, Clone)]
pub(crate) enum Meter {
    /// The charges of the last 60 seconds, and what they come to.
    Window { charges: VecDeque<(Mono, u64)>, total: u64 },
    /// What was taken out of the bucket and has not flowed back. May exceed what it holds.
    Bucket { burst_seconds: f64, missing: f64, at: Mono },
}

impl Meter {
    /// One of which nothing is used.
    pub(crate) fn new(metering: Metering) -> Self {
        match metering {
            Metering::Windows => Self::Window { charges: VecDeque::new(), total: 0 },
            Metering::Buckets { burst_seconds } => {
                Self::Bucket { burst_seconds, missing: 0.0, at: Mono::ZERO }
            }
        }
    }

    /// Takes in a charge. Time does not go back.
    pub(crate) fn charge(&mut self, amount: u64, limit: u64, now: Mono) {
        match self {
            Self::Window { charges, total } => {
                *total += amount;
                charges.push_back((now, amount));
                while let Some((at, gone)) = charges.front().copied() {
                    if at + WINDOW > now {
                        break;
                    }
                    *total -= gone;
                    charges.pop_front();
                }
            }
            Self::Bucket { missing, at, .. } => {
                let refill = now.since(*at).as_secs_f64() * float(limit) / 60.0;
                *missing = (*missing - refill).max(0.0) + float(amount);
                *at = now;
            }
        }
    }

    /// Whether a request is refused that costs so much on arrival.
    pub(crate) fn refuses(&self, amount: u64, limit: u64, now: Mono) -> bool {
        let remaining = self.room(limit, now);
        // One that is larger than everything goes when nothing else is counted.
        remaining <= 0.0 || (float(amount) > remaining && remaining < self.capacity(limit))
    }

    /// What the header says remains, out of the limit per minute.
    pub(crate) fn remaining(&self, limit: u64, now: Mono) -> u64 {
        let share = self.room(limit, now) / self.capacity(limit);
        if share <= 0.0 { 0 } else { tokens(share * float(limit)) }
    }

    /// How much more may be charged now; negative when it was overdrawn.
    pub(crate) fn room(&self, limit: u64, now: Mono) -> f64 {
        match self {
            Self::Window { charges, total } => {
                let gone: u64 =
                    charges.iter().take_while(|(at, _)| *at + WINDOW <= now).map(|(_, gone)| gone).sum();
                float(limit) - float(total - gone)
            }
            Self::Bucket { missing, at, .. } => {
                let refill = now.since(*at).as_secs_f64() * float(limit) / 60.0;
                self.capacity(limit) - (missing - refill).max(0.0)
            }
        }
    }

    /// The most that can be charged at once.
    pub(crate) fn capacity(&self, limit: u64) -> f64 {
        match self {
            Self::Window { .. } => float(limit),
            Self::Bucket { burst_seconds, .. } => float(limit) * burst_seconds / 60.0,
        }
    }

    /// The share of the limit that was used lately, for limits that adapt.
    pub(crate) fn load(&self, limit: u64, now: Mono) -> f64 {
        1.0 - self.room(limit, now) / self.capacity(limit)
    }
}
