//! Name look-up: the one thing that the system can only do while we wait, so a helper thread waits.
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
    config::Upstream,
    failure::{Failure, FailureClass},
    time::Mono,
};

/// How long an answer serves before it is asked for again. Fireworks' edge changes its addresses rarely,
/// and a look-up per request would cost more than the request.
const ANSWER_TTL: Duration = Duration::from_secs(60);

/// Looks up the upstream's addresses.
#[derive(Debug)]
pub(super) struct Resolver {
    questions: Sender<()>,
    answers: Receiver<io::Result<Vec<SocketAddr>>>,
    host: String,
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
    pub(super) fn start(upstream: &Upstream, waker: Arc<Waker>) -> io::Result<Self> {
        let (name, port) = (upstream.host.clone(), upstream.port);
        Self::with(upstream, waker, move || (name.as_str(), port).to_socket_addrs().map(Iterator::collect))
    }

    fn with(
        upstream: &Upstream,
        waker: Arc<Waker>,
        look_up: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> io::Result<Self> {
        let (questions, asked) = channel::<()>();
        let (answered, answers) = channel();
        let (host, port) = (upstream.host.clone(), upstream.port);
        thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            while asked.recv().is_ok() {
                if answered.send(look_up()).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
        let literal = host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, port));
        Ok(Self {
            questions,
            answers,
            host,
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
        Failure::new(FailureClass::Dns, format!("{}: {detail}", self.host))
    }

    /// Takes these for the addresses of a host that needs no look-up.
    #[cfg(test)]
    pub(super) fn pretend(&mut self, addresses: &[SocketAddr]) {
        self.known = addresses.to_vec();
        self.is_literal = true;
    }
}
