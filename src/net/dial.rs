//! Connections to the upstream: one for each request, to the first of its addresses that answers.

use std::time::Duration;

use super::{Server, conn::Conn, token_of};
use crate::{
    event::{ConnId, Input},
    time::Now,
};

/// How long one address of the upstream is tried before the next one is: an address that swallows
/// packets must not use up the time of those that work. Leaves time for four.
const CONNECT_ATTEMPT: Duration = Duration::from_millis(2_500);

impl Server {
    /// Opens the connections that were asked for, if the upstream's addresses are known; else they
    /// wait for the resolver.
    pub(super) fn dial(&mut self, now: Now) {
        if self.unresolved.is_empty() {
            return;
        }
        let Some(addresses) = self.resolver.addresses(now.mono) else { return };
        for id in std::mem::take(&mut self.unresolved) {
            let mut conn = Conn::to_upstream(addresses.clone());
            // The first attempt begins here; how it went shows when the connection runs.
            conn.begin(self.poll.registry(), token_of(id));
            self.conns.insert(id, conn);
            self.runnable.insert(id);
        }
    }

    /// Remembers when to go on to the next address, if this connection has begun to try one.
    pub(super) fn watch_attempt(&mut self, id: ConnId, now: Now) {
        if let Some(address) = self.conns.get_mut(&id).and_then(Conn::attempt_to_watch) {
            self.attempts.push_back((now.mono + CONNECT_ATTEMPT, id, address));
        }
    }

    /// Goes on to the next address where one was tried for long enough.
    pub(super) fn try_next_addresses(&mut self, now: Now) {
        while let Some((at, id, address)) = self.attempts.front().copied() {
            let conn = self.conns.get_mut(&id).filter(|conn| conn.is_trying(address));
            match conn {
                Some(_) if at > now.mono => return,
                Some(conn) => {
                    conn.begin(self.poll.registry(), token_of(id));
                    self.runnable.insert(id);
                }
                // It has been connected or closed meanwhile.
                None => {}
            }
            self.attempts.pop_front();
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
#[cfg(target_os = "linux")]
mod tests {
    use std::{
        io::{Read, Write},
        net::{SocketAddr, TcpListener, TcpStream},
        time::Duration,
    };

    use crate::{
        config::{Config, Upstream},
        net::Server,
    };

    /// An address that swallows packets: its backlog is full, and nobody ever accepts.
    fn black_hole(address: SocketAddr) -> (socket2::Socket, Vec<TcpStream>) {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&address.into()).expect("the port is free on this address too");
        socket.listen(0).expect("a bound socket listens");
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        (socket, std::iter::from_fn(connect).collect())
    }

    /// Reads a request's head and answers it.
    fn serve_one(listener: &TcpListener) {
        let (mut stream, _) = listener.accept().expect("the proxy connects");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head comes whole");
            head.extend(byte);
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("the proxy reads the answer");
    }

    #[test]
    fn an_address_that_swallows_packets_is_given_up_for_the_next_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let works = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = works.local_addr().expect("it is bound");
        let swallows = SocketAddr::new([127, 0, 0, 2].into(), address.port());
        let hole = black_hole(swallows);
        let mut server = Server::bind(Config {
            port: 0,
            upstream: Upstream::parse(&format!("http://{address}")).expect("a base URL"),
            usage_state: folder.path().join("state.json"),
            ..Config::defaults()
        })
        .expect("the proxy starts");
        server.resolver.pretend(&[swallows, address]);
        let (proxy, stopper) = (server.addresses()[0], server.stopper());
        let running = std::thread::spawn(move || server.run());
        let mut client = TcpStream::connect(proxy).expect("the proxy listens");
        client.write_all(b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
        serve_one(&works);
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        stopper.stop();
        running.join().expect("no panic").expect("a clean end");
        drop(hole);
    }
}
