//! The HTTP API: routerify's and hyper's types stop here.
//!
//! ```text
//!   server ─▶ service ─▶ router ─▶ endpoint ─▶ tenancy · messaging
//!   sockets,  limits,    built from            use cases, without a
//!   patience  deadline,  the one table         word of HTTP
//!             auth, cors in `api` ─▶ openapi
//! ```
//!
//! A request is matched, authenticated and authorised before a byte of its body is read. Every
//! refusal is a problem document ([`problem`]). Nothing here decides anything about tenants or
//! messages, and nobody else imports this room.

use std::{pin::Pin, sync::Arc};

use jatis_shared::config::Config;

use crate::{messaging::Messaging, metrics::Metrics, tenancy::Tenancy, vitals::Health};
pub use auth::{Auth, Role, TokenError, mint};
pub use server::{BindError, Server};

mod answer;
mod api;
pub mod auth;
mod cors;
mod decode;
mod endpoint;
mod example;
mod headers;
mod health;
mod message_view;
mod messages;
pub mod openapi;
pub mod ops;
mod paths;
mod patience;
mod prefer;
pub mod problem;
mod query;
mod request_id;
pub mod server;
mod service;
mod stats;
mod swagger;
mod tenant_changes;
mod tenant_list;
mod tenant_view;
mod tenants;

/// Tells how jatis is, whenever it is called. Bounds each of its checks in time, and puts nothing
/// into a text that a stranger may not read: `/health` needs no token.
pub type HealthSource = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Health> + Send>> + Send + Sync>;

/// What the endpoints work with.
pub struct App {
    pub config: Arc<Config>,
    pub tenancy: Tenancy,
    pub messaging: Messaging,
    pub metrics: Metrics,
    pub auth: Auth,
    pub health: HealthSource,
}
