//! What is tried again, when, how often, and what is not.

use std::time::Duration;

use fireworks_proxy::{
    event::{ConnId, Input},
    failure::FailureClass,
    retry::Jitter,
    time::Mono,
};

use super::{BODY, MICRO, SECOND, utc};
use crate::support::world::{SEED, World, answer_with, chat};

/// What becomes of one try.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// An answer with this status.
    Status(u16),
    /// An answer that ends within its head.
    HalfHead,
    /// A connection that ends without an answer.
    Closed,
    /// A connection that breaks without an answer.
    Reset,
    /// A connection that cannot be made.
    Unreachable(FailureClass),
}

const REFUSALS: [u16; 3] = [429, 503, 529];
const BREAKDOWNS: [u16; 13] = [408, 500, 502, 504, 520, 521, 522, 523, 524, 525, 526, 527, 528];
const UNREACHABLE: [FailureClass; 4] =
    [FailureClass::Dns, FailureClass::ConnectRefused, FailureClass::ConnectTimeout, FailureClass::TlsOther];
const LOSSES: [Fault; 3] = [Fault::HalfHead, Fault::Closed, Fault::Reset];

const TROUBLE: &str = r#"{"error":"trouble"}"#;

impl Fault {
    /// Lets it happen on an upstream connection that was asked for.
    fn strike(self, world: &mut World, upstream: ConnId) {
        if let Self::Unreachable(class) = self {
            return world.breaks(upstream, class);
        }
        world.input(upstream, Input::Connected);
        match self {
            Self::Status(status) => {
                world.deliver(upstream, answer_with(status, "x-a: b\r\n", TROUBLE).as_bytes());
            }
            Self::HalfHead => {
                world.deliver(upstream, b"HTTP/1.1 200 OK\r\n");
                world.input(upstream, Input::Eof);
            }
            Self::Closed => world.input(upstream, Input::Eof),
            Self::Reset => world.breaks(upstream, FailureClass::CutInStream),
            Self::Unreachable(_) => unreachable!("it was dealt with"),
        }
    }
}

fn every_fault() -> Vec<Fault> {
    let statuses = REFUSALS.into_iter().chain(BREAKDOWNS).map(Fault::Status);
    statuses.chain(LOSSES).chain(UNREACHABLE.map(Fault::Unreachable)).collect()
}

/// A core whose upstream connections wait for the test.
fn world(settings: &[(&str, &str)]) -> World {
    let mut world = World::new(settings, utc(5, 21, 2, 0));
    world.connects = false;
    world
}

/// A request that is none of generation.
fn plain(method: &str, path: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nx-name: plain\r\nContent-Length: 2\r\n\r\n{{}}")
        .into_bytes()
}

fn next_dial(world: &mut World) -> Option<ConnId> {
    world.dialed.pop_front()
}

/// Checks that the next try begins after exactly this span, and gives its connection.
#[track_caller]
fn comes_after(world: &mut World, span: Duration, what: &str) -> ConnId {
    let begun = world.now();
    world.advance_to(begun + span - MICRO);
    assert_eq!(next_dial(world), None, "{what}: too early");
    world.advance(MICRO);
    next_dial(world).unwrap_or_else(|| panic!("{what}: not after {span:?}"))
}

#[test]
fn each_try_comes_after_its_back_off_and_there_are_five() {
    for fault in every_fault() {
        let mut world = world(&[]);
        let mut jitter = Jitter::new(SEED);
        let client = world.client_with(&chat("a", "", BODY));
        let mut upstream = next_dial(&mut world).expect("the first try");
        for retry in 0..5 {
            fault.strike(&mut world, upstream);
            assert!(world.is_closed(upstream), "{fault:?}: each try has a connection of its own");
            let back_off = SECOND * 2_u32.pow(retry) + jitter.draw();
            upstream = comes_after(&mut world, back_off, &format!("{fault:?} {retry}"));
            assert_eq!(world.text_of(client), "", "{fault:?}: nothing is told before the end");
        }
        fault.strike(&mut world, upstream);
        let body = world.json_of(client);
        assert_eq!(world.field_of(client, "x-fireworks-proxy-retries").as_deref(), Some("5"), "{fault:?}");
        if let Fault::Status(status) = fault {
            assert_eq!((world.status_of(client), body["error"].as_str()), (Some(status), Some("trouble")));
            assert_eq!(world.field_of(client, "x-a").as_deref(), Some("b"));
            let wait = (SECOND * 32 + jitter.draw()).as_secs() + 1;
            assert_eq!(world.field_of(client, "retry-after"), Some(wait.to_string()), "{fault:?}");
        } else {
            assert!(matches!(world.status_of(client), Some(502 | 504)), "{fault:?}");
            assert_eq!(world.field_of(client, "retry-after"), None, "{fault:?}");
        }
        world.advance(SECOND * 1_000);
        assert_eq!((next_dial(&mut world), world.stats().retries), (None, 5), "{fault:?}");
        world.assert_settled();
    }
}

#[test]
fn every_other_status_passes_at_once_as_it_is() {
    let others = [
        200, 201, 204, 301, 304, 400, 401, 402, 403, 404, 405, 407, 409, 410, 412, 413, 422, 425, 428, 431,
        451, 499, 501, 505, 511, 519, 530, 599, 999,
    ];
    for status in others {
        let mut world = world(&[]);
        let client = world.client_with(&chat("a", "", BODY));
        let upstream = next_dial(&mut world).expect("a try");
        world.input(upstream, Input::Connected);
        let body = if matches!(status, 204 | 304) { "" } else { "{\n \"any\": 1}" };
        let answer = answer_with(status, "X-Odd: Case\r\n", body);
        world.deliver(upstream, answer.as_bytes());
        let text = world.text_of(client);
        let own = |line: &&str| !line.starts_with("x-fireworks-proxy-");
        let unchanged: String = text.split_inclusive("\r\n").filter(own).collect();
        // RFC 9110, section 8.6: a 204 has no length, not even of zero.
        let passed = if status == 204 { answer.replace("content-length: 0\r\n", "") } else { answer };
        assert_eq!(unchanged, passed);
        assert_eq!(world.field_of(client, "x-fireworks-proxy-retries").as_deref(), Some("0"));
        world.advance(SECOND * 100);
        assert_eq!(next_dial(&mut world), None, "{status}");
        world.assert_settled();
    }
}

#[test]
fn what_would_be_the_same_again_is_not_tried_again() {
    let mut first = world(&[]);
    let client = first.client_with(&chat("a", "", BODY));
    let upstream = next_dial(&mut first).expect("a try");
    first.breaks(upstream, FailureClass::TlsCertificate);
    assert_eq!(first.json_of(client)["error"]["code"], "tls_certificate");
    for bad in
        ["SMTP\r\n\r\n", "HTTP/1.1 101 Switched\r\n\r\n", "HTTP/1.1 503 No\r\nContent-Length: x\r\n\r\n"]
    {
        let client = first.client_with(&chat("b", "", BODY));
        let upstream = next_dial(&mut first).expect("a try");
        first.input(upstream, Input::Connected);
        first.deliver(upstream, bad.as_bytes());
        assert_eq!(first.json_of(client)["error"]["code"], "bad_head", "{bad:?}");
    }
    assert_eq!(first.stats().retries, 0);
    first.advance(SECOND * 100);
    assert_eq!(next_dial(&mut first), None);
    first.assert_settled();
}

#[test]
fn what_may_have_been_done_is_done_again_only_where_that_is_harmless() {
    let requests = [
        ("POST", "/v1/chat/completions", true),
        ("POST", "/v1/embeddings", true),
        ("GET", "/v1/models", true),
        ("HEAD", "/v1/models", true),
        ("OPTIONS", "/v1/models", true),
        ("PUT", "/v1/files/a", true),
        ("DELETE", "/v1/files/a", true),
        ("PATCH", "/v1/files/a", false),
        ("POST", "/v1/messages/count_tokens", true),
        ("POST", "/v1/files", false),
        ("POST", "/other", false),
    ];
    for (method, path, is_harmless) in requests {
        for fault in every_fault() {
            let what = format!("{method} {path} {fault:?}");
            let is_undone = match fault {
                Fault::Status(status) => REFUSALS.contains(&status),
                Fault::Unreachable(_) => true,
                _ => false,
            };
            let mut world = world(&[]);
            let client = world.client_with(&plain(method, path));
            let upstream = next_dial(&mut world).expect("a try");
            fault.strike(&mut world, upstream);
            let is_retried = is_harmless || is_undone;
            assert_eq!(world.status_of(client).is_none(), is_retried, "{what}");
            world.advance(SECOND * 2);
            assert_eq!(next_dial(&mut world).is_some(), is_retried, "{what}");
            if !is_retried {
                assert_eq!(world.field_of(client, "retry-after"), None, "{what}: it is not to be repeated");
            }
        }
    }
}

#[test]
fn the_number_of_retries_is_a_setting_and_zero_switches_them_off() {
    for (setting, retries) in [("0", 0), ("1", 1), ("7", 7)] {
        for fault in every_fault() {
            let mut world = world(&[("MAX_RETRIES", setting)]);
            let client = world.client_with(&chat("a", "", BODY));
            let mut tries = 0;
            while world.status_of(client).is_none() {
                let upstream = next_dial(&mut world).expect("another try");
                tries += 1;
                fault.strike(&mut world, upstream);
                world.advance(SECOND * (1 + 2_u32.pow(tries - 1)));
            }
            assert_eq!((tries, world.stats().retries), (retries + 1, u64::from(retries)), "{fault:?}");
            if retries == 0 {
                assert_eq!(world.field_of(client, "retry-after"), None, "it goes through as it came");
            }
            world.assert_settled();
        }
    }
}

#[test]
fn the_upstream_says_how_long_to_wait_at_least_in_every_form() {
    let forms = [
        ("", 0.0),
        ("retry-after: 7\r\n", 7.0),
        ("Retry-After: 1.75\r\n", 1.75),
        ("RETRY-AFTER-MS: 2500\r\n", 2.5),
        ("retry-after-ms: 2500.5\r\n", 2.5005),
        ("retry-after: 3\r\nretry-after-ms: 9000\r\n", 9.0),
        ("retry-after: 9\r\nretry-after-ms: 3000\r\n", 9.0),
        ("retry-after: 0\r\nretry-after-ms: 0\r\n", 0.0),
        ("retry-after: Thu, 21 May 2026 02:00:09 GMT\r\n", 9.0),
        ("retry-after: Thursday, 21-May-26 02:00:09 GMT\r\n", 9.0),
        ("retry-after: Thu May 21 02:00:09 2026\r\n", 9.0),
        ("date: Thu, 21 May 2026 01:00:00 GMT\r\nretry-after: Thu, 21 May 2026 01:00:04 GMT\r\n", 4.0),
        ("retry-after: Wed, 20 May 2026 02:00:09 GMT\r\n", 0.0),
        ("retry-after: -7\r\n", 0.0),
        ("retry-after: a while\r\n", 0.0),
        ("retry-after: NaN\r\nretry-after-ms: inf\r\n", 0.0),
        ("retry-after: \r\n", 0.0),
    ];
    for (fields, asked) in forms {
        for status in [429, 500, 503] {
            let mut world = world(&[]);
            let mut jitter = Jitter::new(SEED);
            world.client_with(&chat("a", "", BODY));
            for retry in 0..3 {
                let upstream = next_dial(&mut world).expect("a try");
                world.input(upstream, Input::Connected);
                // A date is a moment, not a span: only the first answer is on time for it.
                let is_date = fields.contains("GMT") || fields.contains("2026");
                world.refuse("a", status, if is_date && retry > 0 { "" } else { fields });
                let asked = if is_date && retry > 0 { 0.0 } else { asked };
                let back_off = SECOND * 2_u32.pow(retry);
                let wait = back_off.max(Duration::from_secs_f64(asked)) + jitter.draw();
                let upstream = comes_after(&mut world, wait, &format!("{fields:?} {status} {retry}"));
                world.dialed.push_front(upstream);
            }
        }
    }
}

#[test]
fn a_wait_that_would_outlast_the_requests_time_is_not_begun() {
    let hold = SECOND * 240;
    let jitter = Jitter::new(SEED).draw();
    for status in [429, 500, 503] {
        for (asked, is_begun) in
            [(hold - jitter - MICRO, true), (hold - jitter, false), (hold, false), (hold * 1_000, false)]
        {
            let what = format!("{status} {asked:?}");
            let mut world = world(&[]);
            let client = world.client_with(&chat("a", "", BODY));
            let upstream = next_dial(&mut world).expect("a try");
            world.input(upstream, Input::Connected);
            let fields = format!("Retry-After: {:.6}\r\n", asked.as_secs_f64());
            world.refuse("a", status, &fields);
            assert_eq!(world.status_of(client).is_none(), is_begun, "{what}");
            if is_begun {
                world.advance_to(Mono::ZERO + hold - MICRO);
                assert!(next_dial(&mut world).is_some(), "{what}");
                world.advance(MICRO);
            }
            assert_eq!(world.status_of(client), Some(status), "{what}");
            assert!(world.text_of(client).contains(&fields), "{what}: {}", world.text_of(client));
            world.assert_settled();
        }
    }
}
