"""curl: the commands as they are, and the same with a stream and a tool."""

import json

from client import Client

SCHEMA = {"type": "object", "required": ["command"], "properties": {"command": {"type": "string"}}}
TOOLS = {
    "/v1/chat/completions": {"type": "function", "function": {"name": "run", "parameters": SCHEMA}},
    "/v1/messages": {"name": "run", "input_schema": SCHEMA},
}


class Curl(Client):
    name = "curl"
    part = "machine"
    calls_tools = False

    def run(self, scene):
        shown = scene.snippet("curl.sh")
        commands = [shown, *(self._streaming(command) for command in shown.split("\n\n"))]
        printed = scene.run(["bash", "-euc", "\n".join(commands)])
        streams = [line[6:] for line in printed.stdout.splitlines() if line.startswith("data: {")]
        last = [event["delta"].get("text", "") for event in map(json.loads, streams) if "delta" in event]
        return printed, "".join(last), printed.stdout.splitlines()

    @staticmethod
    def _streaming(command):
        """A command that asks for a stream besides, and offers a tool."""
        tool = next(json.dumps(tool) for path, tool in TOOLS.items() if path in command)
        return command.replace('"messages"', f'"stream":true,"tools":[{tool}],"messages"')


CLIENTS = [Curl()]
