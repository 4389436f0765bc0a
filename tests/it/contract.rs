//! The API and the document that describes it are one: every operation is called, every problem
//! provoked, and each answer held against what the document says of it.
//!
//! Here are the operations, and the problems that a client brings about; those of outages and ends
//! are in `contract_outages`.

use std::collections::BTreeSet;

use hyper::{Method, StatusCode};
use jatis_shared::ids::{MessageId, TenantId};
use serde_json::json;

use crate::{
    contract_outages::{BROKER, END, LIMITS, SUPERVISORS},
    harness::{Call, Contract, Posted, Stack, problems_of, wait},
};

/// An id that nothing has.
const NOBODY: &str = "0190d3a2-7c3e-7c3e-8c3e-0190d3a27c3e";

/// What a request of a table names in its path.
#[derive(Debug, Clone, Copy)]
enum Named {
    Nothing,
    Tenant,
    Message,
    This(&'static str),
}

impl Named {
    fn text(self, tenant: TenantId, message: MessageId) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Tenant => tenant.to_string(),
            Self::Message => message.to_string(),
            Self::This(text) => text.to_owned(),
        }
    }
}

/// Operations that need nothing but a tenant and a message: operation, what its path names, query,
/// body, status.
#[rustfmt::skip]
const CALLS: &[(&str, Named, &str, &str, u16)] = &[
    ("create_tenant", Named::Nothing, "", r#"{"name": "second", "workers": 1}"#, 201),
    ("put_tenant", Named::This(NOBODY), "", r#"{"workers": 1}"#, 201),
    ("put_tenant", Named::Tenant, "", r#"{"workers": 2}"#, 200),
    ("show_tenant", Named::Tenant, "", "", 200),
    ("list_tenants", Named::Nothing, "?limit=1", "", 200),
    ("list_tenants", Named::Nothing, "?runtime=true&name=SECOND", "", 200),
    ("patch_tenant", Named::Tenant, "", r#"{"name": "third", "workers": 1}"#, 200),
    ("resize_tenant", Named::Tenant, "", r#"{"workers": 3}"#, 200),
    ("pause_tenant", Named::Tenant, "", "", 200),
    ("resume_tenant", Named::Tenant, "", "", 200),
    ("list_messages_alias1", Named::Tenant, "?order=asc", "", 200),
    ("show_message", Named::Message, "", "", 200),
    ("message_statistics", Named::Tenant, "", "", 200),
    ("health", Named::Nothing, "", "", 200),
    ("live", Named::Nothing, "", "", 200),
    ("live_alias1", Named::Nothing, "", "", 200),
    ("ready", Named::Nothing, "", "", 200),
    ("ready_alias1", Named::Nothing, "", "", 200),
    ("metrics", Named::Nothing, "", "", 200),
    ("openapi", Named::Nothing, "", "", 200),
    ("index", Named::Nothing, "", "", 200),
    ("swagger_page", Named::Nothing, "", "", 200),
    ("swagger_page_alias1", Named::Nothing, "", "", 200),
    ("swagger_asset", Named::This("swagger-ui.css"), "", "", 200),
    ("swagger_asset", Named::This("favicon-32x32.png"), "", "", 200),
    ("swagger_asset", Named::This("LICENSE"), "", "", 200),
    ("delete_tenant", Named::This(NOBODY), "", "", 200),
];

#[tokio::test]
async fn every_operation_answers_as_the_document_says() {
    let mut stack = Stack::with()
        // So that a drain is answered before it is done.
        .set("http.request_timeout", "12s")
        .set("messages.publish_timeout", "2s")
        .set("messages.wait_for_store", "5s")
        .set("messages.max_wait", "5s")
        .set("supervision.ready_timeout", "2s")
        .set("supervision.resize_timeout", "3s")
        .patient_statements()
        .broker_proxy()
        .start()
        .await;
    let client = stack.client.clone();
    let mut contract = Contract::of(&client).await;
    assert_eq!(contract.wrong_examples(), Vec::<String>::new());
    let [tenant, leaving] = client.create_tenants().await;
    let lock = stack.database.lock_leaf(leaving).await;
    client.post_as(leaving, "1", &[("prefer", "wait=0")]).await;
    let drainer = client.clone();
    let drain = tokio::spawn(async move { drainer.drain_tenant(leaving).await });

    let message = publish(&stack, &mut contract, tenant).await;
    for &(operation, named, query, body, status) in CALLS {
        let named = named.text(tenant, message);
        let call = Call {
            operation,
            named: &named,
            query,
            body,
            ..Call::default()
        };
        contract.fulfil(&client, call, status).await;
    }
    let query = format!("?tenant_id={tenant}&limit=1");
    let call = Call {
        operation: "list_messages",
        query: &query,
        ..Call::default()
    };
    contract.fulfil(&client, call, 200).await;
    for (operation, named) in [("swagger_page", ""), ("swagger_asset", "index.css")] {
        let call = Call {
            operation,
            named,
            headers: &[("if-none-match", "*")],
            ..Call::default()
        };
        contract.fulfil(&client, call, 304).await;
    }
    let deleted = client.delete(tenant, message).await;
    contract.kept("delete_message", deleted, 200);

    let drained = drain.await.expect("no panic").expect("it is answered");
    contract.kept("delete_tenant", drained, 202);
    lock.release().await;
    client.gone(leaving).await;
    without_a_broker(&stack, &mut contract).await;
    // One that is not in charge.
    stack.start_supervisor().await;
    let ready = stack.client.get("/health/ready").await;
    contract.kept("ready", ready, 503);
    stack.stop_the_first().await;
    stack.ready().await;

    assert_eq!(contract.missing(), Vec::<String>::new());
    stack.finish().await;
}

/// Publishes messages in all ways; one that is stored.
async fn publish(stack: &Stack, contract: &mut Contract, tenant: TenantId) -> MessageId {
    let headers = [("prefer", "respond-async")];
    let (queued, _) = stack.client.post_as(tenant, "[]", &headers).await;
    contract.kept("publish_message", queued, 202);
    let alias = format!("/api/v1/tenants/{tenant}/messages");
    let (answer, posted) = stack.client.post_at(&alias, tenant, "{}").await;
    posted.taken();
    let status = answer.status.as_u16();
    contract.kept("publish_message_alias1", answer, status);
    // A slow machine may take longer than a request waits.
    let (stored, message) = wait::until("a message is answered 201", async || {
        let (answer, posted) = stack.client.post_as(tenant, r#"{"a": 1}"#, &[]).await;
        match posted {
            Posted::Stored(id) => Ok((answer, id)),
            Posted::Queued(_) | Posted::Refused(_) | Posted::Lost(_) => Err(answer.to_string()),
        }
    })
    .await;
    contract.kept("publish_message", stored, 201);
    message
}

/// Health while the broker is away.
async fn without_a_broker(stack: &Stack, contract: &mut Contract) {
    let health = async |status: StatusCode| {
        wait::until("health is as it should be", async || {
            let answer = stack.client.get("/health").await;
            if answer.status == status {
                Ok(answer)
            } else {
                Err(answer.to_string())
            }
        })
        .await
    };
    stack.broker_proxy().cut().await;
    let unhealthy = health(StatusCode::SERVICE_UNAVAILABLE).await;
    contract.kept("health", unhealthy, 503);
    stack.broker_proxy().resume();
    health(StatusCode::OK).await;
}

/// What a client does wrong: operation, what its path names, query, body, and the problem.
#[rustfmt::skip]
const MISTAKES: &[(&str, Named, &str, &str, &str)] = &[
    ("list_tenants", Named::Nothing, "?name=%zz", "", "malformed_request"),
    ("create_tenant", Named::Nothing, "", "{", "malformed_json"),
    ("show_tenant", Named::This("17"), "", "", "invalid_id"),
    ("list_messages", Named::Nothing, "?tenant_id=17", "", "invalid_id"),
    ("list_tenants", Named::Nothing, "?cursor=17", "", "invalid_cursor"),
    ("list_messages_alias1", Named::Tenant, "?cursor=17", "", "invalid_cursor"),
    ("list_messages", Named::Nothing, "", "", "tenant_required"),
    ("swagger_asset", Named::This("nothing"), "", "", "not_found"),
    ("show_tenant", Named::This(NOBODY), "", "", "tenant_not_found"),
    ("show_message", Named::This(NOBODY), "", "", "message_not_found"),
    ("show_message", Named::Message, "", "", "message_pending"),
    ("delete_message", Named::Message, "", "", "message_pending"),
    ("create_tenant", Named::Nothing, "", "{}", "validation_failed"),
    ("patch_tenant", Named::Tenant, "", r#"{"name": null}"#, "validation_failed"),
    ("list_tenants", Named::Nothing, "?limit=0", "", "validation_failed"),
    ("list_tenants", Named::Nothing, "?name=%00", "", "validation_failed"),
    ("publish_message", Named::Tenant, "", r#"{"payload": "\u0000"}"#, "unstorable_payload"),
];

/// The problems that are provoked here.
const CLIENTS: &[&str] = &[
    "body_too_large",
    "forbidden",
    "internal_error",
    "invalid_cursor",
    "invalid_id",
    "malformed_json",
    "malformed_request",
    "message_not_found",
    "message_pending",
    "method_not_allowed",
    "not_found",
    "tenant_deleting",
    "tenant_exists",
    "tenant_gone",
    "tenant_not_found",
    "tenant_numbers_exhausted",
    "tenant_required",
    "unauthorized",
    "unstorable_payload",
    "unsupported_media_type",
    "validation_failed",
];

#[tokio::test]
async fn what_a_client_does_wrong_is_told_as_the_document_says() {
    let stack = Stack::with()
        .set("http.max_body_bytes", "65536")
        .allow_error("a request failed")
        .patient_statements()
        .start()
        .await;
    let client = &stack.client;
    let mut contract = Contract::of(client).await;
    let [tenant] = client.create_tenants().await;
    client.pause(tenant).await;
    let queued = client.post(tenant, &json!("queued")).await.taken();

    for &(operation, named, query, body, code) in MISTAKES {
        let named = named.text(tenant, queued);
        let call = Call {
            operation,
            named: &named,
            query,
            body,
            ..Call::default()
        };
        contract.breach(client, call, code).await;
    }
    of_paths_and_headers(&stack, &mut contract, tenant).await;
    client.resume(tenant).await;
    of_what_is_there_already(&stack, &mut contract, tenant).await;
    of_faults(&stack, &mut contract, tenant).await;

    assert_eq!(contract.problems(), CLIENTS);
    stack.finish().await;
}

async fn of_paths_and_headers(stack: &Stack, contract: &mut Contract, tenant: TenantId) {
    let client = &stack.client;
    let nowhere = client.get("/api/v1/nowhere").await;
    contract.problem_of_none(nowhere.expect(404), "not_found");
    let allowed = client.ask(Method::PATCH, "/metrics").await.expect(405);
    assert_eq!(allowed.header("allow"), "GET, HEAD, OPTIONS");
    contract.problem_of_none(allowed, "method_not_allowed");

    let list = Call {
        operation: "list_tenants",
        ..Call::default()
    };
    let bare = Call {
        headers: &[("authorization", "")],
        ..list
    };
    let challenge = contract.breach(client, bare, "unauthorized").await;
    assert!(challenge.header("www-authenticate").starts_with("Bearer"));
    let member = client.with_token(&stack.tenant_token(tenant));
    contract.breach(&member, list, "forbidden").await;

    let plain = Call {
        operation: "patch_tenant",
        named: &tenant.to_string(),
        headers: &[("content-type", "text/plain")],
        body: "{}",
        ..Call::default()
    };
    let told = contract
        .breach(client, plain, "unsupported_media_type")
        .await;
    assert_eq!(told.header("accept-patch"), "application/merge-patch+json");
    let large = format!(r#"{{"name": "{}"}}"#, "x".repeat(65_536));
    let large = Call {
        operation: "create_tenant",
        body: &large,
        ..Call::default()
    };
    contract.breach(client, large, "body_too_large").await;
}

/// Tenants that exist, or are on their way out.
async fn of_what_is_there_already(stack: &Stack, contract: &mut Contract, tenant: TenantId) {
    let client = &stack.client;
    let again = json!({"id": tenant}).to_string();
    let create = Call {
        operation: "create_tenant",
        body: &again,
        ..Call::default()
    };
    contract.breach(client, create, "tenant_exists").await;

    let leaving = client.create_tenant(json!({"name": "leaving"})).await;
    let lock = stack.database.lock_leaf(leaving).await;
    client.post_as(leaving, "1", &[("prefer", "wait=0")]).await;
    let drainer = client.clone();
    let drain = tokio::spawn(async move { drainer.drain_tenant(leaving).await });
    client.with_status(leaving, "draining").await;
    let publish = Call {
        operation: "publish_message",
        named: &leaving.to_string(),
        body: r#"{"payload": 1}"#,
        ..Call::default()
    };
    contract.breach(client, publish, "tenant_gone").await;
    let put = Call {
        operation: "put_tenant",
        named: &leaving.to_string(),
        body: "{}",
        ..Call::default()
    };
    contract.breach(client, put, "tenant_deleting").await;
    lock.release().await;
    client.gone(leaving).await;
    let drained = drain.await.expect("no panic").expect("it is answered");
    contract.kept("delete_tenant", drained, 200);
}

/// A row of a later version's, and the last number of all.
async fn of_faults(stack: &Stack, contract: &mut Contract, tenant: TenantId) {
    let client = &stack.client;
    let show = Call {
        operation: "show_tenant",
        named: &tenant.to_string(),
        ..Call::default()
    };
    stack.database.want(tenant, "hibernating").await;
    contract.breach(client, show, "internal_error").await;
    stack.database.want(tenant, "active").await;
    contract.fulfil(client, show, 200).await;

    stack.database.exhaust_tenant_numbers().await;
    let create = Call {
        operation: "create_tenant",
        body: r#"{"name": "one too many"}"#,
        ..Call::default()
    };
    let told = contract.breach(client, create, "tenant_numbers_exhausted");
    told.await.expect(507);
}

#[test]
fn every_problem_of_the_document_is_provoked_by_a_test() {
    let document = include_str!("../../docs/openapi.json");
    let document = serde_json::from_str(document).expect("the document is JSON");
    let provoked = [CLIENTS, LIMITS, BROKER, SUPERVISORS, END].concat();
    let provoked: BTreeSet<String> = provoked.into_iter().map(str::to_owned).collect();
    assert_eq!(provoked, problems_of(&document));
}
