//! The day's tokens: counted as responses report them, capped, and kept over restarts.
//!
//! A day is a calendar day of the configured time zone, whatever length its clock changes give it.
//! An answer counts for the day that the wall clock shows when it ends.
//!
//! That clock may be wrong, be set, and be set again. So the date alone says which count goes on, and
//! the counts of the [`DAYS_LEFT_MAX`] days that were left last are kept, in the state file too: when
//! the clock comes back to one of them, forwards or backwards, in this run or the next, its count
//! goes on where it was. No answer is lost or counted twice by that; those that end while the clock
//! is wrong are on the day that it showed.
//!
//! The ledger knows no file: it gives its counts as [`Days`] and takes them up again; `state` writes them.

mod names;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use time::Date;
use time_tz::{TimeZone, Tz};

use crate::{
    calendar,
    config::{Config, share_of},
    time::Wall,
};

pub use names::{NAMES_MAX, Named, Names};

/// So many days are kept that were left, if something was counted on them: a clock that is set twice
/// before it is right shows two wrong days, and one more is there to spare.
const DAYS_LEFT_MAX: usize = 3;

/// The count of today, and of the days that the clock may come back to.
#[derive(Debug)]
pub struct Ledger {
    timezone: &'static Tz,
    limit_tokens: Option<u64>,
    warn_ratio: f64,
    today: DayCount,
    spenders: Spenders,
    /// The first moment of the next day.
    resets_at: Wall,
    /// The days that were left, the last one first.
    left: Vec<DayCount>,
    is_saved: bool,
}

/// Who has spent the tokens of the day, as far as that is kept.
#[derive(Debug, Clone, Default)]
pub struct Spenders {
    /// By model.
    pub models: Names,
    /// By the agents' sessions, or by their programs where these name no session.
    pub sessions: Names,
}

/// The count of one calendar day, in memory and in the state file.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct DayCount {
    #[serde(rename = "date", serialize_with = "write_date", deserialize_with = "read_date")]
    day: Date,
    prompt_tokens: u64,
    generated_tokens: u64,
    #[serde(rename = "warned")]
    has_warned: bool,
}

/// The counts as they are kept over a restart. The newest one is not a part of its own in the file, so that what stands
/// under names that mean nothing here is passed over without a look at it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Days {
    #[serde(rename = "date", serialize_with = "write_date", deserialize_with = "read_date")]
    day: Date,
    prompt_tokens: u64,
    generated_tokens: u64,
    #[serde(rename = "warned")]
    has_warned: bool,
    /// For people; the date alone decides.
    time_zone: String,
    #[serde(default, rename = "days_left", skip_serializing_if = "Vec::is_empty")]
    left: Vec<DayCount>,
    /// Who has spent the tokens of the newest day. Kept beside the counts, where it can do them no harm.
    #[serde(skip)]
    pub spenders: Spenders,
}

impl Days {
    /// Counts that were kept in another form: of each day its prompt and its generated tokens. `None` if there are none.
    pub fn counted(mut days: Vec<(Date, u64, u64)>) -> Option<Self> {
        // The newest day is not always the present one: the clock may be wrong, and the file old.
        days.sort_unstable_by_key(|(day, ..)| std::cmp::Reverse(*day));
        let count = |(day, prompt_tokens, generated_tokens)| DayCount {
            prompt_tokens,
            generated_tokens,
            ..DayCount::new(day)
        };
        let mut counts = days.into_iter().map(count);
        let DayCount { day, prompt_tokens, generated_tokens, has_warned } = counts.next()?;
        let (time_zone, left, spenders) = (String::new(), counts.collect(), Spenders::default());
        Some(Self { day, prompt_tokens, generated_tokens, has_warned, time_zone, left, spenders })
    }

    /// The day that was counted last, as `2026-05-21`.
    pub fn date(&self) -> String {
        self.day.to_string()
    }

    const fn newest(&self) -> DayCount {
        let Self { day, prompt_tokens, generated_tokens, has_warned, .. } = *self;
        DayCount { day, prompt_tokens, generated_tokens, has_warned }
    }
}

/// Something the operator should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The warning ratio was reached.
    Warning,
    /// The limit was reached: further generation requests are refused.
    LimitReached,
}

/// How a day goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayState {
    /// There is enough left, or no limit.
    Ok,
    /// The share that draws the warning is used.
    Warned,
    /// All of it is used: generation requests are refused.
    Spent,
}

impl DayState {
    /// The name used on pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warned => "warned",
            Self::Spent => "spent",
        }
    }
}

impl DayCount {
    const fn new(day: Date) -> Self {
        Self { day, prompt_tokens: 0, generated_tokens: 0, has_warned: false }
    }

    const fn used(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.generated_tokens)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a field by reference")]
fn write_date<S: Serializer>(day: &Date, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(day)
}

fn read_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    let text = String::deserialize(deserializer)?;
    calendar::parse_date(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not a date")))
}

impl Ledger {
    /// An empty count for the day that it is at `now`.
    pub fn new(config: &Config, now: Wall) -> Self {
        let timezone = config.timezone;
        Self {
            timezone,
            limit_tokens: config.daily_limit_tokens,
            warn_ratio: config.daily_warn_ratio,
            today: DayCount::new(calendar::day_at(timezone, now)),
            spenders: Spenders::default(),
            resets_at: calendar::end_of_day(timezone, now),
            left: Vec::new(),
            is_saved: false,
        }
    }

    /// Takes up the counts of another run. Whether that of this day was among them and goes on.
    pub fn restore(&mut self, days: Days) -> bool {
        let newest = days.newest();
        if newest.day == self.today.day {
            self.spenders = days.spenders;
        }
        self.left = std::iter::once(newest).chain(days.left).collect();
        let is_continued = self.take_up(self.today.day);
        self.is_saved = newest.day == self.today.day;
        is_continued
    }

    /// Goes on with the count of a day that was left, or from zero. Whether it was left.
    fn take_up(&mut self, day: Date) -> bool {
        let known = self.left.iter().position(|count| count.day == day);
        self.today = known.map_or_else(|| DayCount::new(day), |index| self.left.remove(index));
        self.left.retain(|count| count.used() > 0);
        self.left.truncate(DAYS_LEFT_MAX);
        known.is_some()
    }

    /// Counts what a response reported.
    pub fn count(&mut self, prompt_tokens: u64, generated_tokens: u64, now: Wall) -> Option<Notice> {
        self.roll(now);
        let before = self.used();
        let today = &mut self.today;
        today.prompt_tokens = today.prompt_tokens.saturating_add(prompt_tokens);
        today.generated_tokens = today.generated_tokens.saturating_add(generated_tokens);
        self.is_saved &= self.used() == before;
        let limit = self.limit_tokens?;
        if before < limit && self.used() >= limit {
            self.today.has_warned = true;
            return Some(Notice::LimitReached);
        }
        if !self.today.has_warned && self.used() >= self.warn_at()? {
            self.today.has_warned = true;
            return Some(Notice::Warning);
        }
        None
    }

    /// Notes who has spent what was counted last.
    pub fn attribute(&mut self, model: &str, session: &str, prompt_tokens: u64, generated_tokens: u64) {
        if prompt_tokens + generated_tokens > 0 {
            self.spenders.models.count(model, prompt_tokens, generated_tokens);
            self.spenders.sessions.count(session, prompt_tokens, generated_tokens);
        }
    }

    /// Who has spent the day's tokens, as far as that is kept.
    pub fn spenders(&self) -> &Spenders {
        &self.spenders
    }

    /// Goes over to the day that it is at `now`: to a new one from zero, to one that was left where it
    /// was. Whether it is another day than before.
    pub fn roll(&mut self, now: Wall) -> bool {
        let today = calendar::day_at(self.timezone, now);
        if today == self.today.day {
            return false;
        }
        self.left.insert(0, self.today);
        self.spenders = Spenders::default();
        self.take_up(today);
        self.resets_at = calendar::end_of_day(self.timezone, now);
        self.is_saved = false;
        true
    }

    /// What is to be saved, if the state file is out of date; then it counts as saved.
    pub fn snapshot(&mut self) -> Option<Days> {
        if self.is_saved {
            return None;
        }
        self.is_saved = true;
        let time_zone = self.time_zone().to_owned();
        let DayCount { day, prompt_tokens, generated_tokens, has_warned } = self.today;
        let (left, spenders) = (self.left.clone(), self.spenders.clone());
        Some(Days { day, prompt_tokens, generated_tokens, has_warned, time_zone, left, spenders })
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

    /// How the day goes.
    pub fn state(&self) -> DayState {
        match self.warn_at() {
            _ if self.is_spent() => DayState::Spent,
            Some(warn_at) if self.used() >= warn_at => DayState::Warned,
            _ => DayState::Ok,
        }
    }

    /// Prompt and generated tokens of the day.
    pub fn used(&self) -> u64 {
        self.today.used()
    }

    /// The part of [`Self::used`] that was prompt.
    pub fn prompt_tokens(&self) -> u64 {
        self.today.prompt_tokens
    }

    /// The part of [`Self::used`] that was generated.
    pub fn generated_tokens(&self) -> u64 {
        self.today.generated_tokens
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

    /// The operator was told how the day goes, and need not be warned of it again. Whether that is news.
    pub fn note_warned(&mut self) -> bool {
        let is_news = !self.today.has_warned;
        self.today.has_warned = true;
        self.is_saved &= !is_news;
        is_news
    }

    /// Whether the warning of the day was given.
    pub fn has_warned(&self) -> bool {
        self.today.has_warned
    }

    /// The day that is counted, as `2026-05-21`.
    pub fn date(&self) -> String {
        self.today.day.to_string()
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
    fn a_day_that_the_clock_comes_back_to_goes_on_where_it_was() {
        let config = config("UTC", Some(100));
        let [day, wrong, other] = [20, 28, 3].map(|day| utc(2026, 5, day, 12, 0));
        let mut ledger = Ledger::new(&config, day);
        assert_eq!(ledger.count(80, 0, day), Some(Notice::Warning));
        for (now, tokens, used) in
            [(wrong, 3, 3), (day, 1, 81), (wrong, 3, 6), (other, 50, 50), (day, 1, 82), (other, 7, 57)]
        {
            assert_eq!(ledger.count(tokens, 0, now), None, "the warning was given");
            assert_eq!(ledger.used(), used, "{}", ledger.date());
        }
        assert_eq!(ledger.count(18, 0, day), Some(Notice::LimitReached));
        assert!(ledger.roll(wrong) && !ledger.is_spent());
        assert!(ledger.roll(day) && ledger.is_spent() && ledger.has_warned());
        assert_eq!(ledger.resets_at_local(), "2026-05-21T00:00:00.000+00:00");
    }

    #[test]
    fn days_that_were_left_are_kept_in_the_file_and_not_for_ever() {
        let config = config("UTC", None);
        let day = |day| utc(2026, 5, day, 12, 0);
        let mut ledger = Ledger::new(&config, day(1));
        for number in 1..=9 {
            ledger.count(u64::from(number), 0, day(number));
        }
        // Days on which nothing was counted are not worth a place.
        for number in 20..=28 {
            ledger.roll(day(number));
        }
        let days = ledger.snapshot().expect("there is news");
        for (number, used, is_continued) in [(28, 0, true), (9, 9, true), (7, 7, true), (6, 0, false)] {
            let mut restarted = Ledger::new(&config, day(number));
            assert_eq!((restarted.restore(days.clone()), restarted.used()), (is_continued, used));
            assert_eq!(restarted.is_unsaved(), number != 28, "the file's first day is another one");
            assert!(restarted.roll(day(8)));
            assert_eq!(restarted.used(), 8, "the others go on too");
        }
        assert_eq!((days.date().as_str(), days.left.len()), ("2026-05-28", DAYS_LEFT_MAX));
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
    fn who_was_told_at_the_start_is_not_warned_again() {
        let now = utc(2026, 5, 20, 14, 30);
        let mut ledger = Ledger::new(&config("UTC", Some(1_000)), now);
        ledger.count(90, 0, now);
        let days = ledger.snapshot().expect("there is news");
        let mut restarted = Ledger::new(&config("UTC", Some(100)), now);
        assert!(restarted.restore(days) && restarted.state() == DayState::Warned);
        assert!(restarted.note_warned() && restarted.is_unsaved() && !restarted.note_warned());
        assert_eq!(restarted.count(1, 0, now), None);
        assert_eq!(restarted.count(9, 0, now), Some(Notice::LimitReached));
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
        let days = ledger.snapshot().expect("there is news");
        let mut restarted = Ledger::new(&config, now);
        assert!(restarted.restore(days));
        assert_eq!((restarted.prompt_tokens(), restarted.generated_tokens()), (70, 15));
        assert!(restarted.has_warned() && !restarted.is_unsaved());
        restarted.mark_unsaved();
        let again = restarted.snapshot().expect("it is asked for again");
        assert_eq!((again.newest().used(), again.time_zone.as_str()), (85, "Australia/Melbourne"));
    }
}
