//! The requests under way, one by one: the rows `waiting` and `running` of `/usage`.
//!
//! They are gathered when somebody looks, and cost nothing otherwise.

use std::time::Duration;

use serde_json::{Value, json};

use super::seconds;
use crate::{
    admission::Expected,
    budget::{Refusal, Tokens},
    context::{Context, RequestId},
    event::ConnId,
    failure::Failure,
    time::Mono,
};

/// The most requests that a list shows; the counts are of all.
pub const ROWS_MAX: usize = 100;

/// A request, as far as it can be told from others by people.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// Its id, which the log and the answer have too.
    pub id: RequestId,
    /// The model.
    pub model: Option<&'a str>,
    /// The session of the agent.
    pub agent_session: Option<&'a str>,
    /// The program that sent it, as it names itself.
    pub client: Option<&'a str>,
    /// How long it has waited in the queue and in pauses.
    pub waited: Duration,
    /// How often it was tried again.
    pub retries: u32,
}

/// A request that is kept from the upstream.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<'a> {
    /// Which one.
    pub who: Who<'a>,
    /// When its time is over.
    pub gives_up_at: Mono,
    /// By what.
    pub by: HeldBy<'a>,
}

/// What keeps a request from the upstream.
#[derive(Debug, Clone, Copy)]
pub enum HeldBy<'a> {
    /// The queue; what is expected of it there, and what its lane waits for, if that is known.
    Queue(Expected<ConnId>, Option<Refusal>),
    /// A pause before it is tried again, after a failure or an answer with this status.
    Pause(Mono, After<'a>),
}

/// What was met before a pause.
#[derive(Debug, Clone, Copy)]
pub enum After<'a> {
    /// A refusal of the upstream.
    Status(u16),
    /// No answer.
    Failure(&'a Failure),
}

/// A request that is at the upstream, or on its way there.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// Which one.
    pub who: Who<'a>,
    /// How far it has come: `connecting`, `sending`, `awaiting` or `streaming`.
    pub stage: &'static str,
    /// Since when.
    pub admitted_at: Mono,
    /// When the first of its text came, if some has.
    pub first_token_at: Option<Mono>,
    /// The tokens that have come, by the length of the text.
    pub generated: u64,
}

/// Every request under way, as far as there is room to show them.
#[derive(Debug, Default)]
pub struct Live<'a> {
    /// Those that wait; those that will probably start first, first.
    pub waiting: Vec<Waiting<'a>>,
    /// Those that run, the oldest first.
    pub running: Vec<Running<'a>>,
}

impl Live<'_> {
    pub(super) fn waiting(&self, now: Mono) -> Vec<Value> {
        self.waiting.iter().map(|request| waiting(request, now)).collect()
    }

    pub(super) fn running(&self, now: Mono) -> Vec<Value> {
        self.running.iter().map(|request| running(request, now)).collect()
    }
}

impl Waiting<'_> {
    /// How long it will probably wait from now on.
    pub fn expected_wait(&self, now: Mono) -> Duration {
        match self.by {
            HeldBy::Queue(expected, _) => expected.forecast.wait,
            HeldBy::Pause(until, _) => until.since(now),
        }
    }
}

fn waiting(request: &Waiting<'_>, now: Mono) -> Value {
    let (state, waits_for, reason, tokens) = match &request.by {
        HeldBy::Queue(expected, refusal) => {
            let (waits_for, reason) = queued(expected, *refusal);
            ("queued", waits_for, reason, Some(expected.forecast.tokens))
        }
        HeldBy::Pause(_, after) => ("paused", Some("retry"), paused(*after), None),
    };
    let mut row = who(&request.who);
    row["state"] = state.into();
    row["expected_wait_seconds"] = seconds(request.expected_wait(now)).into();
    row["gives_up_in_seconds"] = seconds(request.gives_up_at.since(now)).into();
    row["waits_for"] = waits_for.into();
    row["reason"] = reason.into();
    row["estimated_tokens"] = tokens.map_or(Value::Null, estimated_tokens);
    row
}

/// What a queued request waits for, as a code and in words.
fn queued(expected: &Expected<ConnId>, refusal: Option<Refusal>) -> (Option<&'static str>, String) {
    let what = refusal.map(|refusal| refusal.waits_for);
    match (expected.is_next, what) {
        (true, Some(what)) => {
            (Some(what.name()), format!("next of its model; waits for {}", what.in_words()))
        }
        (false, Some(what)) => {
            (Some("turn"), format!("waits for its turn; its model waits for {}", what.in_words()))
        }
        (_, None) => (None, "about to start".to_owned()),
    }
}

fn paused(after: After<'_>) -> String {
    match after {
        After::Status(429) => "to be tried again: Fireworks answered 429, too many requests".to_owned(),
        After::Status(status) => format!("to be tried again: Fireworks answered {status}"),
        After::Failure(failure) => format!("to be tried again after {}", failure.class.name()),
    }
}

fn estimated_tokens(tokens: Tokens) -> Value {
    json!({
        "prompt": tokens.prompt,
        "uncached_prompt": tokens.uncached_prompt,
        "generated": tokens.generated,
    })
}

fn running(request: &Running<'_>, now: Mono) -> Value {
    let streaming_for = request.first_token_at.map(|at| now.since(at));
    let first_token_after = request.first_token_at.map(|at| at.since(request.admitted_at));
    let mut row = who(&request.who);
    row["state"] = request.stage.into();
    row["running_seconds"] = seconds(now.since(request.admitted_at)).into();
    row["first_token_seconds"] = first_token_after.map(seconds).into();
    row["generated_tokens"] = request.generated.into();
    row["tokens_per_second"] = streaming_for.and_then(|span| rate(request.generated, span)).into();
    row
}

/// Tokens per second to one decimal, once there has been a second of them.
#[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
fn rate(tokens: u64, span: Duration) -> Option<f64> {
    let is_long_enough = span >= Duration::from_secs(1);
    is_long_enough.then(|| (tokens as f64 / span.as_secs_f64() * 10.0).round() / 10.0)
}

fn who(who: &Who<'_>) -> Value {
    json!({
        "id": who.id.to_string(),
        "model": who.model,
        "session": who.agent_session,
        "client": who.client,
        "waited_seconds": seconds(who.waited),
        "retries": who.retries,
    })
}

/// What the queue is expected to do, for the requests that are shown of it.
pub fn expected(ctx: &mut Context, now: Mono) -> Vec<(Expected<ConnId>, Option<Refusal>)> {
    let expected = ctx.admission.forecast(ROWS_MAX, now);
    expected.into_iter().map(|expected| (expected, ctx.admission.refusal_of(expected.lane))).collect()
}
