//! A fast hash of what comes in pieces.

/// A running hash of bytes, eight at a time, the same however they are cut: [`chained`] for each word,
/// and the finalizer of `SplitMix64` at the end.
///
/// Not keyed and no defence against who looks for a collision: it only makes an estimate wrong, of a
/// lane that they pay for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Digest {
    state: u64,
    /// The bytes after the last whole word.
    pending: u64,
    bytes: u64,
}

const WORD_BYTES: usize = size_of::<u64>();

impl Digest {
    /// The hash of these bytes.
    pub(super) fn of(bytes: &[u8]) -> u64 {
        let mut digest = Self::default();
        digest.write(bytes);
        digest.finish()
    }

    /// Takes in the next bytes.
    #[inline]
    pub(super) fn write(&mut self, mut bytes: &[u8]) {
        let filled = usize::try_from(self.bytes).unwrap_or(0) % WORD_BYTES;
        self.bytes += bytes.len() as u64;
        if filled > 0 {
            let (head, rest) = bytes.split_at(bytes.len().min(WORD_BYTES - filled));
            self.pending |= word(head) << (8 * filled);
            if filled + head.len() < WORD_BYTES {
                return;
            }
            self.state = chained(self.state, self.pending);
            bytes = rest;
        }
        let (words, rest) = bytes.as_chunks::<WORD_BYTES>();
        for word in words {
            self.state = chained(self.state, u64::from_le_bytes(*word));
        }
        self.pending = word(rest);
    }

    /// The hash of all so far. More may follow.
    pub(super) const fn finish(self) -> u64 {
        mixed(mixed(self.state ^ self.pending).wrapping_add(self.bytes))
    }
}

/// A hash with one more word. One to one in each of the two, so that chains which differ in one word never
/// meet there.
#[inline]
pub(super) const fn chained(hash: u64, word: u64) -> u64 {
    const ODD: u64 = 0xf135_7aea_2e62_a9c5;
    let product = (hash ^ word).wrapping_add(ODD).wrapping_mul(ODD);
    product ^ (product >> 32)
}

/// Fewer than eight bytes as a number, the first byte lowest.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The finalizer of `SplitMix64` (Steele, Lea and Flood 2014).
pub(super) const fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_hash_does_not_depend_on_the_cuts() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        for step in 1..40 {
            let mut digest = Digest::default();
            bytes.chunks(step).for_each(|piece| digest.write(piece));
            assert_eq!(digest.finish(), Digest::of(&bytes), "step {step}");
        }
    }

    #[test]
    fn texts_that_differ_little_have_hashes_that_differ() {
        let text = b"The quick brown fox jumps over the lazy dog.".to_vec();
        let mut hashes = BTreeSet::from([Digest::of(&text)]);
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut other = text.clone();
                other[at] ^= 1 << bit;
                assert!(hashes.insert(Digest::of(&other)), "bit {bit} of byte {at}");
            }
        }
        for length in 0..40 {
            assert!(hashes.insert(Digest::of(&vec![0; length])), "{length} zeros");
        }
    }
}
