//! A rolling window of tokens over the last minute.

use std::{collections::VecDeque, time::Duration};

use crate::time::Mono;

/// Fireworks counts tokens per minute.
const WINDOW: Duration = Duration::from_secs(60);

/// Tokens that came within one such span leave together, which bounds the memory of a window to
/// about 250 sums however many requests there are.
const SLOT: Duration = Duration::from_millis(250);

/// The tokens of the last minute.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// How long tokens count, from when they were added.
    span: Duration,
    /// Sums by slot number, ascending. A sum may fall to zero when a guess is taken back.
    slots: VecDeque<(u64, u64)>,
    total: u64,
}

impl Window {
    /// An empty window. Tokens stay `lateness` longer than a minute, where Fireworks may count them later than we do.
    pub(super) fn new(lateness: Duration) -> Self {
        Self { span: WINDOW + lateness, slots: VecDeque::new(), total: 0 }
    }

    /// Counts tokens that were used at `at`.
    pub(super) fn add(&mut self, at: Mono, tokens: u64) {
        if tokens == 0 {
            return;
        }
        self.total += tokens;
        let slot = slot_of(at);
        match self.slots.binary_search_by_key(&slot, |(slot, _)| *slot) {
            Ok(index) => self.slots[index].1 += tokens,
            Err(index) => self.slots.insert(index, (slot, tokens)),
        }
    }

    /// Takes back tokens that were added for `at`, as far as they are still in the window.
    pub(super) fn remove(&mut self, at: Mono, tokens: u64) {
        let slot = slot_of(at);
        if let Ok(index) = self.slots.binary_search_by_key(&slot, |(slot, _)| *slot) {
            let removed = self.slots[index].1.min(tokens);
            self.slots[index].1 -= removed;
            self.total -= removed;
        }
    }

    /// The tokens that count at `now`.
    pub(super) fn used(&mut self, now: Mono) -> u64 {
        while let Some((slot, tokens)) = self.slots.front() {
            if self.expiry_of(*slot) > now {
                break;
            }
            self.total -= tokens;
            self.slots.pop_front();
        }
        self.total
    }

    /// When the window will hold no more than `tokens`, if nothing is added; `None` when it holds no
    /// more already.
    pub(super) fn falls_to(&self, tokens: u64) -> Option<Mono> {
        let mut left = self.total;
        if left <= tokens {
            return None;
        }
        for (slot, sum) in &self.slots {
            left -= sum;
            if left <= tokens {
                return Some(self.expiry_of(*slot));
            }
        }
        unreachable!("the sums of all slots are the total, so the window falls to zero at the last of them")
    }

    /// When the last token that may be in a slot leaves the window.
    fn expiry_of(&self, slot: u64) -> Mono {
        Mono::from_micros((slot + 1) * slot_micros()) + self.span
    }
}

fn slot_of(at: Mono) -> u64 {
    at.as_micros() / slot_micros()
}

const fn slot_micros() -> u64 {
    SLOT.as_secs() * 1_000_000 + SLOT.subsec_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Mono {
        Mono::ZERO + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn tokens_leave_later_than_a_minute_by_the_lateness_and_a_slot() {
        let mut window = Window::new(Duration::from_secs(1));
        window.add(at(10.2), 100);
        assert_eq!(window.used(at(70.2)), 100, "a minute later they still count");
        assert_eq!(window.used(at(71.24)), 100);
        assert_eq!(window.used(at(71.25)), 0);
    }

    #[test]
    fn the_time_at_which_there_is_room_is_known() {
        let mut window = Window::new(Duration::from_secs(1));
        window.add(at(0.0), 10);
        window.add(at(0.2), 10);
        window.add(at(5.0), 30);
        window.add(at(3.0), 5);
        assert_eq!(window.used(at(6.0)), 55);
        assert_eq!(window.falls_to(55), None);
        assert_eq!(window.falls_to(54), Some(at(61.25)));
        assert_eq!(window.falls_to(35), Some(at(61.25)));
        assert_eq!(window.falls_to(34), Some(at(64.25)));
        assert_eq!(window.falls_to(0), Some(at(66.25)));
        assert_eq!(window.used(at(64.25)), 30);
    }

    #[test]
    fn an_estimate_is_corrected_where_it_was_counted() {
        let mut window = Window::new(Duration::from_secs(1));
        window.add(at(1.0), 100);
        window.add(at(20.0), 7);
        window.remove(at(1.0), 100);
        window.add(at(1.0), 80);
        assert_eq!(window.used(at(30.0)), 87);
        assert_eq!(window.used(at(62.6)), 7);
        window.remove(at(1.0), 80);
        assert_eq!(window.used(at(62.6)), 7, "what has left the window is not taken back twice");
    }

    #[test]
    fn memory_is_bounded_by_slots_not_by_requests() {
        let mut window = Window::new(Duration::from_secs(1));
        for millis in 0..600_000u64 {
            let now = Mono::from_micros(millis * 1_000);
            window.add(now, 1);
            assert!(window.used(now) <= 61_251);
        }
        assert!(window.slots.len() <= 247, "{} slots", window.slots.len());
    }
}
