//! What can go wrong between here and the upstream, and whose side it was on.
//!
//! A failure before a request reached Fireworks does not show in Fireworks' own dashboard, so every
//! message says how far the request had come.

use std::fmt;

/// How far a request had come when something went wrong: what users need to know before they look for
/// it in Fireworks' dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Fireworks has seen nothing of it.
    NeverReached,
    /// It was sent, in part or whole, and nothing came back.
    MayHaveReached,
    /// Fireworks had begun to answer.
    Acknowledged,
}

impl Reach {
    /// The side as logs, pages and error bodies name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NeverReached => "never_reached",
            Self::MayHaveReached => "may_have_reached",
            Self::Acknowledged => "acknowledged",
        }
    }
}

/// The class of a request whose client left before its answer was whole.
pub const CLIENT_GONE: &str = "client_gone";

/// The class of a request whose answer is cut because the proxy stops.
pub const STOPPED: &str = "stopped";

/// A failure of one exchange with the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its class.
    pub class: FailureClass,
    /// What the system or the TLS library said. Holds no credential: it is about the connection.
    pub detail: String,
}

/// The classes of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureClass {
    /// The name does not resolve.
    Dns,
    /// No address accepts the connection.
    ConnectRefused,
    /// Name look-up, TCP and TLS together took too long.
    ConnectTimeout,
    /// The forward proxy's name does not resolve.
    ProxyDns,
    /// No address of the forward proxy accepts the connection.
    ProxyUnreachable,
    /// The forward proxy's name, TCP to it and its answer to `CONNECT` took too long.
    ProxyTimeout,
    /// The forward proxy wants credentials, or others.
    ProxyAuth,
    /// The forward proxy does not pass us on, and would not the next time.
    ProxyDenied,
    /// The forward proxy could not pass us on, or its answer is none.
    ProxyFailed,
    /// The certificate is not trusted.
    TlsCertificate,
    /// The TLS handshake failed otherwise.
    TlsOther,
    /// The request could not be sent: no progress for too long.
    WriteTimeout,
    /// The connection ended before a response head.
    ClosedBeforeHead,
    /// The response head breaks the rules of HTTP.
    BadHead,
    /// No response head for too long.
    HeadTimeout,
    /// The connection ended, or broke the rules, within the body.
    CutInStream,
    /// No byte of the body for too long.
    IdleInStream,
}

impl Failure {
    /// A failure with a detail.
    pub fn new(class: FailureClass, detail: impl Into<String>) -> Self {
        Self { class, detail: detail.into() }
    }
}

impl FailureClass {
    /// All of them, in the order in which a request can meet them.
    pub const ALL: [Self; 17] = [
        Self::Dns,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ProxyDns,
        Self::ProxyUnreachable,
        Self::ProxyTimeout,
        Self::ProxyAuth,
        Self::ProxyDenied,
        Self::ProxyFailed,
        Self::TlsCertificate,
        Self::TlsOther,
        Self::WriteTimeout,
        Self::ClosedBeforeHead,
        Self::HeadTimeout,
        Self::BadHead,
        Self::CutInStream,
        Self::IdleInStream,
    ];

    /// The class as logs, pages and error bodies name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ProxyDns => "proxy_dns",
            Self::ProxyUnreachable => "proxy_unreachable",
            Self::ProxyTimeout => "proxy_timeout",
            Self::ProxyAuth => "proxy_auth",
            Self::ProxyDenied => "proxy_denied",
            Self::ProxyFailed => "proxy_failed",
            Self::TlsCertificate => "tls_certificate",
            Self::TlsOther => "tls_other",
            Self::WriteTimeout => "write_timeout",
            Self::ClosedBeforeHead => "closed_before_head",
            Self::BadHead => "bad_head",
            Self::HeadTimeout => "head_timeout",
            Self::CutInStream => "cut_in_stream",
            Self::IdleInStream => "idle_in_stream",
        }
    }

    /// How far the request had come.
    pub const fn reach(self) -> Reach {
        match self {
            Self::Dns
            | Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ProxyDns
            | Self::ProxyUnreachable
            | Self::ProxyTimeout
            | Self::ProxyAuth
            | Self::ProxyDenied
            | Self::ProxyFailed
            | Self::TlsCertificate
            | Self::TlsOther => Reach::NeverReached,
            Self::WriteTimeout | Self::ClosedBeforeHead | Self::HeadTimeout => Reach::MayHaveReached,
            Self::BadHead | Self::CutInStream | Self::IdleInStream => Reach::Acknowledged,
        }
    }

    /// The status that the client gets, where it has not had one: 504 for time, 502 for the rest.
    pub const fn status(self) -> u16 {
        match self {
            Self::ConnectTimeout
            | Self::ProxyTimeout
            | Self::WriteTimeout
            | Self::HeadTimeout
            | Self::IdleInStream => 504,
            Self::Dns
            | Self::ConnectRefused
            | Self::ProxyDns
            | Self::ProxyUnreachable
            | Self::ProxyAuth
            | Self::ProxyDenied
            | Self::ProxyFailed
            | Self::TlsCertificate
            | Self::TlsOther
            | Self::ClosedBeforeHead
            | Self::BadHead
            | Self::CutInStream => 502,
        }
    }

    /// Whether it was time that ran out.
    pub const fn is_timeout(self) -> bool {
        self.status() == 504
    }

    /// The class in words, with the upstream as "it".
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::Dns => "its name does not resolve",
            Self::ConnectRefused => "no address of it accepts the connection",
            Self::ConnectTimeout => "connecting took too long",
            Self::ProxyDns => "the name of the forward proxy before it does not resolve",
            Self::ProxyUnreachable => "no address of the forward proxy before it accepts the connection",
            Self::ProxyTimeout => "the forward proxy before it took too long",
            Self::ProxyAuth => "the forward proxy before it asks for credentials",
            Self::ProxyDenied => "the forward proxy before it lets nothing through to it",
            Self::ProxyFailed => "the forward proxy before it could not reach it",
            Self::TlsCertificate => "its certificate is not trusted",
            Self::TlsOther => "the TLS handshake failed",
            Self::WriteTimeout => "it did not take the request in time",
            Self::ClosedBeforeHead => "it closed the connection before it answered",
            Self::BadHead => "its answer is not HTTP",
            Self::HeadTimeout => "it did not answer in time",
            Self::CutInStream => "it broke off in mid-answer",
            Self::IdleInStream => "its answer stalled",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.class.reach() {
            Reach::NeverReached => "the request never reached Fireworks",
            Reach::MayHaveReached => "the request may have reached Fireworks",
            Reach::Acknowledged => "Fireworks had begun to answer",
        };
        write!(formatter, "{} ({}; {side})", self.class.explanation(), self.detail)
    }
}
