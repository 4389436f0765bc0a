//! What of a tenant's waiting requests goes to the broker next, and together.
//!
//! Nothing is held back to collect more: what goes together is what has come while the parcel
//! before was under way. Every request that comes in goes out, in its order, or is answered here.

use jatis_shared::config::RabbitMq;
use tokio::{sync::mpsc, time::Instant};

use super::{
    BrokerError, PublishError,
    parcel::{Parcel, Request},
};

/// How much goes together, and how much may be under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing {
    /// Most messages of a parcel.
    pub(super) messages: usize,
    /// Most bytes of a parcel of several messages.
    pub(super) bytes: usize,
    /// Most parcels of a tenant that await their confirm.
    pub(super) parcels_under_way: usize,
}

impl Packing {
    pub(super) fn of(config: &RabbitMq) -> Self {
        if config.coalesce {
            Self {
                messages: usize::from(config.coalesce_messages),
                bytes: usize::try_from(config.coalesce_bytes).unwrap_or(usize::MAX),
                parcels_under_way: 1,
            }
        } else {
            Self {
                messages: 1,
                bytes: 0,
                parcels_under_way: usize::MAX,
            }
        }
    }
}

/// The requests of one tenant that wait, in the order they came.
pub(super) struct Packer {
    packing: Packing,
    /// Holds all requests there may be: it is never full.
    incoming: mpsc::Receiver<Request>,
    /// The next one, when it was too large for the parcel before.
    held: Option<Request>,
}

impl Packer {
    pub(super) const fn new(packing: Packing, incoming: mpsc::Receiver<Request>) -> Self {
        Self {
            packing,
            incoming,
            held: None,
        }
    }

    /// Waits for a request and takes those along that have come behind it, as many as fit. `None`
    /// when nothing waits and nobody can ask any more.
    ///
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Parcel> {
        let mut parcel = Parcel::of(self.first().await?);
        while parcel.messages() < self.packing.messages
            && let Some(request) = self.already_here()
        {
            if parcel.bytes() + request.bytes() > self.packing.bytes {
                self.held = Some(request);
                break;
            }
            parcel.add(request);
        }
        Some(parcel)
    }

    async fn first(&mut self) -> Option<Request> {
        loop {
            let request = match self.held.take() {
                Some(request) => request,
                None => self.incoming.recv().await?,
            };
            if let Some(wanted) = request.if_wanted(Instant::now()) {
                return Some(wanted);
            }
        }
    }

    fn already_here(&mut self) -> Option<Request> {
        loop {
            let request = self.incoming.try_recv().ok()?;
            if let Some(wanted) = request.if_wanted(Instant::now()) {
                return Some(wanted);
            }
        }
    }

    /// Takes no more, and answers whatever waits: nothing of it was sent.
    pub(super) fn refuse(mut self, error: &BrokerError) {
        self.incoming.close();
        let held = self.held.take();
        let waiting = std::iter::from_fn(|| self.incoming.try_recv().ok());
        for request in held.into_iter().chain(waiting) {
            request.answer(Err(PublishError::NotPublished(error.clone())));
        }
    }
}

#[cfg(test)]
#[path = "packer_tests.rs"]
mod tests;
