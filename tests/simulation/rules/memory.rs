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
    /// The request whose body was read last since memory is tight: its client, and which of its requests.
    reading: Option<(ConnId, usize)>,
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
            self.rules.tightness.reading = None;
        }
        self.rules.tightness.was_tight = is_tight;
    }

    /// The proxy is about to read from a client. While memory is tight, whoever's body is read keeps its turn
    /// until the body is whole or its client is gone.
    pub fn check_turn(&mut self, id: ConnId) {
        let Some(upload) = self.upload_of(id).filter(|_| self.rules.tightness.was_tight) else { return };
        let before = self.rules.tightness.reading.replace(upload).filter(|before| *before != upload);
        let is_taken = before.is_some_and(|before| self.upload_of(before.0) == Some(before));
        assert!(!is_taken, "memory is tight, and the bodies of {before:?} and {upload:?} are read");
    }

    /// Whose body has come, and is not read. What can be read has been before a timer is looked at.
    pub fn unread_uploads(&self) -> Vec<ConnId> {
        let has_come = |id: &ConnId| !self.conns[id].inbound.ready().is_empty();
        let uploading = self.clients.keys().copied().filter(|id| self.upload_of(*id).is_some());
        uploading.filter(has_come).collect()
    }

    /// None of these is told that it is slow: it is the proxy that does not read. Not looked at after a sleep.
    pub fn check_not_blamed(&self, unread: &[ConnId]) {
        let proxy = &self.process.as_ref().expect("it runs").proxy;
        let blamed = unread.iter().find(|id| !proxy.pending_write(**id).is_empty());
        assert_eq!(blamed, None, "it waits to be read, and is refused");
    }

    /// The request of a client's of whose body the rest is to come.
    fn upload_of(&self, id: ConnId) -> Option<(ConnId, usize)> {
        let client = self.clients.get(&id)?;
        let request = client.requests.get(client.answered)?;
        let proxy = &self.process.as_ref().expect("it runs").proxy;
        // A refusal may be on its way, after which the rest is dropped.
        let is_refused = request.has_answer || client.is_done || !proxy.pending_write(id).is_empty();
        let is_begun = request.kind == Kind::Forward && request.arrived.is_some();
        (is_begun && request.whole_at.is_none() && !is_refused).then_some((id, client.answered))
    }
}
