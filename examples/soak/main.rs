//! A soak: many agents behind the real proxy, before an upstream that has a bad day, for half an hour.
//!
//! ```text
//! cargo run --release --example soak [-- --minutes N --agents N --seed N --faults R/O/B/C/S/T --proxy PATH]
//! ```
//!
//! Needs no account and no network. The proxy is the release binary in a process of its own, so that its memory, its
//! descriptors and its processor time are its own. The upstream is the fake of the tests, and answers 5 % 429, 5 % 503,
//! 2 % resets before the head, 1 % cuts in mid-stream, 1 % stalls and 1 % trickles. Every request is accounted for
//! three times, by its agent, by the fake and by the proxy's `/usage`, and the three must agree. One minute is enough
//! for a verdict on everything but slow leaks. Ends with exit code 1 if the proxy broke a rule, and says which.
//!
//! - [`options`]: the command line; [`run`]: the run as a whole; [`common`]: what it shares with the siege.
//! - [`work`]: what an agent asks for, and in what manner.
//! - [`agent`]: how it asks, and what it sees; [`answer`]: whether that is what the fake has sent.
//! - [`books`]: what the agents saw, and which of it the fake did.
//! - [`memory`]: whether the proxy's memory grew.
//! - [`verdict`]: the rules, and who broke them.
//! - [`report`]: the figures.

// An example is made of what the core may not touch.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../../tests/support/mod.rs"]
mod support;

#[path = "../common/mod.rs"]
mod common;

mod agent;
mod answer;
mod books;
mod memory;
mod options;
mod report;
mod run;
mod verdict;
mod work;

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
            let verdict = verdict::judge(&results);
            report::show(&results, &verdict);
            if verdict.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}\n\n{}", options::HELP);
            ExitCode::from(2)
        }
    }
}
