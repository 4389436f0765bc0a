//! A tenant's statistics are what its tables hold, whatever happened.

use std::time::Duration;

use bytes::Bytes;
use jatis_shared::ids::{MessageId, Mint, Origin, TenantId};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::harness::{Load, Stack, wait};

#[tokio::test]
async fn statistics_equal_the_tables_after_posts_amqp_deletions_poison_and_a_killed_worker() {
    let stack = Stack::with()
        .wait_for_store(Duration::from_millis(500))
        .dead_letters(2)
        .start()
        .await;
    let [tenant, neighbour] = stack.client.create_tenants().await;

    let load = Load::start(&stack.client, &[tenant, neighbour], 10);
    load.answers(50).await;
    for n in 0..20 {
        // At least once, so not to a worker that is killed.
        let body = format!("{{\"amqp\": {n}}}");
        stack.broker.publish(neighbour, body.as_bytes(), None).await;
        let key = format!("key {n}");
        for _ in 0..2 {
            let body = format!("{{\"keyed\": {n}}}");
            stack
                .broker
                .publish(tenant, body.as_bytes(), Some(&key))
                .await;
        }
    }
    for (body, key) in [(&b"no json"[..], "poison 1"), (b"1e309", "poison 2")] {
        stack.broker.publish(tenant, body, Some(key)).await;
    }
    // Killed in the middle of it all; whatever was under way is delivered again.
    stack.worker(tenant).await.kill();
    load.answers(50).await;
    load.stop().await;
    stack.settled().await;

    let stored = stack.database.stored().await;
    let own = stored.iter().filter(|row| row.tenant == tenant);
    let deleted = own.clone().step_by(3).map(|row| row.id);
    let mut left = own.count();
    for id in deleted.collect::<Vec<_>>() {
        stack.client.delete(tenant, id).await.expect(200);
        left -= 1;
    }

    let statistics = wait::until("nothing is queued", async || {
        let statistics = stack.client.statistics(tenant).await;
        if statistics["queued"] == 0 {
            Ok(statistics)
        } else {
            Err(statistics.to_string())
        }
    })
    .await;
    assert_eq!(
        statistics,
        json!({
            "total_messages": left, "messages_24h": left, "messages_1h": left,
            "queued": 0, "retrying": 0, "dead_letters": 2,
        })
    );
    let rows = stack.database.stored_count(tenant).await;
    assert_eq!(usize::try_from(rows), Ok(left));
    let others = stack.client.statistics(neighbour).await;
    let rows = stack.database.stored_count(neighbour).await;
    assert_eq!(others["total_messages"], rows);
    assert_eq!(others["dead_letters"], 0);
    stack.finish().await;
}

#[tokio::test]
async fn the_last_day_and_hour_are_counted_to_the_microsecond() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    // A message a second for two minutes on both sides of either edge, and some far from them.
    let started = Timestamp::now();
    let mut ages: Vec<i64> = [24 * 3600, 3600]
        .into_iter()
        .flat_map(|edge| (edge - 120)..(edge + 120))
        .chain([1, 60, 30_000, 100_000, 9_000_000])
        .collect();
    ages.sort_unstable_by(|a, b| b.cmp(a));
    let times: Vec<Timestamp> = ages
        .iter()
        .map(|age| started - SignedDuration::from_secs(*age))
        .collect();
    let messages = aged(&stack, tenant, &times).await;
    for envelope in messages.chunks(100) {
        stack.broker.publish_batch(tenant, envelope).await;
    }
    stack.settled().await;

    // The windows move while the question is asked.
    let before = Timestamp::now();
    let statistics = stack.client.statistics(tenant).await;
    let after = Timestamp::now();
    assert_eq!(statistics["total_messages"], times.len());
    for (number, hours) in [("messages_24h", 24), ("messages_1h", 1)] {
        let since = |now: Timestamp| {
            let start = now - SignedDuration::from_hours(hours);
            times.iter().filter(|time| **time >= start).count()
        };
        let counted = statistics[number].as_u64().expect("a number");
        let counted = usize::try_from(counted).expect("it fits");
        let bounds = since(after)..=since(before);
        assert!(bounds.contains(&counted), "{number}: {counted}, {bounds:?}");
    }

    // What is deleted leaves the minute it was counted in, be it a whole one or one at an edge.
    for age in [1, 3600 - 119, 24 * 3600 - 119, 100_000] {
        let place = ages.iter().position(|known| *known == age);
        let (id, _) = messages[place.expect("it is one of them")];
        let before = stack.client.statistics(tenant).await;
        stack.client.delete(tenant, id).await.expect(200);
        let after = stack.client.statistics(tenant).await;
        let total = |statistics: &Value| statistics["total_messages"].as_u64();
        assert_eq!(
            total(&after).map(|total| total + 1),
            total(&before),
            "{age}"
        );
    }
    stack.finish().await;
}

#[tokio::test]
async fn statistics_are_for_the_tenant_and_the_administrator() {
    let stack = Stack::start().await;
    let [tenant, other] = stack.client.create_tenants().await;
    let own = stack.client.with_token(&stack.tenant_token(tenant));
    let zeros = json!({
        "total_messages": 0, "messages_24h": 0, "messages_1h": 0,
        "queued": 0, "retrying": 0, "dead_letters": 0,
    });
    for root in ["", "/api/v1"] {
        let path = |id: &str| format!("{root}/stats/tenants/{id}/messages");
        wait::until("the queue's depth is known", async || {
            let shown = own.get(&path(&tenant.to_string())).await.expect(200);
            if shown.json() == zeros {
                Ok(())
            } else {
                Err(shown.to_string())
            }
        })
        .await;
        let hidden = own.get(&path(&other.to_string())).await;
        hidden.expect_problem(404, "tenant_not_found");
        let unknown = path("0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3e");
        let unknown = stack.client.get(&unknown).await;
        unknown.expect_problem(404, "tenant_not_found");
        let malformed = stack.client.get(&path("17")).await;
        malformed.expect_problem(400, "invalid_id");
    }
    stack.client.delete_tenant(other).await;
    let path = format!("/stats/tenants/{other}/messages");
    let gone = stack.client.get(&path).await;
    gone.expect_problem(404, "tenant_not_found");
    stack.finish().await;
}

/// Messages with ids of these times, which rise.
async fn aged(stack: &Stack, tenant: TenantId, times: &[Timestamp]) -> Vec<(MessageId, Bytes)> {
    let number = stack.database.number(tenant).await;
    let mint = Mint::above(0);
    let message = |(n, time): (u64, &Timestamp)| {
        let id = mint.mint(*time, number, Origin::Accepted, n);
        (id, Bytes::from(n.to_string()))
    };
    (0..).zip(times).map(message).collect()
}
