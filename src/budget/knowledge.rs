//! What was learned of a model, in plain numbers, so that it outlives a restart.
//!
//! It is kept by the name of the model alone: which lane of it had taught it is not told, and nothing of a credential
//! is in here. How long each number is worth something is decided where it is taken up: a learned limit has its own
//! time ([`super::learned`]), the others are bounded here.
//!
//! It comes back from a file that anybody may have written. So every estimate takes up only what it could have learned
//! itself, and a number of the wrong kind is none.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use super::{Dimension, lane::Lane, output, prompt_size, speed};
use crate::{
    inspect::NAME_CHARS_MAX,
    time::{Mono, Now, Wall},
};

/// So many models are remembered, those first that were used last: a team uses a dozen, and with each the file stays
/// below two KiB.
pub const MODELS_MAX: usize = 16;

/// How long it is believed what requests cost and how fast they are answered: a model keeps its tokenizer, and a team
/// its way of working, over a weekend.
pub(super) const ESTIMATES_KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How long it is believed how limits are kept: they adapt within minutes, and how they are counted depends on the
/// gateways of the hour.
pub(super) const MARGINS_KEPT_FOR: Duration = Duration::from_secs(3_600);

/// A wall clock that was set back by more makes the age of all that is from then unknown.
const FROM_THE_FUTURE: Duration = Duration::from_secs(60);

/// What was learned of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Knowledge {
    /// The model as clients name it.
    pub model: String,
    /// When an answer has last taught something of it, in milliseconds since the Unix epoch.
    pub learned_at_unix_ms: i64,
    /// Prompt tokens by the size of the content.
    #[serde(default, deserialize_with = "if_readable", skip_serializing_if = "Option::is_none")]
    pub prompt_size: Option<prompt_size::Learned>,
    /// What is generated.
    #[serde(default, deserialize_with = "if_readable", skip_serializing_if = "Option::is_none")]
    pub output: Option<output::Learned>,
    /// How fast that comes.
    #[serde(default, deserialize_with = "if_readable", skip_serializing_if = "Option::is_none")]
    pub speed: Option<speed::Learned>,
    /// Its limits, and how they are kept.
    #[serde(default, deserialize_with = "if_readable", skip_serializing_if = "Option::is_none")]
    pub limits: Option<BTreeMap<Dimension, LimitKnowledge>>,
}

/// What was learned of one limit. Ages are counted from when an answer has last taught something of the model.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LimitKnowledge {
    /// The share of it that is used, in (0, 1], unless the settings fix it.
    #[serde(default, deserialize_with = "if_readable", skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// What headers said.
    #[serde(default, deserialize_with = "if_readable", skip_serializing_if = "Option::is_none")]
    pub learned: Option<LearnedLimit>,
    /// How much may be used at once, if a refusal has told.
    #[serde(default, deserialize_with = "if_readable", skip_serializing_if = "Option::is_none")]
    pub burst: Option<LearnedBurst>,
}

/// A limit that headers said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedLimit {
    /// The limit.
    pub tokens_per_minute: u64,
    /// How long ago a header last confirmed it.
    pub age_seconds: u64,
}

/// How much may be used at once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LearnedBurst {
    /// The time in which so much flows in.
    pub span_seconds: f64,
    /// How long ago a refusal last told.
    pub age_seconds: u64,
}

/// What is not of the right kind is as good as absent: the rest beside it still counts.
fn if_readable<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

/// A number that needs no more room in a file than it is worth.
pub(super) fn to_decimals(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}

/// What an earlier run has left, for the lanes to come.
#[derive(Debug, Default)]
pub(super) struct Archive {
    /// The newest first.
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    knowledge: Knowledge,
    /// How old it was when it was taken in. From then on the monotonic clock counts.
    age: Duration,
    taken_in_at: Mono,
}

impl Kept {
    fn age(&self, now: Mono) -> Duration {
        self.age.saturating_add(now.since(self.taken_in_at))
    }
}

impl Archive {
    /// Takes in what a file holds, as far as it is recent; of the first [`MODELS_MAX`] only, and of each model the
    /// newest.
    pub(super) fn take_in(&mut self, kept: Vec<Knowledge>, now: Now) {
        let with_age = kept.into_iter().take(MODELS_MAX).filter_map(|mut knowledge| {
            let learned_at = Wall::from_unix_millis(knowledge.learned_at_unix_ms);
            let age = now.wall.since(learned_at);
            let is_dated = learned_at.since(now.wall) < FROM_THE_FUTURE && age < ESTIMATES_KEPT_FOR;
            let is_named = (1..=NAME_CHARS_MAX).contains(&knowledge.model.chars().count());
            knowledge.output = knowledge.output.filter(output::Learned::is_sound);
            (is_dated && is_named).then_some(Kept { knowledge, age, taken_in_at: now.mono })
        });
        self.kept = with_age.collect();
        self.kept.sort_by_key(|kept| kept.age);
        let mut models = BTreeSet::new();
        self.kept.retain(|kept| models.insert(kept.knowledge.model.clone()));
    }

    /// What is known of a model, and how old that is.
    pub(super) fn find(&self, model: &str, now: Mono) -> Option<(&Knowledge, Duration)> {
        let kept = self.kept.iter().find(|kept| kept.knowledge.model == model)?;
        Some((&kept.knowledge, kept.age(now)))
    }

    /// What is to be kept: of each model what its lanes have learned last, else what was kept before; the newest
    /// first, and no more than [`MODELS_MAX`].
    pub(super) fn renewed<'a>(&self, lanes: impl Iterator<Item = &'a Lane>, now: Now) -> Vec<Knowledge> {
        let is_named = |lane: &&Lane| !lane.model.is_empty();
        let learned =
            lanes.filter(is_named).filter_map(|lane| Some((now.mono.since(lane.learned_at()?), lane)));
        let mut newest: BTreeMap<&str, (Duration, &Lane)> = BTreeMap::new();
        for (age, lane) in learned {
            let known = newest.entry(&lane.model).or_insert((age, lane));
            if age < known.0 {
                *known = (age, lane);
            }
        }
        let from_before = self.kept.iter().filter(|kept| !newest.contains_key(kept.knowledge.model.as_str()));
        let from_before = from_before.map(|kept| (kept.age(now.mono), Source::Before(&kept.knowledge)));
        let mut all: Vec<_> = from_before.filter(|(age, _)| *age < ESTIMATES_KEPT_FOR).collect();
        all.extend(newest.into_values().map(|(age, lane)| (age, Source::Lane(lane))));
        all.sort_by_key(|(age, _)| *age);
        all.truncate(MODELS_MAX);
        all.into_iter().map(|(age, source)| source.knowledge(ago(age, now.wall))).collect()
    }
}

enum Source<'a> {
    Before(&'a Knowledge),
    Lane(&'a Lane),
}

impl Source<'_> {
    fn knowledge(self, learned_at: Wall) -> Knowledge {
        let mut knowledge = match self {
            Source::Before(knowledge) => knowledge.clone(),
            Source::Lane(lane) => lane.knowledge(),
        };
        knowledge.learned_at_unix_ms = learned_at.as_unix_millis();
        knowledge
    }
}

fn ago(age: Duration, now: Wall) -> Wall {
    let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    Wall::from_unix_millis(now.as_unix_millis().saturating_sub(millis))
}
