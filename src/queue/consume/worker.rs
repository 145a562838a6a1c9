//! One message in a worker's hand: weighed, handled, settled.

use super::{
    Consume, Message,
    control::Fate,
    message::ROW_TRIES,
    renew::RECONNECT,
    verdict::{End, Verdict},
};
use crate::{
    base::{BoxError, Error, Kind, Result, Rng, sync::Lock},
    queue::{
        Charge, Done, Reject, Retry, Step,
        limit::{Admission, Kept},
        trace,
    },
};
use futures::FutureExt;
use std::{any::Any, fmt, panic::AssertUnwindSafe};
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
    /// Works on one message for as long as its lease is held.
    pub(super) async fn handle(
        &self,
        message: Message,
        ready: Option<S>,
        stopping: &Stopping,
        rng: &mut Rng,
    ) -> Result {
        let (lease, attempts, id) = (message.lease(), message.attempts(), message.id());
        let (kept, beside) = (Lock::default(), (!self.limits.is_empty()).then(|| rng.fork()));
        let work = async {
            let verdict = match self.policy.before(lease, attempts) {
                Some(verdict) => verdict,
                None if self.is_replaced(&message, rng).await? => {
                    Verdict::Settle(Step::new().ack(lease), Fate::Dropped)
                }
                None => {
                    let end = self.call(&message, ready, stopping, &kept, rng).await?;
                    match &end {
                        End::Done(_) | End::Stopped | End::Limited(_) => {}
                        End::Failed(error) => self.note(format_args!("message {id} failed: {}", error.chain())),
                        End::Panicked(reason) => self.note(format_args!("message {id}: {reason}")),
                    }
                    let end = self.with_result(end, &message, rng).await?;
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
            () = self.limits.keep(&kept, &message, self.hold, beside) => Ok(()), // never: it holds on
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

    /// Runs the service, once every limit lets it; a panic in it ends this message, not the worker.
    async fn call(
        &self,
        message: &Message,
        ready: Option<S>,
        stopping: &Stopping,
        kept: &Lock<Vec<Kept>>,
        rng: &mut Rng,
    ) -> Result<End> {
        if self.limits.is_empty() {
            return Ok(self.run(message, ready, stopping).await);
        }
        let admission = tokio::select! {
            biased;
            () = stopping.soon.cancelled() => return Ok(End::Stopped),
            admission = self.limits.admit(message, self.hold, self.hold / 2, rng) => admission,
        };
        let mut permits = match admission {
            Ok(Admission::Go(permits)) => permits,
            Ok(Admission::Later(wait)) => return Ok(End::Limited(wait)),
            Err(error) if error.is_retryable() => {
                self.note(format_args!("message {} could not be weighed: {}", message.id(), error.chain()));
                return Ok(End::Limited(error.retry_after().unwrap_or_else(|| RECONNECT.ceiling(3))));
            }
            Err(error) => return Err(error),
        };
        permits.begin();
        *kept.lock() = permits.kept();
        let end = self.run(message, ready, stopping).await;
        kept.lock().clear();
        permits.release(message, rng).await;
        Ok(end)
    }

    async fn run(&self, message: &Message, ready: Option<S>, stopping: &Stopping) -> End {
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
            let (own, sample) = (message.own_trace(), self.adaptive.as_ref().map(|adaptive| adaptive.begin()));
            let ended = trace::within(own.clone(), service.call(message.clone())).await;
            let ended = ended.map_err(|error| Error::adopt(error, Kind::Failed));
            if let Some(sample) = sample {
                self.control.set_concurrency(sample.end(&ended));
            }
            match ended {
                Ok(done) => End::Done(done.into().traced(own)),
                Err(error) => End::Failed(error),
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
        let (step, fate) = match self.policy.of_key(verdict, lease, attempts, message.key().is_some()) {
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
        settled.map(|fate| match fate {
            Fate::HandedBack => self.control.handed_back(message.id()),
            fate => self.control.count(fate),
        })
    }

    /// Settles, and forgets with it what is kept only while the message is under way.
    async fn settle_with(&self, step: &Step, fate: Fate, message: &Message, rng: &mut Rng) -> Result {
        let ends = matches!(fate, Fate::Done | Fate::Rejected | Fate::Dropped);
        for _ in 0..ROW_TRIES {
            let Some(whole) = self.until_reached(|| message.with_rows(step, ends), rng).await? else { break };
            match self.settle(whole, rng).await {
                Err(error) if error.kind() == Kind::Conflict => {} // of a row that was written since it was looked at
                settled => return settled,
            }
        }
        self.settle(step.clone(), rng).await
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

/// What a panic said.
pub(super) fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_string()
}
