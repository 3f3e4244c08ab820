//! Bytes on their way to a client. Has no bound of its own: the exchange that fills it reads no more
//! from the upstream than there is room for.

/// A queue of bytes, written at one end and sent at the other.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Adds bytes at the end.
    pub fn push(&mut self, bytes: &[u8]) {
        // Sent bytes are dropped before the vector would have to grow on their account.
        if self.sent > 0 && self.bytes.len() + bytes.len() > self.bytes.capacity() {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// What is to be sent next.
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Takes off so many bytes that were sent.
    pub fn wrote(&mut self, count: usize) {
        debug_assert!(count <= self.len(), "the shell writes what it was given");
        self.sent = self.bytes.len().min(self.sent + count);
        if self.is_empty() {
            // Memory is given back, so that an idle connection costs next to nothing.
            *self = Self::default();
        }
    }

    /// How many bytes are to be sent.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// How much memory it takes, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether everything was sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let (mut outbox, mut sent, mut pushed) = (Outbox::default(), Vec::new(), Vec::new());
        for round in 0..200u8 {
            let piece = vec![round; usize::from(round % 7)];
            outbox.push(&piece);
            pushed.extend(piece);
            let count = outbox.len().min(usize::from(round % 5));
            sent.extend_from_slice(&outbox.pending()[..count]);
            outbox.wrote(count);
        }
        sent.extend_from_slice(outbox.pending());
        outbox.wrote(outbox.len());
        assert_eq!((sent, outbox.is_empty()), (pushed, true));
    }
}
