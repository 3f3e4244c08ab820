"""Codex, in OpenAI's dialect by the Responses API: https://developers.openai.com/codex"""

from client import PROMPT, Client, without


class Codex(Client):
    name = "codex"
    part = "node"

    def run(self, scene):
        scene.write(scene.home / ".codex" / "config.toml", scene.snippet("codex.toml"))
        # The work folder is a folder of its own, and the one command is the fake's.
        trusted = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
        ended = scene.run(["codex", "exec", "--json", *trusted, PROMPT])
        events = without(ended.json_lines(), "thread_id", "usage")
        messages = [event["item"]["text"] for event in events if event.get("item", {}).get("type") == "agent_message"]
        return ended, messages[-1] if messages else "", events


CLIENTS = [Codex()]
