//! Where to listen, under which names, and the secret that clients prove themselves with.
//!
//! Owns what hosts are and when they are the same. Refuses to listen where other machines could come
//! in without a secret. How a request is held against it is in the room `access`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{raw::ConfigError, raw::Raw, upstream::split_authority};

/// The lengths that a secret may have, in bytes. Sixteen random letters and digits are beyond guessing;
/// 256 fit into every client's header.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=256;

/// The most names that may be allowed: far more than one machine has.
const ALLOWED_HOSTS_MAX: usize = 64;

/// The longest name of a host (RFC 1035, section 2.3.4).
const HOST_NAME_BYTES_MAX: usize = 253;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// 127.0.0.1 and, where the machine has it, `::1`.
    Localhost,
    /// One address.
    Address(IpAddr),
}

impl Host {
    pub(super) fn from_raw(raw: &Raw) -> Result<Self, ConfigError> {
        let text = raw.text("FIREWORKS_PROXY_HOST");
        if text.eq_ignore_ascii_case("localhost") {
            return Ok(Self::Localhost);
        }
        let error = || raw.error("FIREWORKS_PROXY_HOST", "localhost or an IP address of this machine");
        parse_address(text).map(Self::Address).ok_or_else(error)
    }

    /// The addresses by which this machine reaches the proxy, in the order to try them. Where all are
    /// listened on, that is the loopback one.
    pub fn reached_at(&self) -> Vec<IpAddr> {
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        match self {
            Self::Localhost => vec![v4, v6],
            Self::Address(IpAddr::V4(address)) if address.is_unspecified() => vec![v4],
            Self::Address(IpAddr::V6(address)) if address.is_unspecified() => vec![v6],
            Self::Address(address) => vec![*address],
        }
    }

    /// The base URL for clients on this machine, without a path.
    pub fn base_url(&self, port: u16) -> String {
        match (self, self.reached_at().first()) {
            (Self::Address(_), Some(address)) => format!("http://{}", SocketAddr::new(*address, port)),
            _ => format!("http://localhost:{port}"),
        }
    }

    /// Whether no other machine can connect.
    fn is_loopback(&self) -> bool {
        match self {
            Self::Localhost => true,
            Self::Address(address) => address.to_canonical().is_loopback(),
        }
    }
}

/// Who may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The hosts that the proxy is reached by.
    pub allowed_hosts: Vec<HostName>,
    /// Whether every IP address is one of them. So it is where all addresses of the machine are listened
    /// on, which nobody lists; and DNS rebinding needs a name, since an address cannot be made to lead
    /// elsewhere.
    pub allows_every_address: bool,
    /// What clients prove themselves with, if they have to.
    pub client_token: Option<ClientToken>,
}

impl Access {
    /// # Errors
    /// A host or a secret that cannot be meant, or a listen address that other machines reach while
    /// there is no secret.
    pub(super) fn from_raw(raw: &Raw, host: &Host) -> Result<Self, ConfigError> {
        let mut allowed_hosts: Vec<HostName> =
            ["localhost", "127.0.0.1", "::1"].into_iter().filter_map(HostName::parse).collect();
        if let Host::Address(address) = host {
            allowed_hosts.push(HostName::Address(address.to_canonical()));
        }
        allowed_hosts.extend(parse_allowed_hosts(raw)?);
        let client_token = ClientToken::from_raw(raw)?;
        if !host.is_loopback() && client_token.is_none() {
            let accepted = format!(
                "a loopback address, or FIREWORKS_PROXY_CLIENT_TOKEN set to a secret of {} characters that \
                 clients send as x-fireworks-proxy-token, because other machines could use this proxy",
                length_range()
            );
            return Err(raw.error("FIREWORKS_PROXY_HOST", &accepted));
        }
        let allows_every_address =
            matches!(host, Host::Address(address) if address.to_canonical().is_unspecified());
        Ok(Self { allowed_hosts, allows_every_address, client_token })
    }

    /// Whether the proxy is reached by this host.
    pub fn allows(&self, host: &HostName) -> bool {
        (self.allows_every_address && matches!(host, HostName::Address(_)))
            || self.allowed_hosts.contains(host)
    }
}

/// A host in the form in which two that are the same are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// A name, in lower case.
    Name(String),
    /// An address; an IPv4 address within IPv6 is the IPv4 address.
    Address(IpAddr),
}

impl HostName {
    /// A name, or an address with or without the brackets of a URL. `None` for anything else: a port,
    /// a scheme, a path.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(address) = parse_address(text) {
            return Some(Self::Address(address.to_canonical()));
        }
        let is_label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let is_name = text.len() <= HOST_NAME_BYTES_MAX && text.split('.').all(is_label);
        is_name.then(|| Self::Name(text.to_ascii_lowercase()))
    }

    /// The host of an authority, whatever its port: `host`, `host:port`, `[v6]` or `[v6]:port`
    /// (RFC 3986, section 3.2).
    pub fn of_authority(authority: &str) -> Option<Self> {
        let (host, port) = split_authority(authority)?;
        port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| Self::parse(host))
            .flatten()
    }
}

fn parse_address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(literal) => literal.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

fn parse_allowed_hosts(raw: &Raw) -> Result<Vec<HostName>, ConfigError> {
    let name = "FIREWORKS_PROXY_ALLOWED_HOSTS";
    let text = raw.text(name);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let accepted = format!(
        "at most {ALLOWED_HOSTS_MAX} host names or IP addresses with commas between them, without scheme, \
         port or path, for example proxy.example,192.168.1.5"
    );
    let hosts: Option<Vec<HostName>> = text.split(',').map(|host| HostName::parse(host.trim())).collect();
    let hosts = hosts.filter(|hosts| hosts.len() <= ALLOWED_HOSTS_MAX);
    hosts.ok_or_else(|| raw.error(name, &accepted))
}

/// The secret that clients send. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientToken(Box<[u8]>);

impl ClientToken {
    fn from_raw(raw: &Raw) -> Result<Option<Self>, ConfigError> {
        let name = "FIREWORKS_PROXY_CLIENT_TOKEN";
        let text = raw.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        if !TOKEN_BYTES.contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let accepted = format!("{} visible ASCII characters without a space", length_range());
            return Err(raw.error(name, &accepted));
        }
        Ok(Some(Self(text.as_bytes().into())))
    }

    /// The bytes to compare with what a client sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ClientToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClientToken(***)")
    }
}

fn length_range() -> String {
    format!("{} to {}", TOKEN_BYTES.start(), TOKEN_BYTES.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(settings: &[(&str, &str)]) -> Result<Access, ConfigError> {
        let variables = settings.iter().map(|(name, value)| (name.into(), value.into()));
        let raw = Raw::from_variables(variables).expect("Unicode values");
        Access::from_raw(&raw, &Host::from_raw(&raw)?)
    }

    fn is_allowed(access: &Access, authority: &str) -> bool {
        HostName::of_authority(authority).is_some_and(|host| access.allows(&host))
    }

    const HOST: &str = "FIREWORKS_PROXY_HOST";
    const HOSTS: &str = "FIREWORKS_PROXY_ALLOWED_HOSTS";
    const TOKEN: &str = "FIREWORKS_PROXY_CLIENT_TOKEN";
    const SECRET: &str = "sixteen-letters!";

    #[test]
    fn hosts_are_compared_as_what_they_are() {
        let access = access(&[(HOSTS, "Proxy.Example, 10.0.0.7,[fd00::1]")]).expect("accepted");
        for same in [
            "localhost",
            "LOCALHOST:8787",
            "localhost:",
            "127.0.0.1:1",
            "[::1]",
            "[0:0::0:1]:8787",
            "[::ffff:127.0.0.1]",
            "proxy.example:443",
            "10.0.0.7",
            "[FD00:0::1]",
        ] {
            assert!(is_allowed(&access, same), "{same}");
        }
        for other in [
            "",
            ":8787",
            "evil.example",
            "localhost.evil.example",
            "proxy.example.evil",
            "xlocalhost",
            "localhost.",
            "127.0.0.2",
            "127.1",
            "0x7f.0.0.1",
            "2130706433",
            "::1",
            "[::2]",
            "[::1%25lo]",
            "[127.0.0.1]",
            "localhost:x",
            "localhost:80:80",
            "[::1]x",
            "10.0.0.8",
        ] {
            assert!(!is_allowed(&access, other), "{other}");
        }
    }

    #[test]
    fn the_listen_address_is_allowed_and_every_address_where_all_are_listened_on() {
        let one = access(&[(HOST, "192.168.1.5"), (TOKEN, SECRET)]).expect("accepted");
        assert!(is_allowed(&one, "192.168.1.5:8787") && !is_allowed(&one, "192.168.1.6"));
        for all in ["0.0.0.0", "::", "[::]"] {
            let all = access(&[(HOST, all), (TOKEN, SECRET)]).expect("accepted");
            assert!(is_allowed(&all, "192.168.1.6") && is_allowed(&all, "[2001:db8::1]:1"));
            assert!(!is_allowed(&all, "evil.example"));
        }
    }

    #[test]
    fn this_machine_reaches_it_by_an_address_that_is_one() {
        for (host, url) in [
            ("localhost", "http://localhost:9"),
            ("127.0.0.2", "http://127.0.0.2:9"),
            ("0.0.0.0", "http://127.0.0.1:9"),
            ("::", "http://[::1]:9"),
            ("fd00::1", "http://[fd00::1]:9"),
        ] {
            let raw = Raw::from_variables([(HOST.into(), host.into())].into_iter()).expect("Unicode");
            assert_eq!(Host::from_raw(&raw).expect("a host").base_url(9), url);
        }
    }

    #[test]
    fn other_machines_need_a_secret() {
        for host in ["0.0.0.0", "::", "192.168.1.5", "fd00::1", "::ffff:10.0.0.1"] {
            let error = access(&[(HOST, host)]).expect_err(host).to_string();
            assert!(error.starts_with(&format!("{HOST}={host:?} ")) && error.contains(TOKEN), "{error}");
            assert!(access(&[(HOST, host), (TOKEN, SECRET)]).is_ok(), "{host}");
        }
        for host in ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "Localhost", "::ffff:127.0.0.1"] {
            assert_eq!(access(&[(HOST, host)]).map(|access| access.client_token), Ok(None), "{host}");
        }
    }

    #[test]
    fn a_secret_is_long_enough_plain_and_not_shown() {
        for bad in ["fifteen-letter!", "a secret of two words", "sixteen-lettérs!", &"x".repeat(257)] {
            let error = access(&[(TOKEN, bad)]).expect_err("not accepted").to_string();
            assert!(error.contains(TOKEN) && error.contains("16 to 256") && !error.contains(bad), "{error}");
        }
        for good in [SECRET, &"x".repeat(256)] {
            let access = access(&[(TOKEN, good)]).expect("accepted");
            assert_eq!(access.client_token.as_ref().map(ClientToken::as_bytes), Some(good.as_bytes()));
            assert!(!format!("{access:?}").contains(good));
        }
    }

    #[test]
    fn hosts_that_cannot_be_meant_are_refused() {
        let many = vec!["a"; ALLOWED_HOSTS_MAX + 1].join(",");
        for bad in ["proxy.example:8787", "http://proxy.example", "proxy.example/x", "a,,b", "*", ".a", &many]
        {
            let error = access(&[(HOSTS, bad)]).expect_err(bad).to_string();
            assert!(error.contains(HOSTS) && error.contains("without scheme, port or path"), "{error}");
        }
    }
}
