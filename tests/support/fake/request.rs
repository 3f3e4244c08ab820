//! Reads requests the strict way, and keeps them for the test to look at.
//!
//! Owns the framing rules of what a proxy may send: anything a careful server could refuse is refused here, so that a
//! sloppy proxy fails its tests. `httparse` knows the tokens; the framing is decided below.

use std::time::Instant;

use super::faults::Fault;
use super::link::Link;

/// Longest head accepted: four times what the wordiest client sends through a proxy.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most headers accepted in one head.
const HEADERS_MAX: usize = 128;
/// Longest chunk-size line or trailer line accepted.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// One request as it arrived, and what became of its answer.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// Position in the order of arrival, from 0.
    pub number: usize,
    /// The connection it came on, from 1; each connection has its own number.
    pub connection: u64,
    /// Method as written.
    pub method: String,
    /// Request target as written, with the query.
    pub target: String,
    /// True for HTTP/1.0.
    pub http10: bool,
    /// Headers in order, names as written.
    pub headers: Vec<(String, String)>,
    /// The head's bytes, with the empty line.
    pub head: Vec<u8>,
    /// The body with the framing taken off; empty when the fake was told not to keep bodies.
    pub body: Vec<u8>,
    /// When the last byte of the request had arrived.
    pub arrived: Instant,
    /// The status it was answered with, once that was decided.
    pub status: Option<u16>,
    /// The fault that struck it, if one did.
    pub fault: Option<Fault>,
    /// What became of the answer.
    pub outcome: Outcome,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Still being answered.
    Answering,
    /// Sent to the last byte.
    Complete,
    /// The peer went away before the last byte was sent.
    ClosedByPeer {
        /// True when every event had been sent and only the framing's end was missing.
        after_last_event: bool,
    },
    /// Cut on purpose, as the script said.
    Cut,
}

impl RecordedRequest {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }

    /// True when the peer closed the connection before the answer was complete.
    pub fn closed_early(&self) -> bool {
        matches!(self.outcome, Outcome::ClosedByPeer { .. })
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The body as JSON, if it is.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// A copy for the record, with or without the body.
    pub(super) fn record(&self, keeps_body: bool) -> Self {
        Self {
            number: self.number,
            connection: self.connection,
            method: self.method.clone(),
            target: self.target.clone(),
            http10: self.http10,
            headers: self.headers.clone(),
            head: self.head.clone(),
            body: if keeps_body { self.body.clone() } else { Vec::new() },
            arrived: self.arrived,
            status: self.status,
            fault: self.fault,
            outcome: self.outcome,
        }
    }

    /// True when the connection may carry another request after this one.
    pub(super) fn keeps_alive(&self) -> bool {
        let close = self.header("connection").is_some_and(|value| has_token(value, "close"));
        !self.http10 && !close
    }
}

/// Why there is no further request on a connection.
#[derive(Debug)]
pub(super) enum ReadFailure {
    /// The peer left between two requests.
    Ended,
    /// The peer left inside a request.
    Truncated,
    /// The bytes are not a request a strict server accepts.
    Malformed(String),
}

/// How the body of a request is delimited.
enum BodyFraming {
    Length(usize),
    Chunked,
}

/// Reads the next request; `connection` is for the record, whose number the hub gives.
pub(super) fn read_request(link: &mut Link, connection: u64) -> Result<RecordedRequest, ReadFailure> {
    let head = read_head(link)?;
    let mut request = parse_head(head, connection)?;
    let framing = body_framing(&request)?;
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        link.send(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(|_| ReadFailure::Truncated)?;
    }
    request.body = match framing {
        BodyFraming::Length(length) => take_exactly(link, length)?,
        BodyFraming::Chunked => read_chunked(link)?,
    };
    request.arrived = Instant::now();
    Ok(request)
}

fn read_head(link: &mut Link) -> Result<Vec<u8>, ReadFailure> {
    let mut searched = 0;
    loop {
        let bytes = link.received();
        if let Some(at) = find(&bytes[searched..], b"\r\n\r\n") {
            return Ok(link.take(searched + at + 4));
        }
        if bytes.windows(2).skip(searched).any(|pair| pair[1] == b'\n' && pair[0] != b'\r') {
            return malformed("bare LF in the head");
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return malformed("head too long");
        }
        let (empty, next) = (bytes.is_empty(), bytes.len().saturating_sub(3));
        searched = next;
        link.read_more().map_err(|_| if empty { ReadFailure::Ended } else { ReadFailure::Truncated })?;
    }
}

fn parse_head(head: Vec<u8>, connection: u64) -> Result<RecordedRequest, ReadFailure> {
    if head.iter().enumerate().any(|(at, byte)| *byte == b'\n' && (at == 0 || head[at - 1] != b'\r')) {
        return malformed("bare LF in the head");
    }
    let mut storage = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut storage);
    match parsed.parse(&head) {
        Ok(httparse::Status::Complete(used)) if used == head.len() => {}
        Ok(_) => return malformed("the head does not end at its empty line"),
        Err(error) => return malformed(&error.to_string()),
    }
    let owned = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let header =
        |h: &httparse::Header<'_>| (h.name.to_owned(), String::from_utf8_lossy(h.value).into_owned());
    let request = RecordedRequest {
        number: 0,
        connection,
        method: owned(parsed.method),
        target: owned(parsed.path),
        http10: parsed.version == Some(0),
        headers: parsed.headers.iter().map(header).collect(),
        body: Vec::new(),
        arrived: Instant::now(),
        status: None,
        fault: None,
        outcome: Outcome::Answering,
        head,
    };
    check_host_and_target(&request)?;
    Ok(request)
}

fn check_host_and_target(request: &RecordedRequest) -> Result<(), ReadFailure> {
    let hosts = all_headers(request, "host").len();
    if hosts > 1 || (hosts == 0 && !request.http10) {
        return malformed(&format!("{hosts} Host headers"));
    }
    if !request.target.starts_with('/') {
        return malformed("the target is not a path");
    }
    Ok(())
}

fn body_framing(request: &RecordedRequest) -> Result<BodyFraming, ReadFailure> {
    let codings = all_headers(request, "transfer-encoding");
    let lengths = all_headers(request, "content-length");
    match (codings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(BodyFraming::Length(0)),
        ([], [length]) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            length.parse().map(BodyFraming::Length).or_else(|_| malformed("Content-Length too large"))
        }
        ([], _) => malformed(&format!("Content-Length: {lengths:?}")),
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") && !request.http10 => {
            Ok(BodyFraming::Chunked)
        }
        (_, []) => malformed(&format!("Transfer-Encoding: {codings:?}")),
        (_, _) => malformed("both Transfer-Encoding and Content-Length"),
    }
}

fn read_chunked(link: &mut Link) -> Result<Vec<u8>, ReadFailure> {
    let mut body = Vec::new();
    loop {
        let size_line = read_line(link)?;
        let digits = size_line.split(|byte| *byte == b';').next().unwrap_or_default();
        let valid = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(digits).ok().filter(|_| valid);
        let Some(size) = text.and_then(|text| usize::from_str_radix(text, 16).ok()) else {
            return malformed(&format!("chunk size line {:?}", String::from_utf8_lossy(&size_line)));
        };
        if size == 0 {
            while !read_line(link)?.is_empty() {} // Trailers say nothing the fake cares about.
            return Ok(body);
        }
        body.extend(take_exactly(link, size)?);
        if take_exactly(link, 2)? != b"\r\n" {
            return malformed("no CRLF after the chunk's data");
        }
    }
}

/// One line without its CRLF.
fn read_line(link: &mut Link) -> Result<Vec<u8>, ReadFailure> {
    loop {
        if let Some(at) = link.received().iter().position(|byte| *byte == b'\n') {
            let mut text = link.take(at + 1);
            text.pop();
            return if text.pop() == Some(b'\r') {
                Ok(text)
            } else {
                malformed("bare LF in the body's framing")
            };
        }
        if link.received().len() > LINE_BYTES_MAX {
            return malformed("line too long in the body's framing");
        }
        link.read_more().map_err(|_| ReadFailure::Truncated)?;
    }
}

fn take_exactly(link: &mut Link, count: usize) -> Result<Vec<u8>, ReadFailure> {
    while link.received().len() < count {
        link.read_more().map_err(|_| ReadFailure::Truncated)?;
    }
    Ok(link.take(count))
}

/// The first header of that name, in any case.
pub(super) fn find_header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn all_headers<'a>(request: &'a RecordedRequest, name: &str) -> Vec<&'a str> {
    let named = request.headers.iter().filter(|(have, _)| have.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str()).collect()
}

fn has_token(value: &str, token: &str) -> bool {
    value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn malformed<T>(reason: &str) -> Result<T, ReadFailure> {
    Err(ReadFailure::Malformed(reason.to_owned()))
}
