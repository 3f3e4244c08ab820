//! URLs as they may be shown.

/// A URL without what may be a secret, even where it is refused: a name and a password in front of the host, a
/// port that is no number or may be a cut password, and a query or fragment.
pub(crate) fn without_credentials(url: &str) -> String {
    let (before, after) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    // What else stands before such signs is the beginning of a password that holds them.
    let is_scheme =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let scheme_end = before.find("://").filter(|at| is_scheme(&before[..*at]));
    let scheme_bytes = scheme_end.map_or(0, |at| at + "://".len());
    let (scheme, rest) = before.split_at(scheme_bytes);
    let (hidden, host) = match rest.rsplit_once('@') {
        Some((_, host)) => ("***@", host),
        None => ("", rest),
    };
    let host = without_odd_port(host, after.contains('@'));
    let after = after.chars().next().map_or(String::new(), |sign| format!("{sign}***"));
    format!("{scheme}{hidden}{host}{after}")
}

/// `host:port/path`, of which all behind the host is hidden where the port is none, or where an `@` behind a `?` says
/// that it may be a password.
fn without_odd_port(host: &str, may_be_password: bool) -> String {
    let address_bytes = host.find(']').filter(|_| host.starts_with('[')).unwrap_or(0);
    let Some(colon) = host[address_bytes..].find(':') else { return host.to_owned() };
    let (name, port) = host.split_at(address_bytes + colon + 1);
    let mut digits = port.bytes().take_while(|byte| *byte != b'/');
    let is_port = digits.all(|byte| byte.is_ascii_digit()) && !may_be_password;
    if is_port { host.to_owned() } else { format!("{name}***") }
}
