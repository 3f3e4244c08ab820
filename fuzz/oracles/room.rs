//! The room in the budgets of a lane, by their rule told once more: what was counted, when it counts no more, and
//! what requests under way are expected to cost by when.
//!
//! What is expected of a request is for the estimator to say, and what it says is taken from it here.

use std::time::Duration;

use fireworks_proxy::{
    budget::{
        Balance, Dimension, Reservation,
        demand::{Asked, Demand},
        outlook::{HORIZONS, Outlook},
    },
    inspect::{ContentSize, Prefix},
    json::TextSize,
    time::Mono,
};

/// Tokens leave a minute together with those of the same quarter of a second.
const SLOT: Duration = Duration::from_millis(250);

/// Tokens that were counted.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    pub lane: usize,
    pub dimension: Dimension,
    pub at: Mono,
    pub tokens: u64,
}

impl Counted {
    /// How long they count at least. The upstream begins to count a prompt a moment after it was sent.
    fn span(&self) -> Duration {
        let lateness = if self.dimension == Dimension::Prompt { 500 } else { 0 };
        Duration::from_secs(60) + Duration::from_millis(lateness)
    }
}

/// All that was counted.
#[derive(Debug, Default)]
pub struct Books(Vec<Counted>);

impl Books {
    /// Counts tokens. Gives the place where they can be corrected.
    pub fn count(&mut self, counted: Counted) -> usize {
        self.0.push(counted);
        self.0.len() - 1
    }

    /// Replaces what was counted by what it really was.
    pub fn correct(&mut self, place: usize, tokens: u64) {
        self.0[place].tokens = tokens;
    }

    /// What counts of it at a time, at least and at most.
    pub fn used(&self, (lane, dimension): (usize, Dimension), at: Mono) -> (u64, u64) {
        let sum = |longer: Duration| {
            let of_book =
                self.0.iter().filter(|counted| (counted.lane, counted.dimension) == (lane, dimension));
            let counting = of_book.filter(|counted| at.since(counted.at) < counted.span() + longer);
            counting.map(|counted| counted.tokens).sum::<u64>()
        };
        (sum(Duration::ZERO), sum(SLOT))
    }

    /// A request may start while something is left of the limit, and if at no time to come there is more counted than
    /// the limit, as far as that can be expected now. Where nothing is counted and nothing expected, it may be bigger
    /// than all of it.
    pub fn assert_room(&self, lane: usize, before: &Balance, expected: &Outlook, cost: &Outlook, now: Mono) {
        let Balance { dimension, effective, used, reserved, .. } = *before;
        if cost.total == 0 || used + reserved == 0 {
            return;
        }
        assert!(used == 0 || used < effective, "nothing is left: {before:?}");
        for (index, horizon) in HORIZONS.into_iter().enumerate() {
            let (left_by_then, _) = self.used((lane, dimension), now + horizon);
            let charged_by_then = expected.by[index] + cost.by[index];
            assert!(
                left_by_then + charged_by_then <= effective,
                "in {horizon:?} {left_by_then} are left and {charged_by_then} expected: {before:?}"
            );
        }
    }
}

/// What several requests are expected to cost together.
pub fn sum<'a>(outlooks: impl Iterator<Item = &'a Outlook>) -> Outlook {
    outlooks.fold(Outlook::default(), |mut sum, outlook| {
        sum.total += outlook.total;
        sum.by.iter_mut().zip(outlook.by).for_each(|(sum, tokens)| *sum += tokens);
        sum
    })
}

/// A request that was let in and has not ended.
pub struct Running {
    pub reservation: Reservation,
    pub lane: usize,
    pub asked: Asked,
    pub started_at: Mono,
    /// What it is expected to cost.
    pub expected: Demand,
    /// What went by of its answer when that was looked at last.
    pub seen: u64,
    pub sent_at: Option<Mono>,
    pub is_received: bool,
    /// What of it is counted already, and where.
    pub counted: [Option<usize>; 3],
}

impl Running {
    /// What it is expected to cost in a dimension, where that does not count yet.
    pub fn awaited(&self, dimension: Dimension) -> Option<&Outlook> {
        let index = dimension as usize;
        self.counted[index].is_none().then_some(&self.expected.0[index])
    }
}

/// A prompt of so many characters. Half of them have a beginning that is known when the same comes again.
pub fn asked(chars: u64, output_cap: Option<u64>) -> Asked {
    let size =
        ContentSize { text: TextSize { ascii: chars, ..TextSize::default() }, ..ContentSize::default() };
    let prefixes: &[Prefix] = if chars.is_multiple_of(2) { &[Prefix { hash: chars, size }] } else { &[] };
    Asked { size, prefixes: prefixes.into(), output_cap }
}

/// The share of a limit that is used or held, at least.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub fn load(balance: &Balance) -> f64 {
    let limit = balance.learned.unwrap_or(0).max(balance.configured).max(1);
    (balance.used + balance.reserved) as f64 / limit as f64
}
