//! What is told of a request when it has ended: gathered from however much of it was read.

use std::time::Duration;

use super::job::{Job, Upload};
use crate::{
    context::{Context, RequestId},
    failure::Reach,
    http::head::RequestHead,
    inspect::client_name,
    route::Dialect,
    status::{AccessRecord, End},
    time::{Mono, Now},
};

/// A request that was not read whole, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unread<'a> {
    pub(super) id: RequestId,
    /// Its head, if that could be read.
    pub(super) head: Option<&'a RequestHead>,
    pub(super) dialect: Dialect,
    /// When its head was there, or was given up.
    arrived: Mono,
}

impl<'a> Unread<'a> {
    /// One of which there is no head.
    pub(super) fn unknown(ctx: &mut Context, now: Now) -> Self {
        let id = ctx.next_request_id();
        Self { id, head: None, dialect: Dialect::OpenAi, arrived: now.mono }
    }

    /// One of which there is no more than the head.
    pub(super) fn of_head(head: &'a RequestHead, ctx: &mut Context, now: Now) -> Self {
        Self { head: Some(head), dialect: Dialect::of(&head.target), ..Self::unknown(ctx, now) }
    }

    /// One whose body did not come to its end.
    pub(super) fn of_upload(upload: &'a Upload) -> Self {
        let Upload { id, head, forward, arrived, .. } = upload;
        Self { id: *id, head: Some(head), dialect: forward.dialect, arrived: *arrived }
    }

    /// What the log says of it.
    pub(super) fn record(&self, end: End, now: Now) -> AccessRecord<'a> {
        AccessRecord {
            id: self.id,
            method: self.head.map(|head| &*head.method),
            path: self.head.map(RequestHead::path),
            client: self.head.and_then(|head| client_name(&head.fields)),
            model: None,
            credential: None,
            agent_session: None,
            is_stream: false,
            waited: Duration::ZERO,
            first_byte: None,
            took: now.mono.since(self.arrived),
            status: None,
            tokens: None,
            retries: 0,
            end,
            reach: Reach::NeverReached,
            message: None,
        }
    }
}

/// What the log says of a request that was read whole.
pub(super) fn record_of(job: &Job, end: End, now: Now) -> AccessRecord<'_> {
    AccessRecord {
        id: job.id,
        method: Some(&job.head.method),
        path: Some(job.head.path()),
        client: client_name(&job.head.fields),
        model: job.model.as_deref(),
        credential: job.credential,
        agent_session: job.agent_session.as_deref(),
        is_stream: job.is_stream,
        waited: job.waited,
        first_byte: job.first_byte,
        took: now.mono.since(job.arrived),
        status: None,
        tokens: None,
        retries: job.retries,
        end,
        reach: job.reach,
        message: None,
    }
}
