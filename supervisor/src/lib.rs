//! The supervisor of jatis: it serves the API, forks one worker per tenant, and keeps what runs
//! equal to what is wanted.
//!
//! ```text
//!   http ──▶ tenancy · messaging ──▶ fleet · broker · store
//! ```
//!
//! Arrows are the only dependencies: fleet, broker and store do not know each other, and nobody
//! imports http. The supervisor carries payloads and never interprets them.

pub mod admin;
pub mod broker;
pub mod chronicle;
pub mod cli;
pub mod directory;
pub mod error;
pub mod fleet;
pub mod http;
pub mod manager;
pub mod messaging;
pub mod metrics;
pub mod random;
pub mod reign;
pub mod signals;
pub mod stage;
pub mod store;
pub mod sweeper;
pub mod tenancy;
pub mod upgrade;
pub mod vitals;

#[cfg(test)]
#[path = "../../docs/reference.rs"]
mod reference;
#[cfg(test)]
mod reference_tests;
