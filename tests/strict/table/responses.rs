//! What only responses have: the status line, statuses and methods without a body, interim answers, and bodies
//! that end with the connection.

use fireworks_proxy::http::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, TRAILER_BYTES_MAX, head::Framing};

use super::{
    Answered::{self, Broken, Cut, NoHead, Refused, Whole},
    ResponseCase,
};

/// Name, section, bytes, outcome.
type Row = (&'static str, &'static str, &'static [u8], Answered);

const EMPTY: Answered = Whole(200, Framing::Length(0), b"");
const OK: Answered = Whole(200, Framing::Length(2), b"ok");

/// Rows whose bytes are a status line; an empty body follows.
#[rustfmt::skip] // One case, one line.
const LINES: &[Row] = &[
    ("a status line", "RFC 9112, 4", b"HTTP/1.1 200 OK", EMPTY),
    ("HTTP/1.0", "RFC 9112, 2.3", b"HTTP/1.0 200 OK", EMPTY),
    ("an empty reason", "RFC 9112, 4", b"HTTP/1.1 200 ", EMPTY),
    ("a reason of several words", "RFC 9112, 4", b"HTTP/1.1 200 Fine, thanks\tagain", EMPTY),
    ("a reason with obs-text", "RFC 9112, 4", b"HTTP/1.1 200 caf\xe9 \xff", EMPTY),
    ("a reason that begins with a space", "RFC 9112, 4", b"HTTP/1.1 200  OK", EMPTY),
    ("a status nobody knows", "RFC 9110, 15", b"HTTP/1.1 299 Odd", Whole(299, Framing::Length(0), b"")),
    ("the last status", "RFC 9110, 15", b"HTTP/1.1 599 Odd", Whole(599, Framing::Length(0), b"")),
    ("a status above the last class", "RFC 9110, 15", b"HTTP/1.1 600 Odd", Whole(600, Framing::Length(0), b"")),
    ("a status of nines", "RFC 9110, 15", b"HTTP/1.1 999 Odd", Whole(999, Framing::Length(0), b"")),
    ("no space behind the status", "RFC 9112, 4", b"HTTP/1.1 200", Refused),
    ("a tab behind the status", "RFC 9112, 4", b"HTTP/1.1 200\tOK", Refused),
    ("a status of two digits", "RFC 9112, 4", b"HTTP/1.1 20 OK", Refused),
    ("a status of four digits", "RFC 9112, 4", b"HTTP/1.1 2000 OK", Refused),
    ("a status with letters", "RFC 9112, 4", b"HTTP/1.1 2OO OK", Refused),
    ("a negative status", "RFC 9112, 4", b"HTTP/1.1 -20 OK", Refused),
    ("a status below 100", "RFC 9110, 15", b"HTTP/1.1 099 Odd", Refused),
    ("a status of zeros", "RFC 9110, 15", b"HTTP/1.1 000 Odd", Refused),
    ("no status", "RFC 9112, 4", b"HTTP/1.1 OK", Refused),
    ("two spaces before the status", "RFC 9112, 4", b"HTTP/1.1  200 OK", Refused),
    ("a tab before the status", "RFC 9112, 4", b"HTTP/1.1\t200 OK", Refused),
    ("white space before the status line", "RFC 9112, 2.2", b" HTTP/1.1 200 OK", Refused),
    ("an empty line before the status line", "RFC 9112, 2.2", b"\r\nHTTP/1.1 200 OK", Refused),
    ("an empty line of LF before the status line", "RFC 9112, 2.2", b"\nHTTP/1.1 200 OK", Refused),
    ("a status line that ends in LF", "RFC 9112, 2.2", b"HTTP/1.1 200 OK\nX: 1", Refused),
    ("a CR in a reason", "RFC 9112, 2.2", b"HTTP/1.1 200 O\rK", Refused),
    ("NUL in a reason", "RFC 9112, 4", b"HTTP/1.1 200 O\0K", Refused),
    ("a control character in a reason", "RFC 9112, 4", b"HTTP/1.1 200 O\x1bK", Refused),
    ("white space before the first field", "RFC 9112, 2.2", b"HTTP/1.1 200 OK\r\n X: 1", Refused),
    ("HTTP/1.2", "RFC 9112, 2.3", b"HTTP/1.2 200 OK", Refused),
    ("HTTP/2", "RFC 9112, 2.3", b"HTTP/2 200", Refused),
    ("HTTP/2.0", "RFC 9112, 2.3", b"HTTP/2.0 200 OK", Refused),
    ("HTTP/0.9 with its version", "RFC 9112, 2.3", b"HTTP/0.9 200 OK", Refused),
    ("http/1.1", "RFC 9112, 2.3", b"http/1.1 200 OK", Refused),
    ("ICY", "RFC 9112, 2.3", b"ICY 200 OK", Refused),
    ("another protocol", "RFC 9112, 2.3", b"SSH-2.0-OpenSSH_9.6", Refused),
    ("a request", "RFC 9112, 4", b"GET /x HTTP/1.1", Refused),
    ("a switch of protocols", "RFC 9110, 15.2.2", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c", Refused),
];

/// Rows whose bytes are all there is, in answer to GET.
#[rustfmt::skip] // One case, one line.
const TO_GET: &[Row] = &[
    // Until the connection closes.
    ("a body that ends with the connection", "RFC 9112, 6.3", b"HTTP/1.1 200 OK\r\n\r\nhello", Whole(200, Framing::UntilClose, b"hello")),
    ("an empty body that ends with the connection", "RFC 9112, 6.3", b"HTTP/1.1 200 OK\r\n\r\n", Whole(200, Framing::UntilClose, b"")),
    ("a body of HTTP/1.0", "RFC 9112, 6.3", b"HTTP/1.0 200 OK\r\n\r\nhello", Whole(200, Framing::UntilClose, b"hello")),
    ("a body that looks like chunks", "RFC 9112, 6.3", b"HTTP/1.1 200 OK\r\n\r\n0\r\n\r\n", Whole(200, Framing::UntilClose, b"0\r\n\r\n")),
    ("a body that looks like an answer", "RFC 9112, 6.3", b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Whole(200, Framing::UntilClose, b"HTTP/1.1 200 OK\r\n\r\n")),
    ("Transfer-Encoding of HTTP/1.0", "RFC 9112, 6.1", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
    // Statuses without a body.
    ("204", "RFC 9110, 15.3.5", b"HTTP/1.1 204 No Content\r\n\r\n", Whole(204, Framing::Empty, b"")),
    ("204 with a length of zero", "RFC 9110, 8.6", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Whole(204, Framing::Empty, b"")),
    ("204 with bytes behind it", "RFC 9112, 6.3", b"HTTP/1.1 204 No Content\r\n\r\nhello", Whole(204, Framing::Empty, b"")),
    ("204 with a length", "RFC 9110, 8.6", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", Refused),
    ("204 with Transfer-Encoding", "RFC 9112, 6.1", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
    ("204 with a length that is none", "RFC 9110, 8.6", b"HTTP/1.1 204 No Content\r\nContent-Length: x\r\n\r\n", Refused),
    ("304", "RFC 9110, 15.4.5", b"HTTP/1.1 304 Not Modified\r\n\r\n", Whole(304, Framing::Empty, b"")),
    ("304 with a length", "RFC 9110, 8.6", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Whole(304, Framing::Empty, b"")),
    ("304 with Transfer-Encoding", "RFC 9112, 6.1", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", Whole(304, Framing::Empty, b"")),
    ("304 with a length and bytes behind it", "RFC 9112, 6.3", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", Whole(304, Framing::Empty, b"")),
    ("304 with both framing fields", "RFC 9112, 6.1", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Refused),
    ("304 with two lengths", "RFC 9112, 6.3", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Refused),
    ("205 with a length of zero", "RFC 9110, 15.3.6", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", Whole(205, Framing::Length(0), b"")),
    // Interim answers.
    ("100 before the answer", "RFC 9110, 15.2.1", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", OK),
    ("several interim answers", "RFC 9110, 15.2", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 199 Odd\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", OK),
    ("an interim answer with a length of zero", "RFC 9110, 8.6", b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", OK),
    ("an interim answer with a length", "RFC 9110, 8.6", b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("an interim answer with Transfer-Encoding", "RFC 9112, 6.1", b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("an interim answer with a body", "RFC 9110, 15.2", b"HTTP/1.1 100 Continue\r\n\r\nhello\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("a switch of protocols behind an interim answer", "RFC 9110, 15.2.2", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Refused),
    ("an empty line behind an interim answer", "RFC 9112, 2.2", b"HTTP/1.1 100 Continue\r\n\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("an interim answer alone", "RFC 9110, 15.2", b"HTTP/1.1 100 Continue\r\n\r\n", NoHead),
    // Behind the end.
    ("bytes behind a body", "RFC 9112, 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, really", OK),
    ("an answer behind the answer", "RFC 9112, 9.2", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", OK),
    ("an answer behind chunks", "RFC 9112, 9.2", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", Whole(200, Framing::Chunked, b"ok")),
    ("Connection: close", "RFC 9112, 9.6", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", OK),
    // No whole head.
    ("nothing", "RFC 9112, 8", b"", NoHead),
    ("half a status line", "RFC 9112, 8", b"HTTP/1.1 20", NoHead),
    ("a head without its blank line", "RFC 9112, 8", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", NoHead),
    ("an empty line alone", "RFC 9112, 8", b"\r\n", NoHead),
    ("HTTP/0.9", "RFC 9112, 2.3", b"<p>hello</p>\r\n", NoHead),
    ("HTTP/0.9 with an empty line", "RFC 9112, 2.3", b"<p>hello</p>\r\n\r\n", Refused),
    ("LF for every line end", "RFC 9112, 2.2", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Refused),
    ("a blank line of LF", "RFC 9112, 2.2", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok", Refused),
];

/// Rows in answer to HEAD.
#[rustfmt::skip] // One case, one line.
const TO_HEAD: &[Row] = &[
    ("no framing", "RFC 9112, 6.3", b"HTTP/1.1 200 OK\r\n\r\n", Whole(200, Framing::Empty, b"")),
    ("a length", "RFC 9110, 9.3.2", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Whole(200, Framing::Empty, b"")),
    ("Transfer-Encoding", "RFC 9112, 6.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Whole(200, Framing::Empty, b"")),
    ("a body that must not be there", "RFC 9112, 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Whole(200, Framing::Empty, b"")),
    ("a body of chunks that must not be there", "RFC 9112, 6.3", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Whole(200, Framing::Empty, b"")),
    ("an error with a length", "RFC 9110, 9.3.2", b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n", Whole(404, Framing::Empty, b"")),
    ("an interim answer", "RFC 9110, 15.2", b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Whole(200, Framing::Empty, b"")),
    ("both framing fields", "RFC 9112, 6.1", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Refused),
    ("a length that is none", "RFC 9110, 8.6", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", Refused),
    ("204 with a length", "RFC 9110, 8.6", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", Refused),
];

fn case(row: &Row, method: &'static str, after: &[u8]) -> ResponseCase {
    let (name, section, bytes, outcome) = *row;
    let name = format!("response to {method} only: {name}");
    ResponseCase { name, section, method, bytes: [bytes, after].concat(), outcome }
}

/// Responses that come near the limits, or exceed them.
fn large() -> Vec<ResponseCase> {
    let case = |name: &str, section, bytes: String, outcome| {
        let name = format!("response to GET only: {name}");
        ResponseCase { name, section, method: "GET", bytes: bytes.into_bytes(), outcome }
    };
    let start = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n";
    let field = |bytes: usize| format!("{start}X: {}\r\n\r\n", "x".repeat(bytes - start.len() - 7));
    let fields = |count: usize| format!("{start}{}\r\n", "X: 1\r\n".repeat(count - 1));
    let chunked = |body: String| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let trailers = "X: 1\r\n".repeat(TRAILER_BYTES_MAX / 5);
    let many = "1\r\nx\r\n".repeat(2_000);
    let cut = chunked(many.clone());
    vec![
        case("a head of the largest size", "RFC 9110, 5.4", field(HEAD_BYTES_MAX), EMPTY),
        case("a head that is too large", "RFC 9110, 5.4", field(HEAD_BYTES_MAX + 1), Refused),
        case("too many fields", "RFC 9110, 5.4", fields(HEAD_FIELDS_MAX + 1), Refused),
        case(
            "endless trailers",
            "RFC 9112, 7.1.2",
            chunked(format!("2\r\nok\r\n0\r\n{trailers}\r\n")),
            Broken(200, b"ok"),
        ),
        case(
            "thousands of chunks",
            "RFC 9112, 7.1",
            chunked(format!("{many}0\r\n\r\n")),
            Whole(200, Framing::Chunked, &[b'x'; 2_000]),
        ),
        case("thousands of chunks without the last", "RFC 9112, 8", cut, Cut(200, &[b'x'; 2_000])),
    ]
}

/// Every case of this file.
pub(super) fn cases() -> Vec<ResponseCase> {
    let lines = LINES.iter().map(|row| case(row, "GET", b"\r\nContent-Length: 0\r\n\r\n"));
    let to_get = TO_GET.iter().map(|row| case(row, "GET", b""));
    let to_head = TO_HEAD.iter().map(|row| case(row, "HEAD", b""));
    lines.chain(to_get).chain(to_head).chain(large()).collect()
}
