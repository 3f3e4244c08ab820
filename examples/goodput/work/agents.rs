//! Coding agents in a closed loop, calibrated on published sessions: 33 model calls a session on the mean, half of them
//! 30 or fewer, nine in ten 57; the context grows from 12.4k tokens to 84.5k, in one of ten to 130k; 94 % of the input
//! comes from the cache; 17.2k tokens are generated a session, heavy-tailed; tools take seconds, and now and then
//! minutes.

use std::{collections::BTreeSet, time::Duration};

use fireworks_proxy::time::Mono;

use super::{
    Workload,
    conversation::{Conversation, Script},
};
use crate::{
    dice::Dice,
    model::{Request, seconds, tokens},
};

/// What the agents of a scenario are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowd {
    /// How many terminals.
    pub(crate) agents: usize,
    /// What the clients allow the model to generate.
    pub(crate) max_tokens: MaxTokens,
    /// The chance that a step sends out sub-agents instead of running a tool.
    pub(crate) burst_chance: f64,
    /// The share of sessions in CJK.
    pub(crate) wide_sessions: f64,
    /// The chance that a tool's result is an image.
    pub(crate) image_chance: f64,
    /// The tokens of a session's first prompt, at the median.
    pub(crate) context: f64,
    /// The calls of a session, at the median.
    pub(crate) calls: f64,
    /// The agent that has so many conversations at once under one session, if there is one.
    pub(crate) hog: Option<usize>,
}

/// What the clients allow the model to generate.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MaxTokens {
    /// The same for all.
    Each(u64),
    /// 50,000, 32,000, 128,000 or nothing, by agent.
    Mixed,
}

/// The calls of a session, at the median.
pub(crate) const CALLS_MEDIAN: f64 = 30.0;
const CALLS_SIGMA: f64 = 0.50;
/// The tokens of a session's first prompt, at the median.
pub(crate) const CONTEXT_START: f64 = 12_400.0;
const CONTEXT_MAX: u64 = 200_000;
const RESULT_MEDIAN: f64 = 900.0;
const RESULT_SIGMA: f64 = 1.05;
const GENERATED_MEDIAN: f64 = 254.0;
const GENERATED_SIGMA: f64 = 1.2;
const GENERATED_MAX: u64 = 32_000;
const TOOL_MEDIAN: f64 = 3.0;
const TOOL_SIGMA: f64 = 1.2;
const PAUSE_MEDIAN: f64 = 20.0;
const SUB_CALLS: (u64, u64) = (3, 8);
const SUB_CONTEXT: f64 = 8_000.0;

/// All agents.
#[derive(Debug)]
pub(crate) struct Agents {
    crowd: Crowd,
    threads: Vec<Thread>,
    /// The threads whose next request is due, and when.
    due: BTreeSet<(Mono, usize)>,
    conversations: u64,
    requests: u64,
    seed: u64,
}

/// One conversation at a time, one request at a time.
#[derive(Debug)]
struct Thread {
    agent: usize,
    dice: Dice,
    conversation: Conversation,
    calls_left: u64,
    /// For a sub-agent, the thread that waits for it.
    parent: Option<usize>,
    /// The sub-agents that it waits for.
    children: usize,
}

impl Agents {
    /// A crowd at the start of its day.
    pub(crate) fn new(crowd: Crowd, seed: u64) -> Self {
        let mut agents =
            Self { crowd, threads: Vec::new(), due: BTreeSet::new(), conversations: 0, requests: 0, seed };
        for agent in 0..crowd.agents {
            let threads = if agent == 0 { crowd.hog.unwrap_or(1) } else { 1 };
            for _ in 0..threads {
                let thread = agents.add_thread(agent, None);
                // People open their terminals one after another, within half a minute.
                let first = agents.threads[thread].dice.between(0.0, 30.0);
                agents.due.insert((Mono::ZERO + seconds(first), thread));
            }
        }
        agents
    }

    fn add_thread(&mut self, agent: usize, parent: Option<usize>) -> usize {
        let index = self.threads.len();
        // Dice of its own, whoever else sends out sub-agents by then.
        let stream = parent.map_or(1_000 + index as u64, |parent| self.threads[parent].dice.bits());
        let mut dice = Dice::new(self.seed, stream);
        let (conversation, calls_left) = self.begin(agent, parent, &mut dice);
        self.threads.push(Thread { agent, dice, conversation, calls_left, parent, children: 0 });
        index
    }

    /// A new conversation, and how many calls it will take.
    fn begin(&mut self, agent: usize, parent: Option<usize>, dice: &mut Dice) -> (Conversation, u64) {
        self.conversations += 1;
        let number = self.conversations;
        let cap = match self.crowd.max_tokens {
            MaxTokens::Each(cap) => Some(cap),
            MaxTokens::Mixed => [Some(50_000), Some(32_000), Some(128_000), None][agent % 4],
        };
        let is_wide = dice.chance(self.crowd.wide_sessions);
        let script = Script {
            chars_per_token: dice.between(2.8, 4.5),
            wide_share: if is_wide { dice.between(0.4, 0.9) } else { 0.0 },
            image_chance: self.crowd.image_chance,
        };
        // A sub-agent goes by its parent's name, as with the clients that name sessions at all.
        let session = match parent {
            Some(parent) => self.threads[parent].conversation.session.clone(),
            None if self.crowd.hog.is_some() => format!("terminal-{agent}"),
            None => format!("session-{agent}-{number}"),
        };
        let (context, calls) = match parent {
            Some(_) => (SUB_CONTEXT, dice.whole(SUB_CALLS.0, SUB_CALLS.1)),
            None => (self.crowd.context, tokens(dice.log_normal(self.crowd.calls, CALLS_SIGMA))),
        };
        let system_tokens = tokens(dice.log_normal(context, 0.2));
        (Conversation::new((number, session), script, cap, system_tokens), calls)
    }

    /// The sub-agents that a thread sends out.
    fn send_out(&mut self, parent: usize, now: Mono) {
        let count = self.threads[parent].dice.whole(3, 5);
        for _ in 0..count {
            let child = self.add_thread(self.threads[parent].agent, Some(parent));
            self.due.insert((now + seconds(0.2), child));
            self.threads[parent].children += 1;
        }
    }
}

impl Workload for Agents {
    fn next_due(&self) -> Option<Mono> {
        self.due.first().map(|(at, _)| *at)
    }

    fn take_due(&mut self, now: Mono) -> Option<Request> {
        let (at, index) = self.due.first().copied()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        self.requests += 1;
        let thread = &mut self.threads[index];
        let generated = tokens(thread.dice.log_normal(GENERATED_MEDIAN, GENERATED_SIGMA)).min(GENERATED_MAX);
        let names = (self.requests, thread.dice.bits());
        Some(thread.conversation.request(names, thread.agent, index, generated))
    }

    fn answered(&mut self, request: &Request, now: Mono) {
        let index = request.thread;
        let thread = &mut self.threads[index];
        thread.calls_left -= 1;
        let is_over = thread.calls_left == 0 || thread.conversation.prompt() > CONTEXT_MAX;
        match (is_over, thread.parent) {
            (true, Some(parent)) => {
                let parent_thread = &mut self.threads[parent];
                parent_thread.children -= 1;
                if parent_thread.children == 0 {
                    self.due.insert((now + Duration::from_millis(500), parent));
                }
            }
            (true, None) => {
                let mut dice = thread.dice.clone();
                let pause = seconds(dice.log_normal(PAUSE_MEDIAN, 0.8));
                let agent = thread.agent;
                let (conversation, calls_left) = self.begin(agent, None, &mut dice);
                let thread = &mut self.threads[index];
                (thread.conversation, thread.calls_left, thread.dice) = (conversation, calls_left, dice);
                self.due.insert((now + pause, index));
            }
            (false, parent) => {
                let result = tokens(thread.dice.log_normal(RESULT_MEDIAN, RESULT_SIGMA));
                thread.conversation.goes_on(request.generated, result, &mut thread.dice);
                if parent.is_none() && thread.dice.chance(self.crowd.burst_chance) {
                    self.send_out(index, now);
                } else {
                    let tool = seconds(thread.dice.log_normal(TOOL_MEDIAN, TOOL_SIGMA));
                    self.due.insert((now + tool, index));
                }
            }
        }
    }

    fn ends(&self) -> Option<Mono> {
        None
    }

    fn comes_back(&self) -> bool {
        true
    }
}
