//! Usage in a stream of events, against a reader that has the whole stream and looks for line ends.

use super::{
    Outcome, json_events,
    split::splits,
    usage_json::{Expected, watch},
};

/// `data` is the body of an answer with the type `text/event-stream`.
pub fn usage_sse(data: &[u8]) -> Outcome {
    let seen = watch("text/event-stream; charset=utf-8", &[data]);
    for pieces in splits(data) {
        assert_eq!(watch("Text/Event-Stream", &pieces), seen, "in {} pieces", pieces.len());
    }
    let Some(expected) = expected(data) else { return Outcome::Refused };
    assert_eq!(seen, expected.seen());
    Outcome::Accepted
}

/// What a stream says in which every event is a JSON document or a marker. `None` for others: of a broken
/// document the scanner tells what came before it broke, of which `serde_json` says nothing.
fn expected(data: &[u8]) -> Option<Expected> {
    let mut expected = Expected::default();
    for event in events(data) {
        // A line without an end may go on, so that it is no marker yet.
        let is_done = |line: &Line<'_>| line.is_ended && line.text.trim_ascii_start() == b"[DONE]";
        expected.saw_final_event |= event.iter().any(is_done);
        let document = event.iter().map(|line| line.text).collect::<Vec<_>>().join(&b'\n');
        let is_marker = document.trim_ascii() == b"[DONE]" || document.trim_ascii().is_empty();
        if !is_marker {
            expected.take(&json_events::read(&document).ok()?);
        }
    }
    Some(expected)
}

/// A line, or what there is of it.
struct Line<'a> {
    text: &'a [u8],
    is_ended: bool,
}

/// The lines of data of each event (HTML standard, section 9.2.6). A last event that is not ended counts,
/// because a client has read it by then.
fn events(data: &[u8]) -> Vec<Vec<Line<'_>>> {
    let mut events = vec![Vec::new()];
    for Line { text, is_ended } in lines(data) {
        if text.is_empty() {
            events.push(Vec::new());
        } else if let Some(text) = text.strip_prefix(b"data:") {
            events.last_mut().expect("there is a first").push(Line { text, is_ended });
        }
    }
    events
}

/// Lines end in CRLF, LF or CR.
fn lines(data: &[u8]) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut rest = data;
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        lines.push(Line { text: &rest[..end], is_ended: true });
        let length = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + length..];
    }
    if !rest.is_empty() {
        lines.push(Line { text: rest, is_ended: false });
    }
    lines
}
