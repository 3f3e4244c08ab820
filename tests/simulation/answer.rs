//! Answers of a model Fireworks, and what the proxy can know of their cost at each of their bytes.

use std::fmt::Write as _;

use super::{
    request::Request,
    swarm::{Honesty, Odd, Swarm},
};
use crate::support::world::Dice;

/// Tokens that an answer reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub prompt: u64,
    pub cached: u64,
    pub generated: u64,
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    /// By which the client's side names it.
    pub number: u64,
    pub status: u16,
    /// Every byte, interim heads first.
    pub wire: Vec<u8>,
    /// Where the head ends; beyond everything where it is no head.
    pub head_end: usize,
    /// Where the body ends.
    pub body_end: usize,
    pub payload: Vec<u8>,
    pub ends_with_close: bool,
    /// What is known of the usage from so many bytes on.
    pub marks: Vec<(usize, Usage)>,
    /// Seconds that the client is asked to wait.
    pub retry_after: Option<u64>,
}

/// A payload in the making.
#[derive(Default)]
struct Payload {
    bytes: Vec<u8>,
    marks: Vec<(usize, Usage)>,
    has_crlf: bool,
}

impl Payload {
    /// A piece of a stream, with the line ends of this one.
    fn lines(&mut self, text: &str) {
        self.text(&if self.has_crlf { text.replace('\n', "\r\n") } else { text.to_owned() });
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// A number, which is known when its last digit is past.
    fn number(&mut self, name: &str, number: u64, behind: char, known: Usage) {
        self.text(&format!("\"{name}\":{number}{behind}"));
        self.marks.push((self.bytes.len(), known));
    }

    fn usage(&mut self, is_anthropic: bool, usage: Usage) {
        let Usage { prompt, cached, generated } = usage;
        self.text("\"usage\":{");
        if is_anthropic {
            let uncached = prompt - cached;
            self.number("input_tokens", uncached, ',', Usage { prompt: uncached, ..Usage::default() });
            self.text("\"cache_creation_input_tokens\":0,");
            self.number("cache_read_input_tokens", cached, ',', Usage { generated: 0, ..usage });
            self.number("output_tokens", generated, '}', usage);
        } else {
            self.number("prompt_tokens", prompt, ',', Usage { prompt, ..Usage::default() });
            self.number("completion_tokens", generated, ',', Usage { cached: 0, ..usage });
            self.text("\"prompt_tokens_details\":{");
            self.number("cached_tokens", cached, '}', usage);
            self.text("}");
        }
    }

    /// An answer that comes whole.
    fn document(&mut self, is_anthropic: bool, text: &str, usage: Option<Usage>) {
        if is_anthropic {
            self.text(&format!(r#"{{"type":"message","content":[{{"type":"text","text":"{text}"}}],"#));
        } else {
            self.text(&format!(r#"{{"choices":[{{"message":{{"content":"{text}"}}}}],"#));
        }
        if let Some(usage) = usage {
            self.usage(is_anthropic, usage);
            self.text(",");
        }
        self.text("\"id\":\"x\"}");
    }

    /// An answer in pieces.
    fn stream(&mut self, is_anthropic: bool, text: &str, usage: Option<Usage>) {
        if is_anthropic {
            self.lines("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":0}}}\n\n");
        }
        for piece in text.as_bytes().chunks(16) {
            let piece = std::str::from_utf8(piece).expect("ASCII");
            self.lines(&if is_anthropic {
                format!("event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"delta\":{{\"text\":\"{piece}\"}}}}\n\n")
            } else {
                format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{piece}\"}}}}],\"usage\":null}}\n\n")
            });
        }
        if let Some(usage) = usage {
            self.lines("data: {\"choices\":[],\"type\":\"message_delta\",\ndata: ");
            self.usage(is_anthropic, usage);
            self.lines("}\n\n");
        }
        self.lines(if is_anthropic {
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
        } else {
            "data: [DONE]\n\n"
        });
    }
}

impl Answer {
    pub fn draw(
        number: u64,
        status: u16,
        request: &Request,
        swarm: &Swarm,
        dice: &mut Dice,
        mut is_odd: impl FnMut(Odd, &mut Dice) -> bool,
    ) -> Self {
        let mut payload = Payload { has_crlf: dice.chance(30), ..Payload::default() };
        let is_stream = status == 200 && request.is_stream;
        if status == 200 && request.lane.is_some() {
            let usage = (!is_odd(Odd::Unreported, dice)).then(|| usage_of(request, swarm, dice));
            // Four characters are taken for a token where no report comes.
            let length = if is_odd(Odd::Large, dice) { 300_000 } else { dice.below(swarm.reserve * 4) };
            let exact = length.min(swarm.reserve * 4);
            let length = if swarm.honesty == Honesty::Exact { exact } else { length };
            let text = format!("t{number}.").repeat(usize::try_from(length / 8 + 1).expect("small"));
            let text = &text[..usize::try_from(length).expect("small").min(text.len())];
            if is_stream {
                payload.stream(request.is_anthropic, text, usage);
            } else {
                payload.document(request.is_anthropic, text, usage);
            }
        } else {
            payload.text(&format!(r#"{{"error":{{"message":"answer {number} says {status}"}}}}"#));
        }
        let mut answer = Self {
            number,
            status,
            wire: Vec::new(),
            head_end: 0,
            body_end: 0,
            payload: Vec::new(),
            ends_with_close: is_odd(Odd::UntilClose, dice),
            marks: Vec::new(),
            retry_after: None,
        };
        if status >= 400 && is_odd(Odd::AsksToWait, dice) {
            answer.retry_after = Some(dice.below(12));
        }
        answer.write(request, payload, is_stream, &mut is_odd, dice);
        answer
    }

    fn write(
        &mut self,
        request: &Request,
        payload: Payload,
        is_stream: bool,
        is_odd: &mut dyn FnMut(Odd, &mut Dice) -> bool,
        dice: &mut Dice,
    ) {
        let has_body = request.method != "HEAD";
        let is_chunked = !self.ends_with_close && dice.chance(50);
        let kind = if is_stream { "text/event-stream" } else { "application/json" };
        let mut head = String::new();
        if is_odd(Odd::Interim, dice) {
            head += "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
        }
        write!(head, "HTTP/1.1 {} So\r\ncontent-type: {kind}\r\nx-answer: {}\r\n", self.status, self.number)
            .expect("a String takes every write");
        head += &self.retry_after.map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
        if is_odd(Odd::Tells, dice) {
            head += "x-ratelimit-limit-tokens-prompt: 3600000\r\nX-RateLimit-Limit-Tokens-Generated: odd\r\n";
        }
        if is_chunked {
            head += "transfer-encoding: chunked\r\n";
        } else if !self.ends_with_close {
            write!(head, "content-length: {}\r\n", payload.bytes.len()).expect("a String takes every write");
        }
        head += "connection: close\r\n\r\n";
        self.wire = head.into_bytes();
        self.head_end = self.wire.len();
        if has_body {
            self.write_body(payload, is_chunked, dice);
        } else {
            self.ends_with_close = false;
        }
        self.body_end = self.wire.len();
        if !self.ends_with_close && is_odd(Odd::SpeaksOn, dice) {
            self.wire.extend_from_slice(b"HTTP/1.1 200 Nobody asked\r\ncontent-length: 0\r\n\r\n");
        }
        if is_odd(Odd::BadHead, dice) {
            self.wire = b"HTTP/1.1 two hundred\r\n\r\n".to_vec();
            (self.head_end, self.body_end) = (usize::MAX, usize::MAX);
        }
    }

    fn write_body(&mut self, payload: Payload, is_chunked: bool, dice: &mut Dice) {
        let Payload { bytes, marks, .. } = payload;
        let piece =
            if is_chunked { 1 + usize::try_from(dice.below(4_000)).expect("small") } else { bytes.len() };
        let mut marks = marks.into_iter().peekable();
        for (index, part) in bytes.chunks(piece.max(1)).enumerate() {
            if is_chunked {
                self.wire.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            }
            let (from, begins_at) = (index * piece, self.wire.len());
            while let Some((at, usage)) = marks.next_if(|(at, _)| *at <= from + part.len()) {
                self.marks.push((begins_at + at - from, usage));
            }
            self.wire.extend_from_slice(part);
            if is_chunked {
                self.wire.extend_from_slice(b"\r\n");
            }
        }
        if is_chunked {
            self.wire.extend_from_slice(b"0\r\n\r\n");
        }
        self.payload = bytes;
    }

    /// What has been reported within the first bytes.
    pub fn reported(&self, bytes: usize) -> Option<Usage> {
        self.marks.iter().rev().find(|(at, _)| *at <= bytes).map(|(_, usage)| *usage)
    }
}

/// In an exact run what the proxy guesses, and else anything.
fn usage_of(request: &Request, swarm: &Swarm, dice: &mut Dice) -> Usage {
    match swarm.honesty {
        Honesty::Exact => Usage { prompt: request.prompt, cached: 0, generated: swarm.reserve },
        Honesty::Free => {
            let prompt = 1 + dice.below(swarm.text_max * 2);
            Usage { prompt, cached: dice.below(prompt), generated: 1 + dice.below(swarm.reserve * 3) }
        }
    }
}
