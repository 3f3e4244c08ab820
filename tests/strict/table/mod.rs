//! The cases as data. Bytes are written as they are sent, with Rust's escapes.
//!
//! What goes for requests and responses alike is one row in [`fields`], [`framing`] or [`chunks`] and becomes a
//! case of each; the rest is in [`requests`] and [`responses`].

mod chunks;
mod fields;
mod framing;
mod requests;
mod responses;

use std::collections::BTreeSet;

use fireworks_proxy::http::head::Framing;

/// A request, or several on one connection.
pub(crate) struct RequestCase {
    pub(crate) name: String,
    pub(crate) section: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// The requests that are accepted, in order.
    pub(crate) accepted: Vec<Accepted>,
    /// What comes of the connection behind them.
    pub(crate) end: End,
}

/// A request as it has to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) method: &'static str,
    pub(crate) target: &'static str,
    pub(crate) framing: Framing,
    pub(crate) body: &'static [u8],
}

/// What comes of a client's connection behind the requests that were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It waits for another request.
    Open,
    /// It serves no other request.
    Closed,
    /// A request has begun and is not whole.
    Incomplete,
    /// What follows is refused with this status.
    Refused(u16),
}

/// What an upstream sends before it closes.
pub(crate) struct ResponseCase {
    pub(crate) name: String,
    pub(crate) section: &'static str,
    /// The method of the request that it answers.
    pub(crate) method: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) outcome: Answered,
}

/// What an answer has to be understood as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// A whole answer: its status, framing and body.
    Whole(u16, Framing, &'static [u8]),
    /// The connection ends within the body, of which so much had come.
    Cut(u16, &'static [u8]),
    /// The framing of the body is malformed behind so much of it.
    Broken(u16, &'static [u8]),
    /// The head is refused.
    Refused,
    /// The connection ends before the head does.
    NoHead,
}

/// What has to come of a row that is put into a request and into a response.
#[derive(Debug, Clone, Copy)]
enum Judged {
    /// The message is whole, and its body is this.
    Whole(Framing, &'static [u8]),
    /// The message is not whole, and so much of its body has come.
    Short(&'static [u8]),
    /// The head leaves doubt.
    Malformed,
    /// The framing of the body is malformed behind so much of it.
    Broken(&'static [u8]),
}

/// A row of the shared tables: name, section, bytes, outcome.
type SharedRow = (&'static str, &'static str, &'static [u8], Judged);

/// Puts a shared row into a `POST /x`, between these bytes.
fn in_request(before: &[u8], row: &SharedRow, after: &[u8]) -> RequestCase {
    let (name, section, bytes, judged) = *row;
    let accepted = |framing, body| Accepted { method: "POST", target: "/x", framing, body };
    let (accepted, end) = match judged {
        // No body and an empty one are the same to whoever reads a request.
        Judged::Whole(Framing::Length(0), body) => (vec![accepted(Framing::Empty, body)], End::Open),
        Judged::Whole(framing, body) => (vec![accepted(framing, body)], End::Open),
        Judged::Short(_) => (vec![], End::Incomplete),
        Judged::Malformed | Judged::Broken(_) => (vec![], End::Refused(400)),
    };
    let start = b"POST /x HTTP/1.1\r\nHost: localhost\r\n";
    let bytes = [start, before, bytes, after].concat();
    RequestCase { name: format!("request: {name}"), section, bytes, accepted, end }
}

/// Puts a shared row into a response with the status 200, between these bytes.
fn in_response(before: &[u8], row: &SharedRow, after: &[u8]) -> ResponseCase {
    let (name, section, bytes, judged) = *row;
    let outcome = match judged {
        Judged::Whole(framing, body) => Answered::Whole(200, framing, body),
        Judged::Short(body) => Answered::Cut(200, body),
        Judged::Malformed => Answered::Refused,
        Judged::Broken(body) => Answered::Broken(200, body),
    };
    let bytes = [b"HTTP/1.1 200 OK\r\n", before, bytes, after].concat();
    ResponseCase { name: format!("response: {name}"), section, method: "GET", bytes, outcome }
}

const CHUNKED: &[u8] = b"Transfer-Encoding: chunked\r\n\r\n";

/// Every request.
pub(crate) fn all_requests() -> Vec<RequestCase> {
    let fields = fields::ROWS.iter().map(|row| in_request(b"Content-Length: 0\r\n", row, b"\r\n\r\n"));
    let framing = framing::ROWS.iter().map(|row| in_request(b"", row, b""));
    let chunks = chunks::ROWS.iter().map(|row| in_request(CHUNKED, row, b""));
    fields.chain(framing).chain(chunks).chain(requests::cases()).collect()
}

/// Every response.
pub(crate) fn all_responses() -> Vec<ResponseCase> {
    let fields = fields::ROWS.iter().map(|row| in_response(b"Content-Length: 0\r\n", row, b"\r\n\r\n"));
    let framing = framing::ROWS.iter().map(|row| in_response(b"", row, b""));
    let chunks = chunks::ROWS.iter().map(|row| in_response(CHUNKED, row, b""));
    fields.chain(framing).chain(chunks).chain(responses::cases()).collect()
}

/// The least number of cases.
const CASES_MIN: usize = 250;

#[test]
fn the_table_is_large_its_names_are_unique_and_each_case_names_a_section() {
    let (requests, responses) = (all_requests(), all_responses());
    let of_requests = requests.iter().map(|case| (&case.name, case.section));
    let cases: Vec<_> = of_requests.chain(responses.iter().map(|case| (&case.name, case.section))).collect();
    println!("{} requests and {} responses", requests.len(), responses.len());
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
    let mut names = BTreeSet::new();
    for (name, section) in cases {
        assert!(names.insert(name), "{name:?} is there twice");
        let number = ["RFC 9110, ", "RFC 9112, ", "RFC 9113, ", "RFC 3986, "];
        let number = number.iter().find_map(|rfc| section.strip_prefix(rfc));
        let is_section = |number: &str| number.split('.').all(|part| part.parse::<u8>().is_ok());
        assert!(number.is_some_and(is_section), "{name}: {section:?} is no section");
    }
}
