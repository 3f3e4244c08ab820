"""What the dashboard has to show for what `/usage`, `/settings` and `/history` say, worked out a second time."""

from decimal import ROUND_HALF_UP, Decimal

BUDGETS = {"prompt": "Prompt tokens", "uncached_prompt": "Uncached prompt tokens", "generated": "Generated tokens"}

# All texts, bars and marks that the page shows: of what has a name, and of each row of what repeats.
SNAPSHOT = r"""(() => {
  const plain = (node) => node.textContent.replace(/\u00a0/g, " ").replace(/\s+/g, " ").trim();
  const texts = (nodes) => Object.fromEntries(nodes.map(([name, node]) => [name, plain(node)]));
  const places = { rect: "width", line: "x1" };
  const shapes = (nodes) => nodes.filter(([, node]) => node.tagName in places).map(([name, node]) => [name, node.getAttribute(places[node.tagName])]);
  const all = (nodes) => ({ ...texts(nodes), ...Object.fromEntries(shapes(nodes)) });
  const row = (node) => all(Object.entries(node.parts));
  const list = (id) => [...document.getElementById(id).children].map(row);
  const lanes = [...document.querySelectorAll("#lanes > li, #idleLanes > li")].map((lane) => ({
    ...row(lane), gauges: [...lane.parts.gauges.children].map(row),
    binds: [...lane.parts.gauges.children].filter((gauge) => !gauge.parts.binds.hidden).map((gauge) => plain(gauge.parts.name)),
  }));
  return {
    answers: Number(document.documentElement.dataset.answers ?? 0), title: document.title, lanes,
    page: all([...document.querySelectorAll("[id]")].filter((node) => node.tagName !== "TEMPLATE").map((node) => [node.id, node])),
    waiting: list("waiting"), running: list("running"), byModel: list("byModel"), bySession: list("bySession"),
    failures: list("failures"), settings: list("settingsList"),
  };
})()"""


def fixed(value, digits):
    """With so many decimals, halves up, as browsers do it; Python would round them to even ones."""
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def rounded(value):
    return int(fixed(value, 0))


def number(value):
    return "–" if value is None else f"{rounded(value):,}"


def tokens(value, unit="tok"):
    return "–" if value is None else f"{number(value)} {unit}"


def percent(share):
    value = share * 100
    return f"{fixed(value, 1)} %" if 0 < value < 10 else f"{number(value)} %"


def span(seconds):
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{fixed(seconds, 1)} s"
    if seconds < 99.5:
        return f"{rounded(seconds)} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60):02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def short_model(model):
    return (model.split("/")[-1] or model) if model else "no model"


def lane(of):
    """A lane as it is shown, but for its sentences."""
    return {
        "model": short_model(of["model"]),
        "credential": of["credential"],
        "counts": f"{number(of['in_flight'])} in flight, {number(of['queued'])} waiting, "
        f"{number(of['starts_60s'])} started in 60 s",
        "waiting": of["waiting"] or "",
        "gauges": [gauge(name, of["budgets"][name]) for name in BUDGETS],
        "binds": [BUDGETS[of["binds"]]] if of["binds"] else [],
    }


def gauge(name, budget):
    limit, learned = budget["limit"], budget["learned"]
    scale = max(limit, budget["effective"], budget["used_60s"] + budget["reserved"])
    share = (budget["used_60s"] + budget["reserved"]) / budget["effective"] if budget["effective"] else 0
    return {
        "name": BUDGETS[name],
        "share": f"{percent(share)} taken",
        "used": tokens(budget["used_60s"]),
        "reserved": tokens(budget["reserved"]),
        "usable": tokens(budget["effective"]),
        "limitName": "limit, learned" if learned == limit else "limit, set",
        "limit": tokens(limit, "tok/min"),
        "learned": tokens(learned, "tok/min"),
        "others": tokens(budget["others_60s"]),
        "usedBar": width(budget["used_60s"], scale),
        "reservedBar": width(budget["reserved"], scale),
        "usableMark": width(budget["effective"], scale),
        "limitMark": width(limit, scale),
    }


def width(part, whole):
    return f"{fixed(min(part / whole, 1) * 100, 2)}%" if whole else "0.00%"


def who(request):
    name = request["session"] or request["client"] or f"request {request['id']}"
    model = [short_model(request["model"]), request["client"] if request["session"] else None]
    return {"who": name, "model": " · ".join(filter(None, model))}


def waiting(request):
    most = request["waited_seconds"] + request["gives_up_in_seconds"]
    expected = request["expected_wait_seconds"]
    return who(request) | {
        "waited": span(request["waited_seconds"]),
        "patience": width(request["waited_seconds"], most),
        "most": f"of {span(most)}",
        "expected": "when an answer ends" if expected is None else span(expected),
        "reason": request["reason"],
    }


def running(request):
    states = {"awaiting": "awaiting an answer"}
    first = request["first_token_seconds"]
    return who(request) | {
        "running": span(request["running_seconds"]),
        "first": states.get(request["state"], request["state"]) if first is None else span(first),
        "generated": tokens(request["generated_tokens"]),
        "speed": tokens(request["tokens_per_second"], "tok/s"),
    }


def spender(item, used):
    both = item["prompt_tokens"] + item["generated_tokens"]
    return {
        "prompt": tokens(item["prompt_tokens"]),
        "generated": tokens(item["generated_tokens"]),
        "share": percent(both / used if used else 0),
        "bar": width(both, used),
    }


def page(usage):
    """The texts of what has a name."""
    cap = usage["day"]["limit"] or max(usage["day"]["used"], 1)
    day, requests, bucket, waits = usage["day"], usage["requests"], usage["bucket"], usage["wait_seconds"]
    return {
        "waitingCount": number(requests["queued"] + requests["paused"]),
        "runningCount": number(requests["in_flight"]),
        "startedCount": number(requests["last_60s"]),
        "waitMedian": span(waits["p50"]),
        "waitMost": f"median of the latest; 95 % within {span(waits['p95'])}",
        "bucketAvailable": f"{number(bucket['available'])} of {number(bucket['capacity'])}",
        "bucketBar": width(bucket["available"], bucket["capacity"]),
        "dayPromptBar": width(day["prompt_tokens"], cap),
        "dayGeneratedBar": width(day["generated_tokens"], cap),
        "dayWarnMark": width(day["warn_at"] or 0, cap),
        "dayUsed": tokens(day["used"]),
        "dayShare": "no cap is set" if day["limit"] is None else f"{percent(day['used'] / day['limit'])} of the cap",
        "dayPrompt": tokens(day["prompt_tokens"]),
        "dayGenerated": tokens(day["generated_tokens"]),
        "dayWarn": tokens(day["warn_at"]),
        "dayLimit": tokens(day["limit"]),
        "dayLeft": tokens(day["remaining"]),
        "startedAt": usage["started_at"][:19].replace("T", " "),
        "dayDate": f"{day['date']}, {day['time_zone']}",
    }


def of(usage):
    """Everything that is compared, in the form of the snapshot."""
    day = usage["day"]
    return {
        "page": page(usage),
        "lanes": sorted((lane(one) for one in usage["lanes"]), key=lambda one: (one["model"], one["credential"])),
        "waiting": list(map(waiting, usage["waiting"])),
        "running": list(map(running, usage["running"])),
        "byModel": [{"name": short_model(one["name"]) if one["name"] is not None else "everything else"} | spender(one, day["used"]) for one in day["by_model"]],
        "bySession": [{"name": "everything else" if one["name"] is None else one["name"]} | spender(one, day["used"]) for one in day["by_session"]],
        "failures": {(code, number(count)) for side in usage["failures"].values() for code, count in side.items() if count},
    }


def as_shown(snapshot, expected):
    """The part of a snapshot that `expected` speaks of, so that the two can be compared."""
    def only(one, like):
        return {name: one[name] for name in like}

    def rows(name):
        return [only(one, like) for one, like in zip(snapshot[name], expected[name])] + snapshot[name][len(expected[name]):]

    lanes = sorted(snapshot["lanes"], key=lambda one: (one["model"], one["credential"]))
    shown_lanes = [
        only(one, like) | {"gauges": [only(gauge, like) for gauge, like in zip(one["gauges"], like["gauges"])]}
        for one, like in zip(lanes, expected["lanes"])
    ]
    return {
        "page": only(snapshot["page"], expected["page"]),
        "lanes": shown_lanes + lanes[len(expected["lanes"]):],
        **{name: rows(name) for name in ["waiting", "running", "byModel", "bySession"]},
        "failures": {(row["code"], row["total"]) for row in snapshot["failures"]},
    }
