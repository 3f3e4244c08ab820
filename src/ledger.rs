//! The day's tokens: counted as responses report them, capped, and kept over restarts.
//!
//! A day is a calendar day of the configured time zone, whatever length its clock changes give it.
//! The ledger reads and writes no file: it makes a [`Ledger::snapshot`] for the shell to save, and
//! [`Ledger::restore`] says what became of one that the shell has read.

use serde::{Deserialize, Serialize};
use time::Date;
use time_tz::{TimeZone, Tz};

use crate::{
    calendar,
    config::{Config, share_of},
    time::Wall,
};

/// The version of the state file's form.
const STATE_VERSION: u32 = 1;

/// The count of one calendar day.
#[derive(Debug)]
pub struct Ledger {
    timezone: &'static Tz,
    limit_tokens: Option<u64>,
    warn_ratio: f64,
    day: Date,
    /// The first moment of the next day.
    resets_at: Wall,
    prompt_tokens: u64,
    generated_tokens: u64,
    has_warned: bool,
    is_saved: bool,
}

/// The state file, as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    version: u32,
    date: String,
    /// For people; the date alone decides.
    time_zone: String,
    prompt_tokens: u64,
    generated_tokens: u64,
    warned: bool,
}

/// What became of a state file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// Its count goes on.
    Continued,
    /// It is of another day, named here; the count starts at zero.
    OtherDay(String),
    /// It cannot be read, for the reason given; the count starts at zero.
    Damaged(String),
}

/// Something the operator should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The warning ratio was reached.
    Warning,
    /// The limit was reached: further generation requests are refused.
    LimitReached,
}

impl Ledger {
    /// An empty count for the day that it is at `now`.
    pub fn new(config: &Config, now: Wall) -> Self {
        let timezone = config.timezone;
        let day = calendar::day_at(timezone, now);
        Self {
            timezone,
            limit_tokens: config.daily_limit_tokens,
            warn_ratio: config.daily_warn_ratio,
            day,
            resets_at: calendar::end_of_day(timezone, now),
            prompt_tokens: 0,
            generated_tokens: 0,
            has_warned: false,
            is_saved: false,
        }
    }

    /// Takes up the count of a state file, if it is of this day.
    pub fn restore(&mut self, file: &[u8]) -> Restored {
        let state: State = match serde_json::from_slice(file) {
            Ok(state) => state,
            Err(error) => return Restored::Damaged(error.to_string()),
        };
        if state.version != STATE_VERSION {
            return Restored::Damaged(format!("its version is {}, not {STATE_VERSION}", state.version));
        }
        if calendar::parse_date(&state.date).is_none() {
            return Restored::Damaged(format!("its date {:?} is not a date", state.date));
        }
        if state.date != self.day.to_string() {
            return Restored::OtherDay(state.date);
        }
        self.prompt_tokens = state.prompt_tokens;
        self.generated_tokens = state.generated_tokens;
        self.has_warned = state.warned;
        self.is_saved = true;
        Restored::Continued
    }

    /// Counts what a response reported.
    pub fn count(&mut self, prompt_tokens: u64, generated_tokens: u64, now: Wall) -> Option<Notice> {
        self.roll(now);
        let before = self.used();
        self.prompt_tokens = self.prompt_tokens.saturating_add(prompt_tokens);
        self.generated_tokens = self.generated_tokens.saturating_add(generated_tokens);
        self.is_saved &= self.used() == before;
        let limit = self.limit_tokens?;
        if before < limit && self.used() >= limit {
            self.has_warned = true;
            return Some(Notice::LimitReached);
        }
        if !self.has_warned && self.used() >= self.warn_at()? {
            self.has_warned = true;
            return Some(Notice::Warning);
        }
        None
    }

    /// Starts the next day when it has come. Whether it did.
    pub fn roll(&mut self, now: Wall) -> bool {
        let today = calendar::day_at(self.timezone, now);
        if today == self.day {
            return false;
        }
        self.day = today;
        self.resets_at = calendar::end_of_day(self.timezone, now);
        self.prompt_tokens = 0;
        self.generated_tokens = 0;
        self.has_warned = false;
        self.is_saved = false;
        true
    }

    /// The content for the state file, if the file's is out of date; then it counts as saved.
    pub fn snapshot(&mut self) -> Option<Vec<u8>> {
        if self.is_saved {
            return None;
        }
        self.is_saved = true;
        let state = State {
            version: STATE_VERSION,
            date: self.day.to_string(),
            time_zone: self.time_zone().to_owned(),
            prompt_tokens: self.prompt_tokens,
            generated_tokens: self.generated_tokens,
            warned: self.has_warned,
        };
        let mut file = serde_json::to_vec(&state).expect("a struct of plain fields has a JSON form");
        file.push(b'\n');
        Some(file)
    }

    /// Whether the state file is out of date.
    pub fn is_unsaved(&self) -> bool {
        !self.is_saved
    }

    /// Says that a snapshot did not reach the file.
    pub fn mark_unsaved(&mut self) {
        self.is_saved = false;
    }

    /// Whether generation requests are refused until the next day.
    pub fn is_spent(&self) -> bool {
        self.limit_tokens.is_some_and(|limit| self.used() >= limit)
    }

    /// Prompt and generated tokens of the day.
    pub fn used(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.generated_tokens)
    }

    /// The part of [`Self::used`] that was prompt.
    pub fn prompt_tokens(&self) -> u64 {
        self.prompt_tokens
    }

    /// The part of [`Self::used`] that was generated.
    pub fn generated_tokens(&self) -> u64 {
        self.generated_tokens
    }

    /// The daily limit, if there is one.
    pub fn limit(&self) -> Option<u64> {
        self.limit_tokens
    }

    /// What is left of the limit, if there is one.
    pub fn remaining(&self) -> Option<u64> {
        self.limit_tokens.map(|limit| limit.saturating_sub(self.used()))
    }

    /// The count that draws the warning, if there is a limit.
    pub fn warn_at(&self) -> Option<u64> {
        self.limit_tokens.map(|limit| share_of(limit, self.warn_ratio))
    }

    /// Whether the warning of the day was given.
    pub fn has_warned(&self) -> bool {
        self.has_warned
    }

    /// The day that is counted, as `2026-05-21`.
    pub fn date(&self) -> String {
        self.day.to_string()
    }

    /// The first moment of the next day.
    pub fn resets_at(&self) -> Wall {
        self.resets_at
    }

    /// The local time of the reset, as `2026-05-22T00:00:00.000+10:00`.
    pub fn resets_at_local(&self) -> String {
        calendar::rfc3339(self.timezone, self.resets_at)
    }

    /// The name of the time zone.
    pub fn time_zone(&self) -> &'static str {
        self.timezone.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::tests::utc;

    fn config(zone: &str, limit: Option<u64>) -> Config {
        let timezone = time_tz::timezones::get_by_name(zone).expect("a zone");
        Config { timezone, daily_limit_tokens: limit, ..Config::defaults() }
    }

    #[test]
    fn the_count_starts_again_with_the_day() {
        let mut ledger = Ledger::new(&config("Australia/Melbourne", Some(100)), utc(2026, 10, 3, 14, 0));
        assert_eq!(ledger.date(), "2026-10-04");
        ledger.count(90, 20, utc(2026, 10, 4, 12, 59));
        assert!(ledger.is_spent());
        assert!(!ledger.roll(utc(2026, 10, 4, 12, 59)));
        assert!(ledger.roll(utc(2026, 10, 4, 13, 0)));
        assert_eq!((ledger.used(), ledger.is_spent(), ledger.date().as_str()), (0, false, "2026-10-05"));
    }

    #[test]
    fn the_warning_comes_once_and_the_limit_is_named() {
        let now = utc(2026, 5, 20, 14, 30);
        let mut ledger = Ledger::new(&config("UTC", Some(100)), now);
        assert_eq!(ledger.count(50, 29, now), None);
        assert_eq!(ledger.count(1, 0, now), Some(Notice::Warning));
        assert_eq!(ledger.count(1, 0, now), None);
        assert_eq!((ledger.remaining(), ledger.warn_at(), ledger.is_spent()), (Some(19), Some(80), false));
        assert_eq!(ledger.count(0, 30, now), Some(Notice::LimitReached));
        assert_eq!(ledger.count(0, 30, now), None, "requests in flight finish and count");
        assert_eq!((ledger.remaining(), ledger.is_spent()), (Some(0), true));
    }

    #[test]
    fn without_a_limit_nothing_is_ever_spent() {
        let now = utc(2026, 5, 20, 14, 30);
        let mut ledger = Ledger::new(&config("UTC", None), now);
        assert_eq!(ledger.count(u64::MAX, u64::MAX, now), None);
        assert_eq!((ledger.is_spent(), ledger.remaining()), (false, None));
    }

    #[test]
    fn a_snapshot_is_taken_when_there_is_news_and_goes_on_after_a_restart() {
        let now = utc(2026, 5, 20, 14, 30);
        let config = config("Australia/Melbourne", Some(100));
        let mut ledger = Ledger::new(&config, now);
        assert!(ledger.snapshot().is_some() && ledger.snapshot().is_none());
        ledger.count(70, 15, now);
        let file = ledger.snapshot().expect("there is news");
        let mut restarted = Ledger::new(&config, now);
        assert_eq!(restarted.restore(&file), Restored::Continued);
        assert_eq!((restarted.prompt_tokens(), restarted.generated_tokens()), (70, 15));
        assert!(restarted.has_warned() && !restarted.is_unsaved());
        restarted.mark_unsaved();
        assert_eq!(restarted.snapshot(), Some(file));
    }

    #[test]
    fn a_file_of_another_day_or_none_of_ours_is_told_apart() {
        let config = config("UTC", None);
        let mut yesterday = Ledger::new(&config, utc(2026, 5, 19, 23, 59));
        let file = yesterday.snapshot().expect("news");
        let mut ledger = Ledger::new(&config, utc(2026, 5, 20, 0, 0));
        assert_eq!(ledger.restore(&file), Restored::OtherDay("2026-05-19".to_owned()));
        let text = String::from_utf8(file).expect("JSON");
        for damaged in [
            "",
            "{",
            "[]",
            "{}",
            &text[..text.len() / 2],
            &text.replace(":1,", ":2,"),
            &text.replace("2026-05-19", "yesterday"),
            &text.replace("2026-05-19", "2026-02-30"),
            &text.replace("\"prompt_tokens\":0", "\"prompt_tokens\":-1"),
        ] {
            assert!(matches!(ledger.restore(damaged.as_bytes()), Restored::Damaged(_)), "{damaged}");
            assert_eq!(ledger.used(), 0);
        }
    }
}
