//! Which share of the limits is used.

use std::time::Duration;

use super::knowledge::to_decimals;
use crate::{config::SAFETY_RATIO_START, time::Mono};

/// The most: what is counted a moment later here than there needs some room.
const RATIO_MAX: f64 = 0.99;
/// The least: below it something else than our measure is wrong.
const RATIO_MIN: f64 = 0.40;
/// A step up, for each request that was let in while the budgets were nearly used up.
const STEP_UP: f64 = 0.004;
/// What a refusal leaves of it.
const STEP_DOWN: f64 = 0.95;
/// Near the ratio at which it was last refused it goes up by so much less.
const CAUTION: f64 = 0.02;
/// How long that is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// The share of a lane's limits that is used, in (0, 1].
///
/// Estimates how far our measure of what is used may be trusted, from whether the upstream lets in what we start near
/// the limits. A number in the settings fixes it. It is wrong by one refusal now and then: that is what it learns from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Margin {
    ratio: f64,
    is_fixed: bool,
    /// The ratio at which the last refusal came, and when.
    refused: Option<(f64, Mono)>,
}

impl Margin {
    pub(super) fn new(fixed: Option<f64>) -> Self {
        Self { ratio: fixed.unwrap_or(SAFETY_RATIO_START), is_fixed: fixed.is_some(), refused: None }
    }

    pub(super) fn ratio(&self) -> f64 {
        self.ratio
    }

    /// The share that was found, to be kept; none that the settings fix.
    pub(super) fn knowledge(&self) -> Option<f64> {
        (!self.is_fixed).then(|| to_decimals(self.ratio, 4))
    }

    /// Goes on from what was kept, as far as it can have been found.
    pub(super) fn restore(&mut self, kept: f64) {
        if !self.is_fixed && (RATIO_MIN..=RATIO_MAX).contains(&kept) {
            self.ratio = kept;
        }
    }

    /// The upstream let a request in although the budgets were nearly used up.
    pub(super) fn held(&mut self, now: Mono) {
        if self.is_fixed {
            return;
        }
        let is_near = self
            .refused
            .is_some_and(|(ratio, at)| now.since(at) < REMEMBERED_FOR && self.ratio > ratio * 0.97);
        let step = if is_near { STEP_UP * CAUTION } else { STEP_UP };
        self.ratio = (self.ratio + step).min(RATIO_MAX);
    }

    /// The upstream refused a request for a limit of ours.
    pub(super) fn refused(&mut self, now: Mono) {
        if !self.is_fixed {
            self.refused = Some((self.ratio, now));
            self.ratio = (self.ratio * STEP_DOWN).max(RATIO_MIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_AT: Mono = Mono::ZERO;

    fn held(margin: &mut Margin, times: usize, now: Mono) {
        (0..times).for_each(|_| margin.held(now));
    }

    #[test]
    fn it_goes_up_while_requests_are_let_in_near_the_limit() {
        let mut margin = Margin::new(None);
        assert!((margin.ratio() - SAFETY_RATIO_START).abs() < 1e-9);
        held(&mut margin, 25, START_AT);
        assert!((margin.ratio() - 0.9).abs() < 1e-6, "{margin:?}");
        held(&mut margin, 1_000, START_AT);
        assert!((margin.ratio() - RATIO_MAX).abs() < 1e-9);
    }

    #[test]
    fn a_refusal_lowers_it_and_is_remembered() {
        let mut margin = Margin::new(None);
        held(&mut margin, 1_000, START_AT);
        margin.refused(START_AT);
        let lowered = margin.ratio();
        assert!((lowered - RATIO_MAX * STEP_DOWN).abs() < 1e-9);
        // Up to just below where it was refused it goes on as before, and then hardly.
        held(&mut margin, 100, START_AT);
        let near = margin.ratio();
        assert!(near > lowered && near < RATIO_MAX * 0.98, "{near}");
        // What was refused ten minutes ago may be allowed now.
        held(&mut margin, 100, START_AT + REMEMBERED_FOR);
        assert!((margin.ratio() - RATIO_MAX).abs() < 1e-9);
    }

    #[test]
    fn it_is_never_nothing() {
        let mut margin = Margin::new(None);
        (0..100).for_each(|_| margin.refused(START_AT));
        assert!((margin.ratio() - RATIO_MIN).abs() < 1e-9);
    }

    #[test]
    fn a_number_fixes_it() {
        let mut margin = Margin::new(Some(0.5));
        held(&mut margin, 1_000, START_AT);
        margin.refused(START_AT);
        assert!((margin.ratio() - 0.5).abs() < 1e-9);
    }
}
