//! The agents beside the published sessions that they are calibrated on: what they do when nothing holds them up.

use std::collections::{BTreeMap, BTreeSet};

use fireworks_proxy::time::Mono;

use crate::{
    model::{Request, at, float},
    scenarios,
    tally::quantile,
    upstream::{Behaviour, Upstream, gateway::Gateways, limits::Plan, meter::Metering},
    work::{Workload, agents::Agents},
};

/// So many agents, for so many virtual hours: some thousand sessions.
const AGENTS: usize = 48;
const HOURS: f64 = 24.0;
/// A figure is off when it differs from the published one by more than this share.
const TOLERANCE: f64 = 0.10;

/// No limit that anybody could meet, and nothing else in the way.
const UNLIMITED: Behaviour = Behaviour {
    metering: Metering::Windows,
    limits: Plan::Static([u64::MAX >> 12; 3]),
    gateways: Gateways::Exact,
    has_ramp_rule: false,
    overloaded_share: 0.0,
    others: None,
};

/// What is known of one session.
#[derive(Debug, Default)]
struct Session {
    calls: u64,
    first_context: u64,
    last_context: u64,
    generated: u64,
    answered_at: Mono,
}

/// What all sessions come to.
#[derive(Debug, Default)]
struct Census {
    /// Those that are over.
    sessions: Vec<Session>,
    /// The session that each conversation is in.
    open: BTreeMap<usize, (String, Session)>,
    /// From an answer to the next request of its session, in seconds.
    tools: Vec<f64>,
    input: u64,
    cached: u64,
}

/// Prints the figures, the published ones beside them. True if none is off.
pub(crate) fn report(seed: u64) -> bool {
    let census = take(seed);
    let figures = census.figures();
    println!(
        "the agents' sessions without limits ({} of them), and the published ones:",
        census.sessions.len()
    );
    let mut holds = true;
    for (name, measured, published) in figures {
        let is_off = published.is_some_and(|published| (measured / published - 1.0).abs() > TOLERANCE);
        holds &= !is_off;
        let published = published.map_or_else(|| "-".to_owned(), |it| format!("{it:.2}"));
        let mark = if is_off { "FAIL" } else { "" };
        println!("  {name:<36} {measured:>10.2} {published:>10} {mark}");
    }
    holds
}

/// Lets the agents work.
fn take(seed: u64) -> Census {
    let mut agents = Agents::new(scenarios::crowd(AGENTS), seed);
    let mut upstream = Upstream::new(UNLIMITED, seed);
    let (mut ends, mut under_way) = (BTreeSet::new(), BTreeMap::new());
    let mut census = Census::default();
    loop {
        let end: Option<(Mono, u64)> = ends.first().copied();
        let due = agents.next_due();
        let Some(now) = [end.map(|(at, _)| at), due].into_iter().flatten().min() else { break };
        if now >= at(HOURS * 3_600.0) {
            break;
        }
        if let Some((_, id)) = end.filter(|(at, _)| *at == now) {
            ends.pop_first();
            let request: Request = under_way.remove(&id).expect("it ends once");
            census.answered(&request, now);
            agents.answered(&request, now);
        } else if let Some(request) = agents.take_due(now) {
            let course = upstream.arrive(&request, 0, now).course.expect("nothing is refused");
            census.asked(&request, request.prompt - course.tokens.uncached_prompt, now);
            ends.insert((now + course.to_end, request.id));
            under_way.insert(request.id, request);
        }
    }
    census
}

impl Census {
    fn asked(&mut self, request: &Request, cached: u64, now: Mono) {
        self.input += request.prompt;
        self.cached += cached;
        let (name, session) = self.open.entry(request.thread).or_default();
        if *name == request.session {
            self.tools.push(now.since(session.answered_at).as_secs_f64());
        } else {
            name.clone_from(&request.session);
            let over = std::mem::take(session);
            session.first_context = request.prompt;
            // Before the first session there was none.
            self.sessions.extend((over.calls > 0).then_some(over));
        }
    }

    fn answered(&mut self, request: &Request, now: Mono) {
        let (_, session) = self.open.get_mut(&request.thread).expect("it has asked");
        session.calls += 1;
        session.last_context = request.prompt;
        session.generated += request.generated;
        session.answered_at = now;
    }

    /// Name, what was measured, and what was published.
    fn figures(&self) -> Vec<(&'static str, f64, Option<f64>)> {
        let sorted = |field: fn(&Session) -> u64| {
            let mut all: Vec<f64> = self.sessions.iter().map(|it| float(field(it))).collect();
            all.sort_unstable_by(f64::total_cmp);
            all
        };
        let mean = |all: &[f64]| all.iter().sum::<f64>() / float(all.len().max(1) as u64);
        let at = |all: &[f64], share| quantile(all, share).unwrap_or_default();
        let (calls, last) = (sorted(|it| it.calls), sorted(|it| it.last_context));
        let generated = sorted(|it| it.generated);
        let mut tools = self.tools.clone();
        tools.sort_unstable_by(f64::total_cmp);
        vec![
            ("calls a session, mean", mean(&calls), Some(33.0)),
            ("calls a session, p50", at(&calls, 0.50), Some(30.0)),
            ("calls a session, p90", at(&calls, 0.90), Some(57.0)),
            ("context at first, mean (1,000)", mean(&sorted(|it| it.first_context)) / 1e3, Some(12.4)),
            ("context at the end, mean (1,000)", mean(&last) / 1e3, Some(84.5)),
            ("context at the end, p90 (1,000)", at(&last, 0.90) / 1e3, Some(130.0)),
            (
                "input that is not cached, %",
                100.0 * float(self.input - self.cached) / float(self.input),
                Some(6.0),
            ),
            ("generated a session, mean (1,000)", mean(&generated) / 1e3, Some(17.2)),
            ("generated a session, p50 (1,000)", at(&generated, 0.50) / 1e3, None),
            ("generated a session, p90 (1,000)", at(&generated, 0.90) / 1e3, None),
            ("tool time, p50 (s)", at(&tools, 0.50), None),
            ("tool time, mean (s)", mean(&tools), None),
            ("tool time, p99 (s)", at(&tools, 0.99), None),
        ]
    }
}
