//! A forward proxy that does to each `CONNECT` what it is told to: it lets through, refuses, stalls, or talks nonsense.
//!
//! One thread per connection, and two per tunnel; they end when either side does, at the latest when the fake behind it
//! is dropped.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// No thread outlives its test for longer than this.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(30);

/// What a proxy says when it lets through.
pub const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// What becomes of one `CONNECT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is let through.
    Pass,
    /// The same, behind these bytes; each is sent by itself.
    PassAfter(String),
    /// It is let through to a fake at this address, whatever the target.
    PassTo(SocketAddr),
    /// These bytes are sent, and the connection is closed.
    Answer(Vec<u8>),
    /// These bytes are sent, and nothing more comes.
    Hold(Vec<u8>),
}

impl Reply {
    /// An answer without a body.
    pub fn status(line: &str) -> Self {
        Self::Answer(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n").into_bytes())
    }
}

#[derive(Default)]
struct Seen {
    /// The heads of all requests.
    heads: Mutex<Vec<String>>,
    open_tunnels: AtomicUsize,
    /// Connections that were held until the other side closed them.
    held_to_end: AtomicUsize,
    is_stopped: AtomicBool,
}

/// A listening proxy; stops accepting when dropped.
pub struct ForwardProxy {
    address: SocketAddr,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl ForwardProxy {
    /// A proxy that lets everything through.
    pub fn passing() -> Self {
        Self::start(|_, _| Reply::Pass)
    }

    /// A proxy that does the same to everything.
    pub fn always(reply: Reply) -> Self {
        Self::start(move |_, _| reply.clone())
    }

    /// `reply` is asked for each request, which are numbered from 0, with its head.
    pub fn start(reply: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (seen, reply) = (Arc::<Seen>::default(), Arc::new(reply));
        let noted = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if noted.is_stopped.load(Ordering::Acquire) {
                    return;
                }
                let (seen, reply) = (Arc::clone(&noted), Arc::clone(&reply));
                std::thread::spawn(move || serve(client, &seen, &*reply));
            }
        });
        Self { address, seen, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What names it, with these credentials and their `@`, if any.
    pub fn url(&self, user_information: &str) -> String {
        format!("http://{user_information}{}", self.address)
    }

    /// The heads of all requests so far, each with its blank line.
    pub fn heads(&self) -> Vec<String> {
        self.seen.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections that it held have been closed by the other side.
    pub fn held_to_end(&self) -> usize {
        self.seen.held_to_end.load(Ordering::Acquire)
    }

    /// How many tunnels are open now.
    pub fn open_tunnels(&self) -> usize {
        self.seen.open_tunnels.load(Ordering::Acquire)
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        self.seen.is_stopped.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address); // Wakes the accepting thread.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Reads one request and does what it is told to. Every failure is the peer's leaving.
fn serve(client: TcpStream, seen: &Arc<Seen>, reply: &dyn Fn(usize, &str) -> Reply) -> Option<()> {
    client.set_read_timeout(Some(SOCKET_TIMEOUT)).ok()?;
    client.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).ok().filter(|count| *count > 0)?;
    }
    assert!(reader.buffer().is_empty(), "nothing is sent into a tunnel before it is open");
    let mut client = reader.into_inner();
    let number = {
        let mut heads = seen.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.push(head.clone());
        heads.len() - 1
    };
    match reply(number, &head) {
        Reply::Pass => tunnel(client, ESTABLISHED, target(&head)?, seen),
        Reply::PassAfter(answer) => tunnel(client, &answer, target(&head)?, seen),
        Reply::PassTo(address) => tunnel(client, ESTABLISHED, address, seen),
        Reply::Answer(bytes) => client.write_all(&bytes).ok(),
        Reply::Hold(bytes) => {
            client.write_all(&bytes).ok()?;
            std::io::copy(&mut client, &mut std::io::sink()).ok()?;
            seen.held_to_end.fetch_add(1, Ordering::AcqRel);
            Some(())
        }
    }
}

/// Where a request wants to go, as long as that is this machine.
fn target(head: &str) -> Option<SocketAddr> {
    let authority = head.strip_prefix("CONNECT ")?.split(' ').next()?;
    let port = authority.rsplit(':').next()?.parse().ok()?;
    Some((Ipv4Addr::LOCALHOST, port).into())
}

fn tunnel(mut client: TcpStream, answer: &str, target: SocketAddr, seen: &Arc<Seen>) -> Option<()> {
    let upstream = TcpStream::connect(target).ok()?;
    upstream.set_nodelay(true).ok()?;
    client.set_read_timeout(None).ok()?;
    seen.open_tunnels.fetch_add(1, Ordering::AcqRel);
    for byte in answer.as_bytes() {
        client.write_all(&[*byte]).ok()?;
    }
    let (mut to_client, mut from_upstream) = (client.try_clone().ok()?, upstream.try_clone().ok()?);
    let back = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_upstream, &mut to_client);
        // A tunnel ends whole: whoever is left would wait for nothing.
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut client, &mut &upstream);
    let _ = upstream.shutdown(Shutdown::Both);
    let _ = back.join();
    seen.open_tunnels.fetch_sub(1, Ordering::AcqRel);
    Some(())
}
