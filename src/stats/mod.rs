//! Counters of what has happened, as plain data for the pages and the log.

pub mod histogram;
pub mod labels;
mod tally;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    failure::Reach,
    time::{Mono, Wall},
};

pub use tally::{Ended, ModelTally, Outcome, STATUS_CLASSES, Tally, status_class};

/// How many of the latest waits the percentiles are taken over.
const WAITS_MAX: usize = 1_000;

/// The span of the rolling count of requests.
const RECENT: Duration = Duration::from_secs(60);

/// What has happened since the start.
#[derive(Debug, Default)]
pub struct Stats {
    /// Requests that were read whole and were for the upstream, and those that could not be read. Each
    /// is finished, refused, left or failed in the end; until then it waits, pauses or is in flight.
    pub requests: u64,
    /// Requests that were answered by the upstream to the end.
    pub finished: u64,
    /// Requests that the proxy refused, for whatever reason.
    pub refused: u64,
    /// Requests whose client left before the end of the answer.
    pub client_gone: u64,
    /// Requests that failed on the way to or from the upstream.
    pub failed: u64,
    /// Requests that pause before they are tried again.
    pub paused: u64,
    /// Times that a request was tried again.
    pub retries: u64,
    /// Answers of the upstream with status 429.
    pub upstream_429: u64,
    /// Answers of the upstream with status 503.
    pub upstream_503: u64,
    /// Requests at the upstream, from admission to the end of the answer.
    pub in_flight: u64,
    /// When the upstream last answered with a status below 400.
    pub last_success: Option<Wall>,
    /// The last failure of the upstream, or to reach it.
    pub last_error: Option<(Wall, String)>,
    /// What requests that have ended came to, by model.
    pub tally: Tally,
    /// The upstream's answers, those too that were not passed on, by class of status.
    responses: BTreeMap<&'static str, u64>,
    /// Everything that went wrong, also where a retry mended it, by how far the request had come and by
    /// class.
    failures: BTreeMap<(Reach, &'static str), u64>,
    /// The latest waits, oldest first.
    waits: VecDeque<Duration>,
    /// How many requests were started.
    started: u64,
    /// Admissions within the last minute, by second.
    admissions: VecDeque<(u64, u64)>,
}

impl Stats {
    /// Counts a request that left the queue for the upstream after waiting so long.
    pub fn admitted(&mut self, waited: Duration, now: Mono) {
        self.in_flight += 1;
        self.started += 1;
        if self.waits.len() == WAITS_MAX {
            self.waits.pop_front();
        }
        self.waits.push_back(waited);
        let second = now.as_micros() / 1_000_000;
        match self.admissions.back_mut() {
            Some((latest, count)) if *latest == second => *count += 1,
            _ => self.admissions.push_back((second, 1)),
        }
        self.forget_old_admissions(now);
    }

    /// Counts the end of a request at the upstream, whatever end it was.
    pub fn left_upstream(&mut self) {
        self.in_flight -= 1;
    }

    /// Counts the status of an answer of the upstream.
    pub fn answered(&mut self, status: u16, now: Wall) {
        *self.responses.entry(status_class(status)).or_default() += 1;
        self.upstream_429 += u64::from(status == 429);
        self.upstream_503 += u64::from(status == 503);
        if status < 400 {
            self.last_success = Some(now);
        } else {
            self.last_error = Some((now, format!("the upstream answered {status}")));
        }
    }

    /// How many answers of the upstream had a status of this class.
    pub fn responses(&self, class: &str) -> u64 {
        self.responses.get(class).copied().unwrap_or_default()
    }

    /// Counts something that went wrong.
    pub fn count_failure(&mut self, reach: Reach, class: &'static str) {
        *self.failures.entry((reach, class)).or_default() += 1;
    }

    /// How often that went wrong.
    pub fn failures(&self, reach: Reach, class: &'static str) -> u64 {
        self.failures.get(&(reach, class)).copied().unwrap_or_default()
    }

    /// Everything that went wrong so far.
    pub fn all_failures(&self) -> &BTreeMap<(Reach, &'static str), u64> {
        &self.failures
    }

    /// How many requests were started so far.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Keeps the latest failure for the pages.
    pub fn upstream_failed(&mut self, text: String, now: Wall) {
        self.last_error = Some((now, text));
    }

    /// Requests that went to the upstream within the last minute.
    pub fn last_minute(&mut self, now: Mono) -> u64 {
        self.forget_old_admissions(now);
        self.admissions.iter().map(|(_, count)| count).sum()
    }

    /// The waits that 50, 95 and 99 percent of the latest requests did not exceed.
    pub fn wait_percentiles(&self) -> [Duration; 3] {
        percentiles(self.waits.iter().copied().collect(), [50, 95, 99])
    }

    /// The waits that 50 and 95 percent of the latest so many did not exceed; `None` of none.
    pub fn percentiles_of_latest(&self, count: u64) -> Option<[Duration; 2]> {
        let count = usize::try_from(count).unwrap_or(WAITS_MAX).min(self.waits.len());
        let latest = self.waits.iter().rev().take(count).copied().collect();
        (count > 0).then(|| percentiles(latest, [50, 95]))
    }

    fn forget_old_admissions(&mut self, now: Mono) {
        let horizon = (now - RECENT).as_micros() / 1_000_000;
        while self.admissions.front().is_some_and(|(second, _)| *second < horizon) {
            self.admissions.pop_front();
        }
    }
}

/// The nearest ranks: the smallest waits that are not exceeded by so many of a hundred.
fn percentiles<const N: usize>(mut waits: Vec<Duration>, percents: [usize; N]) -> [Duration; N] {
    waits.sort_unstable();
    percents.map(|percent| {
        let rank = (waits.len() * percent).div_ceil(100);
        waits.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn percentiles_are_of_the_latest_waits() {
        let mut stats = Stats::default();
        assert_eq!(stats.wait_percentiles(), [Duration::ZERO; 3]);
        for millis in (1..=100).rev() {
            stats.admitted(Duration::from_millis(millis), at(0));
        }
        assert_eq!(stats.wait_percentiles(), [50, 95, 99].map(Duration::from_millis));
        for _ in 0..WAITS_MAX {
            stats.admitted(Duration::from_secs(1), at(0));
        }
        assert_eq!(stats.wait_percentiles(), [Duration::from_secs(1); 3]);
    }

    #[test]
    fn the_last_minute_rolls() {
        let mut stats = Stats::default();
        for second in [0, 0, 30, 59] {
            stats.admitted(Duration::ZERO, at(second));
        }
        assert_eq!(stats.last_minute(at(60)), 4);
        assert_eq!(stats.last_minute(at(61)), 2);
        assert_eq!(stats.last_minute(at(200)), 0);
    }
}
