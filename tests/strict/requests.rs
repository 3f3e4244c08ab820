//! Every request through a running proxy: whole, in pieces, and with another request right behind it. What reaches
//! the upstream is exactly the requests that the table accepts, each well-formed and on a connection of its own, and
//! the client gets as many answers.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
};

use crate::{
    parsing::random_split,
    reference::{self, Answer, Request},
    support::{
        dice::Dice,
        proxy::ProxyUnderTest,
        wire::{SOON, proxy_to},
    },
    table::{Accepted, End, RequestCase, all_requests},
    upstream::Upstream,
};

/// The request that shows that a connection is in good order, and ends it.
const LAST: &[u8] = b"GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// How the bytes of a case are sent.
#[derive(Debug, Clone, Copy)]
enum Way {
    Whole,
    InPieces,
    /// With [`LAST`] right behind.
    Pipelined,
}

/// A client's connection that knows nothing of HTTP.
struct RawClient {
    stream: TcpStream,
    received: Vec<u8>,
}

impl RawClient {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the proxy listens");
        stream.set_nodelay(true).expect("a connected socket");
        stream.set_read_timeout(Some(SOON)).expect("a positive timeout");
        Self { stream, received: Vec::new() }
    }

    /// Sends as much as the proxy takes: it may have refused the beginning by then.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Reads until so many answers are whole, or the proxy ends the connection.
    fn await_answers(&mut self, count: usize, methods: &[&str]) {
        let is_there = |received: &[u8]| {
            let answers = reference::answers(received, methods).unwrap_or_default();
            answers.iter().filter(|answer| answer.is_whole).count() >= count
        };
        let mut buffer = [0; 16 * 1024];
        while !is_there(&self.received) {
            match self.stream.read(&mut buffer) {
                Ok(count @ 1..) => self.received.extend_from_slice(&buffer[..count]),
                _ => return,
            }
        }
    }

    /// Reads to the end, and gives all that came.
    fn finish(mut self) -> Vec<u8> {
        let ended = self.stream.read_to_end(&mut self.received);
        let ended = ended.map_err(|error| error.kind());
        assert!(
            !matches!(ended, Err(std::io::ErrorKind::WouldBlock)),
            "the proxy does not end the connection"
        );
        self.received
    }
}

/// What one case has to come to: what the upstream gets, and the statuses that the client does.
struct Expected {
    upstream: Vec<Accepted>,
    statuses: Vec<u16>,
    methods: Vec<&'static str>,
}

impl Expected {
    fn of(case: &RequestCase) -> Self {
        let mut upstream = case.accepted.clone();
        let mut statuses = vec![200; upstream.len()];
        let mut methods: Vec<_> = upstream.iter().map(|accepted| accepted.method).collect();
        match case.end {
            End::Open => {
                let framing = fireworks_proxy::http::head::Framing::Empty;
                upstream.push(Accepted { method: "GET", target: "/last", framing, body: b"" });
                statuses.push(200);
                methods.push("GET");
            }
            End::Refused(status) => {
                statuses.push(status);
                methods.push("GET");
            }
            End::Closed | End::Incomplete => {}
        }
        Self { upstream, statuses, methods }
    }
}

/// Sends a case and gives all that the client receives.
fn ask(proxy: &ProxyUnderTest, case: &RequestCase, way: Way, dice: &mut Dice) -> Vec<u8> {
    let expected = Expected::of(case);
    let mut client = RawClient::connect(proxy.address());
    match way {
        Way::Whole => client.send(&case.bytes),
        Way::InPieces => {
            let mut start = 0;
            for end in random_split(case.bytes.len(), dice) {
                client.send(&case.bytes[start..end]);
                start = end;
            }
        }
        Way::Pipelined => client.send(&[&case.bytes, LAST].concat()),
    }
    let is_pipelined = matches!(way, Way::Pipelined);
    match case.end {
        End::Open if !is_pipelined => {
            client.await_answers(case.accepted.len(), &expected.methods);
            client.send(LAST);
        }
        End::Incomplete => {
            client.await_answers(case.accepted.len(), &expected.methods);
            let _ = client.stream.shutdown(Shutdown::Write);
        }
        End::Open | End::Closed | End::Refused(_) => {}
    }
    client.finish()
}

/// Checks what the client got: as many answers as there must be, and nothing else.
fn check_answers(received: &[u8], expected: &Expected) -> Result<(), String> {
    let answers = reference::answers(received, &expected.methods)?;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    if statuses != expected.statuses || !answers.iter().all(|answer| answer.is_whole) {
        return Err(format!("not {:?}: {answers:#?}", expected.statuses));
    }
    let is_refused = |answer: &&Answer| answer.status >= 400;
    for answer in answers.iter().filter(is_refused) {
        let is_json = answer.head.all("content-type") == [b"application/json"];
        if !is_json || answer.head.all("connection") != [b"close"] {
            return Err(format!("a refusal that is none: {answer:#?}"));
        }
    }
    Ok(())
}

/// Checks what the upstream got on each connection: one well-formed request and nothing behind it.
fn check_upstream(received: &[Vec<u8>], case: &RequestCase, expected: &Expected) -> Result<(), String> {
    if received.len() != expected.upstream.len() {
        let texts: Vec<_> = received.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
        return Err(format!("{} requests expected: {texts:#?}", expected.upstream.len()));
    }
    for (bytes, accepted) in received.iter().zip(&expected.upstream) {
        let (request, length) = reference::request(bytes)?.ok_or("half a request")?;
        if length != bytes.len() {
            return Err(format!("something is behind {request:?}"));
        }
        let line = format!("{} {} HTTP/1.1", accepted.method, accepted.target);
        if request.head.line != line || request.body != accepted.body {
            return Err(format!("{line} expected: {request:?}"));
        }
        check_hops(&request, case)?;
    }
    Ok(())
}

/// Checks that nothing was passed on that the client had named in `Connection`.
fn check_hops(request: &Request, case: &RequestCase) -> Result<(), String> {
    let text = String::from_utf8_lossy(&case.bytes).to_ascii_lowercase();
    let lists = text.split("\r\n").filter_map(|line| line.strip_prefix("connection:"));
    for name in lists.flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty()) {
        if !request.head.all(name).is_empty() {
            return Err(format!("{name} was passed on: {request:?}"));
        }
    }
    Ok(())
}

/// Runs every case in one way, and fails with all that went wrong.
fn run(way: Way) {
    let upstream = Upstream::start();
    let proxy = proxy_to(&upstream.base_url(), &[("RPS", "1000")]);
    let mut failures = Vec::new();
    for (number, case) in (0..).zip(all_requests()) {
        // What is missing of such a case would be taken from the next request, and rightly so.
        if matches!((way, case.end), (Way::Pipelined, End::Incomplete)) {
            continue;
        }
        let expected = Expected::of(&case);
        let answers = ask(&proxy, &case, way, &mut Dice::new(number, 99));
        let received = upstream.take_received(expected.upstream.len());
        let checked =
            check_answers(&answers, &expected).and_then(|()| check_upstream(&received, &case, &expected));
        failures.extend(checked.err().map(|error| format!("{} ({}): {error}", case.name, case.section)));
    }
    assert!(failures.is_empty(), "{} cases, {way:?}: {failures:#?}", failures.len());
    assert_eq!(proxy.usage()["requests"]["in_flight"], 0);
}

#[test]
fn what_reaches_the_upstream_is_one_well_formed_request_or_nothing() {
    run(Way::Whole);
}

#[test]
fn so_it_is_when_requests_come_in_pieces() {
    run(Way::InPieces);
}

#[test]
fn nothing_is_smuggled_before_a_request_behind() {
    run(Way::Pipelined);
}
