//! The clients of the first release: what its documentation told them to send works on both roots,
//! with a token besides.

use serde_json::Value;

use crate::harness::{Paste, Pasted, Stack, markdown::Document};

const DOCUMENT: &str = "docs/first-release.md";
/// The line of the document that chooses the root.
const ROOT: &str = "API=$HOST/api/v1";

#[tokio::test]
async fn the_requests_of_the_first_release_work_on_api_v1() {
    works_on(ROOT).await;
}

#[tokio::test]
async fn the_requests_of_the_first_release_work_without_a_prefix() {
    works_on("API=$HOST").await;
}

/// Sends every request that the document shows, with this line in the place of its own.
async fn works_on(root: &str) {
    let pastes: Vec<Paste> = Document::open(DOCUMENT)
        .blocks()
        .into_iter()
        .filter(|block| block.language == "sh")
        .map(|block| Paste {
            name: format!("{DOCUMENT}:{}", block.line),
            text: block.text.replace(ROOT, root),
        })
        .collect();
    let chooses = |paste: &&Paste| paste.text.lines().any(|line| line == root);
    assert_eq!(pastes.iter().filter(chooses).count(), 1, "{root}");

    // A message is answered 201 when its tenant's worker is ready, on a slow machine too.
    let patient = Stack::with().set("supervision.ready_timeout", "20s");
    let stack = patient.start().await;
    let pasted = stack.paste(&pastes).await;
    let mut posted = 0;
    for (at, did) in pasted.iter().enumerate() {
        for reply in &did.replies {
            let expected = if reply.method == "POST" { 201 } else { 200 };
            assert_eq!(reply.status, expected, "{reply:?}");
        }
        if sends_messages(did) {
            posted += 1;
            let list = pasted.get(at + 1).expect("a list follows");
            lists(list, &sent(did));
        }
    }
    assert!(posted >= 2, "{DOCUMENT} posts {posted} messages");
    stack.client.delete_all_tenants().await;
    stack.finish().await;
}

fn sends_messages(did: &Pasted) -> bool {
    let mut replies = did.replies.iter();
    replies.any(|reply| reply.method == "POST" && reply.url.contains("/messages"))
}

/// The messages that a block sent, as they were answered.
fn sent(did: &Pasted) -> Vec<Value> {
    let answers = did.values().expect("messages");
    for message in &answers {
        assert_eq!(message["status"], "stored", "{message}");
    }
    answers
}

/// Checks that a block lists these messages.
fn lists(did: &Pasted, sent: &[Value]) {
    let pages = did.values().expect("pages");
    let listed: Vec<&Value> = pages
        .iter()
        .filter_map(|page| page["data"].as_array())
        .flatten()
        .collect();
    for message in sent {
        assert!(listed.contains(&message), "{message} is not in {pages:?}");
    }
}
