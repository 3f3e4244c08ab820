//! The run of one seed: virtual time, the agenda of what is to happen, the process with its connections, and
//! one step after another. The shell's part is played by rules of its own: any runnable connection may be
//! next, any write and any read may be partial, and time may jump between two turns.

use std::{collections::BTreeMap, time::Duration};

use fireworks_proxy::{
    event::ConnId,
    proxy::Proxy,
    time::{Mono, Wall},
};

use super::{
    clients::Client,
    fireworks::{Exchange, Fireworks},
    history::History,
    pipe::{End, Pipe},
    rules::Rules,
    swarm::{ODDS, Odd, Swarm},
};
use crate::support::world::Dice;

/// What is to happen at some time.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    /// A new client comes.
    Spawn,
    /// Something on its way to the proxy arrives.
    Inbound(ConnId),
    /// Something on its way from the proxy arrives.
    Outbound(ConnId),
    /// A client goes on sending.
    ClientSends(ConnId),
    /// A slow client reads.
    ClientReads(ConnId),
    /// A client leaves.
    ClientLeaves(ConnId),
    /// An attempt to connect to the upstream ends.
    Dialed(ConnId),
    /// The upstream says something more.
    UpstreamSpeaks(ConnId),
    /// Something happens to the machine.
    Whim,
    /// Somebody wants the proxy stopped at once.
    StopNow,
    /// The proxy starts again.
    Restart,
}

/// A connection of the proxy.
#[derive(Debug)]
pub struct Conn {
    pub inbound: Pipe,
    pub outbound: Pipe,
    pub is_connected: bool,
    pub is_runnable: bool,
}

/// The running proxy.
pub struct Process {
    pub proxy: Proxy,
    pub started_at: Mono,
    pub drain_until: Option<Mono>,
}

/// The file that survives.
#[derive(Debug, Default)]
pub struct Disk {
    pub file: Option<Vec<u8>>,
    pub full_until: Mono,
}

/// One run.
pub struct Simulation {
    pub seed: u64,
    pub swarm: Swarm,
    pub dice: Dice,
    pub now: Mono,
    /// What the wall clock shows at time zero.
    pub wall_at_zero: Wall,
    pub agenda: BTreeMap<(Mono, u64), Event>,
    events_planned: u64,
    /// The machine does nothing before this.
    pub late_until: Mono,
    pub process: Option<Process>,
    pub conns: BTreeMap<ConnId, Conn>,
    pub runnable: Vec<ConnId>,
    pub clients: BTreeMap<ConnId, Client>,
    pub exchanges: BTreeMap<ConnId, Exchange>,
    pub fireworks: Fireworks,
    pub disk: Disk,
    pub rules: Rules,
    pub history: History,
    pub steps: u64,
    /// Whether new clients come and whims happen.
    pub is_lively: bool,
    pub odds_seen: [u64; ODDS.len()],
    pub next_id: u64,
    /// Timers handled since something else happened.
    pub timers_in_a_row: u64,
    /// How often it was left with one that was due.
    due_in_a_row: u64,
    /// How often there was nothing to do but to wait.
    pub looks: u64,
    /// Whether the machine dies with the next write of the state file.
    pub is_dying: bool,
}

impl Drop for Simulation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, steps, swarm, .. } = self;
            eprintln!("seed {seed}, step {steps}, {:?}, {:?}", swarm.honesty, swarm.settings);
            eprintln!("the latest events (time, connection, what, amount):\n{}", self.history.tail());
            eprintln!(
                "to replay: SIMULATION_SEED={seed} SIMULATION_STEPS={steps} cargo test --test simulation replay"
            );
        }
    }
}

impl Simulation {
    pub fn new(seed: u64) -> Self {
        // Seeds that are neighbours would begin alike.
        let mut dice = Dice::new((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for _ in 0..8 {
            dice.below(2);
        }
        let swarm = Swarm::draw(&mut dice);
        let mut simulation = Self {
            seed,
            rules: Rules::new(&swarm),
            now: Mono::ZERO + Duration::from_secs(1),
            wall_at_zero: swarm.starts_at,
            agenda: BTreeMap::new(),
            events_planned: 0,
            late_until: Mono::ZERO,
            process: None,
            conns: BTreeMap::new(),
            runnable: Vec::new(),
            clients: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            fireworks: Fireworks::default(),
            disk: Disk::default(),
            history: History::default(),
            steps: 0,
            is_lively: true,
            odds_seen: [0; ODDS.len()],
            next_id: 0,
            timers_in_a_row: 0,
            due_in_a_row: 0,
            looks: 0,
            is_dying: false,
            swarm,
            dice,
        };
        simulation.start();
        simulation.plan(Duration::ZERO, Event::Spawn);
        simulation.plan(Duration::from_secs(5), Event::Whim);
        simulation
    }

    // What others use.

    pub fn wall(&self) -> Wall {
        self.wall_at_zero + self.now.since(Mono::ZERO)
    }

    pub fn plan(&mut self, span: Duration, event: Event) {
        self.plan_at(self.now + span, event);
    }

    pub fn plan_at(&mut self, at: Mono, event: Event) {
        self.events_planned += 1;
        self.agenda.insert((at, self.events_planned), event);
    }

    /// A span below so many milliseconds.
    pub fn millis_below(&mut self, millis: u64) -> Duration {
        Duration::from_micros(self.dice.below(millis * 1_000 + 1))
    }

    /// Whether an odd thing happens now.
    pub fn is_odd(&mut self, odd: Odd) -> bool {
        let is_odd = self.dice.chance(self.swarm.percent_of(odd));
        self.odds_seen[odd as usize] += u64::from(is_odd);
        is_odd
    }

    pub fn proxy(&mut self) -> &mut Proxy {
        &mut self.process.as_mut().expect("the proxy runs").proxy
    }

    pub fn new_conn(&mut self, is_connected: bool) -> Conn {
        let piece_max = if self.is_odd(Odd::TinyPieces) {
            1 + self.dice.below(self.swarm.tiny_bytes_max)
        } else {
            1_000_000
        };
        let capacity = *self.dice.pick(&[3_000, 40_000, 1_000_000]).expect("one");
        let mut pipe = |capacity| {
            let delay = self.millis_below(self.swarm.delay_millis_max);
            Pipe::new(delay, usize::try_from(piece_max).expect("small"), capacity)
        };
        let (inbound, outbound) = (pipe(usize::MAX), pipe(capacity));
        Conn { inbound, outbound, is_connected, is_runnable: false }
    }

    /// Something has happened that may let a connection go on.
    pub fn wake(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.is_runnable) {
            conn.is_runnable = true;
            self.runnable.push(id);
        }
    }

    /// Bytes go on their way to the proxy.
    pub fn push_inbound(&mut self, id: ConnId, bytes: &[u8]) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let at = conn.inbound.push(bytes, now);
        self.plan_at(at, Event::Inbound(id));
    }

    pub fn end_inbound(&mut self, id: ConnId, end: End) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let at = conn.inbound.end(end, now);
        self.plan_at(at, Event::Inbound(id));
    }

    // Steps.

    /// One step: a connection goes on, or time does. Whether there was anything to do.
    pub fn step(&mut self) -> bool {
        self.steps += 1;
        while !self.runnable.is_empty() {
            let count = self.runnable.len() as u64;
            let index = usize::try_from(self.dice.below(count)).expect("small");
            let id = self.runnable[index];
            if self.run_conn(id) {
                return true;
            }
            self.runnable.retain(|other| *other != id);
            self.conns.get_mut(&id).into_iter().for_each(|conn| conn.is_runnable = false);
        }
        if self.process.is_some() && self.late_until <= self.now {
            self.check_rest();
        }
        let event = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let timer = self.next_timer();
        match (event, timer) {
            (Some(event), timer) if timer.is_none_or(|timer| event <= timer) => {
                self.advance_to(event);
                let (_, event) = self.agenda.pop_first().expect("there is one");
                self.happen(event);
            }
            (_, Some(timer)) => {
                self.advance_to(timer);
                self.handle_timers();
            }
            (_, None) => return false,
        }
        true
    }

    pub fn next_timer(&self) -> Option<Mono> {
        let process = self.process.as_ref()?;
        let (at, _) = process.proxy.poll_timeout()?;
        Some(process.started_at + at.since(Mono::ZERO))
    }

    fn advance_to(&mut self, at: Mono) {
        self.now = self.now.max(at).max(self.late_until);
    }

    fn handle_timers(&mut self) {
        self.timers_in_a_row += 1;
        // Each connection has one timer, which is filed again in a finer slot a few times at most.
        let most = 200 + 20 * self.conns.len() as u64 + 2 * self.now.since(Mono::ZERO).as_secs();
        assert!(self.timers_in_a_row < most, "{} timers with no news", self.timers_in_a_row);
        let clock = self.clock();
        self.history.note(self.now, ConnId::from_u64(0), "timers", 0);
        let unread = self.unread_uploads();
        self.proxy().handle_timeout(clock);
        self.check_not_blamed(&unread);
        let next = self.next_timer();
        let timer = self.proxy().poll_timeout();
        // What is found out at the end of a turn may have to be saved in the next one, which comes at once.
        let is_due = next.is_some_and(|next| next <= self.now);
        self.due_in_a_row = if is_due { self.due_in_a_row + 1 } else { 0 };
        assert!(self.due_in_a_row < 2, "{timer:?} is left at {clock:?}");
        self.after_mutation();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Spawn => self.spawn_client(),
            Event::Inbound(id) => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.inbound.settle(self.now);
                    self.wake(id);
                }
            }
            Event::Outbound(id) => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.outbound.settle(self.now);
                    self.outbound_arrived(id);
                }
            }
            Event::ClientSends(id) => self.client_sends(id),
            Event::ClientReads(id) => self.client_reads(id),
            Event::ClientLeaves(id) => self.client_leaves(id),
            Event::Dialed(id) => self.dial_ends(id),
            Event::UpstreamSpeaks(id) => self.upstream_speaks(id),
            Event::Whim => self.whim(),
            Event::StopNow => self.stop_now(),
            Event::Restart => self.start(),
        }
    }
}
