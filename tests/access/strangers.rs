//! Requests under a name that is not the proxy's, and from pages of other origins.

use crate::{
    ASKED, assert_no_cors, refusal,
    support::{
        log,
        wire::{CHAT, MESSAGES, SOON, body_of, pair},
    },
};

#[test]
fn a_host_that_is_not_the_proxys_is_misdirected() {
    log::collect();
    let (fake, proxy) = pair(&[]);
    for (method, path) in ASKED {
        let response =
            refusal(proxy.connect(), method, path, &[("Host", "rebound.example:8787")], "misdirected");
        assert_eq!(response.status(), 421);
        let text = response.text();
        assert!(text.contains("rebound.example:8787") && text.contains("FIREWORKS_PROXY_ALLOWED_HOSTS"));
    }
    assert_eq!(fake.statistics().connections, 0);
    let usage = proxy.usage();
    assert_eq!(usage["failures"]["never_reached"]["misdirected"], ASKED.len());
    assert_eq!(usage["requests"]["refused"], ASKED.len());
    assert_eq!(usage["requests"]["total"], ASKED.len());
    let lines = log::lines_with("rebound.example:8787");
    assert_eq!(lines.len(), ASKED.len(), "{lines:#?}");
    for ((method, path), line) in ASKED.iter().zip(&lines) {
        let begin = format!("WARN request | {method} {path} status=421 outcome=misdirected ");
        assert!(line.starts_with(&begin) && line.contains(" message=\""), "{line}");
    }
}

#[test]
fn every_name_of_the_proxy_is_let_in_whatever_its_port() {
    let (fake, proxy) = pair(&[("ALLOWED_HOSTS", "host.docker.internal, 192.0.2.7")]);
    let mut client = proxy.connect();
    let hosts = [
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1:65535",
        "[::1]:8787",
        "host.docker.internal:8787",
        "192.0.2.7",
    ];
    for host in hosts {
        client.request("POST", CHAT, &[("Host", host)], body_of("m", false).as_bytes());
        assert_eq!(client.read_response().status(), 200, "{host}");
        client.request("GET", "/health", &[("Host", host)], b"");
        assert_eq!(client.read_response().status(), 200, "{host}");
    }
    let upstream = format!("Host: localhost:{}\r\n", fake.port());
    for request in fake.requests() {
        assert!(String::from_utf8_lossy(&request.head).contains(&upstream), "{request:?}");
    }
}

#[test]
fn an_old_client_without_a_host_is_let_in() {
    let (_fake, proxy) = pair(&[]);
    let mut client = proxy.connect();
    client.send(b"GET /health HTTP/1.0\r\n\r\n").expect("sent");
    assert!(client.read_raw_until_eof().starts_with(b"HTTP/1.1 200 "));
}

#[test]
fn a_refusal_waits_for_no_body_and_invites_none() {
    let (fake, proxy) = pair(&[("MAX_BODY_MIB", "1")]);
    // The last is too large as well, and not told so: it is nobody's business.
    for (fields, status) in [
        (&[("Host", "evil.example"), ("Content-Length", "1000")][..], 421),
        (&[("Host", "evil.example"), ("Transfer-Encoding", "chunked")], 421),
        (&[("Origin", "null"), ("Content-Length", "1000"), ("Expect", "100-continue")], 403),
        (&[("Origin", "null"), ("Content-Length", "2000000000")], 403),
    ] {
        let mut client = proxy.connect();
        client.request("POST", MESSAGES, fields, b"");
        // Not an interim answer, which `read_head` gives too.
        assert_eq!(client.read_head().status, status, "{fields:?}");
        client.read_body_to_end().expect("a whole refusal");
        assert!(client.is_closed_by_peer(SOON), "{fields:?}");
    }
    assert_eq!(fake.statistics().connections, 0);
}

#[test]
fn what_follows_a_refusal_is_not_served() {
    let (fake, proxy) = pair(&[]);
    let mut client = proxy.connect();
    let own = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let both = format!("GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n{own}");
    client.send(both.as_bytes()).expect("sent");
    let answers = String::from_utf8_lossy(&client.read_raw_until_eof()).into_owned();
    assert!(answers.starts_with("HTTP/1.1 421 Misdirected Request\r\n"), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    assert_eq!(fake.statistics().connections, 0);
}

#[test]
fn what_a_page_of_another_origin_sends_is_refused() {
    let (fake, proxy) = pair(&[]);
    let cross_site = ("Sec-Fetch-Site", "cross-site");
    for fields in [
        // A script's fetch, with a preflight or without, and a form.
        &[("Origin", "https://evil.example"), cross_site][..],
        &[("Origin", "https://evil.example")],
        &[("Origin", "null"), ("Content-Type", "text/plain")],
        // What sends no origin: an image, a script tag, a link that is followed.
        &[cross_site, ("Sec-Fetch-Mode", "no-cors")],
        &[cross_site, ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-User", "?1")],
        // A page that another port of this machine serves.
        &[("Origin", "http://localhost:3000")],
        &[("Sec-Fetch-Site", "same-site")],
    ] {
        for (method, path) in ASKED {
            let preflight = [("Access-Control-Request-Method", "POST")];
            let fields = [fields, if method == "OPTIONS" { &preflight[..] } else { &[] }].concat();
            let response = refusal(proxy.connect(), method, path, &fields, "cross_site");
            assert_eq!(response.status(), 403, "{fields:?}");
            assert!(response.text().contains("a web page of another origin"), "{}", response.text());
        }
    }
    assert_eq!(fake.statistics().connections, 0);
    let refused = proxy.usage()["failures"]["never_reached"]["cross_site"].as_u64();
    assert_eq!(refused, Some(7 * ASKED.len() as u64));
}

#[test]
fn a_page_of_the_proxys_own_and_a_typed_address_are_let_in() {
    let (_fake, proxy) = pair(&[]);
    let own = format!("http://{}", proxy.address());
    let mut client = proxy.connect();
    for fields in [
        &[("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate")][..],
        &[("Sec-Fetch-Site", "same-origin"), ("Origin", own.as_str())],
    ] {
        for path in ["/health", "/usage", "/v1/models"] {
            client.request("GET", path, fields, b"");
            let response = client.read_response();
            assert_eq!(response.status(), 200, "{path} {fields:?}");
            assert_no_cors(&response);
        }
    }
}
