//! Connections to the upstream: one for each request, to the first of its addresses that answers.

use super::{Server, conn::Conn};
use crate::{
    event::{ConnId, Input},
    time::Now,
};

impl Server {
    /// Begins the connections that were asked for, if the upstream's addresses are known; else they
    /// wait for the resolver.
    pub(super) fn dial(&mut self, now: Now) {
        if self.unresolved.is_empty() {
            return;
        }
        let Some(addresses) = self.resolver.addresses(now.mono) else { return };
        for id in std::mem::take(&mut self.unresolved) {
            self.conns.insert(id, Conn::to_upstream(addresses.clone()));
            self.runnable.insert(id);
        }
    }

    /// Remembers when a connection goes on to its next address, or which one has made it usable.
    pub(super) fn watch_race(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(&id) else { return };
        self.attempts.extend(conn.next_attempt().map(|at| (at, id)));
        if conn.is_ready() {
            self.resolver.prefer(conn.winner());
        }
    }

    /// Runs the connections whose time to begin with another address has come.
    pub(super) fn try_next_addresses(&mut self, now: Now) {
        while let Some((at, id)) = self.attempts.first().copied() {
            // Else it has been connected or closed, or a failure has brought its next attempt forward.
            let is_awaited = self.conns.get(&id).and_then(Conn::next_attempt) == Some(at);
            if is_awaited && at > now.mono {
                return;
            }
            self.attempts.pop_first();
            if is_awaited {
                self.runnable.insert(id);
            }
        }
    }

    /// Takes the resolver's answer, if there is one.
    pub(super) fn take_addresses(&mut self, now: Now) {
        let Some(Err(failure)) = self.resolver.take_answer(now.mono) else { return self.dial(now) };
        for id in std::mem::take(&mut self.unresolved) {
            self.tell(id, Input::Failed(failure.clone()), now);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        io::{Read, Write},
        net::{SocketAddr, TcpListener, TcpStream},
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        thread::JoinHandle,
    };

    #[cfg(target_os = "linux")]
    use crate::net::race::tests::{black_hole, open};
    use crate::{
        config::{Config, Upstream},
        net::{
            Server, Stopper,
            race::tests::{SOON, refusing},
        },
        time::Mono,
    };

    /// An upstream that answers every request with a status of its own.
    pub(in crate::net) struct Answering {
        pub(in crate::net) address: SocketAddr,
        is_stopped: Arc<AtomicBool>,
        thread: JoinHandle<()>,
    }

    impl Answering {
        pub(in crate::net) fn start(status: u16) -> Self {
            Self::on(TcpListener::bind("127.0.0.1:0").expect("a free port"), status)
        }

        fn on(listener: TcpListener, status: u16) -> Self {
            let address = listener.local_addr().expect("it is bound");
            let is_stopped = Arc::new(AtomicBool::new(false));
            let is_over = Arc::clone(&is_stopped);
            let thread = std::thread::spawn(move || {
                while let Ok((stream, _)) = listener.accept()
                    && !is_over.load(Ordering::Acquire)
                {
                    answer(stream, status);
                }
            });
            Self { address, is_stopped, thread }
        }

        /// From now on its address refuses.
        fn stop(self) {
            self.is_stopped.store(true, Ordering::Release);
            let _wakes_it = TcpStream::connect(self.address).expect("it listens");
            self.thread.join().expect("no panic");
        }
    }

    /// Reads a request's head and answers it. A connection without a request lost its race.
    fn answer(mut stream: TcpStream, status: u16) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte).unwrap_or(0) == 0 {
                return;
            }
            head.extend(byte);
        }
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).expect("the proxy reads the answer");
    }

    /// A server in a thread, which it leaves as it is when it is stopped.
    pub(in crate::net) struct Running {
        address: SocketAddr,
        stopper: Stopper,
        thread: JoinHandle<Server>,
        _folder: tempfile::TempDir,
    }

    impl Running {
        /// A server after `change` has been made to it.
        pub(in crate::net) fn start(upstream: &str, change: impl FnOnce(&mut Server)) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let mut server = Server::bind(Config {
                port: 0,
                upstream: Upstream::parse(upstream).expect("a base URL"),
                usage_state: folder.path().join("state.json"),
                retries_max: 0,
                ..Config::defaults()
            })
            .expect("the proxy starts");
            change(&mut server);
            let (address, stopper) = (server.addresses()[0], server.stopper());
            let thread = std::thread::spawn(move || {
                server.run().expect("the event loop runs");
                server
            });
            Self { address, stopper, thread, _folder: folder }
        }

        /// A server whose upstream has these addresses.
        fn before(addresses: &[SocketAddr]) -> Self {
            Self::start("http://localhost:1", |server| server.resolver.pretend(addresses))
        }

        /// What a request on a connection of its own is answered.
        pub(in crate::net) fn ask(&self) -> String {
            let mut client = TcpStream::connect(self.address).expect("the proxy listens");
            client.set_read_timeout(Some(SOON)).expect("a time");
            let request = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            client.write_all(request).expect("the proxy reads");
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("an answer");
            answer
        }

        /// Asks, and checks the status.
        #[track_caller]
        pub(in crate::net) fn expect(&self, status: u16) {
            let answer = self.ask();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }

        pub(in crate::net) fn stop(self) -> Server {
            self.stopper.stop();
            self.thread.join().expect("no panic")
        }
    }

    #[test]
    fn an_address_that_refuses_does_not_matter_in_either_family() {
        let ((refuses, _bound), four) = (refusing("127.0.0.1"), Answering::start(204));
        // Nobody listens on the lowest port, or the machine has not got the family at all.
        let nobody = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 1));
        for addresses in [[refuses, four.address], [nobody, four.address], [four.address, refuses]] {
            let proxy = Running::before(&addresses);
            proxy.expect(204);
            proxy.stop();
        }
        four.stop();
        if let Ok(listener) = TcpListener::bind("[::1]:0") {
            let six = Answering::on(listener, 201);
            let proxy = Running::before(&[refuses, six.address]);
            proxy.expect(201);
            proxy.stop();
        }
    }

    #[test]
    fn when_every_address_refuses_the_client_is_told_which() {
        let ((one, _bound), (two, _bound_too)) = (refusing("127.0.0.1"), refusing("127.0.0.1"));
        let proxy = Running::before(&[one, two]);
        let answer = proxy.ask();
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        for part in ["connect_refused", &format!("({one}: "), &format!("; {two}: ")] {
            assert!(answer.contains(part), "{part} in {answer}");
        }
        assert!(proxy.stop().attempts.is_empty(), "nothing is left to wait for");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_next_address_is_tried_beside_one_that_swallows_packets() {
        let ((swallows, _hole, _fillers), works) = (black_hole(), Answering::start(204));
        let proxy = Running::before(&[swallows, works.address]);
        proxy.expect(204);
        let mut server = proxy.stop();
        assert!(server.attempts.is_empty(), "nothing is left to wait for");
        let next = server.resolver.addresses(Mono::ZERO).expect("they are known");
        assert_eq!(next, [works.address, swallows], "the winner goes first");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_winner_goes_first_until_it_stops_working() {
        let ((swallows, hole, fillers), works) = (black_hole(), Answering::start(201));
        let proxy = Running::before(&[swallows, works.address]);
        proxy.expect(201);
        // The first one listed works again, but the winner goes first.
        open(&hole, fillers);
        let healed = Answering::on(hole, 202);
        proxy.expect(201);
        works.stop();
        proxy.expect(202);
        let mut server = proxy.stop();
        let next = server.resolver.addresses(Mono::ZERO).expect("they are known");
        assert_eq!(next[0], healed.address);
    }

    #[test]
    fn an_address_that_connects_and_does_nothing_more_no_longer_goes_first() {
        // A closing listener: TCP works, TLS does not.
        let closes = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = closes.local_addr().expect("it is bound");
        let closing = std::thread::spawn(move || drop(closes.accept()));
        let (other, _bound) = refusing("127.0.0.1");
        let proxy = Running::start("https://localhost:1", |server| {
            server.resolver.pretend(&[other, address]);
            server.resolver.prefer(Some(address));
            let next = server.resolver.addresses(Mono::ZERO).expect("they are known");
            assert_eq!(next, [address, other]);
        });
        let answer = proxy.ask();
        assert!(answer.contains("tls_other"), "{answer}");
        closing.join().expect("no panic");
        let next = proxy.stop().resolver.addresses(Mono::ZERO).expect("they are known");
        assert_eq!(next, [other, address]);
    }
}
