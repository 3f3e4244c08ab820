//! Whether what an agent got is what the fake has sent: all of it, or the beginning of it.

use serde_json::Value;

use crate::work::{Dialect, Request};

/// Whether a body that ended in good order is the whole answer. The error says what is wrong with it.
pub(crate) fn check_whole(request: &Request, body: &[u8]) -> Result<(), String> {
    let seen = if request.is_stream {
        let stream = Stream::read(request.dialect, body)?;
        if !stream.is_ended {
            return Err(format!(
                "the stream ends after {} words without its last event",
                words(&stream.text)
            ));
        }
        stream.text
    } else {
        let value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let at = match request.dialect {
            Dialect::Anthropic => "/content/0/text",
            Dialect::OpenAi => "/choices/0/message/content",
        };
        value.pointer(at).and_then(Value::as_str).ok_or("no text in the answer")?.to_owned()
    };
    if seen == request.expected_text {
        Ok(())
    } else {
        Err(format!("{} words where {} were sent", words(&seen), words(&request.expected_text)))
    }
}

/// Whether a body that was cut is the beginning of the answer. The error says what is wrong with it.
pub(crate) fn check_beginning(request: &Request, body: &[u8]) -> Result<(), String> {
    if !request.is_stream {
        return Ok(()); // Half of a JSON text tells nothing.
    }
    let stream = Stream::read(request.dialect, body)?;
    if request.expected_text.starts_with(&stream.text) {
        Ok(())
    } else {
        Err(format!("{} words that are not how the answer begins", words(&stream.text)))
    }
}

/// What the complete events of a stream say.
struct Stream {
    text: String,
    is_ended: bool,
}

impl Stream {
    fn read(dialect: Dialect, body: &[u8]) -> Result<Self, String> {
        let body = String::from_utf8_lossy(body);
        let complete = body.rfind("\n\n").map_or("", |end| &body[..end]);
        let (mut text, mut is_ended) = (String::new(), false);
        for data in complete.lines().filter_map(|line| line.strip_prefix("data: ")) {
            if is_ended {
                return Err("an event after the last one".to_owned());
            }
            if data == "[DONE]" {
                is_ended = true;
                continue;
            }
            let event: Value = serde_json::from_str(data).map_err(|error| format!("{error} in {data}"))?;
            is_ended = event["type"] == "message_stop";
            let word = match dialect {
                Dialect::Anthropic => &event["delta"]["text"],
                Dialect::OpenAi => &event["choices"][0]["delta"]["content"],
            };
            text.push_str(word.as_str().unwrap_or_default());
        }
        Ok(Self { text, is_ended })
    }
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}
