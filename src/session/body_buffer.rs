//! The bytes of a request's body while they are held. Large ones go back to the system as soon as they are not needed,
//! and not to an allocator that might keep them.

use std::ops::Deref;

/// The first allocation for a body. A client has to send bytes to make us take more.
const CAPACITY_BYTES_MIN: usize = 16 * 1024;

/// A body, or what has come of it.
#[derive(Debug, Default)]
pub(super) struct BodyBuffer {
    bytes: Vec<u8>,
}

impl BodyBuffer {
    /// Adds bytes at the end. Grows by doubling, but never beyond what the body may come to.
    pub(super) fn push(&mut self, bytes: &[u8], bytes_max: usize) {
        let wanted = self.bytes.len() + bytes.len();
        if wanted > self.bytes.capacity() {
            let grown = (self.bytes.capacity() * 2).max(CAPACITY_BYTES_MIN).min(bytes_max);
            self.bytes.reserve_exact(grown.max(wanted) - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// No more will come.
    pub(super) fn complete(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// How much memory it takes, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

impl Deref for BodyBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for BodyBuffer {
    /// glibc maps large blocks one by one and unmaps them when they are freed, but takes the size of the largest that
    /// was freed so (up to 32 MiB) as the size from which to do that in future, and all below it comes from a heap that
    /// shrinks at its end only: a few uploads, and 80 MiB stay with an idle proxy. A block that is shrunk first, which
    /// is done in place, teaches it nothing. See mallopt(3), `M_MMAP_THRESHOLD`.
    fn drop(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_by_doubling_and_never_beyond_what_it_may_come_to() {
        let (mut body, bytes_max) = (BodyBuffer::default(), 3 * CAPACITY_BYTES_MIN);
        body.push(b"x", bytes_max);
        assert_eq!(body.held_bytes(), CAPACITY_BYTES_MIN);
        body.push(&vec![b'y'; CAPACITY_BYTES_MIN], bytes_max);
        assert_eq!(body.held_bytes(), 2 * CAPACITY_BYTES_MIN);
        body.push(&vec![b'z'; CAPACITY_BYTES_MIN], bytes_max);
        assert_eq!((body.held_bytes(), body.len()), (bytes_max, 2 * CAPACITY_BYTES_MIN + 1));
        body.complete();
        assert_eq!(body.held_bytes(), body.len());
    }
}
