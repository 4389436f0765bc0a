//! The servers fail and come back: clients are told, and nothing is lost.

use std::time::Duration;

use jatis_shared::ids::TenantId;
use serde_json::json;

use crate::harness::{Answer, Posted, Stack, wait};

#[tokio::test]
async fn without_the_broker_a_post_answers_503_and_everything_works_again_after() {
    let stack = Stack::with()
        .set("messages.publish_timeout", "1s")
        .set("http.request_timeout", "15s")
        .set("messages.wait_for_store", "10s")
        .broker_proxy()
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("before")).await.stored();
    let worker = stack.worker(tenant).await;

    stack.broker_proxy().cut().await;
    wait::until("the broker is known to be away", async || {
        let refused = refusal(stack.client.post(tenant, &json!("during")).await);
        match refused.json()["code"].as_str() {
            Some("broker_unavailable") => Ok(()),
            // The first ones may have been under way when it was cut.
            _ => Err(refused.to_string()),
        }
    })
    .await;
    stack.client.get("/health").await.expect(503);
    stack.client.get("/health/live").await.expect(200);

    stack.broker_proxy().resume();
    stored_again(&stack, tenant).await;
    assert_eq!(stack.worker(tenant).await, worker, "an outage is no crash");
    stack.finish().await;
}

#[tokio::test]
async fn a_silent_broker_leaves_a_publish_uncertain_and_its_sender_is_told() {
    let stack = Stack::with()
        .set("messages.publish_timeout", "1s")
        .set("http.request_timeout", "15s")
        .set("messages.wait_for_store", "10s")
        .broker_proxy()
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("before")).await.stored();

    stack.broker_proxy().stall();
    let refused = refusal(stack.client.post(tenant, &json!("during")).await);
    let refused = refused.expect_problem(503, "publish_uncertain");
    assert!(refused.json()["message_id"].is_string(), "{refused}");
    // Those who come while the first one's channel is being given up are told as well.
    for n in 0..3 {
        refusal(stack.client.post(tenant, &json!({"during": n})).await);
    }

    stack.broker_proxy().resume();
    stored_again(&stack, tenant).await;
    stack.finish().await;
}

#[tokio::test]
async fn without_the_database_messages_are_queued_and_stored_after() {
    let stack = Stack::with()
        .wait_for_store(Duration::from_millis(100))
        .database_proxy()
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("before")).await.taken();
    let worker = stack.worker(tenant).await;

    stack.database_proxy().cut().await;
    for n in 0..20 {
        let posted = stack.client.post(tenant, &json!({"during": n})).await;
        assert!(matches!(posted, Posted::Queued(_)), "{posted:?}");
    }
    let page = format!("/api/v1/tenants/{tenant}/messages");
    let refused = stack.client.get(&page).await;
    let refused = refused.expect_problem(503, "database_unavailable");
    assert_ne!(refused.header("retry-after"), "");

    stack.database_proxy().resume();
    stack.settled().await;
    assert_eq!(stack.database.stored_count(tenant).await, 21);
    assert_eq!(stack.worker(tenant).await, worker, "an outage is no crash");
    stack.finish().await;
}

#[tokio::test]
async fn a_silent_database_delays_messages_and_loses_none() {
    let stack = Stack::with()
        .wait_for_store(Duration::from_millis(100))
        .database_proxy()
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("before")).await.taken();

    stack.database_proxy().stall();
    for n in 0..20 {
        let posted = stack.client.post(tenant, &json!({"during": n})).await;
        assert!(matches!(posted, Posted::Queued(_)), "{posted:?}");
    }
    stack.database_proxy().resume();
    stack.settled().await;
    assert_eq!(stack.database.stored_count(tenant).await, 21);
    stack.finish().await;
}

#[tokio::test]
async fn a_queue_that_was_deleted_is_declared_again() {
    let stack = Stack::with()
        .set("supervision.converge_interval", "500ms")
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("before")).await.stored();
    stack.settled().await;

    stack.broker.delete_queue(tenant).await;
    stored_again(&stack, tenant).await;
    stack.finish().await;
}

/// Waits until a message is answered 201.
async fn stored_again(stack: &Stack, tenant: TenantId) {
    wait::until("messages are stored again", async || {
        let posted = stack.client.post(tenant, &json!("after")).await;
        if let Posted::Stored(_) = posted {
            Ok(())
        } else {
            Err(format!("{posted:?}"))
        }
    })
    .await;
}

/// The answer to a post that was refused for now: 503, when to come again, and a reason of the
/// broker's. A request that ran into the API's own timeout had waited for longer than a publish may.
fn refusal(posted: Posted) -> Answer {
    let Posted::Refused(answer) = posted else {
        panic!("not refused: {posted:?}");
    };
    let answer = answer.expect(503);
    assert_ne!(answer.header("retry-after"), "", "{answer}");
    let code = answer.json()["code"].clone();
    assert!(
        code == "broker_unavailable" || code == "publish_uncertain",
        "{answer}"
    );
    answer
}
