//! The client of one request: an SDK that tries again, and a person behind it.

use std::{rc::Rc, time::Duration};

use fireworks_proxy::time::Mono;

use crate::{
    dice::Dice,
    model::{Request, TO_UPSTREAM},
};

/// How often the SDKs try again, of their own accord.
const SDK_RETRIES: u32 = 2;
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// They shorten a back-off by up to this share, by chance.
const JITTER: f64 = 0.25;
const BACKOFF_MAX: Duration = Duration::from_secs(8);
/// The longest `retry-after` that they follow.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// When an agent has given up, somebody looks after a minute and tells it to go on.
const PERSON_AFTER: Duration = Duration::from_secs(60);

/// A client that waits for an answer.
#[derive(Debug)]
pub(crate) struct Client {
    /// What it asks for.
    pub(crate) request: Rc<Request>,
    asked_at: Mono,
    /// When the upstream let it in the last time.
    let_in_at: Option<Mono>,
    retries: u32,
    refusals: u64,
    arrivals: u64,
}

/// What a refused client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It asks again after so long.
    Again(Duration),
    /// It does not come back.
    Never,
}

impl Client {
    /// One that asks for the first time.
    pub(crate) fn new(request: Rc<Request>, now: Mono) -> Self {
        Self { request, asked_at: now, let_in_at: None, retries: 0, refusals: 0, arrivals: 0 }
    }

    /// How long it waited to be let in, come-backs included, or has waited by `now` if it was not.
    pub(crate) fn waited(&self, now: Mono) -> Duration {
        self.let_in_at.unwrap_or(now).since(self.asked_at + TO_UPSTREAM)
    }

    /// It arrives at the upstream. How often it did before.
    pub(crate) fn arrives(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals - 1
    }

    /// The upstream answers it with a 200.
    pub(crate) fn let_in(&mut self, now: Mono) {
        self.let_in_at = Some(now);
    }

    /// It was refused. Only some have a person behind them, who makes it ask again for as long as it takes.
    pub(crate) fn refused(&mut self, retry_after: Option<Duration>, comes_back: bool) -> Next {
        self.refusals += 1;
        if self.retries < SDK_RETRIES {
            let longest = (BACKOFF_FIRST * 2u32.pow(self.retries)).min(BACKOFF_MAX);
            let share = 1.0 - JITTER * Dice::new(self.request.luck, self.refusals).share();
            let backoff = longest.mul_f64(share);
            self.retries += 1;
            return Next::Again(retry_after.filter(|span| *span <= RETRY_AFTER_MAX).unwrap_or(backoff));
        }
        self.retries = 0;
        if comes_back { Next::Again(PERSON_AFTER) } else { Next::Never }
    }
}
