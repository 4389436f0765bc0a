//! Problems that are nobody's mistake: limits of time, servers that fail, a supervisor that is not
//! in charge or on its way down; each held against the document as in `contract`.

use hyper::Method;
use jatis_shared::ids::TenantId;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{Answer, Call, Contract, Posted, Stack, wait};

/// What `what_takes_too_long…` provokes.
pub(crate) const LIMITS: &[&str] = &["body_timeout", "request_timeout"];

#[tokio::test]
async fn what_takes_too_long_is_told_as_the_document_says() {
    let stack = Stack::with()
        .set("http.request_timeout", "5s")
        .set("messages.publish_timeout", "1s")
        .set("messages.wait_for_store", "1s")
        .set("messages.max_wait", "1s")
        .set("supervision.ready_timeout", "2s")
        .patient_statements()
        .start()
        .await;
    let client = &stack.client;
    let mut contract = Contract::of(client).await;
    let [tenant] = client.create_tenants().await;
    let hidden = stack.database.hide_leaf(tenant).await;
    let path = format!("/api/v1/messages/{tenant}");
    let list = Call {
        operation: "list_messages_alias1",
        named: &tenant.to_string(),
        ..Call::default()
    };
    let (slow_body, slow_answer) =
        tokio::join!(client.announce(&path, 2), contract.ask(client, list));
    contract.problem("publish_message", slow_body, "body_timeout");
    contract.problem(list.operation, slow_answer, "request_timeout");
    hidden.release().await;

    assert_eq!(contract.problems(), LIMITS);
    stack.finish().await;
}

/// What `a_broker_that_fails…` provokes.
pub(crate) const BROKER: &[&str] = &["broker_unavailable", "overloaded", "publish_uncertain"];

#[tokio::test]
async fn a_broker_that_fails_is_told_as_the_document_says() {
    let stack = Stack::with()
        .set("rabbitmq.max_publishing", "1")
        .set("messages.publish_timeout", "1s")
        .set("http.request_timeout", "15s")
        .set("messages.wait_for_store", "10s")
        .broker_proxy()
        .start()
        .await;
    let mut contract = Contract::of(&stack.client).await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("before")).await.stored();

    stack.broker_proxy().stall();
    let (mut overloaded, mut uncertain) = (None, None);
    // One of two takes the only place until it is given up, and the other one finds it taken.
    wait::until("both are told", async || {
        let (one, other) = tokio::join!(refused(&stack, tenant), refused(&stack, tenant));
        for answer in [one, other] {
            match answer.json()["code"].as_str() {
                Some("overloaded") => overloaded = Some(answer),
                Some("publish_uncertain") => uncertain = Some(answer),
                _ => {}
            }
        }
        if overloaded.is_some() && uncertain.is_some() {
            return Ok(());
        }
        Err(format!("{overloaded:?} and {uncertain:?}"))
    })
    .await;
    let overloaded = overloaded.expect("waited for");
    contract.problem("publish_message", overloaded, "overloaded");
    let uncertain = uncertain.expect("waited for");
    contract.problem("publish_message", uncertain, "publish_uncertain");

    stack.broker_proxy().cut().await;
    let unavailable = wait::until("the broker is known to be away", async || {
        let answer = refused(&stack, tenant).await;
        if answer.json()["code"] == "broker_unavailable" {
            Ok(answer)
        } else {
            Err(answer.to_string())
        }
    })
    .await;
    contract.problem("publish_message", unavailable, "broker_unavailable");

    assert_eq!(contract.problems(), BROKER);
    stack.broker_proxy().resume();
    wait::until("messages are stored again", async || {
        let posted = stack.client.post(tenant, &json!("after")).await;
        if let Posted::Stored(_) = posted {
            Ok(())
        } else {
            Err(format!("{posted:?}"))
        }
    })
    .await;
    stack.finish().await;
}

async fn refused(stack: &Stack, tenant: TenantId) -> Answer {
    let posted = stack.client.post(tenant, &json!("during")).await;
    let Posted::Refused(answer) = posted else {
        panic!("not refused: {posted:?}");
    };
    answer
}

/// What `a_supervisor_that_cannot_serve…` provokes.
pub(crate) const SUPERVISORS: &[&str] = &["database_unavailable", "not_in_charge", "starting"];

#[tokio::test]
async fn a_supervisor_that_cannot_serve_says_why_as_the_document_says() {
    let mut stack = Stack::with().database_proxy().start().await;
    let mut contract = Contract::of(&stack.client).await;
    let list = Call {
        operation: "list_tenants",
        ..Call::default()
    };
    stack.database_proxy().cut().await;
    contract
        .breach(&stack.client, list, "database_unavailable")
        .await;
    stack.database_proxy().resume();
    stack.ready().await;
    stack.stop().await;

    stack.database_proxy().cut().await;
    stack.start_supervisor().await;
    contract.breach(&stack.client, list, "starting").await;
    stack.database_proxy().resume();
    stack.ready().await;

    stack.start_supervisor().await;
    let told = wait::until(
        "the second one knows that it is not in charge",
        async || {
            let answer = contract.ask(&stack.client, list).await;
            if answer.json()["code"] == "starting" {
                Err(answer.to_string())
            } else {
                Ok(answer)
            }
        },
    )
    .await;
    contract.problem(list.operation, told, "not_in_charge");
    stack.stop_the_first().await;
    stack.ready().await;

    assert_eq!(contract.problems(), SUPERVISORS);
    stack.finish().await;
}

/// What `a_request_that_comes_too_late…` provokes.
pub(crate) const END: &[&str] = &["shutting_down"];

#[tokio::test]
async fn a_request_that_comes_too_late_is_told_as_the_document_says() {
    /// Requests that are held back. One of them is answered after the stop has begun: it begins
    /// within moments of the signal, and not in the same.
    const REQUESTS: usize = 50;
    let mut stack = Stack::start().await;
    let client = stack.client.clone();
    let mut contract = Contract::of(&client).await;
    let [tenant] = client.create_tenants().await;
    let path = format!("/api/v1/tenants/{tenant}/config/concurrency");
    let body = json!({"workers": 2});
    let mut requests = Vec::new();
    for _ in 0..REQUESTS {
        requests.push(client.hold_back(Method::PUT, &path, &body).await);
    }
    stack.supervisor().signal(Signal::SIGTERM);
    let told = wait::until("a request is told", async || {
        let request = requests.pop().expect("one of them comes too late");
        let answer = request.send().await;
        if answer.status == 200 {
            Err(answer.to_string())
        } else {
            Ok(answer)
        }
    })
    .await;
    contract.problem("resize_tenant", told, "shutting_down");
    drop(requests);
    assert_eq!(contract.problems(), END);
    stack.stop().await;
    stack.start_again().await;
    stack.client.running(tenant).await;
    stack.finish().await;
}
