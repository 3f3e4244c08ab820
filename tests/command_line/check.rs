//! `--check`: what it finds, in which words, and that it leaves everything as it was.

use std::{fs, net::TcpListener, path::Path};

use crate::support::{
    binary::{Binary, Ended, await_true, quiet_zone, run_command_in},
    certs::CertificateKind,
    fake::{FakeFireworks, FakeOptions},
};

/// Runs the check in a folder.
#[track_caller]
fn check_in(folder: &Path, settings: &[(&str, &str)]) -> Ended {
    let ended = run_command_in(
        folder,
        |command| {
            command.arg("--check");
        },
        settings,
    );
    let text = &ended.stdout;
    assert!(
        text.lines().all(|line| ["ok ", "warn ", "FAIL ", "skip "].iter().any(|it| line.starts_with(it))),
        "{text}"
    );
    let has_failed = text.lines().any(|line| line.starts_with("FAIL "));
    assert_eq!(ended.code, Some(i32::from(has_failed)), "{ended:?}");
    ended
}

/// Runs the check for this fake, whose authority is trusted.
#[track_caller]
fn check(fake: &FakeFireworks, settings: &[(&str, &str)]) -> Ended {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("ca.pem"), fake.ca_pem()).expect("written");
    let upstream = fake.base_url();
    let base = [("PORT", "0"), ("UPSTREAM", upstream.as_str()), ("CA_FILE", "ca.pem")];
    check_in(folder.path(), &[&base[..], settings].concat())
}

/// The line about a step that went like this.
#[track_caller]
fn line<'a>(ended: &'a Ended, outcome: &str, step: &str) -> &'a str {
    let found = ended
        .stdout
        .lines()
        .find(|line| line.strip_prefix(outcome).is_some_and(|rest| rest.trim_start().starts_with(step)));
    found.unwrap_or_else(|| panic!("no {outcome} {step} in {}", ended.stdout))
}

#[test]
fn all_is_well() {
    let fake = FakeFireworks::start_default();
    let ended = check(&fake, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        line(&ended, "ok", "configuration")
            .contains(" settings, 3 set; built-in roots and 1 of ca.pem (FIREWORKS_PROXY_CA_FILE)")
    );
    assert!(line(&ended, "ok", "state file").ends_with("daily_usage.json: none yet, writable"));
    assert!(line(&ended, "ok", "listen").contains("127.0.0.1:"));
    assert!(line(&ended, "ok", "name").contains(" -> "));
    assert!(line(&ended, "ok", "TCP").ends_with(" accepts"));
    assert!(line(&ended, "ok", "TLS").contains("TLS 1.3, TLS13_"));
    assert!(line(&ended, "ok", "certificate").contains("trusted"));
    for step in ["configuration", "state file", "listen", "name", "TCP", "TLS"] {
        assert!(line(&ended, "ok", step).contains(" ms  "), "{step} with its time: {ended:?}");
    }
    assert!(fake.requests().is_empty(), "nothing was asked of the upstream");
}

#[test]
fn a_certificate_that_is_refused_is_refused_in_the_proxys_own_words() {
    for (kind, why) in [
        (CertificateKind::Expired, "it expired on "),
        (CertificateKind::WrongHost, "it is for wrong.example, not for "),
        (CertificateKind::SelfSigned, "its issuer is not trusted"),
    ] {
        let fake = FakeFireworks::start(FakeOptions { certificate: kind, ..FakeOptions::default() });
        let ended = check(&fake, &[]);
        assert!(line(&ended, "ok", "TCP").ends_with(" accepts"));
        assert!(line(&ended, "skip", "TLS").contains("certificate"));
        let line = line(&ended, "FAIL", "certificate");
        assert!(
            line.contains("tls_certificate: its certificate is not trusted") && line.contains(why),
            "{line}"
        );
        assert!(fake.requests().is_empty());
    }
}

#[test]
fn what_fails_on_the_way_is_named_and_the_rest_is_skipped() {
    let folder = tempfile::tempdir().expect("a folder");
    // RFC 6761, section 6.4: it never will.
    let unknown = [("PORT", "0"), ("UPSTREAM", "https://no-such-host.invalid/x")];
    let ended = check_in(folder.path(), &unknown);
    let name = line(&ended, "FAIL", "name");
    assert!(name.contains("dns: its name does not resolve (no-such-host.invalid: "), "{name}");
    for step in ["TCP", "TLS", "certificate"] {
        assert!(line(&ended, "skip", step).contains("there is no address"));
    }
    // Nobody listens on the lowest port, and no test can be given it.
    let refused = [("PORT", "0"), ("UPSTREAM", "https://127.0.0.1:1/x")];
    let ended = check_in(folder.path(), &refused);
    let tcp = line(&ended, "FAIL", "TCP");
    assert!(tcp.contains("connect_refused: no address of it accepts the connection (127.0.0.1:1: "), "{tcp}");
    assert!(line(&ended, "skip", "TLS").contains("there is no connection"));
    assert!(line(&ended, "skip", "certificate").contains("there is no connection"));
}

#[test]
fn a_server_without_tls_fails_the_handshake_and_not_the_certificate() {
    let plain = FakeFireworks::start(FakeOptions { tls: false, ..FakeOptions::default() });
    let upstream = format!("https://127.0.0.1:{}", plain.port());
    let folder = tempfile::tempdir().expect("a folder");
    let ended = check_in(folder.path(), &[("PORT", "0"), ("UPSTREAM", &upstream)]);
    assert!(line(&ended, "FAIL", "TLS").contains("tls_other: the TLS handshake failed"));
    assert!(line(&ended, "skip", "certificate").contains("the handshake comes first"));
}

#[test]
fn a_server_that_says_nothing_costs_the_time_that_the_proxy_would_give_it() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let upstream = format!("https://{}", silent.local_addr().expect("bound"));
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [("PORT", "0"), ("UPSTREAM", upstream.as_str()), ("CONNECT_TIMEOUT", "0.3")];
    let ended = check_in(folder.path(), &settings);
    let tls = line(&ended, "FAIL", "TLS");
    assert!(
        tls.contains("connect_timeout: connecting took too long") && tls.contains("within 0.3 s"),
        "{tls}"
    );
}

#[test]
fn plain_http_on_this_machine_needs_no_certificate() {
    let plain = FakeFireworks::start(FakeOptions { tls: false, ..FakeOptions::default() });
    let folder = tempfile::tempdir().expect("a folder");
    let ended = check_in(folder.path(), &[("PORT", "0"), ("UPSTREAM", &plain.base_url())]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for step in ["TLS", "certificate"] {
        assert!(line(&ended, "skip", step).contains("is plain HTTP on this machine"));
    }
    assert!(plain.requests().is_empty());
}

#[test]
fn a_setting_that_cannot_be_meant_is_the_first_thing_found() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, value) in [("RPS", "0"), ("CA_FILE", "missing.pem")] {
        let ended =
            check_in(folder.path(), &[("PORT", "0"), ("UPSTREAM", "https://127.0.0.1:1"), (name, value)]);
        assert_eq!(ended.code, Some(1));
        assert!(line(&ended, "FAIL", "configuration").contains(&format!("FIREWORKS_PROXY_{name}={value:?}")));
        for step in ["state file", "listen", "name", "TCP", "TLS", "certificate"] {
            assert!(line(&ended, "skip", step).contains("the configuration comes first"));
        }
    }
    assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0);
}

#[test]
fn the_port_may_be_taken_by_a_proxy_of_ours_and_by_nothing_else() {
    let fake = FakeFireworks::start_default();
    let token = ("CLIENT_TOKEN", "sixteen-letters!");
    let proxy = Binary::start(&fake, &[token]);
    let port = proxy.address().port().to_string();
    let ended = check(&fake, &[("PORT", &port), token]);
    let listen = line(&ended, "ok", "listen");
    assert!(listen.contains("a proxy of ours answers at 127.0.0.1:"), "{listen}");
    // Without the secret it can still be told.
    assert!(line(&check(&fake, &[("PORT", &port)]), "ok", "listen").contains("a proxy of ours answers"));
    let other = check(&fake, &[("PORT", &fake.port().to_string())]);
    let listen = line(&other, "FAIL", "listen");
    assert!(listen.contains("is in use") && other.code == Some(1), "{listen}");
}

#[test]
fn the_state_file_is_read_and_left_as_it_is() {
    let fake = FakeFireworks::start_default();
    let proxy = Binary::start(&fake, &[("TIMEZONE", quiet_zone())]);
    let tokens = [("x-fake-prompt-tokens", "1200"), ("x-fake-generated", "34")];
    assert_eq!(proxy.post("/v1/chat/completions", &tokens, r#"{"model":"m"}"#).status(), 200);
    await_true("the count is saved", || {
        fs::read_to_string(proxy.state_file()).is_ok_and(|text| text.contains("\"prompt_tokens\":1200"))
    });
    let (_, folder) = proxy.kill();
    let file = folder.path().join("daily_usage.json");
    let good = fs::read(&file).expect("a state file");
    let names = || {
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .expect("listed")
            .map(|it| it.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    };
    let date = serde_json::from_slice::<serde_json::Value>(&good).expect("JSON")["date"].clone();
    let python = format!(r#"{{"date": {date}, "tokens": 77}}"#);
    for (content, outcome, found) in [
        (good.as_slice(), "ok", ": 1234 tokens today, writable"),
        (
            python.as_bytes(),
            "ok",
            ": of the Python original; a start takes its 77 tokens today over, writable",
        ),
        (b"{\"ver", "FAIL", ": damaged ("),
    ] {
        fs::write(&file, content).expect("written");
        let before = (names(), fs::metadata(&file).and_then(|it| it.modified()).expect("a time"));
        let settings = [("PORT", "0"), ("UPSTREAM", "http://127.0.0.1:1"), ("TIMEZONE", quiet_zone())];
        let ended = check_in(folder.path(), &settings);
        assert!(line(&ended, outcome, "state file").contains(found), "{ended:?}");
        assert_eq!(fs::read(&file).expect("still there"), content);
        assert_eq!((names(), fs::metadata(&file).and_then(|it| it.modified()).expect("a time")), before);
    }
}

#[test]
fn a_state_file_that_cannot_be_written_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file"), "").expect("written");
    fs::create_dir(folder.path().join("folder")).expect("made");
    for path in ["file/state.json", "folder"] {
        let settings = [("PORT", "0"), ("UPSTREAM", "http://127.0.0.1:1"), ("USAGE_STATE", path)];
        let ended = check_in(folder.path(), &settings);
        assert!(line(&ended, "FAIL", "state file").contains("cannot be written"), "{ended:?}");
    }
    let settings = [("PORT", "0"), ("UPSTREAM", "http://127.0.0.1:1"), ("USAGE_STATE", "a/b/state.json")];
    assert!(line(&check_in(folder.path(), &settings), "ok", "state file").ends_with(": none yet, writable"));
    assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 2);
}
