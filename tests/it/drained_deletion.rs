//! `DELETE /tenants/{id}?drain=true`: nothing of a tenant goes before all of it is stored.
//!
//! A reader that stays keeps the leaf where it is when its tenant is gone for clients, so that it
//! can be seen what was stored by then.

use std::{collections::BTreeSet, time::Duration};

use hyper::Method;
use jatis_shared::ids::{MessageId, TenantId};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{Answer, Load, Lost, Stack, processes::Process, wait};

const BACKLOG: u64 = 300;

#[tokio::test]
async fn a_drained_tenant_is_gone_only_when_all_it_had_queued_is_stored() {
    for queue_type in ["quorum", "classic"] {
        let stack = Stack::with()
            .set("rabbitmq.queue_type", queue_type)
            // A classic queue is not judged before orphans must have left.
            .set("database.statement_timeout", "1s")
            .set("worker.job_timeout", "2s")
            .set("supervision.orphan_timeout", "3s")
            .set("supervision.kill_after", "2s")
            .start()
            .await;
        let [tenant] = stack.client.create_tenants().await;
        backlog(&stack, tenant, BACKLOG).await;
        let by_amqp = json!({"by": "amqp"}).to_string();
        stack.broker.publish(tenant, by_amqp.as_bytes(), None).await;
        let reader = stack.database.read_messages_on_and_on().await;

        let answer = wait::bounded("the drain", drain(&stack, tenant)).await;
        let answer = answer.expect("no panic").expect("an answer").expect(200);
        let deleted = answer.json();
        assert_eq!(deleted["message"], "Tenant deleted successfully");
        assert_eq!(deleted["data"]["tenant_id"], tenant.to_string());
        assert_eq!(deleted["data"]["messages_deleted"], BACKLOG + 1);
        assert_eq!(deleted["data"]["messages_unprocessed"], 0);
        let stored = stack.database.stored_ids(tenant).await;
        assert_eq!(stored.len(), usize::try_from(BACKLOG).expect("few") + 1);
        all_stored(&stored, &stack.client.gone(tenant).await);
        reader.release().await;
        stack.finish().await;
    }
}

#[tokio::test]
async fn while_it_drains_a_tenant_takes_nothing_and_can_be_read() {
    let stack = Stack::with().patient_statements().start().await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("first")).await.stored();
    backlog(&stack, tenant, 20).await;
    let lock = stack.database.lock_leaf(tenant).await;
    let draining = drain(&stack, tenant);
    stack.client.with_status(tenant, "draining").await;

    let post = format!("/api/v1/messages/{tenant}");
    let tenant_path = format!("/api/v1/tenants/{tenant}");
    for (method, path, body, status, code) in [
        (
            Method::POST,
            post.clone(),
            json!({"payload": 1}),
            410,
            "tenant_gone",
        ),
        (
            Method::PATCH,
            tenant_path.clone(),
            json!({"paused": true}),
            409,
            "tenant_deleting",
        ),
        (
            Method::PUT,
            tenant_path.clone(),
            json!({"workers": 2}),
            409,
            "tenant_deleting",
        ),
        (
            Method::PUT,
            format!("{tenant_path}/config/concurrency"),
            json!({"workers": 2}),
            409,
            "tenant_deleting",
        ),
        (
            Method::POST,
            format!("{tenant_path}/resume"),
            json!(null),
            409,
            "tenant_deleting",
        ),
        (
            Method::POST,
            "/api/v1/tenants".to_owned(),
            json!({"id": tenant}),
            409,
            "tenant_deleting",
        ),
    ] {
        let refused = stack.client.call(method, &path, &body).await;
        refused.expect_problem(status, code);
    }
    let page = stack.client.get(&format!("{tenant_path}/messages")).await;
    assert_eq!(page.expect(200).json()["data"][0]["payload"], "first");

    lock.release().await;
    let answer = wait::bounded("the drain", draining).await;
    let answer = answer.expect("no panic").expect("an answer").expect(200);
    assert_eq!(answer.json()["data"]["messages_deleted"], 21);
    stack.client.gone(tenant).await;
    stack.finish().await;
}

#[tokio::test]
async fn a_drain_under_load_stores_every_message_that_was_answered() {
    let stack = Stack::with()
        .wait_for_store(Duration::from_millis(50))
        .start()
        .await;
    let [tenant, neighbour] = stack.client.create_tenants().await;
    let load = Load::start(&stack.client, &[tenant], 40);
    let beside = Load::start(&stack.client, &[neighbour], 2);
    load.answers(300).await;
    let reader = stack.database.read_messages_on_and_on().await;

    let answer = wait::bounded("the drain", drain(&stack, tenant)).await;
    let answer = answer.expect("no panic").expect("an answer").expect(200);
    assert_eq!(answer.json()["data"]["messages_unprocessed"], 0);
    let answered = load.stop().await;
    let promised = stack.client.gone(tenant).await;
    assert_eq!(u64::try_from(promised.len()), Ok(answered));
    all_stored(&stack.database.stored_ids(tenant).await, &promised);

    reader.release().await;
    beside.answers(20).await;
    beside.stop().await;
    stack.finish().await;
}

#[tokio::test]
async fn a_drain_that_a_killed_supervisor_had_begun_is_finished_by_the_next() {
    let mut stack = Stack::with()
        .set("worker.max_batch_rows", "10")
        .patient_statements()
        .start()
        .await;
    let tenant = stack
        .client
        .create_tenant(json!({"name": "leaving", "workers": 1}))
        .await;
    // Its worker prepares its statements, which waits for the lock as well.
    stack.client.post(tenant, &json!("first")).await.stored();
    backlog(&stack, tenant, BACKLOG).await;
    let reader = stack.database.read_messages_on_and_on().await;
    let lock = stack.database.lock_leaf(tenant).await;
    let draining = drain(&stack, tenant);
    an_insert_waits(&stack, tenant).await;
    let lock = stack.database.let_inserts_through(tenant, lock).await;
    an_insert_waits(&stack, tenant).await;
    let stored = stack.database.stored_count(tenant).await;
    assert!(
        (2..=1 + 10).contains(&stored),
        "a batch of up to ten: {stored}"
    );
    let orphans = stack.kill_supervisor().await;
    let lost = wait::bounded("the request", draining).await;
    assert!(
        lost.expect("no panic").is_err(),
        "nobody is there to answer"
    );

    stack.start_again().await;
    stack.client.with_status(tenant, "draining").await;
    let post = format!("/api/v1/messages/{tenant}");
    let body = json!({"payload": 1});
    let refused = stack.client.call(Method::POST, &post, &body).await;
    refused.expect_problem(410, "tenant_gone");
    lock.release().await;

    let promised = stack.client.gone(tenant).await;
    assert_eq!(u64::try_from(promised.len()), Ok(1 + BACKLOG));
    all_stored(&stack.database.stored_ids(tenant).await, &promised);
    reader.release().await;
    Process::ended(&orphans).await;
    stack.finish().await;
}

#[tokio::test]
async fn a_queue_is_not_empty_while_a_consumer_that_is_gone_still_holds_some_of_it() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    backlog(&stack, tenant, 20).await;
    let reader = stack.database.read_messages_on_and_on().await;
    let taken = stack.broker.take_all(tenant).await;
    let draining = drain(&stack, tenant);
    wait::until("the worker was stopped for want of work", async || {
        let shown = stack.client.tenant(tenant).await;
        if shown["status"] == "draining" && shown["runtime"] == Value::Null {
            Ok(())
        } else {
            Err(shown.to_string())
        }
    })
    .await;
    taken.give_back().await;

    let answer = wait::bounded("the drain", draining).await;
    let answer = answer.expect("no panic").expect("an answer").expect(200);
    assert_eq!(answer.json()["data"]["messages_deleted"], 20);
    assert_eq!(answer.json()["data"]["messages_unprocessed"], 0);
    let promised = stack.client.gone(tenant).await;
    all_stored(&stack.database.stored_ids(tenant).await, &promised);
    reader.release().await;
    stack.finish().await;
}

#[tokio::test]
async fn a_drain_that_takes_long_is_answered_202_and_a_plain_deletion_cuts_it_short() {
    let stack = Stack::with()
        .set("http.request_timeout", "4s")
        .set("messages.publish_timeout", "1s")
        .set("messages.wait_for_store", "1s")
        .set("messages.max_wait", "1s")
        .set("worker.max_batch_rows", "10")
        .patient_statements()
        .start()
        .await;
    let tenant = stack
        .client
        .create_tenant(json!({"name": "leaving", "workers": 1}))
        .await;
    backlog(&stack, tenant, BACKLOG).await;
    let reader = stack.database.read_messages_on_and_on().await;
    let lock = stack.database.lock_leaf(tenant).await;

    for _again in 0..2 {
        let answer = drain(&stack, tenant).await.expect("no panic");
        let answer = answer.expect("an answer").expect(202);
        assert_eq!(answer.json()["status"], "draining");
        assert_eq!(
            answer.header("location"),
            format!("/api/v1/tenants/{tenant}")
        );
    }
    // Its worker cannot finish what it has begun: that, too, is answered as it is.
    let path = format!("/tenants/{tenant}");
    let answer = stack.client.ask(Method::DELETE, &path).await.expect(202);
    assert_eq!(answer.json()["status"], "deleting");
    let too_late = drain(&stack, tenant).await.expect("no panic");
    let too_late = too_late.expect("an answer");
    too_late.expect_problem(409, "tenant_deleting");

    lock.release().await;
    let promised = stack.client.gone(tenant).await;
    let stored = stack.database.stored_ids(tenant).await;
    assert!(stored.len() < promised.len(), "{} are stored", stored.len());
    reader.release().await;
    stack.finish().await;
}

async fn an_insert_waits(stack: &Stack, tenant: TenantId) {
    wait::until("an insert waits", async || {
        match stack.database.waiting_inserts(tenant).await {
            0 => Err("none".to_owned()),
            waiting => Ok(waiting),
        }
    })
    .await;
}

/// Has so many messages wait in the queue of a tenant, which is paused from then on.
async fn backlog(stack: &Stack, tenant: TenantId, messages: u64) {
    stack.client.pause(tenant).await;
    stack.client.post_queued(tenant, messages).await;
}

/// Orders the tenant deleted when it is drained.
fn drain(stack: &Stack, tenant: TenantId) -> JoinHandle<Result<Answer, Lost>> {
    let client = stack.client.clone();
    tokio::spawn(async move { client.drain_tenant(tenant).await })
}

fn all_stored(stored: &BTreeSet<MessageId>, promised: &BTreeSet<MessageId>) {
    let lost: Vec<&MessageId> = promised.difference(stored).collect();
    assert!(lost.is_empty(), "{} are lost: {lost:?}", lost.len());
}
