//! The run: the fake, the proxy before it, the agents, and a look at all of them now and then.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent::{Agent, Shared};
use crate::books::{self, Attempt, Books, Record};
use crate::ending::Ending;
use crate::memory::Growth;
use crate::options::Options;
use crate::process::Sample;
use crate::support::binary::Binary;
use crate::support::client::Client;
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

/// How long everything may take to come to rest after the agents have gone: nothing is kept for a client that has left,
/// and the rest is for a loaded machine.
const REST_WITHIN: Duration = Duration::from_secs(15);

/// Between two looks at whether it has.
const REST_LOOK_EVERY: Duration = Duration::from_millis(100);

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

/// How everything came to rest after the agents had gone.
#[derive(Default)]
pub(crate) struct Rest {
    /// How long it took.
    pub(crate) took: Duration,
    /// What was the last to do so.
    pub(crate) last: Vec<String>,
    /// What had not done so in time.
    pub(crate) missing: Vec<String>,
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

/// Waits until nothing is under way any more. Gives the page that says so, and how it came to that.
fn come_to_rest(proxy: &Binary, fake: &FakeFireworks, before: Option<Sample>) -> (Option<Value>, Rest) {
    let (began, mut rest) = (Instant::now(), Rest::default());
    loop {
        let page = usage(proxy.address());
        let now = Sample::take(proxy.pid(), Duration::ZERO);
        let unrest = unrest(page.as_ref(), &fake.statistics(), before, now);
        rest.took = began.elapsed();
        if unrest.is_empty() || page.is_none() {
            return (page, rest);
        }
        if rest.took > REST_WITHIN {
            rest.missing = unrest;
            return (page, rest);
        }
        rest.last = unrest;
        std::thread::sleep(REST_LOOK_EVERY);
    }
}

/// What is still under way, at the proxy and at the upstream.
fn unrest(
    page: Option<&Value>,
    statistics: &Statistics,
    before: Option<Sample>,
    now: Option<Sample>,
) -> Vec<String> {
    let at_proxy = |name: &str| page.and_then(|page| page["requests"][name].as_u64()).unwrap_or(0);
    let (before, now) =
        (before.map_or(0, |sample| sample.descriptors), now.map_or(0, |sample| sample.descriptors));
    let counts = [
        (at_proxy("queued"), "requests queued"),
        (at_proxy("in_flight"), "requests in flight"),
        (now.saturating_sub(before) as u64, "descriptors more than before the first request"),
        (statistics.in_flight, "requests being answered by the upstream"),
        (statistics.connections_open, "connections open at the upstream"),
    ];
    counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
}

/// `/usage`, unless the proxy does not answer.
fn usage(proxy: SocketAddr) -> Option<Value> {
    let mut client = Client::try_connect(proxy).ok()?;
    client.send(b"GET /usage HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    client.try_read_head().ok()?;
    serde_json::from_slice(&client.read_body_to_end().ok()?.bytes).ok()
}

/// Tells the proxy to end; gives whether it did so in good order, and its log.
fn end_proxy(proxy: Binary, is_alive: bool) -> (Result<(), String>, Vec<String>) {
    #[cfg(unix)]
    if is_alive {
        let (code, log, _) = proxy.signal("TERM");
        let ended =
            if code == Some(0) { Ok(()) } else { Err(format!("told to end, it ended with {code:?}")) };
        return (ended, log);
    }
    let ended = if is_alive { Ok(()) } else { Err("it did not answer".to_owned()) };
    (ended, proxy.kill().0)
}
