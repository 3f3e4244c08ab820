//! The upstream side of a session: one request, its own connection, and the response.
//!
//! ```text
//! Connecting ──connected──► Head ──response head──► Body ──end──► finished
//!     │                      │ └──to be tried again──► Held ─end─┤
//!     └──────────────────────┴────────failed──────────┴──────────┘
//! ```
//!
//! The request is written from `Head` on; an answer may begin before the request is sent whole.

mod answering;

use std::time::Duration;

use super::{job::Job, retrying::HeldAnswer};
use crate::{
    admission::Reservation,
    budget::Spent,
    config::Timeouts,
    context::Context,
    event::ConnId,
    failure::{Failure, FailureClass, Reach},
    http::{head::HeadSearch, write},
    memory::Share,
    outbox::Outbox,
    relay::Relay,
    time::{Mono, Now},
};

/// The body of an answer that is not passed on, without a byte. It is there to be kept, not waited for.
const HELD_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of a response is held for a client that does not read: eight TLS records' worth, which
/// keeps a fast client busy and a slow one from filling our memory.
const RELAY_BYTES_MAX: usize = 128 * 1024;

/// The same while memory is tight: one record.
const RELAY_BYTES_MAX_TIGHT: usize = 16 * 1024;

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
    Connecting {
        /// Whether the forward proxy on the way has not let us through yet.
        awaits_proxy: bool,
    },
    Head {
        inbox: Vec<u8>,
        search: HeadSearch,
        interim_answers: u8,
    },
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
            stage: Stage::Connecting { awaits_proxy: ctx.config.forward_proxy.is_some() },
        }
    }

    /// The forward proxy has let us through: what is slow from here on is not its doing, for all it says.
    pub(super) fn tunneled(&mut self) {
        if let Stage::Connecting { awaits_proxy } = &mut self.stage {
            *awaits_proxy = false;
        }
    }

    /// The connection is ready: the request can go out.
    pub(super) fn connected(&mut self, ctx: &mut Context) {
        self.stage = Stage::Head { inbox: Vec::new(), search: HeadSearch::default(), interim_answers: 0 };
        ctx.run(self.conn);
    }

    /// What of the request is to be sent next.
    pub(super) fn pending_write(&self) -> &[u8] {
        let head_bytes = self.request_head.len();
        match &self.stage {
            Stage::Connecting { .. } => &[],
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
            Stage::Connecting { .. } | Stage::Held(_) => true,
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
            Stage::Connecting { .. } => timeouts.connect,
            Stage::Head { .. } if !self.is_sent() => timeouts.write,
            Stage::Head { .. } | Stage::Body(_) => timeouts.read,
            Stage::Held(_) => HELD_ANSWER_TIMEOUT,
        }
    }

    /// What a timeout amounts to.
    pub(super) fn timed_out(&self, timeouts: &Timeouts, now: Mono) -> Ending {
        let class = match &self.stage {
            Stage::Connecting { awaits_proxy: true } => FailureClass::ProxyTimeout,
            Stage::Connecting { awaits_proxy: false } => FailureClass::ConnectTimeout,
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
        self.job.answer_begins(now);
        self.stage = Stage::Body(Box::new(held.begin_replay(&self.job, None, outbox)));
        self.drop_what_no_try_needs();
        true
    }

    /// The same in one word, for people.
    pub(super) fn stage_name(&self) -> &'static str {
        match &self.stage {
            Stage::Connecting { .. } => "connecting",
            Stage::Head { .. } if !self.is_sent() => "sending",
            Stage::Head { .. } | Stage::Held(_) => "awaiting",
            Stage::Body(_) => "streaming",
        }
    }

    /// Since when the request is on its way.
    pub(super) fn admitted_at(&self) -> Mono {
        self.reservation.admitted_at()
    }

    /// When the first of the answer's text came, if some has.
    pub(super) fn first_token_at(&self) -> Option<Mono> {
        self.reservation.first_token_at()
    }

    /// The tokens that have come, by the length of the text.
    pub(super) fn generated_so_far(&self) -> u64 {
        let text = self.relay().and_then(|relay| relay.meter.generated_text());
        text.map_or(0, answering::generated_tokens)
    }

    /// How far the request has come in this try.
    pub(super) fn reach(&self) -> Reach {
        match &self.stage {
            Stage::Connecting { .. } => Reach::NeverReached,
            Stage::Head { .. } if self.sent_bytes == 0 => Reach::NeverReached,
            Stage::Head { .. } => Reach::MayHaveReached,
            Stage::Body(_) | Stage::Held(_) => Reach::Acknowledged,
        }
    }

    /// How many bytes of the response there is room for.
    pub(super) fn window(&self, outbox: &Outbox, is_tight: bool) -> usize {
        let bytes_max = if is_tight { RELAY_BYTES_MAX_TIGHT } else { RELAY_BYTES_MAX };
        match &self.stage {
            Stage::Connecting { .. } => 0,
            // A head and what is held back of an answer have bounds of their own.
            Stage::Head { .. } | Stage::Held(_) => bytes_max,
            Stage::Body(_) => bytes_max.saturating_sub(outbox.len()),
        }
    }

    /// The memory that it takes.
    pub(super) fn share(&self) -> Share {
        let answer_bytes = match &self.stage {
            Stage::Head { inbox, .. } => inbox.capacity(),
            Stage::Held(held) => held.held_bytes(),
            Stage::Connecting { .. } | Stage::Body(_) => 0,
        };
        let mut share = self.job.share();
        share.held_bytes += self.request_head.capacity() + answer_bytes;
        share
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
            Stage::Connecting { .. } => {
                unreachable!("the shell delivers nothing before the connection is ready")
            }
            Stage::Head { inbox, .. } => {
                inbox.extend_from_slice(bytes);
                self.receive_head(outbox, ctx, now)
            }
            Stage::Body(relay) => {
                relay.pass(bytes, outbox).map_err(|error| cut(error.to_string()))?;
                let ended = relay.is_ended();
                let seen = self.generated_so_far();
                ctx.admission.progressed(&mut self.reservation, seen, now.mono);
                Ok(if ended { Progress::Whole } else { Progress::More })
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
            Stage::Connecting { .. } | Stage::Head { .. } => {
                Err(Failure::new(FailureClass::ClosedBeforeHead, "closed without an answer"))
            }
        }
    }

    /// The connection failed, in the terms of how far the exchange had come: what breaks off within a
    /// body is a cut, however the shell came to know of it.
    pub(super) fn broke(&self, failure: Failure) -> Result<Progress, Failure> {
        let class = match &self.stage {
            Stage::Connecting { .. } => failure.class,
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
            Stage::Connecting { .. } | Stage::Head { .. } | Stage::Held(_) => None,
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
            Stage::Connecting { .. } | Stage::Head { .. } => Response::None,
        };
        (job, response, spent)
    }

    fn is_sent(&self) -> bool {
        self.sent_bytes == self.request_bytes
    }
}

fn cut(detail: String) -> Failure {
    Failure::new(FailureClass::CutInStream, detail)
}
