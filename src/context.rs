//! What all sessions share: the settings, the budgets and the queue, the day, the counters, the
//! timers, and the list of what the shell is to do.
//!
//! A session gets `&mut Context` beside `&mut self`, so that no state has two owners.

mod day;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use log::Level;

use crate::{
    admission::Admission,
    config::{Config, Technique},
    event::{ConnId, Output, Timer},
    history::{self, History},
    journal::Entry,
    ledger::Ledger,
    memory::Memory,
    outage::Outage,
    queue::{
        SessionKey,
        wheel::{TimerKey, Wheel},
    },
    retry::Jitter,
    state::{self, Restored},
    stats::Stats,
    time::{Mono, Now, Wall},
};

/// How long the day's count may be ahead of its file. A file that cannot be written is tried again as
/// often: one small write a second costs nothing, and so the promise holds again within a second of
/// the disk being well.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// How often the line of statistics comes while something happens.
const STATS_INTERVAL: Duration = Duration::from_secs(10);

/// Names a request in the log, on the pages and to its client. No other request of this or another run is called so,
/// as far as chance allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId {
    run: u32,
    number: u64,
}

impl fmt::Display for RequestId {
    /// `3fa9c2d1-42`: the run, and the number of the request in it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:08x}-{}", self.run, self.number)
    }
}

/// What all sessions share.
#[derive(Debug)]
pub struct Context {
    /// The settings.
    pub config: Config,
    /// Budgets and queue.
    pub admission: Admission<ConnId>,
    /// The day's tokens.
    pub ledger: Ledger,
    /// Counters.
    pub stats: Stats,
    /// The last hour.
    pub history: History,
    /// The bytes that are held for all connections.
    pub memory: Memory,
    /// The client that each upstream connection serves.
    upstream_owners: BTreeMap<ConnId, ConnId>,
    outputs: VecDeque<Output>,
    wheel: Wheel<Timer>,
    admission_alarm: Option<(Mono, TimerKey)>,
    /// Those timers that are set once at a time and never moved.
    set_once: BTreeSet<Timer>,
    /// When the shell was last asked to save, whether it could or not.
    save_asked_at: Option<Mono>,
    save_outage: Outage,
    memory_outage: Outage,
    /// When the log was last told of a day that is not well.
    day_told_at: Option<Mono>,
    is_draining: bool,
    next_conn: u64,
    next_request: u64,
    /// Tells the ids of this run's requests from those of others.
    run: u32,
    started_at: Wall,
    seed: u64,
    jitter: Jitter,
}

impl Context {
    /// Full budgets, an empty day, and nothing to do. `seed` keys the hash of credentials and sets the
    /// jitter.
    pub fn new(config: Config, seed: u64, now: Now) -> Self {
        Self {
            admission: Admission::new(&config),
            ledger: Ledger::new(&config, now.wall),
            stats: Stats::default(),
            history: History::default(),
            memory: Memory::new(config.buffered_bytes_max, config.body_bytes_max),
            upstream_owners: BTreeMap::new(),
            outputs: VecDeque::new(),
            wheel: Wheel::default(),
            admission_alarm: None,
            set_once: BTreeSet::new(),
            save_asked_at: None,
            save_outage: Outage::default(),
            memory_outage: Outage::default(),
            day_told_at: None,
            is_draining: false,
            next_conn: 0,
            next_request: 0,
            run: run_of(seed),
            started_at: now.wall,
            seed,
            jitter: Jitter::new(seed),
            config,
        }
    }

    // Connections.

    /// An id that was never given before.
    pub fn next_conn_id(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId::from_u64(self.next_conn)
    }

    /// An id for a request, that was never given before.
    pub fn next_request_id(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId { run: self.run, number: self.next_request }
    }

    /// When this run began.
    pub fn started_at(&self) -> Wall {
        self.started_at
    }

    /// Asks for a new upstream connection on behalf of a client.
    pub fn dial(&mut self, client: ConnId) -> ConnId {
        let upstream = self.next_conn_id();
        self.upstream_owners.insert(upstream, client);
        self.outputs.push_back(Output::Dial(upstream));
        upstream
    }

    /// The client that an upstream connection serves.
    pub fn owner_of(&self, upstream: ConnId) -> Option<ConnId> {
        self.upstream_owners.get(&upstream).copied()
    }

    /// The clients that upstream connections serve, the one that is served longest first.
    pub fn served_clients(&self) -> impl Iterator<Item = ConnId> {
        self.upstream_owners.values().copied()
    }

    /// Asks the shell to close a connection of either kind.
    pub fn close(&mut self, conn: ConnId) {
        self.upstream_owners.remove(&conn);
        self.outputs.push_back(Output::Close(conn));
    }

    /// Tells the shell that a connection has bytes to write, or room again to read.
    pub fn run(&mut self, conn: ConnId) {
        self.outputs.push_back(Output::Run(conn));
    }

    /// Asks the shell to end our side of a connection.
    pub fn shutdown_write(&mut self, conn: ConnId) {
        self.outputs.push_back(Output::ShutdownWrite(conn));
    }

    /// Asks the shell what the system says of this process, for a page that a client waits for.
    pub fn measure(&mut self, client: ConnId) {
        self.outputs.push_back(Output::Measure(client));
    }

    /// An entry for the log; a mere text is a message.
    pub fn log(&mut self, level: Level, entry: impl Into<Entry>) {
        self.outputs.push_back(Output::Log(level, entry.into()));
    }

    /// What the shell is to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The keyed hash of a credential, which is all that is kept of it.
    pub fn credential_hash(&self, credential: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, credential).hash(&mut hasher);
        hasher.finish()
    }

    /// Whose share of a lane a request takes: that of the agent's session where it names one, else that of
    /// its connection. Clients without a name count apiece.
    pub fn session_key(&self, agent_session: Option<&str>, client: ConnId) -> SessionKey {
        if !self.config.techniques.has(Technique::Shares) {
            return SessionKey(0);
        }
        let mut hasher = DefaultHasher::new();
        match agent_session {
            Some(name) => (self.seed, "agent session", name).hash(&mut hasher),
            None => (self.seed, "connection", client).hash(&mut hasher),
        }
        SessionKey(hasher.finish())
    }

    /// A random span below a second.
    pub fn jitter(&mut self) -> Duration {
        self.jitter.draw()
    }

    /// Whether the proxy is being stopped, and sends nothing more to the upstream.
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// From now on nothing more is sent to the upstream. The timer says when to cut what goes on.
    pub fn begin_draining(&mut self, now: Mono) {
        self.is_draining = true;
        self.wheel.insert(now + self.config.drain, Timer::DrainEnd);
    }

    /// Tells that memory has become tight, or is not any more.
    pub fn note_memory(&mut self, now: Mono) {
        let mebibytes = |bytes: usize| bytes / (1024 * 1024);
        if self.memory.is_tight() {
            if self.memory_outage.failed(now) {
                let line = format!(
                    "{} MiB are held of FIREWORKS_PROXY_MAX_BUFFERED_MIB={}: requests are read one at a time",
                    mebibytes(self.memory.held_bytes()),
                    mebibytes(self.config.buffered_bytes_max),
                );
                self.log(Level::Warn, line);
            }
        } else if self.memory_outage.works() {
            self.log(Level::Info, "requests are read at full speed again".to_owned());
        }
    }

    // Timers.

    /// Sets a timer.
    pub fn set_timer(&mut self, at: Mono, timer: Timer) -> TimerKey {
        self.wheel.insert(at, timer)
    }

    /// Takes a timer back.
    pub fn cancel_timer(&mut self, key: TimerKey) {
        self.wheel.remove(key);
    }

    /// The next timer that is due.
    pub fn poll_timer(&mut self, now: Mono) -> Option<Timer> {
        let timer = self.wheel.poll(now)?;
        match timer {
            Timer::Admission => self.admission_alarm = None,
            Timer::Save | Timer::StatsLine | Timer::Sample => {
                self.set_once.remove(&timer);
            }
            Timer::Session(_) | Timer::DrainEnd => {}
        }
        Some(timer)
    }

    /// When the earliest timer wants to be polled, and which one that is.
    pub fn next_timer(&self) -> Option<(Mono, Timer)> {
        self.wheel.next_expiration().map(|(at, timer)| (at, *timer))
    }

    /// Sets the alarm for when there may be room for a waiting request.
    pub fn set_admission_alarm(&mut self) {
        let wanted = self.admission.next_admission();
        if wanted == self.admission_alarm.map(|(at, _)| at) {
            return;
        }
        if let Some((_, key)) = self.admission_alarm.take() {
            self.wheel.remove(key);
        }
        self.admission_alarm = wanted.map(|at| (at, self.wheel.insert(at, Timer::Admission)));
    }

    /// Something goes on: sees to it that the last hour tells of it.
    pub fn set_sample(&mut self, now: Mono) {
        self.set_timer_once(now + history::INTERVAL, Timer::Sample);
    }

    /// Takes a sample of what goes on, and sees to the next one for as long as anything does.
    pub fn sample(&mut self, now: Now) {
        let waiting = self.admission.waiting();
        if self.history.sample(&self.stats, self.admission.budgets_mut(), waiting, now) {
            self.set_sample(now.mono);
        }
    }

    /// Sees to it that the line of statistics comes.
    pub fn set_stats_line(&mut self, now: Mono) {
        self.set_sample(now);
        self.set_timer_once(now + STATS_INTERVAL, Timer::StatsLine);
    }

    // The day.

    /// Takes up the count of a state file and what was learned, and logs where it cannot.
    pub fn restore_state(&mut self, file: &[u8], now: Now) -> Restored {
        let restored = state::restore(file, &mut self.ledger, self.admission.budgets_mut(), now);
        let path = self.config.usage_state.display().to_string();
        match &restored {
            Restored::Continued => {
                let used = self.ledger.used();
                self.log(Level::Info, format!("{path}: {used} tokens were used today already"));
            }
            Restored::TakenOver => {
                let used = self.ledger.used();
                self.log(
                    Level::Info,
                    format!("{path} is of the Python original; its count of {used} tokens today goes on"),
                );
            }
            Restored::OtherDay(date) => {
                self.log(Level::Warn, format!("{path} is of {date}; it is put aside and today starts at 0"));
            }
            Restored::Damaged(why) => {
                let line = format!("{path} is damaged ({why}); it is put aside and today starts at 0");
                self.log(Level::Warn, line);
            }
        }
        self.tell_of_day(now.mono);
        restored
    }

    /// Hands the day's count to the shell, if it is not saved, with what was learned.
    pub fn save_state(&mut self, now: Now) {
        if let Some(file) = state::snapshot(&mut self.ledger, self.admission.budgets_mut(), now) {
            self.save_asked_at = Some(now.mono);
            self.outputs.push_back(Output::Save(file));
        }
    }

    /// The same at the end of the run, when what was learned without a count is worth a save too.
    pub fn save_last_state(&mut self, now: Now) {
        let saved_at = self.save_asked_at.unwrap_or(Mono::ZERO);
        if self.admission.budgets_mut().has_learned_since(saved_at) {
            self.ledger.mark_unsaved();
        }
        self.save_state(now);
    }

    /// The state file was written, or was not, for the reason given; then it is tried again, unless this
    /// was the last time.
    pub fn saved(&mut self, result: Result<(), String>, is_last: bool, now: Mono) {
        let path = self.config.usage_state.display();
        match result {
            Ok(()) if self.save_outage.works() => {
                let line = format!("{path} is written again");
                self.log(Level::Info, line);
            }
            Ok(()) => {}
            Err(reason) if is_last => {
                let line = format!("{path} cannot be written ({reason}); what it does not hold yet is lost");
                self.log(Level::Error, line);
            }
            Err(reason) => {
                if self.save_outage.failed(now) {
                    let line = format!(
                        "{path} cannot be written ({reason}); the count goes on in memory, and writing it is \
                         tried again every second"
                    );
                    self.log(Level::Warn, line);
                }
                self.ledger.mark_unsaved();
                self.set_save(now);
            }
        }
    }

    /// Sees to it that the day is saved, a [`SAVE_INTERVAL`] after the last time.
    fn set_save(&mut self, now: Mono) {
        let at = self.save_asked_at.map_or(now, |asked_at| (asked_at + SAVE_INTERVAL).max(now));
        self.set_timer_once(at, Timer::Save);
    }

    /// Sets a timer, unless it is set already.
    fn set_timer_once(&mut self, at: Mono, timer: Timer) {
        if self.set_once.insert(timer) {
            self.wheel.insert(at, timer);
        }
    }
}

/// A number for the run, from which the seed cannot be told.
#[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
fn run_of(seed: u64) -> u32 {
    let mut hasher = DefaultHasher::new();
    (seed, "run").hash(&mut hasher);
    hasher.finish() as u32
}
