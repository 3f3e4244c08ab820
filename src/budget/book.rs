//! One budget: the limit of one dimension of a lane, what is used of it, and what is held.

use std::time::Duration;

use super::{
    burst::Burst,
    knowledge::{LimitKnowledge, MARGINS_KEPT_FOR},
    lane::LaneRules,
    learned::LiveLimit,
    margin::Margin,
    others::Others,
    outlook::{HORIZONS, Outlook},
    window::Window,
};
use crate::{
    config::{Technique, Techniques, TokenLimit, share_of},
    time::Mono,
};

/// Refusals in a row from which on the limit itself is doubted. A single one may be of one cold gateway,
/// or of a burst, and passes with the pause that follows it.
const DOUBTED_REFUSALS: u32 = 2;

/// How long a limit is doubted after the last refusal: limits are per minute, so what was refused a minute
/// ago says nothing of what is allowed now. It also bounds the wait for answers that go on for hours, which
/// hold their reservations as long and may keep others from starting, and so from being let in.
const DOUBTED_FOR: Duration = Duration::from_secs(60);

/// What is left, after each further request that was let in, of the most that was used then: half of it after some ten
/// busy minutes.
const PROVEN_FADING: f64 = 0.999;

/// Up to this share of a limit, it is not for the minute that a request is refused.
const ROOM: f64 = 0.9;

/// Below this share of what was let in before, what was used at once is not what a refusal was for.
const NEARLY_PROVEN: f64 = 0.9;

/// How many good answers it takes from no trust at all to the whole limit.
const TRUST_STEPS: u64 = 16;

/// The account of one dimension.
#[derive(Debug)]
pub(super) struct Book {
    /// The limit that headers and settings give.
    pub(super) limit: LiveLimit,
    /// What was used within the last minute.
    pub(super) window: Window,
    /// What was used at once.
    burst: Burst,
    /// What requests in flight will probably use, beyond what the window holds.
    pending: Outlook,
    /// The share of the limit that is used.
    pub(super) margin: Margin,
    /// What others use of it.
    pub(super) others: Others,
    /// The most that was used lately when the upstream let a request in.
    proven: f64,
    doubt: Option<Doubt>,
    techniques: Techniques,
}

/// How much of a limit is used when a request starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Level {
    /// In tokens of the last minute.
    minute: u64,
    /// What was taken out of the bucket and has not flowed back, as the time that this takes.
    at_once: Duration,
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
    pub(super) fn new(limit: TokenLimit, lateness: Duration, rules: &LaneRules) -> Self {
        Self {
            limit: LiveLimit::new(limit),
            window: Window::new(lateness),
            burst: Burst::default(),
            pending: Outlook::default(),
            margin: Margin::new(rules.safety_ratio),
            others: Others::default(),
            proven: 0.0,
            doubt: None,
            techniques: rules.techniques,
        }
    }

    /// What may be used within a minute.
    pub(super) fn effective(&self, now: Mono) -> u64 {
        let trusted = self.trusted(now);
        self.doubt_at(now).map_or(trusted, |doubt| doubt.ceiling.min(trusted))
    }

    /// The share of the limit itself that is used or held.
    pub(super) fn load(&mut self, now: Mono) -> f64 {
        let counted = self.window.used(now) + self.pending.total + self.others_used(now);
        as_f64(counted) / as_f64(self.limit.tokens_per_minute(now).max(1))
    }

    /// Whether a request may start; if not, when one may, `None` for "when somebody settles". Two things are asked:
    /// that there is anything left now, for that is what the upstream refuses by; and that there will be room for what
    /// is in flight and for this request when it is charged, by when some of what counts now has left the minute. A
    /// request bigger than the whole budget goes alone, when nothing else is counted.
    ///
    /// `before` is what another request will cost that is to start first.
    pub(super) fn check(&mut self, cost: &Outlook, before: &Outlook, now: Mono) -> Result<(), Option<Mono>> {
        let (effective, limit) = (self.effective(now), self.limit.tokens_per_minute(now));
        let used = self.window.used(now);
        if used + self.pending.total + before.total == 0 || cost.total == 0 {
            return Ok(());
        }
        // What is used up refuses, whatever is charged later.
        let mut latest = self.window.falls_to(effective.saturating_sub(1)).unwrap_or(now).max(now);
        let mut is_full = false;
        for (index, horizon) in HORIZONS.into_iter().enumerate() {
            let wanted = self.pending.by[index] + before.by[index] + cost.by[index];
            if wanted > effective {
                is_full = true;
                break;
            }
            let horizon = if self.techniques.has(Technique::Foresight) { horizon } else { Duration::ZERO };
            let falls = self.window.falls_to(effective - wanted).map_or(now, |at| at - horizon);
            let flows = if self.techniques.has(Technique::Burst) {
                self.burst.room_at(wanted, limit) - horizon
            } else {
                now
            };
            latest = latest.max(falls).max(flows);
        }
        if !is_full && latest <= now {
            return Ok(());
        }
        // A settlement may come first; without one in sight, it is the window that has to be empty.
        let until = Some(latest).filter(|_| !is_full);
        let empty_at = self.window.falls_to(0).filter(|_| self.pending.total + before.total == 0);
        let doubted_until = self.doubt_at(now).map(|doubt| doubt.until);
        let others_until = self.others.believed_until().filter(|_| self.others_used(now) > 0);
        Err([until, empty_at, doubted_until, others_until].into_iter().flatten().min())
    }

    /// When so much may be used at once behind what is used at once before it.
    pub(super) fn flows_at(&self, before: &Outlook, cost: &Outlook, now: Mono) -> Mono {
        if !self.techniques.has(Technique::Burst) || cost.total == 0 {
            return now;
        }
        let limit = self.limit.tokens_per_minute(now);
        self.burst.room_behind(self.pending.total + before.total, cost.total, limit, now)
    }

    /// What is used now, for a request that starts.
    pub(super) fn level(&mut self, now: Mono) -> Level {
        Level { minute: self.window.used(now), at_once: self.burst.taken(now) }
    }

    /// The upstream has let a request in that was started at this level.
    pub(super) fn prove(&mut self, level: Level, now: Mono) {
        self.proven = as_f64(level.minute).max(self.proven * PROVEN_FADING);
        self.burst.prove(level.at_once, now);
    }

    /// A level, as a multiple of the most that was let in lately: in a minute, and at once.
    pub(super) fn beyond_proven(&self, level: Level) -> (f64, f64) {
        (as_f64(level.minute) / self.proven.max(1.0), self.burst.beyond_proven(level.at_once))
    }

    /// Whether a request was started with more used at once than was let in before.
    pub(super) fn is_new_burst(&self, level: Level) -> bool {
        self.techniques.has(Technique::Burst) && self.burst.is_new(level.at_once)
    }

    /// The upstream has refused a request for this limit that was started at this level: less of it is used, in a
    /// minute or at once, whichever was further beyond what was let in before. Nothing is learned from it where the limit
    /// itself was found to be lower: that is what it was refused for.
    ///
    /// Gives the bucket that was learned, which will be that of the other limits too.
    pub(super) fn refused(&mut self, level: Level, now: Mono) -> Option<Duration> {
        if self.limit.is_falling(now) {
            return None;
        }
        let (minute, at_once) = self.beyond_proven(level);
        let has_room = level.minute < share_of(self.trusted(now), ROOM);
        let is_burst = has_room && at_once > minute.max(NEARLY_PROVEN);
        if is_burst && self.techniques.has(Technique::Burst) {
            Some(self.burst.refused(level.at_once, now))
        } else {
            self.margin.refused(now);
            None
        }
    }

    /// Another limit was found to be kept in a bucket that holds so much.
    pub(super) fn limit_burst(&mut self, span: Duration, now: Mono) {
        self.burst.limit(span, now);
    }

    /// How much may be used at once, as the time in which it flows in.
    pub(super) fn burst_span(&self) -> Duration {
        self.burst.span()
    }

    /// What was learned by a time, to be kept.
    pub(super) fn knowledge(&self, at: Mono) -> LimitKnowledge {
        LimitKnowledge {
            margin: self.margin.knowledge(),
            learned: self.limit.knowledge(at),
            burst: self.burst.knowledge(at),
        }
    }

    /// Takes up what was kept for so long.
    pub(super) fn restore(&mut self, kept: &LimitKnowledge, kept_for: Duration, now: Mono) {
        if let Some(learned) = kept.learned {
            self.limit.restore(learned, kept_for, now);
        }
        if kept_for < MARGINS_KEPT_FOR {
            kept.margin.into_iter().for_each(|ratio| self.margin.restore(ratio));
            kept.burst.into_iter().for_each(|burst| self.burst.restore(burst, kept_for, now));
        }
    }

    /// Holds what a request will probably use.
    pub(super) fn reserve(&mut self, cost: &Outlook) {
        self.pending.add(cost);
    }

    /// Lets go of what was held.
    pub(super) fn release(&mut self, cost: &Outlook) {
        self.pending.remove(cost);
    }

    /// Tokens that requests in flight will probably use, beyond what the window holds.
    pub(super) fn reserved(&self) -> u64 {
        self.pending.total
    }

    /// Counts what is used now.
    pub(super) fn use_up(&mut self, tokens: u64, now: Mono) {
        self.window.add(now, tokens);
        self.burst.take(tokens, self.limit.tokens_per_minute(now), now);
    }

    /// Replaces what was counted at a time by what it really was.
    pub(super) fn correct(&mut self, counted: u64, used: u64, at: Mono, now: Mono) {
        self.window.remove(at, counted);
        self.window.add(at, used);
        let limit = self.limit.tokens_per_minute(now);
        // What was counted may have flowed back long ago: only the difference is taken or given back.
        self.burst.give_back(counted.saturating_sub(used), limit);
        self.burst.take(used.saturating_sub(counted), limit, now);
    }

    /// The upstream has refused so many times in a row: it may allow no more than what is used already.
    /// The more refusals, the less of the limit is believed in, so that the next request waits until
    /// some of the window has passed instead of being refused as well. Never less than what is used is
    /// taken for the limit: nobody waits for longer than until that has left the window.
    pub(super) fn doubt(&mut self, refusals: u32, now: Mono) {
        if refusals >= DOUBTED_REFUSALS {
            let believed = self.trusted(now) >> (refusals - 1).min(u64::BITS - 1);
            let ceiling = believed.max(share_of(self.window.used(now), self.margin.ratio()));
            self.doubt = Some(Doubt { ceiling, until: now + DOUBTED_FOR });
        }
    }

    /// The upstream has let a request in: a step back towards the whole limit.
    pub(super) fn regain_trust(&mut self, now: Mono) {
        let trusted = self.trusted(now);
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

    fn trusted(&self, now: Mono) -> u64 {
        let limit = self.limit.tokens_per_minute(now);
        share_of(limit, self.margin.ratio()).saturating_sub(self.others_used(now))
    }

    /// The limit that holds: what was learned, where the settings allow it.
    pub(super) fn limit(&self, now: Mono) -> u64 {
        self.limit.tokens_per_minute(now)
    }

    /// What others use of the limit, in tokens of the last minute.
    pub(super) fn others_used(&self, now: Mono) -> u64 {
        let used = self.others.used(self.limit.tokens_per_minute(now), now);
        if self.techniques.has(Technique::Others) { used } else { 0 }
    }
}

#[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
fn as_f64(tokens: u64) -> f64 {
    tokens as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Mono = Mono::ZERO;
    const NOTHING: Outlook = Outlook { by: [0; HORIZONS.len()], total: 0 };

    fn rules(techniques: Techniques) -> LaneRules {
        LaneRules {
            safety_ratio: Some(0.8),
            techniques,
            ..LaneRules::new(&crate::config::Config::defaults())
        }
    }

    fn book_with(used: u64, techniques: Techniques) -> Book {
        let limit = TokenLimit { tokens_per_minute: 36_000, is_ceiling: false };
        let mut book = Book::new(limit, Duration::ZERO, &rules(techniques));
        book.window.add(START, used);
        book
    }

    fn book(used: u64) -> Book {
        book_with(used, Techniques::default())
    }

    #[test]
    fn who_waits_for_what_others_use_is_asked_again_when_that_is_not_believed_any_more() {
        let mut book = book(10_000);
        for second in 0..6 {
            book.others.observe(36_000, 6_000, 10_000, START + Duration::from_secs(second));
        }
        let now = START + Duration::from_secs(6);
        assert_eq!(book.others_used(now), 20_000);
        let until = check(&mut book, 2_000, now).expect_err("nothing is left").expect("a time");
        assert_eq!(until, START + Duration::from_secs(30), "and not when the window is empty");
        assert_eq!(check(&mut book, 2_000, until), Ok(()));
    }

    fn check(book: &mut Book, tokens: u64, now: Mono) -> Result<(), Option<Mono>> {
        book.check(&Outlook::at_once(tokens), &NOTHING, now)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_charged_when_the_minute_has_passed_finds_room() {
        let mut book = book(28_000);
        let later = Outlook::after(seconds(60), 10_000);
        // The window has let go of nothing by the time it is charged, and then of all.
        let until = book.check(&later, &NOTHING, START).expect_err("0.25 s early").expect("a time");
        assert_eq!(until, START + Duration::from_millis(250));
        assert_eq!(book.check(&later, &NOTHING, until), Ok(()));
        assert!(check(&mut book, 10_000, until).is_err(), "not what is charged now");
        let techniques = Techniques::default().without(Technique::Foresight);
        assert!(book_with(28_000, techniques).check(&later, &NOTHING, until).is_err());
    }

    #[test]
    fn who_starts_before_counts_too() {
        let mut book = book(10_000);
        let cost = Outlook::at_once(5_000);
        assert_eq!(book.check(&cost, &Outlook::at_once(3_000), START), Ok(()));
        assert!(book.check(&cost, &Outlook::at_once(15_000), START).is_err());
    }

    #[test]
    fn what_is_used_up_lets_nothing_in_however_late_it_is_charged() {
        let mut book = book(28_800);
        let later = Outlook::after(seconds(3_600), 1);
        let until = book.check(&later, &NOTHING, START).expect_err("used up");
        assert_eq!(until, Some(START + seconds(60) + Duration::from_millis(250)));
    }

    #[test]
    fn only_an_answer_can_tell_when_what_is_in_flight_leaves_no_room() {
        let mut book = book(0);
        let cost = Outlook::at_once(20_000);
        book.reserve(&cost);
        assert_eq!(check(&mut book, 10_000, START), Err(None));
        book.release(&cost);
        assert_eq!((check(&mut book, 100_000, START), book.reserved()), (Ok(()), 0), "it goes alone");
    }

    #[test]
    fn what_was_used_at_once_holds_up_what_the_minute_would_let_in() {
        let mut book = book(0);
        book.use_up(18_000, START);
        assert_eq!(check(&mut book, 1_000, START), Err(Some(START + Duration::from_micros(1_666_666))));
        let mut without = book_with(0, Techniques::default().without(Technique::Burst));
        without.use_up(18_000, START);
        assert_eq!(check(&mut without, 1_000, START), Ok(()));
    }

    #[test]
    fn a_refusal_is_for_what_went_beyond_what_was_let_in_before() {
        let limit = TokenLimit { tokens_per_minute: 36_000, is_ceiling: false };
        let adaptive = LaneRules { safety_ratio: None, ..rules(Techniques::default()) };
        let mut book = Book::new(limit, Duration::ZERO, &adaptive);
        let let_in = Level { minute: 20_000, at_once: seconds(12) };
        book.prove(let_in, START);
        // More than ever within a minute, and no more at once: the minute's margin goes down.
        assert_eq!(book.refused(Level { minute: 27_000, at_once: seconds(10) }, START), None);
        assert!(book.margin.ratio() < 0.8);
        // Far from the minute's limit, and more at once than ever: it is kept in a bucket.
        let ratio = book.margin.ratio();
        assert_eq!(book.refused(Level { minute: 15_000, at_once: seconds(16) }, START), Some(seconds(12)));
        assert!((book.margin.ratio() - ratio).abs() < 1e-9);
    }

    #[test]
    fn what_others_use_is_left_to_them() {
        let mut book = book(0);
        for second in 0..6 {
            book.others.observe(36_000, 26_000, 0, START + seconds(second));
        }
        let now = START + seconds(6);
        assert_eq!((book.others_used(now), book.effective(now)), (10_000, 18_800));
    }

    #[test]
    fn refusals_in_a_row_lower_what_is_used_to_what_was_used() {
        let mut book = book(7_500);
        let effective: Vec<u64> = (1..=6)
            .map(|refusals| {
                book.doubt(refusals, START);
                book.effective(START)
            })
            .collect();
        assert_eq!(effective, [28_800, 14_400, 7_200, 6_000, 6_000, 6_000]);
        // The next one waits for the window, and then there is room.
        let until = check(&mut book, 900, START).expect_err("no room").expect("a time");
        assert!(until.since(START) < seconds(61) && check(&mut book, 900, until).is_ok());
    }

    #[test]
    fn where_nothing_is_used_nobody_waits_for_nothing() {
        let mut book = book(0);
        book.doubt(6, START);
        assert_eq!(check(&mut book, 2_048, START), Ok(()), "it goes alone");
    }

    #[test]
    fn a_doubt_passes_a_minute_after_the_last_refusal() {
        let mut book = book(0);
        book.doubt(5, START);
        book.reserve(&Outlook::at_once(2_048));
        // What is reserved may be so for hours, but not the doubt.
        assert_eq!(check(&mut book, 2_048, START), Err(Some(START + DOUBTED_FOR)));
        book.doubt(6, START + DOUBTED_FOR / 2);
        assert!(check(&mut book, 2_048, START + DOUBTED_FOR).is_err());
        assert_eq!(check(&mut book, 2_048, START + DOUBTED_FOR * 3 / 2), Ok(()));
        assert_eq!(book.effective(START + DOUBTED_FOR * 3 / 2), 28_800);
        // Without a doubt only a settlement can tell.
        assert_eq!(check(&mut book, 28_800, START + DOUBTED_FOR * 3 / 2), Err(None));
    }

    #[test]
    fn good_answers_bring_the_limit_back_step_by_step() {
        let mut book = book(100);
        book.doubt(4, START);
        let mut steps = 0;
        let mut last = book.effective(START);
        assert_eq!(last, 3_600);
        while last < 28_800 {
            book.regain_trust(START);
            assert!(book.effective(START) > last);
            last = book.effective(START);
            steps += 1;
        }
        assert_eq!(steps, 14);
        book.regain_trust(START);
        assert_eq!(book.effective(START), 28_800);
    }
}
