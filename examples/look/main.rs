//! What it costs the proxy to be looked at.
//!
//! ```text
//! cargo run --release --example look [-- --agents N --pairs N --proxy PATH]
//! ```
//!
//! Agents stream answers through the release binary, without a pause, from the fake of the tests. Meanwhile spans of
//! time in which nobody looks take turns with spans in which a dashboard is open and Prometheus scrapes. What the proxy
//! takes of the processor is read where Linux tells it, to the nanosecond. Then each page is asked for many times in a
//! row, and what that takes above the load is divided by how often; with how often a dashboard asks, that is what it
//! takes in all. Ends with exit code 1 if it comes to more than 2 % of what the load takes. Where the system does not tell
//! processor times so finely, nothing is measured, and it says so.
//!
//! - [`options`]: the command line; [`load`]: the agents; [`lookers`]: who looks, and how often.
//! - [`figures`]: what is measured; [`report`]: the table.

// An example is made of what the core may not touch.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../../tests/support/mod.rs"]
mod support;

#[path = "../common/mod.rs"]
mod common;

mod figures;
mod load;
mod lookers;
mod options;
mod report;

use std::process::ExitCode;

use common::{process, program};
use options::Options;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Err(why) = process::cpu_time(std::process::id()) {
        println!("NOT MEASURED: {why}");
        return ExitCode::SUCCESS;
    }
    let measured = Options::parse(&arguments)
        .and_then(|options| figures::measure(&program::find(options.proxy.as_deref())?, &options));
    match measured {
        Ok(figures) => {
            report::show(&figures);
            if figures.share() <= figures::SHARE_MAX { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}\n\n{}", options::HELP);
            ExitCode::from(2)
        }
    }
}
