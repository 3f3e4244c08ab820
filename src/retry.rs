//! Which answers and failures are worth another try, and when.
//!
//! Owns the rules alone: whether a request has time for another try is for its session to say, and
//! what a refusal means for others is for the budgets. Which statuses are transient is Fireworks' own
//! list (docs.fireworks.ai/guides/reliability) and what its edge, Cloudflare, answers in its stead.

use std::time::Duration;

use crate::{calendar, failure::FailureClass, http::head::Fields, time::Wall};

/// The first back-off of the request itself; each further one is twice the one before. How a refusal
/// slows the other requests of its lane is in `budget/pace.rs`.
const BACKOFF: Duration = Duration::from_secs(1);

/// What is added to every wait at random is below this, so that those who failed together do not come
/// back together.
const JITTER_MICROS_MAX: u64 = 1_000_000;

/// What the status of an answer says of the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the answer, good or bad.
    Final,
    /// 429: a limit is reached.
    RateLimited,
    /// 503 and 529: there is not enough capacity, whatever our limits are.
    Overloaded,
    /// 408, 500, 502, 504 and 520 to 528: something broke, and may be whole the next time.
    Broken,
}

impl Verdict {
    /// The verdict on a status.
    pub const fn of(status: u16) -> Self {
        match status {
            429 => Self::RateLimited,
            503 | 529 => Self::Overloaded,
            408 | 500 | 502 | 504 | 520..=528 => Self::Broken,
            _ => Self::Final,
        }
    }

    /// Whether the upstream said that it did not do what it was asked, so that asking again cannot do
    /// it twice.
    pub const fn was_refused(self) -> bool {
        matches!(self, Self::RateLimited | Self::Overloaded)
    }
}

/// Whether a failure may pass: all do but those that the same request would meet again.
pub const fn may_pass(class: FailureClass) -> bool {
    match class {
        FailureClass::ProxyAuth
        | FailureClass::ProxyDenied
        | FailureClass::TlsCertificate
        | FailureClass::BadHead => false,
        FailureClass::Dns
        | FailureClass::ConnectRefused
        | FailureClass::ConnectTimeout
        | FailureClass::ProxyDns
        | FailureClass::ProxyUnreachable
        | FailureClass::ProxyTimeout
        | FailureClass::ProxyFailed
        | FailureClass::TlsOther
        | FailureClass::WriteTimeout
        | FailureClass::ClosedBeforeHead
        | FailureClass::HeadTimeout
        | FailureClass::CutInStream
        | FailureClass::IdleInStream => true,
    }
}

/// Whether a request with this method may be sent twice (RFC 9110, section 9.2.2).
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

/// How long to wait before the next try, after so many `retries`: `minimum`, which the upstream asked
/// for, or the back-off where that is longer, and the jitter.
pub fn wait(retries: u32, minimum: Option<Duration>, jitter: Duration) -> Duration {
    let backoff = BACKOFF.saturating_mul(2_u32.saturating_pow(retries));
    backoff.max(minimum.unwrap_or_default()).saturating_add(jitter)
}

/// How long the upstream wants to be left alone: the longer of `retry-after`, in seconds or as a date
/// (RFC 9110, section 10.2.3), and `retry-after-ms`. A date counts from the answer's own `date`, where
/// it has one, so that the two clocks need not agree.
pub fn asked_wait(fields: &Fields, now: Wall) -> Option<Duration> {
    let seconds = fields.text("retry-after").and_then(|text| {
        let date = fields.text("date").and_then(calendar::parse_http_date).unwrap_or(now);
        parse_seconds(text).or_else(|| Some(calendar::parse_http_date(text)?.since(date)))
    });
    let millis = fields.text("retry-after-ms").and_then(parse_seconds).map(|span| span / 1_000);
    seconds.max(millis)
}

/// A number of seconds. Some send fractions, which the RFC does not have.
fn parse_seconds(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse::<f64>().ok().filter(|seconds| *seconds >= 0.0)?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// A source of jitter: the same seed, the same waits (`SplitMix64`, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    /// A source with this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one, below a second.
    pub fn draw(&mut self) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Duration::from_micros((mixed ^ (mixed >> 31)) % JITTER_MICROS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{calendar::tests::utc, http::head::parse_response};

    fn asked(fields: &str) -> Option<Duration> {
        let head = format!("HTTP/1.1 429 No\r\n{fields}content-length: 0\r\n\r\n");
        let response = parse_response(head.as_bytes(), "POST").expect("a response");
        asked_wait(&response.fields, utc(2026, 11, 21, 12, 0))
    }

    #[test]
    fn each_status_has_its_verdict() {
        for (status, verdict) in [
            (200, Verdict::Final),
            (400, Verdict::Final),
            (401, Verdict::Final),
            (404, Verdict::Final),
            (408, Verdict::Broken),
            (412, Verdict::Final),
            (429, Verdict::RateLimited),
            (500, Verdict::Broken),
            (501, Verdict::Final),
            (502, Verdict::Broken),
            (503, Verdict::Overloaded),
            (504, Verdict::Broken),
            (505, Verdict::Final),
            (519, Verdict::Final),
            (520, Verdict::Broken),
            (528, Verdict::Broken),
            (529, Verdict::Overloaded),
            (530, Verdict::Final),
        ] {
            assert_eq!(Verdict::of(status), verdict, "{status}");
        }
    }

    #[test]
    fn the_back_off_doubles_and_what_was_asked_for_is_its_minimum() {
        let seconds = |retries, minimum: Option<u64>| {
            wait(retries, minimum.map(Duration::from_secs), Duration::from_millis(250)).as_secs_f64()
        };
        let waits: Vec<f64> = (0..5).map(|retries| seconds(retries, None)).collect();
        assert_eq!(waits, [1.25, 2.25, 4.25, 8.25, 16.25]);
        assert_eq!(
            [seconds(0, Some(3)), seconds(3, Some(3))].map(f64::to_bits),
            [3.25, 8.25].map(f64::to_bits)
        );
        assert!(seconds(u32::MAX, Some(u64::MAX)) > 1e9, "nothing overflows");
    }

    #[test]
    fn the_jitter_lies_within_a_second_and_repeats_with_its_seed() {
        let (mut jitter, mut same) = (Jitter::new(7), Jitter::new(7));
        let drawn: Vec<Duration> = (0..1_000).map(|_| jitter.draw()).collect();
        assert!(drawn.iter().all(|span| span.as_micros() < 1_000_000 && *span == same.draw()));
        let half = drawn.iter().filter(|span| span.as_micros() < 500_000).count();
        assert!((400..600).contains(&half), "{half}");
    }

    #[test]
    fn what_the_upstream_asks_for_is_read_in_every_form() {
        let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
        for (fields, span) in [
            ("", None),
            ("retry-after: 3\r\n", seconds(3.0)),
            ("Retry-After: 1.5\r\n", seconds(1.5)),
            ("retry-after-ms: 2500\r\n", seconds(2.5)),
            ("retry-after: 3\r\nretry-after-ms: 2500\r\n", seconds(3.0)),
            ("retry-after: 0\r\n", seconds(0.0)),
            ("retry-after: Sat, 21 Nov 2026 12:00:07 GMT\r\n", seconds(7.0)),
            ("retry-after: Saturday, 21-Nov-26 12:00:07 GMT\r\n", seconds(7.0)),
            ("retry-after: Sat Nov 21 12:00:07 2026\r\n", seconds(7.0)),
            // A date in the past asks for nothing.
            ("retry-after: Sat, 21 Nov 2026 11:00:00 GMT\r\n", seconds(0.0)),
            // The answer's clock is five seconds ahead of ours.
            (
                "date: Sat, 21 Nov 2026 12:00:05 GMT\r\nretry-after: Sat, 21 Nov 2026 12:00:07 GMT\r\n",
                seconds(2.0),
            ),
            ("retry-after: soon\r\n", None),
            ("retry-after: -1\r\n", None),
            ("retry-after: NaN\r\n", None),
            ("retry-after: 1e99\r\n", None),
        ] {
            assert_eq!(asked(fields), span, "{fields:?}");
        }
    }
}
