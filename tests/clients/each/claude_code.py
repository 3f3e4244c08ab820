"""Claude Code, in Anthropic's dialect: https://docs.claude.com/en/docs/claude-code"""

from client import PROMPT, Client, without


class ClaudeCode(Client):
    name = "claude-code"
    part = "node"
    known_as = "claude"

    def run(self, scene):
        lines = scene.stage.env_lines("claude") + "claude" if scene.by_env else scene.snippet("claude.sh")
        ended = scene.run_lines(
            lines,
            *("--print", PROMPT, "--allowedTools", "Bash"),
            *("--output-format", "stream-json", "--verbose", "--include-partial-messages"),
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
            DISABLE_AUTOUPDATER="1",
        )
        lines = ended.json_lines()
        streamed = [without(line["event"], "usage") for line in lines if line["type"] == "stream_event"]
        tools = [line["message"]["content"] for line in lines if line["type"] == "user"]
        results = [line for line in lines if line["type"] == "result"]
        said = results[-1].get("result", "") if results else ""
        outcome = [[result["subtype"], result["is_error"], result["num_turns"]] for result in results]
        return ended, said, streamed + tools + outcome


CLIENTS = [ClaudeCode()]
