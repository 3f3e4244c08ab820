//! What a session shows of its request to who looks.

use std::time::Duration;

use super::{Phase, Session, exchange::Exchange, job::Job};
use crate::{
    admission::Expected,
    budget::Refusal,
    event::ConnId,
    inspect::client_name,
    status::live::{After, HeldBy, Running, Waiting, Who},
    time::Mono,
};

impl Session {
    /// Its request, if that waits in the queue, with what is expected of it there.
    pub fn queued(
        &self,
        expected: Expected<ConnId>,
        refusal: Option<Refusal>,
        now: Mono,
    ) -> Option<Waiting<'_>> {
        let Phase::Queued(job, _) = &self.phase else { return None };
        let by = HeldBy::Queue(expected, refusal);
        Some(Waiting { who: who(job, true, now), gives_up_at: self.deadline, by })
    }

    /// Its request, if that pauses before it is tried again.
    pub fn paused(&self, now: Mono) -> Option<Waiting<'_>> {
        let Phase::Paused(job) = &self.phase else { return None };
        let of_answer = job.last_answer.as_ref().map(|answer| After::Status(answer.status()));
        let after = job.last_failure.as_ref().map(After::Failure).or(of_answer)?;
        let by = HeldBy::Pause(self.deadline, after);
        Some(Waiting { who: who(job, true, now), gives_up_at: job.hold_until, by })
    }

    /// Its request, if that is at the upstream.
    pub fn running(&self, now: Mono) -> Option<Running<'_>> {
        let Phase::Exchange(exchange) = &self.phase else { return None };
        Some(running(exchange, now))
    }
}

fn running(exchange: &Exchange, now: Mono) -> Running<'_> {
    Running {
        who: who(&exchange.job, false, now),
        stage: exchange.stage_name(),
        admitted_at: exchange.admitted_at(),
        first_token_at: exchange.first_token_at(),
        generated: exchange.generated_so_far(),
    }
}

fn who(job: &Job, is_held: bool, now: Mono) -> Who<'_> {
    let held_for = if is_held { now.since(job.held_since) } else { Duration::ZERO };
    Who {
        id: job.id,
        model: job.model.as_deref(),
        agent_session: job.agent_session.as_deref(),
        client: client_name(&job.head.fields),
        waited: job.waited + held_for,
        retries: job.retries,
    }
}
