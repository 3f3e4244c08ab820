//! The run: the fake, the proxy before it, the agents, and a look at all of them now and then.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent::{Agent, Shared};
use crate::books::{self, Attempt, Books, Record};
use crate::common::ending::Ending;
use crate::common::process::Sample;
use crate::common::rest::{Rest, come_to_rest, end_proxy, usage};
use crate::memory::Growth;
use crate::options::Options;
use crate::support::binary::Binary;
use crate::support::fake::{FakeFireworks, FakeOptions, Statistics};
use crate::verdict::{MAX_HOLD, MAX_RETRIES, MAX_WAIT};
use crate::{report, work};

/// Requests per second that the proxy lets through: more than the agents can send, so that tokens are what lanes wait
/// for.
const REQUESTS_PER_SECOND: &str = "60";

/// How often the process is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a line is printed: in a long run, and in a short one.
const LINE_EVERY: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(15)];

/// A run that is no longer than this is a short one.
const SHORT: Duration = Duration::from_secs(300);

/// The stack of an agent. The fake's threads have the system's default, of which they touch little.
const AGENT_STACK_BYTES: usize = 512 * 1024;

/// All that is known in the end.
pub(crate) struct Results {
    pub(crate) options: Options,
    pub(crate) records: Vec<Record>,
    /// What the fake saw of each request.
    pub(crate) attempts: BTreeMap<u64, Vec<Attempt>>,
    pub(crate) statistics: Statistics,
    /// `/usage` after everything had come to rest; None when the proxy did not answer.
    pub(crate) usage: Option<Value>,
    /// The process before the first request.
    pub(crate) before: Option<Sample>,
    /// The process while the agents worked.
    pub(crate) samples: Vec<Sample>,
    /// The process after everything had come to rest.
    pub(crate) after: Option<Sample>,
    /// How everything came to rest.
    pub(crate) rest: Rest,
    /// How the process ended when it was told to; fine where it cannot be told.
    pub(crate) ended: Result<(), String>,
    pub(crate) log: Vec<String>,
}

impl Results {
    /// Memory early and late, if it was measured.
    pub(crate) fn growth(&self) -> Option<Growth> {
        Growth::of(&self.samples, self.after, self.options.duration, self.options.agents)
    }
}

/// Runs for as long as the options say.
pub(crate) fn run(program: &Path, options: &Options) -> Results {
    let fake = FakeFireworks::start(FakeOptions {
        limits: Some(work::limits(options.agents)),
        faults: Some(options.faults.clone()),
        keep_bodies: false,
        ..FakeOptions::default()
    });
    let proxy = start_proxy(program, &fake);
    let before = Sample::take(proxy.pid(), Duration::ZERO);
    report::show_introduction(program, options, before.is_some());
    let (books, ending) = (Books::default(), Ending::default());
    let shared =
        Shared { proxy: proxy.address(), books: &books, ending: &ending, next_id: AtomicU64::new(1) };
    let samples = std::thread::scope(|threads| {
        for number in 0..options.agents {
            let agent = Agent::new(number, options.seed, &shared);
            let thread = std::thread::Builder::new().stack_size(AGENT_STACK_BYTES);
            thread.spawn_scoped(threads, move || agent.run()).expect("the system gives another thread");
        }
        let samples = watch(&proxy, &books, options);
        ending.call();
        samples
    });
    let (usage, rest) = come_to_rest(&proxy, &fake, before);
    let after = Sample::take(proxy.pid(), options.duration);
    let (ended, log) = end_proxy(proxy, usage.is_some());
    Results {
        options: options.clone(),
        records: books.into_records(),
        attempts: books::attempts_by_id(&fake.requests()),
        statistics: fake.statistics(),
        usage,
        before,
        samples,
        after,
        rest,
        ended,
        log,
    }
}

/// The proxy with the settings that the verdict relies on. Those of the retries are unknown to a proxy that has none,
/// which warns and goes on.
fn start_proxy(program: &Path, fake: &FakeFireworks) -> Binary {
    let [retries, hold, wait] =
        [MAX_RETRIES, MAX_HOLD.as_secs(), MAX_WAIT.as_secs()].map(|number| number.to_string());
    let settings = [
        ("RPS", REQUESTS_PER_SECOND),
        ("DAILY_TOKEN_LIMIT", "0"),
        ("MAX_WAIT", wait.as_str()),
        ("MAX_RETRIES", retries.as_str()),
        ("MAX_HOLD", hold.as_str()),
    ];
    let folder = tempfile::tempdir().expect("a folder for the state file");
    Binary::start_program(program, folder, fake, &settings)
}

/// Looks at the process and prints a line now and then, until the time is over.
fn watch(proxy: &Binary, books: &Books, options: &Options) -> Vec<Sample> {
    let began = Instant::now();
    let line_every = LINE_EVERY[usize::from(options.duration <= SHORT)];
    let (mut samples, mut next_line) = (Vec::new(), line_every);
    while began.elapsed() < options.duration {
        std::thread::sleep(LOOK_EVERY.min(options.duration.saturating_sub(began.elapsed())));
        samples.extend(Sample::take(proxy.pid(), began.elapsed()));
        if began.elapsed() >= next_line {
            next_line += line_every;
            report::show_progress(
                began.elapsed(),
                &books.tally(),
                usage(proxy.address()).as_ref(),
                samples.last(),
            );
        }
    }
    samples
}
