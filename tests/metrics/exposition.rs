//! A reader of the text format of Prometheus that takes nothing amiss for granted: whatever breaks a rule panics.
//!
//! Shares no code with what writes the page.

use std::collections::{BTreeMap, BTreeSet};

/// Label names and values.
pub(crate) type Labels = BTreeMap<String, String>;

/// One line with a value.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// The name of the family, with a suffix if it is of a histogram.
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) value: f64,
}

/// All under one name.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) help: String,
    pub(crate) kind: String,
    pub(crate) samples: Vec<Sample>,
}

/// A page that keeps all rules.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) families: BTreeMap<String, Family>,
}

impl Page {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n') && !text.contains('\r'), "lines end with a line feed");
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let (mut current, mut seen) = (String::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and a text");
                let family = Family { help: help.to_owned(), ..Family::default() };
                assert!(families.insert(name.to_owned(), family).is_none(), "{name} has two helps");
                name.clone_into(&mut current);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a type");
                assert_eq!(name, current, "the type follows the help");
                let family = families.get_mut(name).expect("it has a help");
                assert!(
                    family.kind.is_empty() && family.samples.is_empty(),
                    "{name}: one type, before all samples"
                );
                kind.clone_into(&mut family.kind);
            } else {
                let sample = parse_sample(line);
                let family = families.get_mut(&current).expect("a family");
                assert!(belongs(&sample.name, &current, &family.kind), "{line} stands under {current}");
                assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "{line} is there twice");
                family.samples.push(sample);
            }
        }
        Self { families }
    }

    /// Every sample.
    pub(crate) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.families.values().flat_map(|family| &family.samples)
    }

    /// The sum of the samples of this name that have these labels, and at least one of them.
    #[track_caller]
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|it| it == value))
        };
        let found: Vec<f64> = self
            .samples()
            .filter(|sample| sample.name == name)
            .filter(has)
            .map(|sample| sample.value)
            .collect();
        assert!(!found.is_empty(), "no {name} with {labels:?}");
        found.iter().sum()
    }

    /// The values that a label has anywhere.
    pub(crate) fn values_of(&self, label: &str) -> BTreeSet<&str> {
        self.samples().filter_map(|sample| sample.labels.get(label)).map(String::as_str).collect()
    }
}

fn belongs(sample: &str, family: &str, kind: &str) -> bool {
    match sample.strip_prefix(family) {
        Some("") => matches!(kind, "counter" | "gauge"),
        Some(suffix) => kind == "histogram" && matches!(suffix, "_bucket" | "_sum" | "_count"),
        None => false,
    }
}

fn parse_sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect("a value");
    let (name, mut rest) = line.split_at(end);
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    assert!(name.starts_with(is_first) && name.chars().all(|c| is_first(c) || c.is_ascii_digit()), "{line}");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").expect("a label and a quoted value");
            let (value, after) = unquoted(after);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => break rest = after.strip_prefix('}').expect("an end of the labels"),
            }
        }
    }
    let value = rest.strip_prefix(' ').expect("a space before the value");
    let value = value.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
    Sample { name: name.to_owned(), labels, value }
}

/// A label's value, whose opening quote has been taken off, and what follows its closing one.
fn unquoted(text: &str) -> (String, &str) {
    let (mut value, mut characters) = (String::new(), text.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match characters.next() {
                Some((_, 'n')) => '\n',
                Some((_, escaped @ ('\\' | '"'))) => escaped,
                other => panic!("{other:?} is escaped in {text}"),
            }),
            other => value.push(other),
        }
    }
    panic!("no closing quote: {text}");
}
