//! The timer wheel against an ordered map, as a list of operations.

use std::{collections::BTreeMap, time::Duration};

use fireworks_proxy::{
    queue::wheel::{TimerKey, Wheel},
    time::Mono,
};

use super::{Outcome, operations::Operations};

/// Spans reach about so far: 2^52 microseconds are 142 years, more than the wheel itself tells apart.
const SPAN_BITS_MAX: u32 = 52;

/// A timer is sorted into a finer slot at most so often before it fires: once for each of the six levels each
/// time that the wheel has to go around for it, which takes 2^45 microseconds.
const SORTINGS_MAX: usize = 6 * (1 << (SPAN_BITS_MAX + 1 - 45));

/// Each timer has a number, which is also its payload.
#[derive(Default)]
struct Model {
    wheel: Wheel<usize>,
    /// Those that are set, the earliest first.
    set: BTreeMap<(Mono, usize), TimerKey>,
    /// All that there ever were.
    all: Vec<(Mono, TimerKey)>,
    now: Mono,
}

/// `data` is the operations.
pub fn timer_wheel(data: &[u8]) -> Outcome {
    let mut model = Model::default();
    let mut operations = Operations::new(data);
    while let Some(operation) = operations.next() {
        match operation % 8 {
            0 | 1 => model.insert(model.now + operations.span(SPAN_BITS_MAX)),
            2 => model.insert(Mono::from_micros(operations.number(u64::BITS))),
            3 => model.remove(operations.byte()),
            4 => drop(model.poll()),
            5 => model.pass(model.now + operations.span(SPAN_BITS_MAX)),
            6 => model.pass_to_next(),
            _ => model.insert(model.now + Duration::from_micros(operations.byte().into())),
        }
        model.check();
    }
    model.run_out();
    Outcome::Accepted
}

impl Model {
    fn insert(&mut self, deadline: Mono) {
        let number = self.all.len();
        let key = self.wheel.insert(deadline, number);
        self.all.push((deadline, key));
        self.set.insert((deadline, number), key);
    }

    /// Takes back a timer, whether it is set or not.
    fn remove(&mut self, index: u8) {
        let Some(number) = usize::from(index).checked_rem(self.all.len()) else { return };
        let (deadline, key) = self.all[number];
        let expected = self.set.remove(&(deadline, number)).map(|_| number);
        assert_eq!(self.wheel.remove(key), expected);
    }

    fn earliest(&self) -> Option<Mono> {
        self.set.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Asks for one timer: the earliest that is due, any of those that are due at the same time.
    fn poll(&mut self) -> bool {
        let earliest = self.earliest().filter(|earliest| *earliest <= self.now);
        let fired = self.wheel.poll(self.now);
        let deadline = fired.map(|number| self.all[number].0);
        assert_eq!(deadline, earliest, "{fired:?} at {:?}", self.now);
        if let Some((number, deadline)) = fired.zip(deadline) {
            assert!(self.set.remove(&(deadline, number)).is_some(), "{number} fires though it is not set");
        }
        fired.is_some()
    }

    /// The core asks until nothing more is due before it lets time pass again.
    fn pass(&mut self, to: Mono) {
        self.now = self.now.max(to);
        while self.poll() {}
    }

    fn pass_to_next(&mut self) {
        if let Some((at, _)) = self.wheel.next_expiration() {
            self.pass(at);
        }
    }

    fn check(&self) {
        assert_eq!((self.wheel.len(), self.wheel.is_empty()), (self.set.len(), self.set.is_empty()));
        let next = self.wheel.next_expiration();
        assert_eq!(next.is_some(), !self.set.is_empty());
        if let (Some((at, number)), Some(earliest)) = (next, self.earliest()) {
            assert!(at <= earliest, "the next poll is too late for {earliest:?}");
            assert!(self.set.contains_key(&(self.all[*number].0, *number)), "{number} is not set");
        }
    }

    /// Who asks at the times that it is told, and no others, meets every timer, and is not woken too often.
    /// Timers at the end of time are left alone: it would take the wheel a million rounds to get there.
    fn run_out(&mut self) {
        let horizon = self.now + Duration::from_micros(1 << (SPAN_BITS_MAX + 1));
        let polls_max = self.set.len() * SORTINGS_MAX;
        for _ in 0..polls_max {
            if self.earliest().is_none_or(|earliest| earliest > horizon) {
                return;
            }
            self.pass_to_next();
            self.check();
        }
        assert_eq!(self.earliest().filter(|earliest| *earliest <= horizon), None, "after {polls_max} polls");
    }
}
