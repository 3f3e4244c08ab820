//! Request and response heads: splitting, checking, and the one decision on framing.
//!
//! A parse that needs more bytes consumes nothing and answers `Ok(None)`. Line ends are CRLF only,
//! and the search for the end of a head remembers how far it got, so a head that arrives byte by
//! byte costs no more than one that arrives whole.

use super::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, HttpError, TARGET_BYTES_MAX};

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

/// HTTP/1.0 or HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// The fields of a head, in the order and spelling in which they came.
#[derive(Clone, Default)]
pub struct Fields {
    list: Vec<(Box<str>, Box<[u8]>)>,
}

/// Names without values: some of these are credentials.
impl std::fmt::Debug for Fields {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl Fields {
    /// Every field: its name as spelled and its value without surrounding white space.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.list.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The values of every field of that name, compared without case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The first value of that name, where it is UTF-8 text.
    pub fn text(&self, name: &str) -> Option<&str> {
        let value = self.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        value.and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Whether a comma-separated list field holds `token`, compared without case.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(tokens).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether a field concerns this connection alone and must not be forwarded (RFC 9110, section
    /// 7.6.1): the well-known ones and those that `Connection` names. Framing and payload fields
    /// cannot be named away, since that would change the message.
    pub fn is_hop_by_hop(&self, name: &str) -> bool {
        const ALWAYS: [&str; 9] = [
            "connection",
            "http2-settings",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "transfer-encoding",
            "upgrade",
        ];
        const NEVER: [&str; 4] = ["content-encoding", "content-length", "content-type", "host"];
        let is_one_of = |list: &[&str]| list.iter().any(|other| name.eq_ignore_ascii_case(other));
        is_one_of(&ALWAYS) || (!is_one_of(&NEVER) && self.lists("connection", name))
    }
}

fn tokens(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
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
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase; may be empty.
    pub reason: Box<str>,
    /// The fields.
    pub fields: Fields,
    /// How the body is framed.
    pub framing: Framing,
}

/// Finds the end of a head in a buffer that grows at its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadSearch {
    searched: usize,
}

impl HeadSearch {
    /// The length of the head with its closing blank line, once `buffer` holds all of it.
    ///
    /// # Errors
    /// A line end other than CRLF, or no end within [`HEAD_BYTES_MAX`].
    pub fn find_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, HttpError> {
        while self.searched < buffer.len() {
            let at = self.searched;
            match buffer[at] {
                b'\n' if at == 0 || buffer[at - 1] != b'\r' => {
                    return Err(HttpError::Malformed("a line ends in LF without CR"));
                }
                b'\n' if buffer[..=at].ends_with(b"\r\n\r\n") => {
                    self.searched = 0;
                    return bounded(at + 1).map(Some);
                }
                b'\n' => {}
                _ if at > 0 && buffer[at - 1] == b'\r' => {
                    return Err(HttpError::Malformed("a CR without LF"));
                }
                b'\0' => return Err(HttpError::Malformed("a NUL byte in the head")),
                _ => {}
            }
            self.searched += 1;
        }
        bounded(buffer.len() + 1).map(|_| None)
    }
}

fn bounded(length: usize) -> Result<usize, HttpError> {
    if length > HEAD_BYTES_MAX { Err(HttpError::HeadTooLarge) } else { Ok(length) }
}

/// Parses one whole request head, as [`HeadSearch::find_end`] delimits it.
///
/// # Errors
/// Whatever leaves doubt about what the request is or where it ends.
pub fn parse_request(head: &[u8]) -> Result<RequestHead, HttpError> {
    let mut storage = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut storage);
    let whole = parsed.parse(head).map_err(head_error)?;
    if whole != httparse::Status::Complete(head.len()) {
        return Err(HttpError::Malformed("the head does not end where its blank line is"));
    }
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(HttpError::Malformed("the request line is not complete"));
    };
    let version = if version == 1 { Version::Http11 } else { Version::Http10 };
    check_target(target)?;
    let fields = collect(parsed.headers)?;
    check_host(version, &fields)?;
    Ok(RequestHead {
        method: method.into(),
        target: target.into(),
        version,
        framing: request_framing(version, &fields)?,
        expects_continue: expects_continue(version, &fields)?,
        fields,
    })
}

/// Parses one whole response head, as [`HeadSearch::find_end`] delimits it. `method` is that of the
/// request it answers, which decides whether there is a body.
///
/// # Errors
/// Whatever leaves doubt about what the response is or where it ends.
pub fn parse_response(head: &[u8], method: &str) -> Result<ResponseHead, HttpError> {
    let mut storage = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut storage);
    let whole = parsed.parse(head).map_err(head_error)?;
    if whole != httparse::Status::Complete(head.len()) {
        return Err(HttpError::Malformed("the head does not end where its blank line is"));
    }
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
        return Err(HttpError::Malformed("the status line is not complete"));
    };
    if status < 100 {
        return Err(HttpError::Malformed("a status below 100"));
    }
    let version = if version == 1 { Version::Http11 } else { Version::Http10 };
    let fields = collect(parsed.headers)?;
    let framing = response_framing(method, status, version, &fields)?;
    Ok(ResponseHead { status, reason: parsed.reason.unwrap_or("").into(), fields, framing })
}

fn head_error(error: httparse::Error) -> HttpError {
    match error {
        httparse::Error::TooManyHeaders => HttpError::HeadTooLarge,
        httparse::Error::Version => HttpError::UnsupportedVersion,
        httparse::Error::HeaderName => HttpError::Malformed("a field name is not a token"),
        httparse::Error::HeaderValue => HttpError::Malformed("a field value holds a control character"),
        httparse::Error::NewLine => HttpError::Malformed("a line does not end in CRLF"),
        httparse::Error::Status => HttpError::Malformed("the status line is malformed"),
        httparse::Error::Token => HttpError::Malformed("the request line is malformed"),
    }
}

fn collect(headers: &[httparse::Header<'_>]) -> Result<Fields, HttpError> {
    let has_control =
        |value: &[u8]| value.iter().any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f);
    if headers.iter().any(|header| has_control(header.value)) {
        return Err(HttpError::Malformed("a field value holds a control character"));
    }
    let list = headers.iter().map(|header| (header.name.into(), header.value.trim_ascii().into())).collect();
    Ok(Fields { list })
}

/// Only origin-form is served (RFC 9112, section 3.2.1): the other forms are for forward proxies,
/// tunnels and `OPTIONS *`, none of which this is.
fn check_target(target: &str) -> Result<(), HttpError> {
    if target.len() > TARGET_BYTES_MAX {
        return Err(HttpError::TargetTooLong);
    }
    if !target.starts_with('/') {
        return Err(HttpError::Malformed("the request target is not a path"));
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(HttpError::Malformed("the request target holds a character that must be escaped"));
    }
    Ok(())
}

/// RFC 9112, section 3.2: exactly one `Host` in HTTP/1.1, at most one in HTTP/1.0.
fn check_host(version: Version, fields: &Fields) -> Result<(), HttpError> {
    let mut hosts = fields.all("host");
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Err(HttpError::Malformed("more than one Host field")),
        (None, _) if version == Version::Http11 => Err(HttpError::Malformed("no Host field")),
        (Some(host), None) if !host.iter().all(|byte| is_authority_byte(*byte)) => {
            Err(HttpError::Malformed("the Host field is not a host"))
        }
        _ => Ok(()),
    }
}

const fn is_authority_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']' | b'%' | b'~')
}

fn expects_continue(version: Version, fields: &Fields) -> Result<bool, HttpError> {
    let mut expected = false;
    for value in fields.all("expect") {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(HttpError::UnknownExpectation);
        }
        // RFC 9110, section 10.1.1: the expectation of an HTTP/1.0 client is ignored.
        expected = version == Version::Http11;
    }
    Ok(expected)
}

/// RFC 9112, section 6.3, for requests: no framing field means no body.
fn request_framing(version: Version, fields: &Fields) -> Result<Framing, HttpError> {
    let framing = declared_framing(version, fields)?;
    Ok(match framing {
        None | Some(Framing::Length(0)) => Framing::Empty,
        Some(framing) => framing,
    })
}

/// RFC 9112, section 6.3, for responses.
fn response_framing(
    method: &str,
    status: u16,
    version: Version,
    fields: &Fields,
) -> Result<Framing, HttpError> {
    let declared = declared_framing(version, fields)?;
    if method == "HEAD" || status < 200 || status == 204 || status == 304 {
        return Ok(Framing::Empty);
    }
    Ok(declared.unwrap_or(Framing::UntilClose))
}

/// What `Transfer-Encoding` and `Content-Length` say together. Either both, or either one repeated,
/// or a coding other than exactly `chunked`, is how requests are smuggled, and is refused.
fn declared_framing(version: Version, fields: &Fields) -> Result<Option<Framing>, HttpError> {
    let mut codings = fields.all("transfer-encoding");
    let mut lengths = fields.all("content-length");
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(HttpError::Malformed("both Transfer-Encoding and Content-Length")),
        (Some(coding), None) => {
            if codings.next().is_some() || !coding.eq_ignore_ascii_case(b"chunked") {
                return Err(HttpError::Malformed("a Transfer-Encoding other than chunked"));
            }
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

/// More digits than any body has bytes, and too few to overflow.
const CONTENT_LENGTH_DIGITS_MAX: usize = 18;

/// Digits and nothing else (RFC 9110, section 8.6): no sign, no list, no overflow.
fn parse_length(value: &[u8]) -> Result<u64, HttpError> {
    if value.is_empty() || value.len() > CONTENT_LENGTH_DIGITS_MAX || !value.iter().all(u8::is_ascii_digit) {
        return Err(HttpError::Malformed("Content-Length is not a number of bytes"));
    }
    Ok(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a head whole and byte by byte; both must agree.
    fn request(text: &str) -> Result<RequestHead, HttpError> {
        let bytes = text.as_bytes();
        let whole = HeadSearch::default().find_end(bytes);
        let mut search = HeadSearch::default();
        let split = (0..=bytes.len())
            .map(|end| search.find_end(&bytes[..end]))
            .find(|found| !matches!(found, Ok(None)))
            .unwrap_or(Ok(None));
        assert_eq!(whole, split, "{text:?}");
        match whole? {
            Some(end) => parse_request(&bytes[..end]),
            None => panic!("incomplete: {text:?}"),
        }
    }

    fn refusal(text: &str) -> HttpError {
        match request(text) {
            Err(error) => error,
            Ok(head) => panic!("accepted: {head:?}"),
        }
    }

    #[test]
    fn an_ordinary_request_is_read() {
        let head = request(
            "POST /v1/messages?beta=true HTTP/1.1\r\nHost: localhost:8787\r\nX-Api-Key: k\r\nContent-Length: 12\r\n\r\n",
        );
        let head = head.expect("accepted");
        assert_eq!((&*head.method, head.path()), ("POST", "/v1/messages"));
        assert_eq!((head.framing, head.keeps_alive()), (Framing::Length(12), true));
        assert_eq!(head.fields.text("x-api-key"), Some("k"));
    }

    #[test]
    fn framing_is_refused_where_it_is_in_doubt() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1, 1",
            "Content-Length: +1",
            "Content-Length: -1",
            "Content-Length:",
            "Content-Length: 1234567890123456789",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding:",
            "Host: other",
            "X-Folded: a\r\n b",
            "Space : before",
            ": empty",
            "Nul: \0",
            "Control: a\x01b",
            "Bare-Lf: a\nb",
            "Bare-Cr: a\rb",
        ] {
            let error = refusal(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"));
            assert_eq!(error.status(), 400, "{fields:?}: {error}");
        }
        assert_eq!(refusal("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").status(), 400);
    }

    #[test]
    fn request_lines_are_strict() {
        for (line, status) in [
            ("GET http://localhost/ HTTP/1.1", 400),
            ("CONNECT localhost:1 HTTP/1.1", 400),
            ("OPTIONS * HTTP/1.1", 400),
            ("GET /a#b HTTP/1.1", 400),
            ("GET / HTTP/2.0", 505),
            ("GET /", 400),
            ("PRI * HTTP/2.0", 505),
        ] {
            let error = refusal(&format!("{line}\r\nHost: a\r\n\r\n"));
            assert!(error.status() == status || error.status() == 400, "{line}: {error}");
        }
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(TARGET_BYTES_MAX));
        assert_eq!(refusal(&long).status(), 414);
    }

    #[test]
    fn a_head_without_end_is_too_large() {
        let mut search = HeadSearch::default();
        let head = vec![b'x'; HEAD_BYTES_MAX];
        assert_eq!(search.find_end(&head[..HEAD_BYTES_MAX - 1]), Ok(None));
        assert_eq!(search.find_end(&head), Err(HttpError::HeadTooLarge));
        let fields = "a: b\r\n".repeat(HEAD_FIELDS_MAX);
        assert_eq!(refusal(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).status(), 431);
    }

    #[test]
    fn host_is_asked_of_http_1_1_only() {
        assert_eq!(refusal("GET / HTTP/1.1\r\n\r\n").status(), 400);
        assert_eq!(refusal("GET / HTTP/1.1\r\nHost: a b\r\n\r\n").status(), 400);
        let head = request("GET / HTTP/1.0\r\n\r\n").expect("accepted");
        assert!(!head.keeps_alive());
    }

    #[test]
    fn expectations_are_known_or_refused() {
        let with = |value: &str| request(&format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: {value}\r\n\r\n"));
        assert!(with("100-Continue").expect("accepted").expects_continue);
        assert_eq!(with("a-miracle").map(|_| ()), Err(HttpError::UnknownExpectation));
    }

    #[test]
    fn hop_by_hop_fields_are_told_apart() {
        let head = request(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, X-Private, Host\r\nUpgrade: h2c\r\n\r\n",
        );
        let fields = head.expect("accepted").fields;
        for name in ["Connection", "upgrade", "x-private", "TE", "Keep-Alive", "HTTP2-Settings"] {
            assert!(fields.is_hop_by_hop(name), "{name}");
        }
        for name in ["Host", "Authorization", "Content-Length", "x-session-affinity"] {
            assert!(!fields.is_hop_by_hop(name), "{name}");
        }
    }

    #[test]
    fn a_response_is_framed_by_its_request_and_status() {
        let parse = |text: &str, method| parse_response(text.as_bytes(), method).map(|head| head.framing);
        assert_eq!(parse("HTTP/1.1 200 OK\r\n\r\n", "POST"), Ok(Framing::UntilClose));
        assert_eq!(parse("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "POST"), Ok(Framing::Length(0)));
        assert_eq!(parse("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD"), Ok(Framing::Empty));
        assert_eq!(parse("HTTP/1.1 204 No Content\r\n\r\n", "POST"), Ok(Framing::Empty));
        assert_eq!(parse("HTTP/1.1 100\r\n\r\n", "POST"), Ok(Framing::Empty));
        assert_eq!(
            parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", "POST"),
            Ok(Framing::Chunked)
        );
        assert!(parse("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "POST").is_err());
        assert!(parse("HTTP/1.1 099 Odd\r\n\r\n", "POST").is_err());
        assert!(parse("ICY 200 OK\r\n\r\n", "POST").is_err());
    }
}
