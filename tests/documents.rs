//! The documents among themselves: every link leads somewhere, every path that they name is there, and a picture is small.
#![allow(clippy::disallowed_methods)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

/// Pictures are part of every clone, and of the first look at the project.
const PICTURE_BYTES_MAX: u64 = 150_000;

/// Folders in which there is nothing of ours to read.
const NOT_OURS: [&str; 4] = [".git", "target", "corpus", "node_modules"];

/// Where runs leave what git does not know.
const MADE_BY_RUNS: [&str; 4] = ["fuzz/found", "fuzz/artifacts", "fuzz/crashes", "fuzz/corpus"];

struct Document {
    /// From the root of the project.
    path: PathBuf,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file of the project.
fn documents() -> Vec<Document> {
    let mut found = Vec::new();
    collect(root(), &mut found);
    assert!(found.len() >= 10, "the documents are found");
    found
}

fn collect(folder: &Path, found: &mut Vec<Document>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() && !NOT_OURS.contains(&name.as_str()) {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path).expect("UTF-8");
            found
                .push(Document { path: path.strip_prefix(root()).expect("below the root").to_owned(), text });
        }
    }
}

/// The lines outside of fenced blocks.
fn prose(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push(line);
        }
    }
    assert!(!is_code, "a block of code does not end");
    lines
}

/// What stands between back-ticks, and the text with that taken out.
fn code_and_rest(text: &str) -> (Vec<&str>, String) {
    let parts: Vec<&str> = text.split('`').collect();
    (parts.iter().skip(1).step_by(2).copied().collect(), parts.iter().step_by(2).copied().collect())
}

/// Where links and pictures lead, as it is written.
fn targets(text: &str) -> Vec<String> {
    let (_, rest) = code_and_rest(&prose(text).join("\n"));
    let mut found = Vec::new();
    for (before, after) in [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"'), ("href=\"", '"')] {
        let starts = rest.match_indices(before).map(|(at, _)| &rest[at + before.len()..]);
        found.extend(starts.map(|start| start.split(after).next().unwrap_or_default().to_owned()));
    }
    found
}

/// The anchors of a document's headings, as GitHub makes them: small letters, digits, hyphens and underscores stay,
/// spaces become hyphens, and what comes again is numbered.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings = prose(text).into_iter().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let plain: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let before = seen.entry(plain.clone()).or_default();
        *before += 1;
        if *before == 1 { plain } else { format!("{plain}-{}", *before - 1) }
    };
    headings.map(anchor).collect()
}

/// The path without its dots, if it stays within the project.
fn within(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => clean.pop().then_some(())?,
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    Some(clean)
}

#[test]
fn every_link_within_the_project_leads_somewhere() {
    let documents = documents();
    let anchors: BTreeMap<&Path, BTreeSet<String>> =
        documents.iter().map(|document| (document.path.as_path(), anchors(&document.text))).collect();
    let mut count = 0;
    for document in &documents {
        for target in targets(&document.text) {
            if target.contains("://") {
                assert!(target.starts_with("https://"), "{}: {target}", document.path.display());
                continue;
            }
            let place = format!("{}: {target}", document.path.display());
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let folder = document.path.parent().expect("below the root");
            let file = if file.is_empty() { document.path.clone() } else { folder.join(file) };
            let file = within(&file).unwrap_or_else(|| panic!("{place} leaves the project"));
            assert!(root().join(&file).exists(), "{place}: there is no such file");
            if !anchor.is_empty() {
                let there = anchors.get(file.as_path()).unwrap_or_else(|| panic!("{place} is no document"));
                assert!(there.contains(anchor), "{place}: there is no such heading");
            }
            count += 1;
        }
    }
    assert!(count > 50, "the links are found: {count}");
}

#[test]
fn every_path_that_is_named_in_code_is_there() {
    let folders = ["src/", "tests/", "fuzz/", "contrib/", "examples/", "benches/", "docs/", ".ci/"];
    let mut count = 0;
    for Document { path: document, text } in documents() {
        let folder = document.parent().expect("below the root").to_owned();
        let text = prose(&text).join("\n");
        for code in code_and_rest(&text).0 {
            let path = code.split([' ', ':']).next().unwrap_or_default();
            let is_made = MADE_BY_RUNS.iter().any(|made| path.starts_with(made));
            if is_made || !folders.iter().any(|folder| path.starts_with(folder)) {
                continue;
            }
            // A test is named by its file or by its folder, and a document may speak of its own folder.
            let base =
                [root().join(path), root().join(format!("{path}.rs")), root().join(&folder).join(path)];
            assert!(base.iter().any(|path| path.exists()), "{}: {code}", document.display());
            count += 1;
        }
    }
    assert!(count > 50, "the paths are found: {count}");
}

#[test]
fn every_document_at_the_root_is_shown_by_the_readme() {
    let documents = documents();
    let readme = documents.iter().find(|document| document.path == Path::new("README.md")).expect("a README");
    let shown = targets(&readme.text);
    for document in &documents {
        let name = document.path.to_string_lossy().into_owned();
        assert!(
            document.path.components().count() > 1 || name == "README.md" || shown.contains(&name),
            "{name}"
        );
    }
}

#[test]
fn a_release_has_what_the_readme_links_to() {
    let workflow = include_str!("../.github/workflows/release.yml");
    let copied = workflow.lines().find_map(|line| line.trim().strip_prefix("cp -r ")).expect("it is copied");
    let readme = include_str!("../README.md");
    for target in targets(readme).iter().filter(|target| !target.contains("://")) {
        let file = target.split('#').next().unwrap_or_default();
        let (first, _) = file.split_once('/').unwrap_or((file, ""));
        let is_document = first == file && Path::new(file).extension().is_some_and(|it| it == "md");
        let is_in = is_document && copied.contains("./*.md") || copied.split(' ').any(|word| word == first);
        assert!(is_in || file.is_empty(), "{target} is not among: {copied}");
    }
}

#[test]
fn pictures_are_small_and_shown() {
    let shown: BTreeSet<String> = documents().iter().flat_map(|document| targets(&document.text)).collect();
    let mut count = 0;
    for entry in fs::read_dir(root().join("docs")).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = format!("docs/{}", entry.file_name().to_string_lossy());
        assert!(shown.contains(&name), "{name} is shown nowhere");
        let bytes = entry.metadata().expect("of a file").len();
        assert!(bytes <= PICTURE_BYTES_MAX, "{name} has {bytes} bytes");
        count += 1;
    }
    assert!(count > 0, "there is a picture");
}

#[test]
fn the_readers_of_this_test_read_what_they_should() {
    let text =
        "# A `b`: c_d!\n[x](#y) `[no](#no)`\n```\n# no\n[no](no)\n```\n## E\n## E\n<img src=\"p.png\">\n";
    let expected = ["a-b-c_d", "e", "e-1"].map(str::to_owned);
    assert_eq!(anchors(text), BTreeSet::from(expected));
    assert_eq!(targets(text), ["#y", "p.png"]);
    assert_eq!(within(Path::new("a/../b/./c")), Some(PathBuf::from("b/c")));
    assert_eq!(within(Path::new("a/../../b")), None);
}
