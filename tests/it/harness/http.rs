//! A small HTTP/1.1 client that keeps its connections.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

use super::wait;

/// Sends requests; clones share the connections.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
}

/// What a server answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// No answer came: whether the request was carried out is unknown.
#[derive(Debug)]
pub(crate) struct Lost(pub(crate) String);

impl Http {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// One that opens a connection for each request and never sends it again.
    pub(crate) fn fleeting() -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_max_idle_per_host(0)
            .retry_canceled_requests(false);
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            client: builder.build(connector),
        }
    }

    /// Sends one request and reads the whole answer.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Lost> {
        let what = format!("{} {}", request.method(), request.uri());
        let lost = |error: &dyn std::error::Error| {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            Lost(format!("{what}: {error}: {cause}"))
        };
        let exchange = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|error| lost(&error))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| lost(&error))?;
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: body.to_bytes(),
            })
        };
        wait::bounded(&what, exchange).await
    }
}

impl Answer {
    /// What stands on a connection until its end.
    ///
    /// # Panics
    /// When it is not one whole answer of HTTP/1.1 with a Content-Length.
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 "))
            .and_then(|line| line.get(..3)?.parse().ok());
        let headers = lines.filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.parse().ok()?, value.parse().ok()?))
        });
        let answer = Self {
            status: status.unwrap_or_else(|| panic!("no answer: {text:?}")),
            headers: headers.collect::<HeaderMap>(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        let length = answer.header("content-length").parse();
        assert_eq!(length, Ok(body.len()), "cut short: {text:?}");
        answer
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("the body is not JSON: {self}"))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's text; empty when it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).map(|value| value.to_str());
        value
            .unwrap_or(Ok(""))
            .expect("a header of ours is visible ASCII")
    }

    /// Asserts the status and gives the answer back.
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "unexpected answer: {self}");
        self
    }

    /// Asserts that this is a problem of `status` with the stable word `code`, whole and silent
    /// about the inside.
    pub(crate) fn expect_problem(self, status: u16, code: &str) -> Self {
        self.expect(status).expect_problem_of(code)
    }

    /// The same, of whatever status.
    pub(crate) fn expect_problem_of(self, code: &str) -> Self {
        let answer = self;
        let status = answer.status.as_u16();
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{answer}");
        assert_eq!(problem["status"], status, "{answer}");
        assert_eq!(problem["error"], problem["title"], "{answer}");
        assert_eq!(problem["message"], problem["detail"], "{answer}");
        for member in ["type", "title", "detail", "instance"] {
            assert!(problem[member].is_string(), "no {member}: {answer}");
        }
        answer
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} {}", self.status, self.text())
    }
}
