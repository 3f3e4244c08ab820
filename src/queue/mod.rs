//! The wait queue: requests that there was no room for, lane by lane. Within a lane sessions take turns, and within a
//! session the earliest deadline goes first.
//!
//! Owns the order and nothing else: whether there is room is for the budgets to say, and what
//! happens at a deadline is for the session. `fair` is the order within a lane; [`wheel`] is the timer
//! wheel that wakes both.

mod fair;
pub mod wheel;

use std::collections::BTreeMap;

use crate::time::Mono;

use fair::Lane;

/// Requests of type `W`, in lanes named by `L`.
///
/// Every operation takes logarithmic time. A lane is kept while requests of it wait, or were started and
/// have not ended.
#[derive(Debug)]
pub struct WaitQueue<L, W> {
    lanes: BTreeMap<L, Lane<W>>,
    next_sequence: u64,
    len: usize,
}

/// Names whoever takes turns: an agent's session, or a client connection that names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey(pub u64);

/// A request's place in its session: by deadline, then in the order of arrival. Of two sessions with equal
/// tags the one goes first whose first request has the earlier place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When the wait was to end without success as the request first came. Only its order counts.
    pub deadline: Mono,
    sequence: u64,
}

/// Names one waiting request; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket<L> {
    /// The lane it waits in.
    pub lane: L,
    /// Whose request it is.
    pub session: SessionKey,
    /// Its place among the requests of that session.
    pub place: Place,
}

/// The turn of a session whose request was started. Not `Clone`: it is given to [`WaitQueue::end`] once.
#[derive(Debug)]
#[must_use = "a turn that does not end keeps its lane and its session for ever"]
pub struct Turn<L> {
    lane: L,
    session: SessionKey,
}

impl<L, W> Default for WaitQueue<L, W> {
    fn default() -> Self {
        Self { lanes: BTreeMap::new(), next_sequence: 0, len: 0 }
    }
}

impl<L: Ord + Copy, W> WaitQueue<L, W> {
    /// Lets a request wait.
    pub fn push(&mut self, lane: L, session: SessionKey, deadline: Mono, waiter: W) -> Ticket<L> {
        let place = Place { deadline, sequence: self.next_sequence };
        self.next_sequence += 1;
        let ticket = Ticket { lane, session, place };
        self.put_back(ticket, waiter);
        ticket
    }

    /// Lets a request that was taken out wait again, in the place that it had in its session.
    pub fn put_back(&mut self, ticket: Ticket<L>, waiter: W) {
        self.len += 1;
        self.lanes.entry(ticket.lane).or_default().push(ticket.session, ticket.place, waiter);
    }

    /// Takes a request out that will not be started; `None` when it is not there any more.
    pub fn remove(&mut self, ticket: Ticket<L>) -> Option<W> {
        let lane = self.lanes.get_mut(&ticket.lane)?;
        let waiter = lane.remove(ticket.session, ticket.place)?;
        self.len -= 1;
        self.drop_lane_if_over(ticket.lane);
        Some(waiter)
    }

    /// Takes a request out that is started, which is a turn of its session; `None` when it is not there any more.
    pub fn start(&mut self, ticket: Ticket<L>) -> Option<(W, Turn<L>)> {
        let lane = self.lanes.get_mut(&ticket.lane)?;
        let waiter = lane.start(ticket.session, ticket.place)?;
        self.len -= 1;
        Some((waiter, Turn { lane: ticket.lane, session: ticket.session }))
    }

    /// A request that was started has ended. Where it was not served, its session gets its turn back.
    #[expect(clippy::needless_pass_by_value, reason = "a turn ends once")]
    pub fn end(&mut self, turn: Turn<L>, was_served: bool) {
        let Turn { lane: id, session } = turn;
        let lane = self.lanes.get_mut(&id).expect("a lane is kept while a request of it is under way");
        lane.end(session, was_served);
        self.drop_lane_if_over(id);
    }

    /// The first request of each lane, in the order of the lanes' names. Sessions with nothing under way are urgent where
    /// their first deadlines are not after `urgent_until`.
    pub fn heads(&self, urgent_until: Mono) -> impl Iterator<Item = Ticket<L>> {
        self.lanes.iter().filter_map(move |(lane, requests)| {
            let (session, place) = requests.first(urgent_until)?;
            Some(Ticket { lane: *lane, session, place })
        })
    }

    /// The requests of a lane, the first one included: those that are urgent, the first ones of the other sessions in
    /// the order of turns, then all others. To look at a few of many is cheap.
    pub fn candidates(&self, lane: L, urgent_until: Mono) -> impl Iterator<Item = (Ticket<L>, &W)> {
        let requests = self.lanes.get(&lane).into_iter().flat_map(move |lane| lane.candidates(urgent_until));
        requests.map(move |(session, place, waiter)| (Ticket { lane, session, place }, waiter))
    }

    /// The request of a lane that is urgent next, or has been for longest: that with the earliest deadline among the
    /// first ones of sessions with nothing under way. It becomes the lane's first one as time passes, and nothing else
    /// that time does changes the order.
    pub fn next_urgent(&self, lane: L) -> Option<Ticket<L>> {
        let (session, place) = self.lanes.get(&lane)?.next_urgent()?;
        Some(Ticket { lane, session, place })
    }

    /// A waiting request; `None` when it is not there any more.
    pub fn get(&self, ticket: Ticket<L>) -> Option<&W> {
        self.lanes.get(&ticket.lane)?.get(ticket.session, ticket.place)
    }

    /// Every waiting request, lane by lane.
    pub fn iter(&self) -> impl Iterator<Item = &W> {
        self.lanes.values().flat_map(|lane| lane.candidates(Mono::ZERO)).map(|(_, _, waiter)| waiter)
    }

    /// How many requests wait in a lane.
    pub fn len_of(&self, lane: L) -> usize {
        self.lanes.get(&lane).map_or(0, Lane::waiting)
    }

    /// Whether anyone waits in a lane.
    pub fn is_awaited(&self, lane: L) -> bool {
        self.len_of(lane) > 0
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn drop_lane_if_over(&mut self, lane: L) {
        if self.lanes.get(&lane).is_some_and(Lane::is_over) {
            self.lanes.remove(&lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SessionKey = SessionKey(1);
    const B: SessionKey = SessionKey(2);

    /// Nobody's deadline is near.
    const CALM: Mono = Mono::ZERO;

    fn at(micros: u64) -> Mono {
        Mono::from_micros(micros)
    }

    fn heads(queue: &WaitQueue<char, &'static str>) -> Vec<&'static str> {
        queue.heads(CALM).filter_map(|ticket| queue.get(ticket).copied()).collect()
    }

    #[test]
    fn each_lane_has_an_order_of_its_own() {
        let mut queue = WaitQueue::default();
        queue.push('a', A, at(30), "a30");
        let first = queue.push('a', A, at(20), "a20 first");
        queue.push('a', A, at(20), "a20 second");
        queue.push('b', A, at(90), "b90");
        assert_eq!(heads(&queue), ["a20 first", "b90"]);
        assert_eq!(queue.remove(first), Some("a20 first"));
        assert_eq!((heads(&queue), queue.len()), (vec!["a20 second", "b90"], 3));
    }

    #[test]
    fn a_turn_in_one_lane_does_not_count_in_another() {
        let mut queue = WaitQueue::default();
        let ticket = queue.push('a', A, at(1), "a1");
        queue.push('a', A, at(1), "a2");
        queue.push('b', A, at(1), "b1");
        queue.push('a', B, at(2), "of B");
        queue.push('b', B, at(2), "of B");
        let (started, turn) = queue.start(ticket).expect("it waits");
        assert_eq!((started, heads(&queue)), ("a1", vec!["of B", "b1"]));
        queue.end(turn, false);
        assert_eq!(heads(&queue), ["a2", "b1"]);
    }

    #[test]
    fn urgent_is_who_has_nothing_under_way_in_that_lane() {
        let mut queue = WaitQueue::default();
        let running = queue.push('a', A, at(5), "a running");
        let (_, turn) = queue.start(running).expect("it waits");
        let second = queue.push('a', A, at(5), "a5");
        let patient = queue.push('a', B, at(60), "patient");
        let elsewhere = queue.push('b', A, at(5), "b5");
        assert_eq!(queue.heads(at(10)).collect::<Vec<_>>(), [patient, elsewhere]);
        assert_eq!((queue.next_urgent('a'), queue.next_urgent('b')), (Some(patient), Some(elsewhere)));
        queue.end(turn, true);
        assert_eq!(queue.heads(at(10)).next(), Some(second));
        assert_eq!(queue.heads(CALM).next(), Some(patient), "a has had a turn");
        assert_eq!((queue.next_urgent('a'), queue.next_urgent('c')), (Some(second), None));
    }

    #[test]
    fn a_request_that_comes_back_has_its_old_place_in_its_session() {
        let mut queue = WaitQueue::default();
        let first = queue.push('a', A, at(10), "first");
        queue.push('a', A, at(10), "second");
        let (_, turn) = queue.start(first).expect("it waits");
        queue.end(turn, false);
        queue.put_back(first, "first again");
        assert_eq!((heads(&queue), queue.len_of('a')), (vec!["first again"], 2));
    }

    #[test]
    fn a_request_leaves_once() {
        let mut queue = WaitQueue::default();
        let ticket = queue.push('a', A, at(1), "only");
        assert!(queue.is_awaited('a') && queue.heads(CALM).eq([ticket]) && queue.len_of('a') == 1);
        assert_eq!((queue.remove(ticket), queue.remove(ticket)), (Some("only"), None));
        assert!(queue.start(ticket).is_none() && queue.get(ticket).is_none());
        assert!(queue.heads(CALM).next().is_none() && queue.len_of('a') == 0);
        assert!(!queue.is_awaited('a') && queue.is_empty() && queue.iter().next().is_none());
    }

    #[test]
    fn a_lane_is_kept_until_all_that_was_started_has_ended() {
        let mut queue = WaitQueue::default();
        let ticket = queue.push('a', A, at(1), "one");
        let (_, turn) = queue.start(ticket).expect("it waits");
        assert!(queue.is_empty() && !queue.is_awaited('a') && queue.lanes.contains_key(&'a'));
        queue.end(turn, true);
        assert!(queue.lanes.is_empty());
    }
}
