//! What has happened lately, for who has to find out why, and a number that stands for all that ever did.

use std::collections::{BTreeMap, VecDeque};

use fireworks_proxy::{event::ConnId, time::Mono};

/// How many of the latest events a failure shows.
const SHOWN: usize = 30;

#[derive(Debug, Clone, Copy)]
struct Event {
    at: Mono,
    conn: u64,
    what: &'static str,
    amount: u64,
}

/// The latest events of one run.
#[derive(Debug, Default)]
pub struct History {
    latest: VecDeque<Event>,
    /// FNV-1a of every event.
    pub hash: u64,
    pub events: u64,
    /// How often each thing happened.
    pub seen: BTreeMap<String, u64>,
}

impl History {
    pub fn note(&mut self, at: Mono, conn: ConnId, what: &'static str, amount: usize) {
        let amount = amount as u64;
        self.events += 1;
        self.mix(at.as_micros());
        self.mix(conn.as_u64() << 32 | amount);
        self.mix(u64::from(what.as_bytes()[0]) << 8 | what.len() as u64);
        if self.latest.len() == SHOWN {
            self.latest.pop_front();
        }
        self.latest.push_back(Event { at, conn: conn.as_u64(), what, amount });
    }

    pub fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
    }

    pub fn saw(&mut self, what: &str) {
        if let Some(count) = self.seen.get_mut(what) {
            *count += 1;
        } else {
            self.seen.insert(what.to_owned(), 1);
        }
    }

    /// The latest events, one to a line.
    pub fn tail(&self) -> String {
        let line = |event: &Event| {
            let seconds = event.at.since(Mono::ZERO).as_secs_f64();
            format!("{seconds:>14.6} s  #{:<5} {} {}\n", event.conn, event.what, event.amount)
        };
        self.latest.iter().map(line).collect()
    }
}
