//! Reads an input as operations with arguments, for the models.

use std::time::Duration;

/// What is left of the input.
pub struct Operations<'a>(&'a [u8]);

impl<'a> Operations<'a> {
    /// Reads `data` from its beginning.
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The next operation's number; `None` at the end of the input.
    pub fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// An argument of one byte; zero beyond the end.
    pub fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// An argument of two bytes, the first one the higher.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A number below `bound`, which is at most 256.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// One of these; `None` where there are none.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        let at = usize::from(self.byte()).checked_rem(items.len())?;
        Some(items[at])
    }

    /// A number of any magnitude in three bytes: two of digits and one of binary places to shift them by.
    pub fn number(&mut self, bits_max: u32) -> u64 {
        let digits = u64::from(self.short());
        digits << (u32::from(self.byte()) % bits_max.saturating_sub(15).max(1))
    }

    /// A span of any magnitude up to about 2^`bits_max` microseconds.
    pub fn span(&mut self, bits_max: u32) -> Duration {
        Duration::from_micros(self.number(bits_max))
    }

    /// The next bytes as they are: one of length, and so many of the rest as there are.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }
}
