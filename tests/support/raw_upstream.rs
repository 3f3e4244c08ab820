//! An upstream without TLS or manners, for what the fake cannot do: statuses without a body, odd framing, early
//! answers, silence. One thread accepts, each connection has one more, and a handler says what it does.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// No thread outlives its test for longer than this.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(30);

/// A listening upstream; stops accepting when dropped.
pub struct RawUpstream {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// One connection whose request head has been read.
pub struct Call {
    /// The head with its blank line.
    pub head: String,
    pub stream: BufReader<TcpStream>,
}

impl RawUpstream {
    /// Runs `handle` for each connection, on a thread of its own.
    pub fn start(handle: impl Fn(Call) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (stop_seen, handle) = (Arc::clone(&is_stopped), Arc::new(handle));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop_seen.load(Ordering::Acquire) {
                    return;
                }
                let handle = Arc::clone(&handle);
                std::thread::spawn(move || Call::read(stream).map(|call| handle(call)));
            }
        });
        Self { address, is_stopped, thread: Some(thread) }
    }

    /// Reads each request whole, sends these bytes, ends its side, and waits for the peer's end.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |mut call| {
            call.read_body();
            call.send(&bytes);
            call.finish();
        })
    }

    /// What the proxy is to be given as its upstream.
    pub fn base_url(&self) -> String {
        format!("http://{}/base", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address); // Wakes the accepting thread.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Call {
    fn read(stream: TcpStream) -> Option<Self> {
        stream.set_read_timeout(Some(SOCKET_TIMEOUT)).ok()?;
        stream.set_write_timeout(Some(SOCKET_TIMEOUT)).ok()?;
        stream.set_nodelay(true).ok()?;
        let mut call = Self { head: String::new(), stream: BufReader::new(stream) };
        while !call.head.ends_with("\r\n\r\n") {
            call.stream.read_line(&mut call.head).ok().filter(|count| *count > 0)?;
        }
        Some(call)
    }

    /// Reads the body that `Content-Length` announces.
    pub fn read_body(&mut self) -> Vec<u8> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let length = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length = length.map(|(_, value)| value.parse().expect("a length")).next().unwrap_or(0);
        let mut body = vec![0; length];
        let _ = self.stream.read_exact(&mut body);
        body
    }

    /// Sends what the peer takes.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.try_send(bytes);
    }

    /// Whether the peer took all of it.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// Says nothing more, and reads until the peer ends its side.
    pub fn finish_when_closed(mut self) {
        let _ = std::io::copy(&mut self.stream, &mut std::io::sink());
    }

    /// Ends our side in good order and reads until the peer ends its own.
    pub fn finish(mut self) {
        let _ = self.stream.get_ref().shutdown(Shutdown::Write);
        let _ = std::io::copy(&mut self.stream, &mut std::io::sink());
    }
}
