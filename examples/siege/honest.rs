//! Honest users: each asks for a small stream ten times a second, and somebody asks whether the proxy is up.
//!
//! They wait for long before they call it a failure, and try nothing again: what an attack does to them is seen.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::common::ending::Ending;
use crate::common::ranks::nearest_rank;
use crate::support::client::{Client, Cut};
use crate::support::fake::answer_text;

/// How many there are. Every second one connects anew for each request, as a flood of connections shows to no other.
pub(crate) const USERS: usize = 4;

/// Between the beginnings of two requests of one user, and of two probes.
const EVERY: Duration = Duration::from_millis(100);

/// Silence for so long is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// Words of an answer.
const EVENTS: usize = 5;

/// Between two of them, in milliseconds.
const EVENT_INTERVAL_MS: u64 = 5;

const PROBE: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// What honest users saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Until the answer's head, from before connecting.
    pub(crate) began: Vec<Duration>,
    /// Until the answer's end.
    pub(crate) whole: Vec<Duration>,
    /// Until the end of `/health`.
    pub(crate) probes: Vec<Duration>,
    pub(crate) failures: Vec<String>,
}

/// Three ranks of one kind of time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ranks(pub(crate) [Duration; 3]);

impl Seen {
    /// The median, the 99th percentile and the maximum of each kind.
    pub(crate) fn ranks(&self) -> [Ranks; 3] {
        [&self.began, &self.whole, &self.probes].map(|times| {
            let mut sorted = times.clone();
            sorted.sort_unstable();
            Ranks([50, 99, 100].map(|percent| nearest_rank(&sorted, percent)))
        })
    }
}

/// Works until the ending is called; `user` [`USERS`] is who asks for `/health`.
pub(crate) fn work(user: usize, proxy: SocketAddr, ending: &Ending, seen: &Mutex<Seen>) {
    let mut kept = None;
    let mut next = Instant::now() + EVERY * u32::try_from(user).unwrap_or(0) / 5;
    while ending.pause(next.saturating_duration_since(Instant::now())).is_ok() {
        next = (next + EVERY).max(Instant::now());
        let client = kept.take();
        let result = if user == USERS { probe(proxy) } else { ask(proxy, client) };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(answer) if user == USERS => seen.probes.push(answer.whole),
            Ok(answer) => {
                seen.began.push(answer.began);
                seen.whole.push(answer.whole);
                kept = answer.client.filter(|_| user.is_multiple_of(2));
            }
            Err(why) => seen.failures.push(why),
        }
    }
}

/// One answer, and the connection that it came on.
struct Answer {
    began: Duration,
    whole: Duration,
    client: Option<Client>,
}

fn ask(proxy: SocketAddr, client: Option<Client>) -> Result<Answer, String> {
    let body =
        r#"{"model":"honest","max_tokens":64,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Authorization: Bearer fw_honest\r\nx-fake-events: {EVENTS}\r\nx-fake-interval-ms: {EVENT_INTERVAL_MS}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (answer, text) = exchange(proxy, client, request.as_bytes())?;
    let said: String = text.lines().filter_map(word).collect();
    if said == answer_text(EVENTS) { Ok(answer) } else { Err(format!("not the answer: {text:?}")) }
}

/// What an event of the stream says.
fn word(line: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(line.strip_prefix("data: ")?).ok()?;
    event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
}

fn probe(proxy: SocketAddr) -> Result<Answer, String> {
    let (answer, text) = exchange(proxy, None, PROBE)?;
    if text.contains(r#""status""#) { Ok(answer) } else { Err(format!("not /health: {text:?}")) }
}

/// Sends a request and reads the answer, which must be 200.
fn exchange(proxy: SocketAddr, client: Option<Client>, request: &[u8]) -> Result<(Answer, String), String> {
    let from = Instant::now();
    let told = |what: &str, why: String| format!("{what} after {:.1} s: {why}", from.elapsed().as_secs_f64());
    let cut = |cut: Cut| told("no whole answer", cut.to_string());
    let mut client = match client {
        Some(client) => client,
        None => Client::try_connect(proxy).map_err(|error| told("no connection", error.to_string()))?,
    };
    client.set_read_timeout(PATIENCE);
    client.send(request).map_err(|error| told("not sent", error.to_string()))?;
    let head = client.try_read_head().map_err(cut)?;
    let began = from.elapsed();
    let body = client.read_body_to_end().map_err(cut)?;
    if head.status != 200 {
        return Err(told(&head.status.to_string(), body.text()));
    }
    Ok((Answer { began, whole: from.elapsed(), client: Some(client) }, body.text()))
}
