//! URLs as they may be shown.

/// A URL without what may be a secret, even where it is refused: a name and a password in front of the host, a
/// port that is no number or may be a cut password, and a query or fragment.
pub(super) fn without_credentials(url: &str) -> String {
    let (before, after) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    let scheme_bytes = before.find("://").map_or(0, |at| at + "://".len());
    let (scheme, rest) = before.split_at(scheme_bytes);
    let (hidden, host) = match rest.rsplit_once('@') {
        Some((_, host)) => ("***@", host),
        None => ("", rest),
    };
    let host = without_odd_port(host, after.contains('@'));
    let after = after.chars().next().map_or(String::new(), |sign| format!("{sign}***"));
    format!("{scheme}{hidden}{host}{after}")
}

/// `host:port/path`, of which the port is hidden where it is none, or where an `@` behind a `?` says that it may be
/// a password.
fn without_odd_port(host: &str, may_be_password: bool) -> String {
    let address_bytes = host.find(']').unwrap_or(0);
    let Some(colon) = host[address_bytes..].find(':') else { return host.to_owned() };
    let (name, port) = host.split_at(address_bytes + colon + 1);
    let (port, path) = port.split_at(port.find('/').unwrap_or(port.len()));
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && !may_be_password;
    if is_port { host.to_owned() } else { format!("{name}***{path}") }
}
