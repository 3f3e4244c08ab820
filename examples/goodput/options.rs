//! The command line.

use fireworks_proxy::config::{Technique, Techniques};

use crate::scenarios::{ALL, Scenario};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Compare the contestants in one table.
    Compare,
    /// Name the scenarios.
    List,
    /// Compare the agents with the sessions that they are calibrated on.
    Workload,
    /// Judge ours by its targets.
    Check,
    /// Switch off each technique in turn.
    Ablation,
}

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    /// What to do.
    pub(crate) task: Task,
    /// The length of a run in virtual minutes.
    pub(crate) minutes: f64,
    /// Where chance begins.
    pub(crate) seed: u64,
    /// How many seeds the ablation takes, from `seed` on.
    pub(crate) seeds: u64,
    /// Whether the proxy's log is shown.
    pub(crate) logs: bool,
    /// What the proxy makes use of.
    pub(crate) techniques: Techniques,
    /// The trace's text.
    pub(crate) trace: Option<String>,
    scenarios: Vec<&'static Scenario>,
    contestants: Vec<Who>,
}

/// A contestant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// No proxy: straight at it, with the retries of the SDKs.
    Direct,
    /// The fixed policy, with the limits configured that hold at the start.
    Fixed,
    /// This proxy with its defaults.
    Ours,
    /// The most that can be had within the limits.
    Oracle,
    /// The most that can be had without a refusal.
    Unrefused,
}

impl Who {
    /// All of them; the oracle first, which the others are measured by.
    pub(crate) const ALL: [Self; 5] = [Self::Oracle, Self::Direct, Self::Fixed, Self::Ours, Self::Unrefused];

    /// Names it on the command line and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fixed => "fixed",
            Self::Ours => "ours",
            Self::Oracle => "oracle",
            Self::Unrefused => "unrefused",
        }
    }
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// The argument that is not understood.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            task: Task::Compare,
            minutes: 60.0,
            seed: 1,
            seeds: 3,
            logs: false,
            techniques: Techniques::default(),
            trace: None,
            scenarios: Vec::new(),
            contestants: Vec::new(),
        };
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--list" => options.task = Task::List,
                "--workload" => options.task = Task::Workload,
                "--check" => options.task = Task::Check,
                "--ablation" => options.task = Task::Ablation,
                "--log" => options.logs = true,
                _ => {
                    let value = arguments.next();
                    options
                        .set(&name, &value.ok_or_else(|| format!("{name} needs a value, or is unknown"))?)?;
                }
            }
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let bad = || format!("{name} {value}: not understood");
        match name {
            "--minutes" => {
                let minutes = value.parse().ok().filter(|minutes| (1.0..=10_000.0).contains(minutes));
                self.minutes = minutes.ok_or_else(bad)?;
            }
            "--seed" => self.seed = value.parse().map_err(|_| bad())?,
            "--seeds" => self.seeds = value.parse().ok().filter(|seeds| *seeds > 0).ok_or_else(bad)?,
            "--scenario" => self.scenarios.push(Scenario::named(value).ok_or_else(bad)?),
            "--contestant" => {
                self.contestants.push(*Who::ALL.iter().find(|who| who.name() == value).ok_or_else(bad)?);
            }
            "--without" => {
                let technique = Technique::ALL.into_iter().find(|it| it.name() == value).ok_or_else(bad)?;
                self.techniques = self.techniques.without(technique);
            }
            "--trace" => {
                let text = std::fs::read_to_string(value).map_err(|error| format!("{value}: {error}"))?;
                self.trace = Some(text);
            }
            _ => return Err(format!("{name}: not understood")),
        }
        Ok(())
    }

    /// The scenarios that were asked for, or all; those of the trace are left out when there is none.
    pub(crate) fn scenarios(&self) -> Vec<&'static Scenario> {
        let wanted = if self.scenarios.is_empty() { ALL.iter().collect() } else { self.scenarios.clone() };
        wanted.into_iter().filter(|scenario| self.can_play(scenario)).collect()
    }

    /// Whether there is what a scenario needs.
    pub(crate) fn can_play(&self, scenario: &Scenario) -> bool {
        self.trace.is_some() || !scenario.work.is_trace()
    }

    /// Whether this contestant was asked for.
    pub(crate) fn wants(&self, who: Who) -> bool {
        self.contestants.is_empty() || self.contestants.contains(&who)
    }
}
