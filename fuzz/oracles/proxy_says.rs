//! What clients ask and upstreams answer in the sequences of [`super::proxy`].

use super::operations::Operations;

/// A request of one of the shapes that clients have.
pub fn request(operations: &mut Operations<'_>) -> Vec<u8> {
    const POSTS: [&str; 4] = ["/v1/chat/completions", "/v1/messages?beta=true", "/v1/responses", "/other"];
    const GETS: [&str; 4] = ["/health", "/usage", "/v1/models", "/"];
    let (kind, traits) = (operations.below(8), operations.byte());
    let has = |bit: u8| traits >> bit & 1 == 1;
    let is_chunked = has(3) && kind < POSTS.len();
    let version = if has(4) && !is_chunked { "1.0" } else { "1.1" };
    let (method, path) = match POSTS.get(kind) {
        Some(path) => ("POST", path),
        None => ("GET", &GETS[kind - POSTS.len()]),
    };
    let mut head = format!("{method} {path} HTTP/{version}\r\nHost: localhost\r\n");
    head += if has(1) { "x-api-key: a\r\n" } else { "Authorization: Bearer b\r\n" };
    for (bit, field) in
        [(5, "Expect: 100-continue\r\n"), (6, "x-stainless-timeout: 8\r\n"), (7, "Connection: close\r\n")]
    {
        head += if has(bit) { field } else { "" };
    }
    let model = if has(0) { "m" } else { "n" };
    let text = "x".repeat(usize::from(operations.byte()));
    let body = format!(r#"{{"model":"{model}","stream":{},"messages":[{{"content":"{text}"}}]}}"#, has(2));
    let rest = match (method, is_chunked) {
        ("GET", _) => "\r\n".to_owned(),
        (_, true) => format!("Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk(&body)),
        (_, false) => format!("Content-Length: {}\r\n\r\n{body}", body.len()),
    };
    (head + &rest).into_bytes()
}

/// An answer on its way.
pub struct Answer {
    /// What is not sent yet.
    pub left: Vec<u8>,
    /// Whether its end is the end of the connection.
    pub ends_with_close: bool,
}

/// An answer of one of the kinds that upstreams give, which carries its number.
pub fn answer(kind: u8, number: u64) -> Answer {
    let numbered = format!("x-answer: {number}\r\n");
    let with_length = |status: &str, fields: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\n{numbered}{fields}content-length: {}\r\n\r\n{body}", body.len())
    };
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":40,"completion_tokens":7}}"#;
    let json = "content-type: application/json\r\n";
    let stream = "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n";
    let text = match kind % 16 {
        0 => with_length("200 OK", json, usage),
        1 => {
            let events = ["data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n", "data: [DONE]\n\n"];
            let chunks: String = events.iter().map(|event| chunk(event)).collect();
            format!("HTTP/1.1 200 OK\r\n{numbered}{stream}\r\n{chunks}0\r\n\r\n")
        }
        2 => {
            let end =
                "data: {\"type\":\"message_delta\",\"usage\":{\"input_tokens\":9,\"output_tokens\":4}}\n\n";
            format!("HTTP/1.1 200 OK\r\n{numbered}{stream}\r\n{}0;x\r\nX-T: 1\r\n\r\n", chunk(end))
        }
        3 => format!("HTTP/1.1 200 OK\r\n{numbered}{json}\r\n{usage}"),
        4 => with_length("429 Too Many Requests", "retry-after: 1\r\n", "{}"),
        5 => with_length("503 Service Overloaded", "", "<html>"),
        6 => with_length("500 Oops", "connection: keep-alive, x-a\r\nx-a: 1\r\n", ""),
        7 => with_length("529 Overloaded", "retry-after-ms: 300\r\n", "{}"),
        8 => with_length("400 Bad Request", json, r#"{"error":{"code":"x"}}"#),
        9 => "HTTP/1.1 100 Continue\r\n\r\n".to_owned() + &with_length("200 OK", json, usage),
        10 => format!("HTTP/1.1 204 No Content\r\n{numbered}\r\n"),
        11 => "HTTP/1.1 200 OK\ncontent-length: 0\n\n".to_owned(),
        12 => with_length("200 OK", "x-ratelimit-limit-tokens-generated: 600\r\n", usage),
        13 => with_length("200 OK", "", &"x".repeat(200_000)),
        14 => format!("HTTP/1.1 200 OK\r\n{numbered}{stream}\r\n5\r\nhello\r\nno size\r\n"),
        _ => with_length("408 Request Timeout", "retry-after: Thu, 21 May 2026 02:00:09 GMT\r\n", "late"),
    };
    Answer { left: text.into_bytes(), ends_with_close: kind % 16 == 3 }
}

fn chunk(payload: &str) -> String {
    format!("{:x}\r\n{payload}\r\n", payload.len())
}
