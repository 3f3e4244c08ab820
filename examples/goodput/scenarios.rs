//! The scenarios: what is asked for, and how the upstream behaves.

use crate::{
    tally::Tally,
    upstream::{
        Behaviour,
        gateway::Gateways,
        limits::{CEILINGS, Plan, STARTING, Tpm},
        meter::Metering,
    },
    work::{
        Workload,
        agents::{Agents, CALLS_MEDIAN, CONTEXT_START, Crowd, MaxTokens},
        trace::Trace,
    },
};

/// One line of comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// Names it on the command line and in the table.
    pub(crate) name: &'static str,
    /// What it is, for `--list`.
    pub(crate) about: &'static str,
    /// What is asked for.
    pub(crate) work: Work,
    /// How the upstream behaves.
    pub(crate) behaviour: Behaviour,
}

impl Scenario {
    /// The one of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|scenario| scenario.name == name)
    }

    /// How much work a contestant has done, in the unit of the scenario: steps or tokens a minute.
    pub(crate) fn goodput(&self, tally: &Tally) -> f64 {
        if self.work.is_trace() { tally.tokens_per_minute() } else { tally.steps_per_minute() }
    }

    /// The same as a share of the oracle's.
    pub(crate) fn share(&self, tally: &Tally, oracle: &Tally) -> f64 {
        self.goodput(tally) / self.goodput(oracle)
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Agents in a closed loop.
    Crowd(Crowd),
    /// The trace, so many times as fast as it was recorded.
    Trace(f64),
}

impl Work {
    /// Makes it begin.
    ///
    /// # Errors
    /// The trace cannot be read.
    pub(crate) fn begin(&self, trace: Option<&str>, seed: u64) -> Result<Box<dyn Workload>, String> {
        Ok(match self {
            Self::Crowd(crowd) => Box::new(Agents::new(*crowd, seed)),
            Self::Trace(times) => Box::new(Trace::parse(trace.unwrap_or_default(), *times)?),
        })
    }

    /// Whether it is the trace, which counts in tokens: its requests come whether or not others were answered.
    pub(crate) fn is_trace(&self) -> bool {
        matches!(self, Self::Trace(_))
    }
}

const CROWD: Crowd = Crowd {
    agents: 8,
    max_tokens: MaxTokens::Mixed,
    burst_chance: 0.0,
    wide_sessions: 0.0,
    image_chance: 0.0,
    context: CONTEXT_START,
    calls: CALLS_MEDIAN,
    hog: None,
};

const PLAIN: Behaviour = Behaviour {
    metering: Metering::Windows,
    limits: Plan::Static(STARTING),
    gateways: Gateways::Exact,
    has_ramp_rule: false,
    overloaded_share: 0.0,
    others: None,
};

const fn times(factor_hundredths: u64) -> Tpm {
    [
        STARTING[0] * factor_hundredths / 100,
        STARTING[1] * factor_hundredths / 100,
        STARTING[2] * factor_hundredths / 100,
    ]
}

/// So many agents, with the clients of the day.
pub(crate) const fn crowd(agents: usize) -> Crowd {
    Crowd { agents, ..CROWD }
}

const fn buckets(burst_seconds: f64) -> Behaviour {
    Behaviour { metering: Metering::Buckets { burst_seconds }, ..PLAIN }
}

const fn limits(limits: Plan) -> Behaviour {
    Behaviour { limits, ..PLAIN }
}

const EACH_50K: Crowd = Crowd { max_tokens: MaxTokens::Each(50_000), ..CROWD };

/// All of them.
pub(crate) const ALL: [Scenario; 24] = [
    scenario("8-windows", "8 agents, max_tokens 50,000, windows", Work::Crowd(EACH_50K), PLAIN),
    scenario("8-buckets-15", "the same with buckets of 15 s", Work::Crowd(EACH_50K), buckets(15.0)),
    scenario("16-windows", "16 agents, windows", Work::Crowd(crowd(16)), PLAIN),
    scenario("16-buckets-10", "16 agents, buckets of 10 s", Work::Crowd(crowd(16)), buckets(10.0)),
    scenario("16-buckets-60", "16 agents, buckets of 60 s", Work::Crowd(crowd(16)), buckets(60.0)),
    scenario("32-windows", "32 agents, more than the limits allow", Work::Crowd(crowd(32)), PLAIN),
    scenario("32-buckets-15", "the same with buckets of 15 s", Work::Crowd(crowd(32)), buckets(15.0)),
    scenario(
        "halved",
        "limits halved at 20 and at 40 minutes",
        Work::Crowd(crowd(64)),
        limits(Plan::Steps(times(400), &[(1_200.0, 0.5), (2_400.0, 0.5)])),
    ),
    scenario(
        "doubled",
        "limits doubled at 20 and at 40 minutes",
        Work::Crowd(crowd(64)),
        limits(Plan::Steps(times(100), &[(1_200.0, 2.0), (2_400.0, 2.0)])),
    ),
    scenario(
        "adaptive",
        "limits that grow by a quarter with use",
        Work::Crowd(crowd(48)),
        limits(Plan::Adaptive { start: STARTING, ceiling: 6.0 }),
    ),
    scenario(
        "noisy",
        "16 gateways, one of them cold",
        Work::Crowd(crowd(48)),
        // More than the cold one says, or to believe it would cost nothing.
        Behaviour { gateways: Gateways::Noisy, limits: Plan::Static(times(200)), ..PLAIN },
    ),
    scenario(
        "partial",
        "half of the fields are missing",
        Work::Crowd(crowd(24)),
        Behaviour { gateways: Gateways::Partial, ..PLAIN },
    ),
    scenario(
        "missing",
        "no fields at all",
        Work::Crowd(crowd(24)),
        Behaviour { gateways: Gateways::Missing, ..PLAIN },
    ),
    scenario(
        "others",
        "others use 40 % from 15 to 40 minutes",
        Work::Crowd(crowd(24)),
        Behaviour { others: Some((0.4, 900.0, 2_400.0)), ..PLAIN },
    ),
    scenario(
        "ramp",
        "starts that double within a minute are refused",
        Work::Crowd(crowd(24)),
        Behaviour { has_ramp_rule: true, limits: Plan::Static(times(300)), ..PLAIN },
    ),
    scenario(
        "503",
        "5 % meet a pool without capacity",
        Work::Crowd(crowd(16)),
        Behaviour { overloaded_share: 0.05, ..PLAIN },
    ),
    scenario(
        "sub-agents",
        "bursts of 3 to 5 sub-agents",
        Work::Crowd(Crowd { burst_chance: 0.06, ..crowd(8) }),
        PLAIN,
    ),
    scenario(
        "cjk-images",
        "half of the sessions CJK, images",
        Work::Crowd(Crowd { wide_sessions: 0.5, image_chance: 0.15, ..crowd(24) }),
        PLAIN,
    ),
    scenario(
        "long-prompts",
        "contexts from 100,000 tokens on, text and CJK",
        Work::Crowd(Crowd { context: 100_000.0, wide_sessions: 0.3, ..crowd(16) }),
        PLAIN,
    ),
    scenario(
        "cold-prompts",
        "sessions of four calls from 60,000 tokens on",
        Work::Crowd(Crowd { context: 60_000.0, calls: 4.0, ..crowd(16) }),
        PLAIN,
    ),
    scenario(
        "hog",
        "one terminal with 24 conversations, 15 with one",
        Work::Crowd(Crowd { hog: Some(24), ..crowd(16) }),
        PLAIN,
    ),
    scenario("trace-1x", "the trace as recorded", Work::Trace(1.0), limits(Plan::Static(CEILINGS))),
    scenario("trace-2x", "the trace twice as fast", Work::Trace(2.0), limits(Plan::Static(CEILINGS))),
    scenario("trace-4x", "the trace four times as fast", Work::Trace(4.0), limits(Plan::Static(CEILINGS))),
];

const fn scenario(name: &'static str, about: &'static str, work: Work, behaviour: Behaviour) -> Scenario {
    Scenario { name, about, work, behaviour }
}
