//! The table of `status`, from what `/usage` says.
//!
//! A field that is missing, as with a proxy of another version, leaves a gap and breaks nothing.

use serde_json::Value;

use super::{
    PROGRAM,
    columns::{Cell, Style, Table, Tone, clipped, plain, wrapped},
    numbers::{NONE, compact, grouped, percent, seconds, share, whole},
};

/// No line is longer.
pub const STATUS_COLUMNS_MAX: usize = 100;

/// The same for the reason why there is no table: the width that every terminal has.
const NO_STATUS_COLUMNS_MAX: usize = 80;

/// Requests that are shown of each list; how many there are in all stands beside it.
const REQUESTS_SHOWN_MAX: usize = 10;

/// Lanes that are shown, the busiest ones; how many there are in all stands below them.
const LANES_SHOWN_MAX: usize = 12;

const MODEL_COLUMNS_MAX: usize = 24;
const SESSION_COLUMNS_MAX: usize = 20;
/// Four digits tell keys apart.
const CREDENTIAL_COLUMNS_MAX: usize = 4;

/// The shares of a budget that draw attention, in percent.
const WARNING_PERCENT: f64 = 80.0;
const FULL_PERCENT: f64 = 100.0;

/// The budgets of a lane: their field, and the head of their column.
const BUDGETS: [(&str, &str); 3] =
    [("prompt", "prompt/min"), ("uncached_prompt", "uncached/min"), ("generated", "generated/min")];

/// How the proxy at `address` is, by its page.
pub fn status(usage: &Value, address: &str, style: Style) -> String {
    let mut text = String::new();
    for line in [title(usage, address), day(usage, style), requests(usage), bucket(usage)] {
        text += &line;
    }
    for section in [lanes(usage, style), waiting(usage, style), running(usage, style), failures(usage)] {
        if !section.is_empty() {
            text.push('\n');
            text += &section;
        }
    }
    text
}

/// What stands in the place of the table while there is none, in lines that a terminal does not cut off.
pub fn no_status(why: &str) -> String {
    wrapped(&plain(why), "", NO_STATUS_COLUMNS_MAX)
}

fn line(name: &str, text: &str) -> String {
    format!("{}\n", clipped(&format!("{name:<10}{text}"), STATUS_COLUMNS_MAX))
}

fn title(usage: &Value, address: &str) -> String {
    let version = field(usage, "/version").map_or(String::new(), |version| format!(" {version}"));
    let since = field(usage, "/started_at").map_or(String::new(), |at| format!(", up since {}", moment(&at)));
    format!("{}\n", clipped(&format!("{PROGRAM}{version} at {address}{since}"), STATUS_COLUMNS_MAX))
}

fn day(usage: &Value, style: Style) -> String {
    let used = number(usage, "/day/used");
    let of = match usage.pointer("/day/limit").and_then(Value::as_f64) {
        Some(limit) => format!(" of {} tokens, {}", grouped(Some(limit)), percent(share(used, Some(limit)))),
        None => " tokens, no cap".to_owned(),
    };
    let (word, tone) = match usage.pointer("/day/state").and_then(Value::as_str) {
        Some("spent") => ("spent", Tone::Bad),
        Some("warned") => ("warned", Tone::Warning),
        Some("ok") => ("ok", Tone::Good),
        _ => ("", Tone::Plain),
    };
    let until = field(usage, "/day/resets_at").map_or(String::new(), |at| format!("; until {}", moment(&at)));
    let state = if word.is_empty() { String::new() } else { format!(", {}", style.paint(tone, word)) };
    // The state is painted, so the line is not measured; its parts have their bounds.
    format!("{:<10}{}{of}{state}{}\n", "day", grouped(used), clipped(&until, 40))
}

fn requests(usage: &Value) -> String {
    let count = |name: &str| grouped(number(usage, &format!("/requests/{name}")));
    line(
        "requests",
        &format!(
            "{} running, {} waiting, {} pausing; {} in 60 s; {} finished, {} failed, {} refused",
            count("in_flight"),
            count("queued"),
            count("paused"),
            count("last_60s"),
            count("finished"),
            count("failed"),
            count("refused"),
        ),
    ) + &line(
        "upstream",
        &format!(
            "{} x 429, {} x 503, {} retries",
            count("upstream_429"),
            count("upstream_503"),
            count("retries")
        ),
    )
}

fn bucket(usage: &Value) -> String {
    let wait = |name: &str| seconds(number(usage, &format!("/wait_seconds/{name}")));
    let count = |name: &str| grouped(number(usage, &format!("/bucket/{name}")));
    let memory =
        if usage.pointer("/memory/is_tight") == Some(&Value::Bool(true)) { "; memory is tight" } else { "" };
    line(
        "bucket",
        &format!(
            "{} of {} requests free; waits: half {}, 95 % {}, 99 % {}{memory}",
            count("available"),
            count("capacity"),
            wait("p50"),
            wait("p95"),
            wait("p99")
        ),
    )
}

fn lanes(usage: &Value, style: Style) -> String {
    let lanes = list(usage, "/lanes");
    if lanes.is_empty() {
        return String::new();
    }
    let mut head = vec![Cell::left("lane"), Cell::right("run"), Cell::right("wait")];
    for (_, name) in BUDGETS {
        head.push(Cell::right(name));
    }
    let mut table = Table::new(head);
    for lane in busiest(lanes) {
        let credential = field(lane, "/credential").unwrap_or_default();
        let name = format!(
            "{} {}",
            clipped(&model(lane), MODEL_COLUMNS_MAX),
            clipped(&credential, CREDENTIAL_COLUMNS_MAX)
        );
        let mut row = vec![
            Cell::left(name.trim_end()),
            Cell::right(grouped(number(lane, "/in_flight"))),
            Cell::right(grouped(number(lane, "/queued"))),
        ];
        row.extend(BUDGETS.map(|(name, _)| budget(lane, name)));
        table.push(row, lane_waits(lane));
    }
    table.lines(STATUS_COLUMNS_MAX, style) + &and_more(lanes.len(), LANES_SHOWN_MAX)
}

/// The lanes to show, in their order: those with most requests, and of alike ones those that have used most of a
/// budget.
fn busiest(lanes: &[Value]) -> Vec<&Value> {
    let requests =
        |lane| number(lane, "/in_flight").unwrap_or_default() + number(lane, "/queued").unwrap_or_default();
    let fullest = |lane| {
        let shares = BUDGETS.iter().filter_map(|(name, _)| used_share(lane, name));
        shares.fold(0.0, f64::max)
    };
    let mut ranked: Vec<(usize, f64, f64)> =
        lanes.iter().enumerate().map(|(index, lane)| (index, requests(lane), fullest(lane))).collect();
    ranked.sort_by(|left, right| right.1.total_cmp(&left.1).then(right.2.total_cmp(&left.2)));
    ranked.truncate(LANES_SHOWN_MAX);
    ranked.sort_unstable_by_key(|(index, ..)| *index);
    ranked.into_iter().map(|(index, ..)| &lanes[index]).collect()
}

/// How many there are beyond those that are shown, if there are.
fn and_more(all: usize, shown_max: usize) -> String {
    match all.saturating_sub(shown_max) {
        0 => String::new(),
        more => format!("and {more} more\n"),
    }
}

/// How much of a lane's budget is used, in percent.
fn used_share(lane: &Value, name: &str) -> Option<f64> {
    let of = |field| number(lane, &format!("/budgets/{name}/{field}"));
    share(of("used_60s"), of("effective"))
}

/// `412k/2.9M 14 %`, with a star at the budget that is nearest to its end.
fn budget(lane: &Value, name: &str) -> Cell {
    let used = number(lane, &format!("/budgets/{name}/used_60s"));
    let effective = number(lane, &format!("/budgets/{name}/effective"));
    let share = used_share(lane, name);
    let star = if field(lane, "/binds").is_some_and(|binds| binds == name) { "*" } else { " " };
    let text = format!("{}/{} {:>5}{star}", compact(used), compact(effective), percent(share));
    let tone = match share {
        Some(share) if share >= FULL_PERCENT => Tone::Bad,
        Some(share) if share >= WARNING_PERCENT => Tone::Warning,
        _ => Tone::Plain,
    };
    Cell::right(text).with(tone)
}

/// What a lane waits for and when it goes on: in the page's own words, where it has some.
fn lane_waits(lane: &Value) -> Option<String> {
    field(lane, "/waiting").or_else(|| {
        let waits_for = field(lane, "/waits_for")?;
        let next = seconds(number(lane, "/next_start_in_seconds"));
        Some(format!("waiting for {waits_for}; next start in {next}"))
    })
}

fn waiting(usage: &Value, style: Style) -> String {
    let head = ["state", "waits for"]
        .map(Cell::left)
        .into_iter()
        .chain(["waited", "starts in", "tries"].map(Cell::right));
    requests_table(usage, "waiting", "/requests/queued", head.collect(), style, |request| {
        vec![
            Cell::left(word(request, "/state")),
            Cell::left(word(request, "/waits_for")),
            Cell::right(seconds(number(request, "/waited_seconds"))),
            Cell::right(seconds(number(request, "/expected_wait_seconds"))),
            Cell::right(grouped(number(request, "/retries"))),
        ]
    })
}

fn running(usage: &Value, style: Style) -> String {
    let head =
        ["state"].map(Cell::left).into_iter().chain(["waited", "runs", "tokens", "per s"].map(Cell::right));
    requests_table(usage, "running", "/requests/in_flight", head.collect(), style, |request| {
        vec![
            Cell::left(word(request, "/state")),
            Cell::right(seconds(number(request, "/waited_seconds"))),
            Cell::right(seconds(number(request, "/running_seconds"))),
            Cell::right(compact(number(request, "/generated_tokens"))),
            Cell::right(compact(number(request, "/tokens_per_second"))),
        ]
    })
}

/// The first requests of a list, with their id, model and session before what is told of each.
fn requests_table(
    usage: &Value,
    name: &str,
    count_at: &str,
    head: Vec<Cell>,
    style: Style,
    cells: impl Fn(&Value) -> Vec<Cell>,
) -> String {
    let requests = list(usage, &format!("/{name}"));
    if requests.is_empty() {
        return String::new();
    }
    let common = [name, "model", "session"].map(Cell::left);
    let mut table = Table::new(common.into_iter().chain(head).collect());
    for request in requests.iter().take(REQUESTS_SHOWN_MAX) {
        let mut row = vec![
            Cell::left(clipped(&word(request, "/id"), SESSION_COLUMNS_MAX)),
            Cell::left(clipped(&model(request), MODEL_COLUMNS_MAX)),
            Cell::left(clipped(&word(request, "/session"), SESSION_COLUMNS_MAX)),
        ];
        row.extend(cells(request));
        table.push(row, None);
    }
    let listed = requests.len();
    let paused = if name == "waiting" { number(usage, "/requests/paused").unwrap_or(0.0) } else { 0.0 };
    let all = number(usage, count_at).map_or(listed, |count| whole(count + paused).max(listed));
    table.lines(STATUS_COLUMNS_MAX, style) + &and_more(all, listed.min(REQUESTS_SHOWN_MAX))
}

/// The classes that happened, under the side that they were on.
fn failures(usage: &Value) -> String {
    let Some(sides) = usage.pointer("/failures").and_then(Value::as_object) else { return String::new() };
    let told = sides.iter().filter_map(|(side, classes)| {
        let happened: Vec<String> = classes
            .as_object()?
            .iter()
            .filter(|(_, count)| count.as_u64().is_some_and(|count| count > 0))
            .map(|(class, count)| format!("{} {count}", plain(class)))
            .collect();
        let side = plain(side).replace('_', " ");
        (!happened.is_empty()).then(|| line("failures", &format!("{side}: {}", happened.join(", "))))
    });
    told.collect()
}

fn list<'a>(value: &'a Value, at: &str) -> &'a [Value] {
    value.pointer(at).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn number(value: &Value, at: &str) -> Option<f64> {
    value.pointer(at).and_then(Value::as_f64)
}

/// A text without control characters; `None` where there is none.
fn field(value: &Value, at: &str) -> Option<String> {
    value.pointer(at).and_then(Value::as_str).map(plain)
}

/// The same, with a mark where there is none.
fn word(value: &Value, at: &str) -> String {
    field(value, at).unwrap_or_else(|| NONE.to_owned())
}

/// A model's own name, without the account before it.
fn model(value: &Value) -> String {
    let name = field(value, "/model").unwrap_or_default();
    let own = name.rsplit('/').next().unwrap_or_default();
    if own.is_empty() { NONE.to_owned() } else { own.to_owned() }
}

/// `2026-11-21T22:00:00.000+11:00` to the second, without the zone, which is that of the settings.
fn moment(rfc3339: &str) -> String {
    rfc3339.chars().take("2026-11-21T22:00:00".len()).collect::<String>().replace('T', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn budget_of(used: u64, effective: u64) -> Value {
        json!({"configured": effective, "learned": null, "effective": effective, "used_60s": used, "reserved": 0})
    }

    fn sample() -> Value {
        let waiting = |number: u64| {
            json!({
                "id": format!("3fa9c2d1-{number}"), "model": "accounts/fireworks/models/kimi-k2p6",
                "session": "ses-5b1f", "client": "KimiCLI", "state": "queued", "waited_seconds": 3.18,
                "expected_wait_seconds": 4.2, "gives_up_in_seconds": 116.0, "waits_for": "uncached_prompt",
                "reason": "waiting for uncached tokens", "retries": 0,
                "estimated_tokens": {"prompt": 1200, "uncached_prompt": 1200, "generated": 400},
            })
        };
        json!({
            "version": "0.1.0", "started_at": "2026-11-21T22:00:00.000+11:00",
            "day": {
                "used": 722_859, "limit": 200_000_000, "state": "ok",
                "resets_at": "2026-11-22T00:00:00.000+11:00",
            },
            "requests": {
                "last_60s": 31, "finished": 205, "failed": 0, "refused": 0, "retries": 3, "upstream_429": 0,
                "upstream_503": 2, "queued": 140, "paused": 1, "in_flight": 1,
            },
            "failures": {"never_reached": {"dns": 1, "draining": 0}, "acknowledged": {"bad_head": 0}},
            "wait_seconds": {"p50": 0.0, "p95": 4.211, "p99": 9.87},
            "memory": {"is_tight": true},
            "bucket": {"requests_per_second": 20.0, "capacity": 20, "available": 19},
            "lanes": [{
                "model": "accounts/fireworks/models/kimi-k2p6", "credential": "a7c7", "in_flight": 1,
                "queued": 140, "binds": "generated", "waiting": "waiting for generated tokens; next start in 4.2 s",
                "budgets": {
                    "prompt": budget_of(412_006, 2_880_000), "uncached_prompt": budget_of(60_120, 720_000),
                    "generated": budget_of(28_800, 28_800),
                },
            }],
            "waiting": (0..100).map(waiting).collect::<Vec<_>>(),
            "running": [{
                "id": "3fa9c2d1-7", "model": "accounts/fireworks/models/kimi-k2p6", "session": null,
                "client": null, "state": "streaming", "waited_seconds": 0.0, "running_seconds": 12.04,
                "first_token_seconds": 0.8, "generated_tokens": 1048, "tokens_per_second": 94.2, "retries": 0,
            }],
        })
    }

    const EXPECTED: &str = "\
fireworks-proxy 0.1.0 at 127.0.0.1:8787, up since 2026-11-21 22:00:00
day       722,859 of 200,000,000 tokens, 0 %, ok; until 2026-11-22 00:00:00
requests  1 running, 140 waiting, 1 pausing; 31 in 60 s; 205 finished, 0 failed, 0 refused
upstream  0 x 429, 2 x 503, 3 retries
bucket    19 of 20 requests free; waits: half 0.0 s, 95 % 4.2 s, 99 % 9.9 s; memory is tight

lane            run  wait        prompt/min       uncached/min       generated/min
kimi-k2p6 a7c7    1   140  412k/2.9M  14 %   60.1k/720k   8 %   28.8k/28.8k 100 %*
    waiting for generated tokens; next start in 4.2 s
";

    #[test]
    fn a_page_becomes_a_table() {
        let text = status(&sample(), "127.0.0.1:8787", Style::PLAIN);
        let (head, rest) = text.split_once("\nwaiting ").expect("who waits");
        assert_eq!(head, EXPECTED, "\n{text}");
        let rows =
            rest.lines().filter(|line| line.starts_with("3fa9c2d1-") && line.contains("uncached_prompt"));
        assert_eq!(rows.count(), REQUESTS_SHOWN_MAX);
        assert!(rest.contains("\nand 131 more\n"), "140 wait and 1 pauses: {rest}");
        let row = rest.lines().find(|line| line.contains("streaming")).expect("who runs");
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(
            words,
            ["3fa9c2d1-7", "kimi-k2p6", "-", "streaming", "0.0", "s", "12.0", "s", "1.0k", "94"]
        );
        assert!(text.ends_with("\nfailures  never reached: dns 1\n"), "{text}");
    }

    #[test]
    fn a_reason_is_broken_between_words_before_a_terminal_cuts_it() {
        let why =
            "no proxy is reachable at 127.0.0.1:8787 (Connection refused (os error 111)); start\u{1b} it now";
        let text = no_status(why);
        assert!(text.lines().count() == 2 && text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.split_whitespace().eq(why.replace('\u{1b}', "?").split_whitespace()), "{text}");
    }

    #[test]
    fn of_many_lanes_the_busiest_are_shown() {
        let mut page = sample();
        let lane = |number: usize| {
            let (running, used) = (u64::from(number == 250), if number == 200 { 700_000 } else { 1 });
            let budgets = json!({"uncached_prompt": budget_of(used, 720_000)});
            json!({"model": format!("model-{number}"), "in_flight": running, "queued": 0, "budgets": budgets})
        };
        page["lanes"] = (0..300).map(lane).collect();
        let text = status(&page, "here", Style::PLAIN);
        let shown: Vec<&str> = text.lines().filter(|line| line.starts_with("model-")).collect();
        assert_eq!(shown.len(), LANES_SHOWN_MAX, "{text}");
        let last_two = shown[LANES_SHOWN_MAX - 2..].iter().map(|line| line.split(' ').next());
        assert!(
            shown[0].starts_with("model-0 ") && last_two.eq([Some("model-200"), Some("model-250")]),
            "{text}"
        );
        assert!(text.contains("\nand 288 more\n"), "{text}");
    }

    #[test]
    fn no_line_is_too_long_whatever_the_page_says() {
        let long = "x".repeat(300);
        let mut page = sample();
        for at in [
            "/lanes/0/model",
            "/lanes/0/credential",
            "/lanes/0/waiting",
            "/running/0/session",
            "/running/0/id",
        ] {
            *page.pointer_mut(at).expect("in the sample") = json!(long);
        }
        for at in ["/version", "/day/resets_at", "/day/state", "/running/0/state", "/running/0/model"] {
            *page.pointer_mut(at).expect("in the sample") = json!(long);
        }
        page["day"]["used"] = json!(1e15);
        page["day"]["limit"] = json!(1e15);
        page["failures"]["never_reached"] = json!({ "a_long_name_of_a_class": 1, (&*long): 2 });
        let text = status(&page, &long, Style::PLAIN);
        for line in text.lines() {
            assert!(line.chars().count() <= STATUS_COLUMNS_MAX, "{line}");
        }
    }

    #[test]
    fn what_clients_call_themselves_moves_no_cursor() {
        let mut page = sample();
        for at in ["/lanes/0/model", "/running/0/session", "/lanes/0/waiting", "/version"] {
            *page.pointer_mut(at).expect("in the sample") = json!("\u{1b}]0;title\u{7}\u{9b}2J\u{202e}");
        }
        let text = status(&page, "here", Style::PLAIN);
        assert!(!text.chars().any(|it| (it.is_control() && it != '\n') || it == '\u{202e}'), "{text:?}");
        assert!(text.contains("?]0;title??2J?"), "{text}");
    }

    #[test]
    fn what_is_missing_leaves_a_gap() {
        for page in
            [json!({}), json!(null), json!({"lanes": [{}], "waiting": [{}, 7], "running": [null], "day": 1})]
        {
            let text = status(&page, "here", Style::PLAIN);
            assert!(text.starts_with("fireworks-proxy at here\nday       - tokens"), "{text}");
        }
        // A version that does not list requests yet.
        let mut page = sample();
        for name in ["waiting", "running", "version", "started_at"] {
            page.as_object_mut().expect("an object").remove(name);
        }
        assert!(!status(&page, "here", Style::PLAIN).contains("3fa9c2d1"));
    }

    #[test]
    fn colours_mark_what_is_short() {
        let coloured = Style { redraws: true, has_colours: true };
        let text = status(&sample(), "here", coloured);
        assert!(text.contains("\x1b[32mok\x1b[0m") && text.contains("100 %*\x1b[0m"), "{text:?}");
        let mut spent = sample();
        spent["day"]["state"] = json!("spent");
        assert!(status(&spent, "here", coloured).contains("\x1b[31mspent\x1b[0m"));
    }
}
