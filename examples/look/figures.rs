//! What is measured: the load alone, the load and who looks, and each page by itself.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::ending::Ending;
use crate::common::process::cpu_time;
use crate::common::rest::{come_to_rest, end_proxy};
use crate::load;
use crate::lookers::{LOOKS, Look, Lookers, fetch};
use crate::options::Options;
use crate::support::binary::Binary;
use crate::support::client::Client;
use crate::support::fake::{FakeFireworks, FakeOptions};

/// The share of the load's processor time that looking may take.
pub(crate) const SHARE_MAX: f64 = 0.02;

/// One span without a look, or with one.
const SPAN: Duration = Duration::from_secs(2);

/// How often a page is asked for to know what it takes.
const FETCHES: u32 = 300;

/// Never reached: nobody waits here.
const TOKENS_PER_MINUTE: &str = "1000000000";

/// What one page takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageCost {
    pub(crate) look: Look,
    pub(crate) bytes: usize,
    /// Processor time of each time that it is asked for.
    pub(crate) each: Duration,
}

impl PageCost {
    /// Seconds of processor time that looking as often as it is looked at takes in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.look.every.map_or(0.0, |every| self.each.as_secs_f64() / every.as_secs_f64())
    }
}

/// All that was measured. Rates are seconds of processor time in a second.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) agents: usize,
    /// The spans in which nobody looked.
    pub(crate) alone: Vec<f64>,
    /// The spans in which somebody did.
    pub(crate) watched: Vec<f64>,
    pub(crate) pages: Vec<PageCost>,
}

impl Figures {
    /// What the load takes, at the median.
    pub(crate) fn load(&self) -> f64 {
        median(&self.alone)
    }

    /// By how much the spans in which somebody looked took more than those before them, as a share of the load: the
    /// mean, and its standard error.
    #[expect(clippy::cast_precision_loss, reason = "there are few spans")]
    pub(crate) fn difference(&self) -> (f64, f64) {
        let differences: Vec<f64> =
            self.watched.iter().zip(&self.alone).map(|(watched, alone)| watched - alone).collect();
        let count = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / count;
        let variance = differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>() / count;
        (mean / self.load(), (variance / count).sqrt() / self.load())
    }

    /// The share of that which looking takes, by what each page takes.
    pub(crate) fn share(&self) -> f64 {
        self.pages.iter().map(PageCost::rate).sum::<f64>() / self.load()
    }
}

/// The value in the middle, or between the two that are.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// Starts everything, measures, and ends it.
///
/// # Errors
/// The system does not tell processor times, or the proxy did not end well.
pub(crate) fn measure(program: &Path, options: &Options) -> Result<Figures, String> {
    let fake = FakeFireworks::start(FakeOptions { keep_bodies: false, ..FakeOptions::default() });
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let settings = [
        ("PROMPT_TPM_LIMIT", TOKENS_PER_MINUTE),
        ("UNCACHED_PROMPT_TPM_LIMIT", TOKENS_PER_MINUTE),
        ("GENERATED_TPM_LIMIT", TOKENS_PER_MINUTE),
        ("DAILY_TOKEN_LIMIT", "0"),
    ];
    let proxy = Binary::start_program(program, folder, &fake, &settings);
    println!(
        "{} agents stream {} s; nobody looks, and somebody does, {} s each in turns",
        options.agents,
        2 * SPAN.as_secs() * options.pairs as u64,
        SPAN.as_secs()
    );
    let ending = Ending::default();
    let figures = std::thread::scope(|scope| {
        for agent in 0..options.agents {
            let (address, ending) = (proxy.address(), &ending);
            scope.spawn(move || load::stream(agent, address, ending));
        }
        let figures = under_load(&proxy, options);
        ending.call();
        figures
    });
    come_to_rest(&proxy, &fake, None);
    let (ended, _) = end_proxy(proxy, true);
    ended?;
    figures
}

fn under_load(proxy: &Binary, options: &Options) -> Result<Figures, String> {
    // What is used for the first time is none of the load.
    rate(proxy.pid(), || std::thread::sleep(SPAN))?;
    let mut lookers = Lookers::at(proxy.address());
    let (mut alone, mut watched) = (Vec::new(), Vec::new());
    for _ in 0..options.pairs {
        alone.push(rate(proxy.pid(), || std::thread::sleep(SPAN))?);
        watched.push(rate(proxy.pid(), || lookers.look_for(SPAN))?);
    }
    let load = median(&alone);
    let pages = LOOKS.iter().map(|look| page_cost(*look, proxy, load)).collect::<Result<_, _>>()?;
    Ok(Figures { agents: options.agents, alone, watched, pages })
}

/// Seconds of processor time that a process takes in a second, while something is done.
fn rate(pid: u32, during: impl FnOnce()) -> Result<f64, String> {
    let from = Instant::now();
    let before = cpu_time(pid)?;
    during();
    let taken = cpu_time(pid)?.saturating_sub(before);
    Ok(taken.as_secs_f64() / from.elapsed().as_secs_f64())
}

/// What a page takes beyond the load, each time.
fn page_cost(look: Look, proxy: &Binary, load: f64) -> Result<PageCost, String> {
    let mut client = Client::connect(proxy.address());
    let bytes = fetch(&mut client, look.path);
    let from = Instant::now();
    let before = cpu_time(proxy.pid())?;
    for _ in 0..FETCHES {
        fetch(&mut client, look.path);
    }
    let taken = cpu_time(proxy.pid())?.saturating_sub(before);
    let beyond = taken.saturating_sub(from.elapsed().mul_f64(load));
    Ok(PageCost { look, bytes, each: beyond / FETCHES })
}
