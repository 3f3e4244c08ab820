//! The simulated Fireworks: one model, three dimensions.
//!
//! The prompt is charged when a request arrives, its uncached part with the first token, and what is generated at the
//! end, when it is known (section 1.5 of what is known of Fireworks). A request is refused when its prompt does not
//! fit, or when one of the other two is used up; nothing is refused for what it will cost later.
//!
//! - [`meter`]: how much of one limit is used, in a rolling window or a token bucket.
//! - [`limits`]: what the limits are, and how they change.
//! - [`cache`]: the prompt caches of the replicas.
//! - [`gateway`]: what the gateways say of the limits, and which of them refuse on their own.
//! - [`ramp`]: the rule against starts that rise too fast.

pub(crate) mod cache;
pub(crate) mod gateway;
pub(crate) mod limits;
pub(crate) mod meter;
pub(crate) mod ramp;

use std::{collections::BTreeMap, time::Duration};

use fireworks_proxy::{
    budget::{Dimension, Tokens},
    time::Mono,
};

use crate::{
    dice::Dice,
    model::{Answer, Course, Request, float, seconds, tokens},
};
use cache::Caches;
use gateway::{Gateway, Gateways};
use limits::{Limits, Plan};
use meter::{Meter, Metering};
use ramp::Ramp;

/// How the upstream of a scenario behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behaviour {
    /// How limits are kept.
    pub(crate) metering: Metering,
    /// What they are.
    pub(crate) limits: Plan,
    /// What is said of them.
    pub(crate) gateways: Gateways,
    /// Whether starts that rise too fast are refused.
    pub(crate) has_ramp_rule: bool,
    /// The share of requests that meets a pool without capacity.
    pub(crate) overloaded_share: f64,
    /// What others on the account use, as a share of the limits, and from when to when.
    pub(crate) others: Option<(f64, f64, f64)>,
}

/// The upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    behaviour: Behaviour,
    /// The limits as they are.
    pub(crate) limits: Limits,
    /// How much of each is used.
    pub(crate) meters: [Meter; 3],
    caches: Caches,
    gateway: Gateway,
    ramp: Ramp,
    /// Charges that fall due: when, in which dimension, how much.
    due: BTreeMap<(Mono, u64), (Dimension, u64)>,
    sequence: u64,
    others_charged_at: Mono,
    seed: u64,
}

impl Upstream {
    /// An upstream that nobody has used yet.
    pub(crate) fn new(behaviour: Behaviour, seed: u64) -> Self {
        Self {
            behaviour,
            limits: Limits::new(behaviour.limits),
            meters: [(); 3].map(|()| Meter::new(behaviour.metering)),
            caches: Caches::new(),
            gateway: Gateway::new(behaviour.gateways, seed),
            ramp: Ramp::new(behaviour.has_ramp_rule),
            due: BTreeMap::new(),
            sequence: 0,
            others_charged_at: Mono::ZERO,
            seed,
        }
    }

    /// Charges what has fallen due by `now`.
    pub(crate) fn advance(&mut self, now: Mono) {
        while let Some(entry) = self.due.first_entry() {
            let at = entry.key().0;
            if at > now {
                break;
            }
            let (dimension, amount) = entry.remove();
            self.charge_others(at);
            self.charge(dimension, amount, at);
        }
        self.charge_others(now);
        self.limits.advance(&self.meters, now);
    }

    /// A request arrives for the `tries`-th time.
    pub(crate) fn arrive(&mut self, request: &Request, tries: u64, now: Mono) -> Answer {
        self.advance(now);
        let status = self.verdict(request, tries, now);
        self.ramp.arrived(now);
        let mut answer = Answer { status, fields: Vec::new(), course: None };
        if status == 200 {
            let course = self.course(request, now);
            self.caches.touch(request, now + course.to_first_token);
            let Tokens { prompt, uncached_prompt, generated } = course.tokens;
            self.charge(Dimension::Prompt, prompt, now);
            self.owe(Dimension::UncachedPrompt, uncached_prompt, now + course.to_first_token);
            self.owe(Dimension::Generated, generated, now + course.to_end);
            answer.course = Some(course);
        }
        let limits = Dimension::ALL.map(|dimension| self.limits.get(dimension));
        let remaining = Dimension::ALL.map(|it| self.meters[it as usize].remaining(limits[it as usize], now));
        answer.fields = self.gateway.fields(limits, remaining, status);
        answer
    }

    /// How a request would go that arrives now. The oracle asks too.
    pub(crate) fn course(&self, request: &Request, now: Mono) -> Course {
        let mut dice = Dice::new(self.seed, request.luck);
        let cached = self.caches.cached(request, now);
        let uncached_prompt = request.prompt - cached;
        let prefill = 0.4 + float(uncached_prompt) / 8_000.0 + float(cached) / 400_000.0;
        let to_first_token = seconds(prefill * dice.log_normal(1.0, 0.25));
        let rate = 80.0 * dice.log_normal(1.0, 0.3);
        let to_end = to_first_token + seconds(float(request.generated) / rate);
        let tokens = Tokens { prompt: request.prompt, uncached_prompt, generated: request.generated };
        Course { tokens, to_first_token, to_end }
    }

    /// What others will use of a dimension, in tokens a second, if they go on as they do now.
    pub(crate) fn others_per_second(&self, dimension: Dimension, now: Mono) -> f64 {
        let others = self.behaviour.others;
        let share =
            others.filter(|(_, from, to)| (*from..*to).contains(&now.since(Mono::ZERO).as_secs_f64()));
        share.map_or(0.0, |(share, _, _)| share * float(self.limits.get(dimension)) / 60.0)
    }

    /// Whether starting one more now would break the rule on rising starts.
    pub(crate) fn rises_too_fast(&self, now: Mono, in_transit: usize) -> bool {
        self.ramp.refuses(now, in_transit)
    }

    /// The status that a request meets.
    fn verdict(&mut self, request: &Request, tries: u64, now: Mono) -> u16 {
        let is_cold = self.gateway.is_cold(now);
        if Dice::new(self.seed ^ tries, !request.luck).chance(self.behaviour.overloaded_share) {
            return 503;
        }
        let is_full = Dimension::ALL.iter().any(|dimension| {
            let tokens = if *dimension == Dimension::Prompt { request.prompt } else { 0 };
            self.meters[*dimension as usize].refuses(tokens, self.limits.get(*dimension), now)
        });
        if is_full || self.ramp.refuses(now, 0) || is_cold { 429 } else { 200 }
    }

    fn owe(&mut self, dimension: Dimension, amount: u64, at: Mono) {
        self.sequence += 1;
        self.due.insert((at, self.sequence), (dimension, amount));
    }

    fn charge(&mut self, dimension: Dimension, amount: u64, at: Mono) {
        let limit = self.limits.get(dimension);
        self.meters[dimension as usize].charge(amount, limit, at);
    }

    /// Others use the account evenly, a charge every second.
    fn charge_others(&mut self, now: Mono) {
        const EVERY: Duration = Duration::from_secs(1);
        let Some((share, from, to)) = self.behaviour.others else { return };
        while self.others_charged_at + EVERY <= now {
            self.others_charged_at = self.others_charged_at + EVERY;
            let at = self.others_charged_at;
            if (from..to).contains(&at.since(Mono::ZERO).as_secs_f64()) {
                for dimension in Dimension::ALL {
                    let amount = share * float(self.limits.get(dimension)) / 60.0;
                    self.charge(dimension, tokens(amount), at);
                }
            }
        }
    }
}
