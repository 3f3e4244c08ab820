//! What must hold when a request goes to the upstream, while it is there, and when it comes back.

use std::time::Duration;

use fireworks_proxy::{event::ConnId, failure::FailureClass};

use super::books::{Cost, Ended, Reception};
use crate::simulation::{engine::Simulation, fireworks::Exchange, request::Request, swarm::Honesty};

/// The longest that a refusal closes a lane.
const CLOSED_MAX: Duration = Duration::from_secs(60);

/// Whether a status says that nothing was done, and whether it says that another try may help.
const fn is_refusal(status: u16) -> bool {
    matches!(status, 429 | 503 | 529)
}

pub const fn is_transient(status: u16) -> bool {
    is_refusal(status) || matches!(status, 408 | 500 | 502 | 504 | 520..=528)
}

impl Simulation {
    /// What a request costs, as far as that is known.
    pub fn cost_of(&self, request: &Request) -> [u64; 3] {
        match (self.swarm.honesty, request.lane) {
            (Honesty::Exact, Some(_)) => [request.prompt, request.prompt, self.swarm.reserve],
            _ => [0; 3],
        }
    }

    /// A request goes to the upstream.
    pub fn check_dial(&mut self, id: ConnId, client_id: ConnId) {
        let now = self.now;
        assert!(self.process.as_ref().is_some_and(|process| process.drain_until.is_none()), "it is to stop");
        let place = self.rules.next_place();
        let client = &self.clients[&client_id];
        let request = &client.requests[client.answered];
        let cost = self.cost_of(request);
        let whole_at = request.whole_at.expect("only a whole request goes to the upstream");
        assert!(whole_at <= now && !request.has_answer, "its client has an answer already");
        assert!(now < request.hold_until, "its time is over since {:?}", request.hold_until);
        assert!(request.tries.len() <= self.swarm.retries_max, "{} tries", request.tries.len() + 1);
        self.check_retry(request);
        let exchange = Exchange::new((client_id, client.answered), (place, now), cost, request);
        let (lane, session) = (request.lane, request.session(client_id));
        self.check_order(client_id);
        self.rules.order.start(lane, session);
        self.rules.bucket.take(now);
        if let Some(lane) = lane {
            let (limits, wall) = (self.swarm.effective(), self.wall());
            let taught = self.rules.taught.entry(lane).or_default();
            let book = self.rules.books.entry(lane).or_default();
            assert!(book.closed_until <= now, "the lane is closed until {:?}", book.closed_until);
            let cost = Cost { tokens: cost, is_exact: self.swarm.honesty == Honesty::Exact };
            book.start(cost, limits, taught, now);
            let used = self.rules.days.used(wall);
            assert!(self.swarm.daily_limit.is_none_or(|limit| used < limit), "{used} are used of the day");
            self.rules.open_with_lane += 1;
        }
        self.rules.open += 1;
        let client = self.clients.get_mut(&client_id).expect("it is there");
        let request = &mut client.requests[client.answered];
        self.rules.leave(request, client_id);
        request.tries.push(id);
        self.exchanges.insert(id, exchange);
    }

    /// A request is tried again where that can help, does no harm, and is not too early.
    fn check_retry(&self, request: &Request) {
        let Some(last) = request.tries.last().map(|id| &self.exchanges[id]) else { return };
        let retries = u32::try_from(request.tries.len()).expect("few");
        assert!(!last.is_open, "it is at the upstream already");
        let backoff = Duration::from_secs(1) * 2_u32.pow(retries - 1);
        let answer = last.begun_answer();
        let since = answer.and(last.answered_at).unwrap_or(last.ended_at);
        let asked = answer.and_then(|answer| answer.retry_after).map_or(Duration::ZERO, Duration::from_secs);
        assert!(self.now >= since + backoff.max(asked), "too early: {since:?}, {backoff:?}, {asked:?}");
        let is_idempotent = request.may_repeat || request.method != "POST";
        let was_written = !last.head.is_empty();
        if let Some(answer) = answer {
            assert!(is_transient(answer.status), "{} is the answer", answer.status);
            assert!(is_refusal(answer.status) || is_idempotent, "it may have been done");
        } else {
            assert_ne!(last.dial_failure, Some(FailureClass::TlsCertificate), "it will not pass");
            assert!(!was_written || is_idempotent, "it may have been done");
        }
    }

    /// The proxy writes to the upstream: what the client has sent, and nothing else.
    pub fn check_request_bytes(&mut self, id: ConnId, mut bytes: &[u8]) {
        let (now, limits) = (self.now, self.swarm.effective());
        let exchange = self.exchanges.get_mut(&id).expect("it was dialed");
        let request = &self.clients[&exchange.client].requests[exchange.request];
        while !exchange.is_head_written && !bytes.is_empty() {
            exchange.head.push(bytes[0]);
            bytes = &bytes[1..];
            exchange.is_head_written = exchange.head.ends_with(b"\r\n\r\n");
        }
        if exchange.is_head_written && exchange.body_written == 0 {
            let head = String::from_utf8_lossy(&exchange.head).to_ascii_lowercase();
            assert!(head.contains(&format!("\r\nx-tag: {}\r\n", request.id)), "not its head: {head}");
            let length = format!("\r\ncontent-length: {}\r\n", request.body.len());
            assert!(request.body.is_empty() || head.contains(&length), "not its length: {head}");
            assert!(!head.contains("transfer-encoding") && !head.contains("proxy-token"), "{head}");
        }
        let rest = &request.body[exchange.body_written..];
        assert!(rest.starts_with(bytes), "not its body");
        exchange.body_written += bytes.len();
        let is_whole = exchange.is_head_written && exchange.body_written == request.body.len();
        if is_whole && exchange.sent_at.is_none() {
            exchange.sent_at = Some(now);
            if let Some(lane) = exchange.lane {
                let book = self.rules.books.get_mut(&lane).expect("it has started");
                book.counts(0, exchange.cost[0], limits, now);
            }
        }
    }

    /// The proxy reads of an answer.
    pub fn count_answer_bytes(&mut self, id: ConnId, count: usize) {
        let (now, whole, limits) = (self.now, self.swarm.limits, self.swarm.effective());
        let exchange = self.exchanges.get_mut(&id).expect("it was dialed");
        exchange.delivered += count;
        if exchange.answered_at.is_some() || exchange.begun_answer().is_none() {
            return;
        }
        exchange.answered_at = Some(now);
        let answer = exchange.begun_answer().expect("it has begun");
        let (status, asked) = (answer.status, answer.retry_after.unwrap_or(0));
        let (Some(lane), began) = (exchange.lane, exchange.place) else { return };
        let place = self.rules.next_place();
        let book = self.rules.books.get_mut(&lane).expect("it has started");
        self.rules.taught.entry(lane).or_default().had_trouble |= is_refusal(status);
        let is_good = !is_transient(status);
        let pause = Duration::from_secs(asked.max(1)).min(CLOSED_MAX);
        let refused_for = Some(pause).filter(|_| status == 429);
        book.answered(Reception { is_good, refused_for, began, place }, whole, now);
        if is_good {
            book.counts(1, exchange.cost[1], limits, now);
            exchange.admitted_at = Some(now);
        }
    }

    /// The proxy has closed the connection of a try.
    pub fn exchange_ended(&mut self, id: ConnId) {
        let (now, wall, limits) = (self.now, self.wall(), self.swarm.effective());
        let exchange = self.exchanges.get_mut(&id).expect("it was dialed");
        assert!(std::mem::replace(&mut exchange.is_open, false), "it is closed once");
        exchange.ended_at = now;
        self.rules.open -= 1;
        if exchange.sent_at.is_none() && exchange.begun_answer().is_none() {
            self.rules.bucket.give_back(exchange.started_at, now);
        }
        let (ended, reported) = settled(exchange);
        if let Some(lane) = exchange.lane {
            self.rules.open_with_lane -= 1;
            if !exchange.is_answered_whole() {
                self.fireworks.forgive(lane, id);
            }
            self.rules.books.get_mut(&lane).expect("it has started").end(&ended, limits, now);
            if let Some(sent_at) = exchange.sent_at.filter(|_| reported > 0 && exchange.is_answered_whole()) {
                self.rules.taught.entry(lane).or_default().learn(now.since(sent_at));
            }
            if reported > 0 {
                self.rules.days.count(reported, wall, now);
                self.rules.is_day_dirty = true;
            }
        }
        let (lane, session) = (exchange.lane, exchange.session);
        let client = self.clients.get_mut(&exchange.client);
        let request = client.and_then(|client| client.requests.get_mut(exchange.request));
        if let Some(request) = request.filter(|request| !request.has_answer) {
            request.is_coming_back = true;
            *self.rules.coming_back.entry(request.lane).or_default() += 1;
            let place = self.rules.next_place();
            self.rules.order.join(lane, session, place);
        }
        self.rules.order.end(lane, session);
    }
}

/// What the books certainly count of a try, and what it reported.
fn settled(exchange: &Exchange) -> (Ended, u64) {
    let [prompt, uncached, generated] = exchange.cost;
    let answer = exchange.begun_answer().filter(|answer| answer.status < 400);
    let reported = answer.and_then(|answer| answer.reported(exchange.delivered));
    let is_whole = exchange.is_answered_whole();
    let counted = match (exchange.begun_answer(), answer, reported) {
        (_, Some(_), Some(usage)) if is_whole => [usage.prompt, usage.prompt - usage.cached, usage.generated],
        (_, Some(_), _) => [prompt, uncached, 0],
        (Some(_), None, _) => [0; 3],
        (None, ..) if exchange.sent_at.is_some() => {
            [prompt, uncached, if exchange.is_stream { 0 } else { generated }]
        }
        _ => [0; 3],
    };
    let tokens = reported.map_or(0, |usage| usage.prompt + usage.generated);
    let since = [exchange.sent_at, exchange.admitted_at, None];
    (Ended { cost: exchange.cost, since, counted }, tokens)
}

impl super::Rules {
    /// A request waits for its first try.
    pub fn wait(&mut self, request: &mut Request, client: ConnId) {
        request.place = self.next_place();
        let place = (request.deadline, request.place);
        self.waiting.entry(request.lane).or_default().insert(place, client);
        self.order.join(request.lane, request.session(client), request.place);
    }

    /// A request waits no more, or does not come back any more.
    pub fn leave(&mut self, request: &mut Request, client: ConnId) {
        let place = (request.deadline, request.place);
        let waiting = self.waiting.get_mut(&request.lane);
        let was_waiting = waiting.is_some_and(|waiting| waiting.remove(&place).is_some());
        let was_coming_back = std::mem::take(&mut request.is_coming_back);
        if was_coming_back {
            *self.coming_back.get_mut(&request.lane).expect("it was counted") -= 1;
        }
        if was_waiting || was_coming_back {
            self.order.leave(request.lane, request.session(client));
        }
    }
}
