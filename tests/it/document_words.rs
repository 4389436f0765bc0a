//! What the documents name is there: links, keys, metrics, lines of the log.

use std::collections::BTreeSet;

use crate::harness::markdown::{self, Document};

#[test]
fn links_lead_to_what_is_there() {
    let mut faults = Vec::new();
    for document in Document::all() {
        for link in links(&document.prose()) {
            let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
            let folder = document
                .name
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            let target = match path {
                "" => document.name.clone(),
                path => resolved(folder, path),
            };
            let exists = markdown::root().join(&target).exists();
            if !exists || !(heading.is_empty() || headings(&target).contains(heading)) {
                faults.push(format!("{}: {link}", document.name));
            }
        }
    }
    assert_eq!(faults, Vec::<String>::new(), "links lead nowhere");
}

/// The targets of a text's links within the project.
fn links(prose: &str) -> Vec<String> {
    let behind = prose.split("](").skip(1);
    let targets = behind.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()));
    targets.filter(|target| !target.contains("://")).collect()
}

/// A path relative to a folder of the root, from the root.
fn resolved(folder: &str, path: &str) -> String {
    let mut pieces: Vec<&str> = folder
        .split('/')
        .filter(|piece| !piece.is_empty())
        .collect();
    for piece in path.split('/') {
        match piece {
            ".." => drop(pieces.pop()),
            piece => pieces.push(piece),
        }
    }
    pieces.join("/")
}

/// The headings of a document, as links name them.
fn headings(name: &str) -> BTreeSet<String> {
    let prose = Document::open(name).prose();
    let lines = prose.lines().filter(|line| line.starts_with('#'));
    let heading = |line: &str| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    lines.map(heading).collect()
}

#[test]
fn keys_and_metrics_that_documents_name_are_there() {
    let reference = Document::open("docs/reference.md").text;
    let known: BTreeSet<&str> = reference
        .lines()
        .filter_map(|row| row.strip_prefix("| `")?.split('`').next())
        .collect();
    let sections: BTreeSet<&str> = known
        .iter()
        .filter_map(|key| Some(key.split_once('.')?.0))
        .collect();
    let mut faults = Vec::new();
    for document in Document::all() {
        for word in quoted(&document.prose()) {
            let is_key = word
                .split_once('.')
                .is_some_and(|(section, _)| sections.contains(section) && is_name(&word));
            let is_metric = word.starts_with("jatis_") && is_name(&word);
            if (is_key || is_metric) && !known.contains(word.as_str()) {
                faults.push(format!("{}: {word}", document.name));
            }
        }
    }
    assert_eq!(
        faults,
        Vec::<String>::new(),
        "docs/reference.md knows no such thing"
    );
}

/// What stands between backticks.
fn quoted(prose: &str) -> Vec<String> {
    let pieces = prose
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    pieces.map(str::to_owned).collect()
}

fn is_name(word: &str) -> bool {
    let mut chars = word.chars();
    chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c))
}

#[test]
fn quoted_lines_of_the_log_stand_in_the_sources() {
    let sources = markdown::sources(&["connect/src", "shared/src", "supervisor/src", "worker/src"]);
    let mut faults = Vec::new();
    for document in Document::all() {
        let blocks = document.blocks().into_iter();
        for block in blocks.filter(|block| block.claim == "log") {
            for line in block.text.lines() {
                let message = message(line);
                let mut parts = message.split('…').map(str::trim);
                if message.is_empty() || !parts.all(|part| sources.contains(part)) {
                    faults.push(format!("{}:{}: {line}", document.name, block.line));
                }
            }
        }
    }
    assert_eq!(faults, Vec::<String>::new(), "jatis says no such thing");
}

/// What a line of the log says, behind `LEVEL span: module: ` or, when it gives up, `jatis: `.
fn message(line: &str) -> &str {
    let module = line.find("::").unwrap_or_default();
    let behind = line.get(module..).and_then(|rest| rest.split_once(": "));
    behind.map_or("", |(_, message)| message)
}
