//! The rules of the house, read from the sources: which room may know which, how long a file and a
//! function may be, and that the core touches no clock, thread, socket or file.
#![allow(clippy::disallowed_methods)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const FILE_CODE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 50;
/// The rules of HTTP, with their unit tests: an hour's reading.
const HTTP_CODE_LINES_MAX: usize = 1_000;
/// The shell's part of the whole: what is in it cannot be tested under virtual time.
const SHELL_PERCENT_MAX: usize = 20;

/// Who may use whom, room by room. `config`, `time` and `calendar` are known to all but each other's
/// betters; see [`LEAVES`].
const EDGES: [(&str, &[&str]); 30] = [
    ("main", &["cli", "net", "proxy"]),
    ("cli", &[]),
    ("net", &["proxy", "connect", "event", "failure", "journal", "outage", "state"]),
    ("connect", &["failure", "http", "retry"]),
    ("proxy", &["session", "context", "event", "http", "journal", "memory", "route", "state", "status"]),
    (
        "session",
        &[
            "access",
            "admission",
            "budget",
            "context",
            "event",
            "failure",
            "http",
            "inspect",
            "memory",
            "outbox",
            "queue",
            "rejection",
            "relay",
            "retry",
            "route",
            "status",
        ],
    ),
    (
        "context",
        &[
            "admission",
            "event",
            "history",
            "journal",
            "ledger",
            "memory",
            "outage",
            "queue",
            "retry",
            "state",
            "stats",
        ],
    ),
    ("history", &["budget", "failure", "stats"]),
    ("memory", &["event"]),
    (
        "status",
        &[
            "admission",
            "budget",
            "context",
            "event",
            "failure",
            "history",
            "http",
            "journal",
            "ledger",
            "route",
            "stats",
        ],
    ),
    ("admission", &["budget", "queue"]),
    ("relay", &["http", "outbox", "usage"]),
    ("access", &["http"]),
    ("rejection", &["access", "budget", "failure", "http", "route"]),
    ("retry", &["failure", "http"]),
    ("inspect", &["http", "json"]),
    ("usage", &["json"]),
    ("event", &["failure", "journal"]),
    ("journal", &[]),
    ("route", &[]),
    ("http", &[]),
    ("json", &[]),
    ("budget", &["inspect"]),
    ("queue", &[]),
    ("outbox", &[]),
    ("state", &["budget", "inspect", "ledger"]),
    ("ledger", &[]),
    ("stats", &["budget", "failure"]),
    ("failure", &[]),
    ("outage", &[]),
];

/// The rooms that every room may know, and what they know themselves.
const LEAVES: [(&str, &[&str]); 3] = [("config", &[]), ("time", &[]), ("calendar", &["time"])];

/// What the core must not name, in code. `clippy.toml` bans the calls by their resolved names; this
/// catches imports that are not called yet, and anything under another name.
const IMPURE: [&str; 9] = [
    "Instant",
    "SystemTime",
    "std::thread",
    "std::fs",
    "std::env::",
    "std::process",
    "TcpStream",
    "TcpListener",
    "RandomState",
];

struct Source {
    path: PathBuf,
    room: String,
    /// The file without its tests.
    code: String,
    /// Its tests.
    tests: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "the sources are found");
    files.sort();
    let source = |path: PathBuf| {
        let relative = path.strip_prefix(&root).expect("below src").to_owned();
        let first = relative.components().next().expect("a name").as_os_str().to_string_lossy();
        let name = first.replace(".rs", "");
        let text = fs::read_to_string(&path).expect("UTF-8");
        // Tests come last in every file.
        let (code, tests) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
        Source { room: name, path: relative, code: code.to_owned(), tests: tests.to_owned() }
    };
    files.into_iter().map(source).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The lines that hold code: neither blank nor comment.
fn code_lines(code: &str) -> Vec<&str> {
    code.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//")).collect()
}

/// The rooms that a file names through `crate::` paths, in `use` lines and elsewhere.
fn rooms_used(code: &str) -> BTreeSet<String> {
    let code = code_lines(code).join("\n");
    let mut used = BTreeSet::new();
    for own_name in ["crate::", "fireworks_proxy::"] {
        for (at, _) in code.match_indices(own_name) {
            let rest = &code[at + own_name.len()..];
            match rest.strip_prefix('{') {
                Some(group) => used.extend(group_heads(group)),
                None => used.extend(identifier(rest)),
            }
        }
    }
    used
}

/// The first identifiers of the items of a use group, whose opening brace has been taken off.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut at_start) = (0, Vec::new(), true);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            _ if depth == 0 && at_start && !character.is_whitespace() => {
                heads.extend(identifier(&group[at..]));
                at_start = false;
            }
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> Option<String> {
    let end =
        text.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(text.len());
    Some(text[..end].to_owned()).filter(|name| !name.is_empty())
}

/// The name and length of each function, from its `fn` line to its closing brace, as rustfmt indents.
fn functions(code: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some(name) = line.trim_start().split("fn ").nth(1).filter(|_| is_function(line)) else {
            continue;
        };
        let closing = format!("{}}}", " ".repeat(indent));
        if line.ends_with('}') || line.ends_with(';') {
            found.push((identifier(name).unwrap_or_default(), 1));
        } else if let Some(length) = lines[start..].iter().position(|line| *line == closing) {
            found.push((identifier(name).unwrap_or_default(), length + 1));
        }
    }
    found
}

fn is_function(line: &str) -> bool {
    let words: Vec<&str> = line.trim_start().split("fn ").next().unwrap_or("").split_whitespace().collect();
    words.iter().all(|word| word.starts_with("pub") || matches!(*word, "const" | "async" | "unsafe"))
}

#[test]
fn rooms_know_only_whom_they_may_know() {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.into_iter().chain(LEAVES).collect();
    let leaves: BTreeSet<&str> = LEAVES.iter().map(|(room, _)| *room).collect();
    for source in sources().iter().filter(|source| source.room != "lib") {
        let known = allowed.get(source.room.as_str());
        let known =
            known.unwrap_or_else(|| panic!("{}: a room that EDGES does not list", source.path.display()));
        for used in rooms_used(&source.code) {
            let is_leaf = leaves.contains(used.as_str()) && !leaves.contains(source.room.as_str());
            let is_allowed = used == source.room || is_leaf || known.contains(&used.as_str());
            assert!(is_allowed, "{} must not use `{used}`", source.path.display());
        }
    }
}

#[test]
fn every_listed_edge_is_used() {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        used.entry(source.room).or_default().extend(rooms_used(&source.code));
    }
    for (room, known) in EDGES.into_iter().chain(LEAVES) {
        let really = used.get(room).unwrap_or_else(|| panic!("EDGES lists `{room}`, which is no room"));
        for other in known {
            assert!(really.contains(*other), "EDGES lets `{room}` use `{other}`, and it does not");
        }
    }
}

#[test]
fn the_core_touches_no_clock_thread_socket_or_file() {
    for source in sources().iter().filter(|source| source.room != "net" && source.room != "main") {
        for line in code_lines(&source.code) {
            for name in IMPURE {
                assert!(!line.contains(name), "{}: {}", source.path.display(), line.trim());
            }
        }
    }
}

#[test]
fn files_and_functions_stay_short() {
    let mut all = Vec::new();
    for source in sources() {
        let lines = code_lines(&source.code).len();
        assert!(lines <= FILE_CODE_LINES_MAX, "{} has {lines} lines of code", source.path.display());
        all.push((lines, source));
    }
    let mut longest = Vec::new();
    for (_, source) in &all {
        for (name, length) in functions(&source.code) {
            let place = format!("{}: {name}", source.path.display());
            assert!(length <= FUNCTION_LINES_MAX, "{place} has {length} lines");
            longest.push((length, place));
        }
    }
    report(&mut all, &mut longest);
    let total: usize = all.iter().map(|(lines, _)| lines).sum();
    let shell: usize = all.iter().filter(|(_, source)| source.room == "net").map(|(lines, _)| lines).sum();
    assert!(shell * 100 <= total * SHELL_PERCENT_MAX, "the shell has {shell} of {total} lines of code");
}

#[test]
fn the_rules_of_http_can_be_read_in_an_hour() {
    let sources = sources();
    let http: Vec<_> = sources.iter().filter(|source| source.room == "http").collect();
    let lines: usize =
        http.iter().map(|source| code_lines(&source.code).len() + code_lines(&source.tests).len()).sum();
    println!("{lines} lines of code in http");
    assert!(lines < HTTP_CODE_LINES_MAX, "{lines} lines of code in http");
    for source in http {
        let place = source.path.display();
        assert!(source.code.contains("RFC 9"), "{place} names no section that its rules are from");
        for name in dependencies().iter().filter(|name| *name != "httparse") {
            let uses = |line: &&&str| line.contains(&format!("{name}::"));
            let code = code_lines(&source.code);
            assert_eq!(code.iter().find(uses), None, "{place} needs more than httparse");
        }
    }
}

/// What the program depends on, as code names it.
fn dependencies() -> Vec<String> {
    let manifest = include_str!("../Cargo.toml");
    let (_, list) = manifest.split_once("\n[dependencies]\n").expect("a list of dependencies");
    let lines = list.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.replace('-', "_"));
    let names: Vec<String> = names.collect();
    assert!(names.len() > 5, "the dependencies are found: {names:?}");
    names
}

/// Prints the figures of the house; `cargo test --test house -- --nocapture` shows them.
fn report(files: &mut [(usize, Source)], functions: &mut [(usize, String)]) {
    files.sort_by_key(|(lines, _)| std::cmp::Reverse(*lines));
    for (lines, source) in files.iter() {
        println!("{lines:>5}  {}", source.path.display());
    }
    functions.sort();
    println!(
        "{} functions, the median has {} lines; the longest:",
        functions.len(),
        functions[functions.len() / 2].0
    );
    for (length, place) in functions.iter().rev().take(5) {
        println!("{length:>5}  {place}");
    }
}

#[test]
fn no_unwrap_and_no_loose_end_is_left_in_the_sources() {
    for source in sources() {
        for word in [".unwrap()", "todo!(", "unimplemented!(", "dbg!(", "FIXME", "XXX"] {
            assert!(!source.code.contains(word), "{} holds {word}", source.path.display());
        }
    }
}

#[test]
fn the_readers_of_this_test_read_what_they_should() {
    let code = "use crate::{\n    a::{b, c},\n    d,\n};\nuse crate::e::F;\n// crate::comment\nfn x() { crate::g::y() }\n";
    assert_eq!(rooms_used(code).into_iter().collect::<Vec<_>>(), ["a", "d", "e", "g"]);
    let code = "impl A {\n    pub(super) fn long(\n        a: u8,\n    ) -> u8 {\n        a\n    }\n    const fn one() {}\n}\n";
    assert_eq!(functions(code), [("long".to_owned(), 5), ("one".to_owned(), 1)]);
    assert!(!is_function("    let f: fn (u8) = g;"));
}
