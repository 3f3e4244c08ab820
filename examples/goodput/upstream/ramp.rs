//! The rule against starts that rise too fast: 25 to 349 requests a minute within six minutes drew refusals at an
//! eighth of the limits, so no more than a doubling within a minute is let in, from a floor on.

use std::{collections::VecDeque, time::Duration};

use fireworks_proxy::time::Mono;

use crate::model::float;

/// The span in which starts are counted as the present rate.
const PRESENT: Duration = Duration::from_secs(10);
/// The span before it that they are compared with.
const PAST: Duration = Duration::from_secs(60);
/// So many starts within [`PRESENT`] are always let in.
const FLOOR: f64 = 12.0;
const RISE: f64 = 2.0;

/// The starts of the last minute and a bit.
#[derive(Debug)]
pub(crate) struct Ramp {
    holds: bool,
    arrivals: VecDeque<Mono>,
}

impl Ramp {
    /// No starts yet; the rule may not hold at all.
    pub(crate) fn new(holds: bool) -> Self {
        Self { holds, arrivals: VecDeque::new() }
    }

    /// A request has come, and counts even if it is refused.
    pub(crate) fn arrived(&mut self, now: Mono) {
        self.arrivals.push_back(now);
        while self.arrivals.front().is_some_and(|at| *at + PRESENT + PAST <= now) {
            self.arrivals.pop_front();
        }
    }

    /// Whether one more is refused now, with so many others on their way.
    pub(crate) fn refuses(&self, now: Mono, in_transit: usize) -> bool {
        if !self.holds {
            return false;
        }
        let present = self.arrivals.iter().rev().take_while(|at| **at + PRESENT > now).count();
        let past = self.arrivals.iter().filter(|at| **at + PRESENT <= now && **at + PRESENT + PAST > now);
        let usual = float(past.count() as u64) * PRESENT.as_secs_f64() / PAST.as_secs_f64();
        float((present + in_transit) as u64) >= (usual * RISE).max(FLOOR)
    }
}
