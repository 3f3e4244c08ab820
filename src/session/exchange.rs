//! The upstream side of a session: one request, its own connection, and the response.
//!
//! ```text
//! Connecting ──connected──► Head ──response head──► Body ──end──► finished
//!     │                      │                        │
//!     └──────────────────────┴────────failed──────────┴──► finished
//! ```
//!
//! The request is written from `Head` on; an answer may begin before the request is sent whole.

use std::time::Duration;

use super::job::Job;
use crate::{
    budget::{Dimension, Reservation, Spent, Tokens, demand::guess_tokens},
    context::Context,
    event::ConnId,
    failure::{Failure, FailureClass},
    http::{
        head::{self, HeadSearch, ResponseHead},
        write,
    },
    outbox::Outbox,
    relay::Relay,
    time::Now,
};

/// Name look-up, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sending the request, without progress.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The response, without a byte.
const READ_TIMEOUT: Duration = Duration::from_secs(1_800);

/// How much of a response is held for a client that does not read: eight TLS records' worth, which
/// keeps a fast client busy and a slow one from filling our memory.
const RELAY_BYTES_MAX: usize = 128 * 1024;

/// Characters per token of what models write, where a stream was cut before it reported: English
/// prose and code run at four in the common tokenizers.
const GENERATED_CHARS_PER_TOKEN: f64 = 4.0;

/// A request that was admitted.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) job: Job,
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
}

/// How far a response has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more to come.
    More,
    /// It has been passed on whole.
    Whole,
}

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The response was passed on whole.
    Complete,
    /// The client left before that.
    ClientLeft,
    /// The upstream failed.
    Failed(Failure),
}

impl Exchange {
    /// Asks for a connection for an admitted request.
    pub(super) fn begin(client: ConnId, job: Job, reservation: Reservation, ctx: &mut Context) -> Self {
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
        }
    }

    /// How long the next step may take from its last progress on.
    pub(super) fn timeout(&self) -> Duration {
        match &self.stage {
            Stage::Connecting => CONNECT_TIMEOUT,
            Stage::Head { .. } if !self.is_sent() => WRITE_TIMEOUT,
            Stage::Head { .. } | Stage::Body(_) => READ_TIMEOUT,
        }
    }

    /// The failure that a timeout amounts to.
    pub(super) fn timed_out(&self) -> Failure {
        let class = match &self.stage {
            Stage::Connecting => FailureClass::ConnectTimeout,
            Stage::Head { .. } if !self.is_sent() => FailureClass::WriteTimeout,
            Stage::Head { .. } => FailureClass::HeadTimeout,
            Stage::Body(_) => FailureClass::IdleInStream,
        };
        Failure::new(class, format!("no progress for {} s", self.timeout().as_secs()))
    }

    /// How many bytes of the response there is room for.
    pub(super) fn window(&self, outbox: &Outbox) -> usize {
        match &self.stage {
            Stage::Connecting => 0,
            Stage::Head { .. } => RELAY_BYTES_MAX,
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
            Stage::Connecting | Stage::Head { .. } => {
                Err(Failure::new(FailureClass::ClosedBeforeHead, "closed without an answer"))
            }
        }
    }

    /// A failure of the connection, in the terms of how far the exchange had come: what breaks off
    /// within a body is a cut, however the shell came to know of it.
    pub(super) fn failed(&self, failure: Failure) -> Failure {
        let class = match &self.stage {
            Stage::Connecting => failure.class,
            Stage::Head { .. } => FailureClass::ClosedBeforeHead,
            Stage::Body(_) => FailureClass::CutInStream,
        };
        Failure::new(class, failure.detail)
    }

    /// The response, if its head has been passed on.
    pub(super) fn relay(&self) -> Option<&Relay> {
        match &self.stage {
            Stage::Body(relay) => Some(relay),
            Stage::Connecting | Stage::Head { .. } => None,
        }
    }

    /// Ends the exchange: settles its reservation and gives back the job, the response if there was
    /// one, and what was settled.
    pub(super) fn finish(self, ending: &Ending, ctx: &mut Context, now: Now) -> (Job, Option<Relay>, Spent) {
        let has_cost = self.is_sent() || self.relay().is_some();
        let spent = if has_cost { self.spent(ending) } else { Spent::default() };
        let Self { job, reservation, stage, .. } = self;
        if has_cost {
            ctx.admission.settle(reservation, spent, now.mono);
        } else {
            ctx.admission.refund(reservation, now.mono);
        }
        let relay = match stage {
            Stage::Body(relay) => Some(*relay),
            Stage::Connecting | Stage::Head { .. } => None,
        };
        (job, relay, spent)
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
            return self.begin_body(&response, &rest, outbox, ctx, now);
        }
    }

    fn begin_body(
        &mut self,
        response: &ResponseHead,
        rest: &[u8],
        outbox: &mut Outbox,
        ctx: &mut Context,
        now: Now,
    ) -> Result<Progress, Failure> {
        self.learn(response, ctx, now);
        let wait_ms = self.job.waited.as_millis().to_string();
        let extra = [("x-fireworks-proxy-wait-ms", wait_ms.as_str())];
        let mut relay = Relay::begin(&self.job.head, response, &extra, outbox);
        let count = |name| response.fields.text(name).and_then(|text| text.parse().ok());
        relay.meter.take_headers(count("fireworks-prompt-tokens"), count("fireworks-cached-prompt-tokens"));
        self.stage = Stage::Body(Box::new(relay));
        if self.is_sent() {
            // A stream can go on for half an hour, and its request may be megabytes.
            self.job.body = Vec::new();
        }
        self.receive(rest, outbox, ctx, now)
    }

    /// Takes the live limits and the upstream's state from the response's head.
    fn learn(&self, response: &ResponseHead, ctx: &mut Context, now: Now) {
        // One sample for each dimension, also where its limit comes in both spellings.
        let mut samples = [None; Dimension::ALL.len()];
        for (name, value) in response.fields.iter() {
            let Some(dimension) = Dimension::of_limit_field(name) else { continue };
            let value = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            samples[dimension as usize] = value.or(samples[dimension as usize]);
        }
        for (dimension, sample) in Dimension::ALL.into_iter().zip(samples) {
            if let (Some(lane), Some(value)) = (self.job.lane, sample) {
                ctx.admission.learn(lane, dimension, value, now.mono);
            }
        }
        ctx.stats.answered(response.status, now.wall);
    }

    /// What the request used, as far as it was reported or seen.
    fn spent(&self, ending: &Ending) -> Spent {
        let held = self.reservation.held();
        let Stage::Body(relay) = &self.stage else {
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
