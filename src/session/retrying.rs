//! Trying again: from a refused or lost exchange, through a pause, back into the queue, and what the
//! client gets when there is no time or no try left.
//!
//! Only while no byte of an answer has gone to the client. What the upstream answered last is kept, so
//! that the client can have it as it was.

use std::time::Duration;

use log::Level;

use super::{Phase, Session, ending, job::Job, record::record_of};
use crate::{
    admission::{Ticket, Waiter},
    budget::{Refusal, WaitsFor},
    context::Context,
    failure::{Failure, FailureClass, Reach},
    http::{body::BodyReader, head::ResponseHead},
    outbox::Outbox,
    rejection::{self, Rejection},
    relay::Relay,
    retry,
    status::{self, AccessRecord, End, RetryRecord},
    time::{Mono, Now},
};

/// The longest body of an answer that is kept: the error pages of edges are a few kilobytes.
const HELD_BODY_BYTES_MAX: usize = 64 * 1024;

/// An answer that is not passed on, because its request is tried again.
#[derive(Debug)]
pub(super) struct HeldAnswer {
    head: ResponseHead,
    reader: BodyReader,
    /// The body with its framing.
    bytes: Vec<u8>,
    /// When the request may be tried again.
    pub(super) back_at: Mono,
    /// When no more of it is waited for: the next try matters more.
    pub(super) read_until: Mono,
    is_whole: bool,
}

impl HeldAnswer {
    pub(super) fn new(head: ResponseHead, back_at: Mono, read_until: Mono) -> Self {
        let reader = BodyReader::new(head.framing);
        let is_whole = reader.is_ended();
        Self { head, reader, bytes: Vec::new(), back_at, read_until, is_whole }
    }

    /// How much memory its body takes, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn status(&self) -> u16 {
        self.head.status
    }

    /// Takes in bytes of the body. Whether no more are wanted: it is whole, too long to keep, or broken.
    pub(super) fn receive(&mut self, mut bytes: &[u8]) -> bool {
        while !self.is_whole {
            let Ok(progress) = self.reader.read(bytes) else { return true };
            if progress.used == 0 {
                return false;
            }
            self.bytes.extend_from_slice(&bytes[..progress.used]);
            if self.bytes.len() > HELD_BODY_BYTES_MAX {
                return true;
            }
            self.is_whole = self.reader.is_ended();
            bytes = &bytes[progress.used..];
        }
        true
    }

    /// The upstream closed the connection in good order.
    pub(super) fn close(&mut self) {
        self.is_whole |= self.reader.may_close();
    }

    /// Passes on what there is of it, with a `retry-after` where it has none: when there may be room, if
    /// that is known.
    pub(super) fn begin_replay(&self, job: &Job, room_in: Option<Duration>, client: &mut Outbox) -> Relay {
        let ask_to_wait = rejection::retry_after(room_in);
        let mut relay = begin_relay(job, &self.head, Some(&ask_to_wait), client);
        relay.pass(&self.bytes, client).expect("its framing was read before");
        relay
    }
}

/// Passes on the head of an answer, with the fields of the proxy's own. `ask_to_wait` is for an answer
/// that was to be tried again and cannot be.
pub(super) fn begin_relay(
    job: &Job,
    response: &ResponseHead,
    ask_to_wait: Option<&str>,
    client: &mut Outbox,
) -> Relay {
    let told = job.told_to_client();
    let mut extra: Vec<(&str, &str)> = told.iter().map(|(name, value)| (*name, value.as_str())).collect();
    if let Some(seconds) = ask_to_wait.filter(|_| response.fields.all("retry-after").next().is_none()) {
        extra.push(("Retry-After", seconds));
    }
    Relay::begin(&job.head, response, &extra, client)
}

impl Job {
    /// Whether trying the request again does no harm. `is_undone` says that what was tried has certainly
    /// done nothing.
    pub(super) fn is_repeatable(&self, is_undone: bool) -> bool {
        is_undone || self.forward.may_repeat || retry::is_idempotent(&self.head.method)
    }

    /// Whether there is another try, and time for it at `back_at`.
    pub(super) fn may_come_back(&self, back_at: Mono, ctx: &Context) -> bool {
        self.retries < ctx.config.retries_max && back_at < self.hold_until && !ctx.is_draining()
    }
}

impl Session {
    /// The upstream's answer is one after which the request is tried again.
    pub(super) fn answer_is_held(
        &mut self,
        mut job: Box<Job>,
        held: HeldAnswer,
        ctx: &mut Context,
        now: Now,
    ) {
        let (status, back_at) = (held.status().to_string(), held.back_at);
        job.last_failure = None;
        if held.is_whole {
            job.last_answer = Some(Box::new(held));
        } else {
            let detail = format!("it answered {status}, and not to the end or too much to keep");
            let failure = Failure::new(FailureClass::CutInStream, detail);
            ending::note_failure(job.id, &failure, ctx, now);
            job.last_failure = Some(failure);
        }
        // It may have taken its time, in which the proxy was asked to stop.
        if job.may_come_back(back_at, ctx) {
            self.pause(job, back_at, &status, ctx, now);
        } else {
            self.give_up(job, None, ctx, now);
        }
    }

    /// The exchange failed before an answer began.
    pub(super) fn exchange_was_lost(
        &mut self,
        mut job: Box<Job>,
        failure: Failure,
        ctx: &mut Context,
        now: Now,
    ) {
        let back_at = now.mono + retry::wait(job.retries, None, ctx.jitter());
        let is_undone = failure.class.reach() == Reach::NeverReached;
        let class = failure.class;
        job.last_failure = Some(failure);
        let is_worth_it = retry::may_pass(class) && job.is_repeatable(is_undone);
        if is_worth_it && job.may_come_back(back_at, ctx) {
            self.pause(job, back_at, class.name(), ctx, now);
        } else {
            self.give_up(job, None, ctx, now);
        }
    }

    fn pause(&mut self, mut job: Box<Job>, back_at: Mono, after: &str, ctx: &mut Context, now: Now) {
        job.held_since = now.mono;
        let pause = back_at.since(now.mono);
        let record = RetryRecord {
            id: job.id,
            method: &job.head.method,
            path: job.head.path(),
            model: job.model.as_deref(),
            agent_session: job.agent_session.as_deref(),
            retry: job.retries + 1,
            retries_max: ctx.config.retries_max,
            after,
            pause,
            took: now.mono.since(job.arrived),
        };
        ctx.log(Level::Info, status::retry_line(&record));
        ctx.stats.paused += 1;
        self.phase = Phase::Paused(job);
        self.set_deadline(back_at, ctx);
    }

    /// The pause before another try is over: back into the queue, in the old place.
    pub(super) fn pause_is_over(&mut self, ctx: &mut Context, now: Now) {
        let Phase::Paused(mut job) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            unreachable!("only a paused request comes back");
        };
        ctx.stats.paused -= 1;
        let ticket = job.ticket.expect("a request that was tried was queued before");
        job.find_lane(ctx, now.mono);
        let ticket = Ticket { lane: job.lane, ..ticket };
        let waiter = Waiter { client: self.id, asked: job.asked.clone(), since: job.held_since - job.waited };
        ctx.admission.enqueue_again(ticket, waiter, now.mono);
        // It stops where nobody waits and nothing is in flight, as it is during a pause.
        ctx.set_stats_line(now.mono);
        job.in_queue_since = now.mono;
        let deadline = job.wait_deadline(now.mono);
        self.phase = Phase::Queued(job, ticket);
        self.set_deadline(deadline, ctx);
    }

    /// The wait in the queue has lasted as long as it may.
    pub(super) fn wait_is_over(&mut self, ctx: &mut Context, now: Now) {
        let Phase::Queued(mut job, ticket) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            unreachable!("only a queued request waits");
        };
        let refusal = ctx.admission.leave(ticket);
        job.end_wait(now.mono);
        self.give_up(job, refusal, ctx, now);
    }

    /// There is no time or no try left. The client gets the upstream's own last answer as it was, else
    /// what failed last, else word that its wait was in vain.
    pub(super) fn give_up(
        &mut self,
        mut job: Box<Job>,
        refusal: Option<Refusal>,
        ctx: &mut Context,
        now: Now,
    ) {
        let room_in = refusal.and_then(|refusal| refusal.until).map(|until| until.since(now.mono));
        if let Some(held) = job.last_answer.take() {
            job.answer_begins(now.mono);
            let mut relay = held.begin_replay(&job, room_in, &mut self.outbox);
            relay.close(&mut self.outbox);
            let status = Some(relay.status);
            ending::end(&AccessRecord { status, ..record_of(&job, End::Finished, now) }, ctx);
            return self.answer_is_whole(relay.keeps_alive, ctx, now);
        }
        let rejection = match job.last_failure.take() {
            Some(failure) => {
                let upstream = ctx.config.upstream.to_string();
                Rejection::Upstream { upstream, failure, tries: job.retries + 1 }
            }
            None if ctx.is_draining() => Rejection::Draining,
            None => Rejection::QueueTimeout {
                waited: job.waited,
                waited_for: refusal.map_or(WaitsFor::Requests, |refusal| refusal.waits_for),
                is_hold_over: now.mono >= job.hold_until,
                room_in,
            },
        };
        self.reject_job(&rejection, &job, ctx, now);
    }
}
