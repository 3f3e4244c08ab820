//! One failure as everybody is told of it: the clients in their dialects, the log, and the pages.

use super::{
    client::Response,
    log,
    proxy::ProxyUnderTest,
    wire::{CHAT, MESSAGES, RESPONSES, body_of, error_code, lane_of, settled},
};

/// What messages say of how far a request had come.
fn explanation(reach: &str) -> &'static str {
    match reach {
        "never_reached" => "the request never reached Fireworks",
        "may_have_reached" => "the request may have reached Fireworks",
        "acknowledged" => "Fireworks had begun to answer",
        other => panic!("no side is called {other}"),
    }
}

/// Asks a fresh proxy, which tries nothing again, in every dialect, and checks that all are told of the same
/// failure. Gives the answers.
#[track_caller]
pub fn expect_failure(
    proxy: &ProxyUnderTest,
    headers: &[(&str, &str)],
    status: u16,
    code: &str,
    reach: &str,
) -> Vec<Response> {
    log::collect();
    let mut client = proxy.connect();
    let mut answers = Vec::new();
    for (path, stream) in [(CHAT, true), (MESSAGES, true), (RESPONSES, false), ("/v1/models", false)] {
        // No other test in this process has a proxy on this port.
        let model = format!("{code}.{}.{path}", proxy.address().port());
        let headers = [&[("x-api-key", "fw_secret")], headers].concat();
        client.request("POST", path, &headers, body_of(&model, stream).as_bytes());
        let response = client.read_response();
        assert_eq!(response.status(), status, "{path}: {}", response.text());
        assert_eq!(error_code(path, &response), code, "{path}");
        assert!(response.text().contains(explanation(reach)), "{path}: {}", response.text());
        assert_eq!(response.header("connection"), None, "{path}: our own connection is as good as before");
        assert_eq!(response.header("x-fireworks-proxy-retries"), Some("0"), "{path}");
        assert_eq!(response.json()["error"]["upstream"], reach, "{path}");
        if path != "/v1/models" {
            let outcome =
                format!("WARN request | POST {path} status={status} outcome={code} upstream={reach} ");
            log::await_line(&[&format!("model={model} "), &outcome]);
            let spent = settled(&lane_of(&proxy.usage(), &model));
            assert!(reach != "never_reached" || spent == [0; 3], "{path}: it cost nothing: {spent:?}");
        }
        answers.push(response);
    }
    let usage = proxy.usage();
    assert_eq!((&usage["requests"]["failed"], &usage["requests"]["in_flight"]), (&4.into(), &0.into()));
    assert_only_failure(proxy, reach, code, 4);
    let last_error = proxy.health()["last_upstream_error"]["error"].to_string();
    assert!(last_error.contains(code) && last_error.contains(explanation(reach)), "{last_error}");
    answers
}

/// Checks that a proxy has counted this failure so often, and no other.
#[track_caller]
pub fn assert_only_failure(proxy: &ProxyUnderTest, reach: &str, code: &str, times: u64) {
    let usage = proxy.usage();
    for (side, classes) in usage["failures"].as_object().expect("an object") {
        for (class, count) in classes.as_object().expect("an object") {
            let expected = if (side.as_str(), class.as_str()) == (reach, code) { times } else { 0 };
            assert_eq!(count, expected, "{side}.{class}: {usage:#}");
        }
    }
}
