//! What the end-to-end tests share.
//!
//! ```text
//!   test ──▶ Stack ──▶ Supervisor ──▶ jatis serve ──▶ jatis-worker …
//!              ├─ Client ── HTTP ───────▲                │
//!              ├─ Broker ── AMQP ──▶ RabbitMQ ◀─ Proxy? ─┤
//!              ├─ Database ─ SQL ──▶ PostgreSQL ◀ Proxy? ┘
//!              └─ Oracle: what the client was told, compared at the end with what is stored
//! ```
//!
//! Waiting is done in `wait` and nowhere else. Failures panic with what was seen; a stack that
//! goes down with its test prints the end of its supervisor's log.

pub(crate) mod beds;
mod bench;
mod blueprint;
mod broker;
pub(crate) mod claim;
mod client;
mod contract;
mod counts;
mod database;
mod deliveries;
mod environment;
mod frames;
mod http;
mod leaving;
mod load;
mod log;
mod management;
pub(crate) mod manager;
pub(crate) mod markdown;
mod meddling;
mod oracle;
pub(crate) mod processes;
mod proxy;
mod publications;
mod redelivery;
mod schema;
mod scrape;
mod shell;
mod stack;
mod supervisor;
mod tls;
mod url;
pub(crate) mod wait;

pub(crate) use blueprint::Blueprint;
pub(crate) use client::{Client, Order, Posted};
pub(crate) use contract::{Call, Contract, problems_of};
pub(crate) use database::Database;
pub(crate) use http::{Answer, Lost};
pub(crate) use load::Load;
pub(crate) use shell::{Paste, Pasted};
pub(crate) use stack::Stack;
pub(crate) use supervisor::Ran;
pub(crate) use tls::ca_file;
