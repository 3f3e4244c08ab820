//! The inputs of the fuzz targets, replayed through the same oracles: the seeds, what fuzzing has found worth
//! keeping, and every input that ever broke something. How they are made is in `fuzz/README.md`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "support/dice.rs"]
#[allow(dead_code, unreachable_pub, reason = "other tests draw in other ways")]
mod dice;
#[path = "../fuzz/oracles/mod.rs"]
mod oracles;

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use dice::Dice;
use oracles::Outcome;

/// What the names of seeds begin with that are refused. All others are accepted.
const REFUSED: &str = "refused-";

/// A corpus says something only if it has some breadth.
const SEEDS_MIN: usize = 8;

/// One test for each target, so that the runner names it.
macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        const TARGETS: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                replay(stringify!($name), oracles::$name);
            }
        )*
    };
}

targets![
    body_inspection,
    budgets,
    chunked_body,
    config,
    connect_answer,
    json_scanner,
    limit_headers,
    proxy,
    request_head,
    response_head,
    retry_after,
    state_file,
    timer_wheel,
    usage_json,
    usage_sse,
    wait_queue,
];

/// More than the corpus has, every time: the order of the queue has many rules, and each bears on the others.
#[test]
fn the_wait_queue_is_its_model_whatever_happens() {
    let mut dice = Dice::new(7, 0);
    for length in (1..=100).map(|run| run * 5) {
        let operations: Vec<u8> = (0..length).map(|_| dice.bits().to_le_bytes()[0]).collect();
        assert_eq!(oracles::wait_queue(&operations), Outcome::Accepted);
    }
}

/// The same for the budgets: what is expected and what is counted change places at many times.
#[test]
fn the_budgets_are_their_model_whatever_happens() {
    let mut dice = Dice::new(8, 0);
    for length in (1..=300).map(|run| run * 5) {
        let operations: Vec<u8> = (0..length).map(|_| dice.bits().to_le_bytes()[0]).collect();
        assert_eq!(oracles::budgets(&operations), Outcome::Accepted);
    }
}

fn replay(target: &str, oracle: fn(&[u8]) -> Outcome) {
    let seeds = files(&fuzz().join("corpus").join(target));
    assert!(seeds.len() >= SEEDS_MIN, "{target} has {} seeds", seeds.len());
    let mut wrong = Vec::new();
    for seed in seeds {
        let name = seed.file_name().expect("a file has a name").to_string_lossy();
        let expected = if name.starts_with(REFUSED) { Outcome::Refused } else { Outcome::Accepted };
        if judged(oracle, &seed) != Some(expected) {
            wrong.push(format!("{} is not {expected:?}", seed.display()));
        }
    }
    for crash in files(&fuzz().join("crashes").join(target)) {
        if judged(oracle, &crash).is_none() {
            wrong.push(crash.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What the oracle says of a file; `None` where that is a panic.
fn judged(oracle: fn(&[u8]) -> Outcome, file: &Path) -> Option<Outcome> {
    let input = fs::read(file).expect("a readable file");
    catch_unwind(AssertUnwindSafe(|| oracle(&input))).ok()
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The files of a folder; none where there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// The names in a folder, without their extension.
fn names(folder: &str) -> BTreeSet<String> {
    let stem = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    files(&fuzz().join(folder)).into_iter().map(stem).collect()
}

#[test]
fn every_target_is_built_replayed_and_has_a_corpus_and_nothing_else_has() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), targets, "fuzz_targets");
    assert_eq!(names("corpus"), targets, "corpus");
    assert!(names("crashes").is_subset(&targets), "crashes");
    assert!(names("dictionaries").is_subset(&targets), "dictionaries");
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("a manifest");
    let bins = manifest.split("[[bin]]").skip(1).filter_map(|bin| bin.split('"').nth(1));
    assert_eq!(bins.map(str::to_owned).collect::<BTreeSet<_>>(), targets, "Cargo.toml");
}

#[test]
fn a_seed_says_by_its_name_what_it_is() {
    for target in TARGETS {
        for seed in files(&fuzz().join("corpus").join(target)) {
            let name = seed.file_name().expect("a file has a name").to_string_lossy().into_owned();
            let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            let is_hash = name.len() == 40 && name.chars().all(|c| c.is_ascii_hexdigit());
            assert!(name.chars().all(is_plain) && !is_hash, "{}", seed.display());
        }
    }
}
