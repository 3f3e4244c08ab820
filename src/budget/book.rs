//! One budget: the limit of one dimension of a lane, what is used of it, and what is held.

use std::time::Duration;

use super::{learned::LiveLimit, window::Window};
use crate::{
    config::{TokenLimit, share_of},
    time::Mono,
};

/// Refusals in a row from which on the limit itself is doubted. A single one may be of one cold gateway,
/// or of a burst, and passes with the pause that follows it.
const DOUBTED_REFUSALS: u32 = 2;

/// How long a limit is doubted after the last refusal: limits are per minute, so what was refused a minute
/// ago says nothing of what is allowed now. It also bounds the wait for answers that go on for hours, which
/// hold their reservations as long and may keep others from starting, and so from being let in.
const DOUBTED_FOR: Duration = Duration::from_secs(60);

/// How many good answers it takes from no trust at all to the whole limit.
const TRUST_STEPS: u64 = 16;

/// The account of one dimension.
#[derive(Debug)]
pub(super) struct Book {
    /// The limit that headers and settings give.
    pub(super) limit: LiveLimit,
    /// What was used within the last minute.
    pub(super) window: Window,
    /// Tokens that requests in flight may yet use, beyond what the window holds.
    pub(super) reserved: u64,
    doubt: Option<Doubt>,
}

/// What refusals in a row have left of the trust in a limit.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// What is used at most, whatever the limit says.
    ceiling: u64,
    /// When it has passed.
    until: Mono,
}

impl Book {
    pub(super) fn new(limit: TokenLimit) -> Self {
        Self { limit: LiveLimit::new(limit), window: Window::default(), reserved: 0, doubt: None }
    }

    /// What may be used within a minute.
    pub(super) fn effective(&self, safety_ratio: f64, now: Mono) -> u64 {
        let trusted = self.trusted(safety_ratio, now);
        self.doubt_at(now).map_or(trusted, |doubt| doubt.ceiling.min(trusted))
    }

    /// Whether there is room for `tokens`; if not, when there may be, `None` for "when somebody
    /// settles". A request bigger than the whole budget goes alone, when nothing else is counted.
    pub(super) fn check(&mut self, tokens: u64, safety_ratio: f64, now: Mono) -> Result<(), Option<Mono>> {
        let effective = self.effective(safety_ratio, now);
        let used = self.window.used(now);
        if used + self.reserved + tokens <= effective || used + self.reserved == 0 || tokens == 0 {
            return Ok(());
        }
        let until = if self.reserved > 0 && self.reserved + tokens > effective {
            None
        } else {
            // What is reserved leaves room, so it is the window that is too full: there is a time.
            self.window.falls_to(effective.saturating_sub(self.reserved + tokens))
        };
        let doubted_until = self.doubt_at(now).map(|doubt| doubt.until);
        Err(until.into_iter().chain(doubted_until).min())
    }

    /// The upstream has refused so many times in a row: it may allow no more than what is used already.
    /// The more refusals, the less of the limit is believed in, so that the next request waits until
    /// some of the window has passed instead of being refused as well. Never less than what is used is
    /// taken for the limit: nobody waits for longer than until that has left the window.
    pub(super) fn doubt(&mut self, refusals: u32, safety_ratio: f64, now: Mono) {
        if refusals >= DOUBTED_REFUSALS {
            let believed = self.trusted(safety_ratio, now) >> (refusals - 1).min(u64::BITS - 1);
            let ceiling = believed.max(share_of(self.window.used(now), safety_ratio));
            self.doubt = Some(Doubt { ceiling, until: now + DOUBTED_FOR });
        }
    }

    /// The upstream has let a request in: a step back towards the whole limit.
    pub(super) fn regain_trust(&mut self, safety_ratio: f64, now: Mono) {
        let trusted = self.trusted(safety_ratio, now);
        let raised = self.doubt_at(now).map(|doubt| {
            let ceiling = doubt.ceiling + trusted.div_ceil(TRUST_STEPS);
            Doubt { ceiling, ..doubt }
        });
        self.doubt = raised.filter(|doubt| doubt.ceiling < trusted);
    }

    /// The doubt, if it has not passed yet.
    fn doubt_at(&self, now: Mono) -> Option<Doubt> {
        self.doubt.filter(|doubt| now < doubt.until)
    }

    fn trusted(&self, safety_ratio: f64, now: Mono) -> u64 {
        share_of(self.limit.tokens_per_minute(now), safety_ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const START: Mono = Mono::ZERO;

    fn book(used: u64) -> Book {
        let mut book = Book::new(TokenLimit { tokens_per_minute: 36_000, is_ceiling: false });
        book.window.add(START, used);
        book
    }

    #[test]
    fn refusals_in_a_row_lower_what_is_used_to_what_was_used() {
        let mut book = book(7_500);
        let effective: Vec<u64> = (1..=6)
            .map(|refusals| {
                book.doubt(refusals, 0.8, START);
                book.effective(0.8, START)
            })
            .collect();
        assert_eq!(effective, [28_800, 14_400, 7_200, 6_000, 6_000, 6_000]);
        // The next one waits for the window, and then there is room.
        let until = book.check(900, 0.8, START).expect_err("no room").expect("a time");
        assert!(until.since(START) < Duration::from_secs(62) && book.check(900, 0.8, until).is_ok());
    }

    #[test]
    fn where_nothing_is_used_nobody_waits_for_nothing() {
        let mut book = book(0);
        book.doubt(6, 0.8, START);
        assert_eq!(book.check(2_048, 0.8, START), Ok(()), "it goes alone");
    }

    #[test]
    fn a_doubt_passes_a_minute_after_the_last_refusal() {
        let mut book = book(0);
        book.doubt(5, 0.8, START);
        book.reserved = 2_048;
        // What is reserved may be so for hours, but not the doubt.
        assert_eq!(book.check(2_048, 0.8, START), Err(Some(START + DOUBTED_FOR)));
        book.doubt(6, 0.8, START + DOUBTED_FOR / 2);
        assert!(book.check(2_048, 0.8, START + DOUBTED_FOR).is_err());
        assert_eq!(book.check(2_048, 0.8, START + DOUBTED_FOR * 3 / 2), Ok(()));
        assert_eq!(book.effective(0.8, START + DOUBTED_FOR * 3 / 2), 28_800);
        // Without a doubt only a settlement can tell.
        assert_eq!(book.check(28_800, 0.8, START + DOUBTED_FOR * 3 / 2), Err(None));
    }

    #[test]
    fn good_answers_bring_the_limit_back_step_by_step() {
        let mut book = book(100);
        book.doubt(4, 0.8, START);
        let mut steps = 0;
        let mut last = book.effective(0.8, START);
        assert_eq!(last, 3_600);
        while last < 28_800 {
            book.regain_trust(0.8, START);
            assert!(book.effective(0.8, START) > last);
            last = book.effective(0.8, START);
            steps += 1;
        }
        assert_eq!(steps, 14);
        book.regain_trust(0.8, START);
        assert_eq!(book.effective(0.8, START), 28_800);
    }
}
