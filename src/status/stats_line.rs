//! What the log is told of all that goes on, every ten seconds while something does.

use log::Level;
use serde_json::{Value, json};

use crate::{
    budget::{Balance, Lane},
    context::Context,
    journal::{Entry, Event, seconds, shown},
    ledger::DayState,
    time::{Mono, Now},
};

/// The most lanes that an entry shows: those with the most in flight, and their text fits into a line.
const LANES_SHOWN_MAX: usize = 16;

/// Logs the statistics, and sees to the next time while anything is under way. While the day is not well they
/// are a warning.
pub fn stats_line(ctx: &mut Context, now: Now) {
    ctx.roll_day(now);
    let entry = entry(ctx, now.mono);
    let level = if ctx.ledger.state() == DayState::Ok { Level::Info } else { Level::Warn };
    ctx.log(level, entry);
    ctx.remind_of_day(now.mono);
    if ctx.stats.in_flight > 0 || ctx.admission.waiting() > 0 || ctx.stats.paused > 0 {
        ctx.set_stats_line(now.mono);
    }
}

fn entry(ctx: &mut Context, now: Mono) -> Entry {
    let last_minute = ctx.stats.last_minute(now);
    let waiting = ctx.admission.waiting();
    let oldest = ctx.admission.oldest_wait(now).unwrap_or_default();
    let (paused, in_flight) = (ctx.stats.paused, ctx.stats.in_flight);
    let budgets = ctx.admission.budgets_mut();
    let (available, capacity) = (budgets.bucket().available(now), budgets.bucket().capacity());
    let (lanes, lanes_left_out) =
        busiest(budgets.lanes_mut().filter_map(|(_, lane)| busy(lane, now)).collect());
    let (texts, lanes): (Vec<String>, Vec<Value>) = lanes.into_iter().unzip();
    let ledger = &ctx.ledger;
    let or_unlimited =
        |tokens: Option<u64>| tokens.map_or_else(|| "unlimited".to_owned(), |it| it.to_string());
    let text = format!(
        "stats | bucket={{{available}/{capacity}}} | last_60s={last_minute} req | token_budgets={{{}}} | \
         queue={{waiting={waiting} oldest={:.1}s paused={paused} in_flight={in_flight}}} | \
         daily_tokens={}/{} remaining={}",
        texts.join("; "),
        oldest.as_secs_f64(),
        ledger.used(),
        or_unlimited(ledger.limit()),
        or_unlimited(ledger.remaining()),
    );
    let state = ledger.state();
    let entry = Entry::new(Event::Stats, text)
        .with("bucket_available", available)
        .with("bucket_capacity", capacity)
        .with("requests_last_60s", last_minute)
        .with("waiting", waiting)
        .with("oldest_wait_seconds", seconds(oldest))
        .with("paused", paused)
        .with("in_flight", in_flight)
        .with("lanes", lanes)
        .with("lanes_left_out", lanes_left_out)
        .with("daily_tokens_used", ledger.used())
        .with("daily_tokens_limit", ledger.limit())
        .with("daily_tokens_remaining", ledger.remaining());
    match state {
        DayState::Ok => entry.with("day", state.name()),
        DayState::Warned | DayState::Spent => entry.word("day", "day", Some(state.name())),
    }
}

/// Both forms of a lane, with how much it has in flight, if anything is told of it.
fn busy(lane: &mut Lane, now: Mono) -> Option<(usize, (String, Value))> {
    let balances = lane.balances(now);
    if lane.in_flight == 0 && balances.iter().all(|balance| balance.used == 0) {
        return None;
    }
    let (model, amounts) = (shown(&lane.model), balances.each_ref().map(amount));
    let fields = balances.iter().map(|balance| (balance.dimension.name().to_owned(), fields(balance)));
    let mut shown = json!({
        "model": model,
        "credential": super::credential(lane.credential),
        "in_flight": lane.in_flight,
    });
    shown.as_object_mut().expect("it is one").extend(fields);
    Some((lane.in_flight, (format!("{model}: {}", amounts.join(" ")), shown)))
}

fn amount(balance: &Balance) -> String {
    format!("{}={}/{}", balance.dimension.name(), balance.used + balance.reserved, balance.effective)
}

fn fields(balance: &Balance) -> Value {
    json!({"used_60s": balance.used, "reserved": balance.reserved, "effective": balance.effective})
}

/// Those with the most in flight, and how many others there are.
fn busiest<T>(mut lanes: Vec<(usize, T)>) -> (Vec<T>, usize) {
    let left_out = lanes.len().saturating_sub(LANES_SHOWN_MAX);
    if left_out > 0 {
        lanes.sort_by_key(|(in_flight, _)| std::cmp::Reverse(*in_flight));
        lanes.truncate(LANES_SHOWN_MAX);
    }
    (lanes.into_iter().map(|(_, lane)| lane).collect(), left_out)
}
