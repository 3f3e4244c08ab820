//! The state file of the proxy's predecessor, a Python program that kept the day's tokens under the same file name.
//!
//! Its sources are not here. So every form is read that such a program plainly writes with `json.dump`: one day under
//! its date, or an object of days. What is not in so many words a date and a count is refused, and nothing is guessed.

use serde_json::{Map, Value};
use time::Date;

use crate::{calendar, ledger::Days};

/// The most tokens that are believed of a day: eleven million a second.
const TOKENS_MAX: u64 = 1_000_000_000_000;

const DATE_NAMES: [&str; 2] = ["date", "day"];
const TOTAL_NAMES: [&str; 7] =
    ["tokens", "total_tokens", "tokens_used", "used_tokens", "daily_tokens", "used", "total"];
const PROMPT_NAMES: [&str; 4] = ["prompt_tokens", "input_tokens", "prompt", "input"];
const GENERATED_NAMES: [&str; 6] =
    ["completion_tokens", "output_tokens", "generated_tokens", "completion", "output", "generated"];

type Fields = Map<String, Value>;

/// The counts of a file without a version, or what is wrong with it as a file of that program. Where a name stands there
/// twice the last one counts, as for Python.
pub(super) fn days(file: &[u8]) -> Result<Days, String> {
    let file: Value = serde_json::from_slice(file).map_err(|error| format!("it is no JSON: {error}"))?;
    let Value::Object(fields) = file else { return Err("it is no object".to_owned()) };
    if fields.contains_key("version") {
        return Err("it has a version".to_owned());
    }
    let is_by_date = fields.keys().any(|name| date(name).is_some());
    let days = if is_by_date { many_days(&fields)? } else { vec![one_day(&fields)?] };
    Ok(Days::counted(days).expect("there is one at least"))
}

/// `{"date": "2026-05-21", "tokens": 12}`. Other names mean nothing here.
fn one_day(fields: &Fields) -> Result<(Date, u64, u64), String> {
    let read = |value: &Value| value.as_str().and_then(date);
    let day = the_one(fields, &DATE_NAMES, read)?.ok_or("it has no date")?;
    let (prompt, generated) = count(fields)?;
    Ok((day, prompt, generated))
}

/// `{"2026-05-21": 12, "2026-05-20": {"tokens": 7}}`, and nothing but days.
fn many_days(fields: &Fields) -> Result<Vec<(Date, u64, u64)>, String> {
    let of_one = |(name, value): (&String, &Value)| {
        let day = date(name).ok_or_else(|| format!("{name:?} stands among dates"))?;
        let (prompt, generated) = match value {
            Value::Object(fields) => count(fields)?,
            number => (tokens(number).ok_or_else(|| format!("{name:?} has no count"))?, 0),
        };
        Ok((day, prompt, generated))
    };
    fields.iter().map(of_one).collect()
}

/// Prompt and generated tokens. A total that is not divided is taken for prompt tokens, which nearly all of them are.
fn count(fields: &Fields) -> Result<(u64, u64), String> {
    let total = the_one(fields, &TOTAL_NAMES, tokens)?;
    let prompt = the_one(fields, &PROMPT_NAMES, tokens)?;
    let generated = the_one(fields, &GENERATED_NAMES, tokens)?;
    match (total, prompt, generated) {
        (None, None, None) => Err("it has no count of tokens".to_owned()),
        (Some(total), None, None) => Ok((total, 0)),
        (None, Some(prompt), Some(generated)) => Ok((prompt, generated)),
        (Some(total), Some(prompt), Some(generated)) if prompt + generated == total => {
            Ok((prompt, generated))
        }
        (_, None, Some(_)) | (_, Some(_), None) => Err("it has half a count".to_owned()),
        (Some(_), Some(_), Some(_)) => Err("its counts do not agree".to_owned()),
    }
}

/// What stands under whichever of these names there is. Where there are several they have to agree.
fn the_one<T: PartialEq>(
    fields: &Fields,
    names: &[&str],
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, String> {
    let mut found = None;
    for (name, value) in names.iter().filter_map(|name| Some((name, fields.get(*name)?))) {
        let value = read(value).ok_or_else(|| format!("{name:?} cannot be meant"))?;
        if found.as_ref().is_some_and(|other| *other != value) {
            return Err(format!("{name:?} does not agree with the rest"));
        }
        found = Some(value);
    }
    Ok(found)
}

/// A date as Python's `isoformat` writes it.
fn date(text: &str) -> Option<Date> {
    calendar::parse_date(text).filter(|date| date.to_string() == text)
}

/// A count: a whole number, or a float without a fraction, which sums become easily in Python.
fn tokens(value: &Value) -> Option<u64> {
    // A float is printed without an exponent, and with a point only where it has a fraction.
    let tokens = value.as_u64().or_else(|| value.as_f64()?.to_string().parse().ok())?;
    (tokens <= TOKENS_MAX).then_some(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(file: &str) -> Result<(String, Days), String> {
        days(file.as_bytes()).map(|days| (days.date(), days))
    }

    #[test]
    fn the_forms_that_a_small_script_writes_are_read() {
        for (file, prompt, generated) in [
            (r#"{"date": "2026-05-21", "tokens": 12}"#, 12, 0),
            (r#"{"day": "2026-05-21", "total": 12.0, "requests": 3, "limit": 200000000}"#, 12, 0),
            (r#"{"date": "2026-05-21", "total_tokens": 12, "used": 12, "warned": true}"#, 12, 0),
            (r#"{"date": "2026-05-21", "prompt_tokens": 10, "completion_tokens": 2}"#, 10, 2),
            (r#"{"date": "2026-05-21", "input_tokens": 10, "output_tokens": 2, "total_tokens": 12}"#, 10, 2),
            (r#"{"date": "2026-05-21", "prompt": 0, "generated": 0}"#, 0, 0),
            (r#"{"2026-05-20": 7, "2026-05-21": 12}"#, 12, 0),
            (r#"{"2026-05-21": {"total_tokens": 12}, "2026-05-20": 7}"#, 12, 0),
            (r#"{"2026-05-21": 1000000000000}"#, TOKENS_MAX, 0),
        ] {
            let (date, days) = newest(file).unwrap_or_else(|why| panic!("{file}: {why}"));
            assert_eq!(date, "2026-05-21", "{file}");
            let kept = serde_json::to_value(&days).expect("plain fields");
            let counts = [&kept["prompt_tokens"], &kept["generated_tokens"]];
            assert_eq!(counts.map(Value::as_u64), [Some(prompt), Some(generated)], "{file}");
        }
    }

    #[test]
    fn what_would_have_to_be_guessed_is_refused_in_one_line() {
        for (file, why) in [
            ("[]", "no object"),
            ("{}", "no date"),
            (r#"{"tokens": 12}"#, "no date"),
            (r#"{"date": "2026-05-21"}"#, "no count"),
            (r#"{"date": "2026-05-21T10:00:00", "tokens": 12}"#, "cannot be meant"),
            (r#"{"date": "2026-5-21", "tokens": 12}"#, "cannot be meant"),
            (r#"{"date": "2026-02-30", "tokens": 12}"#, "cannot be meant"),
            (r#"{"date": 20260521, "tokens": 12}"#, "cannot be meant"),
            (r#"{"date": "2026-05-21", "day": "2026-05-20", "tokens": 12}"#, "does not agree"),
            (r#"{"date": "2026-05-21", "tokens": "12"}"#, "cannot be meant"),
            (r#"{"date": "2026-05-21", "tokens": 12.5}"#, "cannot be meant"),
            (r#"{"date": "2026-05-21", "tokens": -12}"#, "cannot be meant"),
            (r#"{"date": "2026-05-21", "tokens": 1000000000001}"#, "cannot be meant"),
            (r#"{"date": "2026-05-21", "tokens": 1e300}"#, "cannot be meant"),
            (r#"{"date": "2026-05-21", "tokens": NaN}"#, "no JSON"),
            (r#"{"date": "2026-05-21", "tokens": true}"#, "cannot be meant"),
            (r#"{"date": "2026-05-21", "tokens": 12, "total": 13}"#, "does not agree"),
            (r#"{"date": "2026-05-21", "prompt_tokens": 12}"#, "half a count"),
            (r#"{"date": "2026-05-21", "total": 12, "output": 2}"#, "half a count"),
            (r#"{"date": "2026-05-21", "prompt": 12, "output": 2, "total": 12}"#, "do not agree"),
            (r#"{"2026-05-21": 12, "total": 19}"#, "among dates"),
            (r#"{"2026-05-21": null}"#, "has no count"),
            (r#"{"2026-05-21": {}}"#, "no count"),
            (r#"{"version": null, "date": "2026-05-21", "tokens": 12}"#, "has a version"),
            (r#"{"date": "2026-05-21", "tokens": 12, "a\nb": 1, "2026-05-21": 1}"#, "among dates"),
        ] {
            let refused = newest(file).expect_err(file);
            assert!(refused.contains(why) && !refused.contains(char::is_control), "{file}: {refused}");
        }
    }
}
