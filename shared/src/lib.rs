//! What supervisor and worker share: the vocabulary of jatis.
//!
//! Names, layouts, arithmetic and wire formats that both programs must agree on. Nothing here
//! performs I/O (but for setting up the log), starts a task or reads the clock; whoever decides
//! passes `now` in.

pub mod admin;
pub mod authorities;
pub mod config;
pub mod control;
pub mod counts;
pub mod envelope;
pub mod exit;
pub mod frames;
pub mod ids;
pub mod payload;
pub mod retry;
pub mod schema;
pub mod secret;
pub mod telemetry;
pub mod topology;

#[cfg(test)]
#[path = "../../docs/reference.rs"]
mod reference;
#[cfg(test)]
mod reference_tests;
