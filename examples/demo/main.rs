//! Eight coding agents on one Fireworks account, straight and through the proxy, side by side.
//!
//! ```text
//! cargo run --release --example demo [-- --seconds N --human N]
//! ```
//!
//! Needs no account and no network: it starts two fake Fireworks (those of the tests) that enforce the real starting
//! limits, and the real proxy in front of one of them. The same eight agents with the same work run twice at the same
//! time; the only difference is their base URL.
//!
//! - [`work`]: what an agent does: prompts that grow, answers of uneven length, tool runs.
//! - [`agent`]: how an agent does it: one HTTP client with the retries of an SDK, and a human who says "continue".
//! - [`tally`]: what happened to the agents of one side.
//! - [`screen`]: the live line.
//! - [`report`]: the table and the sentence at the end.

// An example is made of what the core may not touch.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod agent;
mod report;
mod screen;
mod tally;
mod work;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use agent::{Agent, BaseUrl, Ending};
use report::Side;
use screen::{LiveLine, Row};
use support::fake::{FakeFireworks, FakeOptions, Limits};
use support::proxy::ProxyUnderTest;
use tally::{Tally, TokenHistory};

/// Agents per side.
const AGENTS: usize = 8;

/// The limits that a new account has, per rolling minute.
const LIMITS: Limits = Limits { prompt: 3_600_000, uncached: 900_000, generated: 36_000, enforce: true };

/// How long the traffic lasts unless the command line says otherwise: a bit over two windows of the limits.
const SECONDS_DEFAULT: u64 = 150;

/// How long until somebody with eight terminals sees that one has stopped, unless the command line says otherwise.
const HUMAN_SECONDS_DEFAULT: u64 = 45;

/// What `--seconds` and `--human` accept.
const SECONDS_ACCEPTED: std::ops::RangeInclusive<u64> = 5..=3_600;

/// How often the fakes and the proxy are asked how they are.
const LOOK_EVERY: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Options::parse(&arguments) {
        Ok(options) => {
            if run(&options) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("{error}\nusage: cargo run --release --example demo [-- --seconds N --human N]");
            ExitCode::from(2)
        }
    }
}

/// What the command line says.
struct Options {
    /// How long the traffic lasts.
    duration: Duration,
    /// How long until a human sees that an agent has stopped.
    human_comes_after: Duration,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            duration: Duration::from_secs(SECONDS_DEFAULT),
            human_comes_after: Duration::from_secs(HUMAN_SECONDS_DEFAULT),
        };
        for pair in arguments.chunks(2) {
            let slot = match pair[0].as_str() {
                "--seconds" => &mut options.duration,
                "--human" => &mut options.human_comes_after,
                other => return Err(format!("unknown argument: {other}")),
            };
            let value = pair.get(1).map_or("", String::as_str);
            let seconds = value.parse().ok().filter(|seconds| SECONDS_ACCEPTED.contains(seconds));
            *slot = seconds.map(Duration::from_secs).ok_or_else(|| {
                let (least, most) = SECONDS_ACCEPTED.into_inner();
                format!("{} {value}: a whole number from {least} to {most} is accepted", pair[0])
            })?;
        }
        Ok(options)
    }
}

/// Both sides at once, from the first request to the table. Whether the proxy kept its promise: no 429
/// and no failed step behind it.
fn run(options: &Options) -> bool {
    let (duration, human) = (options.duration, options.human_comes_after);
    let [straight_fake, proxied_fake] = [start_fake(), start_fake()];
    let proxy = ProxyUnderTest::start(&proxied_fake, &[]);
    let straight_url = BaseUrl::Tls { address: straight_fake.address(), tls: straight_fake.client_config() };
    let proxied_url = BaseUrl::Plain { address: proxy.address() };
    let url_of_proxy = format!("http://{}", proxy.address());
    screen::show_introduction(&straight_fake.base_url(), &url_of_proxy, duration, human);
    let mut live_line = LiveLine::begin();

    let (straight, proxied) = (Tally::new(AGENTS), Tally::new(AGENTS));
    let mut histories = [TokenHistory::default(), TokenHistory::default()];
    let ending = Ending::default();
    let began = Instant::now();
    let (health, usage) = std::thread::scope(|threads| {
        for (base_url, tally) in [(&straight_url, &straight), (&proxied_url, &proxied)] {
            for number in 0..AGENTS {
                let ending = &ending;
                threads.spawn(move || Agent::new(number, base_url, tally, ending, human).run());
            }
        }
        while began.elapsed() < duration {
            std::thread::sleep(LOOK_EVERY);
            let at = began.elapsed();
            histories[0].note(at, straight_fake.statistics().generated_tokens);
            histories[1].note(at, proxied_fake.statistics().generated_tokens);
            live_line.show(&Row::look(at, [&straight, &proxied], &histories, &proxy));
        }
        let pages = (proxy.health(), proxy.usage());
        // The agents look at this several times a second, so the scope ends soon.
        ending.call();
        pages
    });
    live_line.end();
    let [straight_history, proxied_history] = histories;
    let side = |tally: Tally, fake: &FakeFireworks, history| Side {
        result: tally.into_result(began + duration),
        refused: fake.statistics().refused_total(),
        history,
    };
    let straight = side(straight, &straight_fake, straight_history);
    let proxied = side(proxied, &proxied_fake, proxied_history);
    report::show_table(&straight, &proxied, duration);
    report::show_pages(&health, &usage);
    report::show_conclusion(&straight, &proxied);
    let seen = &proxied.result.counts;
    seen.seen_429 == 0 && seen.failed == 0
}

/// An account of its own with the limits enforced and a prompt cache.
fn start_fake() -> FakeFireworks {
    FakeFireworks::start(FakeOptions {
        limits: Some(LIMITS),
        prefix_cache: true,
        keep_bodies: false,
        ..FakeOptions::default()
    })
}
