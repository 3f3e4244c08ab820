//! One connection of a swarm: what it sends, what it reads, and at what pace. Never blocks.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;

/// The most that is sent or read in one step, so that each connection of a swarm has its turn.
const BYTES_PER_STEP: usize = 1024 * 1024;

/// A connection that does not come about in this time is none.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// What all connections of a swarm do.
#[derive(Clone)]
pub(crate) struct Manner {
    /// Sent at once, as fast as the proxy takes it.
    pub(crate) opening: Arc<[u8]>,
    pub(crate) then: Then,
    pub(crate) reading: Reading,
}

/// What a connection sends after its opening.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    Nothing,
    /// These bytes again and again, one at a time.
    Drip {
        bytes: &'static [u8],
        every: Duration,
    },
    /// Its opening again and again, as fast as the proxy takes it.
    Repeat,
    /// Nothing: it closes; every second one does so by a reset.
    Close,
}

/// What a connection reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reading {
    Nothing,
    /// So many bytes at a time. The system keeps little more than that ready for it.
    Sips {
        bytes: usize,
        every: Duration,
    },
    /// Everything, and it is kept until the proxy closes.
    Whole,
}

/// Who reads little or nothing has so little ready from its socket, as a remote client with a small window has.
const SMALL_RECEIVE_BUFFER_BYTES: usize = 64 * 1024;

/// In how many groups the connections of a swarm take turns within an interval.
const SPREAD: u32 = 64;

/// Whether there is more to do.
pub(crate) enum Progress {
    More,
    /// It has done what it was to do.
    Done,
    /// The proxy has ended it before that.
    Ended,
}

/// One connection.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Bytes sent of the opening, in its present repetition.
    opened: usize,
    /// Bytes sent of the drip.
    dripped: usize,
    next_drip: Instant,
    next_sip: Instant,
    /// What was read, if it is kept.
    pub(crate) answer: Vec<u8>,
    /// Bytes sent and read.
    pub(crate) moved: u64,
}

impl Connection {
    /// Connects. The first drip and the first sip come at some time within the interval, which `turn` spreads.
    pub(crate) fn open(proxy: SocketAddr, manner: &Manner, turn: usize) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&proxy, CONNECT_WITHIN)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let socket = SockRef::from(&stream);
        if matches!(manner.reading, Reading::Nothing | Reading::Sips { .. }) {
            socket.set_recv_buffer_size(SMALL_RECEIVE_BUFFER_BYTES)?;
        }
        if matches!(manner.then, Then::Close) && turn.is_multiple_of(2) {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        let now = Instant::now();
        let spread =
            |every: Duration| now + every / SPREAD * u32::try_from(turn).unwrap_or(0).rem_euclid(SPREAD);
        Ok(Self {
            opened: 0,
            dripped: 0,
            next_drip: if let Then::Drip { every, .. } = manner.then { spread(every) } else { now },
            next_sip: if let Reading::Sips { every, .. } = manner.reading { spread(every) } else { now },
            answer: Vec::new(),
            moved: 0,
            stream,
        })
    }

    /// Does what is due now, as far as the sockets let it.
    pub(crate) fn step(&mut self, manner: &Manner, now: Instant) -> Progress {
        match self.send(manner, now).and_then(|is_done| Ok((is_done, self.read(manner, now)?))) {
            Ok((false, false)) => Progress::More,
            Ok(_) => Progress::Done,
            Err(_) => Progress::Ended,
        }
    }

    /// Whether it is done with that.
    fn send(&mut self, manner: &Manner, now: Instant) -> io::Result<bool> {
        let mut left = BYTES_PER_STEP;
        while left > 0 {
            let due = self.due(manner, now, left);
            if due.is_empty() {
                break;
            }
            let Some(count) = taken((&self.stream).write(&due))? else { return Ok(false) };
            self.count_sent(manner, count, now);
            left -= count;
        }
        Ok(self.opened == manner.opening.len() && matches!(manner.then, Then::Close))
    }

    /// What is to be sent now.
    fn due<'a>(&self, manner: &'a Manner, now: Instant, most: usize) -> Cow<'a, [u8]> {
        let opening = &manner.opening[self.opened..];
        match manner.then {
            _ if !opening.is_empty() => Cow::Borrowed(&opening[..opening.len().min(most)]),
            Then::Drip { bytes, .. } if now >= self.next_drip => {
                Cow::Owned(vec![bytes[self.dripped % bytes.len()]])
            }
            _ => Cow::Borrowed(&[]),
        }
    }

    fn count_sent(&mut self, manner: &Manner, count: usize, now: Instant) {
        self.moved += count as u64;
        match manner.then {
            _ if self.opened < manner.opening.len() => {
                self.opened += count;
                if matches!(manner.then, Then::Repeat) && self.opened == manner.opening.len() {
                    self.opened = 0;
                }
            }
            Then::Drip { every, .. } => {
                self.dripped += count;
                self.next_drip = now + every;
            }
            _ => {}
        }
    }

    /// Whether the proxy has ended its side in good order, where that is waited for.
    fn read(&mut self, manner: &Manner, now: Instant) -> io::Result<bool> {
        let most = match manner.reading {
            Reading::Nothing => return Ok(false),
            Reading::Sips { .. } if now < self.next_sip => return Ok(false),
            Reading::Sips { bytes, every } => {
                self.next_sip = now + every;
                bytes
            }
            Reading::Whole => BYTES_PER_STEP,
        };
        let mut buffer = [0; 16 * 1024];
        let mut left = most;
        while left > 0 {
            let room = buffer.len().min(left);
            match taken((&self.stream).read(&mut buffer[..room])) {
                Ok(None) => return Ok(false),
                Ok(Some(count)) => {
                    left -= count;
                    self.moved += count as u64;
                    if matches!(manner.reading, Reading::Whole) {
                        self.answer.extend_from_slice(&buffer[..count]);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

/// How many bytes a socket took or gave; None when it does not now. No byte at all is the end.
fn taken(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
