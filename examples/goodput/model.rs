//! What the parts of the bench speak of: requests, the three dimensions, and what a request costs.

use std::{rc::Rc, time::Duration};

use fireworks_proxy::{budget::Tokens, time::Mono};

/// One model call of a workload, with everything that only the oracle may know.
#[derive(Debug)]
pub(crate) struct Request {
    /// Names it; never reused.
    pub(crate) id: u64,
    /// The terminal that it is of, among which fairness is measured.
    pub(crate) agent: usize,
    /// The conversation within the workload that waits for it.
    pub(crate) thread: usize,
    /// How the session is named on the wire.
    pub(crate) session: String,
    /// What the prompt is made of, in order. The same id means the same text behind the same prefix.
    pub(crate) blocks: Vec<Block>,
    /// The tokens of all blocks.
    pub(crate) prompt: u64,
    /// What the model will generate.
    pub(crate) generated: u64,
    /// What the client allows it to generate.
    pub(crate) max_tokens: Option<u64>,
    /// What is drawn by chance for it, its speed for example, is drawn from this: it depends on the step of the
    /// conversation and not on when that is reached, so that the same step costs every contestant the same.
    pub(crate) luck: u64,
    /// The body as JSON, in pieces.
    pub(crate) body: Vec<Rc<str>>,
}

impl Request {
    /// The characters of the body, which is what a policy that does not look into it goes by.
    pub(crate) fn body_chars(&self) -> u64 {
        self.body.iter().map(|piece| piece.chars().count() as u64).sum()
    }

    /// The length of the body.
    pub(crate) fn body_bytes(&self) -> usize {
        self.body.iter().map(|piece| piece.len()).sum()
    }
}

/// A part of a prompt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// Says which text it is, and what came before it.
    pub(crate) id: u64,
    /// Its tokens.
    pub(crate) tokens: u64,
}

/// How an admitted request will go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    /// What it costs.
    pub(crate) tokens: Tokens,
    /// From its arrival to its first token.
    pub(crate) to_first_token: Duration,
    /// From its arrival to its end.
    pub(crate) to_end: Duration,
}

/// What the upstream says to a request at once.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// 200, 429 or 503.
    pub(crate) status: u16,
    /// The rate-limit fields.
    pub(crate) fields: Vec<(&'static str, u64)>,
    /// How it goes on, for a 200.
    pub(crate) course: Option<Course>,
}

/// What the bench is told to do by a contestant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Action {
    /// Send the request of this id to the upstream.
    Send(u64),
    /// The client has its answer.
    Finish(u64),
    /// The client is refused.
    Refuse(u64, Refusal),
}

/// An error answer, as a client gets it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// When to come again, if it says so.
    pub(crate) retry_after: Option<Duration>,
    /// Whether it is the upstream's own 429 or 503, passed on.
    pub(crate) is_upstreams: bool,
}

/// From sending a request to its arrival: a connection, a TLS handshake, half a round trip.
pub(crate) const TO_UPSTREAM: Duration = Duration::from_millis(150);

/// From the upstream back.
pub(crate) const FROM_UPSTREAM: Duration = Duration::from_millis(40);

/// Seconds as a span; a negative number is none.
pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.max(0.0))
}

/// A point in time, from seconds.
pub(crate) fn at(from_start: f64) -> Mono {
    Mono::ZERO + seconds(from_start)
}

/// Rounds to whole tokens, at least one.
pub(crate) fn tokens(count: f64) -> u64 {
    whole(count.round().max(1.0))
}

/// Cuts to a whole number; a negative one is none.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // What the cast does is what is wanted.
pub(crate) fn whole(number: f64) -> u64 {
    number as u64
}

/// A count as a number to calculate with.
#[allow(clippy::cast_precision_loss)] // No count here comes near 2^53.
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}
