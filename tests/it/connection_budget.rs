//! However many tenants and threads there are, the database sees no more connections than allowed.

use std::time::Duration;

use jatis_shared::ids::TenantId;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Stack, wait};

/// What workers may open together: `database.max_connections`.
const BUDGET: usize = 80;
/// What the supervisor may: its pool, the session that holds the database, one to migrate.
const SUPERVISOR: i64 = 8 + 1 + 1;
/// What PostgreSQL gives to all who are no superuser, by default.
const SERVER: i64 = 100 - 3;
const MESSAGES: u32 = 6;

#[tokio::test]
async fn sixty_busy_tenants_with_ten_threads_each_share_eighty_connections() {
    let stack = Stack::with()
        .set("database.max_connections", &BUDGET.to_string())
        .wait_for_store(Duration::from_millis(100))
        .patient_statements()
        // A worker's share is to change when a tenant comes, not when a timer says so.
        .set("supervision.converge_interval", "10m")
        .start()
        .await;
    let watch = stack.database.watch_sessions().await;

    // Forty tenants may have two each, and take them: nothing can be stored before both wait.
    let mut tenants = create(&stack, 0..40).await;
    let lock = stack.database.lock_leaves(&tenants).await;
    post(&stack, &tenants).await;
    workers_have(&stack, BUDGET).await;
    lock.release().await;
    stack.settled().await;

    // Sixty may have one each: those who idle with two give one back at once.
    tenants.extend(create(&stack, 40..60).await);
    wait::until(
        "the forty have given back what is too much",
        async || match stack.database.sessions_of_workers().await {
            0..=60 => Ok(()),
            open => Err(format!("{open} are open")),
        },
    )
    .await;
    let lock = stack.database.lock_leaves(&tenants).await;
    let busy = stack.database.watch_sessions().await;
    post(&stack, &tenants).await;
    workers_have(&stack, 60).await;
    post(&stack, &tenants).await;
    let most_of_sixty = busy.most().await;
    lock.release().await;
    stack.settled().await;

    assert!(most_of_sixty <= 60 + SUPERVISOR, "{most_of_sixty}");
    let most = watch.most().await;
    let budget = i64::try_from(BUDGET).expect("it is small") + SUPERVISOR;
    assert!(most <= budget && budget <= SERVER, "{most} connections");
    for tenant in &tenants {
        assert!(stack.database.stored_count(*tenant).await >= i64::from(2 * MESSAGES));
    }
    let refused = stack.supervisor().log().lines_with("53300");
    assert_eq!(refused, Vec::<String>::new(), "too many connections");
    stack.finish().await;
}

/// Tenants with ten threads each, created at the same time.
async fn create(stack: &Stack, numbers: std::ops::Range<u32>) -> Vec<TenantId> {
    let mut creations = JoinSet::new();
    for n in numbers {
        let client = stack.client.clone();
        let body = json!({"name": format!("tenant {n}"), "workers": 10});
        creations.spawn(async move { client.create_only(body).await });
    }
    let tenants = wait::bounded("all are created", creations.join_all()).await;
    for tenant in &tenants {
        stack.client.running(*tenant).await;
    }
    tenants
}

/// A few messages to every tenant, one after the other; to all tenants at the same time. Each is
/// answered after a tenth of a second while nothing can be stored, so they come in several batches.
async fn post(stack: &Stack, tenants: &[TenantId]) {
    let mut posters = JoinSet::new();
    for tenant in tenants.iter().copied() {
        let client = stack.client.clone();
        posters.spawn(async move {
            for n in 0..MESSAGES {
                client.post(tenant, &json!(n)).await.taken();
            }
        });
    }
    wait::bounded("all are answered", posters.join_all()).await;
}

/// Waits until the workers have this many connections.
async fn workers_have(stack: &Stack, connections: usize) {
    wait::until("every worker has its connections", async || {
        match stack.database.sessions_of_workers().await {
            open if open == connections => Ok(()),
            open => Err(format!("{open} are open")),
        }
    })
    .await;
}
