//! What a request's body tells about what it will cost and who sent it.
//!
//! The body is walked once, as it comes, so that no turn is spent on a large one as a whole. Nothing here fails a request: what cannot be read is forwarded as it is,
//! with its cost guessed from its size.

use crate::{
    http::head::Fields,
    json::{Scalar, Scanner, TextSize, Visitor},
};

/// The longest model name and session id that are kept. Fireworks allows `metadata.user_id` so many
/// characters; real names are under 100.
pub const NAME_CHARS_MAX: usize = 256;

/// From so many characters without a space on, a text in an attachment's place is taken for base64.
const BASE64_CHARS_MIN: usize = 64;

/// What a body was found to hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspection {
    /// `model`
    pub model: Option<String>,
    /// `stream`
    pub stream: bool,
    /// The largest number of tokens that may be generated, by whichever name the dialect gives it.
    pub output_cap: Option<u64>,
    /// Who sent it: a session of an agent, stable over its requests.
    pub agent_session: Option<String>,
    /// All text that the model is given, keys included, attachments not.
    pub text: TextSize,
    /// Images and files within the body or linked from it.
    pub attachments: u64,
    /// Whether the body was one whole JSON document. If not, the text is a lower bound.
    pub is_json: bool,
}

/// Walks a body as it comes.
#[derive(Debug, Default)]
pub struct Inspector {
    scanner: Scanner<Key>,
    visitor: BodyVisitor,
}

impl Inspector {
    /// Takes in the next bytes of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.scanner.feed(bytes, &mut self.visitor);
    }

    /// The body is whole: what it was found to hold. The head may name the session too.
    pub fn finish(mut self, fields: &Fields) -> Inspection {
        let is_json = self.scanner.finish(&mut self.visitor);
        let BodyVisitor { inspection, cache_key, user_id, user } = self.visitor;
        let of_body = || cache_key.or(user_id).or(user);
        Inspection { is_json, agent_session: session_in_head(fields).or_else(of_body), ..inspection }
    }
}

impl Inspection {
    /// Walks a body that is whole.
    pub fn of(fields: &Fields, body: &[u8]) -> Self {
        let mut inspector = Inspector::default();
        inspector.feed(body);
        inspector.finish(fields)
    }
}

/// The fields in which agents name their session, the most specific first.
const SESSION_FIELDS: [&str; 5] = [
    "x-claude-code-session-id",
    "x-session-affinity",
    "x-session-id",
    "x-multi-turn-session-id",
    "session-id",
];

fn session_in_head(fields: &Fields) -> Option<String> {
    SESSION_FIELDS.iter().find_map(|name| fields.text(name)).and_then(short_name)
}

/// A name as it is kept: not empty, and not longer than anyone would choose.
fn short_name(name: &str) -> Option<String> {
    Some(name.chars().take(NAME_CHARS_MAX).collect()).filter(|name: &String| !name.is_empty())
}

/// The keys that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    PromptCache,
    Data,
    FileData,
    FileUrl,
    ImageUrl,
    InputAudio,
    Item,
    MaxTokens,
    Metadata,
    Model,
    Other,
    Source,
    Stream,
    Url,
    User,
    UserId,
}

#[derive(Debug, Default)]
struct BodyVisitor {
    inspection: Inspection,
    cache_key: Option<String>,
    user_id: Option<String>,
    user: Option<String>,
}

impl Visitor for BodyVisitor {
    type Key = Key;
    const ITEM: Key = Key::Item;

    fn key(&mut self, name: &str, size: TextSize) -> Key {
        self.inspection.text += size;
        match name {
            "data" => Key::Data,
            "file_data" => Key::FileData,
            "file_url" => Key::FileUrl,
            "image_url" => Key::ImageUrl,
            "input_audio" => Key::InputAudio,
            "max_tokens" | "max_completion_tokens" | "max_output_tokens" => Key::MaxTokens,
            "metadata" => Key::Metadata,
            "model" => Key::Model,
            "prompt_cache_key" => Key::PromptCache,
            "source" => Key::Source,
            "stream" => Key::Stream,
            "url" => Key::Url,
            "user" => Key::User,
            "user_id" => Key::UserId,
            _ => Key::Other,
        }
    }

    fn scalar(&mut self, path: &[Key], value: Scalar<'_>) {
        let found = &mut self.inspection;
        match (path, value) {
            ([Key::Model], Scalar::Text { start, .. }) => found.model = short_name(start),
            ([Key::Stream], Scalar::Bool(stream)) => found.stream = stream,
            ([Key::MaxTokens], _) => found.output_cap = value.as_count().or(found.output_cap),
            ([Key::PromptCache], Scalar::Text { start, .. }) => self.cache_key = short_name(start),
            ([Key::User], Scalar::Text { start, .. }) => self.user = short_name(start),
            ([Key::Metadata, Key::UserId], Scalar::Text { start, .. }) => {
                self.user_id = session_in_user_id(start);
            }
            (_, Scalar::Text { start, .. }) if is_attachment(path, start) => found.attachments += 1,
            (_, Scalar::Text { size, .. }) => found.text += size,
            _ => {}
        }
    }
}

/// Whether a text is an image or a file: in one of the places that both dialects have for them, and
/// a link, a data URL or base64. A document may come as plain text in the same place, and that is text.
fn is_attachment(path: &[Key], start: &str) -> bool {
    let is_place = matches!(
        path,
        [.., Key::Source | Key::InputAudio, Key::Data]
            | [.., Key::Source | Key::ImageUrl, Key::Url]
            | [.., Key::ImageUrl | Key::FileData | Key::FileUrl]
    );
    let is_link = ["data:", "http://", "https://"].iter().any(|scheme| start.starts_with(scheme));
    is_place && (is_link || is_base64(start))
}

/// RFC 4648, sections 4 and 5. Short texts can look alike, and then cost as little either way.
fn is_base64(start: &str) -> bool {
    let is_digit =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=');
    start.len() >= BASE64_CHARS_MIN && start.bytes().all(is_digit)
}

/// `metadata.user_id` is the session's id with Kimi, and a JSON text that holds it with Claude Code.
fn session_in_user_id(user_id: &str) -> Option<String> {
    let parsed: Option<serde_json::Value> = serde_json::from_str(user_id).ok();
    let within = parsed.as_ref().and_then(|value| value.get("session_id")).and_then(|id| id.as_str());
    short_name(within.unwrap_or(user_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::parse_request;

    fn inspect(body: &str) -> Inspection {
        Inspection::of(&Fields::default(), body.as_bytes())
    }

    #[test]
    fn fields_are_found_behind_megabytes_of_messages() {
        let text = "x".repeat(2_000_000);
        let body = format!(
            r#"{{"messages":[{{"role":"user","content":"{text}"}}],"metadata":{{"user_id":"s-1"}},"max_tokens":50000,"stream":true,"model":"accounts/fireworks/models/kimi-k2p6"}}"#
        );
        let found = inspect(&body);
        assert_eq!(found.model.as_deref(), Some("accounts/fireworks/models/kimi-k2p6"));
        assert_eq!(
            (found.stream, found.output_cap, found.agent_session.as_deref()),
            (true, Some(50_000), Some("s-1"))
        );
        assert!(found.is_json && (2_000_000..2_000_100).contains(&found.text.chars()));
    }

    #[test]
    fn names_inside_messages_are_content() {
        let found = inspect(
            r#"{"messages":[{"model":"no","stream":true,"max_tokens":1,"user":"no"}],"tools":[{"model":"no"}]}"#,
        );
        assert_eq!(
            (found.model, found.stream, found.output_cap, found.agent_session),
            (None, false, None, None)
        );
    }

    #[test]
    fn the_output_cap_has_many_names() {
        for name in ["max_tokens", "max_completion_tokens", "max_output_tokens"] {
            assert_eq!(inspect(&format!(r#"{{"{name}":249320}}"#)).output_cap, Some(249_320));
        }
        assert_eq!(inspect(r#"{"max_tokens":null,"reasoning_effort":null}"#).output_cap, None);
    }

    #[test]
    fn attachments_are_counted_not_measured() {
        let data = "A".repeat(10_000);
        for body in [
            format!(
                r#"{{"messages":[{{"content":[{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{data}"}}}}]}}]}}"#
            ),
            format!(
                r#"{{"messages":[{{"content":[{{"image_url":{{"url":"data:image/png;base64,{data}","detail":"low"}}}}]}}]}}"#
            ),
            format!(
                r#"{{"input":[{{"content":[{{"type":"input_image","image_url":"data:image/png;base64,{data}"}}]}}]}}"#
            ),
            format!(
                r#"{{"messages":[{{"content":[{{"type":"file","file":{{"file_data":"{data}","filename":"a.pdf"}}}}]}}]}}"#
            ),
            format!(
                r#"{{"messages":[{{"content":[{{"type":"input_audio","input_audio":{{"data":"{data}","format":"wav"}}}}]}}]}}"#
            ),
        ] {
            let found = inspect(&body);
            assert_eq!(found.attachments, 1, "{}", &body[..90]);
            assert!(found.text.chars() < 150, "{} characters", found.text.chars());
        }
    }

    #[test]
    fn a_document_of_plain_text_is_text() {
        let text = "word ".repeat(1_000);
        let body = format!(
            r#"{{"messages":[{{"content":[{{"type":"document","source":{{"type":"text","media_type":"text/plain","data":"{text}"}}}}]}}]}}"#
        );
        let found = inspect(&body);
        assert_eq!(found.attachments, 0);
        assert!(found.text.chars() > 5_000);
    }

    #[test]
    fn sessions_are_named_in_the_head_or_the_body() {
        let head = |field: &str| {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
            parse_request(head.as_bytes()).expect("accepted").fields
        };
        let body = br#"{"prompt_cache_key":"pck","metadata":{"user_id":"uid"},"user":"u"}"#;
        let session = |fields: &Fields, body: &[u8]| Inspection::of(fields, body).agent_session;
        assert_eq!(session(&head("X-Claude-Code-Session-Id: cc"), body).as_deref(), Some("cc"));
        assert_eq!(session(&head("x-session-affinity: ses_1"), body).as_deref(), Some("ses_1"));
        assert_eq!(session(&head("session-id: codex"), b"").as_deref(), Some("codex"));
        assert_eq!(session(&Fields::default(), body).as_deref(), Some("pck"));
        assert_eq!(
            inspect(r#"{"metadata":{"user_id":"uid"},"user":"u"}"#).agent_session.as_deref(),
            Some("uid")
        );
        let claude = r#"{"metadata":{"user_id":"{\"device_id\":\"d\",\"session_id\":\"s\"}"}}"#;
        assert_eq!(inspect(claude).agent_session.as_deref(), Some("s"));
    }

    #[test]
    fn what_is_not_json_is_noticed_and_harmless() {
        for body in ["", "not json", "{\"model\":\"m\",", "\u{0}\u{1}", "[[[["] {
            assert!(!inspect(body).is_json, "{body}");
        }
        assert_eq!(inspect("{\"model\":\"m\",").model.as_deref(), Some("m"));
        let long = inspect(&format!(r#"{{"model":"{}"}}"#, "é".repeat(400)));
        assert_eq!(long.model.expect("kept").chars().count(), NAME_CHARS_MAX);
    }
}
