//! What must hold of what is held for all connections together: it has a bound, and beyond the mark bodies
//! are read one at a time.

use fireworks_proxy::event::ConnId;

use crate::simulation::{engine::Simulation, request::Kind};

/// What is held for a connection beside bodies at most, when memory is tight: what was read ahead and relayed
/// before it was, and the buffers that held it.
const CONN_BYTES_MAX: usize = 512 * 1024;

/// What the model keeps of it.
#[derive(Debug, Default)]
pub struct Tightness {
    was_tight: bool,
}

impl Simulation {
    /// What is held is bounded, by one body more than the setting and what connections have beside bodies.
    pub fn check_memory(&mut self) {
        let conns = self.conns.len();
        let Some(mebibytes) = self.swarm.buffered_mib else { return };
        let memory = &self.proxy().context_mut().memory;
        let (held_bytes, is_tight) = (memory.held_bytes(), memory.is_tight());
        let bytes_max = (mebibytes + 1) * 1024 * 1024 + conns * CONN_BYTES_MAX;
        assert!(held_bytes <= bytes_max, "{held_bytes} bytes are held for {conns} connections");
        if is_tight {
            self.history.saw("tight memory");
        } else if self.rules.tightness.was_tight {
            self.history.saw("memory eases");
        }
        self.rules.tightness.was_tight = is_tight;
    }

    /// The proxy is about to read from a client. While memory is tight, nobody else's body is read.
    pub fn check_turn(&self, id: ConnId) {
        if !self.rules.tightness.was_tight || !self.is_uploading(id) {
            return;
        }
        let proxy = &self.process.as_ref().expect("it runs").proxy;
        let is_read = |other: &ConnId| *other != id && proxy.window(*other) > 0 && self.is_uploading(*other);
        let other = self.clients.keys().copied().find(is_read);
        assert_eq!(other, None, "memory is tight, and the body of {id:?} is read as well");
    }

    /// Whose body has come, and is not read. What can be read has been before a timer is looked at.
    pub fn unread_uploads(&self) -> Vec<ConnId> {
        let has_come = |id: &ConnId| !self.conns[id].inbound.ready().is_empty();
        let uploading = self.clients.keys().copied().filter(|id| self.is_uploading(*id));
        uploading.filter(has_come).collect()
    }

    /// None of these is told that it is slow: it is the proxy that does not read.
    pub fn check_not_blamed(&self, unread: &[ConnId]) {
        let proxy = &self.process.as_ref().expect("it runs").proxy;
        let blamed = unread.iter().find(|id| !proxy.pending_write(**id).is_empty());
        assert_eq!(blamed, None, "it waits to be read, and is refused");
    }

    /// Whether the rest of a body is to come from a client.
    fn is_uploading(&self, id: ConnId) -> bool {
        let Some(client) = self.clients.get(&id) else { return false };
        let Some(request) = client.requests.get(client.answered) else { return false };
        let proxy = &self.process.as_ref().expect("it runs").proxy;
        // A refusal may be on its way, after which the rest is dropped.
        let is_refused = request.has_answer || client.is_done || !proxy.pending_write(id).is_empty();
        let is_begun = request.kind == Kind::Forward && request.arrived.is_some();
        is_begun && request.whole_at.is_none() && !is_refused
    }
}
