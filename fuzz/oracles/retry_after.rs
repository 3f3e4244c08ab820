//! How long an upstream asks to be left alone, against `httpdate` and plain numbers.
//!
//! An input is the fields of a response: `retry-after`, `retry-after-ms` and `date`.

use std::time::{Duration, SystemTime};

use fireworks_proxy::{calendar::parse_http_date, http::head::parse_response, retry::asked_wait, time::Wall};

use super::Outcome;

/// 2026-11-21T12:00:00Z, when the response comes.
const NOW_UNIX_SECONDS: i64 = 1_795_262_400;

/// `input` is lines of fields.
pub fn retry_after(input: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(input) else { return Outcome::Refused };
    let lines: Vec<&str> = text.lines().collect();
    let head = format!("HTTP/1.1 429 Too Many Requests\r\n{}\r\n\r\n", lines.join("\r\n"));
    let Ok(response) = parse_response(head.as_bytes(), "POST") else { return Outcome::Refused };
    let field_of = |name| response.fields.text(name);
    for name in ["retry-after", "date"] {
        if let Some(text) = field_of(name) {
            check_date(text);
        }
    }
    let now = Wall::from_unix_millis(NOW_UNIX_SECONDS * 1_000);
    let wait = asked_wait(&response.fields, now);
    let date = field_of("date").and_then(parse_http_date).unwrap_or(now);
    let after = field_of("retry-after").and_then(|text| seconds_or_date(text, date));
    let millis = field_of("retry-after-ms").and_then(seconds).map(|span| span / 1_000);
    assert_eq!(wait, after.into_iter().chain(millis).max());
    if wait.is_some() { Outcome::Accepted } else { Outcome::Refused }
}

fn seconds_or_date(text: &str, date: Wall) -> Option<Duration> {
    seconds(text).or_else(|| parse_http_date(text).map(|at| at.since(date)))
}

/// A decimal number that is not negative. Plain digits are exactly so many.
fn seconds(text: &str) -> Option<Duration> {
    let is_plain = text.len() <= 15 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain {
        return Some(Duration::from_secs(text.parse().expect("digits")));
    }
    let number: f64 = text.trim().parse().ok()?;
    if number.is_nan() || number < 0.0 { None } else { Duration::try_from_secs_f64(number).ok() }
}

/// What `httpdate` reads is the same moment here. What is read here beyond that, because servers are sloppy
/// with dates, is still a date of the numbers that are written there, and is written and read back the same.
fn check_date(text: &str) {
    let read = parse_http_date(text);
    if let (Ok(expected), true) = (httpdate::parse_http_date(text), text.is_ascii()) {
        check_same(text, read, expected);
    }
    let Some(moment) = read.filter(|moment| *moment < Wall::from_unix_millis(i64::MAX)) else { return };
    let Ok(since_epoch) = u64::try_from(moment.as_unix_millis()) else { return };
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(since_epoch);
    let written = httpdate::fmt_http_date(at);
    assert_eq!(parse_http_date(&written), read, "{text:?} is {written}");

    // The last second of a minute may be a leap second, and two digits of a year are of this century.
    let mut found = numbers(text);
    let is_short_year = found.iter().all(|number| *number < 100);
    let century = |number| if is_short_year && number >= 2_000 { number - 2_000 } else { number };
    let mut expected: Vec<u64> = numbers(&written).into_iter().map(century).collect();
    let mut without_leap = found.clone();
    // Another 60 may be a year.
    if let Some(second) = without_leap.iter_mut().find(|number| **number == 60) {
        *second = 59;
    }
    for numbers in [&mut found, &mut without_leap, &mut expected] {
        numbers.sort_unstable();
    }
    assert!(found == expected || without_leap == expected, "{text:?} is {written}");
}

fn check_same(text: &str, read: Option<Wall>, expected: SystemTime) {
    // It takes the 31st of any month for a day, anything for a space, and two digits from 70 on for the last
    // century; the calendar here ends a year before its own, so that every time zone fits.
    let written = httpdate::fmt_http_date(expected);
    let (mut found, mut meant) = (numbers(text), numbers(&written));
    found.sort_unstable();
    meant.sort_unstable();
    if found == meant && !meant.contains(&9_999) {
        let since_epoch = expected.duration_since(SystemTime::UNIX_EPOCH).expect("it reads from 1970 on");
        let millis = read.map(Wall::as_unix_millis);
        assert_eq!(millis, i64::try_from(since_epoch.as_millis()).ok(), "{text:?} is {written}");
    }
}

/// Every number written in a text.
fn numbers(text: &str) -> Vec<u64> {
    let runs = text.split(|character: char| !character.is_ascii_digit()).filter(|run| !run.is_empty());
    runs.map(|run| run.parse().unwrap_or(u64::MAX)).collect()
}
