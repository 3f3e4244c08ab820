//! One phase: an attack or none, honest users beside it, and a look at the proxy now and then.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::attacks::uploads;
use crate::attacks::{Attack, Lasts};
use crate::common::ending::Ending;
use crate::common::process::Sample;
use crate::common::rest::{Rest, come_to_rest};
use crate::honest::{self, Seen, USERS};
use crate::options::Options;
use crate::support::binary::Binary;
use crate::support::fake::FakeFireworks;
use crate::swarm::{Swarm, Tally};

/// How often the process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long all connections of an attack may take to be open, and the answers that are waited for to come. Nobody is
/// refused in that time; who is not done then never will be.
const COMPLETE_WITHIN: Duration = Duration::from_secs(300);

/// Where a phase takes place.
pub(crate) struct Field<'a> {
    pub(crate) proxy: &'a Binary,
    pub(crate) fake: &'a FakeFireworks,
    pub(crate) options: &'a Options,
    /// How many sockets an attack can have.
    pub(crate) connections_max: usize,
    /// The proxy before anybody came: descriptors beyond that have to be given back.
    pub(crate) before: Option<Sample>,
}

/// What was seen of a phase.
pub(crate) struct Phase {
    /// None for the time without an attack.
    pub(crate) attack: Option<&'static Attack>,
    /// How many connections there were to be.
    pub(crate) connections: usize,
    pub(crate) tally: Tally,
    pub(crate) seen: Seen,
    /// The proxy when it began, and while it went on.
    pub(crate) samples: Vec<Sample>,
    /// This process, with attackers, honest users and upstream, when it began and when it ended.
    own: Option<(Sample, Sample)>,
    /// The most answers of the attack that were under way at the upstream at one moment, those of honest users included.
    pub(crate) at_upstream: u64,
    /// How everything came to rest, and the proxy then.
    pub(crate) rest: Rest,
    pub(crate) at_rest: Option<Sample>,
    /// Whether the proxy still answers.
    pub(crate) is_alive: bool,
}

impl Field<'_> {
    /// Runs one phase of so long with all connections open, and waits until everything has come to rest.
    pub(crate) fn run(&self, attack: Option<&'static Attack>, duration: Duration) -> Phase {
        let wanted = attack.map_or(0, |attack| self.options.scale.of(attack.connections));
        let connections = wanted.min(self.connections_max);
        let swarm = attack.map(|attack| Swarm {
            proxy: self.proxy.address(),
            connections,
            opened_per_second: attack.opened_per_second,
            manner: (attack.manner)(self.options.scale),
        });
        let (tally, seen) = (Mutex::<Tally>::default(), Mutex::<Seen>::default());
        let (attackers_end, users_end) = (Ending::default(), Ending::default());
        let mut watch = Watch { field: self, samples: Vec::new(), at_upstream: 0 };
        let own_before = Sample::take(std::process::id(), Duration::ZERO);
        std::thread::scope(|threads| {
            for user in 0..=USERS {
                let (seen, ending) = (&seen, &users_end);
                threads.spawn(move || honest::work(user, self.proxy.address(), ending, seen));
            }
            if let Some(swarm) = &swarm {
                let (tally, ending) = (&tally, &attackers_end);
                threads.spawn(move || swarm.run(ending, tally));
            }
            let is_over = |tally: &Tally| attack.is_none_or(|attack| is_over(attack, tally, connections));
            watch.until(COMPLETE_WITHIN, || is_over(&tally.lock().unwrap_or_else(PoisonError::into_inner)));
            if attack.is_none_or(|attack| attack.lasts == Lasts::ForTheTime) {
                watch.until(duration, || false);
            }
            attackers_end.call();
            users_end.call();
        });
        let Watch { samples, at_upstream, .. } = watch;
        let own_after = Sample::take(std::process::id(), Duration::ZERO);
        let (page, rest) = come_to_rest(self.proxy, self.fake, self.before);
        Phase {
            attack,
            connections,
            tally: tally.into_inner().unwrap_or_else(PoisonError::into_inner),
            seen: seen.into_inner().unwrap_or_else(PoisonError::into_inner),
            samples,
            own: own_before.zip(own_after),
            at_upstream,
            rest,
            at_rest: Sample::take(self.proxy.pid(), Duration::ZERO),
            is_alive: page.is_some(),
        }
    }
}

/// Whether all of an attack is there, or all of it is done if it lasts until then.
fn is_over(attack: &Attack, tally: &Tally, connections: usize) -> bool {
    match attack.lasts {
        Lasts::ForTheTime => tally.opened >= connections,
        Lasts::UntilAllAreAnswered => tally.answers.len() >= connections,
    }
}

/// Looks at the process and at the fake.
struct Watch<'a> {
    field: &'a Field<'a>,
    samples: Vec<Sample>,
    at_upstream: u64,
}

impl Watch<'_> {
    fn until(&mut self, time: Duration, mut is_over: impl FnMut() -> bool) {
        let began = Instant::now();
        loop {
            self.samples.extend(Sample::take(self.field.proxy.pid(), began.elapsed()));
            self.at_upstream = self.at_upstream.max(self.field.fake.statistics().in_flight);
            if is_over() || began.elapsed() >= time {
                return;
            }
            std::thread::sleep(LOOK_EVERY.min(time.saturating_sub(began.elapsed())));
        }
    }
}

impl Phase {
    pub(crate) fn name(&self) -> &'static str {
        self.attack.map_or("no attack", |attack| attack.name)
    }

    /// Requests of honest users, uploads included.
    pub(crate) fn honest_requests(&self) -> usize {
        self.seen.began.len() + self.seen.probes.len() + self.seen.failures.len() + self.tally.answers.len()
    }

    /// What went wrong for honest users, and why.
    pub(crate) fn honest_failures(&self) -> Vec<String> {
        let is_bad = |answer: &&Vec<u8>| !uploads::is_answered(answer);
        let bad = self.tally.answers.iter().filter(is_bad).map(|answer| {
            let beginning = String::from_utf8_lossy(&answer[..answer.len().min(300)]);
            format!("an upload was answered {beginning:?}")
        });
        self.seen.failures.iter().cloned().chain(bad).collect()
    }

    pub(crate) fn descriptors_most(&self) -> Option<usize> {
        self.samples.iter().map(|sample| sample.descriptors).max()
    }

    /// Processor time of the proxy, and of everybody else.
    pub(crate) fn cpu(&self) -> Option<[Duration; 2]> {
        let proxy = self.samples.last()?.cpu.saturating_sub(self.samples.first()?.cpu);
        let (before, after) = self.own?;
        Some([proxy, after.cpu.saturating_sub(before.cpu)])
    }
}
