//! A client deletes a message: it is gone for everybody, and one request is told so.

use std::time::Duration;

use hyper::Method;
use jatis_shared::ids::{MessageId, TenantId};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::Stack;

#[tokio::test]
async fn a_deleted_message_is_gone_under_both_roots() {
    let stack = Stack::start().await;
    let [tenant, other] = stack.client.create_tenants().await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(stack.client.post(tenant, &json!({"n": n})).await.stored());
    }

    let strangers = stack.client.with_token(&stack.tenant_token(other));
    let path = format!("/api/v1/messages/{}", ids[0]);
    let hidden = strangers.ask(Method::DELETE, &path).await;
    hidden.expect_problem(404, "message_not_found");
    let elsewhere = format!("{path}?tenant_id={other}");
    let hidden = stack.client.ask(Method::DELETE, &elsewhere).await;
    hidden.expect_problem(404, "message_not_found");

    let own = stack.client.with_token(&stack.tenant_token(tenant));
    for (client, path, id) in [
        (&stack.client, path.clone(), ids[0]),
        (&own, format!("/messages/{}", ids[1]), ids[1]),
        (
            &own,
            format!("/api/v1/messages/{}?tenant_id={tenant}", ids[2]),
            ids[2],
        ),
    ] {
        let deleted = client.ask(Method::DELETE, &path).await.expect(200);
        assert_eq!(
            deleted.json(),
            json!({"message": "Message deleted successfully"})
        );
        let payload = json!({"n": ids.iter().position(|known| *known == id)});
        stack.client.erased(tenant, id, &payload);
        for method in [Method::DELETE, Method::GET] {
            let again = client.ask(method, &path).await;
            again.expect_problem(404, "message_not_found");
        }
    }

    for list in [
        format!("/api/v1/tenants/{tenant}/messages"),
        format!("/tenants/{tenant}/messages"),
        format!("/api/v1/messages?tenant_id={tenant}"),
        format!("/messages?tenant_id={tenant}"),
    ] {
        let page = stack.client.get(&list).await.expect(200).json();
        assert_eq!(page["data"].as_array().map(Vec::len), Some(1), "{list}");
        assert_eq!(page["data"][0]["id"], ids[3].to_string(), "{list}");
    }
    let statistics = stack.client.statistics(tenant).await;
    for number in ["total_messages", "messages_24h", "messages_1h"] {
        assert_eq!(statistics[number], 1, "{statistics}");
    }
    stack.finish().await;
}

#[tokio::test]
async fn of_many_deletions_of_a_message_at_once_one_is_answered_200() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    for n in 0..5 {
        let id = stack.client.post(tenant, &json!(n)).await.stored();
        assert_eq!(deletions_at_once(&stack, tenant, id).await, 1);
    }
    assert_eq!(stack.database.stored_count(tenant).await, 0);
    stack.finish().await;
}

#[tokio::test]
async fn a_message_that_is_not_stored_yet_cannot_be_deleted_yet() {
    let stack = Stack::with()
        .wait_for_store(Duration::from_millis(100))
        .patient_statements()
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    let lock = stack.database.lock_counts().await;
    let id = stack.client.post(tenant, &Value::Null).await.taken();
    let path = format!("/api/v1/messages/{id}");
    for method in [Method::DELETE, Method::GET] {
        let pending = stack.client.ask(method, &path).await;
        let pending = pending.expect_problem(404, "message_pending");
        assert_eq!(pending.header("retry-after"), "1");
    }
    lock.release().await;
    stack.settled().await;
    stack.client.delete(tenant, id).await.expect(200);

    let never = "0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3e";
    let path = format!("/api/v1/messages/{never}");
    let unknown = stack.client.ask(Method::DELETE, &path).await;
    unknown.expect_problem(404, "message_not_found");
    let malformed = stack.client.ask(Method::DELETE, "/messages/17").await;
    malformed.expect_problem(400, "invalid_id");
    stack.finish().await;
}

/// Ten clients delete a message together; how many were told that they did.
async fn deletions_at_once(stack: &Stack, tenant: TenantId, id: MessageId) -> usize {
    let mut clients = JoinSet::new();
    for _ in 0..10 {
        let client = stack.client.clone();
        clients.spawn(async move { client.delete(tenant, id).await });
    }
    let answers = clients.join_all().await;
    for answer in &answers {
        match answer.status.as_u16() {
            200 => {}
            _ => drop(answer.clone().expect_problem(404, "message_not_found")),
        }
    }
    answers.iter().filter(|answer| answer.status == 200).count()
}
