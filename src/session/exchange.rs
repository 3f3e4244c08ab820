//! The upstream side of a session: one request, its own connection, and the response.
//!
//! ```text
//! Connecting ──connected──► Head ──response head──► Body ──end──► finished
//!     │                      │ └──to be tried again──► Held ─end─┤
//!     └──────────────────────┴────────failed──────────┴──────────┘
//! ```
//!
//! The request is written from `Head` on; an answer may begin before the request is sent whole.

use std::time::Duration;

use super::{
    job::Job,
    retrying::{self, HeldAnswer},
};
use crate::{
    budget::{Dimension, Reception, Reservation, Spent, Tokens, demand::guess_tokens},
    config::Timeouts,
    context::Context,
    event::ConnId,
    failure::{Failure, FailureClass, Reach},
    http::{
        head::{self, HeadSearch, ResponseHead},
        write,
    },
    outbox::Outbox,
    rejection,
    relay::Relay,
    retry::{self, Verdict},
    time::{Mono, Now},
};

/// The body of an answer that is not passed on, without a byte. It is there to be kept, not waited for.
const HELD_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of a response is held for a client that does not read: eight TLS records' worth, which
/// keeps a fast client busy and a slow one from filling our memory.
const RELAY_BYTES_MAX: usize = 128 * 1024;

/// Characters per token of what models write, where a stream was cut before it reported: English
/// prose and code run at four in the common tokenizers.
const GENERATED_CHARS_PER_TOKEN: f64 = 4.0;

/// A request that was admitted.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) job: Box<Job>,
    /// The upstream connection, which serves this request and no other.
    pub(super) conn: ConnId,
    reservation: Reservation,
    request_head: Vec<u8>,
    /// The length of head and body together.
    request_bytes: usize,
    /// How much of that has been sent.
    sent_bytes: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Connecting,
    Head { inbox: Vec<u8>, search: HeadSearch },
    Body(Box<Relay>),
    Held(Box<HeldAnswer>),
}

/// How far a response has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more to come.
    More,
    /// It has been passed on whole.
    Whole,
    /// It is not passed on: the request is to be tried again.
    Held,
}

/// What an exchange leaves of the response.
#[derive(Debug)]
pub(super) enum Response {
    /// There was none.
    None,
    /// It was passed on, whole or not.
    Relayed(Box<Relay>),
    /// It is held back.
    Held(Box<HeldAnswer>),
}

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The response was passed on whole.
    Complete,
    /// It is held back: the request is to be tried again.
    Held,
    /// The client left before that.
    ClientLeft,
    /// The proxy was stopped before that.
    Stopped,
    /// The upstream failed.
    Failed(Failure),
}

impl Exchange {
    /// Asks for a connection for an admitted request.
    pub(super) fn begin(client: ConnId, job: Box<Job>, reservation: Reservation, ctx: &mut Context) -> Self {
        let authority = ctx.config.upstream.authority();
        let request_head =
            write::upstream_request(&job.head, &job.forward.target, &authority, job.body.len());
        Self {
            conn: ctx.dial(client),
            request_bytes: request_head.len() + job.body.len(),
            request_head,
            job,
            reservation,
            sent_bytes: 0,
            stage: Stage::Connecting,
        }
    }

    /// The connection is ready: the request can go out.
    pub(super) fn connected(&mut self, ctx: &mut Context) {
        self.stage = Stage::Head { inbox: Vec::new(), search: HeadSearch::default() };
        ctx.run(self.conn);
    }

    /// What of the request is to be sent next.
    pub(super) fn pending_write(&self) -> &[u8] {
        let head_bytes = self.request_head.len();
        match &self.stage {
            Stage::Connecting => &[],
            _ if self.is_sent() => &[],
            _ if self.sent_bytes < head_bytes => &self.request_head[self.sent_bytes..],
            _ => &self.job.body[self.sent_bytes - head_bytes..],
        }
    }

    /// So much of it was sent.
    pub(super) fn wrote(&mut self, count: usize, ctx: &mut Context, now: Now) {
        self.sent_bytes += count;
        if self.is_sent() {
            ctx.admission.sent(&mut self.reservation, now.mono);
            self.drop_what_no_try_needs();
        }
    }

    /// When the next step has taken too long, if this is its last progress.
    ///
    /// Until the head has come, that is also when the request's whole time is over; but for an answer
    /// that comes whole, whose head comes when everything has been generated, minutes later. To cut that
    /// off would lose work that its client still waits for.
    pub(super) fn deadline(&self, timeouts: &Timeouts, now: Mono) -> Mono {
        let mut deadline = now + self.timeout(timeouts);
        if let Stage::Held(held) = &self.stage {
            deadline = deadline.min(held.read_until);
        }
        if self.is_bound_by_hold() { deadline.min(self.job.hold_until) } else { deadline }
    }

    fn is_bound_by_hold(&self) -> bool {
        match &self.stage {
            Stage::Connecting | Stage::Held(_) => true,
            Stage::Head { .. } => {
                let is_generated_whole = self.job.forward.is_generation && !self.job.is_stream;
                !is_generated_whole || !self.is_sent()
            }
            Stage::Body(_) => false,
        }
    }

    /// How long the next step may take from its last progress on.
    fn timeout(&self, timeouts: &Timeouts) -> Duration {
        match &self.stage {
            Stage::Connecting => timeouts.connect,
            Stage::Head { .. } if !self.is_sent() => timeouts.write,
            Stage::Head { .. } | Stage::Body(_) => timeouts.read,
            Stage::Held(_) => HELD_ANSWER_TIMEOUT,
        }
    }

    /// What a timeout amounts to.
    pub(super) fn timed_out(&self, timeouts: &Timeouts, now: Mono) -> Ending {
        let class = match &self.stage {
            Stage::Connecting => FailureClass::ConnectTimeout,
            Stage::Head { .. } if !self.is_sent() => FailureClass::WriteTimeout,
            Stage::Head { .. } => FailureClass::HeadTimeout,
            Stage::Body(_) => FailureClass::IdleInStream,
            Stage::Held(_) => return Ending::Held,
        };
        let detail = if now >= self.job.hold_until && self.is_bound_by_hold() {
            let held = self.job.hold_until.since(self.job.queued_at);
            format!("its {:.0} s to begin an answer are over", held.as_secs_f64())
        } else {
            format!("no progress for {} s", self.timeout(timeouts).as_secs_f64())
        };
        Ending::Failed(Failure::new(class, detail))
    }

    /// Passes on an answer that is held back and still coming, if the request's time is over: there will be
    /// no other. Whether it was so.
    pub(super) fn release(&mut self, outbox: &mut Outbox, now: Mono) -> bool {
        let Stage::Held(held) = &self.stage else { return false };
        if now < self.job.hold_until {
            return false;
        }
        self.stage = Stage::Body(Box::new(held.begin_replay(&self.job, None, outbox)));
        self.drop_what_no_try_needs();
        true
    }

    /// How far the request has come in this try.
    pub(super) fn reach(&self) -> Reach {
        match &self.stage {
            Stage::Connecting => Reach::NeverReached,
            Stage::Head { .. } if self.sent_bytes == 0 => Reach::NeverReached,
            Stage::Head { .. } => Reach::MayHaveReached,
            Stage::Body(_) | Stage::Held(_) => Reach::Acknowledged,
        }
    }

    /// How many bytes of the response there is room for.
    pub(super) fn window(&self, outbox: &Outbox) -> usize {
        match &self.stage {
            Stage::Connecting => 0,
            Stage::Head { .. } | Stage::Held(_) => RELAY_BYTES_MAX,
            Stage::Body(_) => RELAY_BYTES_MAX.saturating_sub(outbox.len()),
        }
    }

    /// Takes in bytes of the response and passes them on.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        outbox: &mut Outbox,
        ctx: &mut Context,
        now: Now,
    ) -> Result<Progress, Failure> {
        match &mut self.stage {
            Stage::Connecting => {
                unreachable!("the shell delivers nothing before the connection is ready")
            }
            Stage::Head { inbox, .. } => {
                inbox.extend_from_slice(bytes);
                self.receive_head(outbox, ctx, now)
            }
            Stage::Body(relay) => {
                relay.pass(bytes, outbox).map_err(|error| cut(error.to_string()))?;
                Ok(if relay.is_ended() { Progress::Whole } else { Progress::More })
            }
            Stage::Held(held) => Ok(if held.receive(bytes) { Progress::Held } else { Progress::More }),
        }
    }

    /// The upstream ended the connection in good order. Fine, if that is how its response ends.
    pub(super) fn upstream_ended(&mut self, outbox: &mut Outbox) -> Result<Progress, Failure> {
        match &mut self.stage {
            Stage::Body(relay) => {
                let ends_here = relay.close(outbox);
                if ends_here {
                    Ok(Progress::Whole)
                } else {
                    Err(cut("closed before the end of the body".to_owned()))
                }
            }
            Stage::Held(held) => {
                held.close();
                Ok(Progress::Held)
            }
            Stage::Connecting | Stage::Head { .. } => {
                Err(Failure::new(FailureClass::ClosedBeforeHead, "closed without an answer"))
            }
        }
    }

    /// The connection failed, in the terms of how far the exchange had come: what breaks off within a
    /// body is a cut, however the shell came to know of it.
    pub(super) fn broke(&self, failure: Failure) -> Result<Progress, Failure> {
        let class = match &self.stage {
            Stage::Connecting => failure.class,
            Stage::Head { .. } => FailureClass::ClosedBeforeHead,
            Stage::Body(_) => FailureClass::CutInStream,
            Stage::Held(_) => return Ok(Progress::Held),
        };
        Err(Failure::new(class, failure.detail))
    }

    /// The response, if its head has been passed on.
    pub(super) fn relay(&self) -> Option<&Relay> {
        match &self.stage {
            Stage::Body(relay) => Some(relay),
            Stage::Connecting | Stage::Head { .. } | Stage::Held(_) => None,
        }
    }

    /// Ends the exchange: settles its reservation and gives back the job, the response, and what was
    /// settled.
    pub(super) fn finish(self, ending: &Ending, ctx: &mut Context, now: Now) -> (Box<Job>, Response, Spent) {
        let has_cost = self.is_sent() || self.reach() == Reach::Acknowledged;
        let spent = if has_cost { self.spent(ending) } else { Spent::default() };
        let Self { job, reservation, stage, .. } = self;
        if has_cost {
            ctx.admission.settle(reservation, spent, now.mono);
        } else {
            ctx.admission.refund(reservation, now.mono);
        }
        let response = match stage {
            Stage::Body(relay) => Response::Relayed(relay),
            Stage::Held(held) => Response::Held(held),
            Stage::Connecting | Stage::Head { .. } => Response::None,
        };
        (job, response, spent)
    }

    fn is_sent(&self) -> bool {
        self.sent_bytes == self.request_bytes
    }

    /// Looks for the response's head, past any interim ones, and passes it on.
    fn receive_head(
        &mut self,
        outbox: &mut Outbox,
        ctx: &mut Context,
        now: Now,
    ) -> Result<Progress, Failure> {
        let bad = |what: String| Failure::new(FailureClass::BadHead, what);
        loop {
            let Stage::Head { inbox, search } = &mut self.stage else { return Ok(Progress::More) };
            let Some(end) = search.find_end(inbox).map_err(|error| bad(error.to_string()))? else {
                return Ok(Progress::More);
            };
            let response = head::parse_response(&inbox[..end], &self.job.head.method);
            let response = response.map_err(|error| bad(error.to_string()))?;
            // RFC 9110, section 15.2: interim responses come before the one that counts. 101 would
            // answer an Upgrade, which is never forwarded.
            if response.status == 101 {
                return Err(bad("it switched protocols, which nobody asked for".to_owned()));
            }
            let rest = inbox.split_off(end);
            if response.status < 200 {
                *inbox = rest;
                continue;
            }
            return self.begin_body(response, &rest, outbox, ctx, now);
        }
    }

    fn begin_body(
        &mut self,
        response: ResponseHead,
        rest: &[u8],
        outbox: &mut Outbox,
        ctx: &mut Context,
        now: Now,
    ) -> Result<Progress, Failure> {
        ctx.stats.answered(response.status, now.wall);
        let verdict = Verdict::of(response.status);
        let pause = (verdict != Verdict::Final).then(|| {
            retry::wait(self.job.retries, retry::asked_wait(&response.fields, now.wall), ctx.jitter())
        });
        let back_at = now.mono + pause.unwrap_or_default();
        self.learn(&response, verdict, back_at, ctx, now);
        let pause = pause.filter(|_| self.job.is_repeatable(verdict.was_refused()));
        if pause.is_some() && self.job.may_come_back(back_at, ctx) {
            let read_until = back_at.max(now.mono + HELD_ANSWER_TIMEOUT);
            self.stage = Stage::Held(Box::new(HeldAnswer::new(response, back_at, read_until)));
            return self.receive(rest, outbox, ctx, now);
        }
        let ask_to_wait =
            pause.filter(|_| ctx.config.retries_max > 0).map(|pause| rejection::retry_after(Some(pause)));
        let mut relay = retrying::begin_relay(&self.job, &response, ask_to_wait.as_deref(), outbox);
        let count = |name| response.fields.text(name).and_then(|text| text.parse().ok());
        relay.meter.take_headers(count("fireworks-prompt-tokens"), count("fireworks-cached-prompt-tokens"));
        self.stage = Stage::Body(Box::new(relay));
        self.drop_what_no_try_needs();
        self.receive(rest, outbox, ctx, now)
    }

    /// An answer that is passed on is the last. It can go on for hours, and its request may be megabytes.
    fn drop_what_no_try_needs(&mut self) {
        if self.relay().is_some() {
            self.job.last_answer = None;
            if self.is_sent() {
                self.job.body = Vec::new();
            }
        }
    }

    /// Tells the budgets how the request was received, and takes the live limits from the response's
    /// head. An answer that is short of capacity, or broken, says nothing of our limits.
    fn learn(
        &mut self,
        response: &ResponseHead,
        verdict: Verdict,
        back_at: Mono,
        ctx: &mut Context,
        now: Now,
    ) {
        let reception = match verdict {
            Verdict::Final => Reception::Admitted,
            Verdict::RateLimited => Reception::RateLimited { until: back_at },
            Verdict::Overloaded => Reception::Overloaded,
            Verdict::Broken => Reception::Unknown,
        };
        ctx.admission.received(&mut self.reservation, reception, now.mono);
        let (Some(lane), Verdict::Final | Verdict::RateLimited) = (self.job.lane, verdict) else { return };
        // One sample for each dimension, also where its limit comes in both spellings.
        let mut samples = [None; Dimension::ALL.len()];
        for (name, value) in response.fields.iter() {
            let Some(dimension) = Dimension::of_limit_field(name) else { continue };
            let value = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            samples[dimension as usize] = value.or(samples[dimension as usize]);
        }
        for (dimension, sample) in Dimension::ALL.into_iter().zip(samples) {
            if let Some(value) = sample {
                ctx.admission.learn(lane, dimension, value, now.mono);
            }
        }
    }

    /// What the request used, as far as it was reported or seen.
    fn spent(&self, ending: &Ending) -> Spent {
        let held = self.reservation.held();
        let Some(relay) = self.relay() else {
            if matches!(self.stage, Stage::Held(_)) {
                return Spent::default();
            }
            // Sent and never answered: the prompt was charged at admission. An answer that comes whole
            // may have been generated by now; of a stream we would have seen the beginning.
            let generated = if self.job.is_stream { 0 } else { held.generated };
            return Spent { tokens: Tokens { generated, ..held }, is_reported: false };
        };
        if self.job.lane.is_none() || relay.status >= 400 {
            return Spent::default();
        }
        let report = relay.meter.report();
        let (prompt, uncached_prompt) = report.prompt().unwrap_or((held.prompt, held.uncached_prompt));
        let is_whole = matches!(ending, Ending::Complete);
        let text = relay.meter.generated_text();
        let seen = text.map(|text| guess_tokens(text.narrow, text.wide, 0, GENERATED_CHARS_PER_TOKEN));
        let generated = match (report.generated(), seen) {
            // Zeros open an Anthropic stream of Fireworks; only its end is a report.
            (Some(reported), _) if is_whole && reported > 0 => reported,
            (Some(reported), seen) => reported.max(seen.unwrap_or(0)),
            (None, Some(seen)) => seen,
            (None, None) => held.generated,
        };
        Spent {
            tokens: Tokens { prompt, uncached_prompt, generated },
            // Embeddings report a prompt and generate nothing; a guess teaches nothing.
            is_reported: is_whole
                && report.prompt().is_some()
                && (report.generated().is_some() || generated == 0),
        }
    }
}

fn cut(detail: String) -> Failure {
    Failure::new(FailureClass::CutInStream, detail)
}
