//! One client connection, from accept to close, with at most one upstream connection at a time.
//!
//! ```text
//!            ┌──────────────── keep-alive ────────────────┐
//!            ▼                                            │
//! accept ─► Head ─► Body ─► Queued ─► Exchange ─► Flush ──┼─► Linger ─► Closed
//!            │        │      ▲ │          │         ▲     │               ▲
//!            │        │      │ │          │         │     └─ cut short ───┘
//!            └────────┴──────┼─┴──────────┼─────────┘
//!                            │  own answer│
//!                            └── Paused ◄─┘ to be tried again
//! ```
//!
//! Each phase holds what it needs and nothing else; the rules that join the two sides are in
//! [`Session::advance`], [`Session::client_left`] and [`Session::end_exchange`]. A client that ends
//! its side of the connection has left, unless its answer is whole and only has to be written: no client
//! half-closes and waits, and a request that nobody waits for must not spend anybody's budget.

mod body_buffer;
mod ending;
mod exchange;
mod intake;
mod job;
mod live;
mod record;
mod retrying;

use std::time::Duration;

use crate::{
    admission::{Reservation, Ticket},
    context::Context,
    event::{ConnId, Input, Timer},
    http::{
        HEAD_BYTES_MAX,
        head::{HeadSearch, RequestHead},
    },
    memory::{Memory, Share},
    outbox::Outbox,
    queue::wheel::TimerKey,
    rejection::Rejection,
    route::Page,
    status::End,
    time::{Mono, Now},
};

use exchange::{Ending, Exchange, Progress};
use job::{Job, Upload};

/// For the client to end its side after we ended ours. Closing at once could destroy an answer that
/// the client has not read (RFC 9112, section 9.6).
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// The window while a body is read or dropped: no bound of ours, since what comes is used at once.
const BODY_WINDOW_BYTES: usize = 256 * 1024;

/// What is read of everybody's head while memory is tight: three times the longest of any known client.
/// The rest of a longer one takes its turn among the bodies.
const HEAD_BYTES_MAX_TIGHT: usize = 4 * 1024;

/// One client connection.
#[derive(Debug)]
pub struct Session {
    id: ConnId,
    phase: Phase,
    /// Bytes from the client that no phase has taken yet: a head in the making, or a pipelined request.
    inbox: Vec<u8>,
    search: HeadSearch,
    outbox: Outbox,
    /// When the client last took something, or was first given something to take.
    client_moved_at: Mono,
    deadline: Mono,
    /// What was left until the deadline when another's body was read before the rest of this one's.
    time_left: Option<Duration>,
    /// Since when no request has begun, as long as none has.
    idle_since: Mono,
    /// The timer in the wheel. It may lie before the deadline, and is then set again when it fires.
    timer: Option<(Mono, TimerKey)>,
    /// What others know of it.
    noted: Note,
}

/// What is kept of a session by those who see to all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Note {
    /// The memory that it takes.
    pub share: Share,
    /// Since when it is between requests, if it is.
    pub idle_since: Option<Mono>,
}

#[derive(Debug)]
enum Phase {
    /// Waiting for a request's head, or reading it.
    Head,
    /// A page of our own was asked for, which is made of more than one session knows.
    Page(Page, Box<RequestHead>),
    /// Reading a request's body.
    Body(Box<Upload>),
    /// Waiting for room in the budgets.
    Queued(Box<Job>, Ticket),
    /// At the upstream.
    Exchange(Box<Exchange>),
    /// Waiting to be tried again.
    Paused(Box<Job>),
    /// Sending what is left of an answer.
    Flush(Next),
    /// Our side has ended; bytes of the client's are dropped until it ends its own.
    Linger,
    /// The end. Also stands in while a phase is taken apart: who takes it sets the next one before it
    /// returns.
    Closed,
}

/// What comes after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The next request.
    Head,
    /// An end in good order.
    Linger,
    /// The end of the connection, at once. Behind a body that is not whole, this is the cut.
    Close,
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
            client_moved_at: now.mono,
            deadline: now.mono,
            time_left: None,
            idle_since: now.mono,
            timer: None,
            noted: Note::default(),
        };
        session.set_deadline(now.mono + ctx.config.timeouts.client_idle, ctx);
        session
    }

    /// Whether the connection has ended. Its timer is gone by then.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// How many bytes this connection, or its upstream connection, may deliver now.
    pub fn window(&self, conn: ConnId, memory: &Memory) -> usize {
        match &self.phase {
            Phase::Closed => 0,
            Phase::Exchange(exchange) if exchange.conn == conn => {
                exchange.window(&self.outbox, memory.is_tight())
            }
            _ if conn != self.id => 0,
            _ if self.waits_its_turn(memory) => 0,
            Phase::Body(_) | Phase::Linger => BODY_WINDOW_BYTES,
            // Also while no head is wanted: a client that leaves is noticed only by reading.
            _ if memory.is_tight() && !self.has_long_head() => {
                HEAD_BYTES_MAX_TIGHT.saturating_sub(self.inbox.len())
            }
            _ => HEAD_BYTES_MAX.saturating_sub(self.inbox.len()),
        }
    }

    /// Whether it is reading a head that is longer than what is read of everybody while memory is tight.
    fn has_long_head(&self) -> bool {
        matches!(self.phase, Phase::Head) && self.inbox.len() >= HEAD_BYTES_MAX_TIGHT
    }

    /// Whether what it reads is read in turns while memory is tight.
    fn takes_turns(&self) -> bool {
        matches!(self.phase, Phase::Body(_)) || self.has_long_head()
    }

    /// Whether its request does not come on because it is not read.
    fn waits_its_turn(&self, memory: &Memory) -> bool {
        self.takes_turns() && !memory.may_upload(self.id)
    }

    /// What was noted of this session the last time, and what is to be noted now.
    pub fn renew_note(&mut self) -> (Note, Note) {
        let note = self.note();
        (std::mem::replace(&mut self.noted, note), note)
    }

    fn note(&self) -> Note {
        if self.is_closed() {
            return Note::default();
        }
        let is_idle = matches!(self.phase, Phase::Head) && self.inbox.is_empty();
        let mut share = match &self.phase {
            Phase::Body(upload) => upload.share(),
            Phase::Queued(job, _) | Phase::Paused(job) => job.share(),
            Phase::Exchange(exchange) => exchange.share(),
            Phase::Head if self.has_long_head() => {
                let left = HEAD_BYTES_MAX.saturating_sub(self.inbox.len());
                Share { upload_left: Some(left), ..Share::default() }
            }
            Phase::Head | Phase::Page(..) | Phase::Flush(_) | Phase::Linger | Phase::Closed => {
                Share::default()
            }
        };
        share.held_bytes += self.inbox.capacity() + self.outbox.held_bytes();
        Note { share, idle_since: is_idle.then_some(self.idle_since) }
    }

    /// What was not read may be: its turn has come, or memory is not tight any more.
    pub fn go_on(&mut self, ctx: &mut Context, now: Now) {
        ctx.run(self.id);
        let time_left = self.time_left.take();
        self.begin_time_anew(time_left, ctx, now);
        if let Phase::Exchange(exchange) = &self.phase {
            ctx.run(exchange.conn);
        }
    }

    /// Another's body is read first. The clock stands still meanwhile, and goes on from there: who sends
    /// nothing does not begin anew whenever somebody was let pass.
    pub fn lose_turn(&mut self, now: Now) {
        if self.takes_turns() {
            self.time_left = Some(self.deadline.since(now.mono));
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
    pub fn handle_client(&mut self, input: &Input<'_>, ctx: &mut Context, now: Now) {
        match input {
            Input::Received(bytes) => self.receive(bytes, ctx, now),
            Input::Wrote(count) => self.wrote(*count, ctx, now),
            Input::Eof => self.client_left(ctx, now),
            Input::Failed(_) => {
                self.client_left(ctx, now);
                if !self.is_closed() {
                    self.close(ctx);
                }
            }
            Input::Accepted | Input::Tunneled | Input::Connected => {
                debug_assert!(false, "not said of a client twice");
            }
        }
        self.advance(ctx, now);
    }

    /// Something happened on the upstream connection of this session's exchange.
    pub fn handle_upstream(&mut self, input: Input<'_>, ctx: &mut Context, now: Now) {
        let Phase::Exchange(exchange) = &mut self.phase else { return };
        if self.outbox.is_empty() {
            self.client_moved_at = now.mono;
        }
        let outcome = match input {
            // The time for all of connecting goes on.
            Input::Tunneled => return exchange.tunneled(),
            Input::Connected => {
                exchange.connected(ctx);
                Ok(Progress::More)
            }
            Input::Wrote(count) => {
                exchange.wrote(count, ctx, now);
                Ok(Progress::More)
            }
            Input::Received(bytes) => exchange.receive(bytes, &mut self.outbox, ctx, now),
            Input::Eof => exchange.upstream_ended(&mut self.outbox),
            Input::Failed(failure) => exchange.broke(failure),
            Input::Accepted => unreachable!("only clients are accepted"),
        };
        match outcome {
            Ok(Progress::More) => self.set_exchange_deadline(ctx, now),
            Ok(Progress::Whole) => self.end_exchange(Ending::Complete, ctx, now),
            Ok(Progress::Held) => self.end_exchange(Ending::Held, ctx, now),
            Err(failure) => self.end_exchange(Ending::Failed(failure), ctx, now),
        }
        if !self.outbox.is_empty() {
            ctx.run(self.id);
        }
        self.advance(ctx, now);
    }

    /// The wait is over: there is room for the request.
    pub fn admitted(&mut self, reservation: Reservation, ctx: &mut Context, now: Now) {
        let Phase::Queued(mut job, ticket) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            unreachable!("only a queued request is admitted");
        };
        // A machine that has slept finds room and the end of a request's time in one turn.
        let is_too_late = now.mono >= job.hold_until;
        if is_too_late || (job.lane.is_some() && ctx.is_day_spent(now)) {
            job.end_wait(now.mono);
            ctx.admission.refund(reservation, now.mono);
            if is_too_late {
                self.give_up(job, None, ctx, now);
            } else {
                self.reject_job(&ending::daily_limit(ctx), &job, ctx, now);
            }
            return self.advance(ctx, now);
        }
        let is_retry = job.admitted(ticket, now.mono);
        ctx.stats.retries += u64::from(is_retry);
        ctx.stats.admitted(job.waited, now.mono);
        self.phase = Phase::Exchange(Box::new(Exchange::begin(self.id, job, reservation, ctx)));
        self.set_exchange_deadline(ctx, now);
    }

    /// The session's timer has fired.
    pub fn handle_timeout(&mut self, ctx: &mut Context, now: Now) {
        self.timer = None;
        if self.deadline > now.mono {
            self.set_deadline(self.deadline, ctx);
            return;
        }
        let waits_its_turn = self.waits_its_turn(&ctx.memory);
        match &mut self.phase {
            Phase::Head | Phase::Body(_) if waits_its_turn => self.begin_time_anew(None, ctx, now),
            Phase::Head if self.inbox.is_empty() => self.close(ctx),
            Phase::Head => self.refuse_head(&Rejection::ClientTooSlow, ctx, now),
            Phase::Body(_) => self.refuse_upload(&Rejection::ClientTooSlow, ctx, now),
            Phase::Queued(..) => self.wait_is_over(ctx, now),
            Phase::Paused(_) => self.pause_is_over(ctx, now),
            Phase::Exchange(_) => self.exchange_timed_out(ctx, now),
            Phase::Page(..) | Phase::Flush(_) | Phase::Linger | Phase::Closed => self.close(ctx),
        }
        self.advance(ctx, now);
    }

    fn wrote(&mut self, count: usize, ctx: &mut Context, now: Now) {
        self.outbox.wrote(count);
        self.client_moved_at = now.mono;
        match &self.phase {
            // The client's progress counts as the exchange's: it makes room for more of the response.
            Phase::Exchange(exchange) => {
                ctx.run(exchange.conn);
                self.set_exchange_deadline(ctx, now);
            }
            Phase::Flush(_) => self.set_deadline(now.mono + ctx.config.timeouts.client_body, ctx),
            _ => {}
        }
    }

    /// Takes every step that needs no further input.
    fn advance(&mut self, ctx: &mut Context, now: Now) {
        loop {
            match &self.phase {
                Phase::Body(upload) if upload.is_whole() => self.enqueue(ctx, now),
                Phase::Flush(next) if self.outbox.is_empty() => self.after_answer(*next, ctx, now),
                Phase::Head => {
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
                self.inbox.shrink_to_fit();
                self.idle_since = now.mono;
                let timeouts = &ctx.config.timeouts;
                let span = if self.inbox.is_empty() { timeouts.client_idle } else { timeouts.client_head };
                self.set_deadline(now.mono + span, ctx);
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
            Next::Close => self.close(ctx),
        }
    }

    /// The client ended or lost its connection.
    fn client_left(&mut self, ctx: &mut Context, now: Now) {
        match &mut self.phase {
            Phase::Queued(job, ticket) => {
                ctx.admission.leave(*ticket);
                ending::client_gone(job, ctx, now);
                self.close(ctx);
            }
            Phase::Paused(job) => {
                ctx.stats.paused -= 1;
                ending::client_gone(job, ctx, now);
                self.close(ctx);
            }
            Phase::Exchange(exchange) => {
                let had_all = exchange.relay().is_some_and(|relay| relay.meter.saw_final_event());
                let ending = if had_all { Ending::Complete } else { Ending::ClientLeft };
                self.end_exchange(ending, ctx, now);
                self.close(ctx);
            }
            // The answer is there, and costs nobody anything: it goes out, as far as it can.
            Phase::Flush(next) if !self.outbox.is_empty() && *next != Next::Close => *next = Next::Close,
            Phase::Body(upload) => {
                ending::upload_broke_off(upload, End::ClientGone, ctx, now);
                self.close(ctx);
            }
            Phase::Closed => {}
            Phase::Head | Phase::Page(..) | Phase::Flush(_) | Phase::Linger => self.close(ctx),
        }
    }

    fn exchange_timed_out(&mut self, ctx: &mut Context, now: Now) {
        if self.has_answer_to_take() {
            return self.client_left(ctx, now);
        }
        let Phase::Exchange(exchange) = &mut self.phase else { return };
        if exchange.release(&mut self.outbox, now.mono) {
            self.client_moved_at = now.mono;
            self.set_exchange_deadline(ctx, now);
            return ctx.run(self.id);
        }
        let ending = exchange.timed_out(&ctx.config.timeouts, now.mono);
        self.end_exchange(ending, ctx, now);
    }

    /// Whether the client has something of an answer to take.
    fn has_answer_to_take(&self) -> bool {
        let Phase::Exchange(exchange) = &self.phase else { return false };
        exchange.relay().is_some() && !self.outbox.is_empty()
    }

    /// An answer waits for the client while that has something to take, and for the upstream otherwise.
    fn set_exchange_deadline(&mut self, ctx: &mut Context, now: Now) {
        let Phase::Exchange(exchange) = &self.phase else { return };
        let timeouts = &ctx.config.timeouts;
        let deadline = if self.has_answer_to_take() {
            self.client_moved_at + timeouts.client_body
        } else {
            exchange.deadline(timeouts, now.mono)
        };
        self.set_deadline(deadline, ctx);
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
