//! A tenant's concurrency, changed while it works: what is applied is what PostgreSQL sees.

use std::time::Duration;

use jatis_shared::ids::TenantId;
use serde_json::json;

use crate::harness::{Load, Stack, wait};

#[tokio::test]
async fn a_resize_under_load_is_applied_and_redelivers_nothing() {
    let stack = Stack::with()
        .set("database.connections_per_worker", "8")
        // Small batches and a large prefetch: with the leaf locked there is always a further
        // batch for a thread that should not exist.
        .set("worker.max_batch_rows", "10")
        .set("worker.max_unacked_bytes", "4294967296")
        .wait_for_store(Duration::from_millis(50))
        .patient_statements()
        .broker_proxy()
        .start()
        .await;
    let tenant = stack
        .client
        .create_tenant(json!({"name": "elastic", "workers": 1}))
        .await;
    let load = Load::start(&stack.client, &[tenant], 40);
    load.answers(100).await;

    let lock = stack.database.lock_leaf(tenant).await;
    exactly_this_many_inserts_wait(&stack, &load, tenant, 1).await;
    assert_eq!(stack.client.resize(tenant, 8).await, 8);
    exactly_this_many_inserts_wait(&stack, &load, tenant, 8).await;
    lock.release().await;
    load.answers(200).await;

    assert_eq!(stack.client.resize(tenant, 2).await, 2);
    let lock = stack.database.lock_leaf(tenant).await;
    exactly_this_many_inserts_wait(&stack, &load, tenant, 2).await;
    lock.release().await;
    load.answers(200).await;

    let answered = load.stop().await;
    stack.settled().await;
    let shown = stack.client.tenant(tenant).await;
    assert_eq!(shown["workers"], 2);
    // Every AMQP message was seen on its way, whether it carried one message or several.
    let published = stack.broker_proxy().publications().amqp_messages();
    let deliveries = stack.broker_proxy().deliveries();
    assert!(answered >= 500, "{answered}");
    assert_eq!(deliveries.seen(), published);
    assert_eq!(deliveries.redelivered(), 0);
    stack.finish().await;
}

/// Waits for `inserts` inserts that wait for the leaf, and sees that a hundred messages more (ten
/// batches) add none.
async fn exactly_this_many_inserts_wait(
    stack: &Stack,
    load: &Load,
    tenant: TenantId,
    inserts: i64,
) {
    wait::until(
        "as many inserts wait as there are threads",
        async || match stack.database.waiting_inserts(tenant).await {
            waiting if waiting == inserts => Ok(()),
            waiting => Err(format!("{waiting} of {inserts} wait")),
        },
    )
    .await;
    load.answers(100).await;
    assert_eq!(
        stack.database.waiting_inserts(tenant).await,
        inserts,
        "more messages must not make more inserts"
    );
}
