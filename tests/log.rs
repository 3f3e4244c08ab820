//! The log of the real binary, in both forms: one line for each request, by the id that its answer had, and in
//! JSON nothing but objects with the fields that the manual names.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use support::{
    binary::{Binary, quiet_zone},
    client::Client,
    fake::FakeFireworks,
    wire::{CHAT, MESSAGES, body_of},
};

const ID_FIELD: &str = "x-fireworks-proxy-request-id";

/// Seldom are requests tried again, and the last of them spends the day.
const SETTINGS: [(&str, &str); 4] =
    [("MAX_RETRIES", "1"), ("RPS", "1000"), ("DAILY_TOKEN_LIMIT", "100000"), ("LOG", "trace")];

/// What clients saw: the ids of their answers with the statuses, and how many had no answer.
#[derive(Debug, Default)]
struct Seen {
    answers: BTreeMap<String, u64>,
    unanswered: usize,
}

impl Seen {
    /// Sends bytes on a connection of their own, and reads the head of the answer.
    #[track_caller]
    fn ask(&mut self, proxy: &Binary, bytes: &[u8]) -> Client {
        let mut client = Client::connect(proxy.address());
        client.expect_answer_to("POST");
        client.send(bytes).expect("the proxy takes it");
        let head = client.read_final_head();
        let id = head.header(ID_FIELD).expect("every answer has an id").to_owned();
        assert_eq!(self.answers.insert(id, head.status.into()), None, "two answers of one id");
        client
    }

    /// The same for a request to the upstream, whose answer is read as far as it goes.
    #[track_caller]
    fn post(&mut self, proxy: &Binary, path: &str, fields: &str, is_stream: bool) {
        let mut client = self.ask(proxy, &post(path, fields, &body_of("m", is_stream)));
        // Some are cut.
        let _ = client.read_body_to_end();
    }
}

fn post(path: &str, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: tester/1.0 (x)\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Successes, retries, failures, refusals of all kinds, clients that leave, and a day that ends.
fn mix(proxy: &Binary) -> Seen {
    let mut seen = Seen::default();
    seen.post(proxy, CHAT, "", false);
    seen.post(proxy, MESSAGES, "", true);
    seen.post(proxy, CHAT, "x-fake-status: 503\r\nx-fake-times: 1\r\nx-fake-id: once\r\n", false);
    seen.post(proxy, MESSAGES, "x-fake-status: 429\r\n", true);
    seen.post(proxy, CHAT, "x-fake-cut: before-head\r\n", false);
    seen.post(proxy, CHAT, "x-fake-cut: mid-stream\r\n", true);
    // Refused before it could be read, and after.
    for raw in [
        &b"NONSENSE\r\n\r\n"[..],
        b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"POST /usage HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        seen.ask(proxy, raw);
    }
    // Two that leave: one within its request, one within its answer.
    let mut client = Client::connect(proxy.address());
    client
        .send(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
        .expect("sent");
    client.close();
    proxy.wait_for_line(&["client_gone", "never_reached"]);
    seen.unanswered += 1;
    let client = seen.ask(proxy, &post(MESSAGES, "x-fake-gate: middle\r\n", &body_of("m", true)));
    client.close();
    proxy.wait_for_line(&["client_gone", "acknowledged"]);
    seen.post(proxy, MESSAGES, "x-fake-prompt-tokens: 100000\r\n", false);
    proxy.wait_for_line(&["DAILY TOKEN LIMIT REACHED"]);
    seen.post(proxy, CHAT, "", false);
    for id in seen.answers.keys() {
        proxy.wait_for_line(&["request", id, "took"]);
    }
    seen
}

/// Checks that each request has exactly one line, by its id, with the status that its client saw.
#[track_caller]
fn assert_one_line_each(lines: &BTreeMap<String, Option<u64>>, count: usize, seen: &Seen) {
    assert_eq!(lines.len(), count, "an id has two lines: {lines:#?}");
    assert_eq!(count, seen.answers.len() + seen.unanswered, "{lines:#?}");
    for (id, status) in &seen.answers {
        assert_eq!(lines.get(id), Some(&Some(*status)), "{id}: {lines:#?}");
    }
}

#[test]
fn each_request_has_one_line_with_the_id_of_its_answer() {
    let fake = FakeFireworks::start_default();
    let proxy = Binary::start(&fake, &[&SETTINGS[..], &[("TIMEZONE", quiet_zone())]].concat());
    let seen = mix(&proxy);
    let total = proxy.page("/usage")["requests"]["total"].as_u64().expect("a count");
    let (lines, _) = proxy.kill();
    let of_requests: Vec<&String> = lines.iter().filter(|line| line.contains(" request | ")).collect();
    let field = |line: &str, name: &str| {
        let word = line.split(' ').find_map(|word| word.strip_prefix(name)).map(str::to_owned);
        word.unwrap_or_else(|| panic!("no {name} in {line}"))
    };
    let by_id =
        of_requests.iter().map(|line| (field(line, "id="), field(line, "status=").parse().ok())).collect();
    assert_one_line_each(&by_id, of_requests.len(), &seen);
    assert_eq!(total, of_requests.len() as u64);
    let retried = lines.iter().filter(|line| line.contains(" retry | ")).map(|line| field(line, "id="));
    assert!(retried.clone().count() >= 3 && retried.clone().all(|id| seen.answers.contains_key(&id)));
}

/// The fields of each event, as the manual has them.
fn documented() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    const MANUAL: &str = include_str!("../MANUAL.md");
    let (_, part) = MANUAL.split_once("\n### As JSON\n").expect("a part on JSON");
    let rows = part.lines().take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| "));
    let names = |cell: &'static str| cell.split('`').skip(1).step_by(2);
    let rows = rows.filter_map(|row| {
        let (event, fields) = row.strip_prefix("| ")?.split_once(" | ")?;
        Some((names(event).next()?, names(fields).collect()))
    });
    rows.collect()
}

#[test]
fn every_line_of_json_is_an_object_with_the_fields_that_the_manual_names() {
    let fake = FakeFireworks::start_default();
    let settings = [&SETTINGS[..], &[("TIMEZONE", quiet_zone()), ("LOG_FORMAT", "json")]].concat();
    let proxy = Binary::start(&fake, &settings);
    let seen = mix(&proxy);
    proxy.wait_for_line(&[r#""event":"stats""#]);
    #[cfg(unix)]
    let lines = {
        proxy.signal("TERM");
        proxy.wait_for_end().1
    };
    #[cfg(not(unix))]
    let (lines, _) = proxy.kill();

    let mut fields: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut by_id, mut count) = (BTreeMap::new(), 0);
    for line in &lines {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let entry = entry.as_object().unwrap_or_else(|| panic!("no object: {line}"));
        for name in ["time", "level", "event"] {
            assert!(entry[name].is_string(), "{name} of {line}");
        }
        let event = entry["event"].as_str().expect("a text");
        let names = entry.keys().filter(|name| !["time", "level", "event"].contains(&name.as_str()));
        fields.entry(event.to_owned()).or_default().extend(names.cloned());
        if event == "request" {
            count += 1;
            by_id.insert(entry["id"].as_str().expect("a text").to_owned(), entry["status"].as_u64());
            check_request(entry, line);
        }
    }
    assert_one_line_each(&by_id, count, &seen);
    let mut documented = documented();
    let every = documented.remove("every").expect("what every object has");
    assert_eq!(every, BTreeSet::from(["time", "level", "event"]));
    if cfg!(not(unix)) {
        // It was not stopped in good order.
        documented.remove("stop");
    }
    let owned = |names: &BTreeSet<&str>| names.iter().map(|name| (*name).to_owned()).collect();
    let documented: BTreeMap<String, BTreeSet<String>> =
        documented.iter().map(|(event, names)| ((*event).to_owned(), owned(names))).collect();
    assert_eq!(fields, documented);
}

/// Numbers are numbers, and what is unknown is null.
#[track_caller]
fn check_request(entry: &serde_json::Map<String, Value>, line: &str) {
    assert!(entry["waited_seconds"].is_number() && entry["took_seconds"].is_number(), "{line}");
    assert!(entry["retries"].is_u64() && entry["stream"].is_boolean(), "{line}");
    let is_finished = entry["end"] == "finished";
    assert_eq!(entry["outcome"].is_null(), is_finished, "{line}");
    assert_eq!(entry["upstream"].is_null(), is_finished, "{line}");
    assert_eq!(entry["message"].is_string(), entry["end"] == "refused", "{line}");
    if is_finished {
        assert_eq!((&entry["model"], &entry["client"]), (&"m".into(), &"tester/1.0".into()), "{line}");
        assert!(entry["first_byte_seconds"].as_f64() <= entry["took_seconds"].as_f64(), "{line}");
    }
    if entry["status"] == 200 && is_finished {
        let tokens = ["prompt_tokens", "cached_tokens", "generated_tokens"];
        assert!(tokens.iter().all(|name| entry[*name].is_u64()), "{line}");
    }
}
