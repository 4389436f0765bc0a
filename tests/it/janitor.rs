//! What a deleted tenant leaves behind is taken away, whatever happens to whoever does it.

use serde_json::json;

use crate::harness::{Blueprint, Stack};

/// The tables of a tenant's rows, in the order in which they are emptied.
const TABLES: [&str; 7] = [
    "tenant_runtime",
    "dead_letters",
    "message_tombstones",
    "message_counts",
    "accept_counts",
    "amqp_keys",
    "idempotency_keys",
];

#[tokio::test]
async fn a_janitor_killed_at_any_step_leaves_the_rest_to_the_next() {
    let mut stack = impatient().start().await;
    let [tenant, other] = stack.client.create_tenants().await;
    for n in 0..3 {
        stack.client.post(tenant, &json!(n)).await.stored();
    }
    stack.database.fill_tables(tenant).await;
    let traces = stack.database.traces(tenant).await;
    for table in stack.database.tables_of_tenants().await {
        assert!(traces.contains(&table), "no row in {table}: {traces:?}");
    }

    let reader = stack.database.read_leaf_on_and_on(tenant).await;
    stack.client.delete_tenant(tenant).await;
    stack.database.supervisor_waits_at("LOCK TABLE").await;
    let beside = stack.database.read_beside_on_and_on(other).await;
    replace_supervisor(&mut stack).await;

    reader.release().await;
    stack.database.detach_pending(tenant).await;
    replace_supervisor(&mut stack).await;
    assert!(stack.database.is_detach_pending(tenant).await);

    let mut held = stack.database.lock_row(TABLES[0], tenant).await;
    beside.release().await;
    for (table, next) in TABLES.iter().zip(TABLES.iter().skip(1).chain(&["tenants"])) {
        let statement = format!("DELETE FROM {table}");
        stack.database.supervisor_waits_at(&statement).await;
        let then = stack.database.lock_row(next, tenant).await;
        replace_supervisor(&mut stack).await;
        held.release().await;
        held = then;
    }
    stack
        .database
        .supervisor_waits_at("DELETE FROM tenants")
        .await;
    replace_supervisor(&mut stack).await;
    held.release().await;

    stack.database.no_trace_of(tenant).await;
    stack.finish().await;
}

#[tokio::test]
async fn a_janitor_killed_before_it_drops_a_detached_leaf_leaves_that_to_the_next() {
    let mut stack = impatient().start().await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("old")).await.stored();

    let away = stack.database.keep_the_janitor_away().await;
    stack.client.delete_tenant(tenant).await;
    stack.database.detach(tenant).await;
    let reader = stack.database.read_leaf_on_and_on(tenant).await;
    away.release().await;
    stack.database.supervisor_waits_at("DROP TABLE").await;
    replace_supervisor(&mut stack).await;
    stack.database.supervisor_waits_at("DROP TABLE").await;
    reader.release().await;

    stack.database.no_trace_of(tenant).await;
    stack.finish().await;
}

#[tokio::test]
async fn a_dead_janitors_session_keeps_the_next_away_only_while_its_statement_waits() {
    // Longer than anything here takes: the dead one's wait ends when the test says so.
    let stack = impatient().set("database.lock_timeout", "10m");
    let mut stack = stack.start().await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("old")).await.stored();

    let row = stack.database.lock_row("message_counts", tenant).await;
    stack.client.delete_tenant(tenant).await;
    let statement = "DELETE FROM message_counts";
    let dead = stack.database.supervisor_waits_at(statement).await;
    replace_supervisor(&mut stack).await;
    assert_eq!(stack.database.janitor().await, Some(dead));
    row.release().await;

    stack.database.no_trace_of(tenant).await;
    stack.finish().await;
}

#[tokio::test]
async fn a_locked_row_of_one_deleted_tenant_keeps_no_other() {
    let stack = impatient().start().await;
    let [first, second] = stack.client.create_tenants().await;
    for tenant in [first, second] {
        stack.client.post(tenant, &json!("old")).await.stored();
    }
    let row = stack.database.lock_row("message_counts", first).await;
    stack.client.delete_tenant(first).await;
    stack.client.delete_tenant(second).await;
    stack.database.no_trace_of(second).await;
    let left = stack.database.traces(first).await;
    assert!(left.contains(&"message_counts".to_owned()), "{left:?}");

    row.release().await;
    stack.database.no_trace_of(first).await;
    stack.finish().await;
}

/// A stack whose janitor tries again soon, and takes rows away one by one.
fn impatient() -> Blueprint {
    Stack::with()
        .set("database.janitor_rows", "1")
        .set("database.janitor_max", "1s")
}

/// Kills the supervisor, starts the next, and has it make a tenant.
async fn replace_supervisor(stack: &mut Stack) {
    stack.kill_supervisor().await;
    stack.start_again().await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("new")).await.stored();
}
