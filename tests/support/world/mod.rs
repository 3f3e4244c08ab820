//! The core under virtual time: a shell without sockets, whose clients and upstream are buffers and whose
//! clock stands still until a test moves it.
//!
//! Keeps the contract of [`Proxy`]: mutate once, then drain the outputs. Everything that the core asks for is
//! kept in order in [`World::trace`], with the bytes that it writes.

mod books;
mod dice;
mod messages;
mod upstreams;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use fireworks_proxy::{
    config::{Config, Raw},
    event::{ConnId, Input, Output, ProcessFigures},
    failure::{Failure, FailureClass},
    proxy::Proxy,
    time::{Mono, Now, Wall},
};
use serde_json::Value;

pub use dice::Dice;
pub use messages::{answer_bytes, answer_with, chat, streamed};

/// More timers than any test sets off at one point in time.
const TIMERS_MAX: usize = 100_000;

/// What the core's own dice fall by.
pub const SEED: u64 = 7;

/// The other end of a connection.
#[derive(Default)]
pub struct Side {
    /// What the core has written to it.
    pub got: Vec<u8>,
    /// Whether the core has closed it.
    pub is_closed: bool,
}

/// The core and all that is around it.
pub struct World {
    /// The core.
    pub proxy: Proxy,
    /// Everything that the core asked for, in order.
    pub trace: Vec<String>,
    /// The lines that it has logged, each behind its level.
    pub log: Vec<String>,
    /// When each of them was.
    pub logged_at: Vec<Mono>,
    /// The state files that it asked to be saved, and that were.
    pub saves: Vec<Vec<u8>>,
    /// Why the state file cannot be written, if it cannot.
    pub save_error: Option<&'static str>,
    /// How often the core has asked to save.
    pub save_attempts: usize,
    /// When each upstream connection was asked for.
    pub dials: Vec<(Mono, ConnId)>,
    /// For which client each was.
    pub owners: BTreeMap<ConnId, ConnId>,
    /// Upstream connections that were asked for and wait to be made, unless [`Self::connects`].
    pub dialed: VecDeque<ConnId>,
    /// What the system is made to say of the process.
    pub process: ProcessFigures,
    /// Whether upstream connections are made at once.
    pub connects: bool,
    /// What the wall clock shows when the monotonic one shows zero.
    wall_at_zero: Wall,
    now: Now,
    clients: BTreeMap<ConnId, Side>,
    upstreams: BTreeMap<ConnId, Side>,
    runnable: BTreeSet<ConnId>,
    /// Connections whose other end takes nothing.
    stalled: BTreeSet<ConnId>,
}

impl World {
    /// A core with these settings, as `(name without prefix, value)`, that starts at `wall`.
    pub fn new(settings: &[(&str, &str)], wall: Wall) -> Self {
        Self::restarted(settings, wall, None)
    }

    /// The same with the state file that an earlier run has left.
    pub fn restarted(settings: &[(&str, &str)], wall: Wall, file: Option<&[u8]>) -> Self {
        let variables =
            settings.iter().map(|(name, value)| (format!("FIREWORKS_PROXY_{name}").into(), value.into()));
        let raw = Raw::from_variables(variables).expect("Unicode settings");
        let now = Now { mono: Mono::ZERO, wall };
        let mut world = Self {
            proxy: Proxy::new(Config::from_raw(&raw).expect("settings that are accepted"), SEED, now),
            trace: Vec::new(),
            log: Vec::new(),
            logged_at: Vec::new(),
            saves: Vec::new(),
            save_error: None,
            save_attempts: 0,
            dials: Vec::new(),
            owners: BTreeMap::new(),
            dialed: VecDeque::new(),
            process: ProcessFigures::default(),
            connects: true,
            wall_at_zero: wall,
            now,
            clients: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            runnable: BTreeSet::new(),
            stalled: BTreeSet::new(),
        };
        world.proxy.handle_start(file, now);
        world.run();
        world
    }

    // Time.

    /// The time.
    pub fn now(&self) -> Mono {
        self.now.mono
    }

    /// Moves the time on to `at`, with every timer on the way at its own time.
    pub fn advance_to(&mut self, at: Mono) {
        for _ in 0..TIMERS_MAX {
            let timer = self.proxy.poll_timeout().filter(|(next, _)| *next <= at);
            let Some((next, _)) = timer.filter(|_| self.proxy.stopped().is_none()) else {
                return self.set_time(at);
            };
            self.set_time(next.max(self.now.mono));
            self.proxy.handle_timeout(self.now);
            self.run();
        }
        panic!("the timers never end: {:?} at {:?}", self.proxy.poll_timeout(), self.now);
    }

    /// Moves the time on by `span`.
    pub fn advance(&mut self, span: Duration) {
        self.advance_to(self.now.mono + span);
    }

    /// The machine sleeps, and the monotonic clock counts that: all that has come due meanwhile is
    /// due at once. The wall clock goes on too.
    pub fn sleep(&mut self, span: Duration) {
        self.set_time(self.now.mono + span);
        self.advance_to(self.now.mono);
    }

    /// The wall clock is set, or the machine sleeps and the monotonic clock does not count that.
    pub fn set_wall(&mut self, wall: Wall) {
        let since_zero = self.now.mono.since(Mono::ZERO).as_millis();
        let since_zero = i64::try_from(since_zero).expect("no test lasts so long");
        self.wall_at_zero = Wall::from_unix_millis(wall.as_unix_millis() - since_zero);
        self.now.wall = wall;
    }

    /// The wall clock.
    pub fn wall(&self) -> Wall {
        self.now.wall
    }

    /// Somebody asks the proxy to stop.
    pub fn shutdown(&mut self) {
        self.proxy.handle_shutdown(self.now);
        self.run();
    }

    fn set_time(&mut self, mono: Mono) {
        self.now = Now { mono, wall: self.wall_at_zero + mono.since(Mono::ZERO) };
    }

    // The clients' side.

    /// A new client.
    pub fn client(&mut self) -> ConnId {
        let client = self.proxy.next_conn_id();
        self.clients.insert(client, Side::default());
        self.input(client, Input::Accepted);
        client
    }

    /// A new client that sends these bytes.
    pub fn client_with(&mut self, bytes: &[u8]) -> ConnId {
        let client = self.client();
        self.deliver(client, bytes);
        client
    }

    /// What a client was sent, as it is.
    pub fn bytes_of(&self, client: ConnId) -> &[u8] {
        &self.clients[&client].got
    }

    /// What a client was sent.
    pub fn text_of(&self, client: ConnId) -> String {
        String::from_utf8_lossy(&self.clients[&client].got).into_owned()
    }

    /// The status of a client's first answer; `None` while there is none.
    pub fn status_of(&self, client: ConnId) -> Option<u16> {
        self.text_of(client).strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
    }

    /// The clients that are there and have been told nothing.
    pub fn clients_without_answer(&self) -> Vec<ConnId> {
        let mute = self.clients.iter().filter(|(_, side)| !side.is_closed && side.got.is_empty());
        mute.map(|(conn, _)| *conn).collect()
    }

    /// A field of a client's first answer.
    pub fn field_of(&self, client: ConnId, name: &str) -> Option<String> {
        let text = self.text_of(client);
        let fields = text.split("\r\n\r\n").next()?.lines().filter_map(|line| line.split_once(": "));
        let mut values = fields.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let value = values.next().map(str::to_owned);
        assert_eq!(values.next(), None, "{name} comes twice in {text}");
        value
    }

    /// The body of a client's first answer, parsed.
    #[track_caller]
    pub fn json_of(&self, client: ConnId) -> Value {
        let text = self.text_of(client);
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Whether the core has closed a connection, to a client or to the upstream.
    pub fn is_closed(&self, conn: ConnId) -> bool {
        self.clients.get(&conn).or_else(|| self.upstreams.get(&conn)).is_none_or(|side| side.is_closed)
    }

    /// One of the core's own pages.
    #[track_caller]
    pub fn page(&mut self, path: &str) -> Value {
        let client = self.ask_for(path);
        let page = self.json_of(client);
        self.input(client, Input::Eof);
        page
    }

    /// The same of a page that is not JSON.
    #[track_caller]
    pub fn text_page(&mut self, path: &str) -> String {
        let client = self.ask_for(path);
        let text = self.text_of(client);
        self.input(client, Input::Eof);
        let (_, body) = text.split_once("\r\n\r\n").expect("a head");
        body.to_owned()
    }

    fn ask_for(&mut self, path: &str) -> ConnId {
        self.client_with(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
    }

    // Both.

    /// Bytes come on a connection, as many at a time as the core has room for.
    #[track_caller]
    pub fn deliver(&mut self, conn: ConnId, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_closed(conn) {
            let count = self.proxy.window(conn).min(bytes.len());
            assert!(count > 0, "no room for {} bytes on {conn:?}", bytes.len());
            let (now, rest) = bytes.split_at(count);
            self.input(conn, Input::Received(now));
            bytes = rest;
        }
    }

    /// The shell needs the place of an idle connection. Whether there was one.
    pub fn make_room(&mut self) -> bool {
        let has_room = self.proxy.make_room(self.now);
        self.run();
        has_room
    }

    /// Something happens on a connection.
    pub fn input(&mut self, conn: ConnId, input: Input<'_>) {
        self.proxy.handle_input(conn, input, self.now);
        self.run();
    }

    /// A connection breaks, or cannot be made.
    pub fn breaks(&mut self, conn: ConnId, class: FailureClass) {
        self.input(conn, Input::Failed(Failure::new(class, "by the test")));
    }

    /// The other end takes nothing from now on.
    pub fn stall(&mut self, conn: ConnId) {
        self.stalled.insert(conn);
    }

    /// The other end takes what there is again.
    pub fn flow(&mut self, conn: ConnId) {
        self.stalled.remove(&conn);
        self.runnable.insert(conn);
        self.run();
    }

    /// A stalled end takes so many bytes.
    pub fn take(&mut self, conn: ConnId, count: usize) {
        let pending = self.proxy.pending_write(conn);
        let count = count.min(pending.len());
        let bytes = pending[..count].to_vec();
        self.wrote(conn, &bytes);
        self.run();
    }

    /// Does what the core asks for until it asks for nothing more.
    fn run(&mut self) {
        loop {
            self.take_outputs();
            if let Some(conn) = self.runnable.first().copied() {
                self.write(conn);
            } else if let Some(upstream) = self.dialed.front().copied().filter(|_| self.connects) {
                self.dialed.pop_front();
                self.proxy.handle_input(upstream, Input::Connected, self.now);
            } else {
                return;
            }
        }
    }

    fn take_outputs(&mut self) {
        let (mut saved, mut measured) = (None, Vec::new());
        while let Some(output) = self.proxy.poll_output() {
            self.trace.push(format!("{:?} {output:?}", self.now.mono));
            match output {
                Output::Dial(upstream) => {
                    self.dials.push((self.now.mono, upstream));
                    let owner = self.proxy.context_mut().owner_of(upstream);
                    self.owners.extend(owner.map(|client| (upstream, client)));
                    self.upstreams.insert(upstream, Side::default());
                    self.dialed.push_back(upstream);
                }
                Output::Run(conn) => drop(self.runnable.insert(conn)),
                Output::Close(conn) => {
                    self.runnable.remove(&conn);
                    self.dialed.retain(|other| *other != conn);
                    self.side(conn).is_closed = true;
                }
                Output::Save(bytes) => {
                    self.save_attempts += 1;
                    saved = Some(self.save_error.map_or(Ok(()), |error| Err(error.to_owned())));
                    if self.save_error.is_none() {
                        self.saves.push(bytes);
                    }
                }
                Output::Log(level, line) => {
                    self.log.push(format!("{level} {line}"));
                    self.logged_at.push(self.now.mono);
                }
                Output::ShutdownWrite(_) => {}
                Output::Measure(client) => measured.push(client),
            }
        }
        for client in measured {
            self.proxy.handle_measured(client, &self.process, self.now);
            self.take_outputs();
        }
        if let Some(result) = saved {
            self.proxy.handle_saved(result, self.now);
            self.take_outputs();
        }
    }

    /// Takes what the core has for a connection, all at once.
    fn write(&mut self, conn: ConnId) {
        let bytes = self.proxy.pending_write(conn).to_vec();
        if bytes.is_empty() || self.stalled.contains(&conn) {
            self.runnable.remove(&conn);
            return;
        }
        self.wrote(conn, &bytes);
    }

    fn wrote(&mut self, conn: ConnId, bytes: &[u8]) {
        self.trace.push(format!("{:?} {conn:?} {}", self.now.mono, String::from_utf8_lossy(bytes)));
        self.side(conn).got.extend_from_slice(bytes);
        self.proxy.handle_input(conn, Input::Wrote(bytes.len()), self.now);
    }

    fn side(&mut self, conn: ConnId) -> &mut Side {
        let side = self.clients.get_mut(&conn).or_else(|| self.upstreams.get_mut(&conn));
        side.expect("the core speaks of connections that it was told of or has asked for")
    }

    /// When the core wrote lines with this part to the log.
    pub fn times_logged(&self, part: &str) -> Vec<Mono> {
        let lines = self.logged_at.iter().zip(&self.log);
        lines.filter(|(_, line)| line.contains(part)).map(|(at, _)| *at).collect()
    }

    /// The tokens of the day in the state file, as far as it was saved.
    #[track_caller]
    pub fn saved_tokens(&self) -> u64 {
        let state: Value = serde_json::from_slice(self.saves.last().expect("saved")).expect("JSON");
        ["prompt_tokens", "generated_tokens"].iter().filter_map(|name| state[name].as_u64()).sum()
    }
}
