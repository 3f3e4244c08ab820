//! The time limits of single steps, as the guide of Fireworks gives them
//! (docs.fireworks.ai/guides/reliability: connect 10, write 30, read 1800).

use std::time::Duration;

use super::{ConfigError, Raw, parse_seconds};

/// How long each step may take, or go without progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Name look-up, TCP and TLS together.
    pub connect: Duration,
    /// Sending the request to the upstream, without progress.
    pub write: Duration,
    /// Receiving the answer, without a byte.
    pub read: Duration,
    /// From a request head's first byte to its last.
    pub client_head: Duration,
    /// Receiving a body from a client, or sending it an answer, without progress.
    pub client_body: Duration,
    /// Between a client's requests.
    pub client_idle: Duration,
}

impl Timeouts {
    pub(super) fn from_raw(raw: &Raw) -> Result<Self, ConfigError> {
        Ok(Self {
            connect: parse_seconds(raw, "FIREWORKS_PROXY_CONNECT_TIMEOUT")?,
            write: parse_seconds(raw, "FIREWORKS_PROXY_WRITE_TIMEOUT")?,
            read: parse_seconds(raw, "FIREWORKS_PROXY_READ_TIMEOUT")?,
            client_head: parse_seconds(raw, "FIREWORKS_PROXY_CLIENT_HEAD_TIMEOUT")?,
            client_body: parse_seconds(raw, "FIREWORKS_PROXY_CLIENT_BODY_TIMEOUT")?,
            client_idle: parse_seconds(raw, "FIREWORKS_PROXY_CLIENT_IDLE_TIMEOUT")?,
        })
    }
}
