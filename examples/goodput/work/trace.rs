//! A recorded trace: one JSON object a line with `timestamp` (ms), `input_length` and `output_length` (tokens), and
//! `hash_ids`, one for each 512 tokens of the prompt; equal leading ids mean a shared prefix.

use std::{collections::VecDeque, fmt::Write as _};

use fireworks_proxy::time::Mono;
use serde::Deserialize;

use super::{
    Workload,
    conversation::{filler, head},
};
use crate::model::{Block, Request, at, float, whole};

const BLOCK_TOKENS: u64 = 512;
const CHARS_PER_TOKEN: f64 = 3.6;
/// The recorder's clock ticks in threes of seconds; what came in one tick is spread over it.
const TICK_SECONDS: f64 = 3.0;

#[derive(Debug, Deserialize)]
struct Line {
    timestamp: u64,
    input_length: u64,
    output_length: u64,
    hash_ids: Vec<u64>,
}

/// A trace being replayed.
#[derive(Debug)]
pub(crate) struct Trace {
    requests: VecDeque<(Mono, Line)>,
    taken: u64,
}

impl Trace {
    /// Reads a trace, to be replayed so many times as fast as it was recorded.
    ///
    /// # Errors
    /// The line that cannot be read, and why.
    pub(crate) fn parse(text: &str, speed: f64) -> Result<Self, String> {
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let parsed =
                serde_json::from_str(line).map_err(|error| format!("line {}: {error}", index + 1))?;
            lines.push(parsed);
        }
        let mut requests = VecDeque::new();
        let mut lines: VecDeque<Line> = lines.into();
        while let Some(timestamp) = lines.front().map(|line| line.timestamp) {
            let count = lines.iter().take_while(|line| line.timestamp == timestamp).count();
            for (index, line) in lines.drain(..count).enumerate() {
                let within = TICK_SECONDS * float(index as u64) / float(count as u64);
                requests.push_back((at((float(timestamp) / 1_000.0 + within) / speed), line));
            }
        }
        Ok(Self { requests, taken: 0 })
    }

    fn request(&self, line: &Line) -> Request {
        let mut blocks: Vec<Block> =
            line.hash_ids.iter().map(|id| Block { id: *id, tokens: BLOCK_TOKENS }).collect();
        let last = blocks.len() as u64 - 1;
        if let Some(block) = blocks.last_mut() {
            block.tokens = (line.input_length.saturating_sub(last * BLOCK_TOKENS)).max(1);
        }
        // The trace does not say who asked; who shares a beginning of two blocks is taken for one.
        let session = format!("trace-{}", line.hash_ids.get(1).unwrap_or(&0));
        let mut body = vec![head(&session, None)];
        for (index, block) in blocks.iter().enumerate() {
            let mut piece = String::from(if index == 0 { "" } else { "," });
            let chars = whole(float(block.tokens) * CHARS_PER_TOKEN);
            let text = filler(chars, "what was said before is kept and what is new comes behind it; ");
            write!(piece, "{{\"role\":\"user\",\"content\":\"{:x} {text}\"}}", block.id)
                .expect("a string takes everything");
            body.push(piece.into());
        }
        body.push("]}".into());
        let prompt = blocks.iter().map(|block| block.tokens).sum();
        let generated = line.output_length.max(1);
        let id = self.taken;
        Request {
            id,
            agent: 0,
            thread: 0,
            session,
            blocks,
            prompt,
            generated,
            max_tokens: None,
            luck: id,
            body,
        }
    }
}

impl Workload for Trace {
    fn next_due(&self) -> Option<Mono> {
        self.requests.front().map(|(at, _)| *at)
    }

    fn take_due(&mut self, now: Mono) -> Option<Request> {
        let is_due = self.requests.front().is_some_and(|(at, _)| *at <= now);
        let (_, line) = if is_due { self.requests.pop_front()? } else { return None };
        self.taken += 1;
        Some(self.request(&line))
    }

    fn answered(&mut self, _request: &Request, _now: Mono) {}

    fn ends(&self) -> Option<Mono> {
        self.requests.back().map(|(at, _)| *at)
    }

    fn comes_back(&self) -> bool {
        false
    }
}
