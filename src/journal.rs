//! What the log is told: entries, each an event with its fields and its text.
//!
//! An entry is made once, for both forms of the log: what the text shows of a field and what the field is for
//! programs go in by the same call, so that the two cannot come to say different things. How entries are
//! written is the shell's affair.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use serde_json::Value;

/// The longest name that an entry shows: enough for every real model and session id.
pub const NAME_CHARS_MAX: usize = 80;

/// What an entry is about. The names stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A request has ended.
    Request,
    /// A request is tried again.
    Retry,
    /// Something failed on the way to or from the upstream, whether or not a retry mends it.
    Failure,
    /// What goes on, now and then.
    Stats,
    /// The day's tokens: near the limit, at it, or a new day.
    Day,
    /// The proxy has started.
    Start,
    /// The settings in force.
    Settings,
    /// The proxy stops, or has stopped.
    Stop,
    /// Everything else.
    Message,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 9] = [
        Self::Request,
        Self::Retry,
        Self::Failure,
        Self::Stats,
        Self::Day,
        Self::Start,
        Self::Settings,
        Self::Stop,
        Self::Message,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Retry => "retry",
            Self::Failure => "failure",
            Self::Stats => "stats",
            Self::Day => "day",
            Self::Start => "start",
            Self::Settings => "settings",
            Self::Stop => "stop",
            Self::Message => "message",
        }
    }
}

/// One entry. Displays as its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    event: Event,
    text: String,
    fields: Vec<(&'static str, Value)>,
}

impl Entry {
    /// An entry whose text begins so; what is shown of its fields comes behind that.
    pub fn new(event: Event, text: impl Into<String>) -> Self {
        Self { event, text: text.into(), fields: Vec::new() }
    }

    /// An entry whose text says everything, and is its field `message` too.
    pub fn saying(event: Event, text: impl Into<String>) -> Self {
        let text = text.into();
        let fields = vec![("message", text.clone().into())];
        Self { event, text, fields }
    }

    /// Adds a field that the text has in another form, or not at all. `null` is something unknown.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Adds a name from outside; the text shows `-` where there is none.
    #[must_use]
    pub fn name(mut self, in_text: &str, name: &'static str, value: Option<&str>) -> Self {
        let value = value.map(shown);
        self.show(in_text, &value.as_deref().unwrap_or("-"));
        self.with(name, value)
    }

    /// Adds a word of our own; the text leaves it out where there is none.
    #[must_use]
    pub fn word(mut self, in_text: &str, name: &'static str, value: Option<&str>) -> Self {
        if let Some(word) = value {
            self.show(in_text, &word);
        }
        self.with(name, value)
    }

    /// Adds a count; the text leaves it out where there is none.
    #[must_use]
    pub fn count(mut self, in_text: &str, name: &'static str, value: Option<u64>) -> Self {
        if let Some(count) = value {
            self.show(in_text, &count);
        }
        self.with(name, value)
    }

    /// Adds a span, in seconds to the millisecond; the text leaves it out where there is none.
    #[must_use]
    pub fn span(mut self, in_text: &str, name: &'static str, value: Option<Duration>) -> Self {
        if let Some(span) = value {
            self.show(in_text, &format_args!("{:.3}s", span.as_secs_f64()));
        }
        self.with(name, value.map(seconds))
    }

    /// Adds a text, which stands in quotes; the text leaves it out where there is none.
    #[must_use]
    pub fn quote(mut self, in_text: &str, name: &'static str, value: Option<&str>) -> Self {
        if let Some(quoted) = value {
            self.show(in_text, &format_args!("{quoted:?}"));
        }
        self.with(name, value)
    }

    fn show(&mut self, name: &str, value: &dyn fmt::Display) {
        write!(self.text, " {name}={value}").expect("a String takes every write");
    }

    /// What it is about.
    pub fn event(&self) -> Event {
        self.event
    }

    /// The text, for people.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The fields, for programs.
    pub fn fields(&self) -> &[(&'static str, Value)] {
        &self.fields
    }
}

impl From<String> for Entry {
    fn from(text: String) -> Self {
        Self::saying(Event::Message, text)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// A name from outside as entries show it: no control characters, no spaces to fake a field with, and
/// not for ever.
pub fn shown(name: &str) -> String {
    let plain = |character: char| if character.is_ascii_graphic() { character } else { '?' };
    let mut text: String = name.chars().take(NAME_CHARS_MAX).map(plain).collect();
    if name.chars().nth(NAME_CHARS_MAX).is_some() {
        text.push_str("...");
    }
    text
}

/// The same of what may not be known.
pub fn shown_or_dash(name: Option<&str>) -> String {
    name.map_or_else(|| "-".to_owned(), shown)
}

/// A span in seconds, to the millisecond.
pub fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_come_from_one_call() {
        let entry = Entry::new(Event::Retry, "retry | GET /")
            .with("method", "GET")
            .name("model", "model", Some("a b\n"))
            .name("session", "session", None)
            .word("after", "after", None)
            .count("prompt", "prompt_tokens", Some(7))
            .count("cached", "cached_tokens", None)
            .span("took", "took_seconds", Some(Duration::from_micros(1_234_567)))
            .quote("message", "message", Some("it \"is\"\n"));
        assert_eq!(
            entry.to_string(),
            r#"retry | GET / model=a?b? session=- prompt=7 took=1.235s message="it \"is\"\n""#
        );
        let expected = [
            ("method", json!("GET")),
            ("model", json!("a?b?")),
            ("session", json!(null)),
            ("after", json!(null)),
            ("prompt_tokens", json!(7)),
            ("cached_tokens", json!(null)),
            ("took_seconds", json!(1.235)),
            ("message", json!("it \"is\"\n")),
        ];
        assert_eq!(entry.fields(), expected);
    }

    #[test]
    fn a_plain_text_is_a_message() {
        let entry = Entry::from("it works again".to_owned());
        assert_eq!((entry.event(), entry.text()), (Event::Message, "it works again"));
        assert_eq!(entry.fields(), [("message", json!("it works again"))]);
        assert_eq!(shown(&"x".repeat(200)).len(), NAME_CHARS_MAX + 3);
    }
}
