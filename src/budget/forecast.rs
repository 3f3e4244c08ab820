//! How long waiting requests will probably wait: for people who look, and for no decision.
//!
//! A request that waits is told apart from those before it by what they will cost: it is asked when the books would
//! have room for it if all of these had started. Where that takes more than what is used now can give back, it waits
//! for those before it to leave the minute again. Answers that turn out longer or shorter than their means move
//! everybody behind them, so this is an estimate, and its users say so.

use std::time::Duration;

use super::{
    Balance, Budgets, Dimension, Lane, LaneId, Tokens,
    demand::{Asked, Demand},
};
use crate::time::Mono;

/// Token limits are per minute.
const MINUTE: Duration = Duration::from_secs(60);

/// What is expected of one waiting request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// How long it will still wait.
    pub wait: Duration,
    /// What it will probably cost.
    pub tokens: Tokens,
}

impl Budgets {
    /// What is expected of some requests of a lane, or of no lane, that start in this order.
    pub fn forecast<'a>(
        &mut self,
        id: Option<LaneId>,
        in_order: impl Iterator<Item = &'a Asked>,
        now: Mono,
    ) -> Vec<Forecast> {
        let free = |_| Forecast { wait: Duration::ZERO, tokens: Tokens::default() };
        match self.lane_mut(id) {
            Some(lane) => lane.forecast(in_order, now),
            None => in_order.map(free).collect(),
        }
    }

    /// How long the request bucket lets the `nth` request from now wait, the first one being 1.
    pub fn bucket_wait(&self, nth: usize, now: Mono) -> Duration {
        self.bucket.wait_for(nth, now)
    }
}

impl Lane {
    fn forecast<'a>(&mut self, in_order: impl Iterator<Item = &'a Asked>, now: Mono) -> Vec<Forecast> {
        let (mut starts_at, gap) = self.spacing(now);
        let balances = self.balances(now);
        let mut before = Demand::default();
        // When each of those before will have left the minute, and what they cost up to it.
        let mut leaving: Vec<(Mono, Demand)> = Vec::new();
        let mut forecasts = Vec::new();
        for asked in in_order {
            let demand = self.estimator.demand(asked, now);
            let room_at = match self.check_tokens(&demand, &before, now) {
                Ok(()) => now,
                Err(refusal) => {
                    refusal.until.unwrap_or_else(|| room_behind(&leaving, &balances, &demand, now))
                }
            };
            starts_at = starts_at.max(room_at).max(self.flows_at(&demand, &before, now));
            forecasts.push(Forecast { wait: starts_at.since(now), tokens: demand.tokens() });
            before.add(&demand);
            leaving.push((starts_at + MINUTE, before));
            starts_at = starts_at + gap;
        }
        forecasts
    }

    /// The budget that is nearest to its end: the one that will hold up whoever comes, if one does.
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
    pub fn binding(&mut self, now: Mono) -> Dimension {
        let load =
            |balance: &Balance| (balance.used + balance.reserved) as f64 / balance.effective.max(1) as f64;
        let balances = self.balances(now);
        let fullest = balances.iter().max_by(|left, right| load(left).total_cmp(&load(right)));
        fullest.expect("there are three budgets").dimension
    }
}

/// When enough of those before will have left the minute, where all that is used now has left it by then.
fn room_behind(leaving: &[(Mono, Demand)], balances: &[Balance; 3], demand: &Demand, now: Mono) -> Mono {
    let all_before = leaving.last().map(|(_, costs)| *costs).unwrap_or_default();
    let room_in = |balance: &Balance| {
        let of = |demand: &Demand| demand.0[balance.dimension as usize].total;
        let wanted = balance.reserved + of(&all_before) + of(demand);
        // Those in flight leave first, a minute from now as far as can be known.
        let has_to_leave = wanted.saturating_sub(balance.effective);
        if has_to_leave <= balance.reserved {
            return now + MINUTE;
        }
        let is_enough = |(_, costs): &&(Mono, Demand)| balance.reserved + of(costs) >= has_to_leave;
        let last = leaving.iter().find(is_enough).or_else(|| leaving.last());
        last.map_or(now + MINUTE, |(leaves_at, _)| *leaves_at)
    };
    let needed = balances.iter().filter(|balance| demand.0[balance.dimension as usize].total > 0);
    needed.map(room_in).max().unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::Spent,
        config::{Config, Technique, Techniques, TokenLimit, TokenLimits},
    };

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    /// Budgets of 1,000 prompt tokens a minute, one to a letter, and a lane of theirs.
    fn budgets() -> (Budgets, Option<LaneId>) {
        let limit = |tokens_per_minute| TokenLimit { tokens_per_minute, is_ceiling: true };
        let config = Config {
            limits: TokenLimits {
                prompt: limit(1_000),
                uncached_prompt: limit(100_000),
                generated: limit(100_000),
            },
            safety_ratio: Some(1.0),
            chars_per_token: 1.0,
            // The pace is a matter of its own.
            techniques: Techniques::default().without(Technique::SmoothStarts).without(Technique::Burst),
            ..Config::defaults()
        };
        let mut budgets = Budgets::new(&config);
        let lane = budgets.find_or_add_lane(1, "m", at(0), |_| false);
        (budgets, Some(lane))
    }

    #[test]
    fn who_waits_is_told_when_those_before_will_have_had_their_turn() {
        let (mut budgets, lane) = budgets();
        let asked = Asked::letters(500);
        for start in [0, 30] {
            let mut reservation = budgets.try_reserve(lane, &asked, at(start)).expect("there is room");
            budgets.sent(&mut reservation, at(start));
            let tokens = Tokens { prompt: 500, uncached_prompt: 500, generated: 10 };
            budgets.settle(reservation, Spent { tokens, is_reported: false }, at(start));
        }
        let waiting = [asked.clone(), asked.clone(), asked.clone(), asked];
        let waits = |budgets: &mut Budgets, now| -> Vec<u64> {
            let forecasts = budgets.forecast(lane, waiting.iter(), at(now));
            forecasts.iter().map(|forecast| forecast.wait.as_secs()).collect()
        };
        // Two leave the minute at 60 and 90 seconds, and half a second later; two more fill it again.
        assert_eq!(waits(&mut budgets, 40), [20, 50, 80, 110]);
        assert_eq!(waits(&mut budgets, 59), [1, 31, 61, 91]);
        let forecasts = budgets.forecast(None, waiting.iter(), at(59));
        assert!(forecasts.iter().all(|forecast| forecast.wait.is_zero()), "what costs nothing does not wait");
    }
}
