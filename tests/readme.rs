//! README and manual against the program: its commands, its settings, its pages, its errors.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

#[path = "readme/snippets.rs"]
mod snippets;

use std::{collections::BTreeSet, iter::successors, time::Duration};

use fireworks_proxy::{
    access::Denial,
    budget::WaitsFor,
    cli::{self, Client, Command, Shell},
    config::{Config, SETTINGS},
    failure::{Failure, FailureClass},
    http::HttpError,
    rejection::Rejection,
    route::Page,
    state::{self, Restored},
    time::Wall,
};
use support::{fake::FakeFireworks, proxy::ProxyUnderTest};

const README: &str = include_str!("../README.md");
const MANUAL: &str = include_str!("../MANUAL.md");
const CLIENTS: &str = include_str!("../CLIENTS.md");
const PAGES: &str = include_str!("../PAGES.md");

/// What stands in a table's cell where the program has nothing.
const NONE: &str = "–";

/// The part under a heading of the second level, up to the next one.
#[track_caller]
fn section(document: &'static str, heading: &str) -> &'static str {
    let start =
        document.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading:?}"));
    let text = &document[start + 1..];
    text.find("\n## ").map_or(text, |end| &text[..end])
}

/// The cells of every table row in `text`, without the spaces and back-ticks around each.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.map(|row| row.split(" | ").map(unquoted).collect())
}

/// A cell that is one name in back-ticks, without them; any other as it is.
fn unquoted(cell: &str) -> &str {
    let cell = cell.trim();
    let name = cell.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
    name.filter(|name| !name.contains('`')).unwrap_or(cell)
}

#[test]
fn the_commands_of_the_quick_start_are_there() {
    let lines: Vec<&str> = section(README, "Quick start").lines().collect();
    for command in ["cargo run --release", "cargo test", "cargo run --release --example demo"] {
        assert!(lines.contains(&command), "{command}");
    }
}

/// What is written after the program's name in code, in blocks and in lines, word by word.
fn command_lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let blocks = text.split("```").skip(1).step_by(2).flat_map(str::lines);
    let prose = text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2));
    let calls = blocks.chain(prose).filter_map(|code| {
        let (before, call) = code.split_once("fireworks-proxy")?;
        let is_call = before.is_empty() || before.ends_with("$(");
        (is_call && call.starts_with(' ')).then_some(call)
    });
    // Up to what is the shell's: a comment, a pipe, an end of a substitution.
    calls.filter_map(|call| call.split(['#', '|', ')']).next()).map(|call| call.split_whitespace().collect())
}

#[test]
fn the_commands_are_known_to_the_program_and_every_one_is_shown() {
    let mut shown = BTreeSet::new();
    for words in [README, MANUAL, CLIENTS].into_iter().flat_map(command_lines) {
        let invocation =
            cli::parse(words.iter().map(Into::into)).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        shown.insert(match invocation.command {
            Command::Run => "run",
            Command::Help => "help",
            Command::Version => "version",
            Command::Check => "check",
            Command::PrintConfig => "print-config",
            Command::Status { watch: false } => "status",
            Command::Status { watch: true } => "watch",
            Command::Env { .. } => "env",
        });
    }
    let all = ["check", "env", "help", "print-config", "status", "version", "watch"];
    assert_eq!(shown.into_iter().collect::<Vec<_>>(), all);
    let section = section(MANUAL, "Command line");
    for name in Client::ALL.map(Client::name).into_iter().chain(Shell::ALL.map(Shell::name)) {
        assert!(section.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn the_flags_that_the_prose_names_are_the_programs() {
    let commands = ["--help", "--version", "--check", "--print-config", "--watch", "--shell"];
    let mut seen = 0;
    for code in [section(MANUAL, "Settings"), section(MANUAL, "Command line")]
        .into_iter()
        .flat_map(|text| text.split('`'))
    {
        let Some(name) = code.split([' ', '=']).next().filter(|name| name.starts_with("--")) else {
            continue;
        };
        let is_setting = SETTINGS.iter().any(|setting| setting.flag() == name);
        assert!(is_setting || commands.contains(&name), "{name}");
        seen += 1;
    }
    assert!(seen > 5, "the prose names some");
}

/// Variable, default and meaning of each setting in the tables under a heading.
fn settings_in(text: &'static str) -> Vec<Vec<&'static str>> {
    rows(text).filter(|row| row[0].starts_with("FIREWORKS_PROXY_") && row.len() == 3).collect()
}

#[test]
fn the_table_of_settings_is_the_programs() {
    let default = |default: &'static str| if default.is_empty() { NONE } else { default };
    let real: Vec<Vec<&str>> = SETTINGS
        .iter()
        .map(|setting| vec![setting.name, default(setting.default), setting.meaning])
        .collect();
    assert_eq!(settings_in(section(MANUAL, "Settings")), real);
    let few = settings_in(section(README, "Settings"));
    assert!((3..8).contains(&few.len()), "the most used");
    for row in few {
        assert!(real.contains(&row), "{row:?}");
    }
}

#[test]
fn the_table_of_pages_is_the_programs() {
    let documented: Vec<&str> =
        rows(section(MANUAL, "Pages")).map(|row| row[0]).filter(|name| name.starts_with('/')).collect();
    let real: Vec<&str> = Page::ALL.iter().skip(1).map(|page| page.path()).collect();
    assert_eq!(documented, real);
}

#[test]
fn every_class_of_failure_is_a_documented_code_in_the_sample_too() {
    let proxy = ProxyUnderTest::start(&FakeFireworks::start_default(), &[]);
    let usage = proxy.usage();
    for rejection in rejections() {
        let count = &usage["failures"][rejection.reach().name()][rejection.code()];
        assert_eq!(count, 0, "{} is not shown", rejection.code());
    }
    let sides = usage["failures"].as_object().expect("sides").values();
    let classes = sides.flat_map(|side| side.as_object().expect("classes").keys());
    let codes: BTreeSet<&str> =
        rows(section(MANUAL, "Errors")).filter_map(|row| row.get(1).copied()).collect();
    for class in classes {
        assert!(
            codes.contains(class.as_str()) || ["client_gone", "stopped"].contains(&class.as_str()),
            "{class}"
        );
        assert!(PAGES.contains(&format!("\"{class}\":")), "{class} in the sample");
    }
}

#[test]
fn every_error_stands_in_the_table_with_its_status() {
    let documented: BTreeSet<(&str, &str)> = rows(section(MANUAL, "Errors"))
        .filter(|row| row[0] == NONE || row[0].parse::<u16>().is_ok())
        .map(|row| (row[0], row[1]))
        .collect();
    let real: BTreeSet<(String, &str)> = rejections()
        .map(|rejection| (rejection.status().to_string(), rejection.code()))
        .chain(after_the_head().map(|class| (NONE.to_owned(), class.name())))
        .collect();
    assert_eq!(documented, real.iter().map(|(status, code)| (status.as_str(), *code)).collect());
}

/// Noon, in most of the world, of the day that the manual's examples are of.
const EXAMPLES_AT_UNIX_MILLIS: i64 = 1_779_364_800_000;

/// Whether a state file is taken over from the Python original with so many tokens.
#[track_caller]
fn assert_taken_over(file: &str, tokens: u64) {
    let restored =
        state::preview(file.as_bytes(), &Config::defaults(), Wall::from_unix_millis(EXAMPLES_AT_UNIX_MILLIS));
    assert_eq!(restored, (Restored::TakenOver, tokens), "{file}");
}

#[test]
fn a_file_of_the_python_original_is_read_as_documented() {
    let (_, part) = MANUAL.split_once("\n### The file of the Python original\n").expect("a part on it");
    let part = part.split("\n## ").next().expect("its end");
    let examples: Vec<&str> = part.lines().filter(|line| line.starts_with('{')).collect();
    assert!(examples.len() > 2);
    for file in examples {
        assert_taken_over(file, 722_859);
    }
    let names = |row: &str| -> Vec<&str> {
        let cell =
            rows(part).find(|cells| cells[0].starts_with(row)).unwrap_or_else(|| panic!("no row {row:?}"))[1];
        cell.split(", ").map(|name| name.trim_matches('`')).collect()
    };
    for day in names("the day") {
        for total in names("all tokens") {
            assert_taken_over(&format!(r#"{{"{day}": "2026-05-21", "{total}": 5}}"#), 5);
        }
    }
    for prompt in names("or the prompts") {
        for generated in names("and the answers") {
            assert_taken_over(&format!(r#"{{"date": "2026-05-21", "{prompt}": 5, "{generated}": 2}}"#), 7);
        }
    }
}

/// Every answer that the proxy gives in place of the upstream's.
fn rejections() -> impl Iterator<Item = Rejection> {
    let own = successors(Some(Rejection::BadRequest(HttpError::Malformed(""))), next_rejection);
    let upstream =
        |class| Rejection::Upstream { upstream: String::new(), failure: Failure::new(class, ""), tries: 1 };
    // An answer that breaks off while it is kept is told of with a status; one that stalls is not kept.
    own.chain(every_class().filter(|class| *class != FailureClass::IdleInStream).map(upstream))
}

/// Failures that come when the client has a status already: its connection is cut.
fn after_the_head() -> impl Iterator<Item = FailureClass> {
    [FailureClass::CutInStream, FailureClass::IdleInStream].into_iter()
}

/// One rejection after another but for the upstream's. A new one does not compile before it is here.
fn next_rejection(rejection: &Rejection) -> Option<Rejection> {
    Some(match rejection {
        Rejection::BadRequest(error) => match error {
            HttpError::Malformed(_) => Rejection::BadRequest(HttpError::HeadTooLarge),
            HttpError::HeadTooLarge => Rejection::BadRequest(HttpError::TargetTooLong),
            HttpError::TargetTooLong => Rejection::BadRequest(HttpError::BodyTooLarge),
            HttpError::BodyTooLarge => Rejection::BadRequest(HttpError::MethodNotServed),
            HttpError::MethodNotServed => Rejection::BadRequest(HttpError::UnsupportedVersion),
            HttpError::UnsupportedVersion => Rejection::BadRequest(HttpError::UnknownExpectation),
            HttpError::UnknownExpectation => Rejection::Denied(Denial::Misdirected(String::new())),
        },
        Rejection::Denied(denial) => match denial {
            Denial::Misdirected(_) => Rejection::Denied(Denial::CrossSite(String::new())),
            Denial::CrossSite(_) => Rejection::Denied(Denial::TokenMissing),
            Denial::TokenMissing => Rejection::Denied(Denial::TokenWrong),
            Denial::TokenWrong => Rejection::ClientTooSlow,
        },
        Rejection::ClientTooSlow => Rejection::PageMethod,
        Rejection::PageMethod => Rejection::QueueTimeout {
            waited: Duration::ZERO,
            waited_for: WaitsFor::Requests,
            is_hold_over: false,
            room_in: None,
        },
        Rejection::QueueTimeout { .. } => {
            Rejection::DailyLimit { used: 0, limit: 0, resets_at: String::new() }
        }
        Rejection::DailyLimit { .. } => Rejection::Draining,
        Rejection::Draining | Rejection::Upstream { .. } => return None,
    })
}

#[test]
fn the_list_of_all_classes_leaves_none_out() {
    assert!(every_class().all(|class| FailureClass::ALL.contains(&class)));
    assert_eq!(every_class().count(), FailureClass::ALL.len());
}

/// Every class of failure. A new one does not compile before it is here.
fn every_class() -> impl Iterator<Item = FailureClass> {
    successors(Some(FailureClass::Dns), |class| {
        Some(match class {
            FailureClass::Dns => FailureClass::ConnectRefused,
            FailureClass::ConnectRefused => FailureClass::ConnectTimeout,
            FailureClass::ConnectTimeout => FailureClass::ProxyDns,
            FailureClass::ProxyDns => FailureClass::ProxyUnreachable,
            FailureClass::ProxyUnreachable => FailureClass::ProxyTimeout,
            FailureClass::ProxyTimeout => FailureClass::ProxyAuth,
            FailureClass::ProxyAuth => FailureClass::ProxyDenied,
            FailureClass::ProxyDenied => FailureClass::ProxyFailed,
            FailureClass::ProxyFailed => FailureClass::TlsCertificate,
            FailureClass::TlsCertificate => FailureClass::TlsOther,
            FailureClass::TlsOther => FailureClass::WriteTimeout,
            FailureClass::WriteTimeout => FailureClass::ClosedBeforeHead,
            FailureClass::ClosedBeforeHead => FailureClass::BadHead,
            FailureClass::BadHead => FailureClass::HeadTimeout,
            FailureClass::HeadTimeout => FailureClass::CutInStream,
            FailureClass::CutInStream => FailureClass::IdleInStream,
            FailureClass::IdleInStream => return None,
        })
    })
}
