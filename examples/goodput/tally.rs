//! What came of a run.

use std::{collections::BTreeMap, time::Duration};

use fireworks_proxy::time::Mono;

use crate::{
    client::Client,
    model::{Refusal, float, whole},
    upstream::limits::Tpm,
};

/// The first two minutes, in which everybody learns.
pub(crate) const LEARNING: Duration = Duration::from_secs(120);

/// The counts of one run.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Tally {
    /// Requests that were answered whole.
    pub(crate) steps: u64,
    /// The tokens of those, prompt and generated.
    pub(crate) tokens: u64,
    /// What came to the upstream, refused or not.
    pub(crate) arrivals: u64,
    /// When the upstream answered 429.
    pub(crate) rate_limited_at: Vec<Mono>,
    /// How often the upstream answered 503.
    pub(crate) overloaded: u64,
    /// Error answers that clients got.
    pub(crate) refusals: u64,
    /// Those of them that came from the upstream and were passed on.
    pub(crate) passed_on: u64,
    /// The least that a contestant has taken for a limit after the first two minutes, as a share of what it was.
    pub(crate) lowest_limit: Option<f64>,
    waits: Vec<Duration>,
    longest_wait: Duration,
    /// The steps of every agent that asked for something.
    steps_of: BTreeMap<usize, u64>,
    minutes: f64,
}

impl Tally {
    /// Someone asks.
    pub(crate) fn asked(&mut self, agent: usize) {
        self.steps_of.entry(agent).or_default();
    }

    /// The upstream answers a request.
    pub(crate) fn answered(&mut self, status: u16, now: Mono) {
        self.arrivals += 1;
        match status {
            429 => self.rate_limited_at.push(now),
            503 => self.overloaded += 1,
            _ => {}
        }
    }

    /// A client has its whole answer.
    pub(crate) fn finished(&mut self, client: &Client, now: Mono) {
        self.steps += 1;
        self.tokens += client.request.prompt + client.request.generated;
        *self.steps_of.entry(client.request.agent).or_default() += 1;
        self.waits.push(client.waited(now));
        self.stalled(client, now);
    }

    /// A client gets an error.
    pub(crate) fn refused(&mut self, refusal: Refusal) {
        self.refusals += 1;
        self.passed_on += u64::from(refusal.is_upstreams);
    }

    /// A client has waited, and perhaps in vain: it gave up, or the run is over.
    pub(crate) fn stalled(&mut self, client: &Client, now: Mono) {
        self.longest_wait = self.longest_wait.max(client.waited(now));
    }

    /// What a contestant takes the limits for, beside what they are.
    pub(crate) fn believed(&mut self, believed: Tpm, real: Tpm, now: Mono) {
        if now.since(Mono::ZERO) < LEARNING {
            return;
        }
        for (believed, real) in believed.into_iter().zip(real) {
            let share = float(believed) / float(real);
            self.lowest_limit = Some(self.lowest_limit.map_or(share, |lowest| lowest.min(share)));
        }
    }

    /// The run is over.
    pub(crate) fn close(&mut self, end: Mono) {
        self.minutes = end.since(Mono::ZERO).as_secs_f64() / 60.0;
        self.waits.sort_unstable();
    }

    /// Upstream 429s from `from` to before `to`.
    pub(crate) fn rate_limited_between(&self, from: Mono, to: Mono) -> u64 {
        self.rate_limited_at.iter().filter(|at| (from..to).contains(at)).count() as u64
    }

    /// Upstream 429s after the first two minutes.
    pub(crate) fn rate_limited_later(&self) -> u64 {
        self.rate_limited_between(Mono::ZERO + LEARNING, Mono::from_micros(u64::MAX))
    }

    /// Answered requests a minute.
    pub(crate) fn steps_per_minute(&self) -> f64 {
        float(self.steps) / self.minutes
    }

    /// Their tokens a minute.
    pub(crate) fn tokens_per_minute(&self) -> f64 {
        float(self.tokens) / self.minutes
    }

    /// The wait that this share of all steps did not exceed, in seconds.
    pub(crate) fn wait(&self, share: f64) -> f64 {
        quantile(&self.waits, share).unwrap_or_default().as_secs_f64()
    }

    /// The longest that anyone waited, in seconds, those included who still wait at the end.
    pub(crate) fn longest_wait(&self) -> f64 {
        self.longest_wait.as_secs_f64()
    }

    /// Jain's index over the agents' steps: 1 when all have as many, 1/n when one has all. None for a single agent.
    pub(crate) fn fairness(&self) -> Option<f64> {
        let counts: Vec<f64> = self.steps_of.values().map(|steps| float(*steps)).collect();
        let (sum, squares) = (counts.iter().sum::<f64>(), counts.iter().map(|it| it * it).sum::<f64>());
        (counts.len() > 1).then(|| sum * sum / (float(counts.len() as u64) * squares))
    }
}

/// The element of a sorted slice that this share, from 0 to 1, does not exceed.
pub(crate) fn quantile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let last = sorted.len().checked_sub(1)?;
    let index = usize::try_from(whole((float(last as u64) * share).round())).ok()?;
    sorted.get(index).copied()
}
