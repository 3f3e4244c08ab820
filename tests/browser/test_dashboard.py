"""The dashboard in a real browser, against the running proxy.

`.ci/browser` runs this. Screenshots go to the folder in DASHBOARD_SCREENSHOTS, or to a new one that is named at the end.
"""

import atexit
import contextlib
import os
import pathlib
import re
import shutil
import signal
import tempfile
import unittest

import shown
from devtools import Browser, until
from programs import Agent, Fake, Proxy, agents

CHROMIUM = os.environ.get("CHROMIUM", "chromium")
SECRET = "a-secret-of-at-least-sixteen-characters"
HOSTILE_MODEL = "<img src=x onerror=alert(1)>"
LONG_SESSION = "a-session-whose-name-does-not-end-" * 7

# Limits that a few requests fill: one that runs holds nearly all of what may be generated.
TIGHT = {"GENERATED_TPM_LIMIT": 2100, "TPM_SAFETY_RATIO": "1.0", "OUTPUT_TOKEN_RESERVE": 2048}

# A little wider: when that one has ended early, another may follow.
SMALL = {**TIGHT, "GENERATED_TPM_LIMIT": 3000}

# What the browser itself says of a proxy that is away, or that asks for its secret.
AWAY = r"ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|ERR_SOCKET_NOT_CONNECTED"
LOCKED = r"status of 400"

# Least contrast of text and what is behind it, by WCAG 2, success criterion 1.4.3.
CONTRAST_LEAST = 4.5

# Every text that is seen, with its own colour and the first one behind it that is not clear.
CONTRASTS = r"""(() => {
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const channels = (colour) => {
    probe.clearRect(0, 0, 1, 1);
    probe.fillStyle = colour;
    probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour) => {
    const [red, green, blue] = channels(colour).slice(0, 3).map((value) => value / 255)
      .map((value) => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4);
    return .2126 * red + .7152 * green + .0722 * blue;
  };
  const behind = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (channels(colour)[3] === 255) return colour;
    }
    return "canvas";
  };
  const seen = [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility()
    && ![...node.classList].includes("hear") && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()));
  return seen.map((node) => {
    const style = getComputedStyle(node);
    const pair = [luminance(node instanceof SVGElement ? style.fill : style.color), luminance(behind(node))].sort((a, b) => b - a);
    return { text: node.textContent.trim().slice(0, 40), contrast: (pair[0] + .05) / (pair[1] + .05) };
  });
})()"""

# Charts of an hour that was made up: an old minute and the present one are seen in part, and a sample is missing.
CHARTS = r"""(() => {
  const now = 3_600_030;
  const sample = (at, upstream_429, upstream_503, queued, more) =>
    ({ at, upstream_429, upstream_503, queued, in_flight: 0, lanes: [], wait_seconds: null, ...more });
  const full = {
    in_flight: 6, wait_seconds: { p50: 7, p95: 8 }, lanes: [{ lane: "other", used_60s: [0, 0, 0] },
      { lane: "lane", used_60s: [11, 12, 13], effective: [21, 22, 23], limit: [31, 32, 33] }],
    failures: { never_reached: { dns: 3 }, may_have_reached: { head_timeout: 4 }, acknowledged: { cut_in_stream: 2, client_gone: 7 } },
  };
  const samples = [sample(now - 3599, 5, 0, 1), sample(now - 1800, 6, 5, 2), sample(now - 1790, 1, 0, 3), sample(now - 1760, 0, 0, 4), sample(now, 2, 1, 5, full)];
  const chartOf = (title) => CHARTS.find((one) => one.title === title);
  const viewOf = (title) => plotted(chartOf(title), { now, span_seconds: 3600, interval_seconds: 10, samples }, "lane", 400, 160);
  const latestOf = ({ chart, series, step }) => series.map((one) => valueAt(one, now, step, chart).split("\u00a0")[0]);
  const refused = viewOf("Refused by Fireworks");
  const numbers = (rect) => Object.fromEntries(["x", "y", "width", "height"].map((name) => [name, Number(rect.getAttribute(name))]));
  const queued = viewOf("Requests");
  return {
    box: refused.box, top: refused.top, bars: bars(refused).map(numbers),
    line: curve(queued.series[1], queued).getAttribute("d"), waits: viewOf("Wait before a start").series.map((one) => one.points),
    latest: CHARTS.map((chart) => latestOf(viewOf(chart.title))), ticks: axes(refused).map((node) => node.textContent), clock: clock(1e9),
    gap: valueAt(queued.series[0], now - 900, queued.step, queued.chart), near: valueAt(queued.series[0], now - 1789, queued.step, queued.chart),
    minute: valueAt(refused.series[0], now - 1795, refused.step, refused.chart),
  };
})()"""

# What has the focus, and whether that is seen.
FOCUS = r"""(() => {
  const node = document.activeElement;
  const style = getComputedStyle(node);
  const name = node.id || node.getAttribute("href") || node.getAttribute("aria-label") || node.textContent.trim();
  return { name, isBody: node === document.body, isSeen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 };
})()"""


class DashboardTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Who is told to end cleans up first, as after Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="dashboard-test-"))
        atexit.register(shutil.rmtree, cls.folder, ignore_errors=True)
        named = os.environ.get("DASHBOARD_SCREENSHOTS")
        cls.screenshots = pathlib.Path(named or tempfile.mkdtemp(prefix="dashboard-screenshots-"))
        cls.screenshots.mkdir(parents=True, exist_ok=True)
        cls.fake = Fake(cls.folder)
        cls.addClassCleanup(cls.fake.kill)
        cls.browser = Browser(CHROMIUM)
        cls.addClassCleanup(cls.browser.close)

    @classmethod
    def tearDownClass(cls):
        print(f"\nscreenshots: {cls.screenshots}")

    @contextlib.contextmanager
    def proxy(self, **settings):
        proxy = Proxy(self.fake, pathlib.Path(tempfile.mkdtemp(dir=self.folder)), **settings)
        try:
            yield proxy
        finally:
            proxy.kill()

    @contextlib.contextmanager
    def dashboard(self, proxy, expected_complaints="nothing at all"):
        """The page in a tab. At the end it has asked nobody but the proxy, and complained of nothing else."""
        with self.browser.tab() as tab:
            tab.open(f"{proxy.origin}/dashboard")
            yield tab
            foreign = [url for url in tab.requests() if not url.startswith((f"{proxy.origin}/", "data:"))]
            self.assertEqual(foreign, [])
            asked = {url.removeprefix(proxy.origin).split("?")[0] for url in tab.requests() if not url.startswith("data:")}
            self.assertLessEqual(asked, {"/dashboard", "/usage", "/history", "/settings"})
            unexpected = [text for text in tab.complaints() if not re.search(expected_complaints, text)]
            self.assertEqual(unexpected, [])

    def held(self, present, proxy, model="test/held", session="first"):
        """An agent whose answer has begun and stays so until it leaves."""
        agent = Agent(proxy, model, session, gate="middle", events=40, interval_ms=10)
        present.append(agent)
        until(lambda: any(row["state"] == "streaming" and row["session"] == session for row in proxy.usage()["running"]),
              20, "an answer streams")
        return agent

    def waiting(self, present, proxy, count, model="test/held"):
        present += [Agent(proxy, model, f"waiting {number}", interval_ms=10) for number in range(count)]
        until(lambda: proxy.usage()["requests"]["queued"] == count, 20, f"{count} requests wait")

    def assert_shows(self, proxy, usage, snapshot):
        expected = shown.of(usage)
        self.maxDiff = None
        self.assertEqual(shown.as_shown(snapshot, expected), expected)

    def snapshot(self, tab):
        """What is shown, with the very answer of the proxy that it shows."""
        tab.until("Number(document.documentElement.dataset.answers) > 0")
        snapshot = tab.evaluate(shown.SNAPSHOT)
        received = until(lambda: (found := tab.received("/usage")) and len(found) >= snapshot["answers"] and found, 10, "answers")
        return tab.body(received[snapshot["answers"] - 1]), snapshot

    # ---- What is shown ----

    def test_shows_under_load_what_it_was_told(self):
        with self.proxy(**SMALL) as proxy, self.dashboard(proxy) as tab, agents() as present:
            present += [Agent(proxy, f"test/model-{number % 3}", f"session {number}", generated=300 + number, interval_ms=20)
                        for number in range(9)]
            seen = set()
            def looked():
                usage, snapshot = self.snapshot(tab)
                self.assert_shows(proxy, usage, snapshot)
                seen.add(snapshot["answers"])
                return len(seen) >= 6
            until(looked, 30, "six answers of the proxy are shown")

    def test_shows_when_quiet_what_usage_says(self):
        with self.proxy(RPS=7, DAILY_TOKEN_LIMIT=5000) as proxy, self.dashboard(proxy) as tab, agents() as present:
            for number in range(3):
                present.append(Agent(proxy, "accounts/test/models/quiet", f"session {number}", generated=200, interval_ms=1))
                present[-1].wait()
            present.append(Agent(proxy, "other", "failing", status=404))
            present[-1].wait()

            def is_same():
                before, snapshot, after = proxy.usage(), tab.evaluate(shown.SNAPSHOT), proxy.usage()
                expected = shown.of(after)
                is_quiet = shown.of(before) == expected
                return is_quiet and snapshot["answers"] and shown.as_shown(snapshot, expected) == expected and after
            usage = until(is_same, 30, "the page shows what /usage says")
            self.assertGreater(usage["day"]["used"], 600)
            self.assertEqual(tab.evaluate("page.headline.textContent"), "Nothing waits, and nothing is under way.")
            self.assert_settings(tab, proxy)
            self.assert_history(tab, proxy)

    def assert_settings(self, tab, proxy):
        """Those that were set at once, and all of them when they are asked for."""
        settings = proxy.page("/settings")["settings"]
        was_set = [one for one in settings if one["origin"] != "default"]
        self.assertIn("FIREWORKS_PROXY_RPS", [one["name"] for one in was_set])
        for expected in [was_set, was_set + [one for one in settings if one["origin"] == "default"]]:
            rows = [(row["name"], row["value"], row["origin"]) for row in tab.evaluate(shown.SNAPSHOT)["settings"]]
            self.assertEqual(rows, [(one["name"], one["value"] or "–", one["origin"]) for one in expected])
            tab.evaluate("document.getElementById('settingsListMore').click()")

    def assert_history(self, tab, proxy):
        """The legends show the last sample, as soon as it is there and was asked for."""
        until(lambda: proxy.page("/history")["samples"], 30, "a sample was taken")
        def is_shown():
            history = proxy.page("/history")
            sample = history["samples"][-1]
            lane = next((one for one in sample["lanes"] if history["lanes"][one["lane"]]["model"].endswith("quiet")), None)
            legend = tab.evaluate("[...page.charts.children[2].parts.legend.children].map((row) => row.parts.value.textContent)")
            limits = [shown.tokens(lane[name][2], "tok/min") for name in ["effective", "limit"]] if lane else []
            return lane and [text.replace("\u00a0", " ") for text in legend][1:] == limits
        until(is_shown, 30, "the chart's limits are those of the last sample")

    def test_a_waiting_request_appears_and_leaves(self):
        with self.proxy(**SMALL) as proxy, self.dashboard(proxy) as tab, agents() as present:
            runner = self.held(present, proxy, model="accounts/test/models/busy")
            self.waiting(present, proxy, 3, model="accounts/test/models/busy")
            tab.until("page.waiting.children.length === 3 && page.running.children.length === 1")
            tab.until("page.waiting.firstElementChild.parts.reason.textContent.includes('generated tokens')")
            usage, snapshot = self.snapshot(tab)
            self.assert_shows(proxy, usage, snapshot)
            first = snapshot["waiting"][0]
            self.assertTrue(first["who"].startswith("waiting "))
            self.assertTrue(first["model"].startswith("busy · test-agent"), first["model"])
            self.assertIn("generated tokens", first["reason"])
            self.assertRegex(first["waited"], r"^\d")
            self.assertRegex(snapshot["page"]["headline"], r"^3 requests wait for generated tokens of busy; the next starts ")
            self.assertTrue(snapshot["title"].startswith("3 waiting"))
            tab.until("page.hear.textContent === 'Requests wait.'")
            present[-1].leave()
            tab.until("page.waiting.children.length === 2")
            runner.leave()
            tab.until("page.waiting.children.length === 0 && !page.waiting.parts.empty.hidden")

    def test_names_from_outside_are_text(self):
        with self.proxy(**TIGHT) as proxy, self.dashboard(proxy) as tab, agents() as present:
            self.held(present, proxy, HOSTILE_MODEL, LONG_SESSION)
            self.waiting(present, proxy, 1, HOSTILE_MODEL)
            tab.until("page.waiting.children.length === 1 && page.running.children.length === 1")
            usage, snapshot = self.snapshot(tab)
            self.assert_shows(proxy, usage, snapshot)
            self.assertTrue(snapshot["waiting"][0]["model"].startswith(HOSTILE_MODEL))
            self.assertEqual(snapshot["running"][0]["who"], LONG_SESSION)
            self.assertEqual(tab.evaluate("document.querySelectorAll('img').length"), 0)
            tab.resize(360, 740, is_phone=True)
            self.assert_fits(tab)

    def test_the_day_s_warning_and_cap_cannot_be_missed(self):
        with self.proxy(DAILY_TOKEN_LIMIT=1000) as proxy, self.dashboard(proxy) as tab, agents() as present:
            for used, state, words in [(850, "warned", "of the day's cap is used"), (400, "spent", "The day's cap is reached")]:
                present.append(Agent(proxy, "m", "s", generated=used, prompt_tokens=1, interval_ms=1))
                present[-1].wait()
                self.assertEqual(proxy.usage()["day"]["state"], state)
                tab.until(f"!page.alarm.hidden && page.alarm.classList.contains('{state}')")
                self.assertIn(words, tab.evaluate("page.alarm.textContent"))
                self.assertEqual(tab.evaluate("page.alarm.getBoundingClientRect().width"), tab.evaluate("document.documentElement.clientWidth"))
                self.assertIn("cap", tab.evaluate("document.title"))
                tab.screenshot(self.screenshots / f"{state}.png")

    def test_charts_tell_what_was_and_neither_fill_gaps_nor_leave_their_frames(self):
        with self.proxy(TIMEZONE="Asia/Kathmandu") as proxy, self.dashboard(proxy) as tab:
            tab.until("page.link.textContent === 'live'")
            charts = tab.evaluate(CHARTS)
            box, bars = charts["box"], charts["bars"]
            self.assertEqual((charts["top"], len(bars)), (20, 5), "6 + 5 + 1 of one minute are stacked")
            for bar in bars:
                self.assertGreaterEqual(bar["x"], box["left"])
                self.assertLessEqual(bar["x"] + bar["width"], box["right"])
                self.assertGreaterEqual(bar["y"], box["top"])
                self.assertLessEqual(bar["y"] + bar["height"], box["bottom"] + .2)
            self.assertEqual(charts["line"].count("M"), 4, "three gaps")
            self.assertEqual(charts["waits"], [[[3_600_030, 7]], [[3_600_030, 8]]], "where nothing started is no wait, and not one of zero")
            tokens = [[str(place + dimension) for place in [10, 20, 30]] for dimension in [1, 2, 3]]
            self.assertEqual(charts["latest"], [*tokens, ["5", "6"], ["7.0", "8.0"], ["2", "1"], ["3", "4", "9"]])
            self.assertEqual(charts["clock"], "07:31:40", "the proxy's clock, which is the log's")
            self.assertIn("21:15", charts["ticks"])
            self.assertEqual((charts["gap"], charts["near"], charts["minute"]), ("–", "3", "7\u00a0/min"))

    # ---- The proxy comes and goes ----

    def test_a_restart_is_survived(self):
        with self.proxy() as proxy, self.dashboard(proxy, AWAY) as tab:
            tab.until("page.link.textContent === 'live' && page.charts.children.length > 0")
            started = tab.evaluate("page.startedAt.textContent")
            Agent(proxy, "m", generated=1, interval_ms=1).wait()
            tab.until("shown.history.samples.length > 0", 60)
            tab.evaluate("void (window.isSamePage = true)")
            proxy.kill()
            tab.until("!page.offline.hidden && page.main.classList.contains('stale')")
            self.assertRegex(tab.evaluate("page.offline.textContent"), r"^Not reachable since \d\d:\d\d:\d\d; trying every second\.")
            self.assertIn("not reachable", tab.evaluate("document.title"))
            tab.screenshot(self.screenshots / "away.png")
            asked = len(tab.received("/settings")), len(tab.received("/history"))
            history_requests = len(self.history_requests(tab))
            second = proxy.again()
            try:
                tab.until("page.offline.hidden && page.link.textContent === 'live'")
                self.assertTrue(tab.evaluate("isSamePage"), "it was not loaded again")
                self.assertEqual((len(tab.received("/settings")), len(tab.received("/history"))), (asked[0] + 1, asked[1] + 1))
                self.assertTrue(self.history_requests(tab)[history_requests].endswith("/history"), "all of the other run's")
                self.assertNotEqual(tab.evaluate("page.startedAt.textContent"), started)
            finally:
                second.kill()

    def history_requests(self, tab):
        return [url for url in tab.requests() if "/history" in url]

    def test_a_proxy_that_hangs_is_not_waited_for(self):
        with self.proxy() as proxy, self.dashboard(proxy) as tab:
            tab.until("page.link.textContent === 'live'")
            proxy.freeze()
            try:
                tab.until("!page.offline.hidden")
            finally:
                proxy.thaw()
            tab.until("page.offline.hidden")

    def test_nothing_is_asked_while_nobody_looks(self):
        with self.proxy() as proxy, self.dashboard(proxy) as tab:
            tab.until("Number(document.documentElement.dataset.answers) >= 2")
            window = tab.call("Browser.getWindowForTarget")["windowId"]
            tab.call("Browser.setWindowBounds", windowId=window, bounds={"windowState": "minimized"})
            tab.until("document.hidden")
            # One may have been under way. From then on it stays at that while more than two turns of the clock pass.
            tab.until("new Promise((done) => setTimeout(() => done(true), 1500))")
            asked = len(tab.requests())
            tab.until("new Promise((done) => setTimeout(() => done(true), 2500))")
            self.assertEqual(len(tab.requests()), asked)
            tab.call("Browser.setWindowBounds", windowId=window, bounds={"windowState": "normal"})
            until(lambda: len(tab.requests()) > asked, 10, "it asks again when somebody looks")

    def test_the_secret_is_asked_for_and_kept(self):
        with self.proxy(CLIENT_TOKEN=SECRET) as proxy, self.dashboard(proxy, LOCKED) as tab:
            tab.until("!page.gate.hidden && document.activeElement === page.secret")
            self.assertTrue(tab.evaluate("page.main.hidden"))
            refused = proxy.usage()["failures"]["never_reached"]["client_token"]
            self.assertEqual(refused, 1, "it asks once, and then waits for the secret")
            self.assertEqual(tab.evaluate("page.secret.type"), "password")
            tab.screenshot(self.screenshots / "secret.png")
            self.give(tab, "not the secret at all")
            tab.until("!page.gate.hidden && page.refusal.textContent === 'That is not the secret.'")
            self.give(tab, SECRET)
            tab.until("page.gate.hidden && !page.main.hidden && page.link.textContent === 'live'")
            tab.call("Page.reload")
            tab.until("document.getElementById('link')?.textContent === 'live' && page.gate.hidden")
            self.assertNotIn(SECRET, tab.evaluate("document.documentElement.outerHTML"))

    def give(self, tab, text):
        tab.call("Input.insertText", text=text)
        tab.press("Enter")

    # ---- Whoever looks, and with whatever ----

    def test_the_keyboard_reaches_everything(self):
        with self.proxy(**TIGHT) as proxy, self.dashboard(proxy) as tab, agents() as present:
            self.held(present, proxy)
            self.waiting(present, proxy, 9)
            tab.until("page.waiting.children.length === 8 && page.charts.children.length === 7")
            reached = self.reached_by_tab(tab)
            wanted = tab.evaluate("""[...document.querySelectorAll("a, button, summary, select, input, [tabindex]")]
                .filter((node) => node.checkVisibility()).length""")
            self.assertEqual([one["name"] for one in reached if not one["isSeen"]], [], "the focus is seen")
            self.assertEqual(len(reached), wanted)
            self.assert_focus_stays(tab)
            self.assert_chart_is_read_by_keys(tab)

    def reached_by_tab(self, tab):
        tab.evaluate("document.activeElement.blur()")
        reached = []
        for _ in range(60):
            tab.press("Tab")
            focus = tab.evaluate(FOCUS)
            if focus["isBody"] or focus in reached:
                break
            reached.append(focus)
        return reached

    def assert_focus_stays(self, tab):
        """What a reader has opened, selected or is about to press outlives the next answers."""
        tab.evaluate("page.waiting.parts.more.focus()")
        tab.press("Enter")
        tab.until("page.waiting.children.length === 9 && page.waiting.parts.more.getAttribute('aria-expanded') === 'true'")
        tab.evaluate("document.getElementById('settingsListMore').click()")
        tab.evaluate("getSelection().selectAllChildren(page.waiting.children[1].parts.who)")
        answers = tab.evaluate("Number(document.documentElement.dataset.answers)")
        tab.until(f"Number(document.documentElement.dataset.answers) >= {answers + 3}")
        self.assertEqual(tab.evaluate("document.activeElement.id"), "waitingMore")
        self.assertGreater(tab.evaluate("page.settingsList.children.length"), 20)
        self.assertTrue(tab.evaluate("getSelection().toString() === page.waiting.children[1].parts.who.textContent"))

    def assert_chart_is_read_by_keys(self, tab):
        tab.evaluate("page.charts.children[3].parts.plot.focus()")
        texts = []
        for key in ["End", "ArrowLeft", "Home"]:
            tab.press(key)
            texts.append(tab.evaluate("document.activeElement.getAttribute('aria-valuetext')"))
        self.assertEqual(len(set(texts)), 3, texts)
        self.assertTrue(all(re.match(r"at \d\d:\d\d:\d\d: waiting ", text) for text in texts), texts)
        self.assertEqual(tab.evaluate("document.querySelectorAll('.cursor').length"), 7, "one moment in all charts")
        tab.press("Escape")
        self.assertEqual(tab.evaluate("document.querySelectorAll('.cursor').length"), 0)

    def test_looks_right_light_dark_narrow_and_to_all_eyes(self):
        with self.proxy(**SMALL) as proxy, self.dashboard(proxy) as tab, agents() as present:
            for number in range(3):
                present.append(Agent(proxy, "accounts/test/models/kimi-k2p6", f"session {number}", generated=300, interval_ms=1))
                present[-1].wait()
            present.append(Agent(proxy, f"accounts/test/models/{LONG_SESSION}", generated=1, interval_ms=1))
            present[-1].wait()
            self.held(present, proxy, "accounts/test/models/kimi-k2p6", "held")
            present += [Agent(proxy, "accounts/test/models/kimi-k2p6", f"agent {number}", generated=900, interval_ms=50)
                        for number in range(5)]
            until(lambda: proxy.usage()["waiting"] and proxy.page("/history")["samples"], 30, "something to look at")
            asked = len(tab.received("/history"))
            until(lambda: len(tab.received("/history")) > asked, 20, "the history is up to date")
            tab.until("page.lane.options.length === 2")
            for width, height, name in [(1280, 900, "wide"), (360, 740, "narrow")]:
                tab.resize(width, height, is_phone=width < 500)
                for scheme in ["light", "dark"]:
                    tab.colours(scheme)
                    self.assert_fits(tab)
                    self.assert_readable(tab, scheme)
                    tab.screenshot(self.screenshots / f"{name}-{scheme}.png")
            tab.resize(1280, 900)
            tab.colours("light")
            for deficiency in ["protanopia", "deuteranopia", "tritanopia", "achromatopsia"]:
                tab.call("Emulation.setEmulatedVisionDeficiency", type=deficiency)
                tab.screenshot(self.screenshots / f"{deficiency}.png")

    def assert_fits(self, tab):
        """Nothing makes the page wider than its window."""
        tab.until("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        outside = tab.evaluate("""[...document.querySelectorAll("main *")].filter((node) => node.checkVisibility() && !node.closest("svg, .hear, thead"))
            .filter((node) => node.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map((node) => node.outerHTML.slice(0, 80))""")
        self.assertEqual(outside, [])

    def assert_readable(self, tab, scheme):
        contrasts = tab.evaluate(CONTRASTS)
        self.assertGreater(len(contrasts), 50)
        self.assertEqual([one for one in contrasts if one["contrast"] < CONTRAST_LEAST], [], scheme)


if __name__ == "__main__":
    unittest.main()
