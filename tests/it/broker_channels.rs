//! Channels of the broker have few numbers, which are used again and again.

use hyper::Method;
use jatis_shared::ids::TenantId;
use serde_json::json;
use uuid::Uuid;

use crate::harness::{Stack, wait};

#[tokio::test]
async fn a_channel_that_the_broker_closed_spoils_none_that_gets_its_number() {
    // So few that each number comes round several times while the tenants are made.
    let stack = Stack::with()
        .broker_query("channel_max=16")
        .set("supervision.converge_interval", "1s")
        .start()
        .await;
    let [paused] = stack.client.create_tenants().await;
    stack.client.pause(paused).await;
    // The supervisor asks for the depth of a queue that is not there.
    stack.broker.delete_queue(paused).await;
    wait::until("the depth is not known", async || {
        let shown = stack.client.tenant(paused).await;
        if shown["runtime"]["queue_depth"].is_null() {
            Ok(())
        } else {
            Err(shown.to_string())
        }
    })
    .await;

    for number in 0..40 {
        let name = format!("tenant {number}");
        let tenant = stack.client.create_tenant(json!({"name": name})).await;
        stack.client.delete_tenant(tenant).await;
    }
    for failure in ["has no queues yet", "does not converge", "is not gone yet"] {
        let log = stack.supervisor().log();
        assert_eq!(log.lines_with(failure), Vec::<String>::new());
    }
    stack.client.resume(paused).await;
    stack.client.post(paused, &json!("after")).await.stored();
    stack.finish().await;
}

#[tokio::test]
async fn a_connection_that_has_no_channels_left_is_made_anew() {
    let stack = Stack::with()
        .broker_query("channel_max=16")
        .set("supervision.converge_interval", "100ms")
        .start()
        .await;
    // Each time its queue is declared, the broker refuses that and closes the channel.
    let odd = TenantId::from(Uuid::from_u128(0x0190_d3a2_7c3e_7c3e_8c3e_0000_0000_0001));
    stack.broker.declare_another_queue(odd).await;
    stack.client.create_tenant(json!({"id": odd})).await;
    stack.client.post(odd, &json!("before")).await.stored();
    wait::until("all channels are used up", async || {
        let log = stack.supervisor().log();
        match log.lines_with("it is made anew").len() {
            0 => Err("not yet".to_owned()),
            _ => Ok(()),
        }
    })
    .await;

    let after = stack.client.create_tenant(json!({"name": "after"})).await;
    stack.client.post(after, &json!("after")).await.stored();
    stack.client.post(odd, &json!("after")).await.stored();
    // The connection may just be made anew: then a later convergence ends the deletion.
    let path = format!("/api/v1/tenants/{odd}");
    let answer = stack.client.ask(Method::DELETE, &path).await;
    assert!(answer.status == 200 || answer.status == 202, "{answer}");
    stack.client.gone(odd).await;
    stack.finish().await;
}
