//! The pace at which a lane starts requests after the upstream has refused some. When a refused request
//! itself comes back is decided by `retry`.
//!
//! A 429 is news for the whole lane: it closes until the refused request comes back, and then lets its
//! waiters go one after another, the next as the answer to the last one turns out good, so that nobody
//! runs into a limit that somebody has just met. An overload is no limit of ours: it spaces starts and
//! closes nothing. Good answers take the spacing back step by step.
//!
//! Requests that were started before a refusal tell nothing about what comes after it: eight refusals
//! of one burst are one piece of news, and slow the lane once.

use std::time::Duration;

use super::window::Window;
use crate::{
    config::{Technique, Techniques},
    time::Mono,
};

/// The spacing after a 429: the longest that a waiter is held up by one before it that is not
/// answered. Fireworks was seen to refuse within 0.3 s, so what is not refused by then was let in.
const GAP_MAX: Duration = Duration::from_secs(2);

/// The longest that a lane is closed, whatever was asked for: limits are per minute, and who needs to
/// know that an account is closed for longer has to hear it from the upstream.
const CLOSED_MAX: Duration = Duration::from_secs(60);

/// The spacing after the first overload.
const GAP_OVERLOADED: Duration = Duration::from_millis(250);

/// So many refusals in a row that our books cannot explain are taken for a limit all the same.
pub(super) const UNEXPLAINED_MAX: u32 = 3;

/// The share of the requests per second of the settings that one lane starts near its limits, however few it started
/// lately: with a refusal back within 0.2 s, two or three are under way by then.
const NEAR_SHARE: f64 = 0.25;

/// Near a limit, starts may come so many times as fast as in the last minute.
const NEAR_RISE: f64 = 2.0;

/// The same after a refusal that no limit explains: 25 to 349 requests a minute within six minutes drew refusals at an
/// eighth of the limits, which is a doubling every hundred seconds.
const CAREFUL_RISE: f64 = 1.5;

/// And at least so many a second then.
const CAREFUL_PER_SECOND: f64 = 1.0;

/// How long that lasts after the last such refusal.
const CAREFUL_FOR: Duration = Duration::from_secs(600);

/// A shorter spacing is none.
const GAP_MIN: Duration = Duration::from_millis(50);

/// The pace of one lane.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// The starts of the last minute.
    starts: Window,
    /// The rate at which starts are let through near a limit, however few there were lately.
    near_per_second: f64,
    /// Until when starts may rise only slowly, because a refusal came that no limit explains.
    careful_until: Mono,
    /// Whether that is done at all.
    is_smooth: bool,
    /// Nobody starts before this.
    closed_until: Mono,
    /// The time between two starts while one is not answered; zero when the lane is not slowed.
    gap: Duration,
    last_start: Mono,
    /// Requests that were started in this era and are not answered.
    unanswered: u32,
    era: Era,
    /// The era that the last 429 began.
    refused_era: Era,
    /// 429s one after another, with no good answer and no quiet minute in between.
    refusals: u32,
    /// When the last of them came.
    refused_at: Mono,
}

/// The time between two pieces of bad news. A request carries that of its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Era(u64);

/// What an answer says of the upstream's willingness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// It let the request in.
    Admitted,
    /// It met a limit, and the request comes back at this time or could have.
    RateLimited {
        /// When.
        until: Mono,
    },
    /// It is short of capacity.
    Overloaded,
    /// There was no answer, or one that says nothing of it.
    Unknown,
}

/// What a reception says that was not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing.
    None,
    /// Requests are let in.
    Admitted,
    /// They are refused, so many times now with no good answer in between.
    Refused {
        /// How many times.
        in_a_row: u32,
    },
}

impl Pace {
    /// A pace that nothing has slowed. `requests_per_second` is what the settings allow in all.
    pub(super) fn new(requests_per_second: f64, techniques: Techniques) -> Self {
        Self {
            starts: Window::new(Duration::ZERO),
            near_per_second: requests_per_second * NEAR_SHARE,
            careful_until: Mono::ZERO,
            closed_until: Mono::ZERO,
            gap: Duration::ZERO,
            last_start: Mono::ZERO,
            unanswered: 0,
            era: Era(0),
            refused_era: Era(0),
            refusals: 0,
            refused_at: Mono::ZERO,
            is_smooth: techniques.has(Technique::SmoothStarts),
        }
    }

    /// Whether a request may start; if not, from when on. `is_near` says that the lane is near one of its limits.
    pub(super) fn check(&mut self, is_near: bool, now: Mono) -> Result<(), Mono> {
        let spaced = if self.unanswered == 0 { Mono::ZERO } else { self.last_start + self.gap };
        let smoothed = self.smooth_gap(is_near, now).map_or(Mono::ZERO, |gap| self.last_start + gap);
        let earliest = self.closed_until.max(spaced).max(smoothed);
        if earliest <= now { Ok(()) } else { Err(earliest) }
    }

    /// How long after a start the next one may come, as things stand.
    pub(super) fn gap(&mut self, is_near: bool, now: Mono) -> Duration {
        self.smooth_gap(is_near, now).unwrap_or_default().max(self.gap)
    }

    /// How many requests were started within the last minute.
    pub(super) fn starts(&mut self, now: Mono) -> u64 {
        self.starts.used(now)
    }

    /// The time between two starts, where they may not all come at once: near a limit, so that few are under way when
    /// it turns out to have been lowered; and where starts that rise too fast may have been refused.
    #[expect(clippy::cast_precision_loss, reason = "there are few starts in a minute")]
    fn smooth_gap(&mut self, is_near: bool, now: Mono) -> Option<Duration> {
        let usual = self.starts.used(now) as f64 / 60.0;
        let per_second = if !self.is_smooth {
            return None;
        } else if now < self.careful_until {
            (usual * CAREFUL_RISE).max(CAREFUL_PER_SECOND.min(self.near_per_second))
        } else if is_near {
            (usual * NEAR_RISE).max(self.near_per_second)
        } else {
            return None;
        };
        Some(Duration::from_secs_f64(1.0 / per_second))
    }

    /// A request starts. Gives the era that [`Self::received`] is to be told.
    pub(super) fn start(&mut self, now: Mono) -> Era {
        if now.since(self.last_start.max(self.closed_until)) > CLOSED_MAX {
            // Nobody has come for a minute: what was met before says nothing any more.
            self.gap = Duration::ZERO;
        }
        self.last_start = now;
        self.starts.add(now, 1);
        self.unanswered += 1;
        self.era
    }

    /// How a request that was started in `era` was received. Said once of each.
    pub(super) fn received(&mut self, era: Era, reception: Reception, is_explained: bool, now: Mono) -> News {
        let is_news = era == self.era;
        if is_news {
            self.unanswered -= 1;
        }
        match reception {
            Reception::Admitted if is_news => {
                self.gap /= 2;
                if self.gap < GAP_MIN {
                    self.gap = Duration::ZERO;
                }
                self.refusals = 0;
                News::Admitted
            }
            Reception::RateLimited { until } if era >= self.refused_era => {
                // Limits are per minute: what was refused before a lunch break is not the same trouble.
                let is_old = now.since(self.refused_at) > CLOSED_MAX;
                self.refusals = if is_old { 1 } else { self.refusals.saturating_add(1) };
                self.refused_at = now;
                if is_explained || self.refusals >= UNEXPLAINED_MAX {
                    self.closed_until = self.closed_until.max(until.min(now + CLOSED_MAX));
                    self.gap = GAP_MAX;
                }
                if !is_explained {
                    self.careful_until = now + CAREFUL_FOR;
                }
                self.begin_era();
                self.refused_era = self.era;
                News::Refused { in_a_row: self.refusals }
            }
            Reception::Overloaded if is_news => {
                self.gap = (self.gap * 2).clamp(GAP_OVERLOADED, GAP_MAX);
                self.begin_era();
                News::None
            }
            _ => News::None,
        }
    }

    fn begin_era(&mut self) {
        self.era.0 += 1;
        self.unanswered = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::ZERO + Duration::from_millis(millis)
    }

    fn pace() -> Pace {
        Pace::new(20.0, Techniques::default())
    }

    fn refuse(pace: &mut Pace, era: Era, until: u64) {
        pace.received(era, Reception::RateLimited { until: at(until) }, true, at(0));
    }

    #[test]
    fn without_news_nobody_waits() {
        let mut pace = pace();
        for millis in [5, 5, 5, 6] {
            assert_eq!(pace.check(false, at(millis)), Ok(()));
            let era = pace.start(at(millis));
            pace.received(era, Reception::Unknown, true, at(0));
        }
    }

    #[test]
    fn a_refusal_closes_the_lane_and_good_answers_open_it_one_after_another() {
        let mut pace = pace();
        let burst: Vec<Era> = (0..8).map(|_| pace.start(at(0))).collect();
        refuse(&mut pace, burst[0], 1_500);
        // The rest of the burst is the same news, and the good answers in it are old.
        refuse(&mut pace, burst[1], 1_900);
        pace.received(burst[2], Reception::Admitted, true, at(0));
        assert_eq!(pace.check(false, at(1_000)), Err(at(1_500)));

        let mut now = 1_500;
        let mut gaps = Vec::new();
        while pace.gap > Duration::ZERO {
            assert_eq!(pace.check(false, at(now)), Ok(()));
            let era = pace.start(at(now));
            gaps.push(pace.check(false, at(now)).expect_err("the one before is not answered").since(at(now)));
            now += 40;
            pace.received(era, Reception::Admitted, true, at(0));
        }
        assert_eq!(
            gaps,
            [2_000, 1_000, 500, 250, 125, 62].map(Duration::from_millis).map(|gap| {
                // Halves of milliseconds are in the last one.
                if gap == Duration::from_millis(62) { Duration::from_micros(62_500) } else { gap }
            })
        );
        pace.start(at(now));
        assert_eq!(pace.check(false, at(now)), Ok(()), "nobody waits any more");
    }

    #[test]
    fn a_lane_is_not_closed_for_longer_than_a_minute() {
        let mut pace = pace();
        let era = pace.start(at(0));
        refuse(&mut pace, era, 3_600_000);
        assert_eq!(pace.check(false, at(0)), Err(at(60_000)));
    }

    #[test]
    fn a_minute_in_which_nobody_comes_ends_the_spacing_and_a_closed_minute_does_not() {
        let mut pace = pace();
        let era = pace.start(at(0));
        refuse(&mut pace, era, 60_000);
        let mut later = pace.clone();
        pace.start(at(60_001));
        assert!(pace.check(false, at(60_001)).is_err());
        later.start(at(120_001));
        assert_eq!(later.check(false, at(120_001)), Ok(()));
    }

    #[test]
    fn a_long_answer_holds_nobody_up_for_longer_than_a_refusal_takes() {
        let mut pace = pace();
        let era = pace.start(at(0));
        refuse(&mut pace, era, 1_000);
        pace.start(at(1_000));
        assert_eq!(pace.check(false, at(1_001)), Err(at(3_000)));
        pace.start(at(3_000));
        assert_eq!(pace.check(false, at(3_001)), Err(at(5_000)));
    }

    #[test]
    fn a_refused_probe_closes_the_lane_again() {
        let mut pace = pace();
        let era = pace.start(at(0));
        refuse(&mut pace, era, 1_000);
        let probe = pace.start(at(1_000));
        refuse(&mut pace, probe, 3_500);
        assert_eq!(pace.check(false, at(2_000)), Err(at(3_500)));
        assert_eq!(pace.check(false, at(3_500)), Ok(()));
    }

    #[test]
    fn refusals_in_a_row_are_counted_by_news_and_forgotten_with_a_good_answer() {
        let mut pace = pace();
        let burst: Vec<Era> = (0..3).map(|_| pace.start(at(0))).collect();
        let refused =
            |pace: &mut Pace, era| pace.received(era, Reception::RateLimited { until: at(1) }, true, at(0));
        assert_eq!(refused(&mut pace, burst[0]), News::Refused { in_a_row: 1 });
        assert_eq!(refused(&mut pace, burst[1]), News::None, "it is of the same burst");
        let probe = pace.start(at(1));
        assert_eq!(refused(&mut pace, probe), News::Refused { in_a_row: 2 });
        assert_eq!(pace.received(burst[2], Reception::Admitted, true, at(2)), News::None, "it is old");
        let probe = pace.start(at(2));
        assert_eq!(pace.received(probe, Reception::Admitted, true, at(2)), News::Admitted);
        let probe = pace.start(at(3));
        assert_eq!(refused(&mut pace, probe), News::Refused { in_a_row: 1 });
    }

    #[test]
    fn refusals_are_forgotten_after_a_quiet_minute() {
        let mut pace = pace();
        let mut refused_at = |seconds: u64| {
            let era = pace.start(at(seconds * 1_000));
            pace.received(era, Reception::RateLimited { until: at(0) }, true, at(seconds * 1_000))
        };
        assert_eq!(refused_at(5), News::Refused { in_a_row: 1 });
        assert_eq!(refused_at(65), News::Refused { in_a_row: 2 });
        assert_eq!(refused_at(126), News::Refused { in_a_row: 1 });
    }

    #[test]
    fn an_overload_spaces_starts_and_closes_nothing() {
        let mut pace = pace();
        let eras: Vec<Era> = (0..3).map(|_| pace.start(at(0))).collect();
        pace.received(eras[0], Reception::Overloaded, true, at(0));
        pace.received(eras[1], Reception::Overloaded, true, at(0));
        assert_eq!(pace.check(false, at(0)), Ok(()));
        let era = pace.start(at(0));
        assert_eq!(pace.check(false, at(0)), Err(at(250)));
        pace.received(era, Reception::Overloaded, true, at(0));
        pace.start(at(0));
        assert_eq!(pace.check(false, at(0)), Err(at(500)));
        // A 429 of a request from before the overload is news all the same.
        refuse(&mut pace, eras[2], 900);
        assert_eq!(pace.check(false, at(500)), Err(at(900)));
    }

    #[test]
    fn near_a_limit_starts_come_apart_and_else_all_at_once() {
        let mut pace = pace();
        pace.start(at(1_000));
        assert_eq!(pace.check(false, at(1_000)), Ok(()));
        assert_eq!(pace.check(true, at(1_000)), Err(at(1_200)), "a quarter of 20 a second");
        // With ten a second in the last minute, twenty may come.
        for _ in 1..600 {
            pace.start(at(2_000));
        }
        assert_eq!(pace.check(true, at(2_000)), Err(at(2_050)));
    }

    #[test]
    fn a_refusal_that_no_limit_explains_closes_nothing_and_lets_starts_rise_slowly() {
        let mut pace = pace();
        let era = pace.start(at(0));
        let refused = Reception::RateLimited { until: at(5_000) };
        assert_eq!(pace.received(era, refused, false, at(200)), News::Refused { in_a_row: 1 });
        assert_eq!(pace.check(false, at(200)), Err(at(1_000)), "one a second");
        let later = CAREFUL_FOR + Duration::from_millis(200);
        let long_after = Mono::ZERO + later;
        pace.start(long_after);
        assert_eq!(pace.check(false, long_after), Ok(()));
    }

    #[test]
    fn the_third_in_a_row_is_a_limit_all_the_same() {
        let mut pace = pace();
        for millis in [0, 2_000, 4_000] {
            let era = pace.start(at(millis));
            let until = at(millis + 9_000);
            pace.received(era, Reception::RateLimited { until }, false, at(millis + 200));
        }
        assert_eq!(pace.check(false, at(6_000)), Err(at(13_000)));
    }
}
