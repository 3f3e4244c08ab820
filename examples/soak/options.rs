//! What the command line says.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::fake::Faults;

/// A bad day.
const FAULTS_DEFAULT: &str = "5/5/2/1/1/1";

pub(crate) const HELP: &str = "\
usage: cargo run --release --example soak [-- OPTIONS]
  --minutes N    how long the agents work, 1 to 10000      [30]
  --agents N     how many there are, 1 to 1000             [64]
  --seed N       what their work and the faults begin with [1]
  --faults R/O/B/C/S/T   of 100 requests: 429, 503, reset before the head, cut in mid-stream, stall, trickle
                                                           [5/5/2/1/1/1]
  --proxy PATH   the binary to soak, instead of building it";

/// How long, how many, and of what.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// How long the agents work.
    pub(crate) duration: Duration,
    pub(crate) agents: usize,
    pub(crate) seed: u64,
    /// What the upstream does to how many requests.
    pub(crate) faults: Faults,
    /// The binary to soak; None has cargo build it.
    pub(crate) proxy: Option<PathBuf>,
}

impl Options {
    /// # Errors
    /// What of it cannot be meant.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let (mut minutes, mut agents, mut seed, mut proxy) = (30, 64, 1, None);
        let mut faults = Faults::parse(FAULTS_DEFAULT).expect("percentages");
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { return Err(format!("{} needs a value", pair[0])) };
            let number = |accepted: std::ops::RangeInclusive<u64>| {
                let number = value.parse().ok().filter(|number| accepted.contains(number));
                number.ok_or_else(|| {
                    let (least, most) = accepted.into_inner();
                    format!("{name} {value}: a whole number from {least} to {most} is accepted")
                })
            };
            match name.as_str() {
                "--minutes" => minutes = number(1..=10_000)?,
                "--agents" => agents = number(1..=1_000)?,
                "--seed" => seed = number(0..=u64::MAX)?,
                "--faults" => {
                    faults =
                        Faults::parse(value).ok_or_else(|| format!("{name} {value}: not percentages"))?;
                }
                "--proxy" => proxy = Some(PathBuf::from(value)),
                _ => return Err(format!("unknown argument: {name}")),
            }
        }
        let agents = usize::try_from(agents).expect("a thousand at most");
        faults.seed = seed;
        Ok(Self { duration: Duration::from_secs(60 * minutes), agents, seed, faults, proxy })
    }
}
