//! Arguments, and what they ask for.
//!
//! Every setting is a flag, with its value after `=` or as the next argument. Flags may stand before and
//! after the command. Of two alike the later one counts. What is not known is refused with the nearest
//! word that is, and only the part before `=` is quoted, since the rest may be a secret.

use std::{ffi::OsString, fmt};

use super::{Client, Shell, columns::clipped};
use crate::config::{PREFIX, SETTINGS, Setting, nearest, without_credentials};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Run the proxy.
    Run,
    /// Print what can be asked for.
    Help,
    /// Print the version.
    Version,
    /// Try everything that a start needs.
    Check,
    /// Print every setting and where it came from.
    PrintConfig,
    /// Ask the running proxy how it is.
    Status {
        /// Again and again.
        watch: bool,
    },
    /// Print the lines that point a client at the proxy.
    Env {
        /// Which one.
        client: Client,
        /// In whose language; `None` for the shell that is found.
        shell: Option<Shell>,
    },
}

/// A whole command line.
#[derive(Clone, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// The settings that were given as flags, in their order.
    pub flags: Vec<(&'static Setting, String)>,
}

impl fmt::Debug for Invocation {
    /// Values are left out: one may be a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.flags.iter().map(|(setting, _)| setting.flag()).collect();
        write!(formatter, "Invocation({:?}, {names:?})", self.command)
    }
}

/// Arguments that mean nothing. One line; the exit code is 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

fn refused<T>(why: String) -> Result<T, UsageError> {
    Err(UsageError(why))
}

/// What ends every error, for who wants more than the nearest word.
const SEE_HELP: &str = "see fireworks-proxy --help";

/// Words that stand alone: what they ask for, and how they are written.
const WORDS: [(&str, Word); 7] = [
    ("--help", Word::Help),
    ("--version", Word::Task(Task::Version)),
    ("--check", Word::Task(Task::Check)),
    ("--print-config", Word::Task(Task::PrintConfig)),
    ("--watch", Word::Watch),
    ("status", Word::Task(Task::Status)),
    ("env", Word::Task(Task::Env)),
];

/// As much of a word as an error quotes.
const QUOTED_COLUMNS_MAX: usize = 60;

/// The option of `env` that takes a value.
const SHELL_FLAG: &str = "--shell";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// Goes before everything else.
    Help,
    /// Goes with `status`.
    Watch,
    Task(Task),
}

/// What can be asked for one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Version,
    Check,
    PrintConfig,
    Status,
    Env,
}

/// What has been read so far.
#[derive(Default)]
struct Reading {
    /// The one thing to do, and the word that asked for it.
    task: Option<(Task, &'static str)>,
    wants_help: bool,
    watch: bool,
    client: Option<Client>,
    shell: Option<Shell>,
    flags: Vec<(&'static Setting, String)>,
}

/// Gives the arguments, without the program's own name, their meaning.
///
/// # Errors
/// The first argument that means nothing, with the nearest word that does.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, UsageError> {
    let mut arguments = arguments.into_iter();
    let mut reading = Reading::default();
    while let Some(argument) = arguments.next() {
        let argument = text(argument)?;
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument.as_str(), None),
        };
        if let Some(setting) = setting_of(name) {
            reading.flags.push((setting, value_of(name, inline, &mut arguments)?));
        } else if name == SHELL_FLAG {
            reading.shell = Some(shell(&value_of(name, inline, &mut arguments)?)?);
        } else {
            reading.take_word(name, inline)?;
        }
    }
    reading.invocation()
}

impl Reading {
    fn take_word(&mut self, name: &str, inline: Option<&str>) -> Result<(), UsageError> {
        let long = match name {
            "-h" => "--help",
            "-V" => "--version",
            other => other,
        };
        let Some((written, word)) = WORDS.into_iter().find(|(written, _)| *written == long) else {
            return self.take_client(name, inline);
        };
        if inline.is_some() {
            return refused(format!("{written} takes no value; {SEE_HELP}"));
        }
        match (word, self.task) {
            (Word::Help, _) => self.wants_help = true,
            (Word::Watch, _) => self.watch = true,
            (Word::Task(_), Some((_, other))) if other != written => {
                return refused(format!("{other} and {written} are two things; ask for one at a time"));
            }
            (Word::Task(task), _) => self.task = Some((task, written)),
        }
        Ok(())
    }

    /// A word that is none of ours is the client, where one is waited for.
    fn take_client(&mut self, name: &str, inline: Option<&str>) -> Result<(), UsageError> {
        let is_env = matches!(self.task, Some((Task::Env, _)));
        match (Client::named(name).filter(|_| inline.is_none()), self.client) {
            (Some(client), None) if is_env => self.client = Some(client),
            (Some(_), None) => {
                return refused(format!("{name} is a client: fireworks-proxy env {name}; {SEE_HELP}"));
            }
            (Some(_), Some(other)) => {
                return refused(format!(
                    "{} and {name} are two clients; ask for one at a time",
                    other.name()
                ));
            }
            (None, None) if is_env && inline.is_none() && !name.starts_with('-') => {
                let hint = did_you_mean(name, Client::ALL.map(Client::name));
                return refused(format!("the client {} is not known; {hint}", quoted(name)));
            }
            (None, _) => return refused(unknown(name)),
        }
        Ok(())
    }

    fn invocation(self) -> Result<Invocation, UsageError> {
        let command = match self.task {
            _ if self.wants_help => Command::Help,
            None => Command::Run,
            Some((task, _)) => match (task, self.client) {
                (Task::Version, _) => Command::Version,
                (Task::Check, _) => Command::Check,
                (Task::PrintConfig, _) => Command::PrintConfig,
                (Task::Status, _) => Command::Status { watch: self.watch },
                (Task::Env, Some(client)) => Command::Env { client, shell: self.shell },
                (Task::Env, None) => {
                    return refused(format!(
                        "env needs a client: {}; {SEE_HELP}",
                        Client::ALL.map(Client::name).join(", ")
                    ));
                }
            },
        };
        let is_status = matches!(command, Command::Status { .. } | Command::Help);
        let is_env = matches!(command, Command::Env { .. } | Command::Help);
        if self.watch && !is_status {
            return refused("--watch belongs to status: fireworks-proxy status --watch".to_owned());
        }
        if self.shell.is_some() && !is_env {
            return refused("--shell belongs to env: fireworks-proxy env claude --shell fish".to_owned());
        }
        Ok(Invocation { command, flags: self.flags })
    }
}

fn text(argument: OsString) -> Result<String, UsageError> {
    argument.into_string().or_else(|argument| {
        let argument = argument.to_string_lossy();
        // What follows the sign may be a secret.
        let shown = argument.split('=').next().unwrap_or_default();
        refused(format!("the argument that begins with {shown:?} is not text in UTF-8"))
    })
}

fn setting_of(flag: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.flag() == flag)
}

/// The value of a flag: behind its `=`, or else the next argument. That may not begin with `-`, so that a
/// forgotten value does not swallow the next flag.
fn value_of(
    flag: &str,
    inline: Option<&str>,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<String, UsageError> {
    if let Some(value) = inline {
        return Ok(value.to_owned());
    }
    let Some(value) = rest.next() else { return refused(format!("{flag} needs a value: {flag}=…")) };
    let value = text(value)?;
    if value.starts_with('-') {
        return refused(format!("{flag} needs a value; one that begins with - is written {flag}=-…"));
    }
    Ok(value)
}

fn shell(name: &str) -> Result<Shell, UsageError> {
    let known = Shell::ALL.map(Shell::name);
    Shell::named(name).ok_or_else(|| {
        UsageError(format!("the shell {} is not known; {}", quoted(name), did_you_mean(name, known)))
    })
}

/// A word as an error shows it: on one line, and no longer than that. It may be a URL whose flag was forgotten.
fn quoted(word: &str) -> String {
    format!("{:?}", clipped(&without_credentials(word), QUOTED_COLUMNS_MAX))
}

/// The error about a word that means nothing here.
fn unknown(name: &str) -> String {
    if let Some(setting) = variable_of(name) {
        let flag = setting.flag();
        return format!("{} is not known; the flag of the variable {} is {flag}", quoted(name), setting.name);
    }
    let words = WORDS.iter().map(|(word, _)| (*word).to_owned());
    let known = words.chain([SHELL_FLAG.to_owned()]).chain(SETTINGS.iter().map(Setting::flag));
    let nearest = nearest(name, known).unwrap_or_default();
    format!("{} is not known; did you mean {nearest}? Or {SEE_HELP}", quoted(name))
}

/// The setting whose variable was written as an argument, in whatever spelling.
fn variable_of(name: &str) -> Option<&'static Setting> {
    let bare = name.trim_start_matches('-').to_ascii_uppercase().replace('-', "_");
    let is_it = |setting: &&Setting| {
        setting.name == bare || (name.starts_with('-') && setting.name.strip_prefix(PREFIX) == Some(&bare))
    };
    SETTINGS.iter().find(is_it)
}

/// A hint among few words: the one that `name` begins like, or else the nearest, and all of them.
fn did_you_mean<const N: usize>(name: &str, known: [&'static str; N]) -> String {
    let begins_alike = known.iter().find(|word| name.starts_with(**word) || word.starts_with(name));
    let nearest = begins_alike.copied().filter(|_| !name.is_empty()).or_else(|| nearest(name, known));
    format!("did you mean {}? Known are {}", nearest.unwrap_or_default(), known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Invocation, UsageError> {
        parse(arguments.iter().map(OsString::from))
    }

    fn command(arguments: &[&str]) -> Command {
        read(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}")).command
    }

    fn error(arguments: &[&str]) -> String {
        let error = read(arguments).expect_err("it means nothing").to_string();
        assert!(!error.contains(char::is_control), "one line: {error:?}");
        error
    }

    #[test]
    fn each_command_is_asked_for_by_its_word() {
        assert_eq!(command(&[]), Command::Run);
        for help in
            [&["--help"][..], &["-h"], &["status", "--help"], &["-h", "env"], &["--port=1", "-h", "--check"]]
        {
            assert_eq!(command(help), Command::Help, "{help:?}");
        }
        assert_eq!((command(&["--version"]), command(&["-V"])), (Command::Version, Command::Version));
        assert_eq!(command(&["--check", "--check"]), Command::Check);
        assert_eq!(command(&["--print-config"]), Command::PrintConfig);
        assert_eq!(command(&["status"]), Command::Status { watch: false });
        assert_eq!(command(&["--watch", "status"]), Command::Status { watch: true });
        assert_eq!(command(&["env", "claude"]), Command::Env { client: Client::Claude, shell: None });
        let fish = Command::Env { client: Client::Kimi, shell: Some(Shell::Fish) };
        assert_eq!(command(&["--shell", "fish", "env", "kimi"]), fish);
        assert_eq!(command(&["env", "--shell=fish", "kimi"]), fish);
    }

    #[test]
    fn flags_stand_anywhere_with_their_value_behind_or_beside_them() {
        let invocation =
            read(&["--port", "1", "status", "--rps=-2", "--port=3", "--ca-file="]).expect("known");
        let flags: Vec<_> = invocation.flags.iter().map(|(it, value)| (it.flag(), value.as_str())).collect();
        let flags: Vec<_> = flags.iter().map(|(flag, value)| (flag.as_str(), *value)).collect();
        assert_eq!(flags, [("--port", "1"), ("--rps", "-2"), ("--port", "3"), ("--ca-file", "")]);
        for setting in &SETTINGS {
            let beside = read(&[&setting.flag(), "x=y"]).expect("known");
            assert_eq!(beside.flags, [(setting, "x=y".to_owned())]);
            assert_eq!(beside, read(&[&format!("{}=x=y", setting.flag())]).expect("known"));
        }
    }

    #[test]
    fn what_is_not_known_is_refused_with_the_nearest_word_that_is() {
        for (arguments, hint) in [
            (&["--prot=1"][..], "did you mean --port?"),
            (&["-port"], "is --port"),
            (&["--max_wait", "5"], "is --max-wait"),
            (&["--FIREWORKS_PROXY_PORT", "1"], "is --port"),
            (&["--fireworks-proxy-port=1"], "is --port"),
            (&["FIREWORKS_PROXY_MAX_WAIT=5"], "is --max-wait"),
            (&["help"], "did you mean --help?"),
            (&["check"], "did you mean --check?"),
            (&["--status"], "did you mean status?"),
            (&["stats"], "did you mean status?"),
            (&["env", "claud"], "did you mean claude?"),
            (&["env", "kimi-code"], "did you mean kimi?"),
            (&["env", "openia"], "did you mean openai?"),
            (&["env"], "env needs a client: kimi, claude"),
            (&["env", "kimi", "claude"], "kimi and claude are two clients"),
            (&["claude"], "claude is a client: fireworks-proxy env claude"),
            (&["claude", "env"], "fireworks-proxy env claude"),
            (&["env", "claude=x"], "\"claude\" is not known"),
            (&[&"x".repeat(100_000)], "xxx~\" is not known; did you mean"),
            (&["env", &"x".repeat(100_000)], "xxx~\" is not known; did you mean"),
            (&["env", "kimi", "--shell", "power"], "did you mean powershell?"),
            (&["port"], "did you mean --port?"),
            (&[""], "\"\" is not known"),
            (&["a\nb"], "\"a\\nb\" is not known"),
            (&["http://jane:hunter2@proxy:1"], "\"http://***@proxy:1\" is not known"),
            (&["--upstream-proxy=", "jane:hunter2@proxy:1"], "\"***@proxy:1\" is not known"),
            (&["env", "http://jane:hunter2@proxy:1"], "\"http://***@proxy:1\" is not known"),
        ] {
            let error = error(arguments);
            assert!(error.contains(hint), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        for (arguments, why) in [
            (&["--port"][..], "--port needs a value"),
            (&["--port", "--check"], "--port needs a value"),
            (&["--port", "-1"], "is written --port=-"),
            (&["--check=yes"], "--check takes no value"),
            (&["status=1"], "status takes no value"),
            (&["--check", "status"], "--check and status are two things"),
            (&["--watch"], "--watch belongs to status"),
            (&["--check", "--watch"], "--watch belongs to status"),
            (&["status", "--shell", "sh"], "--shell belongs to env"),
        ] {
            let error = error(arguments);
            assert!(error.contains(why), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn no_value_is_quoted_that_could_be_a_secret() {
        let secret = "sixteen-letters!";
        for arguments in [
            &[&*format!("--client-tokn={secret}")][..],
            &[&format!("FIREWORKS_PROXY_CLIENT_TOKEN={secret}")],
            &[&format!("--client_token={secret}")],
            &["--client-token", &format!("-{secret}")],
            &[&format!("--check={secret}")],
        ] {
            let error = error(arguments);
            assert!(!error.contains(secret), "{error}");
        }
        let debugged = format!("{:?}", read(&["--client-token", secret]));
        assert!(debugged.contains("--client-token") && !debugged.contains(secret), "{debugged}");
    }

    #[test]
    fn no_two_words_are_alike() {
        let words = WORDS.iter().map(|(word, _)| (*word).to_owned()).chain([SHELL_FLAG.to_owned()]);
        let all: Vec<String> = words.chain(SETTINGS.iter().map(Setting::flag)).collect();
        let different: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_text_is_refused() {
        use std::os::unix::ffi::OsStringExt;
        let bad = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        for arguments in [vec![bad(b"--client-token=\xffsecret")], vec!["--port".into(), bad(b"1\xff")]] {
            let error = parse(arguments).expect_err("it is not text").to_string();
            assert!(error.contains("UTF-8") && !error.contains("secret"), "{error}");
        }
    }
}
