//! Numbers as people read them in a table.

/// Where there is no number.
pub(super) const NONE: &str = "-";

/// How much of the limit is used, in percent.
pub(super) fn share(used: Option<f64>, limit: Option<f64>) -> Option<f64> {
    let limit = limit.filter(|limit| *limit > 0.0)?;
    Some(used? / limit * 100.0)
}

/// `75 %`.
pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| NONE.to_owned(), |share| format!("{share:.0} %"))
}

/// `4.2 s`.
pub(super) fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| NONE.to_owned(), |seconds| format!("{seconds:.1} s"))
}

/// A count without what is behind its point.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float is cast to the nearest number there is, and a count is not negative"
)]
pub(super) fn whole(count: f64) -> usize {
    count as usize
}

/// `722,859`.
pub(super) fn grouped(count: Option<f64>) -> String {
    let Some(count) = count else { return NONE.to_owned() };
    let digits = format!("{count:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `950`, `28.8k`, `720k`, `2.9M`.
pub(super) fn compact(count: Option<f64>) -> String {
    let Some(count) = count else { return NONE.to_owned() };
    let scaled = [(1e9, "G"), (1e6, "M"), (1e3, "k")].into_iter().find(|(unit, _)| count >= *unit);
    let Some((unit, letter)) = scaled else { return format!("{count:.0}") };
    let scaled = count / unit;
    if scaled < 100.0 { format!("{scaled:.1}{letter}") } else { format!("{scaled:.0}{letter}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let compacts = [0.0, 999.0, 28_800.0, 720_000.0, 2_880_000.0, 1e15].map(|count| compact(Some(count)));
        assert_eq!(compacts, ["0", "999", "28.8k", "720k", "2.9M", "1000000G"]);
        let groups = [0.0, 999.0, 1_000.0, 722_859.0, 1e9].map(|count| grouped(Some(count)));
        assert_eq!(groups, ["0", "999", "1,000", "722,859", "1,000,000,000"]);
    }
}
