//! Heads on their way out: requests to the upstream, responses to the client, answers of our own.
//!
//! Names, values, order and spelling are kept as they came. What is left out, replaced or added is
//! listed at each function, and nothing else is.

use std::fmt;

use super::head::{Framing, RequestHead, ResponseHead};

/// The field in which clients send the secret of this proxy. It is for us alone and never forwarded.
pub const CLIENT_TOKEN_FIELD: &str = "x-fireworks-proxy-token";

/// Which request it was, by the name that the log has for it.
pub const REQUEST_ID_FIELD: &str = "x-fireworks-proxy-request-id";

/// For how long a request was kept from the upstream, in milliseconds.
pub const WAIT_FIELD: &str = "x-fireworks-proxy-wait-ms";

/// How often a request was tried again.
pub const RETRIES_FIELD: &str = "x-fireworks-proxy-retries";

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The chunk that ends a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The head of the request to the upstream, for a body that is sent whole.
///
/// Replaced, or added where it was absent: `Host`, and `Accept-Encoding` (identity, because usage is
/// read from the answer; one, however many there were). The target is the upstream's and the version
/// HTTP/1.1. Left out: hop-by-hop fields, `Expect` (already answered), `Trailer` (chunked bodies are
/// joined) and [`CLIENT_TOKEN_FIELD`]. Added: `Connection: close`, and `Content-Length` where the body came chunked.
pub fn upstream_request(head: &RequestHead, target: &str, authority: &str, body_bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    line(&mut out, &[head.method.as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1"]);
    let mut has_host = false;
    let mut has_accept_encoding = false;
    for (name, value) in head.fields.iter() {
        if name.eq_ignore_ascii_case("host") {
            has_host = true;
            field(&mut out, name, authority.as_bytes());
        } else if name.eq_ignore_ascii_case("accept-encoding") {
            if !has_accept_encoding {
                field(&mut out, name, b"identity");
            }
            has_accept_encoding = true;
        } else if !is_dropped_from_request(head, name) {
            field(&mut out, name, value);
        }
    }
    if !has_host {
        field(&mut out, "Host", authority.as_bytes());
    }
    if !has_accept_encoding {
        field(&mut out, "Accept-Encoding", b"identity");
    }
    if head.framing == Framing::Chunked {
        field(&mut out, "Content-Length", body_bytes.to_string().as_bytes());
    }
    field(&mut out, "Connection", b"close");
    out.extend_from_slice(b"\r\n");
    out
}

fn is_dropped_from_request(head: &RequestHead, name: &str) -> bool {
    head.fields.is_hop_by_hop(name)
        || name.eq_ignore_ascii_case("expect")
        || name.eq_ignore_ascii_case("trailer")
        || name.eq_ignore_ascii_case(CLIENT_TOKEN_FIELD)
}

/// The head of a relayed response.
///
/// Left out: hop-by-hop fields (RFC 9110, section 7.6.1), and the `Content-Length: 0` that a 204 must not have (RFC 9110, section
/// 8.6). Added: `Transfer-Encoding: chunked` where `chunked`, the fields in
/// `extra`, in place of those of the same names, and `Connection: close` where `close`.
pub fn relayed_response(head: &ResponseHead, chunked: bool, close: bool, extra: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    line(&mut out, &[b"HTTP/1.1 ", head.status.to_string().as_bytes(), b" ", &head.reason]);
    for (name, value) in head.fields.iter() {
        let is_forbidden = head.status == 204 && name.eq_ignore_ascii_case("content-length");
        let is_ours = extra.iter().any(|(ours, _)| name.eq_ignore_ascii_case(ours));
        if !is_forbidden && !is_ours && !head.fields.is_hop_by_hop(name) {
            field(&mut out, name, value);
        }
    }
    if chunked {
        field(&mut out, "Transfer-Encoding", b"chunked");
    }
    for (name, value) in extra {
        field(&mut out, name, value.as_bytes());
    }
    if close {
        field(&mut out, "Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// An answer of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Fields beside the framing and `Connection`.
    pub fields: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer with a body that displays as JSON.
    pub fn json(status: u16, body: &impl fmt::Display) -> Self {
        let mut body = body.to_string().into_bytes();
        body.push(b'\n');
        Self { status, fields: vec![("Content-Type", "application/json".to_owned())], body }
    }

    /// The same with one more field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The answer as bytes. To `HEAD` the body is announced and not sent (RFC 9110, section 9.3.2).
    pub fn to_bytes(&self, to_head: bool, close: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.body.len());
        line(
            &mut out,
            &[b"HTTP/1.1 ", self.status.to_string().as_bytes(), b" ", reason(self.status).as_bytes()],
        );
        for (name, value) in &self.fields {
            field(&mut out, name, value.as_bytes());
        }
        field(&mut out, "Content-Length", self.body.len().to_string().as_bytes());
        if close {
            field(&mut out, "Connection", b"close");
        }
        out.extend_from_slice(b"\r\n");
        if !to_head {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

/// The line that opens a chunk of so many bytes; the chunk is closed by CRLF.
pub fn chunk_size_line(bytes: usize) -> String {
    format!("{bytes:x}\r\n")
}

fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    line(out, &[name.as_bytes(), b": ", value]);
}

/// The reason phrases of the statuses that the proxy itself answers with.
const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::head::{parse_request, parse_response},
        *,
    };

    #[test]
    fn a_request_is_forwarded_as_it_came_but_for_the_listed_fields() {
        let head = parse_request(
            b"POST /v1/messages?beta=true HTTP/1.1\r\nhost: localhost:8787\r\nX-Api-Key: k\r\n\
              accept-encoding: gzip, br\r\nAccept-Encoding: zstd\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\
              Expect: 100-continue\r\nX-Fireworks-Proxy-Token: secret\r\nanthropic-beta: a,b\r\nContent-Length: 2\r\nX-Odd:  caf\xc3\xa9 \r\n\r\n",
        )
        .expect("accepted");
        let text = upstream_request(&head, "/inference/v1/messages?beta=true", "api.fireworks.ai", 2);
        let expected = "POST /inference/v1/messages?beta=true HTTP/1.1\r\nhost: api.fireworks.ai\r\nX-Api-Key: k\r\n\
             accept-encoding: identity\r\nanthropic-beta: a,b\r\nContent-Length: 2\r\nX-Odd: caf\u{e9}\r\n\
             Connection: close\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }

    #[test]
    fn a_chunked_request_gets_a_length_and_an_old_one_a_host() {
        let chunked =
            parse_request(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n");
        let text = upstream_request(&chunked.expect("accepted"), "/a", "up:1", 7);
        assert_eq!(
            String::from_utf8_lossy(&text),
            "POST /a HTTP/1.1\r\nHost: up:1\r\nAccept-Encoding: identity\r\nContent-Length: 7\r\nConnection: close\r\n\r\n"
        );
        let old = parse_request(b"GET /a HTTP/1.0\r\n\r\n").expect("accepted");
        let text = upstream_request(&old, "/a", "up:1", 0);
        assert!(String::from_utf8_lossy(&text).contains("\r\nHost: up:1\r\n"));
    }

    #[test]
    fn a_response_keeps_all_but_hop_by_hop_fields() {
        let head = parse_response(
            b"HTTP/1.1 200 Fine\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nConnection: close\r\nX-Fireworks-Proxy-Wait-Ms: 1\r\nX-A: 1\r\n\r\n",
            "POST",
        );
        let text = relayed_response(&head.expect("accepted"), true, false, &[(WAIT_FIELD, "12")]);
        assert_eq!(
            String::from_utf8_lossy(&text),
            "HTTP/1.1 200 Fine\r\ncontent-type: text/event-stream\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\nx-fireworks-proxy-wait-ms: 12\r\n\r\n"
        );
    }

    #[test]
    fn an_answer_to_head_announces_its_body_and_holds_it_back() {
        let answer = Answer::json(200, &"{\"a\":1}").with("Retry-After", "3");
        let text = String::from_utf8(answer.to_bytes(true, true)).expect("ASCII");
        assert!(
            text.contains("Content-Length: 8\r\n") && text.ends_with("Connection: close\r\n\r\n"),
            "{text}"
        );
        assert!(answer.to_bytes(false, false).ends_with(b"\r\n\r\n{\"a\":1}\n"));
    }
}
