"""The picture of the dashboard in the README, made from a real run: `.ci/browser` does not run this.

    /usr/bin/python3 -B tests/browser/picture.py [MINUTES]

The release binary stands before the fake Fireworks, which tells the limits of a new account. Eight agents work
through it as coding agents do: conversations that grow, tools in between. After the given time (12 minutes, so that the
charts have something to show) the page is photographed as soon as somebody waits, in both of its
colour schemes, and written to docs/dashboard-light.png and docs/dashboard-dark.png.

Beside what `.ci/browser` needs it takes Debian's package pngquant.
"""

import http.client
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading

from devtools import Browser
from programs import ANSWERS_WITHIN_SECONDS, ROOT, Fake, Proxy

MINUTES = 12
CHROMIUM = os.environ.get("CHROMIUM", "chromium")
SIZE_KB_MOST = 150
COLOURS = [96, 64, 48, 32]

# Width of the page in its own pixels, and how many of the picture's each of them becomes.
WIDTH, HEIGHT, SCALE = 1180, 900, 1.25

# Whose agent it is, with what program and model.
AGENTS = [
    ("billing-api", "claude-cli/2.1.240", "kimi-k2p6"),
    ("checkout-e2e", "claude-cli/2.1.240", "kimi-k2p6"),
    ("flaky-test-4711", "KimiCLI/1.49", "kimi-k2p6"),
    ("parser-rewrite", "KimiCLI/1.49", "kimi-k2p6"),
    ("docs-search", "opencode/1.18.2", "kimi-k2p6"),
    ("db-migration", "opencode/1.18.2", "kimi-k2p6"),
    ("release-notes", "claude-cli/2.1.240", "kimi-k2p6"),
    ("upgrade-deps", "codex_cli_rs/0.98.0", "kimi-k2p6"),
]

# A conversation, in characters: how it begins, what a turn adds, and when the agent begins another.
FIRST_CHARACTERS = 120_000
TURN_CHARACTERS = (3_000, 24_000)
CHARACTERS_MOST = 550_000

# A turn: tokens that it generates, at this many a second, and the seconds that the tools take after it.
GENERATED_TOKENS = (300, 2_000)
TOKENS_PER_SECOND = 110
TOKENS_PER_EVENT = 1.5
TOOL_SECONDS = (0.5, 3.0)


class Worker(threading.Thread):
    """A coding agent: asks, reads, works with its tools, and asks again with all that was said so far."""

    def __init__(self, proxy, number):
        super().__init__(daemon=True)
        self.proxy, self.dice, self.over = proxy, random.Random(number), threading.Event()
        self.session, self.program, self.model = AGENTS[number]
        self.error = None

    def run(self):
        try:
            said = []
            while not self.over.is_set():
                if not said or sum(map(len, said)) > CHARACTERS_MOST:
                    said = [self.text(FIRST_CHARACTERS)]
                said.append(self.text(self.dice.randint(*TURN_CHARACTERS)))
                said.append(self.turn(said))
                self.over.wait(self.dice.uniform(*TOOL_SECONDS))
        except (OSError, http.client.HTTPException, ValueError, AssertionError) as error:
            # What the end of the run cuts off is no error.
            self.error = None if self.over.is_set() else error

    def text(self, characters):
        words = ["fn", "match", "return", "self", "value", "state", "=>", "Result", "error", "lines", "index", "test"]
        return " ".join(self.dice.choices(words, k=characters // 6))

    def turn(self, said):
        generated = self.dice.randint(*GENERATED_TOKENS)
        roles = ["system"] + ["user", "assistant"] * len(said)
        messages = [{"role": role, "content": text} for role, text in zip(roles, said)]
        model = f"accounts/fireworks/models/{self.model}"
        body = {"model": model, "stream": True, "max_tokens": 32_000, "messages": messages}
        headers = {
            "Content-Type": "application/json",
            "Authorization": "Bearer fw_picture",
            "User-Agent": self.program,
            "x-session-id": self.session,
            "x-fake-generated": str(generated),
            "x-fake-events": str(round(generated / TOKENS_PER_EVENT)),
            "x-fake-interval-ms": str(round(1_000 * TOKENS_PER_EVENT / TOKENS_PER_SECOND)),
            "x-fake-head-delay-ms": str(self.dice.randint(400, 1_800)),
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.port, timeout=ANSWERS_WITHIN_SECONDS * 3)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        assert answer.status == 200, f"{answer.status}: {answer.read()}"
        answer.read()
        connection.close()
        return self.text(3 * generated)


def photograph(tab, scheme, folder):
    """The page down to the end of the first four charts, with as many colours as let it be small."""
    tab.colours(scheme)
    raw, picture = folder / f"{scheme}.png", ROOT / "docs" / f"dashboard-{scheme}.png"
    end = "page.charts.children[3].getBoundingClientRect().bottom + scrollY + 12"
    tab.screenshot(raw, height=tab.evaluate(end), scale=SCALE)
    picture.parent.mkdir(exist_ok=True)
    for colours in COLOURS:
        command = ["pngquant", "--force", "--strip", "--speed", "1", "--nofs", str(colours), "--output", str(picture), str(raw)]
        subprocess.run(command, check=True)
        size_kb = picture.stat().st_size / 1_000
        if size_kb <= SIZE_KB_MOST:
            print(f"{picture.relative_to(ROOT)}: {size_kb:.0f} kB, {colours} colours")
            return
    raise AssertionError(f"{size_kb:.0f} kB are too many for a README")


def main(minutes):
    with tempfile.TemporaryDirectory(prefix="dashboard-picture-") as folder:
        folder = pathlib.Path(folder)
        proxy = Proxy(Fake(folder), folder)
        workers = [Worker(proxy, number) for number in range(len(AGENTS))]
        for worker in workers:
            worker.start()
        browser = Browser(CHROMIUM)
        with browser.tab() as tab:
            tab.resize(WIDTH, HEIGHT)
            threading.Event().wait(60 * minutes)
            tab.open(f"{proxy.origin}/dashboard")
            tab.until("page.waiting.children.length >= 2 && page.running.children.length >= 3", 300)
            for scheme in ["light", "dark"]:
                photograph(tab, scheme, folder)
        for worker in workers:
            worker.over.set()
        browser.close()
        proxy.kill()
        proxy.fake.kill()
        failed = [f"{worker.session}: {worker.error}" for worker in workers if worker.error]
        assert not failed, failed


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES)
