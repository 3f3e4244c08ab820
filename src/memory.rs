//! The bytes that are held for all connections together, and whose turn it is to add to them.
//!
//! Beyond a mark memory is tight: bodies of requests are read one at a time, and heads and responses in
//! small portions. The mark lies below the limit by the largest body, so that the one that is read
//! always finds room. Refuses nothing: what is not read waits in its sender. Knows how much is held, and
//! not what it is.

use std::collections::BTreeMap;

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

/// What is held for all connections.
#[derive(Debug)]
pub struct Memory {
    held_bytes: usize,
    bytes_max: usize,
    /// From here on memory is tight.
    tight_bytes: usize,
    is_tight: bool,
    /// The bodies that are being read, and how much each may still add.
    uploads: BTreeMap<ConnId, usize>,
    /// The one that is read while memory is tight.
    reading: Option<ConnId>,
}

impl Memory {
    /// Room for `bytes_max`, of which one body may take `body_bytes_max`.
    pub fn new(bytes_max: usize, body_bytes_max: usize) -> Self {
        let tight_bytes = bytes_max.saturating_sub(body_bytes_max);
        Self {
            held_bytes: 0,
            bytes_max,
            tight_bytes,
            is_tight: tight_bytes == 0,
            uploads: BTreeMap::new(),
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

    /// Whether the body of this client's request may be read now.
    pub fn may_upload(&self, client: ConnId) -> bool {
        !self.is_tight || self.reading == Some(client)
    }

    /// What is held for a client has changed from `before` to `after`; its body, if it is being read, may
    /// add `upload_left` more.
    pub fn changed(
        &mut self,
        client: ConnId,
        before: usize,
        after: usize,
        upload_left: Option<usize>,
    ) -> GoesOn {
        self.held_bytes = self.held_bytes - before + after;
        if let Some(left) = upload_left {
            self.uploads.insert(client, left);
        } else {
            self.uploads.remove(&client);
            self.reading = self.reading.filter(|reading| *reading != client);
        }
        if self.is_tight && self.held_bytes < self.tight_bytes - self.tight_bytes / EASED_PART {
            self.is_tight = false;
            self.reading = None;
            return GoesOn::Everybody;
        }
        self.is_tight |= self.held_bytes >= self.tight_bytes;
        if !self.is_tight || self.reading.is_some() {
            return GoesOn::Nobody;
        }
        self.reading = self.next_to_read();
        self.reading.map_or(GoesOn::Nobody, GoesOn::One)
    }

    /// The body with the least to come, if there is room for all of it: so there is always one that can
    /// be read to its end. Either what is held beyond the mark goes in time, because it is no upload; or
    /// the upload that went beyond it fits, since the mark is that far from the limit.
    fn next_to_read(&self) -> Option<ConnId> {
        let fits = |left: usize| self.held_bytes.saturating_add(left) <= self.bytes_max;
        let fitting = self.uploads.iter().filter(|(_, left)| fits(**left));
        fitting.min_by_key(|(client, left)| (**left, **client)).map(|(client, _)| *client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENTS: [ConnId; 3] = [ConnId::from_u64(1), ConnId::from_u64(2), ConnId::from_u64(3)];

    #[test]
    fn all_bodies_are_read_below_the_mark_and_one_beyond_it() {
        let [a, b, c] = CLIENTS;
        let mut memory = Memory::new(100, 40);
        assert_eq!(memory.changed(a, 0, 30, Some(10)), GoesOn::Nobody);
        assert_eq!(memory.changed(b, 0, 29, Some(11)), GoesOn::Nobody);
        assert!(!memory.is_tight() && CLIENTS.iter().all(|client| memory.may_upload(*client)));
        assert_eq!(memory.changed(c, 0, 1, Some(39)), GoesOn::One(a), "it has the least to come");
        assert!(memory.may_upload(a) && !memory.may_upload(b) && !memory.may_upload(c));
        assert_eq!(memory.changed(a, 30, 40, None), GoesOn::One(b), "a is whole, and 70 + 11 fit");
        assert_eq!(memory.changed(b, 29, 40, None), GoesOn::Nobody, "81 + 39 do not");
        assert_eq!(memory.changed(a, 40, 0, None), GoesOn::Everybody, "41 are left");
        assert!(memory.may_upload(c));
    }

    #[test]
    fn whoever_is_read_keeps_its_turn_until_it_is_whole_or_gone() {
        let [a, b, _] = CLIENTS;
        let mut memory = Memory::new(100, 40);
        assert_eq!(memory.changed(a, 0, 60, Some(30)), GoesOn::One(a));
        assert_eq!(memory.changed(b, 0, 0, Some(1)), GoesOn::Nobody);
        assert_eq!(memory.changed(a, 60, 61, Some(29)), GoesOn::Nobody);
        assert_eq!(memory.changed(a, 61, 0, None), GoesOn::Everybody);
        assert_eq!(memory.held_bytes(), 0);
    }

    #[test]
    fn memory_is_tight_until_it_is_well_below_the_mark() {
        let [a, b, _] = CLIENTS;
        let mut memory = Memory::new(1_000, 200);
        assert_eq!(memory.changed(a, 0, 800, None), GoesOn::Nobody);
        assert_eq!(memory.changed(a, 800, 700, None), GoesOn::Nobody);
        assert!(memory.is_tight());
        assert_eq!(memory.changed(b, 0, 0, Some(5)), GoesOn::One(b), "an upload that begins meanwhile");
        assert_eq!(memory.changed(a, 700, 699, None), GoesOn::Everybody);
        assert!(!memory.is_tight());
    }

    #[test]
    fn a_limit_of_one_body_reads_one_at_a_time() {
        let [a, b, _] = CLIENTS;
        let mut memory = Memory::new(40, 40);
        assert_eq!(memory.changed(a, 0, 0, Some(40)), GoesOn::One(a));
        assert_eq!(memory.changed(b, 0, 0, Some(40)), GoesOn::Nobody);
        assert_eq!(memory.changed(a, 0, 40, None), GoesOn::Nobody, "b would not fit");
        assert_eq!(memory.changed(a, 40, 0, None), GoesOn::One(b));
    }
}
