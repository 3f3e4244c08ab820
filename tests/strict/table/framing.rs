//! Framing fields with the blank line and the body behind them, as requests and responses have them.

use fireworks_proxy::http::head::Framing;

use super::{Judged, SharedRow};

const HELLO: Judged = Judged::Whole(Framing::Length(5), b"hello");
const HELLO_CHUNKED: Judged = Judged::Whole(Framing::Chunked, b"hello");
const MALFORMED: Judged = Judged::Malformed;

#[rustfmt::skip] // One case, one line.
pub(super) const ROWS: &[SharedRow] = &[
    // Content-Length.
    ("a length", "RFC 9112, 6.2", b"Content-Length: 5\r\n\r\nhello", HELLO),
    ("a length of zero", "RFC 9112, 6.2", b"Content-Length: 0\r\n\r\n", Judged::Whole(Framing::Length(0), b"")),
    ("a length in another case", "RFC 9110, 5.1", b"cONTENT-lENGTH: 5\r\n\r\nhello", HELLO),
    ("a length with leading zeros", "RFC 9110, 8.6", b"Content-Length: 0005\r\n\r\nhello", HELLO),
    ("a length between white space", "RFC 9112, 5", b"Content-Length: \t5 \t\r\n\r\nhello", HELLO),
    ("a body that looks like a request", "RFC 9112, 6.2", b"Content-Length: 36\r\n\r\nGET /y HTTP/1.1\r\nHost: localhost\r\n\r\n",
        Judged::Whole(Framing::Length(36), b"GET /y HTTP/1.1\r\nHost: localhost\r\n\r\n")),
    ("a body of all kinds of bytes", "RFC 9112, 6", b"Content-Length: 6\r\n\r\n\0\n\r\xff\x7f\t", Judged::Whole(Framing::Length(6), b"\0\n\r\xff\x7f\t")),
    ("a body shorter than its length", "RFC 9112, 8", b"Content-Length: 5\r\n\r\nhell", Judged::Short(b"hell")),
    ("a body that does not begin", "RFC 9112, 8", b"Content-Length: 5\r\n\r\n", Judged::Short(b"")),
    ("two lengths that differ", "RFC 9112, 6.3", b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", MALFORMED),
    ("two lengths that agree", "RFC 9112, 6.3", b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", MALFORMED),
    ("two lengths in two cases", "RFC 9112, 6.3", b"Content-Length: 5\r\nX-A: 1\r\ncontent-length: 0\r\n\r\nhello", MALFORMED),
    ("a list of lengths", "RFC 9112, 6.3", b"Content-Length: 5, 5\r\n\r\nhello", MALFORMED),
    ("a list that ends in a comma", "RFC 9112, 6.3", b"Content-Length: 5,\r\n\r\nhello", MALFORMED),
    ("a length with plus", "RFC 9110, 8.6", b"Content-Length: +5\r\n\r\nhello", MALFORMED),
    ("a length with minus", "RFC 9110, 8.6", b"Content-Length: -5\r\n\r\nhello", MALFORMED),
    ("a length below zero by nothing", "RFC 9110, 8.6", b"Content-Length: -0\r\n\r\n", MALFORMED),
    ("an empty length", "RFC 9110, 8.6", b"Content-Length:\r\n\r\nhello", MALFORMED),
    ("a hexadecimal length", "RFC 9110, 8.6", b"Content-Length: 0x5\r\n\r\nhello", MALFORMED),
    ("a length in words", "RFC 9110, 8.6", b"Content-Length: five\r\n\r\nhello", MALFORMED),
    ("a length with a unit", "RFC 9110, 8.6", b"Content-Length: 5B\r\n\r\nhello", MALFORMED),
    ("a length with a fraction", "RFC 9110, 8.6", b"Content-Length: 5.0\r\n\r\nhello", MALFORMED),
    ("a length with an exponent", "RFC 9110, 8.6", b"Content-Length: 5e0\r\n\r\nhello", MALFORMED),
    ("a length with an underscore", "RFC 9110, 8.6", b"Content-Length: 0_5\r\n\r\nhello", MALFORMED),
    ("a length in quotes", "RFC 9110, 8.6", b"Content-Length: \"5\"\r\n\r\nhello", MALFORMED),
    ("a length of two words", "RFC 9110, 8.6", b"Content-Length: 5 5\r\n\r\nhello", MALFORMED),
    ("a length in digits of another script", "RFC 9110, 8.6", b"Content-Length: \xd9\xa5\r\n\r\nhello", MALFORMED),
    ("a length behind a vertical tab", "RFC 9110, 5.5", b"Content-Length: \x0b5\r\n\r\nhello", MALFORMED),
    ("a length of 2 to the 64th", "RFC 9110, 8.6", b"Content-Length: 18446744073709551616\r\n\r\nhello", MALFORMED),
    ("a length of 2 to the 64th and five", "RFC 9110, 8.6", b"Content-Length: 18446744073709551621\r\n\r\nhello", MALFORMED),
    ("a length of 2 to the 63rd", "RFC 9110, 8.6", b"Content-Length: 9223372036854775808\r\n\r\nhello", MALFORMED),
    ("a length of a hundred zeros and a five", "RFC 9110, 8.6", b"Content-Length: 00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000005\r\n\r\nhello", MALFORMED),
    // Transfer-Encoding.
    ("chunked", "RFC 9112, 7.1", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", HELLO_CHUNKED),
    ("chunked in capitals", "RFC 9112, 7", b"Transfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", HELLO_CHUNKED),
    ("chunked between white space", "RFC 9112, 5", b"Transfer-Encoding:\tchunked \t\r\n\r\n5\r\nhello\r\n0\r\n\r\n", HELLO_CHUNKED),
    ("chunked, and Connection names it", "RFC 9112, 6.1", b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", HELLO_CHUNKED),
    ("chunked twice in a list", "RFC 9112, 7.1", b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked twice in two fields", "RFC 9112, 7.1", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked, then identity in another field", "RFC 9112, 6.1", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked not last", "RFC 9112, 6.3", b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked behind gzip", "RFC 9112, 6.1", b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("gzip alone", "RFC 9112, 6.3", b"Transfer-Encoding: gzip\r\n\r\nhello", MALFORMED),
    ("identity", "RFC 9112, 7", b"Transfer-Encoding: identity\r\n\r\nhello", MALFORMED),
    ("an empty Transfer-Encoding", "RFC 9112, 6.1", b"Transfer-Encoding:\r\n\r\n0\r\n\r\n", MALFORMED),
    ("an empty element behind chunked", "RFC 9112, 6.1", b"Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", MALFORMED),
    ("an empty element before chunked", "RFC 9112, 6.1", b"Transfer-Encoding: , chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked with a parameter", "RFC 9112, 7.1", b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked in quotes", "RFC 9112, 7", b"Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", MALFORMED),
    ("xchunked", "RFC 9112, 7", b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked behind a vertical tab", "RFC 9110, 5.5", b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked before a form feed", "RFC 9110, 5.5", b"Transfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked before NUL", "RFC 9110, 5.5", b"Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked before a no-break space", "RFC 9112, 7", b"Transfer-Encoding: chunked\xa0\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked with a letter of another script", "RFC 9112, 7", b"Transfer-Encoding: chun\xe2\x84\xaaed\r\n\r\n0\r\n\r\n", MALFORMED),
    // Both.
    ("length before chunked", "RFC 9112, 6.1", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked before length", "RFC 9112, 6.1", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked and a length of zero", "RFC 9112, 6.1", b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", MALFORMED),
    ("identity and a length", "RFC 9112, 6.1", b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", MALFORMED),
    ("a folded chunked and a length", "RFC 9112, 5.2", b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", MALFORMED),
];
