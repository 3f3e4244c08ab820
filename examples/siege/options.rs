//! What the command line says.

use std::path::PathBuf;
use std::time::Duration;

use crate::attacks::ALL;

/// How long each attack is held, with all its connections open.
const SECONDS_DEFAULT: [u64; 2] = [10, 1];

/// What the proxy is told to buffer at most: less than the uploads of the attack come to.
const BUFFERED_MIB_DEFAULT: [u64; 2] = [512, 128];

/// The whole of it, or as much as fits into a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Full,
    Quick,
}

impl Scale {
    /// Picks from a pair for the two scales.
    pub(crate) fn of<T: Copy>(self, [full, quick]: [T; 2]) -> T {
        if self == Self::Full { full } else { quick }
    }
}

/// How long, how much, and of what.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) scale: Scale,
    /// How long each attack is held.
    pub(crate) duration: Duration,
    /// The names of the attacks; empty for all.
    pub(crate) only: Vec<String>,
    /// What the proxy may buffer in all, in MiB.
    pub(crate) buffered_mib: u64,
    /// The binary to besiege; None has cargo build it.
    pub(crate) proxy: Option<PathBuf>,
}

impl Options {
    /// # Errors
    /// What of it cannot be meant.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let (mut scale, mut seconds, mut buffered_mib) = (Scale::Full, None, None);
        let (mut only, mut proxy) = (Vec::new(), None);
        let mut words = arguments.iter();
        while let Some(name) = words.next() {
            if name == "--quick" {
                scale = Scale::Quick;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{name} needs a value, or is unknown"))?;
            let number = |accepted: std::ops::RangeInclusive<u64>| {
                let (least, most) = (accepted.start(), accepted.end());
                let error = format!("{name} {value}: a whole number from {least} to {most} is accepted");
                value.parse().ok().filter(|number| accepted.contains(number)).ok_or(error)
            };
            match name.as_str() {
                "--seconds" => seconds = Some(number(1..=600)?),
                "--buffered-mib" => buffered_mib = Some(number(1..=65_536)?),
                "--only" if ALL.iter().any(|attack| attack.name == value) => only.push(value.clone()),
                "--only" => return Err(format!("{name} {value}: there is no such attack")),
                "--proxy" => proxy = Some(PathBuf::from(value)),
                _ => return Err(format!("unknown argument: {name}")),
            }
        }
        Ok(Self {
            scale,
            duration: Duration::from_secs(seconds.unwrap_or_else(|| scale.of(SECONDS_DEFAULT))),
            only,
            buffered_mib: buffered_mib.unwrap_or_else(|| scale.of(BUFFERED_MIB_DEFAULT)),
            proxy,
        })
    }

    /// Whether this attack is one of those chosen.
    pub(crate) fn wants(&self, attack: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == attack)
    }
}

pub(crate) fn help() -> String {
    let names = ALL.map(|attack| format!("    {:<12} {}\n", attack.name, attack.what)).concat();
    format!(
        "usage: cargo run --release --example siege [-- OPTIONS]
  --quick            fewer connections for a shorter time: all of it within a minute
  --seconds N        how long each attack is held, 1 to 600            [10, quick: 1]
  --buffered-mib N   what the proxy may buffer in all                  [512, quick: 128]
  --only NAME        this attack and no other; may be repeated:
{names}  --proxy PATH       the binary to besiege, instead of building it"
    )
}
