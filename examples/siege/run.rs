//! The siege: the fake, and for each attack a proxy before it.

use std::path::Path;
use std::time::Duration;

use crate::attacks::{ALL, Attack};
use crate::common::process::Sample;
use crate::common::rest::end_proxy;
use crate::options::Options;
use crate::phase::{Field, Phase};
use crate::support::binary::Binary;
use crate::support::fake::{FakeFireworks, FakeOptions};
use crate::{descriptors, report};

/// Never reached: what requests wait for here is memory and the processor, and no budget.
const TOKENS_PER_MINUTE: &str = "1000000000000";

/// As many as the setting can be, for the same reason.
const REQUESTS_PER_SECOND: &str = "1000";

/// Who waits for others' uploads is patient.
const PATIENCE_SECONDS: &str = "600";

/// How long honest users alone work at most before what an attack takes is compared: what the proxy uses for the first
/// time, is no growth.
const WARM_UP_MAX: Duration = Duration::from_millis(500);

/// All that is known in the end.
pub(crate) struct Results {
    pub(crate) options: Options,
    /// The first is the one without an attack.
    pub(crate) sieges: Vec<Siege>,
}

/// One attack on one proxy, from its start to its end.
pub(crate) struct Siege {
    pub(crate) phase: Phase,
    /// The same attack once more on the same proxy, and not held: it must find all the memory that it needs.
    pub(crate) again: Option<Phase>,
    /// The proxy at rest after honest users alone: what an attack's memory is compared with.
    pub(crate) quiet: Option<Sample>,
    /// How the process ended when it was told to.
    pub(crate) ended: Result<(), String>,
    pub(crate) log: Vec<String>,
}

impl Siege {
    /// By how much the proxy's resident memory grew at most, in bytes; 0 where it is not measured.
    pub(crate) fn growth(&self) -> u64 {
        let most = self.phase.samples.iter().map(|sample| sample.memory).max();
        most.zip(self.quiet).map_or(0, |(most, quiet)| most.saturating_sub(quiet.memory))
    }

    /// How much of that was left at rest.
    pub(crate) fn kept(&self) -> u64 {
        difference(self.phase.at_rest, self.quiet)
    }

    /// How much more was left after the second time.
    pub(crate) fn kept_again(&self) -> u64 {
        difference(self.again.as_ref().and_then(|again| again.at_rest), self.phase.at_rest)
    }
}

/// By how much memory is more than it was, in bytes; 0 where it is not measured.
fn difference(now: Option<Sample>, then: Option<Sample>) -> u64 {
    now.zip(then).map_or(0, |(now, then)| now.memory.saturating_sub(then.memory))
}

/// Runs all attacks, each on a proxy of its own: what an allocator keeps of one attack would hide what the next takes.
pub(crate) fn run(program: &Path, options: &Options) -> Results {
    let connections_max = descriptors::raise();
    let fake = FakeFireworks::start(FakeOptions { keep_bodies: false, ..FakeOptions::default() });
    report::show_introduction(program, options);
    let chosen = ALL.into_iter().filter(|attack| options.wants(attack.name));
    let mut sieges: Vec<Siege> = Vec::new();
    for attack in std::iter::once(None).chain(chosen.map(Some)) {
        let siege = besiege(program, options, &fake, connections_max, attack);
        report::show_siege(&siege, sieges.first());
        sieges.push(siege);
    }
    Results { options: options.clone(), sieges }
}

fn besiege(
    program: &Path,
    options: &Options,
    fake: &FakeFireworks,
    connections_max: usize,
    attack: Option<&'static Attack>,
) -> Siege {
    let proxy = start_proxy(program, fake, options);
    let before = Sample::take(proxy.pid(), Duration::ZERO);
    let field = Field { proxy: &proxy, fake, options, connections_max, before };
    let quiet = field.run(None, options.duration.min(WARM_UP_MAX)).at_rest;
    let phase = field.run(attack, options.duration);
    let again = attack.map(|attack| field.run(Some(attack), Duration::ZERO));
    let (ended, log) = end_proxy(proxy, again.as_ref().unwrap_or(&phase).is_alive);
    Siege { phase, again, quiet, ended, log }
}

fn start_proxy(program: &Path, fake: &FakeFireworks, options: &Options) -> Binary {
    let buffered = options.buffered_mib.to_string();
    let settings = [
        ("RPS", REQUESTS_PER_SECOND),
        ("PROMPT_TPM_LIMIT", TOKENS_PER_MINUTE),
        ("UNCACHED_PROMPT_TPM_LIMIT", TOKENS_PER_MINUTE),
        ("GENERATED_TPM_LIMIT", TOKENS_PER_MINUTE),
        ("DAILY_TOKEN_LIMIT", "0"),
        ("MAX_WAIT", PATIENCE_SECONDS),
        ("MAX_HOLD", PATIENCE_SECONDS),
        ("MAX_RETRIES", "0"),
        ("MAX_BUFFERED_MIB", buffered.as_str()),
    ];
    let folder = tempfile::tempdir().expect("a folder for the state file");
    Binary::start_program(program, folder, fake, &settings)
}
