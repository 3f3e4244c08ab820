//! The core's one door.
//!
//! Methods come in three kinds. `handle_*` take what happened, with the time it was noticed;
//! `poll_*` give what is to be done, and when to come back; the rest look, but for `next_conn_id`,
//! which names a connection. The contract: mutate once,
//! then drain [`Proxy::poll_output`] until it is empty, then mutate again. The same calls with the
//! same times give the same outputs: nothing here reads a clock, a socket or a random source.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use log::Level;

use crate::{
    config::Config,
    context::Context,
    event::{ConnId, Input, Output, ProcessFigures, Timer},
    http::write::Answer,
    journal::{Entry, Event},
    memory::GoesOn,
    route::Page,
    session::Session,
    state::Restored,
    status::{
        self,
        live::{Live, ROWS_MAX},
    },
    time::{Mono, Now},
};

/// The most client connections at once. Each costs under 1 KiB while it is idle.
pub const SESSIONS_MAX: usize = 16_384;

/// A connection that has been without a request for less is not idle: one may be on its way.
const IDLE_MIN: Duration = Duration::from_secs(1);

/// The proxy, without its sockets.
#[derive(Debug)]
pub struct Proxy {
    sessions: BTreeMap<ConnId, Session>,
    /// The connections between requests, and since when.
    idle: BTreeSet<(Mono, ConnId)>,
    ctx: Context,
    stopped: Option<Stopped>,
}

/// How the proxy came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Everything under way was finished first.
    Clean,
    /// So many connections were cut within a request or an answer.
    Cut(usize),
}

impl Proxy {
    /// A proxy that has seen nothing. `seed` keys the hash under which credentials are told apart, and
    /// sets the jitter of retries.
    pub fn new(config: Config, seed: u64, now: Now) -> Self {
        Self {
            sessions: BTreeMap::new(),
            idle: BTreeSet::new(),
            ctx: Context::new(config, seed, now),
            stopped: None,
        }
    }

    /// Takes up the day's count and what was learned from the state file that an earlier run has saved, if
    /// there is one.
    pub fn handle_start(&mut self, file: Option<&[u8]>, now: Now) -> Option<Restored> {
        let restored = file.map(|file| self.ctx.restore_state(file, now));
        // The first save shows at once whether the file can be written.
        self.ctx.save_state(now);
        restored
    }

    /// An id for a connection that the shell has accepted.
    pub fn next_conn_id(&mut self) -> ConnId {
        self.ctx.next_conn_id()
    }

    /// Whether there are as many clients as there may be.
    pub fn is_full(&self) -> bool {
        self.sessions.len() >= SESSIONS_MAX
    }

    /// Closes the connection that has been without a request for the longest, because the place is needed.
    /// Whether there was one. HTTP clients expect that of a connection that is kept open (RFC 9112,
    /// section 9.5).
    pub fn make_room(&mut self, now: Now) -> bool {
        let Some((idle_since, client)) = self.idle.first().copied() else { return false };
        let is_idle = now.mono.since(idle_since) >= IDLE_MIN;
        if is_idle {
            self.handle_input(client, Input::Eof, now);
        }
        is_idle
    }

    /// Something happened on a connection. Ids that are not known any more are ignored.
    pub fn handle_input(&mut self, conn: ConnId, input: Input<'_>, now: Now) {
        if input == Input::Accepted {
            self.sessions.insert(conn, Session::new(conn, &mut self.ctx, now));
            return self.account(conn, now);
        }
        let client = self.ctx.owner_of(conn).unwrap_or(conn);
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if client == conn {
            session.handle_client(&input, &mut self.ctx, now);
        } else {
            session.handle_upstream(input, &mut self.ctx, now);
        }
        self.account(client, now);
        self.admit(now);
        self.stop_if_drained(now);
    }

    /// Does everything whose time has come.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.ctx.poll_timer(now.mono) {
            match timer {
                Timer::Session(client) => {
                    if let Some(session) = self.sessions.get_mut(&client) {
                        session.handle_timeout(&mut self.ctx, now);
                        self.account(client, now);
                        // Who is first in a lane may have changed, and has to be told what it waits for
                        // before its own time is up.
                        self.admit(now);
                    }
                }
                // There is nothing to do but to admit, which follows.
                Timer::Admission => {}
                Timer::Save => self.ctx.save_state(now),
                Timer::StatsLine => status::stats_line(&mut self.ctx, now),
                Timer::Sample => self.ctx.sample(now),
                Timer::DrainEnd => self.stop(now),
            }
        }
        self.admit(now);
        self.stop_if_drained(now);
    }

    /// The proxy is to stop. Asked once, it sends nothing more to the upstream, refuses who waits, and
    /// lets answers under way end for as long as the setting says; asked again, it stops now. The shell
    /// accepts no clients any more, and goes on until [`Self::stopped`].
    pub fn handle_shutdown(&mut self, now: Now) {
        if self.ctx.is_draining() {
            return self.stop(now);
        }
        self.ctx.begin_draining(now.mono);
        let stats = &self.ctx.stats;
        let waiting = self.ctx.admission.waiting() as u64 + stats.paused;
        let line = format!(
            "stopping: {} in flight may end within {} s, {waiting} waiting get 503; once more stops at once",
            stats.in_flight,
            self.ctx.config.drain.as_secs_f64()
        );
        let entry = Entry::saying(Event::Stop, line)
            .with("state", "draining")
            .with("in_flight", stats.in_flight)
            .with("waiting", waiting);
        self.ctx.log(Level::Info, entry);
        for client in self.sessions.keys().copied().collect::<Vec<_>>() {
            let session = self.sessions.get_mut(&client).expect("its key was there");
            session.drain(&mut self.ctx, now);
            self.account(client, now);
        }
        self.stop_if_drained(now);
    }

    /// How the proxy stopped; `None` while it runs. There is nothing more to do then but to drain
    /// [`Self::poll_output`].
    pub fn stopped(&self) -> Option<Stopped> {
        self.stopped
    }

    /// What came of [`Output::Save`]: nothing to add, or the reason why it could not be done.
    pub fn handle_saved(&mut self, result: Result<(), String>, now: Now) {
        self.ctx.saved(result, self.stopped.is_some(), now.mono);
    }

    /// What came of [`Output::Measure`]: the page that waits for it is made. A client that has left meanwhile needs none.
    pub fn handle_measured(&mut self, client: ConnId, process: &ProcessFigures, now: Now) {
        if !matches!(self.asked_page(client), Some((Page::Metrics, _))) {
            return;
        }
        let answer = status::metrics::page(&mut self.ctx, self.sessions.len(), process, now);
        let session = self.sessions.get_mut(&client).expect("it has asked");
        session.answer_page(&answer, &mut self.ctx, now);
        self.account(client, now);
        self.stop_if_drained(now);
    }

    /// What the shell is to do next.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.ctx.poll_output()
    }

    /// When to call [`Self::handle_timeout`] next, and why.
    pub fn poll_timeout(&self) -> Option<(Mono, Timer)> {
        self.ctx.next_timer()
    }

    /// What is to be written next to a connection.
    pub fn pending_write(&self, conn: ConnId) -> &[u8] {
        self.session_of(conn).map_or(&[], |session| session.pending_write(conn))
    }

    /// How many bytes a connection may deliver now. This number is all of the back-pressure.
    pub fn window(&self, conn: ConnId) -> usize {
        self.session_of(conn).map_or(0, |session| session.window(conn, &self.ctx.memory))
    }

    /// The shared state, for tests.
    pub fn context_mut(&mut self) -> &mut Context {
        &mut self.ctx
    }

    fn session_of(&self, conn: ConnId) -> Option<&Session> {
        self.sessions.get(&self.ctx.owner_of(conn).unwrap_or(conn))
    }

    /// The page that a client has asked for and not got yet, with the query.
    fn asked_page(&self, client: ConnId) -> Option<(Page, &str)> {
        self.sessions.get(&client).and_then(Session::asked_page)
    }

    /// Makes the page that a session was asked for, if it was.
    fn answer_page(&mut self, client: ConnId, now: Now) {
        let Some((page, query)) = self.asked_page(client) else { return };
        let answer = match page {
            Page::Root => status::root(),
            Page::Dashboard => status::dashboard::page(),
            Page::Health => status::health::page(&mut self.ctx, now),
            Page::Usage => self.usage(now),
            Page::History => status::history::page(&self.ctx, status::history::since(query), now),
            Page::Settings => status::settings::page(&self.ctx),
            // Part of it only the shell knows.
            Page::Metrics => return self.ctx.measure(client),
        };
        let session = self.sessions.get_mut(&client).expect("it has asked");
        session.answer_page(&answer, &mut self.ctx, now);
    }

    fn usage(&mut self, now: Now) -> Answer {
        let Self { sessions, ctx, .. } = self;
        let mut live = Live::default();
        for (expected, refusal) in status::live::expected(ctx, now.mono) {
            live.waiting.extend(sessions[&expected.client].queued(expected, refusal, now.mono));
        }
        if ctx.stats.paused > 0 {
            live.waiting.extend(sessions.values().filter_map(|session| session.paused(now.mono)));
            live.waiting.sort_by_key(|request| request.expected_wait(now.mono));
            live.waiting.truncate(ROWS_MAX);
        }
        let served = ctx.served_clients().take(ROWS_MAX);
        live.running = served.filter_map(|client| sessions[&client].running(now.mono)).collect();
        status::usage::page(ctx, &live, now)
    }

    /// After each thing that happened to a session: makes the page that it was asked for, counts what is held for it,
    /// lets read on whoever may now, notes whether it is idle, and forgets it if it has ended.
    fn account(&mut self, client: ConnId, now: Now) {
        self.answer_page(client, now);
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let (was_tight, was_read) = (self.ctx.memory.is_tight(), self.ctx.memory.reading());
        let (before, after) = session.renew_note();
        if session.is_closed() {
            self.sessions.remove(&client);
        }
        if before.idle_since != after.idle_since {
            before.idle_since.map(|since| self.idle.remove(&(since, client)));
            after.idle_since.map(|since| self.idle.insert((since, client)));
        }
        match self.ctx.memory.changed(client, before.share, after.share) {
            GoesOn::Nobody => {}
            GoesOn::One(other) => {
                if let Some(session) = was_read.and_then(|reader| self.sessions.get_mut(&reader)) {
                    session.lose_turn(now);
                }
                let session = self.sessions.get_mut(&other).expect("who has ended has no body to read");
                session.go_on(&mut self.ctx, now);
            }
            GoesOn::Everybody => {
                let waited = self.sessions.iter_mut().filter(|(other, _)| Some(**other) != was_read);
                waited.for_each(|(_, session)| session.go_on(&mut self.ctx, now));
            }
        }
        if was_tight != self.ctx.memory.is_tight() {
            self.ctx.note_memory(now.mono);
        }
    }

    fn stop_if_drained(&mut self, now: Now) {
        if self.ctx.is_draining() && !self.sessions.values().any(Session::is_busy) {
            self.stop(now);
        }
    }

    /// Ends every connection, and saves the day with what the cut answers had reported.
    fn stop(&mut self, now: Now) {
        if self.stopped.is_some() {
            return;
        }
        let mut cut = 0;
        for mut session in std::mem::take(&mut self.sessions).into_values() {
            cut += usize::from(session.stop(&mut self.ctx, now));
        }
        if cut > 0 {
            let line = format!("{cut} connections were cut within a request or an answer");
            let entry = Entry::saying(Event::Stop, line).with("state", "cut").with("connections", cut);
            self.ctx.log(Level::Warn, entry);
        }
        self.ctx.save_last_state(now);
        self.stopped = Some(if cut == 0 { Stopped::Clean } else { Stopped::Cut(cut) });
    }

    /// Sends every waiting request on its way that there is room for.
    fn admit(&mut self, now: Now) {
        while let Some((waiter, reservation)) = self.ctx.admission.admit(now.mono) {
            let session = self.sessions.get_mut(&waiter.client);
            let session = session.expect("a session that ends leaves the queue in the same turn");
            session.admitted(reservation, &mut self.ctx, now);
            self.account(waiter.client, now);
        }
        self.ctx.history.note_queue(self.ctx.admission.waiting());
        self.ctx.set_admission_alarm();
    }
}
