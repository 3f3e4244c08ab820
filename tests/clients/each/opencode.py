"""OpenCode, in both dialects: https://opencode.ai/docs"""

from client import MODEL, PROMPT, Client, picked


class OpenCode(Client):
    part = "node"

    def __init__(self, name, package, known_as):
        self.name, self.package, self.known_as = name, package, known_as

    def run(self, scene):
        # What it would ask of the internet: newer versions, other models, language servers, plug-ins by its own npm.
        quiet = {f"OPENCODE_DISABLE_{what}": "1" for what in ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD")}
        quiet["npm_config_offline"] = "true"
        task = ["run", "--format", "json"]
        if scene.by_env:
            ended = scene.run_lines(scene.stage.env_lines("opencode") + "opencode", *task, PROMPT, **quiet)
        else:
            setup = scene.snippet("opencode.json").replace("@ai-sdk/openai-compatible", self.package)
            scene.write(scene.work / "opencode.json", setup)
            ended = scene.run(["opencode", *task, "--model", f"fireworks-proxy/{MODEL}", PROMPT], **quiet)
        events = [self._event(line) for line in ended.json_lines()]
        texts = [event["text"] for event in events if "text" in event]
        return ended, texts[-1] if texts else "", events

    @staticmethod
    def _event(line):
        event = picked(line, "type", "error") | picked(line.get("part", {}), "text", "tool", "callID", "reason")
        state = line.get("part", {}).get("state")
        return event | ({"state": picked(state, "status", "input", "output")} if state else {})


CLIENTS = [
    OpenCode("opencode-openai", "@ai-sdk/openai-compatible", "opencode"),
    OpenCode("opencode-anthropic", "@ai-sdk/anthropic", None),
]
