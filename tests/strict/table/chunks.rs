//! Chunked bodies, as requests and responses have them.

use fireworks_proxy::http::head::Framing;

use super::{Judged, SharedRow};

const HELLO: Judged = Judged::Whole(Framing::Chunked, b"hello");
const NOTHING: Judged = Judged::Whole(Framing::Chunked, b"");
const BROKEN: Judged = Judged::Broken(b"");
const BROKEN_BEHIND_HELLO: Judged = Judged::Broken(b"hello");

#[rustfmt::skip] // One case, one line.
pub(super) const ROWS: &[SharedRow] = &[
    ("one chunk", "RFC 9112, 7.1", b"5\r\nhello\r\n0\r\n\r\n", HELLO),
    ("no chunk but the last", "RFC 9112, 7.1", b"0\r\n\r\n", NOTHING),
    ("many chunks", "RFC 9112, 7.1", b"1\r\nh\r\n3\r\nell\r\n1\r\no\r\n0\r\n\r\n", HELLO),
    ("a chunk of line ends", "RFC 9112, 7.1", b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", Judged::Whole(Framing::Chunked, b"\r\n0\r\n\r\n")),
    ("a chunk that holds a chunk", "RFC 9112, 7.1", b"a\r\n5\r\nhello\r\n\r\n0\r\n\r\n", Judged::Whole(Framing::Chunked, b"5\r\nhello\r\n")),
    // Sizes.
    ("a size with leading zeros", "RFC 9112, 7.1", b"0005\r\nhello\r\n0\r\n\r\n", HELLO),
    ("a last chunk of many zeros", "RFC 9112, 7.1", b"5\r\nhello\r\n000\r\n\r\n", HELLO),
    ("a size in capitals", "RFC 9112, 7.1", b"A\r\n0123456789\r\n0\r\n\r\n", Judged::Whole(Framing::Chunked, b"0123456789")),
    ("a size of sixteen digits", "RFC 9112, 7.1", b"0000000000000005\r\nhello\r\n0\r\n\r\n", HELLO),
    ("a size of seventeen digits", "RFC 9112, 7.1", b"00000000000000005\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("a size that overflows to five", "RFC 9112, 7.1", b"10000000000000005\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("a size line of bare CRLF", "RFC 9112, 7.1", b"\r\n\r\n", BROKEN),
    ("a size line of bare CRLF behind a chunk", "RFC 9112, 7.1", b"5\r\nhello\r\n\r\n\r\n", BROKEN_BEHIND_HELLO),
    ("an extension without a size", "RFC 9112, 7.1", b";a=b\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("a size with plus", "RFC 9112, 7.1", b"+5\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("a size with minus", "RFC 9112, 7.1", b"-5\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("a size with 0x", "RFC 9112, 7.1", b"0x5\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("a size with an underscore", "RFC 9112, 7.1", b"0_5\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("a size that is no number", "RFC 9112, 7.1", b"zz\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("a size with a letter behind", "RFC 9112, 7.1", b"5h\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("a size with a comma", "RFC 9112, 7.1", b"5,5\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("a size in quotes", "RFC 9112, 7.1", b"\"5\"\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("a space before a size", "RFC 9112, 7.1", b" 5\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("a space behind a size", "RFC 9112, 7.1", b"5 \r\nhello\r\n0\r\n\r\n", BROKEN),
    ("a tab behind a size", "RFC 9112, 7.1", b"5\t\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("NUL behind a size", "RFC 9112, 7.1", b"5\0\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("an empty line before the first size", "RFC 9112, 7.1", b"\r\n5\r\nhello\r\n0\r\n\r\n", BROKEN),
    // Line ends.
    ("a size line that ends in LF", "RFC 9112, 2.2", b"5\nhello\r\n0\r\n\r\n", BROKEN),
    ("a size line that ends in CR", "RFC 9112, 2.2", b"5\rhello\r\n0\r\n\r\n", BROKEN),
    ("a size line that ends in CR CR LF", "RFC 9112, 2.2", b"5\r\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("no CRLF behind a chunk", "RFC 9112, 7.1", b"5\r\nhello0\r\n\r\n", BROKEN_BEHIND_HELLO),
    ("LF behind a chunk", "RFC 9112, 7.1", b"5\r\nhello\n0\r\n\r\n", BROKEN_BEHIND_HELLO),
    ("CR behind a chunk", "RFC 9112, 7.1", b"5\r\nhello\r0\r\n\r\n", BROKEN_BEHIND_HELLO),
    ("two other bytes behind a chunk", "RFC 9112, 7.1", b"5\r\nhelloXX0\r\n\r\n", BROKEN_BEHIND_HELLO),
    ("a chunk longer than its size", "RFC 9112, 7.1", b"4\r\nhello\r\n0\r\n\r\n", Judged::Broken(b"hell")),
    ("a chunk shorter than its size", "RFC 9112, 7.1", b"6\r\nhello\r\n0\r\n\r\n", Judged::Broken(b"hello\r")),
    ("a last chunk line that ends in LF", "RFC 9112, 2.2", b"5\r\nhello\r\n0\n\r\n", BROKEN_BEHIND_HELLO),
    ("a closing line of LF", "RFC 9112, 2.2", b"5\r\nhello\r\n0\r\n\n", BROKEN_BEHIND_HELLO),
    ("a closing line of CR and something", "RFC 9112, 2.2", b"5\r\nhello\r\n0\r\n\rX", BROKEN_BEHIND_HELLO),
    // Extensions.
    ("an extension", "RFC 9112, 7.1.1", b"5;a=b\r\nhello\r\n0;c\r\n\r\n", HELLO),
    ("an extension in quotes", "RFC 9112, 7.1.1", b"5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", HELLO),
    ("an extension that looks like a chunk", "RFC 9112, 7.1.1", b"5;0\r\nhello\r\n0\r\n\r\n", HELLO),
    ("LF in an extension", "RFC 9112, 7.1.1", b"5;a\nb\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("CR in an extension", "RFC 9112, 7.1.1", b"5;a\rb\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("CR in an extension's quotes", "RFC 9112, 7.1.1", b"5;a=\"\rb\"\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("LF at the end of an extension", "RFC 9112, 7.1.1", b"5;a\nhello\r\n0\r\n\r\n", BROKEN),
    ("LF in the last chunk's extension", "RFC 9112, 7.1.1", b"5\r\nhello\r\n0;\nX: 1\r\n\r\n", BROKEN_BEHIND_HELLO),
    ("NUL in an extension", "RFC 9112, 7.1.1", b"5;\0\r\nhello\r\n0\r\n\r\n", BROKEN),
    ("a space before an extension", "RFC 9112, 7.1.1", b"5 ;a\r\nhello\r\n0\r\n\r\n", BROKEN),
    // Trailers.
    ("a trailer", "RFC 9112, 7.1.2", b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", HELLO),
    ("an empty trailer value with obs-text beside", "RFC 9112, 7.1.2", b"5\r\nhello\r\n0\r\nX-A:\r\nX-B: \xff\t1\r\n\r\n", HELLO),
    ("a trailer without a colon", "RFC 9112, 7.1.2", b"5\r\nhello\r\n0\r\nnot a trailer\r\n\r\n", BROKEN_BEHIND_HELLO),
    ("a trailer without a name", "RFC 9112, 7.1.2", b"5\r\nhello\r\n0\r\n: 1\r\n\r\n", BROKEN_BEHIND_HELLO),
    ("a space before a trailer's colon", "RFC 9112, 5.1", b"5\r\nhello\r\n0\r\nX : 1\r\n\r\n", BROKEN_BEHIND_HELLO),
    ("a trailer that ends in LF", "RFC 9112, 2.2", b"5\r\nhello\r\n0\r\nX: 1\n\r\n", BROKEN_BEHIND_HELLO),
    ("a folded trailer", "RFC 9112, 5.2", b"5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n", BROKEN_BEHIND_HELLO),
    ("a control character in a trailer", "RFC 9110, 5.5", b"5\r\nhello\r\n0\r\nX: \x01\r\n\r\n", BROKEN_BEHIND_HELLO),
    ("a CR in a trailer", "RFC 9112, 2.2", b"5\r\nhello\r\n0\r\nX: \r1\r\n\r\n", BROKEN_BEHIND_HELLO),
    ("a request where trailers are", "RFC 9112, 7.1.2", b"5\r\nhello\r\n0\r\nGET /y HTTP/1.1\r\n\r\n", BROKEN_BEHIND_HELLO),
    // Ends too early.
    ("nothing at all", "RFC 9112, 8", b"", Judged::Short(b"")),
    ("a size alone", "RFC 9112, 8", b"5", Judged::Short(b"")),
    ("a size line alone", "RFC 9112, 8", b"5\r\n", Judged::Short(b"")),
    ("half a chunk", "RFC 9112, 8", b"5\r\nhel", Judged::Short(b"hel")),
    ("a chunk without its CRLF", "RFC 9112, 8", b"5\r\nhello", Judged::Short(b"hello")),
    ("no last chunk", "RFC 9112, 8", b"5\r\nhello\r\n", Judged::Short(b"hello")),
    ("half of the last chunk's line", "RFC 9112, 8", b"5\r\nhello\r\n0", Judged::Short(b"hello")),
    ("no closing line", "RFC 9112, 8", b"5\r\nhello\r\n0\r\n", Judged::Short(b"hello")),
    ("half of the closing line", "RFC 9112, 8", b"5\r\nhello\r\n0\r\n\r", Judged::Short(b"hello")),
    ("a trailer without the closing line", "RFC 9112, 8", b"5\r\nhello\r\n0\r\nX: 1\r\n", Judged::Short(b"hello")),
    ("the largest size", "RFC 9112, 7.1", b"7fffffffffffffff\r\nhello", Judged::Short(b"hello")),
];
