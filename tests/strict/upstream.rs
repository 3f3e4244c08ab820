//! An upstream that keeps every byte it is sent, and sends the bytes it is told to. One thread serves one connection
//! after the other.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::JoinHandle,
    time::Duration,
};

use crate::reference;

/// No connection lasts longer than this. Only a failing test waits for all of it.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(20);

/// How an answer is sent, and how its connection ends.
#[derive(Debug, Clone)]
pub(crate) struct Play {
    pub(crate) bytes: Vec<u8>,
    /// Where its pieces end.
    pub(crate) ends: Vec<usize>,
    /// Ends in a reset, and not in good order.
    pub(crate) is_reset: bool,
}

impl Play {
    /// These bytes in one piece.
    pub(crate) fn whole(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), ends: vec![bytes.len()], is_reset: false }
    }
}

struct State {
    play: Play,
    /// What came on each connection that has ended.
    received: Vec<Vec<u8>>,
    is_stopped: bool,
}

/// Shared by the test and the upstream's thread.
struct Shared {
    state: Mutex<State>,
    has_ended: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the lock")
    }
}

/// A listening upstream; ends when dropped.
pub(crate) struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Answers every request with `ok`, until told otherwise.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let play = Play::whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let state = Mutex::new(State { play, received: Vec::new(), is_stopped: false });
        let shared = Arc::new(Shared { state, has_ended: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if theirs.state().is_stopped {
                    return;
                }
                let play = theirs.state().play.clone();
                let received = serve(stream, &play);
                theirs.state().received.push(received);
                theirs.has_ended.notify_all();
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// What the proxy is to be given as its upstream. There is no base path, so targets stay as they are.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What is sent on every connection from now on.
    pub(crate) fn play(&self, play: Play) {
        self.shared.state().play = play;
    }

    /// Waits until so many connections have ended, and gives what came on each that has.
    pub(crate) fn take_received(&self, connections: usize) -> Vec<Vec<u8>> {
        let is_missing = |state: &mut State| state.received.len() < connections;
        let state = self.shared.state();
        let waited = self.shared.has_ended.wait_timeout_while(state, SOCKET_TIMEOUT, is_missing);
        std::mem::take(&mut waited.expect("no thread panics with the lock").0.received)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.state().is_stopped = true;
        let _ = TcpStream::connect(self.address); // Wakes the accepting thread.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Reads one request, plays, and reads on until the peer has ended. Gives every byte that came.
fn serve(mut stream: TcpStream, play: &Play) -> Vec<u8> {
    let mut received = Vec::new();
    let set_up = [
        stream.set_read_timeout(Some(SOCKET_TIMEOUT)),
        stream.set_write_timeout(Some(SOCKET_TIMEOUT)),
        stream.set_nodelay(true),
    ];
    set_up.into_iter().collect::<Result<Vec<()>, _>>().expect("a socket can be set up");
    let mut buffer = [0; 16 * 1024];
    while matches!(reference::request(&received), Ok(None)) {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => received.extend_from_slice(&buffer[..count]),
            _ => return received,
        }
    }
    let mut start = 0;
    for end in &play.ends {
        if stream.write_all(&play.bytes[start..*end]).is_err() {
            break; // The proxy has refused what came before.
        }
        start = *end;
    }
    if play.is_reset {
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        return received;
    }
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut received);
    received
}
