"""A headless Chromium, driven by the Chrome DevTools protocol.

Nothing here sleeps for a fixed time: what is waited for is a condition, looked at often until a deadline.
"""

import atexit
import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import websocket

STARTS_WITHIN_SECONDS = 60
ANSWERS_WITHIN_SECONDS = 30
LOOKS_EVERY_SECONDS = 0.05

# The browser asks nobody for anything by itself, so that every request is the page's.
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-default-apps",
    "--disable-sync",
    "--disable-extensions",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    "--metrics-recording-only",
    "--remote-debugging-port=0",
    "--window-size=1280,900",
]


class DevToolsError(Exception):
    """The browser refused a command, or a script in the page threw."""


def until(condition, seconds, what):
    """What `condition` gives once it is true. It is looked at until the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(LOOKS_EVERY_SECONDS)


class Browser:
    """One Chromium with a profile of its own, which goes when it ends."""

    def __init__(self, program):
        self.profile = tempfile.mkdtemp(prefix="dashboard-browser-")
        self.process = subprocess.Popen(
            [program, *ARGUMENTS, f"--user-data-dir={self.profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": self.profile},
        )
        self.port = self.connection = None
        # Whatever ends the tests, even in mid-start, ends this too.
        atexit.register(self.close)
        threading.Thread(target=self._read_messages, daemon=True).start()
        until(lambda: self.port or self.process.poll() is not None, STARTS_WITHIN_SECONDS, "Chromium starts")
        if self.port is None:
            raise AssertionError(f"Chromium ended with {self.process.returncode}")
        self.connection = Connection(self._address("/json/version"))

    def _read_messages(self):
        for line in self.process.stderr:
            if line.startswith("DevTools listening on ws://"):
                self.port = int(line.split("://")[1].split("/")[0].rsplit(":", 1)[1])

    def _address(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=ANSWERS_WITHIN_SECONDS) as answer:
            return json.load(answer)["webSocketDebuggerUrl"]

    @contextlib.contextmanager
    def tab(self):
        """A tab that shares no storage with any other."""
        context = self.connection.call("Target.createBrowserContext")["browserContextId"]
        target = self.connection.call("Target.createTarget", url="about:blank", browserContextId=context, newWindow=True)
        tab = Tab(f"ws://127.0.0.1:{self.port}/devtools/page/{target['targetId']}")
        try:
            yield tab
        finally:
            tab.connection.close()
            self.connection.call("Target.disposeBrowserContext", browserContextId=context)

    def close(self):
        try:
            self.connection.call("Browser.close")
        except (AttributeError, DevToolsError, websocket.WebSocketException, OSError):
            self.process.kill()
        try:
            self.process.wait(ANSWERS_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)


class Connection:
    """Commands and their answers, and the events that come in between."""

    def __init__(self, address):
        self.socket = websocket.create_connection(address, timeout=None, suppress_origin=True)
        self.ids = itertools.count(1)
        self.answers = {}
        self.events = []
        self.changed = threading.Condition()
        self.is_open = True
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            try:
                message = json.loads(self.socket.recv())
            except (websocket.WebSocketException, OSError, ValueError):
                break
            with self.changed:
                if "id" in message:
                    self.answers[message["id"]] = message
                else:
                    self.events.append((message["method"], message["params"]))
                self.changed.notify_all()
        with self.changed:
            self.is_open = False
            self.changed.notify_all()

    def call(self, method, **parameters):
        number = next(self.ids)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        with self.changed:
            self.changed.wait_for(lambda: number in self.answers or not self.is_open, ANSWERS_WITHIN_SECONDS)
            answer = self.answers.pop(number, None)
        if answer is None or "error" in answer:
            raise DevToolsError(f"{method}: {answer and answer['error']}")
        return answer["result"]

    def close(self):
        self.socket.close()


class Tab:
    """A page, all that it asked for, and all that it complained about."""

    def __init__(self, address):
        self.connection = Connection(address)
        self.call = self.connection.call
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(f"{domain}.enable")

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def evaluate(self, expression):
        """The value of an expression in the page, as JSON carries it."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise DevToolsError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def until(self, expression, seconds=20):
        """What the expression gives once it is true."""
        return until(lambda: self.evaluate(expression), seconds, lambda: f"{expression}; {self.complaints()}")

    def events(self, *methods):
        with self.connection.changed:
            return [parameters for method, parameters in self.connection.events if method in methods]

    def requests(self):
        """The addresses of all requests so far."""
        return [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]

    def received(self, path):
        """The bodies of the complete good answers from this path so far, in their order."""
        good = {
            event["requestId"]
            for event in self.events("Network.responseReceived")
            if urllib.parse.urlsplit(event["response"]["url"]).path == path and event["response"]["status"] == 200
        }
        ended = [event["requestId"] for event in self.events("Network.loadingFinished")]
        return [number for number in ended if number in good]

    def body(self, request):
        return json.loads(self.call("Network.getResponseBody", requestId=request)["body"])

    def complaints(self):
        """Exceptions, errors and warnings, as the console shows them."""
        thrown = [event["exceptionDetails"] for event in self.events("Runtime.exceptionThrown")]
        texts = [details.get("exception", {}).get("description", details["text"]) for details in thrown]
        logged = [event["entry"] for event in self.events("Log.entryAdded")]
        texts += [entry["text"] for entry in logged if entry["level"] in ("error", "warning")]
        said = self.events("Runtime.consoleAPICalled")
        return texts + [json.dumps(event["args"]) for event in said if event["type"] in ("error", "warning", "assert")]

    def press(self, key, shift=False):
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}
        text = {"Enter": "\r"}.get(key)
        common = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def resize(self, width, height, is_phone=False):
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=is_phone
        )

    def colours(self, scheme):
        """`light` or `dark`, as the system would ask for."""
        features = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path, height=None, scale=1):
        """The page from its top, down to its end where no height is given."""
        height = height or self.call("Page.getLayoutMetrics")["cssContentSize"]["height"]
        clip = {"x": 0, "y": 0, "width": self.evaluate("innerWidth"), "height": height, "scale": scale}
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(picture["data"]))
