//! One socket, plain or TLS, and what is known of its readiness.
//!
//! Readiness is edge-triggered: `readable` and `writable` stay true until the socket itself says
//! `WouldBlock`, which is also what re-arms it on Windows. The `WouldBlock` of rustls means "no
//! plaintext yet" and never clears them.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr},
};

use mio::{Interest, Registry, Token, event::Event, net::TcpStream};
use rustls::ClientConnection;

use super::{
    race::Race,
    tls::{Connector, failure_of},
    tunnel,
};
use crate::{
    connect::Connect,
    failure::{Failure, FailureClass},
    time::Mono,
};

/// Plaintext that is handed to TLS at once; it is encrypted and sent before more is taken.
const TLS_WRITE_BYTES_MAX: usize = 64 * 1024;

/// A connection to a client or to the upstream.
#[derive(Debug)]
pub(super) struct Conn {
    stage: Stage,
    peer: Peer,
    /// The address that accepted the connection: the upstream's, or that of the forward proxy before it.
    winner: Option<SocketAddr>,
    readable: bool,
    writable: bool,
    reading: Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Client,
    Upstream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    /// An event said that the peer has ended its side, behind whatever is still to be read.
    HungUp,
    /// The core knows of the end.
    Ended,
}

#[derive(Debug)]
enum Stage {
    /// No address has accepted yet.
    Connecting(Race),
    /// Over TCP to a forward proxy, which has not let us through yet.
    Tunneling(TcpStream, Box<Connect>),
    /// Over TCP; with TLS, where it is spoken, which knows itself whether its handshake is done.
    Connected(TcpStream, Option<Box<ClientConnection>>),
}

/// How far a connection to the upstream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It waits for the other side.
    Waiting,
    /// The forward proxy has just let us through; it is to be taken further at once.
    Tunneled,
    /// The core can use it.
    Ready,
}

/// What a read came to.
#[derive(Debug)]
pub(super) enum ReadOutcome {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The peer ended its side in good order.
    Eof,
    /// The connection broke.
    Failed(Failure),
}

impl Conn {
    /// A client's connection.
    pub(super) fn accepted(stream: TcpStream) -> Self {
        // Every event of a stream goes out at once; failing to ask for that costs only time.
        let _ = stream.set_nodelay(true);
        Self::new(Stage::Connected(stream, None), Peer::Client)
    }

    /// A connection to the first of these addresses that accepts it.
    pub(super) fn to_upstream(addresses: VecDeque<SocketAddr>) -> Self {
        Self::new(Stage::Connecting(Race::new(addresses)), Peer::Upstream)
    }

    /// A client's connection is tried for readiness at first; the upstream's is not there yet.
    fn new(stage: Stage, peer: Peer) -> Self {
        let is_there = peer == Peer::Client;
        Self { stage, peer, winner: None, readable: is_there, writable: is_there, reading: Reading::Open }
    }

    /// Watches an accepted connection.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let Stage::Connected(stream, _) = &mut self.stage else { return Ok(()) };
        registry.register(stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Records what an event says. One that is late, of an attempt that did not win, is spurious
    /// readiness, which the socket puts right.
    pub(super) fn note(&mut self, event: &Event) {
        if let Stage::Connecting(race) = &mut self.stage {
            return race.note(event);
        }
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        if self.reading == Reading::Open && (event.is_read_closed() || event.is_error()) {
            self.reading = Reading::HungUp;
        }
    }

    /// Whether a client has left behind bytes that nobody reads now; said once. The upstream's bytes
    /// before its end are part of an answer; a client's are requests that it no longer waits for.
    pub(super) fn has_client_left(&mut self) -> bool {
        let has_left = self.peer == Peer::Client && self.reading == Reading::HungUp;
        if has_left {
            self.reading = Reading::Ended;
        }
        has_left
    }

    /// When it goes on to another address of the upstream, unless it is connected before.
    pub(super) fn next_attempt(&self) -> Option<Mono> {
        let Stage::Connecting(race) = &self.stage else { return None };
        race.next_attempt()
    }

    /// Whether it could not even be begun, because our own machine has no descriptor left.
    pub(super) fn is_short_of_descriptors(&self) -> bool {
        matches!(&self.stage, Stage::Connecting(race) if race.is_short_of_descriptors())
    }

    /// The address that accepted the connection: the upstream's, or that of the forward proxy before it.
    pub(super) fn winner(&self) -> Option<SocketAddr> {
        self.winner
    }

    /// The TLS that it speaks, if any, once it is connected.
    pub(super) fn tls(&self) -> Option<&ClientConnection> {
        let Stage::Connected(_, tls) = &self.stage else { return None };
        tls.as_deref()
    }

    /// Whether the core can use it.
    pub(super) fn is_ready(&self) -> bool {
        match &self.stage {
            Stage::Connecting(_) | Stage::Tunneling(..) => false,
            Stage::Connected(_, tls) => tls.as_ref().is_none_or(|tls| !tls.is_handshaking()),
        }
    }

    /// Takes the connection further towards being usable.
    pub(super) fn make_ready(
        &mut self,
        connector: &Connector,
        registry: &Registry,
        token: Token,
        now: Mono,
    ) -> Result<Step, Failure> {
        if let Stage::Connecting(race) = &mut self.stage {
            let connected =
                race.run(registry, token, now).map_err(|failure| connector.unreachable(failure))?;
            let Some((address, stream)) = connected else { return Ok(Step::Waiting) };
            let _ = stream.set_nodelay(true);
            self.winner = Some(address);
            (self.readable, self.writable) = (true, true);
            self.stage = match connector.ask_for_tunnel() {
                Some(connect) => Stage::Tunneling(stream, Box::new(connect)),
                None => Stage::Connected(stream, connector.begin()?.map(Box::new)),
            };
        }
        if let Stage::Tunneling(stream, connect) = &mut self.stage {
            if !tunnel::open(connect, stream, &mut self.readable, &mut self.writable)? {
                return Ok(Step::Waiting);
            }
            self.leave_tunneling(connector)?;
            return Ok(Step::Tunneled);
        }
        Ok(if self.shake_hands()? { Step::Ready } else { Step::Waiting })
    }

    /// TLS begins on the same socket.
    fn leave_tunneling(&mut self, connector: &Connector) -> Result<(), Failure> {
        let tls = connector.begin()?.map(Box::new);
        // Nothing is connected in between.
        let between = Stage::Connecting(Race::new(VecDeque::new()));
        if let Stage::Tunneling(stream, _) = std::mem::replace(&mut self.stage, between) {
            self.stage = Stage::Connected(stream, tls);
        }
        Ok(())
    }

    /// Whether the TLS handshake is done.
    fn shake_hands(&mut self) -> Result<bool, Failure> {
        let Stage::Connected(stream, Some(tls)) = &mut self.stage else { return Ok(self.is_ready()) };
        while tls.is_handshaking() {
            flush_tls(tls, stream, &mut self.writable)
                .map_err(|error| handshake_failure(&error.to_string()))?;
            if !self.readable {
                return Ok(false);
            }
            match tls.read_tls(stream) {
                Ok(0) => return Err(handshake_failure("the connection was closed")),
                Ok(_) => {
                    if let Err(error) = tls.process_new_packets() {
                        // The peer is told why, as far as that is possible.
                        let _ = flush_tls(tls, stream, &mut self.writable);
                        return Err(failure_of(&error));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(handshake_failure(&error.to_string())),
            }
        }
        flush_tls(tls, stream, &mut self.writable).map_err(|error| handshake_failure(&error.to_string()))?;
        Ok(true)
    }

    /// Writes as much of `bytes` as the peer takes now; also sends on what TLS still holds.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Stage::Connected(stream, tls) = &mut self.stage else { return Ok(0) };
        let Some(tls) = tls else { return write_plain(stream, bytes, &mut self.writable) };
        flush_tls(tls, stream, &mut self.writable)?;
        if bytes.is_empty() || tls.wants_write() {
            return Ok(0);
        }
        let count = tls.writer().write(&bytes[..bytes.len().min(TLS_WRITE_BYTES_MAX)])?;
        flush_tls(tls, stream, &mut self.writable)?;
        Ok(count)
    }

    /// Reads what has come.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> ReadOutcome {
        let Stage::Connected(stream, tls) = &mut self.stage else { return ReadOutcome::Nothing };
        if self.reading == Reading::Ended {
            return ReadOutcome::Nothing;
        }
        let outcome = match tls {
            None => read_plain(stream, buffer, &mut self.readable),
            Some(tls) => read_tls(tls, stream, buffer, &mut self.readable),
        };
        if matches!(outcome, ReadOutcome::Eof | ReadOutcome::Failed(_)) {
            self.reading = Reading::Ended;
        }
        outcome
    }

    /// Ends our side.
    pub(super) fn shutdown_write(&self) {
        if let Stage::Connected(stream, _) = &self.stage {
            // It fails only where the peer has gone, which reading will tell.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    /// Closes, with a word of goodbye where TLS has one.
    pub(super) fn close(mut self, registry: &Registry) {
        if self.is_ready()
            && let Stage::Connected(stream, Some(tls)) = &mut self.stage
        {
            tls.send_close_notify();
            let _ = flush_tls(tls, stream, &mut self.writable);
        }
        match &mut self.stage {
            Stage::Connecting(race) => race.give_up(registry),
            Stage::Tunneling(stream, _) | Stage::Connected(stream, _) => {
                let _ = registry.deregister(stream);
            }
        }
    }
}

fn handshake_failure(detail: &str) -> Failure {
    Failure::new(FailureClass::TlsOther, format!("in the handshake: {detail}"))
}

/// Sends what TLS has encrypted, until the socket takes no more.
fn flush_tls(tls: &mut ClientConnection, stream: &mut TcpStream, writable: &mut bool) -> io::Result<()> {
    while *writable && tls.wants_write() {
        match tls.write_tls(stream) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *writable = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes what the socket takes of it.
pub(super) fn write_plain(stream: &mut TcpStream, bytes: &[u8], writable: &mut bool) -> io::Result<usize> {
    while *writable && !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *writable = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(0)
}

fn read_plain(stream: &mut TcpStream, buffer: &mut [u8], readable: &mut bool) -> ReadOutcome {
    while *readable {
        match stream.read(buffer) {
            Ok(0) => return ReadOutcome::Eof,
            Ok(count) => return ReadOutcome::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *readable = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return ReadOutcome::Failed(broken(&error.to_string())),
        }
    }
    ReadOutcome::Nothing
}

/// Plaintext first: it may wait inside TLS with nothing more to come from the socket.
fn read_tls(
    tls: &mut ClientConnection,
    stream: &mut TcpStream,
    buffer: &mut [u8],
    readable: &mut bool,
) -> ReadOutcome {
    loop {
        match tls.reader().read(buffer) {
            Ok(0) => return ReadOutcome::Eof,
            Ok(count) => return ReadOutcome::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The socket ended without TLS' own ending: whoever did that may not be the peer.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return ReadOutcome::Failed(broken("the connection ended without a TLS close_notify"));
            }
            Err(error) => return ReadOutcome::Failed(broken(&error.to_string())),
        }
        if !*readable {
            return ReadOutcome::Nothing;
        }
        match tls.read_tls(stream) {
            Ok(_) => {
                if let Err(error) = tls.process_new_packets() {
                    return ReadOutcome::Failed(broken(&format!("TLS: {error}")));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *readable = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return ReadOutcome::Failed(broken(&error.to_string())),
        }
    }
}

/// The core knows how far the exchange had come, and classes the failure by that.
fn broken(detail: &str) -> Failure {
    Failure::new(FailureClass::CutInStream, detail)
}
