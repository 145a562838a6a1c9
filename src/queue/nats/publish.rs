//! Publishing: confirmed, under an id that the server knows again, within the topic's bound.

use super::{
    answers::Question,
    core::{Core, Known},
    link::{FULL, Link, Refusal, refused},
};
use crate::base::{
    Backoff, Error, Few, Kind, Result, Seed,
    time::{self, Deadline},
};
use crate::queue::{
    Bound, Publish, Receipt,
    wire::{self, Frame},
};
use async_nats::{HeaderMap, HeaderName, Message, Subject};
use futures::future;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{borrow::Cow, sync::Arc, time::Duration};

/// How many publishes of one call are under way at once.
const WINDOW: usize = 256;
/// Between looks whether there is room.
const ROOM: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(250));

/// A publish, ready to be sent.
pub(super) struct Parcel {
    known: Arc<Known>,
    subject: Subject,
    frame: Frame,
    /// Under which the server knows it again.
    id: String,
    items: u32,
}

impl Parcel {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.frame.headers {
            match name {
                Cow::Borrowed(name) => headers.insert(HeaderName::from_static(name), value.as_str()),
                Cow::Owned(name) => headers.insert(name.as_str(), value.as_str()),
            }
        }
        headers.insert(HeaderName::from_static("Nats-Msg-Id"), self.id.as_str());
        headers
    }

    fn question(&self) -> Question {
        Question { subject: self.subject.clone(), headers: Some(self.headers()), body: self.frame.body.clone() }
    }
}

/// What the server says of a publish.
#[derive(Deserialize)]
struct Confirmation {
    #[serde(default)]
    duplicate: bool,
    error: Option<Value>,
}

/// Whether the server had it already; or why it does not take it.
fn confirmed(answer: &Message) -> Result<Result<bool, Refusal>> {
    let confirmation: Confirmation = serde_json::from_slice(&answer.payload)?;
    Ok(match confirmation.error {
        None => Ok(confirmation.duplicate),
        Some(error) => refused(json!({ "error": error })).map(|_| false),
    })
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
        let id = match known.declared.dedup() {
            Some(_) => publish.id.to_string(),
            None => self.unique(), // known again only when this very call tries again
        };
        let items = publish.payload.len();
        let subject = match items {
            1 => known.single.clone(),
            _ => self.names().subject(publish.topic.name(), items).into(),
        };
        Ok(Parcel { known, subject, frame, id, items })
    }

    /// Sends all of them, in order, and waits for every confirmation.
    pub(super) async fn send(self: &Arc<Self>, parcels: &[Parcel]) -> Result<Receipt> {
        let mut sum = Receipt::default();
        for window in parcels.chunks(WINDOW) {
            let mut rest: Vec<&Parcel> = Vec::new();
            if window.iter().all(|parcel| parcel.items == 1) {
                let answers = self.link().await?.ask_all(window.iter().map(Parcel::question)).await;
                for (parcel, answer) in window.iter().zip(answers) {
                    match answer.map(|answer| confirmed(&answer)) {
                        Ok(Ok(Ok(false))) => sum.stored += self.counted(parcel).await?,
                        Ok(Ok(Ok(true))) => sum.duplicates += 1,
                        _ => rest.push(parcel), // is sent again, which says what is wrong or waits until it is not
                    }
                }
            } else {
                rest.extend(window);
            }
            for one in future::try_join_all(rest.into_iter().map(|parcel| Box::pin(self.deliver(parcel)))).await? {
                (sum.stored, sum.duplicates) = (sum.stored + one.stored, sum.duplicates + one.duplicates);
            }
        }
        Ok(sum)
    }

    /// How many items are stored where the server has taken them: none where nobody keeps them.
    async fn counted(self: &Arc<Self>, parcel: &Parcel) -> Result<u32> {
        Ok(if self.is_subscribed(&parcel.known).await? { parcel.items } else { 0 })
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
                Ok(true) => return Ok(Receipt { stored: 0, duplicates: items }),
                Ok(false) => return Ok(Receipt { stored: self.counted(parcel).await?, duplicates: 0 }),
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

    /// Sends it until it is confirmed, for as long as the server knows it again if it has it already: whether it had. An
    /// inner error is a full topic.
    async fn attempt(self: &Arc<Self>, link: &Link, parcel: &Parcel) -> Result<Result<bool, u64>> {
        let window = parcel.known.declared.window();
        let until = Deadline::within((2 * link.timeout).min(window / 2));
        loop {
            let sent = time::now();
            match link.ask(parcel.subject.to_string(), Some(parcel.headers()), parcel.frame.body.clone()).await {
                Ok(answer) => match confirmed(&answer)? {
                    Ok(known) => return Ok(Ok(known)),
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
