//! What names the families: the table in `PAGES.md`, the dashboard and the alerts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Page, busy_world, metrics};

const PAGES: &str = include_str!("../../PAGES.md");
const DASHBOARD: &str = include_str!("../../contrib/grafana-dashboard.json");
const ALERTS: &str = include_str!("../../contrib/prometheus-alerts.yml");
const ALERT_TESTS: &str = include_str!("../../contrib/prometheus-alerts.test.yml");

/// The names of metrics in a text.
fn names_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("fireworks_proxy_") || word.starts_with("process_")).collect()
}

fn names_on(page: &Page) -> BTreeSet<&str> {
    page.samples().map(|sample| sample.name.as_str()).collect()
}

#[test]
fn the_dashboard_and_the_alerts_name_only_what_there_is() {
    let page = metrics(&mut busy_world());
    for (file, text, names_min) in
        [("dashboard", DASHBOARD, 30), ("alerts", ALERTS, 8), ("tests", ALERT_TESTS, 8)]
    {
        let named = names_in(text);
        let missing: Vec<_> = named.difference(&names_on(&page)).copied().collect();
        assert_eq!(missing, [""; 0], "{file}");
        assert!(named.len() >= names_min, "{file}: {named:?}");
    }
}

#[test]
fn the_dashboard_shows_every_family_and_explains_every_panel() {
    let page = metrics(&mut busy_world());
    let shown = names_in(DASHBOARD);
    let is_shown = |family: &&String| {
        ["", "_bucket"].iter().any(|suffix| shown.contains(format!("{family}{suffix}").as_str()))
    };
    let left_out: Vec<_> = page.families.keys().filter(|family| !is_shown(family)).collect();
    // Told by others that are shown, or of no use in a graph.
    let told_otherwise = [
        "fireworks_proxy_draining",
        "fireworks_proxy_memory_tight",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
    ];
    assert_eq!(left_out, told_otherwise);
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("a list");
    let is_row = |panel: &&Value| panel["type"] == "row";
    let rows: Vec<_> = panels.iter().filter(is_row).filter_map(|row| row["title"].as_str()).collect();
    assert_eq!(rows, ["Now", "Limits", "Day", "Failures", "Process"]);
    let ids: BTreeSet<_> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    for panel in panels.iter().filter(|panel| !is_row(panel)) {
        let has =
            |pointer: &str| panel.pointer(pointer).and_then(Value::as_str).is_some_and(|it| !it.is_empty());
        for pointer in ["/title", "/description", "/fieldConfig/defaults/unit", "/targets/0/expr"] {
            assert!(has(pointer), "{pointer} of {}", panel["title"]);
        }
    }
}

/// Name, type and labels of each family.
type Families = BTreeMap<String, (String, String)>;

#[test]
fn the_table_of_families_is_the_page() {
    let page = metrics(&mut busy_world());
    let mut real = Families::new();
    for (name, family) in &page.families {
        let labels = family.samples[0].labels.keys().filter(|label| *label != "le");
        let labels: Vec<String> = labels.map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        real.insert(name.clone(), (family.kind.clone(), labels));
    }
    let start = PAGES.find("\n## `GET /metrics`\n").expect("a part on metrics");
    let section = PAGES[start + 1..].split("\n## ").next().expect("a section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    let documented: Families = rows
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            assert!(cells.len() == 4 && !cells[3].is_empty(), "{row}");
            (cells[0].trim_end_matches('`').to_owned(), (cells[1].to_owned(), cells[2].to_owned()))
        })
        .collect();
    assert_eq!(documented, real);
}
