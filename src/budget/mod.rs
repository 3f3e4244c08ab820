//! Budgets: who may send how much, and when.
//!
//! One request bucket for the whole proxy, and a [`Lane`] of three rolling token budgets for each
//! pair of credential and model. A request's [`Tokens`] are reserved before it is sent and settled
//! with what it really used. How the upstream received a request ([`Reception`]) sets the pace of its lane, and
//! how far the limit is believed. A [`Reservation`] ends in exactly one of [`Budgets::settle`] and
//! [`Budgets::refund`]. A refusal is a value that knows when it is worth asking again.
//!
//! Knows no bytes, no sessions and no queue; reads no clock.

mod book;
mod bucket;
pub mod demand;
mod lane;
mod learned;
mod pace;
mod window;

use std::collections::BTreeMap;

pub use bucket::RequestBucket;
use demand::Asked;
pub use lane::{Balance, Lane};
use pace::Era;
pub use pace::Reception;

use crate::{
    config::{Config, TokenLimits},
    time::Mono,
};

/// The most lanes that are kept. A team uses a dozen models; a client that makes up names must not
/// grow our memory.
pub const LANES_MAX: usize = 256;

/// One of the three limits that Fireworks puts on a model. How each is read from headers is in
/// `learned`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    /// All prompt tokens, cached or not.
    Prompt,
    /// Prompt tokens that no cache served.
    UncachedPrompt,
    /// Generated tokens.
    Generated,
}

impl Dimension {
    /// All three, in the order in which they index a lane's books.
    pub const ALL: [Self; 3] = [Self::Prompt, Self::UncachedPrompt, Self::Generated];

    /// The name used on pages and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::UncachedPrompt => "uncached_prompt",
            Self::Generated => "generated",
        }
    }
}

/// An amount in each dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    /// All prompt tokens, cached or not.
    pub prompt: u64,
    /// Prompt tokens that no cache served.
    pub uncached_prompt: u64,
    /// Generated tokens.
    pub generated: u64,
}

impl Tokens {
    /// The amount in one dimension.
    pub const fn get(&self, dimension: Dimension) -> u64 {
        match dimension {
            Dimension::Prompt => self.prompt,
            Dimension::UncachedPrompt => self.uncached_prompt,
            Dimension::Generated => self.generated,
        }
    }
}

/// What a request that was not admitted waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// The request bucket.
    Requests,
    /// Its lane's pace, which the upstream has slowed by refusing.
    Pace,
    /// A token budget of its lane.
    Tokens(Dimension),
}

impl WaitsFor {
    /// The name used on pages and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Pace => "pace",
            Self::Tokens(dimension) => dimension.name(),
        }
    }
}

/// No room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What there is no room in.
    pub waits_for: WaitsFor,
    /// When there may be; `None` when only a settlement or a learned limit can tell.
    pub until: Option<Mono>,
}

/// The identity of a lane for as long as the proxy runs; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneId(u64);

/// Room taken for one request. Not `Clone`: it is given to exactly one of [`Budgets::settle`] and
/// [`Budgets::refund`].
#[derive(Debug)]
#[must_use = "a reservation that is neither settled nor refunded holds its tokens for ever"]
pub struct Reservation {
    /// The lane, for requests that cost tokens.
    pub lane: Option<LaneId>,
    asked: Asked,
    held: Tokens,
    taken_at: Mono,
    sent_at: Option<Mono>,
    /// When it was started in terms of its lane's pace, until it is known how it was received.
    era: Option<Era>,
}

impl Reservation {
    /// What was reserved.
    pub const fn held(&self) -> Tokens {
        self.held
    }
}

/// What a request used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// The tokens.
    pub tokens: Tokens,
    /// Whether the upstream reported them, so that something can be learned from them.
    pub is_reported: bool,
}

/// All budgets.
#[derive(Debug)]
pub struct Budgets {
    bucket: RequestBucket,
    ids: BTreeMap<(u64, String), LaneId>,
    lanes: BTreeMap<LaneId, Lane>,
    next_lane: u64,
    limits: TokenLimits,
    safety_ratio: f64,
    output_reserve_tokens: u64,
}

impl Budgets {
    /// A full bucket and no lanes.
    pub fn new(config: &Config) -> Self {
        Self {
            bucket: RequestBucket::new(config.requests_per_second),
            ids: BTreeMap::new(),
            lanes: BTreeMap::new(),
            next_lane: 0,
            limits: config.limits,
            safety_ratio: config.safety_ratio,
            output_reserve_tokens: config.output_reserve_tokens,
        }
    }

    /// The lane of a model under a credential, made when it is new. Beyond [`LANES_MAX`] the lane
    /// that was idle longest makes room; `is_awaited` tells those with waiters. Where every lane is
    /// busy, strangers share one without a name.
    pub fn find_or_add_lane(
        &mut self,
        credential: u64,
        model: &str,
        now: Mono,
        is_awaited: impl Fn(LaneId) -> bool,
    ) -> LaneId {
        let key = (credential, model.to_owned());
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let is_full = self.lanes.len() >= LANES_MAX;
        if is_full && !self.drop_idlest_lane(now, is_awaited) {
            let shared = (0, String::new());
            return self.ids.get(&shared).copied().unwrap_or_else(|| self.add_lane(shared, now));
        }
        self.add_lane(key, now)
    }

    /// Reserves room for a request: in its lane, if it costs tokens, and in the request bucket.
    ///
    /// # Errors
    /// What there is no room in; then nothing was reserved.
    pub fn try_reserve(
        &mut self,
        id: Option<LaneId>,
        asked: Asked,
        now: Mono,
    ) -> Result<Reservation, Refusal> {
        let mut held = Tokens::default();
        let mut lane = id.and_then(|id| self.lanes.get_mut(&id));
        if let Some(lane) = &mut lane {
            held = lane.estimator.demand(asked, self.output_reserve_tokens);
            lane.check(&held, now)?;
        }
        let refused = |until| Refusal { waits_for: WaitsFor::Requests, until: Some(until) };
        self.bucket.check(now).map_err(refused)?;
        self.bucket.take(now);
        let era = lane.map(|lane| lane.reserve(&held, now));
        Ok(Reservation { lane: id, asked, held, taken_at: now, sent_at: None, era })
    }

    /// Says that the last byte of the request was sent: its prompt counts from here.
    pub fn sent(&mut self, reservation: &mut Reservation, now: Mono) {
        if reservation.sent_at.is_none() {
            reservation.sent_at = Some(now);
            if let Some(lane) = self.lane_mut(reservation.lane) {
                lane.count_prompt(reservation.held.prompt, now);
            }
        }
    }

    /// Says how the upstream received the request. What it says first counts.
    pub fn received(&mut self, reservation: &mut Reservation, reception: Reception, now: Mono) {
        if let (Some(lane), Some(era)) = (self.lane_mut(reservation.lane), reservation.era.take()) {
            lane.received(era, reception, now);
        }
    }

    /// Ends a reservation with what was really used.
    pub fn settle(&mut self, mut reservation: Reservation, spent: Spent, now: Mono) {
        self.received(&mut reservation, Reception::Unknown, now);
        let Reservation { lane, asked, held, sent_at, .. } = reservation;
        if let Some(lane) = self.lane_mut(lane) {
            lane.settle(&held, sent_at, &spent.tokens, now);
            if spent.is_reported {
                lane.estimator.observe(asked, spent.tokens);
            }
        }
    }

    /// Ends a reservation of which nothing was used. A request that was never sent whole gets its
    /// place in the bucket back.
    pub fn refund(&mut self, reservation: Reservation, now: Mono) {
        if reservation.sent_at.is_none() {
            self.bucket.give_back(reservation.taken_at);
        }
        self.settle(reservation, Spent::default(), now);
    }

    /// Takes one limit from a response's headers, in the header's own unit.
    pub fn learn(&mut self, lane: LaneId, dimension: Dimension, value: u64, now: Mono) {
        if let Some(lane) = self.lane_mut(Some(lane)) {
            lane.learn(dimension, value, now);
        }
    }

    /// The request bucket.
    pub fn bucket(&self) -> &RequestBucket {
        &self.bucket
    }

    /// Every lane, in the order in which they were first used. Mutable, because reading a window
    /// lets go of what has left it.
    pub fn lanes_mut(&mut self) -> impl Iterator<Item = (LaneId, &mut Lane)> {
        self.lanes.iter_mut().map(|(id, lane)| (*id, lane))
    }

    fn add_lane(&mut self, key: (u64, String), now: Mono) -> LaneId {
        let id = LaneId(self.next_lane);
        self.next_lane += 1;
        let (credential, model) = &key;
        self.lanes.insert(id, Lane::new(model, *credential, &self.limits, self.safety_ratio, now));
        self.ids.insert(key, id);
        id
    }

    fn lane_mut(&mut self, id: Option<LaneId>) -> Option<&mut Lane> {
        self.lanes.get_mut(&id?)
    }

    fn drop_idlest_lane(&mut self, now: Mono, is_awaited: impl Fn(LaneId) -> bool) -> bool {
        let idle = self.lanes.iter_mut().filter_map(|(id, lane)| {
            (lane.is_idle(now) && !is_awaited(*id)).then(|| (lane.last_used(), *id))
        });
        let Some((_, id)) = idle.min() else { return false };
        self.lanes.remove(&id);
        self.ids.retain(|_, other| *other != id);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: f64) -> Mono {
        Mono::ZERO + Duration::from_secs_f64(seconds)
    }

    /// Budgets of 80 generated, 800 uncached and 8,000 prompt tokens a minute after the ratio.
    fn budgets() -> (Budgets, LaneId) {
        let limit = |tokens_per_minute| crate::config::TokenLimit { tokens_per_minute, is_ceiling: true };
        let config = Config {
            limits: TokenLimits {
                prompt: limit(10_000),
                uncached_prompt: limit(1_000),
                generated: limit(100),
            },
            output_reserve_tokens: 30,
            requests_per_second: 10.0,
            ..Config::defaults()
        };
        let mut budgets = Budgets::new(&config);
        let lane = budgets.find_or_add_lane(1, "model", Mono::ZERO, |_| false);
        (budgets, lane)
    }

    fn asked(prompt_guess: u64) -> Asked {
        Asked { prompt_guess, output_cap: None }
    }

    fn spent(prompt: u64, uncached_prompt: u64, generated: u64) -> Spent {
        Spent { tokens: Tokens { prompt, uncached_prompt, generated }, is_reported: false }
    }

    fn generated() -> WaitsFor {
        WaitsFor::Tokens(Dimension::Generated)
    }

    #[test]
    fn what_is_reserved_is_not_given_twice_and_comes_back_when_settled() {
        let (mut budgets, lane) = budgets();
        let first = budgets.try_reserve(Some(lane), asked(10), at(1.0)).expect("room");
        let second = budgets.try_reserve(Some(lane), asked(10), at(1.0)).expect("room");
        let refusal = budgets.try_reserve(Some(lane), asked(10), at(1.0)).expect_err("90 of 80");
        assert_eq!(refusal, Refusal { waits_for: generated(), until: None });
        budgets.settle(first, spent(10, 10, 5), at(2.0));
        let third = budgets.try_reserve(Some(lane), asked(10), at(2.0)).expect("65 of 80");
        budgets.refund(second, at(3.0));
        budgets.refund(third, at(3.0));
        let balance = budgets.lanes_mut().next().expect("one lane").1.balances(at(3.0))[2];
        assert_eq!((balance.used, balance.reserved, balance.effective), (5, 0, 80));
    }

    #[test]
    fn a_refusal_knows_when_tokens_leave_the_window() {
        let (mut budgets, lane) = budgets();
        let first = budgets.try_reserve(Some(lane), asked(10), at(0.0)).expect("room");
        budgets.settle(first, spent(10, 10, 75), at(1.0));
        let refusal = budgets.try_reserve(Some(lane), asked(10), at(2.0)).expect_err("75 + 30 of 80");
        assert_eq!(refusal, Refusal { waits_for: generated(), until: Some(at(62.5)) });
        budgets
            .try_reserve(Some(lane), asked(10), at(62.5))
            .map(|ticket| budgets.refund(ticket, at(63.0)))
            .expect("room");
    }

    #[test]
    fn a_prompt_counts_from_when_it_was_sent_and_the_rest_from_when_it_was_known() {
        let (mut budgets, lane) = budgets();
        let mut ticket = budgets.try_reserve(Some(lane), asked(500), at(0.0)).expect("room");
        budgets.sent(&mut ticket, at(2.0));
        budgets.settle(ticket, spent(600, 300, 20), at(40.0));
        let mut used = |seconds| {
            let lane = budgets.lanes_mut().next().expect("one lane").1;
            lane.balances(at(seconds)).map(|balance| balance.used)
        };
        assert_eq!(used(41.0), [600, 300, 20]);
        assert_eq!(used(63.5), [0, 300, 20]);
        assert_eq!(used(101.5), [0, 0, 0]);
    }

    #[test]
    fn a_request_bigger_than_the_whole_budget_goes_alone() {
        let (mut budgets, lane) = budgets();
        let small = budgets.try_reserve(Some(lane), asked(10), at(0.0)).expect("room");
        let refusal = budgets.try_reserve(Some(lane), asked(9_000), at(0.0)).expect_err("not alone");
        assert_eq!(refusal.until, None);
        budgets.settle(small, spent(10, 10, 1), at(1.0));
        let refusal = budgets.try_reserve(Some(lane), asked(9_000), at(1.0)).expect_err("not alone yet");
        assert_eq!(refusal.until, Some(at(62.5)));
        let big = budgets.try_reserve(Some(lane), asked(9_000), at(62.5)).expect("alone");
        budgets.refund(big, at(63.0));
    }

    #[test]
    fn the_longest_wait_names_the_budget() {
        let (mut budgets, lane) = budgets();
        let first = budgets.try_reserve(Some(lane), asked(10), at(0.0)).expect("room");
        budgets.settle(first, spent(7_999, 10, 0), at(5.0));
        let second = budgets.try_reserve(Some(lane), asked(1), at(10.0)).expect("room");
        budgets.settle(second, spent(1, 799, 0), at(20.0));
        let refusal = budgets.try_reserve(Some(lane), asked(500), at(21.0)).expect_err("both are full");
        let waits_for = WaitsFor::Tokens(Dimension::UncachedPrompt);
        assert_eq!(refusal, Refusal { waits_for, until: Some(at(81.5)) });
    }

    #[test]
    fn lanes_do_not_hold_each_other_up_and_requests_do() {
        let (mut budgets, lane) = budgets();
        let other = budgets.find_or_add_lane(1, "other", at(0.0), |_| false);
        assert_ne!(lane, other);
        assert_ne!(budgets.find_or_add_lane(2, "model", at(0.0), |_| false), lane, "another credential");
        let mut held = vec![
            budgets.try_reserve(Some(lane), asked(1), at(0.0)).expect("room"),
            budgets.try_reserve(Some(lane), asked(1), at(0.0)).expect("room"),
            budgets.try_reserve(Some(other), asked(1), at(0.0)).expect("another lane has room"),
        ];
        held.extend((0..7).map(|_| budgets.try_reserve(None, asked(1), at(0.0)).expect("a burst of ten")));
        let refusal = budgets.try_reserve(None, asked(1), at(0.0)).expect_err("the bucket is empty");
        assert_eq!(refusal, Refusal { waits_for: WaitsFor::Requests, until: Some(at(0.1)) });
        for ticket in held {
            budgets.refund(ticket, at(0.0));
        }
        assert_eq!(budgets.bucket().available(at(0.0)), 10, "nothing was sent, so all of it came back");
    }

    #[test]
    fn reports_teach_the_lane() {
        let (mut budgets, lane) = budgets();
        for second in 0..4u32 {
            let now = at(f64::from(second) * 100.0);
            let ticket = budgets.try_reserve(Some(lane), asked(100), now).expect("room");
            assert_eq!(ticket.held(), Tokens { prompt: 100, uncached_prompt: 100, generated: 30 });
            budgets.settle(ticket, Spent { is_reported: true, ..spent(80, 8, 12) }, now);
        }
        let ticket = budgets.try_reserve(Some(lane), asked(100), at(400.0)).expect("room");
        assert_eq!(ticket.held(), Tokens { prompt: 80, uncached_prompt: 8, generated: 12 });
        budgets.refund(ticket, at(400.0));
    }

    #[test]
    fn the_number_of_lanes_is_bounded() {
        let (mut budgets, busy) = budgets();
        let ticket = budgets.try_reserve(Some(busy), asked(1), at(0.0)).expect("room");
        for index in 0..2 * LANES_MAX {
            budgets.find_or_add_lane(1, &format!("model {index}"), at(1.0), |_| false);
        }
        assert_eq!((budgets.lanes.len(), budgets.ids.len()), (LANES_MAX, LANES_MAX));
        assert_eq!(
            budgets.find_or_add_lane(1, "model", at(2.0), |_| false),
            busy,
            "a busy lane is not dropped"
        );
        let shared = budgets.find_or_add_lane(1, "one more", at(2.0), |_| true);
        assert_eq!(budgets.find_or_add_lane(1, "yet another", at(2.0), |_| true), shared);
        budgets.refund(ticket, at(2.0));
    }
}
