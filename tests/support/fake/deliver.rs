//! Sends one answer the way the script wants it: framing, pace, gates and cuts.
//!
//! Every part goes out by itself, in one chunk and one flush. Decides nothing about the answer's content.

use std::time::Duration;

use super::answer::{Answer, Part, reason};
use super::hub::Hub;
use super::link::{Link, PeerGone};
use super::script::{Cut, Framing, Gate, Script};

/// How much of an answer `x-fake-split: byte` takes apart.
const SPLIT_BYTES: usize = 2 * 1024;

/// What `x-fake-garbage-head` answers.
const GARBAGE: &[u8] = b"\x16\x03\x01 this is not HTTP\r\n\r\n";

/// Why an answer was not sent to its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    PeerGone { after_last_event: bool },
    Cut,
}

/// Sends one answer.
pub(super) struct Delivery<'a> {
    pub(super) link: &'a mut Link,
    pub(super) hub: &'a Hub,
    pub(super) script: &'a Script,
    pub(super) framing: Framing,
    /// Whether the head says that the connection ends with this answer.
    pub(super) closes: bool,
    /// True for HEAD: the head of the answer without its body.
    pub(super) head_only: bool,
}

/// The framing an answer gets when the client's protocol and the script allow it.
pub(super) fn choose_framing(script: &Script, answer: &Answer, http10: bool) -> Framing {
    let default = if answer.stream { Framing::Chunked } else { Framing::Length };
    match script.framing.unwrap_or(default) {
        Framing::Chunked if http10 => Framing::Close,
        framing => framing,
    }
}

impl Delivery<'_> {
    /// Sends head and body; `sent` is called with each part's generated tokens once it is out.
    pub(super) fn run(&mut self, answer: &Answer, sent: impl FnMut(u64)) -> Result<(), Stop> {
        self.before_head()?;
        if self.script.garbage_head {
            self.send(GARBAGE)?;
            return Err(Stop::Cut);
        }
        self.send(&self.head(answer))?;
        self.cut_at(Cut::AfterHead)?;
        if self.head_only {
            return Ok(());
        }
        self.wait_at(Gate::FirstEvent)?;
        self.body(answer, sent)?;
        self.end_of_body().map_err(|stop| match stop {
            Stop::PeerGone { .. } => Stop::PeerGone { after_last_event: true },
            Stop::Cut => Stop::Cut,
        })
    }

    fn before_head(&mut self) -> Result<(), Stop> {
        if self.script.split {
            self.link.split_next(SPLIT_BYTES);
        }
        if let Some(status) = self.script.interim {
            let hint = if status == 103 { "link: </style.css>; rel=preload\r\n" } else { "" };
            self.send(format!("HTTP/1.1 {status} {}\r\n{hint}\r\n", reason(status)).as_bytes())?;
        }
        self.wait_at(Gate::Head)?;
        self.pause(self.script.head_delay)?;
        self.cut_at(Cut::BeforeHead)
    }

    fn head(&self, answer: &Answer) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
        let framing = match self.framing {
            Framing::Chunked => ("transfer-encoding".to_owned(), "chunked".to_owned()),
            Framing::Length => ("content-length".to_owned(), answer.body_length().to_string()),
            Framing::Close => ("connection".to_owned(), "close".to_owned()),
        };
        let close = (self.closes && self.framing != Framing::Close)
            .then(|| ("connection".to_owned(), "close".to_owned()));
        for (name, value) in answer.headers.iter().chain([&framing]).chain(&close) {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    fn body(&mut self, answer: &Answer, mut sent: impl FnMut(u64)) -> Result<(), Stop> {
        let middle = middle_of(&answer.parts);
        let mut paced = false;
        for (at, part) in answer.parts.iter().enumerate() {
            if part.delta && std::mem::replace(&mut paced, true) {
                self.pause(self.script.interval.unwrap_or_default())?;
            }
            if at == middle {
                self.middle(part)?;
            }
            if !part.bytes.is_empty() {
                self.send(&self.framed(&part.padded()))?;
            }
            sent(part.generated);
        }
        Ok(())
    }

    /// What happens before the middle part.
    fn middle(&mut self, next: &Part) -> Result<(), Stop> {
        self.wait_at(Gate::Middle)?;
        self.pause(self.script.stall)?;
        self.cut_at(Cut::MidStream)?;
        if self.script.cut == Some(Cut::InChunk) {
            let data = next.padded();
            let framed = self.framed(&data);
            self.send(&framed[..framed.len() - data.len().div_ceil(2) - self.framing.data_end().len()])?;
            return Err(Stop::Cut);
        }
        Ok(())
    }

    fn end_of_body(&mut self) -> Result<(), Stop> {
        match self.framing {
            Framing::Length => Ok(()), // The last byte of the body was its end.
            Framing::Close => self.pause(self.script.tail),
            Framing::Chunked => {
                self.pause(self.script.tail)?;
                self.send(b"0\r\n\r\n")
            }
        }
    }

    fn framed(&self, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(data.len() + 16);
        if self.framing == Framing::Chunked {
            bytes.extend(format!("{:x}\r\n", data.len()).into_bytes());
        }
        bytes.extend_from_slice(data);
        bytes.extend_from_slice(self.framing.data_end());
        bytes
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.link.send(bytes).map_err(Stop::from)
    }

    fn pause(&mut self, duration: Duration) -> Result<(), Stop> {
        self.link.pause(duration).map_err(Stop::from)
    }

    fn cut_at(&self, place: Cut) -> Result<(), Stop> {
        if self.script.cut == Some(place) { Err(Stop::Cut) } else { Ok(()) }
    }

    fn wait_at(&mut self, gate: Gate) -> Result<(), Stop> {
        if self.script.gate == Some(gate) && self.hub.enter_gate(self.link.inbox()) {
            self.link.wait_for_release().map_err(|gone| {
                self.hub.leave_gate(self.link.inbox());
                Stop::from(gone)
            })?;
        }
        Ok(())
    }
}

impl Framing {
    /// What follows the data of one part.
    fn data_end(self) -> &'static [u8] {
        match self {
            Self::Chunked => b"\r\n",
            Self::Length | Self::Close => b"",
        }
    }
}

impl From<PeerGone> for Stop {
    fn from(_: PeerGone) -> Self {
        Self::PeerGone { after_last_event: false }
    }
}

/// Index of the part after half of the events; of the second part when there are no events.
fn middle_of(parts: &[Part]) -> usize {
    let deltas: Vec<usize> =
        parts.iter().enumerate().filter(|(_, part)| part.delta).map(|(at, _)| at).collect();
    deltas.get(deltas.len() / 2).copied().unwrap_or(1)
}
