//! Who may come in: by which name, from which page, with which secret.
//!
//! The proxy holds no key of its own, but whoever reaches it uses the daily cap, sees `/usage`, and can
//! make it send what a browser was told to send. Three kinds of strangers are kept out:
//!
//! - A web page whose name was made to lead to this machine (DNS rebinding): its requests are same-origin
//!   to the browser, but their `Host` is the page's.
//! - A web page that sends requests across origins, which it may without reading the answers: the browser
//!   says so in `Origin` (RFC 6454, section 7) and `Sec-Fetch-Site` (W3C Fetch Metadata). No CORS field
//!   is ever sent, so no page reads an answer either.
//! - Another machine, or anybody where a secret is set, without that secret.
//!
//! Owns the decision about one head, before anything else is done with the request. What is sent to the
//! client is for `rejection` to say.

use std::hint::black_box;

use crate::{
    config::{Access, ClientToken, HostName},
    http::{
        head::{Fields, RequestHead},
        write::CLIENT_TOKEN_FIELD,
    },
};

/// The longest host or origin that is shown: enough to recognise it.
const SHOWN_CHARS_MAX: usize = 80;

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// Its `Host` is none that the proxy is reached by. Holds it as it may be shown.
    Misdirected(String),
    /// It comes from a page of another origin. Holds what says so, as it may be shown.
    CrossSite(String),
    /// It has no secret.
    TokenMissing,
    /// It has another secret, or several.
    TokenWrong,
}

/// Whether a request may come in. `needs_secret` is false for what is no secret.
///
/// # Errors
/// The first reason against it.
pub fn check(head: &RequestHead, access: &Access, needs_secret: bool) -> Result<(), Denial> {
    let fields = &head.fields;
    check_host(fields, access)?;
    check_origin(fields)?;
    check_fetch_site(fields)?;
    match &access.client_token {
        Some(token) if needs_secret => check_token(fields, token),
        _ => Ok(()),
    }
}

/// A request without `Host` is HTTP/1.0, which no browser speaks: there is nothing to rebind.
fn check_host(fields: &Fields, access: &Access) -> Result<(), Denial> {
    for host in fields.all("host") {
        let name = std::str::from_utf8(host).ok().and_then(HostName::of_authority);
        if !name.is_some_and(|name| access.allows(&name)) {
            return Err(Denial::Misdirected(shown(host)));
        }
    }
    Ok(())
}

/// Browsers send `Origin` with every request that is not a plain GET or HEAD, and with those that a script
/// sends across origins. Ours is the scheme and the very authority of `Host`; `null`, which hides a page's
/// own, is foreign.
fn check_origin(fields: &Fields) -> Result<(), Denial> {
    let own = fields.all("host").next().unwrap_or_default();
    for origin in fields.all("origin") {
        let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        let is_own = authority.is_some_and(|authority| authority.eq_ignore_ascii_case(own));
        if !is_own || own.is_empty() {
            return Err(Denial::CrossSite(format!("Origin: {}", shown(origin))));
        }
    }
    Ok(())
}

/// `none` is the user's own doing, such as an address that was typed. `same-site` is a page of another port,
/// which anybody's program on this machine can serve.
fn check_fetch_site(fields: &Fields) -> Result<(), Denial> {
    let foreign = fields.all("sec-fetch-site").find(|site| !matches!(*site, b"same-origin" | b"none"));
    foreign.map_or(Ok(()), |site| Err(Denial::CrossSite(format!("Sec-Fetch-Site: {}", shown(site)))))
}

fn check_token(fields: &Fields, token: &ClientToken) -> Result<(), Denial> {
    let mut sent = fields.all(CLIENT_TOKEN_FIELD);
    match (sent.next(), sent.next()) {
        (None, _) => Err(Denial::TokenMissing),
        (Some(sent), None) if is_same_secret(sent, token.as_bytes()) => Ok(()),
        (Some(_), _) => Err(Denial::TokenWrong),
    }
}

/// Compares in a time that depends on the length alone. An end at the first difference would tell, over many
/// attempts, how much of a guess is right. `black_box` keeps the compiler from finding such an end.
fn is_same_secret(sent: &[u8], secret: &[u8]) -> bool {
    if sent.len() != secret.len() {
        return false;
    }
    let difference = sent.iter().zip(secret).fold(0, |all, (left, right)| black_box(all | (left ^ right)));
    difference == 0
}

/// What a stranger sent, as a line and a page show it: nothing that could forge either, no credential in
/// front of a host, and not for ever.
fn shown(value: &[u8]) -> String {
    let after_credentials = value.rsplit(|byte| *byte == b'@').next().unwrap_or_default();
    let plain = |byte: &u8| {
        let is_plain = byte.is_ascii_alphanumeric() || b".-_:/[]".contains(byte);
        if is_plain { char::from(*byte) } else { '?' }
    };
    let mut text: String = after_credentials.iter().take(SHOWN_CHARS_MAX).map(plain).collect();
    if after_credentials.len() > SHOWN_CHARS_MAX {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Config, Raw},
        http::head::parse_request,
    };

    const SECRET: &str = "a-secret-of-the-proxy";

    fn access(settings: &[(&str, &str)]) -> Access {
        let variables = settings.iter().map(|(name, value)| (name.into(), value.into()));
        let raw = Raw::from_variables(variables).expect("Unicode values");
        Config::from_raw(&raw).expect("accepted").access
    }

    fn ask(access: &Access, lines: &str) -> Result<(), Denial> {
        let head = format!("POST /v1/messages HTTP/1.1\r\n{lines}\r\n");
        check(&parse_request(head.as_bytes()).expect("a head"), access, true)
    }

    #[test]
    fn the_host_is_an_address_of_the_proxy() {
        let access = access(&[]);
        assert_eq!(ask(&access, "Host: localhost:8787\r\n"), Ok(()));
        for (host, named) in
            [("evil.example:8787", "evil.example:8787"), (&"x".repeat(200), &("x".repeat(80) + "..."))]
        {
            let denied = Err(Denial::Misdirected(named.to_owned()));
            assert_eq!(ask(&access, &format!("Host: {host}\r\n")), denied, "{host}");
        }
        let old = parse_request(b"GET / HTTP/1.0\r\n\r\n").expect("a head");
        assert_eq!(check(&old, &access, true), Ok(()));
    }

    #[test]
    fn only_the_proxys_own_origin_is_let_in() {
        let access = access(&[("FIREWORKS_PROXY_ALLOWED_HOSTS", "proxy.example")]);
        for (host, origin) in [
            ("localhost:8787", "http://localhost:8787"),
            ("LocalHost:8787", "http://localhost:8787"),
            ("proxy.example", "https://proxy.example"),
            ("[::1]:8787", "http://[::1]:8787"),
        ] {
            let fields = format!("Host: {host}\r\nOrigin: {origin}\r\n");
            assert_eq!(ask(&access, &fields), Ok(()), "{fields}");
        }
        for origin in [
            "null",
            "",
            "http://evil.example",
            "http://localhost",
            "http://localhost:3000",
            "http://127.0.0.1:8787",
            "http://localhost:8787.evil.example",
            "http://localhost:8787/",
            "HTTP://localhost:8787",
            "ftp://localhost:8787",
            "localhost:8787",
            "vscode-webview://1a2b",
        ] {
            let denied = ask(&access, &format!("Host: localhost:8787\r\nOrigin: {origin}\r\n"));
            assert_eq!(denied, Err(Denial::CrossSite(format!("Origin: {origin}"))));
        }
        let twice = "Host: localhost:1\r\nOrigin: http://localhost:1\r\norigin: http://evil.example\r\n";
        assert!(matches!(ask(&access, twice), Err(Denial::CrossSite(_))));
        let credentials = ask(&access, "Host: localhost\r\nOrigin: http://user:password@evil.example\r\n");
        assert_eq!(credentials, Err(Denial::CrossSite("Origin: evil.example".to_owned())));
        let old = parse_request(b"GET / HTTP/1.0\r\nOrigin: http://\r\n\r\n").expect("a head");
        assert!(check(&old, &access, true).is_err(), "no Host is no origin");
    }

    #[test]
    fn fetch_metadata_of_other_sites_is_refused() {
        let access = access(&[]);
        let site = |site: &str| ask(&access, &format!("Host: localhost\r\nSec-Fetch-Site: {site}\r\n"));
        assert!(["none", "same-origin"].into_iter().all(|own| site(own).is_ok()));
        // Undici, the fetch of Node, sends this one alone.
        assert_eq!(ask(&access, "Host: localhost\r\nsec-fetch-mode: cors\r\n"), Ok(()));
        for foreign in ["cross-site", "same-site", "", "None", "none, none"] {
            assert!(matches!(site(foreign), Err(Denial::CrossSite(_))), "{foreign}");
        }
    }

    #[test]
    fn a_secret_is_asked_for_where_one_is_set() {
        let with_secret = access(&[("FIREWORKS_PROXY_CLIENT_TOKEN", SECRET)]);
        let sent = |values: &[&str]| {
            let fields = values.iter().map(|value| format!("X-Fireworks-Proxy-Token: {value}\r\n"));
            ask(&with_secret, &format!("Host: localhost\r\n{}", fields.collect::<String>()))
        };
        assert_eq!(sent(&[SECRET]), Ok(()));
        assert_eq!(sent(&[]), Err(Denial::TokenMissing));
        let (short, long) = (&SECRET[1..], format!("{SECRET}x"));
        for wrong in [&[""][..], &[short], &[&long], &[&SECRET.to_uppercase()], &[SECRET, SECRET]] {
            assert_eq!(sent(wrong), Err(Denial::TokenWrong), "{wrong:?}");
        }
        assert_eq!(ask(&access(&[]), "Host: localhost\r\nx-fireworks-proxy-token: any\r\n"), Ok(()));
    }

    #[test]
    fn every_bit_of_a_secret_counts() {
        for at in 0..SECRET.len() {
            for bit in 0..8 {
                let mut guess = SECRET.as_bytes().to_vec();
                guess[at] ^= 1 << bit;
                assert!(!is_same_secret(&guess, SECRET.as_bytes()), "{at}.{bit}");
            }
        }
        assert!(is_same_secret(SECRET.as_bytes(), SECRET.as_bytes()) && is_same_secret(b"", b""));
        assert!(!is_same_secret(b"", b"x"));
    }
}
