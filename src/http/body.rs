//! Bodies, read as they come: by length, chunked, or until the connection closes.
//!
//! The reader copies nothing. It checks the framing of the bytes it is given and points at the
//! payload among them, so that the caller can pass on either.

use super::{CHUNK_EXTENSION_BYTES_MAX, HttpError, TRAILER_BYTES_MAX, framing::Framing, is_token_byte};

/// So many hexadecimal digits hold every 64-bit size, and the shift cannot overflow.
const CHUNK_SIZE_DIGITS_MAX: u8 = 16;

/// Reads one body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyReader {
    state: State,
}

/// Every byte position that can wait for more has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Plain payload with so many bytes to come.
    Length(u64),
    /// Plain payload without an announced end.
    UntilClose,
    Chunked(Chunked),
    Ended,
}

/// A position within the chunked coding (RFC 9112, section 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunked {
    /// Before the first digit of a chunk's size: a digit is required, and white space is none.
    Start,
    /// After `digits` of the size.
    Size { size: u64, digits: u8 },
    /// In the extension behind a size (section 7.1.1), of which `read` bytes have gone by.
    Extension { size: u64, read: usize },
    /// After the CR that ends the size line.
    SizeEnd { size: u64 },
    /// In a chunk's payload.
    Data { left: u64 },
    /// After a chunk's payload: CR.
    DataCr,
    /// After that CR: LF.
    DataLf,
    /// At the start of a trailer line (section 7.1.2), or of the closing blank line. `read` counts all trailers.
    TrailerStart { read: usize },
    /// In the name of a trailer field.
    TrailerName { read: usize },
    /// In the value of a trailer field.
    TrailerValue { read: usize },
    /// After the CR that ends a trailer line.
    TrailerEnd { read: usize },
    /// After the CR of the closing blank line.
    FinalLf,
}

/// What one call of [`BodyReader::read`] did.
#[derive(Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// So many bytes of the input belong to the body and have been checked.
    pub used: usize,
    /// The payload among them; empty when they were framing only.
    pub payload: &'a [u8],
}

impl BodyReader {
    /// A reader for a body framed so.
    pub const fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Ended,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Chunked::Start),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Whether the last byte of the body has been read.
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether the connection may close here without cutting the body short.
    pub fn may_close(&self) -> bool {
        matches!(self.state, State::Ended | State::UntilClose)
    }

    /// Reads up to the end of the next stretch of payload. Call again with the rest of the input
    /// until nothing is used; bytes behind the body's end are never used.
    ///
    /// # Errors
    /// Malformed chunk framing. The reader must not be used again.
    pub fn read<'a>(&mut self, input: &'a [u8]) -> Result<Progress<'a>, HttpError> {
        match &mut self.state {
            State::Ended => Ok(Progress { used: 0, payload: &[] }),
            State::UntilClose => Ok(Progress { used: input.len(), payload: input }),
            State::Length(left) => {
                let used = take(left, input.len());
                if *left == 0 {
                    self.state = State::Ended;
                }
                Ok(Progress { used, payload: &input[..used] })
            }
            State::Chunked(_) => self.read_chunked(input),
        }
    }

    fn read_chunked<'a>(&mut self, input: &'a [u8]) -> Result<Progress<'a>, HttpError> {
        let mut used = 0;
        while let State::Chunked(position) = &mut self.state {
            if let Chunked::Data { left } = position {
                let length = take(left, input.len() - used);
                if *left == 0 {
                    *position = Chunked::DataCr;
                }
                return Ok(Progress { used: used + length, payload: &input[used..used + length] });
            }
            let Some(byte) = input.get(used) else { break };
            self.state = position.step(*byte)?.map_or(State::Ended, State::Chunked);
            used += 1;
        }
        Ok(Progress { used, payload: &[] })
    }
}

/// Takes as much of `available` as is `left`.
fn take(left: &mut u64, available: usize) -> usize {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
    *left -= length as u64;
    length
}

impl Chunked {
    /// The position after one byte of framing; `None` after the last. What stands here is accepted, and
    /// everything else is refused: no line end but CRLF (RFC 9112, section 2.2), no control character in what
    /// is read past (RFC 9110, section 5.5), no folding (RFC 9112, section 5.2).
    fn step(self, byte: u8) -> Result<Option<Self>, HttpError> {
        Ok(Some(match (self, byte) {
            (Self::Start, _) => Self::Size { size: 0, digits: 0 }.size_digit(byte)?,
            (Self::Size { size, .. }, b'\r') => Self::SizeEnd { size },
            (Self::Size { size, .. }, b';') => Self::Extension { size, read: 1 },
            (Self::Size { .. }, _) => self.size_digit(byte)?,
            (Self::Extension { size, .. }, b'\r') => Self::SizeEnd { size },
            (Self::Extension { size, read }, b'\t' | b' '..=b'~' | 0x80..)
                if read < CHUNK_EXTENSION_BYTES_MAX =>
            {
                Self::Extension { size, read: read + 1 }
            }
            (Self::SizeEnd { size: 0 }, b'\n') => Self::TrailerStart { read: 0 },
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Start,
            (Self::TrailerStart { .. }, b'\r') => Self::FinalLf,
            (Self::FinalLf, b'\n') => return Ok(None),
            (Self::TrailerStart { read } | Self::TrailerName { read }, _)
                if is_token_byte(byte) && read < TRAILER_BYTES_MAX =>
            {
                Self::TrailerName { read: read + 1 }
            }
            (Self::TrailerName { read }, b':') => Self::TrailerValue { read: read + 1 },
            (Self::TrailerValue { read }, b'\r') => Self::TrailerEnd { read: read + 1 },
            (Self::TrailerValue { read }, b'\t' | b' '..=b'~' | 0x80..) if read < TRAILER_BYTES_MAX => {
                Self::TrailerValue { read: read + 1 }
            }
            (Self::TrailerEnd { read }, b'\n') => Self::TrailerStart { read: read + 1 },
            _ => return Err(self.error()),
        }))
    }

    fn size_digit(self, byte: u8) -> Result<Self, HttpError> {
        let Self::Size { size, digits: digits @ 0..CHUNK_SIZE_DIGITS_MAX } = self else {
            return Err(self.error());
        };
        let digit = char::from(byte).to_digit(16).ok_or_else(|| self.error())?;
        Ok(Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
    }

    const fn error(self) -> HttpError {
        HttpError::Malformed(match self {
            Self::Start | Self::Size { .. } => "a chunk size is not 1 to 16 hexadecimal digits",
            Self::Extension { .. } => "a chunk extension is too long or holds a control character",
            Self::SizeEnd { .. } => "a chunk size line does not end in CRLF",
            Self::Data { .. } | Self::DataCr | Self::DataLf => "a chunk is not followed by CRLF",
            Self::TrailerStart { .. } | Self::TrailerName { .. } => "a trailer name is not a token",
            Self::TrailerValue { .. } => "a trailer is too long or holds a control character",
            Self::TrailerEnd { .. } | Self::FinalLf => "a trailer line does not end in CRLF",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `input` in pieces of `step` bytes: the payload, how much was used, and whether it ended.
    fn read_in_steps(
        framing: Framing,
        input: &[u8],
        step: usize,
    ) -> Result<(Vec<u8>, usize, bool), HttpError> {
        let (mut reader, mut payload, mut used) = (BodyReader::new(framing), Vec::new(), 0);
        for end in (step..input.len() + step).step_by(step) {
            let end = end.min(input.len());
            loop {
                let progress = reader.read(&input[used..end])?;
                payload.extend_from_slice(progress.payload);
                used += progress.used;
                if progress.used == 0 {
                    break;
                }
            }
        }
        Ok((payload, used, reader.is_ended()))
    }

    fn read(framing: Framing, input: &[u8]) -> Result<(Vec<u8>, usize, bool), HttpError> {
        let whole = read_in_steps(framing, input, input.len().max(1));
        for step in 1..=input.len().min(16) {
            assert_eq!(read_in_steps(framing, input, step), whole, "step {step}");
        }
        whole
    }

    #[test]
    fn a_length_ends_where_it_says() {
        assert_eq!(read(Framing::Length(5), b"helloGET"), Ok((b"hello".to_vec(), 5, true)));
        assert_eq!(read(Framing::Length(5), b"hel"), Ok((b"hel".to_vec(), 3, false)));
        assert_eq!(read(Framing::Empty, b"GET"), Ok((Vec::new(), 0, true)));
        assert_eq!(read(Framing::UntilClose, b"all"), Ok((b"all".to_vec(), 3, false)));
        assert!(BodyReader::new(Framing::UntilClose).may_close());
    }

    #[test]
    fn chunks_are_joined_and_trailers_passed() {
        let body = b"5\r\nhello\r\n1;name=\"value\"\r\n,\r\n00000006\r\n world\r\n0\r\nX-Sum: 1\r\n\r\nNEXT";
        assert_eq!(read(Framing::Chunked, body), Ok((b"hello, world".to_vec(), body.len() - 4, true)));
        assert_eq!(read(Framing::Chunked, b"0\r\n\r\n"), Ok((Vec::new(), 5, true)));
        assert_eq!(read(Framing::Chunked, b"A\r\n0123456789\r\n"), Ok((b"0123456789".to_vec(), 15, false)));
    }

    #[test]
    fn an_endless_extension_and_endless_trailers_are_refused() {
        let extension = |bytes| [b"1;".to_vec(), vec![b'x'; bytes], b"\r\na\r\n0\r\n\r\n".to_vec()].concat();
        assert!(read(Framing::Chunked, &extension(CHUNK_EXTENSION_BYTES_MAX - 1)).is_ok());
        assert!(read(Framing::Chunked, &extension(CHUNK_EXTENSION_BYTES_MAX)).is_err());
        let trailers = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(TRAILER_BYTES_MAX / 5)].concat();
        assert!(read(Framing::Chunked, &trailers).is_err());
    }

    #[test]
    fn the_largest_chunk_size_does_not_overflow() {
        let (payload, used, ended) = read(Framing::Chunked, b"ffffffffffffffff\r\nabc").expect("accepted");
        assert_eq!((payload.as_slice(), used, ended), (&b"abc"[..], 21, false));
    }
}
