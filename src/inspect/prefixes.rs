//! The beginnings of a prompt that another request may share.
//!
//! An upstream's cache serves a prompt as far as it begins like one that it has seen. Agents send the
//! same conversation again and again with something added, so a prompt is hashed at the boundaries of
//! its messages: where the hashes of two prompts agree, so does all before.

use super::digest::{chained, mixed};
use crate::json::TextSize;

/// The last so many boundaries are all kept: an agent adds fewer elements to a conversation between two calls.
const RECENT_MAX: usize = 32;

/// The most boundaries that are kept. Those before the recent ones serve who goes back in a
/// conversation, and the further back, the coarser they may be.
const BOUNDARIES_MAX: usize = PREFIXES_MAX - 1;

/// So many fall off at a time, so that few boundaries are the cost of each.
const THINNED_MIN: usize = 8;

/// The most prefixes that a body is found to have: the boundaries, and what comes before the conversation.
pub const PREFIXES_MAX: usize = 65;

/// The size of what a model is given, by kinds that differ in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContentSize {
    /// Characters, keys included.
    pub text: TextSize,
    /// Images and files.
    pub attachments: u64,
}

impl ContentSize {
    /// What is left of it after a part of it.
    #[must_use]
    pub const fn without(self, part: Self) -> Self {
        let text = TextSize {
            ascii: self.text.ascii.saturating_sub(part.text.ascii),
            narrow: self.text.narrow.saturating_sub(part.text.narrow),
            wide: self.text.wide.saturating_sub(part.text.wide),
        };
        Self { text, attachments: self.attachments.saturating_sub(part.attachments) }
    }
}

impl std::ops::AddAssign for ContentSize {
    fn add_assign(&mut self, other: Self) {
        self.text += other.text;
        self.attachments += other.attachments;
    }
}

/// A beginning of a prompt: the tools and the instructions, and none, some or all of the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prefix {
    /// The hash of all of it.
    pub hash: u64,
    /// The size of all of it.
    pub size: ContentSize,
}

/// A part of a body that the model is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Tools, system text and the like, which stand before the conversation wherever they are in the
    /// document.
    Opening,
    /// The messages.
    Conversation,
}

/// What is hashed, beside its text and how deep it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Key,
    Text,
    Number,
    Other,
}

/// Hashes the parts of a body as they come, in whatever order, and ends as its prefixes.
#[derive(Debug)]
pub(super) struct PrefixBuilder {
    /// The sum of the hashes of the opening's members that are whole, so that their order has no say.
    opening: u64,
    opening_member: u64,
    opening_size: ContentSize,
    conversation: u64,
    conversation_size: ContentSize,
    boundaries: Vec<Boundary>,
    /// Elements of the conversation so far.
    elements: u64,
    /// Before the recent boundaries, those are kept whose number is a multiple of this power of two:
    /// what is kept of a long conversation is then also kept of a shorter one.
    stride: u64,
}

#[derive(Debug)]
struct Boundary {
    number: u64,
    prefix: Prefix,
}

impl Default for PrefixBuilder {
    fn default() -> Self {
        Self {
            opening: 0,
            opening_member: 0,
            opening_size: ContentSize::default(),
            conversation: 0,
            conversation_size: ContentSize::default(),
            boundaries: Vec::new(),
            elements: 0,
            stride: 1,
        }
    }
}

impl PrefixBuilder {
    /// A member of the opening begins; what is heard of the opening is of this member from now on.
    pub(super) fn begin_opening_member(&mut self, name_hash: u64) {
        self.opening = self.opening.wrapping_add(mixed(self.opening_member));
        self.opening_member = name_hash;
    }

    /// Something of a part: the hash of its text, and how many keys lead to it.
    pub(super) fn add(&mut self, part: Part, event: Event, hash: u64, depth: usize) {
        let chain = match part {
            Part::Opening => &mut self.opening_member,
            Part::Conversation => &mut self.conversation,
        };
        *chain = chained(chained(*chain, hash), (depth as u64) << 8 | event as u64);
    }

    /// The size of something of a part.
    pub(super) fn add_size(&mut self, part: Part, size: ContentSize) {
        *match part {
            Part::Opening => &mut self.opening_size,
            Part::Conversation => &mut self.conversation_size,
        } += size;
    }

    /// An element of the conversation has ended: a boundary.
    pub(super) fn end_element(&mut self) {
        self.elements += 1;
        let prefix = Prefix { hash: self.conversation, size: self.conversation_size };
        self.boundaries.push(Boundary { number: self.elements, prefix });
        if self.boundaries.len() > BOUNDARIES_MAX {
            self.keep_multiples();
            while self.boundaries.len() > BOUNDARIES_MAX - THINNED_MIN {
                self.stride *= 2;
                self.keep_multiples();
            }
        }
    }

    fn keep_multiples(&mut self) {
        let recent = self.elements.saturating_sub(RECENT_MAX as u64);
        let stride = self.stride;
        self.boundaries.retain(|kept| kept.number > recent || kept.number.is_multiple_of(stride));
    }

    /// The prefixes, shortest first: the opening alone, if there is one, and each boundary's.
    pub(super) fn finish(mut self) -> Vec<Prefix> {
        self.begin_opening_member(0);
        let has_opening = self.opening_size != ContentSize::default();
        let opening = has_opening.then(Prefix::default).into_iter();
        let conversation = self.boundaries.iter().map(|boundary| boundary.prefix);
        opening.chain(conversation).map(|prefix| self.after_opening(prefix)).collect()
    }

    fn after_opening(&self, prefix: Prefix) -> Prefix {
        let mut size = self.opening_size;
        size += prefix.size;
        Prefix { hash: mixed(chained(mixed(self.opening), prefix.hash)), size }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        http::head::Fields,
        inspect::{Inspection, Inspector},
    };

    /// Claude Code's call number `call`: the same conversation with two more messages each time, the
    /// mark on the latest one, and other numbers around it.
    fn claude(call: usize, system: &str) -> String {
        let messages = (0..=2 * call).map(|number| {
            let role = if number % 2 == 0 { "user" } else { "assistant" };
            let mark = if number == 2 * call { r#","cache_control":{"type":"ephemeral"}"# } else { "" };
            format!(
                r#"{{"role":"{role}","content":[{{"type":"text","text":"\u00e9 message {number}\n"{mark}}}]}}"#
            )
        });
        let messages = messages.collect::<Vec<_>>().join(",");
        format!(
            r#"{{"model":"m","messages":[{messages}],"max_tokens":{},"stream":{},"temperature":0.{call},"metadata":{{"user_id":"call-{call}"}},"system":[{{"type":"text","text":"{system}","cache_control":{{"type":"ephemeral"}}}}],"tools":[{{"name":"Bash","input_schema":{{"type":"object","properties":{{}}}}}}]}}"#,
            32_000 - call,
            call.is_multiple_of(2),
        )
    }

    fn of(body: &str) -> Vec<Prefix> {
        Inspection::of(&Fields::default(), body.as_bytes()).prefixes
    }

    fn shared(one: &[Prefix], other: &[Prefix]) -> usize {
        one.iter().zip(other).take_while(|(one, other)| one == other).count()
    }

    #[test]
    fn calls_of_one_conversation_share_all_that_was_sent_before() {
        for call in 0..20 {
            let (earlier, later) = (of(&claude(call, "Be brief.")), of(&claude(call + 1, "Be brief.")));
            assert_eq!(earlier.len(), 2 * call + 2, "the opening, and a boundary after each message");
            assert_eq!(shared(&earlier, &later), earlier.len());
        }
        let other_system = of(&claude(3, "Be verbose."));
        assert_eq!(shared(&of(&claude(3, "Be brief!..")), &other_system), 0, "as long, and another text");
    }

    #[test]
    fn the_prefixes_do_not_depend_on_the_cuts() {
        let body = claude(30, "Be brief. 你好 😀");
        for step in 1..20 {
            let mut inspector = Inspector::default();
            body.as_bytes().chunks(step).for_each(|piece| inspector.feed(piece));
            assert_eq!(inspector.finish(&Fields::default()).prefixes, of(&body), "step {step}");
        }
    }

    #[test]
    fn the_order_of_the_body_has_no_say_and_the_order_of_messages_has() {
        let (system, tools) = (r#""system":"S""#, r#""tools":[{"name":"T"}]"#);
        let (one, two) = (r#"{"role":"user","content":"1"}"#, r#"{"role":"user","content":"2"}"#);
        let first = of(&format!(r#"{{{system},{tools},"messages":[{one},{two}]}}"#));
        let last = of(&format!(r#"{{"messages":[{one},{two}],{tools},{system}}}"#));
        assert_eq!((first.len(), shared(&first, &last)), (3, 3));
        let turned = of(&format!(r#"{{{system},{tools},"messages":[{two},{one}]}}"#));
        assert_eq!(shared(&first, &turned), 1, "the opening");
        assert_ne!(first[2].hash, turned[2].hash);
        let elsewhere = of(&format!(r#"{{"tools":"S","system":[{{"name":"T"}}],"messages":[{one},{two}]}}"#));
        assert_eq!(shared(&first, &elsewhere), 0);
    }

    #[test]
    fn chat_completions_responses_and_plain_prompts_have_prefixes() {
        let chat = |more: &str| {
            of(&format!(
                r#"{{"messages":[{{"role":"system","content":"S"}},{{"role":"user","content":"Q"}},{{"role":"assistant","content":null,"tool_calls":[{{"id":"c1","function":{{"name":"f","arguments":"{{}}"}}}}]}}{more}],"prompt_cache_key":"k{more:.1}","max_completion_tokens":{}}}"#,
                more.len()
            ))
        };
        let later = chat(r#",{"role":"tool","tool_call_id":"c1","content":"R"}"#);
        assert_eq!((later.len(), shared(&chat(""), &later)), (4, 3));
        let responses = |id: u8| {
            of(&format!(
                r#"{{"instructions":"S","input":[{{"type":"message","id":"m{id}","content":"Q"}},{{"type":"reasoning","encrypted_content":"x"}}]}}"#
            ))
        };
        assert_eq!((responses(1).len(), shared(&responses(1), &responses(2))), (3, 3));
        let plain = of(r#"{"prompt":"Once upon a time"}"#);
        assert_eq!((plain.len(), plain[0].size.text.chars()), (1, 16));
        assert_eq!(of(r#"{"input":["one","two"]}"#).len(), 2);
        assert!(of(r#"{"query":"q"}"#).is_empty() && of(r#"{"prompt":"cut"#).is_empty());
    }

    #[test]
    fn all_of_a_long_text_counts_and_so_does_an_image() {
        let with = |last: &str| {
            let data = "QUJD".repeat(1_000);
            of(&format!(
                r#"{{"messages":[{{"content":[{{"type":"text","text":"{0}{last}"}},{{"type":"image","source":{{"type":"base64","data":"{data}{last}"}}}}]}}]}}"#,
                "x".repeat(5_000)
            ))
        };
        let (one, other) = (with("a"), with("b"));
        assert_eq!((one[0].size, one[0].size.attachments), (other[0].size, 1));
        assert_ne!(one[0].hash, other[0].hash);
    }

    /// A conversation of so many elements after an opening.
    fn prefixes(elements: u64) -> Vec<Prefix> {
        let mut builder = PrefixBuilder::default();
        builder.begin_opening_member(1);
        let size = ContentSize { attachments: 1, ..ContentSize::default() };
        builder.add_size(Part::Opening, size);
        for element in 0..elements {
            builder.add(Part::Conversation, Event::Text, element, 3);
            builder.add_size(Part::Conversation, size);
            builder.end_element();
        }
        builder.finish()
    }

    #[test]
    fn the_last_boundaries_are_all_kept_and_coarser_ones_before() {
        for elements in [0, 1, 31, 64, 65, 66, 100, 1_000, 20_000] {
            let found = prefixes(elements);
            assert!(found.len() <= PREFIXES_MAX, "{} of {elements}", found.len());
            let covered: Vec<u64> = found.iter().map(|prefix| prefix.size.attachments - 1).collect();
            assert_eq!(covered.first(), Some(&0), "the opening alone");
            let recent = covered.iter().rev().take(RECENT_MAX).copied();
            assert!(recent.eq((0..=elements).rev().take(RECENT_MAX)), "{elements}: {covered:?}");
            let gap = covered.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(1);
            assert!(gap <= 1 + elements / 8, "a gap of {gap} in {elements}: {covered:?}");
        }
    }

    #[test]
    fn whoever_goes_far_back_in_a_conversation_shares_much_of_what_was_left() {
        let hashes = |elements| prefixes(elements).iter().map(|prefix| prefix.hash).collect::<BTreeSet<_>>();
        for (long, back_to) in [(200, 150), (1_000, 400), (5_000, 4_000)] {
            let known = hashes(long);
            let found = prefixes(back_to);
            let shared = found.iter().rev().find(|prefix| known.contains(&prefix.hash)).expect("the opening");
            assert!(shared.size.attachments * 4 > back_to * 3, "{} of {back_to}", shared.size.attachments);
        }
    }
}
