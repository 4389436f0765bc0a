//! TLS to both servers, in both programs: as much as is asked for, or nothing works.

use std::time::Duration;

use jatis_shared::ids::TenantId;
use serde_json::{Value, json};

use crate::harness::{Posted, Stack, ca_file, wait};

#[tokio::test]
async fn both_programs_speak_tls_when_told_to_and_store_messages() {
    let stack = Stack::with()
        .broker_tls()
        .set("rabbitmq.ca_file", &ca_file())
        .set("database.sslmode", "verify-full")
        .set("database.ca_file", &ca_file())
        .start()
        .await;
    let tenants: [TenantId; 2] = stack.client.create_tenants().await;
    for tenant in tenants {
        for n in 0..20 {
            stack.client.post(tenant, &json!(n)).await.stored();
        }
    }
    assert_eq!(stack.database.encryption().await, sessions(true));
    // The supervisor's link and its two publishers, a worker each; the test itself is not in TLS.
    assert_eq!(stack.broker_connections().await, (3 + 2, 1));

    // Making a database takes a session with another one; and the login can be bound to the channel.
    let (name, url) = stack.spare_database();
    let url = format!("database.url={url}?sslmode=verify-full&channel_binding=require");
    let made = stack.jatis(
        "migrate",
        &["--set", &url, "--set", &setting("database.ca_file")],
    );
    made.expect(0);
    assert!(stack.has_database(&name).await);
    stack.finish().await;
}

#[tokio::test]
async fn the_sslmode_says_whether_sessions_are_encrypted() {
    let mut stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    for (mode, is_encrypted) in [("disable", false), ("prefer", true), ("require", true)] {
        stack.stop().await;
        stack.set("database.sslmode", mode);
        stack.start_again().await;
        stack.client.running(tenant).await;
        stack.client.post(tenant, &json!(mode)).await.stored();
        assert_eq!(
            stack.database.encryption().await,
            sessions(is_encrypted),
            "{mode}"
        );
    }
    stack.finish().await;
}

#[tokio::test]
async fn a_server_without_tls_is_preferred_to_none_and_refused_where_tls_is_required() {
    const WHY: &str = "server does not support TLS";
    let mut stack = Stack::with()
        .wait_for_store(Duration::from_millis(100))
        .database_proxy()
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;

    stack.stop().await;
    stack.database_proxy().decline_tls();
    stack.start_again().await;
    stack.client.running(tenant).await;
    stack.client.post(tenant, &json!("prefer")).await.taken();
    stack.settled().await;
    assert_eq!(stack.database.encryption().await, sessions(false));

    for (mode, ca_file) in [("require", String::new()), ("verify-full", ca_file())] {
        stack.stop().await;
        stack.database_proxy().decline_tls();
        stack.set("database.sslmode", mode);
        stack.set("database.ca_file", &ca_file);
        stack.start_supervisor().await;
        logged(&stack, "the database is not ready", WHY).await;
        not_ready(&stack, "no TLS with the database: it speaks no TLS").await;
        assert_eq!(stack.database.encryption().await, []);

        // Waiting mends it, in either program.
        stack.database_proxy().resume();
        stack.ready().await;
        stack.client.running(tenant).await;
        stack.client.post(tenant, &json!(mode)).await.taken();
        stack.settled().await;
        assert_eq!(stack.database.encryption().await, sessions(true), "{mode}");

        stack.database_proxy().cut().await;
        wait::until("every session is gone", async || {
            match stack.database.sessions_of_jatis().await {
                0 => Ok(()),
                open => Err(format!("{open} are open")),
            }
        })
        .await;
        stack.database_proxy().decline_tls();
        let posted = stack.client.post(tenant, &json!(mode)).await;
        assert!(matches!(posted, Posted::Queued(_)), "{posted:?}");
        logged(&stack, "storing ", WHY).await;
        assert_eq!(stack.database.encryption().await, []);
        stack.database_proxy().resume();
        stack.settled().await;
    }
    stack.finish().await;
}

#[tokio::test]
async fn a_database_that_does_not_prove_itself_is_not_used() {
    let mut stack = Stack::with()
        .set("database.sslmode", "verify-full")
        .set("database.ca_file", &ca_file())
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("before")).await.stored();

    let mut stored = 1;
    for wrong in [
        Wrong::authority(&stack, "database.ca_file"),
        Wrong {
            key: "database.url",
            value: stack.database_url_by_another_name().await,
            right: stack.database_url(),
            ..Wrong::NAME
        },
    ] {
        stack.stop().await;
        stack.set(wrong.key, &wrong.value);
        stack.start_supervisor().await;
        logged(
            &stack,
            "cannot connect to PostgreSQL at 127.0.0.",
            wrong.why,
        )
        .await;
        let detail = format!("no TLS with the database: {}", wrong.detail);
        not_ready(&stack, &detail).await;
        wait::until("the database is reported", async || {
            unhealthy(&stack, "database", &detail).await
        })
        .await;
        stack.broker.publish(tenant, b"1", None).await;
        assert_eq!(stack.broker.ready(tenant).await, 1);
        assert_eq!(stack.database.stored_count(tenant).await, stored);

        stack.stop().await;
        stack.set(wrong.key, &wrong.right);
        stack.start_again().await;
        stack.settled().await;
        stored += 1;
        assert_eq!(stack.database.stored_count(tenant).await, stored);
    }
    stack.finish().await;
}

#[tokio::test]
async fn a_broker_that_does_not_prove_itself_is_not_used() {
    let mut stack = Stack::with()
        .broker_tls()
        .set("rabbitmq.ca_file", &ca_file())
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.post(tenant, &json!("before")).await.stored();

    let mut stored = 1;
    for wrong in [
        Wrong::authority(&stack, "rabbitmq.ca_file"),
        Wrong {
            key: "rabbitmq.url",
            value: stack.broker_tls_url_by_another_name().await,
            right: stack.broker_tls_url(),
            ..Wrong::NAME
        },
    ] {
        stack.stop().await;
        stack.set(wrong.key, &wrong.value);
        // Without a broker it serves what needs none.
        stack.start_again().await;
        logged(&stack, "no connection to the broker", wrong.why).await;
        // The worker's word.
        logged(&stack, "the broker is away", wrong.why).await;
        let detail = format!("no TLS with the broker: {}", wrong.detail);
        wait::until("the broker is reported", async || {
            unhealthy(&stack, "broker", &detail).await
        })
        .await;
        let Posted::Refused(refused) = stack.client.post(tenant, &json!("during")).await else {
            panic!("there is no broker to take it");
        };
        refused.expect_problem(503, "broker_unavailable");
        stack.broker.publish(tenant, b"1", None).await;
        assert_eq!(stack.broker.ready(tenant).await, 1);
        assert_eq!(stack.database.stored_count(tenant).await, stored);

        stack.stop().await;
        stack.set(wrong.key, &wrong.right);
        stack.start_again().await;
        stack.settled().await;
        stored += 1;
        assert_eq!(stack.database.stored_count(tenant).await, stored);
    }
    stack.finish().await;
}

/// A setting by which a server cannot prove itself, and one by which it can.
struct Wrong {
    key: &'static str,
    value: String,
    right: String,
    /// What the log says of it, and what strangers are told.
    why: &'static str,
    detail: &'static str,
}

impl Wrong {
    const NAME: Self = Self {
        key: "",
        value: String::new(),
        right: String::new(),
        why: "not valid for name",
        detail: "its certificate is for another name",
    };

    fn authority(stack: &Stack, key: &'static str) -> Self {
        Self {
            key,
            value: stack.ca_file_of_nobody(),
            right: ca_file(),
            why: "UnknownIssuer",
            detail: "its certificate comes from no authority that is trusted",
        }
    }
}

/// Both programs' sessions with PostgreSQL, when all of them are encrypted or none is.
fn sessions(are_encrypted: bool) -> Vec<(String, bool)> {
    let names = ["jatis supervisor", "jatis worker"];
    names.map(|name| (name.to_owned(), are_encrypted)).to_vec()
}

fn setting(ca_key: &str) -> String {
    format!("{ca_key}={}", ca_file())
}

/// Waits for a line with both texts in the log of the supervisor in charge and its workers.
async fn logged(stack: &Stack, what: &str, why: &str) {
    wait::until("the log says why", async || {
        let lines = stack.supervisor().log().lines_with(what);
        if lines.iter().any(|line| line.contains(why)) {
            Ok(())
        } else {
            Err(format!("{lines:#?}"))
        }
    })
    .await;
}

/// It takes no traffic, and says why.
async fn not_ready(stack: &Stack, detail: &str) {
    let ready = stack.client.get("/health/ready").await.expect(503);
    let expected = json!({"status": "starting", "detail": detail});
    assert_eq!(ready.json(), expected);
}

/// Whether this check says so.
async fn unhealthy(stack: &Stack, check: &str, detail: &str) -> Result<(), String> {
    let health = stack.client.get("/health").await.expect(503);
    let found: Value = health.json()["checks"][check].clone();
    if found == json!({"status": "unhealthy", "detail": detail}) {
        Ok(())
    } else {
        Err(health.to_string())
    }
}
