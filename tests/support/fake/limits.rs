//! The fake's rate limits: rolling windows per (credential, model), with the time as an argument.
//!
//! Owns the rule who is refused and why. The rule is Fireworks' as far as it is known: prompt tokens are charged when
//! a request arrives, uncached prompt and generated tokens when they are known. Reads no clock and knows no HTTP.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// The tokens one lane may use in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Prompt tokens, cached ones included.
    pub prompt: u64,
    /// Prompt tokens that no cache held.
    pub uncached: u64,
    /// Generated tokens.
    pub generated: u64,
    /// Whether a request above them is refused, or they are only announced in headers.
    pub enforce: bool,
}

impl Limits {
    /// Limits announced in headers and enforced with 429.
    pub fn enforced(prompt: u64, uncached: u64, generated: u64) -> Self {
        Self { prompt, uncached, generated, enforce: true }
    }

    /// Limits announced in headers only.
    pub fn announced(prompt: u64, uncached: u64, generated: u64) -> Self {
        Self { prompt, uncached, generated, enforce: false }
    }
}

/// What a 429 was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// Prompt tokens, cached ones included.
    Prompt,
    /// Prompt tokens that no cache held.
    Uncached,
    /// Generated tokens.
    Generated,
    /// Requests per second of one credential.
    Requests,
}

/// What Fireworks limits apart: one model used with one credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lane {
    /// The value of `authorization` or `x-api-key`.
    pub credential: String,
    /// The body's `model`.
    pub model: String,
}

/// Tokens used in the window that ends now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Prompt tokens, cached ones included.
    pub prompt: u64,
    /// Prompt tokens that no cache held.
    pub uncached: u64,
    /// Generated tokens.
    pub generated: u64,
}

/// All lanes of one fake, and the rules they share.
#[derive(Debug)]
pub struct Limiter {
    limits: Option<Limits>,
    window: Duration,
    requests_per_second: Option<u64>,
    lanes: HashMap<Lane, LaneWindows>,
    bursts: HashMap<String, Window>,
}

#[derive(Debug, Default)]
struct LaneWindows {
    prompt: Window,
    uncached: Window,
    generated: Window,
}

impl Limiter {
    /// A limiter with empty windows.
    pub fn new(limits: Option<Limits>, window: Duration, requests_per_second: Option<u64>) -> Self {
        Self { limits, window, requests_per_second, lanes: HashMap::new(), bursts: HashMap::new() }
    }

    /// The limits in force.
    pub fn limits(&self) -> Option<Limits> {
        self.limits
    }

    /// Changes the limits; what was used stays used.
    pub fn set_limits(&mut self, limits: Option<Limits>) {
        self.limits = limits;
    }

    /// Decides on a request that arrives now, and charges its prompt tokens when it is let in.
    ///
    /// A request that alone is larger than the prompt limit is let in when the prompt window is empty.
    pub fn admit(&mut self, lane: &Lane, prompt: u64, now: Instant) -> Result<(), Dimension> {
        let burst = self.bursts.entry(lane.credential.clone()).or_default();
        if self.requests_per_second.is_some_and(|most| burst.used(now, Duration::from_secs(1)) >= most) {
            return Err(Dimension::Requests);
        }
        let used = self.used(lane, now);
        if let Some(limits) = self.limits.filter(|limits| limits.enforce) {
            refusal(limits, used, prompt).map_or(Ok(()), Err)?;
        }
        self.charge(lane, Dimension::Prompt, prompt, now);
        self.charge(lane, Dimension::Requests, 1, now);
        Ok(())
    }

    /// Adds to a lane what was used just now.
    pub fn charge(&mut self, lane: &Lane, dimension: Dimension, amount: u64, now: Instant) {
        let windows = self.lanes.entry(lane.clone()).or_default();
        match dimension {
            Dimension::Prompt => windows.prompt.add(now, amount),
            Dimension::Uncached => windows.uncached.add(now, amount),
            Dimension::Generated => windows.generated.add(now, amount),
            Dimension::Requests => self.bursts.entry(lane.credential.clone()).or_default().add(now, amount),
        }
    }

    /// What a lane used in the window that ends now.
    pub fn used(&mut self, lane: &Lane, now: Instant) -> Used {
        let length = self.window;
        self.lanes.get_mut(lane).map_or_else(Used::default, |windows| Used {
            prompt: windows.prompt.used(now, length),
            uncached: windows.uncached.used(now, length),
            generated: windows.generated.used(now, length),
        })
    }
}

/// The dimension that refuses a request of `prompt` tokens, if one does.
pub fn refusal(limits: Limits, used: Used, prompt: u64) -> Option<Dimension> {
    if used.prompt > 0 && used.prompt + prompt > limits.prompt {
        Some(Dimension::Prompt)
    } else if used.uncached > limits.uncached {
        Some(Dimension::Uncached)
    } else if used.generated > limits.generated {
        Some(Dimension::Generated)
    } else {
        None
    }
}

/// Amounts with the time they were used at.
#[derive(Debug, Default)]
struct Window {
    entries: VecDeque<(Instant, u64)>,
    sum: u64,
}

impl Window {
    fn add(&mut self, now: Instant, amount: u64) {
        if amount > 0 {
            self.entries.push_back((now, amount));
            self.sum += amount;
        }
    }

    fn used(&mut self, now: Instant, length: Duration) -> u64 {
        while let Some((at, amount)) = self.entries.front().copied() {
            if now.saturating_duration_since(at) < length {
                break;
            }
            self.entries.pop_front();
            self.sum -= amount;
        }
        self.sum
    }
}
