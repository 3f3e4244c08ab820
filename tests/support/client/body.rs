//! Response bodies: how they are delimited, read whole or piece by piece, and how they can be cut.

use std::fmt;
use std::time::Duration;

use super::{Client, ResponseHead};

/// A body that ended as its framing says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The bytes with the framing taken off.
    pub bytes: Vec<u8>,
    /// The chunks as they were framed; one piece for other framings.
    pub chunks: Vec<Vec<u8>>,
}

impl Body {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The values of the `data:` lines of an event stream, in order.
    pub fn sse_data(&self) -> Vec<String> {
        self.text().lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }
}

/// A head or a body that did not arrive whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// What had arrived.
    pub got: Vec<u8>,
    /// What came instead of the rest.
    pub reason: CutReason,
}

/// What came instead of the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// The peer closed.
    Eof,
    /// The peer closed TCP, but TLS was not told.
    EofWithoutCloseNotify,
    /// Nothing for that long.
    Timeout(Duration),
    /// A reset or another failure of the connection.
    Failed(String),
    /// Bytes that are not what the framing says.
    BadFraming(String),
}

impl Cut {
    pub(super) fn new(got: &[u8], reason: CutReason) -> Self {
        Self { got: got.to_vec(), reason }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} after {:?}", self.reason, String::from_utf8_lossy(&self.got))
    }
}

/// What is left to read of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Ended,
    Length(usize),
    Chunked,
    Close,
}

impl Framing {
    pub(super) fn of(head: &ResponseHead, method: &str) -> Result<Self, Cut> {
        let bad = |text: &str| Err(Cut::new(&head.raw, CutReason::BadFraming(text.to_owned())));
        if method == "HEAD" || head.status < 200 || [204, 304].contains(&head.status) {
            return Ok(Self::Ended);
        }
        match (head.header("transfer-encoding"), head.header("content-length")) {
            (Some(_), Some(_)) => bad("both Transfer-Encoding and Content-Length"),
            (Some("chunked"), None) => Ok(Self::Chunked),
            (Some(_), None) => bad("Transfer-Encoding other than chunked"),
            (None, Some(length)) => length.parse().map(Self::Length).or_else(|_| bad("Content-Length")),
            (None, None) => Ok(Self::Close),
        }
    }
}

impl Client {
    /// Reads the rest of the body; a cut says what had arrived of it.
    pub fn read_body_to_end(&mut self) -> Result<Body, Cut> {
        let mut body = Body::default();
        loop {
            match self.read_chunk() {
                Ok(Some(chunk)) => {
                    body.bytes.extend_from_slice(&chunk);
                    body.chunks.push(chunk);
                }
                Ok(None) => return Ok(body),
                Err(cut) => return Err(Cut::new(&[body.bytes, cut.got].concat(), cut.reason)),
            }
        }
    }

    /// Reads the next chunk, or what arrived next of a body with another framing; None at the body's end.
    ///
    /// A cut inside a chunk says what had arrived of that chunk.
    pub fn read_chunk(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        match self.framing {
            Framing::Ended | Framing::Length(0) => {
                self.framing = Framing::Ended;
                Ok(None)
            }
            Framing::Length(left) => {
                self.fill(1)?;
                let piece = self.take(left.min(self.received.len()));
                self.framing = Framing::Length(left - piece.len());
                Ok(Some(piece))
            }
            Framing::Chunked => self.read_framed_chunk(),
            Framing::Close => match self.fill(1) {
                Ok(()) => Ok(Some(std::mem::take(&mut self.received))),
                Err(cut) if cut.reason == CutReason::Eof => {
                    self.framing = Framing::Ended;
                    Ok(None)
                }
                Err(cut) => Err(cut),
            },
        }
    }

    /// Reads from the body until `wanted` has been seen; returns all of it. For waiting on a certain event.
    pub fn read_until(&mut self, wanted: &str) -> Result<String, Cut> {
        let mut seen = Vec::new();
        loop {
            match self.read_chunk() {
                Ok(Some(chunk)) => seen.extend(chunk),
                Ok(None) => return Err(Cut::new(&seen, CutReason::Eof)),
                Err(cut) => return Err(Cut::new(&[seen, cut.got].concat(), cut.reason)),
            }
            let text = String::from_utf8_lossy(&seen);
            if text.contains(wanted) {
                return Ok(text.into_owned());
            }
        }
    }

    fn read_framed_chunk(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        let line = self.read_line()?;
        let digits = line.split(';').next().unwrap_or_default();
        let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let Some(size) = usize::from_str_radix(digits, 16).ok().filter(|_| valid) else {
            return Err(Cut::new(&[], CutReason::BadFraming(format!("chunk size {line:?}"))));
        };
        if size == 0 {
            while !self.read_line()?.is_empty() {} // Trailers.
            self.framing = Framing::Ended;
            return Ok(None);
        }
        self.fill(size)?;
        let chunk = self.take(size);
        if self.read_line()?.is_empty() {
            Ok(Some(chunk))
        } else {
            Err(Cut::new(&chunk, CutReason::BadFraming("no CRLF after the chunk".to_owned())))
        }
    }

    /// One line of the framing, without its CRLF.
    fn read_line(&mut self) -> Result<String, Cut> {
        loop {
            if let Some(at) = self.received.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.take(at + 2);
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.read_more().map_err(|reason| Cut::new(&[], reason))?;
        }
    }

    /// Receives until `count` bytes are there.
    fn fill(&mut self, count: usize) -> Result<(), Cut> {
        while self.received.len() < count {
            self.read_more().map_err(|reason| Cut::new(&self.received, reason))?;
        }
        Ok(())
    }
}
