//! Messages that come together are published together, and each sender is told the truth.

use std::collections::BTreeSet;

use jatis_shared::ids::TenantId;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Answer, Client, Posted, Stack, wait};

const COALESCE: &str = "rabbitmq.coalesce";
const CLIENTS: u32 = 200;

#[tokio::test]
async fn parallel_posts_share_amqp_messages() {
    let stack = Stack::with().set(COALESCE, "true").start().await;
    let [tenant] = stack.client.create_tenants().await;
    post_in_parallel(&stack.client, tenant, CLIENTS).await;

    let published = Published::by(&stack.client).await;
    assert_eq!(published.messages, f64::from(CLIENTS));
    let each = published.messages / published.amqp_messages;
    eprintln!("{each:.1} messages an AMQP message");
    assert!(each > 1.0, "{published:?}");
    stack.finish().await;
}

#[tokio::test]
async fn without_coalescing_each_message_is_an_amqp_message() {
    let stack = Stack::with().set(COALESCE, "false").start().await;
    let [tenant] = stack.client.create_tenants().await;
    post_in_parallel(&stack.client, tenant, CLIENTS).await;

    let published = Published::by(&stack.client).await;
    assert_eq!(published.messages, f64::from(CLIENTS));
    assert_eq!(published.amqp_messages, published.messages);
    stack.finish().await;
}

#[tokio::test]
async fn messages_of_any_size_pass_within_the_bounds_of_a_batch() {
    let stack = Stack::with()
        .set(COALESCE, "true")
        .set("rabbitmq.coalesce_messages", "3")
        .set("rabbitmq.coalesce_bytes", "1024")
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    let mut posts = JoinSet::new();
    // Around what fits once, twice and three times; and far above.
    for (n, length) in [1, 300, 470, 990, 1000, 1100, 200_000]
        .into_iter()
        .cycle()
        .take(70)
        .enumerate()
    {
        let client = stack.client.clone();
        let payload = json!({"n": n, "text": "x".repeat(length)});
        posts.spawn(async move { client.post(tenant, &payload).await.stored() });
    }
    wait::bounded("all are answered", posts.join_all()).await;
    stack.finish().await;
}

#[tokio::test]
async fn a_batch_that_is_never_confirmed_is_uncertain_to_each_of_its_senders_by_an_id_of_its_own() {
    let stack = Stack::with()
        .set(COALESCE, "true")
        .set("messages.publish_timeout", "1s")
        .broker_proxy()
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("before")).await.stored();

    stack.broker_proxy().stall_at_batch();
    let refused = post_until_refused(&stack.client, tenant, 40).await;
    assert_eq!(stack.broker_proxy().publications().batches(), 1);
    let mut ids = BTreeSet::new();
    for answer in refused.into_iter().map(|answer| answer.expect(503)) {
        let problem = answer.json();
        match problem["code"].as_str() {
            Some("publish_uncertain") => {
                let id = problem["message_id"].as_str().expect("an id").to_owned();
                assert!(ids.insert(id), "an id is told twice: {answer}");
            }
            // It waited behind the batch and was never sent: the oracle knows it must not appear.
            Some("broker_unavailable") => {}
            _ => panic!("{answer}"),
        }
    }
    assert!(ids.len() > 1, "a batch is of several: {ids:?}");

    stack.broker_proxy().resume();
    stored_again(&stack, tenant).await;
    stack.finish().await;
}

#[tokio::test]
async fn a_batch_that_is_returned_is_refused_to_each_of_its_senders() {
    let stack = Stack::with()
        .set(COALESCE, "true")
        // Nobody declares the queue again.
        .set("supervision.converge_interval", "10m")
        .broker_proxy()
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("before")).await.stored();
    stack.settled().await;

    stack.broker.delete_queue(tenant).await;
    for answer in post_until_refused(&stack.client, tenant, 40).await {
        answer.expect_problem(503, "broker_unavailable");
    }
    assert!(stack.broker_proxy().publications().batches() > 0);
    stack.client.delete_tenant(tenant).await;
    stack.finish().await;
}

/// What `jatis_publish_messages` shows.
#[derive(Debug)]
struct Published {
    messages: f64,
    amqp_messages: f64,
}

impl Published {
    async fn by(client: &Client) -> Self {
        let scrape = client.scrape().await;
        Self {
            messages: scrape.sum("jatis_publish_messages_sum", &[]),
            amqp_messages: scrape.sum("jatis_publish_messages_count", &[]),
        }
    }
}

/// Posts one message of each of so many clients at once; all are taken.
async fn post_in_parallel(client: &Client, tenant: TenantId, clients: u32) {
    let mut posts = JoinSet::new();
    for n in 0..clients {
        let client = client.clone();
        posts.spawn(async move { client.post(tenant, &json!(n)).await.taken() });
    }
    wait::bounded("all are answered", posts.join_all()).await;
}

/// So many clients post one message after the other until they are refused; the refusals.
async fn post_until_refused(client: &Client, tenant: TenantId, clients: u32) -> Vec<Answer> {
    let mut posters = JoinSet::new();
    for number in 0..clients {
        let client = client.clone();
        posters.spawn(async move {
            for n in 0.. {
                let payload = json!({"poster": number, "n": n});
                match client.post(tenant, &payload).await {
                    Posted::Stored(_) | Posted::Queued(_) => {}
                    Posted::Refused(answer) => return answer,
                    Posted::Lost(error) => panic!("no answer: {error}"),
                }
            }
            unreachable!("the numbers do not end");
        });
    }
    wait::bounded("all are refused", posters.join_all()).await
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
