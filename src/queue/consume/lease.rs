//! The loop of one worker: be ready, lease, hand over.

use super::{
    Consume, Message,
    renew::RECONNECT,
    worker::{Stopping, message_of},
};
use crate::{
    base::{BoxError, Error, Few, Kind, Result, Rng, hash, time},
    queue::{Delivery, Done, Step, Want, lines::Leasing},
};
use futures::FutureExt;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tower::{Service, ServiceExt};

/// What a worker leased, and from which line.
type Leased = Result<(usize, Few<Delivery>)>;

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
        let source =
            |line: &Arc<_>| Message::source(self.broker.clone(), Arc::clone(line), self.home.clone(), self.hold);
        let sources: Vec<_> = self.lines.all().iter().map(source).collect();
        let mut refused = 0;
        loop {
            let Some(service) = self.get_ready(number, &stopping, &mut rng).await else { return Ok(()) };
            let mut service = Some(service);
            let Some(mut leased) = self.look(want, &stopping, &mut rng).await? else { return Ok(()) };
            if leased.as_ref().is_ok_and(|(_, deliveries)| deliveries.is_empty()) {
                service = None; // being ready may hold a permit that another can use while nothing is there
                let mut leasing = self.lines.wait(&*self.broker, want);
                leased = tokio::select! {
                    biased;
                    () = stopping.soon.cancelled() => return self.hand_back(leasing.left(), &mut rng).await,
                    leased = &mut leasing => leased,
                    () = self.control.excluded(number) => {
                        self.hand_back(leasing.left(), &mut rng).await?;
                        continue;
                    }
                };
                self.hand_back(Leasing::left(leasing), &mut rng).await?;
            }
            match leased {
                Ok((line, deliveries)) => {
                    refused = 0;
                    if !deliveries.is_empty() && self.is_held().await? {
                        self.hand_back(deliveries, &mut rng).await?;
                        continue;
                    }
                    for delivery in deliveries {
                        let Some(source) = sources.get(line) else { continue };
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

    /// Takes what is there, line by line; none once told to stop.
    async fn look(&self, want: Want, stopping: &Stopping, rng: &mut Rng) -> Result<Option<Leased>> {
        for line in self.lines.order() {
            let Some(subscription) = self.lines.all().get(line) else { continue };
            let mut answer = self.broker.lease(subscription, want.wait(Duration::ZERO));
            let leased = tokio::select! {
                biased;
                () = stopping.soon.cancelled() => {
                    let crate::base::Answer::Now(Some(Ok(deliveries))) = answer else { return Ok(None) };
                    return self.hand_back(deliveries, rng).await.map(|()| None);
                }
                leased = &mut answer => leased,
            };
            match leased {
                Ok(deliveries) => {
                    self.lines.looked(line, &deliveries);
                    if !deliveries.is_empty() {
                        return Ok(Some(Ok((line, deliveries))));
                    }
                }
                Err(error) => return Ok(Some(Err(error))),
            }
        }
        Ok(Some(Ok((0, Few::new()))))
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
    async fn hand_back(&self, deliveries: Few<Delivery>, rng: &mut Rng) -> Result {
        if deliveries.is_empty() {
            return Ok(());
        }
        deliveries.iter().for_each(|delivery| self.control.handed_back(delivery.id(0)));
        let step: Step = crate::queue::given_back(deliveries);
        match self.settle(step, rng).await {
            Err(error) if error.kind() == Kind::LeaseLost => Ok(()), // it went back by itself
            settled => settled,
        }
    }
}
