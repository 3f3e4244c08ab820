//! Names, types and buckets, by the conventions of Prometheus.

use std::collections::BTreeMap;

use super::{Page, busy_world, exposition::Family, metrics, new_world};

/// The words that end a name with a unit, or stand for something that has none.
const LAST_WORDS: [&str; 14] = [
    "seconds",
    "bytes",
    "tokens",
    "requests",
    "total",
    "info",
    "depth",
    "flight",
    "paused",
    "warned",
    "spent",
    "tight",
    "draining",
    "connections",
];

#[test]
fn names_types_and_helps_follow_the_conventions() {
    let page = metrics(&mut busy_world());
    assert_eq!(page.families.len(), 38, "{:?}", page.families.keys());
    for (name, Family { help, kind, samples }) in &page.families {
        assert!(name.starts_with("fireworks_proxy_") || name.starts_with("process_"), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        assert!(help.len() > 10 && help.ends_with('.'), "{name}: {help}");
        assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()), "{name}: {kind}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        let last = name.rsplit('_').next().expect("a word");
        assert!(LAST_WORDS.contains(&last) || last == "fds", "{name} ends with no unit");
        assert!(!samples.is_empty(), "{name} has nothing to say");
        let names: Vec<Vec<&String>> =
            samples.iter().map(|it| it.labels.keys().filter(|label| *label != "le").collect()).collect();
        assert!(names.iter().all(|labels| *labels == names[0]), "{name}: the same labels on all samples");
    }
}

#[test]
fn buckets_rise_and_end_with_all() {
    let page = metrics(&mut busy_world());
    let histograms: Vec<_> = page.families.iter().filter(|(_, family)| family.kind == "histogram").collect();
    assert_eq!(histograms.len(), 3);
    for (name, family) in histograms {
        let mut series: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
        for sample in family.samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
            let bound = sample.labels["le"].parse().expect("a number, or +Inf");
            series.entry(&sample.labels["model"]).or_default().push((bound, sample.value));
        }
        assert!(series.len() >= 4, "{name}");
        for (model, buckets) in series {
            assert!(
                buckets.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1),
                "{name} {buckets:?}"
            );
            let (bound, all) = *buckets.last().expect("a last one");
            assert_eq!(
                (bound, all),
                (f64::INFINITY, page.sum(&format!("{name}_count"), &[("model", model)]))
            );
        }
    }
}

#[test]
fn what_counts_never_falls_and_no_series_goes_away() {
    let mut world = busy_world();
    let before = metrics(&mut world);
    world.answer("h", 50, 10);
    world.client_with(b"NONSENSE\r\n\r\n");
    world.advance(super::SECOND * 4_000);
    super::serve(&mut world, "i", "another", "fw_3");
    let after = metrics(&mut world);
    let mut grown = 0;
    for (name, family) in before.families.iter().filter(|(_, family)| family.kind != "gauge") {
        for old in &family.samples {
            let new =
                after.families[name].samples.iter().find(|it| it.name == old.name && it.labels == old.labels);
            let new = new.unwrap_or_else(|| panic!("{old:?} has gone")).value;
            assert!(new >= old.value, "{old:?} fell to {new}");
            grown += u32::from(new > old.value);
        }
    }
    assert!(grown > 10, "{grown}");
}

#[test]
fn a_system_that_tells_nothing_of_the_process_leaves_it_out() {
    let mut world = new_world(&[]);
    world.process = super::ProcessFigures::default();
    let page = metrics(&mut world);
    assert!(
        page.families.keys().all(|name| name.starts_with("fireworks_proxy_")),
        "{:?}",
        page.families.keys()
    );
    let of_process = |page: &Page| page.families.keys().filter(|name| name.starts_with("process_")).count();
    assert_eq!(of_process(&metrics(&mut new_world(&[]))), 6);
}
