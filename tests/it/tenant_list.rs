//! The list of tenants: its filters, and pages that hold while tenants go.

use serde_json::{Value, json};

use crate::harness::Stack;

#[tokio::test]
async fn a_name_is_looked_for_as_it_is_written_and_links_keep_the_filters() {
    let stack = Stack::start().await;
    for name in ["100% Ada", "100 Ada", "a_b", "aXb", "ADA & Bob", "ada+bob"] {
        let body = json!({ "name": name, "workers": 1 });
        stack.client.create_tenant(body).await;
    }
    for (query, expected) in [
        ("name=100%25", &["100% Ada"][..]),
        ("name=%25", &["100% Ada"]),
        ("name=_", &["a_b"]),
        ("name=a_b", &["a_b"]),
        ("name=ada", &["ada+bob", "ADA & Bob", "100 Ada", "100% Ada"]),
        ("name=ada+%26", &["ADA & Bob"]),
        ("name=ada%2Bbob", &["ada+bob"]),
        ("name=nobody", &[]),
        (
            "name=",
            &["ada+bob", "ADA & Bob", "aXb", "a_b", "100 Ada", "100% Ada"],
        ),
    ] {
        for limit in [100, 1] {
            let first = format!("/api/v1/tenants?limit={limit}&runtime=true&{query}");
            let tenants = walk(&stack, &first).await;
            let names: Vec<&str> = tenants
                .iter()
                .filter_map(|tenant| tenant["name"].as_str())
                .collect();
            assert_eq!(names, expected, "{first}");
            assert!(
                tenants.iter().all(|tenant| tenant["runtime"].is_object()),
                "{first}"
            );
        }
    }
    stack.finish().await;
}

#[tokio::test]
async fn a_walk_goes_on_behind_a_tenant_that_was_deleted_meanwhile() {
    let stack = Stack::start().await;
    let [first, second, third] = stack.client.create_tenants().await;
    let page = stack.client.get("/tenants?limit=2").await.expect(200);
    assert_eq!(ids(&page.json()), [third.to_string(), second.to_string()]);
    let cursor = page.header("x-next-cursor").to_owned();
    stack.client.delete_tenant(second).await;
    let next = format!("/tenants?limit=2&cursor={cursor}");
    let page = stack.client.get(&next).await.expect(200);
    assert_eq!(ids(&page.json()), [first.to_string()]);
    assert_eq!(page.header("link"), "");
    stack.finish().await;
}

/// All tenants of a list, page by page along its links.
async fn walk(stack: &Stack, first: &str) -> Vec<Value> {
    let mut tenants = Vec::new();
    let mut path = first.to_owned();
    loop {
        let page = stack.client.get(&path).await.expect(200);
        let found = page.json();
        tenants.extend(
            found
                .as_array()
                .expect("a list is an array")
                .iter()
                .cloned(),
        );
        let Some((target, parameters)) = page.header("link").split_once(">; ") else {
            return tenants;
        };
        assert_eq!(parameters, "rel=\"next\"");
        path = target.trim_start_matches('<').to_owned();
        assert!(tenants.len() < 100, "the list does not end");
    }
}

fn ids(tenants: &Value) -> Vec<String> {
    let tenants = tenants.as_array().expect("a list is an array");
    let id = |tenant: &Value| tenant["id"].as_str().map(str::to_owned);
    tenants.iter().filter_map(id).collect()
}
