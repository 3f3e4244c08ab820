//! Admission: where the wait queue meets the budgets.
//!
//! A request waits in the queue of its lane until the lane's token budgets and the request bucket
//! have room for it. A lane that refused is not asked again before the time its refusal named, or
//! before something happened to it: an answer, a settlement, a learned limit, an earlier deadline in front. So
//! a full lane holds up no other, and nobody is woken for nothing.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    budget::{Budgets, Dimension, LaneId, Reception, Refusal, Reservation, Spent, WaitsFor, demand::Asked},
    config::Config,
    queue::{self, WaitQueue},
    time::Mono,
};

/// The queue a request waits in: its lane's, or the common one of requests that cost no tokens.
type QueueLane = Option<LaneId>;

/// Names one waiting request.
pub type Ticket = queue::Ticket<QueueLane>;

/// One waiting request. `C` names the client connection that it belongs to.
#[derive(Debug, Clone)]
pub struct Waiter<C> {
    /// Whom to tell.
    pub client: C,
    /// What it will probably cost.
    pub asked: Asked,
    /// Since when it waits.
    pub since: Mono,
}

/// Budgets and queue together.
#[derive(Debug)]
pub struct Admission<C> {
    budgets: Budgets,
    queue: WaitQueue<QueueLane, Waiter<C>>,
    /// The lanes whose first request was refused, and why.
    refused: BTreeMap<QueueLane, Refusal>,
    /// Until when the request bucket is empty; it stands for every lane.
    bucket_empty_until: Option<Mono>,
}

impl<C: Copy> Admission<C> {
    /// Full budgets and an empty queue.
    pub fn new(config: &Config) -> Self {
        Self {
            budgets: Budgets::new(config),
            queue: WaitQueue::default(),
            refused: BTreeMap::new(),
            bucket_empty_until: None,
        }
    }

    /// The lane of a model under a credential.
    pub fn find_or_add_lane(&mut self, credential: u64, model: &str, now: Mono) -> LaneId {
        let Self { budgets, queue, .. } = self;
        budgets.find_or_add_lane(credential, model, now, |lane| queue.is_awaited(Some(lane)))
    }

    /// Lets a request wait for room, which may be there already: see [`Self::admit`].
    pub fn enqueue(&mut self, lane: QueueLane, deadline: Mono, waiter: Waiter<C>) -> Ticket {
        let ticket = self.queue.push(lane, deadline, waiter);
        self.look_again_at_head(ticket);
        ticket
    }

    /// Lets a request that was admitted before wait again, in the place that it had.
    pub fn enqueue_again(&mut self, ticket: Ticket, waiter: Waiter<C>) {
        self.queue.put_back(ticket, waiter);
        self.look_again_at_head(ticket);
    }

    /// Takes a request out of the queue, because its client left or its time is up. Says what it
    /// waited for, as far as that is known.
    pub fn leave(&mut self, ticket: Ticket) -> Option<Refusal> {
        let refusal = self.refusal_of(ticket.lane);
        if self.queue.is_head(ticket) {
            self.refused.remove(&ticket.lane);
        }
        self.queue.remove(ticket);
        refusal
    }

    /// Admits the next request that there is room for, the earliest deadline first. To be called
    /// until it has no more.
    pub fn admit(&mut self, now: Mono) -> Option<(Waiter<C>, Reservation)> {
        self.refused.retain(|_, refusal| refusal.until.is_none_or(|until| until > now));
        self.bucket_empty_until = self.bucket_empty_until.filter(|until| *until > now);
        while self.bucket_empty_until.is_none() {
            let heads = self.queue.heads().filter(|(ticket, _)| !self.refused.contains_key(&ticket.lane));
            let (ticket, waiter) = heads.min_by_key(|(ticket, _)| ticket.place)?;
            match self.budgets.try_reserve(ticket.lane, waiter.asked, now) {
                Ok(reservation) => {
                    let waiter = self.queue.remove(ticket).expect("the head of a lane waits in it");
                    return Some((waiter, reservation));
                }
                Err(Refusal { waits_for: WaitsFor::Requests, until }) => self.bucket_empty_until = until,
                Err(refusal) => {
                    self.refused.insert(ticket.lane, refusal);
                }
            }
        }
        None
    }

    /// When to call [`Self::admit`] again although nothing happened.
    pub fn next_admission(&self) -> Option<Mono> {
        let lanes = self.refused.iter().filter(|(lane, _)| self.queue.is_awaited(**lane));
        let earliest = lanes.filter_map(|(_, refusal)| refusal.until).min();
        match (self.bucket_empty_until, earliest) {
            _ if self.queue.is_empty() => None,
            (Some(bucket), _) => Some(bucket),
            (None, earliest) => earliest,
        }
    }

    /// Says that a request was sent whole.
    pub fn sent(&mut self, reservation: &mut Reservation, now: Mono) {
        // Its prompt leaves the window at a known time from now on, whenever it is settled.
        self.refused.remove(&reservation.lane);
        self.budgets.sent(reservation, now);
    }

    /// Ends a reservation with what was used.
    pub fn settle(&mut self, reservation: Reservation, spent: Spent, now: Mono) {
        self.refused.remove(&reservation.lane);
        self.budgets.settle(reservation, spent, now);
    }

    /// Ends a reservation of which nothing was used.
    pub fn refund(&mut self, reservation: Reservation, now: Mono) {
        self.refused.remove(&reservation.lane);
        self.bucket_empty_until = None;
        self.budgets.refund(reservation, now);
    }

    /// Says how the upstream received a request.
    pub fn received(&mut self, reservation: &mut Reservation, reception: Reception, now: Mono) {
        self.refused.remove(&reservation.lane);
        self.budgets.received(reservation, reception, now);
    }

    /// Takes one limit from a response's headers.
    pub fn learn(&mut self, lane: LaneId, dimension: Dimension, value: u64, now: Mono) {
        self.refused.remove(&Some(lane));
        self.budgets.learn(lane, dimension, value, now);
    }

    /// The budgets, for the pages. Mutable, because reading a window lets go of what has left it.
    pub fn budgets_mut(&mut self) -> &mut Budgets {
        &mut self.budgets
    }

    /// What the requests of a lane wait for at present, if any do.
    pub fn refusal_of(&self, lane: QueueLane) -> Option<Refusal> {
        let of_bucket = self
            .bucket_empty_until
            .map(|until| Refusal { waits_for: WaitsFor::Requests, until: Some(until) });
        self.refused.get(&lane).copied().or(of_bucket)
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// How many requests wait in one lane.
    pub fn waiting_in(&self, lane: QueueLane) -> usize {
        self.queue.len_of(lane)
    }

    /// How long the one that waits longest has waited.
    pub fn oldest_wait(&self, now: Mono) -> Option<Duration> {
        self.queue.iter().map(|waiter| now.since(waiter.since)).max()
    }

    /// What a lane was refused counts for whoever was first in it: a new first one is asked for itself.
    fn look_again_at_head(&mut self, ticket: Ticket) {
        if self.queue.is_head(ticket) {
            self.refused.remove(&ticket.lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::Tokens,
        config::{TokenLimit, TokenLimits},
    };

    fn at(seconds: f64) -> Mono {
        Mono::ZERO + Duration::from_secs_f64(seconds)
    }

    /// Lanes with room for 100 generated tokens a minute, of which each request reserves 50.
    fn admission(requests_per_second: f64) -> Admission<&'static str> {
        let limit = |tokens_per_minute| TokenLimit { tokens_per_minute, is_ceiling: true };
        Admission::new(&Config {
            limits: TokenLimits {
                prompt: limit(1_000),
                uncached_prompt: limit(1_000),
                generated: limit(100),
            },
            safety_ratio: 1.0,
            output_reserve_tokens: 50,
            requests_per_second,
            ..Config::defaults()
        })
    }

    fn waiter(client: &'static str, since: Mono) -> Waiter<&'static str> {
        Waiter { client, asked: Asked { prompt_guess: 10, output_cap: None }, since }
    }

    /// Who is admitted at `now`. Their reservations are kept in `held`.
    fn admitted(
        admission: &mut Admission<&'static str>,
        held: &mut Vec<Reservation>,
        now: Mono,
    ) -> Vec<&'static str> {
        let mut names = Vec::new();
        while let Some((waiter, reservation)) = admission.admit(now) {
            names.push(waiter.client);
            held.push(reservation);
        }
        names
    }

    fn spent(generated: u64) -> Spent {
        Spent { tokens: Tokens { generated, ..Tokens::default() }, is_reported: false }
    }

    fn finish(admission: &mut Admission<&'static str>, held: Vec<Reservation>, now: Mono) {
        for reservation in held {
            admission.settle(reservation, Spent::default(), now);
        }
    }

    #[test]
    fn earlier_deadlines_go_first_across_lanes() {
        let mut admission = admission(20.0);
        let mut held = Vec::new();
        let (left, right) =
            (admission.find_or_add_lane(1, "l", at(0.0)), admission.find_or_add_lane(1, "r", at(0.0)));
        admission.enqueue(Some(left), at(50.0), waiter("l50", at(0.0)));
        admission.enqueue(Some(right), at(40.0), waiter("r40", at(0.0)));
        admission.enqueue(None, at(45.0), waiter("free45", at(0.0)));
        admission.enqueue(Some(left), at(30.0), waiter("l30", at(0.0)));
        assert_eq!(admitted(&mut admission, &mut held, at(0.0)), ["l30", "r40", "free45", "l50"]);
        finish(&mut admission, held, at(1.0));
    }

    #[test]
    fn a_full_lane_holds_up_no_other_and_a_settlement_wakes_it() {
        let mut admission = admission(20.0);
        let mut held = Vec::new();
        let (full, other) =
            (admission.find_or_add_lane(1, "full", at(0.0)), admission.find_or_add_lane(1, "other", at(0.0)));
        for name in ["a", "b", "c"] {
            admission.enqueue(Some(full), at(10.0), waiter(name, at(0.0)));
        }
        admission.enqueue(Some(other), at(99.0), waiter("o", at(0.0)));
        assert_eq!(admitted(&mut admission, &mut held, at(0.0)), ["a", "b", "o"]);
        assert_eq!(admission.next_admission(), None, "only a settlement can help");
        admission.settle(held.remove(0), spent(0), at(1.0));
        assert_eq!(admitted(&mut admission, &mut held, at(1.0)), ["c"]);
        finish(&mut admission, held, at(2.0));
    }

    #[test]
    fn a_lane_is_asked_again_when_its_window_has_room() {
        let mut admission = admission(20.0);
        let mut held = Vec::new();
        let lane = admission.find_or_add_lane(1, "m", at(0.0));
        admission.enqueue(Some(lane), at(100.0), waiter("first", at(0.0)));
        assert_eq!(admitted(&mut admission, &mut held, at(0.0)), ["first"]);
        admission.settle(held.remove(0), spent(90), at(1.0));
        let ticket = admission.enqueue(Some(lane), at(100.0), waiter("second", at(1.0)));
        assert_eq!(admitted(&mut admission, &mut held, at(1.0)), [""; 0]);
        assert_eq!(admission.next_admission(), Some(at(62.5)));
        let refusal = admission.refusal_of(ticket.lane).expect("it was refused");
        assert_eq!(refusal.waits_for, WaitsFor::Tokens(Dimension::Generated));
        assert_eq!(admitted(&mut admission, &mut held, at(62.5)), ["second"]);
        finish(&mut admission, held, at(70.0));
    }

    #[test]
    fn who_leaves_makes_room_for_the_next() {
        let mut admission = admission(20.0);
        let mut held = Vec::new();
        let lane = admission.find_or_add_lane(1, "m", at(0.0));
        let big = Waiter { asked: Asked { prompt_guess: 999, output_cap: None }, ..waiter("big", at(0.0)) };
        admission.enqueue(Some(lane), at(9.0), waiter("running", at(0.0)));
        assert_eq!(admitted(&mut admission, &mut held, at(0.0)), ["running"]);
        let ticket = admission.enqueue(Some(lane), at(10.0), big);
        admission.enqueue(Some(lane), at(20.0), waiter("small", at(0.0)));
        assert_eq!(admitted(&mut admission, &mut held, at(0.0)), [""; 0], "order is kept within a lane");
        assert!(admission.leave(ticket).is_some());
        assert_eq!(admitted(&mut admission, &mut held, at(0.0)), ["small"]);
        assert_eq!((admission.waiting(), admission.oldest_wait(at(5.0))), (0, None));
        finish(&mut admission, held, at(2.0));
    }

    #[test]
    fn an_empty_bucket_names_its_time() {
        let mut admission = admission(2.0);
        let mut held = Vec::new();
        for name in ["a", "b", "c"] {
            admission.enqueue(None, at(10.0), waiter(name, at(0.0)));
        }
        assert_eq!(admitted(&mut admission, &mut held, at(0.0)), ["a", "b"]);
        assert_eq!(admission.next_admission(), Some(at(0.5)));
        assert_eq!(admission.refusal_of(None).expect("refused").waits_for, WaitsFor::Requests);
        assert_eq!(admitted(&mut admission, &mut held, at(0.5)), ["c"]);
        finish(&mut admission, held, at(2.0));
    }
}
