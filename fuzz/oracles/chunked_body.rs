//! Chunked bodies against a decoder that has the whole input and looks for line ends.

use fireworks_proxy::http::{CHUNK_EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX, body::BodyReader, head::Framing};

use super::{Outcome, split::splits, strict_head::is_token};

/// What a decoder makes of an input.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The payload of all chunks, as far as it came.
    pub payload: Vec<u8>,
    /// How it goes on.
    pub state: State,
}

/// How a body stands at the end of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It ended so many bytes into the input.
    Ended(usize),
    /// It may go on.
    Open,
    /// It is none.
    Malformed,
}

/// `data` is a chunked body, and perhaps something behind it.
pub fn chunked_body(data: &[u8]) -> Outcome {
    let expected = decode(data);
    assert_eq!(decode_with_reader(&[data]), expected, "the whole input at once");
    for pieces in splits(data) {
        assert_eq!(decode_with_reader(&pieces), expected, "in {} pieces", pieces.len());
    }
    if matches!(expected.state, State::Ended(_)) { Outcome::Accepted } else { Outcome::Refused }
}

fn decode_with_reader(pieces: &[&[u8]]) -> Decoded {
    let (mut reader, mut payload, mut used) = (BodyReader::new(Framing::Chunked), Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let Ok(progress) = reader.read(rest) else {
                return Decoded { payload, state: State::Malformed };
            };
            payload.extend_from_slice(progress.payload);
            used += progress.used;
            rest = &rest[progress.used..];
            if progress.used == 0 {
                assert!(rest.is_empty() || reader.is_ended(), "the reader leaves bytes of the body");
                break;
            }
        }
    }
    let state = if reader.is_ended() { State::Ended(used) } else { State::Open };
    assert_eq!(reader.may_close(), reader.is_ended(), "a chunked body that is not whole is cut by a close");
    Decoded { payload, state }
}

/// RFC 9112, section 7.1, with this proxy's bounds on what nobody sends.
pub fn decode(data: &[u8]) -> Decoded {
    let mut payload = Vec::new();
    let state = decode_chunks(data, &mut payload);
    Decoded { payload, state }
}

fn decode_chunks(data: &[u8], payload: &mut Vec<u8>) -> State {
    let mut at = 0;
    loop {
        let line = line_at(data, at);
        let (text, is_whole) = match line {
            Line::Whole { text, .. } | Line::HalfEnded(text) => (text, true),
            Line::Open(text) => (text, false),
            Line::Malformed => return State::Malformed,
        };
        let Some(size) = chunk_size(text, is_whole) else { return State::Malformed };
        let Line::Whole { next: start, .. } = line else { return State::Open };
        if size == 0 {
            return end_of_trailers(data, start);
        }
        let left = &data[start..];
        let Some(size) = usize::try_from(size).ok().filter(|size| *size <= left.len()) else {
            payload.extend_from_slice(left);
            return State::Open;
        };
        payload.extend_from_slice(&left[..size]);
        match &left[size..] {
            [] | [b'\r'] => return State::Open,
            [b'\r', b'\n', ..] => at = start + size + 2,
            _ => return State::Malformed,
        }
    }
}

/// A line of framing, as far as it is there.
enum Line<'a> {
    /// With its CRLF, behind which the next one begins.
    Whole { text: &'a [u8], next: usize },
    /// Up to its CR, which is the last byte there is.
    HalfEnded(&'a [u8]),
    /// All that there is.
    Open(&'a [u8]),
    /// A CR or LF by itself.
    Malformed,
}

fn line_at(data: &[u8], at: usize) -> Line<'_> {
    let rest = &data[at..];
    let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return Line::Open(rest);
    };
    match &rest[end..] {
        [b'\r', b'\n', ..] => Line::Whole { text: &rest[..end], next: at + end + 2 },
        [b'\r'] => Line::HalfEnded(&rest[..end]),
        _ => Line::Malformed,
    }
}

fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// The size in a chunk's first line, or in the beginning of one; `None` where it can be no such line.
fn chunk_size(line: &[u8], is_whole: bool) -> Option<u64> {
    let (digits, extension) = match line.iter().position(|byte| *byte == b';') {
        Some(semicolon) => line.split_at(semicolon),
        None => (line, &[][..]),
    };
    if digits.is_empty() {
        return (line.is_empty() && !is_whole).then_some(0);
    }
    let is_size = digits.len() <= 16 && digits.iter().all(u8::is_ascii_hexdigit);
    let is_extension =
        extension.len() <= CHUNK_EXTENSION_BYTES_MAX && extension.iter().all(|byte| is_text(*byte));
    let text = std::str::from_utf8(digits).ok().filter(|_| is_size && is_extension)?;
    u64::from_str_radix(text, 16).ok()
}

/// Trailer lines up to a blank one.
fn end_of_trailers(data: &[u8], start: usize) -> State {
    let mut at = start;
    loop {
        let is_trailer = |text: &[u8], is_whole| is_trailer(text, is_whole, at - start);
        match line_at(data, at) {
            Line::Whole { text: [], next } => return State::Ended(next),
            Line::Whole { text, next } if is_trailer(text, true) => at = next,
            Line::HalfEnded(text) if text.is_empty() || is_trailer(text, true) => return State::Open,
            Line::Open(text) if is_trailer(text, false) => return State::Open,
            _ => return State::Malformed,
        }
    }
}

/// Whether a line, or the beginning of one, can be a trailer field behind so many bytes of trailers.
fn is_trailer(line: &[u8], is_whole: bool, before: usize) -> bool {
    let colon = line.iter().position(|byte| *byte == b':');
    let is_within = |at: usize| Some(at) == colon || before + at < TRAILER_BYTES_MAX;
    if !(0..line.len()).all(is_within) {
        return false;
    }
    match colon {
        Some(colon) => is_token(&line[..colon]) && line[colon + 1..].iter().all(|byte| is_text(*byte)),
        None => !is_whole && (line.is_empty() || is_token(line)),
    }
}
