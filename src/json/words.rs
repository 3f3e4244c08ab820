//! Text, eight bytes at a time: all of a body's text goes through here.
//!
//! Words and not vectors: whether compilers make vector instructions of a loop depends on their settings, and those of a
//! release favour size.

use super::TextSize;

const WORD_BYTES: usize = size_of::<u64>();

/// The lowest bit of each byte, and the highest.
const LOWEST: u64 = u64::from_ne_bytes([0x01; WORD_BYTES]);
const HIGHEST: u64 = u64::from_ne_bytes([0x80; WORD_BYTES]);

/// So many words are counted before their counts, a byte each, could overflow.
const COUNTED_WORDS_MAX: usize = u8::MAX as usize;

/// The length of the text up to the next quote, backslash or control character.
#[inline]
pub(super) fn plain_text_len(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<WORD_BYTES>();
    for (index, word) in words.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return index * WORD_BYTES + special.trailing_zeros() as usize / 8;
        }
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..b' ');
    bytes.len() - rest.len() + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// The highest bit of the lowest byte that ends plain text; bytes above that one may be marked wrongly, since a
/// subtraction borrows from them.
const fn special_bytes(word: u64) -> u64 {
    let controls = word.wrapping_sub(LOWEST * b' ' as u64) & !word;
    let quotes = word ^ (LOWEST * b'"' as u64);
    let backslashes = word ^ (LOWEST * b'\\' as u64);
    (controls | zero_bytes(quotes) | zero_bytes(backslashes)) & HIGHEST
}

const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(LOWEST) & !word
}

/// The characters that begin in these bytes.
#[inline]
pub(super) fn text_size(bytes: &[u8]) -> TextSize {
    let (words, rest) = bytes.as_chunks::<WORD_BYTES>();
    let mut size = TextSize::default();
    for words in words.chunks(COUNTED_WORDS_MAX) {
        size += characters(words);
    }
    // Bytes in which no character begins fill the last word.
    let mut last = [0x80; WORD_BYTES];
    last[..rest.len()].copy_from_slice(rest);
    size += characters(&[last]);
    size
}

/// The first byte of a character tells its length (RFC 3629, section 3): `0…` one, `110…` two, `111…` more.
#[inline]
fn characters(words: &[[u8; WORD_BYTES]]) -> TextSize {
    let (mut ascii, mut longer, mut wide) = (0, 0, 0);
    for word in words {
        let word = u64::from_le_bytes(*word);
        let begins_longer = word & (word << 1) & HIGHEST;
        ascii += (!word & HIGHEST) >> 7;
        longer += begins_longer >> 7;
        wide += (begins_longer & (word << 2)) >> 7;
    }
    let sum = |counts: u64| counts.to_le_bytes().into_iter().map(u64::from).sum();
    TextSize { ascii: sum(ascii), narrow: sum(longer - wide), wide: sum(wide) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_ends_at_the_first_special_byte_wherever_it_is() {
        for byte in 0..=u8::MAX {
            let ends = matches!(byte, b'"' | b'\\' | 0..b' ');
            for at in 0..40 {
                let mut text = [b'!'; 40];
                text[at] = byte;
                assert_eq!(plain_text_len(&text), if ends { at } else { 40 }, "{byte} at {at}");
                // What follows it is of no interest, and neighbours of what is special are not.
                text[at..].fill(byte);
                text[..at].fill(b'#');
                assert_eq!(plain_text_len(&text), if ends { at } else { 40 }, "from {at} on {byte}");
                // Most texts end within a word, and begin at any address.
                for first in 1..=at {
                    let left = text.len() - first;
                    let found = plain_text_len(&text[first..]);
                    assert_eq!(
                        found,
                        if ends { at - first } else { left },
                        "{byte} at {at}, from {first} on"
                    );
                    let before = plain_text_len(&text[..at + 1 - first]);
                    assert_eq!(before, at + 1 - first, "what is behind the end is not looked at");
                }
            }
        }
        assert_eq!(plain_text_len(b""), 0);
    }

    #[test]
    fn characters_are_counted_by_their_first_bytes() {
        let alphabet = ['a', '\0', '\u{7f}', '\u{80}', 'é', '\u{7ff}', '\u{800}', '語', '\u{ffff}', '🙂'];
        for chars in (0..50).chain([2_039, 2_040, 2_041, 5_000]) {
            for first in 0..alphabet.len() {
                let text: String = alphabet.iter().cycle().skip(first).take(chars).collect();
                let mut expected = TextSize::default();
                text.chars().for_each(|character| expected.add_char(character));
                assert_eq!(text_size(text.as_bytes()), expected, "{text}");
            }
            for character in alphabet {
                let text = character.to_string().repeat(chars);
                let mut expected = TextSize::default();
                text.chars().for_each(|character| expected.add_char(character));
                assert_eq!(text_size(text.as_bytes()), expected, "{text}");
            }
        }
    }
}
