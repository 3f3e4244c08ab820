//! What must hold of what a client is sent: answers to its requests, one each, in their order, and each
//! either what one of its own tries was answered, or a refusal that has its reason.

use super::dials::is_transient;
use fireworks_proxy::{event::ConnId, status::live::ROWS_MAX};
use serde_json::Value;

use crate::simulation::{
    engine::Simulation,
    reader::{Heard, field, status},
    request::{Kind, Request},
};

/// An answer that is being written.
#[derive(Debug, Default)]
pub struct Current {
    /// The try whose answer it is, and how much of its payload has come.
    relayed: Option<(ConnId, usize)>,
    status: u16,
    /// The body of an answer of the proxy's own.
    body: Vec<u8>,
}

impl Simulation {
    /// The proxy is about to write these bytes.
    pub fn check_written(&mut self, id: ConnId, bytes: &[u8]) {
        if self.clients.contains_key(&id) {
            self.check_answer_bytes(id, bytes);
        } else {
            self.check_request_bytes(id, bytes);
        }
    }

    fn check_answer_bytes(&mut self, id: ConnId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let client = self.clients.get_mut(&id).expect("it is there");
            let Some(request) = client.requests.get(client.answered) else {
                panic!("nobody asked for {:?}: {client:?}", String::from_utf8_lossy(bytes));
            };
            let is_to_head = request.is_known_as("HEAD");
            let (used, heard) = client.reader.read(bytes, is_to_head);
            client.written += used;
            bytes = &bytes[used..];
            for heard in heard {
                match heard {
                    Heard::Interim(status) => self.heard_interim(id, status),
                    Heard::Head(text) => self.heard_head(id, &text),
                    Heard::Payload(payload) => self.heard_payload(id, &payload),
                    Heard::End => self.heard_end(id),
                }
            }
        }
    }

    fn heard_interim(&mut self, id: ConnId, status: u16) {
        let request = self.clients.get_mut(&id).and_then(|client| client.current_request()).expect("it asks");
        assert!(status == 100 && request.expects && request.arrived.is_some(), "an interim answer {status}");
        assert!(request.whole_at.is_none(), "it has sent its body");
        self.history.saw("continue");
    }

    fn heard_head(&mut self, id: ConnId, head: &str) {
        let client = self.clients.get_mut(&id).expect("it is there");
        client.is_done |= field(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let request = &mut client.requests[client.answered];
        request.has_answer = true;
        self.rules.leave(request, id);
        let status = status(head);
        // RFC 9112, section 9.6: who says that it closes is told so too.
        let wants_close = request.arrived.is_some() && (request.says_close || request.is_old);
        assert!(!wants_close || client.is_done, "it asked for an end: {head}");
        let relayed =
            field(head, "x-answer").map(|number| ConnId::from_u64(number.parse().expect("a number")));
        client.current = Current { relayed: relayed.map(|id| (id, 0)), status, body: Vec::new() };
        let request_id = field(head, "x-fireworks-proxy-request-id");
        // Who is too slow with a head asks for no page yet.
        let is_page = request.kind == Kind::Page && status != 408;
        assert_eq!(request_id.is_none(), is_page, "all but pages have an id: {head}");
        if let Some(request_id) = request_id {
            self.rules.note_answer_id(request_id);
        }
        if request.kind == Kind::Forward && request.whole_at.is_some() {
            let waited =
                field(head, "x-fireworks-proxy-wait-ms").and_then(|millis| millis.parse::<u64>().ok());
            assert!(waited.is_some(), "the wait of {head}");
            let retries = field(head, "x-fireworks-proxy-retries");
            let tried = request.tries.len().saturating_sub(1).to_string();
            assert_eq!(retries, Some(tried.as_str()), "the retries of {head}");
        }
        let Some(relayed) = relayed else { return };
        let place = request.tries.iter().position(|other| *other == relayed).expect("a try of its own");
        let answer = self.exchanges[&relayed].begun_answer().expect("nobody has said this");
        assert_eq!(answer.status, status);
        let later = request.tries[place + 1..].iter();
        assert!(later.clone().all(|id| !self.exchanges[id].is_answered_whole()), "not its last answer");
        if is_transient(status) && request.lane.is_some() && self.swarm.retries_max > 0 {
            assert!(field(head, "retry-after").is_some(), "its client is not told when to come back: {head}");
        }
        if let Some(seconds) = answer.retry_after {
            assert_eq!(field(head, "retry-after"), Some(seconds.to_string().as_str()));
        }
        self.history.saw("relayed");
    }

    fn heard_payload(&mut self, id: ConnId, payload: &[u8]) {
        let client = self.clients.get_mut(&id).expect("it is there");
        let Some((try_id, matched)) = &mut client.current.relayed else {
            return client.current.body.extend_from_slice(payload);
        };
        let exchange = &self.exchanges[try_id];
        let answer = exchange.begun_answer().expect("it has begun");
        let rest = answer.payload.get(*matched..).unwrap_or_default();
        assert!(rest.starts_with(payload), "what answer {} does not say, at {matched}", answer.number);
        *matched += payload.len();
        assert!(*matched <= exchange.delivered, "it knows what was not said yet");
    }

    fn heard_end(&mut self, id: ConnId) {
        let client = self.clients.get_mut(&id).expect("it is there");
        let current = std::mem::take(&mut client.current);
        let index = client.answered;
        client.answered += 1;
        client.idle_since = self.now;
        client.answer_ends.push(client.written);
        let request = &self.clients[&id].requests[index];
        if let Some((try_id, matched)) = current.relayed {
            let exchange = &self.exchanges[&try_id];
            let answer = exchange.begun_answer().expect("it has begun");
            let is_all = matched == answer.payload.len() || request.is_known_as("HEAD");
            assert!(is_all && exchange.is_answered_whole(), "a cut is made to look like an end");
            self.history.saw(if request.tries.len() > 1 { "whole after a retry" } else { "whole" });
        } else {
            self.check_own_answer(request, &current);
            if request.kind == Kind::Page && adds_up(&current.body) {
                self.history.saw("counts that add up");
            }
        }
        for try_id in self.clients[&id].requests[index].tries.clone() {
            assert!(!self.exchanges[&try_id].is_open, "its answer has ended");
            self.exchanges.remove(&try_id);
        }
        self.note_progress(id);
    }

    /// An answer of the proxy's own needs a reason.
    fn check_own_answer(&self, request: &Request, answer: &Current) {
        let is_known_page = request.kind == Kind::Page && request.arrived.is_some();
        if request.is_known_as("HEAD") || is_known_page {
            let is_page = request.kind == Kind::Page && matches!(answer.status, 200 | 503);
            assert!(is_page || request.kind == Kind::Forward, "{} for {request:?}", answer.status);
            return;
        }
        let body: Value = serde_json::from_slice(&answer.body).expect("a refusal is JSON");
        let error = &body["error"];
        let text = |name: &str| error[name].as_str().unwrap_or_default();
        assert!(text("message").starts_with("fireworks-proxy: "), "{body}");
        let (is_whole, was_tried) = (request.whole_at.is_some(), !request.tries.is_empty());
        let process = self.process.as_ref().expect("it runs");
        let is_right = match text("code") {
            "bad_request" => request.kind == Kind::Malformed && (400..=505).contains(&answer.status),
            code @ ("misdirected" | "cross_site" | "client_token") => {
                matches!(request.kind, Kind::Stranger(expected) if expected == code)
            }
            "client_timeout" => !is_whole && answer.status == 408,
            "queue_timeout" => !was_tried && is_whole && answer.status == 429 && self.now >= request.deadline,
            "draining" => process.drain_until.is_some() && answer.status == 503,
            "daily_limit" => {
                let is_spent =
                    self.swarm.daily_limit.is_some_and(|limit| self.rules.days.was_ever_spent(limit));
                is_spent && request.lane.is_some() && answer.status == 429
            }
            _ => was_tried && matches!(answer.status, 502 | 504),
        };
        assert!(is_right, "status {} to {request:?}: {body}", answer.status);
    }

    /// The proxy reads from a connection.
    pub fn count_received(&mut self, id: ConnId, bytes: &[u8]) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.delivered += bytes.len();
            // What is read behind a refusal that is on its way makes no request whole.
            let process = self.process.as_ref().expect("it runs");
            if b"HTTP/1.1 100 Continue\r\n\r\n".ends_with(process.proxy.pending_write(id)) {
                self.note_progress(id);
            }
        } else {
            self.count_answer_bytes(id, bytes.len());
        }
    }

    /// How far the proxy has come with reading a client's requests.
    fn note_progress(&mut self, id: ConnId) {
        let now = self.now;
        let Self { clients, swarm, rules, .. } = self;
        let client = clients.get_mut(&id).expect("it is there");
        let (delivered, is_done) = (client.delivered, client.is_done);
        let Some(request) = client.current_request() else { return };
        if is_done || !request.is_let_in() || request.has_answer {
            return;
        }
        if request.arrived.is_none() && delivered >= request.head_ends_at() {
            request.arrived = Some(now);
        }
        if request.kind == Kind::Forward && request.whole_at.is_none() && delivered >= request.ends_at {
            request.whole_at = Some(now);
            let ours = now + swarm.max_hold;
            let arrived = request.arrived.expect("its head came before");
            request.hold_until = request.usable.map_or(ours, |usable| ours.min(arrived + usable));
            request.deadline = request.hold_until.min(now + swarm.max_wait);
            rules.wait(request, id);
        }
    }

    /// The proxy has closed a client's connection: not before its request was answered.
    pub fn client_closed(&mut self, id: ConnId) {
        let mut client = self.clients.remove(&id).expect("it is there");
        let is_stopping = self.process.as_ref().is_none_or(|process| process.drain_until.is_some());
        let is_patient = client.is_patient() && !is_stopping;
        let current = std::mem::take(&mut client.current);
        let tries: Vec<ConnId> = client.requests.iter().flat_map(|request| request.tries.clone()).collect();
        if let Some(request) = client.current_request() {
            self.rules.leave(request, id);
            let is_asked = request.whole_at.is_some() && request.kind == Kind::Forward;
            assert!(!is_asked || request.has_answer || !is_patient, "left without an answer: {request:?}");
            if let Some((try_id, matched)) = current.relayed.filter(|_| is_patient) {
                let exchange = &self.exchanges[&try_id];
                let answer = exchange.begun_answer().expect("it has begun");
                let is_all = matched == answer.payload.len();
                assert!(is_all || !exchange.is_answered_whole(), "left within an answer that was whole");
                self.history.saw(if is_all { "ended by closing" } else { "cut" });
            }
        }
        for try_id in tries {
            self.exchanges.remove(&try_id);
        }
    }
}

/// What `/usage` says adds up: every request is at one place or has come to one end, and the lists have those that the
/// counts count. Whether it is that page.
fn adds_up(body: &[u8]) -> bool {
    let page: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(requests) = page["requests"].as_object() else { return false };
    let count = |name: &str| requests[name].as_u64().unwrap_or_else(|| panic!("{name} of {page}"));
    let sum = |names: &[&str]| names.iter().map(|name| count(name)).sum::<u64>();
    let under_way = sum(&["queued", "paused", "in_flight"]);
    let ended = sum(&["finished", "refused", "client_gone", "failed"]);
    assert_eq!(count("total"), ended + under_way, "{page}");
    let listed = |name: &str| page[name].as_array().map(|list| list.len() as u64);
    let shown = |count: u64| Some(count.min(ROWS_MAX as u64));
    assert_eq!(listed("waiting"), shown(sum(&["queued", "paused"])), "{page}");
    assert_eq!(listed("running"), shown(count("in_flight")), "{page}");
    true
}
