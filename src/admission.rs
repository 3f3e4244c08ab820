//! Admission: where the wait queue meets the budgets.
//!
//! A request waits in the queue of its lane until the lane's token budgets and the request bucket have room for it. To
//! be started is a turn of its session, which decides who is next. One of those behind a request that has no room may
//! pass it where that does not delay it.
//!
//! A lane that refused is not asked again before the time its refusal named, or before something happened to
//! it: an answer, a settlement, a learned limit, somebody else in front, somebody new who may pass. So a full lane
//! holds up no other, nobody is woken for nothing, and nobody waits for nothing.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    budget::{
        self, Budgets, Dimension, Forecast, Header, LaneId, Reception, Refusal, Spent, Tokens, WaitsFor,
        demand::Asked,
    },
    config::{Config, Technique},
    queue::{self, SessionKey, Turn, WaitQueue},
    time::Mono,
};

/// The queue a request waits in: its lane's, or the common one of requests that cost no tokens.
type QueueLane = Option<LaneId>;

/// Names one waiting request.
pub type Ticket = queue::Ticket<QueueLane>;

/// How many of those behind a refused request are looked at for one that may pass it.
const PASSING_CANDIDATES_MAX: usize = 8;

/// A session that has nothing under way goes first, whatever it has had, from so long before its deadline on: after
/// a quarter of the wait that the settings allow by default.
const URGENT_BEFORE: Duration = Duration::from_secs(90);

/// One waiting request. `C` names the client connection that it belongs to.
#[derive(Debug, Clone)]
pub struct Waiter<C> {
    /// Whom to tell.
    pub client: C,
    /// What it will probably cost.
    pub asked: Asked,
    /// Since when it waits, as if all that it has waited before were just now: time at the upstream is no wait.
    pub since: Mono,
}

/// An admitted request's room in the budgets, and its session's turn. Ends in exactly one
/// of [`Admission::settle`] and [`Admission::refund`].
#[derive(Debug)]
#[must_use = "a reservation that is neither settled nor refunded holds its tokens for ever"]
pub struct Reservation {
    room: budget::Reservation,
    turn: Turn<QueueLane>,
    /// Whether the upstream has let it in, which is what a turn is for.
    was_let_in: bool,
}

/// What a lane said to its first request.
#[derive(Debug, Clone, Copy)]
struct Refused {
    /// It counts for this one alone.
    head: Ticket,
    refusal: Refusal,
}

impl Reservation {
    /// What was reserved.
    pub const fn held(&self) -> Tokens {
        self.room.held()
    }

    /// Since when the request is admitted.
    pub const fn admitted_at(&self) -> Mono {
        self.room.taken_at()
    }

    /// When the first of its answer's text came, if some has.
    pub const fn first_token_at(&self) -> Option<Mono> {
        self.room.first_token_at()
    }
}

/// What is expected of one waiting request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected<C> {
    /// Whose it is.
    pub client: C,
    /// Where it waits.
    pub lane: Option<LaneId>,
    /// Whether it is the next of its lane; else it waits for its turn first.
    pub is_next: bool,
    /// How long it will wait, and what it will cost.
    pub forecast: Forecast,
}

/// Budgets and queue together.
#[derive(Debug)]
pub struct Admission<C> {
    budgets: Budgets,
    queue: WaitQueue<QueueLane, Waiter<C>>,
    /// The lanes whose first request was refused, where nothing has happened since.
    refused: BTreeMap<QueueLane, Refused>,
    /// Until when the request bucket is empty; it stands for every lane.
    bucket_empty_until: Option<Mono>,
    /// Whether one that can start may pass one that cannot.
    lets_pass: bool,
}

impl<C: Copy> Admission<C> {
    /// Full budgets and an empty queue.
    pub fn new(config: &Config) -> Self {
        Self {
            budgets: Budgets::new(config),
            queue: WaitQueue::default(),
            refused: BTreeMap::new(),
            bucket_empty_until: None,
            lets_pass: config.techniques.has(Technique::Passing),
        }
    }

    /// The lane of a model under a credential.
    pub fn find_or_add_lane(&mut self, credential: u64, model: &str, now: Mono) -> LaneId {
        let Self { budgets, queue, .. } = self;
        budgets.find_or_add_lane(credential, model, now, |lane| queue.is_awaited(Some(lane)))
    }

    /// Lets a request wait for room, which may be there already: see [`Self::admit`].
    pub fn enqueue(
        &mut self,
        lane: QueueLane,
        session: SessionKey,
        deadline: Mono,
        waiter: Waiter<C>,
        now: Mono,
    ) -> Ticket {
        let ticket = self.queue.push(lane, session, deadline, waiter);
        self.look_at_newcomer(ticket, now);
        ticket
    }

    /// Lets a request that was admitted before wait again, in the place that it had in its session.
    pub fn enqueue_again(&mut self, ticket: Ticket, waiter: Waiter<C>, now: Mono) {
        self.queue.put_back(ticket, waiter);
        self.look_at_newcomer(ticket, now);
    }

    /// Takes a request out of the queue, because its client left or its time is up. Says what it
    /// waited for, as far as that is known.
    pub fn leave(&mut self, ticket: Ticket) -> Option<Refusal> {
        let refusal = self.refusal_of(ticket.lane);
        if self.was_refused(ticket) {
            self.refused.remove(&ticket.lane);
        }
        self.queue.remove(ticket);
        refusal
    }

    /// Admits the next request that there is room for: of each lane the one whose turn it is, and of these
    /// the one with the earliest deadline; where its lane has no room for it, one that may pass it. To be called until
    /// it has no more.
    pub fn admit(&mut self, now: Mono) -> Option<(Waiter<C>, Reservation)> {
        self.refused.retain(|_, refused| refused.refusal.until.is_none_or(|until| until > now));
        self.bucket_empty_until = self.bucket_empty_until.filter(|until| *until > now);
        while self.bucket_empty_until.is_none() {
            let heads = self.queue.heads(urgent_until(now)).filter(|head| !self.was_refused(*head));
            let head = heads.min_by_key(|ticket| ticket.place)?;
            let refusal = match self.try_start(head, now) {
                Ok(admitted) => return Some(admitted),
                Err(refusal) => refusal,
            };
            if refusal.waits_for == WaitsFor::Requests {
                self.bucket_empty_until = refusal.until;
                continue;
            }
            let passing = self.find_passing(head, refusal, now);
            if let Some(admitted) = passing.and_then(|passing| self.try_start(passing, now).ok()) {
                return Some(admitted);
            }
            self.refused.insert(head.lane, Refused { head, refusal });
        }
        None
    }

    /// Starts a waiting request if there is room for it.
    fn try_start(&mut self, ticket: Ticket, now: Mono) -> Result<(Waiter<C>, Reservation), Refusal> {
        let waiter = self.queue.get(ticket).expect("a candidate waits");
        let room = self.budgets.try_reserve(ticket.lane, &waiter.asked, now)?;
        let (waiter, turn) = self.queue.start(ticket).expect("a candidate waits");
        self.refused.remove(&ticket.lane);
        Ok((waiter, Reservation { room, turn, was_let_in: false }))
    }

    /// One of those behind a refused request that can start now and does not delay it, as far as can be foreseen. What
    /// was foreseen may be wrong, so nobody passes a request that is urgent.
    fn find_passing(&mut self, head: Ticket, refusal: Refusal, now: Mono) -> Option<Ticket> {
        if !self.lets_pass || head.place.deadline <= urgent_until(now) {
            return None;
        }
        let Self { budgets, queue, .. } = self;
        let blocked = &queue.get(head).expect("a candidate waits").asked;
        let behind = queue.candidates(head.lane, urgent_until(now)).skip(1).take(PASSING_CANDIDATES_MAX);
        let behind = behind.map(|(ticket, waiter)| (ticket, &waiter.asked));
        budgets.find_passing(head.lane, (blocked, refusal), behind, now)
    }

    /// When to call [`Self::admit`] again although nothing happened: there may be room, or somebody's deadline is near.
    pub fn next_admission(&self) -> Option<Mono> {
        if self.queue.is_empty() {
            return None;
        }
        let of_lanes = || self.refused.values().filter_map(|refused| self.asked_again_at(refused)).min();
        self.bucket_empty_until.or_else(of_lanes)
    }

    /// When a lane that has refused is asked again if nothing happens to it.
    fn asked_again_at(&self, Refused { head, refusal }: &Refused) -> Option<Mono> {
        let urgent = self.queue.next_urgent(head.lane).filter(|urgent| urgent != head);
        let goes_first_at = urgent.map(|urgent| urgent.place.deadline - URGENT_BEFORE);
        refusal.until.into_iter().chain(goes_first_at).min()
    }

    /// Says that a request was sent whole.
    pub fn sent(&mut self, reservation: &mut Reservation, now: Mono) {
        // Its prompt leaves the window at a known time from now on, whenever it is settled.
        self.refused.remove(&reservation.room.lane);
        self.budgets.sent(&mut reservation.room, now);
    }

    /// Ends a reservation with what was used. Who was neither let in nor has used anything gets its turn back.
    pub fn settle(&mut self, reservation: Reservation, spent: Spent, now: Mono) {
        let Reservation { room, turn, was_let_in } = reservation;
        self.refused.remove(&room.lane);
        self.queue.end(turn, was_let_in || spent != Spent::default());
        self.budgets.settle(room, spent, now);
    }

    /// Ends a reservation of which nothing was used.
    pub fn refund(&mut self, reservation: Reservation, now: Mono) {
        let Reservation { room, turn, .. } = reservation;
        self.refused.remove(&room.lane);
        self.bucket_empty_until = None;
        self.queue.end(turn, false);
        self.budgets.refund(room, now);
    }

    /// Says that so many tokens of an answer have gone by.
    pub fn progressed(&mut self, reservation: &mut Reservation, seen: u64, now: Mono) {
        if self.budgets.progressed(&mut reservation.room, seen, now) {
            self.refused.remove(&reservation.room.lane);
        }
    }

    /// Says how the upstream received a request.
    pub fn received(&mut self, reservation: &mut Reservation, reception: Reception, now: Mono) {
        self.refused.remove(&reservation.room.lane);
        reservation.was_let_in |= reception == Reception::Admitted;
        self.budgets.received(&mut reservation.room, reception, now);
    }

    /// Takes a limit, and what is left of it, from the headers of the answer to a request.
    pub fn learn(&mut self, reservation: &Reservation, dimension: Dimension, header: Header, now: Mono) {
        self.refused.remove(&reservation.room.lane);
        self.budgets.learn(&reservation.room, dimension, header, now);
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
        self.refused.get(&lane).map(|refused| refused.refusal).or(of_bucket)
    }

    /// What is expected of the requests that wait, of so many of them at most: those that will probably start first,
    /// first.
    pub fn forecast(&mut self, requests_max: usize, now: Mono) -> Vec<Expected<C>> {
        let Self { budgets, queue, .. } = self;
        let mut expected = Vec::new();
        for head in queue.heads(urgent_until(now)) {
            let in_order = || queue.candidates(head.lane, urgent_until(now)).take(requests_max);
            let asked = in_order().map(|(_, waiter)| &waiter.asked);
            let forecasts = budgets.forecast(head.lane, asked, now);
            expected.extend(in_order().zip(forecasts).map(|((ticket, waiter), forecast)| Expected {
                client: waiter.client,
                lane: head.lane,
                is_next: ticket == head,
                forecast,
            }));
        }
        expected.sort_by_key(|expected| expected.forecast.wait);
        expected.truncate(requests_max);
        for (index, expected) in expected.iter_mut().enumerate() {
            expected.forecast.wait = expected.forecast.wait.max(budgets.bucket_wait(index + 1, now));
        }
        expected
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

    /// Whether this one was refused, and nothing has happened since.
    fn was_refused(&self, head: Ticket) -> bool {
        self.refused.get(&head.lane).is_some_and(|refused| refused.head == head)
    }

    /// Who comes new may be the one that can pass. A new first one needs no care: it was not refused.
    fn look_at_newcomer(&mut self, ticket: Ticket, now: Mono) {
        let mut in_sight =
            self.queue.candidates(ticket.lane, urgent_until(now)).take(1 + PASSING_CANDIDATES_MAX);
        if self.lets_pass && in_sight.any(|(other, _)| other == ticket) {
            self.refused.remove(&ticket.lane);
        }
    }
}

/// The deadlines that are near.
fn urgent_until(now: Mono) -> Mono {
    now + URGENT_BEFORE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Techniques, TokenLimit, TokenLimits},
        inspect::ContentSize,
        json::TextSize,
    };

    /// A deadline that is far off all the time.
    const PATIENT: f64 = 1_000.0;

    fn at(seconds: f64) -> Mono {
        Mono::ZERO + Duration::from_secs_f64(seconds)
    }

    /// An admission, and the reservations of those it has admitted.
    struct Test {
        admission: Admission<&'static str>,
        lane: QueueLane,
        held: BTreeMap<&'static str, Reservation>,
    }

    impl Test {
        /// Lanes with room for 1,000 prompt tokens and 100 generated ones a minute. A request reserves 50 of these.
        fn new(requests_per_second: f64) -> Self {
            let limit = |tokens_per_minute| TokenLimit { tokens_per_minute, is_ceiling: true };
            let mut admission = Admission::new(&Config {
                limits: TokenLimits {
                    prompt: limit(1_000),
                    uncached_prompt: limit(1_000),
                    generated: limit(100),
                },
                safety_ratio: Some(1.0),
                output_reserve_tokens: 50,
                chars_per_token: 1.0,
                requests_per_second,
                // The pace and what is used at once are matters of their own.
                techniques: Techniques::default().without(Technique::SmoothStarts).without(Technique::Burst),
                ..Config::defaults()
            });
            let lane = Some(admission.find_or_add_lane(1, "m", at(0.0)));
            Self { admission, lane, held: BTreeMap::new() }
        }

        /// Lets a request with a prompt of so many tokens wait. Its session is the first letter of its name. An answer
        /// takes a half of what may be generated, or hardly anything where the prompt is what counts.
        fn push(&mut self, name: &'static str, deadline: f64, prompt: u64, now: f64) -> Ticket {
            self.push_to(self.lane, name, deadline, prompt, now)
        }

        fn push_to(
            &mut self,
            lane: QueueLane,
            name: &'static str,
            deadline: f64,
            prompt: u64,
            now: f64,
        ) -> Ticket {
            let text = TextSize { ascii: prompt, ..TextSize::default() };
            let size = ContentSize { text, attachments: 0 };
            let output_cap = Some(if prompt >= 50 { 1 } else { 50 });
            let asked = Asked { size, output_cap, ..Asked::default() };
            let session = SessionKey(u64::from(name.as_bytes()[0]));
            let waiter = Waiter { client: name, asked, since: at(now) };
            self.admission.enqueue(lane, session, at(deadline), waiter, at(now))
        }

        /// Who is admitted.
        fn admitted(&mut self, now: f64) -> Vec<&'static str> {
            let mut names = Vec::new();
            while let Some((waiter, reservation)) = self.admission.admit(at(now)) {
                names.push(waiter.client);
                self.held.insert(waiter.client, reservation);
            }
            names
        }

        fn next_admission(&self) -> Option<Mono> {
            self.admission.next_admission()
        }

        fn reservation(&mut self, name: &str) -> Reservation {
            self.held.remove(name).expect("it was admitted")
        }

        /// One that was admitted is sent, and used all that it asked for at once.
        fn use_up(&mut self, name: &str, now: f64) {
            let mut reservation = self.reservation(name);
            let tokens = reservation.held();
            self.admission.sent(&mut reservation, at(now));
            self.admission.received(&mut reservation, Reception::Admitted, at(now));
            self.admission.settle(reservation, Spent { tokens, is_reported: false }, at(now));
        }

        /// One that was admitted ends without an answer and has cost nothing.
        fn settle(&mut self, name: &str, now: f64) {
            let reservation = self.reservation(name);
            self.admission.settle(reservation, Spent::default(), at(now));
        }

        fn refund(&mut self, name: &str, now: f64) {
            let reservation = self.reservation(name);
            self.admission.refund(reservation, at(now));
        }
    }

    #[test]
    fn earlier_deadlines_go_first_across_lanes() {
        let mut test = Test::new(20.0);
        let other = Some(test.admission.find_or_add_lane(1, "other", at(0.0)));
        test.push("d50", 950.0, 10, 0.0);
        test.push_to(other, "b40", 940.0, 10, 0.0);
        test.push_to(None, "c45", 945.0, 10, 0.0);
        test.push("a30", 930.0, 10, 0.0);
        assert_eq!(test.admitted(0.0), ["a30", "b40", "c45", "d50"]);
    }

    #[test]
    fn a_full_lane_holds_up_no_other_and_a_settlement_wakes_it() {
        let mut test = Test::new(20.0);
        let other = Some(test.admission.find_or_add_lane(1, "other", at(0.0)));
        for name in ["a", "b", "c"] {
            test.push(name, PATIENT, 10, 0.0);
        }
        test.push_to(other, "o", PATIENT, 10, 0.0);
        assert_eq!(test.admitted(0.0), ["a", "b", "o"]);
        let of_generated = Refusal { waits_for: WaitsFor::Tokens(Dimension::Generated), until: None };
        assert_eq!(test.admission.refusal_of(test.lane), Some(of_generated));
        test.settle("a", 1.0);
        assert_eq!(test.admitted(1.0), ["c"]);
    }

    #[test]
    fn a_lane_is_asked_again_when_its_window_has_room() {
        let mut test = Test::new(20.0);
        test.push("a", PATIENT, 900, 0.0);
        assert_eq!(test.admitted(0.0), ["a"]);
        test.use_up("a", 0.0);
        test.push("b", PATIENT, 200, 1.0);
        assert_eq!(test.admitted(1.0), [""; 0]);
        let until = test.next_admission().expect("a time");
        assert!((60.0..62.0).contains(&until.since(Mono::ZERO).as_secs_f64()), "{until:?}");
        let refusal = test.admission.refusal_of(test.lane).expect("it was refused");
        assert_eq!(refusal.waits_for, WaitsFor::Tokens(Dimension::Prompt));
        assert_eq!(test.admitted(until.since(Mono::ZERO).as_secs_f64()), ["b"]);
        assert_eq!(test.next_admission(), None);
    }

    #[test]
    fn an_empty_bucket_names_its_time() {
        let mut test = Test::new(2.0);
        for name in ["a", "b", "c"] {
            test.push_to(None, name, PATIENT, 0, 0.0);
        }
        assert_eq!(test.admitted(0.0), ["a", "b"]);
        assert_eq!(test.next_admission(), Some(at(0.5)));
        assert_eq!(test.admission.refusal_of(None).expect("refused").waits_for, WaitsFor::Requests);
        assert_eq!(test.admitted(0.5), ["c"]);
    }

    #[test]
    fn who_leaves_makes_room_for_the_next() {
        let mut test = Test::new(20.0);
        test.push("running", PATIENT, 600, 0.0);
        assert_eq!(test.admitted(0.0), ["running"]);
        let big = test.push("big", 500.0, 900, 0.0);
        test.push("small", PATIENT, 100, 0.0);
        assert_eq!(test.admitted(0.0), [""; 0], "nobody knows when there is room for the first");
        assert!(test.admission.leave(big).is_some());
        assert_eq!(test.admitted(0.0), ["small"]);
        assert_eq!((test.admission.waiting(), test.admission.oldest_wait(at(5.0))), (0, None));
    }

    #[test]
    fn sessions_take_turns_and_what_is_refunded_was_no_turn() {
        let mut test = Test::new(20.0);
        for name in ["a1", "a2", "a3", "b1", "b2", "b3"] {
            test.push(name, PATIENT, 10, 0.0);
        }
        assert_eq!(test.admitted(0.0), ["a1", "b1"]);
        test.refund("b1", 1.0);
        assert_eq!(test.admitted(1.0), ["b2"], "b has had nothing yet");
        test.settle("a1", 2.0);
        assert_eq!(test.admitted(2.0), ["a2"], "and neither has a, of whose request nothing came");
        test.use_up("b2", 3.0);
        assert_eq!(test.admitted(3.0), [""; 0], "half of the minute is used and half is held");
    }

    #[test]
    fn an_answer_is_a_turn_even_where_it_costs_no_tokens() {
        let mut test = Test::new(1.0);
        for name in ["a1", "a2", "a3", "b1"] {
            test.push_to(None, name, PATIENT, 0, 0.0);
        }
        for (second, name) in [(0.0, "a1"), (1.0, "b1"), (2.0, "a2")] {
            assert_eq!(test.admitted(second), [name]);
            let mut reservation = test.reservation(name);
            test.admission.received(&mut reservation, Reception::Admitted, at(second));
            test.admission.settle(reservation, Spent::default(), at(second));
        }
    }

    #[test]
    fn a_session_with_nothing_under_way_goes_first_near_its_deadline_and_is_woken_for_it() {
        let mut test = Test::new(20.0);
        test.push("running", PATIENT, 600, 0.0);
        test.push("u1", PATIENT, 50, 0.0);
        assert_eq!(test.admitted(0.0), ["running", "u1"]);
        test.use_up("u1", 0.0);
        test.push("u2", 200.0, 50, 0.0);
        test.push("big", 300.0, 500, 0.0);
        assert_eq!(test.admitted(0.0), [""; 0], "u has had a turn");
        let near = 200.0 - URGENT_BEFORE.as_secs_f64();
        assert_eq!(test.next_admission(), Some(at(near)));
        assert_eq!(test.admitted(near - 0.1), [""; 0]);
        assert_eq!(test.admitted(near), ["u2"]);
        assert_eq!(test.next_admission(), None, "big is the first already, and waits for a settlement");
        // A session that has something under way is not urgent.
        test.push("u3", 130.0, 50, near);
        assert_eq!(test.admitted(near), [""; 0]);
        assert_eq!(test.next_admission(), None);
    }

    /// 400 prompt tokens used at once and 400 ten seconds later, so that a request of 500 starts as the first leave.
    fn with_one_that_is_blocked(deadline: f64) -> (Test, Mono) {
        let mut test = Test::new(20.0);
        for (second, name) in [(0.0, "x"), (10.0, "y")] {
            test.push(name, PATIENT, 400, second);
            assert_eq!(test.admitted(second), [name]);
            test.use_up(name, second);
        }
        test.push("big", deadline, 500, 10.0);
        assert_eq!(test.admitted(10.0), [""; 0]);
        let refusal = test.admission.refusal_of(test.lane).expect("there is no room");
        let until = refusal.until.expect("the first leave at a known time");
        assert!((60.0..62.0).contains(&until.since(Mono::ZERO).as_secs_f64()), "{until:?}");
        (test, until)
    }

    #[test]
    fn a_small_one_passes_a_big_one_that_is_blocked_and_does_not_delay_it() {
        let (mut test, until) = with_one_that_is_blocked(PATIENT);
        test.push("small", PATIENT, 90, 11.0);
        assert_eq!(test.admitted(11.0), ["small"], "new in a lane that had refused");
        test.use_up("small", 11.0);
        assert_eq!(test.admitted(12.0), [""; 0]);
        assert_eq!(test.next_admission(), Some(until));
        assert_eq!(test.admitted(until.since(Mono::ZERO).as_secs_f64()), ["big"]);
    }

    #[test]
    fn none_passes_that_would_delay_the_one_that_is_blocked() {
        let (mut test, until) = with_one_that_is_blocked(PATIENT);
        // There is room for it now, and none left for the big one when that is to start.
        test.push("greedy", PATIENT, 150, 11.0);
        assert_eq!(test.admitted(11.0), [""; 0]);
        // Several small ones are as much together.
        for name in ["c", "d", "e", "f"] {
            test.push(name, PATIENT, 50, 11.0);
        }
        assert_eq!(test.admitted(11.0), ["c", "d"]);
        assert_eq!(test.next_admission(), Some(until));
    }

    #[test]
    fn none_passes_one_that_is_urgent() {
        let (mut test, _) = with_one_that_is_blocked(10.0 + URGENT_BEFORE.as_secs_f64());
        test.push("small", PATIENT, 90, 11.0);
        assert_eq!(test.admitted(11.0), [""; 0]);
    }

    #[test]
    fn one_bigger_than_the_whole_budget_gets_its_turn() {
        let mut test = Test::new(20.0);
        test.push("x", PATIENT, 100, 0.0);
        assert_eq!(test.admitted(0.0), ["x"]);
        test.use_up("x", 0.0);
        test.push("huge", PATIENT, 5_000, 1.0);
        test.push("small", PATIENT, 50, 1.0);
        assert_eq!(test.admitted(1.0), [""; 0], "what is used later would have to leave the minute too");
        let until = test.next_admission().expect("a time");
        assert!((60.0..62.0).contains(&until.since(Mono::ZERO).as_secs_f64()), "{until:?}");
        assert_eq!(test.admitted(until.since(Mono::ZERO).as_secs_f64()), ["huge"]);
    }
}
