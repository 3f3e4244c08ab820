//! The day's tokens, as all sessions share them: counted, rolled over at midnight, and told of so that nobody
//! misses it.

use std::time::Duration;

use log::Level;

use super::Context;
use crate::{
    journal::{Entry, Event},
    ledger::DayState,
    time::{Mono, Now},
};

/// How long a day that is near its limit, or beyond it, goes on without a word of that in the log while
/// something happens.
const REMINDER_INTERVAL: Duration = Duration::from_secs(15 * 60);

impl Context {
    /// Whether generation requests are refused, on the day that it is now.
    pub fn is_day_spent(&mut self, now: Now) -> bool {
        self.roll_day(now);
        self.ledger.is_spent()
    }

    /// Goes over to another day if the clock shows one.
    pub fn roll_day(&mut self, now: Now) {
        if self.ledger.roll(now.wall) {
            let date = self.ledger.date();
            let text = match self.ledger.used() {
                0 => format!("a new day: {date}, the daily count starts at 0"),
                used => format!("the clock shows {date} again: its daily count goes on at {used}"),
            };
            let entry = self.day_entry(text);
            self.log(Level::Info, entry);
            self.tell_of_day(now.mono);
            self.set_save(now.mono);
        }
    }

    /// Counts what a response reported to a session of a model, and tells once of a day that is near its limit, and
    /// once of one that has reached it.
    pub fn count_tokens(
        &mut self,
        (model, session): (&str, &str),
        (prompt, generated): (u64, u64),
        now: Now,
    ) {
        self.roll_day(now);
        let notice = self.ledger.count(prompt, generated, now.wall);
        self.ledger.attribute(model, session, prompt, generated);
        if self.ledger.is_unsaved() {
            self.set_save(now.mono);
        }
        if notice.is_some() {
            self.tell_of_day(now.mono);
        }
    }

    /// Tells of the day again if it is not well, and that was not said for a while.
    pub fn remind_of_day(&mut self, now: Mono) {
        if self.day_told_at.is_none_or(|at| now >= at + REMINDER_INTERVAL) {
            self.tell_of_day(now);
        }
    }

    /// Tells what is wrong with the day, if something is: what that means, until when, and what to do.
    pub(super) fn tell_of_day(&mut self, now: Mono) {
        let (used, limit) = (self.ledger.used(), self.ledger.limit().unwrap_or(0));
        let (date, resets_at) = (self.ledger.date(), self.ledger.resets_at_local());
        let what_to_do = "raise FIREWORKS_PROXY_DAILY_TOKEN_LIMIT (0 means no limit) and restart";
        let (level, text) = match self.ledger.state() {
            DayState::Ok => {
                self.day_told_at = None;
                return;
            }
            DayState::Warned => (
                Level::Warn,
                format!(
                    "DAILY TOKEN WARNING: {used} of {limit} tokens of {date} are used. At the limit all requests \
                     that make a model work get 429 until {resets_at}; to have more, {what_to_do}"
                ),
            ),
            DayState::Spent => (
                Level::Error,
                format!(
                    "DAILY TOKEN LIMIT REACHED: {used} of {limit} tokens of {date} are used. All requests that \
                     make a model work get 429 until {resets_at}; to go on at once, {what_to_do}"
                ),
            ),
        };
        self.day_told_at = Some(now);
        if self.ledger.note_warned() {
            self.set_save(now);
        }
        let entry = self.day_entry(text);
        self.log(level, entry);
    }

    fn day_entry(&self, text: String) -> Entry {
        let ledger = &self.ledger;
        Entry::saying(Event::Day, text)
            .with("state", ledger.state().name())
            .with("date", ledger.date())
            .with("used", ledger.used())
            .with("limit", ledger.limit())
            .with("remaining", ledger.remaining())
            .with("resets_at", ledger.resets_at_local())
    }
}
