//! What only requests have: the request line, `Host`, `Expect`, and requests behind each other.

use fireworks_proxy::http::{
    CHUNK_EXTENSION_BYTES_MAX, HEAD_BYTES_MAX, HEAD_FIELDS_MAX, METHOD_BYTES_MAX, TARGET_BYTES_MAX,
    TRAILER_BYTES_MAX, head::Framing,
};

use super::{
    Accepted,
    End::{self, Closed, Incomplete, Open, Refused},
    RequestCase,
};

/// Name, section, bytes, what is accepted, what comes of the connection.
type Row = (&'static str, &'static str, &'static [u8], &'static [Accepted], End);

const fn empty(method: &'static str, target: &'static str) -> Accepted {
    Accepted { method, target, framing: Framing::Empty, body: b"" }
}

const fn post(target: &'static str, framing: Framing, body: &'static [u8]) -> Accepted {
    Accepted { method: "POST", target, framing, body }
}

const GET_X: &[Accepted] = &[empty("GET", "/x")];
const HELLO: Accepted = post("/x", Framing::Length(5), b"hello");

/// Rows whose bytes are a request line; `Host` follows.
#[rustfmt::skip] // One case, one line.
const LINES: &[Row] = &[
    // Methods.
    ("GET", "RFC 9112, 3", b"GET /x HTTP/1.1", GET_X, Open),
    ("HEAD", "RFC 9110, 9.3.2", b"HEAD /x HTTP/1.1", &[empty("HEAD", "/x")], Open),
    ("DELETE", "RFC 9110, 9.3.5", b"DELETE /x HTTP/1.1", &[empty("DELETE", "/x")], Open),
    ("OPTIONS with a path", "RFC 9110, 9.3.7", b"OPTIONS /x HTTP/1.1", &[empty("OPTIONS", "/x")], Open),
    ("a method nobody knows", "RFC 9110, 9.1", b"M-SEARCH /x HTTP/1.1", &[empty("M-SEARCH", "/x")], Open),
    ("a method in small letters is another method", "RFC 9110, 9.1", b"get /x HTTP/1.1", &[empty("get", "/x")], Open),
    ("a method of every token character", "RFC 9110, 5.6.2", b"!#$%&'*+-.^_`|~09azAZ /x HTTP/1.1", &[empty("!#$%&'*+-.^_`|~09azAZ", "/x")], Open),
    ("a method as long as is allowed", "RFC 9112, 3", b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF /x HTTP/1.1", &[empty("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF", "/x")], Open),
    ("a method longer than is allowed", "RFC 9112, 3", b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG /x HTTP/1.1", &[], Refused(501)),
    ("a method that is no token", "RFC 9110, 9.1", b"G@T /x HTTP/1.1", &[], Refused(400)),
    ("a method with a colon", "RFC 9110, 9.1", b"Host: /x HTTP/1.1", &[], Refused(400)),
    ("a method with obs-text", "RFC 9110, 9.1", b"G\xc9T /x HTTP/1.1", &[], Refused(400)),
    ("a method with NUL", "RFC 9110, 9.1", b"G\0ET /x HTTP/1.1", &[], Refused(400)),
    ("no method", "RFC 9112, 3", b" /x HTTP/1.1", &[], Refused(400)),
    ("TRACE", "RFC 9110, 9.3.8", b"TRACE /x HTTP/1.1", &[], Refused(501)),
    ("trace", "RFC 9110, 9.3.8", b"trace /x HTTP/1.1", &[], Refused(501)),
    ("CONNECT in authority-form", "RFC 9112, 3.2.3", b"CONNECT localhost:443 HTTP/1.1", &[], Refused(501)),
    ("CONNECT with a path", "RFC 9112, 3.2.3", b"CONNECT /x HTTP/1.1", &[], Refused(501)),
    ("CONNECT with an asterisk", "RFC 9112, 3.2.3", b"CONNECT * HTTP/1.1", &[], Refused(501)),
    // Forms of the target.
    ("a path with a query", "RFC 9112, 3.2.1", b"GET /x?a=b&c=/d?e HTTP/1.1", &[empty("GET", "/x?a=b&c=/d?e")], Open),
    ("brackets in a query", "RFC 3986, 2.2", b"GET /x?include[]=y HTTP/1.1", &[empty("GET", "/x?include[]=y")], Open),
    ("every character of a target", "RFC 3986, 2.2", b"GET /azAZ09-._~!$&'()*+,;=:@%2f? HTTP/1.1", &[empty("GET", "/azAZ09-._~!$&'()*+,;=:@%2f?")], Open),
    ("escapes are passed on as they are", "RFC 3986, 2.1", b"GET /x/%2e%2E/%00%0d%0A%C3%A9 HTTP/1.1", &[empty("GET", "/x/%2e%2E/%00%0d%0A%C3%A9")], Open),
    ("dot segments are passed on as they are", "RFC 9110, 7.6", b"GET /x/../y/./z HTTP/1.1", &[empty("GET", "/x/../y/./z")], Open),
    ("a path of two slashes is no authority", "RFC 9112, 3.2.1", b"GET //example.com/x HTTP/1.1", &[empty("GET", "//example.com/x")], Open),
    ("absolute-form", "RFC 9112, 3.2.2", b"GET http://localhost/x HTTP/1.1", &[], Refused(400)),
    ("absolute-form with https", "RFC 9112, 3.2.2", b"GET https://localhost/x HTTP/1.1", &[], Refused(400)),
    ("authority-form", "RFC 9112, 3.2.3", b"GET localhost:443 HTTP/1.1", &[], Refused(400)),
    ("asterisk-form", "RFC 9112, 3.2.4", b"OPTIONS * HTTP/1.1", &[], Refused(400)),
    ("an asterisk for another method", "RFC 9112, 3.2.4", b"GET * HTTP/1.1", &[], Refused(400)),
    ("a path without its slash", "RFC 9112, 3.2.1", b"GET x HTTP/1.1", &[], Refused(400)),
    ("a query alone", "RFC 9112, 3.2.1", b"GET ?x HTTP/1.1", &[], Refused(400)),
    ("a backslash for the slash", "RFC 9112, 3.2.1", b"GET \\x HTTP/1.1", &[], Refused(400)),
    // Characters of the target.
    ("a fragment", "RFC 9112, 3.2.1", b"GET /x#y HTTP/1.1", &[], Refused(400)),
    ("a backslash in a target", "RFC 3986, 2.2", b"GET /x\\y HTTP/1.1", &[], Refused(400)),
    ("a quote in a target", "RFC 3986, 2.2", b"GET /x\"y HTTP/1.1", &[], Refused(400)),
    ("angle brackets in a target", "RFC 3986, 2.2", b"GET /<x> HTTP/1.1", &[], Refused(400)),
    ("braces in a target", "RFC 3986, 2.2", b"GET /{x} HTTP/1.1", &[], Refused(400)),
    ("a bar in a target", "RFC 3986, 2.2", b"GET /x|y HTTP/1.1", &[], Refused(400)),
    ("a caret in a target", "RFC 3986, 2.2", b"GET /x^y HTTP/1.1", &[], Refused(400)),
    ("a back-tick in a target", "RFC 3986, 2.2", b"GET /x`y HTTP/1.1", &[], Refused(400)),
    ("obs-text in a target", "RFC 9112, 3.2", b"GET /caf\xe9 HTTP/1.1", &[], Refused(400)),
    ("UTF-8 in a target", "RFC 9112, 3.2", b"GET /caf\xc3\xa9 HTTP/1.1", &[], Refused(400)),
    ("DEL in a target", "RFC 9112, 3.2", b"GET /x\x7f HTTP/1.1", &[], Refused(400)),
    ("NUL in a target", "RFC 9112, 3.2", b"GET /x\0y HTTP/1.1", &[], Refused(400)),
    ("an escape without digits", "RFC 3986, 2.1", b"GET /x% HTTP/1.1", &[], Refused(400)),
    ("an escape of one digit", "RFC 3986, 2.1", b"GET /x%2 HTTP/1.1", &[], Refused(400)),
    ("an escape that is not hexadecimal", "RFC 3986, 2.1", b"GET /x%zz HTTP/1.1", &[], Refused(400)),
    ("a wide escape", "RFC 3986, 2.1", b"GET /x%u0041 HTTP/1.1", &[], Refused(400)),
    // Spaces.
    ("two spaces before the target", "RFC 9112, 3", b"GET  /x HTTP/1.1", &[], Refused(400)),
    ("two spaces before the version", "RFC 9112, 3", b"GET /x  HTTP/1.1", &[], Refused(400)),
    ("a space behind the version", "RFC 9112, 3", b"GET /x HTTP/1.1 ", &[], Refused(400)),
    ("a space in the target", "RFC 9112, 3.2", b"GET /x y HTTP/1.1", &[], Refused(400)),
    ("tabs for spaces", "RFC 9112, 3", b"GET\t/x\tHTTP/1.1", &[], Refused(400)),
    ("a tab before the version", "RFC 9112, 3", b"GET /x\tHTTP/1.1", &[], Refused(400)),
    ("a vertical tab for a space", "RFC 9112, 3", b"GET\x0b/x HTTP/1.1", &[], Refused(400)),
    ("a bare CR for a space", "RFC 9112, 3", b"GET\r/x HTTP/1.1", &[], Refused(400)),
    ("a bare CR behind the version", "RFC 9112, 2.2", b"GET /x HTTP/1.1\rX: 1", &[], Refused(400)),
    ("a request line that ends in LF", "RFC 9112, 2.2", b"GET /x HTTP/1.1\nX: 1", &[], Refused(400)),
    // Versions.
    ("HTTP/1.2", "RFC 9112, 2.3", b"GET /x HTTP/1.2", &[], Refused(505)),
    ("HTTP/2.0", "RFC 9112, 2.3", b"GET /x HTTP/2.0", &[], Refused(505)),
    ("HTTP/0.9 with its version", "RFC 9112, 2.3", b"GET /x HTTP/0.9", &[], Refused(505)),
    ("HTTP/2", "RFC 9112, 2.3", b"GET /x HTTP/2", &[], Refused(400)),
    ("HTTP/1.10", "RFC 9112, 2.3", b"GET /x HTTP/1.10", &[], Refused(400)),
    ("HTTP/01.1", "RFC 9112, 2.3", b"GET /x HTTP/01.1", &[], Refused(400)),
    ("HTTP/1,1", "RFC 9112, 2.3", b"GET /x HTTP/1,1", &[], Refused(400)),
    ("HTTP/+1.1", "RFC 9112, 2.3", b"GET /x HTTP/+1.1", &[], Refused(400)),
    ("http/1.1", "RFC 9112, 2.3", b"GET /x http/1.1", &[], Refused(400)),
    ("another protocol", "RFC 9112, 2.3", b"GET /x FTP/1.1", &[], Refused(400)),
    ("an empty version", "RFC 9112, 3", b"GET /x ", &[], Refused(400)),
    ("no version", "RFC 9112, 3", b"GET /x", &[], Refused(400)),
    ("a method alone", "RFC 9112, 3", b"GET", &[], Refused(400)),
];

/// Rows whose bytes are field lines behind a request line that is fine.
#[rustfmt::skip] // One case, one line.
const HOSTS: &[Row] = &[
    ("a host", "RFC 9112, 3.2", b"Host: localhost", GET_X, Open),
    ("a host with a port", "RFC 9110, 7.2", b"Host: localhost:8787", GET_X, Open),
    ("a host in another case", "RFC 9110, 4.2.3", b"hOST: LocalHost", GET_X, Open),
    ("an IPv4 address", "RFC 9110, 7.2", b"Host: 127.0.0.1:80", GET_X, Open),
    ("an IPv6 address", "RFC 9110, 7.2", b"Host: [::1]", GET_X, Open),
    ("an IPv6 address with a port", "RFC 9110, 7.2", b"Host: [::1]:8787", GET_X, Open),
    ("no host", "RFC 9112, 3.2", b"X-A: 1", &[], Refused(400)),
    ("two hosts that agree", "RFC 9112, 3.2", b"Host: localhost\r\nHost: localhost", &[], Refused(400)),
    ("two hosts that differ", "RFC 9112, 3.2", b"Host: localhost\r\nX-A: 1\r\nhost: example.com", &[], Refused(400)),
    ("an empty host", "RFC 9110, 4.2.1", b"Host:", &[], Refused(400)),
    ("a port without a host", "RFC 9110, 4.2.1", b"Host: :80", &[], Refused(400)),
    ("a list of hosts", "RFC 9112, 3.2", b"Host: localhost, example.com", &[], Refused(400)),
    ("a list of hosts without a space", "RFC 9112, 3.2", b"Host: localhost,example.com", &[], Refused(400)),
    ("a host with a space", "RFC 9112, 3.2", b"Host: local host", &[], Refused(400)),
    ("a host with a tab", "RFC 9112, 3.2", b"Host: localhost\tx", &[], Refused(400)),
    ("a host with user information", "RFC 9110, 4.2.4", b"Host: user@localhost", &[], Refused(400)),
    ("a host with a password", "RFC 9110, 4.2.4", b"Host: user:pass@localhost", &[], Refused(400)),
    ("a host with a scheme", "RFC 9112, 3.2", b"Host: http://localhost", &[], Refused(400)),
    ("a host with a path", "RFC 9112, 3.2", b"Host: localhost/x", &[], Refused(400)),
    ("a host with a query", "RFC 9112, 3.2", b"Host: localhost?x", &[], Refused(400)),
    ("a host with an escape", "RFC 9112, 3.2", b"Host: local%68ost", &[], Refused(400)),
    ("a host with obs-text", "RFC 9112, 3.2", b"Host: localhost\xff", &[], Refused(400)),
    ("an empty port", "RFC 9110, 7.2", b"Host: localhost:", &[], Refused(400)),
    ("a port that is no number", "RFC 9110, 7.2", b"Host: localhost:http", &[], Refused(400)),
    ("a port with plus", "RFC 9110, 7.2", b"Host: localhost:+80", &[], Refused(400)),
    ("a port above 65535", "RFC 9110, 7.2", b"Host: localhost:65536", &[], Refused(400)),
    ("two ports", "RFC 9110, 7.2", b"Host: localhost:80:80", &[], Refused(400)),
    ("an IPv6 address without brackets", "RFC 9110, 7.2", b"Host: ::1", &[], Refused(400)),
    ("an IPv6 address that is not closed", "RFC 9110, 7.2", b"Host: [::1", &[], Refused(400)),
    ("an IPv6 address that is not opened", "RFC 9110, 7.2", b"Host: ::1]", &[], Refused(400)),
    ("an IPv6 address that is none", "RFC 9110, 7.2", b"Host: [::1::2]", &[], Refused(400)),
    ("an IPv6 address with a zone", "RFC 9110, 7.2", b"Host: [fe80::1%25eth0]", &[], Refused(400)),
    ("a name in brackets", "RFC 9110, 7.2", b"Host: [localhost]", &[], Refused(400)),
    ("something behind the brackets", "RFC 9110, 7.2", b"Host: [::1]x", &[], Refused(400)),
    // Expect.
    ("an expectation without a body", "RFC 9110, 10.1.1", b"Host: localhost\r\nExpect: 100-continue", GET_X, Open),
    ("an expectation nobody knows", "RFC 9110, 10.1.1", b"Host: localhost\r\nExpect: a-miracle", &[], Refused(417)),
    ("an expectation with another behind it", "RFC 9110, 10.1.1", b"Host: localhost\r\nExpect: 100-continue\r\nExpect: a-miracle", &[], Refused(417)),
    ("an empty expectation", "RFC 9110, 10.1.1", b"Host: localhost\r\nExpect:", &[], Refused(417)),
    // The connection.
    ("Connection: close", "RFC 9112, 9.6", b"Host: localhost\r\nConnection: close", GET_X, Closed),
    ("Connection: close in capitals in a list", "RFC 9112, 9.6", b"Host: localhost\r\nConnection: keep-alive , CLOSE", GET_X, Closed),
    ("white space before the first field", "RFC 9112, 2.2", b" Host: localhost", &[], Refused(400)),
    ("a tab before the first field", "RFC 9112, 2.2", b"\tX-A: 1\r\nHost: localhost", &[], Refused(400)),
];

/// Rows whose bytes are all there is.
#[rustfmt::skip] // One case, one line.
const WHOLE: &[Row] = &[
    // Bodies.
    ("GET with a body", "RFC 9110, 9.3.1", b"GET /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", &[Accepted { method: "GET", ..HELLO }], Open),
    ("HEAD with a chunked body", "RFC 9110, 9.3.2", b"HEAD /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", &[Accepted { method: "HEAD", framing: Framing::Chunked, ..HELLO }], Open),
    ("POST without framing has no body", "RFC 9112, 6.3", b"POST /x HTTP/1.1\r\nHost: localhost\r\n\r\n", &[empty("POST", "/x")], Open),
    ("OPTIONS that counts hops", "RFC 9110, 7.6.2", b"OPTIONS /x HTTP/1.1\r\nHost: localhost\r\nMax-Forwards: 0\r\n\r\n", &[], Refused(501)),
    ("Max-Forwards with another method", "RFC 9110, 7.6.2", b"GET /x HTTP/1.1\r\nHost: localhost\r\nMax-Forwards: 0\r\n\r\n", GET_X, Open),
    ("an expectation with its body", "RFC 9110, 10.1.1", b"POST /x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\nhello", &[HELLO], Open),
    ("an announced trailer", "RFC 9110, 6.6.2", b"POST /x HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", &[post("/x", Framing::Chunked, b"hello")], Open),
    // HTTP/1.0.
    ("HTTP/1.0 without a host", "RFC 9112, 3.2", b"GET /x HTTP/1.0\r\n\r\n", GET_X, Closed),
    ("HTTP/1.0 with a host and keep-alive", "RFC 9112, 9.3", b"GET /x HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n", GET_X, Closed),
    ("HTTP/1.0 with a body", "RFC 9112, 6.2", b"POST /x HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", &[HELLO], Closed),
    ("HTTP/1.0 with two hosts", "RFC 9112, 3.2", b"GET /x HTTP/1.0\r\nHost: localhost\r\nHost: localhost\r\n\r\n", &[], Refused(400)),
    ("HTTP/1.0 with an empty host", "RFC 9112, 3.2", b"GET /x HTTP/1.0\r\nHost:\r\n\r\n", &[], Refused(400)),
    ("HTTP/1.0 with Transfer-Encoding", "RFC 9112, 6.1", b"POST /x HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[], Refused(400)),
    ("HTTP/1.0 with keep-alive and Transfer-Encoding", "RFC 9112, 6.1", b"POST /x HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[], Refused(400)),
    // Other protocols.
    ("HTTP/0.9", "RFC 9112, 2.3", b"GET /x\r\n\r\n", &[], Refused(400)),
    ("HTTP/0.9 waiting for its answer", "RFC 9112, 2.3", b"GET /x\r\n", &[], Incomplete),
    ("the preface of HTTP/2", "RFC 9113, 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[], Refused(505)),
    ("a TLS handshake", "RFC 9112, 2.2", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[], Refused(400)),
    ("a SOCKS greeting", "RFC 9112, 2.2", b"\x05\x01\x00", &[], Refused(400)),
    // Empty lines.
    ("an empty line before a request", "RFC 9112, 2.2", b"\r\nGET /x HTTP/1.1\r\nHost: localhost\r\n\r\n", GET_X, Open),
    ("several empty lines before a request", "RFC 9112, 2.2", b"\r\n\r\n\r\nGET /x HTTP/1.1\r\nHost: localhost\r\n\r\n", GET_X, Open),
    ("an empty line of LF before a request", "RFC 9112, 2.2", b"\nGET /x HTTP/1.1\r\nHost: localhost\r\n\r\n", &[], Refused(400)),
    ("a CR before a request", "RFC 9112, 2.2", b"\rGET /x HTTP/1.1\r\nHost: localhost\r\n\r\n", &[], Refused(400)),
    ("a blank line of bare LF", "RFC 9112, 2.2", b"GET /x HTTP/1.1\r\nHost: localhost\r\n\n", &[], Refused(400)),
    ("LF for every line end", "RFC 9112, 2.2", b"GET /x HTTP/1.1\nHost: localhost\n\n", &[], Refused(400)),
    // Not whole.
    ("nothing", "RFC 9112, 8", b"", &[], Open),
    ("an empty line alone", "RFC 9112, 2.2", b"\r\n", &[], Open),
    ("half a request line", "RFC 9112, 8", b"GET /x HT", &[], Incomplete),
    ("a head without its blank line", "RFC 9112, 8", b"GET /x HTTP/1.1\r\nHost: localhost\r\n", &[], Incomplete),
    ("a head without the last LF", "RFC 9112, 8", b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r", &[], Incomplete),
    // One behind the other.
    ("two requests", "RFC 9112, 9.3.2", b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\nGET /y HTTP/1.1\r\nHost: localhost\r\n\r\n", &[empty("GET", "/x"), empty("GET", "/y")], Open),
    ("two requests with bodies", "RFC 9112, 9.3.2", b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhelloPOST /y HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nho\r\n0\r\n\r\n", &[HELLO, post("/y", Framing::Chunked, b"ho")], Open),
    ("three requests with empty lines between", "RFC 9112, 2.2", b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n\r\nHEAD /y HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n\r\nGET /z HTTP/1.1\r\nHost: localhost\r\n\r\n", &[empty("GET", "/x"), empty("HEAD", "/y"), empty("GET", "/z")], Open),
    ("a request behind the last one", "RFC 9112, 9.6", b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\nGET /y HTTP/1.1\r\nHost: localhost\r\n\r\n", GET_X, Closed),
    ("a malformed request behind a good one", "RFC 9112, 9.3.2", b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\nGET nonsense HTTP/1.1\r\nHost: localhost\r\n\r\n", GET_X, Refused(400)),
    ("half a request behind a good one", "RFC 9112, 9.3.2", b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\nGET /y HTT", GET_X, Incomplete),
    ("bytes behind a body are the next request", "RFC 9112, 6.3", b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello!", &[HELLO], Incomplete),
    ("a body without framing is the next request", "RFC 9112, 6.3", b"POST /x HTTP/1.1\r\nHost: localhost\r\n\r\nhello\r\n\r\n", &[empty("POST", "/x")], Refused(400)),
    // Smuggling: what one reader takes for a body and another for a request.
    ("CL.TE", "RFC 9112, 6.1", b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 41\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /y HTTP/1.1\r\nHost: localhost\r\n\r\n", &[], Refused(400)),
    ("TE.CL", "RFC 9112, 6.1", b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n24\r\nGET /y HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n0\r\n\r\n", &[], Refused(400)),
    ("TE.TE", "RFC 9112, 6.1", b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-encoding: x\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /y HTTP/1.1\r\nHost: localhost\r\n\r\n", &[], Refused(400)),
    ("TE.0", "RFC 9112, 7.1", b"OPTIONS /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n24\r\nGET /y HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n0\r\n\r\n", &[Accepted { method: "OPTIONS", target: "/x", framing: Framing::Chunked, body: b"GET /y HTTP/1.1\r\nHost: localhost\r\n\r\n" }], Open),
    ("CL.0", "RFC 9112, 6.2", b"GET /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 36\r\n\r\nGET /y HTTP/1.1\r\nHost: localhost\r\n\r\n", &[Accepted { method: "GET", target: "/x", framing: Framing::Length(36), body: b"GET /y HTTP/1.1\r\nHost: localhost\r\n\r\n" }], Open),
    ("0.CL", "RFC 9112, 5.1", b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length : 36\r\n\r\nGET /y HTTP/1.1\r\nHost: localhost\r\n\r\n", &[], Refused(400)),
    ("a chunk extension that hides a request", "RFC 9112, 7.1.1", b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0;\nGET /y HTTP/1.1\r\nHost: localhost\r\n\r\n", &[], Refused(400)),
    ("a CR in a value that hides a field", "RFC 9112, 2.2", b"POST /x HTTP/1.1\r\nHost: localhost\r\nX: y\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", &[], Refused(400)),
    ("a request behind a refused one", "RFC 9112, 9.3.2", b"GET nonsense HTTP/1.1\r\nHost: localhost\r\n\r\nGET /y HTTP/1.1\r\nHost: localhost\r\n\r\n", &[], Refused(400)),
    ("a request behind a broken body", "RFC 9112, 7.1", b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nX\r\n\r\nGET /y HTTP/1.1\r\nHost: localhost\r\n\r\n", &[], Refused(400)),
];

fn case((name, section, bytes, accepted, end): &Row, before: &[u8], after: &[u8]) -> RequestCase {
    let bytes = [before, bytes, after].concat();
    RequestCase {
        name: format!("request only: {name}"),
        section,
        bytes,
        accepted: accepted.to_vec(),
        end: *end,
    }
}

/// Requests that come near the limits, or exceed them.
fn large() -> Vec<RequestCase> {
    let case = |name: &str, section, bytes: String, accepted: &[Accepted], end| {
        let name = format!("request only: {name}");
        RequestCase { name, section, bytes: bytes.into_bytes(), accepted: accepted.to_vec(), end }
    };
    let start = "GET /x HTTP/1.1\r\nHost: localhost\r\n";
    let field = |bytes: usize| format!("{start}X: {}\r\n\r\n", "x".repeat(bytes - start.len() - 7));
    let fields = |count: usize| format!("{start}{}\r\n", "X: 1\r\n".repeat(count - 1));
    let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(bytes - 1));
    let method = |bytes: usize| format!("{} /x HTTP/1.1\r\nHost: localhost\r\n\r\n", "X".repeat(bytes));
    let host = |bytes: usize| format!("GET /x HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(bytes));
    let chunked = |body: String| {
        format!("POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
    };
    let extension = |bytes: usize| chunked(format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(bytes - 1)));
    let trailers = |bytes: usize| chunked(format!("5\r\nhello\r\n0\r\nX:{}\r\n\r\n", "x".repeat(bytes - 4)));
    let hello = [post("/x", Framing::Chunked, b"hello")];
    vec![
        case("a head of the largest size", "RFC 9112, 3", field(HEAD_BYTES_MAX), GET_X, Open),
        case("a head that is too large", "RFC 9110, 5.4", field(HEAD_BYTES_MAX + 1), &[], Refused(431)),
        case("a head that is far too large", "RFC 9110, 5.4", field(2 * HEAD_BYTES_MAX), &[], Refused(431)),
        case("a head without end", "RFC 9110, 5.4", "x".repeat(HEAD_BYTES_MAX), &[], Refused(431)),
        case("as many fields as are allowed", "RFC 9110, 5.4", fields(HEAD_FIELDS_MAX), GET_X, Open),
        case("too many fields", "RFC 9110, 5.4", fields(HEAD_FIELDS_MAX + 1), &[], Refused(431)),
        case("a target that is too long", "RFC 9112, 3", target(TARGET_BYTES_MAX + 1), &[], Refused(414)),
        case("an endless target", "RFC 9112, 3", target(2 * HEAD_BYTES_MAX), &[], Refused(431)),
        case("a method far too long", "RFC 9112, 3", method(100 * METHOD_BYTES_MAX), &[], Refused(501)),
        case("a host longer than any name", "RFC 9112, 3.2", host(256), &[], Refused(400)),
        case("the longest extension", "RFC 9112, 7.1.1", extension(CHUNK_EXTENSION_BYTES_MAX), &hello, Open),
        case(
            "an endless extension",
            "RFC 9112, 7.1.1",
            extension(CHUNK_EXTENSION_BYTES_MAX + 1),
            &[],
            Refused(400),
        ),
        case("long trailers", "RFC 9112, 7.1.2", trailers(TRAILER_BYTES_MAX - 2), &hello, Open),
        case("endless trailers", "RFC 9112, 7.1.2", trailers(TRAILER_BYTES_MAX + 100), &[], Refused(400)),
    ]
}

/// Every case of this file.
pub(super) fn cases() -> Vec<RequestCase> {
    let lines = LINES.iter().map(|row| case(row, b"", b"\r\nHost: localhost\r\n\r\n"));
    let hosts = HOSTS.iter().map(|row| case(row, b"GET /x HTTP/1.1\r\n", b"\r\n\r\n"));
    let whole = WHOLE.iter().map(|row| case(row, b"", b""));
    lines.chain(hosts).chain(whole).chain(large()).collect()
}
