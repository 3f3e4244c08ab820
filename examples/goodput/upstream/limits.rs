//! What the limits are, and how they change in the course of a run.

use std::time::Duration;

use fireworks_proxy::{budget::Dimension, time::Mono};

use super::meter::Meter;
use crate::model::{at, float, tokens};

/// How limits change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Plan {
    /// They stay as they are.
    Static(Tpm),
    /// They are multiplied at given times, in seconds from the start.
    Steps(Tpm, &'static [(f64, f64)]),
    /// They grow by a quarter with use and shrink again when idle, between what they start with and a ceiling.
    Adaptive { start: Tpm, ceiling: f64 },
}

impl Plan {
    /// What the limits are at first.
    pub(crate) const fn at_first(self) -> Tpm {
        match self {
            Self::Static(base) | Self::Steps(base, _) | Self::Adaptive { start: base, .. } => base,
        }
    }

    /// When they are lowered, in seconds from the start.
    pub(crate) fn lowered_at(self) -> impl Iterator<Item = f64> {
        let steps = if let Self::Steps(_, steps) = self { steps } else { &[] };
        steps.iter().filter(|(_, factor)| *factor < 1.0).map(|(at, _)| *at)
    }
}

/// Tokens per minute: prompt, uncached, generated.
pub(crate) type Tpm = [u64; 3];

/// The limits that accounts start with.
pub(crate) const STARTING: Tpm = [3_600_000, 900_000, 36_000];

/// The default ceilings of the largest models.
pub(crate) const CEILINGS: Tpm = [21_600_000, 5_400_000, 216_000];

const GROWTH: f64 = 1.25;
/// A limit that was used by more than this for a minute grows.
const BUSY: f64 = 0.70;
const BUSY_FOR: Duration = Duration::from_secs(60);
/// A limit that was used by less than this for five minutes shrinks.
const IDLE: f64 = 0.15;
const IDLE_FOR: Duration = Duration::from_secs(300);

/// The limits as they are.
#[derive(Debug)]
pub(crate) struct Limits {
    plan: Plan,
    factors: [f64; 3],
    steps_done: usize,
    busy_since: [Option<Mono>; 3],
    idle_since: [Option<Mono>; 3],
}

impl Limits {
    /// The limits as they are at the start.
    pub(crate) fn new(plan: Plan) -> Self {
        Self { plan, factors: [1.0; 3], steps_done: 0, busy_since: [None; 3], idle_since: [None; 3] }
    }

    /// The limit of a dimension in tokens per minute.
    pub(crate) fn get(&self, dimension: Dimension) -> u64 {
        tokens(float(self.plan.at_first()[dimension as usize]) * self.factors[dimension as usize])
    }

    /// All three of them.
    pub(crate) fn all(&self) -> Tpm {
        [self.get(Dimension::Prompt), self.get(Dimension::UncachedPrompt), self.get(Dimension::Generated)]
    }

    /// Changes what is due to change by `now`.
    pub(crate) fn advance(&mut self, meters: &[Meter; 3], now: Mono) {
        match self.plan {
            Plan::Static(_) => {}
            Plan::Steps(_, steps) => {
                while let Some((_, factor)) = steps.get(self.steps_done).filter(|step| at(step.0) <= now) {
                    self.factors = self.factors.map(|old| old * factor);
                    self.steps_done += 1;
                }
            }
            Plan::Adaptive { ceiling, .. } => {
                for dimension in Dimension::ALL {
                    let load = meters[dimension as usize].load(self.get(dimension), now);
                    self.adapt(dimension as usize, load, ceiling, now);
                }
            }
        }
    }

    fn adapt(&mut self, index: usize, load: f64, ceiling: f64, now: Mono) {
        let lasts = |since: &mut Option<Mono>, holds: bool, span: Duration| {
            *since = if holds { since.or(Some(now)) } else { None };
            let is_due = since.is_some_and(|since| now.since(since) >= span);
            if is_due {
                *since = Some(now);
            }
            is_due
        };
        if lasts(&mut self.busy_since[index], load > BUSY, BUSY_FOR) {
            self.factors[index] = (self.factors[index] * GROWTH).min(ceiling);
        }
        if lasts(&mut self.idle_since[index], load < IDLE, IDLE_FOR) {
            self.factors[index] = (self.factors[index] / GROWTH).max(1.0);
        }
    }
}
