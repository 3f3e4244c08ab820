//! The last hour: what the budgets, the queue and the upstream were like, every ten seconds.
//!
//! Sampled while anything goes on and until the last of it has left the minute; a gap says that nothing went on, so an
//! idle proxy does nothing for it. Holds [`SAMPLES_MAX`] samples of at most [`LANES_MAX`] lanes each.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::{
    budget::{Budgets, LaneId},
    failure::Reach,
    stats::Stats,
    time::Now,
};

/// The time between two samples.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// How far it goes back.
pub const SPAN: Duration = Duration::from_secs(3_600);

/// So many samples there are in that.
const SAMPLES_MAX: usize = 360;

/// The lanes of which a sample tells: those that use most.
const LANES_MAX: usize = 16;

/// What went on until one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When it was taken.
    pub at: Now,
    /// The most requests that have waited at once since the last sample.
    pub queued: usize,
    /// The requests at the upstream.
    pub in_flight: u64,
    /// How many requests were started since the last sample.
    pub started: u64,
    /// The waits that half and 95 of a hundred of these did not exceed, if there were any.
    pub waits: Option<[Duration; 2]>,
    /// The answers with status 429 since the last sample.
    pub upstream_429: u64,
    /// The answers with status 503 since then.
    pub upstream_503: u64,
    /// What went wrong since then, by how far the request had come and by class.
    pub failures: Vec<((Reach, &'static str), u64)>,
    /// The lanes in use.
    pub lanes: Vec<LaneSample>,
}

/// What one lane was like. The amounts are of prompt, uncached prompt and generated tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneSample {
    /// Which one.
    pub lane: LaneId,
    /// Used within the minute before.
    pub used: [u64; 3],
    /// What could be used within a minute.
    pub effective: [u64; 3],
    /// The limit that holds.
    pub limit: [u64; 3],
}

/// What has happened by the last sample.
#[derive(Debug, Default)]
struct Counted {
    started: u64,
    upstream_429: u64,
    upstream_503: u64,
    failures: BTreeMap<(Reach, &'static str), u64>,
}

/// The samples of the last hour.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
    /// The model and the credential of each lane that a sample tells of.
    lanes: BTreeMap<LaneId, (String, u64)>,
    counted: Counted,
    queued: usize,
}

impl History {
    /// So many requests wait now.
    pub fn note_queue(&mut self, waiting: usize) {
        self.queued = self.queued.max(waiting);
    }

    /// Takes a sample. Whether anything goes on, so that another one is to follow.
    pub fn sample(&mut self, stats: &Stats, budgets: &mut Budgets, waiting: usize, now: Now) -> bool {
        let lanes = self.sample_lanes(budgets, now);
        let counted = Counted {
            started: stats.started(),
            upstream_429: stats.upstream_429,
            upstream_503: stats.upstream_503,
            failures: stats.all_failures().clone(),
        };
        let before = std::mem::replace(&mut self.counted, counted);
        let counted = &self.counted;
        let started = counted.started - before.started;
        let is_busy = waiting > 0 || stats.in_flight > 0 || stats.paused > 0 || !lanes.is_empty();
        let failures = counted.failures.iter().filter_map(|(what, count)| {
            let times = count - before.failures.get(what).copied().unwrap_or(0);
            (times > 0).then_some((*what, times))
        });
        self.samples.push_back(Sample {
            at: now,
            queued: std::mem::replace(&mut self.queued, waiting),
            in_flight: stats.in_flight,
            started,
            waits: stats.percentiles_of_latest(started),
            upstream_429: counted.upstream_429 - before.upstream_429,
            upstream_503: counted.upstream_503 - before.upstream_503,
            failures: failures.collect(),
            lanes,
        });
        self.forget(now);
        is_busy
    }

    /// The samples of the last hour, oldest first.
    pub fn samples(&self, now: Now) -> impl Iterator<Item = &Sample> {
        let is_recent = move |sample: &&Sample| now.mono.since(sample.at.mono) <= SPAN;
        self.samples.iter().filter(is_recent)
    }

    /// The lanes that samples tell of, with model and credential.
    pub fn lanes(&self) -> impl Iterator<Item = (LaneId, &str, u64)> {
        self.lanes.iter().map(|(id, (model, credential))| (*id, model.as_str(), *credential))
    }

    /// The lanes that use something, those that use most of it if they are too many.
    fn sample_lanes(&mut self, budgets: &mut Budgets, now: Now) -> Vec<LaneSample> {
        let mut lanes = Vec::new();
        for (id, lane) in budgets.lanes_mut() {
            let balances = lane.balances(now.mono);
            if lane.in_flight > 0 || balances.iter().any(|balance| balance.used > 0) {
                self.lanes.entry(id).or_insert_with(|| (lane.model.clone(), lane.credential));
                lanes.push(LaneSample {
                    lane: id,
                    used: balances.map(|balance| balance.used),
                    effective: balances.map(|balance| balance.effective),
                    limit: balances.map(|balance| balance.limit),
                });
            }
        }
        if lanes.len() > LANES_MAX {
            lanes.sort_by_key(|lane| Reverse(lane.used[0]));
            lanes.truncate(LANES_MAX);
        }
        lanes
    }

    fn forget(&mut self, now: Now) {
        let is_old = |sample: &Sample| now.mono.since(sample.at.mono) > SPAN;
        while self.samples.len() > SAMPLES_MAX || self.samples.front().is_some_and(is_old) {
            self.samples.pop_front();
        }
        let lanes = self.samples.iter().flat_map(|sample| &sample.lanes);
        let told_of: BTreeSet<LaneId> = lanes.map(|lane| lane.lane).collect();
        self.lanes.retain(|id, _| told_of.contains(id));
    }
}
