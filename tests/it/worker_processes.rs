//! What `ps` shows: the supervisor, one worker per tenant, and no secret.

use jatis_shared::ids::TenantId;

use crate::harness::{Stack, processes::Process};

#[tokio::test]
async fn ps_shows_jatis_and_one_worker_per_tenant() {
    let stack = Stack::start().await;
    let [first, second, third] = stack.client.create_tenants().await;

    let supervisor = Process::find(stack.supervisor().pid()).expect("it runs");
    assert_eq!(supervisor.name, "jatis");
    assert_workers(&stack, &[first, second, third]).await;

    stack.client.delete_tenant(second).await;
    assert_workers(&stack, &[first, third]).await;
    stack.finish().await;
}

#[tokio::test]
async fn ps_shows_no_secret() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    let worker = stack.worker(tenant).await;
    for pid in [worker.pid, stack.supervisor().pid()] {
        let command_line = std::fs::read(format!("/proc/{pid}/cmdline"));
        let command_line = command_line.expect("it runs");
        let command_line = String::from_utf8_lossy(&command_line);
        assert!(!command_line.contains("://"), "{command_line}");
    }
    stack.finish().await;
}

/// The children of the supervisor are the workers of these tenants and nothing else.
async fn assert_workers(stack: &Stack, tenants: &[TenantId]) {
    let mut children = stack.supervisor().workers();
    let mut workers = Vec::new();
    for tenant in tenants {
        workers.push(stack.worker(*tenant).await);
    }
    for processes in [&mut children, &mut workers] {
        processes.sort_by_key(|process| process.pid);
    }
    assert_eq!(children, workers);
    for worker in workers {
        assert_eq!(worker.name, "jatis-worker");
    }
}
