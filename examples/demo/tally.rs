//! What happened to the agents of one side, and how many tokens their fake has generated.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The length of the rolling window that Fireworks limits.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// What the agents of one side tell, from all their threads.
pub(crate) struct Tally(Mutex<Books>);

/// What was told so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Steps whose answer arrived whole.
    pub(crate) finished: u64,
    /// Steps given up after all retries; each needed a human.
    pub(crate) failed: u64,
    /// Answers with status 429.
    pub(crate) seen_429: u64,
    /// Everything else that made a request fail.
    pub(crate) other_errors: u64,
    /// Requests sent again by the SDK.
    pub(crate) retries: u64,
    /// Time in the proxy's queue, of all requests together.
    pub(crate) queued: Duration,
    /// Time for which agents were stopped until a human came, all together.
    pub(crate) stopped: Duration,
    /// Agents that wait for a human at this moment.
    pub(crate) stopped_now: usize,
}

/// What there is to say about one side in the end.
pub(crate) struct SideResult {
    pub(crate) counts: Counts,
    /// From wanting a step to the last byte of its answer, of finished steps.
    pub(crate) mean_step: Duration,
    /// The time that 95 of 100 finished steps did not exceed.
    pub(crate) p95_step: Duration,
    /// The longest time from wanting a step to its first byte.
    pub(crate) longest_standstill: Duration,
}

#[derive(Default)]
struct Books {
    counts: Counts,
    step_times: Vec<Duration>,
    /// Since when each agent wants an answer and has none of it.
    still_since: Vec<Option<Instant>>,
    /// Since when each agent waits for a human.
    stopped_since: Vec<Option<Instant>>,
    longest_standstill: Duration,
}

impl Tally {
    /// Nothing has happened to so many agents.
    pub(crate) fn new(agents: usize) -> Self {
        let nobody = vec![None; agents];
        Self(Mutex::new(Books { still_since: nobody.clone(), stopped_since: nobody, ..Books::default() }))
    }

    pub(crate) fn counts(&self) -> Counts {
        self.books().counts.clone()
    }

    /// An agent wants an answer; it may have wanted the same one before.
    pub(crate) fn stands_still(&self, agent: usize) {
        self.books().still_since[agent].get_or_insert_with(Instant::now);
    }

    /// A piece of the answer has come.
    pub(crate) fn moves_on(&self, agent: usize) {
        let mut books = self.books();
        if let Some(since) = books.still_since[agent].take() {
            books.longest_standstill = books.longest_standstill.max(since.elapsed());
        }
    }

    pub(crate) fn finished(&self, took: Duration) {
        let mut books = self.books();
        books.counts.finished += 1;
        books.step_times.push(took);
    }

    pub(crate) fn failed(&self) {
        self.books().counts.failed += 1;
    }

    pub(crate) fn retried(&self) {
        self.books().counts.retries += 1;
    }

    pub(crate) fn saw_429(&self) {
        self.books().counts.seen_429 += 1;
    }

    pub(crate) fn saw_other_error(&self) {
        self.books().counts.other_errors += 1;
    }

    pub(crate) fn waited_in_queue(&self, duration: Duration) {
        self.books().counts.queued += duration;
    }

    pub(crate) fn human_is_wanted(&self, agent: usize) {
        let mut books = self.books();
        books.stopped_since[agent] = Some(Instant::now());
        books.counts.stopped_now += 1;
    }

    pub(crate) fn human_came(&self, agent: usize) {
        let mut books = self.books();
        if let Some(since) = books.stopped_since[agent].take() {
            books.counts.stopped += since.elapsed();
            books.counts.stopped_now -= 1;
        }
    }

    /// The result, when the last agent has left. Who still waited at `ended` has waited until then.
    pub(crate) fn into_result(self, ended: Instant) -> SideResult {
        let mut books = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let unended = books.still_since.iter().flatten().map(|since| ended.saturating_duration_since(*since));
        let longest_standstill = unended.chain([books.longest_standstill]).max().unwrap_or_default();
        books.step_times.sort_unstable();
        let times = &books.step_times;
        let steps = u32::try_from(times.len()).expect("a demo has few steps").max(1);
        let rank = (times.len() * 95).div_ceil(100);
        SideResult {
            mean_step: times.iter().sum::<Duration>() / steps,
            p95_step: times.get(rank.saturating_sub(1)).copied().unwrap_or_default(),
            longest_standstill,
            counts: books.counts,
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many tokens had been generated when.
#[derive(Default)]
pub(crate) struct TokenHistory {
    /// Latest last.
    totals: Vec<(Duration, u64)>,
    busiest_minute: u64,
}

impl TokenHistory {
    pub(crate) fn note(&mut self, at: Duration, total: u64) {
        self.totals.push((at, total));
        self.busiest_minute = self.busiest_minute.max(self.in_last(MINUTE));
    }

    /// Generated in the span that ends with the latest note.
    pub(crate) fn in_last(&self, span: Duration) -> u64 {
        let Some((now, total)) = self.totals.last() else { return 0 };
        let before = self.totals.iter().rev().find(|(at, _)| *at + span <= *now);
        total - before.map_or(0, |(_, total)| *total)
    }

    /// Generated since the start.
    pub(crate) fn total(&self) -> u64 {
        self.totals.last().map_or(0, |(_, total)| *total)
    }

    /// The most that were generated within a minute.
    pub(crate) fn busiest_minute(&self) -> u64 {
        self.busiest_minute
    }
}
