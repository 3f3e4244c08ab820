//! The log: lines on standard error.

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};
use time_tz::Tz;

use super::clock;
use crate::calendar;

/// Writes `2026-05-21 00:31:59,656 INFO text`, on the clock of the configured time zone.
#[derive(Debug)]
struct Logger {
    timezone: &'static Tz,
}

/// Starts the log. A second call changes the level alone.
pub fn start(level: LevelFilter, timezone: &'static Tz) {
    // It fails where a logger was set before, by a test for example, which then stays.
    let _ = log::set_boxed_logger(Box::new(Logger { timezone }));
    log::set_max_level(level);
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // rustls and mio log too; what they have to say interests at debug and below.
        let is_ours = metadata.target().starts_with(env!("CARGO_CRATE_NAME"));
        is_ours || log::max_level() >= LevelFilter::Debug
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let timestamp = calendar::log_timestamp(self.timezone, clock::wall());
        // In one piece, so that no other process that writes there comes in between.
        let line = format!("{timestamp} {} {}\n", record.level(), record.args());
        // A closed standard error must not end the proxy.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}
