//! Requests as clients of all kinds send them.

use std::{fmt::Write as _, time::Duration};

use fireworks_proxy::{event::ConnId, route::Page, time::Mono};

use super::swarm::{Honesty, Odd, SECRET_FIELD, Swarm};
use crate::support::world::Dice;

/// Who pays for what: a key and a model.
pub type Lane = (u64, u64);

/// Whose share of a lane it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Session {
    /// That of a session with a name.
    Named(u64),
    /// That of its connection.
    Of(ConnId),
}

/// How many names there are: few, so that several connections have the same one.
const NAMES: u64 = 3;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A page of the proxy's own.
    Page,
    /// What cannot be understood.
    Malformed,
    /// What is not let in, and the code of its refusal.
    Stranger(&'static str),
    /// Something for the upstream.
    Forward,
}

/// One request, and what the model knows of it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what a client may do or not is a list of yes and no")]
pub struct Request {
    /// By which the upstream's side and the answers name it.
    pub id: u64,
    pub kind: Kind,
    pub method: &'static str,
    /// All of its bytes, and how many of them are its head.
    pub wire: Vec<u8>,
    pub head_len: usize,
    /// The body without its framing.
    pub body: Vec<u8>,
    pub is_old: bool,
    pub says_close: bool,
    pub expects: bool,
    /// Whether it brings the secret.
    brings_secret: bool,
    pub is_anthropic: bool,
    pub is_stream: bool,
    pub may_repeat: bool,
    /// The lane, if it costs tokens.
    pub lane: Option<Lane>,
    /// The session that it names, where that is read.
    name: Option<u64>,
    /// Prompt tokens, as the proxy guesses them in an exact run.
    pub prompt: u64,
    /// What of the client's patience may be used up until an answer begins.
    pub usable: Option<Duration>,
    /// Where it ends in the stream of its connection.
    pub ends_at: usize,
    pub arrived: Option<Mono>,
    /// When the proxy had read it whole.
    pub whole_at: Option<Mono>,
    /// When its first wait in the queue ends.
    pub deadline: Mono,
    pub hold_until: Mono,
    pub place: u64,
    /// Its upstream connections.
    pub tries: Vec<ConnId>,
    /// Whether a byte of an answer has gone to its client.
    pub has_answer: bool,
    /// Whether it was tried, and is neither at the upstream nor answered.
    pub is_coming_back: bool,
}

impl Request {
    pub fn draw(
        id: u64,
        swarm: &Swarm,
        dice: &mut Dice,
        mut is_odd: impl FnMut(Odd, &mut Dice) -> bool,
    ) -> Self {
        let kind = match () {
            () if is_odd(Odd::Page, dice) => Kind::Page,
            () if is_odd(Odd::Malformed, dice) => Kind::Malformed,
            () if is_odd(Odd::Stranger, dice) => Kind::Stranger(""),
            () => Kind::Forward,
        };
        let speaks_old = is_odd(Odd::OldVersion, dice);
        let mut request = Self {
            id,
            kind,
            method: "POST",
            wire: Vec::new(),
            head_len: 0,
            body: Vec::new(),
            is_old: speaks_old,
            says_close: is_odd(Odd::SaysClose, dice),
            expects: false,
            brings_secret: swarm.asks_for_secret,
            is_anthropic: dice.chance(50),
            is_stream: dice.chance(60),
            may_repeat: true,
            lane: Some((dice.below(swarm.keys), dice.below(swarm.models))),
            name: None,
            prompt: 0,
            usable: None,
            ends_at: 0,
            arrived: None,
            whole_at: None,
            deadline: Mono::ZERO,
            hold_until: Mono::ZERO,
            tries: Vec::new(),
            has_answer: false,
            place: 0,
            is_coming_back: false,
        };
        match kind {
            Kind::Page => request.write_page(is_odd(Odd::HeadMethod, dice), dice),
            Kind::Malformed => request.write_nonsense(dice),
            Kind::Stranger(_) => request.write_stranger(dice),
            Kind::Forward => request.write_forward(swarm, dice, &mut is_odd),
        }
        request
    }

    fn write_page(&mut self, is_head: bool, dice: &mut Dice) {
        self.lane = None;
        self.method = if is_head { "HEAD" } else { "GET" };
        let page = *dice.pick(&Page::ALL).expect("one");
        self.write(page.path(), "", false);
    }

    fn write_nonsense(&mut self, dice: &mut Dice) {
        self.lane = None;
        let text = *dice
            .pick(&[
                "NONSENSE\r\n\r\n",
                "GET / HTTP/3.0\r\nHost: localhost\r\n\r\n",
                "GET /health HTTP/1.1\nHost: localhost\n\n",
                "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
                "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
                "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nExpect: wonders\r\n\r\n",
            ])
            .expect("one");
        // It is let in, so that it is refused for what it is.
        self.wire = text.replacen("\r\n", &format!("\r\n{}", self.secret_field()), 1).into_bytes();
        self.head_len = self.wire.len();
    }

    /// A request that is whole and sound, and comes from a page of somebody else's or without the secret.
    fn write_stranger(&mut self, dice: &mut Dice) {
        const WITHOUT_SECRET: [(&str, &str); 5] = [
            ("client_token", "Host: localhost\r\n"),
            ("client_token", "Host: localhost\r\nX-Fireworks-Proxy-Token: the-secret-of-all\r\n"),
            ("client_token", "Host: localhost\r\nX-Fireworks-Proxy-Token: the-secret-of-all-clients-s\r\n"),
            ("client_token", "Host: localhost\r\nX-Fireworks-Proxy-Token: the-secret-of-all-clientS\r\n"),
            ("client_token", "Host: localhost\r\nX-Fireworks-Proxy-Token:\r\n"),
        ];
        const FROM_A_PAGE: [(&str, &str); 3] = [
            ("misdirected", "Host: evil.example\r\n"),
            ("cross_site", "Host: localhost\r\nOrigin: http://evil.example\r\n"),
            ("cross_site", "Host: localhost\r\nSec-Fetch-Site: same-site\r\n"),
        ];
        let lacks_secret = self.brings_secret && dice.chance(50);
        let kinds: &[(&str, &str)] = if lacks_secret { &WITHOUT_SECRET } else { &FROM_A_PAGE };
        let (code, fields) = *dice.pick(kinds).expect("one");
        let secret = if lacks_secret { "" } else { self.secret_field() };
        let lines = ["POST /v1/messages HTTP/1.1", "POST /v1/messages HTTP/1.0", "GET /usage HTTP/1.0"];
        let line = dice.pick(&lines).expect("one");
        (self.lane, self.kind) = (None, Kind::Stranger(code));
        self.wire = format!("{line}\r\n{fields}{secret}Content-Length: 2\r\n\r\n{{}}").into_bytes();
        self.head_len = self.wire.len() - 2;
    }

    /// The line of the head that shows that it may come in, where one is asked for.
    const fn secret_field(&self) -> &'static str {
        if self.brings_secret { SECRET_FIELD } else { "" }
    }

    fn write_forward(
        &mut self,
        swarm: &Swarm,
        dice: &mut Dice,
        is_odd: &mut dyn FnMut(Odd, &mut Dice) -> bool,
    ) {
        let mut path = if self.is_anthropic { "/v1/messages" } else { "/v1/chat/completions" };
        let (mut has_body, mut is_chunked) = (true, is_odd(Odd::Chunked, dice) && !self.is_old);
        if is_odd(Odd::Free, dice) {
            (self.lane, self.may_repeat, path) = (None, true, "/other");
            self.method = *dice.pick(&["GET", "PUT", "DELETE"]).expect("one");
            (has_body, is_chunked) = (self.method == "PUT", is_chunked && self.method == "PUT");
            if is_odd(Odd::HeadMethod, dice) {
                (self.method, has_body, is_chunked) = ("HEAD", false, false);
            }
        } else if is_odd(Odd::Unrepeatable, dice) {
            (self.lane, self.may_repeat, path) = (None, false, "/files");
        }
        self.is_stream &= self.lane.is_some();
        if has_body {
            let is_oversized = is_odd(Odd::Oversized, dice);
            self.write_body(swarm, dice, is_oversized);
            if self.lane.is_none() && is_odd(Odd::Bulky, dice) {
                // Costs nothing, and is longer than what the proxy reads ahead.
                let thousands = 1 + dice.below(swarm.bulk_thousands_max);
                self.body = vec![b'y'; 1_000 * usize::try_from(thousands).expect("small")];
            }
        }
        let key = self.lane.map_or(0, |(key, _)| key);
        let mut fields = format!("x-api-key: key{key}\r\nx-tag: {}\r\n", self.id);
        if is_odd(Odd::StatesTimeout, dice) {
            let seconds = 2 + dice.below(120);
            write!(fields, "x-stainless-timeout: {seconds}\r\n").expect("a String takes every write");
            let limit = Duration::from_secs(seconds);
            self.usable = Some(limit.saturating_sub(Duration::from_secs(5)).max(limit / 2));
        }
        if is_odd(Odd::NamesSession, dice) {
            let name = dice.below(NAMES);
            self.name = self.lane.map(|_| name);
            write!(fields, "x-session-id: s{name}\r\n").expect("a String takes every write");
        }
        if has_body && !self.is_old && is_odd(Odd::Expect, dice) {
            self.expects = true;
            fields += "Expect: 100-continue\r\n";
        }
        if is_chunked {
            fields += "Transfer-Encoding: chunked\r\n";
        } else if has_body {
            write!(fields, "Content-Length: {}\r\n", self.body.len()).expect("a String takes every write");
        }
        self.write(path, &fields, is_chunked);
    }

    /// A body that says what it costs by the length of its message: keys and values of that count, and nothing else.
    fn write_body(&mut self, swarm: &Swarm, dice: &mut Dice, is_oversized: bool) {
        let longest = swarm.effective()[0];
        let length = if is_oversized && longest < 60_000 {
            longest + 1 + dice.below(500)
        } else {
            dice.below(swarm.text_max)
        };
        let unit = if swarm.honesty == Honesty::Exact {
            "x"
        } else {
            *dice.pick(&["x", "\\\"", "é", "\\n]}"]).expect("one")
        };
        let text = unit.repeat(usize::try_from(length).expect("small"));
        let model = self.lane.map_or(0, |(_, model)| model);
        let cap = dice.chance(30).then(|| format!(r#","max_tokens":{}"#, swarm.reserve * 2));
        self.prompt = "roleusercontent".len() as u64 + length;
        let messages = format!(r#""messages":[{{"role":"user","content":"{text}"}}]"#);
        let rest = format!(r#""model":"m{model}","stream":{}{}"#, self.is_stream, cap.unwrap_or_default());
        let (first, second) = if dice.chance(50) { (messages, rest) } else { (rest, messages) };
        self.body = format!("{{{first},{second}}}").into_bytes();
    }

    fn write(&mut self, path: &str, fields: &str, is_chunked: bool) {
        let version = if self.is_old { "1.0" } else { "1.1" };
        let close = if self.says_close { "Connection: close\r\n" } else { "" };
        let secret = self.secret_field();
        let head = format!(
            "{} {path} HTTP/{version}\r\nHost: localhost\r\n{secret}{fields}{close}\r\n",
            self.method
        );
        self.head_len = head.len();
        self.wire = head.into_bytes();
        if !is_chunked {
            return self.wire.extend_from_slice(&self.body);
        }
        for chunk in self.body.chunks(97) {
            self.wire.extend_from_slice(format!("{:X};a=b\r\n", chunk.len()).as_bytes());
            self.wire.extend_from_slice(chunk);
            self.wire.extend_from_slice(b"\r\n");
        }
        self.wire.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\n");
    }

    /// Whose request it is, if it comes from this client.
    pub fn session(&self, client: ConnId) -> Session {
        self.name.map_or(Session::Of(client), Session::Named)
    }

    /// Whether another request can follow it.
    pub fn keeps_alive(&self) -> bool {
        self.is_let_in() && !self.is_old && !self.says_close
    }

    /// Whether it is answered for what it asks.
    pub fn is_let_in(&self) -> bool {
        matches!(self.kind, Kind::Page | Kind::Forward)
    }

    /// Whether the proxy has read its head, and so knows that this is its method.
    pub fn is_known_as(&self, method: &str) -> bool {
        self.method == method && self.arrived.is_some()
    }

    /// Where its body begins and all of it ends, on the wire of its connection.
    pub fn head_ends_at(&self) -> usize {
        self.ends_at - self.wire.len() + self.head_len
    }
}
