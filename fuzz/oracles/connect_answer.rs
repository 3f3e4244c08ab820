//! A forward proxy's answer to `CONNECT`: any split is the whole, what opens a tunnel is strict and ends where it says,
//! and what does not is told in one plain line.

use fireworks_proxy::{
    config::{Config, Raw},
    connect::{ANSWER_BYTES_MAX, Connect},
    failure::{Failure, FailureClass, Reach},
};

use super::{Outcome, split::splits, strict_head::read};

const PROXY: &str = "proxy.example:3128";

/// The longest line that is told: two phrases, a number and a few names.
const DETAIL_BYTES_MAX: usize = 2048;

/// What has become of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// There is more to come.
    More,
    /// The tunnel is open behind so many bytes.
    Open(usize),
    /// There will be none.
    Failed(Failure),
}

/// `data` is what a forward proxy sends, and what comes through the tunnel behind it.
pub fn connect_answer(data: &[u8]) -> Outcome {
    let whole = hear(&[data]);
    for pieces in splits(data) {
        assert_eq!(hear(&pieces), whole, "it depends on how the answer is cut");
    }
    match whole {
        Heard::More => {
            assert!(data.len() < ANSWER_BYTES_MAX, "an answer without end is waited for");
            Outcome::Refused
        }
        Heard::Open(bytes) => {
            check_open(&data[..bytes]);
            Outcome::Accepted
        }
        Heard::Failed(failure) => {
            check_failure(&failure);
            if answered(&failure).is_some() { Outcome::Accepted } else { Outcome::Refused }
        }
    }
}

fn hear(pieces: &[&[u8]]) -> Heard {
    let variable = std::iter::once(("HTTPS_PROXY".into(), PROXY.into()));
    let config = Config::from_raw(&Raw::from_variables(variable).expect("text")).expect("accepted");
    let mut connect = Connect::new(config.forward_proxy.as_ref().expect("it is named"), &config.upstream);
    connect.wrote(connect.pending_write().len());
    let mut taken = 0;
    for piece in pieces {
        match connect.receive(piece) {
            Ok(received) => {
                assert!(received.consumed <= piece.len());
                taken += received.consumed;
                if received.is_open {
                    return Heard::Open(taken);
                }
                assert_eq!(received.consumed, piece.len(), "something is left, and nobody will take it");
            }
            Err(failure) => return Heard::Failed(failure),
        }
    }
    Heard::More
}

/// One head after another: any number of interim ones, and one of success at the end.
fn check_open(mut heads: &[u8]) {
    assert!(heads.len() <= ANSWER_BYTES_MAX);
    loop {
        let end = heads.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head has an end") + 4;
        let (line, _) = read(&heads[..end]);
        assert!(line.starts_with(b"HTTP/1.1 ") || line.starts_with(b"HTTP/1.0 "), "{}", line.escape_ascii());
        let status: u16 = std::str::from_utf8(&line[9..12]).expect("digits").parse().expect("a status");
        heads = &heads[end..];
        if heads.is_empty() {
            return assert!((200..300).contains(&status), "{status} opened a tunnel");
        }
        assert!((100..200).contains(&status) && status != 101, "{status} was passed over");
    }
}

/// The status and what else is told of an answer that opened no tunnel.
fn answered(failure: &Failure) -> Option<&str> {
    failure.detail.strip_prefix(PROXY)?.strip_prefix(" answered ")
}

fn check_failure(failure: &Failure) {
    let Failure { class, detail } = failure;
    assert_eq!(class.reach(), Reach::NeverReached);
    let has_refused = [FailureClass::ProxyAuth, FailureClass::ProxyDenied].contains(class);
    assert!(has_refused || *class == FailureClass::ProxyFailed, "{failure:?}");
    assert!(detail.starts_with(PROXY) && !detail.contains(char::is_control), "{detail:?}");
    assert!(detail.len() <= DETAIL_BYTES_MAX, "{} bytes", detail.len());
    // Not anywhere in it: a reason may say anything.
    let status = answered(failure).and_then(|answer| answer.get(..3));
    assert_eq!(*class == FailureClass::ProxyAuth, matches!(status, Some("401" | "407")), "{detail}");
    assert!(!has_refused || status.is_some(), "{detail}");
}
