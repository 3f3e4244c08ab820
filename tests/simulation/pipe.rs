//! One direction of a connection: bytes come out later than they went in, in other pieces, or stop.

use std::{collections::VecDeque, time::Duration};

use fireworks_proxy::time::Mono;

/// How a direction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In good order, behind all bytes.
    Eof,
    /// At once: what is under way is lost.
    Reset,
}

/// Bytes under way from one end to the other.
#[derive(Debug)]
pub struct Pipe {
    delay: Duration,
    /// The most bytes that one write or read moves.
    pub piece_max: usize,
    /// The most bytes that are in it at once.
    capacity: usize,
    flight: VecDeque<(Mono, Vec<u8>)>,
    /// Bytes that have come and are not read.
    ready: Vec<u8>,
    len: usize,
    /// Nothing arrives before this.
    stalled_until: Mono,
    last_arrival: Mono,
    end: Option<(Mono, End)>,
}

impl Pipe {
    pub fn new(delay: Duration, piece_max: usize, capacity: usize) -> Self {
        Self {
            delay,
            piece_max,
            capacity,
            flight: VecDeque::new(),
            ready: Vec::new(),
            len: 0,
            stalled_until: Mono::ZERO,
            last_arrival: Mono::ZERO,
            end: None,
        }
    }

    /// How many bytes it takes.
    pub fn room(&self) -> usize {
        self.capacity.saturating_sub(self.len)
    }

    /// It takes no more than is in it.
    pub fn clog(&mut self) {
        self.capacity = 0;
    }

    /// Nothing arrives before `until`.
    pub fn stall(&mut self, until: Mono) {
        self.stalled_until = until;
    }

    /// Puts bytes in. When they arrive.
    pub fn push(&mut self, bytes: &[u8], now: Mono) -> Mono {
        let at = self.arrival(now);
        self.len += bytes.len();
        self.flight.push_back((at, bytes.to_vec()));
        at
    }

    /// Ends it. When that arrives.
    pub fn end(&mut self, end: End, now: Mono) -> Mono {
        let at = self.arrival(now);
        if self.end.is_none_or(|(_, end)| end == End::Eof) {
            self.end = Some((at, end));
        }
        at
    }

    fn arrival(&mut self, now: Mono) -> Mono {
        self.last_arrival = (now + self.delay).max(self.last_arrival).max(self.stalled_until);
        self.last_arrival
    }

    /// Takes in what has arrived by now.
    pub fn settle(&mut self, now: Mono) {
        while self.flight.front().is_some_and(|(at, _)| *at <= now) {
            let (_, bytes) = self.flight.pop_front().expect("there is one");
            self.ready.extend_from_slice(&bytes);
        }
    }

    /// What can be read.
    pub fn ready(&self) -> &[u8] {
        &self.ready
    }

    /// Takes off what was read.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        self.len -= count;
        self.ready.drain(..count).collect()
    }

    /// The end, if it has arrived and everything before it was read.
    pub fn arrived_end(&self, now: Mono) -> Option<End> {
        let (at, end) = self.end?;
        let is_there = at <= now && (end == End::Reset || (self.ready.is_empty() && self.flight.is_empty()));
        is_there.then_some(end)
    }
}
