//! What clients and the upstream say.

/// A whole answer that is not streamed.
pub fn answer_bytes(prompt: u64, generated: u64) -> String {
    let usage = format!(r#"{{"prompt_tokens":{prompt},"completion_tokens":{generated}}}"#);
    let body = format!(r#"{{"id":"x","choices":[],"usage":{usage}}}"#);
    answer_with(200, "content-type: application/json\r\n", &body)
}

/// An answer with this status, these fields and this body.
pub fn answer_with(status: u16, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} So\r\n{fields}content-length: {}\r\n\r\n{body}", body.len())
}

/// The beginning of a streamed answer, with these pieces of text and no end.
pub fn streamed(pieces: &[&str]) -> String {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = |piece: &&str| {
        let event = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{piece}\"}}}}]}}\n\n");
        format!("{:x}\r\n{event}\r\n", event.len())
    };
    head.to_owned() + &pieces.iter().map(chunk).collect::<String>()
}

/// A chat request with an `x-name`, by which the upstream's side finds it, and further fields.
pub fn chat(name: &str, fields: &str, body: &str) -> Vec<u8> {
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost";
    format!("{head}\r\nx-name: {name}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
