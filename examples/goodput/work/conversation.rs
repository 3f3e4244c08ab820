//! One conversation with a model: what its prompt is made of, as tokens and as JSON.

use std::rc::Rc;

use crate::{
    dice::Dice,
    model::{Block, Request, float, whole},
};

/// What a conversation's text is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    /// Characters a token of what is not CJK.
    pub(crate) chars_per_token: f64,
    /// The share of the tokens that is CJK.
    pub(crate) wide_share: f64,
    /// The chance that a message brings an image.
    pub(crate) image_chance: f64,
}

/// CJK characters a token.
const WIDE_CHARS_PER_TOKEN: f64 = 1.4;

/// A conversation in progress.
#[derive(Debug)]
pub(crate) struct Conversation {
    /// Its name on the wire.
    pub(crate) session: String,
    script: Script,
    max_tokens: Option<u64>,
    blocks: Vec<Block>,
    pieces: Vec<Rc<str>>,
    prompt: u64,
    next_block: u64,
}

impl Conversation {
    /// Begins one, with a system prompt, tools and a first question of so many tokens. `number` is its own.
    pub(crate) fn new(
        (number, session): (u64, String),
        script: Script,
        max_tokens: Option<u64>,
        system_tokens: u64,
    ) -> Self {
        let mut conversation = Self {
            session,
            script,
            max_tokens,
            blocks: Vec::new(),
            pieces: Vec::new(),
            prompt: 0,
            next_block: number << 20,
        };
        let text = conversation.text(system_tokens);
        conversation.add("user", &format!("{{\"type\":\"text\",\"text\":\"{text}\"}}"), system_tokens);
        conversation
    }

    /// The tokens of its prompt.
    pub(crate) fn prompt(&self) -> u64 {
        self.prompt
    }

    /// What the model has answered, and what the tool has given.
    pub(crate) fn goes_on(&mut self, generated: u64, result_tokens: u64, dice: &mut Dice) {
        let text = self.text(generated);
        self.add("assistant", &format!("{{\"type\":\"text\",\"text\":\"{text}\"}}"), generated);
        let text = self.text(result_tokens);
        let mut content = format!("{{\"type\":\"text\",\"text\":\"{text}\"}}");
        let mut tokens = result_tokens;
        if dice.chance(self.script.image_chance) {
            let image_tokens = dice.whole(700, 1_600);
            let data = filler(image_tokens * 12, "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAA");
            content.push_str(",{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/png\",\"data\":\"");
            content.push_str(&data);
            content.push_str("\"}}");
            tokens += image_tokens;
        }
        self.add("user", &content, tokens);
    }

    /// The request for the next step, with its id and its luck.
    pub(crate) fn request(
        &self,
        (id, luck): (u64, u64),
        agent: usize,
        thread: usize,
        generated: u64,
    ) -> Request {
        let mut body = vec![head(&self.session, self.max_tokens)];
        body.extend(self.pieces.iter().cloned());
        body.push("]}".into());
        Request {
            id,
            agent,
            thread,
            session: self.session.clone(),
            blocks: self.blocks.clone(),
            prompt: self.prompt,
            generated: generated.min(self.max_tokens.unwrap_or(u64::MAX)),
            max_tokens: self.max_tokens,
            luck,
            body,
        }
    }

    fn add(&mut self, role: &str, content: &str, tokens: u64) {
        let comma = if self.pieces.is_empty() { "" } else { "," };
        self.pieces.push(format!("{comma}{{\"role\":\"{role}\",\"content\":[{content}]}}").into());
        self.blocks.push(Block { id: self.next_block, tokens });
        self.next_block += 1;
        self.prompt += tokens;
    }

    /// Text of so many tokens, which no other block has.
    fn text(&self, tokens: u64) -> String {
        let wide = float(tokens) * self.script.wide_share;
        let narrow_chars = (float(tokens) - wide) * self.script.chars_per_token;
        let mut text = format!("{:x} ", self.next_block);
        text.push_str(&filler(
            whole(narrow_chars),
            "the core takes what happened and says what is to be done; ",
        ));
        text.push_str(&filler(whole(wide * WIDE_CHARS_PER_TOKEN), "请求在队列中等待直到预算有空间"));
        text
    }
}

/// The beginning of a body, up to the first message.
pub(crate) fn head(session: &str, max_tokens: Option<u64>) -> Rc<str> {
    let cap = max_tokens.map_or_else(String::new, |cap| format!("\"max_tokens\":{cap},"));
    format!(
        "{{\"model\":\"accounts/fireworks/models/kimi-k2p6\",{cap}\"stream\":true,\
         \"metadata\":{{\"user_id\":\"{session}\"}},\"messages\":["
    )
    .into()
}

/// So many characters of a pattern, over and over.
pub(crate) fn filler(chars: u64, pattern: &str) -> String {
    pattern.chars().cycle().take(usize::try_from(chars).unwrap_or(0)).collect()
}
