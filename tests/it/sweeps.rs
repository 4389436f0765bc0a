//! What has grown too old is deleted, and what is younger is not.

use serde_json::json;

use crate::harness::{
    Stack,
    beds::{COUNTS, KEYS, TOMBSTONES},
    wait,
};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

#[tokio::test]
async fn rows_beyond_their_age_are_swept_in_steps_and_younger_ones_stay() {
    let stack = Stack::with()
        .set("sweep.interval", "100ms")
        .set("sweep.rows", "3")
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    let id = stack.client.post(tenant, &json!("deleted")).await.stored();
    stack.client.delete(tenant, id).await.expect(200);
    let body = b"\"keyed\"";
    stack.broker.publish(tenant, body, Some("key")).await;
    stack.settled().await;

    // Ten rows of each table are beyond the age at which they go, and two not quite.
    let around = |age: i64| (-2..=10).filter(|n| *n != 0).map(move |n| age + n * HOUR);
    for (bed, age) in [(TOMBSTONES, 7 * DAY), (COUNTS, 8 * DAY), (KEYS, 7 * DAY)] {
        for (number, age) in (0..).zip(around(age)) {
            stack.database.plant(bed, tenant, number, age).await;
        }
    }
    wait::until("the old ones are swept", async || {
        let scrape = stack.client.scrape().await;
        let swept = [TOMBSTONES, COUNTS, KEYS]
            .map(|bed| scrape.sum("jatis_swept_rows_total", &[("table", bed.table)]));
        #[expect(clippy::float_cmp, reason = "all of them count")]
        if swept == [10.0; 3] {
            Ok(())
        } else {
            Err(format!("{swept:?}"))
        }
    })
    .await;

    for bed in [TOMBSTONES, COUNTS, KEYS] {
        let left = stack.database.planted(bed, tenant).await;
        assert_eq!(left, [0, 1], "{}", bed.table);
    }
    // The client's own are young: the deletion is remembered, and so is the key.
    let again = stack.client.delete(tenant, id).await;
    again.expect_problem(404, "message_not_found");
    stack.broker.publish(tenant, body, Some("key")).await;
    stack.client.post(tenant, &json!("behind")).await.stored();
    assert_eq!(stack.database.stored_count(tenant).await, 2);
    stack.finish().await;
}
