//! `kill -9` of a worker: its messages go to its successor, none lost, none twice.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::harness::{Load, Stack, wait};

#[tokio::test]
async fn a_killed_worker_redelivers_without_loss_or_duplicate() {
    let stack = Stack::with()
        .wait_for_store(Duration::from_millis(100))
        .patient_statements()
        .broker_proxy()
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    let worker = stack.worker(tenant).await;

    // Nothing commits while the leaf is locked, so whatever has left the queue is unacknowledged.
    let lock = stack.database.lock_leaf(tenant).await;
    let load = Load::start(&stack.client, &[tenant], 30);
    load.answers(150).await;
    let answered = load.stop().await;
    wait::until("all of them are unacknowledged", async || {
        match stack.broker.ready(tenant).await {
            0 => Ok(()),
            ready => Err(format!("{ready} deliveries are ready")),
        }
    })
    .await;
    // As many as messages, or fewer that carry several each.
    let held = stack.broker_proxy().deliveries().seen();
    wait::until("an insert waits", async || {
        match stack.database.waiting_inserts(tenant).await {
            0 => Err("none".to_owned()),
            waiting => Ok(waiting),
        }
    })
    .await;
    assert_eq!(stack.database.stored_count(tenant).await, 0);

    worker.kill();
    wait::until("the worker has been replaced", async || {
        let shown = stack.client.tenant(tenant).await;
        let pid = &shown["runtime"]["pid"];
        if shown["status"] == "running" && *pid != worker.pid {
            Ok(())
        } else {
            Err(shown.to_string())
        }
    })
    .await;
    lock.release().await;

    stack.settled().await;
    let deliveries = stack.broker_proxy().deliveries();
    assert!(
        held > 0 && deliveries.redelivered() >= held,
        "{held}, {deliveries:?}"
    );
    assert_eq!(
        u64::try_from(stack.database.stored_count(tenant).await),
        Ok(answered)
    );
    stack.finish().await;
}

#[tokio::test]
async fn a_healthy_worker_killed_once_is_soon_ready_again() {
    let stack = Stack::start().await;
    let [tenant, neighbour] = stack.client.create_tenants().await;
    let undisturbed = stack.worker(neighbour).await;
    let worker = stack.worker(tenant).await;
    stack.client.post(tenant, &json!("before")).await.stored();

    let killed = Instant::now();
    worker.kill();
    let shown = wait::until("the worker has been replaced", async || {
        let shown = stack.client.tenant(tenant).await;
        if shown["status"] == "running" && shown["runtime"]["pid"] != worker.pid {
            Ok(shown)
        } else {
            Err(shown.to_string())
        }
    })
    .await;
    let ready_after = killed.elapsed();
    eprintln!("the worker was ready again after {ready_after:?}");
    // Two seconds are promised; ten times that only tells a restart from a long backoff.
    assert!(ready_after < Duration::from_secs(20), "{ready_after:?}");
    assert_eq!(shown["runtime"]["restarts"], 1);
    assert_eq!(shown["runtime"]["last_exit"], "signal 9 (SIGKILL)");

    stack.client.post(tenant, &json!("after")).await.stored();
    assert_eq!(stack.worker(neighbour).await, undisturbed);
    stack.finish().await;
}
