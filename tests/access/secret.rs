//! The secret that clients prove themselves with, on loopback too where it is set.

use crate::{
    ASKED, refusal,
    support::wire::{CHAT, MESSAGES, body_of, pair, the_request},
};

const SECRET: &str = "Correct-Horse-Battery-Staple";
const FIELD: &str = "x-fireworks-proxy-token";

#[test]
fn without_the_secret_nothing_is_answered() {
    let (fake, proxy) = pair(&[("CLIENT_TOKEN", SECRET)]);
    let other_case = SECRET.to_lowercase();
    for fields in [
        &[][..],
        &[("Authorization", SECRET)],
        &[(FIELD, "")],
        &[(FIELD, &SECRET[1..])],
        &[(FIELD, &other_case)],
        &[(FIELD, SECRET), (FIELD, SECRET)],
        &[(FIELD, SECRET), ("X-FIREWORKS-PROXY-TOKEN", "other")],
    ] {
        for (method, path) in ASKED {
            let response = refusal(proxy.connect(), method, path, fields, "client_token");
            let error = &response.json()["error"];
            assert_eq!((response.status(), error["type"].as_str()), (400, Some("invalid_request_error")));
            let text = response.text();
            assert!(text.contains(FIELD) && !text.to_lowercase().contains(&other_case), "{text}");
        }
    }
    assert_eq!(fake.statistics().connections, 0);
}

#[test]
fn with_the_secret_all_is_as_without_one_and_it_goes_no_further() {
    let (fake, proxy) = pair(&[("CLIENT_TOKEN", SECRET)]);
    let mut client = proxy.connect();
    let fields = [("X-Fireworks-Proxy-Token", SECRET), ("x-api-key", "fw_key")];
    for path in ["/", "/health", "/usage", "/metrics"] {
        client.request("GET", path, &fields, b"");
        assert_eq!(client.read_response().status(), 200, "{path}");
    }
    client.request("POST", MESSAGES, &fields, body_of("m", true).as_bytes());
    assert_eq!(client.read_response().status(), 200);
    let head = String::from_utf8_lossy(&the_request(&fake).head).to_lowercase();
    assert!(!head.contains(FIELD) && !head.contains(&SECRET.to_lowercase()), "{head}");
    assert!(head.contains("x-api-key: fw_key\r\n"), "{head}");
}

#[test]
fn a_secret_that_nobody_asked_for_goes_no_further_either() {
    let (fake, proxy) = pair(&[]);
    let fields = [(FIELD, "one"), (FIELD, "two")];
    assert_eq!(proxy.post(CHAT, &fields, &body_of("m", false)).status(), 200);
    let head = String::from_utf8_lossy(&the_request(&fake).head).to_lowercase();
    assert!(!head.contains(FIELD), "{head}");
}

#[test]
fn a_name_that_is_not_the_proxys_is_not_let_in_with_the_secret() {
    let (_fake, proxy) = pair(&[("CLIENT_TOKEN", SECRET)]);
    let fields = [(FIELD, SECRET), ("Host", "evil.example")];
    assert_eq!(refusal(proxy.connect(), "GET", "/usage", &fields, "misdirected").status(), 421);
}

/// Claude Code asks so before anything else, and without its further headers.
#[test]
fn a_probe_without_the_secret_gets_a_head_and_no_body() {
    let (_fake, proxy) = pair(&[("CLIENT_TOKEN", SECRET)]);
    let mut client = proxy.connect();
    client.request("HEAD", "/", &[], b"");
    let head = client.read_head();
    assert_eq!(head.status, 400);
    assert!(head.header("content-length").is_some_and(|length| length != "0"));
    assert!(client.read_raw_until_eof().is_empty());
}
