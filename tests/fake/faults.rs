//! Random faults: drawn from the seed alone, each what it says, and all of them counted.

use std::collections::BTreeMap;

use super::*;
use support::client::ResponseHead;
use support::fake::{Fault, Faults};

/// Each kind strikes one request in eight.
const MANY: &str = "12.5/12.5/12.5/12.5/12.5/12.5";

/// Enough that each kind is all but certain to strike.
const REQUESTS: usize = 150;

fn start(faults: &str, seed: u64) -> FakeFireworks {
    let faults = Faults::parse(faults).expect("percentages");
    let faults = Some(Faults { seed, stall: Duration::from_millis(8), ..faults });
    FakeFireworks::start(FakeOptions { tls: false, faults, ..FakeOptions::default() })
}

/// What a client sees of one request: the head unless the connection ended first, and whether the body was whole.
fn ask(fake: &FakeFireworks, headers: &[(&str, &str)]) -> (Option<ResponseHead>, Result<String, CutReason>) {
    let mut client = Client::connect(fake.address());
    client.request("POST", CHAT, headers, stream().to_string().as_bytes());
    match client.try_read_head() {
        Err(cut) => (None, Err(cut.reason)),
        Ok(head) => {
            let body = client.read_body_to_end();
            (Some(head), body.map(|body| body.text()).map_err(|cut| cut.reason))
        }
    }
}

/// The fault of each request, in order of arrival.
fn drawn(fake: &FakeFireworks) -> Vec<Option<Fault>> {
    fake.requests().iter().map(|request| request.fault).collect()
}

#[test]
fn faults_are_what_they_say_and_are_counted() {
    let fake = start(MANY, 1);
    for number in 0..REQUESTS {
        let (head, body) = ask(&fake, &[]);
        let status = head.as_ref().map(|head| head.status);
        let fault = fake.requests()[number].fault;
        match fault {
            Some(Fault::Refused) => assert_eq!(status, Some(429)),
            Some(Fault::Overloaded) => assert_eq!(status, Some(503)),
            // A reset may overtake the head.
            Some(Fault::CutMidStream) => assert!(matches!(status, None | Some(200)) && body.is_err()),
            Some(Fault::ResetBeforeHead) => assert!(status.is_none() && body.is_err()),
            Some(Fault::Stalled | Fault::Trickled) | None => {
                assert_eq!(status, Some(200));
                assert!(body.expect("whole").ends_with("data: [DONE]\n\n"));
            }
        }
    }
    let mut counts = BTreeMap::new();
    drawn(&fake).into_iter().flatten().for_each(|fault| *counts.entry(fault).or_default() += 1);
    assert_eq!(counts.len(), Fault::ALL.len(), "each has struck: {counts:?}");
    let statistics = fake.statistics();
    assert_eq!(statistics.faults, counts);
    assert_eq!(statistics.statuses.get(&503), counts.get(&Fault::Overloaded));
    assert!(
        fake.wait_until(SOON, |statistics| statistics.connections_open == 0 && statistics.in_flight == 0)
    );
}

#[test]
fn the_same_seed_draws_the_same_faults() {
    let drawn_with = |seed| {
        let fake = start(MANY, seed);
        (0..40).for_each(|_| drop(ask(&fake, &[])));
        drawn(&fake)
    };
    assert_eq!(drawn_with(7), drawn_with(7));
    assert_ne!(drawn_with(7), drawn_with(8));
}

#[test]
fn refusals_have_bodies_of_all_kinds_and_seldom_say_when_to_come_back() {
    let fake = start("100/0/0/0/0", 3);
    let answers: Vec<_> = (0..60).map(|_| ask(&fake, &[])).collect();
    let bodies_with = |mark: &str| {
        answers.iter().filter(|(_, body)| body.as_ref().is_ok_and(|body| body.contains(mark))).count()
    };
    let kinds = [bodies_with("<html>"), bodies_with("rate limit exceeded"), bodies_with(r#"{"error":""#)];
    assert!(kinds.iter().all(|count| *count > 0) && kinds.iter().sum::<usize>() == 60, "{kinds:?}");
    let heads = answers.iter().filter_map(|(head, _)| head.as_ref());
    let hints: Vec<_> = heads.filter_map(|head| head.header("retry-after")).collect();
    assert!((1..30).contains(&hints.len()), "{hints:?}");
    assert!(hints.iter().all(|hint| ["1", "2", "3"].contains(hint)), "{hints:?}");
}

#[test]
fn only_generation_requests_without_a_fault_of_their_own_are_struck() {
    let fake = start("0/100/0/0/0/0", 0);
    let mut client = Client::connect(fake.address());
    client.request("GET", "/inference/v1/models", &[], b"");
    assert_eq!(client.read_response().status(), 200);
    let (head, _) = ask(&fake, &[("x-fake-status", "500")]);
    assert_eq!(head.map(|head| head.status), Some(500));
    assert!(ask(&fake, &[("x-fake-cut", "before-head"), ("x-fake-cut-by", "close")]).0.is_none());
    assert_eq!(drawn(&fake), [None; 3]);
    assert_eq!(fake.statistics().faults, BTreeMap::new());
}

#[test]
fn a_stall_is_a_pause_in_the_middle() {
    let fake = FakeFireworks::start_default();
    let mut client = connect(&fake);
    client.request("POST", CHAT, &[("x-fake-stall-ms", "60000")], stream().to_string().as_bytes());
    client.read_final_head();
    let seen = client.read_until("delta ").expect("the first half comes at once");
    assert!(!seen.contains("ember"));
    client.set_read_timeout(Duration::from_millis(50));
    let cut = client.read_body_to_end().expect_err("the second half does not");
    assert!(matches!(cut.reason, CutReason::Timeout(_)), "{cut}");
}

#[test]
fn percentages_that_cannot_be_are_not_taken() {
    for bad in ["", "1/2/3/4", "1/2/3/4/5/6/7", "50/50/1/0/0", "1/-1/0/0/0", "a/0/0/0/0"] {
        assert!(Faults::parse(bad).is_none(), "{bad}");
    }
    let faults = Faults::parse("5/5/2/1/1").expect("five percentages");
    assert_eq!(Fault::ALL.map(|fault| faults.percent(fault).to_string()), ["5", "5", "2", "1", "1", "0"]);
}
