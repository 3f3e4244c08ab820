//! The state file as Windows has files: a program that has one open may keep others from replacing it.
#![cfg(windows)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

use std::{
    fs::{File, OpenOptions},
    os::windows::fs::OpenOptionsExt,
    path::Path,
};

use serde_json::Value;
use support::{
    binary::{Binary, await_some, quiet_zone, run_command_in},
    fake::FakeFireworks,
    wire::CHAT,
};

/// Others may read what one reads, and no more (`CreateFile`, dwShareMode): as editors and virus scanners have it.
const FILE_SHARE_READ: u32 = 1;
/// Others may read it, write to it, and rename or delete it.
const FILE_SHARE_ALL: u32 = 7;

fn hold(path: &Path, share_mode: u32) -> File {
    OpenOptions::new().read(true).share_mode(share_mode).open(path).expect("the file is there")
}

fn ask(proxy: &Binary) {
    let tokens = [("x-fake-prompt-tokens", "10"), ("x-fake-generated", "5")];
    assert_eq!(proxy.post(CHAT, &tokens, r#"{"model":"m"}"#).status(), 200);
}

/// Waits until the file tells of so many answers.
fn await_answers(path: &Path, answers: u64) {
    await_some("the count is saved", || {
        let state: Value = serde_json::from_slice(&std::fs::read(path).ok()?).expect("whole at any instant");
        (state["prompt_tokens"] == 10 * answers && state["generated_tokens"] == 5 * answers).then_some(())
    });
}

/// A proxy whose state file tells of one answer.
fn started(fake: &FakeFireworks) -> Binary {
    let proxy = Binary::start(fake, &[("TIMEZONE", quiet_zone())]);
    ask(&proxy);
    await_answers(&proxy.state_file(), 1);
    proxy
}

#[test]
fn a_reader_that_lets_others_replace_the_file_holds_up_nothing() {
    let fake = FakeFireworks::start_default();
    let proxy = started(&fake);
    let _held = hold(&proxy.state_file(), FILE_SHARE_ALL);
    ask(&proxy);
    await_answers(&proxy.state_file(), 2);
    assert!(!proxy.lines().iter().any(|line| line.contains(" WARN ")), "{:#?}", proxy.lines());
}

#[test]
fn a_reader_that_does_not_is_told_of_and_waited_for() {
    let fake = FakeFireworks::start_default();
    let proxy = started(&fake);
    let held = hold(&proxy.state_file(), FILE_SHARE_READ);
    ask(&proxy);
    proxy.wait_for_line(&["daily_usage.json cannot be written", "the count goes on in memory"]);
    await_answers(&proxy.state_file(), 1);
    drop(held);
    proxy.wait_for_line(&["daily_usage.json is written again"]);
    await_answers(&proxy.state_file(), 2);
    let (_, folder) = proxy.kill();
    let names =
        std::fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["ca.pem", "daily_usage.json"], "nothing is left behind");
}

#[test]
fn a_damaged_file_is_put_aside_and_paths_may_be_written_either_way() {
    let fake = FakeFireworks::start_default();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("state")).expect("made");
    std::fs::write(folder.path().join(r"state\day.json"), "{\"ver").expect("written");
    let proxy =
        Binary::start_in(folder, &fake, &[("TIMEZONE", quiet_zone()), ("USAGE_STATE", "state/day.json")]);
    ask(&proxy);
    await_answers(&proxy.folder().join(r"state\day.json"), 1);
    let aside = std::fs::read(proxy.folder().join(r"state\day.json.damaged")).expect("kept");
    assert_eq!(aside, b"{\"ver");
}

/// Some names are devices in every folder.
#[test]
fn a_device_is_no_state_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [("PORT", "0"), ("UPSTREAM", "http://localhost:1"), ("USAGE_STATE", "NUL")];
    let ended = run_command_in(folder.path(), |command| _ = command.arg("--check"), &settings);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let told = ended.stdout.lines().any(|line| line.contains("NUL") && line.contains("cannot be written"));
    assert!(told, "{ended:?}");
}
