//! How both programs reach their servers, so that neither does it worse than the other.
//!
//! Connecting only: what is done with a connection, and when to try again, is for those who own
//! it. This is the one crate below the two programs that performs I/O.

pub mod amqp;
pub mod postgres;
pub mod tls;

#[cfg(test)]
mod tls_server;
