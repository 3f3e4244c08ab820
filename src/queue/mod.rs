//! The wait queue: requests that there was no room for, lane by lane, ordered by deadline.
//!
//! Owns the order and nothing else: whether there is room is for the budgets to say, and what
//! happens at a deadline is for the session. [`wheel`] is the timer wheel that wakes both.

pub mod wheel;

use std::collections::BTreeMap;

use crate::time::Mono;

/// Requests of type `W`, in lanes named by `L`.
#[derive(Debug)]
pub struct WaitQueue<L, W> {
    lanes: BTreeMap<L, BTreeMap<Place, W>>,
    next_sequence: u64,
    len: usize,
}

/// A request's place in its lane: by deadline, then in the order of arrival.
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
    /// Its place there.
    pub place: Place,
}

impl<L, W> Default for WaitQueue<L, W> {
    fn default() -> Self {
        Self { lanes: BTreeMap::new(), next_sequence: 0, len: 0 }
    }
}

impl<L: Ord + Copy, W> WaitQueue<L, W> {
    /// Lets a request wait.
    pub fn push(&mut self, lane: L, deadline: Mono, waiter: W) -> Ticket<L> {
        let place = Place { deadline, sequence: self.next_sequence };
        self.next_sequence += 1;
        let ticket = Ticket { lane, place };
        self.put_back(ticket, waiter);
        ticket
    }

    /// Lets a request that was taken out wait again, in the place that it had.
    pub fn put_back(&mut self, ticket: Ticket<L>, waiter: W) {
        self.len += 1;
        self.lanes.entry(ticket.lane).or_default().insert(ticket.place, waiter);
    }

    /// Takes a request out; `None` when it is not there any more.
    pub fn remove(&mut self, ticket: Ticket<L>) -> Option<W> {
        let lane = self.lanes.get_mut(&ticket.lane)?;
        let waiter = lane.remove(&ticket.place)?;
        if lane.is_empty() {
            self.lanes.remove(&ticket.lane);
        }
        self.len -= 1;
        Some(waiter)
    }

    /// The first request of each lane, in the order of the lanes' names.
    pub fn heads(&self) -> impl Iterator<Item = (Ticket<L>, &W)> {
        self.lanes.iter().filter_map(|(lane, waiters)| {
            let (place, waiter) = waiters.first_key_value()?;
            Some((Ticket { lane: *lane, place: *place }, waiter))
        })
    }

    /// Every waiting request, lane by lane.
    pub fn iter(&self) -> impl Iterator<Item = &W> {
        self.lanes.values().flat_map(BTreeMap::values)
    }

    /// Whether a request is the first of its lane.
    pub fn is_head(&self, ticket: Ticket<L>) -> bool {
        let head = self.lanes.get(&ticket.lane).and_then(BTreeMap::first_key_value);
        head.is_some_and(|(place, _)| *place == ticket.place)
    }

    /// How many requests wait in a lane.
    pub fn len_of(&self, lane: L) -> usize {
        self.lanes.get(&lane).map_or(0, BTreeMap::len)
    }

    /// Whether anyone waits in a lane.
    pub fn is_awaited(&self, lane: L) -> bool {
        self.lanes.contains_key(&lane)
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Mono {
        Mono::from_micros(micros)
    }

    fn heads(queue: &WaitQueue<char, &'static str>) -> Vec<&'static str> {
        queue.heads().map(|(_, waiter)| *waiter).collect()
    }

    #[test]
    fn each_lane_is_ordered_by_deadline_then_by_arrival() {
        let mut queue = WaitQueue::default();
        queue.push('a', at(30), "a30");
        let first = queue.push('a', at(20), "a20 first");
        queue.push('a', at(20), "a20 second");
        queue.push('b', at(90), "b90");
        assert_eq!(heads(&queue), ["a20 first", "b90"]);
        assert_eq!(queue.remove(first), Some("a20 first"));
        assert_eq!((heads(&queue), queue.len()), (vec!["a20 second", "b90"], 3));
    }

    #[test]
    fn a_request_that_comes_back_has_its_old_place() {
        let mut queue = WaitQueue::default();
        let first = queue.push('a', at(10), "first");
        queue.push('a', at(10), "second");
        assert_eq!(queue.remove(first), Some("first"));
        queue.put_back(first, "first again");
        assert_eq!((heads(&queue), queue.len_of('a')), (vec!["first again"], 2));
    }

    #[test]
    fn a_request_leaves_once() {
        let mut queue = WaitQueue::default();
        let ticket = queue.push('a', at(1), "only");
        assert!(queue.is_awaited('a') && queue.is_head(ticket) && queue.len_of('a') == 1);
        assert_eq!((queue.remove(ticket), queue.remove(ticket)), (Some("only"), None));
        assert!(!queue.is_head(ticket) && queue.len_of('a') == 0);
        assert!(!queue.is_awaited('a') && queue.is_empty() && queue.iter().next().is_none());
    }
}
