//! What is asked for: agents that work in a closed loop, or a recorded trace.

pub(crate) mod agents;
pub(crate) mod conversation;
pub(crate) mod trace;

use fireworks_proxy::time::Mono;

use crate::model::Request;

/// A source of requests.
pub(crate) trait Workload {
    /// When the next request is due, as far as that is known by now.
    fn next_due(&self) -> Option<Mono>;

    /// The next request that is due at `now`.
    fn take_due(&mut self, now: Mono) -> Option<Request>;

    /// When the run ends at the latest, if the workload does.
    fn ends(&self) -> Option<Mono>;

    /// A request was answered.
    fn answered(&mut self, request: &Request, now: Mono);

    /// Whether who asked for a request asks again after it was refused for good. A person does; a trace does not.
    fn comes_back(&self) -> bool;
}
