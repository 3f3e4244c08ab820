//! One connection from its handshake to its end: requests in, decisions, answers out.
//!
//! The only file that knows both the limits and the link.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{Answer, LimitView};
use super::deliver::{Delivery, Stop, choose_framing};
use super::demand::{Demand, Endpoint};
use super::faults::{Fault, Faults};
use super::hub::{Hub, State};
use super::limits::Dimension;
use super::link::Link;
use super::request::{Outcome, ReadFailure, RecordedRequest, read_request};
use super::script::{Cut, CutBy, Framing, Script};

/// Where other programs read what the fake has counted. Asking is not counted.
const STATISTICS_PATH: &str = "/statistics";

/// How the fake answers when a request's script does not say.
pub(super) struct Defaults {
    pub(super) generated_tokens: u64,
    pub(super) events: usize,
    pub(super) interval: Duration,
    pub(super) prefix_cache: bool,
    pub(super) script: Vec<(String, String)>,
    pub(super) faults: Option<Faults>,
}

/// A connection's thread.
pub(super) struct Exchange {
    pub(super) hub: Arc<Hub>,
    pub(super) defaults: Arc<Defaults>,
    pub(super) connection: u64,
}

/// How a connection goes on after an answer.
enum Next {
    Request,
    Close,
    CloseWithoutNotify,
    Cut(CutBy),
}

impl Exchange {
    /// Serves the connection until it ends.
    pub(super) fn serve(&self, mut link: Link) {
        if link.handshake().is_err() {
            self.hub.update(|state| state.statistics.handshakes_failed += 1);
            return link.cut();
        }
        loop {
            let next = match read_request(&mut link, self.connection) {
                Ok(request) if request.path() == STATISTICS_PATH => self.show_statistics(&mut link),
                Ok(request) => self.answer(&mut link, &request),
                Err(failure) => self.refuse(&mut link, failure),
            };
            match next {
                Next::Request => {}
                Next::Close => return link.finish(),
                Next::CloseWithoutNotify => return link.finish_without_close_notify(),
                Next::Cut(CutBy::Shutdown) => return link.cut(),
                Next::Cut(CutBy::Reset) => return link.reset(),
                Next::Cut(CutBy::Close) => return link.finish(),
            }
        }
    }

    fn refuse(&self, link: &mut Link, failure: ReadFailure) -> Next {
        match failure {
            ReadFailure::Ended => Next::Close,
            ReadFailure::Truncated => {
                self.hub.update(|state| state.statistics.truncated += 1);
                Next::Cut(CutBy::default())
            }
            ReadFailure::Malformed(reason) => {
                self.hub.update(|state| {
                    state.statistics.malformed += 1;
                    state.statistics.last_complaint = Some(reason);
                });
                let _ =
                    link.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                Next::Close
            }
        }
    }

    fn show_statistics(&self, link: &mut Link) -> Next {
        let body = self.hub.read(State::page);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = link.send((head + &body).as_bytes());
        Next::Close
    }

    fn answer(&self, link: &mut Link, request: &RecordedRequest) -> Next {
        let number = self.hub.begin(request);
        let endpoint = Endpoint::of(request);
        let (script, answer, fault) = match self.script(request) {
            Ok(script) => self.decide_with_faults(number, endpoint, request, script),
            Err(complaint) => {
                let script = Script::default();
                let answer = Answer::error(endpoint.dialect(), 400, Some(&complaint), &script);
                self.hub.update(|state| {
                    state.statistics.script_errors += 1;
                    state.statistics.last_complaint = Some(complaint);
                });
                (script, answer, None)
            }
        };
        self.hub.decide(number, answer.status, fault);
        self.deliver(link, request, number, &script, &answer.with_a_middle(&script))
    }

    /// Decides on a request after a random fault had its chance to strike.
    fn decide_with_faults(
        &self,
        number: usize,
        endpoint: Endpoint,
        request: &RecordedRequest,
        script: Script,
    ) -> (Script, Answer, Option<Fault>) {
        let mut struck = script.clone();
        let faults = self.defaults.faults.as_ref().filter(|_| endpoint.is_generation());
        let events = script.events.unwrap_or(self.defaults.events);
        let fault = faults.and_then(|faults| faults.strike(number, &mut struck, events));
        let answer = self.decide(number, endpoint, request, &struck);
        match fault {
            Some(fault) if fault.is_in_body() && answer.status != 200 => (script, answer, None),
            fault => (struck, answer, fault),
        }
    }

    /// The request's script; what it asks for a number of times only, by how often the request was seen before.
    fn script(&self, request: &RecordedRequest) -> Result<Script, String> {
        let mut script = Script::parse(&self.defaults.script, &request.headers)?;
        if script.counts_uses() {
            let body = || format!("{} {}", request.target, String::from_utf8_lossy(&request.body));
            let key = script.id.clone().unwrap_or_else(body);
            let used = self.hub.update(|state| {
                let uses = state.script_uses.entry(key).or_default();
                std::mem::replace(uses, *uses + 1)
            });
            script.set_uses(used);
        }
        script.interval = script.interval.or(Some(self.defaults.interval));
        Ok(script)
    }

    fn decide(
        &self,
        number: usize,
        endpoint: Endpoint,
        request: &RecordedRequest,
        script: &Script,
    ) -> Answer {
        let dialect = endpoint.dialect();
        if let Some(status) = script.status {
            return Answer::error(dialect, status, None, script);
        }
        match endpoint {
            Endpoint::Unknown => return Answer::error(dialect, 404, None, script),
            Endpoint::Models => return Answer::models(script),
            _ => {}
        }
        let mut demand = match Demand::read(request, script, self.defaults.generated_tokens) {
            Ok(demand) => demand,
            Err(error) => return Answer::error(dialect, 400, Some(&error), script),
        };
        let events = script.events.unwrap_or(self.defaults.events);
        self.hub.update(|state| match self.admit(state, request, script, &mut demand) {
            (Ok(()), view) => Answer::success(endpoint, number, &demand, events, script, &view),
            (Err(_), view) => Answer::limited(dialect, script, &view),
        })
    }

    /// Asks cache and limits about a demand; charges its prompt tokens when it is let in.
    fn admit(
        &self,
        state: &mut State,
        request: &RecordedRequest,
        script: &Script,
        demand: &mut Demand,
    ) -> (Result<(), Dimension>, LimitView) {
        let now = Instant::now();
        let admitted = state.limiter.admit(&demand.lane, demand.usage.prompt, now);
        match admitted {
            Ok(()) => {
                state.statistics.prompt_tokens += demand.usage.prompt;
                if self.defaults.prefix_cache && script.cached_tokens.is_none() {
                    let known = state.cache.look_up(&demand.lane.model, &demand.session, &request.body);
                    demand.set_cached_bytes(known);
                }
            }
            Err(dimension) => *state.statistics.refused.entry(dimension).or_default() += 1,
        }
        let used = state.limiter.used(&demand.lane, now);
        (admitted, LimitView { limits: state.limiter.limits(), used, refused: admitted.err() })
    }

    fn deliver(
        &self,
        link: &mut Link,
        request: &RecordedRequest,
        number: usize,
        script: &Script,
        answer: &Answer,
    ) -> Next {
        let framing = choose_framing(script, answer, request.http10);
        let closes = !request.keeps_alive() || framing == Framing::Close;
        let head_only = request.method == "HEAD";
        let mut delivery = Delivery { link, hub: &self.hub, script, framing, closes, head_only };
        let result = delivery.run(answer, |generated| self.charge(answer, Dimension::Generated, generated));
        let uncached = answer.charge.as_ref().map_or(0, |(_, usage)| usage.uncached());
        self.charge(answer, Dimension::Uncached, uncached);
        let (outcome, next) = match result {
            Ok(()) if script.cut == Some(Cut::NoCloseNotify) => (Outcome::Cut, Next::CloseWithoutNotify),
            Ok(()) if closes => (Outcome::Complete, Next::Close),
            Ok(()) => (Outcome::Complete, Next::Request),
            Err(Stop::PeerGone { after_last_event }) => {
                (Outcome::ClosedByPeer { after_last_event }, Next::Cut(CutBy::default()))
            }
            Err(Stop::Cut) => (Outcome::Cut, Next::Cut(script.cut_by)),
        };
        self.hub.end(number, outcome);
        next
    }

    fn charge(&self, answer: &Answer, dimension: Dimension, amount: u64) {
        let Some((lane, _)) = answer.charge.as_ref().filter(|_| amount > 0) else { return };
        self.hub.update(|state| {
            state.limiter.charge(lane, dimension, amount, Instant::now());
            match dimension {
                Dimension::Uncached => state.statistics.uncached_tokens += amount,
                Dimension::Generated => state.statistics.generated_tokens += amount,
                Dimension::Prompt | Dimension::Requests => {}
            }
        });
    }
}
