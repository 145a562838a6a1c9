//! One worker of the pump, as a loop: be ready, lease, handle, settle.

use super::{
    Consume, Message,
    aside::patiently,
    control::Fate,
    message::ROW_TRIES,
    verdict::{End, Verdict},
};
use crate::{
    base::{Answer, Backoff, BoxError, Error, Few, Kind, Result, Rng, hash, time},
    queue::{Charge, Delivery, Done, Reject, Retry, Step, Want},
};
use futures::FutureExt;
use std::{any::Any, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

/// How a pump is told to stop: first to lease no more, then, where it drains, to let go of what runs.
#[derive(Clone, Default)]
pub(super) struct Stopping {
    pub(super) soon: CancellationToken,
    pub(super) now: CancellationToken,
}

impl<S> Consume<S>
where
    S: Service<Message> + Clone + Send + Sync + 'static,
    S::Response: Into<Done>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    /// The worker of this number, until told to stop.
    pub(super) async fn work(self: Arc<Self>, number: usize, stopping: Stopping, mut rng: Rng) -> Result {
        let context = self.context.as_ref();
        let owner =
            context.map_or(0, |own| hash::of(format!("{}/{} {}", own.namespace(), own.pod(), own.name()).as_bytes()));
        let want = Want::one().hold(self.hold).owner(owner);
        let source = Message::source(self.broker.clone(), self.subscription.clone(), self.home.clone(), self.hold);
        let mut refused = 0;
        loop {
            let Some(service) = self.get_ready(number, &stopping, &mut rng).await else { return Ok(()) };
            let mut service = Some(service);
            let mut answer = self.broker.lease(&self.subscription, want.wait(Duration::ZERO));
            let mut leased = tokio::select! {
                biased;
                () = stopping.soon.cancelled() => return self.hand_back(answer, &mut rng).await,
                leased = &mut answer => leased,
            };
            if leased.as_ref().is_ok_and(|deliveries| deliveries.is_empty()) {
                service = None; // being ready may hold a permit that another can use while nothing is there
                answer = self.broker.lease(&self.subscription, want);
                leased = tokio::select! {
                    biased;
                    () = stopping.soon.cancelled() => return self.hand_back(answer, &mut rng).await,
                    leased = &mut answer => leased,
                    () = self.control.excluded(number) => {
                        self.hand_back(answer, &mut rng).await?;
                        continue;
                    }
                };
            }
            match leased {
                Ok(deliveries) => {
                    refused = 0;
                    for delivery in deliveries {
                        let message = Message::new(delivery, source.clone());
                        self.handle(message, service.take(), &stopping, &mut rng).await?;
                    }
                }
                Err(error) if error.is_retryable() => {
                    self.note(format_args!("no lease for now: {}", error.chain()));
                    let wait = error.retry_after().unwrap_or_else(|| RECONNECT.wait(refused, &mut rng));
                    refused += 1;
                    tokio::select! {
                        biased;
                        () = stopping.soon.cancelled() => return Ok(()),
                        () = time::sleep(wait) => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until this worker may lease and the service is ready for a message; none once told to stop.
    async fn get_ready(&self, number: usize, stopping: &Stopping, rng: &mut Rng) -> Option<S> {
        let mut refused = 0;
        loop {
            let mut service = self.service.clone();
            let ready = async {
                self.control.admitted(number).await;
                let ready = AssertUnwindSafe(service.ready()).catch_unwind().await;
                match ready {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(Error::adopt(error, Kind::Failed)),
                    Err(panic) => Err(Error::new(Kind::Panicked, message_of(&*panic))),
                }
            };
            let ready = tokio::select! {
                biased;
                () = stopping.soon.cancelled() => return None,
                ready = ready => ready,
            };
            let Err(error) = ready else { return Some(service) };
            self.note(format_args!("the service is not ready: {}", error.chain()));
            let wait = error.retry_after().unwrap_or_else(|| RECONNECT.wait(refused, rng));
            refused += 1;
            tokio::select! {
                biased;
                () = stopping.soon.cancelled() => return None,
                () = time::sleep(wait) => {}
            }
        }
    }

    /// Gives back what a lease had taken already when it was given up: calls act when they are made.
    async fn hand_back(&self, answer: Answer<'_, Few<Delivery>>, rng: &mut Rng) -> Result {
        let Answer::Now(Some(Ok(deliveries))) = answer else { return Ok(()) };
        let mut step = Step::new();
        for delivery in deliveries {
            self.control.count(Fate::HandedBack);
            step = step.retry(Retry::new(delivery.lease).charge(Charge::Nothing));
        }
        match self.settle(step, rng).await {
            Err(error) if error.kind() == Kind::LeaseLost => Ok(()), // it went back by itself
            settled => settled,
        }
    }

    /// Works on one message for as long as its lease is held.
    async fn handle(&self, message: Message, ready: Option<S>, stopping: &Stopping, rng: &mut Rng) -> Result {
        let (lease, attempts, id) = (message.lease(), message.attempts(), message.id());
        let work = async {
            let verdict = match self.policy.before(lease, attempts) {
                Some(verdict) => verdict,
                None if self.is_replaced(&message).await? => Verdict::Settle(Step::new().ack(lease), Fate::Dropped),
                None => {
                    let end = self.call(&message, ready, stopping).await;
                    match &end {
                        End::Done(_) | End::Stopped => {}
                        End::Failed(error) => self.note(format_args!("message {id} failed: {}", error.chain())),
                        End::Panicked(reason) => self.note(format_args!("message {id}: {reason}")),
                    }
                    let end = self.with_result(end, &message).await?;
                    self.policy.after(end, lease, attempts, rng)
                }
            };
            self.carry_out(verdict, &message, rng).await
        };
        tokio::select! {
            biased;
            lost = self.renew(&message) => {
                self.control.count(Fate::Lost);
                self.note(format_args!("message {id} given up: {lost}"));
                Ok(())
            }
            row = self.called_off(&message) => self.drop_called_off(row, &message).await,
            settled = message.pulse().around(work) => match settled {
                Err(error) if error.kind() == Kind::LeaseLost => {
                    self.control.count(Fate::Lost);
                    self.note(format_args!("message {id} handled too late: {error}"));
                    Ok(())
                }
                settled => settled,
            },
        }
    }

    /// Runs the service; a panic in it ends this message, not the worker.
    async fn call(&self, message: &Message, ready: Option<S>, stopping: &Stopping) -> End {
        let call = async {
            let mut service = match ready {
                Some(service) => service,
                None => {
                    let mut service = self.service.clone();
                    tokio::select! {
                        biased;
                        () = stopping.soon.cancelled() => return End::Stopped,
                        ready = service.ready() => if let Err(error) = ready {
                            return End::Failed(Error::adopt(error, Kind::Failed));
                        },
                    }
                    service
                }
            };
            match service.call(message.clone()).await {
                Ok(done) => End::Done(done.into()),
                Err(error) => End::Failed(Error::adopt(error, Kind::Failed)),
            }
        };
        let call = AssertUnwindSafe(call).catch_unwind();
        tokio::select! {
            biased;
            () = stopping.now.cancelled() => End::Stopped,
            end = call => end.unwrap_or_else(|panic| {
                End::Panicked(format!("its handler panicked: {}", message_of(&*panic)))
            }),
        }
    }

    /// Does what was decided. What a handler made and cannot be committed is the message's failure, not the pump's.
    async fn carry_out(&self, verdict: Verdict, message: &Message, rng: &mut Rng) -> Result {
        let (lease, attempts) = (message.lease(), message.attempts());
        let (step, fate) = match verdict {
            Verdict::Settle(step, fate) => (step, fate),
            Verdict::Quarantine(reason) => match self.quarantine.as_ref().map(|it| it.publish(message, reason)) {
                Some(Ok(publish)) => (Step::new().ack(lease).publish(publish), Fate::Quarantined),
                Some(Err(error)) => (Step::new().reject(Reject::new(lease, error.chain())), Fate::Rejected),
                None => (Step::new().retry(Retry::new(lease).charge(Charge::Crash)), Fate::Retried),
            },
        };
        let made_something = !(step.publishes.is_empty() && step.state.is_empty());
        let settled = match self.settle_with(&step, fate, message, rng).await {
            Err(error) if made_something && error.kind() != Kind::LeaseLost && !error.is_retryable() => {
                self.note(format_args!("message {}: what it made was refused: {}", message.id(), error.chain()));
                match self.policy.after(End::Failed(error), lease, attempts, rng) {
                    Verdict::Settle(step, fate) => self.settle_with(&step, fate, message, rng).await.map(|()| fate),
                    Verdict::Quarantine(_) => Ok(fate), // failures do not lead there
                }
            }
            settled => settled.map(|()| fate),
        };
        settled.map(|fate| self.control.count(fate))
    }

    /// Settles, and forgets with it what is kept only while the message is under way.
    async fn settle_with(&self, step: &Step, fate: Fate, message: &Message, rng: &mut Rng) -> Result {
        let ends = matches!(fate, Fate::Done | Fate::Rejected | Fate::Dropped);
        for _ in 0..ROW_TRIES {
            let Some(whole) = patiently(|| message.with_rows(step, ends)).await? else { break };
            match self.settle(whole, rng).await {
                Err(error) if error.kind() == Kind::Conflict => {} // of a row that was written since it was looked at
                settled => return settled,
            }
        }
        self.settle(step.clone(), rng).await
    }

    /// Holds the lease until it is lost; ends with the reason. Where the broker does not answer, it ends a little before
    /// the lease does: whoever has the message next must not meet this handler. It holds it no longer for a handler that
    /// has given no sign of life for too long.
    async fn renew(&self, message: &Message) -> Error {
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

impl<S> Consume<S> {
    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        tracing::warn!(subscription = %self.subscription, "{what}");
        if let Some(context) = &self.context {
            context.log(format!("{}: {what}", self.subscription));
        }
    }
}

/// Between tries to reach a broker.
pub(super) const RECONNECT: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_string()
}
