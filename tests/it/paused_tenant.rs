//! A paused tenant: messages are taken and kept in its queue, whatever dies meanwhile.

use hyper::Method;
use jatis_shared::ids::TenantId;
use serde_json::{Value, json};

use crate::harness::{Load, Posted, Stack, processes::Process, wait};

#[tokio::test]
async fn a_paused_tenant_takes_messages_and_stores_none_whoever_is_killed() {
    let mut stack = Stack::with()
        // A post that waited for its commit would be answered after the test has given up.
        .set("messages.wait_for_store", "10m")
        .set("http.request_timeout", "15m")
        .broker_proxy()
        .start()
        .await;
    let [tenant, neighbour] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("before")).await.stored();
    stack.client.pause(tenant).await;
    stack.client.pause(tenant).await;
    let shown = stack.client.tenant(tenant).await;
    assert_eq!(shown["runtime"]["state"], "paused");
    let delivered = stack.broker_proxy().deliveries().seen();

    stack.client.post_queued(tenant, 10).await;
    assert_eq!(stack.client.resize(tenant, 8).await, 8);
    let shown = stack.client.tenant(tenant).await;
    assert_eq!(
        (
            &shown["status"],
            &shown["workers"],
            &shown["runtime"]["active_workers"]
        ),
        (&json!("paused"), &json!(8), &json!(8))
    );

    let worker = paused_worker(&shown);
    kill_worker(&stack, worker);
    paused_again(&stack, tenant, worker).await;
    stack.client.post_queued(tenant, 10).await;

    // A broker that comes back finds it paused as well.
    stack.broker_proxy().cut().await;
    wait::until("the paused worker misses the broker", async || {
        let shown = stack.client.tenant(tenant).await;
        if shown["runtime"]["waiting_for"] == "broker" {
            Ok(())
        } else {
            Err(shown.to_string())
        }
    })
    .await;
    stack.broker_proxy().resume();
    wait::until("the paused worker has the broker again", async || {
        let shown = stack.client.tenant(tenant).await;
        if shown["runtime"]["waiting_for"] == Value::Null && shown["status"] == "paused" {
            Ok(())
        } else {
            Err(shown.to_string())
        }
    })
    .await;

    let orphans = stack.kill_supervisor().await;
    stack.start_again().await;
    Process::ended(&orphans).await;
    stack.client.with_status(tenant, "paused").await;
    stack.client.running(neighbour).await;
    stack.client.post_queued(tenant, 10).await;

    assert_eq!(stack.broker.ready(tenant).await, 30);
    assert_eq!(stack.broker_proxy().deliveries().seen(), delivered);
    assert_eq!(stack.database.stored_count(tenant).await, 1);
    stack.client.post(neighbour, &json!("free")).await.stored();

    stack.client.resume(tenant).await;
    stack.client.resume(tenant).await;
    stack.settled().await;
    assert_eq!(stack.database.stored_count(tenant).await, 31);
    stack.client.post(tenant, &json!("after")).await.stored();
    stack.finish().await;
}

#[tokio::test]
async fn a_pause_under_load_finishes_what_has_begun_and_gives_the_rest_back() {
    let stack = Stack::with()
        .set("messages.wait_for_store", "50ms")
        .set("worker.max_batch_rows", "10")
        .patient_statements()
        .broker_proxy()
        .start()
        .await;
    let tenant = stack
        .client
        .create_tenant(json!({"name": "full", "workers": 2}))
        .await;
    // Two batches begin and wait; what else arrives is prefetched and does not begin.
    let lock = stack.database.lock_leaf(tenant).await;
    let load = Load::start(&stack.client, &[tenant], 20);
    load.answers(200).await;
    wait::until("two inserts wait", async || {
        match stack.database.waiting_inserts(tenant).await {
            2 => Ok(()),
            waiting => Err(format!("{waiting}")),
        }
    })
    .await;

    let client = stack.client.clone();
    let pause = format!("/api/v1/tenants/{tenant}/pause");
    let pausing = tokio::spawn(async move { client.ask(Method::POST, &pause).await });
    wait::until("what has not begun is ready again", async || {
        let ready = stack.broker.ready(tenant).await;
        if ready >= 150 {
            Ok(())
        } else {
            Err(format!("{ready} are ready"))
        }
    })
    .await;
    assert_eq!(stack.database.stored_count(tenant).await, 0);
    lock.release().await;
    let answer = wait::bounded("the pause", pausing).await;
    answer.expect("no panic").expect(200);
    stack.client.with_status(tenant, "paused").await;
    let stored = stack.database.stored_count(tenant).await;
    assert!((1..=20).contains(&stored), "two batches of ten: {stored}");

    let delivered = stack.broker_proxy().deliveries().seen();
    load.answers(100).await;
    let answered = load.stop().await;
    assert_eq!(stack.database.stored_count(tenant).await, stored);
    assert_eq!(stack.broker_proxy().deliveries().seen(), delivered);

    stack.client.resume(tenant).await;
    stack.settled().await;
    assert_eq!(
        u64::try_from(stack.database.stored_count(tenant).await),
        Ok(answered)
    );
    stack.finish().await;
}

#[tokio::test]
async fn a_paused_tenants_queue_that_was_deleted_is_declared_again() {
    let stack = Stack::with()
        .set("supervision.converge_interval", "500ms")
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.pause(tenant).await;
    stack.broker.delete_queue(tenant).await;
    wait::until("messages are taken again", async || {
        let posted = stack.client.post(tenant, &json!("after")).await;
        if let Posted::Queued(_) = posted {
            Ok(())
        } else {
            Err(format!("{posted:?}"))
        }
    })
    .await;
    stack.client.resume(tenant).await;
    stack.finish().await;
}

fn paused_worker(shown: &Value) -> i64 {
    shown["runtime"]["pid"]
        .as_i64()
        .expect("a paused tenant keeps its worker")
}

fn kill_worker(stack: &Stack, pid: i64) {
    let workers = stack.supervisor().workers();
    let worker = workers.iter().find(|worker| i64::from(worker.pid) == pid);
    worker.expect("it is the supervisor's child").kill();
}

/// Waits until the tenant has another worker, which is paused.
async fn paused_again(stack: &Stack, tenant: TenantId, killed: i64) {
    wait::until("the worker has been replaced", async || {
        let shown = stack.client.tenant(tenant).await;
        if shown["status"] == "paused" && shown["runtime"]["pid"] != killed {
            Ok(())
        } else {
            Err(shown.to_string())
        }
    })
    .await;
}
