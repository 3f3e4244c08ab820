//! One accepted connection, plain or TLS, that notices the peer leaving while it waits.
//!
//! A reader thread moves the socket's bytes into an [`Inbox`]; the connection's own thread waits there and nowhere
//! else. So one condition variable wakes it for bytes, for the end of the stream, for a released gate and for a
//! deadline, and nothing polls. Refuses to know HTTP.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;

/// Size of one read from the socket: a full TLS record and a little.
const READ_BYTES: usize = 20 * 1024;

/// The peer closed, reset or broke the protocol: nobody reads what would be sent.
#[derive(Debug)]
pub(super) struct PeerGone;

/// Where a connection's thread waits.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<InboxState>,
    changed: Condvar,
}

#[derive(Default)]
struct InboxState {
    bytes: Vec<u8>,
    ended: bool,
    released: bool,
}

/// What an [`Inbox`] had to say.
struct Wake {
    bytes: Vec<u8>,
    ended: bool,
    released: bool,
}

impl Inbox {
    /// Moves bytes from the socket until it ends. The body of the reader thread.
    pub(super) fn fill_from(&self, mut socket: &TcpStream) {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match socket.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    self.update(|state| state.bytes.extend_from_slice(&buffer[..count]));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return self.update(|state| state.ended = true),
            }
        }
    }

    /// Opens the gate this connection waits at.
    pub(super) fn release(&self) {
        self.update(|state| state.released = true);
    }

    fn update(&self, change: impl FnOnce(&mut InboxState)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until there is something to say; `deadline` None waits for ever.
    fn wait(&self, deadline: Option<Instant>) -> Wake {
        let mut state = self.lock();
        while state.bytes.is_empty() && !state.ended && !state.released {
            let Some(deadline) = deadline else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Wake {
            bytes: std::mem::take(&mut state.bytes),
            ended: state.ended,
            released: std::mem::take(&mut state.released),
        }
    }

    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection as its own thread sees it.
pub(super) struct Link {
    socket: TcpStream,
    inbox: Arc<Inbox>,
    tls: Option<Box<ServerConnection>>,
    received: Vec<u8>,
    split_left: usize,
    gone: bool,
}

impl Link {
    /// A link over an accepted socket; `tls` None means plain TCP.
    pub(super) fn new(socket: TcpStream, inbox: Arc<Inbox>, tls: Option<Arc<ServerConfig>>) -> Self {
        let tls = tls.map(|config| {
            Box::new(ServerConnection::new(config).expect("a server configuration with a certificate works"))
        });
        Self { socket, inbox, tls, received: Vec::new(), split_left: 0, gone: false }
    }

    /// The place where this connection waits, for who wants to wake it.
    pub(super) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Completes the TLS handshake, if there is one.
    pub(super) fn handshake(&mut self) -> Result<(), PeerGone> {
        while self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            let wake = self.inbox.wait(None);
            self.absorb(&wake)?;
            self.alive()?;
        }
        Ok(())
    }

    /// The plain bytes received and not yet taken.
    pub(super) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Takes the first `count` received bytes.
    pub(super) fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.received.split_off(count);
        std::mem::replace(&mut self.received, rest)
    }

    /// Waits until at least one more byte was received.
    pub(super) fn read_more(&mut self) -> Result<(), PeerGone> {
        let before = self.received.len();
        while self.received.len() == before {
            self.alive()?;
            let wake = self.inbox.wait(None);
            self.absorb(&wake)?;
        }
        Ok(())
    }

    /// Lets time pass, and ends early when the peer goes away.
    pub(super) fn pause(&mut self, duration: Duration) -> Result<(), PeerGone> {
        let deadline = Instant::now() + duration;
        while Instant::now() < deadline {
            let wake = self.inbox.wait(Some(deadline));
            self.absorb(&wake)?;
            self.alive()?;
        }
        Ok(())
    }

    /// Waits until the inbox is released or the peer goes away.
    pub(super) fn wait_for_release(&mut self) -> Result<(), PeerGone> {
        loop {
            let wake = self.inbox.wait(None);
            self.absorb(&wake)?;
            if wake.released {
                return Ok(());
            }
            self.alive()?;
        }
    }

    /// Makes the next `count` bytes go out one by one.
    pub(super) fn split_next(&mut self, count: usize) {
        self.split_left = count;
    }

    /// Sends all of `bytes` and flushes, unless the peer is gone.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), PeerGone> {
        let wake = self.inbox.wait(Some(Instant::now()));
        self.absorb(&wake)?;
        self.alive()?;
        let (single, rest) = bytes.split_at(self.split_left.min(bytes.len()));
        self.split_left -= single.len();
        for byte in single.chunks(1).chain(std::iter::once(rest)) {
            self.write(byte).map_err(|_| PeerGone)?;
        }
        Ok(())
    }

    /// Ends our side the way TLS wants it; the reader thread stays until the peer ends its own.
    pub(super) fn finish(mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.flush_tls();
        }
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Ends our side of the TCP connection without telling TLS.
    pub(super) fn finish_without_close_notify(self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Closes both directions at once.
    pub(super) fn cut(self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Resets the TCP connection, so that what is still under way may be lost.
    pub(super) fn reset(self) {
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        // The reset goes out when the last handle is closed, and the reader thread has one. Ending the direction that
        // it reads wakes it, but not on Windows, where this becomes an ordinary end.
        let _ = self.socket.shutdown(if cfg!(unix) { Shutdown::Read } else { Shutdown::Both });
    }

    fn alive(&self) -> Result<(), PeerGone> {
        if self.gone { Err(PeerGone) } else { Ok(()) }
    }

    /// Turns what the socket delivered into received plain bytes.
    fn absorb(&mut self, wake: &Wake) -> Result<(), PeerGone> {
        if self.tls.is_some() {
            self.decrypt(&wake.bytes).map_err(|_| PeerGone)?;
        } else {
            self.received.extend_from_slice(&wake.bytes);
        }
        self.gone |= wake.ended;
        Ok(())
    }

    fn decrypt(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let (Some(tls), false) = (&mut self.tls, bytes.is_empty()) {
            if tls.read_tls(&mut bytes)? == 0 {
                break; // After close_notify rustls takes no more.
            }
            let outcome = tls.process_new_packets();
            let _ = tls.reader().read_to_end(&mut self.received); // Ends with WouldBlock: all of it was taken.
            self.flush_tls()?; // The handshake's next flight, or the alert that says what was wrong.
            self.gone |= outcome.map_err(io::Error::other)?.peer_has_closed();
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.tls.is_none() {
            return self.socket.write_all(bytes);
        }
        while let (Some(tls), false) = (&mut self.tls, bytes.is_empty()) {
            let taken = tls.writer().write(bytes)?;
            bytes = &bytes[taken..];
            self.flush_tls()?;
        }
        Ok(())
    }

    fn flush_tls(&mut self) -> io::Result<()> {
        while let Some(tls) = self.tls.as_mut().filter(|tls| tls.wants_write()) {
            tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}
