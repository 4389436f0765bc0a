//! Publishing is spread over several connections, and one that fails is the others' to replace.

use jatis_shared::ids::TenantId;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Posted, Stack, wait};

const FIRST: &str = "jatis publisher 1";
const SECOND: &str = "jatis publisher 2";

#[tokio::test]
async fn tenants_are_spread_over_the_publishing_connections_each_on_one() {
    let stack = Stack::with().broker_proxy().start().await;
    let tenants = eight_tenants(&stack).await;
    for _ in 0..3 {
        for tenant in &tenants {
            stack.client.post(*tenant, &json!("spread")).await.taken();
        }
    }
    let publications = stack.broker_proxy().publications();
    let names = publications.connections();
    assert!(names.iter().eq([FIRST, SECOND]), "{names:?}");
    for tenant in &tenants {
        let over = [FIRST, SECOND].map(|name| publications.over(name, *tenant));
        assert!(over == [3, 0] || over == [0, 3], "{tenant}: {over:?}");
    }
    stack.finish().await;
}

#[tokio::test]
async fn tenants_of_a_dead_connection_publish_over_the_other_and_come_back() {
    let stack = Stack::with().broker_proxy().start().await;
    let tenants = eight_tenants(&stack).await;
    let homeless = tenants_of(&stack, FIRST, &tenants).await;

    stack.broker_proxy().cut_one(FIRST);
    publish_over(&stack, SECOND, &homeless).await;
    stack.broker_proxy().resume();
    publish_over(&stack, FIRST, &homeless).await;
    stack.finish().await;
}

#[tokio::test]
async fn tenants_of_a_blocked_connection_publish_over_the_other_and_come_back() {
    let stack = Stack::with().broker_proxy().start().await;
    let tenants = eight_tenants(&stack).await;
    let homeless = tenants_of(&stack, FIRST, &tenants).await;

    stack.broker_proxy().block_one(FIRST);
    publish_over(&stack, SECOND, &homeless).await;
    stack.broker_proxy().resume();
    publish_over(&stack, FIRST, &homeless).await;
    stack.finish().await;
}

#[tokio::test]
async fn more_tenants_than_channels_lose_nothing_and_no_channel_stays_open() {
    let stack = Stack::with()
        .set("rabbitmq.publisher_channels", "2")
        .broker_proxy()
        .start()
        .await;
    let tenants = eight_tenants(&stack).await;
    let mut posters = JoinSet::new();
    for tenant in tenants.into_iter().cycle().take(24) {
        let client = stack.client.clone();
        posters.spawn(async move {
            for n in 0..10 {
                client.post(tenant, &json!(n)).await.taken();
            }
        });
    }
    wait::bounded("all are answered", posters.join_all()).await;

    let publications = stack.broker_proxy().publications();
    assert!(publications.channels_opened() > 8, "{publications:?}");
    wait::until(
        "the channels that were given up are closed",
        async || match publications.channels_open() {
            0..=2 => Ok(()),
            open => Err(format!("{open} are open")),
        },
    )
    .await;
    stack.finish().await;
}

/// Tenants whose ids, and so the connections they are at home on, are always the same.
async fn eight_tenants(stack: &Stack) -> Vec<TenantId> {
    let mut tenants = Vec::new();
    for n in 1..=8 {
        let id = format!("00000000-0000-4000-8000-{n:012}");
        let body = json!({"id": id, "name": n.to_string()});
        tenants.push(stack.client.create_tenant(body).await);
    }
    tenants
}

/// Those of the tenants that publish over this connection; some, and not all.
async fn tenants_of(stack: &Stack, connection: &str, tenants: &[TenantId]) -> Vec<TenantId> {
    let mut found = Vec::new();
    for tenant in tenants {
        stack.client.post(*tenant, &json!("who")).await.taken();
        if stack
            .broker_proxy()
            .publications()
            .over(connection, *tenant)
            > 0
        {
            found.push(*tenant);
        }
    }
    assert!((1..tenants.len()).contains(&found.len()), "{found:?}");
    found
}

/// Waits until each of these tenants publishes over this connection, without fail.
async fn publish_over(stack: &Stack, connection: &str, tenants: &[TenantId]) {
    let publications = stack.broker_proxy().publications();
    for tenant in tenants {
        let what = format!("{tenant} publishes over {connection}");
        wait::until(&what, async || {
            let before = publications.over(connection, *tenant);
            let posted = stack.client.post(*tenant, &json!("over")).await;
            // Under way when the connection failed, or sent before that was known.
            let is_taken = matches!(posted, Posted::Stored(_) | Posted::Queued(_));
            if is_taken && publications.over(connection, *tenant) > before {
                Ok(())
            } else {
                Err(format!("{posted:?}"))
            }
        })
        .await;
    }
}
