//! The pages that explain the API: they work where there is no internet.

use hyper::Method;

use crate::harness::{Answer, Stack};

#[tokio::test]
async fn the_pages_of_the_api_are_complete_and_refer_to_no_other_host() {
    let stack = Stack::start().await;
    let page = fetch(&stack, "/swagger/index.html").await;
    for alias in ["/swagger", "/swagger/"] {
        assert_eq!(fetch(&stack, alias).await.body, page.body, "{alias}");
    }
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'"), "{policy}");
    let sources = policy.split([' ', ';']);
    let hosts: Vec<&str> = sources.filter(|source| source.contains('.')).collect();
    assert_eq!(hosts, Vec::<&str>::new(), "{policy}");

    let text = page.text();
    let assets: Vec<&str> = ["src=\"", "href=\""]
        .iter()
        .flat_map(|attribute| text.split(attribute).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(assets.len() >= 5, "{assets:?}");
    let mut media_types = Vec::new();
    for asset in assets {
        assert!(
            asset.starts_with('/') && !asset.starts_with("//"),
            "{asset}"
        );
        let file = fetch(&stack, asset).await;
        let media_type = file.header("content-type");
        media_types.push(media_type.split(';').next().unwrap_or_default().to_owned());
        if asset.ends_with("start.js") || asset.ends_with(".css") {
            for (at, _) in file.text().match_indices("://") {
                let text = file.text();
                // Of an XML vocabulary, in pictures that the style brings along.
                let host = text.get(at + 3..at + 13).unwrap_or_default();
                assert_eq!(host, "www.w3.org", "in {asset}");
            }
        }
        // It is asked for again, and not sent again.
        let known = file.header("etag");
        let headers = [("content-type", ""), ("if-none-match", known)];
        let again = stack.client.send(Method::GET, asset, &headers, "").await;
        let again = again.expect("it is answered");
        let status = if known.is_empty() { 200 } else { 304 };
        again.expect(status);
    }
    for media_type in [
        "text/css",
        "text/javascript",
        "image/png",
        "application/json",
    ] {
        assert!(
            media_types.iter().any(|found| found == media_type),
            "{media_types:?}"
        );
    }

    // Whoever receives the program receives the license of what is in it.
    let license = fetch(&stack, "/swagger/LICENSE").await.text();
    assert!(license.contains("Apache License"), "{license}");
    stack
        .client
        .get("/swagger/swagger-ui.js")
        .await
        .expect_problem(404, "not_found");
    stack.finish().await;
}

/// What anybody gets, without a token.
async fn fetch(stack: &Stack, path: &str) -> Answer {
    let bare = [("authorization", ""), ("content-type", "")];
    let answer = stack.client.send(Method::GET, path, &bare, "").await;
    let answer = answer.expect("it is answered").expect(200);
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    answer
}
