//! The day's count from any bytes, against `serde_json`, what was learned beside it, and the same again from what is
//! saved.

use std::collections::BTreeMap;

use fireworks_proxy::{
    budget::{Budgets, Dimension, demand::Asked, knowledge::MODELS_MAX},
    config::Config,
    inspect::ContentSize,
    json::TextSize,
    ledger::Ledger,
    state::{self, Restored},
    time::{Mono, Now, Wall},
};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::{Outcome, json_events};

/// 2026-05-21T12:00:00Z: the day that it is.
const NOW_UNIX_MILLIS: i64 = 1_779_364_800_000;
const TODAY: &str = "2026-05-21";

/// The most tokens that are believed of an answer, and of a limit per minute.
const GENERATED_MAX: u64 = 1_000_000_001;
const LIMIT_MAX: u64 = 100_000_000_000;

/// `data` is the content of the state file.
pub fn state_file(data: &[u8]) -> Outcome {
    let now = Now { mono: Mono::ZERO, wall: Wall::from_unix_millis(NOW_UNIX_MILLIS) };
    let timezone = time_zone("UTC");
    let config = Config { timezone, ..Config::defaults() };
    let (mut ledger, mut budgets) = (Ledger::new(&config, now.wall), Budgets::new(&config));
    assert_eq!(ledger.date(), TODAY);
    let restored = state::restore(data, &mut ledger, &mut budgets, now);
    let tree = serde_json::from_slice::<Value>(data).ok();
    let expected = tree.as_ref().and_then(expected);
    if let Restored::Damaged(why) = &restored {
        assert!(!why.contains(char::is_control), "not one line: {why:?}");
        assert_eq!((ledger.used(), ledger.prompt_tokens(), ledger.has_warned()), (0, 0, false));
        assert!(expected.is_none() || has_doubles(data), "a good file is damaged: {why}");
        return Outcome::Refused;
    }
    match (tree, expected) {
        (_, Some(expected)) => check_restored(&ledger, &restored, expected),
        (Some(_), None) => panic!("a damaged file was accepted"),
        // Names that mean nothing here are passed over without a look at their values: one may be no UTF-8, or
        // too large for a tree.
        (None, None) => assert!(serde_json::from_slice::<IgnoredAny>(data).is_ok(), "no JSON was accepted"),
    }
    check_saved(ledger, &budgets, &config, now);
    check_learned(&mut budgets, now);
    Outcome::Accepted
}

/// The count is that of the file.
fn check_restored(ledger: &Ledger, restored: &Restored, Count { date, today, is_python }: Count) {
    let is_today = today.is_some();
    let [prompt, generated, warned] = today.unwrap_or_default();
    assert_eq!((ledger.prompt_tokens(), ledger.generated_tokens()), (prompt, generated));
    assert_eq!((ledger.used(), ledger.has_warned()), (prompt.saturating_add(generated), warned == 1));
    let expected = match (is_today, is_python) {
        (true, false) => Restored::Continued,
        (true, true) => Restored::TakenOver,
        (false, _) => Restored::OtherDay(date),
    };
    assert_eq!(*restored, expected);
    assert!(!is_python || !is_today || ledger.is_unsaved(), "a file in a form that is not ours stays");
}

/// Whether a name comes twice in an object. A tree keeps the last value then; here that is no good file.
fn has_doubles(data: &[u8]) -> bool {
    fn names(value: &Value) -> usize {
        match value {
            Value::Array(items) => items.iter().map(names).sum(),
            Value::Object(fields) => fields.len() + fields.values().map(names).sum::<usize>(),
            _ => 0,
        }
    }
    let tree = serde_json::from_slice(data).unwrap_or_default();
    json_events::read(data).is_ok_and(|document| document.keys.len() > names(&tree))
}

fn time_zone(name: &str) -> &'static time_tz::Tz {
    time_tz::timezones::get_by_name(name).expect("it is in the table")
}

/// What a good file says.
struct Count {
    /// Of the newest day in it.
    date: String,
    /// Prompt and generated tokens of today, and whether the warning was given; `None` if today is not in it.
    today: Option<[u64; 3]>,
    /// Whether it is one that the Python original would have written.
    is_python: bool,
}

fn expected(state: &Value) -> Option<Count> {
    if state.as_object()?.get("version").is_none() {
        return of_python(state.as_object()?);
    }
    let is_known = state["version"].as_u64() == Some(1) && state["time_zone"].is_string();
    let (date, newest) = day_count(state).filter(|_| is_known)?;
    let left = match &state["days_left"] {
        Value::Null if state.get("days_left").is_none() => Vec::new(),
        Value::Array(days) => days.iter().map(day_count).collect::<Option<Vec<_>>>()?,
        _ => return None,
    };
    let mut days = std::iter::once((date.clone(), newest)).chain(left);
    let today = days.find(|(date, _)| date == TODAY).map(|(_, count)| count);
    Some(Count { date, today, is_python: false })
}

/// One day under its date, or days by their dates: nothing else is a file of the Python original.
fn of_python(fields: &Map<String, Value>) -> Option<Count> {
    let is_date = |name: &str| canonical(name).is_some_and(|date| date == name);
    let days: BTreeMap<String, [u64; 3]> = if fields.keys().any(|name| is_date(name)) {
        let count = |value: &Value| match whole(value) {
            Some(tokens) => Some([tokens, 0, 0]),
            None => python_count(value.as_object()?),
        };
        let day = |(name, value): (&String, &Value)| Some((name.clone(), count(value)?));
        fields.iter().map(|field| day(field).filter(|(name, _)| is_date(name))).collect::<Option<_>>()?
    } else {
        let named: Vec<&Value> = ["date", "day"].iter().filter_map(|name| fields.get(*name)).collect();
        let date = named.first()?.as_str().filter(|date| is_date(date))?;
        let is_one = named.iter().all(|other| other.as_str() == Some(date));
        BTreeMap::from([(date.to_owned(), python_count(fields).filter(|_| is_one)?)])
    };
    let (newest, _) = days.last_key_value()?;
    Some(Count { date: newest.clone(), today: days.get(TODAY).copied(), is_python: true })
}

/// Each of the three counts may have several names, which must not contradict each other.
fn python_count(fields: &Map<String, Value>) -> Option<[u64; 3]> {
    let of = |names: &str| {
        let found: Vec<_> = names.split(' ').filter_map(|name| fields.get(name)).map(whole).collect();
        let is_one = found.iter().all(|count| count.is_some() && *count == found[0]);
        is_one.then(|| found.first().copied().flatten())
    };
    let total = of("tokens total_tokens tokens_used used_tokens daily_tokens used total")?;
    let prompt = of("prompt_tokens input_tokens prompt input")?;
    let generated = of("completion_tokens output_tokens generated_tokens completion output generated")?;
    match (prompt, generated) {
        (None, None) => Some([total?, 0, 0]),
        (Some(prompt), Some(generated)) => {
            total.is_none_or(|total| total == prompt + generated).then_some([prompt, generated, 0])
        }
        _ => None,
    }
}

/// A number from zero to a million million that is whole, however it is written.
fn whole(value: &Value) -> Option<u64> {
    let largest = 1_000_000_000_000;
    let written = value.as_number()?.to_string();
    let is_whole = value.as_f64().is_some_and(|number| number.fract() == 0.0 && number.is_sign_positive());
    let (digits, exponent) = written.split_once(['e', 'E']).unwrap_or((&written, "0"));
    let (before, after) = digits.split_once('.').unwrap_or((digits, ""));
    let shift: usize = exponent.trim_start_matches('+').parse().ok().filter(|shift| *shift < 400)?;
    // The point is moved to the right by the exponent; what is behind it then is zeros.
    let (whole_part, rest) = after.split_at(shift.min(after.len()));
    let zeros = "0".repeat(shift - whole_part.len());
    let number = format!("{before}{whole_part}{zeros}");
    let is_zeros = rest.chars().all(|digit| digit == '0');
    number.parse().ok().filter(|tokens| is_whole && is_zeros && *tokens <= largest)
}

fn day_count(state: &Value) -> Option<(String, [u64; 3])> {
    let date = canonical(state["date"].as_str()?)?;
    let warned = u64::from(state["warned"].as_bool()?);
    Some((date, [state["prompt_tokens"].as_u64()?, state["generated_tokens"].as_u64()?, warned]))
}

/// A date of the calendar, as it is printed.
fn canonical(text: &str) -> Option<String> {
    let parts: Vec<u32> = text.splitn(3, '-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [year, month, day] = parts[..] else { return None };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    ((1..=days).contains(&day) && year < 10_000).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

/// What is saved is taken up as it was, and saved again to the byte.
fn check_saved(mut ledger: Ledger, budgets: &Budgets, config: &Config, now: Now) {
    ledger.mark_unsaved();
    let saved = state::snapshot(&mut ledger, budgets, now).expect("it is not saved");
    let (mut again, mut budgets) = (Ledger::new(config, now.wall), Budgets::new(config));
    assert_eq!(state::restore(&saved, &mut again, &mut budgets, now), Restored::Continued);
    assert!(!again.is_unsaved());
    assert_eq!(
        (again.prompt_tokens(), again.generated_tokens(), again.has_warned()),
        (ledger.prompt_tokens(), ledger.generated_tokens(), ledger.has_warned())
    );
    again.mark_unsaved();
    assert_eq!(state::snapshot(&mut again, &budgets, now), Some(saved));
    assert_eq!(ledger.is_spent(), ledger.limit().is_some_and(|limit| ledger.used() >= limit));
    assert_eq!(ledger.remaining(), ledger.limit().map(|limit| limit.saturating_sub(ledger.used())));
}

/// Whatever was said to have been learned, a first request starts, and costs what a request can cost.
fn check_learned(budgets: &mut Budgets, now: Now) {
    let kept = budgets.knowledge(now);
    assert!(kept.len() <= MODELS_MAX);
    let size = ContentSize { text: TextSize { ascii: 1_000, ..TextSize::default() }, attachments: 1 };
    let asked = Asked { size, ..Asked::default() };
    for knowledge in kept {
        let lane = budgets.find_or_add_lane(1, &knowledge.model, now.mono, |_| false);
        let room =
            budgets.try_reserve(Some(lane), &asked, now.mono).expect("it is the first one of its lane");
        let held = room.held();
        assert!(held.prompt <= 5 * (286 + 1_600) && held.generated <= GENERATED_MAX, "{held:?}");
        budgets.refund(room, now.mono);
        let (_, lane) = budgets.lanes_mut().find(|(id, _)| *id == lane).expect("it was just made");
        for (balance, dimension) in lane.balances(now.mono).into_iter().zip(Dimension::ALL) {
            assert!(balance.margin > 0.0 && balance.margin <= 1.0 && balance.effective > 0, "{dimension:?}");
            assert!(balance.learned.is_none_or(|limit| limit <= LIMIT_MAX), "{dimension:?}");
        }
    }
}
