//! What a request asks of the model, and what it will be charged.
//!
//! Owns the endpoints and the token accounting: four characters of text are one token. Writes no answer.

use serde_json::Value;

use super::limits::Lane;
use super::request::RecordedRequest;
use super::script::Script;
use super::tools::ToolCall;

/// Characters per token, for prompts that do not say their size.
const CHARACTERS_PER_TOKEN: u64 = 4;

/// Headers that name a session, the ones clients send.
const SESSION_HEADERS: [&str; 4] =
    ["x-claude-code-session-id", "x-session-affinity", "x-session-id", "session-id"];

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Completions,
    Messages,
    Responses,
    Embeddings,
    Models,
    /// `count_tokens` and everything else Fireworks does not have.
    Unknown,
}

/// Whose error envelope a path speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    OpenAi,
    Anthropic,
}

impl Endpoint {
    pub(super) fn of(request: &RecordedRequest) -> Self {
        match (request.method.as_str(), request.path()) {
            ("POST", "/inference/v1/chat/completions") => Self::Chat,
            ("POST", "/inference/v1/completions") => Self::Completions,
            ("POST", "/inference/v1/messages") => Self::Messages,
            ("POST", "/inference/v1/responses") => Self::Responses,
            ("POST", "/inference/v1/embeddings") => Self::Embeddings,
            ("GET" | "HEAD", "/inference/v1/models") => Self::Models,
            _ => Self::Unknown,
        }
    }

    /// Whether the model works for it.
    pub(super) fn is_generation(self) -> bool {
        !matches!(self, Self::Models | Self::Unknown)
    }

    pub(super) fn dialect(self) -> Dialect {
        if self == Self::Messages { Dialect::Anthropic } else { Dialect::OpenAi }
    }
}

/// One request as the model sees it.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    pub(super) lane: Lane,
    pub(super) session: String,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) usage: Usage,
    /// True when the output cap and not the model ends the answer.
    pub(super) capped: bool,
    /// What the answer asks the client to do.
    pub(super) call: Option<ToolCall>,
}

/// Tokens of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt: u64,
    pub(super) cached: u64,
    pub(super) generated: u64,
}

impl Usage {
    pub(super) fn uncached(self) -> u64 {
        self.prompt - self.cached
    }

    pub(super) fn total(self) -> u64 {
        self.prompt + self.generated
    }
}

impl Demand {
    /// Reads a request's body; `generated` is what an answer has when nobody says otherwise.
    pub(super) fn read(request: &RecordedRequest, script: &Script, generated: u64) -> Result<Self, String> {
        let body: Value = serde_json::from_slice(&request.body).map_err(|error| error.to_string())?;
        let prompt = script.prompt_tokens.unwrap_or_else(|| characters(&body).div_ceil(CHARACTERS_PER_TOKEN));
        let wanted = script.generated.unwrap_or(generated);
        let caps = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
        let cap = caps.iter().filter_map(|name| body[name].as_u64()).min().unwrap_or(u64::MAX);
        // One key is one account, whichever field it comes in.
        let bearer = request.header("authorization").map(|value| value.trim_start_matches("Bearer "));
        let credential = bearer.or_else(|| request.header("x-api-key"));
        let lane = Lane { credential: owned(credential), model: owned(body["model"].as_str()) };
        Ok(Self {
            session: session(request, &body).unwrap_or_else(|| lane.credential.clone()),
            lane,
            stream: body["stream"] == true,
            include_usage: body["stream_options"]["include_usage"] == true,
            usage: Usage {
                prompt,
                cached: script.cached_tokens.unwrap_or(0).min(prompt),
                generated: wanted.min(cap),
            },
            capped: wanted > cap,
            call: script.tool.as_deref().and_then(|command| ToolCall::wanted(&body, command)),
        })
    }

    /// Takes note that this many leading bytes of the body were in the cache.
    pub(super) fn set_cached_bytes(&mut self, bytes: usize) {
        self.usage.cached = (bytes as u64 / CHARACTERS_PER_TOKEN).min(self.usage.prompt);
    }
}

/// Characters of all string values, object keys not counted.
fn characters(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.chars().count() as u64,
        Value::Array(items) => items.iter().map(characters).sum(),
        Value::Object(fields) => fields.values().map(characters).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn session(request: &RecordedRequest, body: &Value) -> Option<String> {
    let in_header = SESSION_HEADERS.iter().find_map(|name| request.header(name));
    let in_body = [&body["prompt_cache_key"], &body["metadata"]["user_id"], &body["user"]];
    in_header.or_else(|| in_body.into_iter().find_map(Value::as_str)).map(str::to_owned)
}

fn owned(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}
