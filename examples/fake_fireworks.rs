//! The fake Fireworks as a program, to try the proxy and real clients against.
//!
//! ```text
//! cargo run --example fake_fireworks -- --port 9443 --ca-file fake-ca.pem --limits 3600000/900000/36000
//! ```

// An example is made of what the core may not touch.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use support::fake::{Dimension, FakeFireworks, FakeOptions, Faults, Limits, Statistics, script};

const HELP: &str = "\
Options, each with a value:
  --port N              port on 127.0.0.1 (0 = a free one)               [0]
  --ca-file PATH        where to write the CA certificate               [fake-fireworks-ca.pem]
  --limits P/U/G        prompt/uncached/generated tokens per window      [3600000/900000/36000]
  --enforce yes|no      answer 429 above the limits, or only tell them   [yes]
  --window SECONDS      length of the rolling window                     [60]
  --burst N             most requests per second, 0 = any                [0]
  --tokens N            generated tokens per answer                      [500]
  --events N            words per answer                                 [25]
  --interval-ms N       time between two words of a stream               [100]
  --cache yes|no        count common prefixes of a session as cached     [yes]
  --faults R/O/B/C/S/T  of 100 requests: 429, 503, reset before the head, cut in mid-stream, stall,
                        trickle (which may be left out), at random       [none]
  --seed N              what the random faults begin with              [0]
  --tls yes|no          no = plain HTTP                                  [yes]
  --script NAME=VALUE   an x-fake-NAME header for every request; may be repeated";

/// How often the statistics are printed.
const REPORT_EVERY: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match parse(&arguments).and_then(|(options, ca_file)| run(options, &ca_file)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\n\n{HELP}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until killed.
fn run(options: FakeOptions, ca_file: &PathBuf) -> Result<(), String> {
    let fake = FakeFireworks::start(options);
    std::fs::write(ca_file, fake.ca_pem()).map_err(|error| format!("{}: {error}", ca_file.display()))?;
    let ca_file = std::path::absolute(ca_file).map_err(|error| error.to_string())?;
    println!("fake Fireworks at {}", fake.base_url());
    println!("FIREWORKS_PROXY_UPSTREAM={}", fake.base_url());
    println!("FIREWORKS_PROXY_CA_FILE={}", ca_file.display());
    loop {
        std::thread::sleep(REPORT_EVERY);
        println!("{}", report(&fake.statistics()));
    }
}

fn report(statistics: &Statistics) -> String {
    let refused = |dimension| statistics.refused_by(dimension);
    format!(
        "requests {} ok {} 429 {} (prompt {} uncached {} generated {} burst {}) in-flight {} (peak {}) connections {} \
         completed {} cancelled {} malformed {} faults {:?} tokens: prompt {} uncached {} generated {}",
        statistics.requests,
        statistics.ok,
        statistics.refused_total(),
        refused(Dimension::Prompt),
        refused(Dimension::Uncached),
        refused(Dimension::Generated),
        refused(Dimension::Requests),
        statistics.in_flight,
        statistics.in_flight_peak,
        statistics.connections_open,
        statistics.completed,
        statistics.cancelled,
        statistics.malformed,
        statistics.faults,
        statistics.prompt_tokens,
        statistics.uncached_tokens,
        statistics.generated_tokens,
    )
}

fn parse(arguments: &[String]) -> Result<(FakeOptions, PathBuf), String> {
    let mut limits = Limits::enforced(3_600_000, 900_000, 36_000);
    let mut seed = 0;
    let mut ca_file = PathBuf::from("fake-fireworks-ca.pem");
    let mut options = FakeOptions {
        generated_tokens: 500,
        events: 25,
        interval: Duration::from_millis(100),
        prefix_cache: true,
        keep_bodies: false,
        ..FakeOptions::default()
    };
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { return Err(format!("{} needs a value", pair[0])) };
        match name.as_str() {
            "--port" => options.port = number(value)?,
            "--ca-file" => ca_file = PathBuf::from(value),
            "--limits" => {
                let (prompt, uncached, generated) =
                    script::parse_triple(value).ok_or_else(|| format!("not P/U/G: {value}"))?;
                limits = Limits { prompt, uncached, generated, ..limits };
            }
            "--enforce" => limits.enforce = yes(value)?,
            "--window" => options.window = Duration::from_secs(number(value)?),
            "--burst" => options.requests_per_second = Some(number(value)?).filter(|most| *most > 0),
            "--tokens" => options.generated_tokens = number(value)?,
            "--events" => options.events = number(value)?,
            "--interval-ms" => options.interval = Duration::from_millis(number(value)?),
            "--cache" => options.prefix_cache = yes(value)?,
            "--faults" => {
                let faults = Faults::parse(value).ok_or_else(|| format!("not percentages: {value}"))?;
                options.faults = Some(Faults { seed, ..faults });
            }
            "--seed" => {
                seed = number(value)?;
                if let Some(faults) = &mut options.faults {
                    faults.seed = seed;
                }
            }
            "--tls" => options.tls = yes(value)?,
            "--script" => options.default_script.push(script_header(value)?),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    options.limits = Some(limits);
    Ok((options, ca_file))
}

fn script_header(value: &str) -> Result<(String, String), String> {
    let (name, value) = value.split_once('=').ok_or_else(|| format!("not NAME=VALUE: {value}"))?;
    Ok((format!("x-fake-{name}"), value.to_owned()))
}

fn number<T: FromStr<Err: Display>>(value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("{value}: {error}"))
}

fn yes(value: &str) -> Result<bool, String> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => Err(format!("neither yes nor no: {other}")),
    }
}
