//! How requests end: the answers of the proxy's own, and the settling of an exchange.

use log::Level;

use super::{FLUSH_TIMEOUT, Next, Phase, Session, exchange::Ending, job::Job};
use crate::{
    budget::WaitsFor,
    context::Context,
    failure::Failure,
    http::{head::RequestHead, write::Answer},
    rejection::Rejection,
    route::Dialect,
    status::{self, AccessRecord},
    time::Now,
};

impl Session {
    /// The wait has lasted as long as it may.
    pub(super) fn wait_is_over(&mut self, ctx: &mut Context, now: Now) {
        let Phase::Queued(mut job, ticket) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            unreachable!("only a queued request waits");
        };
        let refusal = ctx.admission.leave(ticket);
        job.waited = now.mono.since(job.queued_at);
        let rejection = Rejection::QueueTimeout {
            waited: job.waited,
            waited_for: refusal.map_or(WaitsFor::Requests, |refusal| refusal.waits_for).name(),
            room_in: refusal.and_then(|refusal| refusal.until).map(|until| until.since(now.mono)),
        };
        self.reject_job(&rejection, &job, ctx, now);
    }

    /// Ends the exchange: settles, counts, logs, and decides what the client gets.
    pub(super) fn end_exchange(&mut self, ending: Ending, ctx: &mut Context, now: Now) {
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
                self.flush(Next::Close, ctx, now);
            }
            (Ending::Failed(failure), None) => {
                note_failure(&failure, ctx, now);
                let upstream = ctx.config.upstream.to_string();
                self.reject_job(&Rejection::Upstream { upstream, failure }, &job, ctx, now);
            }
        }
    }

    /// Answers a request that was read whole with a refusal.
    pub(super) fn reject_job(&mut self, rejection: &Rejection, job: &Job, ctx: &mut Context, now: Now) {
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
    pub(super) fn reject_and_close(
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
        self.set_deadline(now.mono + FLUSH_TIMEOUT, ctx);
        ctx.run(self.id);
    }
}

/// The refusal of a generation request when the day's tokens are spent.
pub(super) fn daily_limit(ctx: &Context) -> Rejection {
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
        outcome: None,
    }
}
