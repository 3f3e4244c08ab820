//! How requests end: the answers of the proxy's own, and the settling of an exchange.

use log::Level;

use super::{
    Next, Phase, Session,
    exchange::{Ending, Response},
    job::Job,
};
use crate::{
    context::Context,
    failure::{CLIENT_GONE, Failure, Reach, STOPPED},
    http::{head::RequestHead, write::Answer},
    rejection::Rejection,
    relay::Relay,
    retry::Verdict,
    route::Dialect,
    status::{self, AccessRecord},
    time::Now,
};

impl Session {
    /// Ends the exchange: settles, counts, logs, and decides what the client gets.
    pub(super) fn end_exchange(&mut self, ending: Ending, ctx: &mut Context, now: Now) {
        let Phase::Exchange(exchange) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            unreachable!("only an exchange ends");
        };
        ctx.close(exchange.conn);
        ctx.stats.left_upstream();
        let reach = exchange.reach();
        let (mut job, response, spent) = exchange.finish(&ending, ctx, now);
        job.reach = job.reach.max(reach);
        match (ending, response) {
            (Ending::Failed(failure), Response::None) => {
                note_failure(&failure, ctx, now);
                self.exchange_was_lost(job, failure, ctx, now);
            }
            (Ending::Held, Response::Held(held)) => self.answer_is_held(job, *held, ctx, now),
            (ending, response) => {
                let relay = match response {
                    Response::Relayed(relay) => Some(relay),
                    Response::None | Response::Held(_) => None,
                };
                count_report(&job, relay.as_deref(), ctx, now);
                let tokens = job.lane.is_some().then_some(spent.tokens);
                let status = relay.as_ref().map(|relay| relay.status);
                let record = AccessRecord { status, tokens, ..record_of(&job, now) };
                let keeps_alive = relay.is_some_and(|relay| relay.keeps_alive);
                self.end_response(&ending, keeps_alive, (record, job.reach), ctx, now);
            }
        }
    }

    /// Counts and logs how a request ended at the upstream, and sees to what its client still gets.
    fn end_response(
        &mut self,
        ending: &Ending,
        keeps_alive: bool,
        (record, reach): (AccessRecord<'_>, Reach),
        ctx: &mut Context,
        now: Now,
    ) {
        let outcome = match ending {
            Ending::Complete => {
                return self.response_is_whole(keeps_alive, &record, ctx, now);
            }
            Ending::Held => unreachable!("an answer that is held is not passed on"),
            Ending::ClientLeft => return note_client_gone(record, reach, ctx),
            Ending::Stopped => {
                ctx.stats.failed += 1;
                ctx.stats.count_failure(reach, STOPPED);
                STOPPED
            }
            Ending::Failed(failure) => {
                ctx.stats.failed += 1;
                note_failure(failure, ctx, now);
                self.flush(Next::Close, ctx, now);
                failure.class.name()
            }
        };
        let record = AccessRecord { outcome: Some((outcome, reach)), ..record };
        ctx.log(Level::Warn, status::access_line(&record));
    }

    /// A response was passed on whole. One that was worth another try and got none is worth a warning.
    pub(super) fn response_is_whole(
        &mut self,
        keeps_alive: bool,
        record: &AccessRecord<'_>,
        ctx: &mut Context,
        now: Now,
    ) {
        ctx.stats.finished += 1;
        let is_final = record.status.is_none_or(|status| Verdict::of(status) == Verdict::Final);
        ctx.log(if is_final { Level::Info } else { Level::Warn }, status::access_line(record));
        self.flush(if keeps_alive { Next::Head } else { Next::Linger }, ctx, now);
    }

    /// Answers a request that was read whole with a refusal.
    pub(super) fn reject_job(&mut self, rejection: &Rejection, job: &Job, ctx: &mut Context, now: Now) {
        match rejection {
            Rejection::Upstream { .. } => ctx.stats.failed += 1,
            _ => ctx.stats.refused += 1,
        }
        let reach = job.reach.max(rejection.reach());
        let record = AccessRecord {
            status: Some(rejection.status()),
            outcome: Some((rejection.code(), reach)),
            ..record_of(job, now)
        };
        ctx.log(Level::Warn, status::access_line(&record));
        if !matches!(rejection, Rejection::Upstream { .. }) {
            ctx.stats.count_failure(rejection.reach(), rejection.code());
        }
        let goes_on = job.head.keeps_alive() && !ctx.is_draining();
        let next = if goes_on { Next::Head } else { Next::Linger };
        let answer = rejection.answer(job.forward.dialect, reach);
        let answer = answer.with("x-fireworks-proxy-retries", job.retries.to_string());
        self.answer(&answer, &job.head, next, ctx, now);
    }

    /// Answers what is not a request that could be read, after which the connection is of no use.
    pub(super) fn reject_and_close(
        &mut self,
        rejection: &Rejection,
        dialect: Option<Dialect>,
        ctx: &mut Context,
        now: Now,
    ) {
        note_refusal(rejection, ctx);
        let answer = rejection.answer(dialect.unwrap_or(Dialect::OpenAi), rejection.reach());
        self.outbox.push(&answer.to_bytes(false, true));
        self.flush(Next::Linger, ctx, now);
    }

    /// Answers a request that is not let in. Its body is not read, so the connection is of no use after it.
    pub(super) fn turn_away(
        &mut self,
        rejection: &Rejection,
        head: &RequestHead,
        ctx: &mut Context,
        now: Now,
    ) {
        note_refusal(rejection, ctx);
        let answer = rejection.answer(Dialect::of(&head.target), rejection.reach());
        self.answer(&answer, head, Next::Linger, ctx, now);
    }

    pub(super) fn answer(
        &mut self,
        answer: &Answer,
        head: &RequestHead,
        next: Next,
        ctx: &mut Context,
        now: Now,
    ) {
        self.outbox.push(&answer.to_bytes(&*head.method == "HEAD", next != Next::Head));
        self.flush(next, ctx, now);
    }

    fn flush(&mut self, next: Next, ctx: &mut Context, now: Now) {
        self.phase = Phase::Flush(next);
        self.set_deadline(now.mono + ctx.config.timeouts.client_body, ctx);
        ctx.run(self.id);
    }

    /// The proxy is being stopped: who is not at the upstream yet does not get there.
    pub fn drain(&mut self, ctx: &mut Context, now: Now) {
        let mut job = match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Queued(job, ticket) => {
                ctx.admission.leave(ticket);
                job
            }
            Phase::Paused(job) => {
                ctx.stats.paused -= 1;
                job
            }
            other => return self.phase = other,
        };
        job.end_wait(now.mono);
        self.reject_job(&Rejection::Draining, &job, ctx, now);
    }

    /// The proxy stops now: what is under way is cut, and settled with what was seen. Whether anything
    /// was cut.
    pub fn stop(&mut self, ctx: &mut Context, now: Now) -> bool {
        let is_cut = self.is_busy() && !matches!(self.phase, Phase::Linger);
        if matches!(self.phase, Phase::Exchange(_)) {
            self.end_exchange(Ending::Stopped, ctx, now);
        }
        self.close(ctx);
        is_cut
    }

    /// Whether somebody waits for an answer, or for the rest of one.
    pub fn is_busy(&self) -> bool {
        !matches!(self.phase, Phase::Head | Phase::Closed)
    }
}

/// Counts and logs a request that was refused before it was read whole.
fn note_refusal(rejection: &Rejection, ctx: &mut Context) {
    ctx.stats.requests += 1;
    ctx.stats.refused += 1;
    ctx.stats.count_failure(rejection.reach(), rejection.code());
    let line = format!("refused a request with {}: {}", rejection.status(), rejection.message());
    ctx.log(Level::Warn, line);
}

/// The refusal of a generation request when the day's tokens are spent.
pub(super) fn daily_limit(ctx: &Context) -> Rejection {
    Rejection::DailyLimit {
        used: ctx.ledger.used(),
        limit: ctx.ledger.limit().unwrap_or(0),
        resets_at: ctx.ledger.resets_at_local(),
    }
}

/// The client of a request that is not at the upstream has left.
pub(super) fn client_gone(job: &mut Job, ctx: &mut Context, now: Now) {
    job.end_wait(now.mono);
    note_client_gone(record_of(job, now), job.reach, ctx);
}

/// Counts and logs a request whose client has left.
fn note_client_gone(record: AccessRecord<'_>, reach: Reach, ctx: &mut Context) {
    ctx.stats.client_gone += 1;
    ctx.stats.count_failure(reach, CLIENT_GONE);
    let record = AccessRecord { outcome: Some((CLIENT_GONE, reach)), ..record };
    ctx.log(Level::Info, status::access_line(&record));
}

/// Counts for the day what a response reported.
fn count_report(job: &Job, relay: Option<&Relay>, ctx: &mut Context, now: Now) {
    if job.lane.is_some() {
        let report = relay.map(|relay| relay.meter.report()).unwrap_or_default();
        let prompt = report.prompt().map_or(0, |(prompt, _)| prompt);
        let spender = (job.model.as_deref().unwrap_or(""), job.session_or_client());
        ctx.count_tokens(spender, (prompt, report.generated().unwrap_or(0)), now);
    }
}

/// Counts a failure of the upstream and tells of it, whether or not a retry will mend it.
pub(super) fn note_failure(failure: &Failure, ctx: &mut Context, now: Now) {
    ctx.stats.count_failure(failure.class.reach(), failure.class.name());
    ctx.stats.upstream_failed(format!("{}: {failure}", failure.class.name()), now.wall);
    let upstream = ctx.config.upstream.to_string();
    ctx.log(Level::Warn, format!("{upstream}: {failure}"));
}

/// What the log says of a request, before it is known how it ended.
pub(super) fn record_of(job: &Job, now: Now) -> AccessRecord<'_> {
    AccessRecord {
        method: &job.head.method,
        path: job.head.path(),
        model: job.model.as_deref(),
        agent_session: job.agent_session.as_deref(),
        waited: job.waited,
        took: now.mono.since(job.arrived),
        status: None,
        tokens: None,
        retries: job.retries,
        outcome: None,
    }
}
