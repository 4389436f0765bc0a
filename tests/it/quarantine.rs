//! A worker that crashes again and again is shut away, and nobody else notices.

use std::time::Duration;

use jatis_shared::ids::TenantId;
use serde_json::{Value, json};

use crate::harness::{Blueprint, Stack, wait};

/// A stack whose tenants are soon in quarantine.
fn strict() -> Blueprint {
    Stack::with()
        .wait_for_store(Duration::from_millis(100))
        .set("supervision.backoff_min", "10ms")
        .set("supervision.backoff_max", "20ms")
        .set("supervision.quarantine_crashes", "2")
        .allow_error("is quarantined")
}

#[tokio::test]
async fn a_crash_loop_ends_in_quarantine_which_outlives_the_supervisor_until_somebody_acts() {
    let mut stack = strict().start().await;
    let [tenant, neighbour] = stack.client.create_tenants().await;
    let undisturbed = stack.worker(neighbour).await;
    stack.client.post(tenant, &json!("before")).await.taken();

    for _ in 0..3 {
        kill(&stack, tenant).await;
    }
    let shown = stack.client.with_status(tenant, "failed").await;
    let runtime = &shown["runtime"];
    assert_eq!(runtime["state"], "quarantined");
    assert_eq!(runtime["last_exit"], "signal 9 (SIGKILL)");
    assert_eq!(runtime["restarts"], 2, "three starts and no more");
    assert_eq!(runtime["pid"], Value::Null);
    let health = stack.client.get("/health").await.expect(200).json();
    assert_eq!(health["status"], "degraded", "{health}");

    // It takes messages as before, and they wait.
    stack.client.post_queued(tenant, 5).await;
    stack.client.post(neighbour, &json!("free")).await.taken();
    assert_eq!(stack.worker(neighbour).await, undisturbed);

    stack.database.until_quarantined(tenant, 1).await;
    stack.stop().await;
    stack.start_again().await;
    stack.client.running(neighbour).await;
    let shown = stack.client.with_status(tenant, "failed").await;
    assert_eq!(shown["runtime"]["state"], "quarantined");
    assert_eq!(shown["runtime"]["pid"], Value::Null);
    stack.client.post_queued(tenant, 5).await;

    // Whoever gives it another size lets it out.
    stack.client.resize(tenant, 3).await;
    stack.client.running(tenant).await;
    stack.settled().await;
    assert_eq!(stack.database.stored_count(tenant).await, 11);
    stack.finish().await;
}

#[tokio::test]
async fn a_quarantine_ends_by_itself_for_a_trial_that_one_crash_ends() {
    let stack = strict()
        .set("supervision.quarantine_min", "2s")
        .set("supervision.quarantine_max", "2s")
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    for _ in 0..3 {
        kill(&stack, tenant).await;
    }
    stack.database.until_quarantined(tenant, 1).await;
    for quarantines in 2..4 {
        kill(&stack, tenant).await;
        stack.database.until_quarantined(tenant, quarantines).await;
    }
    stack.client.running(tenant).await;
    stack.client.post(tenant, &json!("after")).await.taken();
    stack.settled().await;
    stack.finish().await;
}

/// Kills the tenant's worker, as soon as it runs.
async fn kill(stack: &Stack, tenant: TenantId) {
    let worker = stack.worker(tenant).await;
    worker.kill();
    wait::until("the killed worker is gone", async || {
        let shown = stack.client.tenant(tenant).await;
        if shown["runtime"]["pid"] == worker.pid {
            Err(shown.to_string())
        } else {
            Ok(())
        }
    })
    .await;
}
