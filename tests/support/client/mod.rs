//! A blocking HTTP/1.1 client for tests, over TCP or TLS.
//!
//! It shows what a real client's library hides: the head's bytes, single chunks as they arrive, and whether a body
//! ended or was cut. Whatever blocks has a time limit, so that a test fails instead of hanging.

mod body;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use body::Framing;
pub use body::{Body, Cut, CutReason};

/// How long a read may block.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest head accepted.
const HEAD_BYTES_MAX: usize = 256 * 1024;
/// Most headers accepted in one head.
const HEADERS_MAX: usize = 128;

/// What a head said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status.
    pub status: u16,
    /// Headers in order, names as written.
    pub headers: Vec<(String, String)>,
    /// The head's bytes, with the empty line.
    pub raw: Vec<u8>,
}

impl ResponseHead {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A final head with its whole body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The head.
    pub head: ResponseHead,
    /// The body.
    pub body: Body,
}

impl Response {
    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        self.body.text()
    }

    /// The body as JSON. Panics when it is not.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body.bytes)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }
}

trait Transport: Read + Write + Send {}
impl<T: Read + Write + Send> Transport for T {}

/// One connection to a server.
pub struct Client {
    stream: Box<dyn Transport>,
    tcp: TcpStream,
    received: Vec<u8>,
    host: String,
    method: String,
    framing: Framing,
    read_timeout: Duration,
}

impl Client {
    /// Connects over plain TCP. Panics when nobody listens.
    #[track_caller]
    pub fn connect(address: impl ToSocketAddrs) -> Self {
        Self::try_connect(address).expect("the server listens")
    }

    /// Connects over plain TCP, if somebody listens.
    pub fn try_connect(address: impl ToSocketAddrs) -> io::Result<Self> {
        let tcp = connect_tcp(address)?;
        let stream = Box::new(tcp.try_clone()?);
        Ok(Self::new(stream, tcp))
    }

    /// Connects over TLS; the handshake happens with the first bytes sent.
    #[track_caller]
    pub fn connect_tls(address: impl ToSocketAddrs, name: &str, config: Arc<ClientConfig>) -> Self {
        let tcp = connect_tcp(address).expect("the server listens");
        let name = ServerName::try_from(name.to_owned()).expect("a valid server name");
        let tls = ClientConnection::new(config, name).expect("a valid client configuration");
        let stream = StreamOwned::new(tls, tcp.try_clone().expect("a socket can be shared"));
        Self::new(Box::new(stream), tcp)
    }

    fn new(stream: Box<dyn Transport>, tcp: TcpStream) -> Self {
        let host = tcp.peer_addr().map_or_else(|_| "localhost".to_owned(), |address| address.to_string());
        let (received, method, framing) = (Vec::new(), String::new(), Framing::Ended);
        Self { stream, tcp, received, host, method, framing, read_timeout: READ_TIMEOUT }
    }

    /// Changes how long a read may block.
    pub fn set_read_timeout(&mut self, timeout: Duration) {
        self.read_timeout = timeout;
        self.tcp.set_read_timeout(Some(timeout)).expect("a positive timeout is accepted");
    }

    /// Another handle of the connection, to set it up or to end it from another thread.
    pub fn handle(&self) -> io::Result<TcpStream> {
        self.tcp.try_clone()
    }

    /// Our side's port, to tell connections apart.
    pub fn local_port(&self) -> u16 {
        self.tcp.local_addr().map_or(0, |address| address.port())
    }

    /// Sends raw bytes. An error says that the peer closed; panic on it or look at it.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Sends a request. `Host` and `Content-Length` are added unless `headers` has them (or `Transfer-Encoding`).
    #[track_caller]
    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
        let has = |name: &str| headers.iter().any(|(have, _)| have.eq_ignore_ascii_case(name));
        let mut lines = vec![format!("{method} {target} HTTP/1.1")];
        if !has("host") {
            lines.push(format!("Host: {}", self.host));
        }
        let framed = has("content-length") || has("transfer-encoding");
        if !framed && (!body.is_empty() || method == "POST") {
            lines.push(format!("Content-Length: {}", body.len()));
        }
        lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
        let head = lines.join("\r\n") + "\r\n\r\n";
        self.expect_answer_to(method);
        self.send(&[head.as_bytes(), body].concat()).expect("the server takes the request");
    }

    /// Says which method the next head answers, when the request was sent as raw bytes. Only HEAD matters.
    pub fn expect_answer_to(&mut self, method: &str) {
        method.clone_into(&mut self.method);
    }

    /// Reads a head, an interim one included. Panics when there is none.
    #[track_caller]
    pub fn read_head(&mut self) -> ResponseHead {
        self.try_read_head().unwrap_or_else(|cut| panic!("no response head: {cut}"))
    }

    /// Reads the next head that is not an interim one. Panics when there is none.
    #[track_caller]
    pub fn read_final_head(&mut self) -> ResponseHead {
        loop {
            let head = self.read_head();
            if head.status >= 200 {
                return head;
            }
        }
    }

    /// Reads a head, or says how the connection ended instead.
    pub fn try_read_head(&mut self) -> Result<ResponseHead, Cut> {
        loop {
            let end = self.received.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(end) = end {
                let raw = self.take(end + 4);
                return self.parse_head(raw);
            }
            if self.received.len() > HEAD_BYTES_MAX {
                return Err(Cut::new(&[], CutReason::BadFraming("head too long".to_owned())));
            }
            self.read_more().map_err(|reason| Cut::new(&self.received, reason))?;
        }
    }

    fn parse_head(&mut self, raw: Vec<u8>) -> Result<ResponseHead, Cut> {
        let mut storage = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut storage);
        if let Err(error) = parsed.parse(&raw) {
            return Err(Cut::new(&raw, CutReason::BadFraming(error.to_string())));
        }
        let header = |header: &httparse::Header<'_>| {
            (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned())
        };
        let status = parsed.code.unwrap_or_default();
        let headers = parsed.headers.iter().map(header).collect();
        let head = ResponseHead { status, headers, raw };
        self.framing = Framing::of(&head, &self.method)?;
        Ok(head)
    }

    /// Reads the final head and the whole body. Panics when either is cut.
    #[track_caller]
    pub fn read_response(&mut self) -> Response {
        let head = self.read_final_head();
        let body = self.read_body_to_end().unwrap_or_else(|cut| panic!("cut body: {cut}"));
        Response { head, body }
    }

    /// Reads until the peer closes or resets, without any parsing; also what was received before.
    pub fn read_raw_until_eof(&mut self) -> Vec<u8> {
        while self.read_more().is_ok() {}
        self.framing = Framing::Ended;
        std::mem::take(&mut self.received)
    }

    /// Waits whether the peer closes (or resets) without sending anything first.
    pub fn is_closed_by_peer(&mut self, timeout: Duration) -> bool {
        if !self.received.is_empty() {
            return false;
        }
        let usual = self.read_timeout;
        self.set_read_timeout(timeout);
        let closed = matches!(
            self.read_more(),
            Err(CutReason::Eof | CutReason::EofWithoutCloseNotify | CutReason::Failed(_))
        );
        self.set_read_timeout(usual);
        closed
    }

    /// Ends our direction and keeps reading.
    pub fn shutdown_write(&self) {
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    /// Closes the connection now, as a client that gives up does.
    pub fn close(self) {
        let _ = self.tcp.shutdown(Shutdown::Both);
    }

    /// Takes the first `count` received bytes.
    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.received.split_off(count);
        std::mem::replace(&mut self.received, rest)
    }

    /// Receives at least one more byte.
    fn read_more(&mut self) -> Result<(), CutReason> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(CutReason::Eof),
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            // A child process that ends interrupts reads of the process that waits for it.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.read_more(),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => CutReason::Timeout(self.read_timeout),
                io::ErrorKind::UnexpectedEof => CutReason::EofWithoutCloseNotify,
                _ => CutReason::Failed(error.to_string()),
            }),
        }
    }
}

/// Posts JSON on a connection of its own. Panics unless there is a whole answer.
#[track_caller]
pub fn post_json(address: impl ToSocketAddrs, path: &str, headers: &[(&str, &str)], json: &str) -> Response {
    let headers = [&[("Content-Type", "application/json")], headers].concat();
    let mut client = Client::connect(address);
    client.request("POST", path, &headers, json.as_bytes());
    client.read_response()
}

/// Gets a page on a connection of its own. Panics unless there is a whole answer.
#[track_caller]
pub fn get(address: impl ToSocketAddrs, path: &str) -> Response {
    let mut client = Client::connect(address);
    client.request("GET", path, &[], b"");
    client.read_response()
}

fn connect_tcp(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(READ_TIMEOUT))?;
    tcp.set_write_timeout(Some(READ_TIMEOUT))?;
    Ok(tcp)
}
