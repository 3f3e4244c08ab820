//! The log: lines on standard error.

use std::{fmt::Write as _, io::Write as _};

use log::{LevelFilter, Log, Metadata, Record};
use time_tz::Tz;

use super::clock;
use crate::calendar;

/// The longest text of a line. The longest of our own, with every setting, is about 1.5 kB; what is quoted from
/// a client or a library could be anything.
const TEXT_BYTES_MAX: usize = 4 * 1024;

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
        let line = format!("{timestamp} {} {}\n", record.level(), one_line(&record.args().to_string()));
        // A closed standard error must not end the proxy.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// A text as one line of bounded length: what looks like a line of ours is one.
fn one_line(text: &str) -> String {
    let is_boundary = |at: &usize| text.is_char_boundary(*at);
    let cut = (0..=text.len().min(TEXT_BYTES_MAX)).rev().find(is_boundary).unwrap_or(0);
    let mut line = String::with_capacity(cut);
    for char in text[..cut].chars() {
        if char.is_control() {
            line.extend(char.escape_default());
        } else {
            line.push(char);
        }
    }
    if cut < text.len() {
        write!(line, "… and {} bytes more", text.len() - cut).expect("a String takes every write");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_not_endless() {
        assert_eq!(one_line("plain, caf\u{e9}"), "plain, caf\u{e9}");
        assert_eq!(one_line("a\r\nb\x1b[2J\u{85}"), "a\\r\\nb\\u{1b}[2J\\u{85}");
        let long = one_line(&"\u{20ac}".repeat(2_000));
        assert!(long.ends_with("\u{20ac}… and 1905 bytes more"), "{long}");
        assert!(long.len() < TEXT_BYTES_MAX + 100);
    }
}
