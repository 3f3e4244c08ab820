//! `/metrics`: what is counted and measured, for Prometheus.
//!
//! Made when somebody asks; nothing is kept for it but the counters of [`Stats`]. Names follow the conventions of
//! Prometheus (base units, the unit at the end, `_total` for counters). Models and keys without a label of their own
//! (see [`crate::stats::labels`]) are added up as `other`, lanes too, so that the number of series is bounded.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    AccessRecord, End,
    exposition::{CONTENT_TYPE, Exposition, Label},
    unix_seconds,
    usage::failure_classes,
};
use crate::{
    budget::{Balance, Dimension, LaneId},
    context::Context,
    event::ProcessFigures,
    failure::Reach,
    http::write::Answer,
    ledger::DayState,
    stats::{Ended, Outcome, STATUS_CLASSES, Stats, Tally, labels::OTHER, status_class},
    time::{Mono, Now},
};

/// The page. The shell tells of the process, and the proxy how many clients are connected.
pub fn page(ctx: &mut Context, connections: usize, process: &ProcessFigures, now: Now) -> Answer {
    ctx.roll_day(now);
    let lanes = lanes(ctx, now.mono);
    let mut page = Exposition::default();
    requests(&mut page, &ctx.stats);
    times(&mut page, &ctx.stats.tally);
    upstream(&mut page, &ctx.stats);
    waiting(&mut page, ctx, &lanes, now.mono);
    budgets(&mut page, &lanes);
    bucket(&mut page, ctx, now.mono);
    day(&mut page, ctx);
    proxy(&mut page, ctx, connections);
    of_process(&mut page, process);
    let body = page.into_text().into_bytes();
    let fields = vec![("Content-Type", CONTENT_TYPE.to_owned())];
    super::protected(Answer { status: 200, fields, body }, super::NOTHING_BUT_TEXT)
}

/// What the counters need to know of a request that has ended.
pub fn ended<'a>(record: &AccessRecord<'a>) -> Ended<'a> {
    let outcome = match record.end {
        End::Finished => Outcome::Finished,
        End::Refused(_) => Outcome::Refused,
        End::ClientGone => Outcome::ClientGone,
        End::Stopped | End::Failed(_) => Outcome::Failed,
    };
    let status = record.status.unwrap_or(0);
    Ended {
        outcome,
        class: record.end.class().unwrap_or_else(|| status_class(status)),
        model: record.model.unwrap_or_default(),
        credential: record.credential,
        // No answer of the proxy's own is one of these.
        is_well_answered: record.reach == Reach::Acknowledged && (200..400).contains(&status),
        waited: record.waited,
        first_byte: record.first_byte,
        took: record.took,
        tokens: record.tokens,
    }
}

fn requests(page: &mut Exposition, stats: &Stats) {
    let help = "Requests that have ended, by how they ended (outcome), by the status of the upstream's answer or the \
                code of the refusal or failure (class), and by model.";
    let mut family = page.counter("fireworks_proxy_requests_total", help);
    for (model, tally) in stats.tally.by_model() {
        // Those that alerts look for are there before they happen, so that the first one counts.
        let expected = STATUS_CLASSES.map(|class| ((Outcome::Finished, class), 0));
        let all: BTreeMap<_, _> =
            expected.into_iter().chain(tally.requests.iter().map(|(key, count)| (*key, *count))).collect();
        for ((outcome, class), count) in all {
            family.sample(&[("outcome", outcome.name()), ("model", model), ("class", class)], count);
        }
    }
    let help = "Tokens of requests that have ended, as settled: what Fireworks reported, or the estimate where an answer \
                broke off.";
    let mut family = page.counter("fireworks_proxy_tokens_total", help);
    for (model, tally) in stats.tally.by_model() {
        let tokens = tally.tokens;
        let cached = tokens.prompt.saturating_sub(tokens.uncached_prompt);
        family.sample(&[("kind", "prompt_cached"), ("model", model)], cached);
        family.sample(&[("kind", "prompt_uncached"), ("model", model)], tokens.uncached_prompt);
        family.sample(&[("kind", "generated"), ("model", model)], tokens.generated);
    }
    let help = "Times that a request was tried again after a refusal of the upstream or a failure.";
    page.counter("fireworks_proxy_retries_total", help).sample(&[], stats.retries);
    let help =
        "What went wrong, also where a retry mended it, by how far the request had come (side) and by class.";
    let mut family = page.counter("fireworks_proxy_failures_total", help);
    for (reach, class) in failure_classes() {
        family.sample(&[("side", reach.name()), ("class", class)], stats.failures(reach, class));
    }
}

fn times(page: &mut Exposition, tally: &Tally) {
    let help =
        "How long requests were kept from the upstream, in the queue and in pauses before another try.";
    let mut family = page.histogram("fireworks_proxy_request_wait_seconds", help);
    for (model, tally) in tally.by_model() {
        family.buckets(&[("model", model)], &tally.waits);
    }
    let help = "How long it took from a request's arrival to the first byte of its answer, waits included.";
    let mut family = page.histogram("fireworks_proxy_request_first_byte_seconds", help);
    for (model, tally) in tally.by_model() {
        family.buckets(&[("model", model)], &tally.first_bytes);
    }
    let help = "How long requests took from their arrival to their end, waits and answers included.";
    let mut family = page.histogram("fireworks_proxy_request_duration_seconds", help);
    for (model, tally) in tally.by_model() {
        family.buckets(&[("model", model)], &tally.durations);
    }
}

fn upstream(page: &mut Exposition, stats: &Stats) {
    let help = "Answers of the upstream by status, those too that were not passed on because the request was tried again.";
    let mut family = page.counter("fireworks_proxy_upstream_responses_total", help);
    for class in STATUS_CLASSES {
        family.sample(&[("code", class)], stats.responses(class));
    }
    let help = "When the upstream last answered with a status below 400, since this run began.";
    let mut family = page.gauge("fireworks_proxy_upstream_last_success_timestamp_seconds", help);
    if let Some(at) = stats.last_success {
        family.sample(&[], unix_seconds(at));
    }
}

/// What lanes of the same labels have together.
#[derive(Debug, Default)]
struct LaneSums {
    in_flight: usize,
    queued: usize,
    budgets: BTreeMap<Dimension, BudgetSums>,
}

#[derive(Debug, Default)]
struct BudgetSums {
    used: u64,
    reserved: u64,
    effective: u64,
    configured: u64,
    /// `None` where nothing was learned of any of the lanes.
    learned: Option<u64>,
}

impl BudgetSums {
    fn add(&mut self, balance: &Balance) {
        self.used = self.used.saturating_add(balance.used);
        self.reserved = self.reserved.saturating_add(balance.reserved);
        self.effective = self.effective.saturating_add(balance.effective);
        self.configured = self.configured.saturating_add(balance.configured);
        let learned = balance.learned.map(|learned| learned.saturating_add(self.learned.unwrap_or(0)));
        self.learned = learned.or(self.learned);
    }
}

/// The lanes by the labels of model and key.
type Lanes = BTreeMap<(String, Cow<'static, str>), LaneSums>;

fn lanes(ctx: &mut Context, now: Mono) -> Lanes {
    let ids: Vec<LaneId> = ctx.admission.budgets_mut().lanes_mut().map(|(id, _)| id).collect();
    let queued: Vec<usize> = ids.iter().map(|id| ctx.admission.waiting_in(Some(*id))).collect();
    let Context { admission, stats, .. } = ctx;
    let mut lanes = Lanes::new();
    for ((_, lane), queued) in admission.budgets_mut().lanes_mut().zip(queued) {
        let model = stats.tally.model_label(&lane.model).to_owned();
        let digits = stats.tally.credential_digits(lane.credential);
        let credential =
            digits.map_or(Cow::Borrowed(OTHER), |_| Cow::Owned(super::credential(lane.credential)));
        let sums = lanes.entry((model, credential)).or_default();
        sums.in_flight += lane.in_flight;
        sums.queued += queued;
        for balance in lane.balances(now) {
            sums.budgets.entry(balance.dimension).or_default().add(&balance);
        }
    }
    lanes
}

fn waiting(page: &mut Exposition, ctx: &Context, lanes: &Lanes, now: Mono) {
    let stats = &ctx.stats;
    let help = "Requests that wait for room in the budgets.";
    let mut family = page.gauge("fireworks_proxy_queue_depth", help);
    // Requests that cost no tokens have no lane.
    family.sample(&[("model", ""), ("credential", "")], ctx.admission.waiting_in(None));
    for ((model, credential), lane) in lanes {
        family.sample(&[("model", model), ("credential", credential)], lane.queued);
    }
    let help = "How long the request has waited that has waited longest; 0 if none waits.";
    let oldest = ctx.admission.oldest_wait(now).unwrap_or_default();
    page.gauge("fireworks_proxy_queue_oldest_wait_seconds", help).sample(&[], oldest.as_secs_f64());
    let help = "Requests that pause before they are tried again.";
    page.gauge("fireworks_proxy_requests_paused", help).sample(&[], stats.paused);
    let help = "Requests at the upstream, from admission to the end of the answer.";
    let mut family = page.gauge("fireworks_proxy_requests_in_flight", help);
    let in_lanes: u64 = lanes.values().map(|lane| lane.in_flight as u64).sum();
    family.sample(&[("model", ""), ("credential", "")], stats.in_flight.saturating_sub(in_lanes));
    for ((model, credential), lane) in lanes {
        family.sample(&[("model", model), ("credential", credential)], lane.in_flight);
    }
}

fn budgets(page: &mut Exposition, lanes: &Lanes) {
    let mut family = |name: &'static str, help: &str, value: fn(&BudgetSums) -> u64| {
        let mut family = page.gauge(name, help);
        for (labels, dimension, sums) in each_budget(lanes) {
            family.sample(&budget_labels(labels, dimension), value(sums));
        }
    };
    let help = "Tokens that count within the last minute.";
    family("fireworks_proxy_budget_used_tokens", help, |sums| sums.used);
    let help = "Tokens that are held for requests in flight.";
    family("fireworks_proxy_budget_reserved_tokens", help, |sums| sums.reserved);
    let help = "Tokens that the proxy lets be used in a minute: the limit less a margin and what others use.";
    family("fireworks_proxy_budget_effective_tokens", help, |sums| sums.effective);
    let help =
        "Tokens that may be used in a minute, as configured and as learned from the upstream's answers.";
    let mut family = page.gauge("fireworks_proxy_budget_limit_tokens", help);
    for (labels, dimension, sums) in each_budget(lanes) {
        let [model, credential, dimension] = budget_labels(labels, dimension);
        for (source, limit) in [("configured", Some(sums.configured)), ("learned", sums.learned)] {
            if let Some(limit) = limit {
                family.sample(&[model, credential, dimension, ("source", source)], limit);
            }
        }
    }
}

type LaneLabels = (String, Cow<'static, str>);

fn each_budget(lanes: &Lanes) -> impl Iterator<Item = (&LaneLabels, Dimension, &BudgetSums)> {
    lanes.iter().flat_map(|(labels, lane)| lane.budgets.iter().map(move |(of, sums)| (labels, *of, sums)))
}

fn budget_labels((model, credential): &LaneLabels, of: Dimension) -> [Label<'_>; 3] {
    [("model", model), ("credential", credential), ("dimension", of.name())]
}

fn bucket(page: &mut Exposition, ctx: &mut Context, now: Mono) {
    let bucket = ctx.admission.budgets_mut().bucket();
    let help = "Requests that may start at once within FIREWORKS_PROXY_RPS.";
    page.gauge("fireworks_proxy_bucket_available_requests", help).sample(&[], bucket.available(now));
    let help = "The most requests that may ever start at once.";
    page.gauge("fireworks_proxy_bucket_capacity_requests", help).sample(&[], bucket.capacity());
}

fn day(page: &mut Exposition, ctx: &Context) {
    let ledger = &ctx.ledger;
    let help = "Tokens used today, prompt and generated, as Fireworks reported them. Goes on over restarts.";
    page.gauge("fireworks_proxy_day_used_tokens", help).sample(&[], ledger.used());
    let help = "The day's limit; missing if there is none.";
    let mut family = page.gauge("fireworks_proxy_day_limit_tokens", help);
    if let Some(limit) = ledger.limit() {
        family.sample(&[], limit);
    }
    let help = "The count from which the log warns; missing if there is no limit.";
    let mut family = page.gauge("fireworks_proxy_day_warn_tokens", help);
    if let Some(mark) = ledger.warn_at() {
        family.sample(&[], mark);
    }
    let help = "When the next day begins and the count starts anew.";
    let mut family = page.gauge("fireworks_proxy_day_resets_timestamp_seconds", help);
    family.sample(&[], unix_seconds(ledger.resets_at()));
    let help = "1 if the day's count is at the warning mark or beyond.";
    let mut family = page.gauge("fireworks_proxy_day_warned", help);
    family.sample(&[], u8::from(ledger.state() != DayState::Ok));
    let help = "1 if the day's tokens are spent, so that requests that cost some are refused.";
    page.gauge("fireworks_proxy_day_spent", help).sample(&[], u8::from(ledger.is_spent()));
}

fn proxy(page: &mut Exposition, ctx: &Context, connections: usize) {
    let help = "Client connections that are open.";
    page.gauge("fireworks_proxy_connections", help).sample(&[], connections);
    let help = "Memory held for all connections.";
    page.gauge("fireworks_proxy_memory_held_bytes", help).sample(&[], ctx.memory.held_bytes());
    let help = "The most that is to be held: FIREWORKS_PROXY_MAX_BUFFERED_MIB.";
    page.gauge("fireworks_proxy_memory_limit_bytes", help).sample(&[], ctx.config.buffered_bytes_max);
    let help = "1 if so much is held that requests are read one at a time.";
    page.gauge("fireworks_proxy_memory_tight", help).sample(&[], u8::from(ctx.memory.is_tight()));
    let help = "1 if the proxy is being stopped and takes no new requests.";
    page.gauge("fireworks_proxy_draining", help).sample(&[], u8::from(ctx.is_draining()));
    let help = "What runs. Always 1.";
    let mut family = page.gauge("fireworks_proxy_build_info", help);
    family.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let help = "When this run of the proxy began.";
    page.gauge("fireworks_proxy_start_time_seconds", help).sample(&[], unix_seconds(ctx.started_at()));
}

/// The families that every exporter has, under the names that all of them use. What is not known is left out.
fn of_process(page: &mut Exposition, process: &ProcessFigures) {
    if let Some(cpu) = process.cpu {
        let help = "Total user and system CPU time spent in seconds.";
        page.counter("process_cpu_seconds_total", help).sample(&[], cpu.as_secs_f64());
    }
    let mut gauge = |name: &'static str, help: &str, value: Option<u64>| {
        if let Some(value) = value {
            page.gauge(name, help).sample(&[], value);
        }
    };
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.", process.resident_bytes);
    gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", process.virtual_bytes);
    gauge("process_open_fds", "Number of open file descriptors.", process.open_descriptors);
    gauge("process_max_fds", "Maximum number of open file descriptors.", process.descriptors_max);
    if let Some(at) = process.started_at {
        let help = "Start time of the process since unix epoch in seconds.";
        page.gauge("process_start_time_seconds", help).sample(&[], unix_seconds(at));
    }
}
