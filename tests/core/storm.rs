//! Long runs by dice: what must hold whatever happens, and that the same happens again.

use std::time::Duration;

use fireworks_proxy::{
    budget::{Dimension, demand::guess_tokens},
    event::{ConnId, Input},
    failure::FailureClass,
    http::head::Fields,
    inspect::Inspection,
};

use super::{
    SECOND,
    support::world::{Dice, World, answer_bytes, chat},
    utc,
};

/// A run by dice: clients of two keys and two models, an upstream with every fault, and time.
struct Storm {
    world: World,
    dice: Dice,
    clients: Vec<ConnId>,
    count: usize,
}

/// Longer than the whole prompt budget.
const OVERSIZED: usize = 3_000;

impl Storm {
    fn new(seed: u64) -> Self {
        let settings = [
            ("PROMPT_TPM_LIMIT", "2500"),
            ("UNCACHED_PROMPT_TPM_LIMIT", "2000"),
            ("GENERATED_TPM_LIMIT", "150"),
            ("OUTPUT_TOKEN_RESERVE", "10"),
            ("CHARS_PER_TOKEN", "1"),
            ("RPS", "5"),
            ("MAX_WAIT", "100"),
        ];
        let mut world = World::new(&settings, utc(5, 21, 2, 0));
        world.connects = false;
        Self { world, dice: Dice::new(seed), clients: Vec::new(), count: 0 }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..35 => self.request(),
            35..55 => self.connect(),
            55..80 => self.answer(),
            80..85 => {
                if let Some(client) = self.dice.pick(&self.clients).copied() {
                    self.world.input(client, Input::Eof);
                }
            }
            85..99 => {
                let span = Duration::from_millis(self.dice.below(2_000));
                self.world.advance(span);
            }
            _ => self.lull(),
        }
        let world = &self.world;
        self.clients.retain(|client| !world.is_closed(*client));
    }

    fn request(&mut self) {
        self.count += 1;
        let name = format!("r{}", self.count);
        let client = self.world.client();
        self.clients.push(client);
        if self.dice.chance(10) {
            let head = format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nx-name: {name}\r\n\r\n");
            return self.world.deliver(client, head.as_bytes());
        }
        let key = self.dice.pick(&["a", "b"]).copied().unwrap_or_default();
        let model = self.dice.pick(&["m", "n"]).copied().unwrap_or_default();
        let seconds = 6 + self.dice.below(30);
        let patience = if self.dice.chance(20) { seconds.to_string() } else { "NOT_GIVEN".to_owned() };
        let fields = format!("Authorization: {key}\r\nx-stainless-timeout: {patience}\r\n");
        let length = usize::try_from(self.dice.below(400)).expect("small");
        let length = if self.dice.chance(3) { OVERSIZED } else { length };
        let stream = self.dice.chance(50);
        let body = format!(r#"{{"model":"{model}","stream":{stream},"x":"{}"}}"#, "x".repeat(length));
        self.world.deliver(client, &chat(&name, &fields, &body));
    }

    fn connect(&mut self) {
        let Some(upstream) = self.world.dialed.pop_front() else { return };
        if self.dice.chance(15) {
            self.world.breaks(upstream, FailureClass::ConnectRefused);
        } else {
            self.world.input(upstream, Input::Connected);
        }
    }

    /// The upstream answers one request: well, and then with what the proxy reserved; badly; or in part.
    fn answer(&mut self) {
        let open = self.world.open_upstreams();
        let Some(upstream) = self.dice.pick(&open).copied() else { return };
        let begun = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
                     29\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"hi\"\r\n";
        match self.dice.below(10) {
            0 => self.world.breaks(upstream, FailureClass::CutInStream),
            1 => self.world.input(upstream, Input::Eof),
            2 => {
                let refusal = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}";
                self.world.deliver(upstream, refusal.as_bytes());
            }
            3 => self.world.deliver(upstream, begun.as_bytes()),
            _ => {
                let sent = self.world.sent_to(upstream);
                let at = sent.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head") + 4;
                let text = Inspection::of(&Fields::default(), &sent[at..]).text;
                let prompt = guess_tokens(text.narrow, text.wide, 0, 1.0);
                self.world.deliver(upstream, answer_bytes(prompt, 10).as_bytes());
            }
        }
    }

    /// The upstream works off what it has, and then for a while nobody asks.
    fn lull(&mut self) {
        while !self.world.dialed.is_empty() {
            self.connect();
        }
        for upstream in self.world.open_upstreams() {
            self.world.breaks(upstream, FailureClass::CutInStream);
        }
        let span = Duration::from_secs(self.dice.below(100));
        self.world.advance(span);
    }

    /// No budget is ever overdrawn, but by one request alone that is bigger than all of it.
    fn assert_within_limits(&mut self) -> bool {
        let mut is_oversized = false;
        for (model, balances) in self.world.balances() {
            for balance in balances {
                let taken = balance.used + balance.reserved;
                let oversized = u64::try_from(OVERSIZED).expect("small");
                // Keys count too; no other request is so long, and two of them would be far longer.
                let is_lone = (oversized..oversized + 50).contains(&taken);
                let is_prompt = balance.dimension != Dimension::Generated;
                // Refusals lower what is used from then on; what was under way is under way. The ratio is 1.
                let limit = balance.learned.unwrap_or(balance.configured).min(balance.configured);
                let is_allowed = taken <= limit || (is_prompt && is_lone);
                assert!(is_allowed, "{model} at {:?}: {balance:?}", self.world.now());
                is_oversized |= taken > limit;
            }
        }
        is_oversized
    }
}

#[test]
fn a_long_run_by_dice_overdraws_no_budget_and_leaves_nothing_behind() {
    for seed in [1, 0x5eed, 0xdead_beef] {
        let mut storm = Storm::new(seed);
        let mut oversized_steps = 0;
        for _ in 0..4_000 {
            storm.step();
            oversized_steps += usize::from(storm.assert_within_limits());
        }
        let stats = &storm.world.proxy.context_mut().stats;
        for (what, count) in [
            ("finished", stats.finished),
            ("refused", stats.refused),
            ("client_gone", stats.client_gone),
            ("failed", stats.failed),
            ("upstream_429", stats.upstream_429),
        ] {
            assert!(count > 10, "the dice never came to {what}: {stats:?}");
        }
        assert!(oversized_steps > 0 && stats.wait_percentiles()[1] > SECOND, "{stats:?}");
        for client in std::mem::take(&mut storm.clients) {
            storm.world.input(client, Input::Eof);
        }
        storm.world.assert_settled();
        storm.world.advance(SECOND * 11);
        assert_eq!(storm.world.proxy.poll_timeout(), None, "seed {seed}: nothing is left to wait for");
    }
}

#[test]
fn the_same_inputs_at_the_same_times_give_the_same_outputs() {
    let run = |seed| {
        let mut storm = Storm::new(seed);
        (0..1_000).for_each(|_| storm.step());
        storm.world.trace
    };
    let trace = run(42);
    assert!(trace.len() > 1_000);
    assert!(trace == run(42), "two runs differ");
    assert!(trace != run(43), "the dice matter");
}
