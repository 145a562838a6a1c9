//! What a lease holds here: a message that the server waits for us to settle, on the channel it came over.

use super::session::{Lane, Session};
use crate::base::Result;
use crate::queue::{Attempts, Batch};
use lapin::{
    Acker,
    options::{BasicAckOptions, BasicNackOptions},
};
use std::sync::Arc;

/// A message that was delivered and is not settled.
#[derive(Clone)]
pub(super) struct Unsettled {
    pub(super) lane: Lane,
    pub(super) session: Arc<Session>,
    pub(super) batch: Arc<Batch>,
    pub(super) attempts: Attempts,
    acker: Acker,
}

impl Unsettled {
    pub(super) fn new(
        lane: &Lane,
        session: &Arc<Session>,
        acker: Acker,
        batch: Arc<Batch>,
        attempts: Attempts,
    ) -> Unsettled {
        Unsettled { lane: lane.clone(), session: session.clone(), batch, attempts, acker }
    }

    /// Whether the channel is there over which it came. Else the server has the message back.
    pub(super) fn is_ours(&self) -> bool {
        self.acker.usable() && self.session.is_alive() && self.lane.status().connected()
    }

    /// It is done. False where the channel is gone: then the server has it back.
    pub(super) async fn ack(&self) -> Result<bool> {
        self.session.call(self.acker.ack(BasicAckOptions::default())).await
    }

    /// Back to its queue; the server counts that it came back. Where this cannot be said, the channel is gone, and the
    /// server has it back all the same.
    pub(super) async fn requeue(&self) {
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        let _ = self.session.call(self.acker.nack(options)).await;
    }
}
