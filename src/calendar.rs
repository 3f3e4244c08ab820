//! Wall time in a time zone: local dates, the end of a day, and how a moment is written.

use std::time::Duration;

use time::{Date, Month, OffsetDateTime};
use time_tz::{Offset, TimeZone, Tz};

use crate::time::Wall;

/// Longer than any calendar day: the longest are 25 hours, and a zone that crosses the date line can
/// lose a day, never stretch one beyond this.
const DAY_MAX: Duration = Duration::from_secs(50 * 3600);

/// The names of the months in HTTP, three letters each.
const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";

/// The local date and time of a zone.
pub fn local_time(timezone: &Tz, at: Wall) -> OffsetDateTime {
    let nanos = i128::from(at.as_unix_millis()) * 1_000_000;
    let utc = OffsetDateTime::from_unix_timestamp_nanos(nanos);
    let utc = utc.expect("wall times are held within the calendar");
    utc.to_offset(timezone.get_offset_utc(&utc).to_utc())
}

/// The local date of a zone.
pub fn day_at(timezone: &Tz, at: Wall) -> Date {
    local_time(timezone, at).date()
}

/// The first moment whose local date is not that of `now`, found by halving: a clock change at
/// midnight can skip 00:00, so there need be no local time to convert.
pub fn end_of_day(timezone: &Tz, now: Wall) -> Wall {
    let today = day_at(timezone, now);
    let mut within = now.as_unix_millis();
    let mut beyond = (now + DAY_MAX).as_unix_millis();
    while beyond - within > 1 {
        let middle = within + (beyond - within) / 2;
        if day_at(timezone, Wall::from_unix_millis(middle)) == today {
            within = middle;
        } else {
            beyond = middle;
        }
    }
    Wall::from_unix_millis(beyond)
}

/// A date as [`Date`] prints it.
pub fn parse_date(text: &str) -> Option<Date> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()
}

/// A moment as HTTP writes it: the preferred form and the two obsolete ones, which a recipient still
/// has to read (RFC 9110, section 5.6.7).
pub fn parse_http_date(text: &str) -> Option<Wall> {
    let parts: Vec<&str> = text.split([' ', ',', '-']).filter(|part| !part.is_empty()).collect();
    let (weekday, day, month, year, clock) = match parts[..] {
        [weekday, day, month, year, clock, "GMT"] => (weekday, day, month, year, clock),
        [weekday, month, day, clock, year] => (weekday, day, month, year, clock),
        _ => return None,
    };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if ![day, year].into_iter().chain(clock.split(':')).all(is_number)
        || weekday.contains(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    let number: i32 = year.parse().ok()?;
    // Two digits are of RFC 850, and no server that speaks of the last century is left.
    let year = if year.len() == 2 { 2_000 + number } else { number };
    let month = MONTHS.find(month).filter(|at| month.len() == 3 && at % 3 == 0)? / 3 + 1;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<u8>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let date = Date::from_calendar_date(year, month, day.parse().ok()?).ok()?;
    // A leap second is counted into the next minute by nobody; the last whole second does.
    let second = if second == 60 { 59 } else { second };
    let time = date.with_hms(hour, minute, second).ok()?;
    Some(Wall::from_unix_millis(time.assume_utc().unix_timestamp() * 1_000))
}

/// A moment as RFC 3339 writes it, with the zone's offset: `2026-05-22T00:00:00.000+10:00`.
pub fn rfc3339(timezone: &Tz, at: Wall) -> String {
    let local = local_time(timezone, at);
    let offset = local.offset();
    let sign = if offset.is_negative() { '-' } else { '+' };
    let (hours, minutes, _) = offset.as_hms();
    let (hours, minutes) = (hours.abs(), minutes.abs());
    format!("{}T{}.{:03}{sign}{hours:02}:{minutes:02}", local.date(), clock(local), local.millisecond())
}

/// A moment in plain words, to the second: `2026-05-21 14:00:00 UTC`.
pub fn utc(at: Wall) -> String {
    let utc = OffsetDateTime::from_unix_timestamp(at.as_unix_millis().div_euclid(1_000));
    let utc = utc.expect("wall times are held within the calendar");
    format!("{} {} UTC", utc.date(), clock(utc))
}

/// A moment as log lines begin: `2026-05-21 00:31:59,656`.
pub fn log_timestamp(timezone: &Tz, at: Wall) -> String {
    let local = local_time(timezone, at);
    format!("{} {},{:03}", local.date(), clock(local), local.millisecond())
}

fn clock(local: OffsetDateTime) -> String {
    let (hour, minute, second) = local.to_hms();
    format!("{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A moment given in UTC.
    pub(crate) fn utc(year: i32, month: u8, day: u8, hour: u8, minute: u8) -> Wall {
        let month = Month::try_from(month).expect("a month");
        let date = Date::from_calendar_date(year, month, day).expect("a date");
        let moment = date.with_hms(hour, minute, 0).expect("a time").assume_utc();
        Wall::from_unix_millis(moment.unix_timestamp() * 1_000)
    }

    fn zone(name: &str) -> &'static Tz {
        time_tz::timezones::get_by_name(name).expect("a zone")
    }

    #[test]
    fn the_dates_of_http_are_read_in_all_three_forms_and_nothing_else_is() {
        let moment = Wall::from_unix_millis(784_111_777_000);
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun, 06-Nov-1994 08:49:37 GMT"]
        {
            assert_eq!(parse_http_date(text), Some(moment), "{text}");
        }
        let leap = parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT");
        assert_eq!(leap, parse_http_date("Saturday, 31-Dec-16 23:59:59 GMT"));
        for text in [
            "",
            "soon",
            "Sun, 06 Nov 1994 08:49:37 PST",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 25:00:00 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 +8:49:37 GMT",
            "6, 06 Nov 1994 08:49:37 GMT",
            "Thu, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 anF 1994 08:49:37 GMT",
            "Sun, 06 Nov 99999999 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT GMT",
        ] {
            assert_eq!(parse_http_date(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_day_ends_at_local_midnight_also_across_clock_changes() {
        for (name, now, end, local) in [
            (
                "Australia/Melbourne",
                utc(2026, 5, 20, 14, 30),
                utc(2026, 5, 21, 14, 0),
                "2026-05-22T00:00:00.000+10:00",
            ),
            // Clocks go forward on 4 October 2026: a day of 23 hours.
            (
                "Australia/Melbourne",
                utc(2026, 10, 3, 14, 0),
                utc(2026, 10, 4, 13, 0),
                "2026-10-05T00:00:00.000+11:00",
            ),
            // Clocks go back on 5 April 2026: a day of 25 hours.
            (
                "Australia/Melbourne",
                utc(2026, 4, 4, 13, 0),
                utc(2026, 4, 5, 14, 0),
                "2026-04-06T00:00:00.000+10:00",
            ),
            // Clocks go forward at midnight, so that this day begins at 01:00.
            (
                "Africa/Cairo",
                utc(2026, 4, 23, 12, 0),
                utc(2026, 4, 23, 22, 0),
                "2026-04-24T01:00:00.000+03:00",
            ),
            (
                "America/Havana",
                utc(2026, 3, 7, 12, 0),
                utc(2026, 3, 8, 5, 0),
                "2026-03-08T01:00:00.000-04:00",
            ),
            (
                "America/St_Johns",
                utc(2026, 1, 1, 12, 0),
                utc(2026, 1, 2, 3, 30),
                "2026-01-02T00:00:00.000-03:30",
            ),
            ("UTC", utc(2026, 12, 31, 23, 59), utc(2027, 1, 1, 0, 0), "2027-01-01T00:00:00.000+00:00"),
        ] {
            assert_eq!(end_of_day(zone(name), now), end, "{name}");
            assert_eq!(rfc3339(zone(name), end), local, "{name}");
        }
    }

    #[test]
    fn moments_are_written_to_the_millisecond() {
        let at = utc(2026, 5, 20, 14, 31) + Duration::from_millis(59_656);
        assert_eq!(log_timestamp(zone("Australia/Melbourne"), at), "2026-05-21 00:31:59,656");
        assert_eq!(super::utc(at), "2026-05-20 14:31:59 UTC");
        assert_eq!(rfc3339(zone("UTC"), at), "2026-05-20T14:31:59.656+00:00");
    }

    #[test]
    fn dates_are_read_back_as_they_are_printed() {
        let day = day_at(zone("UTC"), utc(2026, 2, 28, 0, 0));
        assert_eq!(parse_date(&day.to_string()), Some(day));
        for text in ["", "2026", "2026-02-30", "2026-13-01", "a-b-c", "2026-1-1-1"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }
}
