//! The page as it is asked for: over sockets, with `HEAD`, with a secret, by clients that leave or ask at once again.

use fireworks_proxy::{
    config::Config,
    event::{Input, Output, ProcessFigures},
    proxy::Proxy,
    time::Now,
};

use super::{Page, new_world};
use crate::support::wire::{CHAT, body_of, pair};

const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn the_running_proxy_tells_of_itself_and_its_process() {
    let (_fake, proxy) = pair(&[]);
    assert_eq!(proxy.post(CHAT, &[("x-api-key", "fw_1")], &body_of("m", true)).status(), 200);
    let mut client = proxy.connect();
    client.request("GET", "/metrics", &[], b"");
    let response = client.read_response();
    assert_eq!(response.status(), 200);
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let page = Page::parse(&response.text());
    assert_eq!(page.sum("fireworks_proxy_requests_total", &[("model", "m"), ("class", "2xx")]), 1.0);
    assert_eq!(page.sum("fireworks_proxy_request_first_byte_seconds_count", &[("model", "m")]), 1.0);
    if cfg!(target_os = "linux") {
        let value = |name| page.sum(name, &[]);
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!((3.0..=value("process_max_fds")).contains(&value("process_open_fds")));
        let age = value("fireworks_proxy_start_time_seconds") - value("process_start_time_seconds");
        assert!((-2.0..3_600.0).contains(&age), "the process is older by {age} s");
    }
    client.request("HEAD", "/metrics?any", &[], b"");
    let head = client.read_response();
    assert_eq!((head.status(), head.text().as_str()), (200, ""));
    assert!(head.header("content-length").and_then(|it| it.parse::<usize>().ok()) > Some(1_000));
    client.request("POST", "/metrics", &[], b"");
    assert_eq!(client.read_response().status(), 405);
}

#[test]
fn where_there_is_a_secret_the_page_needs_it() {
    let (_fake, proxy) = pair(&[("CLIENT_TOKEN", "a-long-enough-secret")]);
    for (fields, status) in [(&[][..], 400), (&[("x-fireworks-proxy-token", "a-long-enough-secret")], 200)] {
        let mut client = proxy.connect();
        client.request("GET", "/metrics", fields, b"");
        assert_eq!(client.read_response().status(), status);
    }
}

#[test]
fn the_shell_is_asked_once_for_each_page_and_never_else() {
    let mut world = new_world(&[]);
    for path in ["/", "/health", "/usage", "/history", "/settings"] {
        world.page(path);
    }
    let asked = |trace: &[String]| trace.iter().filter(|line| line.contains("Measure(")).count();
    assert_eq!(asked(&world.trace), 0);
    let client = world.client_with(&[GET, GET].concat());
    assert_eq!(world.text_of(client).matches("process_open_fds 17\n").count(), 2, "one after the other");
    assert_eq!(asked(&world.trace), 2);
}

#[test]
fn a_client_that_has_left_meanwhile_gets_nothing() {
    let now = Now::default();
    let mut proxy = Proxy::new(Config::defaults(), 0, now);
    let client = proxy.next_conn_id();
    proxy.handle_input(client, Input::Accepted, now);
    proxy.handle_measured(client, &ProcessFigures::default(), now);
    assert_eq!(proxy.pending_write(client), b"", "nobody has asked");
    proxy.handle_input(client, Input::Received(GET), now);
    let outputs: Vec<Output> = std::iter::from_fn(|| proxy.poll_output()).collect();
    assert!(outputs.contains(&Output::Measure(client)) && proxy.pending_write(client).is_empty());
    proxy.handle_input(client, Input::Eof, now);
    proxy.handle_measured(client, &ProcessFigures::default(), now);
    assert_eq!(proxy.pending_write(client), b"");
    let outputs: Vec<Output> = std::iter::from_fn(|| proxy.poll_output()).collect();
    assert!(outputs.contains(&Output::Close(client)), "{outputs:?}");
}
