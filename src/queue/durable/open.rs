//! A broker whose file is open: the calls, and who waits for what.

use super::{
    books::{Books, Found},
    pending::Reply,
    recover::recover,
    rows::ITEMS,
};
use crate::base::{
    Answer, Error, Few, Kind, Name, Result, Seed,
    time::{self, Instant, WallClock},
};
use crate::disk::{Disk, Running, Source};
use crate::queue::{
    Delivery, Payload, Publish, Receipt, Step, Subscription, Topic, TopicOptions, TopicStats, Want,
    table::{Refused, Waiter},
};
use bytes::Bytes;
use std::sync::Arc;

/// The bytes of a batch, at most: the engine's pages go not much further.
const BATCH: usize = 1 << 30;

pub(super) struct Open(Running<Books>);

/// Waits for the commit.
async fn committed(reply: Reply) -> Result {
    let ended = || Error::new(Kind::Closed, "the broker was closed before it was on the disk");
    reply.await.unwrap_or_else(|_| Err(ended()))
}

impl Open {
    pub(super) async fn new(source: &Source, clock: Option<WallClock>) -> Result<Open> {
        let (source, clock) = (source.clone(), clock.unwrap_or_else(WallClock::ambient));
        let open = move || {
            let disk = Arc::new(Disk::open(&source)?);
            let books = recover(disk.clone(), &clock).map_err(|error| match error.place() {
                Some(_) => error,
                None => error.at(source.to_string()),
            })?;
            Ok((disk, Arc::new(books)))
        };
        if Seed::in_simulation() {
            Running::in_simulation(open).map(Open)
        } else {
            Running::on_thread(open).await.map(Open)
        }
    }

    fn books(&self) -> &Books {
        self.0.group()
    }

    /// Tells the commit loop what has come.
    fn tell(&self) {
        let waiting = self.books().calls();
        if waiting.calls > 0 {
            self.0.call(waiting.calls);
        } else if waiting.unsaid {
            self.0.unsaid();
        }
    }

    /// Where the disk has just failed, those who wait must hear of it.
    fn heard<T, E>(&self, decided: Result<T, E>) -> Result<T, E> {
        match &decided {
            Ok(_) => self.tell(),
            Err(_) if self.books().disk.failure().is_some() => self.0.failed(),
            Err(_) => {}
        }
        decided
    }

    pub(super) fn declare(&self, topic: &Topic, options: TopicOptions) -> Answer<'_, ()> {
        match self.heard(self.books().declare(topic, options)) {
            Ok(Some(reply)) => Answer::later(committed(reply)),
            Ok(None) => Answer::ok(()),
            Err(error) => Answer::now(Err(error)),
        }
    }

    pub(super) fn publish(&self, mut batches: Few<Publish>) -> Answer<'_, Receipt> {
        match self.heard(self.books().publish(&mut batches)) {
            Ok((receipt, reply)) => Answer::later(async move { committed(reply).await.map(|()| receipt) }),
            Err(Refused::Error(error)) => Answer::now(Err(error)),
            Err(Refused::Full(mut room)) => Answer::later(async move {
                loop {
                    room.await;
                    match self.heard(self.books().publish(&mut batches)) {
                        Ok((receipt, reply)) => return committed(reply).await.map(|()| receipt),
                        Err(Refused::Error(error)) => return Err(error),
                        Err(Refused::Full(next)) => room = next,
                    }
                }
            }),
        }
    }

    pub(super) fn settle(&self, mut step: Step) -> Answer<'_, ()> {
        match self.heard(self.books().settle(&mut step)) {
            Ok(Some(reply)) => Answer::later(committed(reply)),
            Ok(None) => Answer::ok(()),
            Err(Refused::Error(error)) => Answer::now(Err(error)),
            Err(Refused::Full(mut room)) => Answer::later(async move {
                loop {
                    room.await;
                    match self.heard(self.books().settle(&mut step)) {
                        Ok(Some(reply)) => return committed(reply).await,
                        Ok(None) => return Ok(()),
                        Err(Refused::Error(error)) => return Err(error),
                        Err(Refused::Full(next)) => room = next,
                    }
                }
            }),
        }
    }

    pub(super) fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
        let now = time::now();
        let mut waiter = None;
        match self.heard(self.books().lease(subscription, &want, &mut waiter)) {
            Err(error) => Answer::now(Err(error)),
            Ok(Found { deliveries, recorded: Some(recorded), .. }) => {
                Answer::later(async move { committed(recorded).await.map(|()| deliveries) })
            }
            Ok(Found { deliveries, .. }) if waiter.is_none() => Answer::ok(deliveries),
            Ok(Found { due, .. }) => {
                Answer::later(self.wait_to_lease(subscription, want, want.until(now), due, waiter))
            }
        }
    }

    async fn wait_to_lease(
        &self,
        subscription: &Subscription,
        want: Want,
        until: Option<Instant>,
        mut due: Option<Instant>,
        mut waiter: Option<Waiter>,
    ) -> Result<Few<Delivery>> {
        loop {
            if let Some(waiter) = &waiter {
                waiter.woken_by([due, until].into_iter().flatten().min()).await;
            }
            let now = time::now();
            let found = self.heard(self.books().lease(subscription, &want, &mut waiter))?;
            if !found.deliveries.is_empty() || until.is_some_and(|until| until <= now) {
                if let Some(recorded) = found.recorded {
                    committed(recorded).await?;
                }
                return Ok(found.deliveries);
            }
            due = found.due;
        }
    }

    pub(super) fn load(&self, key: &Name) -> Answer<'_, (u64, Bytes)> {
        match self.heard(self.books().load(key)) {
            Ok((state, None)) => Answer::ok(state),
            Ok((state, Some(reply))) => Answer::later(async move { committed(reply).await.map(|()| state) }),
            Err(error) => Answer::now(Err(error)),
        }
    }

    pub(super) fn inspect(&self, topic: &Topic) -> Answer<'_, TopicStats> {
        Answer::now(self.heard(self.books().inspect(topic)))
    }
}

/// Every value as the bytes that its codec makes of it: nothing else goes to a disk.
pub(super) fn encoded(batches: &mut Few<Publish>) -> Result {
    for publish in batches {
        let place = || format!("topic {}, message {}", publish.topic, publish.id);
        if !publish.payload.is_encoded() {
            let items = (0..publish.payload.len()).map(|item| publish.payload.bytes(item));
            let mut items = items.collect::<Result<Vec<Bytes>>>().map_err(|error| error.at(place()))?;
            publish.payload = match items.len() {
                1 => items.pop().unwrap_or_default().into(),
                _ => Payload::many(items),
            };
        }
        let bytes = (0..publish.payload.len()).map(|item| publish.payload.size(item)).sum::<usize>();
        if bytes > BATCH {
            let message = format!("a batch of {bytes} bytes; at most {BATCH} go to the disk together");
            return Err(Error::new(Kind::Invalid, message).at(place()));
        }
        if publish.payload.len() > ITEMS {
            let message =
                format!("a batch of {} items; at most {ITEMS} go to the disk together", publish.payload.len());
            return Err(Error::new(Kind::Invalid, message).at(place()));
        }
    }
    Ok(())
}
