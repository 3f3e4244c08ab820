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
mod burst;
pub mod cached;
pub mod demand;
mod forecast;
pub mod knowledge;
mod lane;
mod learned;
mod margin;
mod others;
pub mod outlook;
pub mod output;
mod pace;
pub mod prompt_size;
mod speed;
mod window;

use std::collections::BTreeMap;

pub use bucket::RequestBucket;
use demand::{Asked, Demand, Times};
pub use forecast::Forecast;
use knowledge::{Archive, Knowledge};
pub use lane::{Balance, Lane};
use lane::{LaneRules, Start};
pub use pace::Reception;
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, Technique},
    time::{Mono, Now},
};

/// The most lanes that are kept. A team uses a dozen models; a client that makes up names must not
/// grow our memory.
pub const LANES_MAX: usize = 256;

/// So much of an answer has to have gone by, and an eighth of what went by before, until it is looked at anew what is
/// to come.
const PROGRESS_TOKENS_MIN: u64 = 32;

/// One of the three limits that Fireworks puts on a model. How each is read from headers is in
/// `learned`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

    /// What is waited for, in words.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Requests => "the request rate",
            Self::Pace => "its turn among starts that come apart, near a limit or after a refusal",
            Self::Tokens(Dimension::Prompt) => "prompt tokens",
            Self::Tokens(Dimension::UncachedPrompt) => "uncached prompt tokens",
            Self::Tokens(Dimension::Generated) => "generated tokens",
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

/// What the headers of one answer say of one dimension, in their own unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The limit.
    pub limit: u64,
    /// What is left of it.
    pub remaining: Option<u64>,
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
    held: Demand,
    /// What it has generated so far, and since when.
    seen: u64,
    begun_at: Option<Mono>,
    taken_at: Mono,
    /// Since when its prompt counts, and the uncached part of it.
    sent_at: Option<Mono>,
    answered_at: Option<Mono>,
    /// How it was started, until it is known how it was received.
    start: Option<Start>,
}

impl Reservation {
    /// What was reserved.
    pub const fn held(&self) -> Tokens {
        self.held.tokens()
    }

    /// Since when there is room for it.
    pub const fn taken_at(&self) -> Mono {
        self.taken_at
    }

    /// When the first of its answer's text came, if some has.
    pub const fn first_token_at(&self) -> Option<Mono> {
        self.begun_at
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
    rules: LaneRules,
    /// What an earlier run has learned.
    archive: Archive,
}

impl Budgets {
    /// A full bucket and no lanes.
    pub fn new(config: &Config) -> Self {
        Self {
            bucket: RequestBucket::new(config.requests_per_second),
            ids: BTreeMap::new(),
            lanes: BTreeMap::new(),
            next_lane: 0,
            rules: LaneRules::new(config),
            archive: Archive::default(),
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
        asked: &Asked,
        now: Mono,
    ) -> Result<Reservation, Refusal> {
        let mut held = Demand::default();
        let mut lane = id.and_then(|id| self.lanes.get_mut(&id));
        if let Some(lane) = &mut lane {
            held = lane.estimator.demand(asked, now);
            lane.check(&held, &Demand::default(), now)?;
        }
        let refused = |until| Refusal { waits_for: WaitsFor::Requests, until: Some(until) };
        self.bucket.check(now).map_err(refused)?;
        self.bucket.take(now);
        let start = lane.map(|lane| lane.reserve(&held, now));
        Ok(Reservation {
            lane: id,
            asked: asked.clone(),
            held,
            seen: 0,
            begun_at: None,
            taken_at: now,
            sent_at: None,
            answered_at: None,
            start,
        })
    }

    /// The first of some requests that may start now without delaying one that was refused for tokens.
    pub fn find_passing<'a, T>(
        &mut self,
        id: Option<LaneId>,
        (blocked, refusal): (&Asked, Refusal),
        mut behind: impl Iterator<Item = (T, &'a Asked)>,
        now: Mono,
    ) -> Option<T> {
        let (WaitsFor::Tokens(_), Some(until)) = (refusal.waits_for, refusal.until) else { return None };
        self.bucket.check(now).ok()?;
        let lane = self.lane_mut(id)?;
        let blocked = lane.estimator.demand(blocked, now);
        let is_delayed = |later: Refusal| later.until.is_none_or(|later| later > until);
        let mut may_pass = |asked: &Asked| {
            let demand = lane.estimator.demand(asked, now);
            lane.check(&demand, &Demand::default(), now).is_ok()
                && !lane.check(&blocked, &demand, now).is_err_and(is_delayed)
        };
        behind.find_map(|(request, asked)| may_pass(asked).then_some(request))
    }

    /// Says that the last byte of the request was sent: its prompt counts from here.
    pub fn sent(&mut self, reservation: &mut Reservation, now: Mono) {
        if reservation.sent_at.is_none() {
            reservation.sent_at = Some(now);
            if let Some(lane) = self.lane_mut(reservation.lane) {
                lane.count_prompt(&reservation.held, now);
            }
        }
    }

    /// Says that so many tokens of the answer have gone by. Whether that changes what is expected of it.
    pub fn progressed(&mut self, reservation: &mut Reservation, seen: u64, now: Mono) -> bool {
        reservation.begun_at = reservation.begun_at.or_else(|| (seen > 0).then_some(now));
        if seen < reservation.seen + reservation.seen / 8 + PROGRESS_TOKENS_MIN {
            return false;
        }
        reservation.seen = seen;
        if !self.rules.techniques.has(Technique::Progress) {
            return false;
        }
        let Some(lane) = self.lane_mut(reservation.lane) else { return false };
        let expected = lane.estimator.generated(seen, reservation.asked.output_cap);
        lane.expect_generated(&mut reservation.held, expected);
        true
    }

    /// Says how the upstream received the request. What it says first counts.
    pub fn received(&mut self, reservation: &mut Reservation, reception: Reception, now: Mono) {
        if let (Some(lane), Some(start)) = (self.lane_mut(reservation.lane), reservation.start.take()) {
            lane.received(start, reception, now);
            if reception == Reception::Admitted && reservation.answered_at.is_none() {
                reservation.answered_at = Some(now);
                lane.count_uncached(&reservation.held, now);
            }
        }
    }

    /// Ends a reservation with what was really used.
    pub fn settle(&mut self, mut reservation: Reservation, spent: Spent, now: Mono) {
        self.received(&mut reservation, Reception::Unknown, now);
        let Reservation { lane, asked, held, sent_at, answered_at, begun_at, .. } = reservation;
        if let Some(lane) = self.lane_mut(lane) {
            lane.settle(&held, [sent_at, answered_at, None], &spent.tokens, now);
            if spent.is_reported {
                let times = Times { sent: sent_at.unwrap_or(now), begun: begun_at, ended: now };
                lane.observe(&asked, spent.tokens, times);
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

    /// Takes a limit, and what is left of it, from the headers of the answer to a request, in the headers' own unit.
    pub fn learn(&mut self, reservation: &Reservation, dimension: Dimension, header: Header, now: Mono) {
        let sent_at = reservation.sent_at.unwrap_or(now);
        if let Some(lane) = self.lane_mut(reservation.lane) {
            lane.learn(dimension, header.limit, sent_at, now);
            if let Some(remaining) = header.remaining {
                lane.learn_remaining(dimension, header.limit, remaining, now);
            }
        }
    }

    /// Takes in what an earlier run has learned: each lane that is made from now on takes up what there is of its model.
    pub fn take_in(&mut self, kept: Vec<Knowledge>, now: Now) {
        self.archive.take_in(kept, now);
    }

    /// What is to be kept for another run: of the models that were used last, what their lanes have learned last.
    pub fn knowledge(&self, now: Now) -> Vec<Knowledge> {
        self.archive.renewed(self.lanes.values(), now)
    }

    /// Whether anything was learned after a time.
    pub fn has_learned_since(&self, at: Mono) -> bool {
        self.lanes.values().filter_map(Lane::learned_at).any(|learned_at| learned_at > at)
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
        let mut lane = Lane::new(model, *credential, &self.rules, now);
        if let Some((kept, kept_for)) = self.archive.find(model, now) {
            lane.restore(kept, kept_for, now);
        }
        self.lanes.insert(id, lane);
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
            limits: crate::config::TokenLimits {
                prompt: limit(10_000),
                uncached_prompt: limit(1_000),
                generated: limit(100),
            },
            safety_ratio: Some(0.8),
            chars_per_token: 1.0,
            output_reserve_tokens: 30,
            requests_per_second: 10.0,
            // These have tests of their own, and limits so small would mix them in.
            techniques: Config::defaults()
                .techniques
                .without(Technique::SmoothStarts)
                .without(Technique::Burst),
            ..Config::defaults()
        };
        let mut budgets = Budgets::new(&config);
        let lane = budgets.find_or_add_lane(1, "model", Mono::ZERO, |_| false);
        (budgets, lane)
    }

    fn asked(prompt: u64) -> Asked {
        Asked::letters(prompt)
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
        let first = budgets.try_reserve(Some(lane), &asked(10), at(1.0)).expect("room");
        let second = budgets.try_reserve(Some(lane), &asked(10), at(1.0)).expect("room");
        let refusal = budgets.try_reserve(Some(lane), &asked(10), at(1.0)).expect_err("90 of 80");
        assert_eq!(refusal, Refusal { waits_for: generated(), until: None });
        budgets.settle(first, spent(10, 10, 5), at(2.0));
        let third = budgets.try_reserve(Some(lane), &asked(10), at(2.0)).expect("65 of 80");
        budgets.refund(second, at(3.0));
        budgets.refund(third, at(3.0));
        let balance = budgets.lanes_mut().next().expect("one lane").1.balances(at(3.0))[2];
        assert_eq!((balance.used, balance.reserved, balance.effective), (5, 0, 80));
    }

    #[test]
    fn a_refusal_knows_when_tokens_leave_the_window() {
        let (mut budgets, lane) = budgets();
        let first = budgets.try_reserve(Some(lane), &asked(10), at(0.0)).expect("room");
        budgets.settle(first, spent(10, 10, 75), at(1.0));
        let refusal = budgets.try_reserve(Some(lane), &asked(10), at(2.0)).expect_err("75 + 30 of 80");
        assert_eq!(refusal, Refusal { waits_for: generated(), until: Some(at(61.25)) });
        budgets
            .try_reserve(Some(lane), &asked(10), at(61.25))
            .map(|ticket| budgets.refund(ticket, at(62.0)))
            .expect("room");
    }

    #[test]
    fn a_prompt_counts_from_when_it_was_sent_and_the_rest_from_when_it_was_known() {
        let (mut budgets, lane) = budgets();
        let mut ticket = budgets.try_reserve(Some(lane), &asked(500), at(0.0)).expect("room");
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
        let small = budgets.try_reserve(Some(lane), &asked(10), at(0.0)).expect("room");
        let refusal = budgets.try_reserve(Some(lane), &asked(9_000), at(0.0)).expect_err("not alone");
        assert_eq!(refusal.until, None);
        budgets.settle(small, spent(10, 10, 1), at(1.0));
        let refusal = budgets.try_reserve(Some(lane), &asked(9_000), at(1.0)).expect_err("not alone yet");
        assert_eq!(refusal.until, Some(at(61.75)), "a prompt counts for half a second more");
        let big = budgets.try_reserve(Some(lane), &asked(9_000), at(61.75)).expect("alone");
        budgets.refund(big, at(62.0));
    }

    #[test]
    fn the_longest_wait_names_the_budget() {
        let (mut budgets, lane) = budgets();
        let first = budgets.try_reserve(Some(lane), &asked(10), at(0.0)).expect("room");
        budgets.settle(first, spent(7_999, 10, 0), at(5.0));
        let second = budgets.try_reserve(Some(lane), &asked(1), at(10.0)).expect("room");
        budgets.settle(second, spent(1, 799, 0), at(20.0));
        let refusal = budgets.try_reserve(Some(lane), &asked(500), at(21.0)).expect_err("both are full");
        let waits_for = WaitsFor::Tokens(Dimension::UncachedPrompt);
        assert_eq!(refusal, Refusal { waits_for, until: Some(at(80.25)) });
    }

    #[test]
    fn lanes_do_not_hold_each_other_up_and_requests_do() {
        let (mut budgets, lane) = budgets();
        let other = budgets.find_or_add_lane(1, "other", at(0.0), |_| false);
        assert_ne!(lane, other);
        assert_ne!(budgets.find_or_add_lane(2, "model", at(0.0), |_| false), lane, "another credential");
        let mut held = vec![
            budgets.try_reserve(Some(lane), &asked(1), at(0.0)).expect("room"),
            budgets.try_reserve(Some(lane), &asked(1), at(0.0)).expect("room"),
            budgets.try_reserve(Some(other), &asked(1), at(0.0)).expect("another lane has room"),
        ];
        held.extend((0..7).map(|_| budgets.try_reserve(None, &asked(1), at(0.0)).expect("a burst of ten")));
        let refusal = budgets.try_reserve(None, &asked(1), at(0.0)).expect_err("the bucket is empty");
        assert_eq!(refusal, Refusal { waits_for: WaitsFor::Requests, until: Some(at(0.1)) });
        for ticket in held {
            budgets.refund(ticket, at(0.0));
        }
        assert_eq!(budgets.bucket().available(at(0.0)), 10, "nothing was sent, so all of it came back");
    }

    #[test]
    fn reports_teach_the_lane() {
        let (mut budgets, lane) = budgets();
        let mut held = Vec::new();
        for second in 0..60u32 {
            let now = at(f64::from(second) * 100.0);
            let mut ticket = budgets.try_reserve(Some(lane), &asked(100), now).expect("room");
            held.push(ticket.held());
            budgets.sent(&mut ticket, now);
            budgets.progressed(&mut ticket, 1, now + Duration::from_secs(1));
            let spent = Spent { is_reported: true, ..spent(80, 80, 12) };
            budgets.settle(ticket, spent, now + Duration::from_secs(2));
        }
        assert_eq!(held[0], Tokens { prompt: 100, uncached_prompt: 100, generated: 30 });
        assert_eq!(held[3].generated, 30, "too few to be believed");
        let ticket = budgets.try_reserve(Some(lane), &asked(100), at(6_000.0)).expect("room");
        let Tokens { prompt, generated, .. } = ticket.held();
        assert!((79..=82).contains(&prompt) && (12..=13).contains(&generated), "{prompt} {generated}");
        budgets.refund(ticket, at(6_000.0));
    }

    #[test]
    fn the_number_of_lanes_is_bounded() {
        let (mut budgets, busy) = budgets();
        let ticket = budgets.try_reserve(Some(busy), &asked(1), at(0.0)).expect("room");
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
