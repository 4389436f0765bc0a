//! Many clients and several tenants at once: each message is stored, and once.

use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::harness::{Stack, wait};

const CLIENTS: u32 = 200;
const MESSAGES_PER_CLIENT: u32 = 25;

#[tokio::test]
async fn five_thousand_messages_of_200_clients_to_5_tenants_are_stored_once_each() {
    let stack = Stack::start().await;
    let tenants = stack.client.create_tenants::<5>().await;

    let started = Instant::now();
    let mut clients = JoinSet::new();
    for (number, tenant) in (0..CLIENTS).zip(tenants.into_iter().cycle()) {
        let client = stack.client.clone();
        clients.spawn(async move {
            for n in 0..MESSAGES_PER_CLIENT {
                let payload = json!({"client": number, "n": n, "text": "grüße, 世界 🦀"});
                client.post(tenant, &payload).await.taken();
            }
        });
    }
    let all = wait::bounded("all clients are answered", clients.join_all());
    assert_eq!(all.await.len(), 200);
    stack.settled().await;
    eprintln!("5000 messages were stored in {:?}", started.elapsed());

    for tenant in tenants {
        assert_eq!(stack.database.stored_count(tenant).await, 1000);
    }
    stack.finish().await;
}
