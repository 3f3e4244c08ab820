//! A JSON document as the list of its scalars, each with the path of keys to it, read by `serde_json`.
//! Unlike a `serde_json::Value` it keeps the order, keys that come twice, and numbers as they are written.

use fireworks_proxy::json::{CAPTURE_BYTES_MAX, TextSize};
use serde::{
    Deserializer as _,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The path element that stands for an element of an array. No key can be mistaken for it, because it is
/// longer than what is kept of keys.
pub fn item() -> String {
    "*".repeat(CAPTURE_BYTES_MAX + 1)
}

/// One scalar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The keys to it, the outermost first, as much as is kept of them.
    pub path: Vec<String>,
    /// What it is.
    pub value: Value,
}

/// A scalar's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A string, whole.
    Text(String),
    /// A number, as it is written.
    Number(String),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
}

/// What is in a document.
#[derive(Debug, Default)]
pub struct Document {
    /// Its scalars in their order.
    pub events: Vec<Event>,
    /// Its keys in their order, whole.
    pub keys: Vec<String>,
}

/// Reads one document.
///
/// # Errors
/// What `serde_json` has against it.
pub fn read(document: &[u8]) -> serde_json::Result<Document> {
    // Asked for a tree, it checks what raw values are not checked for: depth, surrogates, magnitude.
    serde_json::from_slice::<serde_json::Value>(document)?;
    let raw: &RawValue = serde_json::from_slice(document)?;
    let mut walk = Walk { document: Document::default(), path: Vec::new() };
    walk.value(raw)?;
    Ok(walk.document)
}

/// How the proxy counts characters.
pub fn size_of(text: &str) -> TextSize {
    let count = |codes: std::ops::Range<u32>| {
        text.chars().filter(|character| codes.contains(&u32::from(*character))).count() as u64
    };
    TextSize { ascii: count(0..0x80), narrow: count(0x80..0x800), wide: count(0x800..0x0011_0000) }
}

/// As much of a text as is kept: whole characters within a number of bytes.
pub fn start_of(text: &str) -> &str {
    let end = (0..=text.len().min(CAPTURE_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

struct Walk {
    document: Document,
    path: Vec<String>,
}

impl Walk {
    fn value(&mut self, raw: &RawValue) -> serde_json::Result<()> {
        let text = raw.get();
        let value = match text.as_bytes().first() {
            Some(b'{') => return serde_json::Deserializer::from_str(text).deserialize_map(self),
            Some(b'[') => return serde_json::Deserializer::from_str(text).deserialize_seq(self),
            Some(b'"') => Value::Text(serde_json::from_str(text)?),
            Some(b'n') => Value::Null,
            Some(b't' | b'f') => Value::Bool(text == "true"),
            _ => Value::Number(text.to_owned()),
        };
        self.document.events.push(Event { path: self.path.clone(), value });
        Ok(())
    }
}

impl<'de> Visitor<'de> for &mut Walk {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an array or an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.path.push(item());
        while let Some(raw) = items.next_element::<&RawValue>()? {
            self.value(raw).map_err(serde::de::Error::custom)?;
        }
        self.path.pop();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some((key, raw)) = entries.next_entry::<String, &RawValue>()? {
            self.path.push(start_of(&key).to_owned());
            self.document.keys.push(key);
            self.value(raw).map_err(serde::de::Error::custom)?;
            self.path.pop();
        }
        Ok(())
    }
}
