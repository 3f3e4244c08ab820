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
    budget::{Dimension, Reservation, Spent, Tokens, demand::guess_prompt},
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
    sent: usize,
    receiving: Receiving,
}

#[derive(Debug)]
enum Receiving {
    Connecting,
    Head { inbox: Vec<u8>, search: HeadSearch },
    Body(Box<Relay>),
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
            sent: 0,
            receiving: Receiving::Connecting,
        }
    }

    /// The connection is ready: the request can go out.
    pub(super) fn connected(&mut self, ctx: &mut Context) {
        self.receiving = Receiving::Head { inbox: Vec::new(), search: HeadSearch::default() };
        ctx.run(self.conn);
    }

    /// What of the request is to be sent next.
    pub(super) fn pending_write(&self) -> &[u8] {
        let head_bytes = self.request_head.len();
        match &self.receiving {
            Receiving::Connecting => &[],
            _ if self.is_sent() => &[],
            _ if self.sent < head_bytes => &self.request_head[self.sent..],
            _ => &self.job.body[self.sent - head_bytes..],
        }
    }

    /// So much of it was sent.
    pub(super) fn wrote(&mut self, count: usize, ctx: &mut Context, now: Now) {
        self.sent += count;
        if self.is_sent() {
            ctx.admission.sent(&mut self.reservation, now.mono);
        }
    }

    /// How long the next step may take from its last progress on.
    pub(super) fn timeout(&self) -> Duration {
        match &self.receiving {
            Receiving::Connecting => CONNECT_TIMEOUT,
            Receiving::Head { .. } if !self.is_sent() => WRITE_TIMEOUT,
            Receiving::Head { .. } | Receiving::Body(_) => READ_TIMEOUT,
        }
    }

    /// The failure that a timeout amounts to.
    pub(super) fn timed_out(&self) -> Failure {
        let class = match &self.receiving {
            Receiving::Connecting => FailureClass::ConnectTimeout,
            Receiving::Head { .. } if !self.is_sent() => FailureClass::WriteTimeout,
            Receiving::Head { .. } => FailureClass::HeadTimeout,
            Receiving::Body(_) => FailureClass::IdleInStream,
        };
        Failure::new(class, format!("no progress for {} s", self.timeout().as_secs()))
    }

    /// How many bytes of the response there is room for.
    pub(super) fn window(&self, client: &Outbox) -> usize {
        match &self.receiving {
            Receiving::Connecting => 0,
            Receiving::Head { .. } => RELAY_BYTES_MAX,
            Receiving::Body(_) => RELAY_BYTES_MAX.saturating_sub(client.len()),
        }
    }

    /// Takes in bytes of the response and passes them on. Whether the response is whole.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        client: &mut Outbox,
        ctx: &mut Context,
        now: Now,
    ) -> Result<bool, Failure> {
        match &mut self.receiving {
            Receiving::Connecting => {
                unreachable!("the shell delivers nothing before the connection is ready")
            }
            Receiving::Head { inbox, .. } => {
                inbox.extend_from_slice(bytes);
                self.receive_head(client, ctx, now)
            }
            Receiving::Body(relay) => {
                relay.pass(bytes, client).map_err(|error| cut(error.to_string()))?;
                Ok(relay.is_ended())
            }
        }
    }

    /// The upstream ended the connection in good order. Fine, if that is how its response ends.
    pub(super) fn closed(&mut self, client: &mut Outbox) -> Result<(), Failure> {
        match &mut self.receiving {
            Receiving::Body(relay) => {
                let ends_here = relay.close(client);
                if ends_here { Ok(()) } else { Err(cut("closed before the end of the body".to_owned())) }
            }
            Receiving::Connecting | Receiving::Head { .. } => {
                Err(Failure::new(FailureClass::ClosedBeforeHead, "closed without an answer"))
            }
        }
    }

    /// A failure of the connection, in the terms of how far the exchange had come: what breaks off
    /// within a body is a cut, however the shell came to know of it.
    pub(super) fn failed(&self, failure: Failure) -> Failure {
        let class = match &self.receiving {
            Receiving::Connecting => failure.class,
            Receiving::Head { .. } => FailureClass::ClosedBeforeHead,
            Receiving::Body(_) => FailureClass::CutInStream,
        };
        Failure::new(class, failure.detail)
    }

    /// The response, if its head has been passed on.
    pub(super) fn relay(&self) -> Option<&Relay> {
        match &self.receiving {
            Receiving::Body(relay) => Some(relay),
            Receiving::Connecting | Receiving::Head { .. } => None,
        }
    }

    /// Ends the exchange: settles its reservation and gives back the job, the response if there was
    /// one, and what was settled.
    pub(super) fn finish(self, ending: &Ending, ctx: &mut Context, now: Now) -> (Job, Option<Relay>, Spent) {
        let has_cost = self.is_sent() || self.relay().is_some();
        let spent = if has_cost { self.spent(ending) } else { Spent::default() };
        let Self { job, reservation, receiving, .. } = self;
        if has_cost {
            ctx.admission.settle(reservation, spent, now.mono);
        } else {
            ctx.admission.refund(reservation, now.mono);
        }
        let relay = match receiving {
            Receiving::Body(relay) => Some(*relay),
            Receiving::Connecting | Receiving::Head { .. } => None,
        };
        (job, relay, spent)
    }

    fn is_sent(&self) -> bool {
        self.sent == self.request_bytes
    }

    /// Looks for the response's head, past any interim ones, and passes it on.
    fn receive_head(&mut self, client: &mut Outbox, ctx: &mut Context, now: Now) -> Result<bool, Failure> {
        let bad = |what: String| Failure::new(FailureClass::BadHead, what);
        loop {
            let Receiving::Head { inbox, search } = &mut self.receiving else { return Ok(false) };
            let Some(end) = search.find_end(inbox).map_err(|error| bad(error.to_string()))? else {
                return Ok(false);
            };
            let response = head::parse_response(&inbox[..end], &self.job.head.method);
            let response = response.map_err(|error| bad(error.to_string()))?;
            if response.status == 101 {
                return Err(bad("it switched protocols, which nobody asked for".to_owned()));
            }
            let rest = inbox.split_off(end);
            if response.status < 200 {
                *inbox = rest;
                continue;
            }
            return self.begin_body(&response, &rest, client, ctx, now);
        }
    }

    fn begin_body(
        &mut self,
        response: &ResponseHead,
        rest: &[u8],
        client: &mut Outbox,
        ctx: &mut Context,
        now: Now,
    ) -> Result<bool, Failure> {
        self.learn(response, ctx, now);
        let wait_ms = self.job.waited.as_millis().to_string();
        let extra = [("x-fireworks-proxy-wait-ms", wait_ms.as_str())];
        let mut relay = Relay::begin(&self.job.head, response, &extra, client);
        let count = |name| response.fields.text(name).and_then(|text| text.parse().ok());
        relay.meter.take_headers(count("fireworks-prompt-tokens"), count("fireworks-cached-prompt-tokens"));
        self.receiving = Receiving::Body(Box::new(relay));
        if self.is_sent() {
            // A stream can go on for half an hour, and its request may be megabytes.
            self.job.body = Vec::new();
        }
        self.receive(rest, client, ctx, now)
    }

    /// Takes the live limits and the upstream's state from the response's head.
    fn learn(&self, response: &ResponseHead, ctx: &mut Context, now: Now) {
        for (name, value) in response.fields.iter() {
            let Some(dimension) = Dimension::of_limit_field(name) else { continue };
            let value = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            if let (Some(lane), Some(value)) = (self.job.lane, value) {
                ctx.admission.learn(lane, dimension, value, now.mono);
            }
        }
        ctx.stats.answered(response.status, now.wall);
    }

    /// What the request used, as far as it was reported or seen.
    fn spent(&self, ending: &Ending) -> Spent {
        let held = self.reservation.held();
        let Receiving::Body(relay) = &self.receiving else {
            // Sent and never answered: the upstream has charged the prompt, and may be generating.
            let generated = if self.job.is_stream { 0 } else { held.generated };
            return Spent { tokens: Tokens { generated, ..held }, is_reported: false };
        };
        if self.job.lane.is_none() || relay.status >= 400 {
            return Spent::default();
        }
        let report = relay.meter.report();
        let (prompt, uncached_prompt) = report.prompt().unwrap_or((held.prompt, held.uncached_prompt));
        let is_whole = matches!(ending, Ending::Complete);
        // Generated text runs at about four characters a token in every model's own prose.
        let seen = relay.meter.generated_text().map(|text| guess_prompt(text.narrow, text.wide, 0, 4.0));
        let generated = match (report.generated(), seen) {
            // Zeros open an Anthropic stream of Fireworks; only its end is a report.
            (Some(reported), _) if is_whole && reported > 0 => reported,
            (Some(reported), seen) => reported.max(seen.unwrap_or(0)),
            (None, Some(seen)) => seen,
            (None, None) => held.generated,
        };
        Spent {
            tokens: Tokens { prompt, uncached_prompt, generated },
            is_reported: is_whole && report.prompt().is_some(),
        }
    }
}

fn cut(detail: String) -> Failure {
    Failure::new(FailureClass::CutInStream, detail)
}
