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

use super::tls::{Connector, failure_of};
use crate::failure::{Failure, FailureClass};

/// Plaintext that is handed to TLS at once; it is encrypted and sent before more is taken.
const TLS_WRITE_BYTES_MAX: usize = 64 * 1024;

/// Every connection is watched both ways from the start; readiness decides what is done.
const BOTH_WAYS: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// A connection to a client or to the upstream.
#[derive(Debug)]
pub(super) struct Conn {
    stage: Stage,
    peer: Peer,
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
    /// Trying addresses in turn. The last error is kept for when none is left.
    Connecting {
        attempt: Option<(SocketAddr, TcpStream)>,
        addresses: VecDeque<SocketAddr>,
        last_error: String,
        /// Whether somebody sees to it that this attempt ends in time.
        is_watched: bool,
    },
    /// Over TCP; with TLS, where it is spoken, which knows itself whether its handshake is done.
    Connected(TcpStream, Option<Box<ClientConnection>>),
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
        let stage = Stage::Connecting {
            attempt: None,
            addresses,
            last_error: "it has no address".to_owned(),
            is_watched: false,
        };
        Self::new(stage, Peer::Upstream)
    }

    /// A client's connection is tried for readiness at first; the upstream's is not there yet.
    fn new(stage: Stage, peer: Peer) -> Self {
        let is_there = peer == Peer::Client;
        Self { stage, peer, readable: is_there, writable: is_there, reading: Reading::Open }
    }

    /// Watches an accepted connection.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(self.stream_mut(), token, BOTH_WAYS)
    }

    /// Records what an event says.
    pub(super) fn note(&mut self, event: &Event) {
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

    /// The address that is being tried, if there are others to try after it; said once for each.
    pub(super) fn attempt_to_watch(&mut self) -> Option<SocketAddr> {
        let Stage::Connecting { attempt: Some((address, _)), addresses, is_watched, .. } = &mut self.stage
        else {
            return None;
        };
        let is_news = !addresses.is_empty() && !std::mem::replace(is_watched, true);
        is_news.then_some(*address)
    }

    /// Whether it is still trying this address.
    pub(super) fn is_trying(&self, address: SocketAddr) -> bool {
        matches!(&self.stage, Stage::Connecting { attempt: Some((tried, _)), .. } if *tried == address)
    }

    /// Whether the core can use it.
    pub(super) fn is_ready(&self) -> bool {
        match &self.stage {
            Stage::Connecting { .. } => false,
            Stage::Connected(_, tls) => tls.as_ref().is_none_or(|tls| !tls.is_handshaking()),
        }
    }

    /// Starts to connect to the next address, past those that refuse at once.
    pub(super) fn begin(&mut self, registry: &Registry, token: Token) {
        let Stage::Connecting { attempt, addresses, last_error, is_watched } = &mut self.stage else {
            return;
        };
        self.writable = false;
        *is_watched = false;
        if let Some((_, mut given_up)) = attempt.take() {
            let _ = registry.deregister(&mut given_up);
        }
        while let Some(address) = addresses.pop_front() {
            let begun = TcpStream::connect(address).and_then(|mut stream| {
                registry.register(&mut stream, token, BOTH_WAYS)?;
                Ok(stream)
            });
            match begun {
                Ok(stream) => {
                    *attempt = Some((address, stream));
                    return;
                }
                Err(error) => *last_error = format!("{address}: {error}"),
            }
        }
    }

    /// Takes the connection further towards being usable. Whether it is.
    pub(super) fn make_ready(
        &mut self,
        connector: &Connector,
        registry: &Registry,
        token: Token,
    ) -> Result<bool, Failure> {
        if matches!(self.stage, Stage::Connecting { .. }) && !self.connect(connector, registry, token)? {
            return Ok(false);
        }
        self.shake_hands()
    }

    /// Whether TCP is connected. Writable alone does not say so: an error is writable too, and so is
    /// a spurious event.
    fn connect(&mut self, connector: &Connector, registry: &Registry, token: Token) -> Result<bool, Failure> {
        let Stage::Connecting { attempt, last_error, .. } = &mut self.stage else { return Ok(true) };
        let Some((address, stream)) = attempt else {
            return Err(Failure::new(FailureClass::ConnectRefused, last_error.clone()));
        };
        if !self.writable {
            return Ok(false);
        }
        if let Some(error) = stream.take_error().unwrap_or_else(Some) {
            *last_error = format!("{address}: {error}");
            self.begin(registry, token);
            // With no address left, this ends in the last error.
            return self.connect(connector, registry, token);
        }
        if stream.peer_addr().is_err() {
            self.writable = false;
            return Ok(false);
        }
        let (_, connected) = attempt.take().expect("it was connecting just now");
        let _ = connected.set_nodelay(true);
        self.readable = true;
        self.stage = Stage::Connected(connected, connector.begin()?.map(Box::new));
        Ok(true)
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
    pub(super) fn shutdown_write(&mut self) {
        // It fails only where the peer has gone, which reading will tell.
        let _ = self.stream_mut().shutdown(Shutdown::Write);
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
            Stage::Connecting { attempt: None, .. } => {}
            Stage::Connecting { attempt: Some((_, stream)), .. } | Stage::Connected(stream, _) => {
                let _ = registry.deregister(stream);
            }
        }
    }

    fn stream_mut(&mut self) -> &mut TcpStream {
        match &mut self.stage {
            Stage::Connecting { attempt: Some((_, stream)), .. } | Stage::Connected(stream, _) => stream,
            Stage::Connecting { attempt: None, .. } => unreachable!("asked of clients' connections only"),
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

fn write_plain(stream: &mut TcpStream, bytes: &[u8], writable: &mut bool) -> io::Result<usize> {
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
