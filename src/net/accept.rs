//! Clients on their way in, and what makes place for them when there is none: connections that wait for
//! nothing but a next request.

use std::{io, time::Duration};

use log::{info, warn};

use super::{Server, conn::Conn, race::is_own_shortage, token_of};
use crate::{
    event::{ConnId, Input},
    proxy::SESSIONS_MAX,
    time::Now,
};

/// Connections accepted in one turn, so that a storm of them does not hold up streams.
const ACCEPTS_PER_TURN: usize = 64;

/// How long accepting pauses when there is no place: the system has refused, for want of descriptors for
/// example, and no idle connection could make room. It goes on at once when a connection of ours closes; what
/// else may free a descriptor, nobody tells us.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

impl Server {
    /// Whether accepting could go on now.
    pub(super) fn has_waiting_client(&self) -> bool {
        self.accept_pause.is_none() && self.listeners.iter().any(|listener| listener.is_ready)
    }

    /// Lets in who waits.
    pub(super) fn accept(&mut self, now: Now) {
        self.accept_pause = self.accept_pause.filter(|until| *until > now.mono);
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                if self.accept_pause.is_some() || !self.listeners[index].is_ready {
                    break;
                }
                self.accept_one(index, now);
            }
        }
    }

    fn accept_one(&mut self, index: usize, now: Now) {
        let has_place = !self.proxy.is_full() || self.make_room(now);
        let error = match has_place.then(|| self.listeners[index].accept()) {
            Some(Ok(Some(stream))) => return self.admit_client(stream, now),
            Some(Ok(None)) => return self.note_accepting(index),
            Some(Err(error)) => error,
            None => io::Error::other(format!("{SESSIONS_MAX} are open")),
        };
        if self.accept_outage.failed(now.mono) {
            warn!("cannot accept connections: {error}; new clients wait for idle ones to make room");
        }
        if !is_own_shortage(&error) || !self.make_room(now) {
            self.accept_pause = Some(now.mono + ACCEPT_PAUSE);
        }
    }

    /// Closes the connection that has been idle for the longest. Whether there was one.
    fn make_room(&mut self, now: Now) -> bool {
        let has_room = self.proxy.make_room(now);
        self.do_outputs(now);
        has_room
    }

    /// Says that accepting works again, once nobody waits on a listener any more: a single client
    /// that got in says little.
    fn note_accepting(&mut self, index: usize) {
        if !self.listeners[index].is_ready && self.accept_outage.works() {
            info!("connections are accepted again");
        }
    }

    fn admit_client(&mut self, stream: mio::net::TcpStream, now: Now) {
        let id = self.proxy.next_conn_id();
        let mut conn = Conn::accepted(stream);
        if let Err(error) = conn.register(self.poll.registry(), token_of(id)) {
            warn!("cannot watch a client's connection: {error}");
            return;
        }
        self.conns.insert(id, conn);
        self.runnable.insert(id);
        self.proxy.handle_input(id, Input::Accepted, now);
        self.do_outputs(now);
    }

    /// Makes room for a connection to the upstream that failed for want of a descriptor, and begins it
    /// again. Whether it could.
    pub(super) fn dial_again(&mut self, id: ConnId, now: Now) -> bool {
        let is_short = self.conns.get(&id).is_some_and(Conn::is_short_of_descriptors);
        if !is_short || !self.make_room(now) {
            return false;
        }
        self.conns.remove(&id);
        self.unresolved.push(id);
        self.dial(now);
        true
    }
}
