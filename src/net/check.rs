//! `--check`: everything that a start and a first request need, tried one by one.
//!
//! Uses what the proxy itself uses, so that what is found here is what would happen: the listeners, the
//! resolver, the connections with their TLS. Changes nothing: the state file is only read, no request
//! goes to the upstream and no key is needed.

mod upstream;

use std::{
    fmt,
    time::{Duration, Instant},
};

use mio::Poll;

use super::{AskError, StartError, ask, clock, listen, store::StateFile, tls::Connector};
use crate::{
    config::{Config, ConfigError, Origin},
    state::{Restored, preview},
};

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Good,
    /// The proxy works in spite of it, and nothing is lost.
    Doubtful,
    /// The proxy would not start, its requests would fail, or today's count would be lost.
    Failed,
    /// It could not be tried.
    Skipped,
}

/// What one step found. Its text is one line.
#[derive(Debug, Clone)]
pub struct Finding {
    /// How it went.
    pub outcome: Outcome,
    /// What was tried.
    pub step: &'static str,
    /// How long it took, where that says something.
    pub took: Option<Duration>,
    /// What was found.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Good => "ok",
            Outcome::Doubtful => "warn",
            Outcome::Failed => "FAIL",
            Outcome::Skipped => "skip",
        };
        let took = self.took.map_or(String::new(), |took| format!("{:.1} ms", took.as_secs_f64() * 1_000.0));
        // Paths, and what others say, may hold anything.
        let text = self.text.replace(char::is_control, "?");
        write!(formatter, "{outcome:<5} {:<14} {took:>10}  {text}", self.step)
    }
}

/// Who hears of the findings, and whether one was bad.
struct Report<'a> {
    tell: &'a mut dyn FnMut(&Finding),
    has_failed: bool,
}

impl Report<'_> {
    fn add(&mut self, outcome: Outcome, step: &'static str, took: Option<Duration>, text: impl Into<String>) {
        self.has_failed |= outcome == Outcome::Failed;
        (self.tell)(&Finding { outcome, step, took, text: text.into() });
    }

    /// Steps that cannot be tried, for this reason.
    fn skip(&mut self, steps: &[&'static str], why: &str) {
        for step in steps {
            self.add(Outcome::Skipped, step, None, why);
        }
    }
}

/// Tries one step after another and tells of each as it is done. Whether all is well.
pub fn check(config: &Result<Config, ConfigError>, mut tell: impl FnMut(&Finding)) -> bool {
    let mut report = Report { tell: &mut tell, has_failed: false };
    let started = Instant::now();
    let ready = match config {
        Ok(config) => Connector::new(config).map(|connector| (config, connector)),
        Err(error) => Err(StartError::Config(error.clone())),
    };
    let took = Some(started.elapsed());
    match ready {
        Ok((config, connector)) => {
            report.add(Outcome::Good, "configuration", took, counted(config, &connector));
            state_file(config, &mut report);
            listener(config, &mut report);
            upstream::check(config, &connector, &mut report);
        }
        Err(error) => {
            report.add(Outcome::Failed, "configuration", took, error.to_string());
            let rest = ["state file", "listen", "name", "TCP", "TLS", "certificate"];
            report.skip(&rest, "the configuration comes first");
        }
    }
    !report.has_failed
}

fn counted(config: &Config, connector: &Connector) -> String {
    let set = config.shown.iter().filter(|shown| shown.origin != Origin::Default).count();
    let roots = match connector.added_roots() {
        none if none.is_empty() => none,
        added => format!("; built-in roots and {added}"),
    };
    format!("{} settings, {set} set{roots}", config.shown.len())
}

fn state_file(config: &Config, report: &mut Report<'_>) {
    let started = Instant::now();
    let file = StateFile::new(&config.usage_state);
    let content = file.load().map(|bytes| bytes.map(|bytes| preview(&bytes, config, clock::wall())));
    let (is_good, found) = match content {
        Ok(None) => (true, "none yet".to_owned()),
        Ok(Some((Restored::Continued, tokens))) => (true, format!("{tokens} tokens today")),
        Ok(Some((Restored::TakenOver, tokens))) => {
            (true, format!("of the Python original; a start takes its {tokens} tokens today over"))
        }
        Ok(Some((Restored::OtherDay(date), tokens))) => {
            (true, format!("of {date}; today begins with {tokens} tokens"))
        }
        Ok(Some((Restored::Damaged(why), _))) => {
            (false, format!("damaged ({why}); a start puts it aside, and today begins with 0 tokens"))
        }
        Err(error) => (false, format!("cannot be read ({error}); today begins with 0 tokens")),
    };
    let (is_writable, writing) = match file.try_out() {
        Ok(()) => (true, "writable".to_owned()),
        Err(error) => (false, format!("cannot be written: {error}")),
    };
    let outcome = if is_good && is_writable { Outcome::Good } else { Outcome::Failed };
    report.add(outcome, "state file", Some(started.elapsed()), format!("{file}: {found}, {writing}"));
}

fn listener(config: &Config, report: &mut Report<'_>) {
    let started = Instant::now();
    let poll =
        Poll::new().map_err(|error| StartError::System { what: "cannot wait for events".into(), error });
    let bound = poll.and_then(|poll| listen::bind(config, poll.registry()));
    let took = Some(started.elapsed());
    match bound {
        Ok(listeners) => {
            let addresses: Vec<String> = listeners.iter().map(|it| it.address.to_string()).collect();
            let chosen = if config.port == 0 { ", chosen by the system" } else { "" };
            let verb = if addresses.len() == 1 { "is" } else { "are" };
            let text = format!("{} {verb} free{chosen}", addresses.join(" and "));
            report.add(Outcome::Good, "listen", took, text);
        }
        Err(error) => match running_version(config) {
            Some(running) => report.add(Outcome::Good, "listen", took, running),
            None => report.add(Outcome::Failed, "listen", took, error.to_string()),
        },
    }
}

/// What to say of the proxy that has the port; `None` if something else has it.
fn running_version(config: &Config) -> Option<String> {
    match ask(config, "/") {
        Ok(page) if page.body["service"] == "fireworks-proxy" => {
            let version = page.body["version"].as_str().unwrap_or("of another version");
            Some(format!("a proxy of ours answers at {} ({version})", page.address))
        }
        Err(AskError::Refused(why)) => Some(format!("a proxy of ours answers: {why}")),
        Ok(_) | Err(AskError::NotReachable(_) | AskError::NotOurs(_)) => None,
    }
}
