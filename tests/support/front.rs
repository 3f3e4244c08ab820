//! A front before a fake that passes bytes both ways, except where its plan says otherwise: for what happens to
//! connections below TLS, which a fake cannot do to itself.
//!
//! Two threads per connection; they end when either side does, at the latest when the fake is dropped.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use super::fake::FakeFireworks;

/// What becomes of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Everything is passed on.
    Pass,
    /// It is accepted and closed.
    Close,
    /// After so many bytes from the client nothing more is taken from it.
    StallRequest(usize),
    /// After so many bytes from the fake nothing more is passed on.
    StallAnswer(usize),
    /// After so many bytes from the fake both sides are closed, and TLS is not told.
    CutAnswer(usize),
}

/// A listening front; stops accepting when dropped.
pub struct Front {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Front {
    /// A front before `fake`; `plan` is asked for each connection, which are numbered from 0.
    pub fn start(fake: &FakeFireworks, plan: impl Fn(usize) -> Plan + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        // What is not read must not fit into the buffers of the system.
        let _ = socket2::SockRef::from(&listener).set_recv_buffer_size(16 * 1024);
        let address = listener.local_addr().expect("a bound listener has an address");
        let (connections, is_stopped) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (counted, stop_seen, behind) =
            (Arc::clone(&connections), Arc::clone(&is_stopped), fake.address());
        let thread = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stop_seen.load(Ordering::Acquire) {
                    return;
                }
                run(client, behind, plan(counted.fetch_add(1, Ordering::AcqRel)));
            }
        });
        Self { address, connections, is_stopped, thread: Some(thread) }
    }

    /// What the proxy is to be given as its upstream.
    pub fn base_url(&self) -> String {
        format!("https://localhost:{}/inference", self.address.port())
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address); // Wakes the accepting thread.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Starts to pass bytes between a client and the fake behind.
fn run(client: TcpStream, behind: SocketAddr, plan: Plan) {
    let Some(fake) = TcpStream::connect(behind).ok().filter(|_| plan != Plan::Close) else { return };
    let (Ok(to_fake), Ok(to_client)) = (fake.try_clone(), client.try_clone()) else { return };
    let request_bytes = if let Plan::StallRequest(bytes) = plan { bytes } else { usize::MAX };
    std::thread::spawn(move || pass(client, to_fake, request_bytes));
    std::thread::spawn(move || match plan {
        Plan::StallAnswer(bytes) => pass(fake, to_client, bytes),
        Plan::CutAnswer(bytes) => {
            pass(fake, to_client.try_clone().expect("it could be cloned before"), bytes);
            let _ = to_client.shutdown(Shutdown::Both);
        }
        Plan::Pass | Plan::Close | Plan::StallRequest(_) => pass(fake, to_client, usize::MAX),
    });
}

/// Passes so many bytes on, and then nothing: that the sockets stay open is for the other direction to see to.
fn pass(mut from: TcpStream, mut to: TcpStream, mut left: usize) {
    let mut buffer = [0; 16 * 1024];
    while left > 0 {
        let most = buffer.len().min(left);
        match from.read(&mut buffer[..most]) {
            Ok(count @ 1..) if to.write_all(&buffer[..count]).is_ok() => left -= count,
            _ => {
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}
