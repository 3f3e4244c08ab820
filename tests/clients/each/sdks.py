"""The SDKs of Anthropic, OpenAI and Fireworks for Python and TypeScript.

The program is the snippet with a conversation behind it, in `sdk_task.py` and `sdk_task.mjs`: a streamed answer that
calls a tool, the tool, and a streamed answer with its result. It prints every event that the SDK tells of.
"""

import pathlib

from client import MODEL, PROMPT, Client

HERE = pathlib.Path(__file__).resolve().parent


class Sdk(Client):
    """One SDK in one language."""

    def __init__(self, language, sdk):
        self.name, self.sdk = f"{language}-{sdk}", sdk

    def run(self, scene):
        ended = self.start(scene, {"MODEL": MODEL, "PROMPT": PROMPT})
        lines = ended.json_lines()
        said = [line["said"] for line in lines if "said" in line]
        return ended, said[-1] if said else "", lines

    def start(self, scene, variables):
        raise NotImplementedError


class PythonSdk(Sdk):
    part = "sdks"

    def start(self, scene, variables):
        program = scene.work / "program.py"
        scene.write(program, scene.snippet("sdk.py") + (HERE / "sdk_task.py").read_text())
        packages = scene.environment.packages("sdks")
        return scene.run([scene.environment.python, program, self.sdk], PYTHONPATH=packages, **variables)


class TypeScriptSdk(Sdk):
    part = "node"

    def start(self, scene, variables):
        # TypeScript that names no types is JavaScript.
        program = scene.work / "program.mjs"
        scene.write(program, scene.snippet("sdk.ts") + (HERE / "sdk_task.mjs").read_text())
        (scene.work / "node_modules").symlink_to(scene.environment.node_modules)
        return scene.run(["node", program, self.sdk], **variables)


CLIENTS = [
    *(PythonSdk("python", sdk) for sdk in ("anthropic", "openai", "fireworks")),
    *(TypeScriptSdk("typescript", sdk) for sdk in ("anthropic", "openai")),
]
