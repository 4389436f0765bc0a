//! The promises of jatis, proved from outside: real binaries, real PostgreSQL, real RabbitMQ.
//!
//! One promise per file; `harness` holds what they share. Every test starts a [`harness::Stack`]
//! of its own (database, virtual host, supervisor) and ends with `stack.finish()`, which compares
//! what the client was told with what is stored. Run them with `make test`, which provides the
//! servers; `EXPECTED` says how many tests there are.

#[cfg(test)]
mod admin_socket;
#[cfg(test)]
mod api_contract;
#[cfg(test)]
mod authentication;
#[cfg(test)]
mod benchmark;
#[cfg(test)]
mod broker_channels;
#[cfg(test)]
mod coalescing;
#[cfg(test)]
mod connection_budget;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod contract_outages;
#[cfg(test)]
mod create_delete;
#[cfg(test)]
mod deleted_message;
#[cfg(test)]
mod document_words;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod drained_deletion;
#[cfg(test)]
mod first_release;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod janitor;
#[cfg(test)]
mod json_traps;
#[cfg(test)]
mod killed_supervisor;
#[cfg(test)]
mod killed_worker;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod migrate;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod paused_tenant;
#[cfg(test)]
mod poison;
#[cfg(test)]
mod poison_guard;
#[cfg(test)]
mod prefer;
#[cfg(test)]
mod published_by_amqp;
#[cfg(test)]
mod publisher_connections;
#[cfg(test)]
mod quarantine;
#[cfg(test)]
mod redelivered;
#[cfg(test)]
mod resize;
#[cfg(test)]
mod second_supervisor;
#[cfg(test)]
mod service_manager;
#[cfg(test)]
mod signals;
#[cfg(test)]
mod statistics;
#[cfg(test)]
mod swagger;
#[cfg(test)]
mod sweeps;
#[cfg(test)]
mod tenant_changes;
#[cfg(test)]
mod tenant_list;
#[cfg(test)]
mod terminated_supervisor;
#[cfg(test)]
mod throughput;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod upgrade;
#[cfg(test)]
mod welcome;
#[cfg(test)]
mod worker_processes;
