//! What a response says it cost, read while it goes by.
//!
//! [`Meter`] watches the payload of one response, JSON or SSE, in either dialect, and never changes
//! or holds it. [`Report`] gathers the usage fields it meets and says what they come to. Where a
//! stream is cut before it reports, the text that went by was counted and stands in for the report.

mod json;
mod sse;

use crate::json::{Scanner, TextSize};

use json::ReportVisitor;
use sse::SseScanner;

/// The most tokens that a report is believed to count: a thousand times the largest context there
/// is, and small enough that no sum of reports can overflow.
pub const REPORT_TOKENS_MAX: u64 = 1_000_000_000;

/// Usage fields as they were met, in either dialect. Of each field the last value that is not zero
/// stands: Fireworks opens an Anthropic stream with zeros and reports at its end, Anthropic itself
/// reports the prompt first and the rest last, and OpenAI streams may report on every chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// `prompt_tokens`, which includes cached ones.
    prompt: Option<u64>,
    /// `completion_tokens` or `output_tokens`.
    generated: Option<u64>,
    /// `input_tokens`: with Anthropic's fields beside it, cached ones excluded; else included.
    input: Option<u64>,
    /// `cache_read_input_tokens`.
    cache_read: Option<u64>,
    /// `cache_creation_input_tokens`.
    cache_creation: Option<u64>,
    /// `prompt_tokens_details.cached_tokens`, `input_tokens_details.cached_tokens`.
    cached: Option<u64>,
}

impl Report {
    /// Takes the prompt counts of Fireworks' response headers, which stand until the body says more.
    pub fn take_headers(&mut self, prompt: Option<u64>, cached: Option<u64>) {
        keep_latest(&mut self.prompt, prompt);
        keep_latest(&mut self.cached, cached);
    }

    /// Takes everything that `other` knows.
    pub fn merge(&mut self, other: &Self) {
        keep_latest(&mut self.prompt, other.prompt);
        keep_latest(&mut self.generated, other.generated);
        keep_latest(&mut self.input, other.input);
        keep_latest(&mut self.cache_read, other.cache_read);
        keep_latest(&mut self.cache_creation, other.cache_creation);
        keep_latest(&mut self.cached, other.cached);
    }

    /// All prompt tokens and those of them that were not cached, where the prompt was reported.
    pub fn prompt(&self) -> Option<(u64, u64)> {
        let of_anthropic = self.cache_read.is_some() || self.cache_creation.is_some();
        match (self.prompt, self.input) {
            // The headers of an Anthropic answer carry `prompt`, its body `input`: the body decides,
            // unless it never said more than the zeros at its beginning.
            (_, Some(input)) if of_anthropic && self.is_beyond_zeros() => {
                let uncached = input.saturating_add(self.cache_creation.unwrap_or(0));
                Some((uncached.saturating_add(self.cache_read.unwrap_or(0)), uncached))
            }
            (Some(prompt), _) | (None, Some(prompt)) => {
                Some((prompt, prompt.saturating_sub(self.cached.unwrap_or(0))))
            }
            (None, None) => None,
        }
        .filter(|(prompt, _)| *prompt > 0)
    }

    fn is_beyond_zeros(&self) -> bool {
        [self.input, self.cache_read, self.cache_creation].iter().flatten().any(|count| *count > 0)
    }

    /// Generated tokens, where they were reported.
    pub fn generated(&self) -> Option<u64> {
        self.generated
    }
}

/// The latest value wins, unless it is a zero that would hide a count seen before.
fn keep_latest(kept: &mut Option<u64>, seen: Option<u64>) {
    match (seen, *kept) {
        (None, _) | (Some(0), Some(_)) => {}
        (Some(count), _) => *kept = Some(count.min(REPORT_TOKENS_MAX)),
    }
}

/// Watches the payload of one response.
#[derive(Debug)]
pub struct Meter {
    scan: Scan,
    report: Report,
}

#[derive(Debug)]
enum Scan {
    Json(Scanner<json::Key>, ReportVisitor),
    Sse(SseScanner),
    /// An encoding or a type that is not read.
    Blind,
}

impl Meter {
    /// A meter for a response with these `Content-Type` and `Content-Encoding` values.
    pub fn new(content_type: Option<&str>, content_encoding: Option<&str>) -> Self {
        let is_plain = content_encoding.is_none_or(|coding| coding.trim().eq_ignore_ascii_case("identity"));
        let media_type = content_type.unwrap_or("").split(';').next().unwrap_or("").trim();
        let scan = if is_plain && media_type.eq_ignore_ascii_case("text/event-stream") {
            Scan::Sse(SseScanner::default())
        } else if is_plain && is_json(media_type) {
            Scan::Json(Scanner::default(), ReportVisitor::default())
        } else {
            Scan::Blind
        };
        Self { scan, report: Report::default() }
    }

    /// Takes the prompt counts of Fireworks' response headers.
    pub fn take_headers(&mut self, prompt: Option<u64>, cached: Option<u64>) {
        self.report.take_headers(prompt, cached);
    }

    /// Watches the next bytes of the payload go by.
    pub fn watch(&mut self, payload: &[u8]) {
        match &mut self.scan {
            Scan::Json(scanner, visitor) => scanner.feed(payload, visitor),
            Scan::Sse(scanner) => scanner.feed(payload),
            Scan::Blind => {}
        }
    }

    /// Everything reported so far.
    pub fn report(&self) -> Report {
        let mut report = self.report;
        match &self.scan {
            Scan::Json(_, visitor) => report.merge(&visitor.report),
            Scan::Sse(scanner) => report.merge(scanner.report()),
            Scan::Blind => {}
        }
        report
    }

    /// Whether the event that closes a stream has gone by: `[DONE]`, `message_stop` or
    /// `response.completed`. Some clients close the connection right after it, before the framing
    /// ends, and that is a normal end.
    pub fn saw_final_event(&self) -> bool {
        matches!(&self.scan, Scan::Sse(scanner) if scanner.saw_final_event())
    }

    /// The text generated so far, where it can be told; `None` for what is not read.
    pub fn generated_text(&self) -> Option<TextSize> {
        match &self.scan {
            Scan::Json(_, visitor) => Some(visitor.generated_text),
            Scan::Sse(scanner) => Some(scanner.generated_text()),
            Scan::Blind => None,
        }
    }
}

fn is_json(media_type: &str) -> bool {
    let media_type = media_type.to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a payload is found to have cost; the same whole, byte by byte and in odd pieces.
    fn measure(content_type: &str, payload: &str) -> Meter {
        let run = |step: usize| {
            let mut meter = Meter::new(Some(content_type), None);
            payload.as_bytes().chunks(step).for_each(|piece| meter.watch(piece));
            meter
        };
        let whole = run(payload.len().max(1));
        for step in [1, 2, 3, 7, 16, 61] {
            let split = run(step);
            assert_eq!(split.report(), whole.report(), "step {step}");
            assert_eq!(split.generated_text(), whole.generated_text(), "step {step}");
            assert_eq!(split.saw_final_event(), whole.saw_final_event(), "step {step}");
        }
        whole
    }

    fn usage(meter: &Meter) -> (Option<(u64, u64)>, Option<u64>) {
        (meter.report().prompt(), meter.report().generated())
    }

    const SSE: &str = "text/event-stream; charset=utf-8";
    const JSON: &str = "application/json";

    #[test]
    fn a_chat_completion_reports_cached_tokens_within_the_prompt() {
        let meter = measure(
            JSON,
            r#"{"choices":[{"message":{"content":"{\"usage\":{\"prompt_tokens\":9}}"}}],"usage":{"prompt_tokens":1200,"total_tokens":1242,"completion_tokens":42,"prompt_tokens_details":{"cached_tokens":1024}}}"#,
        );
        assert_eq!(usage(&meter), (Some((1200, 176)), Some(42)));
    }

    #[test]
    fn an_anthropic_message_reports_cached_tokens_beside_the_input() {
        let meter = measure(
            JSON,
            r#"{"type":"message","content":[{"type":"tool_use","input":{"usage":{"input_tokens":7}}}],"usage":{"input_tokens":176,"cache_creation_input_tokens":0,"cache_read_input_tokens":1024,"output_tokens":42}}"#,
        );
        assert_eq!(usage(&meter), (Some((1200, 176)), Some(42)));
    }

    #[test]
    fn a_response_of_the_responses_api_is_read_in_both_spellings() {
        let meter =
            measure(JSON, r#"{"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#);
        assert_eq!(usage(&meter), (Some((10, 10)), Some(5)));
        let meter = measure(
            JSON,
            r#"{"usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":4},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":3}}}"#,
        );
        assert_eq!(usage(&meter), (Some((10, 6)), Some(5)));
    }

    #[test]
    fn an_embedding_has_a_prompt_only() {
        let meter = measure(
            JSON,
            r#"{"data":[{"embedding":[0.1,0.2]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
        );
        assert_eq!(usage(&meter), (Some((8, 8)), None));
    }

    #[test]
    fn an_openai_stream_reports_on_the_finishing_chunk() {
        let meter = measure(
            SSE,
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}],\"usage\":null}\n\n\
             data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"Think.\"}}],\"usage\":null}\n\n\
             data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}],\"usage\":null}\n\n\
             data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1200,\"total_tokens\":1242,\"completion_tokens\":42,\"prompt_tokens_details\":{\"cached_tokens\":1024}}}\n\n\
             data: [DONE]\n\n",
        );
        assert_eq!(usage(&meter), (Some((1200, 176)), Some(42)));
        assert_eq!(meter.generated_text(), Some(TextSize { ascii: 11, ..TextSize::default() }));
        assert!(meter.saw_final_event());
    }

    #[test]
    fn an_openai_stream_reports_on_a_trailing_chunk() {
        let meter = measure(
            SSE,
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\r\n\r\n\
             data:{\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"prompt_tokens_details\":null}}\r\n\r\n",
        );
        assert_eq!(usage(&meter), (Some((7, 7)), Some(3)));
        assert!(!meter.saw_final_event());
    }

    #[test]
    fn an_anthropic_stream_of_fireworks_reports_at_its_end() {
        let meter = measure(
            SSE,
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"role\":\"assistant\",\"usage\":{\"input_tokens\":0,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":0}}}\n\n\
             event: ping\ndata: {\"type\":\"ping\"}\n\n: comment\n\n\
             event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n\
             event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\n\
             event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"input_tokens\":176,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":1024,\"output_tokens\":42}}\n\n\
             event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        );
        assert_eq!(usage(&meter), (Some((1200, 176)), Some(42)));
        assert_eq!(meter.generated_text(), Some(TextSize { ascii: 7, ..TextSize::default() }));
        assert!(meter.saw_final_event());
    }

    #[test]
    fn an_anthropic_stream_of_anthropic_reports_at_both_ends() {
        let meter = measure(
            SSE,
            "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":176,\"cache_read_input_tokens\":1024,\"output_tokens\":1}}}\n\n\
             data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":42}}\n\n",
        );
        assert_eq!(usage(&meter), (Some((1200, 176)), Some(42)));
    }

    #[test]
    fn a_responses_stream_reports_when_completed() {
        let meter = measure(
            SSE,
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n\
             event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":20,\"output_tokens\":5,\"total_tokens\":25}}}\n\n",
        );
        assert_eq!(usage(&meter), (Some((20, 20)), Some(5)));
        assert_eq!(meter.generated_text(), Some(TextSize { ascii: 2, ..TextSize::default() }));
        assert!(meter.saw_final_event());
    }

    #[test]
    fn performance_metrics_stand_in_for_a_missing_usage() {
        let meter = measure(
            SSE,
            "data: {\"choices\":[],\"perf_metrics\":{\"prompt-tokens\":\"79\",\"cached-prompt-tokens\":\"70\"}}\n\n",
        );
        assert_eq!(usage(&meter), (Some((79, 9)), None));
    }

    #[test]
    fn an_event_may_spread_its_data_over_lines() {
        for end in ["\n", "\r", "\r\n"] {
            let lines = [
                "data: {\"usage\":",
                "data: {\"prompt_tokens\":",
                "id: 1",
                "data: 5}}",
                "",
                "data: [DONE]",
                "",
                "",
            ];
            let meter = measure(SSE, &lines.join(end));
            assert_eq!(usage(&meter), (Some((5, 5)), None), "{end:?}");
            assert!(meter.saw_final_event());
        }
    }

    #[test]
    fn a_marker_with_space_in_it_ends_nothing_however_it_is_split() {
        for (line, is_final) in
            [("[DONE]", true), ("  [DONE]", true), ("[DO NE]", false), ("[DONE] ", false), ("[DONE]x", false)]
        {
            let meter = measure(SSE, &format!("data:{line}\n\n"));
            assert_eq!(meter.saw_final_event(), is_final, "{line:?}");
        }
    }

    #[test]
    fn a_cut_stream_has_counted_text_and_no_report() {
        let meter = measure(
            SSE,
            "data: {\"choices\":[{\"delta\":{\"content\":\"Hello, \"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"wor",
        );
        assert_eq!(usage(&meter), (None, None));
        assert_eq!(meter.generated_text(), Some(TextSize { ascii: 7, ..TextSize::default() }));
    }

    #[test]
    fn a_mad_report_is_held_within_bounds() {
        let meter = measure(
            JSON,
            r#"{"usage":{"prompt_tokens":18446744073709551615,"completion_tokens":99999999999999999999}}"#,
        );
        assert_eq!(usage(&meter), (Some((REPORT_TOKENS_MAX, REPORT_TOKENS_MAX)), None));
    }

    #[test]
    fn headers_count_until_the_body_says_more() {
        let mut meter = Meter::new(Some(JSON), None);
        meter.take_headers(Some(1200), Some(1024));
        assert_eq!(usage(&meter), (Some((1200, 176)), None));
        meter.watch(br#"{"usage":{"input_tokens":176,"cache_read_input_tokens":1024,"output_tokens":42}}"#);
        assert_eq!(usage(&meter), (Some((1200, 176)), Some(42)));
    }

    #[test]
    fn headers_outlast_the_zeros_that_open_a_stream() {
        let mut meter = Meter::new(Some(SSE), None);
        meter.take_headers(Some(1200), Some(1024));
        meter.watch(b"data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":0}}}\n\n");
        assert_eq!(usage(&meter), (Some((1200, 176)), Some(0)));
    }

    #[test]
    fn what_cannot_be_read_is_only_counted() {
        let mut meter = Meter::new(Some(SSE), Some("gzip"));
        meter.watch(b"data: {\"usage\":{\"prompt_tokens\":1}}\n\n");
        assert_eq!((usage(&meter), meter.generated_text()), ((None, None), None));
    }
}
