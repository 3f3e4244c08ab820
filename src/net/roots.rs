//! Trusted roots from files in PEM (RFC 7468), such as the bundle of a system.
//!
//! Every certificate of a file has to be one. A file with one that is broken is refused, with its number and line:
//! it may be the very one that was meant.

use std::path::Path;

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::store::read_at_most;

/// The longest file that is read. Bundles of whole systems have 300 KiB.
const CA_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Trusts the certificates of a file, and gives their number.
///
/// # Errors
/// What the file should have been, and is not.
pub(super) fn add(roots: &mut RootCertStore, path: &Path) -> Result<usize, String> {
    let content = read_at_most(path, CA_FILE_BYTES_MAX)
        .map_err(|error| format!("a readable PEM file of certificates ({error})"))?;
    let certificates = certificates(&content)?;
    for (index, certificate) in certificates.iter().enumerate() {
        let is_no = |why: &str| is_none(index, certificate.line, why);
        let decoded = CertificateDer::from_pem_slice(certificate.pem.as_bytes());
        let decoded = decoded.map_err(|_| is_no("it is not in base64"))?;
        roots.add(decoded).map_err(|error| is_no(&error.to_string()))?;
    }
    Ok(certificates.len())
}

/// A certificate as it stands in a file.
#[derive(Debug, PartialEq, Eq)]
struct Certificate {
    /// From its first line to its last one.
    pem: String,
    /// The number of its first line.
    line: usize,
}

/// Finds the certificates. Whatever else a file holds, such as comments in any encoding, is passed over.
fn certificates(content: &[u8]) -> Result<Vec<Certificate>, String> {
    let text = String::from_utf8_lossy(content);
    let mut found: Vec<Certificate> = Vec::new();
    let mut open: Option<Certificate> = None;
    // Some editors put a mark of the encoding in front.
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        match (&mut open, line) {
            (Some(certificate), BEGIN) => return Err(has_no_end(found.len(), certificate.line)),
            (None, BEGIN) => open = Some(Certificate { pem: format!("{BEGIN}\n"), line: index + 1 }),
            (Some(certificate), _) => {
                certificate.pem += line;
                certificate.pem.push('\n');
                if line == END {
                    found.extend(open.take());
                }
            }
            (None, _) => {}
        }
    }
    match open {
        Some(certificate) => Err(has_no_end(found.len(), certificate.line)),
        // DER begins with a SEQUENCE of two bytes of length.
        None if found.is_empty() && content.starts_with(b"\x30\x82") => {
            Err("a PEM file; this one is in DER, which `openssl x509 -inform der` turns into PEM".to_owned())
        }
        None if found.is_empty() => Err("a PEM file with at least one certificate".to_owned()),
        None => Ok(found),
    }
}

fn has_no_end(index: usize, line: usize) -> String {
    is_none(index, line, "it has no END line")
}

fn is_none(index: usize, line: usize, why: &str) -> String {
    format!("valid certificates; number {}, which begins in line {line}, is none: {why}", index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate of an authority of its own.
    fn pem() -> String {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["root.example".to_owned()]).expect("a name");
        params.self_signed(&key).expect("complete").pem()
    }

    fn added(content: &[u8]) -> Result<usize, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), content).expect("written");
        let mut roots = RootCertStore::empty();
        let added = add(&mut roots, file.path());
        assert!(added.as_ref().map_or(true, |count| *count == roots.len()), "{added:?}");
        added
    }

    #[test]
    fn every_certificate_is_added_and_what_stands_between_them_is_passed_over() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let (one, two) = (pem(), pem().replace('\n', "\r\n"));
        let content = format!("\u{feff}{one}# Caf\u{e9} Root\n\n{key}  {two}\nend");
        assert_eq!(added(content.as_bytes()), Ok(2));
        let latin = [b"# Caf\xe9 Root\n".as_slice(), one.as_bytes()].concat();
        assert_eq!(added(&latin), Ok(1));
        assert_eq!(added(one.trim_end().as_bytes()), Ok(1), "no line end at the end");
    }

    #[test]
    fn one_that_is_broken_is_named_by_number_and_line() {
        let good = pem();
        let lines = good.lines().count();
        let cut = good.replace(END, "");
        let second = |broken: &str| added(format!("{good}\n{broken}{good}").as_bytes()).expect_err("broken");
        let named = format!("number 2, which begins in line {}, is none: ", lines + 2);
        for (broken, why) in [
            (cut.as_str(), "it has no END line"),
            (&good.replacen("\nMII", "\nM!I", 1), "it is not in base64"),
            (&format!("{BEGIN}\nbm90IGEgY2VydGlmaWNhdGU=\n{END}\n"), "invalid peer certificate: BadEncoding"),
        ] {
            let error = second(broken);
            assert!(error.contains(&named) && error.ends_with(why), "{error}");
        }
        let error = added(cut.as_bytes()).expect_err("cut");
        assert!(error.contains("number 1, which begins in line 1, is none"), "{error}");
    }

    #[test]
    fn a_file_without_any_says_so() {
        for content in ["", "text", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert_eq!(added(content.as_bytes()), Err("a PEM file with at least one certificate".to_owned()));
        }
        assert!(added(b"\x30\x82\x01\x02").expect_err("DER").contains("this one is in DER"));
        let missing = add(&mut RootCertStore::empty(), Path::new("no-such-file.pem")).expect_err("missing");
        assert!(missing.starts_with("a readable PEM file of certificates ("), "{missing}");
    }

    /// What Debian and its like have; other systems have it elsewhere.
    #[test]
    fn the_bundle_of_a_system_is_taken_whole() {
        let Ok(content) = std::fs::read("/etc/ssl/certs/ca-certificates.crt") else { return };
        let count = String::from_utf8_lossy(&content).matches(BEGIN).count();
        assert!(count > 50, "it is a bundle");
        assert_eq!(added(&content), Ok(count));
    }
}
