//! What the log is told of requests. Entries hold names, counts and times; never a credential, a query or a body.

use std::time::Duration;

use crate::{
    budget::Tokens,
    context::RequestId,
    failure::{CLIENT_GONE, Failure, FailureClass, Reach, STOPPED},
    journal::{Entry, Event, shown, shown_or_dash},
};

/// One request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct AccessRecord<'a> {
    /// Its id.
    pub id: RequestId,
    /// The method, if its head could be read.
    pub method: Option<&'a str>,
    /// The path, without the query, if its head could be read.
    pub path: Option<&'a str>,
    /// The program that sent it, as it names itself.
    pub client: Option<&'a str>,
    /// The model.
    pub model: Option<&'a str>,
    /// The keyed hash of its key, if it costs tokens. The log does not show it.
    pub credential: Option<u64>,
    /// The session of the agent.
    pub agent_session: Option<&'a str>,
    /// Whether it asked for its answer as a stream.
    pub is_stream: bool,
    /// The time in the queue and in pauses between tries.
    pub waited: Duration,
    /// The time from the head's arrival to when the first byte of the answer was passed on, if one was.
    pub first_byte: Option<Duration>,
    /// The time from the head's arrival to the end.
    pub took: Duration,
    /// The status that the client got, if it got one.
    pub status: Option<u16>,
    /// What was settled.
    pub tokens: Option<Tokens>,
    /// How often it was tried again.
    pub retries: u32,
    /// How it ended.
    pub end: End,
    /// How far it had come, in whichever try it came furthest.
    pub reach: Reach,
    /// What its client was told, where the proxy refused it.
    pub message: Option<&'a str>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The upstream's answer was passed on whole, whatever its status.
    Finished,
    /// The proxy refused it, with this code.
    Refused(&'static str),
    /// Its client left before that.
    ClientGone,
    /// The proxy was stopped before that.
    Stopped,
    /// The way to or from the upstream failed, in the last of its tries.
    Failed(FailureClass),
}

impl End {
    /// The counter of `/usage` that it belongs to.
    pub const fn counter(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Refused(_) => "refused",
            Self::ClientGone => "client_gone",
            Self::Stopped | Self::Failed(_) => "failed",
        }
    }

    /// Its class, as the log, pages and error bodies name it, if it was no good end.
    pub const fn class(self) -> Option<&'static str> {
        match self {
            Self::Finished => None,
            Self::Refused(code) => Some(code),
            Self::ClientGone => Some(CLIENT_GONE),
            Self::Stopped => Some(STOPPED),
            Self::Failed(class) => Some(class.name()),
        }
    }
}

/// One request that is tried again.
#[derive(Debug, Clone, Copy)]
pub struct RetryRecord<'a> {
    /// Its id.
    pub id: RequestId,
    /// The method.
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The model.
    pub model: Option<&'a str>,
    /// The session of the agent.
    pub agent_session: Option<&'a str>,
    /// Which retry it will be.
    pub retry: u32,
    /// How often a request is tried again at most.
    pub retries_max: u32,
    /// The status or the class of the failure that it met.
    pub after: &'a str,
    /// When it is tried again, from now.
    pub pause: Duration,
    /// For how long its client has waited.
    pub took: Duration,
}

/// The entry for one request that is tried again.
pub fn retry_line(record: &RetryRecord<'_>) -> Entry {
    let (method, path) = (shown(record.method), shown(record.path));
    let retry = format!(
        "retry | {method} {path} after={} retry={}/{}",
        record.after, record.retry, record.retries_max
    );
    Entry::new(Event::Retry, retry)
        .with("method", method)
        .with("path", path)
        .with("after", record.after)
        .with("retry", record.retry)
        .with("retries_max", record.retries_max)
        .span("in", "pause_seconds", Some(record.pause))
        .word("id", "id", Some(&record.id.to_string()))
        .name("model", "model", record.model)
        .name("session", "session", record.agent_session)
        .span("took", "took_seconds", Some(record.took))
}

/// The entry for one request that has ended.
pub fn access_line(record: &AccessRecord<'_>) -> Entry {
    let (method, path) = (record.method.map(shown), record.path.map(shown));
    let status = record.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let class = record.end.class();
    let tokens = record.tokens;
    let cached = tokens.map(|tokens| tokens.prompt.saturating_sub(tokens.uncached_prompt));
    let entry = Entry::new(
        Event::Request,
        format!("request | {} {} status={status}", shown_or_dash(record.method), shown_or_dash(record.path)),
    );
    let entry = entry
        .with("method", method)
        .with("path", path)
        .with("status", record.status)
        .with("end", record.end.counter())
        .word("outcome", "outcome", class)
        .word("upstream", "upstream", class.map(|_| record.reach.name()))
        .word("id", "id", Some(&record.id.to_string()))
        .name("client", "client", record.client)
        .name("model", "model", record.model)
        .name("session", "session", record.agent_session)
        .with("stream", record.is_stream)
        .span("waited", "waited_seconds", Some(record.waited));
    let entry = match record.retries {
        0 => entry.with("retries", 0),
        retries => entry.count("retries", "retries", Some(retries.into())),
    };
    entry
        .count("prompt", "prompt_tokens", tokens.map(|tokens| tokens.prompt))
        .count("cached", "cached_tokens", cached)
        .count("generated", "generated_tokens", tokens.map(|tokens| tokens.generated))
        .span("first_byte", "first_byte_seconds", record.first_byte)
        .span("took", "took_seconds", Some(record.took))
        .quote("message", "message", record.message)
}

/// The entry for what failed on the way to or from the upstream, in one try of a request.
pub fn failure_line(id: RequestId, failure: &Failure, upstream: &str) -> Entry {
    Entry::saying(Event::Failure, format!("{upstream}: {failure}"))
        .with("id", id.to_string())
        .with("class", failure.class.name())
        .with("upstream", failure.class.reach().name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, context::Context, time::Now};

    fn record() -> AccessRecord<'static> {
        let mut ctx = Context::new(Config::defaults(), 1, Now::default());
        AccessRecord {
            id: ctx.next_request_id(),
            method: Some("POST"),
            path: Some("/v1/messages"),
            client: Some("claude-cli/2.1.197"),
            model: Some("kimi\n2026-01-01 00:00:00,000 INFO forged"),
            credential: None,
            agent_session: None,
            is_stream: true,
            waited: Duration::from_millis(1_500),
            first_byte: Some(Duration::from_millis(2_250)),
            took: Duration::from_secs(3),
            status: Some(200),
            tokens: Some(Tokens { prompt: 1_200, uncached_prompt: 176, generated: 42 }),
            retries: 0,
            end: End::Finished,
            reach: Reach::Acknowledged,
            message: None,
        }
    }

    #[test]
    fn a_line_tells_the_whole_story_and_names_cannot_forge_one() {
        let record = record();
        assert_eq!(
            access_line(&record).text(),
            format!(
                "request | POST /v1/messages status=200 id={} client=claude-cli/2.1.197 \
                 model=kimi?2026-01-01?00:00:00,000?INFO?forged session=- waited=1.500s prompt=1200 cached=1024 \
                 generated=42 first_byte=2.250s took=3.000s",
                record.id
            )
        );
        let (end, reach) = (End::ClientGone, Reach::MayHaveReached);
        let gone =
            AccessRecord { status: None, tokens: None, first_byte: None, retries: 2, end, reach, ..record };
        let line = access_line(&gone).to_string();
        let begin = "request | POST /v1/messages status=- outcome=client_gone upstream=may_have_reached id=";
        assert!(line.starts_with(begin) && line.ends_with(" waited=1.500s retries=2 took=3.000s"), "{line}");
    }

    #[test]
    fn a_request_that_could_not_be_read_has_its_line_too() {
        let message = Some("the head is \"odd\"\nrequest | GET / status=200");
        let unknown = AccessRecord {
            method: None,
            path: None,
            client: None,
            model: None,
            credential: None,
            first_byte: None,
            tokens: None,
            status: Some(400),
            end: End::Refused("bad_request"),
            reach: Reach::NeverReached,
            message,
            ..record()
        };
        let line = access_line(&unknown).to_string();
        let begin = "request | - - status=400 outcome=bad_request upstream=never_reached id=";
        let end = r#" took=3.000s message="the head is \"odd\"\nrequest | GET / status=200""#;
        assert!(line.starts_with(begin) && line.ends_with(end), "{line}");
    }
}
