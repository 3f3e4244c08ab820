//! The model's count of the day, and what a state file must hold.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use fireworks_proxy::{
    calendar,
    time::{Mono, Wall},
};
use serde_json::Value;

use crate::simulation::swarm::Swarm;

const DAY_MILLIS: i64 = 86_400_000;

/// How long a report may be unsaved.
const UNSAVED_MAX: Duration = Duration::from_secs(1);

/// Days since 1970 that may come: as many as the proxy remembers beside today.
const DAYS_MAX: usize = 4;

/// Tokens by day.
#[derive(Debug)]
pub struct Days {
    zone_millis: i64,
    used: BTreeMap<i64, u64>,
    visited: Vec<i64>,
    /// What was reported lately: when, and the sum of everything with it.
    recent: VecDeque<(Mono, u64)>,
    /// Until when the disk takes nothing.
    pub full_until: Mono,
    late_at: Mono,
}

/// What a state file counts, by day.
fn counts_of(file: &[u8]) -> BTreeMap<i64, u64> {
    let state: Value = serde_json::from_slice(file).expect("a file that survives is JSON");
    let left = state["days_left"].as_array().cloned().unwrap_or_default();
    let count = |day: &Value| {
        let date = calendar::parse_date(day["date"].as_str().expect("a date")).expect("a date");
        let tokens = |name: &str| day[name].as_u64().expect("a count");
        (days_since_1970(date), tokens("prompt_tokens") + tokens("generated_tokens"))
    };
    left.iter().chain([&state]).map(count).collect()
}

fn days_since_1970(date: time::Date) -> i64 {
    i64::from(date.to_julian_day()) - 2_440_588
}

impl Days {
    pub fn new(swarm: &Swarm) -> Self {
        Self {
            zone_millis: swarm.zone_millis,
            used: BTreeMap::new(),
            visited: Vec::new(),
            recent: VecDeque::new(),
            full_until: Mono::ZERO,
            late_at: Mono::ZERO,
        }
    }

    fn day_of(&self, wall: Wall) -> i64 {
        (wall.as_unix_millis() + self.zone_millis).div_euclid(DAY_MILLIS)
    }

    /// Whether the clock may show this: not more days than the proxy remembers, with one to spare for the
    /// next midnight.
    pub fn may_visit(&mut self, wall: Wall) -> bool {
        let day = self.day_of(wall);
        if !self.visited.contains(&day) && self.visited.len() + 1 < DAYS_MAX {
            self.visited.push(day);
        }
        self.visited.contains(&day)
    }

    fn total(&self) -> u64 {
        self.used.values().sum()
    }

    pub fn used(&self, wall: Wall) -> u64 {
        self.used.get(&self.day_of(wall)).copied().unwrap_or_default()
    }

    /// Whether the limit was reached on any day.
    pub fn was_ever_spent(&self, limit: u64) -> bool {
        self.used.values().any(|used| *used >= limit)
    }

    pub fn count(&mut self, tokens: u64, wall: Wall, now: Mono) {
        let day = self.day_of(wall);
        if !self.visited.contains(&day) {
            self.visited.push(day);
        }
        *self.used.entry(day).or_default() += tokens;
        let total = self.total();
        self.recent.push_back((now, total));
        while self.recent.len() > 1 && self.recent[1].0 + UNSAVED_MAX < now {
            self.recent.pop_front();
        }
    }

    /// Checks what the ledger says of a day.
    pub fn check(&self, date: &str, used: u64) {
        let day = days_since_1970(calendar::parse_date(date).expect("a date"));
        let counted = self.used.get(&day).copied().unwrap_or_default();
        assert!(counted == used || self.visited.len() > DAYS_MAX, "{date}: {used} are counted of {counted}");
    }

    pub fn late_at(&mut self, until: Mono) {
        self.late_at = until;
    }

    /// After a kill the file holds what was reported up to a second ago.
    pub fn check_killed(&self, file: Option<&[u8]>, now: Mono) {
        let saved: u64 = file.map_or(0, |file| counts_of(file).values().sum());
        assert!(saved <= self.total() || self.visited.len() > DAYS_MAX, "{saved} saved of {}", self.total());
        // A write that failed is tried again within a second.
        let is_late = now.since(self.late_at.max(self.full_until)) < UNSAVED_MAX * 2;
        let is_old = |(at, _): &&(Mono, u64)| *at + UNSAVED_MAX < now;
        let due = self.recent.iter().rev().find(is_old).map_or(0, |(_, total)| *total);
        assert!(
            is_late || saved >= due || self.visited.len() > DAYS_MAX,
            "{saved} saved, {due} a second ago"
        );
    }

    /// After a stop it holds everything.
    pub fn check_stopped(&self, file: Option<&[u8]>, now: Mono) {
        let saved: u64 = file.map_or(0, |file| counts_of(file).values().sum());
        let is_whole = saved == self.total() || now < self.full_until || self.visited.len() > DAYS_MAX;
        assert!(is_whole, "{saved} saved of {}", self.total());
    }

    /// A new process counts on from the file.
    pub fn take_up(&mut self, file: Option<&[u8]>, now: Mono) {
        self.used = file.map(counts_of).unwrap_or_default();
        self.recent = VecDeque::from([(now, self.total())]);
    }
}
