//! Finds secrets in texts: whole or in part, as they are or encoded.

use std::fmt::Write as _;

/// A part of a secret that is as long as this is found too: half of one would be half a breach.
const PART_BYTES: usize = 8;

/// What is looked for: each spelling in lower case, with the secret that it is of.
pub(crate) struct Search {
    spellings: Vec<(String, &'static str)>,
}

impl Search {
    pub(crate) fn new(secrets: &[&'static str]) -> Self {
        let of = |secret: &'static str| {
            spellings(secret.as_bytes()).into_iter().map(move |spelling| (spelling.to_lowercase(), secret))
        };
        Self { spellings: secrets.iter().copied().flat_map(of).collect() }
    }

    /// The secret that a text holds, if it holds one.
    pub(crate) fn find_in(&self, text: &str) -> Option<&'static str> {
        let text = text.to_lowercase();
        self.spellings.iter().find(|(spelling, _)| text.contains(spelling)).map(|(_, secret)| *secret)
    }
}

/// The spellings of every part, and of the whole where those of parts do not line up.
fn spellings(secret: &[u8]) -> Vec<String> {
    let mut all: Vec<String> = secret.windows(PART_BYTES).flat_map(spellings_of_part).collect();
    all.extend((0..3).flat_map(|offset| base64_within(secret, offset)));
    all
}

fn spellings_of_part(part: &[u8]) -> [String; 4] {
    [
        String::from_utf8_lossy(part).into_owned(),
        joined(part, "", |byte| format!("{byte:02x}")),
        joined(part, "", |byte| format!("%{byte:02x}")),
        // As `{:?}` shows bytes.
        joined(part, ", ", |byte| byte.to_string()),
    ]
}

fn joined(part: &[u8], between: &str, spell: impl Fn(u8) -> String) -> String {
    part.iter().copied().map(spell).collect::<Vec<_>>().join(between)
}

/// How base64, in both of its alphabets, spells a secret behind so many other bytes; without the ends, which
/// depend on what stands around it.
fn base64_within(secret: &[u8], offset: usize) -> [String; 2] {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let bytes = [&[0; 3][..offset], secret].concat();
    [b"+/", b"-_"].map(|last_two| {
        let alphabet = [&ALPHABET[..], last_two].concat();
        let mut text = String::new();
        for group in bytes.chunks_exact(3) {
            let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
            for shift in [18, 12, 6, 0] {
                let index = usize::try_from(bits >> shift & 63).expect("six bits");
                write!(text, "{}", char::from(alphabet[index])).expect("a String takes every write");
            }
        }
        text.split_off(if offset == 0 { 0 } else { 4 })
    })
}

#[test]
fn every_spelling_of_a_secret_is_found_and_nothing_else_is() {
    let secret = "Rb4m?Xj9c>Ls7fHg2wPd";
    let search = Search::new(&[secret]);
    for text in [
        "key=Rb4m?Xj9c>Ls7fHg2wPd",
        "key=RB4M?XJ9C>LS7FHG2WPD",
        "key=Rb4m?Xj9...",
        "...7fHg2wPd",
        "5262346d3f586a39633e4c733766486732775064",
        "633E4C7337664867",
        "%52%62%34%6d%3f%58%6a%39%63%3E",
        "[82, 98, 52, 109, 63, 88, 106, 57, 99]",
        // Behind nothing, one byte and two.
        "UmI0bT9YajljPkxzN2ZIZzJ3UGQ=",
        "IFJiNG0_WGo5Yz5MczdmSGcyd1Bk",
        "ICBSYjRtP1hqOWM+THM3ZkhnMndQZA==",
    ] {
        assert_eq!(search.find_in(&format!("before {text} after")), Some(secret), "{text}");
    }
    for text in ["", "Rb4m?Xj", "Rb4m-Xj9c-Ls7fHg-2wPd", "request | POST /v1/messages status=200"] {
        assert_eq!(search.find_in(text), None, "{text}");
    }
}
