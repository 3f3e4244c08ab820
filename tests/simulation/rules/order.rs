//! Whose turn it is, as far as that can be told without knowing what each request costs.
//!
//! What is not told here, the exact order for given costs, is held by the oracle of `wait_queue`.

use std::{collections::BTreeMap, time::Duration};

use fireworks_proxy::event::ConnId;

use super::Place;
use crate::simulation::{
    engine::Simulation,
    request::{Lane, Request, Session},
    swarm::Honesty,
};

/// Nobody passes a request of a session with nothing under way from so long before its deadline on.
const URGENT_BEFORE: Duration = Duration::from_secs(90);

/// What is known of the sessions.
#[derive(Debug, Default)]
pub struct Order {
    accounts: BTreeMap<(Option<Lane>, Session), Account>,
}

/// One session in one lane.
#[derive(Debug, Default)]
struct Account {
    /// Requests that wait, or may, because they come back.
    pending: u64,
    /// It did not begin to wait before this place was given out.
    since: u64,
    /// Requests at the upstream.
    open: u64,
    /// Whether it has had a turn. If not, it has been charged nothing.
    has_started: bool,
}

impl Order {
    /// A request waits, or will when it comes back.
    pub fn join(&mut self, lane: Option<Lane>, session: Session, place: u64) {
        let account = self.accounts.entry((lane, session)).or_default();
        if account.pending == 0 {
            account.since = place;
        }
        account.pending += 1;
    }

    /// It does so no more.
    pub fn leave(&mut self, lane: Option<Lane>, session: Session) {
        self.account(lane, session).pending -= 1;
        self.tidy(lane);
    }

    /// It had its turn.
    pub fn start(&mut self, lane: Option<Lane>, session: Session) {
        let account = self.accounts.entry((lane, session)).or_default();
        account.has_started = true;
        account.open += 1;
    }

    /// It has ended.
    pub fn end(&mut self, lane: Option<Lane>, session: Session) {
        self.account(lane, session).open -= 1;
        self.tidy(lane);
    }

    fn account(&mut self, lane: Option<Lane>, session: Session) -> &mut Account {
        self.accounts.get_mut(&(lane, session)).expect("who has a request is known")
    }

    /// When nobody waits and nothing goes on, a lane begins anew.
    fn tidy(&mut self, lane: Option<Lane>) {
        let mut of_lane = self.accounts.iter().filter(|((other, _), _)| *other == lane);
        if of_lane.all(|(_, account)| account.pending + account.open == 0) {
            self.accounts.retain(|(other, _), _| *other != lane);
        }
    }

    /// Whether one of two requests that wait has the turn before the other for certain. `earlier` has the
    /// earlier place.
    ///
    /// Within a session the place decides. A session that has been charged nothing is level with whoever
    /// begins to wait later, whatever that has been charged, and then the place decides, too. Whoever was
    /// there before may have been charged less, and may go first.
    fn is_before(&self, lane: Option<Lane>, earlier: (Session, u64), later: Session) -> bool {
        let (session, arrived) = earlier;
        let account = |session| self.accounts.get(&(lane, session)).expect("who waits is known");
        session == later || (!account(session).has_started && arrived < account(later).since)
    }
}

impl Simulation {
    /// A request has its turn: nobody is left waiting who should have had it.
    pub fn check_order(&mut self, client_id: ConnId) {
        let client = &self.clients[&client_id];
        let request = &client.requests[client.answered];
        let (lane, own) = (request.lane, (request.deadline, request.place));
        let session = request.session(client_id);
        let Some(waiting) = self.rules.waiting.get(&lane) else { return };
        let order = &self.rules.order;
        let mut seen = Vec::new();
        for (place, other) in waiting.iter().filter(|(_, other)| **other != client_id) {
            let Some(client) = self.clients.get(other) else { continue };
            let other_session = client.requests[client.answered].session(*other);
            if *place < own {
                let is_before = order.is_before(lane, (other_session, place.1), session);
                let other_request = &client.requests[client.answered];
                let has_passed = is_before && self.may_pass(request, other_request, other_session);
                assert!(
                    !is_before || has_passed || !self.is_waiting(*other),
                    "{other:?} waits with {place:?} before {own:?}"
                );
                seen.push(if has_passed { "passed" } else { "a turn for who has had less" });
            } else if order.is_before(lane, (session, own.1), other_session) {
                seen.push(if session == other_session {
                    "first of its session"
                } else {
                    "first of sessions"
                });
            }
        }
        for what in seen {
            self.history.saw(what);
        }
    }

    /// Whether a request may start before one whose turn comes earlier: where that one is blocked for tokens, because
    /// it is larger, and is not urgent.
    fn may_pass(&self, passing: &Request, passed: &Request, session: Session) -> bool {
        let is_smaller = self.swarm.honesty == Honesty::Free || passing.prompt < passed.prompt;
        let account = &self.rules.order.accounts[&(passed.lane, session)];
        let is_urgent = account.open == 0 && passed.deadline <= self.now + URGENT_BEFORE;
        passing.lane.is_some() && is_smaller && !is_urgent
    }

    /// Whether a request that was not answered is in the queue still, and not about to be refused.
    fn is_waiting(&self, client: ConnId) -> bool {
        let proxy = &self.process.as_ref().expect("it runs").proxy;
        self.conns.contains_key(&client) && proxy.pending_write(client).is_empty()
    }

    /// Those that wait for their first try in the lanes, lane by lane.
    pub fn waiting_by_lane(&self) -> Vec<Vec<(Place, ConnId)>> {
        let lanes = self.rules.waiting.values();
        let is_there = |id: &ConnId| self.is_waiting(*id) && !self.clients[id].is_done;
        lanes
            .map(|waiting| {
                let waiting = waiting.iter().filter(|(_, id)| is_there(id));
                waiting.map(|(place, id)| (*place, *id)).collect()
            })
            .collect()
    }
}
