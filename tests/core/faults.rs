//! A storm: an upstream with every fault and clients with every whim, by dice. What must hold is checked in
//! `invariants`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fireworks_proxy::{
    event::{ConnId, Input},
    failure::FailureClass,
    time::Mono,
};

use super::{SECOND, utc};
use crate::support::world::{Dice, World, answer_with, chat, streamed};

/// A client with its one request.
pub(super) struct Asker {
    pub(super) conn: ConnId,
    pub(super) is_stream: bool,
    pub(super) has_lane: bool,
    /// When its time until an answer is over.
    pub(super) hold_until: Mono,
    /// The answers that the upstream has given it, and whether each was given whole.
    pub(super) answers: Vec<(u64, u16, bool)>,
}

/// An answer on its way.
struct Answer {
    number: u64,
    status: u16,
    left: Vec<u8>,
    ends_with_close: bool,
}

pub(super) struct Storm {
    pub(super) world: World,
    pub(super) dice: Dice,
    pub(super) tries_max: usize,
    max_hold: Duration,
    pub(super) askers: Vec<Asker>,
    answers: BTreeMap<ConnId, Answer>,
    stalled: BTreeSet<ConnId>,
    numbers: u64,
}

impl Storm {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let retries = *dice.pick(&["0", "1", "3", "5"]).expect("one");
        let max_hold = *dice.pick(&["5", "30", "240"]).expect("one");
        let settings = [
            ("MAX_RETRIES", retries),
            ("MAX_HOLD", max_hold),
            ("MAX_WAIT", *dice.pick(&["3", "60", "1000"]).expect("one")),
            ("READ_TIMEOUT", *dice.pick(&["20", "1800"]).expect("one")),
            ("RPS", *dice.pick(&["2", "1000"]).expect("one")),
            ("GENERATED_TPM_LIMIT", *dice.pick(&["200", "100000"]).expect("one")),
            ("OUTPUT_TOKEN_RESERVE", "10"),
        ];
        let mut world = World::new(&settings, utc(5, 21, 2, 0));
        world.connects = false;
        Self {
            world,
            dice,
            tries_max: retries.parse::<usize>().expect("a number") + 1,
            max_hold: SECOND * max_hold.parse().expect("a number"),
            askers: Vec::new(),
            answers: BTreeMap::new(),
            stalled: BTreeSet::new(),
            numbers: 0,
        }
    }

    pub(super) fn step(&mut self) {
        match self.dice.below(100) {
            0..20 => self.ask(),
            20..40 => self.connect(),
            40..75 => self.answer(),
            75..80 => self.leave(),
            80..84 => self.stall(),
            84..90 => {
                // To a moment at which something is due, whatever that is.
                let due = self.world.proxy.poll_timeout().map_or_else(|| self.world.now(), |(at, _)| at);
                self.world.advance_to(due.max(self.world.now()));
            }
            90..99 => self.pass(2_000),
            _ => self.pass(100_000),
        }
        self.check();
    }

    pub(super) fn pass(&mut self, millis_max: u64) {
        let span = Duration::from_millis(self.dice.below(millis_max));
        self.world.advance(span);
    }

    fn ask(&mut self) {
        self.numbers += 1;
        let name = format!("r{}", self.numbers);
        let (is_stream, has_lane) = (self.dice.chance(60), !self.dice.chance(15));
        let patience = 6 + self.dice.below(60);
        let stated = self.dice.chance(20).then_some(patience);
        let key = *self.dice.pick(&["a", "b"]).expect("one");
        let model = *self.dice.pick(&["m", "n"]).expect("one");
        let mut fields = format!("x-api-key: {key}\r\n");
        fields.extend(stated.map(|seconds| format!("x-stainless-timeout: {seconds}\r\n")));
        let request = chat(&name, &fields, &format!(r#"{{"model":"{model}","stream":{is_stream}}}"#));
        let mut request = String::from_utf8(request).expect("UTF-8");
        if !has_lane {
            let method = *self.dice.pick(&["POST", "PUT", "GET"]).expect("one");
            request = request.replacen("POST /v1/chat/completions", &format!("{method} /other"), 1);
        }
        let conn = self.world.client();
        let arrived = self.world.now();
        let split = usize::try_from(self.dice.below(request.len() as u64 / 2)).expect("small");
        self.world.deliver(conn, &request.as_bytes()[..request.len() - split]);
        if split > 0 {
            self.pass(3_000);
        }
        let ours = self.world.now() + self.max_hold;
        // The head may have come with the second part, so that its time is known to a few seconds.
        let usable = stated.map(|seconds| SECOND * u32::try_from(seconds).expect("small"));
        let theirs = usable.map(|limit| self.world.now() + (limit.saturating_sub(SECOND * 5)).max(limit / 2));
        let hold_until = theirs.map_or(ours, |theirs| ours.min(theirs));
        assert!(hold_until >= arrived);
        self.world.deliver(conn, &request.as_bytes()[request.len() - split..]);
        let is_stream = is_stream && has_lane;
        self.askers.push(Asker { conn, is_stream, has_lane, hold_until, answers: Vec::new() });
    }

    pub(super) fn connect(&mut self) {
        let Some(upstream) = self.world.dialed.pop_front() else { return };
        match self.dice.below(10) {
            0 => self.world.breaks(upstream, FailureClass::Dns),
            1 => self.world.breaks(upstream, FailureClass::TlsOther),
            2 => self.world.breaks(upstream, FailureClass::TlsCertificate),
            // It is made, and takes nothing of the request.
            3 => {
                self.world.stall(upstream);
                self.world.input(upstream, Input::Connected);
            }
            // It hangs.
            4 => self.world.dialed.push_back(upstream),
            _ => self.world.input(upstream, Input::Connected),
        }
    }

    /// The upstream goes on with one of its answers, or begins one, or breaks.
    pub(super) fn answer(&mut self) {
        let open: Vec<ConnId> = self
            .world
            .live_upstreams()
            .into_iter()
            .filter(|conn| !self.world.dialed.contains(conn))
            .collect();
        let Some(upstream) = self.dice.pick(&open).copied() else { return };
        if self.dice.chance(12) {
            let is_end = self.dice.chance(50);
            self.answers.remove(&upstream);
            return if is_end {
                self.world.input(upstream, Input::Eof);
            } else {
                self.world.breaks(upstream, FailureClass::CutInStream);
            };
        }
        if !self.answers.contains_key(&upstream) {
            let answer = self.new_answer();
            let client = self.world.owners[&upstream];
            let asker = self.askers.iter_mut().find(|asker| asker.conn == client).expect("it asked");
            asker.answers.push((answer.number, answer.status, false));
            self.answers.insert(upstream, answer);
        }
        let answer = self.answers.get_mut(&upstream).expect("it was put there");
        let count = match self.dice.below(4) {
            0 => usize::try_from(self.dice.below(answer.left.len() as u64 + 1)).expect("small"),
            _ => answer.left.len(),
        };
        let bytes: Vec<u8> = answer.left.drain(..count).collect();
        let ends_with_close = answer.ends_with_close && answer.left.is_empty();
        let number = answer.number;
        if answer.left.is_empty() {
            let client = self.world.owners[&upstream];
            let asker = self.askers.iter_mut().find(|asker| asker.conn == client).expect("it asked");
            asker.answers.last_mut().filter(|last| last.0 == number).expect("the latest").2 = true;
        }
        self.world.deliver(upstream, &bytes);
        if ends_with_close {
            self.world.input(upstream, Input::Eof);
        }
    }

    fn new_answer(&mut self) -> Answer {
        self.numbers += 1;
        let number = self.numbers;
        let status =
            *self.dice.pick(&[200, 200, 200, 429, 429, 503, 503, 529, 500, 502, 408, 400]).expect("one");
        let seconds = self.dice.chance(30).then(|| self.dice.below(12));
        let asks = seconds.map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
        let fields = format!("x-answer: {number}\r\n{asks}");
        let body = "x".repeat(usize::try_from(self.dice.below(200)).expect("small"));
        let whole = answer_with(status, &fields, &body);
        let (text, ends_with_close) = match self.dice.below(3) {
            0 if status == 200 => {
                let stream = streamed(&["one", "two"]) + "0\r\n\r\n";
                (stream.replacen("\r\n", &format!("\r\n{fields}"), 1), false)
            }
            1 => (whole.replace("content-length", "x-length"), true),
            _ => (whole, false),
        };
        Answer { number, status, left: text.into_bytes(), ends_with_close }
    }

    pub(super) fn leave(&mut self) {
        let here: Vec<ConnId> =
            self.askers.iter().map(|asker| asker.conn).filter(|conn| !self.world.is_closed(*conn)).collect();
        let Some(client) = self.dice.pick(&here).copied() else { return };
        if self.dice.chance(50) {
            self.world.input(client, Input::Eof);
        } else {
            self.world.breaks(client, FailureClass::CutInStream);
        }
    }

    /// A client stops to take its answer, or goes on.
    fn stall(&mut self) {
        let conns: Vec<ConnId> = self.askers.iter().map(|asker| asker.conn).collect();
        let Some(conn) = self.dice.pick(&conns).copied() else { return };
        if self.stalled.remove(&conn) {
            self.world.flow(conn);
        } else {
            self.stalled.insert(conn);
            self.world.stall(conn);
        }
    }
}
