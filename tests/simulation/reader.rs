//! What a client makes of the bytes it is sent: a reader of answers that shares no code with the proxy.

/// What was heard.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// An interim answer.
    Interim(u16),
    /// The head of an answer.
    Head(String),
    /// A part of its body, without framing.
    Payload(Vec<u8>),
    /// Its end.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Length(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailer,
    UntilClose,
}

/// Reads a stream of answers.
#[derive(Debug)]
pub struct Reader {
    state: State,
    /// The line or head that is being read.
    line: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { state: State::Head, line: Vec::new() }
    }
}

/// A field of a head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
    fields.clone().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The status of a head.
pub fn status(head: &str) -> u16 {
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    status.unwrap_or_else(|| panic!("this is no head of an answer: {head:?}"))
}

impl Reader {
    /// Reads on, up to the end of an answer at most. How much was read, and what was heard.
    pub fn read(&mut self, bytes: &[u8], is_to_head: bool) -> (usize, Vec<Heard>) {
        let (mut used, mut heard) = (0, Vec::new());
        while used < bytes.len() && heard.last() != Some(&Heard::End) {
            used += self.read_some(&bytes[used..], is_to_head, &mut heard);
        }
        (used, heard)
    }

    fn read_some(&mut self, bytes: &[u8], is_to_head: bool, heard: &mut Vec<Heard>) -> usize {
        match self.state {
            State::Length(left) | State::Chunk(left) => {
                let count = left.min(bytes.len());
                heard.push(Heard::Payload(bytes[..count].to_vec()));
                self.state = match self.state {
                    State::Length(_) if count == left => {
                        heard.push(Heard::End);
                        State::Head
                    }
                    State::Length(_) => State::Length(left - count),
                    _ if count == left => State::ChunkEnd,
                    _ => State::Chunk(left - count),
                };
                count
            }
            State::UntilClose => {
                heard.push(Heard::Payload(bytes.to_vec()));
                bytes.len()
            }
            State::Head | State::ChunkSize | State::ChunkEnd | State::Trailer => {
                self.line.push(bytes[0]);
                let end: &[u8] = if self.state == State::Head { b"\r\n\r\n" } else { b"\r\n" };
                if self.line.ends_with(end) {
                    let line = String::from_utf8(std::mem::take(&mut self.line)).expect("text");
                    self.end_line(&line, is_to_head, heard);
                }
                1
            }
        }
    }

    fn end_line(&mut self, line: &str, is_to_head: bool, heard: &mut Vec<Heard>) {
        self.state = match self.state {
            State::Head => {
                let status = status(line);
                if status < 200 {
                    heard.push(Heard::Interim(status));
                    return;
                }
                heard.push(Heard::Head(line.to_owned()));
                let length = field(line, "content-length").map(|text| text.parse().expect("a length"));
                match (length, field(line, "transfer-encoding")) {
                    _ if is_to_head || status == 204 => State::Length(0),
                    (Some(_), Some(_)) => panic!("two framings: {line:?}"),
                    (Some(length), None) => State::Length(length),
                    (None, Some("chunked")) => State::ChunkSize,
                    (None, Some(other)) => panic!("framed as {other}"),
                    (None, None) => State::UntilClose,
                }
            }
            State::ChunkSize => {
                let digits = line.trim_end().split(';').next().expect("a first part");
                let size = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("a size: {line:?}"));
                if size == 0 { State::Trailer } else { State::Chunk(size) }
            }
            State::ChunkEnd if line == "\r\n" => State::ChunkSize,
            State::Trailer if line == "\r\n" => {
                heard.push(Heard::End);
                State::Head
            }
            State::Trailer => State::Trailer,
            _ => panic!("a chunk is followed by {line:?}"),
        };
        if self.state == State::Length(0) {
            heard.push(Heard::End);
            self.state = State::Head;
        }
    }
}
