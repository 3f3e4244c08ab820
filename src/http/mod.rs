//! HTTP/1.1 as this proxy speaks it: heads, framing and bodies (RFC 9110, RFC 9112).
//!
//! `httparse` splits a head into tokens; what a message means is decided here, once, and doubt is refused,
//! never repaired. Owns the limits on what a peer may send and the errors about it. Knows no budgets, no
//! sockets and no time. To audit it, read in this order:
//!
//! | question | where | rule |
//! |---|---|---|
//! | where does a head end, and is it text? | [`head::HeadSearch`] | RFC 9112, section 2.2 |
//! | what does a message mean? | [`head::parse_request`], [`head::parse_response`] | RFC 9112, sections 3 and 4 |
//! | which methods, targets and hosts? | `target` | RFC 9112, section 3.2 |
//! | which fields are the connection's own? | `fields` | RFC 9110, section 7.6.1 |
//! | where does its body end? | `framing` | RFC 9112, section 6 |
//! | is the body framed as it says? | [`body::BodyReader`] | RFC 9112, section 7.1 |
//! | what is sent on in its place? | [`mod@write`] | RFC 9110, section 7.6 |
//!
//! The cases that hold all of this are `tests/strict/`.

pub mod body;
mod fields;
mod framing;
pub mod head;
mod target;
pub mod write;

use std::fmt;

/// The longest head, request or response, with its closing blank line. The largest seen from a real
/// client is 1.4 kB; Node allows 16 KiB and nginx 32 KiB.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The most fields in one head. Real clients send up to 25.
pub const HEAD_FIELDS_MAX: usize = 128;

/// The longest method. The longest registered one has 17 bytes (RFC 9110, section 16.1.1).
pub const METHOD_BYTES_MAX: usize = 32;

/// The longest request target. RFC 9112, section 3 asks for at least 8,000 bytes.
pub const TARGET_BYTES_MAX: usize = 16 * 1024;

/// The longest chunk extension that is read past. Nobody sends any.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 256;

/// The most bytes in the trailers after a chunked body: a few checksums, as nobody sends more.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// A message that breaks the rules. The connection it came on is of no further use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpError {
    /// The head or its framing is malformed or ambiguous; the text says how.
    Malformed(&'static str),
    /// The head is longer than [`HEAD_BYTES_MAX`] or has more than [`HEAD_FIELDS_MAX`] fields.
    HeadTooLarge,
    /// The target is longer than [`TARGET_BYTES_MAX`].
    TargetTooLong,
    /// The body is longer than the configured limit.
    BodyTooLarge,
    /// A method that asks for no answer of the upstream's, or longer than [`METHOD_BYTES_MAX`].
    MethodNotServed,
    /// The protocol version is not HTTP/1.0 or HTTP/1.1.
    UnsupportedVersion,
    /// An `Expect` other than `100-continue` (RFC 9110, section 10.1.1).
    UnknownExpectation,
}

impl HttpError {
    /// The status that the sender of such a request deserves.
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::UnknownExpectation => 417,
            Self::HeadTooLarge => 431,
            Self::MethodNotServed => 501,
            Self::UnsupportedVersion => 505,
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(how) => write!(formatter, "malformed HTTP message: {how}"),
            Self::HeadTooLarge => write!(
                formatter,
                "head larger than {HEAD_BYTES_MAX} bytes or more than {HEAD_FIELDS_MAX} fields"
            ),
            Self::TargetTooLong => write!(formatter, "request target longer than {TARGET_BYTES_MAX} bytes"),
            Self::BodyTooLarge => {
                formatter.write_str("request body larger than FIREWORKS_PROXY_MAX_BODY_MIB")
            }
            Self::MethodNotServed => formatter.write_str("this method is not served here"),
            Self::UnsupportedVersion => formatter.write_str("only HTTP/1.1 and HTTP/1.0 are spoken here"),
            Self::UnknownExpectation => formatter.write_str("only the expectation 100-continue is known"),
        }
    }
}

impl std::error::Error for HttpError {}

/// RFC 9110, section 5.6.2.
fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}
