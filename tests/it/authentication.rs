//! Who may do what: tokens, and the boundary between tenants.

use hyper::Method;
use serde_json::json;

use crate::harness::{Posted, Stack};

#[tokio::test]
async fn without_a_good_token_there_is_no_answer_but_401() {
    let stack = Stack::start().await;
    let good = stack.tenant_token(stack.client.create_tenant(json!({"name": "a"})).await);
    let (head, signature) = good.rsplit_once('.').expect("a token has three parts");
    let forged = signature.chars().rev().collect::<String>();
    // {"alg":"none","typ":"JWT"} . {"role":"admin","exp":4102444800}
    let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.\
                    eyJyb2xlIjoiYWRtaW4iLCJleHAiOjQxMDI0NDQ4MDB9.";
    for token in ["nonsense", &format!("{head}.{forged}"), unsigned] {
        let client = stack.client.with_token(token);
        let answer = client.get("/api/v1/tenants").await.expect(401);
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("Bearer"), "{challenge}");
    }
    let bare = [("authorization", ""), ("content-type", "")];
    let answer = stack
        .client
        .send(Method::GET, "/api/v1/tenants", &bare, "")
        .await
        .expect("it is answered");
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
    answer.expect_problem(401, "unauthorized");

    for open in [
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/openapi.json",
    ] {
        let answer = stack.client.send(Method::GET, open, &bare, "").await;
        answer.expect("it is answered").expect(200);
    }
    stack.finish().await;
}

#[tokio::test]
async fn a_tenants_token_reaches_that_tenant_and_no_other() {
    let stack = Stack::start().await;
    let [own, other] = stack.client.create_tenants().await;
    let secret = stack.client.post(other, &json!("secret")).await.stored();
    let tenant = stack.client.with_token(&stack.tenant_token(own));

    let mine = tenant.post(own, &json!("mine")).await.stored();
    assert_eq!(tenant.tenant(own).await["name"], "a");
    assert_eq!(tenant.message(own, mine).await["payload"], "mine");
    let page = tenant.get("/api/v1/messages").await.expect(200).json();
    assert_eq!(page["data"].as_array().map(Vec::len), Some(1));

    // The other tenant looks as if it did not exist.
    for path in [
        format!("/api/v1/tenants/{other}"),
        format!("/api/v1/tenants/{other}/messages"),
        format!("/api/v1/messages?tenant_id={other}"),
        format!("/api/v1/messages/{secret}?tenant_id={other}"),
    ] {
        tenant
            .get(&path)
            .await
            .expect_problem(404, "tenant_not_found");
    }
    let secret = tenant.get(&format!("/api/v1/messages/{secret}")).await;
    secret.expect_problem(404, "message_not_found");
    let Posted::Refused(refused) = tenant.post(other, &json!("intruder")).await else {
        panic!("a tenant wrote to another");
    };
    refused.expect_problem(404, "tenant_not_found");

    // What administrators do is not for tenants.
    let (create, resize) = (json!({"name": "b"}), json!({"workers": 2}));
    let concurrency = format!("/api/v1/tenants/{own}/config/concurrency");
    for answer in [
        tenant.get("/api/v1/tenants").await,
        tenant.call(Method::POST, "/api/v1/tenants", &create).await,
        tenant.call(Method::PUT, &concurrency, &resize).await,
        tenant
            .ask(Method::DELETE, &format!("/api/v1/tenants/{own}"))
            .await,
    ] {
        answer.expect_problem(403, "forbidden");
    }
    stack.finish().await;
}
