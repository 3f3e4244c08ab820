//! The wait queue against a plain list, as a list of operations.

use fireworks_proxy::{
    queue::{Ticket, WaitQueue},
    time::Mono,
};

use super::{Outcome, operations::Operations};

/// Few enough that lanes and deadlines are often the same.
const LANES: u8 = 4;
const DEADLINES: u64 = 8;

/// A request that waits, or has waited.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The order of arrival.
    number: usize,
    ticket: Ticket<u8>,
    lane: u8,
    deadline: Mono,
    is_waiting: bool,
}

#[derive(Default)]
struct Model {
    queue: WaitQueue<u8, usize>,
    entries: Vec<Entry>,
}

/// `data` is the operations.
pub fn wait_queue(data: &[u8]) -> Outcome {
    let mut model = Model::default();
    let mut operations = Operations::new(data);
    while let Some(operation) = operations.next() {
        match operation % 5 {
            0 | 1 => model.push(operations.byte(), operations.byte()),
            2 => model.remove(operations.byte()),
            3 => model.put_back(operations.byte()),
            _ => model.admit(),
        }
        model.check();
    }
    Outcome::Accepted
}

impl Model {
    fn push(&mut self, lane: u8, deadline: u8) {
        let (lane, deadline) = (lane % LANES, Mono::from_micros(u64::from(deadline) % DEADLINES));
        let number = self.entries.len();
        let ticket = self.queue.push(lane, deadline, number);
        assert_eq!((ticket.lane, ticket.place.deadline), (lane, deadline));
        self.entries.push(Entry { number, ticket, lane, deadline, is_waiting: true });
    }

    /// Takes out a request, whether it waits or not.
    fn remove(&mut self, index: u8) {
        let Some(at) = usize::from(index).checked_rem(self.entries.len()) else { return };
        let entry = &mut self.entries[at];
        let expected = std::mem::take(&mut entry.is_waiting).then_some(entry.number);
        assert_eq!(self.queue.remove(entry.ticket), expected);
    }

    /// Lets one that was taken out wait again.
    fn put_back(&mut self, index: u8) {
        let gone: Vec<usize> =
            self.entries.iter().filter(|entry| !entry.is_waiting).map(|entry| entry.number).collect();
        let Some(at) = usize::from(index).checked_rem(gone.len()) else { return };
        let entry = &mut self.entries[gone[at]];
        entry.is_waiting = true;
        self.queue.put_back(entry.ticket, entry.number);
    }

    /// Takes out the one whose turn it is over all lanes.
    fn admit(&mut self) {
        let head = self.queue.heads().min_by_key(|(ticket, _)| ticket.place).map(|(ticket, _)| ticket);
        let expected = self.first(|_| true);
        assert_eq!(head, expected.map(|entry| entry.ticket));
        if let Some(Entry { number, ticket, .. }) = expected {
            assert_eq!(self.queue.remove(ticket), Some(number));
            self.entries[number].is_waiting = false;
        }
    }

    /// The first of those: the earliest deadline, and of these the one that first arrived.
    fn first(&self, is_it: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let waiting = self.entries.iter().filter(|entry| entry.is_waiting && is_it(entry));
        waiting.min_by_key(|entry| (entry.deadline, entry.number)).copied()
    }

    fn check(&self) {
        let mut heads = Vec::new();
        let mut waiting = Vec::new();
        for lane in 0..LANES {
            let is_in_lane = |entry: &&Entry| entry.is_waiting && entry.lane == lane;
            let mut in_lane: Vec<&Entry> = self.entries.iter().filter(is_in_lane).collect();
            in_lane.sort_by_key(|entry| (entry.deadline, entry.number));
            assert_eq!(self.queue.len_of(lane), in_lane.len());
            assert_eq!(self.queue.is_awaited(lane), !in_lane.is_empty());
            heads.extend(in_lane.first().map(|entry| (entry.ticket, entry.number)));
            waiting.extend(in_lane.iter().map(|entry| entry.number));
        }
        let found: Vec<_> = self.queue.heads().map(|(ticket, number)| (ticket, *number)).collect();
        assert_eq!(found, heads);
        assert_eq!(self.queue.iter().copied().collect::<Vec<_>>(), waiting);
        assert_eq!((self.queue.len(), self.queue.is_empty()), (waiting.len(), waiting.is_empty()));
        for entry in &self.entries {
            let is_head = heads.iter().any(|(_, number)| *number == entry.number);
            assert_eq!(self.queue.is_head(entry.ticket), is_head);
        }
    }
}
