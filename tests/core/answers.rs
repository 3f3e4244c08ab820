//! What a client gets of a request that was tried again: one answer, whole, and as the upstream gave it.

use std::time::Duration;

use fireworks_proxy::{event::Input, failure::FailureClass};

use super::{MICRO, SECOND, at, phases::STREAM, utc};
use crate::support::world::{World, answer_with, chat, streamed};

/// The longest body of an answer that is kept.
const KEPT_BYTES_MAX: usize = 64 * 1024;

fn world(settings: &[(&str, &str)]) -> World {
    World::new(settings, utc(5, 21, 2, 0))
}

/// How the upstream ends an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Closed,
    Reset,
}

impl End {
    fn come(self, world: &mut World) {
        let upstream = world.upstream_of("a").expect("it is there");
        match self {
            Self::Open => {}
            Self::Closed => world.input(upstream, Input::Eof),
            Self::Reset => world.breaks(upstream, FailureClass::CutInStream),
        }
    }
}

/// An answer in every framing, whole.
fn whole_answers() -> Vec<(String, End)> {
    let head = "HTTP/1.1 503 Slow down\r\nServer: edge\r\n";
    let chunks = "5;ext=\"1\"\r\n{\"a\":\r\n2\r\n1}\r\n0\r\nX-Sum: 7\r\n\r\n";
    let kept = "x".repeat(KEPT_BYTES_MAX);
    vec![
        (format!("{head}Content-Length: 7\r\n\r\n{{\"a\":1}}"), End::Open),
        (format!("{head}Content-Length: 0\r\n\r\n"), End::Open),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}"), End::Open),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), End::Open),
        (format!("{head}\r\n{{\"a\":1}}"), End::Closed),
        (format!("{head}\r\n"), End::Closed),
        ("HTTP/1.0 503 Old\r\n\r\nold".to_owned(), End::Closed),
        (format!("{head}Content-Length: {KEPT_BYTES_MAX}\r\n\r\n{kept}"), End::Open),
        (format!("{head}Retry-After: 2\r\nretry-after-ms: 1500\r\nContent-Length: 1\r\n\r\nx"), End::Open),
        (format!("HTTP/1.1 100 Continue\r\n\r\n{head}Content-Length: 1\r\n\r\nx and more"), End::Open),
    ]
}

/// The requests by which an answer can differ: the method, and whether the client is of old.
fn requests() -> [String; 3] {
    let post = String::from_utf8(chat("a", "", STREAM)).expect("UTF-8");
    let head = "HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\nx-name: a\r\n\r\n".to_owned();
    [post.clone(), head, post.replace("HTTP/1.1", "HTTP/1.0")]
}

/// What a client is told without the fields of the proxy's own, and whether it asks to come back.
fn told(world: &World, client: fireworks_proxy::event::ConnId) -> (String, bool) {
    let text = world.text_of(client);
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let is_own = |line: &&str| !line.starts_with("x-fireworks-proxy-") && *line != "Retry-After: 5";
    let lines: Vec<&str> = head.lines().filter(is_own).collect();
    let asks = head.to_ascii_lowercase().contains("\r\nretry-after: ");
    (lines.join("\r\n") + "\r\n\r\n" + body, asks)
}

#[test]
fn the_last_answer_is_passed_on_as_it_would_have_been_at_once() {
    for request in requests() {
        for (answer, end) in whole_answers() {
            let shown = &answer[..answer.len().min(120)];
            let what = format!("{shown:?} to {:?}", &request[..25]);
            let mut plain = world(&[("MAX_RETRIES", "0")]);
            let client = plain.client_with(request.as_bytes());
            plain.reply("a", &answer);
            end.come(&mut plain);
            let (expected, _) = told(&plain, client);

            // The retry finds nobody who answers, until its time is over.
            let mut held = world(&[("MAX_HOLD", "30"), ("CONNECT_TIMEOUT", "60")]);
            let client = held.client_with(request.as_bytes());
            held.reply("a", &answer);
            end.come(&mut held);
            held.connects = false;
            held.advance_to(at(30.0) - MICRO);
            assert_eq!(held.text_of(client), "", "{what}");
            assert_eq!(held.dials.len(), 2, "{what}");
            held.advance(MICRO);
            assert_eq!(told(&held, client), (expected, true), "{what}");
            assert_eq!(held.field_of(client, "x-fireworks-proxy-retries").as_deref(), Some("1"), "{what}");
            assert_eq!(held.ends(), [1, 0, 0, 0], "{what}");
            held.assert_settled();
        }
    }
}

#[test]
fn an_answer_that_comes_in_pieces_is_kept_whole() {
    let answer = answer_with(429, "", "0123456789");
    for split in 1..answer.len() {
        let mut world = world(&[("MAX_HOLD", "1.5")]);
        let client = world.client_with(&chat("a", "", STREAM));
        world.reply("a", &answer[..split]);
        world.advance(SECOND / 1_000);
        world.reply("a", &answer[split..]);
        if world.status_of(client).is_none() {
            world.connects = false;
            world.advance(SECOND * 2);
        }
        assert_eq!(world.status_of(client), Some(429), "{split}");
        assert!(world.text_of(client).ends_with("\r\n\r\n0123456789"), "{split}");
        world.assert_settled();
    }
}

/// Answers that cannot be kept whole, with the time until that is known.
fn broken_answers() -> Vec<(String, End, Duration)> {
    let head = "HTTP/1.1 503 Slow down\r\n";
    let long = "x".repeat(KEPT_BYTES_MAX + 1);
    vec![
        (format!("{head}Content-Length: {}\r\n\r\n{long}", long.len()), End::Open, Duration::ZERO),
        (format!("{head}\r\n{long}"), End::Open, Duration::ZERO),
        (format!("{head}Content-Length: 9\r\n\r\n{{\"a\""), End::Closed, Duration::ZERO),
        (format!("{head}Content-Length: 9\r\n\r\n{{\"a\""), End::Reset, Duration::ZERO),
        (format!("{head}\r\n{{\"a\""), End::Reset, Duration::ZERO),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello"), End::Closed, Duration::ZERO),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\nno size"), End::Open, Duration::ZERO),
        (format!("{head}Content-Length: 9\r\n\r\n{{\"a\""), End::Open, SECOND * 2),
        (format!("{head}\r\n"), End::Open, SECOND * 2),
    ]
}

#[test]
fn an_answer_that_cannot_be_kept_whole_is_tried_again_all_the_same() {
    for (answer, end, until) in broken_answers() {
        let what = format!("{:?} {end:?}", &answer[..answer.len().min(120)]);
        let mut world = world(&[]);
        let client = world.client_with(&chat("a", "", STREAM));
        world.reply("a", &answer);
        end.come(&mut world);
        let upstream = world.upstream_of("a").expect("it is there");
        if !until.is_zero() {
            world.advance(until - MICRO);
            assert!(!world.is_closed(upstream), "{what}");
            world.advance(MICRO);
        }
        assert!(world.is_closed(upstream), "{what}");
        world.advance_to(at(2.0));
        assert_eq!((world.starts_of("a").len(), world.text_of(client).as_str()), (2, ""), "{what}");
        world.answer("a", 5, 5);
        assert_eq!(world.status_of(client), Some(200), "{what}");
        world.assert_settled();
    }
}

#[test]
fn the_answer_before_stands_where_the_last_one_could_not_be_kept() {
    for (answer, end, until) in broken_answers() {
        let mut world = world(&[("MAX_HOLD", "30"), ("CONNECT_TIMEOUT", "60")]);
        let client = world.client_with(&chat("a", "", STREAM));
        world.reply("a", answer_with(500, "", "the first"));
        world.advance(SECOND * 2);
        world.reply("a", &answer);
        end.come(&mut world);
        world.connects = false;
        world.advance(until);
        world.advance_to(at(30.0));
        assert_eq!(world.status_of(client), Some(500), "{:?}", &answer[..answer.len().min(120)]);
        assert!(world.text_of(client).ends_with("\r\n\r\nthe first"));
        assert_eq!(world.field_of(client, "x-fireworks-proxy-retries").as_deref(), Some("2"));
        world.assert_settled();
    }
}

#[test]
fn a_refusal_that_trickles_does_not_put_the_next_try_off() {
    for (fields, begins) in [("", 2.0), ("retry-after: 9\r\n", 9.0)] {
        let mut world = world(&[]);
        let client = world.client_with(&chat("a", "", STREAM));
        world.reply("a", format!("HTTP/1.1 503 No\r\n{fields}content-length: 40\r\n\r\n"));
        let upstream = world.upstream_of("a").expect("it is there");
        while !world.is_closed(upstream) {
            assert!(world.now() < at(begins + 1.0), "{fields:?}: it is read for ever");
            world.advance(SECOND / 4);
            world.deliver(upstream, b"x");
        }
        world.advance_to(at(begins + 1.0));
        let starts = world.starts_of("a");
        assert!(starts.len() == 2 && starts[1] >= at(begins), "{fields:?}: {starts:?}");
        assert_eq!(world.text_of(client), "");
        world.answer("a", 1, 1);
        assert_eq!(world.status_of(client), Some(200));
        world.assert_settled();
    }
}

#[test]
fn a_refusal_that_is_still_coming_when_the_time_is_over_is_passed_on_as_it_comes() {
    let mut world = world(&[("MAX_HOLD", "1.9")]);
    let client = world.client_with(&chat("a", "", STREAM));
    world.reply("a", "HTTP/1.1 503 No\r\ncontent-length: 40\r\n\r\n");
    for _ in 0..18 {
        world.advance(SECOND / 10);
        world.reply("a", "x");
        assert_eq!(world.text_of(client), "");
    }
    world.advance_to(at(1.9) - MICRO);
    assert_eq!(world.text_of(client), "", "its time is not over");
    world.advance(MICRO);
    assert_eq!(world.status_of(client), Some(503), "what there is goes out, and the rest as it comes");
    assert!(world.field_of(client, "retry-after").is_some());
    assert!(world.text_of(client).ends_with(&"x".repeat(18)));
    world.advance(SECOND * 100);
    world.reply("a", "y".repeat(22));
    assert!(world.text_of(client).ends_with(&"y".repeat(22)));
    assert_eq!((world.dials.len(), world.ends()), (1, [1, 0, 0, 0]));
    world.assert_settled();
}

#[test]
fn no_byte_of_a_retried_answer_reaches_the_client_and_the_good_one_comes_whole() {
    let mut world = world(&[]);
    let client = world.client_with(&chat("a", "", STREAM));
    let mut waited = Duration::ZERO;
    for status in [503, 500, 429] {
        world.reply("a", answer_with(status, "x-bad: yes\r\n", "bad"));
        let from = world.now();
        world.advance(SECOND * 10);
        waited += world.starts_of("a").last().expect("a try").since(from);
        assert_eq!(world.text_of(client), "");
    }
    let sent: Vec<Vec<u8>> =
        world.upstreams_of("a").iter().map(|upstream| world.sent_to(*upstream).to_vec()).collect();
    assert!(sent.len() == 4 && sent.iter().all(|one| *one == sent[0]), "each try is the same request");
    world.reply("a", streamed(&["one"]));
    assert_eq!(world.status_of(client), Some(200));
    assert_eq!(world.field_of(client, "x-fireworks-proxy-retries").as_deref(), Some("3"));
    let wait_ms = world.field_of(client, "x-fireworks-proxy-wait-ms");
    assert_eq!(wait_ms, Some(waited.as_millis().to_string()), "queue and pauses, not the upstream");
    assert!(!world.text_of(client).contains("bad"));
    let upstream = world.upstream_of("a").expect("it is there");
    world.breaks(upstream, FailureClass::CutInStream);
    world.advance(SECOND * 100);
    assert_eq!(world.dials.len(), 4, "an answer that has begun is not begun again");
    assert!(world.is_closed(client));
    world.assert_settled();
}

#[test]
fn a_body_is_kept_for_another_try_and_dropped_when_the_answer_begins() {
    let kept = |world: &World| format!("{:?}", world.proxy).matches("120, 120, 120, 120").count() > 1_000;
    let body = format!(r#"{{"model":"m","stream":true,"x":"{}"}}"#, "x".repeat(20_000));
    let mut world = world(&[]);
    let client = world.client_with(&chat("a", "", &body));
    assert!(kept(&world));
    world.reply("a", answer_with(503, "", &"answer".repeat(1_000)));
    assert!(kept(&world));
    world.advance(SECOND * 2);
    world.reply("a", streamed(&["one"]));
    assert!(!kept(&world), "a stream can go on for hours");
    assert!(!format!("{:?}", world.proxy).contains("97, 110, 115, 119, 101, 114"), "so can an old answer");

    // An answer may begin before the request has been sent whole, which then still goes on.
    world.input(client, Input::Eof);
    world.connects = false;
    world.client_with(&chat("b", "", &body));
    let upstream = world.dialed.pop_front().expect("a try");
    world.stall(upstream);
    world.input(upstream, Input::Connected);
    world.take(upstream, 5_000);
    world.deliver(upstream, streamed(&["early"]).as_bytes());
    assert!(kept(&world));
    world.take(upstream, 100_000);
    assert!(world.sent_to(upstream).ends_with(b"xxx\"}"));
    assert!(!kept(&world));
}
