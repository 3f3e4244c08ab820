//! What happens before the first turn: the reasons not to start, and the day that goes on.

use std::{fmt, io, net::SocketAddr};

use log::{Level, info, warn};
use serde_json::Value;

use super::{logger, store::StateFile};
use crate::{
    config::{Config, ConfigError},
    journal::{Entry, Event},
    proxy::{Proxy, Stopped},
    state::Restored,
    time::Now,
};

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
        // It stays in its place until the first save replaces it: a kill in between loses nothing.
        Some(Restored::TakenOver) => state_file.copy_aside("python"),
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

/// Tells the log that the proxy has started, and with what settings.
pub(super) fn tell(config: &Config, addresses: &[SocketAddr], added_roots: &str) {
    let dashboard = addresses.first().map(|address| config.host.base_url(address.port()) + "/dashboard");
    let addresses: Vec<String> = addresses.iter().map(|address| format!("http://{address}")).collect();
    let text = format!("Fireworks proxy starting on {} -> {}", addresses.join(" and "), config.summary());
    let start = Entry::saying(Event::Start, text)
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("listening", addresses)
        .with("upstream_url", config.upstream.to_string())
        .with("forward_proxy", config.forward_proxy.as_ref().map(ToString::to_string));
    logger::write(Level::Info, &start);
    let shown = config.shown.iter().map(|shown| (shown.setting.name.to_owned(), shown.value.clone().into()));
    let settings = Entry::new(Event::Settings, config.describe())
        .with("settings", Value::Object(shown.collect()))
        .with("tokens_used_at_most", config.tokens_used_at_most());
    logger::write(Level::Info, &settings);
    if !added_roots.is_empty() {
        let text =
            format!("trusted besides the built-in roots: {added_roots}").replace(char::is_control, "?");
        logger::write(Level::Info, &text.into());
    }
    if let Some(dashboard) = dashboard {
        logger::write(Level::Info, &format!("what goes on is shown at {dashboard}").into());
    }
}

/// Tells the log that the proxy has stopped. It is the last entry.
pub(super) fn tell_of_end(stopped: Stopped) {
    let cut = if let Stopped::Cut(connections) = stopped { connections } else { 0 };
    let entry = Entry::saying(Event::Stop, "Fireworks proxy stopped").with("state", "stopped");
    logger::write(Level::Info, &entry.with("connections", cut));
}

/// A number that differs from start to start. The standard library seeds its hash tables so.
pub(super) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8)
}
