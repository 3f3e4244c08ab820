//! The day's tokens by name: of models, and of sessions.
//!
//! A help for people beside the counts: what is not in it any more, or never was, is what is left of the day's total.
//! Names come from clients, who can make up any number of them, so the smallest makes room for a new one.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::{Deserialize, Serialize};

/// The most names that are kept of each kind.
pub const NAMES_MAX: usize = 64;

/// What was counted under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The prompt tokens.
    pub prompt_tokens: u64,
    /// The generated tokens.
    pub generated_tokens: u64,
}

impl Named {
    const fn total(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.generated_tokens)
    }
}

/// Tokens by name.
#[derive(Debug, Clone, Default)]
pub struct Names {
    counts: BTreeMap<String, (u64, u64)>,
}

impl Names {
    /// Goes on from what was kept. What is there twice counts once, and what is too much is left out.
    pub fn restored(kept: impl Iterator<Item = Named>) -> Self {
        let of = |named: Named| (named.name, (named.prompt_tokens, named.generated_tokens));
        Self { counts: kept.take(NAMES_MAX).map(of).collect() }
    }

    /// Counts tokens under a name.
    pub fn count(&mut self, name: &str, prompt_tokens: u64, generated_tokens: u64) {
        if !self.counts.contains_key(name) {
            if self.counts.len() >= NAMES_MAX {
                self.drop_smallest();
            }
            self.counts.insert(name.to_owned(), (0, 0));
        }
        let (prompt, generated) = self.counts.get_mut(name).expect("it was put there");
        *prompt = prompt.saturating_add(prompt_tokens);
        *generated = generated.saturating_add(generated_tokens);
    }

    /// What was counted, the largest first.
    pub fn largest_first(&self) -> Vec<Named> {
        let named = |(name, (prompt, generated)): (&String, &(u64, u64))| Named {
            name: name.clone(),
            prompt_tokens: *prompt,
            generated_tokens: *generated,
        };
        let mut all: Vec<Named> = self.counts.iter().map(named).collect();
        all.sort_by_key(|named| Reverse(named.total()));
        all
    }

    /// Prompt and generated tokens of all names.
    pub fn sums(&self) -> (u64, u64) {
        self.counts.values().fold((0, 0), |(prompts, generateds), (prompt, generated)| {
            (prompts.saturating_add(*prompt), generateds.saturating_add(*generated))
        })
    }

    fn drop_smallest(&mut self) {
        let smallest =
            self.counts.iter().min_by_key(|(_, (prompt, generated))| prompt.saturating_add(*generated));
        if let Some(name) = smallest.map(|(name, _)| name.clone()) {
            self.counts.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_makes_room_for_a_new_name() {
        let mut names = Names::default();
        for number in 1..=NAMES_MAX as u64 {
            names.count(&format!("n{number}"), 10 * number, 1);
        }
        names.count("new", 5, 0);
        names.count("newer", 7, 0);
        names.count("n2", 1_000, 500);
        let all = names.largest_first();
        assert_eq!(all.len(), NAMES_MAX);
        assert_eq!((all[0].name.as_str(), all[0].prompt_tokens, all[0].generated_tokens), ("n2", 1_020, 501));
        let is_there = |name: &str| all.iter().any(|named| named.name == name);
        assert!(is_there("newer") && !is_there("new") && !is_there("n1") && is_there("n3"));
        let again = Names::restored(all.iter().cloned());
        assert_eq!((again.largest_first(), again.sums()), (all, names.sums()));
    }
}
