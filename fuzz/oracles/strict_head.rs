//! Heads as RFC 9112 has them, read in the plainest way: the whole text at once, line by line. Used to hold
//! what the proxy accepts against, so whatever is doubtful here is a panic.

/// A field's name and value, without white space around the value.
pub type Field = (String, Vec<u8>);

/// The first line of a head that was accepted, and its fields. Panics where it is not a head: a bare CR or
/// LF, a NUL, a folded line, a name that is no token, a value with a control character.
pub fn read(head: &[u8]) -> (Vec<u8>, Vec<Field>) {
    let text = head.strip_suffix(b"\r\n\r\n").expect("a head ends with a blank line");
    let lines = split_lines(text);
    let (first, fields) = lines.split_first().expect("a text has a first line");
    (first.clone(), fields.iter().map(|line| read_field(line)).collect())
}

fn split_lines(text: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = vec![Vec::new()];
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with(b"\r\n") {
            lines.push(Vec::new());
            at += 2;
        } else {
            assert!(!matches!(text[at], b'\r' | b'\n' | 0), "a bare CR, LF or NUL was accepted");
            lines.last_mut().expect("there is a first").push(text[at]);
            at += 1;
        }
    }
    lines
}

fn read_field(line: &[u8]) -> Field {
    let colon = line.iter().position(|byte| *byte == b':').expect("a field line has a colon");
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    assert!(is_token(name), "a field name that is no token was accepted: {}", line.escape_ascii());
    let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    assert!(value.iter().all(is_text), "a control character was accepted: {}", line.escape_ascii());
    (String::from_utf8(name.to_vec()).expect("tokens are ASCII"), trimmed(value).to_vec())
}

fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 9110, section 5.6.2.
pub fn is_token(text: &[u8]) -> bool {
    const MARKS: &[u8] = b"!#$%&'*+-.^_`|~";
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || MARKS.contains(byte))
}

/// The values of every field of that name.
pub fn values<'a>(fields: &'a [Field], name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| &**value).collect()
}

/// The elements of a list field, in lower case.
pub fn elements(fields: &[Field], name: &str) -> Vec<String> {
    let lists = values(fields, name).into_iter().map(|value| String::from_utf8_lossy(value).to_lowercase());
    lists.flat_map(|list| list.split(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>()).collect()
}

/// How a head says that its body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    /// It says nothing.
    Nothing,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// What the framing fields say. Panics where they leave room for doubt (RFC 9112, section 6.3).
pub fn declared(fields: &[Field], is_http_11: bool) -> Declared {
    let codings = values(fields, "transfer-encoding");
    let lengths = values(fields, "content-length");
    assert!(codings.len() + lengths.len() <= 1, "framing that can be read in two ways was accepted");
    if let Some(coding) = codings.first() {
        assert!(coding.eq_ignore_ascii_case(b"chunked"), "another coding than chunked was accepted");
        assert!(is_http_11, "a Transfer-Encoding in HTTP/1.0 was accepted");
        return Declared::Chunked;
    }
    let Some(length) = lengths.first() else { return Declared::Nothing };
    assert!(length.iter().all(u8::is_ascii_digit), "a length that is no number was accepted");
    let digits = std::str::from_utf8(length).expect("digits");
    Declared::Length(digits.parse().expect("a length that can be counted"))
}

/// The fields that go on: all but those of this connection alone (RFC 9110, section 7.6.1).
pub fn end_to_end(fields: &[Field]) -> Vec<Field> {
    let of_one_hop = "connection http2-settings keep-alive proxy-authenticate proxy-authorization \
                      proxy-connection te transfer-encoding upgrade";
    let never_of_one = "content-encoding content-length content-type host";
    let named = elements(fields, "connection");
    let is_listed = |list: &str, name: &str| list.split_whitespace().any(|other| other == name);
    let goes_on = |(name, _): &&Field| {
        let name = name.to_lowercase();
        !is_listed(of_one_hop, &name) && (is_listed(never_of_one, &name) || !named.contains(&name))
    };
    fields.iter().filter(goes_on).cloned().collect()
}
