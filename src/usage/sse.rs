//! Usage fields in a stream of server-sent events.
//!
//! Follows the event stream format of the HTML standard as far as it matters here: lines end in LF,
//! CR or CRLF, `data` fields carry the document, a blank line ends the event. Nothing is held: the
//! data goes into the JSON scanner byte by byte as it comes.

use super::{
    Report,
    json::{Key, ReportVisitor},
};
use crate::json::{Scanner, TextSize};

/// What begins a line that matters.
const DATA: &[u8] = b"data:";

/// The data that ends an OpenAI stream.
const DONE: &[u8] = b"[DONE]";

/// Scans one stream.
#[derive(Debug, Default)]
pub(super) struct SseScanner {
    line: Line,
    /// Whether the last byte was a CR, so that a LF right behind it ends no further line.
    after_cr: bool,
    /// How much of [`DONE`] the data of this event has matched; beyond its length, it does not match.
    done_matched: usize,
    saw_done: bool,
    scanner: Scanner<Key>,
    visitor: ReportVisitor,
}

/// The place within a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// In the field's name, of which so many bytes match [`DATA`].
    Name { matched: usize },
    /// In the data.
    Data,
    /// In a field that is not read.
    Other,
}

impl Default for Line {
    fn default() -> Self {
        Self::Name { matched: 0 }
    }
}

impl SseScanner {
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(byte) = bytes.first() {
            let is_second_half = *byte == b'\n' && self.after_cr;
            self.after_cr = *byte == b'\r';
            if matches!(byte, b'\n' | b'\r') {
                if !is_second_half {
                    self.end_line();
                }
                bytes = &bytes[1..];
                continue;
            }
            let end = match self.line {
                Line::Name { .. } => 1,
                Line::Data | Line::Other => {
                    bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(bytes.len())
                }
            };
            let (stretch, rest) = bytes.split_at(end);
            self.feed_line(stretch);
            bytes = rest;
        }
    }

    pub(super) fn report(&self) -> &Report {
        &self.visitor.report
    }

    pub(super) fn generated_text(&self) -> TextSize {
        self.visitor.generated_text
    }

    pub(super) fn saw_final_event(&self) -> bool {
        self.saw_done || self.visitor.saw_final_event
    }

    /// Takes a stretch of one line: a single byte while the name is read, then as much as there is.
    #[inline]
    fn feed_line(&mut self, stretch: &[u8]) {
        match self.line {
            Line::Name { matched } if DATA[matched] == stretch[0] => {
                let is_whole = matched + 1 == DATA.len();
                self.line = if is_whole { Line::Data } else { Line::Name { matched: matched + 1 } };
            }
            Line::Name { .. } => self.line = Line::Other,
            Line::Data => {
                // White space may stand in front of the marker, not within it.
                let text = if self.done_matched == 0 { stretch.trim_ascii_start() } else { stretch };
                for byte in text {
                    if self.done_matched > DONE.len() {
                        break;
                    }
                    let matches = DONE.get(self.done_matched) == Some(byte);
                    self.done_matched = if matches { self.done_matched + 1 } else { DONE.len() + 1 };
                }
                self.scanner.feed(stretch, &mut self.visitor);
            }
            Line::Other => {}
        }
    }

    /// Ends a line. A blank one ends the event, and with it the document in its data.
    #[inline]
    fn end_line(&mut self) {
        match self.line {
            Line::Data => {
                self.saw_done |= self.done_matched == DONE.len();
                self.scanner.feed(b"\n", &mut self.visitor);
            }
            Line::Name { matched: 0 } => self.scanner.reset(),
            Line::Name { .. } | Line::Other => {}
        }
        self.done_matched = 0;
        self.line = Line::default();
    }
}
