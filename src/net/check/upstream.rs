//! The way to the upstream: name, TCP, TLS and certificate, at each of its addresses; or at each of the forward
//! proxy's, with a tunnel after TCP.
//!
//! The proxy uses one address per request, the first that accepts. Here each is tried by itself, all at
//! the same time, within the time that the proxy would have.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mio::{Events, Poll, Token, Waker};
use rustls::ProtocolVersion;

use super::{Outcome, Report};
use crate::{
    config::Config,
    failure::{Failure, FailureClass},
    net::{
        clock::Clock,
        conn::{Conn, Step},
        resolver::{FirstHop, Resolver},
        tls::Connector,
    },
    time::Mono,
};

const WAKER: Token = Token(0);

/// The first token of a connection; each address has the next one.
const FIRST_TOKEN: usize = 1;

/// Readiness events taken from the system at once; eight addresses have no more.
const EVENTS_MAX: usize = 64;

/// Tries the way to the upstream as far as it goes.
pub(super) fn check(config: &Config, connector: &Connector, report: &mut Report<'_>) {
    let mut way = match Way::open(config) {
        Ok(way) => way,
        Err(error) => {
            report.add(Outcome::Failed, "name", None, format!("the system refused: {error}"));
            return skip_after_name(config, report, "nothing was looked up");
        }
    };
    let addresses = match way.look_up() {
        Ok(addresses) => addresses,
        Err(failure) => {
            report.add(Outcome::Failed, "name", Some(way.elapsed()), told(&failure));
            return skip_after_name(config, report, "there is no address");
        }
    };
    report.add(Outcome::Good, "name", Some(way.elapsed()), resolved(config, addresses.len()));
    let trials = way.try_all(addresses, connector);
    report_tcp(&trials, report);
    if !config.upstream.tls {
        let why = format!("none: {} is plain HTTP on this machine", config.upstream);
        return report.skip(&["TLS", "certificate"], &why);
    }
    if config.forward_proxy.is_some() {
        report_tunnel(&trials, &config.upstream.host_and_port(), report);
    }
    report_tls(&trials, &config.upstream.host, report);
}

fn skip_after_name(config: &Config, report: &mut Report<'_>, why: &str) {
    let tunnel: &[_] = if config.forward_proxy.is_some() { &["tunnel"] } else { &[] };
    report.skip(&[&["TCP"], tunnel, &["TLS", "certificate"]].concat(), why);
}

/// What was looked up, and whose name it is.
fn resolved(config: &Config, count: usize) -> String {
    let plural = if count == 1 { "address" } else { "addresses" };
    match &config.forward_proxy {
        Some(proxy) => format!(
            "{} -> {count} {plural}, of the forward proxy that {} names; it looks up {}",
            proxy.host, proxy.named_by, config.upstream.host
        ),
        None => format!("{} -> {count} {plural}", config.upstream.host),
    }
}

/// What is needed to wait for sockets, and how long there is.
struct Way {
    poll: Poll,
    resolver: Resolver,
    clock: Clock,
    time_max: Duration,
    has_proxy: bool,
}

/// An address and what came of it.
struct Trial {
    address: SocketAddr,
    token: Token,
    conn: Option<Conn>,
    /// How long TCP took.
    connected: Option<Duration>,
    /// How long the forward proxy took from there, where there is one and it has let us through.
    tunneled: Option<Duration>,
    has_proxy: bool,
    /// How long it took from there, and what was agreed on in TLS; or what went wrong, in whatever step.
    end: Option<(Duration, Result<String, Failure>)>,
}

impl Way {
    fn open(config: &Config) -> std::io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let resolver = Resolver::start(FirstHop::of(config), waker)?;
        let (time_max, has_proxy) = (config.timeouts.connect, config.forward_proxy.is_some());
        Ok(Self { poll, resolver, clock: Clock::start(), time_max, has_proxy })
    }

    fn now(&self) -> Mono {
        self.clock.now().mono
    }

    fn elapsed(&self) -> Duration {
        self.now().since(Mono::ZERO)
    }

    /// Waits for events; whether there is time left.
    fn wait(&mut self, events: &mut Events) -> bool {
        let left = self.time_max.saturating_sub(self.elapsed());
        if left.is_zero() {
            return false;
        }
        // A wait that a signal interrupts is followed by another.
        let _ = self.poll.poll(events, Some(left));
        true
    }

    fn is_too_late(&self, awaits_proxy: bool, what: &str) -> Failure {
        let seconds = self.time_max.as_secs_f64();
        let class = if awaits_proxy { FailureClass::ProxyTimeout } else { FailureClass::ConnectTimeout };
        Failure::new(class, format!("{what} within {seconds} s"))
    }

    fn look_up(&mut self) -> Result<Vec<SocketAddr>, Failure> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let now = self.now();
            if let Some(answer) = self.resolver.take_answer(now) {
                answer?;
            }
            if let Some(addresses) = self.resolver.addresses(now) {
                return Ok(addresses.into());
            }
            if !self.wait(&mut events) {
                return Err(self.is_too_late(self.has_proxy, "the name was not looked up"));
            }
        }
    }

    fn try_all(&mut self, addresses: Vec<SocketAddr>, connector: &Connector) -> Vec<Trial> {
        let (started, has_proxy) = (self.now(), self.has_proxy);
        let begin = |(index, address): (usize, SocketAddr)| Trial {
            address,
            token: Token(FIRST_TOKEN + index),
            conn: Some(Conn::to_upstream([address].into())),
            connected: None,
            tunneled: None,
            has_proxy,
            end: None,
        };
        let mut trials: Vec<Trial> = addresses.into_iter().enumerate().map(begin).collect();
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let now = self.now();
            let go_on = |trial: &mut Trial| trial.go_on(connector, self.poll.registry(), started, now);
            trials.iter_mut().for_each(go_on);
            if trials.iter().all(|trial| trial.end.is_some()) {
                return trials;
            }
            if !self.wait(&mut events) {
                break;
            }
            for event in &events {
                let awaited = trials.iter_mut().find(|trial| trial.token == event.token());
                if let Some(conn) = awaited.and_then(|trial| trial.conn.as_mut()) {
                    conn.note(event);
                }
            }
        }
        let now = self.now();
        for trial in trials.iter_mut().filter(|trial| trial.end.is_none()) {
            let failure =
                self.is_too_late(trial.awaits_proxy(), &format!("{} did not answer", trial.address));
            trial.finish(Err(failure), started, now);
        }
        trials
    }
}

impl Trial {
    /// Whether a forward proxy has not let it through.
    fn awaits_proxy(&self) -> bool {
        self.has_proxy && self.tunneled.is_none()
    }

    fn go_on(&mut self, connector: &Connector, registry: &mio::Registry, started: Mono, now: Mono) {
        let Some(conn) = self.conn.as_mut() else { return };
        let ready = conn.make_ready(connector, registry, self.token, now);
        if conn.winner().is_some() {
            self.connected.get_or_insert_with(|| now.since(started));
        }
        let end = match ready {
            Ok(Step::Waiting) => return,
            Ok(Step::Tunneled) => {
                self.tunneled = Some(now.since(started).saturating_sub(self.connected.unwrap_or_default()));
                return self.go_on(connector, registry, started, now);
            }
            Ok(Step::Ready) => Ok(agreed(conn)),
            Err(failure) => Err(failure),
        };
        self.finish(end, started, now);
        if let Some(conn) = self.conn.take() {
            conn.close(registry);
        }
    }

    fn finish(&mut self, end: Result<String, Failure>, started: Mono, now: Mono) {
        let before = self.connected.unwrap_or_default() + self.tunneled.unwrap_or_default();
        let took = now.since(started).saturating_sub(before);
        self.end = Some((took, end));
    }
}

/// The protocol and the cipher.
fn agreed(conn: &Conn) -> String {
    let Some(tls) = conn.tls() else { return String::new() };
    let protocol = match tls.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS",
    };
    let cipher =
        tls.negotiated_cipher_suite().map_or(String::new(), |suite| format!(", {:?}", suite.suite()));
    let shown = match tls.peer_certificates().map_or(0, <[_]>::len) {
        1 => "1 certificate shown".to_owned(),
        count => format!("{count} certificates shown"),
    };
    format!("{protocol}{cipher}, {shown}")
}

/// A failure by the code and in the words of the proxy's own errors.
fn told(failure: &Failure) -> String {
    format!("{}: {} ({})", failure.class.name(), failure.class.explanation(), failure.detail)
}

/// An address that does not answer is a failure only where none does.
fn report_tcp(trials: &[Trial], report: &mut Report<'_>) {
    let is_reachable = trials.iter().any(|trial| trial.connected.is_some());
    for trial in trials {
        match (&trial.connected, &trial.end) {
            (Some(took), _) => {
                report.add(Outcome::Good, "TCP", Some(*took), format!("{} accepts", trial.address));
            }
            (None, Some((took, Err(failure)))) if is_reachable => {
                let text = format!("{}; the proxy goes to another address", told(failure));
                report.add(Outcome::Doubtful, "TCP", Some(*took), text);
            }
            (None, Some((took, Err(failure)))) => {
                report.add(Outcome::Failed, "TCP", Some(*took), told(failure));
            }
            (None, _) => {}
        }
    }
}

/// A proxy that accepts and opens no tunnel is a failure, as an upstream is that accepts and does no more.
fn report_tunnel(trials: &[Trial], target: &str, report: &mut Report<'_>) {
    for trial in trials.iter().filter(|trial| trial.connected.is_some()) {
        match (&trial.tunneled, &trial.end) {
            (Some(took), _) => {
                let text = format!("{} lets us through to {target}", trial.address);
                report.add(Outcome::Good, "tunnel", Some(*took), text);
            }
            (None, Some((took, Err(failure)))) => {
                report.add(Outcome::Failed, "tunnel", Some(*took), told(failure));
            }
            (None, _) => {}
        }
    }
    if trials.iter().all(|trial| trial.connected.is_none()) {
        report.skip(&["tunnel"], "there is no connection");
    }
}

/// An address that accepts and then fails is a failure: the proxy has no reason to go to another.
fn report_tls(trials: &[Trial], host: &str, report: &mut Report<'_>) {
    let ends = trials
        .iter()
        .filter(|trial| trial.connected.is_some() && !trial.awaits_proxy())
        .filter_map(|trial| trial.end.as_ref().map(|end| (trial.address, end)));
    let ends: Vec<_> = ends.collect();
    if ends.is_empty() {
        let is_connected = trials.iter().any(|trial| trial.connected.is_some());
        let why = if is_connected { "there is no tunnel" } else { "there is no connection" };
        return report.skip(&["TLS", "certificate"], why);
    }
    let is_refused = |failure: &Failure| failure.class == FailureClass::TlsCertificate;
    let mut is_trusted = None;
    for (address, (took, end)) in &ends {
        let took = Some(*took);
        match end {
            Ok(agreed) => {
                report.add(Outcome::Good, "TLS", took, format!("{address}: {agreed}"));
                is_trusted.get_or_insert(true);
            }
            Err(failure) if is_refused(failure) => {
                report.skip(&["TLS"], &format!("{address}: not finished, for its certificate"));
                report.add(Outcome::Failed, "certificate", took, format!("{address}: {}", told(failure)));
                is_trusted = Some(false);
            }
            Err(failure) => {
                report.add(Outcome::Failed, "TLS", took, format!("{address}: {}", told(failure)));
            }
        }
    }
    match is_trusted {
        Some(true) => report.add(Outcome::Good, "certificate", None, format!("trusted, and for {host}")),
        Some(false) => {}
        None => report.skip(&["certificate"], "the handshake comes first"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::{
        config::{Raw, Timeouts, Upstream},
        net::{check::Finding, race::tests::refusing},
    };

    /// What is told of TCP to these addresses.
    fn told_of(addresses: &[SocketAddr]) -> Vec<Finding> {
        let upstream = Upstream::parse("http://localhost:1").expect("a base URL");
        let config = Config { upstream, ..Config::defaults() };
        let connector = Connector::new(&config).expect("no TLS, no roots");
        let trials = Way::open(&config).expect("a poll").try_all(addresses.to_vec(), &connector);
        let mut findings = Vec::new();
        let mut tell = |finding: &Finding| findings.push(finding.clone());
        let mut report = Report { tell: &mut tell, has_failed: false };
        report_tcp(&trials, &mut report);
        let has_failed = report.has_failed;
        assert_eq!(has_failed, findings.iter().any(|it| it.outcome == Outcome::Failed));
        findings
    }

    #[test]
    fn a_look_up_that_takes_too_long_is_that_of_the_forward_proxy_where_there_is_one() {
        for (url, class) in
            [("no-such-proxy.invalid", FailureClass::ProxyTimeout), ("", FailureClass::ConnectTimeout)]
        {
            let variable = std::iter::once(("HTTPS_PROXY".into(), url.into()));
            let config = Config::from_raw(&Raw::from_variables(variable).expect("text")).expect("accepted");
            let timeouts = Timeouts { connect: Duration::ZERO, ..config.timeouts };
            let mut way = Way::open(&Config { timeouts, ..config }).expect("a poll");
            assert_eq!(way.look_up().expect_err("no time at all").class, class);
        }
    }

    #[test]
    fn an_address_that_refuses_is_a_failure_only_where_all_do() {
        let accepting = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let accepts = accepting.local_addr().expect("bound");
        let (refuses, _bound) = refusing("127.0.0.1");
        let outcomes = |addresses: &[SocketAddr]| -> Vec<Outcome> {
            told_of(addresses).iter().map(|finding| finding.outcome).collect()
        };
        assert_eq!(outcomes(&[refuses, accepts]), [Outcome::Doubtful, Outcome::Good]);
        assert_eq!(outcomes(&[refuses, refuses]), [Outcome::Failed, Outcome::Failed]);
        let findings = told_of(&[accepts, refuses]);
        assert!(
            findings[0].took.is_some() && findings[0].text == format!("{accepts} accepts"),
            "{findings:?}"
        );
        assert!(findings[1].took.is_some(), "a failure takes its time too: {findings:?}");
        let text = &findings[1].text;
        assert!(text.starts_with("connect_refused: ") && text.contains(&refuses.to_string()), "{text}");
    }

    #[test]
    fn a_line_is_one_line_and_in_columns() {
        let finding = Finding {
            outcome: Outcome::Failed,
            step: "state file",
            took: Some(Duration::from_micros(12_340)),
            text: "a\nb\u{1b}".to_owned(),
        };
        assert_eq!(finding.to_string(), "FAIL  state file        12.3 ms  a?b?");
        let skipped = Finding { took: None, outcome: Outcome::Skipped, ..finding };
        assert_eq!(skipped.to_string(), "skip  state file                 a?b?");
    }
}
