//! What became of every request: as its agent saw it, and as the fake did.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::support::fake::{Fault, RecordedRequest};
use crate::work::ID_HEADER;

/// How far a request had come when its agent left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It was not sent whole.
    Upload,
    /// There was no head of an answer.
    Waiting,
    /// There was a head.
    Answer,
}

/// How a request ended for its agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With the whole answer, which says what it should.
    Whole,
    /// The answer broke off, visibly, and said what it should up to there.
    Cut,
    /// With an error: a status from 400 up.
    Status {
        status: u16,
        /// The code of the proxy's own errors; None for one of the upstream.
        own_code: Option<String>,
    },
    /// The agent left on purpose.
    Left(Stage),
    /// The run ended before the request.
    Interrupted(Stage),
    /// The answer ended as if it were whole, or said what it should not; with what was wrong.
    Corrupt(String),
    /// The connection ended without any answer; with how.
    NoAnswer(String),
    /// Nothing came for too long.
    Hung(Stage),
    /// No connection; with why.
    NotConnected(String),
}

/// What the head of an answer said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadSeen {
    /// When it came, from the end of the request.
    pub(crate) after: Duration,
    /// `x-fireworks-proxy-retries`: how often the proxy tried again.
    pub(crate) retries: Option<u64>,
    /// `x-fireworks-proxy-wait-ms`: how long the proxy kept the request back.
    pub(crate) kept_back: Option<Duration>,
}

/// One request as its agent saw it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) agent: usize,
    pub(crate) head: Option<HeadSeen>,
    pub(crate) outcome: Outcome,
}

/// The records of all agents.
#[derive(Default)]
pub(crate) struct Books(Mutex<Vec<Record>>);

impl Books {
    pub(crate) fn enter(&self, record: Record) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    /// How many records there are of which kind.
    pub(crate) fn tally(&self) -> Tally {
        Tally::of(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn into_records(self) -> Vec<Record> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records by how they ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) all: u64,
    pub(crate) whole: u64,
    pub(crate) cut: u64,
    /// Errors of the upstream's that reached an agent.
    pub(crate) upstream_errors: u64,
    /// Failures on the way to the upstream or back that the proxy told of.
    pub(crate) own_failures: u64,
    /// Refusals of the proxy's own.
    pub(crate) own_refusals: u64,
    /// Left on purpose or interrupted, before the request was sent whole.
    pub(crate) unsent: u64,
    /// Left on purpose or interrupted, after that.
    pub(crate) left: u64,
    /// What must not be.
    pub(crate) broken: u64,
    /// Statuses from 400 up, as the agents saw them.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Retries that the heads told of.
    pub(crate) retries: u64,
}

impl Tally {
    pub(crate) fn of(records: &[Record]) -> Self {
        let mut tally = Self { all: records.len() as u64, ..Self::default() };
        for record in records {
            tally.retries += record.head.and_then(|head| head.retries).unwrap_or(0);
            *match &record.outcome {
                Outcome::Whole => &mut tally.whole,
                Outcome::Cut => &mut tally.cut,
                Outcome::Status { status, own_code } => {
                    *tally.statuses.entry(*status).or_default() += 1;
                    match own_code {
                        None => &mut tally.upstream_errors,
                        Some(_) if [502, 504].contains(status) => &mut tally.own_failures,
                        Some(_) => &mut tally.own_refusals,
                    }
                }
                Outcome::Left(Stage::Upload) | Outcome::Interrupted(Stage::Upload) => &mut tally.unsent,
                Outcome::Left(_) | Outcome::Interrupted(_) => &mut tally.left,
                Outcome::Corrupt(_) | Outcome::NoAnswer(_) | Outcome::Hung(_) | Outcome::NotConnected(_) => {
                    &mut tally.broken
                }
            } += 1;
        }
        tally
    }
}

/// One request of the proxy's as the fake saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) fault: Option<Fault>,
    /// What it was answered with.
    pub(crate) status: u16,
}

impl Attempt {
    /// Whether the fake sent a whole good answer, as far as it was let.
    pub(crate) fn is_good(self) -> bool {
        self.status == 200 && !self.fault.is_some_and(Fault::is_fatal)
    }
}

/// What the fake saw of each agent's request, in order of arrival, by the request's number.
pub(crate) fn attempts_by_id(requests: &[RecordedRequest]) -> BTreeMap<u64, Vec<Attempt>> {
    let mut by_id: BTreeMap<u64, Vec<Attempt>> = BTreeMap::new();
    for request in requests {
        if let Some(id) = request.header(ID_HEADER).and_then(|id| id.parse().ok()) {
            let attempt = Attempt { fault: request.fault, status: request.status.unwrap_or(0) };
            by_id.entry(id).or_default().push(attempt);
        }
    }
    by_id
}
