//! The fake's prompt cache: what share of a body was seen before under the same key.
//!
//! Works on bytes, as a prefix cache works on tokens: the longest common prefix with an earlier body counts as cached.

use std::collections::{HashMap, VecDeque};

/// Bodies kept per key. An agent's session grows one body out of the last; a few cover its side calls.
const BODIES_MAX: usize = 8;

/// Earlier bodies per (model, session).
#[derive(Debug, Default)]
pub(super) struct PrefixCache {
    earlier: HashMap<(String, String), VecDeque<Vec<u8>>>,
}

impl PrefixCache {
    /// How many leading bytes of `body` were seen before under this key; remembers the body.
    pub(super) fn look_up(&mut self, model: &str, session: &str, body: &[u8]) -> usize {
        let bodies = self.earlier.entry((model.to_owned(), session.to_owned())).or_default();
        let longest = bodies.iter().map(|earlier| common_prefix(earlier, body)).max().unwrap_or(0);
        if bodies.len() == BODIES_MAX {
            bodies.pop_front();
        }
        bodies.push_back(body.to_vec());
        longest
    }
}

fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(left, right)| left == right).count()
}
