//! The start and the end of the real binary, and what its log says in between.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::net::{SocketAddr, TcpListener};

use fireworks_proxy::config::{PREFIX, SETTINGS};
use support::{
    binary::{Binary, Ended, quiet_zone, run_command_to_end, run_to_end},
    client,
    fake::FakeFireworks,
};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// An upstream that nothing is ever sent to.
const NOWHERE: (&str, &str) = ("UPSTREAM", "http://127.0.0.1:9");

/// Whether the machine has `::1`.
fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// Whether a line begins like `2026-05-21 00:31:59,656 INFO text`.
fn has_form_of_log(line: &str) -> bool {
    let form = "dddd-dd-dd dd:dd:dd,ddd ";
    let fits = |(wanted, is): (char, char)| if wanted == 'd' { is.is_ascii_digit() } else { wanted == is };
    let levels = ["ERROR ", "WARN ", "INFO ", "DEBUG ", "TRACE "];
    line.len() > form.len()
        && form.chars().zip(line.chars()).all(fits)
        && levels.iter().any(|level| line[form.len()..].starts_with(level))
}

#[test]
fn the_first_lines_say_where_it_listens_and_every_setting() {
    let fake = FakeFireworks::start_default();
    let secret = "nobody-sees-this";
    let settings = [("MAX_WAIT", "7.5"), ("TIMEZONE", "Europe/Berlin"), ("CLIENT_TOKEN", secret)];
    let proxy = Binary::start(&fake, &settings);
    proxy.wait_for_line(&[" settings |"]);
    let lines = proxy.lines();
    let first = format!(" INFO Fireworks proxy starting on http://127.0.0.1:{}", proxy.address().port());
    assert!(lines[0].contains(&first), "{}", lines[0]);
    assert!(lines[0].contains(&format!(" -> {} (RPS limit=20.0", fake.base_url())), "{}", lines[0]);
    assert!(lines.iter().all(|line| has_form_of_log(line) && !line.contains(secret)), "{lines:#?}");
    let upstream = fake.base_url();
    for setting in &SETTINGS {
        let name = setting.name.trim_start_matches(PREFIX);
        let shown = match name {
            "PORT" => "PORT=0 (set) ".to_owned(),
            "UPSTREAM" => format!("UPSTREAM={upstream} (set) "),
            "CA_FILE" => "CA_FILE=ca.pem (set) ".to_owned(),
            "MAX_WAIT" => "MAX_WAIT=7.5 (set) ".to_owned(),
            "TIMEZONE" => "TIMEZONE=Europe/Berlin (set) ".to_owned(),
            "CLIENT_TOKEN" => "CLIENT_TOKEN=*** (set) ".to_owned(),
            _ if setting.default.is_empty() => format!("{name}=- "),
            _ => format!("{name}={} ", setting.default),
        };
        assert!(lines[1].contains(&format!(" {shown}")), "{shown:?} is not in {}", lines[1]);
    }
    for meant in ["tokens per minute", "4500000", "900000", "36000"] {
        assert!(lines[1].contains(meant), "what the limits come to, {meant:?}, is not in {}", lines[1]);
    }
}

/// Values that cannot be meant: the name without prefix, the value, and a part of what is accepted.
const NOT_MEANT: &[(&str, &str, &str)] = &[
    ("RPS", "0", "from 0.001"),
    ("RPS", "-1", "from 0.001"),
    ("RPS", "fast", "a number"),
    ("RPS", "NaN", "a number"),
    ("RPS", "inf", "to 1000"),
    ("RPS", "1e-20", "from 0.001"),
    ("PORT", "65536", "0 to 65535"),
    ("PORT", "-1", "0 to 65535"),
    ("PORT", "http", "0 to 65535"),
    ("HOST", "example.com", "localhost or an IP address"),
    ("HOST", "127.0.0.1:80", "localhost or an IP address"),
    ("HOST", "0.0.0.0", "FIREWORKS_PROXY_CLIENT_TOKEN set to a secret"),
    ("HOST", "::", "a loopback address"),
    ("ALLOWED_HOSTS", "proxy.example:8787", "without scheme, port or path"),
    ("ALLOWED_HOSTS", "https://proxy.example", "without scheme, port or path"),
    ("ALLOWED_HOSTS", "*", "host names or IP addresses"),
    ("UPSTREAM", "http://api.fireworks.ai", "http:// for localhost"),
    ("UPSTREAM", "ftp://localhost", "https://host"),
    ("UPSTREAM", "api.fireworks.ai", "https://host"),
    ("UPSTREAM_PROXY", "https://proxy.example:443", "plain HTTP, not in TLS or SOCKS; or nothing for none"),
    ("UPSTREAM_PROXY", "socks5://proxy.example", "[http://][user:password@]host[:port]"),
    ("UPSTREAM_PROXY", "http://proxy.example:0", "host[:port]"),
    ("MAX_WAIT", "0", "above 0"),
    ("MAX_WAIT", "-5", "above 0"),
    ("MAX_WAIT", "2 minutes", "a number of seconds"),
    ("MAX_HOLD", "0", "above 0"),
    ("MAX_RETRIES", "-1", "0 to 100"),
    ("MAX_RETRIES", "2.5", "a whole number"),
    ("CONNECT_TIMEOUT", "0", "above 0"),
    ("WRITE_TIMEOUT", "-1", "above 0"),
    ("READ_TIMEOUT", "half an hour", "a number of seconds"),
    ("CLIENT_HEAD_TIMEOUT", "0", "above 0"),
    ("CLIENT_BODY_TIMEOUT", "0", "above 0"),
    ("CLIENT_IDLE_TIMEOUT", "86401", "at most 86400"),
    ("DRAIN", "-1", "from 0 to 86400"),
    ("MAX_BODY_MIB", "0", "1 to 1024"),
    ("MAX_BODY_MIB", "1.5", "1 to 1024"),
    ("MAX_BUFFERED_MIB", "63", "from 64 to 4095, not below FIREWORKS_PROXY_MAX_BODY_MIB"),
    ("PROMPT_TPM_LIMIT", "0", "from 1 to"),
    ("PROMPT_TPM_LIMIT", "4.5M", "a whole number"),
    ("UNCACHED_PROMPT_TPM_LIMIT", "-900000", "from 1 to"),
    ("UNCACHED_PROMPT_TPM_LIMIT", "900,000", "a whole number"),
    ("GENERATED_TPM_LIMIT", "0", "from 1 to"),
    ("GENERATED_TPM_LIMIT", "36000.5", "a whole number"),
    ("TPM_SAFETY_RATIO", "0", "above 0 and at most 1"),
    ("TPM_SAFETY_RATIO", "1.01", "above 0 and at most 1"),
    ("TPM_SAFETY_RATIO", "80%", "above 0 and at most 1"),
    ("OUTPUT_TOKEN_RESERVE", "0", "from 1 to"),
    ("OUTPUT_TOKEN_RESERVE", "many", "a whole number"),
    ("CHARS_PER_TOKEN", "0", "0.1 to 100"),
    ("CHARS_PER_TOKEN", "-3.5", "0.1 to 100"),
    ("DAILY_TOKEN_LIMIT", "-1", "0 for no cap"),
    ("DAILY_TOKEN_LIMIT", "unlimited", "0 for no cap"),
    ("DAILY_TOKEN_WARN_RATIO", "0", "above 0 and at most 1"),
    ("DAILY_TOKEN_WARN_RATIO", "2", "above 0 and at most 1"),
    ("TIMEZONE", "Melbourne", "IANA"),
    ("TIMEZONE", "Mars/Olympus", "IANA"),
    ("LOG", "loud", "error, warn, info, debug or trace"),
    ("LOG", "off", "error, warn, info, debug or trace"),
    ("LOG_FORMAT", "xml", "text or json"),
];

#[test]
fn a_value_that_cannot_be_meant_ends_the_start_with_a_line_that_names_it() {
    for (name, value, accepted) in NOT_MEANT {
        let ended = run_to_end(&[("PORT", "0"), NOWHERE, (name, value)]);
        let line = ended.refusal();
        let named = line.contains(&format!("FIREWORKS_PROXY_{name}")) && line.contains(value);
        assert!(named && line.contains(accepted), "{name}={value}: {line}");
    }
    // Files and the secret are tested below, and any path can be meant for the state file.
    let elsewhere = ["CA_FILE", "CLIENT_TOKEN", "USAGE_STATE"];
    let tested =
        |name: &str| NOT_MEANT.iter().any(|(tested, ..)| *tested == name) || elsewhere.contains(&name);
    assert!(SETTINGS.iter().all(|setting| tested(setting.name.trim_start_matches(PREFIX))));
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_text_ends_the_start() {
    let set = |command: &mut std::process::Command| {
        command.env("FIREWORKS_PROXY_RPS", support::binary::not_unicode());
    };
    let ended = run_command_to_end(set, &[("PORT", "0"), NOWHERE]);
    assert!(ended.refusal().contains("FIREWORKS_PROXY_RPS"), "{ended:?}");
}

#[test]
fn a_secret_that_cannot_be_meant_ends_the_start_and_is_not_shown() {
    for bad in ["too-short", "a secret with spaces in it", "sixteen-lettérs-or-so"] {
        let ended = run_to_end(&[("PORT", "0"), NOWHERE, ("CLIENT_TOKEN", bad)]);
        let line = ended.refusal();
        assert!(line.contains("FIREWORKS_PROXY_CLIENT_TOKEN") && line.contains("16 to 256"), "{line}");
        assert!(!line.contains(bad), "{line}");
    }
}

#[test]
fn an_address_beyond_loopback_is_listened_on_with_a_secret_alone() {
    // An address of documentation (RFC 5737), which no machine has: nothing is opened to others here.
    let beyond = [("PORT", "0"), NOWHERE, ("HOST", "192.0.2.1")];
    let refused = run_to_end(&beyond);
    for part in
        ["FIREWORKS_PROXY_HOST", "192.0.2.1", "FIREWORKS_PROXY_CLIENT_TOKEN", "x-fireworks-proxy-token"]
    {
        assert!(refused.refusal().contains(part), "no {part:?} in {refused:?}");
    }
    let with_secret = [&beyond[..], &[("CLIENT_TOKEN", "sixteen-letters!"), ("LOG", "error")]].concat();
    let tried = run_to_end(&with_secret);
    assert!(tried.refusal().contains("an address of this machine"), "it got as far as the socket: {tried:?}");
}

#[test]
fn a_ca_file_that_cannot_be_used_ends_the_start_with_a_line_that_names_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let broken = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
    let files = [
        ("empty.pem", ""),
        ("text.pem", "no certificate"),
        ("broken.pem", broken),
        ("cut.pem", &broken[..40]),
    ];
    let mut paths = vec![folder.path().join("missing.pem"), folder.path().to_owned()];
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).expect("written");
        paths.push(folder.path().join(name));
    }
    for path in paths {
        let path = path.to_str().expect("a UTF-8 path");
        let ended = run_to_end(&[("PORT", "0"), ("UPSTREAM", "https://localhost:9"), ("CA_FILE", path)]);
        let line = ended.refusal();
        assert!(line.contains("FIREWORKS_PROXY_CA_FILE") && line.contains(path), "{line}");
    }
}

/// Checks the line about a port that is in use at one address.
fn assert_port_in_use(ended: &Ended, address: SocketAddr) {
    let line = ended.refusal();
    for part in [
        "FIREWORKS_PROXY_PORT",
        "kill_proxy.ps1",
        &address.port().to_string(),
        &format!("{address} is in use"),
    ] {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
}

#[test]
fn a_port_in_use_ends_the_start_with_a_line_that_points_at_the_ways_out() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    assert_port_in_use(&run_to_end(&[("PORT", &address.port().to_string()), NOWHERE]), address);
    let only = [("PORT", &*address.port().to_string()), NOWHERE, ("HOST", "127.0.0.1")];
    assert_port_in_use(&run_to_end(&only), address);
}

#[test]
fn a_port_in_use_on_ipv6_alone_ends_the_start_too() {
    if !has_ipv6() {
        return;
    }
    // Whoever else has the same port on IPv4 would be named instead, so a few ports are tried.
    for attempt in 0..5 {
        let taken = TcpListener::bind("[::1]:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        let ended = run_to_end(&[("PORT", &address.port().to_string()), NOWHERE]);
        if attempt == 4 || !ended.refusal().contains("127.0.0.1:") {
            return assert_port_in_use(&ended, address);
        }
    }
}

#[test]
fn localhost_is_both_loopback_addresses_and_an_address_is_one() {
    let fake = FakeFireworks::start_default();
    let proxy = Binary::start(&fake, &[]);
    let port = proxy.address().port();
    assert_eq!(client::get(("127.0.0.1", port), "/").status(), 200);
    if has_ipv6() {
        assert_eq!(client::get(("::1", port), "/").status(), 200);
        proxy.wait_for_line(&[" starting on ", &format!("http://[::1]:{port}")]);
        let six = Binary::start(&fake, &[("HOST", "::1")]);
        assert!(six.address().is_ipv6());
        assert_eq!(client::get(six.address(), "/health").status(), 200);
    }
}

#[test]
fn an_unknown_variable_draws_a_warning_with_the_nearest_name() {
    let fake = FakeFireworks::start_default();
    let proxy = Binary::start(&fake, &[("PROT", "1234"), ("MAXWAIT", "5")]);
    proxy.wait_for_line(&[" WARN ", "FIREWORKS_PROXY_PROT ", "mean FIREWORKS_PROXY_PORT?"]);
    proxy.wait_for_line(&[" WARN ", "FIREWORKS_PROXY_MAXWAIT ", "mean FIREWORKS_PROXY_MAX_WAIT?"]);
    assert_eq!(client::get(proxy.address(), "/health").status(), 200, "it starts all the same");
}

#[test]
fn an_argument_that_means_nothing_ends_the_start() {
    for (argument, hint) in [("--prot=1", "--port"), ("help", "--help"), ("statsu", "status")] {
        let ended = run_command_to_end(
            |command| {
                command.arg(argument);
            },
            &[("PORT", "0"), NOWHERE],
        );
        let line = ended.refusal();
        let name = argument.split('=').next().expect("a first part");
        assert!(line.contains(&format!("{name:?} is not known; did you mean {hint}")), "{line}");
    }
}

#[test]
#[cfg_attr(windows, ignore = "needs CONSOLE_EVENT_EXE")]
fn a_signal_ends_it_in_good_order_with_the_day_saved() {
    let fake = FakeFireworks::start_default();
    for signal in ["INT", "TERM"] {
        let proxy = Binary::start(&fake, &[("TIMEZONE", quiet_zone())]);
        // The second count comes within a second of the first, when its own save is not yet due.
        for _ in 0..2 {
            let tokens = [("x-fake-prompt-tokens", "1000"), ("x-fake-generated", "11")];
            assert_eq!(proxy.post(CHAT, &tokens, r#"{"model":"m"}"#).status(), 200);
        }
        proxy.signal(signal);
        let (code, lines, folder) = proxy.wait_for_end();
        assert_eq!(code, Some(0), "{signal}: {lines:#?}");
        assert!(lines.last().expect("lines").contains(" INFO Fireworks proxy stopped"), "{lines:#?}");
        let file = std::fs::read(folder.path().join("daily_usage.json")).expect("a state file");
        let state: serde_json::Value = serde_json::from_slice(&file).expect("JSON");
        assert_eq!((&state["prompt_tokens"], &state["generated_tokens"]), (&2000.into(), &22.into()));
    }
}

#[test]
fn the_level_of_the_log_is_obeyed() {
    let fake = FakeFireworks::start_default();
    let proxy = Binary::start(&fake, &[("PROT", "1")]);
    assert_eq!(proxy.post(CHAT, &[], r#"{"model":"m"}"#).status(), 200);
    proxy.wait_for_line(&["request | POST"]);
    assert!(!proxy.lines().iter().any(|line| line.contains(" DEBUG ") || line.contains(" TRACE ")));
    // A port in use ends the start after the warning about an unknown name, if that is shown.
    let port = proxy.address().port().to_string();
    let quiet = run_to_end(&[("PORT", &port), NOWHERE, ("LOG", "error"), ("PROT", "1")]);
    assert!(quiet.refusal().contains("FIREWORKS_PROXY_PORT"));
    let warned = run_to_end(&[("PORT", &port), NOWHERE, ("LOG", "warn"), ("PROT", "1")]);
    assert!(warned.stderr.contains(" WARN FIREWORKS_PROXY_PROT ") && !warned.stderr.contains(" INFO "));
}

#[test]
fn each_finished_request_has_one_line_with_all_there_is_to_know() {
    let fake = FakeFireworks::start_default();
    let proxy = Binary::start(&fake, &[("MAX_RETRIES", "0")]);
    let tokens = [
        ("x-fake-prompt-tokens", "1200"),
        ("x-fake-cached-tokens", "1024"),
        ("x-fake-generated", "7"),
        ("X-Claude-Code-Session-Id", "ses-42"),
    ];
    let body = r#"{"model":"accounts/fireworks/models/kimi-k2p6","messages":[]}"#;
    assert_eq!(proxy.post("/v1/messages?beta=true", &tokens, body).status(), 200);
    assert_eq!(proxy.post(MESSAGES, &[("x-fake-status", "503")], r#"{"model":"busy"}"#).status(), 503);
    assert_eq!(client::get(proxy.address(), "/v1/models").status(), 200);
    let line = proxy.wait_for_line(&["request | POST /v1/messages ", "status=200"]);
    for part in [
        " INFO request | POST /v1/messages status=200 ",
        " model=accounts/fireworks/models/kimi-k2p6 ",
        " session=ses-42 ",
        " waited=0.",
        " prompt=1200 ",
        " cached=1024 ",
        " generated=7 ",
        " took=",
    ] {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
    let failed = proxy.wait_for_line(&["request | POST /v1/messages status=503 ", "model=busy"]);
    assert!(failed.contains(" generated=0 "), "{failed}");
    proxy.wait_for_line(&["request | GET /v1/models status=200"]);
    let of_requests = proxy.lines().into_iter().filter(|line| line.contains("request | ")).count();
    assert_eq!(of_requests, 3, "one for each");
}

#[test]
fn the_line_of_statistics_follows_activity() {
    let fake = FakeFireworks::start_default();
    let proxy = Binary::start(&fake, &[("DAILY_TOKEN_LIMIT", "200000000"), ("TIMEZONE", quiet_zone())]);
    let tokens = [("x-fake-prompt-tokens", "1200"), ("x-fake-generated", "7")];
    assert_eq!(proxy.post(CHAT, &tokens, r#"{"model":"kimi"}"#).status(), 200);
    let line = proxy.wait_for_line(&[" INFO stats | "]);
    let parts: Vec<&str> = line.split(" | ").collect();
    let [_, bucket, last, budgets, queue, daily] = parts[..] else { panic!("not six parts: {line}") };
    assert_eq!(bucket, "bucket={20/20}");
    assert_eq!(last, "last_60s=1 req");
    assert_eq!(
        budgets,
        "token_budgets={kimi: prompt=1200/3600000 uncached_prompt=1200/720000 generated=7/28800}"
    );
    assert_eq!(queue, "queue={waiting=0 oldest=0.0s paused=0 in_flight=0}");
    assert_eq!(daily, "daily_tokens=1207/200000000 remaining=199998793");
}
