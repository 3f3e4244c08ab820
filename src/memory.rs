//! The bytes that are held for all connections together, and whose turn it is to add to them.
//!
//! Beyond a mark memory is tight: bodies of requests, and the rest of long heads, are read one at a time,
//! and responses in small portions. The mark lies below the limit by the largest body, so that the one that
//! is read finds room. Refuses nothing: what is not read waits in its sender. Knows how much is held, and
//! not what it is.

use std::collections::BTreeSet;

use crate::event::ConnId;

/// How far below the mark memory is not tight any more, as a part of it. Without that distance every
/// body that comes and goes at the mark would wake everybody.
const EASED_PART: usize = 8;

/// Who may go on reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "who is not told to go on sleeps for ever"]
pub enum GoesOn {
    /// Nobody who could not before.
    Nobody,
    /// The one whose body is read while memory is tight.
    One(ConnId),
    /// Everybody: memory is not tight any more.
    Everybody,
}

/// What is held for one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// All of it, in bytes.
    pub held_bytes: usize,
    /// The body among it of a request that was read whole, in bytes. It goes when its request ends.
    pub whole_body_bytes: usize,
    /// How many bytes a body that is being read may still add.
    pub upload_left: Option<usize>,
}

/// What is held for all connections.
#[derive(Debug)]
pub struct Memory {
    held_bytes: usize,
    whole_body_bytes: usize,
    bytes_max: usize,
    body_bytes_max: usize,
    is_tight: bool,
    /// How much each body that is being read may still add.
    uploads: BTreeSet<(usize, ConnId)>,
    /// The one that is read while memory is tight.
    reading: Option<ConnId>,
}

impl Memory {
    /// Room for `bytes_max`, of which one body may take `body_bytes_max`.
    pub fn new(bytes_max: usize, body_bytes_max: usize) -> Self {
        Self {
            held_bytes: 0,
            whole_body_bytes: 0,
            bytes_max,
            body_bytes_max,
            is_tight: bytes_max <= body_bytes_max,
            uploads: BTreeSet::new(),
            reading: None,
        }
    }

    /// The bytes that are held.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether reading is held back.
    pub fn is_tight(&self) -> bool {
        self.is_tight
    }

    /// Whose body is read while memory is tight.
    pub fn reading(&self) -> Option<ConnId> {
        self.reading
    }

    /// Whether the body of this client's request may be read now.
    pub fn may_upload(&self, client: ConnId) -> bool {
        !self.is_tight || self.reading == Some(client)
    }

    /// What is held for a client has changed.
    pub fn changed(&mut self, client: ConnId, before: Share, after: Share) -> GoesOn {
        self.held_bytes = self.held_bytes - before.held_bytes + after.held_bytes;
        self.whole_body_bytes = self.whole_body_bytes - before.whole_body_bytes + after.whole_body_bytes;
        before.upload_left.map(|left| self.uploads.remove(&(left, client)));
        after.upload_left.map(|left| self.uploads.insert((left, client)));
        // A turn ends with what it was given for, be it that a long head turns out to have a body.
        if after.upload_left.is_none() || after.upload_left > before.upload_left {
            self.reading = self.reading.filter(|reading| *reading != client);
        }
        let tight_bytes = self.bytes_max.saturating_sub(self.body_bytes_max);
        if self.is_tight && self.held_bytes < tight_bytes - tight_bytes / EASED_PART {
            self.is_tight = false;
            self.reading = None;
            return GoesOn::Everybody;
        }
        self.is_tight |= self.held_bytes >= tight_bytes;
        // Who has less to come goes before the one that is read, which could take hours.
        let next = self.next_to_read().filter(|next| self.is_tight && self.reading != Some(*next));
        self.reading = next.or(self.reading);
        next.map_or(GoesOn::Nobody, GoesOn::One)
    }

    /// The body with the least to come, if there is room for all of it. If there is not, but hardly any
    /// body is whole, then it is read all the same: those in the making hold the rest, and would wait for
    /// each other for ever. What is whole goes in time.
    fn next_to_read(&self) -> Option<ConnId> {
        let (left, client) = self.uploads.first()?;
        let fits = self.held_bytes.saturating_add(*left) <= self.bytes_max;
        (fits || self.whole_body_bytes <= self.body_bytes_max).then_some(*client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENTS: [ConnId; 3] = [ConnId::from_u64(1), ConnId::from_u64(2), ConnId::from_u64(3)];

    const NOTHING: Share = Share { held_bytes: 0, whole_body_bytes: 0, upload_left: None };

    /// A body of which so much is there, and so much to come.
    fn part(held_bytes: usize, left: usize) -> Share {
        Share { held_bytes, whole_body_bytes: 0, upload_left: Some(left) }
    }

    fn whole(held_bytes: usize) -> Share {
        Share { held_bytes, whole_body_bytes: held_bytes, upload_left: None }
    }

    #[test]
    fn all_bodies_are_read_below_the_mark_and_one_beyond_it() {
        let [a, b, c] = CLIENTS;
        let mut memory = Memory::new(100, 40);
        assert_eq!(memory.changed(a, NOTHING, part(30, 10)), GoesOn::Nobody);
        assert_eq!(memory.changed(b, NOTHING, part(29, 11)), GoesOn::Nobody);
        assert!(!memory.is_tight() && CLIENTS.iter().all(|client| memory.may_upload(*client)));
        assert_eq!(memory.changed(c, NOTHING, part(1, 39)), GoesOn::One(a), "it has the least to come");
        assert!(memory.may_upload(a) && !memory.may_upload(b) && !memory.may_upload(c));
        assert_eq!(memory.changed(a, part(30, 10), whole(40)), GoesOn::One(b), "70 + 11 fit");
        assert_eq!(memory.changed(b, part(29, 11), whole(40)), GoesOn::Nobody, "81 + 39 do not");
        assert_eq!(memory.changed(a, whole(40), NOTHING), GoesOn::Everybody, "41 are left");
        assert!(memory.may_upload(c));
    }

    #[test]
    fn whoever_is_read_keeps_its_turn_unless_another_has_less_to_come() {
        let [a, b, _] = CLIENTS;
        let mut memory = Memory::new(100, 40);
        assert_eq!(memory.changed(a, NOTHING, part(60, 30)), GoesOn::One(a));
        assert_eq!(memory.changed(b, NOTHING, part(0, 31)), GoesOn::Nobody);
        assert_eq!(memory.changed(a, part(60, 30), part(61, 29)), GoesOn::Nobody);
        assert_eq!(memory.changed(b, part(0, 31), part(0, 28)), GoesOn::One(b));
        assert!(memory.may_upload(b) && !memory.may_upload(a));
        assert_eq!(memory.changed(b, part(0, 28), NOTHING), GoesOn::One(a));
        assert_eq!(memory.changed(a, part(61, 29), NOTHING), GoesOn::Everybody);
        assert_eq!(memory.held_bytes(), 0);
    }

    #[test]
    fn memory_is_tight_until_it_is_well_below_the_mark() {
        let [a, b, _] = CLIENTS;
        let mut memory = Memory::new(1_000, 200);
        assert_eq!(memory.changed(a, NOTHING, whole(800)), GoesOn::Nobody);
        assert_eq!(memory.changed(a, whole(800), whole(700)), GoesOn::Nobody);
        assert!(memory.is_tight());
        assert_eq!(memory.changed(b, NOTHING, part(0, 5)), GoesOn::One(b), "an upload that begins meanwhile");
        assert_eq!(memory.changed(a, whole(700), whole(699)), GoesOn::Everybody);
        assert!(!memory.is_tight());
    }

    #[test]
    fn bodies_in_the_making_do_not_wait_for_each_other() {
        let [a, b, c] = CLIENTS;
        let mut memory = Memory::new(80, 40);
        assert_eq!(memory.changed(c, NOTHING, whole(38)), GoesOn::Nobody);
        assert_eq!(memory.changed(a, NOTHING, part(30, 39)), GoesOn::One(a), "68 + 39 do not fit");
        assert_eq!(memory.changed(b, NOTHING, part(30, 39)), GoesOn::Nobody);
        assert_eq!(memory.changed(a, part(30, 39), whole(69)), GoesOn::Nobody, "more than one body is whole");
        assert_eq!(memory.changed(c, whole(38), NOTHING), GoesOn::Nobody, "it still is");
        assert_eq!(memory.changed(a, whole(69), NOTHING), GoesOn::Everybody);
    }

    #[test]
    fn the_turn_of_a_long_head_is_not_that_of_its_body() {
        let [a, b, _] = CLIENTS;
        let mut memory = Memory::new(100, 40);
        assert_eq!(memory.changed(a, NOTHING, whole(80)), GoesOn::Nobody);
        assert_eq!(memory.changed(b, NOTHING, part(1, 5)), GoesOn::One(b), "81 + 5 fit");
        assert_eq!(memory.changed(b, part(1, 5), part(2, 38)), GoesOn::Nobody, "82 + 38 do not");
        assert!(!memory.may_upload(b));
        assert_eq!(memory.changed(b, part(2, 38), part(2, 18)), GoesOn::One(b));
    }

    #[test]
    fn a_limit_of_one_body_reads_one_at_a_time() {
        let [a, b, _] = CLIENTS;
        let mut memory = Memory::new(40, 40);
        assert_eq!(memory.changed(a, NOTHING, part(1, 40)), GoesOn::One(a));
        assert_eq!(memory.changed(b, NOTHING, part(1, 40)), GoesOn::Nobody);
        assert_eq!(memory.changed(a, part(1, 40), whole(41)), GoesOn::Nobody, "b would not fit");
        assert_eq!(memory.changed(a, whole(41), NOTHING), GoesOn::One(b));
    }
}
