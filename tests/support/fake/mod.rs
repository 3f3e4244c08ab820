//! The fake Fireworks: a TLS (or plain) HTTP/1.1 server on loopback that answers like Fireworks does.
//!
//! ```text
//! accept ─ link (bytes, TLS, peer's end) ─ request (strict HTTP) ─ script (x-fake-*)
//!                                                                      │
//!            deliver (framing, pace, gates, cuts) ─ answer ─ limits ─ demand
//! ```
//!
//! One thread per connection and one reader thread beside it, all ended when the [`FakeFireworks`] is dropped. What a
//! single request is to experience is said by its own headers, see [`script`], and by chance, see [`faults`]. Everything
//! that arrives is recorded, everything that happens is counted, and both can be waited for without sleeping.

mod answer;
mod cache;
mod deliver;
mod demand;
mod exchange;
pub mod faults;
mod hub;
pub mod limits;
mod link;
mod request;
pub mod script;
mod tools;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};

use super::certs::{CertificateAuthority, CertificateKind, TlsVersions};
use exchange::{Defaults, Exchange};
use hub::Hub;
use limits::Limiter;
use link::{Inbox, Link};

pub use answer::answer_text;
pub use faults::{Fault, Faults};
pub use hub::Statistics;
pub use limits::{Dimension, Limits};
pub use request::{Outcome, RecordedRequest};

/// How long a dropped fake waits for its threads.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How a fake is to be.
#[derive(Clone)]
pub struct FakeOptions {
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// False for plain HTTP.
    pub tls: bool,
    /// The certificate it shows.
    pub certificate: CertificateKind,
    /// The TLS versions it offers.
    pub tls_versions: TlsVersions,
    /// The authority that issues the certificate; None makes one for this fake alone.
    pub authority: Option<Arc<CertificateAuthority>>,
    /// Token limits per (credential, model); None has none and announces none.
    pub limits: Option<Limits>,
    /// Length of the rolling window of the limits.
    pub window: Duration,
    /// Most requests of one credential in a rolling second; more are answered 429.
    pub requests_per_second: Option<u64>,
    /// Generated tokens of an answer, as far as the request's output cap allows.
    pub generated_tokens: u64,
    /// Words of an answer, and delta events of a streamed one.
    pub events: usize,
    /// Time between two delta events.
    pub interval: Duration,
    /// Counts what earlier bodies of the same session share as cached prompt tokens.
    pub prefix_cache: bool,
    /// `x-fake-*` headers that every request is treated to; its own come after them.
    pub default_script: Vec<(String, String)>,
    /// Faults that strike generation requests at random; None leaves them alone.
    pub faults: Option<Faults>,
    /// False forgets the bodies of recorded requests, for long runs.
    pub keep_bodies: bool,
}

impl Default for FakeOptions {
    fn default() -> Self {
        Self {
            port: 0,
            tls: true,
            certificate: CertificateKind::Valid,
            tls_versions: TlsVersions::Both,
            authority: None,
            limits: None,
            window: Duration::from_secs(60),
            requests_per_second: None,
            generated_tokens: 42,
            events: 8,
            interval: Duration::ZERO,
            prefix_cache: false,
            default_script: Vec::new(),
            faults: None,
            keep_bodies: true,
        }
    }
}

/// A running fake; dropping it ends it.
pub struct FakeFireworks {
    hub: Arc<Hub>,
    address: SocketAddr,
    authority: Arc<CertificateAuthority>,
    certificate: CertificateKind,
    tls: bool,
}

impl FakeFireworks {
    /// Starts a fake on 127.0.0.1.
    pub fn start(options: FakeOptions) -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).expect("the fake's port can be bound");
        let address = listener.local_addr().expect("a bound listener has an address");
        let authority = options.authority.clone().unwrap_or_default();
        let tls =
            options.tls.then(|| authority.issue(options.certificate).server_config(options.tls_versions));
        let limiter = Limiter::new(options.limits, options.window, options.requests_per_second);
        let hub = Arc::new(Hub::new(limiter, options.keep_bodies));
        let defaults = Arc::new(Defaults {
            generated_tokens: options.generated_tokens,
            events: options.events,
            interval: options.interval,
            prefix_cache: options.prefix_cache,
            script: options.default_script,
            faults: options.faults,
        });
        let acceptor = Acceptor { hub: Arc::clone(&hub), defaults, tls };
        hub.spawn("fake-accept", move || acceptor.run(&listener));
        Self { hub, address, authority, certificate: options.certificate, tls: options.tls }
    }

    /// A fake with nothing but defaults: TLS, valid certificate, no limits.
    pub fn start_default() -> Self {
        Self::start(FakeOptions::default())
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the proxy is to be given as its upstream.
    pub fn base_url(&self) -> String {
        let port = self.port();
        if self.tls {
            format!("https://localhost:{port}/inference")
        } else {
            format!("http://127.0.0.1:{port}/inference")
        }
    }

    /// The root that a proxy before it is to trust, as PEM text.
    pub fn ca_pem(&self) -> String {
        self.authority.trusted_pem(self.certificate).to_owned()
    }

    /// A client configuration that trusts this fake.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.authority.client_config()
    }

    /// The requests received so far, in order of arrival.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.hub.read(|state| state.requests.clone())
    }

    /// Waits until there are at least `count` requests, and returns all of them. Panics when the time is over.
    #[track_caller]
    pub fn wait_for_requests(&self, count: usize, timeout: Duration) -> Vec<RecordedRequest> {
        let arrived = self.hub.wait(timeout, |state| state.requests.len() >= count);
        assert!(arrived, "fewer than {count} requests after {timeout:?}: {:#?}", self.statistics());
        self.requests()
    }

    /// What was counted so far.
    pub fn statistics(&self) -> Statistics {
        self.hub.read(|state| state.statistics.clone())
    }

    /// Waits until the statistics fulfil a condition; false when the time is over first.
    #[must_use]
    pub fn wait_until(&self, timeout: Duration, mut holds: impl FnMut(&Statistics) -> bool) -> bool {
        self.hub.wait(timeout, |state| holds(&state.statistics))
    }

    /// Waits until `count` requests stand at their gates. Panics when the time is over.
    #[track_caller]
    pub fn wait_for_gate(&self, count: u64, timeout: Duration) {
        let there = self.wait_until(timeout, |statistics| statistics.at_gate >= count);
        assert!(there, "fewer than {count} at the gate after {timeout:?}: {:#?}", self.statistics());
    }

    /// Lets every request through that stands at its gate now; returns how many did.
    pub fn release(&self) -> usize {
        self.hub.release(usize::MAX)
    }

    /// Lets the request through that stands at its gate longest; false when none does.
    pub fn release_one(&self) -> bool {
        self.hub.release(1) == 1
    }

    /// Lets every request through, from now on.
    pub fn open_gates(&self) {
        self.hub.open_gates();
    }

    /// Changes the limits; what was used stays used.
    pub fn set_limits(&self, limits: Option<Limits>) {
        self.hub.update(|state| state.limiter.set_limits(limits));
    }
}

impl Drop for FakeFireworks {
    fn drop(&mut self) {
        self.hub.stop();
        let _ = TcpStream::connect(self.address); // Wakes the accepting thread, which then sees the stop.
        if !self.hub.wait_for_threads(STOP_TIMEOUT) {
            eprintln!("fake Fireworks: threads still running after {STOP_TIMEOUT:?}");
        }
    }
}

/// The accepting thread.
struct Acceptor {
    hub: Arc<Hub>,
    defaults: Arc<Defaults>,
    tls: Option<Arc<ServerConfig>>,
}

impl Acceptor {
    fn run(&self, listener: &TcpListener) {
        while !self.hub.is_stopping() {
            if let Ok((socket, _)) = listener.accept() {
                self.accept(socket);
            }
        }
    }

    /// Gives a connection its number and its two threads.
    fn accept(&self, socket: TcpStream) {
        let (Ok(()), Ok(incoming)) = (socket.set_nodelay(true), socket.try_clone()) else { return };
        let Some(connection) = self.hub.register(&socket) else { return };
        let inbox = Arc::new(Inbox::default());
        let link = Link::new(socket, Arc::clone(&inbox), self.tls.clone());
        let hub = Arc::clone(&self.hub);
        let exchange = Exchange { hub: Arc::clone(&hub), defaults: Arc::clone(&self.defaults), connection };
        self.hub.spawn("fake-read", move || {
            inbox.fill_from(&incoming);
            hub.unregister(connection);
        });
        self.hub.spawn("fake-serve", move || exchange.serve(link));
    }
}
