//! The metrics of the first release exist, carry their labels, and move.

use serde_json::json;

use crate::harness::{Stack, wait};

#[tokio::test]
async fn the_six_metrics_carry_their_labels_and_move() {
    let stack = Stack::with().dead_letters(1).start().await;
    let tenant = stack
        .client
        .create_tenant(json!({"name": "measured", "workers": 3}))
        .await;
    let id = tenant.to_string();
    let of_tenant = [("tenant_id", id.as_str())];
    for n in 0..5 {
        stack.client.post(tenant, &json!(n)).await.stored();
    }
    stack.broker.publish(tenant, b"not json", None).await;

    wait::until("the metrics have moved", async || {
        let scrape = stack.client.scrape().await;
        let stored = [of_tenant[0], ("status", "success")];
        let dead = [of_tenant[0], ("status", "dead")];
        let posts = [
            ("method", "POST"),
            ("endpoint", "/api/v1/messages/{id}"),
            ("status", "201"),
        ];
        let seen = [
            scrape.sum("messages_processed_total", &stored),
            scrape.sum("messages_processed_total", &dead),
            scrape.sum("active_workers_total", &of_tenant),
            scrape.sum("active_tenants_total", &[]),
            scrape.sum("http_requests_total", &posts),
            scrape.sum("http_request_duration_seconds_count", &posts[..2]),
        ];
        #[expect(clippy::float_cmp, reason = "all of them count")]
        if seen == [5.0, 1.0, 3.0, 1.0, 5.0, 5.0] {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await;

    let scrape = stack.client.scrape().await;
    for (name, labels) in [
        ("http_requests_total", &["endpoint", "method", "status"][..]),
        (
            "http_request_duration_seconds_count",
            &["endpoint", "method"],
        ),
        ("active_tenants_total", &[]),
        ("messages_processed_total", &["status", "tenant_id"]),
        ("message_queue_depth", &["tenant_id"]),
        ("active_workers_total", &["tenant_id"]),
    ] {
        assert_eq!(scrape.labels(name), labels, "labels of {name}");
    }
    stack.finish().await;
}

#[tokio::test]
async fn the_depth_of_a_queue_counts_what_is_not_stored_yet() {
    let stack = Stack::with()
        .set("messages.wait_for_store", "50ms")
        .patient_statements()
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    let lock = stack.database.lock_leaf(tenant).await;
    for n in 0..7 {
        stack.client.post(tenant, &json!(n)).await.taken();
    }
    let id = tenant.to_string();
    wait::until("the depth is seen", async || {
        let scrape = stack.client.scrape().await;
        match scrape.sum("message_queue_depth", &[("tenant_id", &id)]) {
            7.0 => Ok(()),
            depth => Err(depth.to_string()),
        }
    })
    .await;
    lock.release().await;
    stack.finish().await;
}
