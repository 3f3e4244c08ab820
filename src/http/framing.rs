//! Where a body ends: the one decision on `Content-Length` and `Transfer-Encoding` (RFC 9112, section 6).
//!
//! Two readers that disagree here take different bytes for the next message, which is how requests and
//! responses are smuggled. So only what every reader takes alike is accepted.

use super::{HttpError, fields::Fields, head::Version};

/// How the end of a message's body is told (RFC 9112, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// So many bytes.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// All bytes until the connection closes; responses only.
    UntilClose,
}

/// More digits than any body has bytes, and too few to overflow.
const CONTENT_LENGTH_DIGITS_MAX: usize = 18;

/// The framing of a request (RFC 9112, section 6.3): no framing field means no body.
pub(super) fn of_request(version: Version, fields: &Fields) -> Result<Framing, HttpError> {
    Ok(match declared(version, fields)? {
        None | Some(Framing::Length(0)) => Framing::Empty,
        Some(framing) => framing,
    })
}

/// The framing of the response to a request with `method` (RFC 9112, section 6.3).
pub(super) fn of_response(
    method: &str,
    status: u16,
    version: Version,
    fields: &Fields,
) -> Result<Framing, HttpError> {
    // RFC 9110, section 9.3.6: what follows is the tunnel, whatever these fields say.
    if method == "CONNECT" && matches!(status, 200..=299) {
        return Ok(Framing::Empty);
    }
    let declared = declared(version, fields)?;
    // RFC 9110, section 8.6 and RFC 9112, section 6.1: these must not even announce a body. Whoever
    // announces one may send it. `Content-Length: 0` is as forbidden, widespread, and leaves no doubt.
    let is_always_empty = status < 200 || status == 204;
    if is_always_empty && !matches!(declared, None | Some(Framing::Length(0))) {
        return Err(HttpError::Malformed("a body is announced with a status that has none"));
    }
    // These may: it is the length of what another request would get.
    if is_always_empty || status == 304 || method == "HEAD" {
        return Ok(Framing::Empty);
    }
    Ok(declared.unwrap_or(Framing::UntilClose))
}

/// What the two framing fields say together. Either both (RFC 9112, section 6.1), or either one repeated
/// (RFC 9110, section 5.3), or a coding other than `chunked` alone (RFC 9112, section 7; codings are
/// compared without case), is refused.
fn declared(version: Version, fields: &Fields) -> Result<Option<Framing>, HttpError> {
    let mut codings = fields.all("transfer-encoding");
    let mut lengths = fields.all("content-length");
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(HttpError::Malformed("both Transfer-Encoding and Content-Length")),
        (Some(coding), None) => {
            if codings.next().is_some() || !coding.eq_ignore_ascii_case(b"chunked") {
                return Err(HttpError::Malformed("a Transfer-Encoding other than chunked"));
            }
            // RFC 9112, section 6.1: HTTP/1.0 does not know it, so its framing counts as faulty.
            if version == Version::Http10 {
                return Err(HttpError::Malformed("Transfer-Encoding in HTTP/1.0"));
            }
            Ok(Some(Framing::Chunked))
        }
        (None, Some(length)) => {
            if lengths.next().is_some() {
                return Err(HttpError::Malformed("more than one Content-Length"));
            }
            parse_length(length).map(|length| Some(Framing::Length(length)))
        }
    }
}

/// Digits and nothing else (RFC 9110, section 8.6): no sign, no list, no overflow.
fn parse_length(value: &[u8]) -> Result<u64, HttpError> {
    if value.is_empty() || value.len() > CONTENT_LENGTH_DIGITS_MAX || !value.iter().all(u8::is_ascii_digit) {
        return Err(HttpError::Malformed("Content-Length is not a number of bytes"));
    }
    Ok(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}
