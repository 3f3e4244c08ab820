//! The scanner: one state for each place within a document that can wait for more bytes.

use super::{CAPTURE_BYTES_MAX, DEPTH_MAX, Scalar, TextSize, Visitor, is_number, words};

/// The scanner's place in one document. `K` is the [`Visitor::Key`].
#[derive(Debug, Clone)]
pub struct Scanner<K> {
    state: State,
    /// The key of the value at hand in each open array or object.
    path: Vec<K>,
    /// For each of these, whether it is an object.
    is_object: Vec<bool>,
    capture: Vec<u8>,
    size: TextSize,
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    /// A value, or the end of an empty array.
    FirstItem,
    /// A key, or the end of an empty object.
    FirstKey,
    Key,
    Colon,
    /// A comma, or the end of the innermost array or object.
    AfterValue,
    Text(Role),
    /// After a backslash.
    Escape(Role),
    /// In the four digits of a `\u` escape.
    Unicode {
        role: Role,
        digits: u8,
        code: u16,
        /// The first half of a surrogate pair that came just before.
        high: Option<u16>,
    },
    /// After the first half of a surrogate pair.
    HighSurrogate(Role, u16),
    /// After that and a backslash.
    HighSurrogateEscape(Role, u16),
    Number,
    Literal {
        word: &'static str,
        matched: usize,
    },
    /// After the document: white space only.
    Ended,
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Key,
    Value,
}

impl<K: Copy> Default for Scanner<K> {
    fn default() -> Self {
        Self {
            state: State::Value,
            path: Vec::new(),
            is_object: Vec::new(),
            capture: Vec::new(),
            size: TextSize::default(),
        }
    }
}

impl<K: Copy> Scanner<K> {
    /// Scans the next bytes of the document.
    pub fn feed<V: Visitor<Key = K>>(&mut self, mut bytes: &[u8], visitor: &mut V) {
        while let Some(byte) = bytes.first() {
            if let State::Text(role) = self.state {
                bytes = self.feed_text(bytes, role, visitor);
            } else {
                if self.state == State::Broken {
                    return;
                }
                self.step(*byte, visitor);
                bytes = &bytes[1..];
            }
        }
    }

    /// Says that no more bytes come. Whether they were one whole document.
    pub fn finish<V: Visitor<Key = K>>(&mut self, visitor: &mut V) -> bool {
        if self.state == State::Number && self.path.is_empty() {
            self.end_number(visitor);
        }
        self.state == State::Ended
    }

    /// Makes ready for another document.
    pub fn reset(&mut self) {
        self.state = State::Value;
        self.path.clear();
        self.is_object.clear();
        self.capture.clear();
        self.size = TextSize::default();
    }

    /// Scans up to the next quote, escape or end of input in one go: nearly all of a body is text.
    #[inline]
    fn feed_text<'a, V: Visitor<Key = K>>(
        &mut self,
        bytes: &'a [u8],
        role: Role,
        visitor: &mut V,
    ) -> &'a [u8] {
        let (plain, rest) = bytes.split_at(words::plain_text_len(bytes));
        self.size += words::text_size(plain);
        self.keep(plain);
        visitor.text(plain);
        let Some(byte) = rest.first() else { return rest };
        match byte {
            b'"' => self.end_text(role, visitor),
            b'\\' => self.state = State::Escape(role),
            _ => self.state = State::Broken,
        }
        &rest[1..]
    }

    #[inline]
    fn step<V: Visitor<Key = K>>(&mut self, byte: u8, visitor: &mut V) {
        let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.state = match (self.state, byte) {
            (State::Escape(role), _) => self.escape(role, byte, visitor),
            (State::Unicode { role, digits, code, high }, _) => {
                let Some(digit) = hex_digit(byte) else { return self.state = State::Broken };
                self.unicode(role, digits, code << 4 | digit, high, visitor)
            }
            (State::HighSurrogate(role, high), b'\\') => State::HighSurrogateEscape(role, high),
            (State::HighSurrogate(role, _), _) => {
                return self.lone_surrogate(State::Text(role), byte, visitor);
            }
            (State::HighSurrogateEscape(role, high), b'u') => {
                State::Unicode { role, digits: 0, code: 0, high: Some(high) }
            }
            (State::HighSurrogateEscape(role, _), _) => {
                return self.lone_surrogate(State::Escape(role), byte, visitor);
            }
            (State::Number, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E') => {
                self.keep(&[byte]);
                State::Number
            }
            (State::Number, _) => return self.after_number(byte, visitor),
            (State::Literal { word, matched }, _) => self.literal(word, matched, byte, visitor),
            (state, _) if is_space => state,
            (State::FirstItem, b']') | (State::FirstKey, b'}') | (State::AfterValue, b']' | b'}') => {
                self.close(byte, visitor)
            }
            (State::Value | State::FirstItem, _) => self.begin_value::<V>(byte),
            (State::FirstKey | State::Key, b'"') => self.begin_text(Role::Key),
            (State::Colon, b':') => State::Value,
            (State::AfterValue, b',') if self.is_object.last() == Some(&true) => State::Key,
            (State::AfterValue, b',') => State::Value,
            _ => State::Broken,
        };
    }

    #[inline]
    fn begin_value<V: Visitor<Key = K>>(&mut self, byte: u8) -> State {
        let opened = match byte {
            b'"' => return self.begin_text(Role::Value),
            b'-' | b'0'..=b'9' => {
                self.capture.clear();
                self.keep(&[byte]);
                return State::Number;
            }
            b't' => return State::Literal { word: "true", matched: 1 },
            b'f' => return State::Literal { word: "false", matched: 1 },
            b'n' => return State::Literal { word: "null", matched: 1 },
            b'{' => State::FirstKey,
            b'[' => State::FirstItem,
            _ => return State::Broken,
        };
        if self.path.len() == DEPTH_MAX {
            return State::Broken;
        }
        self.path.push(V::ITEM);
        self.is_object.push(byte == b'{');
        opened
    }

    #[inline]
    fn close<V: Visitor<Key = K>>(&mut self, byte: u8, visitor: &mut V) -> State {
        if self.is_object.pop() != Some(byte == b'}') {
            return State::Broken;
        }
        self.path.pop();
        visitor.end(&self.path);
        self.after_value()
    }

    #[inline]
    fn after_value(&self) -> State {
        if self.path.is_empty() { State::Ended } else { State::AfterValue }
    }

    #[inline]
    fn begin_text(&mut self, role: Role) -> State {
        self.capture.clear();
        self.size = TextSize::default();
        State::Text(role)
    }

    #[inline]
    fn end_text<V: Visitor<Key = K>>(&mut self, role: Role, visitor: &mut V) {
        let start = lossy_start(&self.capture);
        match role {
            Role::Key => {
                let (innermost, path) = self.path.split_last_mut().expect("a key is inside an object");
                *innermost = visitor.key(path, &start, self.size);
                self.state = State::Colon;
            }
            Role::Value => {
                visitor.scalar(&self.path, Scalar::Text { start: &start, size: self.size });
                self.state = self.after_value();
            }
        }
    }

    fn after_number<V: Visitor<Key = K>>(&mut self, byte: u8, visitor: &mut V) {
        self.end_number(visitor);
        if self.state != State::Broken {
            self.step(byte, visitor);
        }
    }

    fn end_number<V: Visitor<Key = K>>(&mut self, visitor: &mut V) {
        let text = String::from_utf8_lossy(&self.capture);
        if !is_number(&text) {
            self.state = State::Broken;
            return;
        }
        visitor.scalar(&self.path, Scalar::Number(&text));
        self.state = self.after_value();
    }

    fn literal<V: Visitor<Key = K>>(
        &self,
        word: &'static str,
        matched: usize,
        byte: u8,
        visitor: &mut V,
    ) -> State {
        if word.as_bytes().get(matched) != Some(&byte) {
            return State::Broken;
        }
        if matched + 1 < word.len() {
            return State::Literal { word, matched: matched + 1 };
        }
        let value = if word == "null" { Scalar::Null } else { Scalar::Bool(word == "true") };
        visitor.scalar(&self.path, value);
        self.after_value()
    }

    #[inline]
    fn escape<V: Visitor<Key = K>>(&mut self, role: Role, byte: u8, visitor: &mut V) -> State {
        let character = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return State::Unicode { role, digits: 0, code: 0, high: None },
            _ => return State::Broken,
        };
        self.keep_char(character, visitor);
        State::Text(role)
    }

    /// After one more digit of a code.
    fn unicode<V: Visitor<Key = K>>(
        &mut self,
        role: Role,
        digits: u8,
        code: u16,
        high: Option<u16>,
        visitor: &mut V,
    ) -> State {
        if digits < 3 {
            return State::Unicode { role, digits: digits + 1, code, high };
        }
        let is_low = (0xdc00..0xe000).contains(&code);
        match high {
            Some(high) if is_low => {
                let pair = char::decode_utf16([high, code]).next().and_then(Result::ok);
                self.keep_char(pair.unwrap_or(char::REPLACEMENT_CHARACTER), visitor);
                return State::Text(role);
            }
            Some(_) => self.keep_char(char::REPLACEMENT_CHARACTER, visitor),
            None => {}
        }
        if (0xd800..0xdc00).contains(&code) {
            return State::HighSurrogate(role, code);
        }
        let character = char::from_u32(u32::from(code)).unwrap_or(char::REPLACEMENT_CHARACTER);
        self.keep_char(character, visitor);
        State::Text(role)
    }

    /// Half of a pair without its other half: JSON allows it, UTF-8 has no way to write it.
    fn lone_surrogate<V: Visitor<Key = K>>(&mut self, next: State, byte: u8, visitor: &mut V) {
        self.keep_char(char::REPLACEMENT_CHARACTER, visitor);
        self.state = next;
        self.feed(&[byte], visitor);
    }

    #[inline]
    fn keep(&mut self, bytes: &[u8]) {
        let room = CAPTURE_BYTES_MAX.saturating_sub(self.capture.len());
        if room == 0 {
            return;
        }
        self.capture.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    #[inline]
    fn keep_char<V: Visitor<Key = K>>(&mut self, character: char, visitor: &mut V) {
        self.size.add_char(character);
        let mut utf8 = [0; 4];
        let utf8 = character.encode_utf8(&mut utf8).as_bytes();
        self.keep(utf8);
        visitor.text(utf8);
    }
}

fn hex_digit(byte: u8) -> Option<u16> {
    char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok())
}

/// The captured bytes as text. A character that the bound cut in two is left off.
#[inline]
fn lossy_start(captured: &[u8]) -> std::borrow::Cow<'_, str> {
    match std::str::from_utf8(captured) {
        Err(error) if captured.len() == CAPTURE_BYTES_MAX && error.error_len().is_none() => {
            String::from_utf8_lossy(&captured[..error.valid_up_to()])
        }
        _ => String::from_utf8_lossy(captured),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes down what it hears, one line a scalar, and the whole text of each string.
    #[derive(Default)]
    struct Recorder {
        names: Vec<String>,
        lines: Vec<String>,
        text: Vec<u8>,
        texts: Vec<Vec<u8>>,
        ends: Vec<usize>,
    }

    impl Visitor for Recorder {
        type Key = usize;
        const ITEM: usize = usize::MAX;

        fn key(&mut self, _path: &[usize], name: &str, _size: TextSize) -> usize {
            self.names.push(name.to_owned());
            self.texts.push(std::mem::take(&mut self.text));
            self.names.len() - 1
        }

        fn scalar(&mut self, path: &[usize], value: Scalar<'_>) {
            let names = path.iter().map(|key| self.names.get(*key).map_or("*", String::as_str));
            let path = names.collect::<Vec<_>>().join(".");
            self.lines.push(match value {
                Scalar::Text { start, size } => {
                    self.texts.push(std::mem::take(&mut self.text));
                    format!("{path}={start:?}/{}+{}+{}", size.ascii, size.narrow, size.wide)
                }
                Scalar::Number(text) => format!("{path}={text}"),
                Scalar::Bool(value) => format!("{path}={value}"),
                Scalar::Null => format!("{path}=null"),
            });
        }

        fn text(&mut self, decoded: &[u8]) {
            self.text.extend_from_slice(decoded);
        }

        fn end(&mut self, path: &[usize]) {
            self.ends.push(path.len());
        }
    }

    fn record_in_steps(document: &[u8], step: usize) -> (Recorder, bool) {
        let (mut scanner, mut recorder) = (Scanner::default(), Recorder::default());
        document.chunks(step).for_each(|piece| scanner.feed(piece, &mut recorder));
        let whole = scanner.finish(&mut recorder);
        (recorder, whole)
    }

    fn scan_in_steps(document: &[u8], step: usize) -> (Vec<String>, bool) {
        let (recorder, whole) = record_in_steps(document, step);
        (recorder.lines, whole)
    }

    fn scan(document: &str) -> (Vec<String>, bool) {
        let whole = scan_in_steps(document.as_bytes(), document.len().max(1));
        for step in 1..document.len().min(12) {
            assert_eq!(scan_in_steps(document.as_bytes(), step), whole, "step {step} of {document}");
        }
        assert_eq!(whole.1, serde_json::from_str::<serde_json::Value>(document).is_ok(), "{document}");
        whole
    }

    #[test]
    fn scalars_come_with_their_paths() {
        let (lines, whole) = scan(r#" {"a":{"b":[1,-2.5e3,{"c":"x"}],"d":true},"e":null,"f":[],"g":{}} "#);
        assert!(whole);
        assert_eq!(lines, ["a.b.*=1", "a.b.*=-2.5e3", "a.b.*.c=\"x\"/1+0+0", "a.d=true", "e=null"]);
        assert_eq!(scan("42"), (vec!["=42".to_owned()], true));
        assert_eq!(scan("\"\""), (vec!["=\"\"/0+0+0".to_owned()], true));
    }

    #[test]
    fn text_is_decoded_and_sized() {
        let (lines, _) = scan(r#"["aé\n\u00e9\u4f60好\ud83d\ude00\\\"\/"]"#);
        assert_eq!(lines, ["*=\"aé\\né你好😀\\\\\\\"/\"/5+2+3"]);
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced() {
        for (document, text) in [
            (r#"["\ud83dx"]"#, "\u{fffd}x"),
            (r#"["\ud83d\n"]"#, "\u{fffd}\n"),
            (r#"["\ud83d\u0041"]"#, "\u{fffd}A"),
            (r#"["\ud83d\ud83d\ude00"]"#, "\u{fffd}😀"),
            (r#"["\ude00"]"#, "\u{fffd}"),
            (r#"["\ud83d"]"#, "\u{fffd}"),
        ] {
            for step in 1..9 {
                let (lines, whole) = scan_in_steps(document.as_bytes(), step);
                assert!(whole && lines[0].starts_with(&format!("*={text:?}/")), "{document}: {lines:?}");
            }
        }
    }

    #[test]
    fn long_text_is_counted_whole_and_kept_in_part() {
        let document = format!(r#"{{"k":"{}"}}"#, "é".repeat(5_000));
        let (lines, whole) = scan(&document);
        assert!(whole && lines[0].ends_with("/0+5000+0"), "{}", lines[0].len());
        assert!(lines[0].len() < CAPTURE_BYTES_MAX + 20);
        let odd = format!(r#"["a{}"]"#, "é".repeat(CAPTURE_BYTES_MAX));
        assert!(!scan(&odd).0[0].contains('\u{fffd}'), "a character cut by the bound is left off");
    }

    #[test]
    fn texts_are_heard_whole_and_decoded_however_they_are_cut() {
        let long = "é\\n\\ud83d\\ude00\\ud83d\\\\".repeat(300);
        let document = format!(r#"{{"k\u0041":["{long}",{{}}],"x":""}}"#);
        let texts = ["kA".to_owned(), "é\n😀\u{fffd}\\".repeat(300), "x".to_owned(), String::new()];
        for step in [1, 2, 3, 7, document.len()] {
            let (recorder, whole) = record_in_steps(document.as_bytes(), step);
            assert!(whole && recorder.texts == texts.clone().map(String::into_bytes), "step {step}");
            assert_eq!(recorder.ends, [2, 1, 0], "the object, the array, the document");
        }
    }

    #[test]
    fn what_is_not_json_is_noticed() {
        for document in [
            "",
            "{",
            "[1,]",
            "{\"a\":}",
            "{\"a\" 1}",
            "{a:1}",
            "[01]",
            "[1.]",
            "[.5]",
            "[1e]",
            "[+1]",
            "[-]",
            "tru",
            "truex",
            "[nul]",
            "\"\\x\"",
            "\"\\u12g4\"",
            "[1 2]",
            "{} {}",
            "[}",
            "{]",
            "]",
            "{\"a\":1,}",
            "\"a\nb\"",
            "--1",
            "1-",
        ] {
            assert!(!scan(document).1, "{document}");
        }
    }

    #[test]
    fn documents_nest_as_deep_as_serde_json_allows() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        // `scan` asks `serde_json` as well.
        assert!(scan(&nested(DEPTH_MAX)).1 && !scan(&nested(DEPTH_MAX + 1)).1);
    }
}
