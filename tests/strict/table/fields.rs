//! Field lines, as requests and responses have them. The head has no body.

use fireworks_proxy::http::head::Framing;

use super::{Judged, SharedRow};

const FINE: Judged = Judged::Whole(Framing::Length(0), b"");
const MALFORMED: Judged = Judged::Malformed;

#[rustfmt::skip] // One case, one line.
pub(super) const ROWS: &[SharedRow] = &[
    // Names.
    ("a field", "RFC 9112, 5", b"X-A: 1", FINE),
    ("a name of every token character", "RFC 9110, 5.6.2", b"!#$%&'*+-.^_`|~09azAZ: 1", FINE),
    ("a name that looks like Content-Length and is not", "RFC 9110, 5.1", b"Content_Length: 5", FINE),
    ("a name that looks like Transfer-Encoding and is not", "RFC 9110, 5.1", b"Transfer_Encoding: chunked", FINE),
    ("an empty name", "RFC 9112, 5", b": 1", MALFORMED),
    ("a space before the colon", "RFC 9112, 5.1", b"X-A : 1", MALFORMED),
    ("a tab before the colon", "RFC 9112, 5.1", b"X-A\t: 1", MALFORMED),
    ("a space before the colon of Transfer-Encoding", "RFC 9112, 5.1", b"Transfer-Encoding : chunked", MALFORMED),
    ("a space within a name", "RFC 9110, 5.6.2", b"X A: 1", MALFORMED),
    ("a line without a colon", "RFC 9112, 5", b"no colon", MALFORMED),
    ("a delimiter in a name", "RFC 9110, 5.6.2", b"X(A): 1", MALFORMED),
    ("a quote in a name", "RFC 9110, 5.6.2", b"\"X-A\": 1", MALFORMED),
    ("a slash in a name", "RFC 9110, 5.6.2", b"X/A: 1", MALFORMED),
    ("obs-text in a name", "RFC 9110, 5.6.2", b"X-\xff: 1", MALFORMED),
    ("UTF-8 in a name", "RFC 9110, 5.6.2", b"X-\xc3\xa9: 1", MALFORMED),
    ("a control character in a name", "RFC 9110, 5.6.2", b"X-\x01: 1", MALFORMED),
    ("NUL in a name", "RFC 9110, 5.6.2", b"X-\0: 1", MALFORMED),
    // Values.
    ("an empty value", "RFC 9110, 5.5", b"X-A:", FINE),
    ("a value of white space", "RFC 9110, 5.5", b"X-A: \t ", FINE),
    ("no space after the colon", "RFC 9112, 5", b"X-A:1", FINE),
    ("tabs and spaces around a value", "RFC 9112, 5", b"X-A:\t 1\t ", FINE),
    ("a tab within a value", "RFC 9110, 5.5", b"X-A: 1\t2", FINE),
    ("colons in a value", "RFC 9112, 5", b"X-A: a:b: c", FINE),
    ("obs-text in a value", "RFC 9110, 5.5", b"X-A: caf\xe9 \x80\xff", FINE),
    ("NUL in a value", "RFC 9110, 5.5", b"X-A: a\0b", MALFORMED),
    ("a control character in a value", "RFC 9110, 5.5", b"X-A: a\x01b", MALFORMED),
    ("vertical tab in a value", "RFC 9110, 5.5", b"X-A: a\x0bb", MALFORMED),
    ("form feed behind a value", "RFC 9110, 5.5", b"X-A: a\x0c", MALFORMED),
    ("escape in a value", "RFC 9110, 5.5", b"X-A: \x1b[31m", MALFORMED),
    ("DEL in a value", "RFC 9110, 5.5", b"X-A: a\x7fb", MALFORMED),
    // Lines.
    ("a bare LF between fields", "RFC 9112, 2.2", b"X-A: 1\nX-B: 2", MALFORMED),
    ("a bare LF before Transfer-Encoding", "RFC 9112, 2.2", b"X-A: 1\nTransfer-Encoding: chunked", MALFORMED),
    ("a bare CR in a value", "RFC 9112, 2.2", b"X-A: 1\r2", MALFORMED),
    ("a bare CR between fields", "RFC 9112, 2.2", b"X-A: 1\rX-B: 2", MALFORMED),
    ("CR twice", "RFC 9112, 2.2", b"X-A: 1\r\r\nX-B: 2", MALFORMED),
    ("LF before CR", "RFC 9112, 2.2", b"X-A: 1\n\rX-B: 2", MALFORMED),
    ("a blank line of bare LF", "RFC 9112, 2.2", b"X-A: 1\r\n\nX-B: 2", MALFORMED),
    ("a value folded with a space", "RFC 9112, 5.2", b"X-A: 1\r\n 2", MALFORMED),
    ("a value folded with a tab", "RFC 9112, 5.2", b"X-A: 1\r\n\t2", MALFORMED),
    ("a folded Transfer-Encoding", "RFC 9112, 5.2", b"Transfer-Encoding:\r\n chunked", MALFORMED),
    ("a line of white space", "RFC 9112, 5.2", b"X-A: 1\r\n \r\nX-B: 2", MALFORMED),
    // Connection.
    ("Connection: keep-alive", "RFC 9112, 9.3", b"Connection: keep-alive", FINE),
    ("fields that Connection names", "RFC 9110, 7.6.1", b"Connection: X-Hop, x-hip\r\nX-Hop: 1\r\nX-HIP: 2\r\nX-A: 3", FINE),
    ("fields that several Connection fields name", "RFC 9110, 7.6.1", b"Connection: x-hop\r\nX-Hop: 1\r\nConnection: x-hip\r\nX-Hip: 2", FINE),
    ("every well-known hop-by-hop field", "RFC 9110, 7.6.1", b"Connection: TE, Upgrade, HTTP2-Settings\r\nTE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nProxy-Authenticate: Basic", FINE),
    ("empty elements in Connection", "RFC 9110, 5.6.1", b"Connection: , keep-alive,,", FINE),
    ("Connection names Transfer-Encoding, which is absent", "RFC 9112, 6.1", b"Connection: transfer-encoding", FINE),
    ("Connection names Content-Length", "RFC 9110, 7.6.1", b"Connection: close, content-length", MALFORMED),
    ("Connection names Content-Type", "RFC 9110, 7.6.1", b"Connection: Content-Type\r\nContent-Type: a/b", MALFORMED),
    ("Connection names Content-Encoding", "RFC 9110, 7.6.1", b"Connection: content-encoding", MALFORMED),
    ("Connection names Host", "RFC 9110, 7.6.1", b"Connection: Host", MALFORMED),
    ("Connection names Authorization", "RFC 9110, 7.6.1", b"Connection: authorization\r\nAuthorization: Bearer k", MALFORMED),
    ("Connection names X-Api-Key", "RFC 9110, 7.6.1", b"Connection: keep-alive\r\nConnection: X-API-KEY\r\nx-api-key: k", MALFORMED),
    ("Connection names Cache-Control", "RFC 9110, 7.6.1", b"Connection: cache-control", MALFORMED),
    ("a Connection option that is no token", "RFC 9110, 7.6.1", b"Connection: close;foo", MALFORMED),
    ("a Connection option in quotes", "RFC 9110, 7.6.1", b"Connection: \"close\"", MALFORMED),
    ("Connection options without a comma", "RFC 9110, 7.6.1", b"Connection: close keep-alive", MALFORMED),
];
