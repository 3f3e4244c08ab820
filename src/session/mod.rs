//! One client connection, from accept to close, with at most one upstream connection at a time.
//!
//! ```text
//!            ┌──────────────── keep-alive ────────────────┐
//!            ▼                                            │
//! accept ─► Head ─► Body ─► Queued ─► Exchange ─► Flush ──┴─► Linger ─► Closed
//!            │        │        │          │         ▲
//!            │        │        │          └─ cut ───┤ (closed at once, without an ending)
//!            └────────┴────────┴─── own answer ─────┘
//! ```
//!
//! Each phase holds what it needs and nothing else; the rules that join the two sides are in
//! [`Session::advance`], [`Session::client_left`] and [`Session::end_exchange`]. A client that ends
//! its side of the connection has left: no client half-closes and waits for an answer, and a request
//! that nobody waits for must not spend anybody's budget.

mod exchange;
mod job;

use std::time::Duration;

use log::Level;

use crate::{
    admission::{Ticket, Waiter},
    budget::Reservation,
    context::Context,
    event::{ConnId, Input, Timer},
    failure::Failure,
    http::{
        HEAD_BYTES_MAX,
        head::{self, Framing, HeadSearch, RequestHead},
        write::{Answer, CONTINUE},
    },
    outbox::Outbox,
    queue::wheel::TimerKey,
    rejection::Rejection,
    route::{Dialect, Forward, Route, route},
    status::{self, AccessRecord},
    time::{Mono, Now},
};

use exchange::{Ending, Exchange};
use job::{Job, Upload};

/// Between requests. Claude Code and OpenCode reuse a connection after 20 s of silence and more, and
/// closing one early invites the race in which a request meets a closing connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// From a head's first byte to its last.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Receiving a body, without progress.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Sending an answer to the client, without progress.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// For the client to end its side after we ended ours. Closing at once could destroy an answer that
/// the client has not read (RFC 9112, section 9.6).
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// How many bytes of a body are taken at once.
const BODY_READ_BYTES_MAX: usize = 256 * 1024;

/// One client connection.
#[derive(Debug)]
pub struct Session {
    id: ConnId,
    phase: Phase,
    /// Bytes from the client that no phase has taken yet: a head in the making, or a pipelined request.
    inbox: Vec<u8>,
    search: HeadSearch,
    outbox: Outbox,
    deadline: Mono,
    /// The timer in the wheel. It may lie before the deadline, and is then set again when it fires.
    timer: Option<(Mono, TimerKey)>,
}

#[derive(Debug)]
enum Phase {
    /// Waiting for a request's head, or reading it.
    Head,
    /// Reading a request's body.
    Body(Box<Upload>),
    /// Waiting for room in the budgets.
    Queued(Box<Job>, Ticket),
    /// At the upstream.
    Exchange(Box<Exchange>),
    /// Sending what is left of an answer.
    Flush(Next),
    /// Our side has ended; bytes of the client's are dropped until it ends its own.
    Linger,
    Closed,
}

/// What comes after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The next request.
    Head,
    /// An end in good order.
    Linger,
    /// An end that cannot be taken for a good one.
    Cut,
}

impl Session {
    /// A connection that was accepted just now.
    pub fn new(id: ConnId, ctx: &mut Context, now: Now) -> Self {
        let mut session = Self {
            id,
            phase: Phase::Head,
            inbox: Vec::new(),
            search: HeadSearch::default(),
            outbox: Outbox::default(),
            deadline: now.mono,
            timer: None,
        };
        session.set_deadline(now.mono + IDLE_TIMEOUT, ctx);
        session
    }

    /// Whether the connection has ended. Its timer is gone by then.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// How many bytes this connection, or its upstream connection, may deliver now.
    pub fn window(&self, conn: ConnId) -> usize {
        match &self.phase {
            Phase::Closed => 0,
            Phase::Exchange(exchange) if exchange.conn == conn => exchange.window(&self.outbox),
            _ if conn != self.id => 0,
            Phase::Body(_) | Phase::Linger => BODY_READ_BYTES_MAX,
            _ => HEAD_BYTES_MAX.saturating_sub(self.inbox.len()),
        }
    }

    /// What is to be written next to this connection or to its upstream connection.
    pub fn pending_write(&self, conn: ConnId) -> &[u8] {
        match &self.phase {
            Phase::Exchange(exchange) if exchange.conn == conn => exchange.pending_write(),
            _ if conn == self.id => self.outbox.pending(),
            _ => &[],
        }
    }

    /// Something happened on the client's connection.
    pub fn handle_client(&mut self, input: Input<'_>, ctx: &mut Context, now: Now) {
        match input {
            Input::Received(bytes) => self.receive(bytes, ctx, now),
            Input::Wrote(count) => self.wrote(count, ctx, now),
            Input::Eof | Input::Failed(_) => self.client_left(ctx, now),
            Input::Accepted | Input::Connected => debug_assert!(false, "not said of a client twice"),
        }
        self.advance(ctx, now);
    }

    /// Something happened on the upstream connection of this session's exchange.
    pub fn handle_upstream(&mut self, input: Input<'_>, ctx: &mut Context, now: Now) {
        let Phase::Exchange(exchange) = &mut self.phase else { return };
        let outcome = match input {
            Input::Connected => {
                exchange.connected(ctx);
                Ok(false)
            }
            Input::Wrote(count) => {
                exchange.wrote(count, ctx, now);
                Ok(false)
            }
            Input::Received(bytes) => exchange.receive(bytes, &mut self.outbox, ctx, now),
            Input::Eof => exchange.closed(&mut self.outbox).map(|()| true),
            Input::Failed(failure) => Err(exchange.failed(failure)),
            Input::Accepted => unreachable!("only clients are accepted"),
        };
        let timeout = exchange.timeout();
        match outcome {
            Ok(false) => self.set_deadline(now.mono + timeout, ctx),
            Ok(true) => self.end_exchange(Ending::Complete, ctx, now),
            Err(failure) => self.end_exchange(Ending::Failed(failure), ctx, now),
        }
        if !self.outbox.is_empty() {
            ctx.run(self.id);
        }
        self.advance(ctx, now);
    }

    /// The wait is over: there is room for the request.
    pub fn admitted(&mut self, reservation: Reservation, ctx: &mut Context, now: Now) {
        let Phase::Queued(mut job, _) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            unreachable!("only a queued request is admitted");
        };
        job.waited = now.mono.since(job.queued_at);
        ctx.stats.admitted(job.waited, now.mono);
        let exchange = Exchange::begin(self.id, *job, reservation, ctx);
        self.set_deadline(now.mono + exchange.timeout(), ctx);
        self.phase = Phase::Exchange(Box::new(exchange));
    }

    /// The session's timer has fired.
    pub fn handle_timeout(&mut self, ctx: &mut Context, now: Now) {
        self.timer = None;
        if self.deadline > now.mono {
            self.set_deadline(self.deadline, ctx);
            return;
        }
        match &self.phase {
            Phase::Head if self.inbox.is_empty() => self.close(ctx),
            Phase::Head => self.reject_and_close(&Rejection::ClientTooSlow, None, ctx, now),
            Phase::Body(upload) => {
                let dialect = upload.forward.dialect;
                self.reject_and_close(&Rejection::ClientTooSlow, Some(dialect), ctx, now);
            }
            Phase::Queued(..) => self.wait_is_over(ctx, now),
            Phase::Exchange(exchange) => {
                let failure = exchange.timed_out();
                self.end_exchange(Ending::Failed(failure), ctx, now);
            }
            Phase::Flush(_) | Phase::Linger | Phase::Closed => self.close(ctx),
        }
        self.advance(ctx, now);
    }

    // The client's side.

    fn receive(&mut self, bytes: &[u8], ctx: &mut Context, now: Now) {
        match &mut self.phase {
            Phase::Linger | Phase::Closed => {}
            Phase::Body(upload) => match upload.receive(bytes) {
                Ok(used) => {
                    self.inbox.extend_from_slice(&bytes[used..]);
                    self.set_deadline(now.mono + BODY_TIMEOUT, ctx);
                }
                Err(error) => {
                    let dialect = upload.forward.dialect;
                    self.reject_and_close(&Rejection::BadRequest(error), Some(dialect), ctx, now);
                }
            },
            Phase::Head => {
                if self.inbox.is_empty() {
                    self.set_deadline(now.mono + HEAD_TIMEOUT, ctx);
                }
                self.inbox.extend_from_slice(bytes);
            }
            Phase::Queued(..) | Phase::Exchange(_) | Phase::Flush(_) => self.inbox.extend_from_slice(bytes),
        }
    }

    fn wrote(&mut self, count: usize, ctx: &mut Context, now: Now) {
        self.outbox.wrote(count);
        match &self.phase {
            // The client's progress counts as the exchange's: it makes room for more of the response.
            Phase::Exchange(exchange) => {
                ctx.run(exchange.conn);
                self.set_deadline(now.mono + exchange.timeout(), ctx);
            }
            Phase::Flush(_) => self.set_deadline(now.mono + FLUSH_TIMEOUT, ctx),
            _ => {}
        }
    }

    /// Takes every step that needs no further input.
    fn advance(&mut self, ctx: &mut Context, now: Now) {
        loop {
            match &self.phase {
                Phase::Body(upload) if upload.is_whole() => self.enqueue(ctx, now),
                Phase::Flush(next) if self.outbox.is_empty() => self.after_answer(*next, ctx, now),
                Phase::Head if self.outbox.is_empty() => {
                    if !self.read_head(ctx, now) {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    fn after_answer(&mut self, next: Next, ctx: &mut Context, now: Now) {
        match next {
            Next::Head => {
                self.phase = Phase::Head;
                let timeout = if self.inbox.is_empty() { IDLE_TIMEOUT } else { HEAD_TIMEOUT };
                self.set_deadline(now.mono + timeout, ctx);
                // The inbox may have been full, which paused reading.
                ctx.run(self.id);
            }
            Next::Linger => {
                self.phase = Phase::Linger;
                self.inbox = Vec::new();
                self.set_deadline(now.mono + LINGER_TIMEOUT, ctx);
                ctx.shutdown_write(self.id);
                ctx.run(self.id);
            }
            Next::Cut => self.close(ctx),
        }
    }

    /// Reads the next request's head out of the inbox. Whether it was there.
    fn read_head(&mut self, ctx: &mut Context, now: Now) -> bool {
        // RFC 9112, section 2.2: an empty line before a request is let pass.
        while self.inbox.starts_with(b"\r\n") {
            self.inbox.drain(..2);
            self.search = HeadSearch::default();
        }
        let parsed = match self.search.find_end(&self.inbox) {
            Ok(None) => return false,
            Ok(Some(end)) => {
                let parsed = head::parse_request(&self.inbox[..end]);
                self.inbox.drain(..end);
                parsed
            }
            Err(error) => Err(error),
        };
        match parsed {
            Ok(head) => self.begin_request(head, ctx, now),
            Err(error) => self.reject_and_close(&Rejection::BadRequest(error), None, ctx, now),
        }
        true
    }

    fn begin_request(&mut self, head: RequestHead, ctx: &mut Context, now: Now) {
        let answer = match route(&head.method, &head.target, &ctx.config.upstream) {
            Route::Root => status::root(),
            Route::Health => status::health::page(ctx, now),
            Route::Usage => status::usage::page(ctx, now),
            Route::PageMethodNotAllowed => Rejection::PageMethod.answer(Dialect::OpenAi),
            Route::Forward(forward) => return self.begin_upload(head, forward, ctx, now),
        };
        // A page's request has no body worth reading: if it brings one, the connection ends.
        let next =
            if head.keeps_alive() && head.framing == Framing::Empty { Next::Head } else { Next::Linger };
        self.answer(&answer, &head, next, ctx, now);
    }

    fn begin_upload(&mut self, head: RequestHead, forward: Forward, ctx: &mut Context, now: Now) {
        let dialect = forward.dialect;
        let mut upload = match Upload::new(head, forward, ctx.config.body_bytes_max, now.mono) {
            Ok(upload) => upload,
            Err(error) => {
                return self.reject_and_close(&Rejection::BadRequest(error), Some(dialect), ctx, now);
            }
        };
        if upload.awaits_continue() && self.inbox.is_empty() {
            self.outbox.push(CONTINUE);
            ctx.run(self.id);
        }
        match upload.receive(&self.inbox) {
            Ok(used) => {
                self.inbox.drain(..used);
                self.phase = Phase::Body(Box::new(upload));
                self.set_deadline(now.mono + BODY_TIMEOUT, ctx);
            }
            Err(error) => self.reject_and_close(&Rejection::BadRequest(error), Some(dialect), ctx, now),
        }
    }

    /// Sends a request that was read whole into the queue, where it may find room at once.
    fn enqueue(&mut self, ctx: &mut Context, now: Now) {
        let Phase::Body(upload) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            unreachable!("only a request whose body was read is queued");
        };
        let job = Job::new(*upload, ctx, now.mono);
        ctx.stats.requests += 1;
        ctx.set_stats_line(now.mono);
        ctx.roll_day(now);
        if job.lane.is_some() && ctx.ledger.is_spent() {
            return self.reject_job(&daily_limit(ctx), &job, ctx, now);
        }
        let deadline = job.wait_deadline(ctx.config.max_wait);
        let waiter = Waiter { session: self.id, asked: job.asked, since: now.mono };
        let ticket = ctx.admission.enqueue(job.lane, deadline, waiter);
        self.phase = Phase::Queued(Box::new(job), ticket);
        self.set_deadline(deadline, ctx);
    }

    /// The client ended or lost its connection.
    fn client_left(&mut self, ctx: &mut Context, now: Now) {
        match &mut self.phase {
            Phase::Queued(job, ticket) => {
                ctx.admission.leave(*ticket);
                ctx.stats.client_gone += 1;
                let record = AccessRecord { outcome: Some("client_gone"), ..record_of(job, now) };
                ctx.log(Level::Info, status::access_line(&record));
                self.close(ctx);
            }
            Phase::Exchange(exchange) => {
                let had_all = exchange.relay().is_some_and(|relay| relay.meter.saw_final_event());
                let ending = if had_all { Ending::Complete } else { Ending::ClientLeft };
                self.end_exchange(ending, ctx, now);
                self.close(ctx);
            }
            // It may still read: what is left of the answer goes out, as far as it can.
            Phase::Flush(next) if !self.outbox.is_empty() && *next != Next::Cut => *next = Next::Cut,
            Phase::Closed => {}
            Phase::Head | Phase::Body(_) | Phase::Flush(_) | Phase::Linger => self.close(ctx),
        }
    }

    // The end of a request.

    /// The wait has lasted as long as it may.
    fn wait_is_over(&mut self, ctx: &mut Context, now: Now) {
        let Phase::Queued(mut job, ticket) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            unreachable!("only a queued request waits");
        };
        let refusal = ctx.admission.leave(ticket);
        job.waited = now.mono.since(job.queued_at);
        let rejection = Rejection::QueueTimeout {
            waited: job.waited,
            waited_for: refusal.map_or("request", |refusal| refusal.waits_for.name()),
            room_in: refusal.and_then(|refusal| refusal.until).map(|until| until.since(now.mono)),
        };
        self.reject_job(&rejection, &job, ctx, now);
    }

    /// Ends the exchange: settles, counts, logs, and decides what the client gets.
    fn end_exchange(&mut self, ending: Ending, ctx: &mut Context, now: Now) {
        let Phase::Exchange(exchange) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            unreachable!("only an exchange ends");
        };
        ctx.close(exchange.conn);
        ctx.stats.left_upstream();
        let (job, relay, spent) = exchange.finish(&ending, ctx, now);
        let report = relay.as_ref().map(|relay| relay.meter.report()).unwrap_or_default();
        if job.lane.is_some() {
            let reported_prompt = report.prompt().map_or(0, |(prompt, _)| prompt);
            ctx.count_tokens(reported_prompt, report.generated().unwrap_or(0), now);
        }
        let tokens = job.lane.is_some().then_some(spent.tokens);
        let status = relay.as_ref().map(|relay| relay.status);
        let record = AccessRecord { status, tokens, ..record_of(&job, now) };
        match (ending, relay) {
            (Ending::Complete, relay) => {
                ctx.stats.finished += 1;
                ctx.log(Level::Info, status::access_line(&record));
                let keeps_alive = relay.is_some_and(|relay| relay.keeps_alive);
                self.flush(if keeps_alive { Next::Head } else { Next::Linger }, ctx, now);
            }
            (Ending::ClientLeft, _) => {
                ctx.stats.client_gone += 1;
                let record = AccessRecord { outcome: Some("client_gone"), ..record };
                ctx.log(Level::Info, status::access_line(&record));
            }
            (Ending::Failed(failure), Some(_)) => {
                ctx.stats.failed += 1;
                note_failure(&failure, ctx, now);
                let record = AccessRecord { outcome: Some(failure.class.name()), ..record };
                ctx.log(Level::Warn, status::access_line(&record));
                self.flush(Next::Cut, ctx, now);
            }
            (Ending::Failed(failure), None) => {
                note_failure(&failure, ctx, now);
                let upstream = ctx.config.upstream.to_string();
                self.reject_job(&Rejection::Upstream { upstream, failure }, &job, ctx, now);
            }
        }
    }

    /// Answers a request that was read whole with a refusal.
    fn reject_job(&mut self, rejection: &Rejection, job: &Job, ctx: &mut Context, now: Now) {
        match rejection {
            Rejection::Upstream { .. } => ctx.stats.failed += 1,
            _ => ctx.stats.refused += 1,
        }
        let record = AccessRecord {
            status: Some(rejection.status()),
            outcome: Some(rejection.code()),
            ..record_of(job, now)
        };
        ctx.log(Level::Warn, status::access_line(&record));
        let next = if job.head.keeps_alive() { Next::Head } else { Next::Linger };
        self.answer(&rejection.answer(job.forward.dialect), &job.head, next, ctx, now);
    }

    /// Answers what is not a request that could be read, after which the connection is of no use.
    fn reject_and_close(
        &mut self,
        rejection: &Rejection,
        dialect: Option<Dialect>,
        ctx: &mut Context,
        now: Now,
    ) {
        ctx.stats.refused += 1;
        let line = format!("refused a request with {}: {}", rejection.status(), rejection.message());
        ctx.log(Level::Warn, line);
        let answer = rejection.answer(dialect.unwrap_or(Dialect::OpenAi));
        self.outbox.push(&answer.to_bytes(false, true));
        self.flush(Next::Linger, ctx, now);
    }

    fn answer(&mut self, answer: &Answer, head: &RequestHead, next: Next, ctx: &mut Context, now: Now) {
        self.outbox.push(&answer.to_bytes(&*head.method == "HEAD", next != Next::Head));
        self.flush(next, ctx, now);
    }

    fn flush(&mut self, next: Next, ctx: &mut Context, now: Now) {
        self.phase = Phase::Flush(next);
        self.set_deadline(now.mono + FLUSH_TIMEOUT, ctx);
        ctx.run(self.id);
    }

    fn close(&mut self, ctx: &mut Context) {
        self.phase = Phase::Closed;
        if let Some((_, key)) = self.timer.take() {
            ctx.cancel_timer(key);
        }
        ctx.close(self.id);
    }

    /// Moves the deadline. A timer that lies before it is left in the wheel, which makes moving it
    /// on with every byte cheap.
    fn set_deadline(&mut self, deadline: Mono, ctx: &mut Context) {
        self.deadline = deadline;
        match self.timer {
            Some((at, _)) if at <= deadline => {}
            timer => {
                if let Some((_, key)) = timer {
                    ctx.cancel_timer(key);
                }
                self.timer = Some((deadline, ctx.set_timer(deadline, Timer::Session(self.id))));
            }
        }
    }
}

fn daily_limit(ctx: &Context) -> Rejection {
    Rejection::DailyLimit {
        used: ctx.ledger.used(),
        limit: ctx.ledger.limit().unwrap_or(0),
        resets_at: ctx.ledger.resets_at_local(),
    }
}

fn note_failure(failure: &Failure, ctx: &mut Context, now: Now) {
    ctx.stats.upstream_failed(format!("{}: {failure}", failure.class.name()), now.wall);
    let upstream = ctx.config.upstream.to_string();
    ctx.log(Level::Warn, format!("{upstream}: {failure}"));
}

fn record_of(job: &Job, now: Now) -> AccessRecord<'_> {
    AccessRecord {
        method: &job.head.method,
        path: job.head.path(),
        model: job.model.as_deref(),
        session: job.session.as_deref(),
        waited: job.waited,
        took: now.mono.since(job.arrived),
        status: None,
        tokens: None,
        outcome: None,
    }
}
