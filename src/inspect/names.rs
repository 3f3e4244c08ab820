//! Names that a request gives: of its model, and of the session of an agent that sent it.

use crate::http::head::Fields;

/// The longest model name and session id that are kept. Fireworks allows `metadata.user_id` so many
/// characters; real names are under 100.
pub const NAME_CHARS_MAX: usize = 256;

/// The longest name of a client that is shown.
const CLIENT_NAME_CHARS_MAX: usize = 64;

/// The fields in which agents name their session, the most specific first.
const SESSION_FIELDS: [&str; 5] = [
    "x-claude-code-session-id",
    "x-session-affinity",
    "x-session-id",
    "x-multi-turn-session-id",
    "session-id",
];

pub(super) fn session_in_head(fields: &Fields) -> Option<String> {
    SESSION_FIELDS.iter().find_map(|name| fields.text(name)).and_then(short_name)
}

/// The program that sent a request: the first product of its `User-Agent` (RFC 9110, section 10.1.5), such as
/// `claude-cli/2.1.197`.
pub fn client_name(fields: &Fields) -> Option<&str> {
    let product = fields.text("user-agent")?.split_ascii_whitespace().next()?;
    Some(product.char_indices().nth(CLIENT_NAME_CHARS_MAX).map_or(product, |(end, _)| &product[..end]))
}

/// A name as it is kept: not empty, and not longer than anyone would choose.
pub(super) fn short_name(name: &str) -> Option<String> {
    Some(name.chars().take(NAME_CHARS_MAX).collect()).filter(|name: &String| !name.is_empty())
}

/// `metadata.user_id` is the session's id with Kimi, and a JSON text that holds it with Claude Code.
pub(super) fn session_in_user_id(user_id: &str) -> Option<String> {
    let parsed: Option<serde_json::Value> = serde_json::from_str(user_id).ok();
    let within = parsed.as_ref().and_then(|value| value.get("session_id")).and_then(|id| id.as_str());
    short_name(within.unwrap_or(user_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::head::parse_request, inspect::Inspection};

    #[test]
    fn a_client_is_named_by_its_first_product() {
        let name = |agent: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n");
            let head = parse_request(head.as_bytes()).expect("accepted");
            client_name(&head.fields).map(str::to_owned)
        };
        assert_eq!(name("claude-cli/2.1.197 (external, cli)").as_deref(), Some("claude-cli/2.1.197"));
        assert_eq!(name("curl/8.5.0").as_deref(), Some("curl/8.5.0"));
        assert_eq!(name(" "), None);
        assert_eq!(name(&"x".repeat(100)).map(|name| name.len()), Some(CLIENT_NAME_CHARS_MAX));
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
        let uid = br#"{"metadata":{"user_id":"uid"},"user":"u"}"#;
        assert_eq!(session(&Fields::default(), uid).as_deref(), Some("uid"));
        let claude = br#"{"metadata":{"user_id":"{\"device_id\":\"d\",\"session_id\":\"s\"}"}}"#;
        assert_eq!(session(&Fields::default(), claude).as_deref(), Some("s"));
    }
}
