//! The Responses API, with every event a client needs to put the answer together.

use super::super::tools::ToolCall;
use super::{CREATED, Part, Reply, UsageReport, frame, quoted};

/// A response that is not streamed.
pub(super) fn response(reply: &Reply) -> String {
    let message = item(reply, "completed", &reply.text());
    let call =
        reply.call.as_ref().map(|call| format!(",{}", call_item(reply, call, "completed", &call.arguments)));
    let output = format!("[{message}{}]", call.unwrap_or_default());
    object(reply, status(reply), &output, &usage(reply))
}

/// A streamed response; the usage comes with `response.completed` and nowhere else.
pub(super) fn events(reply: &Reply) -> Vec<Part> {
    let (id, text) = (item_id(reply), quoted(&reply.text()));
    let at = format!(r#""item_id":"{id}","output_index":0,"content_index":0"#);
    let (empty, full) = (content(""), content(&reply.text()));
    let started = format!(r#""response":{}"#, object(reply, "in_progress", "[]", "null"));
    let mut parts = vec![
        frame(event("response.created", &started)),
        frame(event("response.in_progress", &started)),
        frame(event("response.output_item.added", &item_field(0, &item_added(reply)))),
        frame(event("response.content_part.added", &format!(r#"{at},"part":{empty}"#))),
    ];
    parts
        .extend(reply.deltas(|word| {
            event("response.output_text.delta", &format!(r#"{at},"delta":{}"#, quoted(word)))
        }));
    let done = item(reply, "completed", &reply.text());
    parts.push(frame(event("response.output_text.done", &format!(r#"{at},"text":{text}"#))));
    parts.push(frame(event("response.content_part.done", &format!(r#"{at},"part":{full}"#))));
    parts.push(frame(event("response.output_item.done", &item_field(0, &done))));
    if let Some(call) = &reply.call {
        parts.extend(call_events(reply, call));
    }
    parts.push(frame(event("response.completed", &format!(r#""response":{}"#, response(reply)))));
    number_events(parts)
}

/// The item of a tool call: its start without arguments, the arguments in pieces and whole, its end.
fn call_events(reply: &Reply, call: &ToolCall) -> Vec<Part> {
    let at = format!(r#""item_id":"{}","output_index":1"#, call_item_id(reply));
    let added = call_item(reply, call, "in_progress", "");
    let mut parts = vec![frame(event("response.output_item.added", &item_field(1, &added)))];
    parts.extend(call.pieces().map(|piece| {
        let fields = format!(r#"{at},"delta":{}"#, quoted(&piece));
        frame(event("response.function_call_arguments.delta", &fields))
    }));
    let whole = format!(r#"{at},"name":{},"arguments":{}"#, quoted(&call.name), quoted(&call.arguments));
    let done = call_item(reply, call, "completed", &call.arguments);
    parts.push(frame(event("response.function_call_arguments.done", &whole)));
    parts.push(frame(event("response.output_item.done", &item_field(1, &done))));
    parts
}

fn call_item(reply: &Reply, call: &ToolCall, status: &str, arguments: &str) -> String {
    let (id, call_id) = (call_item_id(reply), reply.call_id());
    let (name, arguments) = (quoted(&call.name), quoted(arguments));
    format!(
        r#"{{"id":"{id}","type":"function_call","status":"{status}","call_id":"{call_id}","name":{name},"arguments":{arguments}}}"#
    )
}

fn call_item_id(reply: &Reply) -> String {
    reply.id.replace("resp_", "fc_")
}

fn event(name: &str, fields: &str) -> String {
    format!("event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":#,{fields}}}\n\n")
}

/// Writes each event's position where [`event`] left a mark.
fn number_events(parts: Vec<Part>) -> Vec<Part> {
    let numbered = |(at, part): (usize, Part)| {
        let text = String::from_utf8_lossy(&part.bytes);
        let bytes =
            text.replacen("\"sequence_number\":#", &format!("\"sequence_number\":{at}"), 1).into_bytes();
        Part { bytes, ..part }
    };
    parts.into_iter().enumerate().map(numbered).collect()
}

fn object(reply: &Reply, status: &str, output: &str, usage: &str) -> String {
    let Reply { id, model, .. } = reply;
    format!(
        r#"{{"id":"{id}","object":"response","created_at":{CREATED},"status":"{status}","model":{model},"output":{output},"usage":{usage}}}"#
    )
}

fn item_field(index: usize, item: &str) -> String {
    format!(r#""output_index":{index},"item":{item}"#)
}

fn item_added(reply: &Reply) -> String {
    let id = item_id(reply);
    format!(r#"{{"id":"{id}","type":"message","role":"assistant","status":"in_progress","content":[]}}"#)
}

fn item(reply: &Reply, status: &str, text: &str) -> String {
    let (id, content) = (item_id(reply), content(text));
    format!(
        r#"{{"id":"{id}","type":"message","role":"assistant","status":"{status}","content":[{content}]}}"#
    )
}

fn content(text: &str) -> String {
    format!(r#"{{"type":"output_text","text":{},"annotations":[]}}"#, quoted(text))
}

fn item_id(reply: &Reply) -> String {
    reply.id.replace("resp_", "msg_")
}

fn status(reply: &Reply) -> &'static str {
    if reply.capped { "incomplete" } else { "completed" }
}

fn usage(reply: &Reply) -> String {
    if !reply.reports_in_body() {
        return "null".to_owned();
    }
    let used = reply.usage;
    let (prompt, generated, cached) = (used.prompt, used.generated, used.cached);
    let fireworks = format!(
        r#""prompt_tokens":{prompt},"completion_tokens":{generated},"prompt_tokens_details":{{"cached_tokens":{cached}}},"#
    );
    let openai = format!(
        r#""input_tokens":{prompt},"input_tokens_details":{{"cached_tokens":{cached}}},"output_tokens":{generated},"output_tokens_details":{{"reasoning_tokens":0}},"#
    );
    let fields = match reply.report {
        UsageReport::FireworksSpelling => fireworks,
        UsageReport::OpenAiSpelling => openai,
        _ => fireworks + &openai,
    };
    format!(r#"{{{fields}"total_tokens":{}}}"#, used.total())
}
