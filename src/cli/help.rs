//! `--help`, from the table of settings.

use std::fmt::Write as _;

use super::{PROGRAM, columns::wrapped, shell::Shell, snippet::Client};
use crate::config::{SETTINGS, Setting};

/// No line is longer.
pub const HELP_COLUMNS_MAX: usize = 100;

const INDENT: &str = "      ";

/// The settings in groups: what a group is about, and the variable that it begins with.
const GROUPS: [(&str, &str); 8] = [
    ("FIREWORKS_PROXY_RPS", "The rate of requests"),
    ("FIREWORKS_PROXY_PORT", "Where the proxy listens, and to whom"),
    ("FIREWORKS_PROXY_UPSTREAM", "Where requests go"),
    ("FIREWORKS_PROXY_MAX_WAIT", "How long things may take"),
    ("FIREWORKS_PROXY_MAX_BODY_MIB", "Memory"),
    ("FIREWORKS_PROXY_PROMPT_TPM_LIMIT", "Token limits, for each key and model"),
    ("FIREWORKS_PROXY_DAILY_TOKEN_LIMIT", "The day"),
    ("FIREWORKS_PROXY_LOG", "The log"),
];

/// What can be asked for, and every setting with its flag, variable, default and meaning.
pub fn help() -> String {
    let clients = Client::ALL.map(Client::name).join("|");
    let shells = Shell::ALL.map(Shell::name).join("|");
    let mut text = format!(
        "{PROGRAM} {version}: many AI coding agents share one Fireworks account without meeting its limits

Usage:
  {PROGRAM} [SETTINGS]                 run the proxy
  {PROGRAM} status [--watch]           show how the running proxy is
  {PROGRAM} env CLIENT [--shell NAME]  print the lines that point a client at the proxy
                                             CLIENT: {clients}
                                             NAME: {shells}; guessed if left out
  {PROGRAM} --check                    try configuration, files, port, network and certificate
  {PROGRAM} --print-config             print every setting, its value and where it came from
  {PROGRAM} --help, -h                 print this
  {PROGRAM} --version, -V              print the version

Examples:
  {PROGRAM} --port 9000 --max-wait 60
  {PROGRAM} status --watch --port 9000
  eval \"$({PROGRAM} env claude)\"

Settings are flags (--port 9000 or --port=9000) or environment variables. A flag beats the variable,
the later of two flags counts, and an empty value stands for the default, but for --upstream-proxy.
A value that begins with - needs the =. Flags go before or after the command; defaults are in
brackets.
",
        version = env!("CARGO_PKG_VERSION")
    );
    let flag_columns = SETTINGS.iter().map(|setting| setting.flag().len()).max().unwrap_or(0);
    for setting in &SETTINGS {
        if let Some((_, title)) = GROUPS.iter().find(|(first, _)| *first == setting.name) {
            write!(text, "\n{title}:\n").expect("a String takes every write");
        }
        text += &entry(setting, flag_columns);
    }
    text + "\nExit codes: 0 ended well, 1 something failed or was cut, 2 the arguments or settings mean nothing.\n"
}

fn entry(setting: &Setting, flag_columns: usize) -> String {
    let default = if setting.default.is_empty() { "none" } else { setting.default };
    let meaning = format!("[{default}] {}", setting.meaning.replace('`', ""));
    format!(
        "  {:flag_columns$}  {}\n{}",
        setting.flag(),
        setting.name,
        wrapped(&meaning, INDENT, HELP_COLUMNS_MAX)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_in_it_with_all_there_is_to_know() {
        let help = help();
        for setting in &SETTINGS {
            let heads: Vec<&str> = help
                .lines()
                .filter(|line| line.split_whitespace().eq([setting.flag().as_str(), setting.name]))
                .collect();
            assert_eq!(heads.len(), 1, "{}", setting.name);
            let (_, rest) = help.split_once(&format!("{}\n", heads[0])).expect("it is in it");
            let mut words = rest.split_whitespace();
            let default = if setting.default.is_empty() { "[none]" } else { setting.default };
            assert_eq!(
                words.next().map(|word| word.trim_matches(['[', ']'])),
                Some(default.trim_matches(['[', ']']))
            );
            let meaning = setting.meaning.replace('`', "");
            assert!(
                meaning.split_whitespace().eq(words.take(meaning.split_whitespace().count())),
                "{meaning}"
            );
        }
    }

    #[test]
    fn no_line_is_too_long_and_every_group_begins_somewhere() {
        let help = help();
        for line in help.lines() {
            assert!(line.chars().count() <= HELP_COLUMNS_MAX && line.is_ascii(), "{line}");
        }
        for (first, title) in GROUPS {
            assert!(SETTINGS.iter().any(|setting| setting.name == first), "{first}");
            assert!(help.contains(&format!("\n\n{title}:\n  --")), "{title}");
        }
    }
}
