//! The commands of the documents run, and what they show is what comes.
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
        if !steps.is_empty() {
            faults.extend(run(steps).await);
        }
    }
    assert_eq!(faults, Vec::<String>::new(), "the documents are wrong");
}

/// Pastes the blocks of a document on a stack of their own; where they did otherwise than claimed.
async fn run(steps: Vec<Step>) -> Vec<String> {
    // What is shown comes when a new tenant's worker is ready, on a slow machine too.
    let patient = Stack::with().set("supervision.ready_timeout", "20s");
    let stack = patient.start().await;
    let (pastes, claims): (Vec<Paste>, Vec<Vec<Block>>) = steps
        .into_iter()
        .map(|step| (step.paste, step.claims))
        .unzip();
    let pasted = stack.paste(&pastes).await;
    let mut faults = Vec::new();
    for ((Paste { name, .. }, claims), pasted) in pastes.iter().zip(&claims).zip(&pasted) {
        let broken = broken(claims, pasted);
        faults.extend(broken.iter().map(|fault| format!("{name}: {fault}")));
    }
    stack.client.delete_all_tenants().await;
    stack.finish().await;
    faults
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
            ("json", "") => {
                let value = serde_json::from_str::<Value>(&block.text);
                faults.extend(value.err().map(|error| format!("{name}: {error}")));
                has_run = false;
            }
            ("text", "" | "log") => has_run = false,
            (language, claim) => faults.push(format!("{name}: what is {language:?} {claim:?}?")),
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
    // The last answer may be compared as a whole.
    let is_shown = claims.iter().any(|block| block.language == "json");
    let replies = pasted.replies.iter().rev().skip(usize::from(is_shown));
    for reply in replies.filter(|reply| reply.status >= 400) {
        faults.push(format!("{reply:?}, and the document does not say so"));
    }
    for block in claims {
        let found = if block.language == "json" {
            answer_faults(&block.text, pasted)
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

fn answer_faults(claimed: &str, pasted: &Pasted) -> Vec<String> {
    let claimed = match serde_json::from_str(claimed) {
        Ok(claimed) => claimed,
        Err(error) => return vec![error.to_string()],
    };
    match pasted.values() {
        Ok(values) => claim::json_faults(&claimed, values.last().unwrap_or(&Value::Null)),
        Err(printed) => vec![printed],
    }
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
