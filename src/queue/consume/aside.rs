//! What stands beside a message in the broker's state: whether it is called off or replaced, and what it resulted in.

use super::{Consume, Control, Done, Message, control::Fate, verdict::End};
use crate::base::{Error, Kind, Name, Result, Rng, time};
use crate::queue::{
    Broker, Reject, StateWrite, Step, TopicStats,
    jobs::{Sweep, cancel_key, is_replaced, result_key},
};
use futures::future::BoxFuture;
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use tower::Service;

/// The subscription to a queue's sweeps.
pub(super) const WORKERS: &str = "workers";

impl<S> Consume<S> {
    pub(super) async fn is_replaced(&self, message: &Message, rng: &mut Rng) -> Result<bool> {
        if self.rows.is_none() {
            return Ok(false);
        }
        let look = || is_replaced(&*self.broker, message.headers(), message.id());
        self.until_reached(look, rng).await
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
    pub(super) async fn with_result(&self, end: End, message: &Message, rng: &mut Rng) -> Result<End> {
        let End::Done(Done { publishes, state, result: Some(result) }) = end else { return Ok(end) };
        let Some(sweep) = &self.rows else {
            let lack = "only workers of a queue keep results, on a broker with state and atomic steps";
            return Ok(End::Failed(Error::new(Kind::Unsupported, lack)));
        };
        let key = result_key(message.home(), message.id());
        let (version, _) = self.until_reached(|| self.broker.load(&key), rng).await?;
        let sweep = Sweep::after(sweep, &key, version.saturating_add(1), self.results)?;
        let done = Done { publishes, state, result: None }.write(key, version, result).publish(sweep);
        Ok(End::Done(done))
    }
}

/// How often a pump that has something to do looks whether its queue is paused.
pub(in crate::queue) const LOOK: Duration = Duration::from_secs(1);

impl<S> Consume<S> {
    /// Whether the queue is paused; asked with a message in hand, so that a pump with nothing to do asks for nothing.
    pub(super) async fn is_held(&self) -> Result<bool> {
        let Some(paused) = &self.paused else { return Ok(false) };
        if self.control.must_look(time::now(), LOOK) {
            heed_pause(&*self.broker, paused, &self.control).await?;
        }
        Ok(self.control.is_held())
    }

    /// While the queue is paused, looks whether it goes on; until told to stop.
    pub(super) async fn watch_pause(&self, paused: &Name, stop: &CancellationToken) -> Result {
        loop {
            let next = async {
                self.control.excluded(0).await;
                time::sleep(LOOK).await;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = next => {}
            }
            heed_pause(&*self.broker, paused, &self.control).await?;
        }
    }

    /// What its lines hold together.
    pub(super) async fn topic_stats(&self) -> Result<TopicStats> {
        let mut sum = TopicStats::default();
        for line in self.lines.all() {
            sum = sum.and(self.broker.inspect(&line.topic).await?);
        }
        Ok(sum)
    }
}

/// Looks whether the queue is paused. Where the broker is out of reach, it is as it was.
pub(super) async fn heed_pause(broker: &dyn Broker, paused: &Name, control: &Control) -> Result {
    match broker.load(paused).await {
        Ok((version, _)) => control.hold(version > 0),
        Err(error) if error.is_retryable() => {}
        Err(error) => return Err(error),
    }
    Ok(())
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
