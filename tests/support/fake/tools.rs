//! Tool calls: which of a request's tools takes a shell command, how it wants to be called, and whether the
//! conversation has a tool's result already.
//!
//! Every agent has such a tool under a name of its own, so it is found by its name and called as its own schema asks.
//! Knows how the three dialects write tools and results; writes no answer.

use serde_json::{Map, Value, json};

/// What clients call the tool that runs a command, in lower case.
const NAMES: [&str; 6] = ["bash", "shell", "exec_command", "shell_command", "run_shell_command", "run"];

/// What such a tool calls the field with the command.
const COMMAND_FIELDS: [&str; 2] = ["command", "cmd"];

/// What stands in any other text that the tool requires, such as a description of the command.
const ANY_TEXT: &str = "what the task asks for";

/// What stands in any number that it requires. Mostly a time limit in seconds.
const ANY_NUMBER: u64 = 60;

/// How the arguments are cut up in a stream, in characters.
const PIECE_CHARACTERS: usize = 12;

/// A call that an answer asks the client for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ToolCall {
    /// The tool's name, as the request writes it.
    pub(super) name: String,
    /// The arguments, as JSON text.
    pub(super) arguments: String,
}

impl ToolCall {
    /// The call that runs `command`: None once the conversation has a tool's result, and where the request offers no
    /// tool that takes a command.
    pub(super) fn wanted(body: &Value, command: &str) -> Option<Self> {
        if has_result(body) {
            return None;
        }
        let tools = body["tools"].as_array()?;
        tools.iter().find_map(|tool| Self::of(tool, command))
    }

    /// The call of this tool, if it takes a command.
    fn of(tool: &Value, command: &str) -> Option<Self> {
        // Chat completions put name and schema one level deeper.
        let tool = tool.get("function").unwrap_or(tool);
        let name = tool["name"].as_str().filter(|name| NAMES.contains(&name.to_lowercase().as_str()))?;
        let schema = tool.get("input_schema").or_else(|| tool.get("parameters"))?;
        let command_field =
            COMMAND_FIELDS.into_iter().find(|field| schema["properties"][field].is_object())?;
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut arguments: Map<String, Value> =
            required.map(|field| (field.to_owned(), any_value(&schema["properties"][field]))).collect();
        let takes_words = schema["properties"][command_field]["type"] == "array";
        let command = if takes_words { json!(["sh", "-c", command]) } else { json!(command) };
        arguments.insert(command_field.to_owned(), command);
        Some(Self { name: name.to_owned(), arguments: Value::Object(arguments).to_string() })
    }

    /// The arguments as a stream brings them, piece by piece.
    pub(super) fn pieces(&self) -> impl Iterator<Item = String> + '_ {
        let characters: Vec<char> = self.arguments.chars().collect();
        let pieces: Vec<String> =
            characters.chunks(PIECE_CHARACTERS).map(|piece| piece.iter().collect()).collect();
        pieces.into_iter()
    }
}

/// Whether the conversation brings back what a tool gave.
fn has_result(body: &Value) -> bool {
    let list = |field: &str| body[field].as_array().into_iter().flatten();
    let in_message = |message: &Value| {
        let blocks = message["content"].as_array().into_iter().flatten();
        message["role"] == "tool" || blocks.into_iter().any(|block| block["type"] == "tool_result")
    };
    let is_output = |item: &Value| item["type"].as_str().is_some_and(|kind| kind.ends_with("_call_output"));
    list("messages").any(in_message) || list("input").any(is_output)
}

/// Something that a field of this schema accepts.
fn any_value(schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("integer" | "number") => json!(ANY_NUMBER),
        Some("boolean") => json!(false),
        _ => json!(ANY_TEXT),
    }
}
