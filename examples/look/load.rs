//! The load: agents that have one answer streamed after another.

use std::net::SocketAddr;

use serde_json::json;

use crate::common::ending::{Ending, Over};
use crate::support::client::Client;

/// Words of an answer, each an event of its own.
const EVENTS: usize = 200;

/// Between two of them: a fast model.
const EVENT_INTERVAL_MS: u64 = 10;

/// Characters of a prompt: some 25,000 tokens, as agents send them.
const PROMPT_CHARS: usize = 100_000;

/// Streams one answer after another until the end is called.
pub(crate) fn stream(agent: usize, proxy: SocketAddr, ending: &Ending) {
    let request = request(agent);
    while !ending.is_called() {
        if answers(agent, proxy, ending, &request).is_err() {
            return;
        }
    }
}

/// One connection, for as long as it is kept.
fn answers(agent: usize, proxy: SocketAddr, ending: &Ending, request: &[u8]) -> Result<(), Over> {
    let mut client = Client::connect(proxy);
    ending.watch(agent, client.handle().expect("a socket can be shared"))?;
    loop {
        let answered = client.send(request).is_ok()
            && client.try_read_head().is_ok_and(|head| head.status == 200)
            && client.read_body_to_end().is_ok();
        if !answered {
            return if ending.is_called() { Err(Over) } else { panic!("agent {agent} was not answered") };
        }
    }
}

fn request(agent: usize) -> Vec<u8> {
    let prompt = "word ".repeat(PROMPT_CHARS / 5);
    let body = json!({
        "model": "accounts/fireworks/models/kimi-k2p6", "stream": true, "max_tokens": 2 * EVENTS,
        "metadata": {"user_id": format!("session {agent}")},
        "messages": [{"role": "user", "content": prompt}],
    })
    .to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Authorization: Bearer fw_look\r\nUser-Agent: look/1\r\nx-fake-events: {EVENTS}\r\n\
         x-fake-interval-ms: {EVENT_INTERVAL_MS}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}
