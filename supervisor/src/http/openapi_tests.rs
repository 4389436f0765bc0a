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

/// An answer, wherever it is described.
fn resolved<'a>(document: &'a Value, response: &'a Value) -> &'a Value {
    match response["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).expect(reference),
        None => response,
    }
}

#[test]
fn every_problem_is_described_by_a_route_that_can_give_it() {
    let document = json();
    let mut described = BTreeSet::from(["not_found".to_owned(), "method_not_allowed".to_owned()]);
    for (name, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let response = resolved(&document, response);
            let Some(problem) = response["content"].get("application/problem+json") else {
                continue;
            };
            let examples = problem["examples"].as_object().unwrap();
            assert!(!examples.is_empty(), "{name}");
            for (code, example) in examples {
                let kind = PROBLEMS.iter().find(|kind| kind.code == code).unwrap();
                assert_eq!(kind.status.as_str(), status, "{name}");
                assert_eq!(example["value"]["code"], *code, "{name}");
                described.insert(code.to_owned());
            }
        }
    }
    let all: BTreeSet<String> = PROBLEMS.iter().map(|kind| kind.code.to_owned()).collect();
    assert_eq!(described, all);
}

/// What a stranger would have to guess: the places in the document that explain nothing.
fn unexplained(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut expect = |place: String, thing: &Value, fields: &[&str]| {
        for field in fields {
            if thing[field].as_str().is_none_or(str::is_empty) {
                found.push(format!("{place} has no {field}"));
            }
        }
    };
    for (name, operation) in operations(document) {
        expect(name.clone(), operation, &["summary", "description"]);
        assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1));
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let place = format!("{name}, {}", parameter["name"]);
            expect(place, parameter, &["description"]);
        }
        if let Some(body) = operation.get("requestBody") {
            expect(format!("{name}, the body"), body, &["description"]);
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            let response = resolved(document, response);
            expect(format!("{name}, {status}"), response, &["description"]);
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        expect(name.clone(), schema, &["description"]);
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            // What refers to a schema is explained there, unless it says more itself.
            if schema.get("$ref").is_none() {
                expect(format!("{name}.{field}"), schema, &["description"]);
            }
        }
    }
    for tag in document["tags"].as_array().unwrap() {
        expect(tag["name"].to_string(), tag, &["description"]);
    }
    found
}

#[test]
fn nothing_in_the_document_is_left_to_guess() {
    assert_eq!(unexplained(&json()), Vec::<String>::new());
}

#[test]
fn bodies_and_answers_of_json_have_examples() {
    let document = json();
    for (name, operation) in operations(&document) {
        let bodies = operation.get("requestBody").into_iter();
        let answers = operation["responses"].as_object().unwrap().values();
        for described in bodies.chain(answers.map(|response| resolved(&document, response))) {
            for (media_type, media) in described["content"].as_object().into_iter().flatten() {
                let has = media.get("example").is_some() || media.get("examples").is_some();
                assert!(has || !media_type.contains("json"), "{name}: {media_type}");
            }
        }
    }
}

#[test]
fn the_committed_document_is_the_served_one() {
    const COMMITTED: &str = include_str!("../../../docs/openapi.json");
    let served = String::from_utf8(text().to_vec()).unwrap();
    let differs = COMMITTED
        .lines()
        .zip(served.lines())
        .position(|(committed, served)| committed != served);
    assert!(
        COMMITTED == served,
        "docs/openapi.json is out of date, from line {} on; renew it with:\n    \
         cargo run --bin jatis -- openapi > docs/openapi.json",
        differs.map_or(0, |line| line + 1)
    );
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
