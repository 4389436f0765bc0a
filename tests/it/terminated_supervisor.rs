//! SIGTERM of the supervisor under load: a clean end, and nothing is lost.

use crate::harness::{Load, Stack};

#[tokio::test]
async fn sigterm_under_load_exits_0_and_loses_nothing() {
    let mut stack = Stack::start().await;
    let tenants = stack.client.create_tenants::<3>().await;

    let load = Load::start(&stack.client, &tenants, 30);
    load.answers(300).await;
    stack.stop().await;
    let answered = load.stop().await;
    assert!(answered >= 300);

    // What was still queued is stored by those who come next.
    stack.start_again().await;
    for tenant in tenants {
        stack.client.running(tenant).await;
    }
    stack.finish().await;
}
