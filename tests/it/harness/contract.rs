//! The document that a server gives of itself, to hold its answers against.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::Value;

use super::{
    client::Client,
    http::Answer,
    schema::{faults, resolve},
};

/// A media type of problems.
const PROBLEM: &str = "application/problem+json";

/// What is promised, and what of it has been seen.
pub(crate) struct Contract {
    document: Value,
    /// Operations, each with the status that it was answered with.
    answered: BTreeSet<(String, String)>,
    /// Codes.
    problems: BTreeSet<String>,
}

/// An operation of the document.
struct Operation<'a> {
    path: &'a str,
    method: &'a str,
    described: &'a Value,
}

/// A request by the name of its operation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Call<'a> {
    pub(crate) operation: &'a str,
    /// What stands for the parameter of the path.
    pub(crate) named: &'a str,
    /// With its question mark.
    pub(crate) query: &'a str,
    pub(crate) headers: &'a [(&'static str, &'a str)],
    /// None is sent if it is empty.
    pub(crate) body: &'a str,
}

impl Contract {
    /// Of the server that a client speaks to.
    pub(crate) async fn of(client: &Client) -> Self {
        Self {
            document: client.get("/openapi.json").await.expect(200).json(),
            answered: BTreeSet::new(),
            problems: BTreeSet::new(),
        }
    }

    /// Makes a request.
    pub(crate) async fn ask(&self, client: &Client, call: Call<'_>) -> Answer {
        let operation = self.operation(call.operation);
        let mut path = operation.path.to_owned();
        if let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
            path.replace_range(from..=to, call.named);
        }
        path.push_str(call.query);
        let method: Method = operation.method.to_uppercase().parse().expect("a method");
        let usual: &[_] = if call.body.is_empty() {
            &[("content-type", "")]
        } else {
            &[]
        };
        let headers = [usual, call.headers].concat();
        let answer = client.send(method, &path, &headers, call.body.to_owned());
        answer.await.unwrap_or_else(|lost| panic!("{lost:?}"))
    }

    /// Makes a request, and holds the answer against the document, which must have this status.
    pub(crate) async fn fulfil(&mut self, client: &Client, call: Call<'_>, status: u16) -> Answer {
        let answer = self.ask(client, call).await;
        self.kept(call.operation, answer, status)
    }

    /// Holds an answer of an operation against the document; it must have this status.
    pub(crate) fn kept(&mut self, operation: &str, answer: Answer, status: u16) -> Answer {
        let answer = answer.expect(status);
        self.hold(operation, &answer);
        assert_ne!(answer.header("content-type"), PROBLEM, "{answer}");
        let status = status.to_string();
        self.answered.insert((operation.to_owned(), status));
        answer
    }

    /// Makes a request that is refused or fails, and holds the problem against the document.
    pub(crate) async fn breach(&mut self, client: &Client, call: Call<'_>, code: &str) -> Answer {
        let answer = self.ask(client, call).await;
        self.problem(call.operation, answer, code)
    }

    /// Holds an answer of an operation against the document; it must be this problem.
    pub(crate) fn problem(&mut self, operation: &str, answer: Answer, code: &str) -> Answer {
        let answer = answer.expect_problem_of(code);
        self.hold(operation, &answer);
        let (_, media) = self.described(operation, &answer);
        let media = media.expect("a problem has a body");
        assert!(
            media["examples"].get(code).is_some(),
            "{operation} does not say that it may fail by {code}"
        );
        self.problems.insert(code.to_owned());
        answer
    }

    /// A problem of a path or method that is no operation's.
    pub(crate) fn problem_of_none(&mut self, answer: Answer, code: &str) {
        let answer = answer.expect_problem_of(code);
        let schema = &self.document["components"]["schemas"]["Problem"];
        let faults = faults(&self.document, schema, &answer.json());
        assert_eq!(faults, Vec::<String>::new(), "{answer}");
        self.problems.insert(code.to_owned());
    }

    /// The codes of the problems that have been seen.
    pub(crate) fn problems(&self) -> Vec<&str> {
        self.problems.iter().map(String::as_str).collect()
    }

    /// What of the answers that are no problems has not been seen. Of an alias, one must be.
    pub(crate) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (path, method, described) in operations(&self.document) {
            let id = described["operationId"].as_str().unwrap_or_default();
            let seen = |status: &str| {
                let key = (id.to_owned(), status.to_owned());
                self.answered.contains(&key)
            };
            let responses = described["responses"].as_object().into_iter().flatten();
            let good: Vec<&String> = responses
                .filter(|(_, response)| self.is_no_problem(response))
                .map(|(status, _)| status)
                .collect();
            let is_alias = id.contains("_alias");
            if is_alias && good.iter().any(|status| seen(status)) {
                continue;
            }
            let unseen = good.into_iter().filter(|status| !seen(status));
            missing.extend(unseen.map(|status| format!("{id} ({method} {path}): {status}")));
        }
        missing
    }

    fn is_no_problem(&self, response: &Value) -> bool {
        let content = resolve(&self.document, response)["content"].as_object();
        content.is_none_or(|content| content.keys().any(|media_type| media_type != PROBLEM))
    }

    /// Fails unless an answer is one that the document describes.
    fn hold(&self, operation: &str, answer: &Answer) {
        let (response, media) = self.described(operation, answer);
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let header = resolve(&self.document, header);
            let there = answer.headers.contains_key(name.as_str());
            assert!(there || header["required"] != true, "{name}: {answer}");
        }
        let Some(media) = media else {
            assert!(answer.body.is_empty(), "{operation}: {answer}");
            return;
        };
        if answer.header("content-type").contains("json") {
            let faults = faults(&self.document, &media["schema"], &answer.json());
            assert_eq!(faults, Vec::<String>::new(), "{operation}: {answer}");
        }
    }

    /// The response of an answer's status, and in it the content of its type.
    fn described(&self, operation: &str, answer: &Answer) -> (&Value, Option<&Value>) {
        let responses = &self.operation(operation).described["responses"];
        let response = responses.get(answer.status.as_str());
        let response = response.unwrap_or_else(|| panic!("{operation} has no {answer}"));
        let response = resolve(&self.document, response);
        let media_type = answer.header("content-type");
        let media = response["content"].as_object().map(|content| {
            let media = content.get(media_type);
            media.unwrap_or_else(|| panic!("{operation} has no {media_type}: {answer}"))
        });
        (response, media)
    }

    fn operation(&self, id: &str) -> Operation<'_> {
        let mut operations = operations(&self.document);
        let found = operations.find(|(_, _, described)| described["operationId"] == id);
        let (path, method, described) =
            found.unwrap_or_else(|| panic!("the document has no operation {id}"));
        Operation {
            path,
            method,
            described,
        }
    }

    /// Examples that are not what their schema says.
    pub(crate) fn wrong_examples(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (path, method, described) in operations(&self.document) {
            let answers = described["responses"].as_object().into_iter().flatten();
            let answers = answers.map(|(_, response)| resolve(&self.document, response));
            let contents = answers.chain(described.get("requestBody"));
            for content in contents.filter_map(|described| described["content"].as_object()) {
                for media in content.values() {
                    let one = media.get("example").into_iter();
                    let several = media["examples"].as_object().into_iter().flatten();
                    for example in one.chain(several.map(|(_, example)| &example["value"])) {
                        let faults = faults(&self.document, &media["schema"], example);
                        wrong.extend(
                            faults
                                .iter()
                                .map(|fault| format!("{method} {path} {fault}")),
                        );
                    }
                }
            }
        }
        wrong
    }
}

/// Every operation, with its path and method.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.map(move |(method, described)| (path.as_str(), method.as_str(), described))
    })
}

/// Every problem that a document names, and those of paths and methods that it does not list.
pub(crate) fn problems_of(document: &Value) -> BTreeSet<String> {
    let mut codes = BTreeSet::from(["not_found".to_owned(), "method_not_allowed".to_owned()]);
    for (_, _, described) in operations(document) {
        for (_, response) in described["responses"].as_object().into_iter().flatten() {
            let examples = &resolve(document, response)["content"][PROBLEM]["examples"];
            codes.extend(
                examples
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(code, _)| code.clone()),
            );
        }
    }
    codes
}
