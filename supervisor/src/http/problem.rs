//! Problem documents (RFC 9457): the one form of every refusal and failure.
//!
//! [`PROBLEMS`] is the one list of codes; the OpenAPI document and `docs/reference.md` are made
//! from it and checked against it. A source error goes to the log here, once, and never into an
//! answer.

use std::error::Error as StdError;

use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
};
use jatis_shared::{ids::MessageId, telemetry::Chain};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{answer::Answer, example, headers::Told, request_id::RequestId};
use crate::error::Error;

/// The media type of a problem document.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// What is fixed for a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The stable word of the field `code`; `type` is `/problems/` and this.
    pub code: &'static str,
    pub status: StatusCode,
    pub title: &'static str,
    /// What it means to who gets it, in a sentence or two.
    pub meaning: &'static str,
    /// `Retry-After`, seconds.
    pub retry_after: Option<u16>,
}

macro_rules! problems {
    ($($(#[doc = $meaning:literal])+ $name:ident = $code:literal, $status:ident, $title:literal $(, again in $seconds:literal)?;)+) => {
        /// Every kind of problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($(#[doc = $meaning])+ $name,)+
        }

        /// The table of all problems, by status.
        pub const PROBLEMS: &[Kind] = &[$(Code::$name.kind(),)+];

        impl Code {
            /// The code's row of the table.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self {
                    $(Self::$name => Kind {
                        code: $code,
                        status: StatusCode::$status,
                        title: $title,
                        meaning: concat!($($meaning),+).trim_ascii(),
                        retry_after: problems!(@seconds $($seconds)?),
                    },)+
                }
            }
        }
    };
    (@seconds) => { None };
    (@seconds $seconds:literal) => { Some($seconds) };
}

problems! {
    /// Path, query or body cannot be read as what HTTP says they are.
    MalformedRequest = "malformed_request", BAD_REQUEST, "Malformed request";
    /// The body is not well-formed JSON in UTF-8.
    MalformedJson = "malformed_json", BAD_REQUEST, "Malformed JSON";
    /// An id in the path or in the query is not a UUID in its usual form, with hyphens.
    InvalidId = "invalid_id", BAD_REQUEST, "Invalid id";
    /// The cursor is not one of this list, of this tenant and in this order.
    InvalidCursor = "invalid_cursor", BAD_REQUEST, "Invalid cursor";
    /// An administrator did not say whose messages.
    TenantRequired = "tenant_required", BAD_REQUEST, "Tenant required";
    /// There is no token, or it is not valid.
    Unauthorized = "unauthorized", UNAUTHORIZED, "Unauthorized";
    /// The token's role or scope does not allow this.
    Forbidden = "forbidden", FORBIDDEN, "Forbidden";
    /// There is nothing at this path.
    NotFound = "not_found", NOT_FOUND, "Not found";
    /// There is no such tenant, or the token is another tenant's: nobody learns which.
    TenantNotFound = "tenant_not_found", NOT_FOUND, "Tenant not found";
    /// There is no such message, any longer or of this tenant.
    MessageNotFound = "message_not_found", NOT_FOUND, "Message not found";
    /// The message is queued and not stored yet; ask again.
    MessagePending = "message_pending", NOT_FOUND, "Message not stored yet", again in 1;
    /// The path does not take this method; `Allow` tells which it takes.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "Method not allowed";
    /// The body did not arrive within `http.request_timeout`.
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT, "Request body too slow";
    /// The id is taken.
    TenantExists = "tenant_exists", CONFLICT, "Tenant exists";
    /// The tenant is being deleted and cannot be changed or made again before that is done.
    TenantDeleting = "tenant_deleting", CONFLICT, "Tenant is being deleted";
    /// The tenant is being deleted and takes no messages.
    TenantGone = "tenant_gone", GONE, "Tenant is being deleted";
    /// The body has more than `http.max_body_bytes`.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "Request body too large";
    /// The body has another `Content-Type` than the operation takes.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "Unsupported media type";
    /// Fields or parameters are unknown, missing, of a wrong type or out of bounds; `errors` names
    /// each.
    ValidationFailed = "validation_failed", UNPROCESSABLE_ENTITY, "Validation failed";
    /// The payload is JSON that PostgreSQL's `jsonb` would refuse or not give back.
    UnstorablePayload = "unstorable_payload", UNPROCESSABLE_ENTITY, "Unstorable payload";
    /// A fault of jatis or of its database; the log tells more under the id in `instance`.
    InternalError = "internal_error", INTERNAL_SERVER_ERROR, "Internal error";
    /// `rabbitmq.max_publishing` publishes are under way.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "Overloaded", again in 1;
    /// RabbitMQ does not answer or takes no messages; this one was not taken.
    BrokerUnavailable = "broker_unavailable", SERVICE_UNAVAILABLE, "Broker unavailable", again in 2;
    /// The message in `message_id` may be stored or not: its confirm never came.
    PublishUncertain = "publish_uncertain", SERVICE_UNAVAILABLE, "Publish uncertain", again in 2;
    /// PostgreSQL does not answer.
    DatabaseUnavailable = "database_unavailable", SERVICE_UNAVAILABLE, "Database unavailable", again in 2;
    /// Handling took longer than `http.request_timeout`; its outcome is unknown.
    RequestTimeout = "request_timeout", SERVICE_UNAVAILABLE, "Request timed out", again in 2;
    /// jatis has not got in charge of its database yet.
    Starting = "starting", SERVICE_UNAVAILABLE, "Starting", again in 1;
    /// Another supervisor serves this installation.
    NotInCharge = "not_in_charge", SERVICE_UNAVAILABLE, "Not in charge", again in 5;
    /// jatis is on its way down.
    ShuttingDown = "shutting_down", SERVICE_UNAVAILABLE, "Shutting down", again in 5;
    /// No further tenant can ever be created.
    TenantNumbersExhausted = "tenant_numbers_exhausted", INSUFFICIENT_STORAGE, "Tenant numbers exhausted";
}

impl Kind {
    /// The value of `type`.
    fn uri(self) -> String {
        format!("/problems/{}", self.code)
    }
}

impl Code {
    /// A header that the answer may have besides those of every answer.
    pub(crate) fn told(self) -> Option<Told> {
        if self.kind().retry_after.is_some() {
            return Some(Told::RetryAfter);
        }
        if matches!(self, Self::Unauthorized | Self::Forbidden) {
            return Some(Told::WwwAuthenticate);
        }
        (self == Self::UnsupportedMediaType).then_some(Told::AcceptPatch)
    }
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Fault")]
pub struct Fault {
    /// Where in the body, as a JSON pointer (RFC 6901); empty for the body as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub pointer: Option<String>,
    /// Which parameter of the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub parameter: Option<String>,
    /// What is wrong with it.
    pub detail: String,
}

impl Fault {
    pub(crate) fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer.into()),
            parameter: None,
            detail: detail.into(),
        }
    }

    pub(crate) fn parameter(name: &str, detail: impl Into<String>) -> Self {
        Self {
            pointer: None,
            parameter: Some(name.to_owned()),
            detail: detail.into(),
        }
    }
}

/// A refusal or failure on its way to the client.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    /// For the client: without sources, hosts, SQL and paths.
    detail: String,
    faults: Vec<Fault>,
    /// The message whose publish is uncertain.
    message: Option<MessageId>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// For the log only.
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Why a request was refused or failed (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct Document<'a> {
    /// A relative reference that names the kind of problem: `/problems/` and the code.
    r#type: String,
    /// The kind of problem in words.
    title: &'static str,
    /// The answer's status.
    status: u16,
    /// What is wrong with this request in particular.
    detail: &'a str,
    /// The request's id.
    instance: &'a str,
    /// The kind of problem as a word for programs. Its meaning stays; later versions may have more.
    code: &'static str,
    /// The title again, for older clients.
    error: &'static str,
    /// The detail again, for older clients.
    message: &'a str,
    /// What is wrong with the request, all of it.
    #[serde(default, skip_serializing_if = "<[Fault]>::is_empty")]
    errors: &'a [Fault],
    /// The message whose publish is uncertain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Uuid")]
    message_id: Option<Uuid>,
}

impl Document<'static> {
    /// What a problem of this kind looks like.
    pub(crate) fn example(code: Code) -> Self {
        let kind = code.kind();
        Self {
            r#type: kind.uri(),
            title: kind.title,
            status: kind.status.as_u16(),
            detail: kind.meaning,
            instance: "0199ae83-5b1e-7c11-a4d7-5e0f9b8c7d6a",
            code: kind.code,
            error: kind.title,
            message: kind.meaning,
            errors: &[],
            message_id: (code == Code::PublishUncertain).then(|| example::message().uuid()),
        }
    }
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            faults: Vec::new(),
            message: None,
            headers: Vec::new(),
            source: None,
        }
    }

    /// 422 with these faults, at least one.
    pub(crate) fn invalid(faults: Vec<Fault>) -> Self {
        let detail = match faults.as_slice() {
            [fault] => fault.detail.clone(),
            faults => format!("the request has {} faults", faults.len()),
        };
        Self {
            faults,
            ..Self::new(Code::ValidationFailed, detail)
        }
    }

    /// A bug of ours.
    pub(crate) fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            source: Some(source.into()),
            ..Self::new(
                Code::InternalError,
                "the request failed for a reason of ours; the log tells it by the request's id",
            )
        }
    }

    /// The problem with one fault named.
    pub(crate) fn with_fault(self, fault: Fault) -> Self {
        Self {
            faults: vec![fault],
            ..self
        }
    }

    pub(crate) fn with_header(self, name: HeaderName, value: HeaderValue) -> Self {
        Self {
            headers: vec![(name, value)],
            ..self
        }
    }

    #[cfg(test)]
    pub(crate) const fn code(&self) -> Code {
        self.code
    }

    #[cfg(test)]
    pub(crate) fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Logs what an operator must know, and gives the answer.
    pub(crate) fn into_answer(self, request: &RequestId) -> Answer {
        let kind = self.code.kind();
        self.log(kind);
        let document = Document {
            r#type: kind.uri(),
            title: kind.title,
            status: kind.status.as_u16(),
            detail: &self.detail,
            instance: request.as_str(),
            code: kind.code,
            error: kind.title,
            message: &self.detail,
            errors: &self.faults,
            message_id: self.message.map(MessageId::uuid),
        };
        // Strings, numbers and string keys always serialise.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut answer = Response::new(body.into());
        *answer.status_mut() = kind.status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(seconds) = kind.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        headers.extend(
            self.headers
                .into_iter()
                .map(|(name, value)| (Some(name), value)),
        );
        answer
    }

    /// Our own bug is an ERROR, an unknown outcome a WARN. An outage is logged once, by whoever keeps
    /// the connection, and not for each request; a client's mistake is nobody's concern.
    fn log(&self, kind: Kind) {
        let cause = self
            .source
            .as_deref()
            .map_or_else(|| self.detail.clone(), |source| Chain(source).to_string());
        let code = kind.code;
        match self.code {
            Code::InternalError | Code::TenantNumbersExhausted => {
                tracing::error!(code, "a request failed: {cause}");
            }
            Code::PublishUncertain | Code::RequestTimeout => {
                tracing::warn!(code, "the outcome of a request is not known: {cause}");
            }
            Code::BrokerUnavailable
            | Code::DatabaseUnavailable
            | Code::Overloaded
            | Code::Starting
            | Code::NotInCharge
            | Code::ShuttingDown
            | Code::MalformedRequest
            | Code::MalformedJson
            | Code::InvalidId
            | Code::InvalidCursor
            | Code::TenantRequired
            | Code::Unauthorized
            | Code::Forbidden
            | Code::NotFound
            | Code::TenantNotFound
            | Code::MessageNotFound
            | Code::MessagePending
            | Code::MethodNotAllowed
            | Code::BodyTimeout
            | Code::TenantExists
            | Code::TenantDeleting
            | Code::TenantGone
            | Code::BodyTooLarge
            | Code::UnsupportedMediaType
            | Code::ValidationFailed
            | Code::UnstorablePayload => {
                tracing::debug!(code, "a request was refused: {cause}");
            }
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (code, detail) = match &error {
            Error::TenantNotFound(_) => (Code::TenantNotFound, error.to_string()),
            Error::TenantExists(_) => (Code::TenantExists, error.to_string()),
            Error::TenantDeleting(_) => (Code::TenantDeleting, error.to_string()),
            Error::TenantGone(_) => (Code::TenantGone, error.to_string()),
            Error::TenantNumbersExhausted => (Code::TenantNumbersExhausted, error.to_string()),
            Error::MessageNotFound(_) => (Code::MessageNotFound, error.to_string()),
            Error::MessagePending(_) => (Code::MessagePending, error.to_string()),
            Error::Overloaded => (Code::Overloaded, error.to_string()),
            Error::BrokerUnavailable(_) => (Code::BrokerUnavailable, error.to_string()),
            Error::PublishUncertain { .. } => (Code::PublishUncertain, error.to_string()),
            Error::DatabaseUnavailable(_) => (Code::DatabaseUnavailable, error.to_string()),
            // Its own text names a host.
            Error::NotInCharge(_) => (
                Code::NotInCharge,
                "another supervisor serves this installation".to_owned(),
            ),
            Error::Starting => (Code::Starting, error.to_string()),
            Error::Internal(_) => (Code::InternalError, error.to_string()),
            Error::ShuttingDown => (Code::ShuttingDown, error.to_string()),
        };
        let message = if let Error::PublishUncertain { id, .. } = &error {
            Some(*id)
        } else {
            None
        };
        Self {
            message,
            source: Some(error.into()),
            ..Self::new(code, detail)
        }
    }
}

#[cfg(test)]
#[path = "problem_tests.rs"]
mod tests;
