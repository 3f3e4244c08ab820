//! Goodput: how much agent work gets done within the limits, compared with going straight at them, with a fixed policy,
//! and with an oracle that knows the future.
//!
//! ```text
//! cargo run --release --example goodput [-- --minutes N --seed N --scenario NAME --contestant NAME --without TECHNIQUE
//!                                           --trace FILE --log]
//! cargo run --release --example goodput -- --list | --workload | --check | --ablation [--seeds N]
//! ```
//!
//! Hours of traffic in seconds, in virtual time; the same seed gives the same table. Needs no network. The scenarios of
//! the trace are left out when none is named. `--check` judges the proxy by its targets and ends with exit code 1 if it
//! misses one. `--ablation` switches off each technique in turn, to show what it is worth.
//!
//! - [`options`]: the command line; [`scenarios`]: what is asked for, and how the upstream behaves.
//! - [`work`]: the agents and the trace; [`client`]: the SDK and the person in front of each request.
//! - [`upstream`]: the simulated Fireworks.
//! - [`contestants`]: who decides when a request goes out; [`contestants::ours`] is the proxy's whole core.
//! - [`world`]: virtual time, in which they meet; [`tally`]: what came of it; [`runs`]: many worlds at once.
//! - [`report`]: the table; [`targets`]: the check; [`ablation`], [`calibration`]: the other two.
//! - [`model`], [`dice`]: what all of them speak of.

mod ablation;
mod calibration;
mod client;
mod contestants;
mod dice;
mod model;
mod options;
mod report;
mod runs;
mod scenarios;
mod tally;
mod targets;
mod upstream;
mod work;
mod world;

use std::process::ExitCode;

use options::{Options, Task};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("goodput: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("goodput: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what was asked for. False if a target was missed.
fn run(options: &Options) -> Result<bool, String> {
    match options.task {
        Task::Compare => report::compare(options).map(|()| true),
        Task::List => {
            report::list();
            Ok(true)
        }
        Task::Workload => Ok(calibration::report(options.seed)),
        Task::Check => targets::check(options),
        Task::Ablation => ablation::report(options).map(|()| true),
    }
}
