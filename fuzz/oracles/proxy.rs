//! The whole proxy as a sequence of what can happen to it: several clients and upstreams, good and bad bytes
//! in any pieces, time, ends and failures, a full disk and the stop. What must hold is in
//! [`super::proxy_checks`].
//!
//! The proxy is driven by the same world as in the tests of the core, which keeps its contract: mutate once,
//! then drain the outputs; it panics on outputs for connections that there never were.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fireworks_proxy::{
    event::{ConnId, Input},
    failure::FailureClass,
    time::{Mono, Wall},
};

use super::{
    Outcome,
    operations::Operations,
    proxy_says::{Answer, answer, request},
    world::World,
};

/// 2026-05-21T02:00:00Z, when the proxy starts.
const START_UNIX_MILLIS: i64 = 1_779_328_800_000;

/// More than any input needs to say, and few enough that a run takes milliseconds.
const STEPS_MAX: usize = 400;

/// The most clients at once.
const CLIENTS_MAX: usize = 12;

/// Longer than every time limit together.
const LONG: Duration = Duration::from_secs(3 * 86_400);

/// What a shell says of a connection that cannot be made, and of one that breaks.
const DIAL_FAILURES: [FailureClass; 4] =
    [FailureClass::Dns, FailureClass::ConnectRefused, FailureClass::TlsCertificate, FailureClass::TlsOther];

/// The proxy, and what its clients and upstreams are about to say.
pub struct Sequence {
    /// The proxy and the other ends of its connections.
    pub world: World,
    /// All clients there ever were.
    pub clients: Vec<ConnId>,
    /// What each of them wants to say and could not yet, and what it has said.
    asking: BTreeMap<ConnId, Vec<u8>>,
    pub said: BTreeMap<ConnId, Vec<u8>>,
    answering: BTreeMap<ConnId, (u64, Answer)>,
    /// The numbers of the answers that were given whole, or into which something else was mixed.
    pub whole: BTreeSet<u64>,
    answers: u64,
    stalled: BTreeSet<ConnId>,
}

/// `data` is the settings, and the sequence.
pub fn proxy(data: &[u8]) -> Outcome {
    let mut operations = Operations::new(data);
    let mut sequence = Sequence::new(operations.byte());
    for _ in 0..STEPS_MAX {
        let Some(operation) = operations.next() else { break };
        sequence.step(operation, &mut operations);
        sequence.check();
    }
    sequence.end();
    Outcome::Accepted
}

impl Sequence {
    fn new(settings: u8) -> Self {
        let choose = |bit: u8, one: &'static str, other: &'static str| {
            if settings >> bit & 1 == 1 { one } else { other }
        };
        let settings = [
            ("MAX_RETRIES", choose(0, "0", "3")),
            ("MAX_HOLD", choose(1, "5", "240")),
            ("MAX_WAIT", choose(2, "3", "60")),
            ("RPS", choose(3, "2", "1000")),
            ("GENERATED_TPM_LIMIT", choose(4, "30", "100000")),
            ("DAILY_TOKEN_LIMIT", choose(5, "100", "0")),
            ("READ_TIMEOUT", choose(6, "20", "1800")),
            ("PROMPT_TPM_LIMIT", choose(7, "100", "100000")),
            ("OUTPUT_TOKEN_RESERVE", "10"),
            ("MAX_BODY_MIB", "1"),
        ];
        let mut world = World::new(&settings, Wall::from_unix_millis(START_UNIX_MILLIS));
        world.connects = false;
        Self {
            world,
            clients: Vec::new(),
            asking: BTreeMap::new(),
            said: BTreeMap::new(),
            answering: BTreeMap::new(),
            whole: BTreeSet::new(),
            answers: 0,
            stalled: BTreeSet::new(),
        }
    }

    fn step(&mut self, operation: u8, operations: &mut Operations<'_>) {
        match operation % 20 {
            0 => self.connect_client(),
            1..=3 => self.ask(operations, usize::MAX),
            4 => {
                let count = operations.byte().into();
                self.ask(operations, count);
            }
            5 => self.say_anything(operations),
            6 => self.go_on_asking(operations),
            7 => self.leave(operations),
            8 | 9 => self.make(operations),
            10 | 11 => self.begin_answer(operations, usize::MAX),
            12 => {
                let count = operations.byte().into();
                self.begin_answer(operations, count);
            }
            13 => self.go_on_answering(operations),
            14 => self.answer_anything(operations),
            15 => self.end_upstream(operations),
            16 => self.stall(operations),
            17 => self.pass(operations),
            18 => self.pass_to_next(),
            _ => self.disturb(operations),
        }
    }

    // Clients.

    fn connect_client(&mut self) {
        if self.world.proxy.stopped().is_none() && self.here().len() < CLIENTS_MAX {
            let client = self.world.client();
            self.clients.push(client);
        }
    }

    /// The clients that are there.
    pub fn here(&self) -> Vec<ConnId> {
        self.clients.iter().copied().filter(|client| !self.world.is_closed(*client)).collect()
    }

    /// A client, an old one or a new one, sends a request, or so much of it.
    fn ask(&mut self, operations: &mut Operations<'_>, count: usize) {
        let choice = operations.byte();
        if choice.is_multiple_of(4) || self.here().is_empty() {
            self.connect_client();
        }
        let here = self.here();
        let newest = here.last().copied().filter(|_| choice.is_multiple_of(4));
        let Some(client) = newest.or_else(|| here.get(usize::from(choice) % here.len().max(1)).copied())
        else {
            return;
        };
        let request = request(operations);
        self.asking.entry(client).or_default().extend(request);
        self.say(client, count);
    }

    fn say_anything(&mut self, operations: &mut Operations<'_>) {
        let Some(client) = operations.pick(&self.here()) else { return };
        let bytes = operations.bytes();
        self.asking.entry(client).or_default().extend(bytes);
        self.say(client, usize::MAX);
    }

    fn go_on_asking(&mut self, operations: &mut Operations<'_>) {
        let Some(client) = operations.pick(&self.here()) else { return };
        let count = usize::from(operations.byte()) * 8;
        self.say(client, count);
    }

    /// A client delivers what it wants to say, as far as the proxy takes it.
    fn say(&mut self, client: ConnId, mut count: usize) {
        while count > 0 && !self.world.is_closed(client) {
            let asking = self.asking.entry(client).or_default();
            let room = self.world.proxy.window(client).min(asking.len()).min(count);
            if room == 0 {
                return;
            }
            let bytes: Vec<u8> = asking.drain(..room).collect();
            self.said.entry(client).or_default().extend(&bytes);
            self.world.input(client, Input::Received(&bytes));
            count -= room;
        }
    }

    fn leave(&mut self, operations: &mut Operations<'_>) {
        let Some(client) = operations.pick(&self.here()) else { return };
        if operations.byte().is_multiple_of(2) {
            self.world.input(client, Input::Eof);
        } else {
            self.world.breaks(client, FailureClass::CutInStream);
        }
    }

    /// An end of a connection takes nothing any more, takes a little, or takes everything again.
    fn stall(&mut self, operations: &mut Operations<'_>) {
        let ends = [self.here(), self.connected()].concat();
        let Some(conn) = operations.pick(&ends) else { return };
        let count = usize::from(operations.byte());
        match (self.stalled.contains(&conn), count % 2) {
            (true, 0) => {
                self.stalled.remove(&conn);
                self.world.flow(conn);
            }
            (true, _) if !self.world.proxy.pending_write(conn).is_empty() => self.world.take(conn, count),
            (true, _) => {}
            (false, _) => {
                self.stalled.insert(conn);
                self.world.stall(conn);
            }
        }
    }

    // Upstreams.

    /// A connection to the upstream is made, or cannot be.
    fn make(&mut self, operations: &mut Operations<'_>) {
        let kind = operations.byte();
        let Some(upstream) = self.world.dialed.pop_front() else { return };
        match DIAL_FAILURES.get(usize::from(kind % 16)) {
            Some(class) => self.world.breaks(upstream, *class),
            None => self.world.input(upstream, Input::Connected),
        }
    }

    /// The upstream connections that are made and open.
    fn connected(&self) -> Vec<ConnId> {
        let live = self.world.live_upstreams();
        live.into_iter().filter(|upstream| !self.world.dialed.contains(upstream)).collect()
    }

    fn begin_answer(&mut self, operations: &mut Operations<'_>, count: usize) {
        let Some(upstream) = operations.pick(&self.connected()) else { return };
        let kind = operations.byte();
        if !self.answering.contains_key(&upstream) {
            self.answers += 1;
            self.answering.insert(upstream, (self.answers, answer(kind, self.answers)));
        }
        self.give(upstream, count);
    }

    fn go_on_answering(&mut self, operations: &mut Operations<'_>) {
        let Some(upstream) = operations.pick(&self.connected()) else { return };
        let count = usize::from(operations.byte()) * 1_024;
        self.give(upstream, count);
    }

    /// An upstream delivers its answer, as far as the proxy takes it.
    fn give(&mut self, upstream: ConnId, mut count: usize) {
        let Some((number, mut answer)) = self.answering.remove(&upstream) else { return };
        while count > 0 && !self.world.is_closed(upstream) {
            let room = self.world.proxy.window(upstream).min(answer.left.len()).min(count);
            if room == 0 {
                break;
            }
            let bytes: Vec<u8> = answer.left.drain(..room).collect();
            if answer.left.is_empty() && !answer.ends_with_close {
                self.whole.insert(number);
            }
            self.world.input(upstream, Input::Received(&bytes));
            count -= room;
        }
        self.answering.insert(upstream, (number, answer));
    }

    fn answer_anything(&mut self, operations: &mut Operations<'_>) {
        let Some(upstream) = operations.pick(&self.connected()) else { return };
        let bytes = operations.bytes();
        if let Some((number, _)) = self.answering.get(&upstream) {
            self.whole.insert(*number);
        }
        let room = self.world.proxy.window(upstream).min(bytes.len());
        if room > 0 {
            self.world.input(upstream, Input::Received(&bytes[..room]));
        }
    }

    fn end_upstream(&mut self, operations: &mut Operations<'_>) {
        let Some(upstream) = operations.pick(&self.connected()) else { return };
        let is_good = operations.byte().is_multiple_of(2);
        let answer = self.answering.get(&upstream);
        // An end in good order ends such an answer wherever it comes.
        let is_whole = |answer: &Answer| is_good && answer.ends_with_close;
        self.whole.extend(answer.filter(|(_, answer)| is_whole(answer)).map(|(number, _)| *number));
        if is_good {
            self.world.input(upstream, Input::Eof);
        } else {
            self.world.breaks(upstream, FailureClass::CutInStream);
        }
    }

    // Time, and everything else.

    fn pass(&mut self, operations: &mut Operations<'_>) {
        // From milliseconds to some minutes.
        let span = operations.span(29);
        self.world.advance(span);
    }

    fn pass_to_next(&mut self) {
        if let Some((at, _)) = self.world.proxy.poll_timeout() {
            let now: Mono = self.world.now();
            self.world.advance_to(at.max(now));
        }
    }

    fn disturb(&mut self, operations: &mut Operations<'_>) {
        match operations.below(16) {
            0 => self.world.shutdown(),
            1..=4 => {
                let is_full = self.world.save_error.is_some();
                self.world.save_error = (!is_full).then_some("no space left on device");
            }
            5..=8 => {
                let hours = i64::from(operations.byte()) - 128;
                let wall = self.world.wall().as_unix_millis() + hours * 3_600_000;
                self.world.set_wall(Wall::from_unix_millis(wall));
            }
            9..=12 => {
                let span = operations.span(36);
                self.world.sleep(span);
            }
            _ => {}
        }
    }

    /// Everybody leaves, and time passes: nothing is left of anybody.
    fn end(&mut self) {
        self.world.save_error = None;
        for conn in std::mem::take(&mut self.stalled) {
            self.world.flow(conn);
        }
        for client in self.here() {
            self.world.input(client, Input::Eof);
            self.check();
        }
        self.world.advance(LONG);
        self.check();
        self.check_end();
    }
}
