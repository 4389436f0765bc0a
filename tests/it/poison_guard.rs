//! A message that kills its worker is found and buried, and its neighbours are stored.

use std::time::Duration;

use jatis_shared::ids::{MessageId, TenantId};
use serde_json::json;

use crate::harness::{Posted, Stack, processes::Process, wait};

const NEIGHBOURS: usize = 12;

#[tokio::test]
async fn a_message_that_kills_its_worker_becomes_a_dead_letter_and_its_neighbours_rows() {
    let stack = Stack::with()
        .wait_for_store(Duration::from_millis(100))
        .patient_statements()
        .set("supervision.backoff_min", "10ms")
        .set("supervision.backoff_max", "20ms")
        .dead_letters(1)
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.pause(tenant).await;
    let mut ids = Vec::new();
    for n in 0..=NEIGHBOURS {
        let Posted::Queued(id) = stack.client.post(tenant, &json!(n)).await else {
            panic!("a paused tenant stores nothing");
        };
        ids.push(id);
    }
    let killer = ids[NEIGHBOURS / 2];

    // No real message kills a worker, so whenever this one is in its hands somebody does.
    let held = stack.database.hold_message(tenant, killer).await;
    stack.client.resume(tenant).await;
    let mut kills = 0;
    while in_hand(&stack, tenant, killer).await {
        let worker = stack.worker(tenant).await;
        worker.kill();
        Process::ended(std::slice::from_ref(&worker)).await;
        stack.database.end_waiting().await;
        kills += 1;
        wait::until("the killed worker is replaced", async || {
            let shown = stack.client.tenant(tenant).await;
            if shown["status"] == "running" && shown["runtime"]["pid"] != worker.pid {
                Ok(())
            } else {
                Err(shown.to_string())
            }
        })
        .await;
    }
    // Once among its neighbours, which says nothing, then three times alone.
    assert_eq!(kills, 1 + 3);
    held.abandon().await;

    let dead = stack.database.dead().await;
    let [letter] = dead.as_slice() else {
        panic!("not one dead letter: {dead:?}");
    };
    assert_eq!((letter.message_id, letter.tenant), (killer, tenant));
    assert_eq!(letter.reason, "worker_crash");
    stack.settled().await;
    let stored = i64::try_from(NEIGHBOURS).expect("they are few");
    assert_eq!(stack.database.stored_count(tenant).await, stored);
    stack.client.post(tenant, &json!("after")).await.taken();
    stack.finish().await;
}

/// Waits until a message is in a worker's hands (true), or is a dead letter (false).
async fn in_hand(stack: &Stack, tenant: TenantId, message: MessageId) -> bool {
    wait::until("the message is in a worker's hands, or dead", async || {
        let dead = stack.database.dead().await;
        if dead.iter().any(|letter| letter.message_id == message) {
            return Ok(false);
        }
        match stack.database.waiting_for_locks().await {
            0 => Err(stack.client.tenant(tenant).await.to_string()),
            _waiting => Ok(true),
        }
    })
    .await
}
