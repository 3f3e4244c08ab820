//! The command line: what was asked for, and what the answers look like.
//!
//! Owns the arguments ([`parse`]), the help, the snippets for clients ([`snippet()`]), the list of
//! settings, and the table of `status`. Pure: takes arguments and data, gives text. What needs a socket
//! or a file, such as the check and asking the running proxy, is in `net`; `main` brings both together.

mod arguments;
mod columns;
mod help;
mod numbers;
mod settings;
mod shell;
mod snippet;
mod status;

pub use arguments::{Command, Invocation, UsageError, parse};
pub use columns::Style;
pub use help::{HELP_COLUMNS_MAX, help};
pub use settings::settings;
pub use shell::Shell;
pub use snippet::{Client, snippet};
pub use status::{STATUS_COLUMNS_MAX, no_status, status};

/// The name of the program, as its lines on standard error begin.
pub const PROGRAM: &str = "fireworks-proxy";

/// The line of `--version`.
pub fn version() -> String {
    format!("{PROGRAM} {}\n", env!("CARGO_PKG_VERSION"))
}
