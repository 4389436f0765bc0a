//! `Prefer` (RFC 7240): a client says how long it would wait for its message to be stored.

use jatis_shared::ids::TenantId;

use crate::harness::{Posted, Stack};

#[tokio::test]
async fn a_client_is_answered_as_soon_as_it_prefers() {
    // Nothing is stored, and usually a publish would wait for ever.
    let stack = Stack::with().patient_statements().start().await;
    let [tenant] = stack.client.create_tenants().await;
    let lock = stack.database.lock_leaf(tenant).await;
    for (prefer, applied) in [
        ("respond-async", "respond-async"),
        ("foo; bar, RESPOND-ASYNC", "respond-async"),
        ("wait=0", "wait=0"),
        ("wait=1", "wait=1"),
        ("respond-async, wait=1", "respond-async, wait=1"),
        ("wait=\"1\", wait=600", "wait=1"),
    ] {
        let answered = answered(&stack, tenant, prefer).await;
        assert_eq!(answered, ("queued", applied.to_owned()), "{prefer}");
    }
    lock.release().await;
    stack.finish().await;
}

#[tokio::test]
async fn a_preference_is_bounded_and_what_is_none_is_ignored() {
    let stack = Stack::with()
        .set("messages.wait_for_store", "0s")
        .set("messages.max_wait", "24s")
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    for (prefer, expected) in [
        ("wait=600", ("stored", "wait=24")),
        ("wait=20", ("stored", "wait=20")),
        (
            "respond-async, wait=20",
            ("stored", "respond-async, wait=20"),
        ),
        // Here nobody waits who does not ask for it.
        ("", ("queued", "")),
        ("respond-async", ("queued", "respond-async")),
        ("return=minimal", ("queued", "")),
        ("wait=soon", ("queued", "")),
        ("wait=\"20", ("queued", "")),
        (";;,=,\"", ("queued", "")),
    ] {
        let (status, applied) = answered(&stack, tenant, prefer).await;
        assert_eq!((status, applied.as_str()), expected, "{prefer}");
    }
    stack.finish().await;
}

/// How a message with this preference is answered, and which was applied.
async fn answered(stack: &Stack, tenant: TenantId, prefer: &str) -> (&'static str, String) {
    let (answer, posted) = stack
        .client
        .post_as(tenant, "1", &[("prefer", prefer)])
        .await;
    let status = match posted {
        Posted::Stored(_) => "stored",
        Posted::Queued(_) => "queued",
        Posted::Refused(_) | Posted::Lost(_) => panic!("{prefer}: {answer}"),
    };
    (status, answer.header("preference-applied").to_owned())
}
