//! What the fake's threads share: records, statistics, gates, limits.
//!
//! One mutex and one condition variable that is notified after every change, so a test waits for a condition and
//! never sleeps. Refuses to touch sockets, except to shut them all down at the end.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::cache::PrefixCache;
use super::faults::Fault;
use super::limits::{Dimension, Limiter};
use super::link::Inbox;
use super::request::{Outcome, RecordedRequest};

/// What the fake has counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Connections accepted so far.
    pub connections: u64,
    /// Connections whose end (by either side) has not been seen.
    pub connections_open: u64,
    /// Connections that failed in the TLS handshake.
    pub handshakes_failed: u64,
    /// Requests received whole.
    pub requests: u64,
    /// Requests being answered at this moment.
    pub in_flight: u64,
    /// The most requests ever answered at one moment.
    pub in_flight_peak: u64,
    /// Requests waiting at a gate at this moment.
    pub at_gate: u64,
    /// Answers with status 200, counted when decided.
    pub ok: u64,
    /// Answers by status, 200 and 429 included, counted when decided.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests refused by the limits, by what refused them. A scripted 429 is not among them.
    pub refused: BTreeMap<Dimension, u64>,
    /// Requests struck by a random fault, by which.
    pub faults: BTreeMap<Fault, u64>,
    /// Answers sent to the last byte.
    pub completed: u64,
    /// Answers not finished because the peer went away.
    pub cancelled: u64,
    /// Answers cut on purpose.
    pub cut: u64,
    /// Requests that were not valid HTTP.
    pub malformed: u64,
    /// What was wrong with the last of them, or with the last unreadable script.
    pub last_complaint: Option<String>,
    /// Requests whose `x-fake-*` headers could not be understood: a mistake in the test.
    pub script_errors: u64,
    /// Requests the peer left in the middle of.
    pub truncated: u64,
    /// Prompt tokens charged.
    pub prompt_tokens: u64,
    /// Uncached prompt tokens charged.
    pub uncached_tokens: u64,
    /// Generated tokens charged.
    pub generated_tokens: u64,
}

impl Statistics {
    /// Requests refused because of this dimension.
    pub fn refused_by(&self, dimension: Dimension) -> u64 {
        self.refused.get(&dimension).copied().unwrap_or_default()
    }

    /// Requests refused by the limits, whatever the dimension.
    pub fn refused_total(&self) -> u64 {
        self.refused.values().sum()
    }
}

/// Everything the threads share.
pub(super) struct State {
    pub(super) requests: Vec<RecordedRequest>,
    pub(super) statistics: Statistics,
    pub(super) limiter: Limiter,
    pub(super) cache: PrefixCache,
    /// How often each limited script (`x-fake-times`) was used.
    pub(super) script_uses: HashMap<String, u64>,
    pub(super) keep_bodies: bool,
    gates: VecDeque<Arc<Inbox>>,
    gates_open: bool,
    sockets: HashMap<u64, TcpStream>,
    threads: usize,
    stopping: bool,
}

impl State {
    /// What other programs are shown, as JSON.
    pub(super) fn page(&self) -> String {
        let request = |request: &RecordedRequest| json!({"method": request.method, "target": request.target, "status": request.status});
        json!({
            "requests": self.requests.iter().map(request).collect::<Vec<_>>(),
            "statuses": self.statistics.statuses,
            "malformed": self.statistics.malformed,
            "script_errors": self.statistics.script_errors,
            "last_complaint": self.statistics.last_complaint,
        })
        .to_string()
    }
}

/// The shared state behind its lock.
pub(super) struct Hub {
    state: Mutex<State>,
    changed: Condvar,
}

impl Hub {
    pub(super) fn new(limiter: Limiter, keep_bodies: bool) -> Self {
        let state = State {
            requests: Vec::new(),
            statistics: Statistics::default(),
            limiter,
            cache: PrefixCache::default(),
            script_uses: HashMap::new(),
            keep_bodies,
            gates: VecDeque::new(),
            gates_open: false,
            sockets: HashMap::new(),
            threads: 0,
            stopping: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Looks at the state without changing it.
    pub(super) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the state and tells everybody who waits.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until the condition holds; false when the time is over first.
    pub(super) fn wait(&self, timeout: Duration, mut holds: impl FnMut(&State) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            if holds(&state) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Enters a connection; None when the fake is stopping.
    pub(super) fn register(&self, socket: &TcpStream) -> Option<u64> {
        let socket = socket.try_clone().ok()?;
        self.update(|state| {
            if state.stopping {
                return None;
            }
            state.statistics.connections += 1;
            state.statistics.connections_open += 1;
            state.sockets.insert(state.statistics.connections, socket);
            Some(state.statistics.connections)
        })
    }

    /// Takes a connection out again.
    pub(super) fn unregister(&self, connection: u64) {
        self.update(|state| {
            if state.sockets.remove(&connection).is_some() {
                state.statistics.connections_open -= 1;
            }
        });
    }

    /// Records a request, and returns its number.
    pub(super) fn begin(&self, request: &RecordedRequest) -> usize {
        // A large body is not copied while others wait for the lock.
        let record = request.record(self.read(|state| state.keep_bodies));
        self.update(|state| {
            let number = state.requests.len();
            state.requests.push(RecordedRequest { number, ..record });
            let statistics = &mut state.statistics;
            statistics.requests += 1;
            statistics.in_flight += 1;
            statistics.in_flight_peak = statistics.in_flight_peak.max(statistics.in_flight);
            number
        })
    }

    /// Records how a request is going to be answered.
    pub(super) fn decide(&self, number: usize, status: u16, fault: Option<Fault>) {
        self.update(|state| {
            (state.requests[number].status, state.requests[number].fault) = (Some(status), fault);
            let statistics = &mut state.statistics;
            *statistics.statuses.entry(status).or_default() += 1;
            statistics.ok += u64::from(status == 200);
            if let Some(fault) = fault {
                *statistics.faults.entry(fault).or_default() += 1;
            }
        });
    }

    /// Records what became of an answer.
    pub(super) fn end(&self, number: usize, outcome: Outcome) {
        self.update(|state| {
            state.requests[number].outcome = outcome;
            state.statistics.in_flight -= 1;
            match outcome {
                Outcome::Answering => {}
                Outcome::Complete => state.statistics.completed += 1,
                Outcome::ClosedByPeer { .. } => state.statistics.cancelled += 1,
                Outcome::Cut => state.statistics.cut += 1,
            }
        });
    }

    /// Puts a connection at the gate; false when gates do not hold anybody.
    pub(super) fn enter_gate(&self, inbox: &Arc<Inbox>) -> bool {
        self.update(|state| {
            if state.gates_open {
                return false;
            }
            state.gates.push_back(Arc::clone(inbox));
            state.statistics.at_gate = state.gates.len() as u64;
            true
        })
    }

    /// Takes a connection away from the gate because its peer left.
    pub(super) fn leave_gate(&self, inbox: &Arc<Inbox>) {
        self.update(|state| {
            state.gates.retain(|waiting| !Arc::ptr_eq(waiting, inbox));
            state.statistics.at_gate = state.gates.len() as u64;
        });
    }

    /// Lets the first `most` waiting connections through; returns how many there were.
    pub(super) fn release(&self, most: usize) -> usize {
        self.update(|state| {
            let count = most.min(state.gates.len());
            state.gates.drain(..count).for_each(|inbox| inbox.release());
            state.statistics.at_gate = state.gates.len() as u64;
            count
        })
    }

    /// Lets everybody through from now on.
    pub(super) fn open_gates(&self) {
        self.update(|state| state.gates_open = true);
        self.release(usize::MAX);
    }

    /// True once [`Hub::stop`] was called.
    pub(super) fn is_stopping(&self) -> bool {
        self.read(|state| state.stopping)
    }

    /// Ends every connection, and with them their threads.
    pub(super) fn stop(&self) {
        self.update(|state| {
            state.stopping = true;
            for socket in state.sockets.values() {
                let _ = socket.shutdown(Shutdown::Both);
            }
        });
    }

    /// Waits until every thread of the fake has ended.
    pub(super) fn wait_for_threads(&self, timeout: Duration) -> bool {
        self.wait(timeout, |state| state.threads == 0)
    }

    /// Starts a thread that is counted until it ends, even by a panic.
    pub(super) fn spawn(self: &Arc<Self>, name: &str, body: impl FnOnce() + Send + 'static) {
        self.update(|state| state.threads += 1);
        let counted = Counted(Arc::clone(self));
        let run = move || {
            let _counted = counted;
            body();
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .expect("the system gives another thread");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running thread, as long as it lives.
struct Counted(Arc<Hub>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.update(|state| state.threads -= 1);
    }
}
