//! What requests came to, by model: how they ended, how long they took, and what they cost.
//!
//! Counted once per request, when it ends. Holds one [`ModelTally`] for each of at most [`MODELS_MAX`] models, one for
//! all others, and one for requests without a model.

use std::{collections::BTreeMap, time::Duration};

use super::{
    histogram::{DURATION_BOUNDS, FIRST_BYTE_BOUNDS, Histogram, WAIT_BOUNDS},
    labels::{CREDENTIALS_MAX, Labels, MODELS_MAX, OTHER, shortened},
};
use crate::budget::Tokens;

/// How a request ended. The counters of [`super::Stats`] with these names are the sums over classes and models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The upstream's answer was passed on whole, whatever its status.
    Finished,
    /// The proxy refused it.
    Refused,
    /// Its client left before the end.
    ClientGone,
    /// It failed on the way to or from the upstream.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Finished, Self::Refused, Self::ClientGone, Self::Failed];

    /// The name used on pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Refused => "refused",
            Self::ClientGone => "client_gone",
            Self::Failed => "failed",
        }
    }
}

/// The classes that the statuses of the upstream's answers are counted in.
pub const STATUS_CLASSES: [&str; 7] = ["2xx", "3xx", "4xx", "429", "5xx", "503", "other"];

/// The class of a status. The two that ask for another try at another time are classes of their own.
pub const fn status_class(status: u16) -> &'static str {
    match status {
        429 => "429",
        503 => "503",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "other",
    }
}

/// A request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// How.
    pub outcome: Outcome,
    /// The [`status_class`] of the answer that its client got from the upstream; else the code of the refusal or
    /// of the failure.
    pub class: &'static str,
    /// Its model; empty if it names none.
    pub model: &'a str,
    /// The keyed hash of its key, if it costs tokens.
    pub credential: Option<u64>,
    /// Whether the upstream answered it with a status below 400, so that its names are no inventions.
    pub is_well_answered: bool,
    /// How long it was kept from the upstream.
    pub waited: Duration,
    /// How long it took from its arrival until the first byte of an answer was passed on, if one was.
    pub first_byte: Option<Duration>,
    /// How long it took from its arrival to its end.
    pub took: Duration,
    /// What was settled for it, if it cost tokens.
    pub tokens: Option<Tokens>,
}

/// What the requests of one model came to.
#[derive(Debug, Clone)]
pub struct ModelTally {
    /// How many ended how, by class.
    pub requests: BTreeMap<(Outcome, &'static str), u64>,
    /// The times in the queue and in pauses.
    pub waits: Histogram,
    /// The times until the first byte of an answer.
    pub first_bytes: Histogram,
    /// The times from arrival to end.
    pub durations: Histogram,
    /// The tokens.
    pub tokens: Tokens,
}

impl Default for ModelTally {
    fn default() -> Self {
        Self {
            requests: BTreeMap::new(),
            waits: Histogram::new(WAIT_BOUNDS),
            first_bytes: Histogram::new(FIRST_BYTE_BOUNDS),
            durations: Histogram::new(DURATION_BOUNDS),
            tokens: Tokens::default(),
        }
    }
}

impl ModelTally {
    fn count(&mut self, request: &Ended<'_>) {
        *self.requests.entry((request.outcome, request.class)).or_default() += 1;
        self.waits.observe(request.waited);
        if let Some(first_byte) = request.first_byte {
            self.first_bytes.observe(first_byte);
        }
        self.durations.observe(request.took);
        let (sum, more) = (&mut self.tokens, request.tokens.unwrap_or_default());
        sum.prompt = sum.prompt.saturating_add(more.prompt);
        sum.uncached_prompt = sum.uncached_prompt.saturating_add(more.uncached_prompt);
        sum.generated = sum.generated.saturating_add(more.generated);
    }
}

/// What all requests came to.
#[derive(Debug)]
pub struct Tally {
    models: Labels<String>,
    /// The digits that stand for keys.
    credentials: Labels<u16>,
    nameless: ModelTally,
    others: ModelTally,
    by_model: Vec<ModelTally>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            models: Labels::new(MODELS_MAX),
            credentials: Labels::new(CREDENTIALS_MAX),
            nameless: ModelTally::default(),
            others: ModelTally::default(),
            by_model: Vec::new(),
        }
    }
}

impl Tally {
    /// Counts a request that has ended.
    pub fn count(&mut self, request: &Ended<'_>) {
        if let Some(credential) = request.credential.filter(|_| request.is_well_answered) {
            self.credentials.introduce(digits(credential));
        }
        let tally = if request.model.is_empty() {
            &mut self.nameless
        } else {
            match self.place_of(request.model).or_else(|| self.new_place(request)) {
                Some(place) => &mut self.by_model[place],
                None => &mut self.others,
            }
        };
        tally.count(request);
    }

    /// The label under which a model is counted.
    pub fn model_label<'a>(&'a self, model: &'a str) -> &'a str {
        match self.place_of(model) {
            Some(place) => &self.models.known()[place],
            None if model.is_empty() => "",
            None => OTHER,
        }
    }

    /// The digits that stand for a key, if it has a label of its own.
    pub fn credential_digits(&self, credential: u64) -> Option<u16> {
        let digits = digits(credential);
        self.credentials.find(|known| *known == digits).map(|_| digits)
    }

    /// What the requests came to: those without a model, those of other models, and those of each model that has a
    /// label of its own.
    pub fn by_model(&self) -> impl Iterator<Item = (&str, &ModelTally)> {
        let known = self.models.known().iter().map(String::as_str).zip(&self.by_model);
        [("", &self.nameless), (OTHER, &self.others)].into_iter().chain(known)
    }

    /// Gives a model that has none a label of its own, if it is real and there is room. No real one has control
    /// characters, and Prometheus would not read a page with a NUL in it.
    fn new_place(&mut self, request: &Ended<'_>) -> Option<usize> {
        let model = shortened(request.model);
        let is_real = request.is_well_answered && model != OTHER && !model.contains(char::is_control);
        let is_let_in = is_real && self.models.introduce(model.to_owned());
        is_let_in.then(|| {
            self.by_model.push(ModelTally::default());
            self.by_model.len() - 1
        })
    }

    fn place_of(&self, model: &str) -> Option<usize> {
        let model = shortened(model);
        self.models.find(|known| known == model)
    }
}

/// The last four digits of a keyed hash, as the pages show keys.
const fn digits(credential: u64) -> u16 {
    (credential & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(model: &str, is_well_answered: bool) -> Ended<'_> {
        Ended {
            outcome: Outcome::Finished,
            class: status_class(if is_well_answered { 200 } else { 404 }),
            model,
            credential: Some(0xabc_1234),
            is_well_answered,
            waited: Duration::from_secs(1),
            first_byte: None,
            took: Duration::from_secs(2),
            tokens: Some(Tokens { prompt: 10, uncached_prompt: 4, generated: 3 }),
        }
    }

    fn counts(tally: &Tally) -> Vec<(&str, u64)> {
        tally.by_model().map(|(name, tally)| (name, tally.requests.values().sum())).collect()
    }

    #[test]
    fn a_name_gets_a_label_when_the_upstream_has_answered_well() {
        let mut tally = Tally::default();
        for (model, is_well_answered) in [("m", false), ("m", true), ("m", false), ("", true), ("n", false)] {
            tally.count(&ended(model, is_well_answered));
        }
        assert_eq!(counts(&tally), [("", 1), (OTHER, 2), ("m", 2)]);
        assert_eq!((tally.model_label("m"), tally.model_label("n"), tally.model_label("")), ("m", OTHER, ""));
        assert_eq!((tally.credential_digits(0xf_1234), tally.credential_digits(1)), (Some(0x1234), None));
        let (_, of_m) = tally.by_model().last().expect("it has a label");
        assert_eq!(of_m.tokens, Tokens { prompt: 20, uncached_prompt: 8, generated: 6 });
        let times =
            [&of_m.waits, &of_m.first_bytes, &of_m.durations].map(|it| (it.count(), it.sum().as_secs()));
        assert_eq!(times, [(2, 2), (0, 0), (2, 4)]);
    }

    #[test]
    fn a_name_that_would_break_the_page_gets_no_label() {
        let mut tally = Tally::default();
        tally.count(&ended("a\0b", true));
        tally.count(&ended("a\rb", true));
        assert_eq!(counts(&tally), [("", 0), (OTHER, 2)]);
        assert_eq!(tally.model_label("a\0b"), OTHER);
    }

    #[test]
    fn made_up_names_do_not_grow_it() {
        let mut tally = Tally::default();
        for number in 0..1_000 {
            tally.count(&Ended { credential: Some(number), ..ended(&format!("made up {number}"), true) });
        }
        tally.count(&ended(OTHER, true));
        assert_eq!(tally.by_model().count(), MODELS_MAX + 2);
        assert_eq!(counts(&tally)[1], (OTHER, 1_001 - MODELS_MAX as u64));
        let known = (0..1_000).filter(|number| tally.credential_digits(*number).is_some());
        assert_eq!(known.count(), CREDENTIALS_MAX);
    }

    #[test]
    fn every_status_has_a_class_of_the_list() {
        assert!((0..=u16::MAX).all(|status| STATUS_CLASSES.contains(&status_class(status))));
        let classes = [200, 302, 400, 429, 500, 503, 999].map(status_class);
        assert_eq!(classes, STATUS_CLASSES);
    }
}
