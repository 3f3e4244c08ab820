//! Those who decide when a request goes out.

pub(crate) mod direct;
pub(crate) mod fixed;
pub(crate) mod oracle;
pub(crate) mod ours;

use std::rc::Rc;

use fireworks_proxy::{budget::Tokens, time::Mono};

use crate::{
    model::{Action, Answer, Request},
    upstream::{Upstream, limits::Tpm},
};

/// One way to decide.
pub(crate) trait Contestant {
    /// A client asks.
    fn submit(&mut self, request: &Rc<Request>, now: Mono);

    /// The head of the answer to a request is here.
    fn answered(&mut self, id: u64, answer: &Answer, now: Mono);

    /// So many more tokens have been generated.
    fn progressed(&mut self, _id: u64, _more: u64, _now: Mono) {}

    /// The answer is whole, and this is what it reports.
    fn ended(&mut self, id: u64, used: Tokens, now: Mono);

    /// Time has passed.
    fn wake(&mut self, _now: Mono) {}

    /// When to be woken although nothing happens.
    fn next_wake(&self) -> Option<Mono> {
        None
    }

    /// What it takes the limits for, if it has an opinion.
    fn believed_limits(&mut self, _now: Mono) -> Option<Tpm> {
        None
    }

    /// What is to be done. Only the oracle looks at the upstream.
    fn next_action(&mut self, upstream: &Upstream, now: Mono) -> Option<Action>;
}
