"""The programs under test: the proxy, a fake Fireworks behind it, and agents that ask it."""

import atexit
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading

from devtools import until

STARTS_WITHIN_SECONDS = 30
ENDS_WITHIN_SECONDS = 60
ANSWERS_WITHIN_SECONDS = 120

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELEASE = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release"


class Program:
    """A process, all that it says, and the line in which it says where it is."""

    def __init__(self, command, address, **options):
        self.lines = []
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
        )
        # Whatever ends the tests, even in mid-start, ends this too.
        atexit.register(self.kill)
        threading.Thread(target=self._read, daemon=True).start()

        def found():
            if self.process.poll() is not None:
                raise AssertionError(f"{command[0]} ended with {self.process.returncode}: {self.lines}")
            return next(filter(None, (re.search(address, line) for line in list(self.lines))), None)

        self.found = until(found, STARTS_WITHIN_SECONDS, f"{command[0]} says where it is").group(1)

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def kill(self):
        self.process.kill()
        self.process.wait(ENDS_WITHIN_SECONDS)


class Fake(Program):
    """A Fireworks that tells limits and does not enforce them."""

    def __init__(self, folder):
        ca_file = str(folder / "unused-ca.pem")
        command = [RELEASE / "examples" / "fake_fireworks", "--tls", "no", "--enforce", "no", "--ca-file", ca_file]
        super().__init__([str(part) for part in command], r"^FIREWORKS_PROXY_UPSTREAM=(\S+)$")

    @property
    def base_url(self):
        return self.found


class Proxy(Program):
    """The proxy. The system chooses its port, unless it takes the place of one before it."""

    def __init__(self, fake, folder, port=0, **settings):
        self.fake, self.folder, self.settings = fake, folder, settings
        known = {"PORT": port, "HOST": "127.0.0.1", "UPSTREAM": fake.base_url, "USAGE_STATE": folder / "usage.json"}
        ours = {f"FIREWORKS_PROXY_{name}": str(value) for name, value in {**known, **settings}.items()}
        others = {name: value for name, value in os.environ.items() if not name.startswith("FIREWORKS_PROXY_")}
        starting = r"Fireworks proxy starting on http://(\S+)"
        super().__init__([str(RELEASE / "fireworks-proxy")], starting, env={**others, **ours}, cwd=folder)
        self.port = int(self.found.rsplit(":", 1)[1])
        self.origin = f"http://127.0.0.1:{self.port}"

    def again(self):
        """The same proxy after it has ended, at the same place."""
        return Proxy(self.fake, self.folder, self.port, **self.settings)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def page(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWERS_WITHIN_SECONDS)
        secret = self.settings.get("CLIENT_TOKEN")
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"x-fireworks-proxy-token": secret} if secret else {})
            return json.load(connection.getresponse())

    def usage(self):
        return self.page("/usage")


class Agent:
    """One streamed request, which is read in the background until it ends or the agent leaves."""

    def __init__(self, proxy, model, session=None, prompt="hi", **script):
        self.body = json.dumps(
            {"model": model, "stream": True, "max_tokens": 4000, "messages": [{"role": "user", "content": prompt}]}
        )
        self.headers = {"Content-Type": "application/json", "Authorization": "Bearer fw_test", "User-Agent": "test-agent/1.0"}
        self.headers |= {f"x-fake-{name.replace('_', '-')}": str(value) for name, value in script.items()}
        if session:
            self.headers["x-session-id"] = session
        if "CLIENT_TOKEN" in proxy.settings:
            self.headers["x-fireworks-proxy-token"] = proxy.settings["CLIENT_TOKEN"]
        self.connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=ANSWERS_WITHIN_SECONDS)
        self.connection.connect()
        self.socket = self.connection.sock
        self.status = None
        self.thread = threading.Thread(target=self._ask, daemon=True)
        self.thread.start()

    def _ask(self):
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
            self.connection.request("POST", "/v1/chat/completions", self.body, self.headers)
            answer = self.connection.getresponse()
            self.status = answer.status
            while answer.read1(65536):
                pass

    def leave(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.wait()

    def wait(self):
        self.thread.join(ANSWERS_WITHIN_SECONDS)
        self.connection.close()


@contextlib.contextmanager
def agents():
    """A list for agents, who all leave at the end."""
    present = []
    try:
        yield present
    finally:
        for agent in present:
            agent.leave()
