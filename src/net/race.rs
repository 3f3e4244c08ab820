//! A race of attempts to connect, over the upstream's addresses, as RFC 8305 ("Happy Eyeballs") has it.
//!
//! Owns the sockets of one connection until one of them is connected. An address that swallows packets
//! costs a quarter of a second, one that refuses costs nothing. Knows no clock, and no limit to the
//! whole: how long connecting may take is the core's business.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use mio::{Interest, Registry, Token, event::Event, net::TcpStream};

use crate::{
    failure::{Failure, FailureClass},
    time::Mono,
};

/// How long an attempt is alone before the next one begins beside it (RFC 8305, section 8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Addresses tried for one connection: all have been begun after two of the core's ten seconds.
const ADDRESSES_MAX: usize = 8;

/// Addresses whose errors a failure quotes.
const ERRORS_TOLD_MAX: usize = 4;

/// What the tokens of one connection's attempts lie apart; the remainder is the connection's own token.
/// Leaves room for exactly [`ADDRESSES_MAX`] of them.
pub(super) const TOKEN_STRIDE: usize = 1 << (usize::BITS - 3);

/// What systems answer when the process or the machine may open no more (`EMFILE`, `ENFILE`).
const NO_DESCRIPTORS: &[i32] = if cfg!(windows) { &[10_024] } else { &[23, 24] };

/// Attempts to connect to the upstream's addresses, of which the first to succeed wins.
#[derive(Debug)]
pub(super) struct Race {
    untried: VecDeque<SocketAddr>,
    attempts: Vec<Attempt>,
    /// When the next attempt begins, if none fails before.
    next_at: Mono,
    /// What became of the addresses that failed.
    errors: Vec<String>,
    /// Whether some attempt could not begin for want of a descriptor.
    is_short_of_descriptors: bool,
}

/// An attempt under way. Its token is its own, so that the events of one do not speak for another.
#[derive(Debug)]
struct Attempt {
    address: SocketAddr,
    stream: TcpStream,
    token: Token,
    is_writable: bool,
}

impl Race {
    /// A race over these addresses, in this order; nothing begins yet.
    pub(super) fn new(addresses: VecDeque<SocketAddr>) -> Self {
        Self {
            untried: addresses,
            attempts: Vec::new(),
            next_at: Mono::ZERO,
            errors: Vec::new(),
            is_short_of_descriptors: false,
        }
    }

    /// When it wants to run even if there is no event.
    pub(super) fn next_attempt(&self) -> Option<Mono> {
        (!self.untried.is_empty()).then_some(self.next_at)
    }

    /// Records what an event says.
    pub(super) fn note(&mut self, event: &Event) {
        if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.token == event.token()) {
            attempt.is_writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        }
    }

    /// Sees how the attempts stand, and begins the next one if it is time or if one has failed. The
    /// winner, when there is one; then all others are dropped.
    pub(super) fn run(
        &mut self,
        registry: &Registry,
        token: Token,
        now: Mono,
    ) -> Result<Option<(SocketAddr, TcpStream)>, Failure> {
        let mut index = 0;
        while let Some(attempt) = self.attempts.get_mut(index) {
            match attempt.is_connected() {
                Ok(false) => index += 1,
                Ok(true) => {
                    let winner = self.attempts.swap_remove(index);
                    self.give_up(registry);
                    return Ok(Some((winner.address, winner.stream)));
                }
                Err(error) => {
                    let failed = self.attempts.remove(index);
                    self.errors.push(told(failed.address, &error));
                    failed.give_up(registry);
                    self.next_at = now;
                }
            }
        }
        self.begin_attempts(now, |address, number| {
            Attempt::begin(address, registry, Token(token.0 + number * TOKEN_STRIDE))
        });
        if self.attempts.is_empty() { Err(self.failure()) } else { Ok(None) }
    }

    /// Begins what is due; the number differs from attempt to attempt.
    fn begin_attempts(&mut self, now: Mono, begin: impl Fn(SocketAddr, usize) -> io::Result<Attempt>) {
        while self.next_at <= now
            && let Some(address) = self.untried.pop_front()
        {
            match begin(address, self.untried.len()) {
                Ok(attempt) => {
                    self.attempts.push(attempt);
                    self.next_at = now + ATTEMPT_DELAY;
                }
                // Those under way may yet win, or fail and leave their descriptors.
                Err(error) if is_own_shortage(&error) && !self.attempts.is_empty() => {
                    self.untried.push_front(address);
                    self.next_at = now + ATTEMPT_DELAY;
                }
                Err(error) => {
                    self.is_short_of_descriptors |= is_own_shortage(&error);
                    self.errors.push(told(address, &error));
                }
            }
        }
    }

    /// Whether some attempt could not begin because our own machine has no descriptor left.
    pub(super) fn is_short_of_descriptors(&self) -> bool {
        self.is_short_of_descriptors
    }

    /// Drops all attempts.
    pub(super) fn give_up(&mut self, registry: &Registry) {
        self.attempts.drain(..).for_each(|attempt| attempt.give_up(registry));
    }

    /// What to say when no address is left.
    fn failure(&self) -> Failure {
        let mut told: Vec<_> = self.errors.iter().take(ERRORS_TOLD_MAX).cloned().collect();
        if let Some(more @ 1..) = self.errors.len().checked_sub(ERRORS_TOLD_MAX) {
            told.push(format!("and {more} more"));
        }
        Failure::new(FailureClass::ConnectRefused, told.join("; "))
    }
}

impl Attempt {
    fn begin(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { address, stream, token, is_writable: false })
    }

    /// Whether TCP is connected. Writable alone does not say so: an error is writable too, and so is a
    /// spurious event. Nor does a peer's address alone: Windows has one while it still connects.
    fn is_connected(&mut self) -> io::Result<bool> {
        if !self.is_writable {
            return Ok(false);
        }
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        self.is_writable = self.stream.peer_addr().is_ok();
        Ok(self.is_writable)
    }

    fn give_up(mut self, registry: &Registry) {
        let _ = registry.deregister(&mut self.stream);
    }
}

/// The order in which to try these addresses, of which there may be many: the last winner first if it is
/// still among them, then the families in turns, beginning with the first one's (RFC 8305, section 4).
pub(super) fn in_order(addresses: &[SocketAddr], winner: Option<SocketAddr>) -> VecDeque<SocketAddr> {
    let mut sorted = addresses.to_vec();
    // Stable, so that the others stay as the system has put them (RFC 6724).
    sorted.sort_by_key(|address| Some(*address) != winner);
    let is_first_v4 = sorted.first().is_some_and(SocketAddr::is_ipv4);
    let (mut ours, mut others): (VecDeque<_>, VecDeque<_>) =
        sorted.into_iter().partition(|address| address.is_ipv4() == is_first_v4);
    let mut turns = VecDeque::new();
    while turns.len() < ADDRESSES_MAX && !(ours.is_empty() && others.is_empty()) {
        turns.extend(ours.pop_front().into_iter().chain(others.pop_front()));
    }
    turns.truncate(ADDRESSES_MAX);
    turns
}

/// Whether nobody but our own machine is to blame.
pub(super) fn is_own_shortage(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| NO_DESCRIPTORS.contains(&code))
}

fn told(address: SocketAddr, error: &io::Error) -> String {
    let whose = if is_own_shortage(error) { "our own machine has no descriptor left: " } else { "" };
    format!("{address}: {whose}{error}")
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::TcpListener;

    use mio::{Events, Poll};

    use super::*;

    /// How long anything that must happen may take on a loaded machine.
    pub(in crate::net) const SOON: Duration = Duration::from_secs(30);

    const OWN: Token = Token(16);

    /// An address that refuses as long as the socket lives: it is taken, and nobody listens.
    pub(in crate::net) fn refusing(host: &str) -> (SocketAddr, socket2::Socket) {
        let address: SocketAddr = format!("{host}:0").parse().expect("an address");
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.bind(&address.into()).expect("a free port");
        let address = socket.local_addr().ok().and_then(|address| address.as_socket());
        (address.expect("it is bound"), socket)
    }

    /// An address that swallows packets: its backlog is full, and nobody accepts.
    #[cfg(target_os = "linux")]
    pub(in crate::net) fn black_hole() -> (SocketAddr, TcpListener, Vec<std::net::TcpStream>) {
        let (address, socket) = refusing("127.0.0.1");
        socket.listen(0).expect("a bound socket listens");
        let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        (address, socket.into(), std::iter::from_fn(connect).collect())
    }

    /// Lets a black hole accept what comes from now on.
    #[cfg(target_os = "linux")]
    pub(in crate::net) fn open(hole: &TcpListener, fillers: Vec<std::net::TcpStream>) {
        for _ in fillers {
            hole.accept().expect("it was connected");
        }
    }

    fn listener() -> (SocketAddr, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        (listener.local_addr().expect("it is bound"), listener)
    }

    /// A race and what it needs, at a time that stands still unless it is moved.
    struct Track {
        race: Race,
        poll: Poll,
        millis: u64,
    }

    impl Track {
        fn new(addresses: &[SocketAddr]) -> Self {
            let race = Race::new(addresses.iter().copied().collect());
            Self { race, poll: Poll::new().expect("a poll"), millis: 0 }
        }

        fn run(&mut self) -> Result<Option<(SocketAddr, TcpStream)>, Failure> {
            self.race.run(self.poll.registry(), OWN, Mono::from_micros(self.millis * 1_000))
        }

        /// The addresses that are being tried at this time.
        #[cfg(target_os = "linux")]
        fn tried_at(&mut self, millis: u64) -> Vec<SocketAddr> {
            self.millis = millis;
            assert!(self.run().expect("nobody refuses").is_none(), "nobody accepts");
            self.race.attempts.iter().map(|attempt| attempt.address).collect()
        }

        /// Runs until the race is decided.
        fn decide(&mut self) -> Result<SocketAddr, Failure> {
            let mut events = Events::with_capacity(16);
            loop {
                if let Some((winner, _)) = self.run()? {
                    assert!(self.race.attempts.is_empty(), "all others are dropped");
                    return Ok(winner);
                }
                self.poll.poll(&mut events, Some(SOON)).expect("a poll");
                assert!(!events.is_empty(), "nothing happened: {self:?}", self = self.race);
                for event in &events {
                    assert_eq!(event.token().0 % TOKEN_STRIDE, OWN.0);
                    self.race.note(event);
                }
            }
        }
    }

    fn ordered(addresses: &[&str], winner: Option<&str>) -> Vec<String> {
        let parse = |address: &str| address.parse().expect("an address");
        let addresses: Vec<SocketAddr> = addresses.iter().copied().map(parse).collect();
        in_order(&addresses, winner.map(parse)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn families_take_turns_from_the_first_one_on() {
        let six_first = ["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"];
        assert_eq!(ordered(&six_first, None), ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"]);
        let four_first = ["1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1", "[::1]:1"];
        assert_eq!(ordered(&four_first, None), ["1.0.0.1:1", "[::1]:1", "1.0.0.2:1", "1.0.0.3:1"]);
        assert_eq!(ordered(&["1.0.0.1:1"], None), ["1.0.0.1:1"]);
        assert!(ordered(&[], None).is_empty());
    }

    #[test]
    fn the_last_winner_goes_first_as_long_as_it_is_listed() {
        let addresses = ["[::1]:1", "[::2]:1", "1.0.0.1:1", "1.0.0.2:1"];
        let won = ordered(&addresses, Some("1.0.0.2:1"));
        assert_eq!(won, ["1.0.0.2:1", "[::1]:1", "1.0.0.1:1", "[::2]:1"]);
        assert_eq!(ordered(&addresses, Some("9.9.9.9:1")), ordered(&addresses, None));
    }

    #[test]
    fn the_first_of_very_many_addresses_are_tried_and_the_last_winner_among_them() {
        let many: Vec<String> = (1..=99).map(|last| format!("1.0.0.{last}:1")).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        let tried = ordered(&many, Some("1.0.0.77:1"));
        assert_eq!((tried.len(), &*tried[0], &*tried[7]), (8, "1.0.0.77:1", "1.0.0.7:1"));
        many.push("[::1]:1");
        let tried = ordered(&many, None);
        assert_eq!((tried.len(), &*tried[1], &*tried[7]), (8, "[::1]:1", "1.0.0.7:1"));
    }

    #[test]
    fn an_address_that_refuses_is_followed_at_once() {
        let ((refuses, _bound), (address, _listener)) = (refusing("127.0.0.1"), listener());
        // The time does not move, so nothing but the failure can have begun the second attempt.
        assert_eq!(Track::new(&[refuses, address]).decide(), Ok(address));
        assert_eq!(Track::new(&[refuses, refuses, refuses, address]).decide(), Ok(address));
    }

    #[test]
    fn when_all_refuse_the_failure_names_some_of_them_and_counts_the_rest() {
        let bound: Vec<_> = (0..6).map(|_| refusing("127.0.0.1")).collect();
        let addresses: Vec<SocketAddr> = bound.iter().map(|(address, _)| *address).collect();
        let failure = Track::new(&addresses).decide().expect_err("nobody listens");
        assert_eq!(failure.class, FailureClass::ConnectRefused);
        let parts: Vec<&str> = failure.detail.split("; ").collect();
        for (part, address) in parts.iter().zip(&addresses[..4]) {
            assert!(part.starts_with(&format!("{address}: ")) && part.contains("refused"), "{parts:?}");
        }
        assert_eq!((parts.len(), parts[4]), (5, "and 2 more"));
        let failure = Track::new(&addresses[..1]).decide().expect_err("nobody listens");
        assert!(failure.detail.starts_with(&format!("{}: ", addresses[0])), "{failure}");
        assert!(!failure.detail.contains(';'), "{failure}");
    }

    #[test]
    fn a_want_of_descriptors_is_told_as_our_own() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        for code in NO_DESCRIPTORS {
            let line = told(address, &io::Error::from_raw_os_error(*code));
            assert!(line.starts_with("127.0.0.1:1: our own machine has no descriptor left: "), "{line}");
        }
        let line = told(address, &io::ErrorKind::ConnectionRefused.into());
        assert_eq!(line, "127.0.0.1:1: connection refused");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn attempts_begin_a_quarter_of_a_second_apart_and_go_on_side_by_side() {
        let holes: Vec<_> = (0..3).map(|_| black_hole()).collect();
        let addresses: Vec<SocketAddr> = holes.iter().map(|(address, ..)| *address).collect();
        let mut track = Track::new(&addresses);
        assert_eq!(track.tried_at(0), addresses[..1]);
        assert_eq!(track.race.next_attempt(), Some(Mono::from_micros(250_000)));
        assert_eq!(track.tried_at(249), addresses[..1]);
        assert_eq!(track.tried_at(250), addresses[..2]);
        assert_eq!(track.tried_at(499), addresses[..2]);
        assert_eq!(track.tried_at(700), addresses[..3]);
        assert_eq!(track.race.next_attempt(), None, "all have begun");
        // A spurious event makes no winner.
        track.race.attempts.iter_mut().for_each(|attempt| attempt.is_writable = true);
        assert_eq!(track.tried_at(9_999), addresses[..3]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_want_of_descriptors_uses_up_no_address_while_another_is_being_tried() {
        let ((swallows, _hole, _fillers), (address, _listener)) = (black_hole(), listener());
        let mut track = Track::new(&[swallows, address]);
        assert_eq!(track.tried_at(0), [swallows]);
        let refuse = |_, _| Err(io::Error::from_raw_os_error(NO_DESCRIPTORS[0]));
        track.race.begin_attempts(Mono::from_micros(250_000), refuse);
        assert_eq!(track.race.next_attempt(), Some(Mono::from_micros(500_000)));
        assert_eq!(track.tried_at(499), [swallows]);
        track.millis = 500;
        assert_eq!(track.decide(), Ok(address));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_attempt_that_was_not_the_latest_can_still_win() {
        let ((slow, hole, fillers), (other, _hole, _fillers)) = (black_hole(), black_hole());
        let mut track = Track::new(&[slow, other]);
        assert_eq!(track.tried_at(0), [slow]);
        assert_eq!(track.tried_at(250), [slow, other]);
        // The system tries again after a second.
        open(&hole, fillers);
        assert_eq!(track.decide(), Ok(slow));
    }
}
