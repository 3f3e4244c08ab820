//! Response heads: any split is the whole, what is accepted is strict, and what is written is read back.

use fireworks_proxy::http::{
    HEAD_BYTES_MAX, HEAD_FIELDS_MAX,
    head::{Framing, ResponseHead, parse_response},
    write::relayed_response,
};

use super::{
    Outcome,
    request_head::find_end,
    strict_head::{Declared, Field, declared, end_to_end, read},
};

/// Whether a response has a body depends on these.
const METHODS: [&str; 3] = ["POST", "GET", "HEAD"];

/// What the proxy itself adds to an answer.
const OURS: (&str, &str) = ("x-fireworks-proxy-wait-ms", "1200");

/// How an answer goes on: in chunks, if need be, and whether the connection ends with it.
const WAYS: [(bool, bool); 3] = [(true, false), (true, true), (false, true)];

/// More than the fields that are added on the way to the client.
const FIELDS_ADDED_MAX: usize = 4;

/// `data` is what an upstream sends at the beginning of its connection.
pub fn response_head(data: &[u8]) -> Outcome {
    let Some(end) = find_end(data) else { return Outcome::Refused };
    let heads = METHODS.map(|method| parse_response(&data[..end], method));
    let is_accepted = heads.iter().filter(|head| head.is_ok()).count();
    assert!(is_accepted == 0 || is_accepted == METHODS.len(), "a method makes a head neither good nor bad");
    for (head, method) in heads.into_iter().zip(METHODS) {
        let Ok(head) = head else { return Outcome::Refused };
        let fields = check_strict(&data[..end], method, &head);
        // Interim responses go no further.
        let ways = if head.status < 200 { &WAYS[..0] } else { &WAYS };
        for (relays_in_chunks, close) in ways {
            check_written(&head, &fields, method, *relays_in_chunks, *close);
        }
    }
    Outcome::Accepted
}

/// Holds an accepted head against RFC 9112. Gives its fields.
fn check_strict(bytes: &[u8], method: &str, head: &ResponseHead) -> Vec<Field> {
    let (line, fields) = read(bytes);
    let (version, rest) = line.split_at_checked(9).expect("a status line begins with its version");
    let is_http_11 = match version {
        b"HTTP/1.1 " => true,
        b"HTTP/1.0 " => false,
        _ => panic!("a version that is not spoken here was accepted"),
    };
    let (code, reason) = rest.split_at_checked(3).expect("a status line has a code of three digits");
    assert!(code.iter().all(u8::is_ascii_digit) && code[0] != b'0', "an odd status was accepted");
    assert_eq!(reason.first(), Some(&b' '), "no space after the status");
    let reason = &reason[1..];
    let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    assert!(reason.iter().all(is_text), "a control character in the reason was accepted");

    let status: u16 = std::str::from_utf8(code).expect("digits").parse().expect("three digits");
    assert_ne!(status, 101, "protocols are not switched");
    if status < 200 || status == 204 {
        let is_empty = matches!(declared(&fields, is_http_11), Declared::Nothing | Declared::Length(0));
        assert!(is_empty, "a body was announced where there is none");
    }
    let has_no_body = method == "HEAD" || status < 200 || status == 204 || status == 304;
    let framing = match declared(&fields, is_http_11) {
        _ if has_no_body => Framing::Empty,
        Declared::Nothing => Framing::UntilClose,
        Declared::Length(length) => Framing::Length(length),
        Declared::Chunked => Framing::Chunked,
    };
    assert_eq!((head.status, &*head.reason, head.framing), (status, reason, framing));
    assert_eq!(fields_of(head), fields, "the fields as they came");
    fields
}

fn fields_of(head: &ResponseHead) -> Vec<Field> {
    head.fields.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

/// The head as it goes to a client is read back as what it should be. `relays_in_chunks` is for a client
/// that knows chunks: it gets them also where the upstream ends its answer by closing.
fn check_written(head: &ResponseHead, fields: &[Field], method: &str, relays_in_chunks: bool, close: bool) {
    if fields.len() + FIELDS_ADDED_MAX > HEAD_FIELDS_MAX {
        return;
    }
    let chunked = relays_in_chunks && matches!(head.framing, Framing::Chunked | Framing::UntilClose);
    let written = relayed_response(head, chunked, close, &[OURS]);
    if written.len() > HEAD_BYTES_MAX {
        return;
    }
    assert_eq!(find_end(&written), Some(written.len()), "one head and nothing behind it");
    let again = parse_response(&written, method).expect("what we write we accept");
    assert_eq!((again.status, &again.reason), (head.status, &head.reason));
    let mut expected = end_to_end(fields);
    expected.retain(|(name, _)| !name.eq_ignore_ascii_case(OURS.0));
    if head.status == 204 {
        // A length is not sent there at all (RFC 9110, section 8.6).
        expected.retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
    }
    let mut add = |name: &str, value: &str| expected.push((name.to_owned(), value.as_bytes().to_vec()));
    if chunked {
        add("Transfer-Encoding", "chunked");
    }
    add(OURS.0, OURS.1);
    if close {
        add("Connection", "close");
    }
    assert_eq!(fields_of(&again), expected);
    let framing = match head.framing {
        Framing::Chunked | Framing::UntilClose if chunked => Framing::Chunked,
        // Taken out of its chunks, it ends with the connection.
        Framing::Chunked => Framing::UntilClose,
        framing => framing,
    };
    assert_eq!(again.framing, framing);
}
