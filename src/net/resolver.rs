//! Name look-up, of the upstream or of the forward proxy before it: the one thing that the system can only do while
//! we wait, so a helper thread waits.
//!
//! An answer serves for a short time, and the last good one serves on when a look-up fails.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use mio::Waker;

use super::race::in_order;
use crate::{
    config::Config,
    failure::{Failure, FailureClass},
    time::Mono,
};

/// How long an answer serves before it is asked for again. Fireworks' edge changes its addresses rarely,
/// and a look-up per request would cost more than the request.
const ANSWER_TTL: Duration = Duration::from_secs(60);

/// Where TCP leads to: the upstream, or the forward proxy before it, which then looks up the upstream itself.
#[derive(Debug)]
pub(super) struct FirstHop {
    host: String,
    port: u16,
    /// What it amounts to that its name does not resolve.
    unknown: FailureClass,
}

impl FirstHop {
    /// The one of this configuration.
    pub(super) fn of(config: &Config) -> Self {
        let (host, port, unknown) = match &config.forward_proxy {
            Some(proxy) => (&proxy.host, proxy.port, FailureClass::ProxyDns),
            None => (&config.upstream.host, config.upstream.port, FailureClass::Dns),
        };
        Self { host: host.clone(), port, unknown }
    }
}

/// Looks up the addresses of the first hop.
#[derive(Debug)]
pub(super) struct Resolver {
    questions: Sender<()>,
    answers: Receiver<io::Result<Vec<SocketAddr>>>,
    host: String,
    unknown: FailureClass,
    /// The last good answer.
    known: Vec<SocketAddr>,
    /// The address that made the last connection usable. It goes first, so that one that swallows packets
    /// does not hold up every request.
    preferred: Option<SocketAddr>,
    /// Since when `known` is trusted: an answer came, or one failed and the last good one serves on.
    trusted_since: Option<Mono>,
    /// Whether the host is an address, which needs no look-up.
    is_literal: bool,
    is_asking: bool,
}

impl Resolver {
    /// Starts the helper thread, which ends when the resolver is dropped.
    pub(super) fn start(hop: FirstHop, waker: Arc<Waker>) -> io::Result<Self> {
        let (name, port) = (hop.host.clone(), hop.port);
        Self::with(hop, waker, move || (name.as_str(), port).to_socket_addrs().map(Iterator::collect))
    }

    fn with(
        hop: FirstHop,
        waker: Arc<Waker>,
        look_up: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> io::Result<Self> {
        let (questions, asked) = channel::<()>();
        let (answered, answers) = channel();
        thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            while asked.recv().is_ok() {
                if answered.send(look_up()).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
        let FirstHop { host, port, unknown } = hop;
        let literal = host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, port));
        Ok(Self {
            questions,
            answers,
            host,
            unknown,
            known: literal.into_iter().collect(),
            preferred: None,
            trusted_since: None,
            is_literal: literal.is_some(),
            is_asking: false,
        })
    }

    /// The addresses in the order to try them, if any are known. Asks for them when they have aged or are
    /// not known; the answer comes through [`Self::take_answer`], and until then the last one serves.
    pub(super) fn addresses(&mut self, now: Mono) -> Option<VecDeque<SocketAddr>> {
        let is_fresh = self.is_literal || self.trusted_since.is_some_and(|at| now.since(at) < ANSWER_TTL);
        if !is_fresh && !self.is_asking {
            self.is_asking = self.questions.send(()).is_ok();
        }
        (!self.known.is_empty()).then(|| in_order(&self.known, self.preferred))
    }

    /// Puts this address first from now on, as long as it is listed.
    pub(super) fn prefer(&mut self, address: Option<SocketAddr>) {
        self.preferred = address;
    }

    /// No longer puts this address first: it accepted a connection and nothing came of it.
    pub(super) fn doubt(&mut self, address: SocketAddr) {
        self.preferred = self.preferred.filter(|preferred| *preferred != address);
    }

    /// The answer to a look-up, if one has come: whether there are addresses to use.
    pub(super) fn take_answer(&mut self, now: Mono) -> Option<Result<(), Failure>> {
        let answer = self.answers.try_recv().ok()?;
        self.is_asking = false;
        match answer {
            Ok(addresses) if !addresses.is_empty() => {
                self.known = addresses;
                self.trusted_since = Some(now);
                Some(Ok(()))
            }
            // The last good answer serves on, and is asked for again when that has aged in turn.
            _ if !self.known.is_empty() => {
                self.trusted_since = Some(now);
                Some(Ok(()))
            }
            Ok(_) => Some(Err(self.failure("it has no addresses"))),
            Err(error) => Some(Err(self.failure(&error.to_string()))),
        }
    }

    fn failure(&self, detail: &str) -> Failure {
        Failure::new(self.unknown, format!("{}: {detail}", self.host))
    }

    /// Takes these for the addresses of a host that needs no look-up.
    #[cfg(test)]
    pub(super) fn pretend(&mut self, addresses: &[SocketAddr]) {
        self.known = addresses.to_vec();
        self.is_literal = true;
    }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll, Token};

    use super::*;
    use crate::net::{
        dial::tests::{Answering, Running},
        race::tests::SOON,
    };

    type Answer = io::Result<Vec<SocketAddr>>;

    const OLD: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(1, 0, 0, 1)), 443);
    const NEW: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(1, 0, 0, 2)), 443);

    fn hop(host: &str) -> FirstHop {
        FirstHop { host: host.to_owned(), port: 443, unknown: FailureClass::Dns }
    }

    /// A look-up that hangs until it is told what it finds.
    fn scripted() -> (Sender<Answer>, impl Fn() -> Answer + Send + 'static) {
        let (script, found) = channel();
        (script, move || found.recv().unwrap_or_else(|_| Ok(Vec::new())))
    }

    struct Asked {
        resolver: Resolver,
        script: Sender<Answer>,
        poll: Poll,
    }

    impl Asked {
        /// A resolver that knows nothing yet.
        fn new() -> Self {
            let poll = Poll::new().expect("a poll");
            let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
            let (script, look_up) = scripted();
            let resolver = Resolver::with(hop("some.name"), waker, look_up).expect("a thread");
            Self { resolver, script, poll }
        }

        /// A resolver that asked at second 0, and was told of `OLD`.
        fn knowing() -> Self {
            let mut asked = Self::new();
            assert_eq!(asked.at(0), None);
            assert_eq!(asked.hears(0, Ok(vec![OLD])), Ok(()));
            asked
        }

        fn at(&mut self, second: u64) -> Option<Vec<SocketAddr>> {
            self.resolver.addresses(Mono::from_micros(second * 1_000_000)).map(Into::into)
        }

        /// Lets the look-up come to its end.
        fn hears(&mut self, second: u64, answer: Answer) -> Result<(), Failure> {
            assert!(self.resolver.take_answer(Mono::ZERO).is_none(), "it hangs");
            self.script.send(answer).expect("the look-up waits");
            let mut events = Events::with_capacity(1);
            self.poll.poll(&mut events, Some(SOON)).expect("a poll");
            assert!(!events.is_empty(), "an answer wakes the loop");
            self.resolver.take_answer(Mono::from_micros(second * 1_000_000)).expect("it woke us")
        }
    }

    #[test]
    fn an_answer_serves_for_a_minute_and_while_the_next_one_is_looked_up() {
        let mut asked = Asked::knowing();
        assert_eq!((asked.at(59), asked.resolver.is_asking), (Some(vec![OLD]), false));
        assert_eq!((asked.at(60), asked.resolver.is_asking), (Some(vec![OLD]), true));
        // The look-up hangs, and holds up nobody.
        assert_eq!(asked.at(600), Some(vec![OLD]));
        assert_eq!(asked.hears(601, Ok(vec![NEW])), Ok(()));
        assert_eq!((asked.at(660), asked.resolver.is_asking), (Some(vec![NEW]), false));
    }

    #[test]
    fn the_last_good_answer_serves_on_when_a_look_up_fails_or_finds_nothing() {
        for bad in [Err(io::ErrorKind::TimedOut.into()), Ok(Vec::new())] {
            let mut asked = Asked::knowing();
            assert_eq!(asked.at(60), Some(vec![OLD]));
            assert_eq!(asked.hears(61, bad), Ok(()));
            assert_eq!((asked.at(120), asked.resolver.is_asking), (Some(vec![OLD]), false));
            assert_eq!((asked.at(121), asked.resolver.is_asking), (Some(vec![OLD]), true), "asked again");
        }
    }

    #[test]
    fn with_no_good_answer_a_bad_one_is_a_failure_and_the_next_dial_asks_again() {
        for (bad, told) in
            [(Err(io::Error::other("no luck")), "no luck"), (Ok(Vec::new()), "it has no addresses")]
        {
            let mut asked = Asked::new();
            assert_eq!(asked.at(0), None);
            let failure = asked.hears(1, bad).expect_err("nothing is known");
            assert_eq!(failure, Failure::new(FailureClass::Dns, format!("some.name: {told}")));
            assert_eq!((asked.at(1), asked.resolver.is_asking), (None, true));
            assert_eq!(asked.hears(2, Ok(vec![OLD])), Ok(()));
            assert_eq!(asked.at(2), Some(vec![OLD]));
        }
    }

    #[test]
    fn without_the_helper_thread_the_last_good_answer_serves_on() {
        let mut asked = Asked::knowing();
        asked.resolver.questions = channel().0;
        assert_eq!(asked.at(600), Some(vec![OLD]));
    }

    #[test]
    fn the_preferred_address_goes_first_while_it_is_listed_and_not_in_doubt() {
        let mut asked = Asked::new();
        assert_eq!(asked.at(0), None);
        assert_eq!(asked.hears(0, Ok(vec![OLD, NEW])), Ok(()));
        asked.resolver.prefer(Some(NEW));
        assert_eq!(asked.at(1), Some(vec![NEW, OLD]));
        asked.resolver.doubt(OLD);
        assert_eq!(asked.at(1), Some(vec![NEW, OLD]), "another one is in doubt");
        asked.resolver.doubt(NEW);
        assert_eq!(asked.at(1), Some(vec![OLD, NEW]));
        asked.resolver.prefer(Some(NEW));
        assert_eq!(asked.at(60), Some(vec![NEW, OLD]));
        assert_eq!(asked.hears(60, Ok(vec![OLD])), Ok(()));
        assert_eq!(asked.at(61), Some(vec![OLD]), "it is not listed any more");
    }

    /// A proxy that knows these addresses of its upstream, and hears of others by the script.
    fn scripted_proxy(known: Vec<SocketAddr>) -> (Running, Sender<Answer>) {
        let (script, look_up) = scripted();
        let proxy = Running::start("http://localhost:1", |server| {
            let waker = Arc::clone(&server.waker);
            server.resolver = Resolver::with(hop("localhost"), waker, look_up).expect("a thread");
            server.resolver.known = known;
        });
        (proxy, script)
    }

    #[test]
    fn a_look_up_that_hangs_holds_up_no_request() {
        let works = Answering::start(204);
        let (proxy, script) = scripted_proxy(vec![works.address]);
        proxy.expect(204);
        proxy.expect(204);
        assert!(proxy.stop().resolver.is_asking, "the look-up has not ended yet");
        drop(script);
    }

    #[test]
    fn a_request_that_waits_for_the_first_look_up_goes_on_with_its_answer() {
        let works = Answering::start(204);
        let (proxy, script) = scripted_proxy(Vec::new());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| proxy.expect(204));
            script.send(Ok(vec![works.address])).expect("the look-up waits");
            waiting.join().expect("it was answered");
        });
        proxy.stop();
    }
}
