//! Asking the proxy that runs for one of its pages, as `status` does.
//!
//! A small blocking client: one request, one connection, a bound for everything. It knows as much of HTTP
//! as the proxy's own pages need: a status and a body whose length is given.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::config::{ClientToken, Config};

/// A proxy on this machine accepts at once, or not at all.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);

/// How long a page may take, from the request to its last byte.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// The largest page, with its head: 256 lanes and 200 requests come to about half a megabyte.
const ANSWER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The most fields of a page's head.
const ANSWER_FIELDS_MAX: usize = 64;

/// By these a page is known as one of ours, of whatever version: `/` has the first, `/usage` the second.
const MARKS: [&str; 2] = ["service", "day"];

/// How long [`watch`] waits between two looks.
pub const REFRESH: Duration = Duration::from_secs(2);

/// A page and who gave it.
#[derive(Debug)]
pub struct Page {
    /// The address that answered.
    pub address: SocketAddr,
    /// What it said.
    pub body: Value,
}

/// Why there is no page, in one line that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskError {
    /// Nobody accepts a connection.
    NotReachable(String),
    /// A proxy answered, and refused.
    Refused(String),
    /// Something else answered, or nothing in time.
    NotOurs(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReachable(tried) => {
                write!(formatter, "no proxy is reachable at {tried}; start it, or name its port: --port 9000")
            }
            Self::Refused(why) => formatter.write_str(why),
            Self::NotOurs(why) => {
                write!(formatter, "what answers is not this proxy: {why}; name its port: --port 9000")
            }
        }
    }
}

impl std::error::Error for AskError {}

/// Asks for a page where the settings say that the proxy listens.
///
/// # Errors
/// Why there is none.
pub fn ask(config: &Config, path: &str) -> Result<Page, AskError> {
    let mut tried = Vec::new();
    for ip in config.host.reached_at() {
        let address = SocketAddr::new(ip, config.port);
        match TcpStream::connect_timeout(&address, CONNECT_TIME_MAX) {
            Ok(stream) => {
                let token = config.access.client_token.as_ref();
                let body = exchange(stream, address, path, token)?;
                return Ok(Page { address, body });
            }
            Err(error) => tried.push(format!("{address} ({error})")),
        }
    }
    Err(AskError::NotReachable(tried.join(" and ")))
}

/// Asks again and again, as long as `show` wants more.
pub fn watch(config: &Config, path: &str, mut show: impl FnMut(Result<Page, AskError>) -> bool) {
    while show(ask(config, path)) {
        thread::sleep(REFRESH);
    }
}

fn exchange(
    mut stream: TcpStream,
    address: SocketAddr,
    path: &str,
    token: Option<&ClientToken>,
) -> Result<Value, AskError> {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n").into_bytes();
    if let Some(token) = token {
        request.extend_from_slice(b"x-fireworks-proxy-token: ");
        request.extend_from_slice(token.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let answer = stream
        .set_write_timeout(Some(ANSWER_TIME_MAX))
        .and_then(|()| stream.write_all(&request))
        .and_then(|()| read_to_end(&mut stream));
    let answer = answer.map_err(|error| AskError::NotOurs(format!("{address}: {error}")))?;
    let (status, body) =
        page(&answer).ok_or_else(|| AskError::NotOurs(format!("{address} gives no page of ours")))?;
    let message = body.pointer("/error/message").and_then(Value::as_str);
    match message {
        _ if status == 200 && MARKS.iter().any(|mark| body.get(mark).is_some()) => Ok(body),
        Some(message) if message.starts_with("fireworks-proxy:") => Err(AskError::Refused(format!(
            "{address} refuses ({status}): {}",
            // Anybody may have said it.
            message["fireworks-proxy:".len()..].trim().replace(char::is_control, "?")
        ))),
        _ if status == 200 => Err(AskError::NotOurs(format!("{address} gives no page of ours"))),
        _ => Err(AskError::NotOurs(format!("{address} answers {status}"))),
    }
}

/// Everything up to the end of the connection, within the time and size that a page may have.
fn read_to_end(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + ANSWER_TIME_MAX;
    let (mut answer, mut portion) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let seconds = ANSWER_TIME_MAX.as_secs();
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no whole answer within {seconds} s"),
            ));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut portion) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend_from_slice(&portion[..count]),
            // What a time that is up is called differs between systems; the deadline has the last word.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) => {}
            Err(error) => return Err(error),
        }
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer does not end"));
        }
    }
}

/// The status and the JSON of an answer that is whole; `None` for any other.
fn page(answer: &[u8]) -> Option<(u16, Value)> {
    let mut fields = [httparse::EMPTY_HEADER; ANSWER_FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head_bytes) = response.parse(answer).ok()? else { return None };
    let status = response.code?;
    let length = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"))?;
    let length: usize = std::str::from_utf8(length.value).ok()?.trim().parse().ok()?;
    let body = answer.get(head_bytes..).filter(|body| body.len() == length)?;
    Some((status, serde_json::from_slice(body).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What becomes of an answer of a listener that is no more than this.
    fn asked(answer: &'static [u8]) -> (Result<Page, AskError>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let config = Config {
            host: crate::config::Host::Address(address.ip()),
            port: address.port(),
            ..Config::defaults()
        };
        let asked = thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("a whole head");
                    head.extend(byte);
                }
                stream.write_all(answer).expect("it reads");
            });
            ask(&config, "/usage")
        });
        (asked, address)
    }

    #[test]
    fn a_page_is_read_and_what_is_none_is_told_apart() {
        let (page, address) = asked(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"day\":1}");
        let page = page.expect("a page");
        assert_eq!((page.address, &page.body["day"]), (address, &1.into()));
        for other in [
            &b""[..],
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"day\":1}",
            b"HTTP/1.1 200 OK\r\n\r\n{\"day\":1}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<p>",
            b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}",
        ] {
            let error = asked(other).0.expect_err("no page");
            assert!(matches!(error, AskError::NotOurs(_)), "{error}");
        }
        let refused = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 53\r\n\r\n\
            {\"error\":{\"message\":\"fireworks-proxy: no secret...\"}}";
        let error = asked(refused).0.expect_err("refused").to_string();
        assert!(error.ends_with("refuses (400): no secret..."), "{error}");
        let coloured = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 58\r\n\r\n\
            {\"error\":{\"message\":\"fireworks-proxy: \\u001b[31mno\\nway\"}}";
        let error = asked(coloured).0.expect_err("refused").to_string();
        assert!(error.ends_with("refuses (400): ?[31mno?way"), "{error}");
    }
}
