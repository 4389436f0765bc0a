//! A message that comes once more is stored once, buried once, and stays deleted.

use std::time::Duration;

use jatis_shared::ids::{MessageId, TenantId};
use serde_json::json;

use crate::harness::{Blueprint, Stack, wait};

/// What `Stack::deal_without_acknowledging` needs.
fn blueprint() -> Blueprint {
    Stack::with()
        .wait_for_store(Duration::from_millis(100))
        .patient_statements()
        .broker_proxy()
}

#[tokio::test]
async fn a_deleted_message_stays_deleted() {
    let stack = blueprint().start().await;
    let [tenant] = stack.client.create_tenants().await;
    let payloads = [json!("stays"), json!("goes"), json!({"goes": true})];
    let ids = stack.deal_without_acknowledging(tenant, &payloads).await;
    for id in &ids[1..] {
        stack.client.delete(tenant, *id).await.expect(200);
    }

    stack.redeliver(3).await;
    all_settled(&stack, tenant).await;
    assert_eq!(stored_ids(&stack).await, [ids[0]]);
    for id in &ids[1..] {
        let again = stack.client.delete(tenant, *id).await;
        again.expect_problem(404, "message_not_found");
    }
    assert_eq!(stack.client.statistics(tenant).await["total_messages"], 1);
    stack.finish().await;
}

#[tokio::test]
async fn a_deletion_under_way_is_waited_for_and_holds() {
    let stack = blueprint().start().await;
    let [tenant] = stack.client.create_tenants().await;
    let payloads = [json!("stays"), json!("goes")];
    let ids = stack.deal_without_acknowledging(tenant, &payloads).await;

    let deletion = stack.database.delete_slowly(tenant, ids[1]).await;
    stack.redeliver(2).await;
    wait::until("the insert waits for the deletion", async || {
        match stack.database.waiting_for_a_transaction().await {
            1 => Ok(()),
            waiting => Err(format!("{waiting} wait")),
        }
    })
    .await;
    deletion.release().await;
    stack.client.erased(tenant, ids[1], &payloads[1]);
    all_settled(&stack, tenant).await;
    assert_eq!(stored_ids(&stack).await, [ids[0]]);
    stack.finish().await;
}

#[tokio::test]
async fn a_dead_letter_whose_message_can_be_stored_at_last_is_a_dead_letter_no_more() {
    let stack = blueprint().start().await;
    let [tenant] = stack.client.create_tenants().await;
    stack.database.refuse_payload(tenant, "\"refused\"").await;
    let payloads = [json!("fine"), json!("refused")];
    let ids = stack.deal_without_acknowledging(tenant, &payloads).await;
    assert_eq!(dead_ids(&stack).await, [ids[1]]);

    stack.database.refuse_no_payload(tenant).await;
    stack.redeliver(2).await;
    wait::until("both are stored", async || match stored_ids(&stack).await {
        stored if stored == ids => Ok(()),
        stored => Err(format!("{stored:?}")),
    })
    .await;
    assert_eq!(dead_ids(&stack).await, []);
    stack.finish().await;
}

#[tokio::test]
async fn a_purged_dead_letter_is_not_written_again() {
    let stack = blueprint().start().await;
    let [tenant] = stack.client.create_tenants().await;
    stack.database.refuse_payload(tenant, "\"refused\"").await;
    let payloads = [json!("fine"), json!("refused")];
    let ids = stack.deal_without_acknowledging(tenant, &payloads).await;

    stack.database.purge(tenant, ids[1]).await;
    stack.client.erased(tenant, ids[1], &payloads[1]);
    stack.redeliver(2).await;
    all_settled(&stack, tenant).await;
    assert_eq!(stored_ids(&stack).await, [ids[0]]);
    assert_eq!(dead_ids(&stack).await, []);
    stack.finish().await;
}

#[tokio::test]
async fn a_stored_message_does_not_become_a_dead_letter() {
    let stack = blueprint().start().await;
    let [tenant] = stack.client.create_tenants().await;
    let payloads = [json!("fine"), json!("refused later")];
    let ids = stack.deal_without_acknowledging(tenant, &payloads).await;

    // The server checks what is to be inserted before it finds that it is there already.
    let refused = "\"refused later\"";
    stack.database.refuse_payload(tenant, refused).await;
    stack.redeliver(2).await;
    all_settled(&stack, tenant).await;
    assert_eq!(stored_ids(&stack).await, ids);
    assert_eq!(dead_ids(&stack).await, []);
    stack.finish().await;
}

/// Waits until the queue is empty and everything that was in it dealt with, by a message behind it;
/// that one is deleted again.
async fn all_settled(stack: &Stack, tenant: TenantId) {
    let last = wait::until("a message is taken", async || {
        match stack.client.post(tenant, &json!("last")).await {
            posted if posted.is_taken() => Ok(posted.taken()),
            posted => Err(format!("{posted:?}")),
        }
    })
    .await;
    wait::until("the last message is stored", async || {
        let answer = stack.client.get(&format!("/messages/{last}")).await;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.to_string())
        }
    })
    .await;
    stack.client.delete(tenant, last).await.expect(200);
    wait::until("nothing is queued", async || {
        let statistics = stack.client.statistics(tenant).await;
        if statistics["queued"] == 0 {
            Ok(())
        } else {
            Err(statistics.to_string())
        }
    })
    .await;
}

async fn stored_ids(stack: &Stack) -> Vec<MessageId> {
    let mut ids: Vec<MessageId> = stack
        .database
        .stored()
        .await
        .iter()
        .map(|row| row.id)
        .collect();
    ids.sort_unstable();
    ids
}

async fn dead_ids(stack: &Stack) -> Vec<MessageId> {
    let dead = stack.database.dead().await;
    dead.iter().map(|row| row.message_id).collect()
}
