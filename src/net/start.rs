//! What happens before the first turn: the reasons not to start, and the day that goes on.

use std::{fmt, io};

use log::{info, warn};

use super::store::StateFile;
use crate::{config::ConfigError, proxy::Proxy, state::Restored, time::Now};

/// Why the proxy cannot start. Always one line that says what to do.
#[derive(Debug)]
pub enum StartError {
    /// A setting cannot be meant.
    Config(ConfigError),
    /// The system refused something.
    System {
        /// What was tried.
        what: String,
        /// What it said.
        error: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(formatter),
            Self::System { what, error } => write!(formatter, "{what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Takes up the day's count, and puts aside a file that is not of today.
pub(super) fn restore_day(proxy: &mut Proxy, state_file: &StateFile, now: Now) {
    let (file, read_error) = match state_file.load() {
        Ok(file) => (file, None),
        Err(error) => (None, Some(error)),
    };
    if let Some(error) = &read_error {
        warn!("{state_file} cannot be read ({error}); today starts at 0");
    }
    let put_aside = match proxy.handle_start(file.as_deref(), now) {
        Some(Restored::OtherDay(date)) => state_file.put_aside(&date),
        Some(Restored::Damaged(_)) => state_file.put_aside("damaged"),
        None if read_error.is_some() && state_file.is_file() => state_file.put_aside("unreadable"),
        None | Some(Restored::Continued) => return,
    };
    match put_aside {
        Ok(path) => info!("the old state file is kept as {}", path.display()),
        Err(error) => warn!("{state_file} cannot be put aside: {error}"),
    }
}

/// A number that differs from start to start. The standard library seeds its hash tables so.
pub(super) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8)
}
