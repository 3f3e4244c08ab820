//! A siege: one attack after another on the real proxy, while honest users go on working.
//!
//! ```text
//! cargo run --release --example siege [-- --quick --seconds N --only NAME --buffered-mib N --proxy PATH]
//! ```
//!
//! Needs no account and no network. The proxy is the release binary in a process of its own, so that its memory, its
//! descriptors and its processor time are its own. The upstream is the fake of the tests. Each attack is held for some
//! seconds; before, there is as much time without one, and all times of the honest users are shown beside those. Ends
//! with exit code 1 if a request of an honest user failed, if memory grew beyond what is stated for the attack, or if
//! what the attack took was not given back; and says which. How long anything took decides nothing.
//!
//! - [`options`]: the command line; [`descriptors`]: how many sockets there can be.
//! - [`attacks`]: what is done to the proxy, each in a file of its own, and what that may cost.
//! - [`swarm`]: thousands of sockets in one thread; [`connection`]: one of them.
//! - [`honest`]: the users who must not notice.
//! - [`run`]: one phase after another; [`phase`]: one of them, and what was seen of it.
//! - [`verdict`]: the rules, and who broke them; [`report`]: the figures.

// An example is made of what the core may not touch.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../../tests/support/mod.rs"]
mod support;

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod connection;
mod descriptors;
mod honest;
mod options;
mod phase;
mod report;
mod run;
mod swarm;
mod verdict;

use std::process::ExitCode;

use common::program;
use options::Options;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let started = Options::parse(&arguments)
        .and_then(|options| Ok((program::find(options.proxy.as_deref())?, options)));
    match started {
        Ok((program, options)) => {
            let results = run::run(&program, &options);
            let violations = verdict::judge(&results);
            report::show(&results, &violations);
            if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}\n\n{}", options::help());
            ExitCode::from(2)
        }
    }
}
