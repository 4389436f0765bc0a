use std::collections::BTreeSet;

use serde_json::Value;

use super::{super::problem::PROBLEMS, *};

fn json() -> Value {
    serde_json::from_slice(&text()).unwrap()
}

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().unwrap().iter();
        item.map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    operations.collect()
}

#[test]
fn the_document_and_the_table_list_the_same_routes() {
    let routes = api::ROUTES.iter().flat_map(|route| {
        let method = route.verb.methods()[0].as_str().to_lowercase();
        let paths = route.paths.iter();
        paths.map(move |path| format!("{method} {}", paths::documented(route, path)))
    });
    let routes: BTreeSet<String> = routes.collect();
    let document = json();
    let listed = operations(&document).into_iter().map(|(name, _)| name);
    assert_eq!(listed.collect::<BTreeSet<String>>(), routes);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.0."));
}

#[test]
fn every_problem_is_described_by_a_route_that_can_give_it() {
    let document = json();
    let mut described = BTreeSet::from(["not_found".to_owned(), "method_not_allowed".to_owned()]);
    for (name, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            if response["content"]
                .get("application/problem+json")
                .is_none()
            {
                continue;
            }
            let text = response["description"].as_str().unwrap();
            let (_, codes) = text.split_once("`code`: ").unwrap();
            for code in codes.split(", ") {
                let kind = PROBLEMS.iter().find(|kind| kind.code == code).unwrap();
                assert_eq!(kind.status.as_str(), status, "{name}");
                described.insert(code.to_owned());
            }
        }
    }
    let all: BTreeSet<String> = PROBLEMS.iter().map(|kind| kind.code.to_owned()).collect();
    assert_eq!(described, all);
}

#[test]
fn operations_have_names_of_their_own_and_refer_to_schemas_that_exist() {
    let document = json();
    let operations = operations(&document);
    let names: BTreeSet<&str> = operations
        .iter()
        .map(|(name, operation)| operation["operationId"].as_str().expect(name))
        .collect();
    assert_eq!(names.len(), operations.len());
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"").skip(1) {
        let reference = reference.split('"').next().unwrap();
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn a_route_that_takes_a_token_says_so() {
    let document = json();
    for route in api::ROUTES {
        for path in route.paths {
            let path = paths::documented(route, path);
            let method = route.verb.methods()[0].as_str().to_lowercase();
            let operation = &document["paths"][&path][&method];
            assert_eq!(
                operation.get("security").is_some(),
                route.access != Access::Open,
                "{method} {path}"
            );
        }
    }
}
