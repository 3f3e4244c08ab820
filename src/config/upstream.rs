//! The upstream's base URL, taken apart once.
//!
//! Refuses what a base URL cannot mean here: credentials, a query, a fragment, and plain HTTP to
//! anything but the machine itself, since that would send API keys in the clear.

use std::borrow::Cow;

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Whether the connection is TLS. Never false for a host that is not loopback.
    pub tls: bool,
    /// The host name or address, without the brackets of an IPv6 literal.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The path that request targets are appended to: empty, or begins with `/` and does not end in one.
    pub base_path: String,
}

impl Upstream {
    /// Takes a base URL apart; `None` when it is not one this proxy can use.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (host, port) = split_authority(authority)?;
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
            None if tls => 443,
            None => 80,
        };
        let path_is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
        if !path_is_plain || (!tls && !is_loopback(host)) {
            return None;
        }
        let base_path = path.trim_end_matches('/').to_owned();
        Some(Self { tls, host: host.to_owned(), port, base_path })
    }

    /// Host and port, the target of a `CONNECT` (RFC 9112, section 3.2.3).
    pub fn host_and_port(&self) -> String {
        host_and_port(&self.host, self.port)
    }

    /// The value of the `Host` field, with the port where it is not the scheme's own (RFC 9110, 7.2).
    pub fn authority(&self) -> String {
        let default_port = if self.tls { 443 } else { 80 };
        if self.port == default_port { bracketed(&self.host).into_owned() } else { self.host_and_port() }
    }
}

impl std::fmt::Display for Upstream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(formatter, "{scheme}://{}{}", self.authority(), self.base_path)
    }
}

/// `host:port` or `[v6]:port`.
pub(super) fn host_and_port(host: &str, port: u16) -> String {
    format!("{}:{port}", bracketed(host))
}

/// A host as it stands in a URL (RFC 3986, section 3.2.2).
fn bracketed(host: &str) -> Cow<'_, str> {
    if host.contains(':') { format!("[{host}]").into() } else { host.into() }
}

/// Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`; the brackets are taken off.
pub(super) fn split_authority(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return match rest {
            "" => Some((host, None)),
            _ => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let is_name = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    is_name.then_some((host, port))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_taken_apart() {
        let upstream = Upstream::parse("https://api.fireworks.ai/inference").expect("a base URL");
        assert!(upstream.tls);
        assert_eq!((upstream.host.as_str(), upstream.port), ("api.fireworks.ai", 443));
        assert_eq!(upstream.base_path, "/inference");
        assert_eq!(upstream.authority(), "api.fireworks.ai");
        assert_eq!(upstream.to_string(), "https://api.fireworks.ai/inference");
    }

    #[test]
    fn ports_paths_and_literals_are_kept() {
        let upstream = Upstream::parse("HTTPS://[::1]:8443/a/b/").expect("a base URL");
        assert_eq!((upstream.host.as_str(), upstream.port), ("::1", 8443));
        assert_eq!((upstream.base_path.as_str(), upstream.authority().as_str()), ("/a/b", "[::1]:8443"));
        assert_eq!(Upstream::parse("http://localhost:80").expect("a base URL").authority(), "localhost");
        assert!(Upstream::parse("http://127.0.0.9:1/").is_some());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for url in [
            "",
            "api.fireworks.ai",
            "ftp://localhost",
            "http://api.fireworks.ai",
            "http://128.0.0.1/",
            "https://",
            "https://user:secret@host/",
            "https://host:port/",
            "https://host:0/",
            "https://host:99999/",
            "https://host/a?b=c",
            "https://host/a#b",
            "https://host/a b",
            "https://[::1",
            "https://[nonsense]/",
            "https://ho st/",
        ] {
            assert_eq!(Upstream::parse(url), None, "{url}");
        }
    }
}
