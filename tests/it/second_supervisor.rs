//! One supervisor serves a database; another one waits its turn, or is obeyed.

use serde_json::json;

use crate::harness::{Stack, wait};

#[tokio::test]
async fn a_second_supervisor_waits_names_the_first_and_takes_over() {
    let mut stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    let first = stack.client.clone();
    let first_pid = stack.supervisor().pid();

    stack.start_supervisor().await;
    stack.client.get("/health/live").await.expect(200);
    wait::until("the second one names the first", async || {
        let not_ready = stack.client.get("/health/ready").await.expect(503);
        if not_ready.text().contains(&first_pid.to_string()) {
            Ok(())
        } else {
            Err(format!("process {first_pid} is in charge: {not_ready}"))
        }
    })
    .await;
    assert_eq!(stack.supervisor().workers().len(), 0);
    first.post(tenant, &json!("first")).await.stored();

    stack.stop_the_first().await;
    stack.ready().await;
    stack.client.running(tenant).await;
    stack.client.post(tenant, &json!("second")).await.stored();
    stack.finish().await;
}

#[tokio::test]
async fn a_supervisor_that_finds_another_in_charge_stops_its_workers() {
    let stack = Stack::with()
        .allow_error("another supervisor has taken")
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("before")).await.stored();
    let worker = stack.worker(tenant).await;

    stack.database.usurp().await;
    wait::until("the supervisor names who is in charge", async || {
        let answer = stack.client.get("/health/ready").await;
        if answer.status == 503 && answer.text().contains("host elsewhere, pid 1") {
            Ok(())
        } else {
            Err(answer.to_string())
        }
    })
    .await;
    wait::until("its workers have stopped", async || {
        let workers = stack.supervisor().workers();
        if workers.is_empty() && !worker.exists() {
            Ok(())
        } else {
            Err(format!("{workers:?}"))
        }
    })
    .await;
    let refused = stack.client.get("/api/v1/tenants").await;
    refused.expect_problem(503, "not_in_charge");

    stack.database.depose().await;
    stack.ready().await;
    stack.client.running(tenant).await;
    stack.client.post(tenant, &json!("after")).await.stored();
    stack.finish().await;
}
