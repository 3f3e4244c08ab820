//! What is learned from limit headers, by the rules of the manual told once more over the whole history.
//!
//! An input is text, a line each: a response field (`x-ratelimit-limit-tokens-prompt: 3600000`), a time to
//! let pass (`+30` seconds), or a limit that the operator has set (`=generated 36000`), which counts where it
//! stands before the first of the others. A field is of the answer to a request that was sent just now, or
//! behind a `<` of one that was sent when the last line with nothing but a `!` was read.

use std::time::Duration;

use fireworks_proxy::{
    budget::{Budgets, Dimension, Header, LaneId, Reservation, demand::Asked},
    config::{Config, TokenLimit, TokenLimits},
    time::Mono,
};

use super::Outcome;

/// A limit stands for so long without a header that speaks.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// So many low values in a row are believed.
const LOW_IN_A_ROW: usize = 3;

/// The most that a header is believed to allow.
const BELIEVED_MAX: u64 = 100_000_000_000;

/// The share of a limit that is used.
const RATIO: f64 = 0.5;

/// `data` is the lines.
pub fn limit_headers(data: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(data) else { return Outcome::Refused };
    let lines: Vec<&str> = text.lines().collect();
    let settings = lines.iter().take_while(|line| line.starts_with('=')).count();
    let limits = limits(&lines[..settings]);
    let config = Config { limits, safety_ratio: Some(RATIO), ..Config::defaults() };
    let mut budgets = Budgets::new(&config);
    let lane = budgets.find_or_add_lane(1, "model", Mono::ZERO, |_| false);
    let mut history = History {
        now: Mono::ZERO + FORGOTTEN_AFTER,
        samples: [const { Vec::new() }; 3],
        sent_at: [Mono::ZERO; 3],
    };
    let mut earlier: Option<(Reservation, Mono)> = None;
    let mut outcome = Outcome::Refused;
    for line in &lines[settings..] {
        if let Some(seconds) = line.strip_prefix('+') {
            history.now = history.now + Duration::from_secs(seconds.parse::<u16>().unwrap_or(0).into());
        } else if *line == "!" {
            if let Some(mut sent) = request(&mut budgets, lane, history.now) {
                budgets.sent(&mut sent, history.now);
                if let Some((before, _)) = earlier.replace((sent, history.now)) {
                    budgets.refund(before, history.now);
                }
            }
        } else if let Some((dimension, limit)) = field(line.trim_start_matches('<')) {
            let header = Header { limit, remaining: None };
            if let Some((earlier, sent_at)) = earlier.as_ref().filter(|_| line.starts_with('<')) {
                budgets.learn(earlier, dimension, header, history.now);
                history.take(dimension, limit, *sent_at);
            } else {
                let Some(sent) = request(&mut budgets, lane, history.now) else { continue };
                budgets.learn(&sent, dimension, header, history.now);
                budgets.refund(sent, history.now);
                history.take(dimension, limit, history.now);
            }
            outcome = Outcome::Accepted;
        }
        history.check(&mut budgets, lane, &limits);
    }
    if let Some((earlier, _)) = earlier {
        budgets.refund(earlier, history.now);
    }
    outcome
}

/// A request that costs nothing. There are too many only at one time.
fn request(budgets: &mut Budgets, lane: LaneId, now: Mono) -> Option<Reservation> {
    budgets.try_reserve(Some(lane), &Asked { output_cap: Some(0), ..Asked::default() }, now).ok()
}

/// The limit in a line with a field.
fn field(line: &str) -> Option<(Dimension, u64)> {
    let (name, value) = line.split_once(':')?;
    let dimension = Dimension::of_limit_field(name);
    assert_eq!(dimension, dimension_of(name), "{name:?}");
    dimension.zip(value.trim().parse::<u64>().ok())
}

/// The defaults of the settings, or ceilings where a line sets one.
fn limits(lines: &[&str]) -> TokenLimits {
    let mut limits = Config::defaults().limits;
    for line in lines {
        let Some((name, value)) = line[1..].split_once(' ') else { continue };
        let Ok(tokens_per_minute @ 1..=1_000_000_000_000_000) = value.parse() else { continue };
        let ceiling = TokenLimit { tokens_per_minute, is_ceiling: true };
        match name {
            "prompt" => limits.prompt = ceiling,
            "uncached" => limits.uncached_prompt = ceiling,
            "generated" => limits.generated = ceiling,
            _ => {}
        }
    }
    limits
}

fn dimension_of(name: &str) -> Option<Dimension> {
    match name.to_ascii_lowercase().as_str() {
        "x-ratelimit-limit-tokens-prompt" => Some(Dimension::Prompt),
        "x-ratelimit-limit-tokens-cache-adjusted-prompt" | "x-ratelimit-limit-tokens-uncached-prompt" => {
            Some(Dimension::UncachedPrompt)
        }
        "x-ratelimit-limit-tokens-generated" => Some(Dimension::Generated),
        _ => None,
    }
}

/// Everything that headers have said, by dimension.
struct History {
    now: Mono,
    samples: [Vec<(Mono, u64)>; 3],
    /// When the request was sent whose answer spoke last.
    sent_at: [Mono; 3],
}

impl History {
    /// Answers overtake each other: what an earlier request met is no news.
    fn take(&mut self, dimension: Dimension, value: u64, sent_at: Mono) {
        let index = dimension as usize;
        if let Some(per_minute) = per_minute(dimension, value).filter(|_| sent_at >= self.sent_at[index]) {
            self.samples[index].push((self.now, per_minute));
            self.sent_at[index] = sent_at;
        }
    }

    fn check(&self, budgets: &mut Budgets, lane: LaneId, limits: &TokenLimits) {
        let (_, lane) = budgets.lanes_mut().find(|(id, _)| *id == lane).expect("it is kept");
        let of_dimension = [limits.prompt, limits.uncached_prompt, limits.generated];
        for (balance, configured) in lane.balances(self.now).into_iter().zip(of_dimension) {
            let learned = self.learned(balance.dimension, configured.tokens_per_minute);
            assert_eq!(balance.learned, learned, "{:?} at {:?}", balance.dimension, self.now);
            assert_eq!(balance.configured, configured.tokens_per_minute);
            let limit = learned.unwrap_or(configured.tokens_per_minute);
            let limit = if configured.is_ceiling { limit.min(configured.tokens_per_minute) } else { limit };
            let is_half = balance.effective == limit / 2 || (balance.effective == 1 && limit < 2);
            assert!(is_half, "{balance:?} of {limit}");
            assert!(!configured.is_ceiling || balance.effective <= configured.tokens_per_minute);
        }
    }

    /// What has been learned by now, from all that was said since the last silence.
    fn learned(&self, dimension: Dimension, configured: u64) -> Option<u64> {
        let all = &self.samples[dimension as usize];
        let last = all.last().filter(|(at, _)| self.now.since(*at) < FORGOTTEN_AFTER)?;
        assert!(last.1 > 0);
        let is_silence = |pair: &[(Mono, u64)]| pair[1].0.since(pair[0].0) >= FORGOTTEN_AFTER;
        let begin = all.windows(2).rposition(is_silence).map_or(0, |at| at + 1);
        let (mut learned, mut low) = (None, Vec::new());
        for (_, sample) in &all[begin..] {
            let current = learned.unwrap_or(configured);
            if *sample >= current {
                learned = Some(*sample);
                low.clear();
            } else {
                low.push(*sample);
            }
            if low.len() == LOW_IN_A_ROW {
                learned = low.drain(..).max();
            }
        }
        learned
    }
}

/// The published limits as a table: the lowest ever, and where values change from a second's to a minute's.
fn per_minute(dimension: Dimension, value: u64) -> Option<u64> {
    let (lowest, per_second, per_minute) = match dimension {
        Dimension::Prompt => (60_000, 60_000, 2_000_000),
        Dimension::UncachedPrompt => (15_000, 15_000, 500_000),
        Dimension::Generated => (6_000, 600, 20_000),
    };
    let read = match value {
        0 => return None,
        _ if value >= per_minute => value.min(BELIEVED_MAX),
        _ if value >= per_second => value * 60,
        _ => value,
    };
    assert_eq!(dimension.per_minute(value), Some(read.max(lowest)));
    Some(read.max(lowest))
}
