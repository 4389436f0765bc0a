//! The promises of jatis, proved from outside: real binaries, real PostgreSQL, real RabbitMQ.
//!
//! One promise per file; `harness` holds what they share. Every test starts a [`harness::Stack`]
//! of its own (database, virtual host, supervisor) and ends with `stack.finish()`, which compares
//! what the client was told with what is stored. Run them with `make test`, which provides the
//! servers; `EXPECTED` says how many tests there are.

#[cfg(test)]
mod api_contract;
#[cfg(test)]
mod authentication;
#[cfg(test)]
mod create_delete;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod killed_supervisor;
#[cfg(test)]
mod killed_worker;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod poison;
#[cfg(test)]
mod published_by_amqp;
#[cfg(test)]
mod resize;
#[cfg(test)]
mod second_supervisor;
#[cfg(test)]
mod terminated_supervisor;
#[cfg(test)]
mod throughput;
#[cfg(test)]
mod welcome;
#[cfg(test)]
mod worker_processes;
