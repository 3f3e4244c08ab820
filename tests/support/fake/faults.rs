//! Faults that strike at random: how often, and what each does to the answer it strikes.
//!
//! A fault is drawn anew for every generation request that arrives, so one that is tried again can succeed. The draw
//! depends on the seed and on the request's position in the order of arrival, and on nothing else. What a fault is, it
//! says in the words of a [`Script`]. A request whose own script already asks for a fault meets no other.

use std::time::Duration;

use super::super::dice::Dice;
use super::script::{Cut, CutBy, ErrorBody, Script};

/// How many of a hundred refusals have a page of the edge as their body, and how many the older JSON.
const ODD_BODY_PERCENT: f64 = 15.0;

/// How many of a hundred refusals say when to come back. Fireworks' own do not.
const RETRY_AFTER_PERCENT: f64 = 15.0;

/// What those say, in seconds.
const RETRY_AFTER_SECONDS: [u64; 3] = [1, 2, 3];

/// How often requests meet which fault, of a hundred. Together they must not exceed that.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Answered 429.
    pub refuse_percent: f64,
    /// Answered 503.
    pub overload_percent: f64,
    /// The connection ends before the answer's head: by a reset, or by a close in better or worse order.
    pub reset_before_head_percent: f64,
    /// The connection ends in the same ways in the middle of the answer.
    pub cut_mid_stream_percent: f64,
    /// The answer stands still in its middle, and goes on.
    pub stall_percent: f64,
    /// The answer trickles: its first 2 KB byte by byte, and its words so far apart that they take twice a stall.
    pub trickle_percent: f64,
    /// How long a stall lasts.
    pub stall: Duration,
    /// The same seed, the same faults in order of arrival.
    pub seed: u64,
}

/// What strikes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Answered 429.
    Refused,
    /// Answered 503.
    Overloaded,
    /// The connection ended before the head.
    ResetBeforeHead,
    /// The connection ended in the middle of the answer.
    CutMidStream,
    /// The answer stood still for a while.
    Stalled,
    /// The answer came slowly.
    Trickled,
}

impl Default for Faults {
    /// None at all.
    fn default() -> Self {
        Self {
            refuse_percent: 0.0,
            overload_percent: 0.0,
            reset_before_head_percent: 0.0,
            cut_mid_stream_percent: 0.0,
            stall_percent: 0.0,
            trickle_percent: 0.0,
            stall: Duration::from_secs(8),
            seed: 0,
        }
    }
}

impl Faults {
    /// Reads percentages as `429/503/RESET/CUT/STALL` or `429/503/RESET/CUT/STALL/TRICKLE`.
    pub fn parse(value: &str) -> Option<Self> {
        let mut percents: Vec<f64> =
            value.split('/').map(|percent| percent.trim().parse().ok()).collect::<Option<_>>()?;
        if percents.len() == Fault::ALL.len() - 1 {
            percents.push(0.0);
        }
        let [
            refuse_percent,
            overload_percent,
            reset_before_head_percent,
            cut_mid_stream_percent,
            stall_percent,
            trickle_percent,
        ] = percents[..]
        else {
            return None;
        };
        let is_sound =
            percents.iter().all(|percent| *percent >= 0.0) && percents.iter().sum::<f64>() <= 100.0;
        is_sound.then(|| Self {
            refuse_percent,
            overload_percent,
            reset_before_head_percent,
            cut_mid_stream_percent,
            stall_percent,
            trickle_percent,
            ..Self::default()
        })
    }

    /// How many of a hundred requests meet this fault.
    pub fn percent(&self, fault: Fault) -> f64 {
        match fault {
            Fault::Refused => self.refuse_percent,
            Fault::Overloaded => self.overload_percent,
            Fault::ResetBeforeHead => self.reset_before_head_percent,
            Fault::CutMidStream => self.cut_mid_stream_percent,
            Fault::Stalled => self.stall_percent,
            Fault::Trickled => self.trickle_percent,
        }
    }

    /// Draws what strikes the request that arrived as number `number`, and writes it into its script. `events` is how
    /// many words its answer has.
    pub(super) fn strike(&self, number: usize, script: &mut Script, events: usize) -> Option<Fault> {
        if script.has_faults() {
            return None;
        }
        let mut dice = Dice::new(self.seed, number as u64);
        let mut drawn = dice.between(0.0..100.0);
        let struck = Fault::ALL.into_iter().find(|fault| {
            drawn -= self.percent(*fault);
            drawn < 0.0
        })?;
        match struck {
            Fault::Refused => refuse(script, 429, &mut dice),
            Fault::Overloaded => refuse(script, 503, &mut dice),
            Fault::ResetBeforeHead => cut(script, Cut::BeforeHead, &mut dice),
            Fault::CutMidStream => {
                let place = *dice.one_of(&[Cut::MidStream, Cut::InChunk]);
                cut(script, place, &mut dice);
            }
            Fault::Stalled => script.stall = self.stall,
            Fault::Trickled => {
                script.split = true;
                let events = u32::try_from(events).unwrap_or(u32::MAX).max(1);
                script.interval = Some(2 * self.stall / events);
            }
        }
        Some(struck)
    }
}

impl Fault {
    /// All of them, in the order of [`Faults::parse`].
    pub const ALL: [Self; 6] = [
        Self::Refused,
        Self::Overloaded,
        Self::ResetBeforeHead,
        Self::CutMidStream,
        Self::Stalled,
        Self::Trickled,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "429",
            Self::Overloaded => "503",
            Self::ResetBeforeHead => "reset before the head",
            Self::CutMidStream => "cut in mid-stream",
            Self::Stalled => "stall",
            Self::Trickled => "trickle",
        }
    }

    /// Whether it keeps the answer from being whole, and does not only make it slow.
    pub fn is_fatal(self) -> bool {
        !matches!(self, Self::Stalled | Self::Trickled)
    }

    /// Whether it strikes within the body of a good answer, and means nothing for any other.
    pub(super) fn is_in_body(self) -> bool {
        matches!(self, Self::CutMidStream | Self::Stalled | Self::Trickled)
    }
}

fn refuse(script: &mut Script, status: u16, dice: &mut Dice) {
    script.status = Some(status);
    script.error_body = match dice.between(0.0..100.0) {
        drawn if drawn < ODD_BODY_PERCENT => ErrorBody::Html,
        drawn if drawn < 2.0 * ODD_BODY_PERCENT => ErrorBody::StringError,
        _ => ErrorBody::Json,
    };
    let tells_when = dice.percent(RETRY_AFTER_PERCENT);
    script.retry_after = tells_when.then(|| dice.one_of(&RETRY_AFTER_SECONDS).to_string());
}

fn cut(script: &mut Script, place: Cut, dice: &mut Dice) {
    script.cut = Some(place);
    script.cut_by = *dice.one_of(&[CutBy::Shutdown, CutBy::Reset, CutBy::Close]);
}
