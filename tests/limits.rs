//! Budgets and the queue through real sockets: who waits, for how long, and what limits are learned.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{
    binary::{SOON, await_true},
    client::{self, Client, Response},
    fake::{FakeFireworks, FakeOptions, Limits},
    proxy::ProxyUnderTest,
};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const AT_GATE: [(&str, &str); 1] = [("x-fake-gate", "head")];

/// Room for two requests of 14,000 generated tokens within the default limit of 28,800.
const TWO_FIT: [(&str, &str); 2] = [("OUTPUT_TOKEN_RESERVE", "14000"), ("MAX_WAIT", "120")];

/// A fake that enforces the limits that an account starts with.
fn enforcing() -> FakeFireworks {
    let limits = Some(Limits::enforced(3_600_000, 900_000, 36_000));
    FakeFireworks::start(FakeOptions { limits, generated_tokens: 14_000, ..FakeOptions::default() })
}

/// A request that is sent and not yet answered.
fn send(proxy: &ProxyUnderTest, path: &str, headers: &[(&str, &str)], body: &str) -> Client {
    let mut client = proxy.connect();
    client.request("POST", path, headers, body.as_bytes());
    client
}

/// Two requests at the fake's gate, which fill the generated budget of a proxy where [`TWO_FIT`].
fn two_in_flight(fake: &FakeFireworks, proxy: &ProxyUnderTest) -> Vec<Client> {
    let clients = (0..2).map(|_| send(proxy, CHAT, &AT_GATE, BODY)).collect();
    fake.wait_for_gate(2, SOON);
    clients
}

fn await_queued(proxy: &ProxyUnderTest, depth: u64) {
    await_true("the depth of the queue", || proxy.health()["queue_depth"] == json!(depth));
}

/// The only lane of `/usage`.
fn lane(proxy: &ProxyUnderTest) -> Value {
    let lanes = proxy.usage()["lanes"].clone();
    assert_eq!(lanes.as_array().map(Vec::len), Some(1), "{lanes}");
    lanes[0].clone()
}

/// Waits until nothing is in flight, because an answer is settled a moment after its client has it.
fn await_settled(proxy: &ProxyUnderTest) -> Value {
    await_true("everything is settled", || proxy.health()["in_flight"] == json!(0));
    let usage = proxy.usage();
    for lane in usage["lanes"].as_array().expect("lanes") {
        for (name, budget) in lane["budgets"].as_object().expect("budgets") {
            assert_eq!(budget["reserved"], 0, "{name} of {lane}");
        }
    }
    usage
}

/// What `/usage` says of one budget of the only lane.
fn budget(proxy: &ProxyUnderTest, name: &str) -> Value {
    lane(proxy)["budgets"][name].clone()
}

/// Checks a 429 of the queue: its form in its dialect, its time to retry, and its message.
#[track_caller]
fn assert_queue_timeout(response: &Response, path: &str, budget: &str) -> String {
    assert_eq!(response.status(), 429, "{}", response.text());
    let seconds: u64 = response.header("retry-after").expect("a time").parse().expect("whole seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    let body = response.json();
    let envelope = if path == MESSAGES { json!("error") } else { Value::Null };
    assert_eq!(body["type"], envelope);
    assert_eq!(
        (&body["error"]["type"], &body["error"]["code"]),
        (&json!("rate_limit_error"), &json!("queue_timeout"))
    );
    let message = body["error"]["message"].as_str().expect("a message").to_owned();
    let awaited = match budget {
        "requests" => "room in FIREWORKS_PROXY_RPS".to_owned(),
        budget => format!("room in the {budget} budget"),
    };
    assert!(message.contains(&format!(" s for {awaited} and found none")), "{message}");
    message
}

/// How long a 429 of the queue says that its request has waited.
#[track_caller]
fn seconds_waited(message: &str) -> f64 {
    let waited = message.split_once("waited ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    waited.unwrap_or_else(|| panic!("no time in {message}"))
}

#[test]
fn the_request_that_does_not_fit_waits_and_the_pages_show_it() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &TWO_FIT);
    let mut clients = two_in_flight(&fake, &proxy);
    clients.push(send(&proxy, MESSAGES, &[], BODY));
    await_queued(&proxy, 1);
    // Near a limit it waits for the one before it to be some way ahead, and then for tokens.
    await_true("it waits for tokens", || lane(&proxy)["waits_for"] == json!("generated"));
    let lane = lane(&proxy);
    assert_eq!(lane["queued"], json!(1));
    assert_eq!((&lane["in_flight"], &lane["budgets"]["generated"]["reserved"]), (&json!(2), &json!(28_000)));
    await_true("its wait grows", || proxy.health()["oldest_wait_seconds"].as_f64() > Some(0.0));
    assert_eq!(proxy.health()["in_flight"], 2);
    assert_eq!(fake.statistics().requests, 2, "it was not sent on");
    assert!(fake.release_one(), "it uses 42 tokens instead of 14,000");
    assert_eq!(clients.remove(2).read_response().status(), 200);
}

#[test]
fn past_max_wait_a_request_is_refused_in_its_dialect() {
    let fake = enforcing();
    let proxy = ProxyUnderTest::start(&fake, &[("OUTPUT_TOKEN_RESERVE", "14000"), ("MAX_WAIT", "0.5")]);
    let mut running = two_in_flight(&fake, &proxy);
    for path in [CHAT, MESSAGES] {
        let message = assert_queue_timeout(&proxy.post(path, &[], BODY), path, "generated");
        assert!(seconds_waited(&message) >= 0.5, "{message}");
    }
    let health = proxy.health();
    assert_eq!((&health["queue_depth"], &health["oldest_wait_seconds"]), (&json!(0), &json!(0.0)));
    assert_eq!(proxy.usage()["requests"]["refused"], 2);
    fake.release();
    assert!(running.iter_mut().all(|client| client.read_response().status() == 200));
    await_settled(&proxy);
    assert_eq!(fake.statistics().requests, 2, "what was refused never reached the upstream");
}

#[test]
fn eight_at_once_wait_instead_of_meeting_the_limits() {
    let fake = enforcing();
    let proxy = ProxyUnderTest::start(&fake, &[("OUTPUT_TOKEN_RESERVE", "14000"), ("MAX_WAIT", "2")]);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let agents: Vec<_> = (0..8).map(|_| scope.spawn(|| proxy.post(CHAT, &[], BODY).status())).collect();
        agents.into_iter().map(|agent| agent.join().expect("an agent")).collect()
    });
    // Two use 28,000 of 28,800, and a minute is longer than anyone waits here.
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
    assert_eq!(fake.statistics().refused_total(), 0, "the upstream's own limit was never met");
    let usage = await_settled(&proxy);
    assert_eq!((&usage["requests"]["refused"], &usage["requests"]["upstream_429"]), (&json!(6), &json!(0)));
    assert_eq!(usage["lanes"][0]["budgets"]["generated"]["used_60s"], 28_000);
}

#[test]
fn a_settlement_lets_the_next_one_go_and_its_answer_tells_the_wait() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &TWO_FIT);
    let at_once = proxy.post(CHAT, &[], BODY);
    let wait = |response: &Response| -> u64 {
        let text = response.header("x-fireworks-proxy-wait-ms").expect("the field").to_owned();
        text.parse().expect("whole milliseconds")
    };
    assert_eq!((at_once.status(), wait(&at_once)), (200, 0));
    await_settled(&proxy);
    let mut running = two_in_flight(&fake, &proxy);
    let mut waiting = send(&proxy, MESSAGES, &[], BODY);
    // It has to be seen waiting for a moment that can be measured.
    await_true("it has waited", || proxy.health()["oldest_wait_seconds"].as_f64() > Some(0.005));
    assert!(fake.release_one(), "42 tokens are used instead of 14,000");
    let response = waiting.read_response();
    assert!(response.status() == 200 && wait(&response) >= 5, "{:?}", response.head);
    fake.release();
    assert!(running.iter_mut().all(|client| client.read_response().status() == 200));
    let usage = await_settled(&proxy);
    assert!(usage["wait_seconds"]["p99"].as_f64() >= Some(0.005), "{usage}");
    assert_eq!(usage["requests"]["finished"], 4);
}

#[test]
fn the_clients_own_timeout_ends_the_wait_earlier() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &TWO_FIT);
    let _running = two_in_flight(&fake, &proxy);
    for (name, value, least) in [
        ("x-stainless-timeout", "2", 1.0),
        ("x-stainless-read-timeout", "1.5", 0.7),
        ("X-Stainless-Timeout", "6.2", 1.2),
    ] {
        // Without it the wait would be one of 120 s, and the test's client would give up.
        let response = proxy.post(CHAT, &[(name, value)], BODY);
        let message = assert_queue_timeout(&response, CHAT, "generated");
        assert!((least..60.0).contains(&seconds_waited(&message)), "{name}: {value}: {message}");
    }
    let mut patient = send(&proxy, CHAT, &[("x-stainless-timeout", "NOT_GIVEN")], BODY);
    await_queued(&proxy, 1);
    fake.open_gates();
    assert_eq!(patient.read_response().status(), 200);
}

#[test]
fn a_full_lane_holds_up_no_other_model_and_no_other_key() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &TWO_FIT);
    let _running = two_in_flight(&fake, &proxy);
    let mut waiting = send(&proxy, CHAT, &[], BODY);
    await_queued(&proxy, 1);
    assert_eq!(proxy.post(CHAT, &[], &BODY.replace(r#""m""#, r#""n""#)).status(), 200);
    assert_eq!(proxy.post(CHAT, &[("Authorization", "Bearer other")], BODY).status(), 200);
    assert_eq!(proxy.post(MESSAGES, &[("X-Api-Key", "another")], BODY).status(), 200);
    assert_eq!(proxy.health()["queue_depth"], 1, "the first one still waits");
    let lanes = proxy.usage()["lanes"].clone();
    let queued: Vec<_> = lanes.as_array().expect("lanes").iter().map(|lane| &lane["queued"]).collect();
    assert_eq!(queued, [&json!(1), &json!(0), &json!(0), &json!(0)]);
    fake.open_gates();
    assert_eq!(waiting.read_response().status(), 200);
}

#[test]
fn what_costs_no_tokens_takes_only_from_the_request_bucket() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &[("RPS", "20"), ("OUTPUT_TOKEN_RESERVE", "14000")]);
    let _running = two_in_flight(&fake, &proxy);
    assert_eq!(client::get(proxy.address(), "/v1/models").status(), 200);
    assert_eq!(proxy.post("/v1/messages/count_tokens", &[], BODY).status(), 404, "as the fake has none");
    assert_eq!(lane(&proxy)["budgets"]["generated"]["reserved"], 28_000);
    assert_eq!(proxy.usage()["requests"]["total"], 4, "pages are not counted");
    // One more request flows in every 1,000 s, which no test lasts.
    let slow = ProxyUnderTest::start(&fake, &[("RPS", "0.001"), ("MAX_WAIT", "0.3")]);
    assert_eq!(client::get(slow.address(), "/v1/models").status(), 200);
    assert_eq!(slow.usage()["bucket"]["available"], 0);
    for path in ["/v1/messages/count_tokens", "/v1/messages"] {
        let response = slow.post(path, &[], BODY);
        assert_queue_timeout(&response, MESSAGES, "requests");
        assert_eq!(response.header("retry-after"), Some("60"), "the bucket's own time is far away");
    }
    assert_queue_timeout(&client::get(slow.address(), "/v1/models"), CHAT, "requests");
    assert_eq!(slow.usage()["lanes"][0]["budgets"]["prompt"]["used_60s"], 0);
}

#[test]
fn the_request_bucket_spaces_requests() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &[("RPS", "4")]);
    let started = Instant::now();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let agents: Vec<_> =
            (0..10).map(|_| scope.spawn(|| client::get(proxy.address(), "/v1/models").status())).collect();
        agents.into_iter().map(|agent| agent.join().expect("an agent")).collect()
    });
    assert_eq!(statuses, [200; 10]);
    // Four at once and six more at four a second; no machine is so slow that this takes less.
    assert!(started.elapsed() >= Duration::from_millis(1_500), "{:?}", started.elapsed());
    let usage = proxy.usage();
    assert_eq!(usage["bucket"]["capacity"], 4);
}

/// Header fields.
type Fields<'a> = &'a [(&'a str, &'a str)];

#[test]
fn limits_are_learned_from_headers_in_every_form() {
    let fake = FakeFireworks::start_default();
    // What is sent, and the learned limits per minute in the order prompt, uncached, generated.
    let cases: [(&str, Fields<'_>, [Option<u64>; 3]); 6] = [
        (
            "complete",
            &[("x-fake-limits", "11250000/5400000/216000")],
            [Some(11_250_000), Some(5_400_000), Some(216_000)],
        ),
        (
            "the other spelling",
            &[("x-fake-limits", "7200000/1800000/72000"), ("x-fake-uncached-spelling", "uncached")],
            [Some(7_200_000), Some(1_800_000), Some(72_000)],
        ),
        (
            "per second",
            &[("x-fake-limits", "120000/30000/1200")],
            [Some(7_200_000), Some(1_800_000), Some(72_000)],
        ),
        (
            "per second, as low as it starts",
            &[("x-fake-limits", "per-second")],
            [None, Some(900_000), Some(36_000)],
        ),
        ("none", &[("x-fake-limits", "none")], [None; 3]),
        ("zeros", &[("x-fake-limits", "0/0/0")], [None; 3]),
    ];
    for (case, headers, learned) in cases {
        let proxy = ProxyUnderTest::start(&fake, &[]);
        assert_eq!(proxy.post(CHAT, headers, BODY).status(), 200);
        await_settled(&proxy);
        let budgets = lane(&proxy)["budgets"].clone();
        let defaults = [4_500_000, 900_000, 36_000];
        for ((name, learned), default) in
            ["prompt", "uncached_prompt", "generated"].iter().zip(learned).zip(defaults)
        {
            let budget = &budgets[*name];
            assert_eq!(budget["learned"], json!(learned), "{case}: {name}");
            assert_eq!(budget["configured"], json!(default), "{case}: {name}");
            assert_eq!(budget["effective"], json!(learned.unwrap_or(default) / 10 * 8), "{case}: {name}");
        }
    }
}

#[test]
fn a_header_that_is_absent_says_nothing() {
    let limits = Some(Limits::announced(11_250_000, 5_400_000, 216_000));
    let fake = FakeFireworks::start(FakeOptions { limits, ..FakeOptions::default() });
    let proxy = ProxyUnderTest::start(&fake, &[]);
    assert_eq!(proxy.post(CHAT, &[], BODY).status(), 200);
    for headers in ["prompt-only", "none", "prompt-only", "none", "prompt-only"] {
        assert_eq!(proxy.post(MESSAGES, &[("x-fake-limits", headers)], BODY).status(), 200);
    }
    await_settled(&proxy);
    assert_eq!(budget(&proxy, "prompt")["learned"], 11_250_000);
    assert_eq!(budget(&proxy, "uncached_prompt")["learned"], 5_400_000);
    assert_eq!(budget(&proxy, "generated")["learned"], 216_000);
}

#[test]
fn one_low_sample_changes_nothing_and_three_do() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &[]);
    let learned_after = |limits: &str| {
        assert_eq!(proxy.post(CHAT, &[("x-fake-limits", limits)], BODY).status(), 200);
        await_settled(&proxy);
        budget(&proxy, "generated")["learned"].as_u64()
    };
    let (high, low) = ("11250000/5400000/216000", "11250000/5400000/36000");
    let samples = [high, low, low, high, low, low, low, high];
    let learned = [216_000, 216_000, 216_000, 216_000, 216_000, 216_000, 36_000, 216_000];
    for (index, (sample, learned)) in samples.into_iter().zip(learned).enumerate() {
        assert_eq!(learned_after(sample), Some(learned), "sample {index}");
    }
    // Nobody's limit is so small; what is shown is bounded below.
    for _ in 0..3 {
        learned_after("1/1/1");
    }
    let budgets = lane(&proxy)["budgets"].clone();
    let names = ["prompt", "uncached_prompt", "generated"];
    assert_eq!(names.map(|name| budgets[name]["learned"].as_u64()), [60_000, 15_000, 6_000].map(Some));
}

#[test]
fn a_limit_that_the_operator_set_is_a_ceiling() {
    let fake = FakeFireworks::start_default();
    let proxy =
        ProxyUnderTest::start(&fake, &[("GENERATED_TPM_LIMIT", "50000"), ("TPM_SAFETY_RATIO", "0.5")]);
    let send = |limits: &str| {
        assert_eq!(proxy.post(CHAT, &[("x-fake-limits", limits)], BODY).status(), 200);
        await_settled(&proxy);
    };
    send("11250000/5400000/216000");
    let generated = budget(&proxy, "generated");
    assert_eq!((&generated["learned"], &generated["effective"]), (&json!(216_000), &json!(25_000)));
    assert_eq!(budget(&proxy, "prompt")["effective"], 5_625_000, "this one was left to learning");
    (0..3).for_each(|_| send("11250000/5400000/36000"));
    assert_eq!(budget(&proxy, "generated")["effective"], 18_000, "it can be lowered");
}

#[test]
fn what_was_learned_on_one_lane_is_not_held_against_another() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &[]);
    let high = [("x-fake-limits", "11250000/5400000/216000"), ("X-Api-Key", "rich")];
    assert_eq!(proxy.post(CHAT, &high, BODY).status(), 200);
    assert_eq!(proxy.post(CHAT, &[("X-Api-Key", "poor")], BODY).status(), 200);
    let lanes = await_settled(&proxy)["lanes"].clone();
    assert_eq!(lanes[0]["budgets"]["generated"]["effective"], 172_800);
    assert_eq!(lanes[1]["budgets"]["generated"]["effective"], 28_800);
}

#[test]
fn a_429_of_the_upstream_passes_through_and_costs_nothing() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &[]);
    for path in [CHAT, MESSAGES] {
        // Each has a lane of its own, since a refusal closes its lane.
        let refused = [("x-fake-status", "429"), ("x-fake-retry-after", "17"), ("X-Api-Key", path)];
        let response = proxy.post(path, &refused, BODY);
        assert_eq!((response.status(), response.header("retry-after")), (429, Some("17")));
        let message = response.json()["error"]["message"].clone();
        assert_eq!(message, "rate limit exceeded, please try again later", "not in our words");
        assert!(response.header("x-fireworks-proxy-wait-ms").is_some());
    }
    let usage = await_settled(&proxy);
    assert_eq!(usage["requests"]["upstream_429"], 2);
    for (name, budget) in usage["lanes"][0]["budgets"].as_object().expect("budgets") {
        assert_eq!(budget["used_60s"], 0, "{name}");
    }
    let health = proxy.health();
    assert!(health["last_upstream_error"]["error"].as_str().is_some_and(|text| text.contains("429")));
}

#[test]
fn a_429_of_the_upstream_teaches_its_limits_too() {
    let fake = enforcing();
    let settings = [("GENERATED_TPM_LIMIT", "500000"), ("TPM_SAFETY_RATIO", "0.8")];
    let proxy = ProxyUnderTest::start(&fake, &settings);
    // Two use 40,000 of 36,000, which the fake knows too late; it refuses the third.
    for status in [200, 200, 429] {
        assert_eq!(proxy.post(CHAT, &[("x-fake-generated", "20000")], BODY).status(), status);
        await_settled(&proxy);
    }
    let generated = budget(&proxy, "generated");
    assert_eq!((&generated["learned"], &generated["effective"]), (&json!(36_000), &json!(28_800)));
    assert_eq!(generated["used_60s"], 40_000, "the refused one cost nothing");
    // It waits for longer than the refusal closes the lane.
    let response = proxy.post(CHAT, &[("x-stainless-timeout", "8")], BODY);
    assert_queue_timeout(&response, CHAT, "generated");
    assert_eq!(fake.statistics().refused_total(), 1, "the fourth one is not sent on");
}

#[test]
fn what_is_cut_or_left_is_settled() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &[]);
    let stream = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let settled_after = |path: &str, script: &[(&str, &str)], failed: u64| {
        let mut client = send(&proxy, path, script, stream);
        let whole = client.try_read_head().and_then(|_| client.read_body_to_end());
        let usage = await_settled(&proxy);
        assert_eq!(usage["requests"]["failed"], failed, "{script:?}: {whole:?}");
    };
    let cuts = ["before-head", "after-head", "mid-stream", "in-chunk"];
    for (count, cut) in (1..).zip(cuts) {
        settled_after(CHAT, &[("x-fake-cut", cut)], 2 * count - 1);
        settled_after(MESSAGES, &[("x-fake-cut", cut)], 2 * count);
    }
    let mut leaves = send(&proxy, CHAT, &[("x-fake-gate", "middle")], stream);
    assert_eq!(leaves.read_final_head().status, 200);
    leaves.close();
    await_true("the client's leaving is noticed", || proxy.usage()["requests"]["client_gone"] == 1);
    let usage = await_settled(&proxy);
    let budgets = &usage["lanes"][0]["budgets"];
    assert!(budgets["prompt"]["used_60s"].as_u64() > Some(0), "the upstream has charged it: {budgets}");
}

#[test]
fn who_leaves_the_queue_is_out_of_it() {
    let fake = FakeFireworks::start_default();
    let proxy = ProxyUnderTest::start(&fake, &TWO_FIT);
    let mut running = two_in_flight(&fake, &proxy);
    let waiting: Vec<Client> = (0..3).map(|_| send(&proxy, CHAT, &[], BODY)).collect();
    await_queued(&proxy, 3);
    waiting.into_iter().for_each(Client::close);
    await_queued(&proxy, 0);
    assert_eq!(proxy.usage()["requests"]["client_gone"], 3);
    fake.release();
    assert!(running.iter_mut().all(|client| client.read_response().status() == 200));
    await_settled(&proxy);
    assert_eq!(fake.statistics().requests, 2, "who left was never sent on");
}
