//! What a request asks of whom: its method, its target and its `Host`.

use std::net::Ipv6Addr;

use super::{HttpError, METHOD_BYTES_MAX, TARGET_BYTES_MAX, fields::Fields, head::Version};

/// The longest name that DNS has (RFC 1035, section 2.3.4).
const HOST_NAME_BYTES_MAX: usize = 255;

/// A method is any token, which `httparse` sees to, but for those that ask for something else than an
/// answer of the upstream's: a tunnel (RFC 9110, section 9.3.6), an echo of the request with its
/// credentials (9.3.8), or a count of the hops (7.6.2). One that is too long is unknown to everybody (RFC
/// 9112, section 3).
pub(super) fn check_method(method: &str, fields: &Fields) -> Result<(), HttpError> {
    let is_one_of = |names: [&str; 2]| names.iter().any(|name| method.eq_ignore_ascii_case(name));
    let counts_hops = method == "OPTIONS" && fields.all("max-forwards").next().is_some();
    if is_one_of(["CONNECT", "TRACE"]) || counts_hops || method.len() > METHOD_BYTES_MAX {
        return Err(HttpError::MethodNotServed);
    }
    Ok(())
}

/// Only origin-form is served (RFC 9112, section 3.2.1): the other forms are for forward proxies,
/// tunnels and `OPTIONS *`, none of which this is. It is passed on as it is, so it has to be what every
/// reader takes alike: characters of a URI, and whole percent-escapes (RFC 3986, section 2).
pub(super) fn check_target(target: &str) -> Result<(), HttpError> {
    if target.len() > TARGET_BYTES_MAX {
        return Err(HttpError::TargetTooLong);
    }
    if !target.starts_with('/') {
        return Err(HttpError::Malformed("the request target is not a path"));
    }
    if !target.bytes().all(is_uri_byte) {
        return Err(HttpError::Malformed("the request target holds a character that must be escaped"));
    }
    let mut escapes = target.split('%').skip(1).map(str::as_bytes);
    if !escapes.all(|rest| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit)) {
        return Err(HttpError::Malformed("the request target holds a broken escape"));
    }
    Ok(())
}

/// Unreserved, reserved or `%` (RFC 3986, section 2), without `#`: fragments are never sent (RFC 9112,
/// section 3.2.1).
const fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'$'..=b'/' | b':' | b';' | b'=' | b'?' | b'@' | b'[' | b']' | b'_' | b'~')
}

/// Exactly one `Host` in HTTP/1.1, at most one in HTTP/1.0, and a host it must be (RFC 9112, section 3.2).
pub(super) fn check_host(version: Version, fields: &Fields) -> Result<(), HttpError> {
    let mut hosts = fields.all("host");
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Err(HttpError::Malformed("more than one Host field")),
        (None, _) if version == Version::Http11 => Err(HttpError::Malformed("no Host field")),
        (Some(host), None) if !is_host(host) => Err(HttpError::Malformed("the Host field is not a host")),
        _ => Ok(()),
    }
}

/// `uri-host [ ":" port ]` (RFC 9110, section 7.2): an IPv6 address in brackets, or a name as DNS has them
/// (IPv4 addresses look alike). An empty name is no origin (RFC 9110, section 4.2.1). Of what RFC 3986 has
/// besides, names with escapes or commas and empty ports are refused: readers differ about them.
fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (is_host, port) = if let Some((address, rest)) = bracketed {
        (address.parse::<Ipv6Addr>().is_ok(), rest)
    } else {
        let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        (is_name && (1..=HOST_NAME_BYTES_MAX).contains(&name.len()), rest)
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    is_host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}
