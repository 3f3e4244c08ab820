//! One lane: the three token budgets of one model under one credential.

use super::{
    Dimension, Refusal, Tokens, WaitsFor,
    book::Book,
    demand::Estimator,
    pace::{Era, News, Pace, Reception},
};
use crate::{config::TokenLimits, time::Mono};

/// Fireworks limits each model of an account apart, so each has books of its own.
#[derive(Debug)]
pub struct Lane {
    /// The model as clients name it; empty where a body names none.
    pub model: String,
    /// The keyed hash of the credential. Says nothing about the credential itself.
    pub credential: u64,
    /// What its requests cost.
    pub estimator: Estimator,
    /// Requests between admission and settlement.
    pub in_flight: usize,
    /// How fast it may start requests.
    pace: Pace,
    books: [Book; 3],
    safety_ratio: f64,
    last_used: Mono,
}

/// One budget, as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// Which one.
    pub dimension: Dimension,
    /// The limit of the settings, in tokens per minute.
    pub configured: u64,
    /// The limit that headers taught, if any.
    pub learned: Option<u64>,
    /// What may be used within a minute: the limit that holds, times the safety ratio.
    pub effective: u64,
    /// Used within the last minute.
    pub used: u64,
    /// Held for requests in flight.
    pub reserved: u64,
}

impl Lane {
    /// A lane with empty books.
    pub(super) fn new(
        model: &str,
        credential: u64,
        limits: &TokenLimits,
        safety_ratio: f64,
        now: Mono,
    ) -> Self {
        Self {
            model: model.to_owned(),
            credential,
            estimator: Estimator::default(),
            in_flight: 0,
            pace: Pace::default(),
            books: [limits.prompt, limits.uncached_prompt, limits.generated].map(Book::new),
            safety_ratio,
            last_used: now,
        }
    }

    /// Whether a request may start: as to the pace, and then as to the room for `demand` in all three
    /// budgets. If there is none, the budget is named that has to be waited for longest.
    ///
    /// # Errors
    /// What to wait for, and when it is worth asking again.
    pub(super) fn check(&mut self, demand: &Tokens, now: Mono) -> Result<(), Refusal> {
        let slowed = |until| Refusal { waits_for: WaitsFor::Pace, until: Some(until) };
        self.pace.check(now).map_err(slowed)?;
        let safety_ratio = self.safety_ratio;
        let mut refusals = Dimension::ALL.into_iter().filter_map(|dimension| {
            let book = &mut self.books[dimension as usize];
            let until = book.check(demand.get(dimension), safety_ratio, now).err()?;
            Some(Refusal { waits_for: WaitsFor::Tokens(dimension), until })
        });
        let Some(first) = refusals.next() else { return Ok(()) };
        // No time at all, "when somebody settles", outlasts every time.
        let is_longer = |left: &Refusal, right: &Refusal| {
            left.until.is_none()
                || right.until.is_some_and(|right| left.until.is_some_and(|left| left > right))
        };
        Err(refusals.fold(first, |longest, other| if is_longer(&other, &longest) { other } else { longest }))
    }

    pub(super) fn reserve(&mut self, demand: &Tokens, now: Mono) -> Era {
        for dimension in Dimension::ALL {
            self.books[dimension as usize].reserved += demand.get(dimension);
        }
        self.in_flight += 1;
        self.last_used = now;
        self.pace.start(now)
    }

    /// How a request that was started in `era` was received: news for everyone in the lane.
    pub(super) fn received(&mut self, era: Era, reception: Reception, now: Mono) {
        let safety_ratio = self.safety_ratio;
        match self.pace.received(era, reception, now) {
            News::Refused { in_a_row } => {
                self.books.iter_mut().for_each(|book| book.doubt(in_a_row, safety_ratio, now));
            }
            News::Admitted => self.books.iter_mut().for_each(|book| book.regain_trust(safety_ratio, now)),
            News::None => {}
        }
    }

    /// Counts the prompt from the moment the request is sent, as Fireworks does at admission.
    pub(super) fn count_prompt(&mut self, tokens: u64, now: Mono) {
        let book = &mut self.books[Dimension::Prompt as usize];
        book.reserved -= tokens;
        book.window.add(now, tokens);
    }

    /// Replaces what was held for a request by what it used. The prompt counts from `sent_at`, the
    /// rest from `now`: Fireworks charges it when it is known.
    pub(super) fn settle(&mut self, held: &Tokens, sent_at: Option<Mono>, used: &Tokens, now: Mono) {
        for dimension in Dimension::ALL {
            let book = &mut self.books[dimension as usize];
            let (held, used) = (held.get(dimension), used.get(dimension));
            match sent_at {
                Some(sent_at) if dimension == Dimension::Prompt => {
                    book.window.remove(sent_at, held);
                    book.window.add(sent_at, used);
                }
                _ => {
                    book.reserved -= held;
                    book.window.add(now, used);
                }
            }
        }
        self.in_flight -= 1;
        self.last_used = now;
    }

    /// Takes one limit from a response's headers, in the header's own unit.
    pub(super) fn learn(&mut self, dimension: Dimension, value: u64, now: Mono) {
        if let Some(per_minute) = dimension.per_minute(value) {
            self.books[dimension as usize].limit.learn(per_minute, now);
        }
    }

    /// Each budget as it stands.
    pub fn balances(&mut self, now: Mono) -> [Balance; 3] {
        let safety_ratio = self.safety_ratio;
        Dimension::ALL.map(|dimension| {
            let book = &mut self.books[dimension as usize];
            Balance {
                dimension,
                configured: book.limit.configured().tokens_per_minute,
                learned: book.limit.learned(now),
                effective: book.effective(safety_ratio, now),
                used: book.window.used(now),
                reserved: book.reserved,
            }
        })
    }

    /// Whether nothing would be lost with the lane but what it has learned.
    pub(super) fn is_idle(&mut self, now: Mono) -> bool {
        self.in_flight == 0 && self.books.iter_mut().all(|book| book.window.used(now) == 0)
    }

    pub(super) fn last_used(&self) -> Mono {
        self.last_used
    }
}
