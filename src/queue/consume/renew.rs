//! Holding a lease for as long as its handler lives, and reaching a broker that is away for a while.

use super::{Consume, Message};
use crate::{
    base::{Backoff, Error, Kind, Result, Rng, time},
    queue::Step,
};
use std::{future::Future, time::Duration};

/// Between tries to reach a broker.
pub(super) const RECONNECT: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

impl<S> Consume<S> {
    /// Holds the lease until it is lost; ends with the reason. Where the broker does not answer, it ends a little before
    /// the lease does: whoever has the message next must not meet this handler. It holds it no longer for a handler that
    /// has given no sign of life for too long.
    pub(super) async fn renew(&self, message: &Message) -> Error {
        let (lease, margin) = (message.lease(), self.hold / 10);
        let mut deadline = lease.deadline;
        let mut next = time::now() + self.hold / 2;
        let (mut beats, mut heard) = (message.pulse().beats(), time::now());
        loop {
            let extend = async {
                time::sleep_until(next).await;
                let asked = time::now(); // the broker counts from later than this
                let now = message.pulse().beats();
                if now != beats {
                    (beats, heard) = (now, asked);
                } else if asked.saturating_duration_since(heard) >= self.silence {
                    return (asked, Err(self.silent(asked.saturating_duration_since(heard))));
                }
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

    #[cold]
    fn silent(&self, silence: Duration) -> Error {
        let message = format!("its handler gave no sign of life for {} s", silence.as_secs());
        Error::new(Kind::LeaseLost, message).at(format!("subscription {}", self.subscription))
    }

    /// Settles; while the broker is out of reach, again and again: the lease ends it at last.
    pub(super) async fn settle(&self, step: Step, rng: &mut Rng) -> Result {
        self.until_reached(|| self.broker.settle(step.clone()), rng).await
    }

    /// Asks; while the broker is out of reach, again and again.
    pub(super) async fn until_reached<T, F>(&self, ask: impl Fn() -> F, rng: &mut Rng) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut refused = 0;
        loop {
            match ask().await {
                Err(error) if error.is_retryable() => {
                    time::sleep(error.retry_after().unwrap_or_else(|| RECONNECT.wait(refused, rng))).await;
                    refused += 1;
                }
                answered => return answered,
            }
        }
    }
}
