//! How requests end: the answers of the proxy's own, and the settling of an exchange.

use log::Level;

use super::{
    Next, Phase, Session,
    exchange::{Ending, Response},
    job::{Job, Upload},
    record::{Unread, record_of},
};
use crate::{
    context::{Context, RequestId},
    failure::{CLIENT_GONE, Failure, Reach, STOPPED},
    http::{
        head::RequestHead,
        write::{Answer, REQUEST_ID_FIELD},
    },
    rejection::Rejection,
    relay::Relay,
    retry::Verdict,
    status::{self, AccessRecord, End},
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
                note_failure(job.id, &failure, ctx, now);
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
                let record = record_of(&job, end_of(job.id, &ending, ctx, now), now);
                end(&AccessRecord { status, tokens, ..record }, ctx);
                match ending {
                    Ending::Complete => {
                        self.answer_is_whole(relay.is_some_and(|relay| relay.keeps_alive), ctx, now);
                    }
                    Ending::Failed(_) => self.flush(Next::Close, ctx, now),
                    Ending::ClientLeft | Ending::Stopped | Ending::Held => {}
                }
            }
        }
    }

    /// A response was passed on whole.
    pub(super) fn answer_is_whole(&mut self, keeps_alive: bool, ctx: &mut Context, now: Now) {
        self.flush(if keeps_alive { Next::Head } else { Next::Linger }, ctx, now);
    }

    /// Answers a request that was read whole with a refusal, or with word of a failure.
    pub(super) fn reject_job(&mut self, rejection: &Rejection, job: &Job, ctx: &mut Context, now: Now) {
        let (how, message) = match rejection {
            // The log has told of it.
            Rejection::Upstream { failure, .. } => (End::Failed(failure.class), None),
            _ => (End::Refused(rejection.code()), Some(rejection.message())),
        };
        let reach = job.reach.max(rejection.reach());
        let status = Some(rejection.status());
        let message = message.as_deref();
        end(&AccessRecord { status, reach, message, ..record_of(job, how, now) }, ctx);
        let goes_on = job.head.keeps_alive() && !ctx.is_draining();
        let next = if goes_on { Next::Head } else { Next::Linger };
        let mut answer = rejection.answer(job.forward.dialect, reach);
        answer.fields.extend(job.told_to_client());
        self.answer(&answer, &job.head, next, ctx, now);
    }

    /// Answers what is not a head that could be read, or did not come.
    pub(super) fn refuse_head(&mut self, rejection: &Rejection, ctx: &mut Context, now: Now) {
        let unread = Unread::unknown(ctx, now);
        self.refuse_unread(rejection, unread, Next::Linger, ctx, now);
    }

    /// Answers a request whose body is not read to its end.
    pub(super) fn refuse_upload(&mut self, rejection: &Rejection, ctx: &mut Context, now: Now) {
        let Phase::Body(upload) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            unreachable!("only an upload has a body that is read");
        };
        self.refuse_unread(rejection, Unread::of_upload(&upload), Next::Linger, ctx, now);
    }

    /// Answers a request that was not read whole. Where more of it may come the connection is of no use
    /// afterwards.
    pub(super) fn refuse_unread(
        &mut self,
        rejection: &Rejection,
        unread: Unread<'_>,
        next: Next,
        ctx: &mut Context,
        now: Now,
    ) {
        let message = rejection.message();
        let record = unread.record(End::Refused(rejection.code()), now);
        let status = Some(rejection.status());
        end_unread(&AccessRecord { status, message: Some(&message), ..record }, ctx, now);
        let answer = rejection.answer(unread.dialect, rejection.reach());
        let answer = answer.with(REQUEST_ID_FIELD, unread.id.to_string());
        let to_head = unread.head.is_some_and(|head| &*head.method == "HEAD");
        self.send(&answer, to_head, next, ctx, now);
    }

    pub(super) fn answer(
        &mut self,
        answer: &Answer,
        head: &RequestHead,
        next: Next,
        ctx: &mut Context,
        now: Now,
    ) {
        self.send(answer, &*head.method == "HEAD", next, ctx, now);
    }

    fn send(&mut self, answer: &Answer, to_head: bool, next: Next, ctx: &mut Context, now: Now) {
        self.outbox.push(&answer.to_bytes(to_head, next != Next::Head));
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
        match &self.phase {
            Phase::Exchange(_) => self.end_exchange(Ending::Stopped, ctx, now),
            Phase::Body(upload) => upload_broke_off(upload, End::Stopped, ctx, now),
            _ => {}
        }
        self.close(ctx);
        is_cut
    }

    /// Whether somebody waits for an answer, or for the rest of one.
    pub fn is_busy(&self) -> bool {
        !matches!(self.phase, Phase::Head | Phase::Closed)
    }
}

/// Every request ends here, however it ends, and once: it is counted, and the log has its line.
pub(super) fn end(record: &AccessRecord<'_>, ctx: &mut Context) {
    let stats = &mut ctx.stats;
    match record.end {
        End::Finished => stats.finished += 1,
        End::Refused(code) => {
            stats.refused += 1;
            stats.count_failure(Reach::NeverReached, code);
        }
        End::ClientGone => {
            stats.client_gone += 1;
            stats.count_failure(record.reach, CLIENT_GONE);
        }
        End::Stopped => {
            stats.failed += 1;
            stats.count_failure(record.reach, STOPPED);
        }
        // What failed was counted when it did.
        End::Failed(_) => stats.failed += 1,
    }
    stats.tally.count(&status::metrics::ended(record));
    ctx.log(level_of(record), status::access_line(record));
}

/// What somebody should look at is a warning: an answer too that was worth another try and got none.
fn level_of(record: &AccessRecord<'_>) -> Level {
    match record.end {
        End::Finished if record.status.is_none_or(|status| Verdict::of(status) == Verdict::Final) => {
            Level::Info
        }
        End::ClientGone => Level::Info,
        End::Finished | End::Refused(_) | End::Stopped | End::Failed(_) => Level::Warn,
    }
}

/// What the end of an exchange is to its request.
fn end_of(id: RequestId, ending: &Ending, ctx: &mut Context, now: Now) -> End {
    match ending {
        Ending::Complete => End::Finished,
        Ending::Held => unreachable!("an answer that is held is not passed on"),
        Ending::ClientLeft => End::ClientGone,
        Ending::Stopped => End::Stopped,
        Ending::Failed(failure) => {
            note_failure(id, failure, ctx, now);
            End::Failed(failure.class)
        }
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

/// The client of a request that is not at the upstream has left.
pub(super) fn client_gone(job: &mut Job, ctx: &mut Context, now: Now) {
    job.end_wait(now.mono);
    end(&record_of(job, End::ClientGone, now), ctx);
}

/// The body of a request will not come to its end, and nobody is there to be told.
pub(super) fn upload_broke_off(upload: &Upload, how: End, ctx: &mut Context, now: Now) {
    end_unread(&Unread::of_upload(upload).record(how, now), ctx, now);
}

/// A request that was not read whole counts when it ends, of which the last hour tells too.
fn end_unread(record: &AccessRecord<'_>, ctx: &mut Context, now: Now) {
    ctx.stats.requests += 1;
    ctx.set_sample(now.mono);
    end(record, ctx);
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
pub(super) fn note_failure(id: RequestId, failure: &Failure, ctx: &mut Context, now: Now) {
    ctx.stats.count_failure(failure.class.reach(), failure.class.name());
    ctx.stats.upstream_failed(format!("{}: {failure}", failure.class.name()), now.wall);
    let upstream = ctx.config.upstream.to_string();
    ctx.log(Level::Warn, status::failure_line(id, failure, &upstream));
}
