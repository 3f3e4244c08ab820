//! What an agent asks for, and in what manner. All of it is drawn from the run's seed and the agent's number.
//!
//! Refuses to know clocks and sockets.

use std::time::Duration;

use crate::support::dice::Dice;
use crate::support::fake::{Limits, answer_text};

/// Bytes of a request's body, as often in one doubling as in the next.
const BODY_BYTES: std::ops::Range<f64> = 2_000.0..200_000.0;

/// What a lane is: a key and a model.
const KEYS: [&str; 2] = ["fw_soak_one", "fw_soak_two"];
const MODELS: [&str; 3] = [
    "accounts/fireworks/models/kimi-k2p6",
    "accounts/fireworks/models/glm-5p1",
    "accounts/fireworks/models/deepseek-v3p2",
];

/// How many of a hundred requests go to another model of the same key than their agent's usual one.
const SIDE_CALL_PERCENT: f64 = 10.0;

/// How many of a hundred answers are not streamed.
const NOT_STREAMED_PERCENT: f64 = 15.0;

/// Generated tokens of an answer.
const GENERATED_TOKENS: std::ops::Range<f64> = 100.0..700.0;

/// Generated tokens per minute and agent that the upstream lets a lane have. Half of the agents share one lane, and
/// would use half as much again of it than the proxy lets them: that lane queues. The others have room.
const GENERATED_LIMIT_PER_AGENT: u64 = 2_500;

/// Prompt tokens are not what this is about.
const PROMPT_LIMIT: u64 = 500_000_000;

/// Words of an answer, one event each.
const EVENTS: std::ops::Range<f64> = 5.0..25.0;

/// Time between two events, in milliseconds.
const EVENT_INTERVAL_MS: std::ops::Range<f64> = 50.0..200.0;

/// Until the answer's head, in milliseconds.
const HEAD_DELAY_MS: std::ops::Range<f64> = 100.0..1_000.0;

/// Words of an answer that is too large for the buffers on its way, so that who does not read it holds it up.
const LARGE_EVENTS: usize = 64;

/// Bytes of the comment after each of those words.
const LARGE_PADDING: u64 = 64 * 1024;

/// Between two requests, in seconds.
const THINK_SECONDS: std::ops::Range<f64> = 0.3..2.0;

/// How long who reads slowly stops reading, in seconds.
const READING_PAUSE_SECONDS: std::ops::Range<f64> = 2.0..12.0;

/// How long who leaves before the answer waits for it, in seconds.
const PATIENCE_SECONDS: std::ops::Range<f64> = 0.05..1.5;

/// The two ways to speak to Fireworks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Anthropic,
    OpenAi,
}

/// How an agent treats an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    /// Reads it to its end.
    Patient,
    /// Leaves in the middle of its own request.
    LeavesInUpload,
    /// Leaves when nothing has come for so long.
    LeavesWaiting(Duration),
    /// Leaves in the middle of the answer.
    LeavesInStream,
    /// Stops reading for so long, and then reads on.
    PausesReading(Duration),
    /// Stops reading for so long, and then leaves.
    HalfReads(Duration),
}

/// One request.
pub(crate) struct Request {
    pub(crate) dialect: Dialect,
    pub(crate) is_stream: bool,
    pub(crate) manner: Manner,
    /// What the answer is to say.
    pub(crate) expected_text: String,
    /// The head and the body as they are sent.
    pub(crate) bytes: Vec<u8>,
    /// The pause after it.
    pub(crate) think: Duration,
}

/// One agent's work.
pub(crate) struct Work {
    agent: usize,
    dice: Dice,
    dialect: Dialect,
    key: &'static str,
    model: usize,
}

impl Work {
    pub(crate) fn new(seed: u64, agent: usize) -> Self {
        let dialect = if agent.is_multiple_of(2) { Dialect::Anthropic } else { Dialect::OpenAi };
        // Two of four share the first lane, the others have five among them.
        let lane = if agent % 4 < 2 { 0 } else { 1 + (agent / 4 * 2 + agent % 2) % 5 };
        let (key, model) = (KEYS[lane % KEYS.len()], lane / KEYS.len());
        // The fake's faults are drawn from the streams at the other end.
        Self { agent, dice: Dice::new(seed, u64::MAX - agent as u64), dialect, key, model }
    }

    /// Draws the next request; `id` is what the fake will know it by.
    pub(crate) fn next_request(&mut self, id: u64) -> Request {
        let manner = self.manner();
        let is_large = matches!(manner, Manner::PausesReading(_) | Manner::HalfReads(_));
        // Who leaves in the middle of an answer needs one that has a middle.
        let is_stream = manner != Manner::Patient || !self.dice.percent(NOT_STREAMED_PERCENT);
        let events = if is_large { LARGE_EVENTS } else { index(self.dice.between(EVENTS)) };
        let interval_ms = if is_large { 0.0 } else { self.dice.between(EVENT_INTERVAL_MS) };
        let padding = if is_large { LARGE_PADDING } else { 0 };
        let steering = [
            ("x-fake-generated", whole(self.dice.between(GENERATED_TOKENS))),
            ("x-fake-events", events as u64),
            ("x-fake-padding", padding),
            ("x-fake-interval-ms", whole(interval_ms)),
            ("x-fake-head-delay-ms", whole(self.dice.between(HEAD_DELAY_MS))),
            (ID_HEADER, id),
        ];
        let body = self.body(is_stream);
        let steering: String = steering.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             x-session-affinity: agent-{}\r\n{}{steering}\r\n",
            self.dialect.path(),
            body.len(),
            self.agent,
            self.credential(),
        );
        Request {
            dialect: self.dialect,
            is_stream,
            manner,
            expected_text: answer_text(events),
            bytes: (head + &body).into_bytes(),
            think: Duration::from_secs_f64(self.dice.between(THINK_SECONDS)),
        }
    }

    /// Somewhere between no time and five seconds, so that not all begin at once.
    pub(crate) fn start_after(&mut self) -> Duration {
        Duration::from_secs_f64(self.dice.between(0.0..5.0))
    }

    fn manner(&mut self) -> Manner {
        let drawn = self.dice.between(0.0..100.0);
        let mut seconds = |range| Duration::from_secs_f64(self.dice.between(range));
        match drawn {
            0.0..1.0 => Manner::LeavesInUpload,
            1.0..3.0 => Manner::LeavesWaiting(seconds(PATIENCE_SECONDS)),
            3.0..5.0 => Manner::LeavesInStream,
            5.0..8.0 => Manner::PausesReading(seconds(READING_PAUSE_SECONDS)),
            8.0..9.0 => Manner::HalfReads(seconds(READING_PAUSE_SECONDS)),
            _ => Manner::Patient,
        }
    }

    /// The key as the dialect's clients send it.
    fn credential(&self) -> String {
        match self.dialect {
            Dialect::Anthropic => format!("x-api-key: {}\r\nanthropic-version: 2023-06-01\r\n", self.key),
            Dialect::OpenAi => format!("authorization: Bearer {}\r\n", self.key),
        }
    }

    fn body(&mut self, is_stream: bool) -> String {
        let is_side_call = self.dice.percent(SIDE_CALL_PERCENT);
        let model = if is_side_call { *self.dice.one_of(&MODELS) } else { MODELS[self.model] };
        let bytes = index(self.dice.between(BODY_BYTES.start.ln()..BODY_BYTES.end.ln()).exp());
        let text = self.text(bytes);
        format!(
            r#"{{"model":"{model}","max_tokens":8192,"stream":{is_stream},"messages":[{{"role":"user","content":"{text}"}}]}}"#
        )
    }

    /// Text that needs no escapes in JSON.
    fn text(&mut self, bytes: usize) -> String {
        const WORDS: [&str; 16] = [
            "let ", "fn ", "match ", "return ", "value ", "index ", "self.", "Some(", ") ", "{ ", "} ",
            "error ", "test ", "assert ", "config ", "; ",
        ];
        let mut text = String::with_capacity(bytes + 8);
        while text.len() < bytes {
            let word: &&str = self.dice.one_of(&WORDS);
            text.push_str(word);
        }
        text.truncate(bytes);
        text
    }
}

impl Dialect {
    /// The path below the base URL.
    fn path(self) -> &'static str {
        match self {
            Self::Anthropic => "/v1/messages",
            Self::OpenAi => "/v1/chat/completions",
        }
    }
}

/// What an agent's number of a request travels in, through the proxy to the fake.
pub(crate) const ID_HEADER: &str = "x-soak-request";

/// What the upstream allows each lane when there are so many agents.
pub(crate) fn limits(agents: usize) -> Limits {
    Limits::enforced(PROMPT_LIMIT, PROMPT_LIMIT, GENERATED_LIMIT_PER_AGENT * agents as u64)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and not negative")]
fn whole(number: f64) -> u64 {
    number as u64
}

fn index(number: f64) -> usize {
    usize::try_from(whole(number)).expect("a small number fits")
}
