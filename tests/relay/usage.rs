//! What is read of the usage on the way, as the page `/usage` shows it.

use crate::support::{
    fake::answer_text,
    wire::{CHAT, COST, MESSAGES, RESPONSES, Twins, assert_same_body, body_of, lane_of, pair, settled},
};

const COMPLETIONS: &str = "/v1/completions";
const EMBEDDINGS: &str = "/v1/embeddings";

/// What a request with [`COST`] must come to in the day's count: prompt and generated tokens.
type DayCost = (u64, u64);

const ALL: DayCost = (1200, 42);
const PROMPT_ONLY: DayCost = (1200, 0);
const NOTHING: DayCost = (0, 0);

/// Every way in which the fake reports a usage: path, streamed, `x-fake-usage`, and what is read.
const REPORTS: [(&str, bool, &str, DayCost); 27] = [
    (CHAT, false, "finish-chunk", ALL),
    (CHAT, false, "header-only", PROMPT_ONLY),
    (CHAT, false, "none", NOTHING),
    (CHAT, true, "finish-chunk", ALL),
    (CHAT, true, "trailing", ALL),
    (CHAT, true, "header-only", PROMPT_ONLY),
    (CHAT, true, "none", NOTHING),
    (COMPLETIONS, false, "finish-chunk", ALL),
    (COMPLETIONS, true, "finish-chunk", ALL),
    (COMPLETIONS, true, "trailing", ALL),
    (COMPLETIONS, true, "none", NOTHING),
    (MESSAGES, false, "finish-chunk", ALL),
    (MESSAGES, false, "header-only", PROMPT_ONLY),
    (MESSAGES, false, "none", NOTHING),
    (MESSAGES, true, "finish-chunk", ALL),
    (MESSAGES, true, "genuine-anthropic", ALL),
    (MESSAGES, true, "header-only", PROMPT_ONLY),
    (RESPONSES, false, "finish-chunk", ALL),
    (RESPONSES, false, "fireworks-spelling", ALL),
    (RESPONSES, false, "openai-spelling", ALL),
    (RESPONSES, false, "header-only", PROMPT_ONLY),
    (RESPONSES, true, "finish-chunk", ALL),
    (RESPONSES, true, "fireworks-spelling", ALL),
    (RESPONSES, true, "openai-spelling", ALL),
    (RESPONSES, true, "header-only", PROMPT_ONLY),
    (RESPONSES, true, "none", NOTHING),
    (EMBEDDINGS, false, "finish-chunk", PROMPT_ONLY),
];

#[test]
fn the_usage_is_read_in_every_form_in_which_it_is_reported() {
    let (_fake, proxy) = pair(&[]);
    let mut day = (0, 0);
    for (at, (path, stream, report, (prompt, generated))) in REPORTS.into_iter().enumerate() {
        let what = format!("{path}, stream: {stream}, {report}");
        let model = format!("model-{at}");
        let headers = [&COST[..], &[("x-fake-usage", report)]].concat();
        let response = proxy.post(path, &headers, &body_of(&model, stream));
        assert_eq!(response.status(), 200, "{what}: {}", response.text());
        let usage = proxy.usage();
        day = (day.0 + prompt, day.1 + generated);
        assert_eq!(
            (usage["day"]["prompt_tokens"].as_u64(), usage["day"]["generated_tokens"].as_u64()),
            (Some(day.0), Some(day.1)),
            "{what}"
        );
        assert_eq!(usage["day"]["used"], day.0 + day.1, "{what}");
        let [lane_prompt, lane_uncached, lane_generated] = settled(&lane_of(&usage, &model));
        match (prompt, generated) {
            ALL => assert_eq!([lane_prompt, lane_uncached, lane_generated], [1200, 176, 42], "{what}"),
            (1200, _) => assert_eq!([lane_prompt, lane_uncached], [1200, 176], "{what}"),
            _ => assert!(lane_prompt > 0 && lane_prompt == lane_uncached, "{what}: by estimate"),
        }
        let is_silent = path == EMBEDDINGS;
        assert!(lane_generated > 0 || is_silent, "{what}: what was seen is settled");
    }
}

#[test]
fn an_answer_that_reports_nothing_is_settled_by_the_text_that_was_seen() {
    let (_fake, proxy) = pair(&[]);
    for (events, model) in [("40", "short"), ("4000", "long")] {
        let headers = [("x-fake-usage", "none"), ("x-fake-events", events)];
        for path in [CHAT, MESSAGES, RESPONSES] {
            let model = format!("{model}{path}");
            proxy.post(path, &headers, &body_of(&model, true));
            let [.., generated] = settled(&lane_of(&proxy.usage(), &model));
            let letters = answer_text(events.parse().expect("a number")).chars().count() as u64;
            let expected = letters / 5..=letters / 3;
            assert!(expected.contains(&generated), "{model}: {generated} is not in {expected:?}");
        }
    }
}

#[test]
fn the_usage_is_read_from_an_answer_that_comes_byte_by_byte() {
    let (_fake, proxy) = pair(&[]);
    for (at, path) in [CHAT, COMPLETIONS, MESSAGES, RESPONSES].into_iter().enumerate() {
        for stream in [false, true] {
            let model = format!("model-{at}-{stream}");
            let headers = [&COST[..], &[("x-fake-split", "byte"), ("x-fake-events", "1")]].concat();
            assert_eq!(proxy.post(path, &headers, &body_of(&model, stream)).status(), 200);
            assert_eq!(settled(&lane_of(&proxy.usage(), &model)), [1200, 176, 42], "{model}");
        }
    }
}

#[test]
fn an_encoded_answer_passes_untouched_and_is_settled_by_estimate() {
    let twins = Twins::start();
    let headers = [&COST[..], &[("x-fake-encoding", "gzip")]].concat();
    for (path, stream) in [(CHAT, true), (MESSAGES, true), (RESPONSES, true), (CHAT, false)] {
        let model = format!("{path}, stream: {stream}");
        let day_before = twins.proxy.usage()["day"]["used"].as_u64().expect("a number");
        let (straight, through) = twins.ask("POST", path, &headers, &body_of(&model, stream));
        assert_eq!(through.header("content-encoding"), Some("gzip"));
        assert_same_body(&through, &straight);
        let usage = twins.proxy.usage();
        let [prompt, _, generated] = settled(&lane_of(&usage, &model));
        assert!(prompt > 0, "{model}: nothing is free because it cannot be read");
        assert_eq!(generated, 1000, "{model}: the output cap, which is less than the reserve");
        let stated = if stream { 0 } else { 1200 };
        assert_eq!(usage["day"]["used"], day_before + stated, "{model}: only what was reported counts");
    }
}

#[test]
fn a_refusal_of_the_upstream_costs_no_tokens() {
    let (_fake, proxy) = pair(&[]);
    for status in ["400", "429", "500", "529"] {
        proxy.post(CHAT, &[("x-fake-status", status)], &body_of("m", true));
        assert_eq!(settled(&lane_of(&proxy.usage(), "m")), [0, 0, 0], "{status}");
    }
    let usage = proxy.usage();
    assert_eq!((&usage["day"]["used"], &usage["requests"]["upstream_429"]), (&0.into(), &1.into()));
}
