//! A client of jatis's API, with an administrator's token.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, Uri, header::HeaderValue};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jatis_shared::ids::{MessageId, TenantId};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, interval, timeout};

/// Longest wait for an answer; longer than jatis itself lets a request take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait for jatis to be ready.
const READY_WITHIN: Duration = Duration::from_secs(120);
const READY_PULSE: Duration = Duration::from_millis(100);

/// Speaks to one jatis. Clones share the connections.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    bearer: HeaderValue,
}

/// What a message was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Posted {
    /// 201: it is in its table.
    Stored(MessageId),
    /// 202: it is in its queue.
    Queued(MessageId),
    /// Anything else, or nothing: it may or may not be stored.
    Failed,
}

/// A tenant that was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    pub(crate) tenant: TenantId,
    /// Its worker consumes already.
    pub(crate) is_running: bool,
}

/// What a deletion was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deleted {
    /// 200: its worker and queues are gone.
    Done,
    /// 202: they will be.
    UnderWay,
}

#[derive(Deserialize)]
struct TenantAnswer {
    id: TenantId,
    status: String,
}

#[derive(Deserialize)]
struct MessageAnswer {
    id: MessageId,
}

impl Api {
    /// `base` is `http://host:port`.
    ///
    /// # Errors
    /// When it is not, or the token cannot stand in a header.
    pub(crate) fn new(base: &str, token: &str) -> Result<Self> {
        let base = base.trim_end_matches('/').to_owned();
        let uri: Uri = base.parse().context("the API's address is not a URL")?;
        ensure!(
            uri.scheme_str() == Some("http") && uri.host().is_some(),
            "the API's address must be http://host:port"
        );
        let mut bearer: HeaderValue = format!("Bearer {token}")
            .parse()
            .context("the token cannot stand in a header")?;
        bearer.set_sensitive(true);
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            base,
            bearer,
        })
    }

    /// Waits until jatis serves.
    ///
    /// # Errors
    /// When it does not in time.
    pub(crate) async fn ready(&self) -> Result<()> {
        let mut pulse = interval(READY_PULSE);
        let ready = async {
            loop {
                pulse.tick().await;
                let answer = self.send(Method::GET, "/health/ready", Bytes::new()).await;
                if answer.is_ok_and(|(status, _)| status == StatusCode::OK) {
                    return;
                }
            }
        };
        timeout(READY_WITHIN, ready)
            .await
            .with_context(|| format!("no jatis is ready at {}", self.base))
    }

    /// Makes a tenant; how long the answer took.
    ///
    /// # Errors
    /// When it was not made.
    pub(crate) async fn create(&self, name: &str) -> Result<(Made, Duration)> {
        let body = json!({ "name": name }).to_string();
        let asked = Instant::now();
        let answer = self.send(Method::POST, "/api/v1/tenants", body.into());
        let (status, body) = answer.await?;
        let took = asked.elapsed();
        ensure!(
            status == StatusCode::CREATED,
            "creating a tenant was answered {status} {}",
            String::from_utf8_lossy(&body)
        );
        let TenantAnswer { id, status } =
            serde_json::from_slice(&body).context("a tenant that cannot be read")?;
        let made = Made {
            tenant: id,
            is_running: status == "running",
        };
        Ok((made, took))
    }

    /// Deletes a tenant; how long the answer took.
    ///
    /// # Errors
    /// When it is not deleted.
    pub(crate) async fn delete(&self, tenant: TenantId) -> Result<(Deleted, Duration)> {
        let path = format!("/api/v1/tenants/{tenant}");
        let asked = Instant::now();
        let (status, body) = self.send(Method::DELETE, &path, Bytes::new()).await?;
        let took = asked.elapsed();
        let deleted = match status {
            StatusCode::OK => Deleted::Done,
            StatusCode::ACCEPTED => Deleted::UnderWay,
            status => bail!(
                "deleting a tenant was answered {status} {}",
                String::from_utf8_lossy(&body)
            ),
        };
        Ok((deleted, took))
    }

    /// Posts a message.
    pub(crate) async fn post(&self, tenant: TenantId, body: Bytes) -> Posted {
        let path = format!("/api/v1/messages/{tenant}");
        match self.try_post(&path, body).await {
            Ok(posted) => posted,
            Err(_) => Posted::Failed,
        }
    }

    async fn try_post(&self, path: &str, body: Bytes) -> Result<Posted> {
        let (status, body) = self.send(Method::POST, path, body).await?;
        let posted = match status {
            StatusCode::CREATED => Posted::Stored,
            StatusCode::ACCEPTED => Posted::Queued,
            status => bail!("a message was answered {status}"),
        };
        let MessageAnswer { id } = serde_json::from_slice(&body)?;
        Ok(posted(id))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes)> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", &self.bearer);
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(body))?;
        let exchange = async {
            let (head, body) = self.client.request(request).await?.into_parts();
            Ok((head.status, body.collect().await?.to_bytes()))
        };
        timeout(PATIENCE, exchange)
            .await
            .with_context(|| format!("no answer within {PATIENCE:?} from {path}"))?
    }
}
