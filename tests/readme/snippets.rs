//! The set-up snippets: what the documents show is what `tests/clients` runs real clients with, to the letter.

use std::{collections::BTreeMap, fs, path::Path};

/// The headings under which clients are set up.
const CLIENT_HEADINGS: [&str; 6] = ["Kimi CLI", "Claude Code", "OpenCode", "Codex", "SDKs", "curl"];

/// The language of snippets that `tests/clients` has no shell for.
const NOT_RUN: &str = "powershell";

/// A block of code between fences.
struct Block {
    document: String,
    heading: String,
    language: String,
    text: String,
}

/// The blocks of a document, each with the heading that it stands under.
fn blocks(document: &str, text: &str) -> Vec<Block> {
    let (mut blocks, mut heading) = (Vec::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let within = lines.by_ref().take_while(|line| *line != "```");
            blocks.push(Block {
                document: document.to_owned(),
                heading: heading.clone(),
                language: language.to_owned(),
                text: within.flat_map(|line| [line, "\n"]).collect(),
            });
        } else if line.starts_with('#') {
            line.trim_start_matches('#').trim().clone_into(&mut heading);
        }
    }
    blocks
}

/// The files of a folder with this ending (any if it is empty), and what is in them.
fn files(folder: &str, ending: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(folder).expect("a folder of the repository").map(|entry| entry.expect("read"));
    let named = entries.map(|entry| (entry.file_name().into_string().expect("UTF-8"), entry.path()));
    let wanted = named.filter(|(name, path)| path.is_file() && name.ends_with(ending));
    wanted.map(|(name, path)| (name, fs::read_to_string(path).expect("text"))).collect()
}

fn documented() -> Vec<Block> {
    files("", ".md").iter().flat_map(|(name, text)| blocks(name, text)).collect()
}

#[test]
fn every_setup_that_real_clients_run_with_is_shown_as_it_is() {
    let shown = documented();
    let setups = files("tests/clients/setup", "");
    assert!(setups.len() >= CLIENT_HEADINGS.len(), "{:?}", setups.keys());
    for (name, setup) in setups {
        assert!(shown.iter().any(|block| block.text == setup), "tests/clients/setup/{name} is shown nowhere");
    }
}

#[test]
fn every_setup_that_is_shown_is_one_that_real_clients_run_with() {
    let setups = files("tests/clients/setup", "");
    let shown = documented();
    for heading in CLIENT_HEADINGS {
        assert!(shown.iter().any(|block| block.heading == heading), "no snippet under {heading:?}");
    }
    let of_clients = shown.iter().filter(|block| CLIENT_HEADINGS.contains(&block.heading.as_str()));
    for block in of_clients.filter(|block| block.language != NOT_RUN) {
        let Block { document, heading, text, .. } = block;
        assert!(
            setups.values().any(|setup| setup == text),
            "{document}, {heading}: not in tests/clients:\n{text}"
        );
    }
}
