//! The prompt caches: each replica remembers the prefixes that it has worked on.

use std::{collections::BTreeMap, time::Duration};

use fireworks_proxy::time::Mono;

use crate::{dice::Dice, model::Request};

/// How long a prefix is kept after it was last used.
const TIME_TO_LIVE: Duration = Duration::from_secs(300);

/// The replicas of the model, each with a cache of its own.
const REPLICAS: usize = 4;

/// A replica that remembers more prefixes than this forgets those that have run out.
const BLOCKS_MAX: usize = 200_000;

/// The share of requests that does not go where its session went before.
const STRAYS: f64 = 0.02;

/// The caches of all replicas.
#[derive(Debug)]
pub(crate) struct Caches {
    /// The blocks of each replica, and from when to when they are there. A prefix is there once it was worked on.
    replicas: Vec<BTreeMap<u64, (Mono, Mono)>>,
}

impl Caches {
    /// All of them empty.
    pub(crate) fn new() -> Self {
        Self { replicas: vec![BTreeMap::new(); REPLICAS] }
    }

    /// The tokens at the head of a prompt that are cached where it goes.
    pub(crate) fn cached(&self, request: &Request, now: Mono) -> u64 {
        let cache = &self.replicas[self.replica_of(request)];
        let is_there = |id: u64| cache.get(&id).is_some_and(|(from, until)| (*from..*until).contains(&now));
        // The last block is always worked on, or there would be nothing to go on from.
        let all_but_last = &request.blocks[..request.blocks.len() - 1];
        all_but_last.iter().take_while(|block| is_there(block.id)).map(|block| block.tokens).sum()
    }

    /// A prompt is worked on, which is done at `done`.
    pub(crate) fn touch(&mut self, request: &Request, done: Mono) {
        let index = self.replica_of(request);
        let cache = &mut self.replicas[index];
        for block in &request.blocks {
            let entry = cache.entry(block.id).or_insert((done, done));
            if entry.1 < done {
                *entry = (done, done);
            }
            entry.1 = done + TIME_TO_LIVE;
        }
        if cache.len() > BLOCKS_MAX {
            cache.retain(|_, (_, until)| *until > done);
        }
    }

    /// Sessions stay with one replica, nearly always.
    fn replica_of(&self, request: &Request) -> usize {
        let stays = request
            .session
            .bytes()
            .fold(7u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        let mut dice = Dice::new(request.luck, stays);
        let chosen = if dice.chance(STRAYS) { dice.bits() } else { stays >> 7 };
        usize::try_from(chosen % self.replicas.len() as u64).expect("there are few replicas")
    }
}
