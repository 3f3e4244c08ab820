//! How an agent works: request, answer, tool run, and again; on 429 what an SDK does, and then a human.
//!
//! The same code for both sides. What it meets, it tells the [`Tally`].

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::support::client::{Client, CutReason, ResponseHead};
use crate::tally::Tally;
use crate::work::{Dialect, Dice, Step, Work};

/// Retries of a failed request before the SDK gives up, as in the Anthropic and OpenAI SDKs.
const RETRIES: u32 = 2;

/// The pause before the first retry; the next ones double it.
const BACKOFF: Duration = Duration::from_millis(500);

/// A `retry-after` of so many seconds is obeyed.
const RETRY_AFTER_OBEYED: std::ops::RangeInclusive<u64> = 1..=60;

/// A human comes after so much of the time given, evenly spread.
const HUMAN_SPREAD: std::ops::Range<f64> = 0.8..1.2;

/// The agents start within so many seconds.
const START_SECONDS: std::ops::Range<f64> = 0.0..2.0;

/// How often somebody who waits for an answer looks whether the demo is over.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a stream may stand still: much longer than the fake's events are apart.
const STREAM_TIMEOUT: Duration = Duration::from_secs(20);

/// Where an agent sends its requests.
pub(crate) enum BaseUrl {
    /// `https://localhost:PORT/inference`: the fake itself.
    Tls { address: SocketAddr, tls: Arc<ClientConfig> },
    /// `http://127.0.0.1:PORT`: the proxy.
    Plain { address: SocketAddr },
}

impl BaseUrl {
    fn connect(&self) -> Client {
        match self {
            Self::Tls { address, tls } => Client::connect_tls(address, "localhost", Arc::clone(tls)),
            Self::Plain { address } => Client::connect(address),
        }
    }

    fn base_path(&self) -> &'static str {
        match self {
            Self::Tls { .. } => "/inference",
            Self::Plain { .. } => "",
        }
    }
}

/// The end of the demo, which all agents hear of.
#[derive(Default)]
pub(crate) struct Ending {
    is_called: Mutex<bool>,
    called: Condvar,
}

/// The demo is over: whatever is under way is left.
struct Over;

impl Ending {
    /// Ends the demo.
    pub(crate) fn call(&self) {
        *self.is_called.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.called.notify_all();
    }

    /// Waits, unless the demo ends first.
    fn pause(&self, duration: Duration) -> Result<(), Over> {
        let is_called = self.is_called.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.called.wait_timeout_while(is_called, duration, |is_called| !*is_called);
        let (is_called, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *is_called { Err(Over) } else { Ok(()) }
    }

    fn check(&self) -> Result<(), Over> {
        self.pause(Duration::ZERO)
    }
}

/// What became of one request.
enum Answer {
    /// It was streamed to its end.
    Whole,
    /// It has to be tried again, after so long if the server said so.
    Failed { retry_after: Option<Duration> },
}

/// One agent of one side.
pub(crate) struct Agent<'a> {
    number: usize,
    base_url: &'a BaseUrl,
    tally: &'a Tally,
    ending: &'a Ending,
    /// How long until a human sees that the agent has stopped and says "continue".
    human_comes_after: Duration,
    work: Work,
    /// For what is not the agent's work: jitter, and the human's time.
    dice: Dice,
}

impl<'a> Agent<'a> {
    pub(crate) fn new(
        number: usize,
        base_url: &'a BaseUrl,
        tally: &'a Tally,
        ending: &'a Ending,
        human_comes_after: Duration,
    ) -> Self {
        let dice = Dice::new(1_000 + number as u64);
        Self { number, base_url, tally, ending, human_comes_after, work: Work::new(number), dice }
    }

    /// Works until the demo ends.
    pub(crate) fn run(mut self) {
        let Err(Over) = self.work_on() else { return };
    }

    /// One step after the other.
    fn work_on(&mut self) -> Result<(), Over> {
        let start = self.dice.between(START_SECONDS);
        self.ending.pause(Duration::from_secs_f64(start))?;
        loop {
            let step = self.work.next_step();
            let wanted = Instant::now();
            while !self.try_step(step)? {
                self.wait_for_human()?;
            }
            self.tally.finished(wanted.elapsed());
            self.ending.pause(step.tool)?;
            self.work.learn(step);
        }
    }

    /// A step with the retries of an SDK. False when it failed for good.
    fn try_step(&mut self, step: Step) -> Result<bool, Over> {
        for retry in 0..=RETRIES {
            match self.request(step)? {
                Answer::Whole => return Ok(true),
                Answer::Failed { .. } if retry == RETRIES => {}
                Answer::Failed { retry_after } => {
                    let backoff = (BACKOFF * 2_u32.pow(retry)).mul_f64(self.dice.between(0.75..1.0));
                    self.ending.pause(retry_after.unwrap_or(backoff))?;
                    self.tally.retried();
                }
            }
        }
        self.tally.failed();
        Ok(false)
    }

    fn wait_for_human(&mut self) -> Result<(), Over> {
        let pause = self.human_comes_after.mul_f64(self.dice.between(HUMAN_SPREAD));
        self.tally.human_is_wanted(self.number);
        let paused = self.ending.pause(pause);
        self.tally.human_came(self.number);
        self.work.hear_continue();
        paused
    }

    /// One request on a connection of its own.
    fn request(&self, step: Step) -> Result<Answer, Over> {
        self.ending.check()?;
        self.tally.stands_still(self.number);
        let failed = || {
            self.tally.saw_other_error();
            Ok(Answer::Failed { retry_after: None })
        };
        let mut client = self.base_url.connect();
        if client.send(&self.request_bytes(step)).is_err() {
            return failed();
        }
        let Some(head) = self.wait_for_head(&mut client)? else { return failed() };
        let number = |name| head.header(name).and_then(|value| value.parse().ok());
        self.tally.waited_in_queue(Duration::from_millis(number("x-fireworks-proxy-wait-ms").unwrap_or(0)));
        match head.status {
            200 if self.read_stream(&mut client)? => Ok(Answer::Whole),
            429 => {
                self.tally.saw_429();
                let seconds = number("retry-after").filter(|seconds| RETRY_AFTER_OBEYED.contains(seconds));
                Ok(Answer::Failed { retry_after: seconds.map(Duration::from_secs) })
            }
            _ => failed(),
        }
    }

    fn request_bytes(&self, step: Step) -> Vec<u8> {
        let body = self.work.body();
        let target = format!("{}{}", self.base_url.base_path(), self.work.dialect().path());
        let length = [("host", "localhost".to_owned()), ("content-length", body.len().to_string())];
        let mut bytes = format!("POST {target} HTTP/1.1\r\n");
        for (name, value) in length.iter().chain(&self.work.headers(step)) {
            bytes.extend([name, ": ", value, "\r\n"]);
        }
        bytes.extend(["\r\n", &body]);
        bytes.into_bytes()
    }

    /// Waits for the head for as long as it takes; None when the connection ended instead.
    fn wait_for_head(&self, client: &mut Client) -> Result<Option<ResponseHead>, Over> {
        client.set_read_timeout(LOOK_EVERY);
        loop {
            self.ending.check()?;
            match client.try_read_head() {
                Ok(head) => return Ok(Some(head)),
                Err(cut) if matches!(cut.reason, CutReason::Timeout(_)) => {}
                Err(_) => return Ok(None),
            }
        }
    }

    /// Reads the stream. Whether it ended as it should.
    fn read_stream(&self, client: &mut Client) -> Result<bool, Over> {
        client.set_read_timeout(STREAM_TIMEOUT);
        let mut last = Vec::new();
        loop {
            self.ending.check()?;
            match client.read_chunk() {
                Ok(Some(chunk)) => {
                    self.tally.moves_on(self.number);
                    last = chunk;
                }
                Ok(None) => return Ok(ends_well(&last, self.work.dialect())),
                Err(_) => return Ok(false),
            }
        }
    }
}

/// Whether a stream's last chunk holds the event that ends it.
fn ends_well(last_chunk: &[u8], dialect: Dialect) -> bool {
    String::from_utf8_lossy(last_chunk).contains(dialect.end_mark())
}
