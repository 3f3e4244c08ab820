//! The wait queue against plain lists, as a list of operations.

use std::collections::BTreeMap;

use fireworks_proxy::{
    queue::{SessionKey, Ticket, Turn, WaitQueue},
    time::Mono,
};

use super::{Outcome, operations::Operations};

/// Few enough that lanes, sessions and deadlines are often the same.
const LANES: u8 = 4;
const SESSIONS: u8 = 4;
const DEADLINES: u64 = 8;

/// The parts that a turn is divided into.
const TURN: u64 = 1_000_000;

/// A request that waits, or has waited.
#[derive(Debug)]
struct Entry {
    /// The order of arrival.
    number: usize,
    ticket: Ticket<u8>,
    deadline: Mono,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting,
    /// Started, which is a turn.
    Started(Turn<u8>),
    Gone,
}

/// The turns of a session in a lane.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    tag: u64,
    /// Virtual time when it last began to wait.
    joined_at: u64,
}

#[derive(Default)]
struct Model {
    queue: WaitQueue<u8, usize>,
    entries: Vec<Entry>,
    accounts: BTreeMap<(u8, SessionKey), Account>,
    virtual_times: [u64; LANES as usize],
}

/// `data` is the operations.
pub fn wait_queue(data: &[u8]) -> Outcome {
    let mut model = Model::default();
    let mut operations = Operations::new(data);
    while let Some(operation) = operations.next() {
        match operation % 7 {
            0 | 1 => model.push(operations.byte(), operations.byte()),
            2 => model.remove(operations.byte()),
            3 => model.put_back(operations.byte()),
            4 => model.admit(operations.byte()),
            5 => model.pass(operations.byte()),
            _ => model.end(operations.byte(), operations.byte() % 2 == 1),
        }
        // Before, between and beyond the deadlines.
        for urgent_until in [0, DEADLINES / 2, DEADLINES] {
            model.check(Mono::from_micros(urgent_until));
        }
    }
    Outcome::Accepted
}

impl Model {
    fn push(&mut self, lane_and_session: u8, deadline: u8) {
        let (lane, session) = (lane_and_session % LANES, lane_and_session / LANES % SESSIONS);
        let (session, deadline) =
            (SessionKey(u64::from(session)), Mono::from_micros(u64::from(deadline) % DEADLINES));
        let number = self.entries.len();
        self.join(lane, session);
        let ticket = self.queue.push(lane, session, deadline, number);
        assert_eq!((ticket.lane, ticket.session, ticket.place.deadline), (lane, session, deadline));
        self.entries.push(Entry { number, ticket, deadline, state: State::Waiting });
    }

    /// Takes out a request, whether it waits or not.
    fn remove(&mut self, index: u8) {
        let Some(at) = usize::from(index).checked_rem(self.entries.len()) else { return };
        let Entry { number, ticket, ref mut state, .. } = self.entries[at];
        let is_waiting = matches!(state, State::Waiting);
        assert_eq!(self.queue.remove(ticket), is_waiting.then_some(number));
        if is_waiting {
            *state = State::Gone;
            self.tidy(ticket.lane);
        }
    }

    /// Lets one that was taken out wait again.
    fn put_back(&mut self, index: u8) {
        let Some(number) = self.pick(index, |entry| matches!(entry.state, State::Gone)) else { return };
        let ticket = self.entries[number].ticket;
        self.join(ticket.lane, ticket.session);
        self.entries[number].state = State::Waiting;
        self.queue.put_back(ticket, number);
    }

    /// Starts the one with the earliest place among those whose turn it is in their lanes.
    fn admit(&mut self, urgent_until: u8) {
        let urgent_until = Mono::from_micros(u64::from(urgent_until) % DEADLINES);
        let head = self.queue.heads(urgent_until).min_by_key(|ticket| ticket.place);
        let heads = (0..LANES).filter_map(|lane| self.in_order(lane, urgent_until).first().copied());
        let expected = heads.min_by_key(|number| self.place(*number));
        assert_eq!(head, expected.map(|number| self.entries[number].ticket));
        if let Some(number) = expected {
            self.start(number);
        }
    }

    /// Starts one that waits, whether it is its turn or not.
    fn pass(&mut self, index: u8) {
        if let Some(number) = self.pick(index, |entry| matches!(entry.state, State::Waiting)) {
            self.start(number);
        }
    }

    fn start(&mut self, number: usize) {
        let ticket = self.entries[number].ticket;
        let tags = self.waiting_tags(ticket.lane);
        let (least, greatest) = (tags[0], tags[tags.len() - 1]);
        let time = &mut self.virtual_times[usize::from(ticket.lane)];
        *time = (*time + TURN.div_ceil(tags.len() as u64)).max(least).min(greatest);
        self.account(ticket).tag += TURN;
        let (waiter, turn) = self.queue.start(ticket).expect("it waits");
        assert_eq!(waiter, number);
        self.entries[number].state = State::Started(turn);
        self.tidy(ticket.lane);
    }

    /// Ends one that was started.
    fn end(&mut self, index: u8, was_served: bool) {
        let Some(number) = self.pick(index, |entry| matches!(entry.state, State::Started(_))) else {
            return;
        };
        let entry = &mut self.entries[number];
        let ticket = entry.ticket;
        let State::Started(turn) = std::mem::replace(&mut entry.state, State::Gone) else {
            unreachable!("it was picked as one that was started");
        };
        let waits = self.waits(ticket.lane, ticket.session);
        let account = self.account(ticket);
        if !was_served {
            account.tag = account.tag.saturating_sub(TURN);
        }
        if waits {
            account.tag = account.tag.max(account.joined_at);
        }
        self.queue.end(turn, was_served);
        self.tidy(ticket.lane);
    }

    /// A session gets one more request that waits.
    fn join(&mut self, lane: u8, session: SessionKey) {
        if !self.waits(lane, session) {
            let time = self.virtual_times[usize::from(lane)];
            let account = self.accounts.entry((lane, session)).or_default();
            *account = Account { tag: account.tag.max(time), joined_at: time };
        }
    }

    /// Virtual time stays within the turns of those who wait, and what does not matter is forgotten.
    fn tidy(&mut self, lane: u8) {
        let greatest = self.waiting_tags(lane).last().copied().unwrap_or(u64::MAX);
        let time = &mut self.virtual_times[usize::from(lane)];
        *time = greatest.min(*time);
        let time = *time;
        let Self { accounts, entries, .. } = self;
        let mut is_busy = false;
        accounts.retain(|(other, session), account| {
            let has_request = entries.iter().any(|entry| {
                !matches!(entry.state, State::Gone)
                    && (entry.ticket.lane, entry.ticket.session) == (lane, *session)
            });
            is_busy |= *other == lane && has_request;
            *other != lane || has_request || account.tag > time
        });
        if !is_busy {
            accounts.retain(|(other, _), _| *other != lane);
            self.virtual_times[usize::from(lane)] = 0;
        }
    }

    /// The tags of the sessions that wait in a lane, ascending.
    fn waiting_tags(&self, lane: u8) -> Vec<u64> {
        let accounts =
            self.accounts.iter().filter(|((other, session), _)| *other == lane && self.waits(lane, *session));
        let mut tags: Vec<u64> = accounts.map(|(_, account)| account.tag).collect();
        tags.sort_unstable();
        tags
    }

    /// Who waits in a lane, in the order in which they are looked at: who is urgent by deadline, then each session's first
    /// by its turns, and then the others of each session.
    fn in_order(&self, lane: u8, urgent_until: Mono) -> Vec<usize> {
        let waits = |entry: &&Entry| matches!(entry.state, State::Waiting) && entry.ticket.lane == lane;
        let mut numbers: Vec<usize> = self.entries.iter().filter(waits).map(|entry| entry.number).collect();
        let firsts = self.firsts(lane);
        numbers.sort_by_key(|number| {
            let session = self.entries[*number].ticket.session;
            let (first, place) = (firsts[&session], self.place(*number));
            let is_first = first == place;
            let is_urgent = is_first && place.0 <= urgent_until && !self.is_under_way(lane, session);
            // Who is urgent goes by deadline, whatever turns it has had.
            let tag = if is_urgent { 0 } else { self.accounts[&(lane, session)].tag };
            (!is_urgent, !is_first, tag, first, place)
        });
        numbers
    }

    /// The place of the first of each session that waits in a lane.
    fn firsts(&self, lane: u8) -> BTreeMap<SessionKey, (Mono, usize)> {
        let mut firsts = BTreeMap::new();
        for entry in &self.entries {
            if matches!(entry.state, State::Waiting) && entry.ticket.lane == lane {
                let place = self.place(entry.number);
                let first = firsts.entry(entry.ticket.session).or_insert(place);
                *first = place.min(*first);
            }
        }
        firsts
    }

    fn place(&self, number: usize) -> (Mono, usize) {
        (self.entries[number].deadline, number)
    }

    fn waits(&self, lane: u8, session: SessionKey) -> bool {
        let is_its = |entry: &Entry| (entry.ticket.lane, entry.ticket.session) == (lane, session);
        self.entries.iter().any(|entry| matches!(entry.state, State::Waiting) && is_its(entry))
    }

    fn is_under_way(&self, lane: u8, session: SessionKey) -> bool {
        let is_its = |entry: &Entry| (entry.ticket.lane, entry.ticket.session) == (lane, session);
        self.entries.iter().any(|entry| matches!(entry.state, State::Started(_)) && is_its(entry))
    }

    fn account(&mut self, ticket: Ticket<u8>) -> &mut Account {
        self.accounts.get_mut(&(ticket.lane, ticket.session)).expect("who has a request is known")
    }

    fn pick(&self, index: u8, is_it: impl Fn(&Entry) -> bool) -> Option<usize> {
        let numbers: Vec<usize> =
            self.entries.iter().filter(|entry| is_it(entry)).map(|entry| entry.number).collect();
        let at = usize::from(index).checked_rem(numbers.len())?;
        Some(numbers[at])
    }

    fn check(&self, urgent_until: Mono) {
        let mut heads = Vec::new();
        let mut waiting = Vec::new();
        for lane in 0..LANES {
            let in_order = self.in_order(lane, urgent_until);
            let candidates: Vec<_> = self.queue.candidates(lane, urgent_until).collect();
            let expected: Vec<_> =
                in_order.iter().map(|number| (self.entries[*number].ticket, number)).collect();
            assert_eq!(candidates, expected);
            assert_eq!(self.queue.len_of(lane), in_order.len());
            assert_eq!(self.queue.is_awaited(lane), !in_order.is_empty());
            assert_eq!(self.queue.next_urgent(lane), self.next_urgent(lane));
            heads.extend(in_order.first().map(|number| self.entries[*number].ticket));
            waiting.extend(in_order);
        }
        assert_eq!(self.queue.heads(urgent_until).collect::<Vec<_>>(), heads);
        let mut all: Vec<_> = self.queue.iter().copied().collect();
        all.sort_unstable();
        waiting.sort_unstable();
        assert_eq!(all, waiting);
        assert_eq!((self.queue.len(), self.queue.is_empty()), (waiting.len(), waiting.is_empty()));
        for entry in &self.entries {
            let is_waiting = matches!(entry.state, State::Waiting);
            assert_eq!(self.queue.get(entry.ticket), is_waiting.then_some(&entry.number));
        }
    }

    /// Of the sessions with nothing under way, the first request with the earliest deadline.
    fn next_urgent(&self, lane: u8) -> Option<Ticket<u8>> {
        let firsts = self.firsts(lane).into_iter();
        let idle = firsts.filter(|(session, _)| !self.is_under_way(lane, *session));
        let (_, number) = idle.map(|(_, place)| place).min()?;
        Some(self.entries[number].ticket)
    }
}
