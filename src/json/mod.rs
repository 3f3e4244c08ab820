//! A push scanner for JSON (RFC 8259) that keeps no more than it is asked for.
//!
//! Bytes go in as they come, split anywhere; a [`Visitor`] hears of every scalar with the path of
//! keys that leads to it. Strings of any length cost a bounded memory: their first
//! [`CAPTURE_BYTES_MAX`] bytes are kept and the rest is only counted. This is what request bodies
//! and usage reports are read with, so that neither has to be held or parsed whole.
//!
//! Refuses to build a document: who wants a tree has `serde_json`.

mod scanner;
mod words;

pub use scanner::Scanner;

/// How much of a string is kept, in bytes of UTF-8. Model names, session ids and the markers that
/// tell an attachment from text are shorter; Fireworks allows 256 characters for `metadata.user_id`.
pub const CAPTURE_BYTES_MAX: usize = 512;

/// How deep arrays and objects may nest, as in `serde_json`, which refuses the 128th level.
pub const DEPTH_MAX: usize = 127;

/// Hears what is in a document.
pub trait Visitor {
    /// What the visitor makes of a key's name.
    type Key: Copy;

    /// The key that stands for an element of an array in a path.
    const ITEM: Self::Key;

    /// Turns a key's name into the visitor's own word for it, so that a path is cheap to compare. The
    /// path leads to the object that the key is in.
    fn key(&mut self, path: &[Self::Key], name: &str, size: TextSize) -> Self::Key;

    /// A scalar and the path of keys to it, outermost first; empty for a document that is a scalar.
    fn scalar(&mut self, path: &[Self::Key], value: Scalar<'_>);

    /// The next bytes of a string, decoded, cut anywhere, also within a character. The [`Self::key`] or
    /// [`Self::scalar`] that they belong to is heard after the last of them. For who needs all of a
    /// string, of which only the beginning is kept.
    fn text(&mut self, _decoded: &[u8]) {}

    /// The array or object at the path has ended.
    fn end(&mut self, _path: &[Self::Key]) {}
}

/// A value that is neither an array nor an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'a> {
    /// A string: its first bytes, decoded, and the size of all of it.
    Text {
        /// At most [`CAPTURE_BYTES_MAX`] bytes, cut between characters.
        start: &'a str,
        /// All of it.
        size: TextSize,
    },
    /// A number, as it was written, at most [`CAPTURE_BYTES_MAX`] bytes of it.
    Number(&'a str),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
}

impl Scalar<'_> {
    /// The value of a whole number that is not negative, also where it is written as `12.0` or
    /// as a string.
    pub fn as_count(self) -> Option<u64> {
        let (Self::Number(text) | Self::Text { start: text, .. }) = self else { return None };
        text.parse().ok().or_else(|| text.strip_suffix(".0").and_then(|whole| whole.parse().ok()))
    }
}

/// The size of a text in characters, by how tokenizers treat them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TextSize {
    /// Characters below U+0080: English and code, of which a token holds three to five.
    pub ascii: u64,
    /// The others below U+0800: Cyrillic, Greek, Hebrew, Arabic and accented Latin letters.
    pub narrow: u64,
    /// All further ones, CJK among them, of which a token rarely holds more than one.
    pub wide: u64,
}

impl TextSize {
    /// All characters.
    pub const fn chars(self) -> u64 {
        self.ascii + self.narrow + self.wide
    }

    #[inline]
    pub(super) fn add_char(&mut self, character: char) {
        let count = match u32::from(character) {
            0..0x80 => &mut self.ascii,
            0x80..0x800 => &mut self.narrow,
            _ => &mut self.wide,
        };
        *count += 1;
    }
}

impl std::ops::AddAssign for TextSize {
    fn add_assign(&mut self, other: Self) {
        self.ascii += other.ascii;
        self.narrow += other.narrow;
        self.wide += other.wide;
    }
}

/// RFC 8259, section 6: no leading zeros, digits on both sides of the point, digits in the exponent.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    is_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(is_digits)
        && exponent.is_none_or(is_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_whole_numbers_in_any_dress() {
        assert_eq!(Scalar::Number("12").as_count(), Some(12));
        assert_eq!(Scalar::Number("12.0").as_count(), Some(12));
        assert_eq!(Scalar::Text { start: "12", size: TextSize::default() }.as_count(), Some(12));
        for odd in ["-1", "1.5", "1e3", ""] {
            assert_eq!(Scalar::Number(odd).as_count(), None, "{odd}");
        }
        assert_eq!(Scalar::Null.as_count(), None);
    }
}
