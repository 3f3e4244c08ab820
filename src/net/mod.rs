//! The shell: sockets, clocks, files and one helper thread around the core.
//!
//! One turn of the loop: wait for events; read the clock; heed who asks to stop; note which connections
//! are ready; take the resolver's answer; go on with races to connect; give each runnable connection a
//! bounded number of bytes; accept; let the core handle its timers. What the core asks for is done after
//! each thing that it was told. A connection that could still run stays on the run list, and the next wait
//! is then no wait. Decides nothing about HTTP, budgets or queues.

// This is where clocks, threads, sockets and files live.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod accept;
mod ask;
mod certificate;
mod check;
mod clock;
mod conn;
mod dial;
mod interrupt;
mod listen;
pub mod logger;
mod process;
mod race;
mod resolver;
mod roots;
mod start;
mod store;
mod tls;
mod tunnel;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mio::{Events, Poll, Token, Waker, event::Event};

use crate::{
    config::Config,
    event::{ConnId, Input, Output},
    failure::{Failure, FailureClass},
    outage::Outage,
    proxy::{Proxy, Stopped},
    time::{Mono, Now},
};

pub use ask::{AskError, Page, REFRESH, ask, watch};
pub use check::{Finding, Outcome, check};
use clock::Clock;
use conn::{Conn, ReadOutcome, Step};
pub use interrupt::stop_on_interrupt;
use listen::Listener;
use race::TOKEN_STRIDE;
use resolver::{FirstHop, Resolver};
pub use start::StartError;
use store::StateFile;
use tls::Connector;

/// Readiness events taken from the system at once; more of them wait for the next turn.
const EVENTS_MAX: usize = 1_024;

/// Bytes that one connection may deliver in one turn, so that a fast stream does not starve others.
const READ_BYTES_PER_TURN: usize = 64 * 1024;

/// Writes of one connection in one turn, each as much as the socket or TLS takes: a large request gets
/// on, and others get their turn.
const WRITES_PER_TURN: usize = 4;

const WAKER: Token = Token(0);

/// Listeners have the tokens from 1; connections begin here.
const FIRST_CONN_TOKEN: usize = 16;

/// Ends a running [`Server`] from another thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    waker: Arc<Waker>,
    stops_asked: Arc<AtomicUsize>,
}

impl Stopper {
    /// Asks the server to end what is under way, save the day and return; asked again, to do so at once.
    pub fn stop(&self) {
        self.stops_asked.fetch_add(1, Ordering::AcqRel);
        // If waking fails, the server has ended already.
        let _ = self.waker.wake();
    }
}

/// The proxy with its sockets.
pub struct Server {
    poll: Poll,
    waker: Arc<Waker>,
    /// How often somebody has asked to stop, and how many of those times have been heeded.
    stops_asked: Arc<AtomicUsize>,
    stops_heeded: usize,
    listeners: Vec<Listener>,
    /// When accepting may go on after the system has refused.
    accept_pause: Option<Mono>,
    accept_outage: Outage,
    conns: BTreeMap<ConnId, Conn>,
    /// Connections that could make progress.
    runnable: BTreeSet<ConnId>,
    /// When connections that are not connected yet try another address beside those that they try.
    attempts: BTreeSet<(Mono, ConnId)>,
    proxy: Proxy,
    connector: Connector,
    resolver: Resolver,
    /// Upstream connections that wait for the name to be resolved.
    unresolved: Vec<ConnId>,
    state_file: StateFile,
    clock: Clock,
    scratch: Vec<u8>,
}

impl Server {
    /// Opens the listeners, reads the trusted roots and the state file, and starts the helper thread.
    ///
    /// # Errors
    /// What keeps the proxy from starting, as one line.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        let system = |what: &'static str| move |error| StartError::System { what: what.to_owned(), error };
        let poll = Poll::new().map_err(system("cannot wait for events"))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(system("cannot make a waker"))?;
        let waker = Arc::new(waker);
        let listeners = listen::bind(&config, poll.registry())?;
        let connector = Connector::new(&config)?;
        let resolver = Resolver::start(FirstHop::of(&config), Arc::clone(&waker))
            .map_err(system("cannot start a thread"))?;
        let clock = Clock::start();
        let state_file = StateFile::new(&config.usage_state);
        let mut proxy = Proxy::new(config, start::random_seed(), clock.now());
        start::restore_day(&mut proxy, &state_file, clock.now());
        Ok(Self {
            poll,
            waker,
            stops_asked: Arc::default(),
            stops_heeded: 0,
            listeners,
            accept_pause: None,
            accept_outage: Outage::default(),
            conns: BTreeMap::new(),
            runnable: BTreeSet::new(),
            attempts: BTreeSet::new(),
            proxy,
            connector,
            resolver,
            unresolved: Vec::new(),
            state_file,
            clock,
            scratch: vec![0; READ_BYTES_PER_TURN],
        })
    }

    /// Tells the log where it listens, what is in front of what, and the settings in force.
    pub fn tell_of_start(&mut self) {
        let addresses = self.addresses();
        start::tell(&self.proxy.context_mut().config, &addresses, &self.connector.added_roots());
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.address).collect()
    }

    /// A handle that ends [`Self::run`].
    pub fn stopper(&self) -> Stopper {
        Stopper { waker: Arc::clone(&self.waker), stops_asked: Arc::clone(&self.stops_asked) }
    }

    /// Serves until it is stopped, and says how that went.
    ///
    /// # Errors
    /// The system can no longer tell about events, which leaves nothing to do but to end.
    pub fn run(&mut self) -> io::Result<Stopped> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        self.do_outputs(self.clock.now());
        loop {
            match self.poll.poll(&mut events, self.time_to_wait()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = self.clock.now();
            self.heed_stops(now);
            events.iter().for_each(|event| self.note(event));
            self.take_addresses(now);
            self.try_next_addresses(now);
            for conn in std::mem::take(&mut self.runnable) {
                self.run_conn(conn, now);
            }
            // By now a request that has come is read, and its connection is not closed as an idle one.
            self.accept(now);
            self.proxy.handle_timeout(now);
            self.do_outputs(now);
            if let Some(stopped) = self.proxy.stopped() {
                start::tell_of_end(stopped);
                return Ok(stopped);
            }
        }
    }

    /// Passes on that somebody asked to stop. The listening sockets are closed at the first time, so that
    /// another proxy can have the port while this one ends what is under way.
    fn heed_stops(&mut self, now: Now) {
        while self.stops_heeded < self.stops_asked.load(Ordering::Acquire) {
            self.stops_heeded += 1;
            self.listeners.clear();
            self.proxy.handle_shutdown(now);
            self.do_outputs(now);
        }
    }

    /// Until the core's next timer, and not at all while something can run.
    fn time_to_wait(&self) -> Option<Duration> {
        let is_busy = !self.runnable.is_empty() || self.has_waiting_client();
        if is_busy {
            return Some(Duration::ZERO);
        }
        let timer = self.proxy.poll_timeout().map(|(at, _)| at);
        let attempt = self.attempts.first().map(|(at, _)| *at);
        let next = [timer, self.accept_pause, attempt].into_iter().flatten().min()?;
        Some(next.since(self.clock.now().mono))
    }

    /// Records what an event says, and nothing more. Unknown tokens are of connections that were
    /// closed earlier in this turn.
    fn note(&mut self, event: &Event) {
        let token = event.token().0 % TOKEN_STRIDE;
        if token >= FIRST_CONN_TOKEN {
            let id = ConnId::from_u64((token - FIRST_CONN_TOKEN) as u64);
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.note(event);
                self.runnable.insert(id);
            }
        } else if let Some(listener) =
            self.listeners.iter_mut().find(|listener| listener.token == event.token())
        {
            listener.is_ready = true;
        }
    }

    // Running connections.

    /// Gives one connection its share of the turn: writes first, since they make room for reads.
    fn run_conn(&mut self, id: ConnId, now: Now) {
        if !self.make_ready(id, now) {
            return;
        }
        self.write(id, now);
        self.read(id, now);
    }

    /// Takes an upstream connection further towards being usable. Whether it is.
    fn make_ready(&mut self, id: ConnId, now: Now) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        if conn.is_ready() {
            return true;
        }
        let result = conn.make_ready(&self.connector, self.poll.registry(), token_of(id), now.mono);
        self.watch_race(id);
        match result {
            Ok(Step::Waiting) => false,
            Ok(Step::Tunneled) => {
                self.tell(id, Input::Tunneled, now);
                self.make_ready(id, now)
            }
            Ok(Step::Ready) => {
                self.tell(id, Input::Connected, now);
                true
            }
            Err(failure) => {
                if !self.dial_again(id, now) {
                    self.tell(id, Input::Failed(failure), now);
                }
                false
            }
        }
    }

    fn write(&mut self, id: ConnId, now: Now) {
        for _ in 0..WRITES_PER_TURN {
            let Some(conn) = self.conns.get_mut(&id) else { return };
            let pending = self.proxy.pending_write(id);
            let pending_bytes = pending.len();
            match conn.write(pending) {
                Ok(0) => return,
                Ok(count) => {
                    self.tell(id, Input::Wrote(count), now);
                    // What is pending now has only just been made: the answer to another request of a client
                    // that sends many at once. Others come first.
                    if count == pending_bytes {
                        break;
                    }
                }
                // A server may answer before it has read all of a request, and then close: what it
                // said comes first. The socket tells an error once, and no event follows: it is tried again
                // until it has nothing more to say.
                Err(_) if self.read(id, now) => {
                    if self.conns.contains_key(&id) {
                        self.runnable.insert(id);
                    }
                    return;
                }
                Err(error) => {
                    let failure = Failure::new(FailureClass::CutInStream, error.to_string());
                    return self.tell(id, Input::Failed(failure), now);
                }
            }
        }
        self.runnable.insert(id);
    }

    /// Reads once. Whether there was anything to tell.
    fn read(&mut self, id: ConnId, now: Now) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        let room = self.proxy.window(id).min(READ_BYTES_PER_TURN);
        if room == 0 {
            if conn.has_client_left() {
                self.tell(id, Input::Eof, now);
                return true;
            }
            return false;
        }
        match conn.read(&mut self.scratch[..room]) {
            ReadOutcome::Nothing => return false,
            ReadOutcome::Eof => self.tell(id, Input::Eof, now),
            ReadOutcome::Failed(failure) => self.tell(id, Input::Failed(failure), now),
            ReadOutcome::Bytes(count) => {
                // There may be more, in the socket or decrypted already.
                self.runnable.insert(id);
                let scratch = std::mem::take(&mut self.scratch);
                self.tell(id, Input::Received(&scratch[..count]), now);
                self.scratch = scratch;
            }
        }
        true
    }

    fn tell(&mut self, id: ConnId, input: Input<'_>, now: Now) {
        self.proxy.handle_input(id, input, now);
        self.do_outputs(now);
    }

    // What the core asks for.

    fn do_outputs(&mut self, now: Now) {
        let (mut saved, mut measured) = (None, Vec::new());
        while let Some(output) = self.proxy.poll_output() {
            match output {
                Output::Dial(id) => self.unresolved.push(id),
                Output::Run(id) => {
                    self.runnable.insert(id);
                }
                Output::ShutdownWrite(id) => {
                    if let Some(conn) = self.conns.get(&id) {
                        conn.shutdown_write();
                    }
                }
                Output::Close(id) => self.close(id),
                Output::Save(bytes) => saved = Some(self.state_file.save(&bytes)),
                Output::Log(level, entry) => logger::write(level, &entry),
                Output::Measure(id) => measured.push(id),
            }
        }
        if !measured.is_empty() {
            let process = process::figures();
            for id in measured {
                self.proxy.handle_measured(id, &process, now);
            }
            self.do_outputs(now);
        }
        if let Some(result) = saved {
            self.proxy.handle_saved(result.map_err(|error| error.to_string()), now);
            // It may have something to say, which must not wait for the next event.
            return self.do_outputs(now);
        }
        self.dial(now);
    }

    fn close(&mut self, id: ConnId) {
        self.runnable.remove(&id);
        self.unresolved.retain(|other| *other != id);
        if let Some(conn) = self.conns.remove(&id) {
            if let Some(address) = conn.winner().filter(|_| !conn.is_ready()) {
                self.resolver.doubt(address);
            }
            conn.close(self.poll.registry());
            // Its descriptor may be what accepting waits for.
            self.accept_pause = None;
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Server");
        shown
            .field("addresses", &self.addresses())
            .field("connections", &self.conns.len())
            .finish_non_exhaustive()
    }
}

/// Tokens are ids, which are never reused, so a late event cannot meet the wrong connection.
fn token_of(id: ConnId) -> Token {
    Token(usize::try_from(id.as_u64()).unwrap_or(usize::MAX - FIRST_CONN_TOKEN) + FIRST_CONN_TOKEN)
}
