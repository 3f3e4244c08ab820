"""The metrics page under load, against Prometheus' own tools. Called by .ci/metrics with the folder of the programs.

The fake Fireworks, the proxy and a Prometheus server run on loopback, on ports that the system chose. Everything is
awaited with a deadline.
"""

import http.client
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import yaml
from prometheus_client.parser import text_string_to_metric_families

CONTRIB = pathlib.Path("contrib")
DEADLINE_SECONDS = 60
CLIENTS = 8
FLOOD = 500
# What a flood of made-up names may add: the rest has labels of its own, and no name has.
FLOOD_SERIES_MAX = 120
SERIES_MAX = 1_000
# Of one core, if somebody asked every second.
CPU_SHARE_MAX = 0.02
PAGES = 200


def await_value(what, look, seconds=DEADLINE_SECONDS):
    """What `look` gives, once it gives something."""
    until = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None:
            return found
        if time.monotonic() > until:
            sys.exit(f"{what}: not within {seconds} s")
        time.sleep(0.05)


def check(holds, what):
    if not holds:
        sys.exit(f"FAILED: {what}")


def request(port, method, path, headers=None, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers
    finally:
        connection.close()


def chat(port, model, key, stream=True):
    body = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": "word " * 200}]})
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return request(port, "POST", "/v1/chat/completions", headers, body)[0]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Program:
    """A program that runs until the end of the `with`, whose output is kept."""

    def __init__(self, arguments, folder, environment=None):
        self.output = pathlib.Path(folder) / (pathlib.Path(arguments[0]).name + ".out")
        with self.output.open("w") as out:
            self.process = subprocess.Popen(arguments, stdout=out, stderr=out, env=environment)

    def find(self, pattern):
        def look():
            if self.process.poll() is not None:
                sys.exit(f"{self.output.name} ended:\n{self.output.read_text()}")
            found = re.search(pattern, self.output.read_text())
            return found and found[1]

        return await_value(f"{pattern} from {self.output.name}", look)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Load:
    """Clients that ask for two models, and now and then for one that there is not, until the end of the `with`."""

    def __init__(self, port):
        self.port, self.is_over = port, threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(number,)) for number in range(CLIENTS)]

    def run(self, number):
        turn = 0
        while not self.is_over.is_set():
            turn += 1
            model = ["kimi-k2", "glm \"4.6\"\\"][turn % 2]
            chat(self.port, model, f"fw_{number % 2}")
            request(self.port, "GET", "/v1/models", {"Authorization": "Bearer fw_0"})

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join()


def metrics(port):
    """The page, as Prometheus' own Python client reads it, after `promtool` has found no fault with it."""
    status, text, headers = request(port, "GET", "/metrics")
    check(status == 200 and headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8", f"{status} {headers}")
    linted = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    said = linted.stdout + linted.stderr
    check(linted.returncode == 0 and not said.strip(), f"promtool check metrics says:\n{said}")
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def total(samples, name, **labels):
    found = [it.value for it in samples if it.name == f"fireworks_proxy_{name}" and labels.items() <= it.labels.items()]
    check(found, f"no {name} {labels}")
    return sum(found)


def usage(port):
    return json.loads(request(port, "GET", "/usage")[1])


def await_quiet(port):
    def look():
        requests = usage(port)["requests"]
        return True if requests["in_flight"] + requests["queued"] + requests["paused"] == 0 else None

    await_value("quiet", look)


def compare(port):
    """The quiet proxy says the same on both pages."""
    samples, page = metrics(port), usage(port)
    requests, day = page["requests"], page["day"]
    pairs = [
        (total(samples, "requests_total", outcome="finished"), requests["finished"]),
        (total(samples, "requests_total"), requests["total"]),
        (total(samples, "request_duration_seconds_count"), requests["total"]),
        (total(samples, "request_wait_seconds_bucket", le="+Inf"), requests["total"]),
        (total(samples, "upstream_responses_total", code="429"), requests["upstream_429"]),
        (total(samples, "retries_total"), requests["retries"]),
        (total(samples, "requests_in_flight"), 0),
        (total(samples, "queue_depth"), 0),
        (total(samples, "tokens_total"), day["used"]),
        (total(samples, "tokens_total", kind="generated"), day["generated_tokens"]),
        (total(samples, "day_used_tokens"), day["used"]),
        (total(samples, "day_limit_tokens"), day["limit"]),
        (total(samples, "memory_limit_bytes"), page["memory"]["limit_bytes"]),
    ]
    for side, classes in page["failures"].items():
        pairs += [(total(samples, "failures_total", side=side, **{"class": it}), count) for it, count in classes.items()]
    for lane in page["lanes"]:
        for dimension, budget in lane["budgets"].items():
            labels = {"model": lane["model"], "credential": lane["credential"], "dimension": dimension}
            pairs += [
                (total(samples, "budget_effective_tokens", **labels), budget["effective"]),
                (total(samples, "budget_reserved_tokens", **labels), budget["reserved"]),
                (total(samples, "budget_limit_tokens", source="learned", **labels), budget["learned"]),
            ]
    different = [(here, there) for here, there in pairs if here != there]
    check(not different, f"/metrics and /usage differ: {different}")
    check(requests["total"] > CLIENTS and len(page["lanes"]) == 4, f"there was load: {requests}")
    return len(pairs)


def flood(port):
    """Made-up models with made-up keys, which the upstream does not know, add next to nothing."""
    before = len(metrics(port))

    def strangers(first):
        for number in range(first, FLOOD, CLIENTS):
            body = json.dumps({"model": f"made up {number}", "messages": []})
            headers = {"Authorization": f"Bearer made_up_{number}", "x-fake-status": "404"}
            request(port, "POST", "/v1/chat/completions", headers, body)

    threads = [threading.Thread(target=strangers, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    samples = metrics(port)
    check(total(samples, "requests_total", model="other") == FLOOD, "the flood is counted as other")
    models = {sample.labels["model"] for sample in samples if "model" in sample.labels}
    check(len(models) == 4, f"no made-up name is a label: {models}")
    check(len(samples) <= min(before + FLOOD_SERIES_MAX, SERIES_MAX), f"{before} series became {len(samples)}")
    return before, len(samples)


def page_cost(port):
    """The processor time that one page takes, in seconds, with all that the flood has left behind."""

    def spent():
        found = re.search(r"^process_cpu_seconds_total (\S+)$", request(port, "GET", "/metrics")[1], re.MULTILINE)
        return float(found[1])

    before = spent()
    for _ in range(PAGES):
        request(port, "GET", "/metrics")
    cost = (spent() - before) / PAGES
    check(cost <= CPU_SHARE_MAX, f"a page takes {cost} s of processor time")
    return cost


def query(port, expression):
    path = "/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    answer = json.loads(request(port, "GET", path)[1])
    check(answer["status"] == "success", f"{expression}: {answer.get('error')}")
    return answer["data"]["result"]


def dashboard_expressions():
    """Every panel's expressions, with the variables as Grafana fills them in for "All"."""
    values = {"$__rate_interval": "5s", "$model": ".*", "$instance": ".*", "$job": "fireworks-proxy"}
    for panel in json.loads((CONTRIB / "grafana-dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in values.items():
                expression = expression.replace(name, value)
            check("$" not in expression, f"{panel['title']}: a variable is left in {expression}")
            yield panel["title"], expression


def scraped(folder, proxy_port):
    """A Prometheus server that scrapes the proxy every second. Gives the server and its port."""
    config = yaml.safe_load((CONTRIB / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str((CONTRIB / "prometheus-alerts.yml").resolve())]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"localhost:{proxy_port}"]
    config_file = pathlib.Path(folder) / "prometheus.yml"
    config_file.write_text(yaml.safe_dump(config))
    port = free_port()
    arguments = ["prometheus", f"--config.file={config_file}", f"--storage.tsdb.path={folder}/data"]
    return Program([*arguments, f"--web.listen-address=127.0.0.1:{port}"], folder), port


def evaluate(port, proxy_port):
    """Every expression is understood, every panel has something to show, and the rules are evaluated."""

    def is_ready():
        # It answers 503 for a moment before it is.
        try:
            return True if request(port, "GET", "/-/ready")[0] == 200 else None
        except OSError:
            return None

    def is_scraped():
        # Long enough for rates.
        return query(port, "count_over_time(fireworks_proxy_build_info[1m]) >= 6") or None

    await_value("Prometheus is ready", is_ready)
    await_value("six scrapes", is_scraped)
    with Load(proxy_port):
        expressions = list(dashboard_expressions())
        empty, until = expressions, time.monotonic() + DEADLINE_SECONDS
        while empty := [(title, expression) for title, expression in empty if not query(port, expression)]:
            check(time.monotonic() < until, f"nothing to show: {empty}")
            time.sleep(0.5)
    check(query(port, 'up{job="fireworks-proxy"}')[0]["value"][1] == "1", "the target is up")
    groups = json.loads(request(port, "GET", "/api/v1/rules")[1])["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    bad = [rule["name"] for rule in rules if rule["health"] != "ok"]
    check(rules and not bad, f"rules that were not evaluated: {bad}")
    for rule in rules:
        query(port, rule["query"])
    firing = [rule["name"] for rule in rules if rule["state"] == "firing"]
    check(not firing, f"a healthy proxy sets off {firing}")
    return len(expressions), len(rules)


def main(programs):
    with tempfile.TemporaryDirectory() as folder:
        ca_file = f"{folder}/ca.pem"
        limits = ["--limits", "36000000/9000000/3600000", "--interval-ms", "2", "--events", "10"]
        fake = Program([f"{programs}/examples/fake_fireworks", "--port", "0", "--ca-file", ca_file, *limits], folder)
        with fake:
            upstream = fake.find(r"FIREWORKS_PROXY_UPSTREAM=(\S+)")
            await_value("the CA", lambda: pathlib.Path(ca_file).exists() or None)
            settings = {
                "PORT": "0",
                "UPSTREAM": upstream,
                "CA_FILE": ca_file,
                "USAGE_STATE": f"{folder}/daily_usage.json",
                "DAILY_TOKEN_LIMIT": "1000000000",
                "RPS": "200",
            }
            environment = {f"FIREWORKS_PROXY_{name}": value for name, value in settings.items()}
            with Program([f"{programs}/fireworks-proxy"], folder, environment) as proxy:
                port = int(proxy.find(r"127\.0\.0\.1:(\d+)"))
                with Load(port):
                    await_value("load", lambda: usage(port)["requests"]["finished"] >= 20 * CLIENTS or None)
                    metrics(port)
                await_quiet(port)
                compared = compare(port)
                before, after = flood(port)
                cost = page_cost(port)
                server, server_port = scraped(folder, port)
                with server:
                    expressions, rules = evaluate(server_port, port)
                    shows_it = server.output.read_text()
                check("level=error" not in shows_it, f"Prometheus says:\n{shows_it}")
    print(f"promtool finds no fault with the page; {compared} values are those of /usage")
    print(f"{before} series, and {after} after {FLOOD} made-up models and keys")
    print(f"a page takes {1_000 * cost:.2f} ms of processor time")
    print(f"{expressions} expressions of the dashboard show something; {rules} alerts are evaluated, and quiet")


# Who is told to end ends the programs first.
signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
main(sys.argv[1])
