//! The real binary where it is granted nothing: an empty environment and a folder that cannot be written to.
//! `.ci/static` takes all other files away from it as well.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use support::{
    binary::{Binary, UNWRITABLE, await_true, quiet_zone, run_command_to_end},
    fake::FakeFireworks,
    wire::CHAT,
};

const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

/// What the answers report, 1234 tokens together.
const TOKENS: [(&str, &str); 2] = [("x-fake-prompt-tokens", "1200"), ("x-fake-generated", "34")];

#[test]
fn with_nothing_granted_it_counts_in_memory_says_so_once_and_ends_in_good_order() {
    let fake = FakeFireworks::start_default();
    let proxy = Binary::start_locked_down(&fake, &[("TIMEZONE", quiet_zone())]);
    proxy.wait_for_line(&[" WARN ", "daily_usage.json cannot be written", "the count goes on in memory"]);
    for round in 1..=2 {
        assert_eq!(proxy.post(CHAT, &TOKENS, BODY).status(), 200);
        await_true("the answer is counted", || proxy.page("/usage")["day"]["used"] == round * 1234);
    }
    proxy.signal("TERM");
    let (code, lines, _) = proxy.wait_for_end();
    assert_eq!(code, Some(0), "{lines:#?}");
    let told: Vec<_> = lines.iter().filter(|line| line.contains("cannot be written")).collect();
    assert!(told.len() == 2 && told[0].contains(" WARN ") && told[1].contains(" ERROR "), "{lines:#?}");
    assert!(told[1].ends_with("what it does not hold yet is lost"), "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains(" WARN ")).count(), 1, "{lines:#?}");
}

#[test]
fn the_check_finds_that_the_count_would_be_lost_and_nothing_else() {
    let fake = FakeFireworks::start_default();
    let upstream = fake.base_url();
    let ca_file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(ca_file.path(), fake.ca_pem()).expect("written");
    let ended = run_command_to_end(
        |command| {
            command.arg("--check").env_clear().current_dir(UNWRITABLE);
            command.env("FIREWORKS_PROXY_PORT", "0").env("FIREWORKS_PROXY_UPSTREAM", &upstream);
            command.env("FIREWORKS_PROXY_CA_FILE", ca_file.path());
        },
        &[],
    );
    let failed: Vec<_> = ended.stdout.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(failed.len() == 1 && failed[0].contains("state file"), "{ended:?}");
    assert!(failed[0].contains("cannot be written"), "{ended:?}");
}
