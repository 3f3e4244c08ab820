//! The heads and bodies of each client's requests, by section 2 of the observed facts. Order and spelling of the
//! fields are the clients' own; `@` stands for the body's length.

use serde_json::{Value, json};

/// One client's request.
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) model: &'static str,
    head: &'static str,
    dialect: Dialect,
    tools: usize,
    /// The size of the body of the first step, about.
    bytes: usize,
    /// Further fields of the body, as JSON.
    extra: &'static str,
}

#[derive(Clone, Copy)]
enum Dialect {
    Chat,
    Messages,
    Responses,
}
use Dialect::{Chat, Messages, Responses};

impl Shape {
    pub(super) fn named(name: &str) -> &'static Self {
        SHAPES.iter().find(|shape| shape.name == name).expect("a client of the table")
    }

    pub(super) fn method(&self) -> &'static str {
        self.request_line().0
    }

    pub(super) fn target(&self) -> &'static str {
        self.request_line().1
    }

    fn request_line(&self) -> (&'static str, &'static str) {
        self.head.lines().next().and_then(|line| line.split_once(' ')).expect("a method and a target")
    }

    /// The fields of the head for a certain body.
    pub(super) fn headers(&self, body: &str) -> Vec<(&'static str, String)> {
        let fields = self.head.lines().skip(1).map(|line| line.trim().split_once(": ").expect("a field"));
        fields.map(|(name, value)| (name, value.replace('@', &body.len().to_string()))).collect()
    }

    /// The API key.
    pub(super) fn credential(&self) -> &'static str {
        let start = self.head.find("fw_").expect("every client sends a key");
        self.head[start..].lines().next().expect("the rest of its line")
    }

    /// The body of a step of a session: each has one more exchange than the last.
    pub(super) fn body(&self, step: usize) -> String {
        let tools: Vec<Value> = (0..self.tools).map(|at| self.tool(at)).collect();
        let padding = self.bytes.saturating_sub(self.tools * 300);
        let system = "You are an agent. Ein Bär sagt \u{201c}你好\u{201d}.\n".repeat(padding / 50 + 1);
        let mut body = match self.dialect {
            Chat => json!({"messages": chat_turns(&system, step)}),
            Messages => json!({
                "system": [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}],
                "messages": chat_turns("", step),
            }),
            Responses => json!({"instructions": system, "input": chat_turns("", step), "store": false}),
        };
        body["model"] = self.model.into();
        body["stream"] = true.into();
        if !tools.is_empty() {
            body["tools"] = tools.into();
        }
        let extra: Value = serde_json::from_str(self.extra).expect("the extra fields are JSON");
        for (name, value) in extra.as_object().expect("an object") {
            body[name] = value.clone();
        }
        body.to_string()
    }

    fn tool(&self, at: usize) -> Value {
        let parameters =
            json!({"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]});
        let (name, description) = (format!("tool_{at}"), "Reads a file. ".repeat(10));
        match self.dialect {
            Chat => json!({"type": "function",
                "function": {"name": name, "description": description, "parameters": parameters}}),
            Messages => json!({"name": name, "description": description, "input_schema": parameters}),
            Responses => json!({"type": "function", "name": name, "description": description,
                "parameters": parameters, "strict": false}),
        }
    }
}

fn chat_turns(system: &str, step: usize) -> Vec<Value> {
    let mut turns = vec![json!({"role": "user", "content": "List the files."})];
    if !system.is_empty() {
        turns.insert(0, json!({"role": "system", "content": system}));
    }
    for number in 1..step {
        turns.push(json!({"role": "assistant", "content": format!("I ran step {number}.")}));
        turns.push(json!({"role": "user", "content": format!("Result {number}: a.rs\nb.rs\t\"c\\d\"")}));
    }
    turns
}

pub(super) const SHAPES: [Shape; 16] = [
    Shape {
        name: "kimi-cli-anthropic",
        model: "accounts/fireworks/models/kimi-k2p6",
        head: "POST /v1/messages
            Host: localhost:8787
            Accept-Encoding: gzip, deflate
            Connection: keep-alive
            Accept: application/json
            Content-Type: application/json
            User-Agent: AsyncAnthropic/Python 0.125.0
            X-Stainless-Lang: python
            X-Stainless-Package-Version: 0.125.0
            X-Stainless-OS: Linux
            X-Stainless-Arch: x64
            X-Stainless-Runtime: CPython
            X-Stainless-Runtime-Version: 3.13.1
            X-Stainless-Async: async:asyncio
            anthropic-version: 2023-06-01
            X-Api-Key: fw_kimi
            x-stainless-timeout: NOT_GIVEN
            x-stainless-retry-count: 0
            x-stainless-read-timeout: 600
            Content-Length: @",
        dialect: Messages,
        tools: 15,
        bytes: 49_000,
        extra: r#"{"max_tokens": 50000, "metadata": {"user_id": "3f9c2b1a-0d4e-4a5b-8c6d-7e8f9a0b1c2d"}}"#,
    },
    Shape {
        name: "kimi-cli-openai_legacy",
        model: "accounts/fireworks/models/kimi-k2p6",
        head: OPENAI_PYTHON,
        dialect: Chat,
        tools: 15,
        bytes: 49_000,
        extra: r#"{"reasoning_effort": null, "stream_options": {"include_usage": true}}"#,
    },
    Shape {
        name: "kimi-cli-kimi",
        model: "accounts/fireworks/models/kimi-k2p6",
        head: "POST /v1/chat/completions
            Host: localhost:8787
            Accept-Encoding: gzip, deflate
            Connection: keep-alive
            Accept: application/json
            Content-Type: application/json
            User-Agent: KimiCLI/1.51.0
            X-Msh-Platform: kimi_cli
            X-Msh-Version: 1.51.0
            X-Msh-Device-Name: vm
            X-Msh-Device-Id: 5a0f6e1c2b3d4e5f
            Authorization: Bearer fw_kimi
            x-stainless-retry-count: 0
            x-stainless-read-timeout: 600
            Content-Length: @",
        dialect: Chat,
        tools: 15,
        bytes: 49_000,
        extra: r#"{"max_completion_tokens": 249320, "prompt_cache_key": "d3b07384-d9a0-4c9b-8f6e-2f1a0b9c8d7e",
            "stream_options": {"include_usage": true}}"#,
    },
    Shape {
        name: "kimi-cli-openai_responses",
        model: "accounts/fireworks/models/kimi-k2p6",
        head: "POST /v1/responses
            Host: localhost:8787
            Accept-Encoding: gzip, deflate
            Connection: keep-alive
            Accept: application/json
            Content-Type: application/json
            User-Agent: AsyncOpenAI/Python 2.14.0
            Authorization: Bearer fw_kimi
            x-stainless-retry-count: 0
            x-stainless-read-timeout: 600
            Content-Length: @",
        dialect: Responses,
        tools: 15,
        bytes: 49_000,
        extra: "{}",
    },
    Shape {
        name: "kimi-code-anthropic",
        model: "accounts/fireworks/models/kimi-k2p6",
        head: "POST /v1/messages
            host: localhost:8787
            connection: keep-alive
            accept: application/json
            content-type: application/json
            user-agent: kimi-code-cli/2.1.0
            x-stainless-retry-count: 0
            x-stainless-timeout: 600
            anthropic-version: 2023-06-01
            anthropic-beta: interleaved-thinking-2025-05-14
            x-api-key: fw_code
            accept-language: *
            sec-fetch-mode: cors
            accept-encoding: gzip, deflate
            content-length: @",
        dialect: Messages,
        tools: 25,
        bytes: 83_000,
        extra: r#"{"max_tokens": 262144, "metadata": {"user_id": "session_6b1f0c3e-5d2a-4b7c-9e8f-a1b2c3d4e5f6"}}"#,
    },
    Shape {
        name: "kimi-code-openai",
        model: "accounts/fireworks/models/kimi-k2p6",
        head: "POST /v1/chat/completions
            host: localhost:8787
            connection: keep-alive
            accept: application/json
            content-type: application/json
            user-agent: kimi-code-cli/2.1.0
            authorization: Bearer fw_code
            accept-language: *
            sec-fetch-mode: cors
            accept-encoding: gzip, deflate
            content-length: @",
        dialect: Chat,
        tools: 25,
        bytes: 84_000,
        extra: r#"{"max_tokens": 131072, "prompt_cache_key": "session_6b1f0c3e-5d2a-4b7c-9e8f-a1b2c3d4e5f6",
            "stream_options": {"include_usage": true}}"#,
    },
    Shape {
        name: "claude-code",
        model: "accounts/fireworks/models/glm-5p1",
        head: CLAUDE_CODE,
        dialect: Messages,
        tools: 24,
        bytes: 76_000,
        extra: r#"{"max_tokens": 32000, "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "metadata": {"user_id": "{\"device_id\":\"d\",\"account_uuid\":\"\",\"session_id\":\"0b0e7e9c\"}"}}"#,
    },
    Shape {
        name: "opencode-openai",
        model: "accounts/fireworks/models/glm-5p1",
        head: "POST /v1/chat/completions
            Authorization: Bearer fw_open
            Content-Type: application/json
            User-Agent: opencode/1.18.33 ai-sdk/openai-compatible/2.0.0 runtime/bun/1.3.14
            x-session-affinity: ses_5d4c3b2a1f0e
            x-session-id: ses_5d4c3b2a1f0e
            Connection: keep-alive
            Accept: */*
            Host: localhost:8787
            Accept-Encoding: gzip, deflate, br, zstd
            Content-Length: @",
        dialect: Chat,
        tools: 9,
        bytes: 30_000,
        extra: r#"{"max_tokens": 32000, "stream_options": {"include_usage": true}, "tool_choice": "auto"}"#,
    },
    Shape {
        name: "opencode-anthropic",
        model: "accounts/fireworks/models/glm-5p1",
        head: "POST /v1/messages
            x-api-key: fw_open
            anthropic-version: 2023-06-01
            Content-Type: application/json
            User-Agent: opencode/1.18.33 ai-sdk/anthropic/3.0.0 runtime/bun/1.3.14
            x-session-affinity: ses_5d4c3b2a1f0e
            x-session-id: ses_5d4c3b2a1f0e
            Connection: keep-alive
            Accept: */*
            Host: localhost:8787
            Accept-Encoding: gzip, deflate, br, zstd
            Content-Length: @",
        dialect: Messages,
        tools: 9,
        bytes: 30_000,
        extra: r#"{"max_tokens": 32000}"#,
    },
    Shape {
        name: "codex",
        model: "accounts/fireworks/models/deepseek-v4",
        head: CODEX,
        dialect: Responses,
        tools: 9,
        bytes: 40_000,
        extra: r#"{"parallel_tool_calls": false, "include": [], "reasoning": null, "tool_choice": "auto",
            "prompt_cache_key": "019a9f3e-7b1c-7d2e-8f3a-4b5c6d7e8f90"}"#,
    },
    Shape {
        name: "qwen-code",
        model: "accounts/fireworks/models/qwen3-coder",
        head: "POST /v1/chat/completions
            host: localhost:8787
            connection: keep-alive
            accept: application/json
            content-type: application/json
            user-agent: QwenCode/0.15.10 (linux; x64)
            x-stainless-retry-count: 0
            x-stainless-timeout: 120
            authorization: Bearer fw_qwen
            accept-encoding: gzip, deflate
            content-length: @",
        dialect: Chat,
        tools: 15,
        bytes: 77_000,
        extra: r#"{"max_tokens": 8000, "stream_options": {"include_usage": true}}"#,
    },
    Shape {
        name: "aider",
        model: "accounts/fireworks/models/kimi-k2p6",
        head: "POST /v1/chat/completions
            Host: localhost:8787
            Accept-Encoding: gzip, deflate
            Connection: keep-alive
            Accept: application/json
            Content-Type: application/json
            User-Agent: OpenAI/Python 1.99.1
            Authorization: Bearer fw_aider
            X-Stainless-Raw-Response: true
            x-stainless-retry-count: 0
            x-stainless-read-timeout: 600.0
            Content-Length: @",
        dialect: Chat,
        tools: 0,
        bytes: 11_000,
        extra: r#"{"temperature": 0}"#,
    },
    Shape {
        name: "openai-python",
        model: "accounts/fireworks/models/kimi-k2p6",
        head: OPENAI_PYTHON,
        dialect: Chat,
        tools: 0,
        bytes: 300,
        extra: r#"{"stream": false}"#,
    },
    Shape {
        name: "anthropic-python",
        model: "accounts/fireworks/models/kimi-k2p6",
        head: ANTHROPIC_PYTHON,
        dialect: Messages,
        tools: 0,
        bytes: 300,
        extra: r#"{"stream": false, "max_tokens": 10}"#,
    },
    Shape {
        name: "anthropic-python-stream",
        model: "accounts/fireworks/models/kimi-k2p6",
        head: ANTHROPIC_PYTHON,
        dialect: Messages,
        tools: 1,
        bytes: 600_000,
        extra: r#"{"max_tokens": 1000}"#,
    },
    Shape {
        name: "curl",
        model: "accounts/fireworks/models/kimi-k2p6",
        head: "POST /v1/chat/completions
            Host: localhost:8787
            User-Agent: curl/7.88.1
            Accept: */*
            Authorization: Bearer fw_curl
            Content-Type: application/json
            Content-Length: @",
        dialect: Chat,
        tools: 0,
        bytes: 200,
        extra: r#"{"stream": false}"#,
    },
];

const OPENAI_PYTHON: &str = "POST /v1/chat/completions
    Host: localhost:8787
    Accept-Encoding: gzip, deflate
    Connection: keep-alive
    Accept: application/json
    Content-Type: application/json
    User-Agent: AsyncOpenAI/Python 2.14.0
    X-Stainless-Lang: python
    X-Stainless-Package-Version: 2.14.0
    X-Stainless-OS: Linux
    X-Stainless-Arch: x64
    X-Stainless-Runtime: CPython
    X-Stainless-Runtime-Version: 3.13.1
    Authorization: Bearer fw_sdk
    X-Stainless-Async: async:asyncio
    x-stainless-retry-count: 0
    x-stainless-read-timeout: 600
    Content-Length: @";

const ANTHROPIC_PYTHON: &str = "POST /v1/messages
    Host: localhost:8787
    Accept-Encoding: gzip, deflate
    Connection: keep-alive
    Accept: application/json
    Content-Type: application/json
    User-Agent: Anthropic/Python 2.10.0
    anthropic-version: 2026-10-21
    Authorization: Bearer fw_sdk
    X-Stainless-Async: false
    x-stainless-timeout: NOT_GIVEN
    x-stainless-retry-count: 1
    x-stainless-read-timeout: 600
    Content-Length: @";

const CLAUDE_CODE: &str = "POST /v1/messages?beta=true
    Accept: application/json
    Authorization: Bearer fw_claude
    Content-Type: application/json
    User-Agent: claude-cli/2.1.197 (external, sdk-cli)
    X-Claude-Code-Session-Id: 0b0e7e9c-4c1c-4f0e-9f2e-0d4f6a1b2c3d
    X-Stainless-Arch: x64
    X-Stainless-Lang: js
    X-Stainless-OS: Linux
    X-Stainless-Package-Version: 0.94.0
    X-Stainless-Retry-Count: 0
    X-Stainless-Runtime: node
    X-Stainless-Runtime-Version: v24.3.0
    X-Stainless-Timeout: 600
    anthropic-beta: claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,effort-2025-11-24
    anthropic-dangerous-direct-browser-access: true
    anthropic-version: 2023-06-01
    x-app: cli
    Connection: keep-alive
    Host: localhost:8787
    Accept-Encoding: gzip, deflate, br, zstd
    Content-Length: @";

const CODEX: &str = "POST /v1/responses
    x-codex-turn-metadata: {\"session_id\":\"019a9f3e-7b1c-7d2e-8f3a-4b5c6d7e8f90\",\"sandbox\":\"none\",\"workspaces\":{\"/src/app\":{\"latest_git_commit_hash\":\"0123abc\",\"associated_remote_urls\":{\"origin\":\"https://example.org/a.git\"}}}}
    x-client-request-id: 019a9f3e-7b1c-7d2e-8f3a-4b5c6d7e8f90
    session-id: 019a9f3e-7b1c-7d2e-8f3a-4b5c6d7e8f90
    thread-id: 019a9f3e-7b1c-7d2e-8f3a-4b5c6d7e8f90
    x-codex-window-id: 019a9f3e-7b1c-7d2e-8f3a-4b5c6d7e8f90:0
    originator: codex_exec
    user-agent: codex_exec/0.169.0 (Debian 12.0.0; x86_64) unknown
    authorization: Bearer fw_codex
    content-type: application/json
    accept: text/event-stream
    host: localhost:8787
    content-length: @";
