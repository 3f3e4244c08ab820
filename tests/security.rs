//! SECURITY.md against the sources: every bound in its table is the constant or the setting that it names.
#![allow(clippy::disallowed_methods)]

use std::{fs, path::Path};

use fireworks_proxy::config::SETTINGS;

const SECURITY: &str = include_str!("../SECURITY.md");

/// One row of the table of bounds.
struct Bound {
    /// The number as it is written, with its unit.
    written: &'static str,
    /// A setting, or a file and a constant in it.
    place: Vec<&'static str>,
}

/// The rows of the table of bounds.
fn bounds() -> Vec<Bound> {
    let start = SECURITY.find("\n## Bounds\n").expect("a section on bounds");
    let rows = SECURITY[start..].lines().skip_while(|line| !line.starts_with("|---"));
    let rows = rows.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{row}");
        Bound {
            written: cells[1],
            place: cells[2].split('`').filter(|part| !part.trim().is_empty()).collect(),
        }
    })
    .collect()
}

/// `64 KiB`, `64 * 1024`, `16_384` and `OTHER_MAX + 1` as numbers, with constants of a file.
fn value(file: &str, text: &str) -> u64 {
    let text = text.replace(" KiB", " * 1024");
    let factor = |factor: &str| match factor.trim() {
        name if name.starts_with(char::is_alphabetic) => value(file, &constant(file, name)),
        number => number.replace('_', "").parse().unwrap_or_else(|error| panic!("{text}: {error}")),
    };
    text.split('+').map(|product| product.split('*').map(factor).product::<u64>()).sum()
}

/// What a constant is set to, as it is written in a file.
fn constant(file: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let code = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let start = code.find(&format!("const {name}: ")).unwrap_or_else(|| panic!("{file} has no {name}"));
    let line = code[start..].lines().next().expect("a line");
    let (_, set_to) = line.split_once(" = ").expect("a constant");
    set_to.trim_end_matches(';').to_owned()
}

#[test]
fn every_bound_in_the_table_is_the_one_that_holds() {
    let bounds = bounds();
    assert!(bounds.len() >= 15, "the table is found");
    for Bound { written, place } in bounds {
        match place[..] {
            [setting] => {
                assert_eq!(written, "setting");
                assert!(SETTINGS.iter().any(|other| other.name == setting), "{setting}");
            }
            [file, name] => {
                assert_eq!(value(file, written), value(file, &constant(file, name)), "{file} {name}");
            }
            _ => panic!("{place:?} is neither a setting nor a constant in a file"),
        }
    }
}

#[test]
fn every_test_that_it_names_is_there() {
    let named = SECURITY.split('`').filter(|name| name.starts_with("tests/"));
    let missing: Vec<&str> =
        named.filter(|name| !Path::new(env!("CARGO_MANIFEST_DIR")).join(name).exists()).collect();
    assert_eq!(missing, Vec::<&str>::new());
}
