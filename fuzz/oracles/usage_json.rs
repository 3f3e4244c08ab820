//! Usage in a whole answer, against the list of the document's scalars.

use fireworks_proxy::{
    json::TextSize,
    usage::{Meter, REPORT_TOKENS_MAX},
};

use super::{
    Outcome,
    json_events::{self, Document, Event, Value, size_of, start_of},
    split::splits,
};

/// What a meter has seen.
#[derive(Debug, PartialEq)]
pub struct Seen {
    prompt: Option<(u64, u64)>,
    generated: Option<u64>,
    text: Option<TextSize>,
    saw_final_event: bool,
}

/// `data` is the body of an answer with a JSON type.
pub fn usage_json(data: &[u8]) -> Outcome {
    let seen = watch("application/json; charset=utf-8", &[data]);
    for pieces in splits(data) {
        assert_eq!(watch("application/json", &pieces), seen, "in {} pieces", pieces.len());
    }
    let Ok(document) = json_events::read(data) else { return Outcome::Refused };
    let mut expected = Expected::default();
    expected.take(&document);
    assert_eq!(seen, Seen { saw_final_event: false, ..expected.seen() });
    Outcome::Accepted
}

/// What a meter sees of a payload that comes in these pieces.
pub fn watch(content_type: &str, pieces: &[&[u8]]) -> Seen {
    let mut meter = Meter::new(Some(content_type), None);
    for piece in pieces {
        meter.watch(piece);
    }
    let report = meter.report();
    Seen {
        prompt: report.prompt(),
        generated: report.generated(),
        text: meter.generated_text(),
        saw_final_event: meter.saw_final_event(),
    }
}

/// What documents say, by the rules of the manual and of the two dialects.
#[derive(Debug, Default)]
pub struct Expected {
    /// Each count with its name, in the order in which they came.
    counts: Vec<(&'static str, u64)>,
    text: TextSize,
    pub saw_final_event: bool,
}

impl Expected {
    /// Takes what one document says.
    pub fn take(&mut self, document: &Document) {
        for event in &document.events {
            self.take_event(event);
        }
    }

    fn take_event(&mut self, event: &Event) {
        let path: Vec<&str> = event.path.iter().map(String::as_str).collect();
        match path[..] {
            ["usage", ref field @ ..] | ["response" | "message", "usage", ref field @ ..] => {
                let name = match field {
                    ["prompt_tokens"] => "prompt",
                    ["completion_tokens" | "output_tokens"] => "generated",
                    ["input_tokens"] => "input",
                    ["cache_read_input_tokens"] => "cache read",
                    ["cache_creation_input_tokens"] => "cache creation",
                    ["prompt_tokens_details" | "input_tokens_details", "cached_tokens"] => "cached",
                    _ => return,
                };
                self.counts.extend(count_of(&event.value).map(|count| (name, count)));
            }
            ["perf_metrics", "prompt-tokens"] => {
                self.counts.extend(count_of(&event.value).map(|count| ("prompt", count)));
            }
            ["perf_metrics", "cached-prompt-tokens"] => {
                self.counts.extend(count_of(&event.value).map(|count| ("cached", count)));
            }
            ["type"] => {
                let last = ["message_stop", "response.completed", "response.incomplete", "response.failed"];
                let is_last = |text: &String| last.contains(&start_of(text));
                self.saw_final_event |= matches!(&event.value, Value::Text(text) if is_last(text));
            }
            _ => self.take_text(&path, &event.value),
        }
    }

    fn take_text(&mut self, path: &[&str], value: &Value) {
        let Value::Text(text) = value else { return };
        let of_model = ["arguments", "content", "partial_json", "reasoning_content", "text", "thinking"];
        let places = ["choices", "content", "delta", "output"];
        let is_generated = match path {
            ["delta"] => true,
            [first, .., last] => places.contains(first) && of_model.contains(last) && path.len() > 1,
            _ => false,
        };
        if is_generated {
            self.text += size_of(text);
        }
    }

    /// Of each count the last that is not zero stands.
    fn count(&self, name: &str) -> Option<u64> {
        let all: Vec<u64> =
            self.counts.iter().filter(|(other, _)| *other == name).map(|(_, count)| *count).collect();
        let last = all.iter().rev().find(|count| **count > 0).or_else(|| all.last());
        last.map(|count| (*count).min(REPORT_TOKENS_MAX))
    }

    /// All prompt tokens, and those that no cache served.
    fn prompt(&self) -> Option<(u64, u64)> {
        let [input, read, created] = ["input", "cache read", "cache creation"].map(|name| self.count(name));
        let is_of_anthropic = input.is_some() && (read.is_some() || created.is_some());
        let [of_input, of_read, of_created] = [input, read, created].map(Option::unwrap_or_default);
        if is_of_anthropic && of_input + of_read + of_created > 0 {
            return Some((of_input + of_created + of_read, of_input + of_created));
        }
        let prompt = self.count("prompt").or(input).filter(|prompt| *prompt > 0)?;
        Some((prompt, prompt.saturating_sub(self.count("cached").unwrap_or(0))))
    }

    /// The same as a meter has it.
    pub fn seen(&self) -> Seen {
        Seen {
            prompt: self.prompt(),
            generated: self.count("generated"),
            text: Some(self.text),
            saw_final_event: self.saw_final_event,
        }
    }
}

/// A whole number that is not negative, also written as `12.0` or as a string; no other spelling.
pub fn count_of(value: &Value) -> Option<u64> {
    let (Value::Number(text) | Value::Text(text)) = value else { return None };
    let whole = start_of(text);
    whole.parse().ok().or_else(|| whole.strip_suffix(".0")?.parse().ok())
}
