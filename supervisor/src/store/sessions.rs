//! The pool's sessions: made, and looked at.

use std::error::Error;

use jatis_connect::{postgres::Target, tls::TlsFault};
use jatis_shared::telemetry::Chain;
use postgres::Client;
use r2d2::ManageConnection;
use tokio::sync::watch;

/// Makes sessions for the pool, and notes what is wrong with TLS while it can make none.
pub(super) struct Sessions {
    target: Target,
    tls_fault: watch::Sender<Option<TlsFault>>,
}

/// What happened and why, in one: of an error the pool passes on nothing but its text.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Reason(String);

impl Reason {
    fn of(error: &dyn Error) -> Self {
        Self(Chain(error).to_string())
    }
}

impl Sessions {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            tls_fault: watch::Sender::new(None),
        }
    }

    /// What was wrong with TLS when a session was last tried for.
    pub(super) fn tls_fault(&self) -> watch::Receiver<Option<TlsFault>> {
        self.tls_fault.subscribe()
    }
}

impl ManageConnection for Sessions {
    type Connection = Client;
    type Error = Reason;

    fn connect(&self) -> Result<Client, Reason> {
        let connected = self.target.connect();
        let fault = connected.as_ref().err().and_then(|error| error.tls_fault());
        self.tls_fault.send_replace(fault);
        connected.map_err(|error| Reason::of(&error))
    }

    fn is_valid(&self, client: &mut Client) -> Result<(), Reason> {
        let answered = client.simple_query("");
        answered.map(drop).map_err(|error| Reason::of(&error))
    }

    fn has_broken(&self, client: &mut Client) -> bool {
        client.is_closed()
    }
}
