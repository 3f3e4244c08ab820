//! The state file: the counts of the [`ledger`](crate::ledger), and beside them what the
//! [`budget`](crate::budget)s have learned. What it holds and how it is read is decided here; the shell keeps it.
//!
//! The two parts are worth different care. A count that cannot be read in full is none, and the operator hears of it.
//! What was learned is a help and no more: whatever of it cannot be used is passed over, and never costs the count.
//!
//! A file without a version is not ours. It may be that of the proxy's predecessor, a Python program ([`python`]).

mod python;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    budget::{
        Budgets,
        knowledge::{Knowledge, MODELS_MAX},
    },
    config::Config,
    inspect::NAME_CHARS_MAX,
    ledger::{Days, Ledger, NAMES_MAX, Named, Names, Spenders},
    time::{Now, Wall},
};

/// The version of the file's form.
const VERSION: u32 = 1;

/// What became of a state file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// Its count goes on.
    Continued,
    /// It is of the Python original; its count goes on, in a file of our own.
    TakenOver,
    /// It is of another day, named here; the count starts at zero.
    OtherDay(String),
    /// It cannot be read, for the reason given; the count starts at zero.
    Damaged(String),
}

/// The file as it is written.
#[derive(Serialize)]
struct Written {
    version: u32,
    #[serde(flatten)]
    days: Days,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_model: Vec<Named>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_session: Vec<Named>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learned: Vec<Knowledge>,
}

/// What tells the form of a file.
#[derive(Deserialize)]
struct Form {
    version: Option<u32>,
}

/// The counts of a file, and who has written it.
struct Kept {
    days: Days,
    is_python: bool,
}

impl Kept {
    /// Goes on with the count of this day, if it is among them.
    fn take_up(self, ledger: &mut Ledger) -> Restored {
        let date = self.days.date();
        match (ledger.restore(self.days), self.is_python) {
            (true, false) => Restored::Continued,
            (true, true) => {
                ledger.mark_unsaved();
                Restored::TakenOver
            }
            (false, _) => Restored::OtherDay(date),
        }
    }
}

/// The file as all else is read from it. The counts are read by themselves, so that nothing here harms them.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Beside {
    by_model: Value,
    by_session: Value,
    learned: Value,
}

/// Takes up what a state file holds: the count of this day goes on, if there is one, and so does what was learned.
pub fn restore(file: &[u8], ledger: &mut Ledger, budgets: &mut Budgets, now: Now) -> Restored {
    let mut kept = match kept(file) {
        Ok(kept) => kept,
        Err(why) => return Restored::Damaged(why),
    };
    if !kept.is_python {
        let Beside { by_model, by_session, learned } = serde_json::from_slice(file).unwrap_or_default();
        kept.days.spenders = Spenders { models: names(by_model), sessions: names(by_session) };
        budgets.take_in(usable(learned, MODELS_MAX).collect(), now);
    }
    kept.take_up(ledger)
}

/// What a start would make of a file, and the tokens that its day would begin with. For who looks and takes nothing up.
pub fn preview(file: &[u8], config: &Config, now: Wall) -> (Restored, u64) {
    let mut ledger = Ledger::new(config, now);
    match kept(file) {
        Ok(kept) => (kept.take_up(&mut ledger), ledger.used()),
        Err(why) => (Restored::Damaged(why), 0),
    }
}

/// The counts, or why they cannot be read.
fn kept(file: &[u8]) -> Result<Kept, String> {
    // An array would be read as the fields in their order, and told of in those terms.
    if file.trim_ascii_start().first() != Some(&b'{') {
        return Err("it does not begin with { in UTF-8 without a byte order mark".to_owned());
    }
    let Form { version } = serde_json::from_slice(file).map_err(|error| error.to_string())?;
    match version {
        Some(VERSION) => {
            let days = serde_json::from_slice(file).map_err(|error| error.to_string())?;
            Ok(Kept { days, is_python: false })
        }
        Some(version) => Err(format!("its version is {version}, not {VERSION}")),
        None => {
            let why = |why| format!("it has no version, and as a file of the Python original {why}");
            Ok(Kept { days: python::days(file).map_err(why)?, is_python: true })
        }
    }
}

/// Who has spent the day's tokens, as far as it can be read.
fn names(kept: Value) -> Names {
    let is_short = |named: &Named| named.name.chars().nth(NAME_CHARS_MAX).is_none();
    Names::restored(usable(kept, NAMES_MAX).filter(is_short))
}

/// The entries of a list that can be read, of so many at most.
fn usable<T: DeserializeOwned>(list: Value, entries_max: usize) -> impl Iterator<Item = T> {
    let entries = if let Value::Array(entries) = list { entries } else { Vec::new() };
    entries.into_iter().take(entries_max).filter_map(|entry| serde_json::from_value(entry).ok())
}

/// The content for the state file, if the count in it is out of date; then it counts as saved.
pub fn snapshot(ledger: &mut Ledger, budgets: &Budgets, now: Now) -> Option<Vec<u8>> {
    let days = ledger.snapshot()?;
    let Spenders { models, sessions } = &days.spenders;
    let (by_model, by_session) = (models.largest_first(), sessions.largest_first());
    let written = Written { version: VERSION, days, by_model, by_session, learned: budgets.knowledge(now) };
    let mut file = serde_json::to_vec(&written).expect("plain fields have a JSON form");
    file.push(b'\n');
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{calendar::tests::utc, time::Mono};

    fn config() -> Config {
        let timezone = time_tz::timezones::get_by_name("UTC").expect("a zone");
        Config { timezone, ..Config::defaults() }
    }

    /// Noon of a day in May.
    fn noon(day: u8) -> Now {
        Now { mono: Mono::ZERO, wall: utc(2026, 5, day, 12, 0) }
    }

    fn restored(file: &[u8], now: Now) -> (Restored, Ledger, Budgets) {
        let (mut ledger, mut budgets) = (Ledger::new(&config(), now.wall), Budgets::new(&config()));
        let restored = restore(file, &mut ledger, &mut budgets, now);
        (restored, ledger, budgets)
    }

    fn saved(prompt_tokens: u64, now: Now) -> String {
        let mut ledger = Ledger::new(&config(), now.wall);
        ledger.count(prompt_tokens, 0, now.wall);
        let file = snapshot(&mut ledger, &Budgets::new(&config()), now).expect("there is news");
        assert!(snapshot(&mut ledger, &Budgets::new(&config()), now).is_none(), "it is saved");
        String::from_utf8(file).expect("JSON")
    }

    #[test]
    fn a_file_of_another_day_or_none_of_ours_is_told_apart() {
        let file = saved(0, noon(19));
        assert_eq!(restored(file.as_bytes(), noon(20)).0, Restored::OtherDay("2026-05-19".to_owned()));
        for damaged in [
            "",
            "{",
            "[]",
            "{}",
            &file[..file.len() / 2],
            &file.replace(":1,", ":2,"),
            &file.replace("2026-05-19", "yesterday"),
            &file.replace("2026-05-19", "2026-02-30"),
            &file.replace("\"prompt_tokens\":0", "\"prompt_tokens\":-1"),
        ] {
            let (restored, ledger, _) = restored(damaged.as_bytes(), noon(19));
            assert!(matches!(restored, Restored::Damaged(_)), "{damaged}");
            assert_eq!(ledger.used(), 0);
        }
    }

    #[test]
    fn what_is_no_object_in_utf_8_is_told_of_in_plain_words() {
        let object = r#"{"date": "2026-05-19", "tokens": 7}"#;
        let as_utf_16: Vec<u8> =
            format!("\u{feff}{object}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let with_mark = format!("\u{feff}{object}").into_bytes();
        let array = format!("[{object}]").into_bytes();
        for file in [as_utf_16, with_mark, array, b"[1]".to_vec(), vec![0; 40], Vec::new()] {
            let why = "it does not begin with { in UTF-8 without a byte order mark".to_owned();
            assert_eq!(restored(&file, noon(19)).0, Restored::Damaged(why), "{}", file.escape_ascii());
        }
        assert_eq!(restored(format!("\r\n\t {object}\r\n").as_bytes(), noon(19)).0, Restored::TakenOver);
    }

    #[test]
    fn the_count_of_the_python_original_goes_on_in_a_file_of_ours() {
        let file = br#"{"2026-05-18": 3, "2026-05-19": {"prompt_tokens": 40, "completion_tokens": 2}}"#;
        let (restored, mut ledger, budgets) = restored(file, noon(19));
        assert_eq!((restored, ledger.used(), ledger.prompt_tokens()), (Restored::TakenOver, 42, 40));
        let ours = snapshot(&mut ledger, &budgets, noon(19)).expect("it is not saved in our form");
        assert_eq!(self::restored(&ours, noon(19)).0, Restored::Continued);
        assert_eq!(self::restored(&ours, noon(18)).1.used(), 3, "the day before is kept too");
        assert_eq!(self::restored(file, noon(20)).0, Restored::OtherDay("2026-05-19".to_owned()));
    }

    #[test]
    fn a_preview_is_what_a_start_would_make_of_it() {
        let (file, python) = (saved(7, noon(19)), r#"{"date": "2026-05-19", "tokens": 7}"#);
        for (file, now) in
            [(&*file, noon(19)), (&*file, noon(20)), ("{", noon(19)), (python, noon(19)), (python, noon(20))]
        {
            let (restored, ledger, _) = restored(file.as_bytes(), now);
            assert_eq!(preview(file.as_bytes(), &config(), now.wall), (restored, ledger.used()));
        }
    }

    #[test]
    fn whatever_stands_under_learned_the_count_goes_on() {
        let file = saved(7, noon(19));
        assert!(!file.contains("learned") && file.len() < 150, "as it was before anything was kept: {file}");
        let deep = format!("{}{}", "[".repeat(9_000), "]".repeat(9_000));
        for learned in ["null", "7", "{}", "[]", "[7,null,{}]", "[1e999]", "[{\"model\":1e999}]", &deep] {
            let file = file.replace('}', &format!(",\"learned\":{learned}}}"));
            let (restored, ledger, budgets) = restored(file.as_bytes(), noon(19));
            assert_eq!((restored, ledger.used()), (Restored::Continued, 7));
            assert_eq!(budgets.knowledge(noon(19)), []);
        }
    }
}
