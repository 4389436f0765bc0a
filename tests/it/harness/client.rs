//! A client of the API, who writes down what it was told.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode, header::HeaderMap};
use jatis_shared::ids::{MessageId, TenantId};
use serde_json::{Value, json, value::RawValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    http::{Answer, Http, Lost},
    oracle::Oracle,
    scrape::Scrape,
    wait,
};

/// Speaks to one supervisor with one token. Clones share the connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: Http,
    address: SocketAddr,
    token: String,
    oracle: Arc<Oracle>,
}

/// A request whose body has not been sent yet.
#[derive(Debug)]
pub(crate) struct HeldBack {
    stream: TcpStream,
    body: String,
}

impl HeldBack {
    /// Sends the body; the answer.
    pub(crate) async fn send(mut self) -> Answer {
        let exchange = async {
            self.stream.write_all(self.body.as_bytes()).await?;
            let mut answer = String::new();
            self.stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = wait::bounded("the answer to a body that was held back", exchange).await;
        Answer::parse(&answer.expect("the connection is closed in order"))
    }
}

/// What became of a message, as its sender was told.
#[derive(Debug)]
pub(crate) enum Posted {
    /// 201: committed.
    Stored(MessageId),
    /// 202: confirmed by the broker.
    Queued(MessageId),
    /// Any other answer.
    Refused(Answer),
    /// No answer.
    Lost(String),
}

impl Posted {
    /// The id of a message that was taken.
    ///
    /// # Panics
    /// When it was not.
    pub(crate) fn taken(self) -> MessageId {
        match self {
            Self::Stored(id) | Self::Queued(id) => id,
            Self::Refused(answer) => panic!("the message was refused: {answer}"),
            Self::Lost(error) => panic!("the request was lost: {error}"),
        }
    }

    /// Whether it was taken.
    pub(crate) const fn is_taken(&self) -> bool {
        matches!(self, Self::Stored(_) | Self::Queued(_))
    }

    /// The id of a message that was answered 201.
    ///
    /// # Panics
    /// When it was answered otherwise.
    pub(crate) fn stored(self) -> MessageId {
        match self {
            Self::Stored(id) => id,
            Self::Queued(id) => panic!("message {id} was answered 202, not 201"),
            Self::Refused(answer) => panic!("the message was refused: {answer}"),
            Self::Lost(error) => panic!("the request was lost: {error}"),
        }
    }
}

/// The order of a list of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Asc,
    Desc,
}

impl Order {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Asc => "asc",
            Self::Desc => "desc",
        }
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr, token: String, oracle: Arc<Oracle>) -> Self {
        Self {
            http: Http::new(),
            address,
            token,
            oracle,
        }
    }

    /// The same client with another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// The same client with a connection for each request, none of which it sends again.
    pub(crate) fn fleeting(&self) -> Self {
        Self {
            http: Http::fleeting(),
            ..self.clone()
        }
    }

    /// Where it speaks to, `http://host:port`.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    // ------------------------------------------------------------------------ plain requests

    /// Sends a request as it is, with `headers` over the usual ones; an empty value leaves the
    /// usual one out.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Lost> {
        let bearer = format!("Bearer {}", self.token);
        let mut all = HeaderMap::new();
        let usual = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        for (name, value) in usual.iter().chain(headers) {
            all.remove(*name);
            if !value.is_empty() {
                let value = value.parse().expect("the tests send valid headers");
                all.insert(*name, value);
            }
        }
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base()));
        *request.headers_mut().expect("the request is valid so far") = all;
        let request = request.body(Full::new(body.into()));
        self.http
            .send(request.expect("the tests send valid requests"))
            .await
    }

    /// Sends a request with a JSON body and expects an answer.
    pub(crate) async fn call(&self, method: Method, path: &str, body: &Value) -> Answer {
        let answer = self.send(method, path, &[], body.to_string()).await;
        answer.unwrap_or_else(|Lost(error)| panic!("no answer: {error}"))
    }

    /// Sends a request without a body and expects an answer.
    pub(crate) async fn ask(&self, method: Method, path: &str) -> Answer {
        let answer = self.send(method, path, &[("content-type", "")], "").await;
        answer.unwrap_or_else(|Lost(error)| panic!("no answer: {error}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path).await
    }

    /// Sends a request whose answer nobody reads; the client leaves when this is dropped.
    pub(crate) async fn begin(&self, method: Method, path: &str, body: &Value) -> TcpStream {
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        );
        let sending = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(request.as_bytes()).await?;
            std::io::Result::Ok(stream)
        };
        let sent = wait::bounded("a request is sent", sending).await;
        sent.expect("the API takes connections")
    }

    /// Announces a body of JSON and never sends it; what is answered all the same, before the
    /// connection is closed.
    pub(crate) async fn announce(&self, path: &str, body_bytes: usize) -> Answer {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {body_bytes}\r\n\r\n",
            self.address, self.token
        );
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(head.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = wait::bounded("the answer to an announced body", exchange).await;
        Answer::parse(&answer.expect("the connection is closed in order"))
    }

    /// Begins requests with a body of JSON, which the server is ready to read when this returns.
    pub(crate) async fn hold_back(&self, method: Method, path: &str, body: &Value) -> HeldBack {
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\
             Expect: 100-continue\r\nConnection: close\r\n\r\n",
            self.address,
            self.token,
            body.len()
        );
        let sending = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(head.as_bytes()).await?;
            let mut go_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
            stream.read_exact(&mut go_on).await?;
            assert!(go_on.starts_with(b"HTTP/1.1 100 "), "{go_on:?}");
            std::io::Result::Ok(stream)
        };
        let stream = wait::bounded("the server reads the body", sending).await;
        HeldBack {
            stream: stream.expect("the API takes connections"),
            body,
        }
    }

    // ------------------------------------------------------------------------ tenants

    /// Creates a tenant and waits until its worker consumes.
    pub(crate) async fn create_tenant(&self, body: Value) -> TenantId {
        let tenant = self.create_only(body).await;
        self.running(tenant).await;
        tenant
    }

    /// Creates a tenant; its worker may not consume yet.
    pub(crate) async fn create_only(&self, body: Value) -> TenantId {
        let answer = self.call(Method::POST, "/api/v1/tenants", &body).await;
        let tenant = tenant_id(&answer.expect(201).json());
        self.oracle.created_again(tenant);
        tenant
    }

    /// Creates tenants named `a`, `b`, … one after the other.
    pub(crate) async fn create_tenants<const COUNT: usize>(&self) -> [TenantId; COUNT] {
        let mut tenants = Vec::with_capacity(COUNT);
        for name in ('a'..='z').take(COUNT) {
            tenants.push(self.create_tenant(json!({"name": name.to_string()})).await);
        }
        tenants.try_into().expect("there are fewer than 27")
    }

    /// A tenant as the API shows it.
    pub(crate) async fn tenant(&self, tenant: TenantId) -> Value {
        let path = format!("/api/v1/tenants/{tenant}");
        self.get(&path).await.expect(200).json()
    }

    /// Waits until a tenant's worker consumes, and shows the tenant.
    pub(crate) async fn running(&self, tenant: TenantId) -> Value {
        wait::until("the tenant is running", async || {
            let shown = self.tenant(tenant).await;
            if shown["status"] == "running" {
                Ok(shown)
            } else {
                Err(shown.to_string())
            }
        })
        .await
    }

    /// Waits until a tenant has a status, and shows the tenant.
    pub(crate) async fn with_status(&self, tenant: TenantId, status: &str) -> Value {
        let what = format!("the tenant is {status}");
        wait::until(&what, async || {
            let shown = self.tenant(tenant).await;
            if shown["status"] == status {
                Ok(shown)
            } else {
                Err(shown.to_string())
            }
        })
        .await
    }

    /// Pauses a tenant; it is paused when this returns.
    pub(crate) async fn pause(&self, tenant: TenantId) {
        self.change(tenant, "pause", "paused").await;
    }

    /// Resumes a tenant; it is running when this returns.
    pub(crate) async fn resume(&self, tenant: TenantId) {
        self.change(tenant, "resume", "running").await;
    }

    async fn change(&self, tenant: TenantId, verb: &str, status: &str) {
        let path = format!("/api/v1/tenants/{tenant}/{verb}");
        let shown = self.ask(Method::POST, &path).await.expect(200).json();
        assert_eq!(tenant_id(&shown), tenant);
        // On a slow machine the worker may follow after the answer.
        self.with_status(tenant, status).await;
    }

    /// Gives a tenant another number of pool threads; how many have been applied.
    pub(crate) async fn resize(&self, tenant: TenantId, workers: u16) -> u64 {
        let path = format!("/api/v1/tenants/{tenant}/config/concurrency");
        let answer = self
            .call(Method::PUT, &path, &json!({"workers": workers}))
            .await
            .expect(200)
            .json();
        assert_eq!(answer["message"], "Concurrency updated successfully");
        let data = &answer["data"];
        assert_eq!(data["tenant_id"], tenant.to_string());
        assert_eq!(data["workers"], workers);
        data["applied_workers"]
            .as_u64()
            .expect("applied_workers is a number")
    }

    /// Deletes a tenant with all its messages; what the answer tells of them.
    pub(crate) async fn delete_tenant(&self, tenant: TenantId) -> Value {
        let path = format!("/api/v1/tenants/{tenant}");
        let answer = self.ask(Method::DELETE, &path).await.expect(200).json();
        assert_eq!(answer["message"], "Tenant deleted successfully");
        assert_eq!(answer["data"]["tenant_id"], tenant.to_string());
        self.oracle.deleted(tenant);
        answer["data"].clone()
    }

    /// Deletes every tenant there is, by whomever it was made.
    pub(crate) async fn delete_all_tenants(&self) {
        let tenants = self.get("/api/v1/tenants?limit=1000").await.expect(200);
        let tenants = tenants.json();
        for tenant in tenants.as_array().expect("a list of tenants") {
            self.delete_tenant(tenant_id(tenant)).await;
        }
    }

    /// Orders a tenant deleted once what is queued is stored; the answer as it is.
    pub(crate) async fn drain_tenant(&self, tenant: TenantId) -> Result<Answer, Lost> {
        let path = format!("/api/v1/tenants/{tenant}?drain=true");
        let headers = [("content-type", "")];
        self.send(Method::DELETE, &path, &headers, "").await
    }

    /// Waits until a tenant that is being deleted is gone for clients; the ids that were promised
    /// to be stored for it.
    pub(crate) async fn gone(&self, tenant: TenantId) -> BTreeSet<MessageId> {
        let path = format!("/api/v1/tenants/{tenant}");
        wait::until("the tenant is gone", async || {
            let shown = self.get(&path).await;
            if shown.status == StatusCode::NOT_FOUND {
                Ok(())
            } else {
                Err(shown.to_string())
            }
        })
        .await;
        let promised = self.oracle.promised_to(tenant);
        self.oracle.deleted(tenant);
        promised
    }

    // ------------------------------------------------------------------------ messages

    /// Posts a message and writes down what came of it.
    pub(crate) async fn post(&self, tenant: TenantId, payload: &Value) -> Posted {
        match self.try_post(tenant, &payload.to_string(), &[]).await {
            Ok((_, posted)) => posted,
            Err(Lost(error)) => Posted::Lost(error),
        }
    }

    /// Posts a payload, which is JSON as it stands here, with further headers; the answer as well.
    pub(crate) async fn post_as(
        &self,
        tenant: TenantId,
        payload: &str,
        headers: &[(&'static str, &str)],
    ) -> (Answer, Posted) {
        let posted = self.try_post(tenant, payload, headers).await;
        posted.unwrap_or_else(|Lost(error)| panic!("no answer: {error}"))
    }

    async fn try_post(
        &self,
        tenant: TenantId,
        payload: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Answer, Posted), Lost> {
        let path = format!("/api/v1/messages/{tenant}");
        self.try_post_at(&path, tenant, payload, headers).await
    }

    /// Posts a payload at another path of the API.
    pub(crate) async fn post_at(
        &self,
        path: &str,
        tenant: TenantId,
        payload: &str,
    ) -> (Answer, Posted) {
        let posted = self.try_post_at(path, tenant, payload, &[]).await;
        posted.unwrap_or_else(|Lost(error)| panic!("no answer: {error}"))
    }

    async fn try_post_at(
        &self,
        path: &str,
        tenant: TenantId,
        payload: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Answer, Posted), Lost> {
        let sending = self.oracle.sending(tenant, payload.as_bytes());
        let body = format!("{{\"payload\": {payload}}}");
        let answer = self.send(Method::POST, path, headers, body).await?;
        let posted = match answer.status {
            StatusCode::CREATED => {
                let id = posted_id(&answer, tenant, "stored");
                sending.answered(id);
                Posted::Stored(id)
            }
            StatusCode::ACCEPTED => {
                let id = posted_id(&answer, tenant, "queued");
                sending.answered(id);
                Posted::Queued(id)
            }
            _ if leaves_open(&answer) => Posted::Refused(answer.clone()),
            _ => {
                sending.refused();
                Posted::Refused(answer.clone())
            }
        };
        Ok((answer, posted))
    }

    /// Deletes a message that is stored, if nobody is faster, and writes it down.
    pub(crate) async fn delete(&self, tenant: TenantId, message: MessageId) -> Answer {
        let path = format!("/api/v1/messages/{message}?tenant_id={tenant}");
        let before = self.get(&path).await;
        let answer = self.ask(Method::DELETE, &path).await;
        if answer.status == StatusCode::OK {
            let payload = before.expect(200).json()["payload"].to_string();
            self.oracle.erased(tenant, message, payload.as_bytes());
        }
        answer
    }

    /// Writes down that a message was deleted otherwise.
    pub(crate) fn erased(&self, tenant: TenantId, message: MessageId, payload: &Value) {
        let payload = payload.to_string();
        self.oracle.erased(tenant, message, payload.as_bytes());
    }

    /// A tenant's statistics.
    pub(crate) async fn statistics(&self, tenant: TenantId) -> Value {
        let path = format!("/api/v1/stats/tenants/{tenant}/messages");
        self.get(&path).await.expect(200).json()
    }

    /// Posts so many messages, none of which is stored before it is answered.
    pub(crate) async fn post_queued(&self, tenant: TenantId, count: u64) {
        for n in 0..count {
            let posted = self.post(tenant, &json!({"queued": n})).await;
            assert!(matches!(posted, Posted::Queued(_)), "{posted:?}");
        }
    }

    /// A message as the API shows it, once it is stored.
    pub(crate) async fn message(&self, tenant: TenantId, message: MessageId) -> Value {
        let path = format!("/api/v1/messages/{message}?tenant_id={tenant}");
        self.get(&path).await.expect(200).json()
    }

    /// One page of a tenant's messages. `cursor` is empty for the first.
    pub(crate) async fn page(
        &self,
        tenant: TenantId,
        order: Order,
        limit: u16,
        cursor: &str,
    ) -> Value {
        let order = order.word();
        let mut path = format!("/api/v1/messages?tenant_id={tenant}&order={order}&limit={limit}");
        if !cursor.is_empty() {
            path = format!("{path}&cursor={cursor}");
        }
        self.get(&path).await.expect(200).json()
    }

    /// Everything `GET /metrics` shows.
    pub(crate) async fn scrape(&self) -> Scrape {
        Scrape::parse(&self.get("/metrics").await.expect(200).text())
    }
}

/// Whether an answer says that the message was not taken, or leaves it open.
fn leaves_open(answer: &Answer) -> bool {
    const OPEN: [&str; 3] = ["publish_uncertain", "request_timeout", "internal_error"];
    let is_ours = answer.header("content-type") == "application/problem+json";
    !is_ours || OPEN.iter().any(|code| answer.json()["code"] == *code)
}

/// The id in a Tenant.
pub(crate) fn tenant_id(tenant: &Value) -> TenantId {
    let id = tenant["id"].as_str().and_then(|id| id.parse().ok());
    id.unwrap_or_else(|| panic!("not a Tenant: {tenant}"))
}

/// The id in the answer to a post, after checking the answer's form. Its payload may be more than
/// a `Value` can hold, and is left as it is.
fn posted_id(answer: &Answer, tenant: TenantId, status: &str) -> MessageId {
    let fields: BTreeMap<&str, &RawValue> = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|error| panic!("not a Message ({error}): {answer}"));
    let field = |name| {
        let text = fields.get(name).map(|value| value.get().trim_matches('"'));
        text.unwrap_or_else(|| panic!("no {name}: {answer}"))
    };
    assert_eq!(field("tenant_id"), tenant.to_string());
    assert_eq!(field("status"), status);
    let id = field("id");
    let location = answer.header("location");
    assert!(
        location.contains(&format!("/messages/{id}")),
        "Location is {location:?}"
    );
    id.parse().expect("a message's id is a UUID")
}
