//! One lane: the three token budgets of one model under one credential.

use std::time::Duration;

use super::{
    Dimension, Refusal, Tokens, WaitsFor,
    book::{Book, Level},
    demand::{Asked, Demand, Estimator, Times},
    knowledge::{ESTIMATES_KEPT_FOR, Knowledge},
    outlook::Outlook,
    pace::{Era, News, Pace, Reception, UNEXPLAINED_MAX},
};
use crate::{
    config::{Config, Technique, Techniques, TokenLimits},
    time::Mono,
};

/// Prompts count so much longer than a minute, because Fireworks starts its minute when it sees the request, which is
/// after we sent it: half a second covers a route around the world. Of the rest we hear after Fireworks has counted it.
const PROMPT_LATENESS: Duration = Duration::from_millis(500);

/// From this share of a limit on what is let in or refused says something of the limit.
const NEARLY: f64 = 0.6;

/// Fireworks limits each model of an account apart, so each has books of its own.
#[derive(Debug)]
pub struct Lane {
    /// The model as clients name it; empty where a body names none.
    pub model: String,
    /// The keyed hash of the credential. Says nothing about the credential itself.
    pub credential: u64,
    /// What its requests cost.
    pub estimator: Estimator,
    /// Requests between admission and settlement.
    pub in_flight: usize,
    /// How fast it may start requests.
    pace: Pace,
    books: [Book; 3],
    techniques: Techniques,
    last_used: Mono,
    /// When an answer has last taught something.
    learned_at: Option<Mono>,
}

/// How a request was started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// In terms of the lane's pace.
    era: Era,
    /// What was used of each limit.
    levels: [Level; 3],
}

/// What the settings say of every lane.
#[derive(Debug, Clone)]
pub(super) struct LaneRules {
    pub(super) limits: TokenLimits,
    /// The share of the limits that is used, if it is fixed.
    pub(super) safety_ratio: Option<f64>,
    pub(super) requests_per_second: f64,
    pub(super) output_reserve_tokens: u64,
    pub(super) chars_per_token: f64,
    pub(super) techniques: Techniques,
}

impl LaneRules {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            limits: config.limits,
            safety_ratio: config.safety_ratio,
            requests_per_second: config.requests_per_second,
            output_reserve_tokens: config.output_reserve_tokens,
            chars_per_token: config.chars_per_token,
            techniques: config.techniques,
        }
    }
}

/// One budget, as it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Balance {
    /// Which one.
    pub dimension: Dimension,
    /// The limit of the settings, in tokens per minute.
    pub configured: u64,
    /// The limit that headers taught, if any.
    pub learned: Option<u64>,
    /// The limit that holds: what was learned, but no more than a limit that was set.
    pub limit: u64,
    /// What may be used within a minute: the limit that holds, times the safety ratio.
    pub effective: u64,
    /// Used within the last minute.
    pub used: u64,
    /// Held for requests in flight.
    pub reserved: u64,
    /// The share of the limit that is used, in (0, 1].
    pub margin: f64,
    /// What others on the same account used within the last minute, as far as headers tell.
    pub others: u64,
    /// How much may be used at once, as the time in which it flows in.
    pub burst: Duration,
}

impl Lane {
    /// A lane with empty books.
    pub(super) fn new(model: &str, credential: u64, rules: &LaneRules, now: Mono) -> Self {
        let TokenLimits { prompt, uncached_prompt, generated } = rules.limits;
        Self {
            model: model.to_owned(),
            credential,
            estimator: Estimator::new(rules.chars_per_token, rules.output_reserve_tokens, rules.techniques),
            in_flight: 0,
            pace: Pace::new(rules.requests_per_second, rules.techniques),
            books: [
                Book::new(prompt, PROMPT_LATENESS, rules),
                Book::new(uncached_prompt, Duration::ZERO, rules),
                Book::new(generated, Duration::ZERO, rules),
            ],
            techniques: rules.techniques,
            last_used: now,
            learned_at: None,
        }
    }

    /// Whether a request may start: as to the pace, and then as to the room for `demand` in all three
    /// budgets, with what another one costs that starts `before` it. If there is none, the budget is named that has to be
    /// waited for longest.
    ///
    /// # Errors
    /// What to wait for, and when it is worth asking again.
    pub(super) fn check(&mut self, demand: &Demand, before: &Demand, now: Mono) -> Result<(), Refusal> {
        let slowed = |until| Refusal { waits_for: WaitsFor::Pace, until: Some(until) };
        let is_near = self.is_near(now);
        self.pace.check(is_near, now).map_err(slowed)?;
        self.check_tokens(demand, before, now)
    }

    /// The same without the pace.
    pub(super) fn check_tokens(
        &mut self,
        demand: &Demand,
        before: &Demand,
        now: Mono,
    ) -> Result<(), Refusal> {
        let mut refusals = Dimension::ALL.into_iter().filter_map(|dimension| {
            let book = &mut self.books[dimension as usize];
            let until =
                book.check(&demand.0[dimension as usize], &before.0[dimension as usize], now).err()?;
            Some(Refusal { waits_for: WaitsFor::Tokens(dimension), until })
        });
        let Some(first) = refusals.next() else { return Ok(()) };
        // No time at all, "when somebody settles", outlasts every time.
        let is_longer = |left: &Refusal, right: &Refusal| {
            left.until.is_none()
                || right.until.is_some_and(|right| left.until.is_some_and(|left| left > right))
        };
        Err(refusals.fold(first, |longest, other| if is_longer(&other, &longest) { other } else { longest }))
    }

    /// When its pace lets the next request start, and how long after each the one behind it.
    pub(super) fn spacing(&mut self, now: Mono) -> (Mono, Duration) {
        let is_near = self.is_near(now);
        let next_start = self.pace.check(is_near, now).err().unwrap_or(now);
        (next_start, self.pace.gap(is_near, now))
    }

    /// When what a request uses at once will have flowed into all budgets, behind what those before it use.
    pub(super) fn flows_at(&self, demand: &Demand, before: &Demand, now: Mono) -> Mono {
        let of = |index: usize| self.books[index].flows_at(&before.0[index], &demand.0[index], now);
        of(0).max(of(1)).max(of(2))
    }

    /// How many requests it has started within the last minute.
    pub fn starts(&mut self, now: Mono) -> u64 {
        self.pace.starts(now)
    }

    /// Whether one of its budgets is nearly used up.
    fn is_near(&mut self, now: Mono) -> bool {
        self.books.iter_mut().any(|book| book.load(now) >= NEARLY)
    }

    pub(super) fn reserve(&mut self, demand: &Demand, now: Mono) -> Start {
        let levels = self.books.each_mut().map(|book| book.level(now));
        for dimension in Dimension::ALL {
            self.books[dimension as usize].reserve(&demand.0[dimension as usize]);
        }
        self.in_flight += 1;
        self.last_used = now;
        Start { era: self.pace.start(now), levels }
    }

    /// How a request that was started in `era` was received: news for everyone in the lane.
    pub(super) fn received(&mut self, start: Start, reception: Reception, now: Mono) {
        let Start { era, levels } = start;
        let loads = self.books.each_mut().map(|book| book.load(now));
        let is_new_burst = self.books.iter().zip(levels).any(|(book, level)| book.is_new_burst(level));
        let is_explained = is_new_burst || loads.iter().any(|load| *load >= NEARLY);
        let suspect = self.suspect(loads, levels);
        match self.pace.received(era, reception, is_explained, now) {
            News::Refused { in_a_row } => {
                if is_explained || in_a_row >= UNEXPLAINED_MAX {
                    self.books[suspect].doubt(in_a_row, now);
                }
                self.learned_at = Some(now);
                let learned =
                    is_explained.then(|| self.books[suspect].refused(levels[suspect], now)).flatten();
                if let Some(span) = learned {
                    self.books.iter_mut().for_each(|book| book.limit_burst(span, now));
                }
            }
            News::Admitted => {
                for (book, (load, level)) in self.books.iter_mut().zip(loads.into_iter().zip(levels)) {
                    book.regain_trust(now);
                    book.prove(level, now);
                    if load >= NEARLY {
                        book.margin.held(now);
                    }
                }
            }
            News::None => {}
        }
    }

    /// The book whose limit a refusal was for, as far as can be told: of those that are nearly used up the one that is
    /// furthest beyond what has been let in before.
    fn suspect(&self, loads: [f64; 3], levels: [Level; 3]) -> usize {
        let beyond = [0, 1, 2].map(|index| {
            let (minute, at_once) = self.books[index].beyond_proven(levels[index]);
            minute.max(at_once)
        });
        let is_near = |index: &usize| loads[*index] >= NEARLY && self.techniques.has(Technique::Suspicion);
        let near = (0..3).filter(is_near).max_by(|left, right| beyond[*left].total_cmp(&beyond[*right]));
        let fullest = || (0..3).max_by(|left, right| loads[*left].total_cmp(&loads[*right]));
        near.or_else(fullest).expect("there are three")
    }

    /// Counts the prompt from the moment the request is sent, as Fireworks does at admission.
    pub(super) fn count_prompt(&mut self, demand: &Demand, now: Mono) {
        self.count(demand, Dimension::Prompt, now);
    }

    /// Counts the uncached part of the prompt from the moment that its answer begins: it is known by then.
    pub(super) fn count_uncached(&mut self, demand: &Demand, now: Mono) {
        self.count(demand, Dimension::UncachedPrompt, now);
    }

    fn count(&mut self, demand: &Demand, dimension: Dimension, now: Mono) {
        let book = &mut self.books[dimension as usize];
        let cost = &demand.0[dimension as usize];
        book.release(cost);
        book.use_up(cost.total, now);
    }

    /// Corrects what a request is expected to generate.
    pub(super) fn expect_generated(&mut self, demand: &mut Demand, outlook: Outlook) {
        let book = &mut self.books[Dimension::Generated as usize];
        let held = &mut demand.0[Dimension::Generated as usize];
        book.release(held);
        *held = outlook;
        book.reserve(held);
    }

    /// Replaces what was held for a request by what it used. The prompt counts from `sent_at`, the
    /// rest from `now`: Fireworks charges it when it is known.
    pub(super) fn settle(&mut self, held: &Demand, counted_at: [Option<Mono>; 3], used: &Tokens, now: Mono) {
        for dimension in Dimension::ALL {
            let book = &mut self.books[dimension as usize];
            let (held, used) = (&held.0[dimension as usize], used.get(dimension));
            if let Some(at) = counted_at[dimension as usize] {
                book.correct(held.total, used, at, now);
            } else {
                book.release(held);
                book.use_up(used, now);
            }
        }
        self.in_flight -= 1;
        self.last_used = now;
    }

    /// Learns from what was reported of a request.
    pub(super) fn observe(&mut self, asked: &Asked, reported: Tokens, times: Times) {
        self.estimator.observe(asked, reported, times);
        self.learned_at = Some(times.ended);
    }

    /// Takes what a header says is left of a limit, both in the header's own unit.
    pub(super) fn learn_remaining(&mut self, dimension: Dimension, limit: u64, remaining: u64, now: Mono) {
        if let Some(per_minute) = dimension.per_minute(limit) {
            let left = remaining.saturating_mul(per_minute / limit.max(1));
            let book = &mut self.books[dimension as usize];
            let used = book.window.used(now);
            book.others.observe(per_minute, left, used, now);
        }
    }

    /// Takes one limit from a response's headers, in the header's own unit.
    pub(super) fn learn(&mut self, dimension: Dimension, value: u64, sent_at: Mono, now: Mono) {
        if let Some(per_minute) = dimension.per_minute(value) {
            self.books[dimension as usize].limit.learn(per_minute, sent_at, now);
            self.learned_at = Some(now);
        }
    }

    /// Each budget as it stands.
    pub fn balances(&mut self, now: Mono) -> [Balance; 3] {
        Dimension::ALL.map(|dimension| {
            let book = &mut self.books[dimension as usize];
            Balance {
                dimension,
                configured: book.limit.configured().tokens_per_minute,
                learned: book.limit.learned(now),
                limit: book.limit(now),
                effective: book.effective(now),
                used: book.window.used(now),
                reserved: book.reserved(),
                margin: book.margin.ratio(),
                others: book.others_used(now),
                burst: book.burst_span(),
            }
        })
    }

    /// When an answer has last taught something, if one has.
    pub(super) fn learned_at(&self) -> Option<Mono> {
        self.learned_at
    }

    /// What was learned by then, to be kept.
    pub(super) fn knowledge(&self) -> Knowledge {
        let at = self.learned_at.unwrap_or(self.last_used);
        let limits =
            Dimension::ALL.map(|dimension| (dimension, self.books[dimension as usize].knowledge(at)));
        let limits = Some(limits.into_iter().collect());
        Knowledge { limits, ..self.estimator.knowledge(&self.model) }
    }

    /// Takes up what was learned of the model and kept for so long.
    pub(super) fn restore(&mut self, kept: &Knowledge, kept_for: Duration, now: Mono) {
        if kept_for < ESTIMATES_KEPT_FOR {
            self.estimator.restore(kept);
        }
        for (dimension, limit) in kept.limits.iter().flatten() {
            self.books[*dimension as usize].restore(limit, kept_for, now);
        }
    }

    /// Whether nothing would be lost with the lane but what it has learned.
    pub(super) fn is_idle(&mut self, now: Mono) -> bool {
        self.in_flight == 0 && self.books.iter_mut().all(|book| book.window.used(now) == 0)
    }

    pub(super) fn last_used(&self) -> Mono {
        self.last_used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Mono {
        Mono::ZERO + Duration::from_secs_f64(seconds)
    }

    fn lane() -> Lane {
        Lane::new("model", 1, &LaneRules::new(&Config::defaults()), Mono::ZERO)
    }

    fn demand(prompt: u64, generated: u64) -> Demand {
        Demand([Outlook::at_once(prompt), Outlook::at_once(1), Outlook::at_once(generated)])
    }

    /// Starts a request, which is received so a moment later and then costs what was expected.
    fn run(lane: &mut Lane, demand: &Demand, reception: Reception, now: f64) {
        let start = lane.reserve(demand, at(now));
        lane.received(start, reception, at(now + 0.2));
        let was_let_in = reception == Reception::Admitted;
        let used = if was_let_in { demand.tokens() } else { Tokens::default() };
        lane.settle(demand, [None; 3], &used, at(now + 0.2));
    }

    fn refused(now: f64) -> Reception {
        Reception::RateLimited { until: at(now + 1.0) }
    }

    /// The shares of the limits that are used, in thousandths.
    fn ratios(lane: &Lane) -> [u64; 3] {
        lane.books.each_ref().map(|book| crate::config::share_of(1_000, book.margin.ratio()))
    }

    #[test]
    fn the_margin_goes_down_of_the_limit_that_was_gone_beyond() {
        let mut lane = lane();
        // Two thirds of the generated tokens are let in; then the prompts reach what was never let in.
        run(&mut lane, &demand(100_000, 25_000), Reception::Admitted, 0.0);
        run(&mut lane, &demand(2_800_000, 1), Reception::Admitted, 20.0);
        run(&mut lane, &demand(300_000, 1), Reception::Admitted, 25.0);
        let before = ratios(&lane);
        run(&mut lane, &demand(1, 1), refused(30.0), 30.0);
        let after = ratios(&lane);
        assert!(after[0] < before[0], "{before:?} {after:?}");
        assert_eq!(after[1..], before[1..]);
    }

    #[test]
    fn a_refusal_far_from_every_limit_changes_no_margin_and_closes_nothing() {
        let mut lane = lane();
        run(&mut lane, &demand(1_000, 100), Reception::Admitted, 0.0);
        let before = ratios(&lane);
        run(&mut lane, &demand(1_000, 100), refused(5.0), 5.0);
        assert_eq!(ratios(&lane), before);
        assert_eq!(lane.check(&demand(1_000, 100), &Demand::default(), at(6.5)), Ok(()));
    }

    #[test]
    fn a_refusal_near_a_limit_closes_the_lane() {
        let mut lane = lane();
        run(&mut lane, &demand(3_000_000, 100), Reception::Admitted, 0.0);
        run(&mut lane, &demand(1_000, 100), refused(5.0), 5.0);
        let refusal = lane.check(&demand(1, 1), &Demand::default(), at(5.5)).expect_err("it is closed");
        assert_eq!(refusal, Refusal { waits_for: WaitsFor::Pace, until: Some(at(6.0)) });
    }

    #[test]
    fn what_is_corrected_is_held_once() {
        let mut lane = lane();
        let mut held = demand(10, 2_048);
        let start = lane.reserve(&held, at(0.0));
        lane.expect_generated(&mut held, Outlook::after(Duration::from_secs(5), 300));
        assert_eq!(lane.balances(at(1.0))[2].reserved, 300);
        lane.received(start, Reception::Unknown, at(1.0));
        lane.settle(&held, [None; 3], &Tokens::default(), at(1.0));
        assert_eq!(lane.balances(at(1.0)).map(|balance| balance.reserved), [0; 3]);
    }
}
