//! What stands beside a message in the broker's state: whether it is called off or replaced, and what it resulted in.

use super::{Consume, Done, Message, control::Fate, verdict::End, worker::RECONNECT};
use crate::base::{Error, Kind, Result, time};
use crate::queue::{
    Broker, Reject, StateWrite, Step,
    jobs::{Sweep, cancel_key, is_replaced, result_key},
};
use futures::future::BoxFuture;
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

/// The subscription to a queue's sweeps.
pub(super) const WORKERS: &str = "workers";

impl<S> Consume<S> {
    pub(super) async fn is_replaced(&self, message: &Message) -> Result<bool> {
        if self.rows.is_none() {
            return Ok(false);
        }
        patiently(|| is_replaced(&*self.broker, message.headers(), message.id())).await
    }

    /// Resolves once the message is called off: with the row that says so, to be forgotten. It looks now, and again ten
    /// times in a lease.
    pub(super) async fn called_off(&self, message: &Message) -> StateWrite {
        if self.rows.is_none() {
            return std::future::pending().await;
        }
        let key = cancel_key(message.home(), message.id());
        loop {
            // a broker out of reach is the renewal's concern
            if let Ok((version, _)) = self.broker.load(&key).await
                && version > 0
            {
                return StateWrite { key, expect: version, value: None };
            }
            time::sleep(self.hold / 10).await;
        }
    }

    /// Gives up what is called off.
    pub(super) async fn drop_called_off(&self, row: StateWrite, message: &Message) -> Result {
        let mut step = Step::new().reject(Reject::new(message.lease(), "cancelled"));
        step.state.push(row);
        match message.end(step).await {
            Ok(()) => self.control.count(Fate::Dropped),
            Err(error) => {
                // it comes back when its lease has run out, and is given up then
                self.control.count(Fate::Lost);
                self.note(format_args!("message {} could not be called off: {}", message.id(), error.chain()));
            }
        }
        Ok(())
    }

    /// The end, with its result among what was made.
    pub(super) async fn with_result(&self, end: End, message: &Message) -> Result<End> {
        let End::Done(Done { publishes, state, result: Some(result) }) = end else { return Ok(end) };
        let Some(sweep) = &self.rows else {
            let lack = "only workers of a queue keep results, on a broker with state and atomic steps";
            return Ok(End::Failed(Error::new(Kind::Unsupported, lack)));
        };
        let key = result_key(message.home(), message.id());
        let (version, _) = patiently(|| self.broker.load(&key)).await?;
        let sweep = Sweep::after(sweep, &key, version.saturating_add(1), self.results)?;
        let done = Done { publishes, state, result: None }.write(key, version, result).publish(sweep);
        Ok(End::Done(done))
    }
}

/// Asks again and again while the broker is out of reach: the lease ends it at last.
pub(super) async fn patiently<T, F: Future<Output = Result<T>>>(ask: impl Fn() -> F) -> Result<T> {
    let mut refused = 0;
    loop {
        match ask().await {
            Err(error) if error.is_retryable() => {
                time::sleep(error.retry_after().unwrap_or_else(|| RECONNECT.ceiling(refused))).await;
                refused += 1;
            }
            answered => return answered,
        }
    }
}

/// Forgets rows when their time is over.
#[derive(Clone)]
pub(super) struct Sweeper(pub(super) Arc<dyn Broker>);

impl Service<Message> for Sweeper {
    type Response = ();
    type Error = Error;
    type Future = BoxFuture<'static, Result>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let broker = self.0.clone();
        Box::pin(sweep(broker, message))
    }
}

async fn sweep(broker: Arc<dyn Broker>, message: Message) -> Result {
    Sweep::read(&message.bytes()?)?.carry_out(&*broker).await
}
