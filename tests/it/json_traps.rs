//! JSON that PostgreSQL refuses or could not give back: refused at accept, buried when it comes by
//! AMQP, and never in the way of anything else. What lies just inside comes back as it was.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::harness::{Posted, Stack, wait};

#[tokio::test]
async fn a_trap_is_refused_when_it_is_posted() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    for trap in traps() {
        let (answer, _) = stack.client.post_as(tenant, &trap, &[]).await;
        let refused = answer.expect_problem(422, "unstorable_payload");
        assert_eq!(refused.json()["errors"][0]["pointer"], "/payload");
    }
    assert_eq!(stack.database.stored_count(tenant).await, 0);
    stack.finish().await;
}

#[tokio::test]
async fn a_trap_published_by_amqp_is_buried_and_its_neighbours_in_the_batch_are_stored() {
    let traps = traps();
    let stack = Stack::with()
        .wait_for_store(Duration::from_millis(100))
        .patient_statements()
        .dead_letters(traps.len())
        .start()
        .await;
    let [tenant] = stack.client.create_tenants().await;
    stack.client.resize(tenant, 1).await;

    // The only thread waits with another message, so all that follow meet in one batch.
    let lock = stack.database.lock_leaf(tenant).await;
    stack.broker.publish(tenant, b"\"first\"", None).await;
    wait::until("the thread waits", async || {
        match stack.database.waiting_inserts(tenant).await {
            1 => Ok(()),
            waiting => Err(format!("{waiting} wait")),
        }
    })
    .await;
    for (number, trap) in traps.iter().enumerate() {
        let neighbour = format!("{{\"neighbour\": {number}}}");
        stack
            .broker
            .publish(tenant, neighbour.as_bytes(), None)
            .await;
        stack.broker.publish(tenant, trap.as_bytes(), None).await;
    }
    wait::until("all are with the worker", async || {
        match stack.broker.ready(tenant).await {
            0 => Ok(()),
            ready => Err(format!("{ready} are ready")),
        }
    })
    .await;
    lock.release().await;
    stack.settled().await;

    let dead = stack.database.dead().await;
    let mut found: Vec<&[u8]> = dead
        .iter()
        .map(|letter| letter.payload.as_slice())
        .collect();
    let mut expected: Vec<&[u8]> = traps.iter().map(|trap| trap.as_bytes()).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert!(
        found == expected,
        "the dead letters are the traps, byte for byte"
    );
    assert!(
        dead.iter()
            .all(|letter| letter.reason == "unstorable_payload")
    );

    let list = format!("/api/v1/tenants/{tenant}/messages?limit=1000");
    let page = stack.client.get(&list).await.expect(200).json();
    let shown = page["data"].as_array().map(Vec::len);
    assert_eq!(shown, Some(traps.len() + 1));
    stack.finish().await;
}

#[tokio::test]
async fn what_lies_just_inside_comes_back_with_the_same_value_however_it_was_sent() {
    let stack = Stack::start().await;
    let [tenant] = stack.client.create_tenants().await;
    let values = values();
    for (sent, given_back) in &values {
        let (answer, posted) = stack.client.post_as(tenant, sent, &[]).await;
        let Posted::Stored(id) = posted else {
            panic!("{sent} is not stored: {answer}");
        };
        let shown = stack.client.get(&format!("/api/v1/messages/{id}")).await;
        let shown = shown.expect(200).text();
        let expected = format!("\"payload\":{given_back},\"created_at\":");
        assert!(shown.contains(&expected), "{sent}\nis shown as\n{shown}");
        stack.broker.publish(tenant, sent.as_bytes(), None).await;
    }
    stack.settled().await;

    let list = format!("/api/v1/tenants/{tenant}/messages?limit=1000");
    let page = stack.client.get(&list).await.expect(200).text();
    let _well_formed: &RawValue = serde_json::from_str(&page).expect("a page is JSON");
    for (sent, given_back) in &values {
        let expected = format!("\"payload\":{given_back},\"created_at\":");
        let times = page.matches(&expected).count();
        assert!(times >= 2, "{sent} is on the page {times} times");
    }
    stack.finish().await;
}

/// Each is JSON, and cannot be stored or given back.
fn traps() -> Vec<String> {
    let nested = |open: &str, inner: &str, close: &str, depth: usize| {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    vec![
        r#""\u0000""#.to_owned(),
        r#"{"a": ["b\u0000c"]}"#.to_owned(),
        r#"{"\u0000": 1}"#.to_owned(),
        r#""\ud83d""#.to_owned(),
        r#""\udE00""#.to_owned(),
        r#"["\ud83d\ud83d"]"#.to_owned(),
        r#"{"\udc00": 1}"#.to_owned(),
        "1e309".to_owned(),
        "[-1.5E+309]".to_owned(),
        "1e-309".to_owned(),
        "0e400".to_owned(),
        "1e-400".to_owned(),
        "1e200000".to_owned(),
        "1e99999999999999999999".to_owned(),
        "9".repeat(1001),
        format!("-0.{}", "1".repeat(1000)),
        nested("[", "", "]", 129),
        nested("{\"a\":", "1", "}", 129),
        nested("[{\"a\":", "1", "}]", 65),
        nested("[", "1", "]", 20_000),
        // Six bytes each become 311 when they are read.
        format!("[{}1]", "1e308,".repeat(60_000)),
    ]
}

/// Pairs of what is sent and what is given back: the same value, numbers written out.
fn values() -> Vec<(String, String)> {
    let same = |text: String| (text.clone(), text);
    let pair = |sent: &str, given_back: &str| (sent.to_owned(), given_back.to_owned());
    vec![
        ("1e308".to_owned(), format!("1{}", "0".repeat(308))),
        ("-1E-308".to_owned(), format!("-0.{}1", "0".repeat(307))),
        same("9".repeat(1000)),
        same(format!("-0.{}", "1".repeat(999))),
        same(format!("{}1{}", "[".repeat(128), "]".repeat(128))),
        same("123456789012345678901234567890".to_owned()),
        same("1.50".to_owned()),
        pair("-0", "0"),
        pair("0e308", "0"),
        pair("1.0e-5", "0.000010"),
        pair("15E+1", "150"),
        pair(r#"{"a":1,"b":2,"a":3}"#, r#"{"a": 3, "b": 2}"#),
        pair(r#"{"a":1,"\u0061":2}"#, r#"{"a": 2}"#),
        pair(
            r#""\u00e9\ud83d\ude00\/\u0041\b\u0001\u007f\uffff\\u0000""#,
            "\"é😀/A\\b\\u0001\u{7f}\u{ffff}\\\\u0000\"",
        ),
        pair(r#"{"":[],"\ud83d\ude00":{}}"#, r#"{"": [], "😀": {}}"#),
        pair(" [ 1 ,\t\"\" , null ] ", "[1, \"\", null]"),
    ]
}
