//! Whether the proxy's memory grew, beyond what the traffic of the moment explains.

use std::fmt;
use std::time::Duration;

use crate::common::process::Sample;

/// By how much two moments of the same traffic may differ, for each agent: the body of one request, of which the mean
/// is 43 KB, and the buffers of its two connections. All agents at once is the most that chance can do, and what the
/// allocator keeps of it. In half an hour of 64 agents this still shows a leak of 200 bytes per request.
const ALLOWED_BYTES_PER_AGENT: u64 = 64 * 1024;

/// Memory in the steady state, early and late.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    /// The median from 20 % to 30 % of the run, when everything has been in use once.
    pub(crate) early: u64,
    /// The median of the last 10 %, or what is left at rest if that is more.
    pub(crate) late: u64,
    /// How much more the second may be.
    pub(crate) allowed: u64,
}

impl Growth {
    /// None where there is nothing to compare.
    pub(crate) fn of(
        samples: &[Sample],
        at_rest: Option<Sample>,
        duration: Duration,
        agents: usize,
    ) -> Option<Self> {
        let median = |percents: std::ops::RangeInclusive<u32>| {
            let due = duration * *percents.start() / 100..=duration * *percents.end() / 100;
            let within = samples.iter().filter(|sample| due.contains(&sample.at));
            let mut memory: Vec<u64> = within.map(|sample| sample.memory).collect();
            memory.sort_unstable();
            memory.get(memory.len() / 2).copied()
        };
        // The last look may be late by a moment.
        let (early, late) = (median(20..=30)?, median(90..=110)?);
        let late = late.max(at_rest.map_or(0, |sample| sample.memory));
        Some(Self { early, late, allowed: ALLOWED_BYTES_PER_AGENT * agents as u64 })
    }

    pub(crate) fn is_too_much(self) -> bool {
        self.late > self.early + self.allowed
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [early, late, allowed] = [self.early, self.late, self.allowed].map(|bytes| bytes / 1024);
        write!(
            formatter,
            "memory {early} KiB from 20 to 30 %, {late} KiB at the end; {allowed} KiB more are allowed"
        )
    }
}
