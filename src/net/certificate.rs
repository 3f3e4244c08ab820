//! Why the upstream's certificate is refused, in words that say what to do.
//!
//! What a certificate says of itself comes from whoever answered in the upstream's place, so it is shown
//! plain and short. Where the TLS library knows two reasons by one name, both are given.

use rustls::{
    CertificateError, OtherError,
    pki_types::{ServerName, UnixTime},
};

use crate::{calendar, time::Wall};

/// The most names of a certificate that are shown; an edge's can hold a hundred.
const NAMES_MAX: usize = 3;

/// The longest part of a name that is shown.
const NAME_CHARS_MAX: usize = 80;

/// What signatures were made with before it could be forged, and the identifiers by which certificates
/// say so (RFC 8017, appendix A.2.4; RFC 3279, section 2.2.3).
const FORGEABLE: [(&str, &[u8]); 3] = [
    ("SHA-1", b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05"),
    ("SHA-1", b"\x2a\x86\x48\xce\x3d\x04\x01"),
    ("MD5", b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04"),
];

/// The reason in words.
pub(super) fn reason(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            format!("it expired on {}, and this machine's clock says {}", utc(*not_after), utc(*time))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!(
                "it is not valid before {}, and this machine's clock says {}",
                utc(*not_before),
                utc(*time)
            )
        }
        CertificateError::NotValidForNameContext { expected, presented } => wrong_name(expected, presented),
        CertificateError::UnknownIssuer => {
            "its issuer is not trusted: it is self-signed, or its root is not known here; the root of a \
             company's own proxy goes into FIREWORKS_PROXY_CA_FILE"
                .to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => {
            weak_signature(signature_algorithm_id)
        }
        CertificateError::BadSignature => {
            "a signature does not hold: it is forged, or its key is too weak, such as RSA below 2048 bits"
                .to_owned()
        }
        CertificateError::InvalidPurposeContext { .. } => "it is not made for servers".to_owned(),
        CertificateError::BadEncoding => "it is malformed".to_owned(),
        CertificateError::Other(other) => unnamed(other),
        other => plain(&other.to_string()),
    }
}

fn wrong_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let expected = expected.to_str();
    if presented.is_empty() {
        return format!(
            "it is for no host, as a common name alone does not count, and so not for {expected}"
        );
    }
    let mut names: Vec<String> = presented.iter().take(NAMES_MAX).map(|name| bare_name(name)).collect();
    if presented.len() > NAMES_MAX {
        names.push(format!("{} more", presented.len() - NAMES_MAX));
    }
    format!("it is for {}, not for {expected}", names.join(", "))
}

/// The library gives names as `DnsName("example.com")` and `IpAddress(192.0.2.1)`.
fn bare_name(presented: &str) -> String {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    plain(inner.unwrap_or(presented).trim_matches('"'))
}

fn weak_signature(algorithm: &[u8]) -> String {
    let is_it = |id: &[u8]| algorithm.windows(id.len()).any(|part| part == id);
    match FORGEABLE.into_iter().find(|(_, id)| is_it(id)) {
        Some((name, _)) => format!("it is signed with {name}, which is too weak"),
        None => "it is signed in a way that is too weak, or that is not known here".to_owned(),
    }
}

/// Reasons for which rustls has no name; those of webpki are their own text.
fn unnamed(error: &OtherError) -> String {
    match error.to_string().as_str() {
        "CaUsedAsEndEntity" => {
            "it is an authority's own, as self-signed ones often are, and not a server's".to_owned()
        }
        "EndEntityUsedAsCa" => "it was issued by a server's certificate, which may issue none".to_owned(),
        "PathLenConstraintViolated" => "more authorities stand between it and its root than may".to_owned(),
        "NameConstraintViolation" => "its issuer may not issue certificates for this name".to_owned(),
        other => plain(other),
    }
}

fn utc(moment: UnixTime) -> String {
    let seconds = i64::try_from(moment.as_secs()).unwrap_or(i64::MAX);
    calendar::utc(Wall::from_unix_millis(seconds.saturating_mul(1_000)))
}

fn plain(text: &str) -> String {
    let is_plain = |character: char| character.is_ascii_graphic() || character == ' ';
    text.chars().take(NAME_CHARS_MAX).map(|it| if is_plain(it) { it } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_plain_and_few() {
        let expected = ServerName::try_from("api.example").expect("a name");
        let given = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            wrong_name(&expected, &names)
        };
        let long = format!("DnsName(\"{}\")", "x".repeat(300));
        assert_eq!(
            given(&["DnsName(\"*.a.example\")", "IpAddress(192.0.2.1)"]),
            "it is for *.a.example, 192.0.2.1, not for api.example"
        );
        assert_eq!(given(&["DnsName(\"a\nINFO b\")"]), "it is for a?INFO b, not for api.example");
        assert_eq!(given(&["a"; 5]), "it is for a, a, a, 2 more, not for api.example");
        assert!(given(&[&long]).len() < 130);
        assert!(given(&[]).starts_with("it is for no host"));
    }

    #[test]
    fn a_forgeable_signature_is_named() {
        let sha1 = [b"\x06\x09".as_slice(), FORGEABLE[0].1, b"\x05\x00"].concat();
        assert_eq!(weak_signature(&sha1), "it is signed with SHA-1, which is too weak");
        assert!(weak_signature(b"").contains("not known here"));
    }
}
