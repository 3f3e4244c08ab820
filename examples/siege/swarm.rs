//! Thousands of connections in one thread.
//!
//! The thread does what is due, sleeps, and looks again: what is measured is the proxy, so the attackers take as little
//! of the machine as they can. Nothing here waits for a socket but a connect, which on loopback takes no time.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::common::ending::Ending;
use crate::connection::{Connection, Manner, Progress, Reading};

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(10);

/// How many of them there are at most.
const TICKS_PER_SECOND: usize = 100;

/// How a swarm is to be.
pub(crate) struct Swarm {
    pub(crate) proxy: SocketAddr,
    /// How many connections there are at once, with those that are replaced when they end.
    pub(crate) connections: usize,
    /// How many are opened in a second.
    pub(crate) opened_per_second: usize,
    pub(crate) manner: Manner,
}

/// What a swarm has done so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Connections that are open.
    pub(crate) open: usize,
    /// Connections that were opened.
    pub(crate) opened: usize,
    /// Connections that the proxy ended before they had done what they were to do.
    pub(crate) ended: usize,
    /// Bytes sent and read on connections that are closed.
    pub(crate) bytes: u64,
    /// What those got that read their answers, each to its end.
    pub(crate) answers: Vec<Vec<u8>>,
    /// Why the last connection could not be opened.
    pub(crate) trouble: Option<String>,
}

impl Swarm {
    /// Attacks until it is told to end, and then closes every connection.
    pub(crate) fn run(&self, ending: &Ending, tally: &Mutex<Tally>) {
        let mut connections = Vec::new();
        loop {
            let now = Instant::now();
            self.open(&mut connections, tally);
            self.step(&mut connections, now, tally);
            tally.lock().unwrap_or_else(PoisonError::into_inner).open = connections.len();
            if ending.pause(TICK).is_err() {
                let bytes: u64 = connections.iter().map(|connection| connection.moved).sum();
                tally.lock().unwrap_or_else(PoisonError::into_inner).bytes += bytes;
                return;
            }
        }
    }

    /// Whether a connection that is over makes room for another.
    fn replaces(&self) -> bool {
        !matches!(self.manner.reading, Reading::Whole)
    }

    /// Opens as many as are missing, and no more than a tick's share.
    fn open(&self, connections: &mut Vec<Connection>, tally: &Mutex<Tally>) {
        for _ in 0..self.opened_per_second.div_ceil(TICKS_PER_SECOND) {
            let opened = tally.lock().unwrap_or_else(PoisonError::into_inner).opened;
            let there = if self.replaces() { connections.len() } else { opened };
            if there >= self.connections {
                return;
            }
            let result = Connection::open(self.proxy, &self.manner, opened);
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(connection) => {
                    tally.opened += 1;
                    connections.push(connection);
                }
                Err(error) => {
                    tally.trouble = Some(error.to_string());
                    return;
                }
            }
        }
    }

    fn step(&self, connections: &mut Vec<Connection>, now: Instant, tally: &Mutex<Tally>) {
        connections.retain_mut(|connection| {
            let progress = connection.step(&self.manner, now);
            if matches!(progress, Progress::More) {
                return true;
            }
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.bytes += connection.moved;
            tally.ended += usize::from(matches!(progress, Progress::Ended));
            if !self.replaces() {
                tally.answers.push(std::mem::take(&mut connection.answer));
            }
            false
        });
    }
}
