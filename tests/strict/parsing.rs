//! Every case through `HeadSearch`, `parse_request` or `parse_response`, and `BodyReader`: whole, byte by byte and in
//! random pieces. The outcome is that of the table, however the bytes come.

use fireworks_proxy::http::{
    HttpError,
    body::BodyReader,
    head::{Framing, HeadSearch, parse_request, parse_response},
};

use crate::{
    support::dice::Dice,
    table::{Accepted, Answered, End, RequestCase, ResponseCase, all_requests, all_responses},
};

/// In how many random ways each case is split, beside whole and byte by byte.
const RANDOM_SPLITS: u64 = 6;

/// A request that no case smuggles: whatever comes before it, it has to be read as itself.
const SECOND: &[u8] = b"GET /second HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The ways to split `bytes`: the ends of the pieces of each.
fn splits(bytes: &[u8], case: u64) -> Vec<Vec<usize>> {
    let mut all = vec![vec![bytes.len()], (1..=bytes.len()).collect()];
    for way in 0..RANDOM_SPLITS {
        all.push(random_split(bytes.len(), &mut Dice::new(case, way)));
    }
    all
}

/// The ends of up to eight pieces that make up `length` bytes.
pub(crate) fn random_split(length: usize, dice: &mut Dice) -> Vec<usize> {
    let length = length as u64;
    let mut ends: Vec<usize> = (0..dice.bits() % 8)
        .map(|_| usize::try_from(dice.bits() % (length + 1)).expect("no longer than a slice"))
        .collect();
    ends.push(usize::try_from(length).expect("the length of a slice"));
    ends.sort_unstable();
    ends
}

/// A request as it was understood.
#[derive(Debug, PartialEq, Eq)]
struct Understood {
    method: String,
    target: String,
    framing: Framing,
    body: Vec<u8>,
}

impl Understood {
    fn expected(accepted: &Accepted) -> Self {
        let Accepted { method, target, framing, body } = *accepted;
        Self { method: method.to_owned(), target: target.to_owned(), framing, body: body.to_vec() }
    }
}

/// Reads requests as a session does.
#[derive(Default)]
struct Requests {
    inbox: Vec<u8>,
    search: HeadSearch,
    body: Option<(BodyReader, Understood, bool)>,
    done: Vec<Understood>,
    is_closed: bool,
}

impl Requests {
    fn read(&mut self, bytes: &[u8]) -> Result<(), HttpError> {
        self.inbox.extend_from_slice(bytes);
        while !self.is_closed {
            if let Some((reader, request, keeps_alive)) = &mut self.body {
                let used = read_body(reader, &self.inbox, &mut request.body)?;
                self.inbox.drain(..used);
                if !reader.is_ended() {
                    break;
                }
                self.is_closed = !*keeps_alive;
                self.done.extend(self.body.take().map(|(_, request, _)| request));
                continue;
            }
            while self.inbox.starts_with(b"\r\n") {
                self.inbox.drain(..2);
                self.search = HeadSearch::default();
            }
            let Some(end) = self.search.find_end(&self.inbox)? else { break };
            let head = parse_request(&self.inbox[..end])?;
            self.inbox.drain(..end);
            let (method, target) = (head.method.to_string(), head.target.to_string());
            let request = Understood { method, target, framing: head.framing, body: Vec::new() };
            self.body = Some((BodyReader::new(head.framing), request, head.keeps_alive()));
        }
        Ok(())
    }
}

/// Reads as much of the body as is there, and says how many bytes that took.
fn read_body(reader: &mut BodyReader, bytes: &[u8], body: &mut Vec<u8>) -> Result<usize, HttpError> {
    let mut used = 0;
    loop {
        let progress = reader.read(&bytes[used..])?;
        body.extend_from_slice(progress.payload);
        used += progress.used;
        if progress.used == 0 {
            return Ok(used);
        }
    }
}

fn understand_requests(bytes: &[u8], ends: &[usize]) -> (Vec<Understood>, End) {
    let (mut requests, mut start) = (Requests::default(), 0);
    for end in ends {
        if let Err(error) = requests.read(&bytes[start..*end]) {
            return (requests.done, End::Refused(error.status()));
        }
        start = *end;
    }
    let end = match requests {
        Requests { is_closed: true, .. } => End::Closed,
        Requests { body: None, ref inbox, .. } if inbox.is_empty() => End::Open,
        _ => End::Incomplete,
    };
    (requests.done, end)
}

#[test]
fn every_request_is_understood_alike_however_it_is_split() {
    for (number, RequestCase { name, section, bytes, accepted, end }) in (0..).zip(all_requests()) {
        let expected: Vec<_> = accepted.iter().map(Understood::expected).collect();
        for ends in splits(&bytes, number) {
            let (understood, then) = understand_requests(&bytes, &ends);
            assert_eq!((&understood, then), (&expected, end), "{name} ({section}), split at {ends:?}");
        }
    }
}

#[test]
fn a_request_behind_another_is_read_as_itself() {
    let second = Accepted { method: "GET", target: "/second", framing: Framing::Empty, body: b"" };
    for (number, RequestCase { name, bytes, mut accepted, end, .. }) in (0..).zip(all_requests()) {
        match end {
            End::Open => accepted.push(second),
            End::Closed | End::Refused(_) => {}
            // What is missing is taken from the second one, and rightly so.
            End::Incomplete => continue,
        }
        let expected: Vec<_> = accepted.iter().map(Understood::expected).collect();
        let bytes = [&bytes, SECOND].concat();
        for ends in splits(&bytes, number) {
            let (understood, then) = understand_requests(&bytes, &ends);
            assert_eq!((&understood, then), (&expected, end), "{name}, split at {ends:?}");
        }
    }
}

/// What an answer was understood as: the table's outcomes with a body that was read.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Whole(u16, Framing, Vec<u8>),
    Cut(u16, Vec<u8>),
    Broken(u16, Vec<u8>),
    Refused,
    NoHead,
}

impl Outcome {
    fn expected(answered: Answered) -> Self {
        match answered {
            Answered::Whole(status, framing, body) => Self::Whole(status, framing, body.to_vec()),
            Answered::Cut(status, body) => Self::Cut(status, body.to_vec()),
            Answered::Broken(status, body) => Self::Broken(status, body.to_vec()),
            Answered::Refused => Self::Refused,
            Answered::NoHead => Self::NoHead,
        }
    }
}

/// Reads a response as an exchange does, up to the upstream's end.
fn understand_response(bytes: &[u8], ends: &[usize], method: &str) -> Outcome {
    let (mut inbox, mut search, mut body, mut start) = (Vec::new(), HeadSearch::default(), Vec::new(), 0);
    let mut response: Option<(u16, Framing, BodyReader)> = None;
    for end in ends {
        inbox.extend_from_slice(&bytes[start..*end]);
        start = *end;
        while response.is_none() {
            let Ok(found) = search.find_end(&inbox) else { return Outcome::Refused };
            let Some(end) = found else { break };
            let Ok(head) = parse_response(&inbox[..end], method) else { return Outcome::Refused };
            inbox.drain(..end);
            if head.status >= 200 {
                response = Some((head.status, head.framing, BodyReader::new(head.framing)));
            }
        }
        if let Some((status, _, reader)) = &mut response {
            match read_body(reader, &inbox, &mut body) {
                Ok(used) => drop(inbox.drain(..used)),
                Err(_) => return Outcome::Broken(*status, body),
            }
        }
    }
    match response {
        None => Outcome::NoHead,
        Some((status, framing, reader)) if reader.may_close() => Outcome::Whole(status, framing, body),
        Some((status, ..)) => Outcome::Cut(status, body),
    }
}

#[test]
fn every_response_is_understood_alike_however_it_is_split() {
    for (number, case) in (0..).zip(all_responses()) {
        let ResponseCase { name, section, method, bytes, outcome } = case;
        let expected = Outcome::expected(outcome);
        for ends in splits(&bytes, number) {
            let understood = understand_response(&bytes, &ends, method);
            assert_eq!(understood, expected, "{name} ({section}), split at {ends:?}");
        }
    }
}
