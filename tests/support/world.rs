//! The core under virtual time: a shell without sockets, whose clients and upstream are buffers and whose
//! clock stands still until a test moves it.
//!
//! Keeps the contract of [`Proxy`]: mutate once, then drain the outputs. Everything that the core asks for is
//! kept in order in [`World::trace`], with the bytes that it writes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use fireworks_proxy::{
    budget::Balance,
    config::{Config, Raw},
    event::{ConnId, Input, Output},
    failure::{Failure, FailureClass},
    proxy::Proxy,
    time::{Mono, Now, Wall},
};
use log::Level;
use serde_json::Value;

/// More timers than any test sets off at one point in time.
const TIMERS_MAX: usize = 100_000;

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
    /// What it wrote to the log.
    pub log: Vec<(Mono, Level, String)>,
    /// The state files that it asked to be saved, and that were.
    pub saves: Vec<Vec<u8>>,
    /// Why the state file cannot be written, if it cannot.
    pub save_error: Option<&'static str>,
    /// How often the core has asked to save.
    pub save_attempts: usize,
    /// Upstream connections that were asked for and wait to be made, unless [`Self::connects`].
    pub dialed: VecDeque<ConnId>,
    /// Whether upstream connections are made at once.
    pub connects: bool,
    /// What the wall clock shows when the monotonic one shows zero.
    wall_at_zero: Wall,
    now: Now,
    clients: BTreeMap<ConnId, Side>,
    upstreams: BTreeMap<ConnId, Side>,
    runnable: BTreeSet<ConnId>,
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
            proxy: Proxy::new(Config::from_raw(&raw).expect("settings that are accepted"), 7, now),
            trace: Vec::new(),
            log: Vec::new(),
            saves: Vec::new(),
            save_error: None,
            save_attempts: 0,
            dialed: VecDeque::new(),
            connects: true,
            wall_at_zero: wall,
            now,
            clients: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            runnable: BTreeSet::new(),
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
            let Some((next, _)) = self.proxy.poll_timeout().filter(|(next, _)| *next <= at) else {
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

    /// The shell is about to stop.
    pub fn shut_down(&mut self) {
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

    /// What a client was sent.
    pub fn text_of(&self, client: ConnId) -> String {
        String::from_utf8_lossy(&self.clients[&client].got).into_owned()
    }

    /// The status of a client's first answer; `None` while there is none.
    pub fn status_of(&self, client: ConnId) -> Option<u16> {
        self.text_of(client).strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
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
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let client = self.client_with(head.as_bytes());
        let page = self.json_of(client);
        self.input(client, Input::Eof);
        page
    }

    // The upstream's side.

    /// The upstream connection that was asked for on behalf of the request with this `x-name`.
    pub fn upstream_of(&self, name: &str) -> Option<ConnId> {
        let field = format!("x-name: {name}\r\n");
        let is_it = |side: &Side| String::from_utf8_lossy(&side.got).contains(&field);
        self.upstreams.iter().find(|(_, side)| is_it(side)).map(|(conn, _)| *conn)
    }

    /// The `x-name` of every request that the upstream has got, in the order of their connections.
    pub fn names(&self) -> Vec<String> {
        let name = |side: &Side| {
            let text = String::from_utf8_lossy(&side.got).into_owned();
            let (_, rest) = text.split_once("x-name: ")?;
            rest.lines().next().map(str::to_owned)
        };
        self.upstreams.values().filter_map(name).collect()
    }

    /// What an upstream connection was sent.
    pub fn sent_to(&self, upstream: ConnId) -> &[u8] {
        &self.upstreams[&upstream].got
    }

    /// The upstream connections that are open and have got something.
    pub fn open_upstreams(&self) -> Vec<ConnId> {
        let open = self.upstreams.iter().filter(|(_, side)| !side.is_closed && !side.got.is_empty());
        open.map(|(conn, _)| *conn).collect()
    }

    /// The upstream answers a request with these tokens, none of the prompt cached.
    #[track_caller]
    pub fn answer(&mut self, name: &str, prompt: u64, generated: u64) {
        let upstream = self.upstream_of(name).unwrap_or_else(|| panic!("{name} is not at the upstream"));
        self.deliver(upstream, answer_bytes(prompt, generated).as_bytes());
    }

    /// The upstream answers a request with an error, which costs nothing and is not tried again.
    #[track_caller]
    pub fn fail(&mut self, name: &str) {
        let upstream = self.upstream_of(name).unwrap_or_else(|| panic!("{name} is not at the upstream"));
        self.deliver(upstream, b"HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n");
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

    /// Something happens on a connection.
    pub fn input(&mut self, conn: ConnId, input: Input<'_>) {
        self.proxy.handle_input(conn, input, self.now);
        self.run();
    }

    /// A connection breaks, or cannot be made.
    pub fn breaks(&mut self, conn: ConnId, class: FailureClass) {
        self.input(conn, Input::Failed(Failure::new(class, "by the test")));
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
        let mut saved = None;
        while let Some(output) = self.proxy.poll_output() {
            self.trace.push(format!("{:?} {output:?}", self.now.mono));
            match output {
                Output::Dial(upstream) => {
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
                Output::Log(level, line) => self.log.push((self.now.mono, level, line)),
                Output::ShutdownWrite(_) => {}
            }
        }
        if let Some(result) = saved {
            self.proxy.handle_saved(result, self.now);
            self.take_outputs();
        }
    }

    /// Takes what the core has for a connection, all at once.
    fn write(&mut self, conn: ConnId) {
        let bytes = self.proxy.pending_write(conn).to_vec();
        if bytes.is_empty() {
            self.runnable.remove(&conn);
            return;
        }
        self.trace.push(format!("{:?} {conn:?} {}", self.now.mono, String::from_utf8_lossy(&bytes)));
        self.side(conn).got.extend_from_slice(&bytes);
        self.proxy.handle_input(conn, Input::Wrote(bytes.len()), self.now);
    }

    fn side(&mut self, conn: ConnId) -> &mut Side {
        let side = self.clients.get_mut(&conn).or_else(|| self.upstreams.get_mut(&conn));
        side.expect("the core speaks of connections that it was told of or has asked for")
    }

    // The books.

    /// When the core wrote lines with this part to the log.
    pub fn times_logged(&self, part: &str) -> Vec<Mono> {
        self.log.iter().filter(|(_, _, line)| line.contains(part)).map(|(at, ..)| *at).collect()
    }

    /// The tokens of the day in the state file, as far as it was saved.
    #[track_caller]
    pub fn saved_tokens(&self) -> u64 {
        let state: Value = serde_json::from_slice(self.saves.last().expect("saved")).expect("JSON");
        ["prompt_tokens", "generated_tokens"].iter().filter_map(|name| state[name].as_u64()).sum()
    }

    /// Every lane's model with its budgets.
    pub fn balances(&mut self) -> Vec<(String, [Balance; 3])> {
        let now = self.now.mono;
        let lanes = self.proxy.context_mut().admission.budgets_mut().lanes_mut();
        lanes.map(|(_, lane)| (lane.model.clone(), lane.balances(now))).collect()
    }

    /// How many requests wait.
    pub fn waiting(&mut self) -> usize {
        self.proxy.context_mut().admission.waiting()
    }

    /// Checks that nobody waits, nothing is in flight, and no reservation is left behind.
    #[track_caller]
    pub fn assert_settled(&mut self) {
        assert_eq!(self.waiting(), 0, "somebody waits");
        assert_eq!(self.proxy.context_mut().stats.in_flight, 0, "something is in flight");
        let lanes = self.proxy.context_mut().admission.budgets_mut().lanes_mut();
        let in_flight: usize = lanes.map(|(_, lane)| lane.in_flight).sum();
        assert_eq!(in_flight, 0, "a lane has something in flight");
        for (model, balances) in self.balances() {
            assert!(balances.iter().all(|balance| balance.reserved == 0), "{model}: {balances:?}");
        }
        assert!(self.upstreams.values().all(|side| side.is_closed), "an upstream connection is open");
    }
}

/// A whole answer that is not streamed.
pub fn answer_bytes(prompt: u64, generated: u64) -> String {
    let usage = format!(r#"{{"prompt_tokens":{prompt},"completion_tokens":{generated}}}"#);
    let body = format!(r#"{{"id":"x","choices":[],"usage":{usage}}}"#);
    let fields = "content-type: application/json\r\ncontent-length: ";
    format!("HTTP/1.1 200 OK\r\n{fields}{}\r\n\r\n{body}", body.len())
}

/// A chat request with an `x-name`, by which the upstream's side finds it, and further fields.
pub fn chat(name: &str, fields: &str, body: &str) -> Vec<u8> {
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost";
    format!("{head}\r\nx-name: {name}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A small generator of numbers that are the same in every run (xorshift, Marsaglia 2003).
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as `seed`, which is not zero, says.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The low bits of a xorshift are its weakest.
        (self.0 >> 11) % bound
    }

    /// Whether something happens that does so `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let bound = u64::try_from(items.len()).ok().filter(|len| *len > 0)?;
        items.get(usize::try_from(self.below(bound)).ok()?)
    }
}
