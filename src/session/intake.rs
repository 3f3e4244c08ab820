//! The client's side on the way in: bytes become a head, a head becomes an answer or an upload, and
//! an upload that is whole goes into the queue.

use std::time::Duration;

use super::{Next, Phase, Session, ending, job::Job, job::Upload, record::Unread};
use crate::{
    access,
    admission::Waiter,
    context::Context,
    http::{
        HttpError,
        head::{self, Framing, HeadSearch, RequestHead},
        write::{Answer, CONTINUE},
    },
    rejection::Rejection,
    route::{Forward, Page, Route, query_of, route},
    time::Now,
};

impl Session {
    /// Takes in bytes from the client.
    pub(super) fn receive(&mut self, bytes: &[u8], ctx: &mut Context, now: Now) {
        match &mut self.phase {
            Phase::Linger | Phase::Closed => {}
            Phase::Body(upload) => match upload.receive(bytes) {
                Ok(used) => {
                    let deadline = upload.deadline(used, ctx.config.timeouts.client_body, now.mono);
                    self.inbox.extend_from_slice(&bytes[used..]);
                    self.set_deadline(deadline, ctx);
                }
                Err(error) => self.refuse_upload(&Rejection::BadRequest(error), ctx, now),
            },
            Phase::Head => {
                if self.inbox.is_empty() {
                    self.set_deadline(now.mono + ctx.config.timeouts.client_head, ctx);
                }
                self.inbox.extend_from_slice(bytes);
            }
            Phase::Page(..) | Phase::Queued(..) | Phase::Paused(_) | Phase::Exchange(_) | Phase::Flush(_) => {
                self.inbox.extend_from_slice(bytes);
            }
        }
    }

    /// Reads the next request's head out of the inbox. Whether it was there.
    pub(super) fn read_head(&mut self, ctx: &mut Context, now: Now) -> bool {
        // RFC 9112, section 2.2: an empty line before a request is let pass.
        let empty_lines = self.inbox.chunks(2).take_while(|line| line == b"\r\n").count();
        if empty_lines > 0 {
            self.inbox.drain(..empty_lines * 2);
            self.search = HeadSearch::default();
            if self.inbox.is_empty() {
                self.set_deadline(self.idle_since + ctx.config.timeouts.client_idle, ctx);
            }
        }
        let parsed = match self.search.find_end(&self.inbox) {
            Ok(None) => return false,
            Ok(Some(end)) => {
                let parsed = head::parse_request(&self.inbox[..end]).map(|head| (head, end));
                self.inbox.drain(..end);
                parsed
            }
            Err(error) => Err(error),
        };
        match parsed {
            Ok((head, head_bytes)) => self.begin_request(head, head_bytes, ctx, now),
            Err(error) => self.refuse_head(&Rejection::BadRequest(error), ctx, now),
        }
        true
    }

    fn begin_request(&mut self, head: RequestHead, head_bytes: usize, ctx: &mut Context, now: Now) {
        let needs_secret = Page::of(&head.target).is_none_or(Page::shows_something);
        if let Err(denial) = access::check(&head, &ctx.config.access, needs_secret) {
            let unread = Unread::of_head(&head, ctx, now);
            return self.refuse_unread(&Rejection::Denied(denial), unread, Next::Linger, ctx, now);
        }
        match route(&head.method, &head.target, &ctx.config.upstream) {
            Route::Page(page) => self.phase = Phase::Page(page, Box::new(head)),
            Route::PageMethodNotAllowed => {
                let unread = Unread::of_head(&head, ctx, now);
                self.refuse_unread(&Rejection::PageMethod, unread, after_page(&head), ctx, now);
            }
            Route::Forward(forward) => self.begin_upload((head, head_bytes), forward, ctx, now),
        }
    }

    /// The page that was asked for, if one was, and with which query.
    pub fn asked_page(&self) -> Option<(Page, &str)> {
        match &self.phase {
            Phase::Page(page, head) => Some((*page, query_of(&head.target))),
            _ => None,
        }
    }

    /// Answers with the page that was asked for.
    pub fn answer_page(&mut self, page: &Answer, ctx: &mut Context, now: Now) {
        let Phase::Page(_, head) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            unreachable!("a page was asked for");
        };
        self.answer(page, &head, after_page(&head), ctx, now);
        self.advance(ctx, now);
    }

    fn begin_upload(&mut self, head: (RequestHead, usize), forward: Forward, ctx: &mut Context, now: Now) {
        let id = ctx.next_request_id();
        let mut upload = Box::new(Upload::new(id, head, forward, &ctx.config, now.mono));
        if upload.is_too_large(&ctx.config) {
            self.phase = Phase::Body(upload);
            return self.refuse_upload(&Rejection::BadRequest(HttpError::BodyTooLarge), ctx, now);
        }
        // RFC 9110, section 10.1.1: not needed where the body has begun to come.
        if upload.awaits_continue() && self.inbox.is_empty() {
            self.outbox.push(CONTINUE);
            ctx.run(self.id);
        }
        let received = upload.receive(&self.inbox);
        let used = received.as_ref().copied().unwrap_or_default();
        let deadline = upload.deadline(used, ctx.config.timeouts.client_body, now.mono);
        self.phase = Phase::Body(upload);
        match received {
            Ok(used) => {
                self.inbox.drain(..used);
                self.inbox.shrink_to_fit();
                self.set_deadline(deadline, ctx);
            }
            Err(error) => self.refuse_upload(&Rejection::BadRequest(error), ctx, now),
        }
    }

    /// What of a request has not come was not read, which is not its client's fault: it has the time that it
    /// had left, or all of it.
    pub(super) fn begin_time_anew(&mut self, time_left: Option<Duration>, ctx: &mut Context, now: Now) {
        let (timeouts, has_long_head) = (&ctx.config.timeouts, self.has_long_head());
        let deadline = match &mut self.phase {
            Phase::Body(upload) => upload.forgive(time_left.unwrap_or(timeouts.client_body), now.mono),
            Phase::Head if has_long_head => now.mono + time_left.unwrap_or(timeouts.client_head),
            _ => return,
        };
        self.set_deadline(deadline, ctx);
    }

    /// Sends a request that was read whole into the queue, where it may find room at once.
    pub(super) fn enqueue(&mut self, ctx: &mut Context, now: Now) {
        let Phase::Body(upload) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            unreachable!("only a request whose body was read is queued");
        };
        let job = Job::new(*upload, ctx, now.mono);
        ctx.stats.requests += 1;
        ctx.set_stats_line(now.mono);
        if ctx.is_draining() {
            return self.reject_job(&Rejection::Draining, &job, ctx, now);
        }
        if job.lane.is_some() && ctx.is_day_spent(now) {
            return self.reject_job(&ending::daily_limit(ctx), &job, ctx, now);
        }
        let deadline = job.wait_deadline(now.mono);
        let waiter = Waiter { client: self.id, asked: job.asked.clone(), since: now.mono };
        let session = ctx.session_key(job.agent_session.as_deref(), self.id);
        let ticket = ctx.admission.enqueue(job.lane, session, deadline, waiter, now.mono);
        self.phase = Phase::Queued(Box::new(job), ticket);
        self.set_deadline(deadline, ctx);
    }
}

/// A page's request has no body worth reading: if it brings one, the connection ends.
fn after_page(head: &RequestHead) -> Next {
    if head.keeps_alive() && head.framing == Framing::Empty { Next::Head } else { Next::Linger }
}
