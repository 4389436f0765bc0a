//! A message that PostgreSQL refuses does not touch its neighbours in the batch.

use bytes::Bytes;
use jatis_shared::ids::{MessageId, Mint, Origin, TenantId};
use jiff::Timestamp;
use serde_json::json;

use crate::harness::{Stack, wait};

const BATCH: u32 = 500;
const POISONED: u32 = 317;

#[tokio::test]
async fn a_poison_message_in_a_batch_of_500_becomes_a_dead_letter_and_its_neighbours_rows() {
    let stack = Stack::with()
        .patient_statements()
        .dead_letters(1)
        .start()
        .await;
    let tenant = stack
        .client
        .create_tenant(json!({"name": "poisoned", "workers": 1}))
        .await;
    let messages = batch(&stack, tenant).await;
    let poison = messages
        .iter()
        .find(|(_, payload)| payload.ends_with(b"\\u0000\"}"))
        .expect("one is poisoned")
        .0;

    // The only thread waits with another message, so the 500 meet in one batch.
    let lock = stack.database.lock_leaf(tenant).await;
    stack.broker.publish(tenant, b"\"first\"", None).await;
    wait::until("the thread waits", async || {
        match stack.database.waiting_inserts(tenant).await {
            1 => Ok(()),
            waiting => Err(format!("{waiting} wait")),
        }
    })
    .await;
    for envelope in messages.chunks(125) {
        stack.broker.publish_batch(tenant, envelope).await;
    }
    wait::until("all are with the worker", async || {
        match stack.broker.ready(tenant).await {
            0 => Ok(()),
            ready => Err(format!("{ready} are ready")),
        }
    })
    .await;
    lock.release().await;

    stack.settled().await;
    assert_eq!(
        stack.database.stored_count(tenant).await,
        i64::from(BATCH) - 1 + 1
    );
    let dead = stack.database.dead().await;
    let [letter] = dead.as_slice() else {
        panic!("not one dead letter: {dead:?}");
    };
    assert_eq!(letter.message_id, poison);
    assert_eq!(letter.reason, "unstorable_payload");
    let neighbour = stack.client.post(tenant, &json!("after")).await;
    neighbour.stored();
    stack.finish().await;
}

/// 500 messages with ids of this tenant; one holds a NUL, which is good JSON and bad JSONB.
async fn batch(stack: &Stack, tenant: TenantId) -> Vec<(MessageId, Bytes)> {
    let number = stack.database.number(tenant).await;
    let mint = Mint::above(0);
    let message = |n: u32| {
        let id = mint.mint(Timestamp::now(), number, Origin::Accepted, u64::from(n));
        let nul = if n == POISONED { "\\u0000" } else { "" };
        (id, Bytes::from(format!("{{\"n\":{n},\"text\":\"{nul}\"}}")))
    };
    (0..BATCH).map(message).collect()
}
