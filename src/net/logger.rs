//! The log: entries on standard error, one a line, as text or as JSON.

use std::{fmt::Write as _, io::Write as _, sync::OnceLock};

use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::{Value, json};
use time_tz::Tz;

use super::clock;
use crate::{
    calendar,
    config::LogFormat,
    journal::{Entry, Event},
    time::Wall,
};

/// The longest text of a line. The longest of our own, with every setting, is about 1.5 kB; what is quoted from
/// a client or a library could be anything.
const TEXT_BYTES_MAX: usize = 4 * 1024;

/// The longest line of JSON; the longest of our own, with as many lanes as statistics show, has about 6 kB. Where
/// the fields of an entry would come to more, its text stands for them, cut.
const JSON_BYTES_MAX: usize = 32 * 1024;

/// Around what nobody must miss, in the text.
const FRAME: &str = "================================================================================";

/// Ours, if the log goes there and not to one that a test has set before.
static STARTED: OnceLock<Logger> = OnceLock::new();

/// Writes lines on the clock of the configured time zone.
#[derive(Debug, Clone, Copy)]
struct Logger {
    timezone: &'static Tz,
    format: LogFormat,
}

/// Starts the log. A second call changes the level alone.
pub fn start(level: LevelFilter, format: LogFormat, timezone: &'static Tz) {
    let logger = Logger { timezone, format };
    // It fails where a logger was set before, by a test for example, which then stays.
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        STARTED.get_or_init(|| logger);
    }
    log::set_max_level(level);
}

/// Writes an entry, if the log has its level.
pub fn write(level: Level, entry: &Entry) {
    match STARTED.get() {
        Some(logger) if level <= log::max_level() => logger.write(level, entry, None),
        Some(_) => {}
        None => log::log!(level, "{entry}"),
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // rustls and mio log too; what they have to say interests at debug and below.
        is_ours(metadata.target()) || log::max_level() >= LevelFilter::Debug
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let library = Some(record.target()).filter(|target| !is_ours(target));
            self.write(record.level(), &record.args().to_string().into(), library);
        }
    }

    fn flush(&self) {}
}

impl Logger {
    /// `library` is who says it, if it is not us.
    fn write(&self, level: Level, entry: &Entry, library: Option<&str>) {
        let now = clock::wall();
        let lines = match self.format {
            LogFormat::Text => self.text(now, level, entry),
            LogFormat::Json => self.json(now, level, entry, library),
        };
        // In one piece, so that no other process that writes there comes in between. A closed standard error must
        // not end the proxy.
        let _ = std::io::stderr().write_all(lines.as_bytes());
    }

    /// `2026-05-21 00:31:59,656 INFO text`.
    fn text(&self, now: Wall, level: Level, entry: &Entry) -> String {
        let begin = format!("{} {level}", calendar::log_timestamp(self.timezone, now));
        let line = format!("{begin} {}\n", one_line(entry.text()));
        let is_framed = entry.event() == Event::Day && level <= Level::Warn;
        if is_framed { format!("{begin} {FRAME}\n{line}{begin} {FRAME}\n") } else { line }
    }

    /// `{"time":"2026-05-21T00:31:59.656+10:00","level":"INFO","event":"request", …}`.
    fn json(&self, now: Wall, level: Level, entry: &Entry, library: Option<&str>) -> String {
        let begin = [
            ("time", json!(calendar::rfc3339(self.timezone, now))),
            ("level", json!(level.as_str())),
            ("event", json!(entry.event().name())),
        ];
        let who = library.map(|target| ("target", json!(target)));
        let begin = begin.iter().chain(&who);
        let mut line = object(begin.clone().chain(entry.fields()));
        if line.len() > JSON_BYTES_MAX {
            line = object(begin.chain([&("message", json!(entry.text()))]));
        }
        line.push('\n');
        line
    }
}

fn is_ours(target: &str) -> bool {
    target.starts_with(env!("CARGO_CRATE_NAME"))
}

/// Fields as one object in one line, in their order.
fn object<'a>(fields: impl Iterator<Item = &'a (&'static str, Value)>) -> String {
    let mut line = String::from("{");
    for (name, value) in fields {
        let comma = if line.len() > 1 { "," } else { "" };
        let text = value.as_str().map(|text| json!(cut(text)));
        let value = text.as_ref().unwrap_or(value);
        write!(line, "{comma}\"{name}\":{value}").expect("a String takes every write");
    }
    line.push('}');
    // What JSON lets stand and some readers take for the end of a line stands within strings alone.
    if line.contains(breaks_lines) {
        let escaped = |char: char| format!("\\u{:04x}", u32::from(char));
        line =
            line.chars().map(|char| if breaks_lines(char) { escaped(char) } else { char.into() }).collect();
    }
    line
}

/// Whether a character may be shown as more than a place in a line.
fn breaks_lines(char: char) -> bool {
    char.is_control() || matches!(char, '\u{2028}' | '\u{2029}')
}

/// A text as one line of bounded length: what looks like a line of ours is one.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for char in cut(text).chars() {
        if breaks_lines(char) {
            line.extend(char.escape_default());
        } else {
            line.push(char);
        }
    }
    line
}

/// A text of bounded length.
fn cut(text: &str) -> String {
    let is_boundary = |at: &usize| text.is_char_boundary(*at);
    let end = (0..=text.len().min(TEXT_BYTES_MAX)).rev().find(is_boundary).unwrap_or(0);
    let left = text.len() - end;
    if left == 0 { text.to_owned() } else { format!("{}… and {left} bytes more", &text[..end]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> Wall {
        Wall::from_unix_millis(1_779_278_400_000)
    }

    fn logger(format: LogFormat) -> Logger {
        Logger { timezone: time_tz::timezones::get_by_name("Australia/Melbourne").expect("a zone"), format }
    }

    #[test]
    fn a_line_is_one_line_and_not_endless() {
        assert_eq!(one_line("plain, caf\u{e9}"), "plain, caf\u{e9}");
        assert_eq!(one_line("a\r\nb\x1b[2J\u{85}\u{2028}"), "a\\r\\nb\\u{1b}[2J\\u{85}\\u{2028}");
        let long = one_line(&"\u{20ac}".repeat(2_000));
        assert!(long.ends_with("\u{20ac}… and 1905 bytes more"), "{long}");
        assert!(long.len() < TEXT_BYTES_MAX + 100);
    }

    #[test]
    fn an_entry_is_a_line_of_text_or_an_object() {
        let entry = Entry::new(Event::Retry, "retry | GET /").count("prompt", "prompt_tokens", Some(7));
        let text = logger(LogFormat::Text).text(noon(), Level::Info, &entry);
        assert_eq!(text, "2026-05-20 22:00:00,000 INFO retry | GET / prompt=7\n");
        let json = logger(LogFormat::Json).json(noon(), Level::Info, &entry, None);
        assert_eq!(
            json,
            "{\"time\":\"2026-05-20T22:00:00.000+10:00\",\"level\":\"INFO\",\"event\":\"retry\",\"prompt_tokens\":7}\n"
        );
        let of_library =
            logger(LogFormat::Json).json(noon(), Level::Debug, &"hm".to_owned().into(), Some("mio"));
        assert!(
            of_library.ends_with("\"event\":\"message\",\"target\":\"mio\",\"message\":\"hm\"}\n"),
            "{of_library}"
        );
    }

    #[test]
    fn json_is_whole_and_one_line_whatever_is_in_it() {
        let logger = logger(LogFormat::Json);
        let odd = "a\"b\\\r\nc\x1b\u{85}\u{2028}\u{2029}\u{7f}\u{1f600}";
        let line = logger.json(noon(), Level::Warn, &odd.to_owned().into(), None);
        assert!(!line.trim_end().contains(breaks_lines), "{line}");
        let parsed: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(parsed["message"], odd);
        let escaped = "\u{1}".repeat(100_000);
        let many: Vec<&str> = vec!["\u{1f600}\u{85}"; 10_000];
        for entry in [Entry::from(escaped.clone()), Entry::new(Event::Stats, escaped).with("lanes", many)] {
            let line = logger.json(noon(), Level::Warn, &entry, None);
            let parsed: Value = serde_json::from_str(&line).expect("JSON that was cut is JSON");
            let message = parsed["message"].as_str().expect("a text");
            assert!(
                message.ends_with("… and 95904 bytes more") && line.len() <= JSON_BYTES_MAX,
                "{}",
                line.len()
            );
        }
    }

    #[test]
    fn what_nobody_must_miss_stands_in_a_frame() {
        let entry = Entry::saying(Event::Day, "DAILY TOKEN LIMIT REACHED: all is used");
        let text = logger(LogFormat::Text).text(noon(), Level::Error, &entry);
        let lines: Vec<&str> = text.lines().collect();
        let begin = "2026-05-20 22:00:00,000 ERROR";
        let frame = format!("{begin} {FRAME}");
        assert_eq!(
            lines,
            [&*frame, "2026-05-20 22:00:00,000 ERROR DAILY TOKEN LIMIT REACHED: all is used", &*frame]
        );
        let new_day = logger(LogFormat::Text).text(noon(), Level::Info, &entry);
        assert_eq!(new_day.lines().count(), 1);
    }
}
