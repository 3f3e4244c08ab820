"""The programs a client meets: the fake Fireworks, alone or behind the proxy. Each run of a client has its own."""

import contextlib
import enum
import json
import pathlib
import re
import ssl
import subprocess
import threading
import urllib.request

STARTS_WITHIN_SECONDS = 60
ENDS_WITHIN_SECONDS = 30
ANSWERS_WITHIN_SECONDS = 30

# What the fake's model says: few words, and one of them longer in bytes than in characters.
EVENTS = 6
WORDS = "amber birch café delta ember fjord "

# What it has the client's own tool do, and what is there then.
COMMAND = "printf made-by-the-tool > made.txt; cat made.txt"
MADE = "made-by-the-tool"

FAKE = [
    *("--enforce", "no", "--tokens", "30", "--events", str(EVENTS), "--interval-ms", "5"),
    *("--script", f"tool={COMMAND}"),
]

# Every request is refused twice before it is answered.
REFUSALS = (429, 503)


class Way(enum.Enum):
    """How a client gets to Fireworks, and who tells it."""

    DIRECT = "direct"
    PROXIED = "proxied"
    REFUSED = "refused"
    BY_ENV = "by-env"

    @property
    def is_proxied(self):
        return self is not Way.DIRECT

    @property
    def refusals(self):
        return REFUSALS if self is Way.REFUSED else ()


class Program:
    """A process, all that it says, and the line in which it says where it is."""

    def __init__(self, command, address, **options):
        self.lines = []
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )
        self._told = threading.Event()
        self._reader = threading.Thread(target=self._read, args=[re.compile(address)], daemon=True)
        self.found = None
        self._reader.start()
        if not self._told.wait(STARTS_WITHIN_SECONDS) or self.found is None:
            self.end()
            raise AssertionError(f"{command[0]} did not say where it is: {self.lines}")

    def _read(self, address):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            found = address.search(line)
            if found and self.found is None:
                self.found = found.group(1)
                self._told.set()
        self._told.set()

    def end(self):
        self.process.kill()
        self.process.wait(ENDS_WITHIN_SECONDS)
        self._reader.join(ENDS_WITHIN_SECONDS)
        self.process.stdout.close()


class Stage(contextlib.AbstractContextManager):
    """A fake, and on all ways but the direct one a proxy before it that reaches it by TLS."""

    def __init__(self, way, binaries, folder):
        self.way = way
        self._binaries = binaries
        self._folder = pathlib.Path(folder)
        self._ca_file = self._folder / "ca.pem"
        self._programs = contextlib.ExitStack()
        self._proxy = None
        try:
            self._start()
        except BaseException:
            self._programs.close()
            raise

    def __exit__(self, *_):
        self._programs.close()

    def _start(self):
        turns = [*("--script", "statuses=" + ",".join(map(str, self.way.refusals)))] if self.way.refusals else []
        tls = "yes" if self.way.is_proxied else "no"
        command = [self._binaries.fake, *FAKE, *turns, "--tls", tls, "--ca-file", self._ca_file]
        fake = Program(command, r"^FIREWORKS_PROXY_UPSTREAM=(\S+)$")
        self._programs.callback(fake.end)
        self.upstream = self.base_url = fake.found
        if self.way.is_proxied:
            self._proxy = self._start_proxy()
            self.base_url = self._proxy.found.replace("127.0.0.1", "localhost")

    def _start_proxy(self):
        settings = {
            "FIREWORKS_PROXY_PORT": "0",
            "FIREWORKS_PROXY_UPSTREAM": self.upstream,
            "FIREWORKS_PROXY_CA_FILE": str(self._ca_file),
            "FIREWORKS_PROXY_USAGE_STATE": str(self._folder / "usage.json"),
        }
        starting = r"Fireworks proxy starting on (http://127\.0\.0\.1:\d+)"
        proxy = Program([self._binaries.proxy], starting, env=settings, cwd=self._folder)
        self._programs.callback(proxy.end)
        return proxy

    def env_lines(self, client):
        """What `fireworks-proxy env` prints for a client of this proxy."""
        port = self.base_url.rpartition(":")[2]
        command = [str(self._binaries.proxy), "env", client, "--shell", "sh"]
        return subprocess.run(
            command, env={"FIREWORKS_PROXY_PORT": port}, capture_output=True, text=True, check=True
        ).stdout

    def log(self):
        """What the proxy has said."""
        return self._proxy.lines if self._proxy else []

    def upstream_requests(self):
        """What the fake was asked and what it answered, in order."""
        page = self._page(self.upstream.replace("/inference", "/statistics"))
        assert page["malformed"] == page["script_errors"] == 0, page
        return page["requests"]

    def usage(self):
        """The proxy's own account."""
        return self._page(f"{self.base_url}/usage")

    def _page(self, url):
        trust = ssl.create_default_context(cafile=self._ca_file) if url.startswith("https") else None
        # Straight there, whatever proxy the machine has for the internet.
        handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)]
        with urllib.request.build_opener(*handlers).open(url, timeout=ANSWERS_WITHIN_SECONDS) as answer:
            return json.load(answer)
