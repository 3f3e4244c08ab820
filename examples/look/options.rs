//! What the command line says.

use std::ops::RangeInclusive;
use std::path::PathBuf;

/// How to call it.
pub(crate) const HELP: &str = "usage: cargo run --release --example look [-- OPTIONS]
  --agents N      agents that stream all the time, 1 to 64               [8]
  --pairs N       spans of two seconds with and without a look, 1 to 900 [20]
  --proxy PATH    the binary to measure, instead of building it";

/// How much of a load, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Agents that stream all the time.
    pub(crate) agents: usize,
    /// Pairs of spans, one without a look and one with.
    pub(crate) pairs: usize,
    /// The binary to measure; None has cargo build it.
    pub(crate) proxy: Option<PathBuf>,
}

impl Options {
    /// # Errors
    /// What of it cannot be meant.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { agents: 8, pairs: 20, proxy: None };
        let mut words = arguments.iter();
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} needs a value, or is unknown"))?;
            let number = |accepted: RangeInclusive<usize>| {
                let error = format!("{name} {value}: a number from {accepted:?} is accepted");
                value.parse().ok().filter(|number| accepted.contains(number)).ok_or(error)
            };
            match name.as_str() {
                "--agents" => options.agents = number(1..=64)?,
                "--pairs" => options.pairs = number(1..=900)?,
                "--proxy" => options.proxy = Some(PathBuf::from(value)),
                _ => return Err(format!("unknown argument: {name}")),
            }
        }
        Ok(options)
    }
}
