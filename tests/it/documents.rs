//! The documents are right: their commands run, what they show is what comes, and what they name
//! is there.
//!
//! A block of a document is one of
//!
//! ```text
//!   sh            run, in the order of the document, in one shell
//!   sql           run on the stack's database
//!   yaml          a configuration without a fault
//!   json          JSON            json answer    the last answer of the block before it
//!   text          anything        text output    lines that the block before it prints
//!                                 text log       lines of the log of jatis, without their time
//! ```
//!
//! In an answer, an output and a line of the log `…` stands for anything.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{
    Paste, Pasted, Stack, claim,
    markdown::{self, Block, Document},
};

/// A block that cannot run inside a test, and the file that runs each of its lines instead.
struct Elsewhere {
    document: &'static str,
    text: &'static str,
    by: &'static str,
}

const ELSEWHERE: &[Elsewhere] = &[
    Elsewhere {
        document: "README.md",
        text: "make run",
        by: "scripts/tour",
    },
    Elsewhere {
        document: "README.md",
        text: "make test",
        by: ".ci/run",
    },
    Elsewhere {
        document: "CONTRIBUTING.md",
        text: "make check\nmake test",
        by: ".ci/run",
    },
];

#[tokio::test]
async fn every_block_of_every_document_does_what_it_says() {
    let mut faults = Vec::new();
    for document in Document::all() {
        let steps = steps(&document, &mut faults);
        if steps.is_empty() {
            continue;
        }
        // What the documents show comes when a new tenant's worker is ready, on a slow machine too.
        let patient = Stack::with().set("supervision.ready_timeout", "20s");
        let stack = patient.start().await;
        let (pastes, claims): (Vec<Paste>, Vec<Vec<Block>>) = steps
            .into_iter()
            .map(|step| (step.paste, step.claims))
            .unzip();
        let pasted = stack.paste(&pastes).await;
        for ((paste, claims), pasted) in pastes.iter().zip(&claims).zip(&pasted) {
            let broken = broken(claims, pasted);
            faults.extend(
                broken
                    .iter()
                    .map(|fault| format!("{}: {fault}", paste.name)),
            );
        }
        stack.client.delete_all_tenants().await;
        stack.finish().await;
    }
    assert_eq!(faults, Vec::<String>::new(), "the documents are wrong");
}

/// A block to run, with what the document says that it prints.
struct Step {
    paste: Paste,
    claims: Vec<Block>,
}

/// What is to be run of a document. What is wrong with its blocks as they stand is a fault.
fn steps(document: &Document, faults: &mut Vec<String>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    // The block before ran, so that the next may say what it printed.
    let mut has_run = false;
    for block in document.blocks() {
        let name = format!("{}:{}", document.name, block.line);
        match (block.language.as_str(), block.claim.as_str()) {
            ("sh", "") if is_elsewhere(document, &block) => has_run = false,
            ("sh" | "sql" | "yaml", "") => {
                let text = script(&block);
                let paste = Paste { name, text };
                steps.push(Step {
                    paste,
                    claims: Vec::new(),
                });
                has_run = true;
            }
            ("json", "answer") | ("text", "output") => match steps.last_mut() {
                Some(step) if has_run => step.claims.push(block),
                Some(_) | None => faults.push(format!("{name}: nothing ran before it")),
            },
            ("json", "") | ("text", "" | "log") => has_run = false,
            (language, claim) => faults.push(format!("{name}: what is {language:?} {claim:?}?")),
        }
    }
    let jsons = document.blocks();
    for block in jsons.iter().filter(|block| block.language == "json") {
        if let Err(error) = serde_json::from_str::<Value>(&block.text) {
            faults.push(format!("{}:{}: {error}", document.name, block.line));
        }
    }
    steps
}

/// What the shell is given for a block. The addresses are the default ones, as in the documents.
fn script(block: &Block) -> String {
    let text = &block.text;
    match block.language.as_str() {
        "sql" => format!(
            "psql -X -v ON_ERROR_STOP=1 postgres://jatis:jatis@127.0.0.1:5432/jatis \
             <<'END_OF_BLOCK'\n{text}\nEND_OF_BLOCK"
        ),
        "yaml" => {
            format!("jatis config check --config /dev/stdin <<'END_OF_BLOCK'\n{text}\nEND_OF_BLOCK")
        }
        _ => text.clone(),
    }
}

fn is_elsewhere(document: &Document, block: &Block) -> bool {
    let mut elsewhere = ELSEWHERE.iter();
    elsewhere.any(|entry| entry.document == document.name && entry.text == block.text)
}

/// What a block did otherwise than the document says. A refusal by the API must be said.
fn broken(claims: &[Block], pasted: &Pasted) -> Vec<String> {
    let mut faults = Vec::new();
    let answer = claims.iter().find(|block| block.language == "json");
    // The last answer is compared as a whole.
    let unseen = pasted.replies.len() - usize::from(answer.is_some()).min(pasted.replies.len());
    for reply in pasted.replies.iter().take(unseen) {
        if reply.status >= 400 {
            faults.push(format!("{reply:?}, and the document does not say so"));
        }
    }
    for block in claims {
        let found = if block.language == "json" {
            let claimed = serde_json::from_str(&block.text).unwrap_or_default();
            match pasted.values() {
                Ok(values) => claim::json_faults(&claimed, values.last().unwrap_or(&Value::Null)),
                Err(none) => vec![none],
            }
        } else {
            claim::text_faults(&block.text, &pasted.out)
        };
        let line = block.line;
        faults.extend(found.iter().map(|fault| format!("line {line}: {fault}")));
    }
    if !faults.is_empty() {
        faults.push(format!("printed was {:?}", pasted.out));
    }
    faults
}

#[test]
fn what_runs_elsewhere_is_in_its_document_and_runs_there() {
    for entry in ELSEWHERE {
        let Elsewhere { document, text, by } = entry;
        let blocks = Document::open(document).blocks();
        let stands = blocks.iter().any(|block| block.text == *text);
        assert!(stands, "{document} has no block {text:?} any more");
        let runner = markdown::read(by);
        for line in text.lines() {
            let runs = runner
                .lines()
                .any(|code| is_code(code) && code.contains(line));
            assert!(runs, "{by} does not run {line:?}");
        }
    }
}

fn is_code(line: &str) -> bool {
    !line.trim_start().starts_with('#')
}

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
