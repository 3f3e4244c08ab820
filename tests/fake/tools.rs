//! Tool calls, in the three dialects, whole and as streams; and answers that come in turn.

use super::*;

const COMMAND: &str = "printf 'h\u{e9}llo' > \"made\"";

/// The schema of a tool as Anthropic's and OpenAI's requests bring it.
fn schema() -> Value {
    json!({"type": "object", "required": ["command", "description"],
        "properties": {"command": {"type": "string"}, "description": {"type": "string"}}})
}

fn asked(body: &Value) -> Value {
    let mut body = body.clone();
    body["model"] = json!("m");
    body
}

fn call(fake: &FakeFireworks, path: &str, body: &Value) -> Response {
    post(fake, path, &[("x-fake-tool", COMMAND), ("x-fake-events", "2")], &asked(body))
}

#[track_caller]
fn assert_arguments(text: &str) {
    let arguments: Value = serde_json::from_str(text).expect("the pieces make JSON");
    assert_eq!(arguments["command"], COMMAND);
    assert!(
        arguments["description"].is_string() && arguments.as_object().map(serde_json::Map::len) == Some(2)
    );
}

fn texts<'a>(events: &'a [Value], pointer: &'a str) -> String {
    events.iter().filter_map(|event| event.pointer(pointer)?.as_str()).collect()
}

#[test]
fn messages_call_a_tool_until_its_result_is_there() {
    let fake = FakeFireworks::start_default();
    let tools = json!([{"name": "Read", "input_schema": {}}, {"name": "Bash", "input_schema": schema()}]);
    let mut body = json!({"tools": tools, "messages": [{"role": "user", "content": "go"}]});
    let whole = call(&fake, MESSAGES, &body).json();
    assert_eq!((&whole["stop_reason"], &whole["content"][1]["name"]), (&json!("tool_use"), &json!("Bash")));
    assert_arguments(&whole["content"][1]["input"].to_string());

    body["stream"] = json!(true);
    let events = data(&call(&fake, MESSAGES, &body));
    let kinds: Vec<_> = events.iter().filter_map(|event| event["content_block"]["type"].as_str()).collect();
    assert_eq!(kinds, ["text", "tool_use"]);
    assert_arguments(&texts(&events, "/delta/partial_json"));
    assert_eq!(texts(&events, "/delta/stop_reason"), "tool_use");

    let result = json!({"type": "tool_result", "tool_use_id": "call_1", "content": "done"});
    let messages = body["messages"].as_array_mut().expect("a list");
    messages.push(json!({"role": "user", "content": [result, {"type": "text", "text": "go on"}]}));
    let events = data(&call(&fake, MESSAGES, &body));
    assert_eq!(texts(&events, "/delta/text"), answer_text(2));
    assert_eq!(texts(&events, "/delta/stop_reason"), "end_turn");
}

#[test]
fn chat_completions_call_a_tool_until_its_result_is_there() {
    let fake = FakeFireworks::start_default();
    let function = json!({"name": "Shell", "parameters": schema()});
    let mut body = json!({"tools": [{"type": "function", "function": function}], "messages": []});
    let whole = call(&fake, CHAT, &body).json();
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let called = &choice["message"]["tool_calls"][0];
    assert_eq!(called["function"]["name"], "Shell");
    assert_arguments(called["function"]["arguments"].as_str().expect("text"));

    body["stream"] = json!(true);
    let events = data(&call(&fake, CHAT, &body));
    let first = "/choices/0/delta/tool_calls/0";
    assert_eq!(texts(&events, &format!("{first}/function/name")), "Shell");
    assert_eq!(Some(texts(&events, &format!("{first}/id")).as_str()), Some("call_0001"));
    assert_arguments(&texts(&events, &format!("{first}/function/arguments")));
    assert_eq!(texts(&events, "/choices/0/finish_reason"), "tool_calls");

    body["messages"] = json!([{"role": "tool", "tool_call_id": "call_0001", "content": "done"}]);
    let events = data(&call(&fake, CHAT, &body));
    assert_eq!(texts(&events, "/choices/0/finish_reason"), "stop");
}

#[test]
fn responses_call_a_tool_until_its_result_is_there() {
    let fake = FakeFireworks::start_default();
    let words = json!({"type": "object", "required": ["command"],
        "properties": {"command": {"type": "array", "items": {"type": "string"}}}});
    let tools = json!([{"type": "web_search"}, {"type": "function", "name": "shell", "parameters": words}]);
    let mut body = json!({"tools": tools, "input": [{"type": "message", "role": "user", "content": "go"}]});
    let whole = call(&fake, RESPONSES, &body).json();
    let arguments = whole["output"][1]["arguments"].as_str().expect("text");
    assert_eq!(
        serde_json::from_str::<Value>(arguments).ok(),
        Some(json!({"command": ["sh", "-c", COMMAND]}))
    );

    body["stream"] = json!(true);
    let response = call(&fake, RESPONSES, &body);
    let events = data(&response);
    let (deltas, rest): (Vec<_>, Vec<_>) =
        events.into_iter().partition(|event| event["type"] == "response.function_call_arguments.delta");
    assert_eq!(texts(&deltas, "/delta"), arguments);
    let last = rest.last().expect("the end");
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["output"], whole_output(&rest));

    let output = json!({"type": "function_call_output", "call_id": "call_0001", "output": "done"});
    body["input"].as_array_mut().expect("a list").push(output);
    let events = data(&call(&fake, RESPONSES, &body));
    assert_eq!(
        events.last().map(|event| event["response"]["output"].as_array().map(Vec::len)),
        Some(Some(1))
    );
}

/// The items that the stream said were done, as the answer's output.
fn whole_output(events: &[Value]) -> Value {
    let done = events.iter().filter(|event| event["type"] == "response.output_item.done");
    done.map(|event| event["item"].clone()).collect()
}

#[test]
fn who_offers_no_tool_for_commands_gets_words() {
    let fake = FakeFireworks::start_default();
    let no_command =
        json!([{"name": "Bash", "input_schema": {"properties": {"script": {"type": "string"}}}}]);
    for tools in [json!([]), no_command, json!([{"name": "Read", "input_schema": schema()}])] {
        let answer = call(&fake, MESSAGES, &json!({"tools": tools, "messages": []})).json();
        assert_eq!(answer["stop_reason"], "end_turn", "{tools}");
        assert_eq!(answer["content"].as_array().map(Vec::len), Some(1), "{tools}");
    }
}

#[test]
fn refusals_come_in_turn_for_each_request() {
    let fake = FakeFireworks::start_default();
    let turns = [("x-fake-statuses", "429,503")];
    for body in [json!({"model": "one"}), json!({"model": "two"})] {
        let statuses: Vec<_> = (0..3).map(|_| post(&fake, CHAT, &turns, &body).status()).collect();
        assert_eq!(statuses, [429, 503, 200]);
    }
    assert_eq!(post(&fake, CHAT, &[("x-fake-statuses", "429,200")], &json!({})).status(), 400);
}

#[test]
fn other_programs_read_what_was_counted() {
    let fake = FakeFireworks::start_default();
    post(&fake, CHAT, &[("x-fake-status", "503")], &json!({}));
    let mut client = connect(&fake);
    client.request("GET", "/statistics", &[], b"");
    let page = client.read_response().json();
    let asked = json!([{"method": "POST", "target": CHAT, "status": 503}]);
    assert_eq!((&page["requests"], &page["statuses"]), (&asked, &json!({"503": 1})));
    assert_eq!((&page["malformed"], &page["script_errors"]), (&json!(0), &json!(0)));
    assert_eq!(fake.statistics().requests, 1, "asking is not counted");
}
