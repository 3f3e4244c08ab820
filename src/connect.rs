//! Asking a forward proxy for a tunnel to the upstream, and what its answer means (RFC 9110, section 9.3.6).
//!
//! Owns the one request and the answer up to the end of its head. What comes behind that is the tunnel's, and is
//! left to it. Credentials go out with the first request: a proxy that wants some says so to every request, and
//! asking without would cost a round trip each time. Knows no socket and no time.

use std::fmt::Write as _;

use crate::{
    config::{ForwardProxy, Upstream},
    failure::{Failure, FailureClass},
    http::head::{HeadSearch, ResponseHead, parse_response},
    retry::Verdict,
};

/// The longest answer, with those of 1xx that may come before it. What real proxies send is below 1 KiB.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// As much of a reason phrase, and of the name of a way to authenticate, as is shown.
const SHOWN_CHARS_MAX: usize = 60;

/// Ways to authenticate that are shown.
const SCHEMES_SHOWN_MAX: usize = 4;

/// A tunnel that is being asked for.
#[derive(Debug)]
pub struct Connect {
    /// The proxy's host and port.
    proxy: String,
    /// What has given the proxy's credentials, if there are some.
    credentials_from: Option<String>,
    request: Request,
    sent_bytes: usize,
    /// The head that is coming.
    head: Vec<u8>,
    search: HeadSearch,
    /// Bytes of the answer so far, with the heads before this one.
    answer_bytes: usize,
}

/// What is sent. It may hold credentials.
struct Request(Vec<u8>);

impl std::fmt::Debug for Request {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

/// What became of bytes from the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// So many of them were the answer's. The others are the tunnel's.
    pub consumed: usize,
    /// Whether the tunnel is open.
    pub is_open: bool,
}

impl Connect {
    /// Asks this proxy for a tunnel to this upstream.
    pub fn new(proxy: &ForwardProxy, upstream: &Upstream) -> Self {
        Self {
            proxy: proxy.authority(),
            credentials_from: proxy.credentials.as_ref().map(|_| proxy.named_by.clone()),
            request: Request(request(proxy, upstream)),
            sent_bytes: 0,
            head: Vec::new(),
            search: HeadSearch::default(),
            answer_bytes: 0,
        }
    }

    /// What is to be sent next.
    pub fn pending_write(&self) -> &[u8] {
        &self.request.0[self.sent_bytes..]
    }

    /// So much of it was sent.
    pub fn wrote(&mut self, count: usize) {
        self.sent_bytes += count;
    }

    /// Takes what is the answer's of these bytes.
    ///
    /// # Errors
    /// The proxy has answered otherwise than with a tunnel.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Received, Failure> {
        let mut consumed = 0;
        loop {
            let room = ANSWER_BYTES_MAX - self.answer_bytes;
            let rest = &bytes[consumed..];
            let known = self.head.len();
            self.head.extend_from_slice(&rest[..rest.len().min(room)]);
            let found = self.search.find_end(&self.head).map_err(|error| self.broken(&error.to_string()))?;
            let Some(end) = found else {
                self.answer_bytes += self.head.len() - known;
                if self.answer_bytes == ANSWER_BYTES_MAX {
                    return Err(self.broken(&format!("an answer of more than {ANSWER_BYTES_MAX} bytes")));
                }
                return Ok(Received { consumed: bytes.len(), is_open: false });
            };
            self.answer_bytes += end - known;
            consumed += end - known;
            self.head.truncate(end);
            let head =
                parse_response(&self.head, "CONNECT").map_err(|error| self.broken(&error.to_string()))?;
            match head.status {
                // RFC 9110, section 15.2: any number of these may come before the answer.
                100..=199 => self.head.clear(),
                200..=299 if self.pending_write().is_empty() => {
                    return Ok(Received { consumed, is_open: true });
                }
                200..=299 => return Err(self.broken("an answer to what it was not asked yet")),
                _ => return Err(self.refused(&head)),
            }
        }
    }

    /// What it amounts to that the proxy has ended the connection, or that it broke.
    pub fn broken(&self, how: &str) -> Failure {
        Failure::new(FailureClass::ProxyFailed, format!("{}: {how}", self.proxy))
    }

    /// What an answer other than a tunnel amounts to.
    fn refused(&self, head: &ResponseHead) -> Failure {
        let reason = plain(&head.reason);
        let space = if reason.is_empty() { "" } else { " " };
        let mut detail = format!("{} answered {}{space}{reason}", self.proxy, head.status);
        let class = match head.status {
            // Only the proxy itself can answer here, so 401 is about it too: tinyproxy says so of wrong credentials.
            401 | 407 => {
                detail += &self.why_unauthorized(head);
                FailureClass::ProxyAuth
            }
            status if Verdict::of(status) == Verdict::Final => FailureClass::ProxyDenied,
            _ => FailureClass::ProxyFailed,
        };
        Failure::new(class, detail)
    }

    /// What to do about credentials (RFC 9110, section 11.7.1).
    fn why_unauthorized(&self, head: &ResponseHead) -> String {
        let mut why = match &self.credentials_from {
            Some(named_by) => format!("; it does not accept those in {named_by}"),
            None => "; none are set".to_owned(),
        };
        let challenges = head.fields.all("proxy-authenticate");
        let mut schemes: Vec<String> = challenges.flat_map(schemes).map(plain).collect();
        schemes.dedup();
        if !schemes.is_empty() && !schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic")) {
            schemes.truncate(SCHEMES_SHOWN_MAX);
            write!(why, "; it takes {}, and here Basic alone is known", schemes.join(", "))
                .expect("a String takes every write");
        }
        why
    }
}

/// The request for a tunnel: its target is the upstream's host and port, and so is its `Host` (RFC 9112, section
/// 3.2.3; RFC 9110, section 7.2). The name is looked up by the proxy.
fn request(proxy: &ForwardProxy, upstream: &Upstream) -> Vec<u8> {
    let target = upstream.host_and_port();
    let version = env!("CARGO_PKG_VERSION");
    let mut head =
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: fireworks-proxy/{version}\r\n");
    if let Some(credentials) = &proxy.credentials {
        // RFC 7617, section 2.
        write!(head, "Proxy-Authorization: Basic {}\r\n", base64(credentials.as_bytes()))
            .expect("a String takes every write");
    }
    head += "\r\n";
    head.into_bytes()
}

/// The ways to authenticate in a field that asks for one, which may offer several, each with parameters (RFC 9110,
/// section 11.6.1).
fn schemes(challenges: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let elements = challenges.split(move |byte| {
        is_quoted ^= *byte == b'"' && !is_escaped;
        is_escaped = is_quoted && *byte == b'\\' && !is_escaped;
        *byte == b',' && !is_quoted
    });
    elements.map(<[u8]>::trim_ascii).filter_map(|element| {
        let end = element.iter().position(|byte| b" \t=".contains(byte)).unwrap_or(element.len());
        let (word, rest) = element.split_at(end);
        let is_parameter = rest.trim_ascii_start().starts_with(b"=");
        (!word.is_empty() && !is_parameter).then_some(word)
    })
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| (bits << 8) | usize::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let is_padding = at > group.len();
            text.push(if is_padding { '=' } else { char::from(ALPHABET[(bits >> (18 - 6 * at)) & 63]) });
        }
    }
    text
}

/// What a proxy says, as it may be shown: plain and short.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim().chars().take(SHOWN_CHARS_MAX).map(|it| if it.is_control() { '?' } else { it }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Raw};

    fn connect(url: &str) -> Connect {
        let variable = std::iter::once(("HTTPS_PROXY".into(), url.into()));
        let config = Config::from_raw(&Raw::from_variables(variable).expect("text")).expect("accepted");
        Connect::new(config.forward_proxy.as_ref().expect("a proxy"), &config.upstream)
    }

    /// One that was asked.
    fn asked() -> Connect {
        let mut connect = connect("http://proxy.example:3128");
        connect.wrote(connect.pending_write().len());
        connect
    }

    fn refusal(answer: &str) -> (FailureClass, String) {
        let failure = asked().receive(answer.as_bytes()).expect_err(answer);
        (failure.class, failure.detail)
    }

    #[test]
    fn it_asks_for_the_upstream_by_name_and_port() {
        let version = env!("CARGO_PKG_VERSION");
        let plain = format!(
            "CONNECT api.fireworks.ai:443 HTTP/1.1\r\nHost: api.fireworks.ai:443\r\n\
             User-Agent: fireworks-proxy/{version}\r\n"
        );
        let text = |url| String::from_utf8(connect(url).pending_write().to_vec()).expect("ASCII");
        assert_eq!(text("proxy:1"), format!("{plain}\r\n"));
        // RFC 7617, section 2.
        let known = format!("{plain}Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n");
        assert_eq!(text("http://Aladdin:open%20sesame@proxy:1"), known);
        let mut connect = connect("proxy:1");
        connect.wrote(8);
        assert!(connect.pending_write().starts_with(b"api.fireworks.ai:443 HTTP/1.1"));
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        // RFC 4648, section 10.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn a_tunnel_opens_however_the_answer_comes_and_what_is_behind_it_is_left() {
        for head in [
            "HTTP/1.1 200 Connection established\r\n\r\n",
            "HTTP/1.0 200 OK\r\nProxy-agent: x\r\n\r\n",
            // RFC 9110, section 9.3.6: to be ignored, in every combination.
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.0 299 \r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Wait\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ] {
            let whole = format!("{head}\x16\x03tunnel");
            let open = Received { consumed: head.len(), is_open: true };
            assert_eq!(asked().receive(whole.as_bytes()), Ok(open), "{head}");
            for split in 1..head.len() {
                let mut connect = asked();
                let (first, second) = whole.as_bytes().split_at(split);
                assert_eq!(connect.receive(first), Ok(Received { consumed: split, is_open: false }));
                let rest = Received { consumed: head.len() - split, is_open: true };
                assert_eq!(connect.receive(second), Ok(rest), "{head} split at {split}");
            }
        }
    }

    #[test]
    fn each_answer_has_its_class_and_is_quoted() {
        for (answer, class, detail) in [
            ("HTTP/1.1 403 Forbidden", FailureClass::ProxyDenied, "answered 403 Forbidden"),
            ("HTTP/1.1 405 ", FailureClass::ProxyDenied, "answered 405"),
            ("HTTP/1.1 302 Found\r\nLocation: http://login", FailureClass::ProxyDenied, "answered 302 Found"),
            ("HTTP/1.1 502 Bad Gateway", FailureClass::ProxyFailed, "answered 502 Bad Gateway"),
            ("HTTP/1.1 503 X", FailureClass::ProxyFailed, "answered 503 X"),
            ("HTTP/1.0 504 X", FailureClass::ProxyFailed, "answered 504 X"),
            ("HTTP/1.1 429 X", FailureClass::ProxyFailed, "answered 429 X"),
            ("HTTP/1.0 401 No", FailureClass::ProxyAuth, "answered 401 No; none are set"),
            (
                "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: basic realm=\"x\"",
                FailureClass::ProxyAuth,
                "answered 407 Auth; none are set",
            ),
            (
                "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM",
                FailureClass::ProxyAuth,
                "answered 407 Auth; none are set; it takes Negotiate, NTLM, and here Basic alone is known",
            ),
            (
                "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Negotiate, NTLM,, A, B, Basic realm=\"x\"",
                FailureClass::ProxyAuth,
                "answered 407 Auth; none are set",
            ),
            (
                "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Digest realm=\"a\\\", basic \", nonce = b, Bearer b68==",
                FailureClass::ProxyAuth,
                "answered 407 Auth; none are set; it takes Digest, Bearer, and here Basic alone is known",
            ),
        ] {
            let detail = format!("proxy.example:3128 {detail}");
            assert_eq!(refusal(&format!("{answer}\r\n\r\n")), (class, detail));
        }
        let mut connect = connect("http://user:hunter2@proxy:1");
        let failure = connect.receive(b"HTTP/1.1 407 No\r\n\r\n").expect_err("no tunnel");
        assert_eq!(failure.detail, "proxy:1 answered 407 No; it does not accept those in HTTPS_PROXY");
        assert!(!format!("{connect:?}").contains("dXNlc"), "{connect:?}");
    }

    #[test]
    fn what_is_no_answer_is_a_failure_of_the_proxy() {
        for (answer, how) in [
            ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed HTTP message"),
            ("HTTP/1.1 200 OK\n\n", "a line ends in LF without CR"),
            ("HTTP/1.1 101 Switching\r\n\r\n", "it switches protocols"),
            ("\x15\x03\x01", "a control character in the head"),
        ] {
            let (class, detail) = refusal(answer);
            assert!(class == FailureClass::ProxyFailed && detail.contains(how), "{detail}");
        }
        let early = connect("proxy:1").receive(b"HTTP/1.1 200 OK\r\n\r\n").expect_err("it was not asked");
        assert!(early.detail.ends_with("it was not asked yet"), "{early:?}");
    }

    #[test]
    fn an_answer_without_end_is_given_up() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        let endless =
            [format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(ANSWER_BYTES_MAX)), interim.repeat(1000)];
        for answer in endless {
            for size in [1, 100, answer.len()] {
                let mut connect = asked();
                let mut taken = 0;
                let failure = answer.as_bytes().chunks(size).find_map(|piece| {
                    taken += piece.len();
                    connect.receive(piece).err()
                });
                let failure = failure.expect("given up");
                assert!(failure.detail.ends_with("an answer of more than 16384 bytes"), "{failure:?}");
                assert!(taken < ANSWER_BYTES_MAX + size, "{taken}");
            }
        }
    }
}
