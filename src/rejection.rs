//! The proxy's own refusals: JSON in the dialect of the path, so that each client shows or retries
//! them as it would its provider's.
//!
//! Statuses that clients give a meaning of their own are avoided: Kimi CLI shows membership texts on
//! 401, 402 and 403, and Claude Code falls back to non-streaming on 404. So a wrong secret is 400, and 403
//! goes to browsers alone: no agent sends what it answers to. Nor does a message say `x-api-key`, which
//! Claude Code takes for a key that is not valid.

use std::time::Duration;

use serde_json::json;

use crate::{
    access::Denial,
    budget::WaitsFor,
    failure::{Failure, FailureClass, Reach},
    http::{
        HttpError,
        write::{Answer, CLIENT_TOKEN_FIELD},
    },
    route::Dialect,
};

/// Whole seconds from 1 to 60 are the only values of `retry-after` that all clients read alike.
const RETRY_AFTER_SECONDS: std::ops::RangeInclusive<u64> = 1..=60;

/// Asked of a client when nothing is known of when there will be room.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(5);

/// A request that the proxy answers itself because it cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// The request breaks the rules of HTTP or of this proxy.
    BadRequest(HttpError),
    /// It is not let in.
    Denied(Denial),
    /// The client took too long to send it.
    ClientTooSlow,
    /// A page of ours was asked for with a method other than GET and HEAD.
    PageMethod,
    /// Its wait was over before there was room.
    QueueTimeout {
        /// How long it waited.
        waited: Duration,
        /// What it waited for.
        waited_for: WaitsFor,
        /// Whether its whole time is over, as opposed to that in the queue.
        is_hold_over: bool,
        /// When there may be room, from now.
        room_in: Option<Duration>,
    },
    /// The day's tokens are spent.
    DailyLimit {
        /// Tokens used today.
        used: u64,
        /// The limit.
        limit: u64,
        /// The local time at which the next day begins.
        resets_at: String,
    },
    /// The proxy is being stopped.
    Draining,
    /// The upstream could not be reached, or failed before it answered.
    Upstream {
        /// The upstream's base URL.
        upstream: String,
        /// What happened the last time.
        failure: Failure,
        /// How often it was tried.
        tries: u32,
    },
}

impl Rejection {
    /// The status code.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(error) => error.status(),
            Self::Denied(Denial::Misdirected(_)) => 421,
            Self::Denied(Denial::CrossSite(_)) => 403,
            Self::Denied(Denial::TokenMissing | Denial::TokenWrong) => 400,
            Self::ClientTooSlow => 408,
            Self::PageMethod => 405,
            Self::QueueTimeout { .. } | Self::DailyLimit { .. } => 429,
            Self::Draining => 503,
            Self::Upstream { failure, .. } => failure.class.status(),
        }
    }

    /// A short name for it, as logs and error bodies have it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) | Self::PageMethod => "bad_request",
            Self::Denied(Denial::Misdirected(_)) => "misdirected",
            Self::Denied(Denial::CrossSite(_)) => "cross_site",
            Self::Denied(Denial::TokenMissing | Denial::TokenWrong) => "client_token",
            Self::ClientTooSlow => "client_timeout",
            Self::QueueTimeout { .. } => "queue_timeout",
            Self::DailyLimit { .. } => "daily_limit",
            Self::Draining => "draining",
            Self::Upstream { failure, .. } => failure.class.name(),
        }
    }

    /// How far the request had come in the try that this is about.
    pub fn reach(&self) -> Reach {
        match self {
            Self::Upstream { failure, .. } => failure.class.reach(),
            _ => Reach::NeverReached,
        }
    }

    /// The answer for the client. `reach` is how far the request had come in any try.
    pub fn answer(&self, dialect: Dialect, reach: Reach) -> Answer {
        let mut message = format!("fireworks-proxy: {}", self.message());
        if matches!(self, Self::Upstream { .. }) && reach > self.reach() {
            message += "; an earlier try had come further";
        }
        let (code, reach) = (self.code(), reach.name());
        let body = match dialect {
            Dialect::Anthropic => json!({
                "type": "error",
                "error": {
                    "type": self.anthropic_type(), "message": message, "code": code, "upstream": reach,
                },
            }),
            Dialect::OpenAi => json!({
                "error": {
                    "message": message, "type": self.openai_type(), "param": null, "code": code,
                    "upstream": reach,
                },
            }),
        };
        let answer = Answer::json(self.status(), &body)
            .with("Cache-Control", "no-store")
            .with("X-Content-Type-Options", "nosniff");
        match self {
            Self::QueueTimeout { room_in, .. } => answer.with("Retry-After", retry_after(*room_in)),
            Self::Draining => answer.with("Retry-After", retry_after(None)),
            // Official SDKs obey this, and no short wait would help.
            Self::DailyLimit { .. } => answer.with("x-should-retry", "false"),
            // Wrong credentials that are sent again and again lock accounts.
            Self::Upstream { failure, .. } if failure.class == FailureClass::ProxyAuth => {
                answer.with("x-should-retry", "false")
            }
            Self::PageMethod => answer.with("Allow", "GET, HEAD"),
            _ => answer,
        }
    }

    /// One sentence that says what happened and, where the user can do something, what.
    pub fn message(&self) -> String {
        match self {
            Self::BadRequest(error) => error.to_string(),
            Self::Denied(denial) => denial_message(denial),
            Self::ClientTooSlow => "the request did not arrive in time".to_owned(),
            Self::PageMethod => "this page answers GET and HEAD only".to_owned(),
            Self::QueueTimeout { waited, waited_for: WaitsFor::Pace, .. } => format!(
                "waited {:.1} s behind requests that Fireworks refused; try again, or run fewer agents",
                waited.as_secs_f64()
            ),
            Self::QueueTimeout { waited, waited_for, is_hold_over, .. } => format!(
                "waited {:.1} s for {} and found none; try again, run fewer agents, or raise {}",
                waited.as_secs_f64(),
                match waited_for {
                    WaitsFor::Requests => "room in FIREWORKS_PROXY_RPS".to_owned(),
                    budget => format!("room in the {} budget", budget.name()),
                },
                if *is_hold_over {
                    "FIREWORKS_PROXY_MAX_HOLD and the client's own time limit"
                } else {
                    "FIREWORKS_PROXY_MAX_WAIT"
                }
            ),
            Self::Draining => "the proxy is being stopped and takes no new requests; try again".to_owned(),
            Self::DailyLimit { used, limit, resets_at } => format!(
                "the daily token limit is reached ({used} of {limit}); it resets at {resets_at}, or raise \
                 FIREWORKS_PROXY_DAILY_TOKEN_LIMIT and restart"
            ),
            Self::Upstream { upstream, failure, tries: 1 } => format!("{upstream}: {failure}"),
            Self::Upstream { upstream, failure, tries } => {
                format!("{upstream}: {failure}, the last of {tries} tries")
            }
        }
    }

    fn anthropic_type(&self) -> &'static str {
        match self {
            Self::BadRequest(HttpError::BodyTooLarge) => "request_too_large",
            Self::BadRequest(_) | Self::Denied(_) | Self::PageMethod => "invalid_request_error",
            Self::ClientTooSlow => "timeout_error",
            Self::QueueTimeout { .. } | Self::DailyLimit { .. } => "rate_limit_error",
            Self::Draining => "overloaded_error",
            Self::Upstream { failure, .. } if failure.class.is_timeout() => "timeout_error",
            Self::Upstream { .. } => "api_error",
        }
    }

    fn openai_type(&self) -> &'static str {
        match self {
            Self::BadRequest(_) | Self::Denied(_) | Self::PageMethod => "invalid_request_error",
            Self::ClientTooSlow => "timeout",
            Self::QueueTimeout { .. } => "rate_limit_error",
            // Kimi Code gives up at once on it, instead of ten retries.
            Self::DailyLimit { .. } => "insufficient_quota",
            Self::Draining => "api_error",
            Self::Upstream { failure, .. } if failure.class.is_timeout() => "timeout",
            Self::Upstream { .. } => "api_error",
        }
    }
}

fn denial_message(denial: &Denial) -> String {
    match denial {
        Denial::Misdirected(host) => format!(
            "the request is for the host \"{host}\", which is no address of this proxy; use localhost, or add \
             the host to FIREWORKS_PROXY_ALLOWED_HOSTS"
        ),
        Denial::CrossSite(sign) => format!(
            "the request comes from a web page of another origin ({sign}), and only programs may use this \
             proxy; to see a page of it, type its address"
        ),
        Denial::TokenMissing => format!(
            "this proxy asks for a secret: send what FIREWORKS_PROXY_CLIENT_TOKEN was set to in the header \
             {CLIENT_TOKEN_FIELD}"
        ),
        Denial::TokenWrong => format!(
            "the header {CLIENT_TOKEN_FIELD} is not, once and exactly, what FIREWORKS_PROXY_CLIENT_TOKEN was \
             set to"
        ),
    }
}

/// The value of `retry-after` for a wait.
pub fn retry_after(room_in: Option<Duration>) -> String {
    let seconds = room_in.unwrap_or(RETRY_AFTER_DEFAULT).as_millis().div_ceil(1_000);
    let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
    seconds.clamp(*RETRY_AFTER_SECONDS.start(), *RETRY_AFTER_SECONDS.end()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Dimension;

    fn body(rejection: &Rejection, dialect: Dialect) -> serde_json::Value {
        serde_json::from_slice(&rejection.answer(dialect, rejection.reach()).body).expect("JSON")
    }

    fn field(rejection: &Rejection, name: &str) -> Option<String> {
        let answer = rejection.answer(Dialect::OpenAi, rejection.reach());
        answer.fields.into_iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    #[test]
    fn each_dialect_has_its_envelope() {
        let timeout = Rejection::QueueTimeout {
            waited: Duration::from_millis(120_040),
            waited_for: WaitsFor::Tokens(Dimension::Generated),
            is_hold_over: false,
            room_in: Some(Duration::from_millis(7_001)),
        };
        let anthropic = body(&timeout, Dialect::Anthropic);
        assert_eq!(
            (&anthropic["type"], &anthropic["error"]["type"]),
            (&"error".into(), &"rate_limit_error".into())
        );
        let openai = body(&timeout, Dialect::OpenAi);
        assert_eq!(
            (&openai["error"]["type"], &openai["error"]["code"]),
            (&"rate_limit_error".into(), &"queue_timeout".into())
        );
        let message = openai["error"]["message"].as_str().expect("text");
        assert!(message.contains("waited 120.0 s") && message.contains("generated"), "{message}");
        assert_eq!(field(&timeout, "Retry-After").as_deref(), Some("8"));
    }

    #[test]
    fn retry_after_stays_within_what_clients_read_alike() {
        for (room_in, seconds) in
            [(None, "5"), (Some(0), "1"), (Some(1), "1"), (Some(59_001), "60"), (Some(600_000), "60")]
        {
            assert_eq!(retry_after(room_in.map(Duration::from_millis)), seconds);
        }
    }

    #[test]
    fn the_daily_limit_tells_sdks_to_stop() {
        let resets_at = "2026-05-22T00:00:00.000+10:00".to_owned();
        let spent = Rejection::DailyLimit { used: 11, limit: 10, resets_at };
        assert_eq!(field(&spent, "x-should-retry").as_deref(), Some("false"));
        assert_eq!(field(&spent, "Retry-After"), None);
        assert_eq!(body(&spent, Dialect::OpenAi)["error"]["type"], "insufficient_quota");
        assert!(spent.message().contains("resets at 2026-05-22T00:00"));
    }

    #[test]
    fn who_is_not_let_in_is_told_what_to_do_and_nothing_that_agents_misread() {
        for (denial, status, advice) in [
            (Denial::Misdirected("evil.example".to_owned()), 421, "FIREWORKS_PROXY_ALLOWED_HOSTS"),
            (Denial::CrossSite("Origin: null".to_owned()), 403, "type its address"),
            (Denial::TokenMissing, 400, "send what FIREWORKS_PROXY_CLIENT_TOKEN"),
            (Denial::TokenWrong, 400, "once and exactly"),
        ] {
            let denied = Rejection::Denied(denial);
            let message = denied.message();
            assert_eq!(denied.status(), status, "{message}");
            assert!(message.contains(advice) && !message.contains("x-api-key"), "{message}");
            for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
                assert_eq!(body(&denied, dialect)["error"]["type"], "invalid_request_error");
            }
        }
    }

    #[test]
    fn failures_say_whose_side_they_were_on() {
        let rejected = |class| Rejection::Upstream {
            upstream: "https://x".to_owned(),
            failure: Failure::new(class, "why"),
            tries: 1,
        };
        let dns = rejected(FailureClass::Dns);
        assert_eq!((dns.status(), dns.code()), (502, "dns"));
        assert_eq!(body(&dns, Dialect::OpenAi)["error"]["upstream"], "never_reached");
        assert!(dns.message().ends_with("(why; the request never reached Fireworks)"), "{}", dns.message());
        assert_eq!(field(&dns, "x-should-retry"), None);
        assert_eq!(field(&rejected(FailureClass::ProxyAuth), "x-should-retry").as_deref(), Some("false"));
        let slow = rejected(FailureClass::HeadTimeout);
        assert_eq!(slow.status(), 504);
        let error = &body(&slow, Dialect::Anthropic)["error"];
        assert_eq!(
            (&error["type"], &error["upstream"]),
            (&"timeout_error".into(), &"may_have_reached".into())
        );
        assert!(slow.message().contains("may have reached Fireworks"));
        let large = Rejection::BadRequest(HttpError::BodyTooLarge);
        assert_eq!(
            (large.status(), body(&large, Dialect::Anthropic)["error"]["type"].as_str()),
            (413, Some("request_too_large"))
        );
    }
}
