//! The command line of the real binary: every command, every flag, every way to get it wrong.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

#[path = "command_line/check.rs"]
mod check;
#[path = "command_line/flags.rs"]
mod flags;
#[path = "command_line/snippets.rs"]
mod snippets;
#[path = "command_line/status.rs"]
mod status;

use support::binary::{Ended, run_command_to_end};

/// Runs the binary with these arguments and these settings in its environment.
#[track_caller]
fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Ended {
    run_command_to_end(
        |command| {
            command.args(arguments);
        },
        settings,
    )
}
