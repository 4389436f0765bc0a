//! Tenants made and changed by name, under both roots, and by clients that do not stay.

use hyper::Method;
use jatis_shared::ids::TenantId;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Client, Stack, wait};

const ID: &str = "0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3e";

#[tokio::test]
async fn a_put_makes_a_tenant_once_and_updates_it_after() {
    let stack = Stack::start().await;
    let client = &stack.client;
    for (root, id) in [
        ("", ID),
        ("/api/v1", "0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3f"),
    ] {
        let path = format!("{root}/tenants/{id}");
        let made = client
            .call(Method::PUT, &path, &json!({}))
            .await
            .expect(201);
        assert_eq!(made.header("location"), format!("/api/v1/tenants/{id}"));
        assert_eq!(
            (&made.json()["id"], &made.json()["name"]),
            (&json!(id), &json!(id))
        );
        let tenant: TenantId = id.parse().expect("an id");
        client.running(tenant).await;
        client.post(tenant, &json!(1)).await.stored();

        let body = json!({"id": id, "name": "Ada's", "workers": 2});
        let updated = client
            .call(Method::PUT, &path, &body)
            .await
            .expect(200)
            .json();
        assert_eq!(
            (&updated["name"], &updated["workers"]),
            (&json!("Ada's"), &json!(2))
        );
        assert_eq!(updated["runtime"]["active_workers"], 2);
        let kept = client
            .call(Method::PUT, &path, &json!({}))
            .await
            .expect(200)
            .json();
        assert_eq!(
            (&kept["name"], &kept["workers"]),
            (&json!("Ada's"), &json!(2))
        );
        assert_eq!(stack.database.stored_count(tenant).await, 1);
    }
    let path = format!("/tenants/{ID}");
    let other = json!({"id": "0190d3a2-7c3e-7c3e-8c3e-0190d3a27c40"});
    let refused = client.call(Method::PUT, &path, &other).await;
    let refused = refused.expect_problem(422, "validation_failed");
    assert_eq!(refused.json()["errors"][0]["pointer"], "/id");
    stack.finish().await;
}

#[tokio::test]
async fn of_many_puts_at_once_one_makes_the_tenant() {
    let stack = Stack::start().await;
    let mut putting = JoinSet::new();
    for workers in 1..=8 {
        let client = stack.client.clone();
        putting.spawn(async move {
            let path = format!("/api/v1/tenants/{ID}");
            let body = json!({"name": format!("by {workers}"), "workers": workers});
            client.call(Method::PUT, &path, &body).await.status.as_u16()
        });
    }
    let mut statuses = wait::bounded("the puts", putting.join_all()).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 201]);
    let shown = stack.client.running(ID.parse().expect("an id")).await;
    let name = format!("by {}", shown["workers"]);
    assert_eq!(shown["name"], name, "name and workers are of one put");
    stack.finish().await;
}

#[tokio::test]
async fn a_put_on_a_tenant_that_is_being_deleted_is_refused() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    let reader = stack.database.read_messages_on_and_on().await;
    stack.client.delete_tenant(tenant).await;
    let path = format!("/api/v1/tenants/{tenant}");
    let refused = stack.client.call(Method::PUT, &path, &json!({})).await;
    refused.expect_problem(409, "tenant_deleting");
    reader.release().await;
    wait::until("the id is free again", async || {
        let answer = stack.client.call(Method::PUT, &path, &json!({})).await;
        if answer.status == 201 {
            Ok(())
        } else {
            Err(answer.to_string())
        }
    })
    .await;
    stack.finish().await;
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_nothing_else() {
    let stack = Stack::start().await;
    let client = &stack.client;
    let [tenant] = client.create_tenants().await;
    for root in ["", "/api/v1"] {
        let path = format!("{root}/tenants/{tenant}");
        for (content_type, body, expected) in [
            (
                "application/merge-patch+json",
                json!({"name": "Ada's"}),
                json!(["Ada's", 4, "running"]),
            ),
            (
                "application/merge-patch+json; charset=utf-8",
                json!({"workers": 2, "paused": true}),
                json!(["Ada's", 2, "paused"]),
            ),
            ("application/json", json!({}), json!(["Ada's", 2, "paused"])),
            (
                "application/json",
                json!({"paused": false, "workers": 4, "name": "Bob's"}),
                json!(["Bob's", 4, "running"]),
            ),
        ] {
            let answer = patch(client, &path, content_type, &body).await.expect(200);
            let shown = answer.json();
            assert_eq!(named(&shown), expected, "{body}");
            assert_eq!(shown["runtime"]["active_workers"], shown["workers"]);
            assert_eq!(named(&client.tenant(tenant).await), expected, "{body}");
        }
        for (body, pointers) in [
            (
                json!({"name": null, "paused": null}),
                &["/name", "/paused"][..],
            ),
            (json!({"retry": {"attempts": 3}}), &["/retry"]),
            (
                json!({"limits": {}, "workers": 0}),
                &["/workers", "/limits"],
            ),
        ] {
            let refused = patch(client, &path, "application/merge-patch+json", &body).await;
            let refused = refused.expect_problem(422, "validation_failed").json();
            let errors = refused["errors"].as_array().expect("faults are listed");
            let found: Vec<&str> = errors
                .iter()
                .filter_map(|error| error["pointer"].as_str())
                .collect();
            assert_eq!(found, pointers, "{refused}");
        }
        let refused = patch(client, &path, "text/plain", &json!({})).await;
        assert_eq!(
            refused.header("accept-patch"),
            "application/merge-patch+json"
        );
        refused.expect_problem(415, "unsupported_media_type");
        assert_eq!(
            named(&client.tenant(tenant).await),
            json!(["Bob's", 4, "running"])
        );
        for verb in ["pause", "resume"] {
            let missing = format!("{root}/tenants/{ID}/{verb}");
            let refused = client.ask(Method::POST, &missing).await;
            refused.expect_problem(404, "tenant_not_found");
        }
    }
    let missing = format!("/tenants/{ID}");
    let body = json!({"name": "nobody"});
    let refused = patch(client, &missing, "application/json", &body).await;
    refused.expect_problem(404, "tenant_not_found");
    stack.finish().await;
}

#[tokio::test]
async fn a_tenant_whose_creator_left_runs_without_waiting_for_a_timer() {
    let stack = Stack::with()
        .set("supervision.converge_interval", "1h")
        .start()
        .await;
    let lock = stack.database.lock_creation().await;
    let body = json!({"id": ID, "name": "left behind"});
    let request = stack.client.begin(Method::POST, "/tenants", &body).await;
    wait::until("the creation is under way", async || {
        match stack.database.waiting_sessions().await {
            0 => Err("nothing waits for the lock".to_owned()),
            waiting => Ok(waiting),
        }
    })
    .await;
    drop(request);
    // Whoever connects later is served later: the end of the first connection has been seen then.
    stack.client.get("/health/live").await.expect(200);
    lock.release().await;
    let tenant: TenantId = ID.parse().expect("an id");
    wait::until("the tenant runs", async || {
        let shown = stack.client.get(&format!("/tenants/{ID}")).await;
        if shown.status == 200 && shown.json()["status"] == "running" {
            Ok(())
        } else {
            Err(shown.to_string())
        }
    })
    .await;
    stack.client.post(tenant, &json!("here")).await.stored();
    stack.finish().await;
}

async fn patch(
    client: &Client,
    path: &str,
    content_type: &str,
    body: &Value,
) -> crate::harness::Answer {
    let headers = [("content-type", content_type)];
    let answer = client.send(Method::PATCH, path, &headers, body.to_string());
    answer.await.expect("an answer")
}

/// Name, workers and status.
fn named(shown: &Value) -> Value {
    json!([shown["name"], shown["workers"], shown["status"]])
}
