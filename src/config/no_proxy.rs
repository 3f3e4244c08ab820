//! `NO_PROXY` as curl reads it (curl(1), "Environment"; `lib/proxy.c`, `proxy_check_noproxy`).
//!
//! | entry | exempts |
//! |---|---|
//! | `*`, as the whole value | every host |
//! | `example.com`, `.example.com`, `example.com.` | that name, and every name that ends in it behind a dot |
//! | `192.0.2.1`, `2001:db8::1`, without brackets | that address, where the upstream is named by it |
//! | `192.0.2.0/24`, `2001:db8::/32` | the addresses of that network (since curl 7.86) |
//!
//! Names are compared without case and never looked up, so a network exempts no name. An entry with a port or a
//! `*` within exempts nothing. Entries end at commas and at blanks; newer versions of curl want commas.

use std::net::IpAddr;

/// Whether this value exempts this host, a name or an address without brackets.
pub(super) fn exempts(value: &str, host: &str) -> bool {
    if value == "*" {
        return true;
    }
    let mut entries = value.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
    match host.parse::<IpAddr>() {
        Ok(address) => entries.any(|entry| has_address(entry, address)),
        Err(_) => entries.any(|entry| has_name(entry, host)),
    }
}

/// Whether `name` is the entry's, or lies in its domain.
fn has_name(entry: &str, name: &str) -> bool {
    let entry = entry.strip_suffix('.').unwrap_or(entry);
    let entry = entry.strip_prefix('.').unwrap_or(entry).as_bytes();
    let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
    let Some(labels_before) = name.len().checked_sub(entry.len()) else { return false };
    let (before, end) = name.split_at(labels_before);
    end.eq_ignore_ascii_case(entry) && matches!(before, [] | [.., b'.'])
}

/// Whether the entry is this address, or a network that it is in.
fn has_address(entry: &str, address: IpAddr) -> bool {
    let (network, bits) = match entry.split_once('/') {
        Some((network, bits)) => match bits.parse::<u32>() {
            Ok(bits) => (network, bits),
            Err(_) => return false,
        },
        None => (entry, 0),
    };
    match (address, network.parse()) {
        (IpAddr::V4(address), Ok(IpAddr::V4(network))) => {
            begin_alike(address.to_bits().into(), network.to_bits().into(), bits, u32::BITS)
        }
        (IpAddr::V6(address), Ok(IpAddr::V6(network))) => {
            begin_alike(address.to_bits(), network.to_bits(), bits, u128::BITS)
        }
        _ => false,
    }
}

/// Whether two addresses of so many bits begin with the same `bits`. None at all stands for all of them: so it is
/// with curl, also where they are written, as `/0`.
fn begin_alike(address: u128, network: u128, bits: u32, bits_max: u32) -> bool {
    let bits = if bits == 0 { bits_max } else { bits };
    bits <= bits_max && (address ^ network) >> (bits_max - bits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_exempts_what_it_does_for_curl() {
        for (value, host, is_exempt) in [
            ("*", "api.fireworks.ai", true),
            ("*", "192.0.2.1", true),
            ("*,example.com", "api.fireworks.ai", false),
            (" *", "api.fireworks.ai", false),
            ("", "api.fireworks.ai", false),
            (",, ,", "api.fireworks.ai", false),
            ("api.fireworks.ai", "api.fireworks.ai", true),
            ("API.Fireworks.AI", "api.fireworks.ai", true),
            ("fireworks.ai", "api.fireworks.ai", true),
            (".fireworks.ai", "api.fireworks.ai", true),
            (".api.fireworks.ai", "api.fireworks.ai", true),
            ("..fireworks.ai", "api.fireworks.ai", false),
            ("fireworks.ai.", "api.fireworks.ai", true),
            ("fireworks.ai", "api.fireworks.ai.", true),
            ("works.ai", "api.fireworks.ai", false),
            ("ai", "api.fireworks.ai", true),
            ("x.api.fireworks.ai", "api.fireworks.ai", false),
            ("*.fireworks.ai", "api.fireworks.ai", false),
            ("api.fireworks.ai:443", "api.fireworks.ai", false),
            ("localhost,127.0.0.1,api.fireworks.ai", "api.fireworks.ai", true),
            ("localhost, 127.0.0.1 ,\tapi.fireworks.ai", "api.fireworks.ai", true),
            ("localhost api.fireworks.ai", "api.fireworks.ai", true),
            ("192.0.2.1", "192.0.2.1", true),
            (".192.0.2.1", "192.0.2.1", false),
            ("2.1", "192.0.2.1", false),
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.77/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.128/25", "192.0.2.127", false),
            ("192.0.2.1/32", "192.0.2.1", true),
            ("192.0.2.1/33", "192.0.2.1", false),
            ("192.0.2.1/-1", "192.0.2.1", false),
            ("192.0.2.1/x", "192.0.2.1", false),
            ("0.0.0.0/0", "192.0.2.1", false),
            ("192.0.2.1/0", "192.0.2.1", true),
            ("0.0.0.0/1", "127.0.0.1", true),
            ("127.0.0.0/8", "localhost", false),
            ("2001:db8::1", "2001:db8::1", true),
            ("2001:DB8:0::1", "2001:db8::1", true),
            ("[2001:db8::1]", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("2001:db8::/129", "2001:db8::", false),
            ("::ffff:192.0.2.1", "192.0.2.1", false),
        ] {
            assert_eq!(exempts(value, host), is_exempt, "NO_PROXY={value:?} and {host}");
        }
    }
}
