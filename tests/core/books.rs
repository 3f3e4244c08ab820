//! What is counted and logged of requests that are tried again, and what each try costs.

use fireworks_proxy::{
    event::Input,
    failure::{FailureClass, Reach},
    retry::Jitter,
};

use super::{BODY, SECOND, at, one_at_a_time, phases::STREAM, utc};
use crate::support::world::{SEED, World, answer_with, chat, streamed};

fn world(settings: &[(&str, &str)]) -> World {
    World::new(settings, utc(5, 21, 2, 0))
}

#[test]
fn the_log_tells_the_story_of_a_request_line_by_line() {
    let mut world = world(&[("MAX_RETRIES", "3")]);
    world.connects = false;
    let mut jitter = Jitter::new(SEED);
    world.client_with(&chat("a", "x-session-id: s\r\n", STREAM));
    let mut expected = Vec::new();
    let mut waited = 0.0;
    for (retry, after) in ["dns", "503", "closed_before_head"].into_iter().enumerate() {
        let upstream = world.dialed.pop_front().expect("a try");
        world.advance(SECOND / 4);
        match after {
            "dns" => world.breaks(upstream, FailureClass::Dns),
            "503" => {
                world.input(upstream, Input::Connected);
                world.reply("a", answer_with(503, "", "full"));
            }
            _ => {
                world.input(upstream, Input::Connected);
                world.input(upstream, Input::Eof);
            }
        }
        let pause = f64::from(1 << retry) + jitter.draw().as_secs_f64();
        let held = world.now().since(at(0.0)).as_secs_f64();
        expected.push(format!(
            "INFO retry | POST /v1/chat/completions after={after} retry={}/3 in={pause:.3}s model=m session=s \
             took={held:.3}s",
            retry + 1
        ));
        waited += pause;
        world.advance_to(at(held + pause));
    }
    world.connects = true;
    let upstream = world.dialed.pop_front().expect("the last try");
    world.input(upstream, Input::Connected);
    world.answer("a", 20, 5);
    let took = world.now().since(at(0.0)).as_secs_f64();
    expected.push(format!(
        "INFO request | POST /v1/chat/completions status=200 client=- model=m session=s waited={waited:.3}s retries=3 \
         prompt=20 cached=0 generated=5 first_byte={took:.3}s took={took:.3}s"
    ));
    assert_eq!(world.request_lines(), expected);
    let failures = world.log.iter().filter(|line| line.contains("api.fireworks.ai")).collect::<Vec<_>>();
    assert_eq!(
        failures,
        [
            "WARN https://api.fireworks.ai/inference: its name does not resolve (by the test; the request never reached Fireworks)",
            "WARN https://api.fireworks.ai/inference: it closed the connection before it answered (closed without an answer; the request may have reached Fireworks)",
        ]
    );
    let counted = [("may_have_reached closed_before_head", 1), ("never_reached dns", 1)];
    assert_eq!(world.failures(), counted.map(|(name, count)| (name.to_owned(), count)));
    let stats = world.stats();
    assert_eq!((stats.retries, stats.upstream_503, stats.upstream_429, stats.finished), (3, 1, 0, 1));
    world.assert_settled();
}

#[test]
fn every_failure_is_counted_on_its_side_each_time() {
    for class in FailureClass::ALL {
        let mut world = world(&[("MAX_RETRIES", "1"), ("READ_TIMEOUT", "20"), ("MAX_HOLD", "1000")]);
        world.connects = false;
        let client = world.client_with(&chat("a", "", STREAM));
        let mut times = 0;
        while let Some(upstream) = world.dialed.pop_front() {
            times += 1;
            if class.reach() == Reach::NeverReached {
                world.breaks(upstream, class);
            } else {
                if class == FailureClass::WriteTimeout {
                    world.stall(upstream);
                }
                world.input(upstream, Input::Connected);
            }
            match class {
                FailureClass::WriteTimeout => world.advance(SECOND * 30),
                FailureClass::HeadTimeout => world.advance(SECOND * 20),
                FailureClass::ClosedBeforeHead => world.input(upstream, Input::Eof),
                FailureClass::BadHead => world.deliver(upstream, b"what?\r\n\r\n"),
                FailureClass::CutInStream | FailureClass::IdleInStream => {
                    world.deliver(upstream, streamed(&["one"]).as_bytes());
                    world.advance(SECOND * 19);
                    match class {
                        FailureClass::CutInStream => world.input(upstream, Input::Eof),
                        _ => world.advance(SECOND),
                    }
                }
                _ => {}
            }
            world.advance(SECOND * 2);
        }
        let is_final = matches!(
            class,
            FailureClass::ProxyAuth
                | FailureClass::ProxyDenied
                | FailureClass::TlsCertificate
                | FailureClass::BadHead
                | FailureClass::CutInStream
                | FailureClass::IdleInStream
        );
        assert_eq!(times, if is_final { 1 } else { 2 }, "{class:?}");
        let name = format!("{} {}", class.reach().name(), class.name());
        assert_eq!(world.failures(), [(name, times)], "{class:?}");
        assert_eq!(world.ends(), [0, 0, 0, 1], "{class:?}");
        assert!(world.status_of(client).is_some());
        let error = world.page("/health")["last_upstream_error"]["error"].clone();
        let error = error.as_str().expect("a text");
        assert!(error.starts_with(&format!("{}: ", class.name())), "{error}");
        world.assert_settled();
    }
}

#[test]
fn a_retry_is_counted_when_it_is_sent_and_not_when_it_is_waited_for() {
    let mut world = one_at_a_time(&[("MAX_WAIT", "5")]);
    let client = world.client_with(&chat("a", "", STREAM));
    world.reply("a", answer_with(503, "", "full"));
    assert_eq!(world.stats().retries, 0);
    world.client_with(&chat("blocker", "", BODY));
    world.advance(SECOND * 10);
    assert_eq!(world.status_of(client), Some(503));
    assert_eq!(world.field_of(client, "x-fireworks-proxy-retries").as_deref(), Some("0"));
    assert_eq!((world.starts_of("a").len(), world.stats().retries), (1, 0));
    assert!(!world.request_lines().last().expect("a line").contains("retries="));

    let client = world.client_with(&chat("b", "", STREAM));
    world.fail("blocker");
    world.refuse("b", 503, "");
    world.advance(SECOND * 2);
    assert_eq!((world.starts_of("b").len(), world.stats().retries), (2, 1));
    world.input(client, Input::Eof);
    assert!(world.request_lines().last().expect("a line").contains(" retries=1 "));
    world.assert_settled();
}

#[test]
fn the_line_of_statistics_comes_again_after_everybody_has_paused() {
    let lines = |world: &World| world.log.iter().filter(|line| line.contains("INFO stats |")).count();
    let mut world = world(&[]);
    world.client_with(&chat("a", "", STREAM));
    world.refuse("a", 503, "retry-after: 15\r\n");
    world.advance_to(at(40.0));
    let before = lines(&world);
    world.advance_to(at(100.0));
    assert_eq!(lines(&world) - before, 6, "a request is in flight");
    world.fail("a");
    world.advance_to(at(1_000.0));
    assert_eq!((lines(&world) - before, world.proxy.poll_timeout()), (7, None), "and then it ends");
}

#[test]
fn a_refusal_costs_nothing_and_a_loss_what_may_have_been_used() {
    let used = |world: &mut World| {
        let (_, balances) = world.balances().remove(0);
        balances.map(|balance| (balance.used, balance.reserved))
    };
    // The keys count as text, the name of the model does not, and a character is a token.
    let prompt = "modelstreamx".len() as u64;
    let body = |stream: bool| format!(r#"{{"model":"m","stream":{stream},"x":""}}"#);
    for (stream, generated) in [(true, 0), (false, 10)] {
        let settings = [("CHARS_PER_TOKEN", "1"), ("OUTPUT_TOKEN_RESERVE", "10")];
        let mut world = world(&settings);
        world.client_with(&chat("a", "", &body(stream)));
        assert_eq!(used(&mut world), [(prompt, 0), (0, prompt), (0, 10)], "sent, and under way");
        world.refuse("a", 503, "");
        assert_eq!(used(&mut world), [(0, 0); 3]);
        world.advance(SECOND * 2);
        let upstream = world.upstream_of("a").expect("it is there");
        world.input(upstream, Input::Eof);
        assert_eq!(used(&mut world), [(prompt, 0), (prompt, 0), (generated, 0)]);
        world.connects = false;
        world.advance(SECOND * 4);
        let upstream = world.dialed.pop_front().expect("a try");
        world.breaks(upstream, FailureClass::ConnectRefused);
        assert_eq!(used(&mut world), [(prompt, 0), (prompt, 0), (generated, 0)], "it was never sent");
        world.connects = true;
        world.advance(SECOND * 9);
        world.answer("a", 100, 3);
        assert_eq!(used(&mut world), [(prompt + 100, 0), (prompt + 100, 0), (generated + 3, 0)]);
        assert_eq!(world.page("/usage")["day"]["used"], 103, "the day counts what was reported");
        world.assert_settled();
    }
}

/// What of each limit is used at most, as `/usage` tells.
fn effective(world: &mut World) -> [u64; 3] {
    let budgets = world.page("/usage")["lanes"][0]["budgets"].clone();
    ["prompt", "uncached_prompt", "generated"]
        .map(|name| budgets[name]["effective"].as_u64().expect("a number"))
}

/// What is used of the default limits at a ratio of 0.80.
const WHOLE: [u64; 3] = [3_600_000, 720_000, 28_800];

#[test]
fn refusals_in_a_row_lower_what_is_used_and_good_answers_bring_it_back() {
    let settings = [("CHARS_PER_TOKEN", "1"), ("OUTPUT_TOKEN_RESERVE", "10"), ("TPM_SAFETY_RATIO", "0.8")];
    let mut world = world(&settings);
    let [prompt, uncached, generated] = WHOLE;
    let client = world.client_with(&chat("a", "", STREAM));
    // No limit explains these. From the third on it is the one that is used most that is doubted.
    for (refusals, of) in [(1, 1), (2, 1), (3, 4), (4, 8), (5, 16), (6, 32)] {
        world.refuse("a", 429, "");
        assert_eq!(effective(&mut world), [prompt, uncached, generated / of], "{refusals}");
        world.advance(SECOND * 33);
    }
    assert_eq!(world.status_of(client), Some(429), "the tries are used up");
    world.client_with(&chat("other", "", r#"{"model":"n"}"#));
    world.answer("other", 1, 1);
    assert_eq!(effective(&mut world)[2], generated / 32, "another model says nothing of this one");
    for good in 1..=17 {
        world.client_with(&chat("b", "", STREAM));
        world.refuse("b", if good == 8 { 503 } else { 400 }, "retry-after: 300\r\n");
        world.advance(SECOND);
        let steps = good - u64::from(good >= 8);
        let raised = generated.min(generated / 32 + steps * (generated / 16));
        assert_eq!(effective(&mut world), [prompt, uncached, raised], "{good}");
    }
    assert_eq!(effective(&mut world), WHOLE);
    world.assert_settled();
}

#[test]
fn refusals_near_a_limit_lower_that_one_from_the_second_on() {
    // One request under way is expected to use most of the limit of uncached prompts.
    let settings = [("CHARS_PER_TOKEN", "1"), ("OUTPUT_TOKEN_RESERVE", "10"), ("TPM_SAFETY_RATIO", "0.8")];
    let mut world = world(&settings);
    let [prompt, uncached, generated] = WHOLE;
    let filler = format!(r#"{{"model":"m","stream":true,"x":"{}"}}"#, "x".repeat(700_000));
    world.client_with(&chat("filler", "", &filler));
    world.client_with(&chat("a", "", STREAM));
    world.advance(SECOND);
    for (refusals, of) in [(1, 1), (2, 2)] {
        world.refuse("a", 429, "");
        assert_eq!(effective(&mut world), [prompt, uncached / of, generated], "{refusals}");
        world.advance(SECOND * 3);
    }
    world.advance(SECOND * 60);
    assert_eq!(effective(&mut world), WHOLE, "a minute later that is forgotten");
}

#[test]
fn every_request_has_one_end_and_they_add_up() {
    let mut world = one_at_a_time(&[("MAX_WAIT", "5"), ("MAX_RETRIES", "1")]);
    world.client_with(&chat("finished", "", BODY));
    let refused = world.client_with(&chat("refused", "", BODY));
    world.advance(SECOND * 6);
    assert_eq!(world.status_of(refused), Some(429));
    world.fail("finished");
    let gone = world.client_with(&chat("gone", "", STREAM));
    world.refuse("gone", 503, "");
    world.advance(SECOND * 2);
    world.reply("gone", streamed(&["one"]));
    world.input(gone, Input::Eof);
    world.advance(SECOND * 62);
    world.client_with(&chat("failed", "", STREAM));
    for _ in 0..2 {
        let upstream = world.upstream_of("failed").expect("it is there");
        world.input(upstream, Input::Eof);
        world.advance(SECOND * 2);
    }
    world.client_with(b"no request\r\n\r\n");
    let passed = world.client_with(&chat("passed", "", STREAM));
    for _ in 0..2 {
        world.refuse("passed", 500, "");
        world.advance(SECOND * 2);
    }
    assert_eq!(world.status_of(passed), Some(500));
    assert_eq!((world.ends(), world.stats().requests), ([2, 2, 1, 1], 6));
    world.assert_settled();
}

#[test]
fn limits_are_learned_from_answers_and_refusals_but_not_from_overloads() {
    let learned =
        |world: &mut World| world.page("/usage")["lanes"][0]["budgets"]["generated"]["learned"].as_u64();
    let fields = |limit: u64| format!("x-ratelimit-limit-tokens-generated: {limit}\r\n");
    let mut world = world(&[("MAX_RETRIES", "0")]);
    let hear = |world: &mut World, status: u16, limit: u64| {
        world.advance(SECOND * 3);
        world.client_with(&chat("a", "", STREAM));
        world.reply("a", answer_with(status, &fields(limit), "{}"));
        learned(world)
    };
    assert_eq!(hear(&mut world, 200, 216_000), Some(216_000));
    for status in [503, 529, 500, 502, 408] {
        for _ in 0..5 {
            assert_eq!(hear(&mut world, status, 36_000), Some(216_000), "{status}");
            assert_eq!(hear(&mut world, status, 648_000), Some(216_000), "{status}");
        }
    }
    assert_eq!(hear(&mut world, 429, 72_000), Some(216_000), "one may be a cold replica");
    assert_eq!(hear(&mut world, 503, 648_000), Some(216_000), "it says nothing, for or against");
    assert_eq!(hear(&mut world, 429, 60_000), Some(216_000));
    assert_eq!(hear(&mut world, 429, 60_000), Some(72_000));
    assert_eq!(hear(&mut world, 429, 216_000), Some(216_000), "a higher one holds at once");
}
