//! Chat completions, completions, embeddings and the list of models.

use super::super::tools::ToolCall;
use super::{CREATED, Part, Reply, UsageReport, frame, quoted};

/// A chat completion that is not streamed.
pub(super) fn chat(reply: &Reply) -> String {
    let Reply { id, model, .. } = reply;
    let (text, finish, usage) = (quoted(&reply.text()), finish_reason(reply), usage_field(reply));
    let calls = reply.call.as_ref().map(|call| {
        let function = function(&call.name, &call.arguments);
        format!(r#","tool_calls":[{{"id":"{}","type":"function","function":{function}}}]"#, reply.call_id())
    });
    let calls = calls.unwrap_or_default();
    format!(
        r#"{{"id":"{id}","object":"chat.completion","created":{CREATED},"model":{model},"choices":[{{"index":0,"message":{{"role":"assistant","content":{text}{calls}}},"finish_reason":"{finish}"}}]{usage}}}"#
    )
}

/// A streamed chat completion: role, reasoning, words, finish, perhaps the usage, the end mark.
pub(super) fn chat_events(reply: &Reply) -> Vec<Part> {
    let delta =
        |delta: &str, finish: &str| format!(r#"[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]"#);
    let mut parts = vec![
        frame(chunk(reply, &delta(r#"{"role":"assistant"}"#, "null"), "null")),
        frame(chunk(reply, &delta(r#"{"reasoning_content":"Think."}"#, "null"), "null")),
    ];
    parts.extend(reply.deltas(|word| {
        let content = format!(r#"{{"content":{}}}"#, quoted(word));
        chunk(reply, &delta(&content, "null"), "null")
    }));
    if let Some(call) = &reply.call {
        let calls = tool_call_deltas(reply, call);
        parts.extend(calls.map(|calls| frame(chunk(reply, &delta(&calls, "null"), "null"))));
    }
    parts.extend(end(reply, &delta("{}", &quoted(finish_reason(reply)))));
    parts
}

/// The deltas of a tool call: its name first, then the arguments in pieces.
fn tool_call_deltas(reply: &Reply, call: &ToolCall) -> impl Iterator<Item = String> {
    let (id, begun) = (reply.call_id(), function(&call.name, ""));
    let first = format!(r#""id":"{id}","type":"function","function":{begun}"#);
    let pieces = call.pieces().map(|piece| format!(r#""function":{{"arguments":{}}}"#, quoted(&piece)));
    let fields = std::iter::once(first).chain(pieces);
    fields.map(|fields| format!(r#"{{"tool_calls":[{{"index":0,{fields}}}]}}"#))
}

fn function(name: &str, arguments: &str) -> String {
    format!(r#"{{"name":{},"arguments":{}}}"#, quoted(name), quoted(arguments))
}

/// A completion that is not streamed.
pub(super) fn completion(reply: &Reply) -> String {
    let Reply { id, model, .. } = reply;
    let (text, finish, usage) = (quoted(&reply.text()), finish_reason(reply), usage_field(reply));
    format!(
        r#"{{"id":"{id}","object":"text_completion","created":{CREATED},"model":{model},"choices":[{{"index":0,"text":{text},"logprobs":null,"finish_reason":"{finish}"}}]{usage}}}"#
    )
}

/// A streamed completion.
pub(super) fn completion_events(reply: &Reply) -> Vec<Part> {
    let choice = |text: &str, finish: &str| {
        format!(r#"[{{"index":0,"text":{},"logprobs":null,"finish_reason":{finish}}}]"#, quoted(text))
    };
    let mut parts: Vec<Part> = reply.deltas(|word| chunk(reply, &choice(word, "null"), "null")).collect();
    parts.extend(end(reply, &choice("", &quoted(finish_reason(reply)))));
    parts
}

/// An embedding.
pub(super) fn embedding(reply: &Reply) -> String {
    let (model, prompt) = (&reply.model, reply.usage.prompt);
    format!(
        r#"{{"object":"list","data":[{{"object":"embedding","index":0,"embedding":[0.125,-0.25,0.5]}}],"model":{model},"usage":{{"prompt_tokens":{prompt},"total_tokens":{prompt}}}}}"#
    )
}

/// The list of models.
pub(super) fn models() -> String {
    let model = |name: &str| {
        format!(
            r#"{{"id":"accounts/fireworks/models/{name}","object":"model","owned_by":"fireworks","created":{CREATED},"kind":"HF_BASE_MODEL","supports_chat":true,"supports_image_input":false,"supports_tools":true,"context_length":262144}}"#
        )
    };
    format!(r#"{{"object":"list","data":[{},{}]}}"#, model("kimi-k2p6"), model("glm-5p1"))
}

/// The finish chunk, the usage where the report wants it, and the end mark.
fn end(reply: &Reply, finish_choices: &str) -> Vec<Part> {
    let usage = usage(reply);
    let trailing = reply.report == UsageReport::Trailing;
    let on_finish = if trailing || !reply.reports_in_body() { "null" } else { &usage };
    let mut parts = vec![frame(chunk(reply, finish_choices, on_finish))];
    if trailing {
        parts.push(frame(chunk(reply, "[]", &usage)));
    }
    parts.push(frame("data: [DONE]\n\n"));
    parts
}

/// One event of a stream.
fn chunk(reply: &Reply, choices: &str, usage: &str) -> String {
    let Reply { id, model, .. } = reply;
    let object = if id.starts_with("cmpl") { "text_completion" } else { "chat.completion.chunk" };
    format!(
        "data: {{\"id\":\"{id}\",\"object\":\"{object}\",\"created\":{CREATED},\"model\":{model},\"choices\":{choices},\"usage\":{usage}}}\n\n"
    )
}

fn usage_field(reply: &Reply) -> String {
    if reply.reports_in_body() { format!(r#","usage":{}"#, usage(reply)) } else { String::new() }
}

fn usage(reply: &Reply) -> String {
    let used = reply.usage;
    format!(
        r#"{{"prompt_tokens":{},"total_tokens":{},"completion_tokens":{},"prompt_tokens_details":{{"cached_tokens":{}}}}}"#,
        used.prompt,
        used.total(),
        used.generated,
        used.cached
    )
}

fn finish_reason(reply: &Reply) -> &'static str {
    match reply.call {
        _ if reply.capped => "length",
        Some(_) => "tool_calls",
        None => "stop",
    }
}
