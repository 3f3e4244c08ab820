//! One simulated agent: a request, its answer, a pause, and the next one.
//!
//! It tries nothing again, so that whatever the proxy lets through is seen.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;

use crate::answer::{check_beginning, check_whole};
use crate::books::{Books, HeadSeen, Outcome, Record, Stage};
use crate::common::ending::{Ending, Over};
use crate::support::client::{Client, Cut, CutReason, ResponseHead};
use crate::verdict::{MAX_HOLD, MAX_WAIT};
use crate::work::{Manner, Request, Work};

/// Who reads slowly takes this little from its socket ahead of time.
const SLOW_RECEIVE_BUFFER_BYTES: usize = 16 * 1024;

/// Chunks that are read before reading stops, or the agent leaves.
const CHUNKS_BEFORE_A_STOP: usize = 4;

/// Silence for so long is a request that the proxy has lost: it may wait, then retry for as long as it may, and then
/// meet the slowest answer there is.
const HUNG_AFTER: Duration = Duration::from_secs(MAX_WAIT.as_secs() + MAX_HOLD.as_secs() + 60);

/// What the agents share.
pub(crate) struct Shared<'a> {
    pub(crate) proxy: SocketAddr,
    pub(crate) books: &'a Books,
    pub(crate) ending: &'a Ending,
    /// The number of the next request.
    pub(crate) next_id: AtomicU64,
}

/// One agent.
pub(crate) struct Agent<'a> {
    number: usize,
    shared: &'a Shared<'a>,
    work: Work,
    /// The connection, if it can carry another request.
    client: Option<Client>,
}

/// What came instead of an answer.
enum Trouble {
    Outcome(Outcome),
    Cut(Cut),
}

impl<'a> Agent<'a> {
    pub(crate) fn new(number: usize, seed: u64, shared: &'a Shared<'a>) -> Self {
        Self { number, shared, work: Work::new(seed, number), client: None }
    }

    /// Works until the run ends.
    pub(crate) fn run(mut self) {
        let Err(Over) = self.work_on() else { return };
        self.hang_up();
    }

    fn work_on(&mut self) -> Result<(), Over> {
        self.shared.ending.pause(self.work.start_after())?;
        loop {
            let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
            let request = self.work.next_request(id);
            let mut head = None;
            let outcome = match self.connect()? {
                Ok(client) => self.ask(client, &request, &mut head),
                Err(error) => Outcome::NotConnected(error.to_string()),
            };
            self.shared.books.enter(Record { id, agent: self.number, head, outcome });
            if self.client.is_none() {
                self.hang_up();
            }
            self.shared.ending.pause(request.think)?;
        }
    }

    /// The connection of the last request where it can be used again, and otherwise a new one.
    fn connect(&mut self) -> Result<std::io::Result<Client>, Over> {
        if let Some(client) = self.client.take() {
            return Ok(Ok(client));
        }
        let connected = Client::try_connect(self.shared.proxy).and_then(|mut client| {
            client.set_read_timeout(HUNG_AFTER);
            let handle = client.handle()?;
            Ok((client, handle))
        });
        match connected {
            Ok((client, handle)) => {
                self.shared.ending.watch(self.number, handle)?;
                Ok(Ok(client))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Lets go of the last handle of the connection but the client's own.
    fn hang_up(&self) {
        self.shared.ending.forget(self.number);
    }

    /// One request and its answer.
    fn ask(&mut self, mut client: Client, request: &Request, seen: &mut Option<HeadSeen>) -> Outcome {
        let outcome = match self.try_ask(&mut client, request, seen) {
            Ok((outcome, keeps_alive)) => {
                // Half of the agents connect anew for each request.
                self.client = Some(client).filter(|_| keeps_alive && self.number % 4 < 2);
                return outcome;
            }
            Err(Trouble::Outcome(outcome)) => outcome,
            Err(Trouble::Cut(cut)) if matches!(cut.reason, CutReason::Timeout(_)) => {
                Outcome::Hung(if seen.is_some() { Stage::Answer } else { Stage::Waiting })
            }
            Err(Trouble::Cut(cut)) if seen.is_none() => Outcome::NoAnswer(format!("{:?}", cut.reason)),
            Err(Trouble::Cut(cut)) => match (cut.reason, check_beginning(request, &cut.got)) {
                (CutReason::BadFraming(how), _) => Outcome::Corrupt(how),
                (_, Ok(())) => Outcome::Cut,
                (_, Err(wrong)) => Outcome::Corrupt(wrong),
            },
        };
        // What the end of the run has done to the connection is nobody's fault.
        let was_done_to_it =
            matches!(outcome, Outcome::NoAnswer(_) | Outcome::Cut | Outcome::Left(_) | Outcome::Hung(_));
        if was_done_to_it && self.shared.ending.is_called() {
            let stage = match outcome {
                Outcome::Left(stage) | Outcome::Hung(stage) => stage,
                _ if seen.is_some() => Stage::Answer,
                _ => Stage::Waiting,
            };
            return Outcome::Interrupted(stage);
        }
        outcome
    }

    /// The outcome of a request that was answered to the end, and whether the connection can be used again.
    fn try_ask(
        &self,
        client: &mut Client,
        request: &Request,
        seen: &mut Option<HeadSeen>,
    ) -> Result<(Outcome, bool), Trouble> {
        self.send(client, request)?;
        let sent = Instant::now();
        let head = wait_for_head(client, request.manner)?;
        let number = |name| head.header(name).and_then(|value| value.parse().ok());
        *seen = Some(HeadSeen {
            after: sent.elapsed(),
            retries: number("x-fireworks-proxy-retries"),
            kept_back: number("x-fireworks-proxy-wait-ms").map(Duration::from_millis),
        });
        // Errors are read to their end by everybody.
        let manner = if head.status == 200 { request.manner } else { Manner::Patient };
        let body = self.read_body(client, manner)?;
        let outcome = match head.status {
            200 => check_whole(request, &body).map_or_else(Outcome::Corrupt, |()| Outcome::Whole),
            status => Outcome::Status { status, own_code: own_code(&body) },
        };
        Ok((outcome, !says_close(&head)))
    }

    fn send(&self, client: &mut Client, request: &Request) -> Result<(), Trouble> {
        let is_left = request.manner == Manner::LeavesInUpload;
        let is_slow = matches!(request.manner, Manner::PausesReading(_) | Manner::HalfReads(_));
        if let (true, Ok(handle)) = (is_slow, client.handle()) {
            // If it cannot be set, less waits in the proxy.
            let _ = SockRef::from(&handle).set_recv_buffer_size(SLOW_RECEIVE_BUFFER_BYTES);
        }
        let count = if is_left { request.bytes.len() / 2 } else { request.bytes.len() };
        match client.send(&request.bytes[..count]) {
            Ok(()) if is_left => Err(Trouble::Outcome(Outcome::Left(Stage::Upload))),
            Ok(()) => Ok(()),
            Err(_) if self.shared.ending.is_called() => {
                Err(Trouble::Outcome(Outcome::Interrupted(Stage::Upload)))
            }
            Err(error) => {
                Err(Trouble::Outcome(Outcome::NoAnswer(format!("the request was not taken: {error}"))))
            }
        }
    }

    /// Reads a body in its manner, to its end or until the agent leaves.
    fn read_body(&self, client: &mut Client, manner: Manner) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        for chunks in 1.. {
            match client.read_chunk() {
                Ok(Some(chunk)) => body.extend(chunk),
                Ok(None) => break,
                Err(cut) => {
                    body.extend(cut.got);
                    return Err(Trouble::Cut(Cut { got: body, reason: cut.reason }));
                }
            }
            if chunks == CHUNKS_BEFORE_A_STOP {
                self.stop_reading(manner)?;
            }
        }
        Ok(body)
    }

    fn stop_reading(&self, manner: Manner) -> Result<(), Trouble> {
        let (pause, leaves) = match manner {
            Manner::Patient | Manner::LeavesInUpload | Manner::LeavesWaiting(_) => return Ok(()),
            Manner::LeavesInStream => (Duration::ZERO, true),
            Manner::PausesReading(pause) => (pause, false),
            Manner::HalfReads(pause) => (pause, true),
        };
        match self.shared.ending.pause(pause) {
            Err(Over) => Err(Trouble::Outcome(Outcome::Interrupted(Stage::Answer))),
            Ok(()) if leaves => Err(Trouble::Outcome(Outcome::Left(Stage::Answer))),
            Ok(()) => Ok(()),
        }
    }
}

/// Waits for the final head, or for as long as the agent's patience lasts.
fn wait_for_head(client: &mut Client, manner: Manner) -> Result<ResponseHead, Trouble> {
    let patience = if let Manner::LeavesWaiting(patience) = manner { Some(patience) } else { None };
    if let Some(patience) = patience {
        client.set_read_timeout(patience);
    }
    loop {
        match client.try_read_head() {
            Ok(head) if head.status < 200 => {}
            Ok(head) => {
                client.set_read_timeout(HUNG_AFTER);
                return Ok(head);
            }
            Err(cut) if patience.is_some() && matches!(cut.reason, CutReason::Timeout(_)) => {
                return Err(Trouble::Outcome(Outcome::Left(Stage::Waiting)));
            }
            Err(cut) => return Err(Trouble::Cut(cut)),
        }
    }
}

fn says_close(head: &ResponseHead) -> bool {
    head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// The code of an error that the proxy made itself.
fn own_code(body: &[u8]) -> Option<String> {
    let error = &serde_json::from_slice::<Value>(body).ok()?["error"];
    error["message"].as_str().filter(|message| message.starts_with("fireworks-proxy:"))?;
    Some(error["code"].as_str().unwrap_or("unnamed").to_owned())
}
