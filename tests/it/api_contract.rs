//! The API as its clients read it: routes, refusals, and the document that describes them.

use hyper::Method;
use serde_json::{Value, json};

use crate::harness::Stack;

#[tokio::test]
async fn every_refusal_is_a_problem_that_says_what_is_wrong() {
    let stack = Stack::with()
        .set("http.max_body_bytes", "65536")
        .start()
        .await;
    let client = &stack.client;
    let [tenant] = client.create_tenants().await;
    let post = format!("/api/v1/messages/{tenant}");
    let get = format!("/api/v1/tenants/{tenant}/messages");
    let missing = "0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3e";

    for (path, status, code) in [
        ("/api/v1/nowhere".to_owned(), 404, "not_found"),
        ("/api/v1/tenants/17".to_owned(), 400, "invalid_id"),
        (
            format!("/api/v1/tenants/{missing}"),
            404,
            "tenant_not_found",
        ),
        ("/api/v1/messages/17".to_owned(), 400, "invalid_id"),
        (
            format!("/api/v1/messages/{missing}"),
            404,
            "message_not_found",
        ),
        (
            format!("/api/v1/tenants/{missing}/messages"),
            404,
            "tenant_not_found",
        ),
        (format!("{get}?cursor=nonsense"), 400, "invalid_cursor"),
        (format!("{get}?limit=0"), 422, "validation_failed"),
        (format!("{get}?limit=1001"), 422, "validation_failed"),
        (format!("{get}?order=random"), 422, "validation_failed"),
        (
            "/api/v1/tenants?name=%00".to_owned(),
            422,
            "validation_failed",
        ),
    ] {
        client.get(&path).await.expect_problem(status, code);
    }

    let answer = client.ask(Method::PATCH, &post).await;
    assert!(
        answer.header("allow").contains("POST"),
        "{:?}",
        answer.headers
    );
    answer.expect_problem(405, "method_not_allowed");

    let no_tenant = client.get("/api/v1/messages").await.expect(400);
    let wanted = "tenant_id query parameter is required";
    assert!(no_tenant.text().contains(wanted), "{no_tenant}");

    for (content_type, body, status, code) in [
        (
            "text/plain",
            "{\"payload\": 1}",
            415,
            "unsupported_media_type",
        ),
        ("application/json", "{\"payload\": ", 400, "malformed_json"),
        ("application/json", "", 422, "validation_failed"),
        (
            "application/json",
            r#"{"payload": "\u0000"}"#,
            422,
            "unstorable_payload",
        ),
        (
            "application/json",
            r#"{"payload": 1e400}"#,
            422,
            "unstorable_payload",
        ),
    ] {
        let headers = [("content-type", content_type)];
        let answer = client.send(Method::POST, &post, &headers, body.to_owned());
        let answer = answer.await.expect("a refusal is an answer");
        answer.expect_problem(status, code);
    }
    stack.finish().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_sent() {
    let stack = Stack::with()
        .set("http.max_body_bytes", "65536")
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    let path = format!("/api/v1/messages/{tenant}");
    let answer = stack.client.announce(&path, 65_537).await;
    let refused = answer.expect_problem(413, "body_too_large");
    // What is not read of the body is in the way of a further request, and the client is told.
    assert_eq!(refused.header("connection"), "close");
    let kept = stack.client.get("/health/live").await.expect(200);
    assert_eq!(kept.header("connection"), "");
    stack.finish().await;
}

#[tokio::test]
async fn faults_of_a_body_are_named_each_by_its_pointer() {
    let stack = Stack::start().await;
    for (body, pointers) in [
        (json!({}), &[""][..]),
        (json!({"name": ""}), &["/name"]),
        (json!({"name": "a", "workers": 101}), &["/workers"]),
        (json!({"name": "a", "workers": "2"}), &["/workers"]),
        (json!({"name": "a", "id": "17"}), &["/id"]),
        (json!({"name": "a", "colour": "red"}), &["/colour"]),
    ] {
        let answer = stack.client.call(Method::POST, "/api/v1/tenants", &body);
        let answer = answer.await.expect_problem(422, "validation_failed");
        let errors = answer.json()["errors"].clone();
        let errors = errors.as_array().map_or(&[][..], Vec::as_slice);
        let found: Vec<&str> = errors
            .iter()
            .filter_map(|error| error["pointer"].as_str())
            .collect();
        assert_eq!(found, pointers, "{body}: {answer}");
        assert!(errors.iter().all(|error| error["detail"].is_string()));
    }
    stack.finish().await;
}

#[tokio::test]
async fn a_tenant_is_created_shown_listed_and_deleted() {
    let stack = Stack::start().await;
    let client = &stack.client;
    let body = json!({"name": "Ada's shop", "workers": 2});
    let created = client.call(Method::POST, "/api/v1/tenants", &body).await;
    let created = created.expect(201);
    let tenant = created.json();
    let id = tenant["id"]
        .as_str()
        .expect("a Tenant has an id")
        .to_owned();
    assert!(
        created
            .header("location")
            .ends_with(&format!("/tenants/{id}"))
    );
    assert_eq!(tenant["name"], "Ada's shop");
    assert_eq!(tenant["workers"], 2);

    // Both roots, and the request's id comes back.
    for path in [format!("/tenants/{id}"), format!("/api/v1/tenants/{id}")] {
        let headers = [("content-type", ""), ("x-request-id", "trace-me")];
        let shown = client.send(Method::GET, &path, &headers, "").await;
        let shown = shown.expect("it is answered").expect(200);
        assert_eq!(shown.header("x-request-id"), "trace-me");
        assert_eq!(shown.json()["id"], id);
        assert!(shown.json()["runtime"]["pid"].is_number());
    }

    let second = client.create_tenant(json!({"name": "second"})).await;
    let first_page = client.get("/api/v1/tenants?limit=1").await.expect(200);
    assert_eq!(first_page.json()[0]["id"], second.to_string());
    assert!(first_page.header("link").contains("rel=\"next\""));
    let cursor = first_page.header("x-next-cursor");
    let next = format!("/api/v1/tenants?limit=1&cursor={cursor}");
    let last_page = client.get(&next).await.expect(200);
    assert_eq!(last_page.json()[0]["id"], id);
    assert_eq!(last_page.json()[0]["runtime"], Value::Null);
    assert_eq!(last_page.header("x-next-cursor"), "");

    client
        .ask(Method::DELETE, &format!("/tenants/{id}"))
        .await
        .expect(200);
    let gone = client.get(&format!("/tenants/{id}")).await;
    gone.expect_problem(404, "tenant_not_found");
    stack.finish().await;
}

#[tokio::test]
async fn a_message_is_found_at_its_location_as_it_was_sent() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    let payload = json!({"text": "naïve \"quoted\" 🦀", "nested": [[], {}, null, -1.5e10]});
    let posted = stack.client.post(tenant, &payload).await.stored();

    let shown = stack
        .client
        .get(&format!("/api/v1/messages/{posted}"))
        .await;
    let shown = shown.expect(200).json();
    assert_eq!(shown, stack.client.message(tenant, posted).await);
    assert_eq!(shown["payload"], payload);
    assert_eq!(shown["tenant_id"], tenant.to_string());
    assert_eq!(shown["status"], "stored");
    assert_eq!(
        shown["created_at"],
        format!("{:.6}", posted.created_at()),
        "the time is in the id"
    );
    stack.finish().await;
}

#[tokio::test]
async fn the_document_is_the_same_served_printed_and_committed() {
    let stack = Stack::start().await;
    let committed = include_str!("../../docs/openapi.json");
    let served = stack.client.get("/openapi.json").await.expect(200);
    assert_eq!(served.text(), committed);
    // Whatever the configuration is like.
    let printed = stack.jatis("openapi", &["--set", "nonsense=1"]).expect(0);
    assert_eq!(printed.out, committed.trim());
    stack.finish().await;
}
