//! What one coding agent does: a session whose prompt grows with each tool run.
//!
//! The numbers come from a generator with the agent's number as its seed, so that both sides get the same work.
//! Refuses to know clocks and sockets.

use std::time::Duration;

/// The model that all agents use; limits are per account and model.
const MODEL: &str = "accounts/fireworks/models/kimi-k2p6";

/// The fake counts a token for so many characters.
const CHARACTERS_PER_TOKEN: usize = 4;

/// The prompt of a fresh session: system prompt, tool descriptions, the first files.
const CONTEXT_TOKENS_MIN: usize = 12_000;

/// From here on an agent compacts its session and begins with a small prompt again.
const CONTEXT_TOKENS_MAX: usize = 80_000;

/// What a tool run adds to the prompt.
const TOOL_TOKENS: std::ops::Range<f64> = 2_000.0..7_500.0;

/// How long a tool runs, in seconds.
const TOOL_SECONDS: std::ops::Range<f64> = 0.5..3.0;

/// Until the first token of an answer, in seconds.
const FIRST_TOKEN_SECONDS: std::ops::Range<f64> = 0.3..0.9;

/// Answers are heavy-tailed: half are shorter than this, a few go up to [`ANSWER_TOKENS_MAX`].
const ANSWER_TOKENS_MEDIAN: f64 = 650.0;

/// The spread of an answer's logarithm.
const ANSWER_TOKENS_SPREAD: f64 = 0.75;

const ANSWER_TOKENS_MIN: f64 = 150.0;
const ANSWER_TOKENS_MAX: f64 = 2_500.0;

/// How fast the model writes.
const TOKENS_PER_SECOND: u64 = 180;

/// Time between two events of a stream.
const EVENT_INTERVAL: Duration = Duration::from_millis(200);

/// What clients ask for at most, which is far more than they get.
const MAX_TOKENS: std::ops::Range<f64> = 32_000.0..50_000.0;

/// The two ways to speak to Fireworks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Anthropic,
    OpenAi,
}

impl Dialect {
    /// The path below the base URL.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Anthropic => "/v1/messages",
            Self::OpenAi => "/v1/chat/completions",
        }
    }

    /// What the last event of a whole stream contains.
    pub(crate) fn end_mark(self) -> &'static str {
        match self {
            Self::Anthropic => "message_stop",
            Self::OpenAi => "[DONE]",
        }
    }
}

/// One turn of the model, and the tool run after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    answer_tokens: u64,
    first_token: Duration,
    tool_tokens: usize,
    /// How long the tool runs after the answer.
    pub(crate) tool: Duration,
}

/// One agent's session.
pub(crate) struct Work {
    dice: Dice,
    agent: usize,
    dialect: Dialect,
    /// The body up to the first message.
    opening: String,
    /// The messages so far, as members of a JSON array.
    messages: String,
}

impl Work {
    /// The work of one agent: half of them speak one dialect, half the other.
    pub(crate) fn new(agent: usize) -> Self {
        let mut dice = Dice::new(agent as u64);
        let dialect = if agent.is_multiple_of(2) { Dialect::Anthropic } else { Dialect::OpenAi };
        let max_tokens = dice.whole(MAX_TOKENS);
        let instructions = dice.text(CONTEXT_TOKENS_MIN);
        let common = format!(r#"{{"model":"{MODEL}","max_tokens":{max_tokens},"stream":true,"#);
        let opening = match dialect {
            Dialect::Anthropic => format!(r#"{common}"system":"{instructions}","messages":["#),
            Dialect::OpenAi => {
                let system = format!(r#"{{"role":"system","content":"{instructions}"}},"#);
                format!(r#"{common}"stream_options":{{"include_usage":true}},"messages":[{system}"#)
            }
        };
        let mut work = Self { dice, agent, dialect, opening, messages: String::new() };
        work.begin_session();
        work
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Draws the next step.
    pub(crate) fn next_step(&mut self) -> Step {
        let spread = ANSWER_TOKENS_SPREAD * self.dice.normal();
        let tokens = (ANSWER_TOKENS_MEDIAN * spread.exp()).clamp(ANSWER_TOKENS_MIN, ANSWER_TOKENS_MAX);
        Step {
            answer_tokens: whole(tokens),
            first_token: Duration::from_secs_f64(self.dice.between(FIRST_TOKEN_SECONDS)),
            tool_tokens: index(self.dice.whole(TOOL_TOKENS)),
            tool: Duration::from_secs_f64(self.dice.between(TOOL_SECONDS)),
        }
    }

    /// The request of a step, without the headers that belong to the connection.
    pub(crate) fn headers(&self, step: Step) -> Vec<(&'static str, String)> {
        let events = (step.answer_tokens * 1_000).div_ceil(TOKENS_PER_SECOND * millis(EVENT_INTERVAL));
        let mut headers = vec![
            ("content-type", "application/json".to_owned()),
            ("x-session-affinity", format!("demo-agent-{}", self.agent)),
            // How the fake is to answer. The proxy passes these on as it does all unknown headers.
            ("x-fake-generated", step.answer_tokens.to_string()),
            ("x-fake-head-delay-ms", millis(step.first_token).to_string()),
            ("x-fake-interval-ms", millis(EVENT_INTERVAL).to_string()),
            ("x-fake-events", events.to_string()),
        ];
        match self.dialect {
            Dialect::Anthropic => headers.extend([
                ("x-api-key", "fw_demo".to_owned()),
                ("anthropic-version", "2023-06-01".to_owned()),
            ]),
            Dialect::OpenAi => headers.push(("authorization", "Bearer fw_demo".to_owned())),
        }
        headers
    }

    /// The body that is sent now: everything that was said so far.
    pub(crate) fn body(&self) -> String {
        format!("{}{}]}}", self.opening, self.messages)
    }

    /// Takes the answer and what the tool found into the prompt.
    pub(crate) fn learn(&mut self, step: Step) {
        if (self.opening.len() + self.messages.len()) / CHARACTERS_PER_TOKEN > CONTEXT_TOKENS_MAX {
            return self.begin_session();
        }
        let answer = self.dice.text(index(step.answer_tokens));
        let found = self.dice.text(step.tool_tokens);
        self.say("assistant", &answer);
        self.say("user", &found);
    }

    /// Takes the human's word into the prompt.
    pub(crate) fn hear_continue(&mut self) {
        self.say("user", "continue");
    }

    fn begin_session(&mut self) {
        self.messages.clear();
        self.messages.push_str(r#"{"role":"user","content":"Please fix the failing test."}"#);
    }

    fn say(&mut self, role: &str, text: &str) {
        for piece in [r#",{"role":""#, role, r#"","content":""#, text, r#""}"#] {
            self.messages.push_str(piece);
        }
    }
}

/// How many tokens so many agents would have generated per minute if nobody held them up.
#[expect(clippy::cast_precision_loss, reason = "a few thousand tokens")]
pub(crate) fn unhindered_tokens_per_minute(agents: usize) -> f64 {
    let per_agent = |agent| {
        let mut work = Work::new(agent);
        let steps: Vec<Step> = (0..50).map(|_| work.next_step()).collect();
        let tokens: u64 = steps.iter().map(|step| step.answer_tokens).sum();
        let pauses: f64 = steps.iter().map(|step| (step.first_token + step.tool).as_secs_f64()).sum();
        tokens as f64 * 60.0 / (pauses + tokens as f64 / TOKENS_PER_SECOND as f64)
    };
    (0..agents).map(per_agent).sum()
}

/// A small generator of random numbers (splitmix64): the same seed, the same numbers.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in the range, all alike probable.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are left")]
    pub(crate) fn between(&mut self, range: std::ops::Range<f64>) -> f64 {
        let share = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        range.start + share * (range.end - range.start)
    }

    fn whole(&mut self, range: std::ops::Range<f64>) -> u64 {
        whole(self.between(range))
    }

    /// A number of the standard normal distribution (Box and Muller).
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.between(f64::EPSILON..1.0), self.between(0.0..std::f64::consts::TAU));
        (-2.0 * radius.ln()).sqrt() * angle.cos()
    }

    /// Text of about so many tokens that needs no escapes in JSON.
    fn text(&mut self, tokens: usize) -> String {
        const WORDS: [&str; 16] = [
            "let ", "fn ", "match ", "return ", "value ", "index ", "self.", "Some(", ") ", "{ ", "} ",
            "error ", "test ", "assert ", "config ", "; ",
        ];
        let characters = tokens * CHARACTERS_PER_TOKEN;
        let mut text = String::with_capacity(characters + 8);
        while text.len() < characters {
            let mut bits = self.next();
            for _ in 0..16 {
                text.push_str(WORDS[index(bits & 15)]);
                bits >>= 4;
            }
        }
        text.truncate(characters);
        text
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and not negative")]
fn whole(number: f64) -> u64 {
    number as u64
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("a count of tokens fits")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a few seconds fit")
}
