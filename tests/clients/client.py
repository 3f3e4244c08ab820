"""What every client has in common: a home of its own, how it is set up and run, and what its answer is."""

import abc
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess

SETUP = pathlib.Path(__file__).resolve().parent / "setup"

RUNS_WITHIN_SECONDS = 150

KEY = "fw_test"
MODEL = "accounts/fireworks/models/kimi-k2p6"
PROMPT = "Make the file."

# The one rule by which a setup differs from what the README shows: where the proxy is, and the key.
SHOWN_BASE_URL = "http://localhost:8787"
SHOWN_KEY = "fw_..."

# The fake numbers its answers, so a request that it has refused before changes the names of those that follow.
NUMBERED = re.compile(r"\b(msg|call|chatcmpl|resp|fc)([_-])[0-9a-f]{4}\b")


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a program ended and what it had said."""

    code: int
    stdout: str
    stderr: str

    def json_lines(self):
        return [json.loads(line) for line in self.stdout.splitlines() if line.startswith("{")]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What somebody who runs a client gets to see, without what is different each time: names, times, sizes of prompts
    that have the client's folder in them."""

    code: int
    # The last thing that the model said, as the client shows it.
    said: str
    # Everything that the client tells of the conversation, in order.
    events: list
    # The file that the client's tool was asked to make.
    made: str


class Scene:
    """One run of one client: its folders, its variables, and whom it talks to."""

    def __init__(self, stage, environment, folder):
        self.stage = stage
        self.environment = environment
        self.home = folder / "home"
        self.work = folder / "work"
        for made in (self.home, self.work):
            made.mkdir(parents=True)

    @property
    def base_url(self):
        return self.stage.base_url

    @property
    def by_env(self):
        """Whether the client is set up by what `fireworks-proxy env` prints, instead of by its snippet."""
        return self.stage.way.name == "BY_ENV"

    def snippet(self, name):
        """A file of `setup`, for this run."""
        text = (SETUP / name).read_text()
        assert SHOWN_BASE_URL in text, f"{name} does not say where the proxy is"
        return text.replace(SHOWN_BASE_URL, self.base_url).replace(SHOWN_KEY, KEY)

    def write(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, command, **variables):
        """Runs a program in the work folder, with no variable of whoever runs the tests but the language."""
        search = [str(self.environment.node_programs), "/usr/local/bin", "/usr/bin", "/bin"]
        known = {"HOME": self.home, "PATH": os.pathsep.join(search), "LANG": "C.UTF-8", "FIREWORKS_API_KEY": KEY}
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=self.work,
            env={name: str(value) for name, value in {**known, **variables}.items()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=RUNS_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            _kill_group(process.pid)
            stdout, stderr = process.communicate(timeout=RUNS_WITHIN_SECONDS)
            stderr += f"\nended after {RUNS_WITHIN_SECONDS} seconds"
        finally:
            # What it has left running, such as a server of its own, ends with it.
            _kill_group(process.pid)
        return Ended(process.returncode, stdout, stderr)

    def run_lines(self, lines, *arguments, **variables):
        """Runs lines for a shell as somebody would who pastes them; the last one gets further arguments."""
        return self.run(["bash", "-euc", lines.rstrip() + ' "$@"', "bash", *arguments], **variables)

    def made(self):
        """What is in the file that the tool was asked to make."""
        path = self.work / "made.txt"
        return path.read_text() if path.exists() else ""


def _kill_group(leader):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


class Client(abc.ABC):
    """A client, or one way of using one."""

    # Its name in the report and on the command line.
    name: str
    # The part of the environment that it needs.
    part: str
    # What `fireworks-proxy env` calls it, if it knows it.
    known_as: str | None = None
    # Whether it calls tools by itself.
    calls_tools = True

    @abc.abstractmethod
    def run(self, scene) -> tuple[Ended, str, list]:
        """Has the client do its task; how it ended, what the model said last, and what the client tells of it."""

    def answer(self, scene):
        """The answer, and what the client printed for errors."""
        ended, said, events = self.run(scene)
        events = json.loads(NUMBERED.sub(r"\1\2N", json.dumps(events, ensure_ascii=False)))
        return Answer(ended.code, said, events, scene.made()), ended


def picked(value, *names):
    """An object with these fields alone."""
    return {name: value[name] for name in names if name in value}


def without(value, *names):
    """A value with certain fields left out, however deep they are."""
    if isinstance(value, dict):
        return {name: without(inner, *names) for name, inner in value.items() if name not in names}
    return [without(inner, *names) for inner in value] if isinstance(value, list) else value
