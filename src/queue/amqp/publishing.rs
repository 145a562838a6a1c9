//! Publishing: every message is confirmed by the server, or it is not published.

use super::{
    Shared,
    delay::Delay,
    letter,
    names::{EVERYONE, Names},
    session::Session,
    topology,
};
use crate::base::{Backoff, Error, Kind, Result, time};
use crate::queue::{Attempts, Bound, Publish, Receipt, Topic};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream::FuturesOrdered};
use lapin::{BasicProperties, Channel, Confirmation, options::BasicPublishOptions};
use std::{collections::BTreeSet, time::Duration};

/// How many messages of one call are under way at once.
const WINDOW: usize = 256;

/// Between tries to publish to a topic that is full.
const ROOM: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));

/// One message on its way.
pub(super) struct Parcel {
    topic: Topic,
    exchange: String,
    key: String,
    properties: BasicProperties,
    body: Bytes,
}

/// What became of parcels that the server has answered for.
struct Sent {
    /// Which it did not take.
    refused: BTreeSet<usize>,
    /// How many nobody was there to keep.
    returned: u32,
}

impl Shared {
    /// Publishes all of this.
    pub(super) async fn publish(&self, batches: &[Publish]) -> Result<Receipt> {
        let session = self.session().await?;
        for publish in batches {
            supported(publish)?;
            self.ensure_topic(&session, &publish.topic).await?;
        }
        let mut parcels = Vec::new();
        for publish in batches {
            parcels.extend(self.parcels(&session, publish).await?);
        }
        let bound = |topic: &Topic| self.topics.lock().bound(topic);
        let returned = self.deliver(parcels, bound).await?;
        let now = time::now();
        let mut topics = self.topics.lock();
        let mut all = 0_u32;
        for publish in batches {
            all = all.saturating_add(publish.payload.len());
            if let Some(delay) = delay(publish)? {
                let copies = topics.subscriptions(&publish.topic).len();
                topics.delayed(&publish.topic, now + delay.wait(), copies * publish.payload.len() as usize);
            }
        }
        Ok(Receipt { stored: all.saturating_sub(returned), duplicates: 0 })
    }

    async fn parcels(&self, session: &Session, publish: &Publish) -> Result<Vec<Parcel>> {
        let names = Names::of(&publish.topic)?;
        let (exchange, key) = match delay(publish)? {
            Some(delay) => self.delayed(session, &publish.topic, delay, EVERYONE).await?,
            None => (names.exchange().to_string(), String::new()),
        };
        let parcel = |one: &Publish| self.parcel(one, Attempts::default(), exchange.clone(), key.clone());
        letter::split(publish)?.iter().map(parcel).collect()
    }

    /// One message to this exchange, under this key.
    pub(super) fn parcel(&self, one: &Publish, attempts: Attempts, exchange: String, key: String) -> Result<Parcel> {
        let (properties, body) = letter::write(one, attempts, self.wall.unix_millis() / 1000)?;
        Ok(Parcel { topic: one.topic.clone(), exchange, key, properties, body })
    }

    /// Where what is delayed so goes first, and under which key; what it will pass through is made.
    pub(super) async fn delayed(
        &self,
        session: &Session,
        topic: &Topic,
        delay: Delay,
        word: &str,
    ) -> Result<(String, String)> {
        let names = Names::of(topic)?;
        let missing = self.topics.lock().missing(topic, delay);
        if !missing.levels.is_empty() || !missing.rungs.is_empty() {
            for level in missing.levels.clone() {
                self.make(session, &topology::level(&names, level)).await?;
            }
            for level in &missing.rungs {
                self.make(session, &topology::rung(&names, *level)).await?;
            }
            self.topics.lock().made(topic, &missing);
        }
        Ok((names.delay(delay.top()), delay.key(word)))
    }

    /// Sends all of this; at the bound of its topic, it waits or is refused. How many nobody was there to keep.
    pub(super) async fn deliver(&self, mut parcels: Vec<Parcel>, bound: impl Fn(&Topic) -> Bound) -> Result<u32> {
        let (mut returned, mut tries) = (0, 0);
        loop {
            let session = self.session().await?;
            let sent = send(&session, &parcels).await.inspect_err(|error| {
                if error.kind() == Kind::NotFound {
                    parcels.iter().for_each(|parcel| self.topics.lock().forget(&parcel.topic));
                }
            })?;
            returned += sent.returned;
            let mut at = 0..parcels.len();
            parcels.retain(|_| at.next().is_some_and(|at| sent.refused.contains(&at)));
            let Some(first) = parcels.first() else { return Ok(returned) };
            if let Some(full) = parcels.iter().find(|parcel| bound(&parcel.topic) == Bound::Refuse) {
                return Err(refused(&full.topic));
            }
            tracing::debug!(topic = %first.topic, "waiting for room");
            let wait = ROOM.wait(tries, &mut self.rng.lock());
            time::sleep(wait).await;
            tries += 1;
        }
    }

    /// Sends all of this once, and says whether the server took it.
    pub(super) async fn try_deliver(&self, session: &Session, parcels: &[Parcel]) -> Result<bool> {
        let sent = send(session, parcels).await?;
        if sent.returned > 0 {
            return Err(Error::new(Kind::NotFound, "its queue is not there any more"));
        }
        Ok(sent.refused.is_empty())
    }
}

/// Sends all of this over one channel, and waits for what the server says of each.
async fn send(session: &Session, parcels: &[Parcel]) -> Result<Sent> {
    let mut sent = Sent { refused: BTreeSet::new(), returned: 0 };
    if parcels.is_empty() {
        return Ok(sent);
    }
    let channel = session.publisher().await?;
    let (mut rest, mut under_way) = (parcels.iter(), FuturesOrdered::new());
    let mut at = 0;
    loop {
        while under_way.len() < WINDOW
            && let Some(parcel) = rest.next()
        {
            under_way.push_back(publish(&channel, parcel));
        }
        // one answer at a time is bounded, not all together: a large batch may take its time
        match session.call(under_way.next().map(Option::transpose)).await? {
            None => break,
            Some(Confirmation::Ack(None)) => {}
            Some(Confirmation::Ack(Some(_))) => sent.returned += 1,
            Some(Confirmation::Nack(_)) => drop(sent.refused.insert(at)),
            Some(Confirmation::NotRequested) => {
                return Err(Error::new(Kind::Failed, "the server confirms nothing on this channel"));
            }
        }
        at += 1;
    }
    drop(under_way);
    session.idle_publisher(channel);
    Ok(sent)
}

async fn publish(channel: &Channel, parcel: &Parcel) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (exchange, key) = (parcel.exchange.as_str().into(), parcel.key.as_str().into());
    channel.basic_publish(exchange, key, options, &parcel.body, parcel.properties.clone()).await?.await
}

fn supported(publish: &Publish) -> Result {
    let lack = if publish.priority > 0 {
        "the broker amqp heeds no priorities: RabbitMQ's quorum queues have none before 4.0"
    } else if publish.key.is_some() {
        "the broker amqp keeps no order per key: RabbitMQ hands out the next of a key while one is out"
    } else {
        return delay(publish).map(drop);
    };
    Err(Error::new(Kind::Unsupported, lack).at(format!("topic {}", publish.topic)))
}

fn delay(publish: &Publish) -> Result<Option<Delay>> {
    if publish.delay.is_zero() {
        return Ok(None);
    }
    Delay::of(publish.delay).map(Some).ok_or_else(|| too_long().at(format!("topic {}", publish.topic)))
}

/// A delay that the ladder does not reach.
#[cold]
pub(super) fn too_long() -> Error {
    let days = Delay::MAX.wait().as_secs() / 86_400;
    Error::new(Kind::Unsupported, format!("the broker amqp delays by {days} days at most"))
}

#[cold]
fn refused(topic: &Topic) -> Error {
    let message = "it is full, or its queue cannot take more for now";
    Error::new(Kind::Overloaded, message).at(format!("topic {topic}"))
}
