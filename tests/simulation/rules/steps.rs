//! What must hold after every step, and whenever there is nothing to do but to wait.

use std::time::Duration;

use fireworks_proxy::failure::{FailureClass, Reach, STOPPED};

use super::books::Limits;
use crate::simulation::{engine::Simulation, request::Lane};

/// What is held of an answer for its client at most, with what else may come at once: 128 KiB, a head, and the
/// framing of pieces.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// What waits for a client is bounded.
pub fn check_outbox(bytes: usize) {
    assert!(bytes <= OUTBOX_BYTES_MAX, "{bytes} bytes wait for a client");
}

impl Simulation {
    pub fn check_step(&mut self) {
        self.check_balance();
        self.check_memory();
        if std::mem::take(&mut self.rules.is_day_dirty) {
            self.check_day();
        }
    }

    /// Every request is at one place, or has come to one end, which the log tells.
    pub fn check_balance(&mut self) {
        let (open, end_lines) = (self.rules.open, self.rules.end_lines());
        let ctx = self.proxy().context_mut();
        let waiting = ctx.admission.waiting() as u64;
        let stats = &ctx.stats;
        let ends = stats.finished + stats.refused + stats.client_gone + stats.failed;
        let under_way = waiting + stats.paused + stats.in_flight;
        assert_eq!(stats.requests, ends + under_way, "requests and their ends: {stats:?}");
        assert_eq!(stats.in_flight, open, "what is in flight is at the upstream");
        assert_eq!(ends, end_lines, "each end has its line in the log");
        let with_lane = self.rules.open_with_lane;
        let lanes = self.proxy().context_mut().admission.budgets_mut().lanes_mut();
        assert_eq!(lanes.map(|(_, lane)| lane.in_flight).sum::<usize>(), with_lane, "reservations");
    }

    /// Every failed request has a failure that says why.
    pub fn check_causes(&mut self) {
        let upstream = FailureClass::ALL.map(|class| (class.reach(), class.name()));
        let stopped =
            [Reach::NeverReached, Reach::MayHaveReached, Reach::Acknowledged].map(|reach| (reach, STOPPED));
        let stats = &self.proxy().context_mut().stats;
        let causes = upstream.iter().chain(&stopped);
        let causes: u64 = causes.map(|(reach, class)| stats.failures(*reach, class)).sum();
        assert!(stats.failed <= causes, "{} requests failed of {causes} failures", stats.failed);
    }

    pub fn check_day(&mut self) {
        let ledger = &self.proxy().context_mut().ledger;
        let (date, used) = (ledger.date(), ledger.used());
        self.rules.days.check(&date, used);
    }

    /// There is nothing to do but to wait: nobody waits for nothing.
    pub fn check_rest(&mut self) {
        let is_late = |at: Option<_>| at.is_some_and(|at| at <= self.now);
        if is_late(self.next_timer()) || is_late(self.agenda.first_key_value().map(|((at, _), _)| *at)) {
            return;
        }
        let drain_until = self.process.as_ref().and_then(|process| process.drain_until);
        assert!(drain_until.is_none_or(|until| self.now < until), "the drain is over");
        assert!(self.conns.is_empty() || self.next_timer().is_some(), "somebody waits without a timer");
        self.check_waiting();
        self.looks += 1;
        // These look at everybody, and what they find does not go away.
        if self.looks.is_multiple_of(8) {
            self.check_nobody_is_stuck();
            self.check_holds();
            self.check_refusals();
        }
    }

    /// Nobody is held beyond its time, but for an answer that comes whole and may be in the making.
    fn check_holds(&self) {
        let proxy = &self.process.as_ref().expect("it runs").proxy;
        for (id, client) in &self.clients {
            let Some(request) = client.requests.get(client.answered) else { continue };
            if request.whole_at.is_none() || request.has_answer || !proxy.pending_write(*id).is_empty() {
                continue;
            }
            let last = request.tries.last().map(|id| &self.exchanges[id]);
            let is_worked_on = last.is_some_and(|last| last.is_open && last.sent_at.is_some());
            let may_last = is_worked_on && !request.is_stream && request.lane.is_some();
            assert!(
                may_last || self.now < request.hold_until,
                "{id:?} is held beyond {:?}",
                request.hold_until
            );
        }
    }

    /// Who waits was refused, for a time or until something in flight ends.
    fn check_refusals(&mut self) {
        let admission = &mut self.proxy().context_mut().admission;
        let lanes: Vec<_> =
            admission.budgets_mut().lanes_mut().map(|(id, lane)| (id, lane.in_flight)).collect();
        for (id, in_flight) in lanes {
            if admission.waiting_in(Some(id)) > 0 {
                let refusal = admission.refusal_of(Some(id)).expect("who waits was refused");
                assert!(refusal.until.is_some() || in_flight > 0, "nobody will ever ask again: {refusal:?}");
            }
        }
    }

    /// Nobody waits beyond its time, and in no lane do all wait although there is room for each of them:
    /// one of them is the first.
    fn check_waiting(&mut self) {
        let tokens = self.rules.bucket.tokens(self.now);
        for waiting in self.waiting_by_lane() {
            let mut have_room = tokens >= 1.001;
            for (_, id) in &waiting {
                let client = &self.clients[id];
                let request = &client.requests[client.answered];
                let (since, until) = (request.whole_at, request.deadline);
                assert!(self.now < until, "{id:?} waits since {since:?} until {until:?}");
                let (lane, cost) = (request.lane, self.cost_of(request));
                have_room &= self.certainly_has_room(lane, cost);
            }
            assert!(waiting.is_empty() || !have_room, "{waiting:?} wait, and there is room");
        }
    }

    /// Whether one that waits in a lane would be started for certain, if it were the first.
    fn certainly_has_room(&mut self, lane: Option<Lane>, cost: [u64; 3]) -> bool {
        let others_first = self.rules.coming_back.get(&lane).is_some_and(|count| *count > 0);
        let is_known = cost != [0; 3] || lane.is_none();
        let limits = Limits {
            whole: self.swarm.limits,
            effective: self.swarm.effective(),
            requests_per_second: self.swarm.requests_per_second,
        };
        let book = lane.map(|lane| self.rules.books.entry(lane).or_default());
        let had_trouble = lane.and_then(|lane| self.rules.taught.get(&lane)).is_some_and(|it| it.had_trouble);
        let has_room = !had_trouble && book.is_none_or(|book| book.has_room(cost, &limits, self.now));
        has_room && is_known && !others_first
    }

    /// Nobody is there any more, and nothing is left of anybody.
    pub fn check_end(&mut self) {
        assert!(self.conns.is_empty() && self.clients.is_empty(), "{} are left", self.conns.len());
        assert_eq!(self.next_timer(), None, "something is left to wait for");
        self.check_balance();
        self.check_causes();
        self.rules.check_ids();
        assert_eq!(self.proxy().context_mut().memory.held_bytes(), 0, "bytes are held for nobody");
        assert_eq!((self.rules.open, self.proxy().context_mut().admission.waiting()), (0, 0));
        self.now = self.now + Duration::from_secs(62);
        let mono = self.clock().mono;
        for (_, lane) in self.proxy().context_mut().admission.budgets_mut().lanes_mut() {
            let is_named = ["m0", "m1"].contains(&lane.model.as_str());
            let balances = lane.balances(mono);
            let is_empty = balances.iter().all(|balance| balance.used + balance.reserved == 0);
            assert!(is_named && is_empty && lane.in_flight == 0, "{:?}: {balances:?}", lane.model);
        }
        self.check_day();
    }
}
