//! No proxy at all: every request goes straight out, and refusals go straight back.

use std::{collections::VecDeque, rc::Rc};

use fireworks_proxy::{budget::Tokens, time::Mono};

use super::Contestant;
use crate::{
    model::{Action, Answer, Refusal, Request},
    upstream::Upstream,
};

/// The absence of a policy.
#[derive(Debug, Default)]
pub(crate) struct Direct {
    actions: VecDeque<Action>,
}

impl Contestant for Direct {
    fn submit(&mut self, request: &Rc<Request>, _now: Mono) {
        self.actions.push_back(Action::Send(request.id));
    }

    fn answered(&mut self, id: u64, answer: &Answer, _now: Mono) {
        if answer.status != 200 {
            self.actions.push_back(Action::Refuse(id, Refusal { retry_after: None, is_upstreams: true }));
        }
    }

    fn ended(&mut self, id: u64, _used: Tokens, _now: Mono) {
        self.actions.push_back(Action::Finish(id));
    }

    fn next_action(&mut self, _upstream: &Upstream, _now: Mono) -> Option<Action> {
        self.actions.pop_front()
    }
}
