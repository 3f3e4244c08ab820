//! What a request's `x-fake-*` headers ask of the fake.
//!
//! The proxy passes unknown headers through, so a test steers one request by its own headers and real clients are
//! steered by [`FakeOptions::default_script`](super::FakeOptions). A header or a value the fake does not know is an
//! error that the test sees (status 400 and `script_errors`), never a silent default.
//!
//! | header | values | meaning |
//! |---|---|---|
//! | `x-fake-status` | a status ≥ 400 | answers with the error body of that status in the path's dialect |
//! | `x-fake-statuses` | such as `429,503` | the first time this request is seen the first, and so on; then a good answer |
//! | `x-fake-body` | `html`, `empty`, `string-error` | another body for that error |
//! | `x-fake-retry-after` | any text | a `retry-after` header on that error |
//! | `x-fake-times` | a number | status, cut and garbage apply only the first N times this request is seen |
//! | `x-fake-id` | any text | what "this request" means for `x-fake-times` and `-statuses`; otherwise target and body |
//! | `x-fake-framing` | `chunked`, `length`, `close` | default: chunked for streams, length for the rest |
//! | `x-fake-events` | a number | delta events (words) of the answer |
//! | `x-fake-padding` | a number | a comment of so many bytes after each delta event of a stream |
//! | `x-fake-interval-ms` | a number | time between two delta events |
//! | `x-fake-head-delay-ms` | a number | time before the head |
//! | `x-fake-tail-ms` | a number | time between the last event and the end of the framing |
//! | `x-fake-gate` | `head`, `first-event`, `middle` | waits there for `release()`, or for the peer to leave |
//! | `x-fake-cut` | `before-head`, `after-head`, `mid-stream`, `in-chunk`, `no-close-notify` | ends the connection there |
//! | `x-fake-cut-by` | `shutdown`, `reset`, `close` | how a cut ends it: see [`CutBy`]; default: `shutdown` |
//! | `x-fake-stall-ms` | a number | silence in the middle of the answer, after which it goes on |
//! | `x-fake-interim` | `100`, `103` | sends an interim response first |
//! | `x-fake-garbage-head` | `1` | answers bytes that are not HTTP |
//! | `x-fake-encoding` | `gzip` | says `content-encoding: gzip` and sends opaque bytes |
//! | `x-fake-usage` | see [`UsageReport`] | where and how the usage is reported |
//! | `x-fake-limits` | `none`, `prompt-only`, `per-second`, `P/U/G` | which limit headers are sent |
//! | `x-fake-uncached-spelling` | `uncached` | the other name of the uncached limit header |
//! | `x-fake-split` | `byte` | the first 2 KB of the answer go out byte by byte |
//! | `x-fake-tool` | a shell command | the answer calls the request's own tool for commands with it, until the conversation has a tool's result |
//! | `x-fake-prompt-tokens`, `-cached-tokens`, `-generated` | a number | the usage, instead of counting |

use std::str::FromStr;
use std::time::Duration;

/// Everything a script can say; the default says nothing.
#[allow(clippy::struct_excessive_bools)] // Each is a header of its own; together they are no state.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    pub(super) status: Option<u16>,
    pub(super) statuses: Vec<u16>,
    pub(super) error_body: ErrorBody,
    pub(super) retry_after: Option<String>,
    pub(super) times: Option<u64>,
    pub(super) id: Option<String>,
    pub(super) framing: Option<Framing>,
    pub(super) events: Option<usize>,
    pub(super) padding: usize,
    pub(super) interval: Option<Duration>,
    pub(super) head_delay: Duration,
    pub(super) tail: Duration,
    pub(super) gate: Option<Gate>,
    pub(super) cut: Option<Cut>,
    pub(super) cut_by: CutBy,
    pub(super) stall: Duration,
    pub(super) interim: Option<u16>,
    pub(super) garbage_head: bool,
    pub(super) gzip: bool,
    pub(super) usage: Option<UsageReport>,
    pub(super) limits: LimitHeaders,
    pub(super) uncached_spelling: bool,
    pub(super) split: bool,
    pub(super) prompt_tokens: Option<u64>,
    pub(super) cached_tokens: Option<u64>,
    pub(super) generated: Option<u64>,
    pub(super) tool: Option<String>,
}

/// Which body an error has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ErrorBody {
    /// The JSON of the path's dialect.
    #[default]
    Json,
    /// A page as the edge in front of Fireworks sends it.
    Html,
    /// Nothing.
    Empty,
    /// The older JSON whose `error` is a string.
    StringError,
}

/// How the answer's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Chunked,
    Length,
    Close,
}

/// Where an answer waits to be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Head,
    FirstEvent,
    Middle,
}

/// Where an answer ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    BeforeHead,
    AfterHead,
    MidStream,
    InChunk,
    /// All bytes are sent, but TLS is not told that the end is one.
    NoCloseNotify,
}

/// How a cut ends the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CutBy {
    /// TCP is ended in both directions, and TLS is not told.
    #[default]
    Shutdown,
    /// TCP is reset, where the system lets a program ask for that.
    Reset,
    /// TLS and TCP are ended in good order, as at the end of an answer.
    Close,
}

/// Where and how an answer reports its usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsageReport {
    /// Chat stream: on the chunk with the finish reason.
    FinishChunk,
    /// Chat stream: on a chunk of its own with no choices.
    Trailing,
    /// Nowhere.
    None,
    /// Only as `fireworks-*-tokens` headers.
    HeaderOnly,
    /// Messages stream: input in `message_start`, output in `message_delta`.
    GenuineAnthropic,
    /// Responses: only `prompt_tokens` and `completion_tokens`. By default both spellings are sent.
    FireworksSpelling,
    /// Responses: only `input_tokens` and `output_tokens`.
    OpenAiSpelling,
}

/// Which limit headers an answer carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LimitHeaders {
    /// All three pairs when the fake has limits.
    #[default]
    AsConfigured,
    None,
    PromptOnly,
    /// The configured (or starting) limits divided by sixty.
    PerSecond,
    Literal(u64, u64, u64),
}

impl Script {
    /// Reads the script out of a request's headers, over the defaults the fake was started with.
    pub(super) fn parse(defaults: &[(String, String)], headers: &[(String, String)]) -> Result<Self, String> {
        let mut script = Self::default();
        for (name, value) in defaults.iter().chain(headers) {
            let name = name.to_ascii_lowercase();
            if let Some(key) = name.strip_prefix("x-fake-") {
                script.set(key, value).ok_or_else(|| format!("cannot understand {name}: {value}"))?;
            }
        }
        Ok(script)
    }

    /// True when it matters how often this request was seen before.
    pub(super) fn counts_uses(&self) -> bool {
        self.times.is_some() || !self.statuses.is_empty()
    }

    /// Decides what depends on how often this request was seen before.
    pub(super) fn set_uses(&mut self, before: u64) {
        if !self.statuses.is_empty() {
            let turn = usize::try_from(before).unwrap_or(usize::MAX);
            self.status = self.statuses.get(turn).copied();
        }
        if self.times.is_some_and(|times| before >= times) {
            self.forget_faults();
        }
    }

    /// Takes the faults out: the request is answered as if they had not been asked for.
    fn forget_faults(&mut self) {
        self.status = None;
        self.cut = None;
        self.garbage_head = false;
    }

    /// True when the answer is not to be what was asked for.
    pub(super) fn has_faults(&self) -> bool {
        self.status.is_some() || self.cut.is_some() || self.garbage_head
    }

    /// True when a body sent as one piece must be sent as two.
    pub(super) fn needs_a_middle(&self) -> bool {
        let is_cut_there = matches!(self.cut, Some(Cut::MidStream | Cut::InChunk));
        self.gate == Some(Gate::Middle) || is_cut_there || !self.stall.is_zero()
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "status" => self.status = Some(error_status(value)?),
            "statuses" => self.statuses = value.split(',').map(error_status).collect::<Option<_>>()?,
            "body" => self.error_body = error_body(value)?,
            "retry-after" => self.retry_after = Some(value.to_owned()),
            "times" => self.times = Some(number(value)?),
            "id" => self.id = Some(value.to_owned()),
            "framing" => self.framing = Some(framing(value)?),
            "events" => self.events = Some(number(value)?),
            "padding" => self.padding = number(value)?,
            "interval-ms" => self.interval = Some(milliseconds(value)?),
            "head-delay-ms" => self.head_delay = milliseconds(value)?,
            "tail-ms" => self.tail = milliseconds(value)?,
            "gate" => self.gate = Some(gate(value)?),
            "cut" => self.cut = Some(cut(value)?),
            "cut-by" => self.cut_by = cut_by(value)?,
            "stall-ms" => self.stall = milliseconds(value)?,
            "interim" => self.interim = Some(number(value).filter(|status| [100, 103].contains(status))?),
            "garbage-head" => self.garbage_head = flag(value, "1")?,
            "encoding" => self.gzip = flag(value, "gzip")?,
            "usage" => self.usage = Some(usage_report(value)?),
            "limits" => self.limits = limit_headers(value)?,
            "uncached-spelling" => self.uncached_spelling = flag(value, "uncached")?,
            "split" => self.split = flag(value, "byte")?,
            "prompt-tokens" => self.prompt_tokens = Some(number(value)?),
            "cached-tokens" => self.cached_tokens = Some(number(value)?),
            "generated" => self.generated = Some(number(value)?),
            "tool" => self.tool = Some(value.to_owned()),
            _ => return None,
        }
        Some(())
    }
}

/// Three numbers as `P/U/G`.
pub fn parse_triple(value: &str) -> Option<(u64, u64, u64)> {
    let numbers: Vec<u64> = value.split('/').map(number).collect::<Option<_>>()?;
    let [prompt, uncached, generated] = numbers[..] else { return None };
    Some((prompt, uncached, generated))
}

fn number<T: FromStr>(value: &str) -> Option<T> {
    value.trim().parse().ok()
}

fn error_status(value: &str) -> Option<u16> {
    number(value).filter(|status| (400..600).contains(status))
}

fn milliseconds(value: &str) -> Option<Duration> {
    number(value).map(Duration::from_millis)
}

fn flag(value: &str, on: &str) -> Option<bool> {
    (value == on).then_some(true)
}

fn error_body(value: &str) -> Option<ErrorBody> {
    match value {
        "json" => Some(ErrorBody::Json),
        "html" => Some(ErrorBody::Html),
        "empty" => Some(ErrorBody::Empty),
        "string-error" => Some(ErrorBody::StringError),
        _ => None,
    }
}

fn framing(value: &str) -> Option<Framing> {
    match value {
        "chunked" => Some(Framing::Chunked),
        "length" => Some(Framing::Length),
        "close" => Some(Framing::Close),
        _ => None,
    }
}

fn gate(value: &str) -> Option<Gate> {
    match value {
        "head" => Some(Gate::Head),
        "first-event" => Some(Gate::FirstEvent),
        "middle" => Some(Gate::Middle),
        _ => None,
    }
}

fn cut(value: &str) -> Option<Cut> {
    match value {
        "before-head" => Some(Cut::BeforeHead),
        "after-head" => Some(Cut::AfterHead),
        "mid-stream" => Some(Cut::MidStream),
        "in-chunk" => Some(Cut::InChunk),
        "no-close-notify" => Some(Cut::NoCloseNotify),
        _ => None,
    }
}

fn cut_by(value: &str) -> Option<CutBy> {
    match value {
        "shutdown" => Some(CutBy::Shutdown),
        "reset" => Some(CutBy::Reset),
        "close" => Some(CutBy::Close),
        _ => None,
    }
}

fn usage_report(value: &str) -> Option<UsageReport> {
    match value {
        "finish-chunk" => Some(UsageReport::FinishChunk),
        "trailing" => Some(UsageReport::Trailing),
        "none" => Some(UsageReport::None),
        "header-only" => Some(UsageReport::HeaderOnly),
        "genuine-anthropic" => Some(UsageReport::GenuineAnthropic),
        "fireworks-spelling" => Some(UsageReport::FireworksSpelling),
        "openai-spelling" => Some(UsageReport::OpenAiSpelling),
        _ => None,
    }
}

fn limit_headers(value: &str) -> Option<LimitHeaders> {
    match value {
        "none" => Some(LimitHeaders::None),
        "prompt-only" => Some(LimitHeaders::PromptOnly),
        "per-second" => Some(LimitHeaders::PerSecond),
        triple => parse_triple(triple).map(|(p, u, g)| LimitHeaders::Literal(p, u, g)),
    }
}
