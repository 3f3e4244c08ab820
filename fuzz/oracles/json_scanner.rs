//! The JSON scanner against `serde_json`, and any split against the whole.

use fireworks_proxy::json::{CAPTURE_BYTES_MAX, Scalar, Scanner, TextSize, Visitor};

use super::{
    Outcome,
    json_events::{self, Document, Value, item, size_of, start_of},
    split::splits,
};

/// What a scanner tells of a document.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    keys: Vec<(String, TextSize)>,
    scalars: Vec<(Vec<usize>, Told)>,
    is_whole: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Told {
    Text(String, TextSize),
    Number(String),
    Bool(bool),
    Null,
}

/// The number of a key in the order in which they came stands for it in a path.
impl Visitor for Heard {
    type Key = usize;
    const ITEM: usize = usize::MAX;

    fn key(&mut self, _path: &[usize], name: &str, size: TextSize) -> usize {
        self.keys.push((name.to_owned(), size));
        self.keys.len() - 1
    }

    fn scalar(&mut self, path: &[usize], value: Scalar<'_>) {
        let told = match value {
            Scalar::Text { start, size } => Told::Text(start.to_owned(), size),
            Scalar::Number(text) => Told::Number(text.to_owned()),
            Scalar::Bool(value) => Told::Bool(value),
            Scalar::Null => Told::Null,
        };
        self.scalars.push((path.to_vec(), told));
    }
}

/// `data` is one document, and white space.
pub fn json_scanner(data: &[u8]) -> Outcome {
    let heard = scan(&[data]);
    for pieces in splits(data) {
        assert_eq!(scan(&pieces), heard, "in {} pieces", pieces.len());
    }
    match json_events::read(data) {
        Ok(document) => {
            check(&heard, &document);
            Outcome::Accepted
        }
        Err(error) => {
            assert!(!heard.is_whole || is_more_strict(data, &error), "{error} in {}", data.escape_ascii());
            Outcome::Refused
        }
    }
}

fn scan(pieces: &[&[u8]]) -> Heard {
    let (mut scanner, mut heard) = (Scanner::default(), Heard::default());
    for piece in pieces {
        scanner.feed(piece, &mut heard);
    }
    let is_whole = scanner.finish(&mut heard);
    Heard { is_whole, ..heard }
}

/// Where `serde_json` asks for more than the scanner, which never has to make a string or a number of it.
fn is_more_strict(data: &[u8], error: &serde_json::Error) -> bool {
    let message = error.to_string();
    let reasons = ["surrogate", "hex escape", "number out of range"];
    let is_of_number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let mut runs = data.split(|byte| !is_of_number(byte));
    // Of such a number only the beginning is kept and looked at.
    let has_long_number = runs.any(|run| run.len() > CAPTURE_BYTES_MAX);
    let is_of_text =
        std::str::from_utf8(data).is_err() || reasons.iter().any(|reason| message.contains(reason));
    is_of_text || has_long_number
}

fn check(heard: &Heard, document: &Document) {
    // Of such a number only the beginning is kept, which need not be one.
    let is_long = |value: &Value| matches!(value, Value::Number(text) if text.len() > CAPTURE_BYTES_MAX);
    if document.events.iter().any(|event| is_long(&event.value)) {
        return;
    }
    assert!(heard.is_whole, "a whole document was not noticed");
    let keys: Vec<_> = document.keys.iter().map(|key| (start_of(key).to_owned(), size_of(key))).collect();
    assert_eq!(heard.keys, keys);
    assert_eq!(heard.scalars.len(), document.events.len(), "{heard:?} {document:?}");
    for ((path, told), event) in heard.scalars.iter().zip(&document.events) {
        let path: Vec<String> = path.iter().map(|key| name_of(*key, heard)).collect();
        assert_eq!(path, event.path);
        assert_eq!(*told, as_told(&event.value));
        check_count(told);
    }
}

fn name_of(key: usize, heard: &Heard) -> String {
    heard.keys.get(key).map_or_else(item, |(name, _)| name.clone())
}

fn as_told(value: &Value) -> Told {
    match value {
        Value::Text(text) => Told::Text(start_of(text).to_owned(), size_of(text)),
        Value::Number(text) => Told::Number(text.clone()),
        Value::Bool(value) => Told::Bool(*value),
        Value::Null => Told::Null,
    }
}

/// A count is the number that `serde_json` reads, and is one wherever that is a `u64`.
fn check_count(told: &Told) {
    let Told::Number(text) = told else { return };
    let count = Scalar::Number(text).as_count();
    let number: serde_json::Number = serde_json::from_str(text).expect("it was a number a moment ago");
    if let Some(whole) = number.as_u64() {
        assert_eq!(count, Some(whole));
    } else if let Some(count) = count {
        #[expect(clippy::cast_precision_loss, reason = "both sides lose it")]
        let rounded = count as f64;
        assert!(text.ends_with(".0") && text.parse() == Ok(rounded), "{text} is {count}");
    }
}
