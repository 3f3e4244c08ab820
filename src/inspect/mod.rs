//! What a request's body tells about what it will cost and who sent it.
//!
//! The body is walked once, as it comes, so that no turn is spent on a large one as a whole. Nothing here fails a request: what cannot be read is forwarded as it is,
//! with its cost guessed from its size.

mod digest;
mod names;
mod prefixes;

use digest::Digest;
pub use names::{NAME_CHARS_MAX, client_name};
use names::{session_in_head, session_in_user_id, short_name};
pub use prefixes::{ContentSize, PREFIXES_MAX, Prefix};
use prefixes::{Event, Part, PrefixBuilder};

pub use crate::json::TextSize;
use crate::{
    http::head::Fields,
    json::{Scalar, Scanner, Visitor},
};

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
    /// All text of the body, keys included, attachments not.
    pub text: TextSize,
    /// Images and files within the body or linked from it.
    pub attachments: u64,
    /// Whether the body was one whole JSON document. If not, the text is a lower bound.
    pub is_json: bool,
    /// The beginnings of the prompt that other requests may share, shortest first; the last is all of
    /// it. At most [`PREFIXES_MAX`]; none for a body that is not JSON or holds no prompt.
    pub prefixes: Vec<Prefix>,
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
        let BodyVisitor { inspection, cache_key, user_id, user, prefixes, .. } = self.visitor;
        let of_body = || cache_key.or(user_id).or(user);
        let agent_session = session_in_head(fields).or_else(of_body);
        let prefixes = if is_json { prefixes.finish() } else { Vec::new() };
        Inspection { agent_session, is_json, prefixes, ..inspection }
    }
}

impl Inspection {
    /// The size of what the model is given; of the whole body, where no prompt is known in it.
    pub fn prompt_size(&self) -> ContentSize {
        let whole = ContentSize { text: self.text, attachments: self.attachments };
        self.prefixes.last().map_or(whole, |prefix| prefix.size)
    }

    /// Walks a body that is whole.
    pub fn of(fields: &Fields, body: &[u8]) -> Self {
        let mut inspector = Inspector::default();
        inspector.feed(body);
        inspector.finish(fields)
    }
}

/// The keys that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    CacheControl,
    Conversation,
    Data,
    FileData,
    FileUrl,
    Id,
    ImageUrl,
    InputAudio,
    Item,
    MaxTokens,
    Metadata,
    Model,
    Opening,
    Other,
    PromptCache,
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
    /// Of the string at hand.
    digest: Digest,
    prefixes: PrefixBuilder,
}

impl Visitor for BodyVisitor {
    type Key = Key;
    const ITEM: Key = Key::Item;

    fn key(&mut self, path: &[Key], name: &str, size: TextSize) -> Key {
        let key = key_of(name);
        let hash = std::mem::take(&mut self.digest).finish();
        self.inspection.text += size;
        if path.is_empty() && key == Key::Opening {
            self.prefixes.begin_opening_member(hash);
        }
        if let Some(part) = part_of(path).filter(|_| !is_of_no_prompt(path, key)) {
            self.prefixes.add(part, Event::Key, hash, path.len());
            self.prefixes.add_size(part, ContentSize { text: size, attachments: 0 });
        }
        key
    }

    fn scalar(&mut self, path: &[Key], value: Scalar<'_>) {
        self.add_to_prompt(path, value);
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
            (_, Scalar::Text { start, size }) => {
                let size = content_size(path, start, size);
                found.text += size.text;
                found.attachments += size.attachments;
            }
            _ => {}
        }
    }

    fn text(&mut self, decoded: &[u8]) {
        self.digest.write(decoded);
    }

    fn end(&mut self, path: &[Key]) {
        if path == [Key::Conversation, Key::Item] {
            self.prefixes.end_element();
        }
    }
}

impl BodyVisitor {
    fn add_to_prompt(&mut self, path: &[Key], value: Scalar<'_>) {
        let of_text = std::mem::take(&mut self.digest);
        let Some(part) = part_of(path) else { return };
        let (event, hash) = match value {
            Scalar::Text { .. } => (Event::Text, of_text.finish()),
            Scalar::Number(text) => (Event::Number, Digest::of(text.as_bytes())),
            Scalar::Bool(value) => (Event::Other, u64::from(value)),
            Scalar::Null => (Event::Other, 2),
        };
        self.prefixes.add(part, event, hash, path.len());
        if let Scalar::Text { start, size } = value {
            self.prefixes.add_size(part, content_size(path, start, size));
        }
        // A conversation of plain texts, or that is one.
        match (path, event) {
            ([Key::Conversation], Event::Text) | ([Key::Conversation, Key::Item], _) => {
                self.prefixes.end_element();
            }
            _ => {}
        }
    }
}

fn key_of(name: &str) -> Key {
    match name {
        "cache_control" => Key::CacheControl,
        "data" => Key::Data,
        "file_data" => Key::FileData,
        "file_url" => Key::FileUrl,
        "functions" | "instructions" | "system" | "tools" => Key::Opening,
        // Not given to the model, but no cache is shared between two values of these.
        "previous_response_id" | "prompt_cache_isolation_key" => Key::Opening,
        "id" => Key::Id,
        "image_url" => Key::ImageUrl,
        "input" | "messages" | "prompt" => Key::Conversation,
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

/// The part of the prompt that a value is in. Everything at the top of the document that is not named
/// here says how to answer and not what to; clients change it from call to call.
fn part_of(path: &[Key]) -> Option<Part> {
    let (last, above) = path.split_last()?;
    match path.first() {
        _ if is_of_no_prompt(above, *last) => None,
        Some(Key::Opening) => Some(Part::Opening),
        Some(Key::Conversation) => Some(Part::Conversation),
        _ => None,
    }
}

/// What stands within messages and is not given to the model: the marks that Anthropic's clients move
/// on to the latest message with each call, and a message's own id. A tool call's id is given to some models.
fn is_of_no_prompt(path: &[Key], key: Key) -> bool {
    key == Key::CacheControl
        || path.contains(&Key::CacheControl)
        || (key == Key::Id && path == [Key::Conversation, Key::Item])
}

fn content_size(path: &[Key], start: &str, size: TextSize) -> ContentSize {
    if is_attachment(path, start) {
        ContentSize { attachments: 1, ..ContentSize::default() }
    } else {
        ContentSize { text: size, attachments: 0 }
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_not_json_is_noticed_and_harmless() {
        for body in ["", "not json", "{\"model\":\"m\",", "\u{0}\u{1}", "[[[["] {
            assert!(!inspect(body).is_json, "{body}");
        }
        assert_eq!(inspect("{\"model\":\"m\",").model.as_deref(), Some("m"));
        let long = inspect(&format!(r#"{{"model":"{}"}}"#, "é".repeat(400)));
        assert_eq!(long.model.expect("kept").chars().count(), NAME_CHARS_MAX);
    }
}
