//! What a request's body tells, against the list of the document's scalars.

use fireworks_proxy::{
    http::head::{Fields, parse_request},
    inspect::{ContentSize, Inspection, Inspector, NAME_CHARS_MAX, PREFIXES_MAX},
    json::{CAPTURE_BYTES_MAX, TextSize},
};

use super::{
    Outcome,
    json_events::{self, Document, Event, Value, size_of, start_of},
    split::splits,
    usage_json::count_of,
};

/// A text that looks like base64 is no attachment below this length.
const BASE64_CHARS_MIN: usize = 64;

/// `data` is the body of a request.
pub fn body_inspection(data: &[u8]) -> Outcome {
    let found = Inspection::of(&Fields::default(), data);
    check_session_of_head(data, &found);
    for pieces in splits(data) {
        let mut inspector = Inspector::default();
        for piece in &pieces {
            inspector.feed(piece);
        }
        assert_eq!(inspector.finish(&Fields::default()), found, "in {} pieces", pieces.len());
    }
    // Half of a body tells no more than all of it.
    let half = Inspection::of(&Fields::default(), &data[..data.len() / 2]);
    assert!(half.text.chars() <= found.text.chars() && half.attachments <= found.attachments);
    let has_long_number =
        data.split(|byte| !byte.is_ascii_digit()).any(|run| run.len() > CAPTURE_BYTES_MAX / 4);
    match json_events::read(data) {
        Ok(document) if !has_long_number => {
            check_prefixes(&found);
            assert_eq!(Inspection { prefixes: Vec::new(), ..found }, expected(&document));
            Outcome::Accepted
        }
        _ => Outcome::Refused,
    }
}

/// There are not too many, each holds all of the one before, and all together are no more than the body.
fn check_prefixes(found: &Inspection) {
    let whole = ContentSize { text: found.text, attachments: found.attachments };
    let sizes = || found.prefixes.iter().map(|prefix| prefix.size);
    assert!(found.prefixes.len() <= PREFIXES_MAX, "{} prefixes", found.prefixes.len());
    for (part, larger) in sizes().zip(sizes().skip(1).chain([whole])) {
        assert_eq!(part.without(larger), ContentSize::default(), "{part:?} is not within {larger:?}");
    }
}

/// A head that names the session decides, and changes nothing else.
fn check_session_of_head(data: &[u8], found: &Inspection) {
    let head = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nX-Session-Id: of-the-head\r\n\r\n";
    let head = parse_request(head).expect("an ordinary head");
    let agent_session = Some("of-the-head".to_owned());
    assert_eq!(Inspection::of(&head.fields, data), Inspection { agent_session, ..found.clone() });
}

#[derive(Default)]
struct Names {
    cache_key: Option<String>,
    user_id: Option<String>,
    user: Option<String>,
}

fn expected(document: &Document) -> Inspection {
    let mut found = Inspection { is_json: true, ..Inspection::default() };
    let mut names = Names::default();
    document.keys.iter().for_each(|key| found.text += size_of(key));
    for Event { path, value } in &document.events {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match (&path[..], value) {
            (["max_tokens" | "max_completion_tokens" | "max_output_tokens"], _) => {
                found.output_cap = count_of(value).or(found.output_cap);
            }
            (["stream"], Value::Bool(stream)) => found.stream = *stream,
            (_, Value::Text(text)) => take_text(&path, text, &mut found, &mut names),
            _ => {}
        }
    }
    found.agent_session = names.cache_key.or(names.user_id).or(names.user);
    found
}

/// A text is a name, an attachment, or something for the model to read.
fn take_text(path: &[&str], text: &str, found: &mut Inspection, names: &mut Names) {
    match path {
        ["model"] => found.model = name(start_of(text)),
        ["prompt_cache_key"] => names.cache_key = name(start_of(text)),
        ["user"] => names.user = name(start_of(text)),
        ["metadata", "user_id"] => names.user_id = session(start_of(text)),
        _ if is_attachment(path, text) => found.attachments += 1,
        _ => add(&mut found.text, text),
    }
}

fn add(size: &mut TextSize, text: &str) {
    *size += size_of(text);
}

/// The first characters, where there are any.
fn name(text: &str) -> Option<String> {
    let end = text.char_indices().nth(NAME_CHARS_MAX).map_or(text.len(), |(at, _)| at);
    (!text.is_empty()).then(|| text[..end].to_owned())
}

/// Claude Code writes a document of its own into the field, and the session into that.
fn session(user_id: &str) -> Option<String> {
    let document: serde_json::Value = serde_json::from_str(user_id).unwrap_or_default();
    match &document["session_id"] {
        serde_json::Value::String(session) => name(session),
        _ => name(user_id),
    }
}

/// In the places of both dialects for images, files and sound: a link or base64.
fn is_attachment(path: &[&str], text: &str) -> bool {
    let is_place = match path {
        [.., "image_url" | "file_data" | "file_url"] => true,
        [.., holder, "data"] => ["source", "input_audio"].contains(holder),
        [.., holder, "url"] => ["source", "image_url"].contains(holder),
        _ => false,
    };
    let start = start_of(text);
    let is_link = ["data:", "http://", "https://"].iter().any(|scheme| start.starts_with(scheme));
    let is_base64 = start.len() >= BASE64_CHARS_MIN
        && start.chars().all(|digit| digit.is_ascii_alphanumeric() || "+/-_=".contains(digit));
    is_place && (is_link || is_base64)
}
