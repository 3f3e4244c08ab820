"""Kimi CLI, in both dialects: https://github.com/MoonshotAI/kimi-cli"""

from client import PROMPT, Client


class Kimi(Client):
    part = "kimi"

    def __init__(self, name, changes, known_as):
        self.name, self.changes, self.known_as = name, changes, known_as

    def run(self, scene):
        python, packages = scene.environment.python, scene.environment.packages("kimi")
        variables = {"PYTHONPATH": packages, "KIMI_DISABLE_TELEMETRY": "1", "KIMI_CLI_NO_AUTO_UPDATE": "1"}
        kimi = [python, "-m", "kimi_cli"]
        task = ["--print", "--output-format", "stream-json", "--prompt", PROMPT]
        if scene.by_env:
            file = scene.home / ".kimi" / "fireworks-proxy.toml"
            task = ["--config-file", file, *task]
            ended = scene.run_lines(scene.stage.env_lines("kimi") + "exec", *kimi, *task, **variables)
        else:
            scene.write(scene.home / ".kimi" / "config.toml", self._config(scene))
            ended = scene.run([*kimi, *task], **variables)
        events = ended.json_lines()
        said = [self._text(event["content"]) for event in events if event["role"] == "assistant"]
        return ended, said[-1] if said else "", events

    @staticmethod
    def _text(content):
        """What was said of a content, which is a list where the model has thought as well."""
        if isinstance(content, str):
            return content
        return "".join(part["text"] for part in content if part["type"] == "text")

    def _config(self, scene):
        """The whole file; lines of the changes take the place of lines that set the same."""
        config = scene.snippet("kimi.toml")
        if self.changes is None:
            return config
        changes = {line.split(" = ")[0]: line for line in scene.snippet(self.changes).splitlines()}
        lines = [changes.pop(line.split(" = ")[0], line) for line in config.splitlines()]
        assert not changes, f"{self.changes} changes what kimi.toml has not got: {changes}"
        return "\n".join(lines) + "\n"


CLIENTS = [Kimi("kimi-anthropic", None, "kimi"), Kimi("kimi-openai", "kimi-openai.toml", None)]
