//! One caller: its request, and the answer to it.

use std::io;

use futures_util::{SinkExt, StreamExt};
use jatis_shared::{
    admin::{Answer, Refusal, Reply, Request, ServerCodec, VERSION, Verb},
    frames::FrameError,
    telemetry::Chain,
};
use tokio::{
    net::{UnixStream, unix::UCred},
    time::timeout,
};
use tokio_util::{codec::Framed, sync::CancellationToken};
use tracing::{debug, info, warn};

use super::{Desk, answers};

/// A caller that is being answered.
pub(super) struct Caller<'a> {
    socket: Framed<UnixStream, ServerCodec>,
    desk: &'a Desk,
}

/// The caller is gone, or takes nothing in.
#[derive(Debug)]
pub(super) struct Gone;

impl<'a> Caller<'a> {
    /// What the answers are made from.
    pub(super) const fn desk(&self) -> &'a Desk {
        self.desk
    }

    /// Sends a part of the answer.
    pub(super) async fn tell(&mut self, answer: Answer) -> Result<(), Gone> {
        let reply = Reply { v: VERSION, answer };
        let sent = timeout(self.desk.keys.write_timeout, self.socket.send(&reply)).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                debug!(error = %Chain(&error), "an operator's command left before its answer");
                Err(Gone)
            }
            Err(_elapsed) => {
                debug!("an operator's command does not take in its answer");
                Err(Gone)
            }
        }
    }

    /// Resolves when the caller hangs up, or says more than it may.
    pub(super) async fn hung_up(&mut self) {
        drop(self.socket.next().await);
    }

    async fn request(&mut self) -> Option<Result<Request, FrameError>> {
        let patience = self.desk.keys.request_timeout;
        timeout(patience, self.socket.next()).await.ok().flatten()
    }
}

/// Answers a caller. Whatever it sends, it harms nobody: its request is bounded in size and time.
pub(super) async fn serve(
    stream: UnixStream,
    admitted: io::Result<(UCred, bool)>,
    desk: &Desk,
    closing: CancellationToken,
) {
    let mut caller = Caller {
        socket: Framed::new(stream, ServerCodec::default()),
        desk,
    };
    let request = match caller.request().await {
        Some(Ok(request)) => request,
        Some(Err(error)) => {
            return debug!(error = %Chain(&error), "what an operator's command said makes no sense");
        }
        None => return debug!("an operator's command said nothing"),
    };
    let (uid, pid) = match admitted {
        Ok((caller, true)) => (caller.uid(), caller.pid()),
        Ok((stranger, false)) => {
            warn!(uid = stranger.uid(), pid = stranger.pid(), verb = ?request.verb,
                "an operator's command was refused: this user may not");
            drop(
                caller
                    .tell(refused(Refusal::Forbidden, "this user may not"))
                    .await,
            );
            return;
        }
        Err(error) => return warn!(%error, "who gives an operator's command cannot be told"),
    };
    if changes(&request.verb) {
        info!(uid, pid, verb = ?request.verb, "an operator's command: {:?}", request.verb);
    }
    let is_stop = matches!(request.verb, Verb::Shutdown { .. });
    let answering = answers::answer(&mut caller, request.verb);
    let answered = if is_stop {
        // Its answer is the last thing there is.
        Some(answering.await)
    } else {
        closing.run_until_cancelled(answering).await
    };
    match answered {
        Some(Ok(())) => {}
        Some(Err(Gone)) => debug!("an operator's command has not heard its answer to the end"),
        None => debug!("an operator's command was cut off by the end of jatis"),
    }
}

pub(super) fn refused(code: Refusal, detail: impl Into<String>) -> Answer {
    let detail = detail.into();
    Answer::Refused { code, detail }
}

/// Whether a verb changes something.
const fn changes(verb: &Verb) -> bool {
    match verb {
        Verb::Status | Verb::Tenants | Verb::Show { .. } | Verb::Events { .. } | Verb::Unknown => {
            false
        }
        Verb::Start { .. }
        | Verb::Stop { .. }
        | Verb::Restart { .. }
        | Verb::Pause { .. }
        | Verb::Resume { .. }
        | Verb::Resize { .. }
        | Verb::Release { .. }
        | Verb::Reload
        | Verb::Upgrade
        | Verb::Shutdown { .. } => true,
    }
}
