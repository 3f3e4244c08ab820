//! Request and response heads. [`parse_request`] and [`parse_response`] decide what a message means, once:
//! whoever acts on a message acts on what they give, and nobody reads its bytes again.
//!
//! `httparse` only splits. What it lets pass and is refused here: bare LF for a line end and empty lines
//! before a head ([`HeadSearch`], [`starts_with_a_line`]), targets that are no URI (`target`), a status line
//! without its second space, and a head that ends elsewhere than where it was found to end. It drops reason
//! phrases that are not ASCII; they are read here.

pub use super::{fields::Fields, framing::Framing};

use super::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, HttpError, framing, target};

/// HTTP/1.0 or HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// A request's head, checked.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method, case-sensitive.
    pub method: Box<str>,
    /// The target in origin-form: begins with `/`.
    pub target: Box<str>,
    /// The protocol version.
    pub version: Version,
    /// The fields.
    pub fields: Fields,
    /// How the body is framed; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

impl RequestHead {
    /// Whether the connection may serve another request after this one (RFC 9112, section 9.3). An
    /// HTTP/1.0 client gets one answer that ends with the connection.
    pub fn keeps_alive(&self) -> bool {
        self.version == Version::Http11 && !self.fields.lists("connection", "close")
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&*self.target, |(path, _)| path)
    }
}

/// A response's head, checked.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// The status code, 100 to 999 without 101.
    pub status: u16,
    /// The reason phrase as it came; may be empty.
    pub reason: Box<[u8]>,
    /// The fields.
    pub fields: Fields,
    /// How the body is framed.
    pub framing: Framing,
}

/// Finds the end of a head in a buffer that grows at its end, and refuses control characters on the way.
/// It remembers how far it got: a head that arrives byte by byte costs no more than one that arrives whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadSearch {
    searched: usize,
}

impl HeadSearch {
    /// The length of the head with its closing blank line, once `buffer` holds all of it.
    ///
    /// # Errors
    /// A line end other than CRLF (RFC 9112, section 2.2), any other control character but HTAB (RFC 9110,
    /// section 5.5), or no end within [`HEAD_BYTES_MAX`].
    pub fn find_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, HttpError> {
        while self.searched < buffer.len().min(HEAD_BYTES_MAX) {
            let at = self.searched;
            match (buffer[at], at > 0 && buffer[at - 1] == b'\r') {
                (b'\n', false) => return Err(HttpError::Malformed("a line ends in LF without CR")),
                (b'\n', true) if buffer[..=at].ends_with(b"\r\n\r\n") => {
                    self.searched = 0;
                    return Ok(Some(at + 1));
                }
                (b'\n', true) => {}
                (_, true) => return Err(HttpError::Malformed("a CR without LF")),
                (b'\r' | b'\t' | b' '..=b'~' | 0x80.., false) => {}
                (_, false) => return Err(HttpError::Malformed("a control character in the head")),
            }
            self.searched += 1;
        }
        if self.searched == HEAD_BYTES_MAX { Err(HttpError::HeadTooLarge) } else { Ok(None) }
    }
}

/// Decides what a request is, from one whole head as [`HeadSearch::find_end`] delimits it.
///
/// # Errors
/// Whatever leaves doubt about what the request is or where it ends.
pub fn parse_request(head: &[u8]) -> Result<RequestHead, HttpError> {
    starts_with_a_line(head)?;
    let mut storage = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut storage);
    let whole = parsed.parse(head).map_err(|error| head_error(error, has_request_version(head)))?;
    ends_with_its_blank_line(whole, head)?;
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(HttpError::Malformed("the request line is not complete"));
    };
    let version = if version == 1 { Version::Http11 } else { Version::Http10 };
    let fields = Fields::collect(parsed.headers)?;
    target::check_method(method, &fields)?;
    target::check_target(target)?;
    target::check_host(version, &fields)?;
    Ok(RequestHead {
        method: method.into(),
        target: target.into(),
        version,
        framing: framing::of_request(version, &fields)?,
        expects_continue: expects_continue(version, &fields)?,
        fields,
    })
}

/// Decides what a response is, from one whole head as [`HeadSearch::find_end`] delimits it. `method` is that
/// of the request it answers, which decides whether there is a body.
///
/// # Errors
/// Whatever leaves doubt about what the response is or where it ends.
pub fn parse_response(head: &[u8], method: &str) -> Result<ResponseHead, HttpError> {
    starts_with_a_line(head)?;
    let mut storage = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut storage);
    let whole = parsed.parse(head).map_err(|error| head_error(error, has_response_version(head)))?;
    ends_with_its_blank_line(whole, head)?;
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
        return Err(HttpError::Malformed("the status line is not complete"));
    };
    let version = if version == 1 { Version::Http11 } else { Version::Http10 };
    let fields = Fields::collect(parsed.headers)?;
    check_status(status)?;
    let reason = reason(head)?;
    let framing = framing::of_response(method, status, version, &fields)?;
    Ok(ResponseHead { status, reason: reason.into(), fields, framing })
}

/// RFC 9112, section 2.2 lets a server pass over empty lines before a request, which is done before its head
/// is looked for. Nobody may send any before a response.
fn starts_with_a_line(head: &[u8]) -> Result<(), HttpError> {
    if head.starts_with(b"\r") { Err(HttpError::Malformed("an empty line before the head")) } else { Ok(()) }
}

fn ends_with_its_blank_line(whole: httparse::Status<usize>, head: &[u8]) -> Result<(), HttpError> {
    if whole == httparse::Status::Complete(head.len()) {
        return Ok(());
    }
    Err(HttpError::Malformed("the head does not end where its blank line is"))
}

fn head_error(error: httparse::Error, is_other_version: bool) -> HttpError {
    HttpError::Malformed(match error {
        httparse::Error::TooManyHeaders => return HttpError::HeadTooLarge,
        httparse::Error::Version if is_other_version => return HttpError::UnsupportedVersion,
        httparse::Error::Version => "there is no HTTP version where it should be",
        httparse::Error::HeaderName => "a field name is not a token",
        httparse::Error::HeaderValue => "a field value holds a control character",
        httparse::Error::NewLine => "a line does not end in CRLF",
        httparse::Error::Status => "the status line is malformed",
        httparse::Error::Token => "the request line is malformed",
    })
}

fn has_request_version(head: &[u8]) -> bool {
    let mut words = first_line(head).split(|byte| *byte == b' ').skip(2);
    words.next().is_some_and(is_version) && words.next().is_none()
}

fn has_response_version(head: &[u8]) -> bool {
    first_line(head).split(|byte| *byte == b' ').next().is_some_and(is_version)
}

fn first_line(head: &[u8]) -> &[u8] {
    head.split(|byte| *byte == b'\r').next().unwrap_or_default()
}

/// RFC 9112, section 2.3: in capitals, one digit each.
fn is_version(word: &[u8]) -> bool {
    matches!(word, [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'])
}

/// RFC 9110, section 15: there is no class below 100. Above 599 there is none either, but who gets such an
/// answer is told what to make of it, and it ends like any other. 101 would answer an `Upgrade`, which is never
/// forwarded (15.2.2).
const fn check_status(status: u16) -> Result<(), HttpError> {
    match status {
        101 => Err(HttpError::Malformed("it switches protocols, which nobody asked for")),
        0..=99 => Err(HttpError::Malformed("a status below 100")),
        _ => Ok(()),
    }
}

/// RFC 9112, section 4: the space before the reason phrase is there also where the phrase is empty.
fn reason(head: &[u8]) -> Result<&[u8], HttpError> {
    const BEFORE_REASON: usize = "HTTP/1.1 200".len();
    let rest = first_line(head).get(BEFORE_REASON..).and_then(|rest| rest.strip_prefix(b" "));
    rest.ok_or(HttpError::Malformed("no space after the status"))
}

/// RFC 9110, section 10.1.1: there is one expectation, and that of an HTTP/1.0 client is ignored.
fn expects_continue(version: Version, fields: &Fields) -> Result<bool, HttpError> {
    let mut expectations = fields.all("expect").peekable();
    let is_any = expectations.peek().is_some();
    if !expectations.all(|value| value.eq_ignore_ascii_case(b"100-continue")) {
        return Err(HttpError::UnknownExpectation);
    }
    Ok(is_any && version == Version::Http11)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_request_is_read() {
        let head = parse_request(
            b"POST /v1/messages?beta=true HTTP/1.1\r\nHost: localhost:8787\r\nX-Api-Key: k\r\nContent-Length: 12\r\n\r\n",
        );
        let head = head.expect("accepted");
        assert_eq!((&*head.method, head.path()), ("POST", "/v1/messages"));
        assert_eq!((head.framing, head.keeps_alive()), (Framing::Length(12), true));
        assert_eq!(head.fields.text("x-api-key"), Some("k"));
    }

    #[test]
    fn an_old_client_gets_one_answer_and_its_expectation_is_ignored() {
        let head = parse_request(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expect("accepted");
        assert!(!head.keeps_alive() && !head.expects_continue);
        let head = parse_request(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n");
        assert!(head.expect("accepted").expects_continue);
    }

    #[test]
    fn a_reason_phrase_is_kept_to_the_byte() {
        let head = parse_response(b"HTTP/1.1 200 caf\xc3\xa9 \xff\r\n\r\n", "GET").expect("accepted");
        assert_eq!(&*head.reason, b"caf\xc3\xa9 \xff");
    }

    #[test]
    fn a_head_without_end_is_too_large_however_it_comes() {
        let mut search = HeadSearch::default();
        // The error behind the bound would be another if the head came whole.
        let mut head = vec![b'x'; HEAD_BYTES_MAX + 1];
        head[HEAD_BYTES_MAX] = b'\n';
        assert_eq!(search.find_end(&head[..HEAD_BYTES_MAX - 1]), Ok(None));
        assert_eq!(search.find_end(&head[..HEAD_BYTES_MAX]), Err(HttpError::HeadTooLarge));
        assert_eq!(HeadSearch::default().find_end(&head), Err(HttpError::HeadTooLarge));
        head.truncate(HEAD_BYTES_MAX);
        head[HEAD_BYTES_MAX - 4..].copy_from_slice(b"\r\n\r\n");
        assert_eq!(HeadSearch::default().find_end(&head), Ok(Some(HEAD_BYTES_MAX)));
    }

    #[test]
    fn hop_by_hop_fields_are_told_apart() {
        let head = parse_request(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade,, X-Private\r\nUpgrade: h2c\r\n\r\n",
        );
        let fields = head.expect("accepted").fields;
        for name in ["Connection", "upgrade", "x-private", "TE", "Keep-Alive", "HTTP2-Settings"] {
            assert!(fields.is_hop_by_hop(name), "{name}");
        }
        for name in ["Host", "Authorization", "Content-Length", "x-session-affinity"] {
            assert!(!fields.is_hop_by_hop(name), "{name}");
        }
    }
}
