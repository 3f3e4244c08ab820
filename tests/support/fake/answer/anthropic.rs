//! The Anthropic-compatible `/v1/messages`: cached tokens are not part of `input_tokens`.

use super::super::tools::ToolCall;
use super::{Part, Reply, UsageReport, frame, quoted};

/// A message that is not streamed.
pub(super) fn message(reply: &Reply) -> String {
    let Reply { id, model, .. } = reply;
    let (text, stop) = (quoted(&reply.text()), stop_reason(reply));
    let call = reply.call.as_ref().map(|call| format!(",{}", tool_use(reply, call, &call.arguments)));
    let call = call.unwrap_or_default();
    let usage =
        if reply.reports_in_body() { format!(r#","usage":{}"#, full_usage(reply)) } else { String::new() };
    format!(
        r#"{{"id":"{id}","type":"message","role":"assistant","model":{model},"content":[{{"type":"text","text":{text}}}{call}],"stop_reason":"{stop}","stop_sequence":null{usage}}}"#
    )
}

/// A streamed message: Fireworks reports nothing at the start and everything in the one `message_delta`.
pub(super) fn events(reply: &Reply) -> Vec<Part> {
    let Reply { id, model, .. } = reply;
    let at_start = start_usage(reply);
    let start = format!(
        r#"{{"type":"message_start","message":{{"id":"{id}","type":"message","role":"assistant","model":{model},"content":[],"stop_reason":null,"stop_sequence":null,"usage":{at_start}}}}}"#
    );
    let block = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    let mut parts = vec![
        frame(event("message_start", &start)),
        frame(event("content_block_start", block)),
        frame(event("ping", r#"{"type":"ping"}"#)),
    ];
    parts.extend(reply.deltas(|word| {
        let text = quoted(word);
        let data = format!(
            r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":{text}}}}}"#
        );
        event("content_block_delta", &data)
    }));
    let delta = format!(
        r#"{{"type":"message_delta","delta":{{"stop_reason":"{}","stop_sequence":null}}{}}}"#,
        stop_reason(reply),
        end_usage(reply)
    );
    parts.push(frame(event("content_block_stop", r#"{"type":"content_block_stop","index":0}"#)));
    if let Some(call) = &reply.call {
        parts.extend(tool_use_events(reply, call));
    }
    parts.push(frame(event("message_delta", &delta)));
    parts.push(frame(event("message_stop", r#"{"type":"message_stop"}"#)));
    parts
}

/// The block of a tool call: its start without arguments, the arguments in pieces, its end.
fn tool_use_events(reply: &Reply, call: &ToolCall) -> Vec<Part> {
    let block = tool_use(reply, call, "{}");
    let start = format!(r#"{{"type":"content_block_start","index":1,"content_block":{block}}}"#);
    let mut parts = vec![frame(event("content_block_start", &start))];
    parts.extend(call.pieces().map(|piece| {
        let piece = quoted(&piece);
        let delta = format!(r#"{{"type":"input_json_delta","partial_json":{piece}}}"#);
        let data = format!(r#"{{"type":"content_block_delta","index":1,"delta":{delta}}}"#);
        frame(event("content_block_delta", &data))
    }));
    parts.push(frame(event("content_block_stop", r#"{"type":"content_block_stop","index":1}"#)));
    parts
}

fn tool_use(reply: &Reply, call: &ToolCall, input: &str) -> String {
    let (id, name) = (reply.call_id(), quoted(&call.name));
    format!(r#"{{"type":"tool_use","id":"{id}","name":{name},"input":{input}}}"#)
}

fn event(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn start_usage(reply: &Reply) -> String {
    if reply.report == UsageReport::GenuineAnthropic {
        let (input, cached) = (reply.usage.uncached(), reply.usage.cached);
        format!(r#"{{"input_tokens":{input},"cache_read_input_tokens":{cached},"output_tokens":1}}"#)
    } else {
        usage(0, 0, 0)
    }
}

fn end_usage(reply: &Reply) -> String {
    match reply.report {
        UsageReport::None | UsageReport::HeaderOnly => String::new(),
        UsageReport::GenuineAnthropic => format!(r#","usage":{{"output_tokens":{}}}"#, reply.usage.generated),
        _ => format!(r#","usage":{}"#, full_usage(reply)),
    }
}

fn full_usage(reply: &Reply) -> String {
    usage(reply.usage.uncached(), reply.usage.cached, reply.usage.generated)
}

fn usage(input: u64, cached: u64, output: u64) -> String {
    format!(
        r#"{{"input_tokens":{input},"cache_creation_input_tokens":0,"cache_read_input_tokens":{cached},"output_tokens":{output}}}"#
    )
}

fn stop_reason(reply: &Reply) -> &'static str {
    match reply.call {
        _ if reply.capped => "max_tokens",
        Some(_) => "tool_use",
        None => "end_turn",
    }
}
