//! Tenants come and go while others work, whoever reads.

use hyper::Method;
use serde_json::json;

use crate::harness::{Load, Order, Stack};

#[tokio::test]
async fn tenants_come_and_go_while_another_is_written_and_a_reader_stays() {
    let stack = Stack::start().await;
    let [busy, leaving] = stack.client.create_tenants().await;
    for n in 0..3 {
        stack.client.post(leaving, &json!(n)).await.stored();
    }
    let load = Load::start(&stack.client, &[busy], 10);
    load.answers(50).await;
    let reader = stack.database.read_messages_on_and_on().await;

    let coming = stack.client.create_tenant(json!({"name": "coming"})).await;
    stack.client.post(coming, &json!("here")).await.stored();
    load.answers(50).await;

    for (tenant, messages) in [(leaving, 3), (coming, 1)] {
        let deleted = stack.client.delete_tenant(tenant).await;
        assert_eq!(deleted["messages_deleted"], messages, "{deleted}");
        assert_eq!(deleted["messages_unprocessed"], 0, "{deleted}");
        let shown = stack.client.get(&format!("/api/v1/tenants/{tenant}")).await;
        shown.expect_problem(404, "tenant_not_found");
        load.answers(50).await;
    }
    let after = stack.client.create_tenant(json!({"name": "after"})).await;
    stack.client.post(after, &json!("here")).await.stored();
    load.answers(50).await;

    reader.release().await;
    for tenant in [leaving, coming] {
        stack.database.no_trace_of(tenant).await;
    }
    load.stop().await;
    stack.finish().await;
}

#[tokio::test]
async fn tenants_come_and_go_while_the_detach_of_another_cannot_be_finished() {
    let stack = Stack::start().await;
    let [read, first, second] = stack.client.create_tenants().await;
    for tenant in [read, first, second] {
        stack.client.post(tenant, &json!("here")).await.stored();
    }
    let reader = stack.database.read_beside_on_and_on(read).await;
    stack.client.delete_tenant(first).await;
    stack.database.detach_pending(first).await;

    let coming = stack.client.create_tenant(json!({"name": "coming"})).await;
    stack.client.post(coming, &json!("here")).await.stored();
    stack.client.delete_tenant(second).await;
    stack.client.delete_tenant(coming).await;
    stack.client.post(read, &json!("here")).await.stored();
    assert!(stack.database.is_detach_pending(first).await);

    reader.release().await;
    for tenant in [first, second, coming] {
        stack.database.no_trace_of(tenant).await;
    }
    stack.finish().await;
}

#[tokio::test]
async fn a_deleted_tenants_id_can_be_taken_again_once_all_of_it_is_gone() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("old")).await.stored();
    let again = json!({"id": tenant, "name": "again"});
    stack
        .client
        .call(Method::POST, "/api/v1/tenants", &again)
        .await
        .expect_problem(409, "tenant_exists");

    let reader = stack.database.read_messages_on_and_on().await;
    stack.client.delete_tenant(tenant).await;
    stack
        .client
        .call(Method::POST, "/api/v1/tenants", &again)
        .await
        .expect_problem(409, "tenant_deleting");

    reader.release().await;
    stack.database.no_trace_of(tenant).await;
    assert_eq!(stack.client.create_tenant(again).await, tenant);
    let page = stack.client.page(tenant, Order::Asc, 10, "").await;
    assert_eq!(page["data"], json!([]));
    stack.client.post(tenant, &json!("new")).await.stored();
    stack.finish().await;
}
