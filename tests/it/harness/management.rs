//! RabbitMQ's management API, as far as the tests need it: virtual hosts and who is connected.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::{Value, json};

use super::{
    http::{Answer, Http},
    url::ServerUrl,
};

/// The management API of the broker under test.
#[derive(Debug)]
pub(crate) struct Management {
    http: Http,
    server: ServerUrl,
}

impl Management {
    pub(crate) fn new(server: ServerUrl) -> Self {
        Self {
            http: Http::new(),
            server,
        }
    }

    /// Makes a virtual host in which the tests' user may do everything.
    pub(crate) async fn create_vhost(&self, vhost: &str) {
        self.call(Method::PUT, &format!("vhosts/{vhost}"), &json!({}))
            .await;
        let user = self.server.user();
        let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
        self.call(
            Method::PUT,
            &format!("permissions/{vhost}/{user}"),
            &everything,
        )
        .await;
    }

    /// Removes a virtual host with all that is in it.
    pub(crate) async fn delete_vhost(&self, vhost: &str) {
        self.call(Method::DELETE, &format!("vhosts/{vhost}"), &Value::Null)
            .await;
    }

    /// Open connections to a virtual host.
    pub(crate) async fn connections(&self, vhost: &str) -> usize {
        self.list(vhost).await.len()
    }

    /// Whether each open connection to a virtual host is in TLS: as the broker says, or, where its
    /// statistics are switched off, as the port tells that it has come to.
    pub(crate) async fn in_tls(&self, vhost: &str, tls_port: u16) -> Vec<bool> {
        // A name is "host:port -> host:port".
        let port = |connection: &Value| -> u16 {
            let name = connection["name"].as_str().unwrap_or_default();
            let port = name.rsplit(':').next().and_then(|port| port.parse().ok());
            port.unwrap_or_else(|| panic!("no port in {connection}"))
        };
        let is_in_tls = |connection: &Value| {
            let said = connection["ssl"].as_bool();
            said.unwrap_or_else(|| port(connection) == tls_port)
        };
        self.list(vhost).await.iter().map(is_in_tls).collect()
    }

    async fn list(&self, vhost: &str) -> Vec<Value> {
        // The list of one virtual host is empty on a broker whose statistics are switched off.
        let answer = self.call(Method::GET, "connections", &Value::Null).await;
        let connections = answer.json();
        let of_vhost = |connection: &&Value| connection["vhost"] == vhost;
        let connections = connections.as_array().map_or(&[][..], Vec::as_slice);
        connections.iter().filter(of_vhost).cloned().collect()
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let credentials = BASE64_STANDARD.encode(self.server.credentials());
        let request = Request::builder()
            .method(method)
            .uri(self.server.bare(&format!("api/{path}")))
            .header("authorization", format!("Basic {credentials}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("the parts of the request are valid");
        let answer = self.http.send(request).await;
        let answer = answer.expect("the management API answers");
        assert!(answer.status.is_success(), "{path}: {answer}");
        answer
    }
}
