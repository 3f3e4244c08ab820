//! Every response through a running proxy. The client asks twice on one connection, and gets each time one
//! well-formed answer, a refusal by the proxy, or a cut that shows: never a wrong end, and nothing of one answer in
//! the next.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use fireworks_proxy::http::head::Framing;

use crate::{
    parsing::random_split,
    reference::{self, Answer},
    support::{
        dice::Dice,
        proxy::ProxyUnderTest,
        wire::{SOON, proxy_to},
    },
    table::{Answered, ResponseCase, all_responses},
    upstream::{Play, Upstream},
};

/// Sends raw bytes and gives all that comes.
fn ask(proxy: &ProxyUnderTest, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(proxy.address()).expect("the proxy listens");
    stream.set_read_timeout(Some(SOON)).expect("a positive timeout");
    stream.write_all(bytes).expect("the proxy takes the requests");
    let mut received = Vec::new();
    let ended = stream.read_to_end(&mut received).map_err(|error| error.kind());
    assert!(!matches!(ended, Err(std::io::ErrorKind::WouldBlock)), "the proxy does not end the connection");
    received
}

/// Two requests on one connection, the second of which ends it.
fn twice(method: &str) -> String {
    let request = |fields: &str| format!("{method} /x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    request("") + &request("Connection: close\r\n")
}

/// Whether the answer is the proxy's refusal with this code.
fn is_refusal(answer: &Answer, code: &str, method: &str) -> bool {
    // To HEAD the body is not sent.
    let tells = String::from_utf8_lossy(&answer.body).contains(&format!("\"code\":\"{code}\""));
    answer.is_whole && answer.status == 502 && (tells || method == "HEAD")
}

/// Checks what a client that asked twice got.
fn check(received: &[u8], case: &ResponseCase) -> Result<(), String> {
    let answers = reference::answers(received, &[case.method; 2])?;
    let is_as_expected = |answer: &Answer| match case.outcome {
        Answered::Whole(status, _, body) => answer.is_whole && answer.status == status && answer.body == body,
        Answered::Cut(status, body) | Answered::Broken(status, body) => {
            !answer.is_whole && answer.status == status && answer.body == body
        }
        Answered::Refused => is_refusal(answer, "bad_head", case.method),
        Answered::NoHead => is_refusal(answer, "closed_before_head", case.method),
    };
    // A cut ends the client's connection with it.
    let is_cut = matches!(case.outcome, Answered::Cut(..) | Answered::Broken(..));
    let count = if is_cut { 1 } else { 2 };
    if answers.len() != count || !answers.iter().all(is_as_expected) {
        return Err(format!("{count} of {:?} expected: {answers:#?}", case.outcome));
    }
    if matches!(case.outcome, Answered::Whole(..)) && !is_same_status_line(received, &case.bytes) {
        return Err(format!("another status line: {answers:#?}"));
    }
    Ok(())
}

/// Whether what is received begins with the status line of what was sent, but for its version. That of an interim
/// answer is not passed on.
fn is_same_status_line(received: &[u8], sent: &[u8]) -> bool {
    const VERSION: usize = "HTTP/1.1".len();
    let [received, sent] = [received, sent].map(|bytes| bytes[VERSION..].split(|byte| *byte == b'\r').next());
    received == sent || sent.is_some_and(|line| line.starts_with(b" 1"))
}

fn run(split: impl Fn(&[u8], u64) -> Vec<usize>) {
    let upstream = Upstream::start();
    let proxy = proxy_to(&upstream.base_url(), &[("RPS", "1000")]);
    let mut failures = Vec::new();
    for (number, case) in (0..).zip(all_responses()) {
        let ends = split(&case.bytes, number);
        upstream.play(Play { bytes: case.bytes.clone(), ends, is_reset: false });
        let checked = check(&ask(&proxy, twice(case.method).as_bytes()), &case);
        failures.extend(checked.err().map(|error| format!("{} ({}): {error}", case.name, case.section)));
    }
    assert!(failures.is_empty(), "{} cases: {failures:#?}", failures.len());
    assert_eq!(proxy.usage()["requests"]["in_flight"], 0);
}

#[test]
fn what_reaches_the_client_is_one_well_formed_answer_a_refusal_or_a_cut() {
    run(|bytes, _| vec![bytes.len()]);
}

#[test]
fn so_it_is_when_responses_come_in_pieces() {
    run(|bytes, number| random_split(bytes.len(), &mut Dice::new(number, 99)));
}

#[test]
fn a_client_of_http_1_0_gets_no_coding_and_the_whole_body() {
    let upstream = Upstream::start();
    let proxy = proxy_to(&upstream.base_url(), &[("RPS", "1000")]);
    for case in all_responses() {
        let Answered::Whole(status, framing, body) = case.outcome else { continue };
        upstream.play(Play::whole(&case.bytes));
        let request = format!("{} /x HTTP/1.0\r\nHost: localhost\r\n\r\n", case.method);
        let received = ask(&proxy, request.as_bytes());
        let answers = reference::answers(&received, &[case.method]).expect(&case.name);
        let [answer] = &answers[..] else { panic!("{}: {answers:#?}", case.name) };
        assert_eq!((answer.status, answer.body.as_slice()), (status, body), "{}", case.name);
        assert_eq!(answer.head.all("connection"), [b"close"], "{}", case.name);
        assert!(answer.head.all("transfer-encoding").is_empty(), "{}: {framing:?}", case.name);
    }
}

/// A reset is never an end, whatever the framing: also where a body ends with the connection.
#[test]
fn an_answer_that_ends_in_a_reset_is_cut() {
    let upstream = Upstream::start();
    let proxy = proxy_to(&upstream.base_url(), &[("RPS", "1000")]);
    for case in all_responses() {
        let is_open = matches!(case.outcome, Answered::Cut(..) | Answered::Whole(_, Framing::UntilClose, _));
        if !is_open {
            continue;
        }
        let ends = vec![case.bytes.len()];
        upstream.play(Play { bytes: case.bytes.clone(), ends, is_reset: true });
        let received = ask(&proxy, twice(case.method).as_bytes());
        let answers = reference::answers(&received, &[case.method; 2]).expect(&case.name);
        // A reset may overtake what was sent before it, the head too.
        let is_lost = answers
            .iter()
            .all(|answer| is_refusal(answer, "closed_before_head", case.method) || !answer.is_whole);
        assert!(!answers.is_empty() && is_lost, "{}: {answers:#?}", case.name);
    }
}

#[test]
fn interim_answers_do_not_go_on_for_ever() {
    let upstream = Upstream::start();
    let proxy = proxy_to(&upstream.base_url(), &[]);
    let answer = |interim: usize| {
        let last = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        "HTTP/1.1 102 Processing\r\n\r\n".repeat(interim) + last
    };
    for (interim, status) in [(16, 200), (17, 502), (5_000, 502)] {
        upstream.play(Play::whole(answer(interim).as_bytes()));
        let received = ask(&proxy, twice("GET").as_bytes());
        let answers = reference::answers(&received, &["GET"; 2]).expect("well-formed");
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [status; 2], "{interim}");
    }
}
