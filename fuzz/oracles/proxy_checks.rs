//! What must hold at every moment of a sequence, and at its end.

use fireworks_proxy::event::ConnId;

use super::{
    Outcome,
    chunked_body::{State, decode},
    proxy::Sequence,
    request_head::{find_end, request_head},
    strict_head::{self, Declared, Field, declared, elements, values},
};

/// No connection may deliver more at once.
const WINDOW_BYTES_MAX: usize = 256 * 1024;

/// No client's answer is further ahead of it than this.
const AHEAD_BYTES_MAX: usize = 512 * 1024;

impl Sequence {
    /// What holds after everything that happens.
    pub fn check(&mut self) {
        self.check_counts();
        self.check_lanes();
        let here = self.here();
        let is_running = self.world.proxy.stopped().is_none();
        assert!(is_running || here.is_empty(), "it has stopped, and somebody is still there");
        let next = self.world.proxy.poll_timeout();
        assert!(here.is_empty() || next.is_some(), "{} connections without a timer", here.len());
        let upstreams: Vec<ConnId> = self.world.owners.keys().copied().collect();
        for conn in self.clients.iter().chain(&upstreams) {
            let (window, pending) = (self.world.proxy.window(*conn), self.world.proxy.pending_write(*conn));
            let is_closed = self.world.is_closed(*conn);
            assert!(!is_closed || (window == 0 && pending.is_empty()), "{conn:?} is closed");
            assert!(window <= WINDOW_BYTES_MAX && pending.len() <= AHEAD_BYTES_MAX, "{conn:?} has no bound");
        }
    }

    /// Every request is in one place, and every exchange has one connection and one reservation.
    fn check_counts(&mut self) {
        let live = self.world.live_upstreams().len() as u64;
        let waiting = self.world.waiting() as u64;
        let ends: u64 = self.world.ends().iter().sum();
        let stats = self.world.stats();
        assert_eq!(stats.in_flight, live, "an exchange is its connection");
        assert_eq!(stats.requests, ends + waiting + stats.paused + stats.in_flight, "{stats:?}");
    }

    /// Reservations are exchanges, and who waits has a reason to that will pass.
    fn check_lanes(&mut self) {
        let live = self.world.live_upstreams().len();
        let admission = &mut self.world.proxy.context_mut().admission;
        let lanes: Vec<_> =
            admission.budgets_mut().lanes_mut().map(|(id, lane)| (id, lane.in_flight)).collect();
        assert!(lanes.iter().map(|(_, in_flight)| in_flight).sum::<usize>() <= live);
        for (id, in_flight) in lanes {
            if admission.waiting_in(Some(id)) > 0 {
                let refusal = admission.refusal_of(Some(id)).expect("who waits was refused");
                assert!(refusal.until.is_some() || in_flight > 0, "nobody will ever ask again: {refusal:?}");
            }
        }
        if admission.waiting_in(None) > 0 {
            let refusal = admission.refusal_of(None).expect("who waits was refused");
            assert!(refusal.until.is_some(), "the bucket fills by itself");
        }
    }

    /// What holds when everybody has gone.
    pub fn check_end(&mut self) {
        assert_eq!(self.here(), [], "somebody is still there");
        if self.world.proxy.stopped().is_none() {
            assert_eq!(self.world.proxy.poll_timeout(), None, "nothing is left to wait for");
        }
        self.world.assert_settled();
        for line in &self.world.log {
            assert!(!line.contains(char::is_control), "a log line that is not one: {line:?}");
        }
        for client in &self.clients {
            self.check_answers(*client);
        }
        let upstreams: Vec<ConnId> = self.world.owners.keys().copied().collect();
        for upstream in upstreams {
            check_request(self.world.sent_to(upstream));
        }
    }

    /// What a client was sent is answers, one after another, of which the last may be cut; and none looks
    /// whole that the upstream did not give whole.
    fn check_answers(&self, client: ConnId) {
        let said = self.said.get(&client).map_or(&[][..], Vec::as_slice);
        if said.windows(5).any(|window| window == b"HEAD ") {
            // Without knowing what was asked, answers to HEAD cannot be told from others.
            return;
        }
        let mut left = self.world.bytes_of(client);
        while !left.is_empty() {
            let Some(end) = find_end(left) else {
                let start = &left[..left.len().min(9)];
                assert!(b"HTTP/1.1 ".starts_with(start), "no answer: {}", left.escape_ascii());
                return;
            };
            let (line, fields) = strict_head::read(&left[..end]);
            assert!(line.starts_with(b"HTTP/1.1 "), "no answer: {}", line.escape_ascii());
            let Some(length) = body_length(&line, &fields, &left[end..]) else { return };
            self.check_whole(&fields);
            left = &left[end + length..];
        }
    }

    /// An answer that looks whole.
    fn check_whole(&self, fields: &[Field]) {
        let numbers =
            values(fields, "x-answer").into_iter().filter_map(|value| std::str::from_utf8(value).ok());
        for number in numbers.filter_map(|number| number.parse().ok()) {
            assert!(self.whole.contains(&number), "answer {number} was cut and looks whole");
        }
    }
}

/// The length of an answer's body; `None` if it is cut, or only its connection ends it.
fn body_length(line: &[u8], fields: &[Field], rest: &[u8]) -> Option<usize> {
    let status = line.get(9..12).expect("a status");
    if status[0] == b'1' || status == b"204" || status == b"304" {
        return Some(0);
    }
    match declared(fields, true) {
        Declared::Length(length) => usize::try_from(length).ok().filter(|length| *length <= rest.len()),
        Declared::Chunked => match decode(rest).state {
            State::Ended(length) => Some(length),
            State::Open => None,
            State::Malformed => panic!("malformed chunks were passed on: {}", rest.escape_ascii()),
        },
        Declared::Nothing => {
            let says_close = elements(fields, "connection").contains(&"close".to_owned());
            assert!(says_close, "the answer's end cannot be found");
            None
        }
    }
}

/// What an upstream was sent is one request that it cannot misread, or the beginning of one.
fn check_request(sent: &[u8]) {
    let Some(end) = find_end(sent) else { return };
    assert_eq!(request_head(sent), Outcome::Accepted, "{}", sent.escape_ascii());
    let (_, fields) = strict_head::read(&sent[..end]);
    let length = match declared(&fields, true) {
        Declared::Nothing => 0,
        Declared::Length(length) => length,
        Declared::Chunked => panic!("requests go out with their length"),
    };
    assert!((sent.len() - end) as u64 <= length, "something follows the request: {}", sent.escape_ascii());
}
