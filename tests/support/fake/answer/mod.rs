//! The answers, ready to be sent: status, headers and the parts of the body.
//!
//! The shapes are those of section 7 of the notes on Fireworks, in the order of fields written there (which is why
//! they are templates and not `serde_json` values, whose maps sort their keys). Refuses to know sockets and time.

mod anthropic;
mod errors;
mod headers;
mod openai;
mod responses;

use std::borrow::Cow;

use super::demand::{Demand, Dialect, Endpoint, Usage};
use super::limits::{Dimension, Lane, Limits, Used};
use super::script::{Script, UsageReport};
use super::tools::ToolCall;

pub(super) use errors::reason;

/// Seconds since the epoch that every answer claims to be made at.
const CREATED: u64 = 1_780_000_000;

/// The words answers are made of, over and over. Two are longer in bytes than in characters.
const WORDS: [&str; 12] = [
    "amber", "birch", "café", "delta", "ember", "fjord", "grove", "harbor", "iris", "jasper", "krähe",
    "linden",
];

/// What a comment in an event stream begins and ends with. It means nothing to who reads the stream.
const PADDING_START: &[u8] = b": ";
const PADDING_END: &[u8] = b"\n\n";

/// The text of an answer of that many delta events, for tests to compare with.
pub fn answer_text(events: usize) -> String {
    words(events).concat()
}

fn words(events: usize) -> Vec<String> {
    (0..events).map(|at| format!("{} ", WORDS[at % WORDS.len()])).collect()
}

/// An answer before it is framed.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) parts: Vec<Part>,
    /// True for a server-sent event stream.
    pub(super) stream: bool,
    /// Who is charged for it; None when nobody is.
    pub(super) charge: Option<(Lane, Usage)>,
}

/// Bytes that are sent in one write.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) bytes: Vec<u8>,
    /// Generated tokens to charge when it was sent.
    pub(super) generated: u64,
    /// True for the paced events that carry a word.
    pub(super) delta: bool,
    /// Bytes of a comment behind it, which are made when they are sent: there may be a lot of them.
    padding: usize,
}

impl Part {
    /// What is sent of it.
    pub(super) fn padded(&self) -> Cow<'_, [u8]> {
        if self.padding == 0 {
            return Cow::Borrowed(&self.bytes);
        }
        let mut bytes = Vec::with_capacity(self.length());
        bytes.extend_from_slice(&self.bytes);
        bytes.extend_from_slice(PADDING_START);
        bytes.resize(bytes.len() + self.padding, b'.');
        bytes.extend_from_slice(PADDING_END);
        Cow::Owned(bytes)
    }

    /// How many bytes that is.
    fn length(&self) -> usize {
        let around = if self.padding == 0 { 0 } else { PADDING_START.len() + PADDING_END.len() };
        self.bytes.len() + self.padding + around
    }
}

/// What a writer of one dialect needs to know.
struct Reply {
    id: String,
    /// The model's name as a JSON string, with its quotes.
    model: String,
    words: Vec<String>,
    usage: Usage,
    capped: bool,
    report: UsageReport,
    /// A tool that the client is to call, after the words.
    call: Option<ToolCall>,
}

/// What the limits have to say about an answer.
pub(super) struct LimitView {
    pub(super) limits: Option<Limits>,
    pub(super) used: Used,
    pub(super) refused: Option<Dimension>,
}

impl Answer {
    /// The answer to a demand that was let in.
    pub(super) fn success(
        endpoint: Endpoint,
        number: usize,
        demand: &Demand,
        events: usize,
        script: &Script,
        view: &LimitView,
    ) -> Self {
        let reply = Reply::new(endpoint, number, demand, events, script);
        let stream = demand.stream && endpoint != Endpoint::Embeddings;
        let mut parts = match (endpoint, stream) {
            (Endpoint::Messages, true) => anthropic::events(&reply),
            (Endpoint::Messages, false) => vec![reply.whole(anthropic::message(&reply))],
            (Endpoint::Responses, true) => responses::events(&reply),
            (Endpoint::Responses, false) => vec![reply.whole(responses::response(&reply))],
            (Endpoint::Completions, true) => openai::completion_events(&reply),
            (Endpoint::Completions, false) => vec![reply.whole(openai::completion(&reply))],
            (Endpoint::Embeddings, _) => vec![reply.whole(openai::embedding(&reply))],
            (_, true) => openai::chat_events(&reply),
            (_, false) => vec![reply.whole(openai::chat(&reply))],
        };
        charge_the_rest(&mut parts, reply.usage.generated);
        if stream && script.padding > 0 {
            pad(&mut parts, script.padding);
        }
        let mut headers = vec![headers::content_type(endpoint.dialect(), stream)];
        if (!stream && reply.report != UsageReport::None) || reply.report == UsageReport::HeaderOnly {
            headers.extend(headers::usage(reply.usage));
        }
        headers.extend(headers::limits(script, view));
        headers.extend(headers::origin(&reply.id));
        Self { status: 200, headers, parts, stream, charge: Some((demand.lane.clone(), reply.usage)) }
            .encoded(script)
    }

    /// The list of models, which costs nothing.
    pub(super) fn models(script: &Script) -> Self {
        let headers =
            [headers::content_type(Dialect::OpenAi, false)].into_iter().chain(headers::origin("models"));
        let parts = vec![Part { bytes: openai::models().into_bytes(), ..Part::default() }];
        Self { status: 200, headers: headers.collect(), parts, stream: false, charge: None }.encoded(script)
    }

    /// A refusal by the limits.
    pub(super) fn limited(dialect: Dialect, script: &Script, view: &LimitView) -> Self {
        let mut answer = Self::error(dialect, 429, None, &Script::default());
        answer.headers.extend(headers::limits(script, view));
        answer
    }

    /// An error; `message` None takes the usual text of that status.
    pub(super) fn error(dialect: Dialect, status: u16, message: Option<&str>, script: &Script) -> Self {
        let (content_type, body) = errors::body(dialect, status, message, script.error_body);
        let mut headers = Vec::new();
        headers.extend(content_type.map(|value| ("content-type".to_owned(), value.to_owned())));
        headers.extend(script.retry_after.clone().map(|value| ("retry-after".to_owned(), value)));
        let parts = vec![Part { bytes: body.into_bytes(), ..Part::default() }];
        Self { status, headers, parts, stream: false, charge: None }.encoded(script)
    }

    /// Sends a body that is one piece as two, when the script needs a middle.
    pub(super) fn with_a_middle(mut self, script: &Script) -> Self {
        if let ([whole], true) = (&mut self.parts[..], script.needs_a_middle()) {
            let first = whole.bytes.drain(..whole.bytes.len() / 2).collect();
            self.parts.insert(0, Part { bytes: first, ..Part::default() });
        }
        self
    }

    /// Bytes of the whole body.
    pub(super) fn body_length(&self) -> usize {
        self.parts.iter().map(Part::length).sum()
    }

    /// Replaces the bytes by opaque ones of the same length that claim to be gzip, when the script wants that.
    fn encoded(mut self, script: &Script) -> Self {
        if script.gzip {
            self.headers.push(("content-encoding".to_owned(), "gzip".to_owned()));
            let magic = [0x1f, 0x8b, 0x08];
            let noise = (0..u8::MAX).cycle().map(|byte| byte.wrapping_mul(167) ^ 0x5a);
            let mut opaque = magic.into_iter().chain(noise);
            for part in &mut self.parts {
                part.bytes = part.padded().into_owned();
                part.padding = 0;
            }
            for byte in self.parts.iter_mut().flat_map(|part| &mut part.bytes) {
                *byte = opaque.next().unwrap_or_default();
            }
        }
        self
    }
}

impl Reply {
    fn new(endpoint: Endpoint, number: usize, demand: &Demand, events: usize, script: &Script) -> Self {
        let prefix = match endpoint {
            Endpoint::Messages => "msg_",
            Endpoint::Responses => "resp_",
            Endpoint::Completions => "cmpl-",
            Endpoint::Embeddings => "embd-",
            Endpoint::Chat | Endpoint::Models | Endpoint::Unknown => "chatcmpl-",
        };
        let default = if demand.include_usage { UsageReport::Trailing } else { UsageReport::FinishChunk };
        let mut usage = demand.usage;
        if endpoint == Endpoint::Embeddings {
            usage.generated = 0;
        }
        Self {
            id: format!("{prefix}{number:04x}"),
            model: quoted(&demand.lane.model),
            words: words(events),
            usage,
            capped: demand.capped,
            report: script.usage.unwrap_or(default),
            call: demand.call.clone(),
        }
    }

    /// The name of the call, made of the answer's own.
    fn call_id(&self) -> String {
        let number = self.id.rsplit(['_', '-']).next().unwrap_or_default();
        format!("call_{number}")
    }

    fn text(&self) -> String {
        self.words.concat()
    }

    /// False when the body says nothing about the usage.
    fn reports_in_body(&self) -> bool {
        !matches!(self.report, UsageReport::None | UsageReport::HeaderOnly)
    }

    /// A body that is sent in one piece.
    fn whole(&self, body: String) -> Part {
        Part { bytes: body.into_bytes(), generated: self.usage.generated, ..Part::default() }
    }

    /// One event per word, with its share of the generated tokens.
    fn deltas<'a>(&'a self, write: impl Fn(&str) -> String + 'a) -> impl Iterator<Item = Part> + 'a {
        let (total, count) = (self.usage.generated, self.words.len() as u64);
        self.words.iter().zip(0_u64..).map(move |(word, at)| Part {
            bytes: write(word).into_bytes(),
            generated: total * (at + 1) / count - total * at / count,
            delta: true,
            padding: 0,
        })
    }
}

/// Charges with the last part what no word was charged for: all of it when there are no words.
fn charge_the_rest(parts: &mut [Part], generated: u64) {
    let charged: u64 = parts.iter().map(|part| part.generated).sum();
    if let Some(last) = parts.last_mut() {
        last.generated += generated - charged;
    }
}

/// Adds a comment to each delta event.
fn pad(parts: &mut [Part], bytes: usize) {
    parts.iter_mut().filter(|part| part.delta).for_each(|part| part.padding = bytes);
}

/// An event that carries no word.
fn frame(text: impl Into<String>) -> Part {
    Part { bytes: text.into().into_bytes(), ..Part::default() }
}

/// A JSON string with its quotes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
