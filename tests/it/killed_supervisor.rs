//! `kill -9` of the supervisor: its workers notice and leave, and the next start is whole.

use serde_json::json;

use crate::harness::{Load, Stack, processes::Process, wait};

#[tokio::test]
async fn workers_of_a_killed_supervisor_drain_and_the_next_start_brings_all_tenants_back() {
    let mut stack = Stack::start().await;
    let tenants = stack.client.create_tenants::<3>().await;

    let load = Load::start(&stack.client, &tenants, 30);
    load.answers(300).await;
    let orphans = stack.kill_supervisor().await;
    assert_eq!(orphans.len(), 3);
    load.stop().await;
    wait::until("the orphans have left by themselves", async || {
        let left: Vec<&Process> = orphans.iter().filter(|orphan| orphan.exists()).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .await;

    stack.start_again().await;
    for tenant in tenants {
        stack.client.running(tenant).await;
        stack.client.post(tenant, &json!("after")).await.taken();
    }
    stack.finish().await;
}
