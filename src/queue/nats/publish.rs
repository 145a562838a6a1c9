//! Publishing: confirmed, under an id that the server knows again, within the topic's bound.

use super::{
    core::{Core, Known},
    link::{FULL, Link, refused},
};
use crate::base::{
    Backoff, Error, Few, Kind, Result, Seed,
    time::{self, Deadline},
};
use crate::queue::{Bound, Publish, Receipt, wire};
use async_nats::HeaderMap;
use bytes::Bytes;
use futures::future;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// How many publishes of one call are under way at once.
const WINDOW: usize = 256;
/// Between looks whether there is room.
const ROOM: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(250));

/// A publish, ready to be sent.
pub(super) struct Parcel {
    known: Arc<Known>,
    subject: String,
    headers: HeaderMap,
    body: Bytes,
    items: u32,
}

impl Core {
    pub(super) async fn publish(self: &Arc<Self>, batches: Few<Publish>) -> Result<Receipt> {
        let parcels = self.pack(&batches).await?;
        self.send(&parcels).await
    }

    /// Makes ready what can be published: topics that are there, nothing that JetStream cannot do.
    pub(super) async fn pack(self: &Arc<Self>, batches: &[Publish]) -> Result<Vec<Parcel>> {
        let mut parcels = Vec::with_capacity(batches.len());
        for publish in batches {
            let lacks = match publish {
                Publish { priority: 1.., .. } => Some("nats heeds no priorities: publish to a topic per priority"),
                Publish { key: Some(_), .. } => {
                    Some("nats keeps no order of keys: use memory or file, or a topic per key")
                }
                _ => None,
            };
            if let Some(lacks) = lacks {
                return Err(Error::new(Kind::Unsupported, lacks).at(self.at(format!("topic {}", publish.topic))));
            }
            parcels.push(self.parcel(publish).await?);
        }
        Ok(parcels)
    }

    pub(super) async fn parcel(self: &Arc<Self>, publish: &Publish) -> Result<Parcel> {
        let known = self.known(&publish.topic).await?;
        let frame = wire::write(publish)?;
        let (most, has) = (self.link().await?.client.max_payload(), frame.size() + 16 * frame.headers.len() + 128);
        if has > most {
            let message = format!("it has {has} bytes with its headers, and the server takes {most} at most");
            return Err(Error::new(Kind::Invalid, message)
                .at(self.at(format!("topic {}, message {}", publish.topic, publish.id))));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in frame.headers {
            headers.insert(name, value);
        }
        let name = match known.declared.dedup() {
            Some(_) => publish.id.to_string(),
            None => self.unique(), // known again only when this very call tries again
        };
        headers.insert("Nats-Msg-Id", name);
        let items = publish.payload.len();
        Ok(Parcel {
            subject: self.names().subject(publish.topic.name(), items),
            known,
            headers,
            body: frame.body,
            items,
        })
    }

    /// Sends all of them, in order, and waits for every confirmation.
    pub(super) async fn send(self: &Arc<Self>, parcels: &[Parcel]) -> Result<Receipt> {
        if let [parcel] = parcels {
            return self.deliver(parcel).await;
        }
        let mut sum = Receipt::default();
        for window in parcels.chunks(WINDOW) {
            for one in future::try_join_all(window.iter().map(|parcel| self.deliver(parcel))).await? {
                (sum.stored, sum.duplicates) = (sum.stored + one.stored, sum.duplicates + one.duplicates);
            }
        }
        Ok(sum)
    }

    /// Publishes one thing that was not asked for: a dead letter.
    pub(super) async fn store(self: &Arc<Self>, publish: &Publish) -> Result<Receipt> {
        let parcel = self.parcel(publish).await?;
        self.deliver(&parcel).await
    }

    async fn deliver(self: &Arc<Self>, parcel: &Parcel) -> Result<Receipt> {
        let (known, items) = (&parcel.known, parcel.items);
        if items == 0 {
            return Ok(Receipt::default());
        }
        let link = self.link().await?;
        let place = || self.at(format!("topic {}", known.topic));
        let mut rng = None;
        let mut tries = 0;
        loop {
            let has_room = items == 1 || self.has_room(link, known, items).await.map_err(|error| error.at(place()))?;
            let answer = if has_room { self.attempt(link, parcel).await } else { Ok(Err(FULL)) };
            match answer.map_err(|error| error.at(place()))? {
                Ok(answer) if answer.get("duplicate") == Some(&json!(true)) => {
                    return Ok(Receipt { stored: 0, duplicates: items });
                }
                Ok(_) => {
                    let stored = if self.is_subscribed(known).await? { items } else { 0 };
                    return Ok(Receipt { stored, duplicates: 0 });
                }
                Err(_) if known.declared.bound() == Bound::Refuse => {
                    let message = format!("it holds {} messages, and no more may be", known.declared.capacity);
                    return Err(Error::new(Kind::Overloaded, message).at(place()));
                }
                Err(_) => {
                    let rng = rng.get_or_insert_with(|| Seed::ambient().fork("nats room").rng());
                    time::sleep(ROOM.wait(tries, rng)).await;
                    tries += 1;
                }
            }
        }
    }

    /// Sends it until it is confirmed, for as long as the server knows it again if it has it already. An inner error
    /// is a full topic.
    async fn attempt(self: &Arc<Self>, link: &Link, parcel: &Parcel) -> Result<Result<Value, u64>> {
        let window = parcel.known.declared.window();
        let until = Deadline::within((2 * link.timeout).min(window / 2));
        loop {
            let sent = time::now();
            match link.ask(parcel.subject.clone(), Some(parcel.headers.clone()), parcel.body.clone()).await {
                Ok(answer) => match refused(serde_json::from_slice(&answer.payload)?) {
                    Ok(answer) => return Ok(Ok(answer)),
                    Err(refusal) if refusal.code == FULL => return Ok(Err(FULL)),
                    Err(refusal) => return Err(link.failed("publish", &refusal)),
                },
                Err(error) if error.is_retryable() && !until.is_over() => {
                    self.forget(&parcel.known.topic);
                    self.known(&parcel.known.topic).await?; // it may be gone
                    time::sleep(Duration::from_millis(20).saturating_sub(sent.elapsed())).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a batch of so many items keeps the topic within its capacity, which the server counts in messages: those
    /// of many items are counted before.
    async fn has_room(&self, link: &Link, known: &Known, items: u32) -> Result<bool> {
        let question = json!({ "subjects_filter": self.names().subjects(known.topic.name()) });
        let info = link.must(&format!("STREAM.INFO.{}", self.names().stream(known.topic.name())), &question).await?;
        let (_, stored) = super::stats::count(&info);
        Ok(stored == 0 || stored.saturating_add(u64::from(items)) <= known.declared.capacity)
    }
}
