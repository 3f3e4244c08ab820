//! `/dashboard`: the pages as a picture, for people.
//!
//! One file, embedded in the binary. It shows nothing by itself: it asks `/usage`, `/history` and `/settings` from
//! where it came, and draws what they say. So it is the same for everybody, and needs no secret.

use crate::http::write::Answer;

/// The document. Hand-written; nothing generates it.
const DOCUMENT: &str = include_str!("dashboard.html");

/// What the page may do: run its own script and style, which are named by their hashes (CSP Level 3, section
/// 2.3.1), and ask the proxy that it came from. Nothing that a model or a session is named can add to that.
const CONTENT_SECURITY_POLICY: &str = concat!(
    "default-src 'none'; ",
    "style-src 'sha256-7vjNtWhZR6EYAvv6gNvnQc7Jo1eYUmfKYi1kZVio5IY='; ",
    "script-src 'sha256-H4VGZJEXqtPmwSbNGrcBcaXSLGdATESIKNbaFYlCrVM='; ",
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The page.
pub fn page() -> Answer {
    let body = DOCUMENT.as_bytes().to_vec();
    let content_type = ("Content-Type", "text/html; charset=utf-8".to_owned());
    super::protected(Answer { status: 200, fields: vec![content_type], body }, CONTENT_SECURITY_POLICY)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page is read at a glance, and so is its source.
    const DOCUMENT_BYTES_MAX: usize = 60 * 1024;

    /// What stands in the one element of that name.
    fn content_of(element: &str) -> &'static str {
        let (opening, closing) = (format!("<{element}>"), format!("</{element}>"));
        for tag in [&format!("<{element}"), &opening, &closing] {
            assert_eq!(DOCUMENT.matches(tag.as_str()).count(), 1, "{tag}");
        }
        let (_, rest) = DOCUMENT.split_once(&opening).expect("it was counted");
        rest.split_once(&closing).expect("it was counted").0
    }

    /// RFC 4648, section 4.
    fn base64(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let group = |group: &[u8]| {
            let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(*group.get(at).unwrap_or(&0)));
            let digit = |at: usize| char::from(ALPHABET[bits >> (18 - 6 * at) & 63]);
            (0..4).map(|at| if at <= group.len() { digit(at) } else { '=' }).collect::<String>()
        };
        bytes.chunks(3).map(group).collect()
    }

    #[test]
    fn the_policy_names_the_very_style_and_script() {
        assert_eq!(["", "f", "fo", "foo"].map(|text| base64(text.as_bytes())), ["", "Zg==", "Zm8=", "Zm9v"]);
        for element in ["style", "script"] {
            let digest = ring::digest::digest(&ring::digest::SHA256, content_of(element).as_bytes());
            let source = format!("{element}-src 'sha256-{}';", base64(digest.as_ref()));
            assert!(
                CONTENT_SECURITY_POLICY.contains(&source),
                "the page has changed: put {source} into CONTENT_SECURITY_POLICY"
            );
        }
    }

    #[test]
    fn the_page_is_one_small_file_that_names_no_other_place() {
        assert!(DOCUMENT.len() < DOCUMENT_BYTES_MAX, "{} bytes", DOCUMENT.len());
        // An address of another place has two slashes. The rest would let names in as markup, or be blocked.
        for foreign in ["//", "@import", " src=", "innerHTML", "outerHTML", "insertAdjacentHTML", " style="] {
            assert_eq!(DOCUMENT.lines().find(|line| line.contains(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn browsers_are_told_what_the_page_is() {
        let answer = page();
        let field =
            |wanted: &str| answer.fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| &**value);
        assert_eq!(answer.status, 200);
        assert_eq!(field("Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(field("Content-Security-Policy"), Some(CONTENT_SECURITY_POLICY));
        assert_eq!(field("Cache-Control"), Some("no-store"));
    }
}
