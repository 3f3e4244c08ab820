//! A hierarchical timer wheel: insert, remove and expire in constant time, however many timers.
//!
//! Six levels of 64 slots; a slot of level 0 is one tick of about a millisecond, a slot of each
//! further level as long as the whole level below it, which spans a year and more. A timer further
//! away than a level can tell apart waits in a coarse slot and is sorted into finer ones when that
//! slot's time comes. A timer never fires early; it fires with the first call of [`Wheel::poll`] at
//! or after its deadline.

use crate::time::Mono;

const LEVELS: usize = 6;
/// The bits of a tick that all levels tell apart together.
const WHEEL_BITS: u32 = 36;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// One tick: 2^10 microseconds.
const TICK_BITS: u32 = 10;

/// Timers further away wait in a slot so far ahead and are filed again from there. Half of what the
/// levels span, so that no slot ahead can be mistaken for the one at hand.
const TICKS_MAX: u64 = 1 << (WHEEL_BITS - 1);

/// Names a timer. Of no effect once the timer has fired or was removed, even after its place in the
/// wheel was given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerKey {
    index: usize,
    generation: u64,
}

/// Timers that carry a `T` each.
#[derive(Debug)]
pub struct Wheel<T> {
    entries: Vec<Entry<T>>,
    free: Vec<usize>,
    /// The entries in each slot, level by level.
    slots: Vec<Vec<usize>>,
    /// For each level, a bit for each slot that is not empty.
    occupied: [u64; LEVELS],
    /// Every tick before this one has been dealt with.
    elapsed: u64,
    len: usize,
    generation: u64,
}

#[derive(Debug)]
struct Entry<T> {
    payload: Option<T>,
    deadline: Mono,
    generation: u64,
    slot: usize,
    /// The place within the slot.
    place: usize,
}

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            slots: std::iter::repeat_with(Vec::new).take(LEVELS * SLOTS).collect(),
            occupied: [0; LEVELS],
            elapsed: 0,
            len: 0,
            generation: 0,
        }
    }
}

impl<T> Wheel<T> {
    /// Sets a timer. One whose deadline has passed fires with the next [`Self::poll`].
    pub fn insert(&mut self, deadline: Mono, payload: T) -> TimerKey {
        self.generation += 1;
        self.len += 1;
        let generation = self.generation;
        let entry = Entry { payload: Some(payload), deadline, generation, slot: 0, place: 0 };
        let index = self.free.pop().unwrap_or(self.entries.len());
        if index == self.entries.len() {
            self.entries.push(entry);
        } else {
            self.entries[index] = entry;
        }
        self.file(index);
        TimerKey { index, generation }
    }

    /// Takes a timer back; `None` when it has fired or was removed before.
    pub fn remove(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entries.get(key.index)?;
        if entry.generation != key.generation || entry.payload.is_none() {
            return None;
        }
        self.unfile(key.index);
        self.release(key.index)
    }

    /// The next timer whose deadline is not after `now`, if there is one.
    pub fn poll(&mut self, now: Mono) -> Option<T> {
        let now_tick = now.as_micros() >> TICK_BITS;
        loop {
            let (level, slot, start) = self.first_slot()?;
            if start > now_tick {
                return None;
            }
            self.elapsed = self.elapsed.max(start);
            if level == 0 {
                return self.pop_due(slot, now);
            }
            for index in std::mem::take(&mut self.slots[level * SLOTS + slot]) {
                self.occupied[level] &= !(1 << slot);
                self.file(index);
            }
        }
    }

    /// When to call [`Self::poll`] next, and a timer that is waited for. Not after the earliest
    /// deadline; before it only where timers have to be sorted into finer slots, which happens at
    /// most once a level and timer.
    pub fn next_expiration(&self) -> Option<(Mono, &T)> {
        let (level, slot, start) = self.first_slot()?;
        let slot_entries = self.slots[level * SLOTS + slot].iter().map(|index| &self.entries[*index]);
        let earliest = slot_entries.min_by_key(|entry| entry.deadline)?;
        let payload = earliest.payload.as_ref()?;
        let at = if level == 0 { earliest.deadline } else { Mono::from_micros(start << TICK_BITS) };
        Some((at, payload))
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The occupied slot whose time comes first: its level, its number and its first tick. Timers of
    /// a lower level are always due before those of a higher one.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let shift = SLOT_BITS * u32::try_from(level).expect("there are six levels");
        let current = (self.elapsed >> shift) % SLOTS as u64;
        let ahead = self.occupied[level].rotate_right(u32::try_from(current).expect("there are 64 slots"));
        let distance = u64::from(ahead.trailing_zeros());
        let slot = (current + distance) % SLOTS as u64;
        let start = ((self.elapsed >> shift) + distance) << shift;
        Some((level, usize::try_from(slot).expect("there are 64 slots"), start))
    }

    /// Takes a due timer out of a slot of level 0, the earliest first.
    fn pop_due(&mut self, slot: usize, now: Mono) -> Option<T> {
        let due = self.slots[slot].iter().copied().min_by_key(|index| self.entries[*index].deadline)?;
        if self.entries[due].deadline > now {
            return None;
        }
        self.unfile(due);
        self.release(due)
    }

    /// Puts an entry into the finest slot that can tell its deadline from now.
    fn file(&mut self, index: usize) {
        let tick = (self.entries[index].deadline.as_micros() >> TICK_BITS)
            .clamp(self.elapsed, self.elapsed.saturating_add(TICKS_MAX));
        let differing = (tick ^ self.elapsed) | (SLOTS as u64 - 1);
        let highest_bit = differing.ilog2().min(WHEEL_BITS - 1);
        let level = highest_bit / SLOT_BITS;
        let number = (tick >> (level * SLOT_BITS)) % SLOTS as u64;
        let slot = level as usize * SLOTS + usize::try_from(number).expect("there are 64 slots");
        self.occupied[level as usize] |= 1 << number;
        self.entries[index].slot = slot;
        self.entries[index].place = self.slots[slot].len();
        self.slots[slot].push(index);
    }

    fn unfile(&mut self, index: usize) {
        let Entry { slot, place, .. } = self.entries[index];
        let entries = &mut self.slots[slot];
        entries.swap_remove(place);
        if let Some(moved) = entries.get(place) {
            self.entries[*moved].place = place;
        }
        if entries.is_empty() {
            self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
        }
    }

    fn release(&mut self, index: usize) -> Option<T> {
        self.len -= 1;
        self.free.push(index);
        self.entries[index].payload.take()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn micros(micros: u64) -> Mono {
        Mono::from_micros(micros)
    }

    /// A small generator, so that the test needs no other crate (xorshift, Marsaglia 2003).
    fn next(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    #[test]
    fn timers_fire_in_order_and_never_early() {
        let mut wheel = Wheel::default();
        for (deadline, name) in
            [(5_000_000, "late"), (1_000, "first"), (1_900, "second"), (90_000_000_000, "a day")]
        {
            wheel.insert(micros(deadline), name);
        }
        assert_eq!(wheel.poll(micros(999)), None);
        assert_eq!((wheel.poll(micros(1_000)), wheel.poll(micros(1_899))), (Some("first"), None));
        assert_eq!(
            (wheel.poll(micros(6_000_000)), wheel.poll(micros(6_000_000))),
            (Some("second"), Some("late"))
        );
        assert_eq!(wheel.poll(micros(89_999_999_999)), None);
        assert_eq!((wheel.poll(micros(90_000_000_000)), wheel.len()), (Some("a day"), 0));
        assert!(wheel.next_expiration().is_none());
    }

    #[test]
    fn a_removed_timer_does_not_fire_and_its_key_names_nothing_else() {
        let mut wheel = Wheel::default();
        let key = wheel.insert(micros(10), 'a');
        assert_eq!((wheel.remove(key), wheel.remove(key)), (Some('a'), None));
        wheel.insert(micros(10), 'b');
        assert_eq!(wheel.remove(key), None);
        assert_eq!((wheel.poll(micros(10)), wheel.poll(micros(10))), (Some('b'), None));
    }

    #[test]
    fn a_deadline_in_the_past_fires_at_once() {
        let mut wheel = Wheel::default();
        wheel.insert(micros(50_000_000), 1);
        assert_eq!(wheel.poll(micros(60_000_000)), Some(1));
        wheel.insert(micros(3), 2);
        assert_eq!(wheel.poll(micros(60_000_000)), Some(2));
    }

    #[test]
    fn deadlines_beyond_the_wheel_are_kept() {
        for start in [0, 1, 77_777_777, (1 << 46) - 1, 1 << 46] {
            let mut wheel = Wheel::default();
            wheel.insert(micros(start), "start");
            assert_eq!(wheel.poll(micros(start)), Some("start"));
            for ahead in [45, 46, 47, 50] {
                let far = start + (1 << ahead);
                wheel.insert(micros(far), "far");
                assert_eq!(wheel.poll(micros(far - 1)), None, "{start} + 2^{ahead}");
                assert_eq!(wheel.poll(micros(far)), Some("far"), "{start} + 2^{ahead}");
            }
        }
    }

    /// The wheel against a sorted set: the same timers, in the same call and not earlier.
    #[test]
    fn it_agrees_with_a_sorted_set() {
        for mut seed in 1..40u64 {
            let (mut wheel, mut model) = (Wheel::default(), BTreeSet::new());
            let (mut now, mut keys) = (0u64, Vec::new());
            for id in 0..2_000u64 {
                match next(&mut seed) % 4 {
                    0 | 1 => {
                        let spread = 1u64 << (next(&mut seed) % 40);
                        let deadline = now + next(&mut seed) % spread;
                        keys.push((wheel.insert(micros(deadline), id), (deadline, id)));
                        model.insert((deadline, id));
                    }
                    2 if !keys.is_empty() => {
                        let chosen = usize::try_from(next(&mut seed) % keys.len() as u64).expect("an index");
                        let (key, entry) = keys.swap_remove(chosen);
                        assert_eq!(wheel.remove(key).is_some(), model.remove(&entry));
                    }
                    _ => {
                        let wanted = wanted_time(&wheel, &model, now);
                        let jump = next(&mut seed) % (1 << 30);
                        now = if next(&mut seed).is_multiple_of(2) { wanted } else { now + jump };
                        assert_eq!(fire(&mut wheel, now), take_due(&mut model, now), "seed {seed}, at {now}");
                    }
                }
                assert_eq!(wheel.len(), model.len());
            }
        }
    }

    /// The time at which the wheel wants to be polled, which is never too late.
    fn wanted_time(wheel: &Wheel<u64>, model: &BTreeSet<(u64, u64)>, now: u64) -> u64 {
        let wanted = wheel.next_expiration().map(|(at, _)| at.as_micros());
        let earliest = model.first().map(|(deadline, _)| *deadline);
        assert_eq!(wanted.is_none(), earliest.is_none());
        assert!(wanted.unwrap_or(0) <= earliest.unwrap_or(0).max(now), "{wanted:?} {earliest:?} {now}");
        wanted.unwrap_or(now).max(now)
    }

    fn fire(wheel: &mut Wheel<u64>, now: u64) -> BTreeSet<u64> {
        std::iter::from_fn(|| wheel.poll(micros(now))).collect()
    }

    fn take_due(model: &mut BTreeSet<(u64, u64)>, now: u64) -> BTreeSet<u64> {
        let later = model.split_off(&(now + 1, 0));
        std::mem::replace(model, later).into_iter().map(|(_, id)| id).collect()
    }
}
