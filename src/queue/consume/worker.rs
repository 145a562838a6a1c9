//! One worker of the pump, as a loop: lease, handle, settle.

use super::{Consume, Message, verdict::End};
use crate::{
    base::{Answer, Backoff, BoxError, Error, Few, Kind, Result, Rng, hash, time},
    queue::{Charge, Delivery, Lease, Reject, Retry, Step, Want},
};
use futures::FutureExt;
use std::{any::Any, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

impl<S> Consume<S>
where
    S: Service<Message, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    /// One worker: lease, handle, settle, until told to stop.
    pub(super) async fn work(self: Arc<Self>, stopping: CancellationToken, mut rng: Rng) -> Result {
        let context = self.context.as_ref();
        let owner =
            context.map_or(0, |own| hash::of(format!("{}/{} {}", own.namespace(), own.pod(), own.name()).as_bytes()));
        let want = Want::one().hold(self.hold).owner(owner);
        let mut refused = 0;
        loop {
            if stopping.is_cancelled() {
                return Ok(());
            }
            let mut answer = self.broker.lease(&self.subscription, want);
            let leased = tokio::select! {
                biased;
                () = stopping.cancelled() => return self.hand_back(answer, &mut rng).await,
                leased = &mut answer => leased,
            };
            match leased {
                Ok(deliveries) => {
                    refused = 0;
                    for delivery in deliveries {
                        self.handle(delivery, &stopping, &mut rng).await?;
                    }
                }
                Err(error) if error.is_retryable() => {
                    self.note(format_args!("no lease for now: {}", error.chain()));
                    let wait = error.retry_after().unwrap_or_else(|| RECONNECT.wait(refused, &mut rng));
                    refused += 1;
                    tokio::select! {
                        biased;
                        () = stopping.cancelled() => return Ok(()),
                        () = time::sleep(wait) => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives back what a lease had taken already when it was given up: calls act when they are made.
    async fn hand_back(&self, answer: Answer<'_, Few<Delivery>>, rng: &mut Rng) -> Result {
        let Answer::Now(Some(Ok(deliveries))) = answer else { return Ok(()) };
        let mut step = Step::new();
        for delivery in deliveries {
            step = step.retry(Retry::new(delivery.lease).charge(Charge::Nothing));
        }
        match self.settle(step, rng).await {
            Err(error) if error.kind() == Kind::LeaseLost => Ok(()), // it went back by itself
            settled => settled,
        }
    }

    /// Works on one message for as long as its lease is held.
    async fn handle(&self, delivery: Delivery, stopping: &CancellationToken, rng: &mut Rng) -> Result {
        let (lease, attempts) = (delivery.lease, delivery.attempts);
        let message = Message::new(delivery, self.subscription.clone());
        let id = message.id();
        let work = async {
            let step = match self.policy.spent(attempts) {
                Some(reason) => Step::new().reject(Reject::new(lease, reason)),
                None => {
                    let end = self.call(message, stopping).await;
                    match &end {
                        End::Done | End::Unstarted => {}
                        End::Failed(error) => self.note(format_args!("message {id} failed: {}", error.chain())),
                        End::Panicked(panic) => self.note(format_args!("message {id} panicked: {panic}")),
                    }
                    self.policy.settle(end, lease, attempts, rng)
                }
            };
            self.settle(step, rng).await
        };
        tokio::select! {
            biased;
            lost = self.renew(lease) => {
                self.note(format_args!("message {id} given up: {lost}"));
                Ok(())
            }
            settled = work => match settled {
                Err(error) if error.kind() == Kind::LeaseLost => {
                    self.note(format_args!("message {id} handled too late: {error}"));
                    Ok(())
                }
                settled => settled,
            },
        }
    }

    /// Runs the service; a panic in it ends this message, not the worker.
    async fn call(&self, message: Message, stopping: &CancellationToken) -> End {
        let call = async {
            let mut service = self.service.clone();
            tokio::select! {
                biased;
                () = stopping.cancelled() => return End::Unstarted,
                ready = service.ready() => if let Err(error) = ready {
                    return End::Failed(Error::adopt(error, Kind::Failed));
                },
            }
            match service.call(message).await {
                Ok(()) => End::Done,
                Err(error) => End::Failed(Error::adopt(error, Kind::Failed)),
            }
        };
        AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|panic| End::Panicked(message_of(&*panic)))
    }

    fn note(&self, what: fmt::Arguments<'_>) {
        tracing::warn!(subscription = %self.subscription, "{what}");
        if let Some(context) = &self.context {
            context.log(format!("{}: {what}", self.subscription));
        }
    }

    /// Holds the lease until it is lost; ends with the reason. Where the broker does not answer, it ends a little before
    /// the lease does: whoever has the message next must not meet this handler.
    async fn renew(&self, lease: Lease) -> Error {
        let margin = self.hold / 10;
        let mut deadline = lease.deadline;
        let mut next = time::now() + self.hold / 2;
        loop {
            let extend = async {
                time::sleep_until(next).await;
                let asked = time::now(); // the broker counts from later than this
                (asked, self.broker.settle(Step::new().extend(lease, self.hold)).await)
            };
            let (asked, extended) = tokio::select! {
                biased;
                () = time::sleep_until(deadline - margin) => {
                    return Error::new(Kind::LeaseLost, "it could not be extended in time");
                }
                extended = extend => extended,
            };
            match extended {
                Ok(()) => (deadline, next) = (asked + self.hold, asked + self.hold / 2),
                Err(error) if error.is_retryable() => next = time::now() + margin,
                Err(error) => return error,
            }
        }
    }

    /// Settles; while the broker is out of reach, again and again: the lease ends it at last.
    async fn settle(&self, step: Step, rng: &mut Rng) -> Result {
        let mut refused = 0;
        loop {
            match self.broker.settle(step.clone()).await {
                Err(error) if error.is_retryable() => {
                    time::sleep(error.retry_after().unwrap_or_else(|| RECONNECT.wait(refused, rng))).await;
                    refused += 1;
                }
                settled => return settled,
            }
        }
    }
}

/// Between tries to reach a broker.
const RECONNECT: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_string()
}
