//! Help, version, settings as flags, and arguments that mean nothing.

use std::{io::Read, process::Stdio};

use fireworks_proxy::config::{SETTINGS, Setting};

use super::run;
use crate::support::{
    binary::{Binary, Ended, command},
    client,
    fake::FakeFireworks,
};

/// A value that means something, where the default does not.
fn valid_value(setting: &Setting) -> &'static str {
    match setting.name.trim_start_matches("FIREWORKS_PROXY_") {
        "ALLOWED_HOSTS" => "proxy.example",
        "CLIENT_TOKEN" => "sixteen-letters!",
        "CA_FILE" => "ca.pem",
        "UPSTREAM_PROXY" => "http://proxy.example:3128",
        _ => setting.default,
    }
}

/// The line about one setting.
#[track_caller]
fn line_of<'a>(ended: &'a Ended, setting: &Setting) -> Vec<&'a str> {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let words = ended.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut found = words.filter(|words| words.first() == Some(&setting.name));
    let line = found.next().unwrap_or_else(|| panic!("no {} in {ended:?}", setting.name));
    assert!(found.next().is_none(), "{} twice", setting.name);
    line
}

#[test]
fn help_and_version_are_printed_and_need_no_settings() {
    let broken = [("PORT", "no port")];
    for arguments in [&["--help"][..], &["-h"], &["status", "-h"]] {
        let ended = run(arguments, &broken);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        for setting in &SETTINGS {
            assert!(ended.stdout.contains(&setting.flag()) && ended.stdout.contains(setting.name));
        }
    }
    for argument in ["--version", "-V"] {
        let ended = run(&[argument], &broken);
        let version = format!("fireworks-proxy {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!((ended.code, ended.stdout), (Some(0), version));
    }
}

#[test]
fn every_setting_is_accepted_as_a_flag_and_shown_with_its_origin() {
    let flags: Vec<String> =
        SETTINGS.iter().map(|setting| format!("{}={}", setting.flag(), valid_value(setting))).collect();
    let mut arguments: Vec<&str> = flags.iter().map(String::as_str).collect();
    arguments.push("--print-config");
    let ended = run(&arguments, &[]);
    for setting in &SETTINGS {
        let value = if setting.is_secret() { "***" } else { valid_value(setting) };
        assert_eq!(line_of(&ended, setting), [setting.name, value, "flag"]);
        // The same by itself, as two arguments.
        let alone = run(&["--print-config", &setting.flag(), valid_value(setting)], &[]);
        assert_eq!(line_of(&alone, setting), [setting.name, value, "flag"]);
    }
    assert!(!ended.stdout.contains("sixteen") && !ended.stderr.contains("sixteen"), "{ended:?}");
    assert!(ended.stderr.contains("list of processes"), "a secret as a flag draws a warning: {ended:?}");
}

#[test]
fn a_flag_beats_the_environment_and_the_environment_the_default() {
    let port = SETTINGS.iter().find(|setting| setting.flag() == "--port").expect("in the table");
    for (arguments, value, origin) in [
        (&["--print-config"][..], "1111", "environment"),
        (&["--print-config", "--port", "2222"], "2222", "flag"),
        (&["--port=2222", "--print-config", "--port=3333"], "3333", "flag"),
        (&["--print-config", "--port="], "8787", "default"),
    ] {
        assert_eq!(line_of(&run(arguments, &[("PORT", "1111")]), port), [port.name, value, origin]);
    }
}

#[test]
fn a_proxy_started_with_flags_is_as_the_flags_say() {
    let fake = FakeFireworks::start_default();
    // The environment has another upstream, where nobody listens.
    let proxy = Binary::start_with_flags(&fake, &["--max-wait=7", "--rps", "3"], &[("MAX_WAIT", "9")]);
    let settings = proxy.wait_for_line(&[" settings |"]);
    for part in [" MAX_WAIT=7 (flag) ", " RPS=3 (flag) ", " PORT=0 (set) "] {
        assert!(settings.contains(part), "{part} in {settings}");
    }
    assert_eq!(client::get(proxy.address(), "/health").status(), 200);
    assert_eq!(proxy.page("/usage")["bucket"]["requests_per_second"], 3.0);
}

#[test]
fn an_error_names_the_flag_where_the_value_was_one() {
    for arguments in [&["--port=x"][..], &["--print-config", "--port", "x"], &["status", "--port=x"]] {
        let line = run(arguments, &[("PORT", "1")]).refusal().to_owned();
        assert!(
            line.contains("--port=\"x\" is not accepted") && !line.contains("FIREWORKS_PROXY_PORT"),
            "{line}"
        );
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let line = run(&["--port", &port], &[("UPSTREAM", "http://127.0.0.1:9")]).refusal().to_owned();
    assert!(line.contains(&format!("--port=\"{port}\"")) && line.contains("is in use"), "{line}");
}

#[test]
fn arguments_that_mean_nothing_end_it_with_the_nearest_that_do() {
    for (arguments, hint) in [
        (&["--prot=9000"][..], "--port"),
        (&["--FIREWORKS_PROXY_PORT", "9000"], "--port"),
        (&["--fireworks-proxy-max-wait=9"], "--max-wait"),
        (&["stat"], "status"),
        (&["env", "claud"], "claude"),
        (&["env", "claude", "--shell=basch"], "did you mean sh?"),
        (&["--check", "--print-config"], "one at a time"),
        (&["--port"], "--port needs a value"),
        (&["--port", "--check"], "--port needs a value"),
        (&["--watch"], "status"),
    ] {
        let ended = run(arguments, &[]);
        assert!(ended.refusal().contains(hint) && ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
}

#[cfg(unix)]
#[test]
fn an_argument_that_is_not_text_ends_it() {
    let change = |command: &mut std::process::Command| {
        command.arg("--port").arg(crate::support::binary::not_unicode());
    };
    let ended = crate::support::binary::run_command_to_end(change, &[]);
    assert!(ended.refusal().contains("UTF-8"), "{ended:?}");
}

#[test]
fn unknown_variables_are_told_of_beside_the_answer() {
    let ended = run(&["--print-config"], &[("PROT", "1")]);
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("FIREWORKS_PROXY_PROT") && ended.stderr.lines().count() == 1, "{ended:?}");
    assert!(!ended.stdout.contains("FIREWORKS_PROXY_PROT "), "{ended:?}");
}

#[test]
fn who_reads_no_further_ends_it_quietly() {
    let folder = tempfile::tempdir().expect("a folder");
    for argument in ["--help", "--print-config", "--version"] {
        let mut child = command(folder.path(), &[]);
        let mut child = child.arg(argument).stderr(Stdio::piped()).spawn().expect("it starts");
        // Nobody reads from now on.
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("UTF-8");
        let status = child.wait().expect("a child of ours");
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{argument}");
    }
}

/// What Linux gives as a disk that is full.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_a_failure_told_once() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let folder = tempfile::tempdir().expect("a folder");
    for argument in ["--help", "--print-config", "--version", "--check"] {
        let settings = [("PORT", "0"), ("UPSTREAM", "http://127.0.0.1:1")];
        let mut command = command(folder.path(), &settings);
        let output = command.arg(argument).stdout(full()).output().expect("it runs");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{argument}: {stderr}");
        assert!(stderr.contains("cannot write the answer: "), "{argument}: {stderr}");
    }
}
