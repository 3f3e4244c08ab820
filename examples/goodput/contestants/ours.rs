//! The proxy itself: its whole core, with real bodies, real heads and real event streams, driven by virtual time.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    rc::Rc,
    time::Duration,
};

use fireworks_proxy::{
    budget::Tokens,
    config::Config,
    event::{ConnId, Input, Output},
    proxy::Proxy,
    time::{Mono, Now, Wall},
};

use super::Contestant;
use crate::{
    model::{Action, Answer, Refusal, Request},
    upstream::{Upstream, limits::Tpm},
    work::conversation::filler,
};

/// What the upstream says when it refuses, by which its refusals are told from the proxy's.
const RATE_LIMITED: &str = "rate limit exceeded, please try again later";
const OVERLOADED: &str = "Service Overloaded";
/// Of an answer, so much is kept to see what it is.
const ANSWER_BYTES_KEPT: usize = 2_048;

/// 2026-06-01, any day will do.
const START_UNIX_MILLIS: i64 = 1_780_272_000_000;

/// The proxy, with what the bench must know of its connections.
pub(crate) struct Ours {
    proxy: Proxy,
    /// The request of each client connection, and how its answer begins.
    clients: BTreeMap<ConnId, Asked>,
    /// The client of each request.
    conns: BTreeMap<u64, ConnId>,
    /// The upstream connection of each request.
    upstreams: BTreeMap<u64, ConnId>,
    actions: VecDeque<Action>,
    logs: bool,
}

struct Asked {
    id: u64,
    head: Vec<u8>,
}

impl Ours {
    /// A proxy that has just started.
    pub(crate) fn new(config: Config, seed: u64, logs: bool) -> Self {
        Self {
            proxy: Proxy::new(config, seed, moment(Mono::ZERO)),
            clients: BTreeMap::new(),
            conns: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            actions: VecDeque::new(),
            logs,
        }
    }

    /// Something happened on a connection; then everything that follows.
    fn input(&mut self, conn: ConnId, input: Input<'_>, now: Mono) {
        self.proxy.handle_input(conn, input, moment(now));
        self.follow(now);
    }

    fn follow(&mut self, now: Mono) {
        loop {
            // All that one change has led to, before the next change is made.
            let outputs: Vec<Output> = std::iter::from_fn(|| self.proxy.poll_output()).collect();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                self.obey(output, now);
            }
        }
    }

    fn obey(&mut self, output: Output, now: Mono) {
        match output {
            Output::Dial(upstream) => self.dial(upstream, now),
            Output::Run(conn) => self.run(conn, now),
            Output::Close(conn) => {
                if let Some(asked) = self.clients.remove(&conn) {
                    self.conns.remove(&asked.id);
                }
            }
            Output::ShutdownWrite(conn) => self.proxy.handle_input(conn, Input::Eof, moment(now)),
            Output::Save(_) => self.proxy.handle_saved(Ok(()), moment(now)),
            Output::Measure(_) => unreachable!("no client here asks for a page"),
            Output::Log(level, line) => {
                if self.logs {
                    println!("{:>10.3} {level} {line}", now.since(Mono::ZERO).as_secs_f64());
                }
            }
        }
    }

    /// The core wants a connection for a request: it is there at once, and the request goes out on it.
    fn dial(&mut self, upstream: ConnId, now: Mono) {
        let client = self.proxy.context_mut().owner_of(upstream).expect("every connection serves a client");
        let id = self.clients[&client].id;
        self.upstreams.insert(id, upstream);
        self.actions.push_back(Action::Send(id));
        self.proxy.handle_input(upstream, Input::Connected, moment(now));
        loop {
            let count = self.proxy.pending_write(upstream).len();
            if count == 0 {
                return;
            }
            self.proxy.handle_input(upstream, Input::Wrote(count), moment(now));
        }
    }

    /// A client takes what there is for it.
    fn run(&mut self, conn: ConnId, now: Mono) {
        let Some(asked) = self.clients.get_mut(&conn) else { return };
        let pending = self.proxy.pending_write(conn);
        let count = pending.len();
        if count == 0 {
            return;
        }
        let kept = count.min(ANSWER_BYTES_KEPT.saturating_sub(asked.head.len()));
        asked.head.extend_from_slice(&pending[..kept]);
        let refusal = refusal_in(&asked.head);
        let id = asked.id;
        self.proxy.handle_input(conn, Input::Wrote(count), moment(now));
        if let Some(refusal) = refusal {
            self.leave(conn, now);
            self.actions.push_back(Action::Refuse(id, refusal));
        }
    }

    fn leave(&mut self, conn: ConnId, now: Mono) {
        if let Some(asked) = self.clients.remove(&conn) {
            self.conns.remove(&asked.id);
        }
        self.proxy.handle_input(conn, Input::Eof, moment(now));
    }

    fn stream(&mut self, id: u64, payload: &str, now: Mono) {
        let Some(upstream) = self.upstreams.get(&id).copied() else { return };
        let chunk = format!("{:x}\r\n{payload}\r\n", payload.len());
        self.input(upstream, Input::Received(chunk.as_bytes()), now);
    }
}

impl Contestant for Ours {
    fn submit(&mut self, request: &Rc<Request>, now: Mono) {
        let conn = self.proxy.next_conn_id();
        self.clients.insert(conn, Asked { id: request.id, head: Vec::new() });
        self.conns.insert(request.id, conn);
        self.input(conn, Input::Accepted, now);
        let head = format!(
            "POST /v1/messages HTTP/1.1\r\nHost: localhost:8787\r\nx-api-key: fw_bench\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            request.body_bytes()
        );
        self.input(conn, Input::Received(head.as_bytes()), now);
        for piece in &request.body {
            let mut bytes = piece.as_bytes();
            while !bytes.is_empty() {
                let window = self.proxy.window(conn).min(bytes.len());
                assert!(window > 0, "the core reads a body as fast as it comes");
                self.input(conn, Input::Received(&bytes[..window]), now);
                bytes = &bytes[window..];
            }
        }
    }

    fn answered(&mut self, id: u64, answer: &Answer, now: Mono) {
        let Some(upstream) = self.upstreams.get(&id).copied() else { return };
        let mut head = format!("HTTP/1.1 {} Whatever\r\n", answer.status);
        for (name, value) in &answer.fields {
            write!(head, "{name}: {value}\r\n").expect("a string takes everything");
        }
        if answer.status == 200 {
            head.push_str("content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
            self.input(upstream, Input::Received(head.as_bytes()), now);
            let begin = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":\
                         {\"input_tokens\":0,\"output_tokens\":0}}}\n\n";
            self.stream(id, begin, now);
        } else {
            self.upstreams.remove(&id);
            let message = if answer.status == 429 { RATE_LIMITED } else { OVERLOADED };
            let body = format!("{{\"error\":{{\"message\":\"{message}\"}}}}");
            write!(head, "content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                .expect("a string takes everything");
            self.input(upstream, Input::Received(head.as_bytes()), now);
        }
    }

    fn progressed(&mut self, id: u64, more: u64, now: Mono) {
        let text = filler(more * 4, "word ");
        let event = format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"delta\":\
             {{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
        );
        self.stream(id, &event, now);
    }

    fn ended(&mut self, id: u64, used: Tokens, now: Mono) {
        let end = format!(
            "event: message_delta\ndata: {{\"type\":\"message_delta\",\"usage\":{{\"input_tokens\":{},\
             \"cache_read_input_tokens\":{},\"cache_creation_input_tokens\":0,\"output_tokens\":{}}}}}\n\n\
             event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n",
            used.uncached_prompt,
            used.prompt - used.uncached_prompt,
            used.generated
        );
        self.stream(id, &end, now);
        if let Some(upstream) = self.upstreams.remove(&id) {
            self.input(upstream, Input::Received(b"0\r\n\r\n"), now);
        }
        if let Some(conn) = self.conns.get(&id).copied() {
            self.leave(conn, now);
            self.follow(now);
            self.actions.push_back(Action::Finish(id));
        }
    }

    fn wake(&mut self, now: Mono) {
        if self.next_wake().is_some_and(|at| at <= now) {
            self.proxy.handle_timeout(moment(now));
            self.follow(now);
        }
    }

    fn next_wake(&self) -> Option<Mono> {
        self.proxy.poll_timeout().map(|(at, _)| at)
    }

    fn believed_limits(&mut self, now: Mono) -> Option<Tpm> {
        let (_, lane) = self.proxy.context_mut().admission.budgets_mut().lanes_mut().next()?;
        Some(lane.balances(now).map(|balance| balance.effective))
    }

    fn next_action(&mut self, _upstream: &Upstream, _now: Mono) -> Option<Action> {
        self.actions.pop_front()
    }
}

fn moment(mono: Mono) -> Now {
    Now { mono, wall: Wall::from_unix_millis(START_UNIX_MILLIS) + mono.since(Mono::ZERO) }
}

/// The refusal that an answer is which begins like this, if it is one.
fn refusal_in(head: &[u8]) -> Option<Refusal> {
    let text = String::from_utf8_lossy(head);
    if text.starts_with("HTTP/1.1 200") {
        return None;
    }
    let retry_after = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("retry-after").then(|| value.trim().parse().ok()).flatten()
    });
    let is_upstreams = text.contains(RATE_LIMITED) || text.contains(OVERLOADED);
    Some(Refusal { retry_after: retry_after.map(Duration::from_secs), is_upstreams })
}
