//! The real binary: what names the proxy, what is shown of it, and files of trusted roots.

use std::{fs, process::Command};

use crate::support::{
    binary::{Binary, Ended, run_command_in, run_command_to_end},
    fake::{FakeFireworks, FakeOptions},
    forward_proxy::{ForwardProxy, Reply},
    wire::{CHAT, body_of},
};

/// Gives the command this argument.
fn with(argument: &str) -> impl FnOnce(&mut Command) {
    move |command| {
        command.arg(argument);
    }
}

/// The log up to where the settings are told, after a request that is answered.
#[track_caller]
fn log_of_a_good_start(fake: &FakeFireworks, settings: &[(&str, &str)]) -> Vec<String> {
    let proxy = Binary::start(fake, settings);
    let response = proxy.post(CHAT, &[], &body_of("m", true));
    assert_eq!(response.status(), 200, "{}", response.text());
    proxy.wait_for_line(&["request | "]);
    proxy.kill().0
}

#[test]
fn the_environment_names_the_proxy_as_it_does_for_curl_and_our_own_setting_goes_first() {
    let (fake, forward) = (FakeFireworks::start_default(), ForwardProxy::passing());
    let url = forward.url("jane:hunter2@");
    let nobody = "http://127.0.0.1:1";
    let through = |name: &str| format!(" through http://***@{} ({name}) (RPS ", forward.address());
    for (settings, named_by) in [
        (&[("HTTPS_PROXY", url.as_str())][..], Some("HTTPS_PROXY")),
        (&[("HTTPS_PROXY", nobody), ("https_proxy", &url)], Some("https_proxy")),
        (&[("ALL_PROXY", &url), ("NO_PROXY", "127.0.0.1,example.com")], Some("ALL_PROXY")),
        (&[("HTTPS_PROXY", nobody), ("UPSTREAM_PROXY", &url)], Some("FIREWORKS_PROXY_UPSTREAM_PROXY")),
        (&[("NO_PROXY", "*"), ("UPSTREAM_PROXY", &url)], Some("FIREWORKS_PROXY_UPSTREAM_PROXY")),
        (&[("HTTPS_PROXY", nobody), ("NO_PROXY", "example.com, localhost")], None),
        (&[("HTTPS_PROXY", nobody), ("UPSTREAM_PROXY", "")], None),
    ] {
        // On Windows the two spellings are one variable.
        if cfg!(windows) && settings.iter().any(|(name, _)| *name == "https_proxy") {
            continue;
        }
        let before = forward.heads().len();
        let lines = log_of_a_good_start(&fake, settings);
        assert!(lines.iter().all(|line| !line.contains("hunter2")), "{lines:#?}");
        let is_told = named_by.map(|name| lines[0].contains(&through(name)));
        assert!(is_told.unwrap_or_else(|| !lines[0].contains(" through ")), "{settings:?}: {}", lines[0]);
        assert_eq!(forward.heads().len() - before, usize::from(named_by.is_some()), "{settings:?}");
    }
}

#[test]
fn a_flag_names_it_too_and_set_to_nothing_switches_it_off() {
    let (fake, forward) = (FakeFireworks::start_default(), ForwardProxy::passing());
    for (flag, nobody, count) in [
        (format!("--upstream-proxy={}", forward.url("")), "UPSTREAM_PROXY", 1),
        ("--upstream-proxy=".into(), "HTTPS_PROXY", 0),
    ] {
        let before = forward.heads().len();
        let proxy = Binary::start_with_flags(&fake, &[&flag], &[(nobody, "http://127.0.0.1:1")]);
        assert_eq!(proxy.post(CHAT, &[], &body_of("m", true)).status(), 200);
        assert_eq!(forward.heads().len() - before, count);
        let page = proxy.page("/settings");
        let named_by = (count == 1).then_some("--upstream-proxy");
        assert_eq!(page["forward_proxy"]["named_by"].as_str(), named_by, "{page:#}");
    }
}

#[test]
fn plain_http_on_this_machine_goes_through_no_proxy() {
    let fake = FakeFireworks::start(FakeOptions { tls: false, ..FakeOptions::default() });
    let nobody = "http://127.0.0.1:1";
    log_of_a_good_start(&fake, &[("ALL_PROXY", nobody), ("HTTPS_PROXY", nobody), ("UPSTREAM_PROXY", nobody)]);
}

#[test]
fn pages_tell_of_the_proxy_and_not_of_its_credentials() {
    let (fake, forward) = (FakeFireworks::start_default(), ForwardProxy::passing());
    let url = forward.url("jane:hunter2@");
    let proxy = Binary::start(&fake, &[("UPSTREAM_PROXY", &url), ("SSL_CERT_FILE", "ca.pem")]);
    let page = proxy.page("/settings");
    let shown = format!("http://***@{}", forward.address());
    let named_by = "FIREWORKS_PROXY_UPSTREAM_PROXY";
    assert_eq!(page["forward_proxy"], serde_json::json!({"url": shown, "named_by": named_by}));
    assert_eq!(page["ca_files"][1], serde_json::json!({"path": "ca.pem", "named_by": "SSL_CERT_FILE"}));
    assert_eq!(proxy.page("/health")["forward_proxy"], shown);
    assert!(page.to_string().contains(&shown) && !page.to_string().contains("hunter2"), "{page:#}");
    proxy.wait_for_line(&[
        "trusted besides the built-in roots: 1 of ca.pem (FIREWORKS_PROXY_CA_FILE) and 1 of ca.pem",
    ]);
}

#[test]
fn print_config_says_which_way_requests_go() {
    for (settings, way) in [
        (
            &[("HTTPS_PROXY", "jane:hunter2@proxy.example")][..],
            " through http://***@proxy.example:1080 (HTTPS_PROXY)",
        ),
        (&[("HTTPS_PROXY", "proxy.example"), ("NO_PROXY", ".fireworks.ai")], ""),
    ] {
        let ended = run_command_to_end(with("--print-config"), settings);
        let line = format!("\n# requests go to https://api.fireworks.ai/inference{way}\n");
        assert!(ended.stdout.contains(&line) && !ended.stdout.contains("hunter2"), "{}", ended.stdout);
    }
}

#[test]
fn a_variable_that_cannot_be_meant_ends_the_start_and_is_named_without_its_credentials() {
    for (name, value, shown) in [
        ("HTTPS_PROXY", "https://jane:hunter2@proxy.example", "\"https://***@proxy.example\""),
        ("ALL_PROXY", "socks5h://proxy.example:1080", "\"socks5h://proxy.example:1080\""),
        ("UPSTREAM_PROXY", "http://jane:hunter2@proxy.example:no", "\"http://***@proxy.example:***\""),
    ] {
        let ended = run_command_to_end(|_| {}, &[("PORT", "0"), (name, value)]);
        let line = ended.refusal();
        assert!(line.contains(&format!("{name}={shown} is not accepted; wanted: [http://]")), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
}

/// The findings of `--check`, without the times.
fn check(fake: &FakeFireworks, url: &str, settings: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("ca.pem"), fake.ca_pem()).expect("written");
    let upstream = fake.base_url();
    let all = [("PORT", "0"), ("UPSTREAM", upstream.as_str()), ("CA_FILE", "ca.pem"), ("HTTPS_PROXY", url)];
    let Ended { code, stdout, stderr } =
        run_command_in(folder.path(), with("--check"), &[&all, settings].concat());
    assert!(!format!("{stdout}{stderr}").contains("hunter2"), "{stdout}{stderr}");
    // `ok    TCP               12.9 ms  text`
    let without_time = |line: &str| format!("{} {}", line[..20].trim_end(), line[33..].trim());
    (code, stdout.lines().skip(3).map(without_time).collect())
}

#[test]
fn the_check_tries_each_step_of_the_way() {
    let (fake, forward) = (FakeFireworks::start_default(), ForwardProxy::passing());
    let (code, lines) = check(&fake, &forward.url("jane:hunter2@"), &[]);
    let (address, target) = (forward.address(), format!("localhost:{}", fake.port()));
    assert_eq!(code, Some(0), "{lines:#?}");
    let name = "ok    name 127.0.0.1 -> 1 address, of the forward proxy that HTTPS_PROXY names; it looks up localhost";
    assert_eq!(lines[0], name);
    assert_eq!(lines[1], format!("ok    TCP {address} accepts"));
    assert_eq!(lines[2], format!("ok    tunnel {address} lets us through to {target}"));
    assert!(lines[3].starts_with(&format!("ok    TLS {address}: TLS 1.3, ")), "{lines:#?}");
    assert_eq!(lines[4], "ok    certificate trusted, and for localhost");
    assert!(fake.requests().is_empty());
}

#[test]
fn the_check_says_where_the_way_ends() {
    let fake = FakeFireworks::start_default();
    let denies = ForwardProxy::always(Reply::status("403 Forbidden"));
    let stalls = ForwardProxy::always(Reply::Hold(Vec::new()));
    for (url, failed, skipped) in [
        (
            "no-such-proxy.invalid".to_owned(),
            "FAIL  name proxy_dns: ",
            &["TCP", "tunnel", "TLS", "certificate"][..],
        ),
        ("127.0.0.1:1".to_owned(), "FAIL  TCP proxy_unreachable: ", &["tunnel", "TLS", "certificate"]),
        (denies.url(""), "FAIL  tunnel proxy_denied: ", &["TLS there is no tunnel", "certificate"]),
        (stalls.url(""), "FAIL  tunnel proxy_timeout: ", &["TLS there is no tunnel", "certificate"]),
    ] {
        let (code, lines) = check(&fake, &url, &[("CONNECT_TIMEOUT", "0.5")]);
        assert_eq!(code, Some(1), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with(failed)), "{failed} is not in {lines:#?}");
        let found: Vec<&str> =
            lines.iter().filter_map(|line| line.strip_prefix("skip")).map(str::trim_start).collect();
        assert_eq!(found.len(), skipped.len(), "{lines:#?}");
        assert!(found.iter().zip(skipped).all(|(line, step)| line.starts_with(step)), "{lines:#?}");
    }
}

#[test]
fn ssl_cert_file_adds_roots() {
    let fake = FakeFireworks::start_default();
    let settings = [("CA_FILE", ""), ("SSL_CERT_FILE", "ca.pem")];
    let lines = log_of_a_good_start(&fake, &settings);
    let told = "trusted besides the built-in roots: 1 of ca.pem (SSL_CERT_FILE)";
    assert!(lines.iter().any(|line| line.ends_with(told)), "{lines:#?}");
}

#[test]
fn a_file_of_roots_that_is_broken_ends_the_start_and_says_where() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = FakeFireworks::start_default().ca_pem();
    let bad = format!("{good}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    fs::write(folder.path().join("bad.pem"), bad).expect("written");
    let line = good.lines().count() + 1;
    for name in ["SSL_CERT_FILE", "CA_FILE"] {
        let settings = [("PORT", "0"), ("UPSTREAM", "https://localhost:9"), (name, "bad.pem")];
        let ended = run_command_in(folder.path(), |_| {}, &settings);
        let refusal = ended.refusal();
        let parts =
            [format!("{name}=\"bad.pem\""), format!("number 2, which begins in line {line}, is none")];
        assert!(parts.iter().all(|part| refusal.contains(part)), "{refusal}");
    }
    let missing = [("PORT", "0"), ("UPSTREAM", "https://localhost:9"), ("SSL_CERT_FILE", "missing.pem")];
    let ended = run_command_in(folder.path(), |_| {}, &missing);
    assert!(ended.refusal().contains("SSL_CERT_FILE=\"missing.pem\" is not accepted"), "{ended:?}");
}
