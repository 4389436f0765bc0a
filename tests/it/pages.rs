//! Lists in pages: a walk shows everything that was there when it began, and once.

use std::collections::BTreeSet;

use jatis_shared::ids::{MessageId, TenantId};
use serde_json::{Value, json};

use crate::harness::{Client, Load, Order, Stack};

const BEFORE: usize = 400;

#[tokio::test]
async fn a_walk_shows_every_message_stored_before_it_once_while_others_arrive() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    let load = Load::start(&stack.client, &[tenant], 20);
    load.answers(u64::try_from(BEFORE).expect("a count fits"))
        .await;
    load.stop().await;
    stack.settled().await;
    let before: BTreeSet<MessageId> = stack
        .database
        .stored()
        .await
        .iter()
        .map(|row| row.id)
        .collect();

    for order in [Order::Desc, Order::Asc] {
        let load = Load::start(&stack.client, &[tenant], 2);
        load.answers(1).await;
        let seen = walk(&stack.client, tenant, order).await;
        load.answers(1).await;
        load.stop().await;

        assert!(in_order(&seen, order), "{order:?}: out of order or twice");
        let seen: BTreeSet<MessageId> = seen.into_iter().collect();
        let missing: Vec<&MessageId> = before.difference(&seen).collect();
        assert!(missing.is_empty(), "{order:?}: the walk missed {missing:?}");
    }
    stack.finish().await;
}

#[tokio::test]
async fn a_walk_back_shows_the_pages_of_the_walk_there() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    for n in 0..25 {
        stack.client.post(tenant, &json!({"n": n})).await.stored();
    }

    for order in [Order::Desc, Order::Asc] {
        let mut there = Vec::new();
        let mut page = stack.client.page(tenant, order, 7, "").await;
        assert_eq!(page["prev_cursor"], Value::Null, "nothing lies before");
        while let Some(next) = page["next_cursor"].as_str().map(str::to_owned) {
            there.push(ids(&page));
            page = stack.client.page(tenant, order, 7, &next).await;
        }
        assert_eq!(there.len(), 3);
        assert_eq!(ids(&page).len(), 4);

        let mut back = Vec::new();
        while let Some(previous) = page["prev_cursor"].as_str().map(str::to_owned) {
            page = stack.client.page(tenant, order, 7, &previous).await;
            back.push(ids(&page));
        }
        back.reverse();
        assert_eq!(back, there, "{order:?}");
    }
    stack.finish().await;
}

#[tokio::test]
async fn a_page_shows_messages_as_they_were_sent_newest_first() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    let payloads = [
        json!(null),
        json!("text"),
        json!({"a": [1, 2.5, {"b": true}]}),
    ];
    for payload in &payloads {
        stack.client.post(tenant, payload).await.stored();
    }

    let answer = stack
        .client
        .get(&format!("/tenants/{tenant}/messages"))
        .await;
    let page = answer.expect(200).json();
    let shown: Vec<&Value> = messages(&page).iter().map(|m| &m["payload"]).collect();
    assert_eq!(shown, payloads.iter().rev().collect::<Vec<_>>());
    for message in messages(&page) {
        assert_eq!(message["tenant_id"], tenant.to_string());
        assert_eq!(message["status"], "stored");
        let created_at = message["created_at"].as_str().unwrap_or_default();
        assert_eq!(created_at.len(), "2026-01-01T00:00:00.000000Z".len());
    }
    stack.finish().await;
}

/// All ids from the first page to the last.
async fn walk(client: &Client, tenant: TenantId, order: Order) -> Vec<MessageId> {
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client.page(tenant, order, 37, &cursor).await;
        seen.extend(ids(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return seen,
        }
    }
}

fn messages(page: &Value) -> &[Value] {
    page["data"].as_array().expect("a page has data")
}

fn ids(page: &Value) -> Vec<MessageId> {
    let id = |message: &Value| message["id"].as_str()?.parse().ok();
    let ids: Option<Vec<MessageId>> = messages(page).iter().map(id).collect();
    ids.expect("every message has an id")
}

/// Strictly: an id that comes twice is out of order.
fn in_order(ids: &[MessageId], order: Order) -> bool {
    match order {
        Order::Asc => ids.is_sorted_by(|a, b| a < b),
        Order::Desc => ids.is_sorted_by(|a, b| a > b),
    }
}
