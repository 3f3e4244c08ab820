//! What the shell does with one connection in one turn: a write or a read, of all that there is or of a part.

use std::time::Duration;

use fireworks_proxy::{
    event::{ConnId, Input},
    failure::{Failure, FailureClass},
};

use super::{
    engine::{Event, Simulation},
    pipe::{End, Pipe},
    rules,
};

impl Simulation {
    /// One write or one read. Whether there was anything to do.
    pub fn run_conn(&mut self, id: ConnId) -> bool {
        if !self.conns.get(&id).is_some_and(|conn| conn.is_connected) {
            return false;
        }
        let writes_first = self.dice.chance(70);
        (writes_first && self.write(id)) || self.read(id) || self.write(id)
    }

    fn write(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(&id) else { return false };
        let proxy = &self.process.as_ref().expect("it has connections").proxy;
        let pending = proxy.pending_write(id);
        let most = pending.len().min(conn.outbound.room()).min(conn.outbound.piece_max);
        if most == 0 {
            return false;
        }
        let is_partial = self.dice.chance(20);
        let count =
            if is_partial { 1 + usize::try_from(self.dice.below(most as u64)).expect("small") } else { most };
        if self.clients.contains_key(&id) {
            rules::check_outbox(pending.len());
        }
        let bytes = pending[..count.min(most)].to_vec();
        self.check_written(id, &bytes);
        let now = self.now;
        let conn = self.conns.get_mut(&id).expect("it is there");
        let at = conn.outbound.push(&bytes, now);
        self.plan_at(at, Event::Outbound(id));
        self.tell(id, Input::Wrote(bytes.len()));
        true
    }

    fn read(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(&id) else { return false };
        let window = self.process.as_ref().expect("it has connections").proxy.window(id);
        let is_client = self.clients.contains_key(&id);
        let end = conn.inbound.arrived_end(self.now);
        if end == Some(End::Reset) {
            self.tell(id, Input::Failed(Failure::new(FailureClass::CutInStream, "reset")));
            self.forget_if_ended(id);
            return true;
        }
        let ready = conn.inbound.ready().len();
        let count = ready.min(window).min(conn.inbound.piece_max).min(64 * 1024);
        if count > 0 {
            let conn = self.conns.get_mut(&id).expect("it is there");
            let bytes = conn.inbound.take(count);
            self.check_turn(id);
            self.count_received(id, &bytes);
            self.tell(id, Input::Received(&bytes));
            return true;
        }
        // The end of a client is noticed also where there is no room for its bytes.
        if end == Some(End::Eof) && (window > 0 || is_client) {
            self.tell(id, Input::Eof);
            self.forget_if_ended(id);
            return true;
        }
        false
    }

    /// An end is told once.
    fn forget_if_ended(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.inbound = Pipe::new(Duration::ZERO, 1, 0);
        }
    }

    /// Whether any connection could go on and nobody lets it.
    pub fn check_nobody_is_stuck(&self) {
        let proxy = &self.process.as_ref().expect("it runs").proxy;
        for (id, conn) in self.conns.iter().filter(|(_, conn)| conn.is_connected) {
            let can_write = conn.outbound.room() > 0 && !proxy.pending_write(*id).is_empty();
            let can_read = !conn.inbound.ready().is_empty() && proxy.window(*id) > 0;
            assert!(!can_write && !can_read, "{id:?} could go on (write: {can_write}, read: {can_read})");
        }
    }
}
