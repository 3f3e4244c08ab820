//! The clients: what they send, how they read, and when they leave.

use std::time::Duration;

use fireworks_proxy::{
    event::{ConnId, Input},
    time::Mono,
};

use super::{
    engine::{Event, Simulation},
    pipe::End,
    reader::Reader,
    request::Request,
    swarm::Odd,
};

/// How a client takes what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    AtOnce,
    Slowly,
    Never,
}

/// A client with one connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what a client may do or not is a list of yes and no")]
pub struct Client {
    pub requests: Vec<Request>,
    /// How many requests it will send at most.
    requests_planned: usize,
    is_pipelining: bool,
    /// Bytes that it has yet to send.
    unsent: Vec<u8>,
    /// How many of its bytes its requests have.
    pub stream_len: usize,
    /// How many of them the proxy has got.
    pub delivered: usize,
    pub reading: Reading,
    /// How many bytes it sends at a time.
    sends_at_once: usize,
    stalls_after: Option<usize>,
    /// Reads what the proxy writes, as it writes it.
    pub reader: Reader,
    /// How many answers are written whole.
    pub answered: usize,
    /// What has been written of the answer that is being written.
    pub current: super::rules::answers::Current,
    /// How many bytes have been written, and how many answers had ended by then.
    pub written: usize,
    pub answer_ends: Vec<usize>,
    /// How many bytes it has taken.
    taken: usize,
    has_left: bool,
    /// Whether the machine or the link hung, so that it may have seemed to be slow.
    pub has_hung: bool,
    /// Whether it is known that no further request will be read.
    pub is_done: bool,
    /// When it came, or when its last answer had been written.
    pub idle_since: Mono,
}

impl Client {
    /// The request that the proxy is to work on, if the client has begun to send one.
    pub fn current_request(&mut self) -> Option<&mut Request> {
        self.requests.get_mut(self.answered)
    }

    /// Whether the proxy has read nothing of a request that it has not answered.
    pub fn is_between_requests(&self) -> bool {
        let answered = self.answered.checked_sub(1).map_or(0, |last| self.requests[last].ends_at);
        self.delivered <= answered && !self.is_done
    }

    /// Whether it takes everything and stays.
    pub fn is_patient(&self) -> bool {
        self.reading == Reading::AtOnce && !self.has_left && !self.has_hung
    }
}

impl Simulation {
    pub fn spawn_client(&mut self) {
        if !self.is_lively {
            return;
        }
        let gap = self.millis_below(2 * self.swarm.spawn_gap_millis);
        self.plan(gap, Event::Spawn);
        let is_open = self.process.as_ref().is_some_and(|process| process.drain_until.is_none());
        if !is_open || self.clients.len() >= self.swarm.clients_max {
            return;
        }
        let id = self.proxy().next_conn_id();
        let conn = self.new_conn(true);
        self.conns.insert(id, conn);
        let client = self.new_client();
        if self.is_odd(Odd::Leaves) {
            let after = self.millis_below(20_000);
            self.plan(after, Event::ClientLeaves(id));
        }
        self.clients.insert(id, client);
        self.tell(id, Input::Accepted);
        self.wake(id);
        self.next_request(id);
    }

    fn new_client(&mut self) -> Client {
        let reading = match () {
            () if self.is_odd(Odd::ReadsNever) => Reading::Never,
            () if self.is_odd(Odd::ReadsSlowly) => Reading::Slowly,
            () => Reading::AtOnce,
        };
        let trickles = self.is_odd(Odd::Trickles);
        let stalls = self.is_odd(Odd::StallsSending);
        Client {
            requests: Vec::new(),
            requests_planned: 1 + usize::try_from(self.dice.below(4)).expect("small"),
            is_pipelining: self.is_odd(Odd::Pipelined),
            unsent: Vec::new(),
            stream_len: 0,
            delivered: 0,
            reading,
            sends_at_once: if trickles {
                1 + usize::try_from(self.dice.below(self.swarm.tiny_bytes_max)).expect("small")
            } else {
                usize::MAX
            },
            stalls_after: stalls.then(|| usize::try_from(self.dice.below(400)).expect("small")),
            reader: Reader::default(),
            answered: 0,
            current: super::rules::answers::Current::default(),
            written: 0,
            answer_ends: Vec::new(),
            taken: 0,
            has_left: false,
            has_hung: false,
            is_done: false,
            idle_since: self.now,
        }
    }

    /// A client begins its next request, and those behind it if it does not wait for answers.
    fn next_request(&mut self, id: ConnId) {
        loop {
            self.next_id += 1;
            let request_id = self.next_id;
            let Self { swarm, dice, odds_seen, .. } = self;
            let is_odd = |odd: Odd, dice: &mut crate::support::world::Dice| {
                let is_odd = dice.chance(swarm.percent_of(odd));
                odds_seen[odd as usize] += u64::from(is_odd);
                is_odd
            };
            let mut request = Request::draw(request_id, swarm, dice, is_odd);
            let client = self.clients.get_mut(&id).expect("it is there");
            client.stream_len += request.wire.len();
            request.ends_at = client.stream_len;
            client.unsent.extend_from_slice(&request.wire);
            let goes_on = request.keeps_alive() && client.is_pipelining;
            client.requests.push(request);
            if !goes_on || client.requests.len() >= client.requests_planned {
                break;
            }
        }
        self.client_sends(id);
    }

    pub fn client_sends(&mut self, id: ConnId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.has_left || client.unsent.is_empty() {
            return;
        }
        let sent = client.stream_len - client.unsent.len();
        let mut most = client.sends_at_once.min(client.unsent.len());
        // It waits for word before it sends a body, or loses patience.
        let waits_at = client.requests.iter().find(|request| request.expects && request.ends_at > sent);
        let head_end = waits_at.map(Request::head_ends_at).filter(|end| *end > sent);
        most = most.min(head_end.map_or(usize::MAX, |end| end - sent));
        if client.stalls_after.is_some_and(|after| sent + most > after) {
            return;
        }
        let bytes: Vec<u8> = client.unsent.drain(..most).collect();
        let is_rest = !client.unsent.is_empty();
        self.push_inbound(id, &bytes);
        if is_rest {
            let pause = self.millis_below(if head_end.is_some() { 2_000 } else { 300 });
            self.plan(pause, Event::ClientSends(id));
        }
    }

    /// Bytes from the proxy have come to a client's end.
    pub fn client_has_mail(&mut self, id: ConnId) {
        match self.clients[&id].reading {
            Reading::AtOnce => self.client_takes(id, usize::MAX),
            Reading::Slowly => {
                let pause = self.millis_below(2_000);
                self.plan(pause, Event::ClientReads(id));
            }
            Reading::Never => {}
        }
    }

    pub fn client_reads(&mut self, id: ConnId) {
        if self.clients.contains_key(&id) {
            let most = 1 + usize::try_from(self.dice.below(3_000)).expect("small");
            self.client_takes(id, most);
            if self.conns.get(&id).is_some_and(|conn| !conn.outbound.ready().is_empty()) {
                self.client_has_mail(id);
            }
        }
    }

    fn client_takes(&mut self, id: ConnId, most: usize) {
        let now = self.now;
        let (Some(conn), Some(client)) = (self.conns.get_mut(&id), self.clients.get_mut(&id)) else { return };
        let count = conn.outbound.ready().len().min(most);
        client.taken += conn.outbound.take(count).len();
        let had_all = client.answer_ends.len() == client.requests.len()
            && client.answer_ends.last().is_some_and(|end| *end <= client.taken);
        let last_goes_on = client.requests.last().is_some_and(Request::keeps_alive);
        let is_over = conn.outbound.arrived_end(now).is_some();
        let (planned, asked) = (client.requests_planned, client.requests.len());
        self.wake(id);
        if is_over {
            let lingers = self.is_odd(Odd::Lingers);
            if !lingers {
                self.end_inbound(id, End::Eof);
            }
        } else if had_all && last_goes_on && asked < planned {
            self.next_request(id);
        } else if had_all && self.dice.chance(50) {
            self.plan(Duration::from_millis(5), Event::ClientLeaves(id));
        }
    }

    pub fn client_leaves(&mut self, id: ConnId) {
        let resets = self.is_odd(Odd::Resets);
        let Some(client) = self.clients.get_mut(&id) else { return };
        if std::mem::replace(&mut client.has_left, true) {
            return;
        }
        self.history.note(self.now, id, if resets { "client resets" } else { "client leaves" }, 0);
        self.end_inbound(id, if resets { End::Reset } else { End::Eof });
    }

    /// The proxy has ended its side of a client's connection.
    pub fn proxy_ended_its_side(&mut self, id: ConnId) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let at = conn.outbound.end(End::Eof, now);
        self.clients.get_mut(&id).into_iter().for_each(|client| client.is_done = true);
        self.plan_at(at, Event::Outbound(id));
    }
}
