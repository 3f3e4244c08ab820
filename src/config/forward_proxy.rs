//! The forward proxy on the way to the upstream, as companies have them, if there is one.
//!
//! It is named by our own setting, or else by the environment as curl reads it. Our own setting means the
//! upstream and nothing else, so `NO_PROXY` has no say in it. A plain upstream is on this machine, and nothing
//! goes to this machine through a proxy. Refuses proxies that are spoken to in TLS or SOCKS. Its credentials are
//! never shown.

use std::fmt;

use super::{
    ConfigError, Raw, Upstream,
    environment::{FORWARD_PROXY, NO_PROXY},
    no_proxy,
    settings::UPSTREAM_PROXY,
    upstream::{host_and_port, split_authority},
};

/// The port where none is named. It is curl's, and no other's.
const PORT_DEFAULT: u16 = 1080;

/// What a proxy's URL may be.
const ACCEPTED: &str = "[http://][user:password@]host[:port], a proxy that is spoken to in plain HTTP, \
                        not in TLS or SOCKS";

/// The same for our own setting.
const ACCEPTED_OF_OURS: &str = "[http://][user:password@]host[:port], a proxy that is spoken to in plain HTTP, \
                                not in TLS or SOCKS; or nothing for none";

/// A forward proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardProxy {
    /// Its host name or address, without the brackets of an IPv6 literal.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// What it is told of us.
    pub credentials: Option<Credentials>,
    /// The variable or the flag that names it.
    pub named_by: String,
}

/// A name and a password for basic authentication (RFC 7617).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(Vec<u8>);

impl Credentials {
    /// `user:password` in bytes; no control character is in it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl ForwardProxy {
    /// The proxy that the settings, or else the environment, name for this upstream.
    pub(super) fn from_raw(raw: &Raw, upstream: &Upstream) -> Result<Option<Self>, ConfigError> {
        if let Some(url) = raw.written(UPSTREAM_PROXY) {
            let named_by = raw.name_written(UPSTREAM_PROXY);
            let proxy = match url {
                "" => None,
                url => Some(
                    Self::parse(url, named_by).ok_or_else(|| raw.error(UPSTREAM_PROXY, ACCEPTED_OF_OURS))?,
                ),
            };
            return Ok(proxy.filter(|_| upstream.tls));
        }
        let exempt = raw.environment.first(&NO_PROXY);
        if !upstream.tls
            || exempt.is_some_and(|(_, value)| no_proxy::exempts(&value.to_string_lossy(), &upstream.host))
        {
            return Ok(None);
        }
        let Some((name, url)) = raw.environment.first(&FORWARD_PROXY) else { return Ok(None) };
        let proxy = url.to_str().and_then(|url| Self::parse(url, name.to_owned()));
        let proxy = proxy.ok_or_else(|| ConfigError::of_others(name, &url.to_string_lossy(), ACCEPTED));
        proxy.map(Some)
    }

    /// Takes a proxy's URL apart, as curl does; `None` when it is not one this program can use. A path means
    /// nothing, and is refused: it is mostly that of a script that chooses proxies, which only browsers run.
    fn parse(url: &str, named_by: String) -> Option<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (user_information, host) = match authority.rsplit_once('@') {
            Some((user_information, host)) => (user_information, host),
            None => ("", authority),
        };
        if !scheme.eq_ignore_ascii_case("http") || user_information.contains(['/', '?', '#']) {
            return None;
        }
        let (host, port) = split_authority(host)?;
        let port = match port {
            None | Some("") => PORT_DEFAULT,
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        };
        let credentials =
            if user_information.is_empty() { None } else { Some(credentials(user_information)?) };
        Some(Self { host: host.to_owned(), port, credentials, named_by })
    }

    /// Host and port.
    pub fn authority(&self) -> String {
        host_and_port(&self.host, self.port)
    }
}

/// The URL, without credentials.
impl fmt::Display for ForwardProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = if self.credentials.is_some() { "***@" } else { "" };
        write!(formatter, "http://{credentials}{}", self.authority())
    }
}

/// Decodes `user:password`, of which the second may be missing.
fn credentials(user_information: &str) -> Option<Credentials> {
    let (user, password) = user_information.split_once(':').unwrap_or((user_information, ""));
    let (user, password) = (percent_decoded(user), percent_decoded(password));
    // RFC 7617, section 2: nothing could tell where such a name ends, and no control character may be sent.
    if user.contains(&b':') || user.iter().chain(&password).any(u8::is_ascii_control) {
        return None;
    }
    Some(Credentials([user, b":".to_vec(), password].concat()))
}

/// RFC 3986, section 2.1. A sign without two digits behind it stays what it is, as with curl.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    while let [first, rest @ ..] = bytes {
        let escaped = match bytes {
            [b'%', high, low, ..] => {
                hex_digit(*high).zip(hex_digit(*low)).map(|(high, low)| (high << 4) | low)
            }
            _ => None,
        };
        decoded.push(escaped.unwrap_or(*first));
        bytes = if escaped.is_some() { &bytes[3..] } else { rest };
    }
    decoded
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, SETTINGS};

    /// The way that this environment and these flags of ours lead to, or why they lead nowhere.
    fn way(variables: &[(&str, &str)], flag: Option<&str>) -> Result<Option<ForwardProxy>, String> {
        let pairs = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let setting = SETTINGS.iter().find(|setting| setting.name == UPSTREAM_PROXY).expect("in the table");
        let raw = Raw::from_variables(pairs).expect("text").with_flags(flag.map(|value| (setting, value)));
        Config::from_raw(&raw).map(|config| config.forward_proxy).map_err(|error| error.to_string())
    }

    /// The same in words.
    fn told(variables: &[(&str, &str)], flag: Option<&str>) -> String {
        match way(variables, flag) {
            Ok(Some(proxy)) => format!("{proxy} by {}", proxy.named_by),
            Ok(None) => "none".to_owned(),
            Err(error) => error,
        }
    }

    #[test]
    fn the_environment_is_read_as_curl_reads_it() {
        for (variables, expected) in [
            (&[][..], "none"),
            (&[("HTTPS_PROXY", "http://p:1")], "http://p:1 by HTTPS_PROXY"),
            (&[("HTTPS_PROXY", "http://p:1"), ("https_proxy", "http://q:1")], "http://q:1 by https_proxy"),
            (&[("HTTPS_PROXY", "http://p:1"), ("https_proxy", "")], "http://p:1 by HTTPS_PROXY"),
            (&[("HTTPS_PROXY", "http://p:1"), ("ALL_PROXY", "http://q:1")], "http://p:1 by HTTPS_PROXY"),
            (&[("ALL_PROXY", "http://p:1"), ("all_proxy", "http://q:1")], "http://q:1 by all_proxy"),
            (&[("HTTP_PROXY", "http://p:1"), ("http_proxy", "http://p:1")], "none"),
            (&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "fireworks.ai")], "none"),
            (
                &[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "*"), ("no_proxy", "x")],
                "http://p:1 by HTTPS_PROXY",
            ),
            (&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "*"), ("no_proxy", "")], "none"),
            // What is not used is not looked at.
            (&[("HTTPS_PROXY", "socks5://p"), ("NO_PROXY", "*")], "none"),
        ] {
            assert_eq!(told(variables, None), expected, "{variables:?}");
        }
    }

    #[test]
    fn our_own_setting_goes_first_and_set_to_nothing_means_none() {
        let others = [("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "*")];
        let ours = |value| [others[0], others[1], (UPSTREAM_PROXY, value)];
        assert_eq!(told(&ours("q:1"), None), format!("http://q:1 by {UPSTREAM_PROXY}"));
        assert_eq!(told(&ours("q:1"), Some("r:1")), "http://r:1 by --upstream-proxy");
        for value in ["", "  "] {
            assert_eq!(told(&[others[0], (UPSTREAM_PROXY, value)], None), "none");
            assert_eq!(told(&[others[0], (UPSTREAM_PROXY, "q:1")], Some(value)), "none");
        }
    }

    #[test]
    fn nothing_goes_to_this_machine_through_a_proxy() {
        let plain = ("FIREWORKS_PROXY_UPSTREAM", "http://localhost:1");
        assert_eq!(told(&[plain, ("HTTPS_PROXY", "p:1")], None), "none");
        assert_eq!(told(&[plain, (UPSTREAM_PROXY, "p:1")], None), "none");
        let tls = ("FIREWORKS_PROXY_UPSTREAM", "https://localhost:1");
        assert_eq!(told(&[tls, ("HTTPS_PROXY", "p:1")], None), "http://p:1 by HTTPS_PROXY", "as with curl");
    }

    #[test]
    fn a_url_is_taken_apart_as_curl_does() {
        for (url, host, port, credentials) in [
            ("http://proxy.example:3128", "proxy.example", 3128, None),
            ("HTTP://proxy.example:3128/", "proxy.example", 3128, None),
            ("proxy.example", "proxy.example", 1080, None),
            ("proxy.example:8080", "proxy.example", 8080, None),
            ("proxy.example:", "proxy.example", 1080, None),
            ("http://[2001:db8::1]:3128", "2001:db8::1", 3128, None),
            ("http://@proxy:1", "proxy", 1, None),
            ("http://user:pass@proxy:1", "proxy", 1, Some("user:pass")),
            ("user:pass@proxy:1", "proxy", 1, Some("user:pass")),
            ("http://user@proxy:1", "proxy", 1, Some("user:")),
            ("http://:pass@proxy:1", "proxy", 1, Some(":pass")),
            ("http://us%65r:p%3A%40%2fs%C3%A9@proxy:1", "proxy", 1, Some("user:p:@/s\u{e9}")),
            ("http://user:p@ss:word@proxy:1", "proxy", 1, Some("user:p@ss:word")),
            ("http://user:100%@proxy:1", "proxy", 1, Some("user:100%")),
            ("http://corp%5Cuser:%zz@proxy:1", "proxy", 1, Some("corp\\user:%zz")),
        ] {
            let proxy = way(&[("HTTPS_PROXY", url)], None).expect("accepted").expect("a proxy");
            assert_eq!((proxy.host.as_str(), proxy.port), (host, port), "{url}");
            let found = proxy.credentials.as_ref().map(Credentials::as_bytes);
            assert_eq!(found, credentials.map(str::as_bytes), "{url}");
        }
        let proxy = way(&[("HTTPS_PROXY", "u:p@[::1]:3128")], None).expect("accepted").expect("a proxy");
        assert_eq!(proxy.to_string(), "http://***@[::1]:3128");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_the_variables_name_and_without_credentials() {
        for (url, shown) in [
            ("https://proxy:443", "https://proxy:443"),
            ("socks5h://user:hunter2@proxy:1080", "socks5h://***@proxy:1080"),
            ("http://", "http://"),
            ("http://proxy:0", "http://proxy:0"),
            ("http://proxy:65536", "http://proxy:65536"),
            ("http://user:hunter2@proxy:port", "http://***@proxy:***"),
            ("http://user:hunter2", "http://user:***"),
            ("http://user:hunter/2@proxy:1", "http://***@proxy:1"),
            ("http://user:hunter2?@proxy:1", "http://user:***?***"),
            ("http://user:2#@proxy:1", "http://user:***#***"),
            ("http://us%3Aer:hunter2@proxy:1", "http://***@proxy:1"),
            ("http://user:hunter2%0d@proxy:1", "http://***@proxy:1"),
            ("http://proxy/wpad.dat", "http://proxy/wpad.dat"),
            ("http://pro xy:1", "http://pro xy:1"),
            ("user:hunter://2@proxy:1", "***@proxy:1"),
            ("http://user:hunter]2", "http://user:***"),
            ("http://user:hunter/2", "http://user:***"),
        ] {
            for name in ["https_proxy", "ALL_PROXY", UPSTREAM_PROXY] {
                let error = way(&[(name, url)], None).expect_err(url);
                assert!(error.starts_with(&format!("{name}={shown:?} is not accepted; wanted: ")), "{error}");
            }
            let error = way(&[], Some(url)).expect_err(url);
            assert!(error.starts_with(&format!("--upstream-proxy={shown:?} is not accepted")), "{error}");
        }
    }

    #[test]
    fn credentials_are_nowhere_to_be_seen() {
        let url = "http://jane:hunter2@proxy:3128";
        let setting = SETTINGS.iter().find(|setting| setting.name == UPSTREAM_PROXY).expect("in the table");
        let from_flag = Raw::default().with_flags([(setting, url)]);
        let of = |name: &str| Raw::from_variables(std::iter::once((name.into(), url.into()))).expect("text");
        for raw in [from_flag, of("HTTPS_PROXY"), of(UPSTREAM_PROXY)] {
            let config = Config::from_raw(&raw).expect("accepted");
            let all = format!("{raw:?}{config:?}{}{}", config.describe(), config.summary());
            assert!(!all.contains("hunter2") && !all.contains("jane"), "it is shown");
            assert!(config.summary().contains(" through http://***@proxy:3128 ("), "{}", config.summary());
            let warns = raw.warnings().any(|warning| warning.contains("--upstream-proxy"));
            assert_eq!(warns, raw.name_written(UPSTREAM_PROXY) == "--upstream-proxy");
        }
    }
}
