//! The runs of one contestant each, on as many threads as there are processors.

use std::{
    collections::BTreeMap,
    num::NonZero,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use fireworks_proxy::config::{Config, Techniques};

use crate::{
    contestants::{
        Contestant,
        direct::Direct,
        fixed::Fixed,
        oracle::{Oracle, Rule},
        ours::Ours,
    },
    model::at,
    options::{Options, Who},
    scenarios::Scenario,
    tally::Tally,
    upstream::Upstream,
    world::World,
};

/// One contestant in one scenario. Nothing else decides what comes of it but the length of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// What is asked for, and of whom.
    pub(crate) scenario: &'static Scenario,
    /// Who decides.
    pub(crate) who: Who,
    /// Where chance begins.
    pub(crate) seed: u64,
    /// What the proxy makes use of.
    pub(crate) techniques: Techniques,
}

impl Run {
    /// Plays it.
    ///
    /// # Errors
    /// The trace cannot be read.
    fn play(&self, options: &Options) -> Result<Tally, String> {
        let behaviour = self.scenario.behaviour;
        let work = self.scenario.work.begin(options.trace.as_deref(), self.seed)?;
        let contestant: Box<dyn Contestant> = match self.who {
            Who::Direct => Box::<Direct>::default(),
            Who::Fixed => Box::new(Fixed::new(behaviour.limits.at_first())),
            Who::Ours => Box::new(Ours::new(config(self.techniques), self.seed, options.logs)),
            Who::Oracle => Box::new(Oracle::new(Rule::WithinLimits)),
            Who::Unrefused => Box::new(Oracle::new(Rule::Unrefused)),
        };
        let upstream = Upstream::new(behaviour, self.seed);
        Ok(World::new(work, contestant, upstream).run(at(options.minutes * 60.0)))
    }
}

/// The defaults, but for the cap of the day, which an hour of this would spend.
fn config(techniques: Techniques) -> Config {
    Config { daily_limit_tokens: None, techniques, ..Config::defaults() }
}

/// Plays all runs, and hands over what came of each, in the order in which they were given.
///
/// # Errors
/// That of the first run that failed.
pub(crate) fn play(runs: &[Run], options: &Options, mut each: impl FnMut(&Run, Tally)) -> Result<(), String> {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(runs.len());
    thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some((index, run)) = take(runs, next) {
                    if sender.send((index, run.play(options))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        // What came early waits for its turn.
        let mut early = BTreeMap::new();
        for run in runs.iter().enumerate() {
            let result = loop {
                if let Some(result) = early.remove(&run.0) {
                    break result;
                }
                let (index, result) = results.recv().expect("every run has a result");
                early.insert(index, result);
            };
            each(run.1, result?);
        }
        Ok(())
    })
}

/// The next run that nobody plays yet.
fn take<'a>(runs: &'a [Run], next: &AtomicUsize) -> Option<(usize, &'a Run)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    runs.get(index).map(|run| (index, run))
}
