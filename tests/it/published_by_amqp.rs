//! AMQP clients that publish to a tenant's queue themselves are first-class.

use serde_json::json;

use crate::harness::{Order, Stack};

#[tokio::test]
async fn raw_json_is_stored_once_per_message_id() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;

    stack
        .broker
        .publish(tenant, br#"{"from": "amqp"}"#, None)
        .await;
    stack
        .broker
        .publish(
            tenant,
            br#"{"from": "amqp", "keyed": true}"#,
            Some("order-17"),
        )
        .await;
    stack.settled().await;
    // Again, after the first has been committed, and twice more together.
    for _ in 0..3 {
        stack
            .broker
            .publish(
                tenant,
                br#"{"from": "amqp", "keyed": true}"#,
                Some("order-17"),
            )
            .await;
    }
    // It comes behind them, so they are settled when it is stored.
    stack.client.post(tenant, &json!("last")).await.stored();

    assert_eq!(stack.database.stored_count(tenant).await, 3);
    let page = stack.client.page(tenant, Order::Asc, 10, "").await;
    assert_eq!(page["data"][0]["payload"], json!({"from": "amqp"}));
    stack.finish().await;
}

#[tokio::test]
async fn what_is_not_json_becomes_a_dead_letter_and_its_neighbours_rows() {
    let stack = Stack::with().dead_letters(1).start().await;
    let [tenant] = stack.client.create_tenants().await;

    stack.broker.publish(tenant, b"{\"n\": 1}", None).await;
    stack.broker.publish(tenant, b"{\"n\": 2", None).await;
    stack.broker.publish(tenant, b"{\"n\": 3}", None).await;
    stack.settled().await;

    assert_eq!(stack.database.stored_count(tenant).await, 2);
    let dead = stack.database.dead().await;
    let [letter] = dead.as_slice() else {
        panic!("not one dead letter: {dead:?}");
    };
    assert_eq!(letter.reason, "malformed_json");
    assert_eq!(letter.payload, b"{\"n\": 2");
    stack.finish().await;
}
