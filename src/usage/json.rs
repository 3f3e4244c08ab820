//! Usage fields in one JSON document: a whole answer, or the data of one event of a stream.
//!
//! `usage` counts at the top of the document or directly under `response` or `message`; anywhere
//! else the name is somebody's content.

use super::Report;
use crate::json::{Scalar, TextSize, Visitor};

/// The keys that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Arguments,
    CacheCreation,
    CacheRead,
    CachedDashed,
    CachedTokens,
    Choices,
    CompletionTokens,
    Content,
    Delta,
    InputTokens,
    Item,
    Message,
    Other,
    Output,
    OutputTokens,
    PartialJson,
    PerfMetrics,
    PromptDashed,
    PromptTokens,
    ReasoningContent,
    Response,
    Text,
    Thinking,
    TokensDetails,
    Type,
    Usage,
}

/// Gathers what one or more documents report.
#[derive(Debug, Default)]
pub(super) struct ReportVisitor {
    pub(super) report: Report,
    /// The characters of the model's own text: content, reasoning and arguments of tools.
    pub(super) generated_text: TextSize,
    /// Whether a document said that it is the last of its stream.
    pub(super) saw_final_event: bool,
}

impl Visitor for ReportVisitor {
    type Key = Key;
    const ITEM: Key = Key::Item;

    #[inline]
    fn key(&mut self, _path: &[Key], name: &str, _size: TextSize) -> Key {
        match name {
            "arguments" => Key::Arguments,
            "cache_creation_input_tokens" => Key::CacheCreation,
            "cache_read_input_tokens" => Key::CacheRead,
            "cached-prompt-tokens" => Key::CachedDashed,
            "cached_tokens" => Key::CachedTokens,
            "choices" => Key::Choices,
            "completion_tokens" => Key::CompletionTokens,
            "content" => Key::Content,
            "delta" => Key::Delta,
            "input_tokens" => Key::InputTokens,
            "input_tokens_details" | "prompt_tokens_details" => Key::TokensDetails,
            "message" => Key::Message,
            "output" => Key::Output,
            "output_tokens" => Key::OutputTokens,
            "partial_json" => Key::PartialJson,
            "perf_metrics" => Key::PerfMetrics,
            "prompt-tokens" => Key::PromptDashed,
            "prompt_tokens" => Key::PromptTokens,
            "reasoning_content" => Key::ReasoningContent,
            "response" => Key::Response,
            "text" => Key::Text,
            "thinking" => Key::Thinking,
            "type" => Key::Type,
            "usage" => Key::Usage,
            _ => Key::Other,
        }
    }

    #[inline]
    fn scalar(&mut self, path: &[Key], value: Scalar<'_>) {
        match (path, value) {
            ([Key::Usage, field @ ..] | [Key::Response | Key::Message, Key::Usage, field @ ..], _) => {
                self.usage_field(field, value);
            }
            ([Key::PerfMetrics, Key::PromptDashed], _) => self.report.take_headers(value.as_count(), None),
            ([Key::PerfMetrics, Key::CachedDashed], _) => self.report.take_headers(None, value.as_count()),
            ([Key::Type], Scalar::Text { start, .. }) => {
                self.saw_final_event |= matches!(
                    start,
                    "message_stop" | "response.completed" | "response.incomplete" | "response.failed"
                );
            }
            (_, Scalar::Text { size, .. }) if is_generated_text(path) => self.generated_text += size,
            _ => {}
        }
    }
}

impl ReportVisitor {
    fn usage_field(&mut self, field: &[Key], value: Scalar<'_>) {
        let mut seen = Report::default();
        let slot = match field {
            [Key::PromptTokens] => &mut seen.prompt,
            [Key::CompletionTokens | Key::OutputTokens] => &mut seen.generated,
            [Key::InputTokens] => &mut seen.input,
            [Key::CacheRead] => &mut seen.cache_read,
            [Key::CacheCreation] => &mut seen.cache_creation,
            [Key::TokensDetails, Key::CachedTokens] => &mut seen.cached,
            _ => return,
        };
        *slot = value.as_count();
        self.report.merge(&seen);
    }
}

/// Text of the model's own, in a stream's deltas or in a whole answer of any dialect.
fn is_generated_text(path: &[Key]) -> bool {
    match path {
        [Key::Delta] => true,
        [Key::Choices | Key::Content | Key::Delta | Key::Output, .., last] => matches!(
            last,
            Key::Arguments
                | Key::Content
                | Key::PartialJson
                | Key::ReasoningContent
                | Key::Text
                | Key::Thinking
        ),
        _ => false,
    }
}
