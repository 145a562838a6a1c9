//! JetStream by hand with async-nats: publishes with an id and a confirmation, a durable pull consumer, acknowledgements
//! that are confirmed; a window of them under way at a time.

use async_nats::{
    Client,
    jetstream::{self, Context, consumer::PullConsumer, message::PublishMessage, stream},
};
use bytes::Bytes;
use futures::{StreamExt, future};
use std::{error::Error, hint::black_box, time::Duration};

/// How many publishes, messages and acknowledgements are under way at once.
pub const WINDOW: u64 = 256;

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A stream by interest, and one consumer of it.
pub struct ByHand {
    client: Client,
    jetstream: Context,
    consumer: PullConsumer,
    body: Bytes,
}

impl ByHand {
    pub async fn new(url: &str, body: Bytes) -> Result<ByHand> {
        let client = async_nats::connect(url).await?;
        let jetstream = jetstream::new(client.clone());
        let config = stream::Config {
            name: "by-hand".to_string(),
            subjects: vec!["by-hand".to_string()],
            retention: stream::RetentionPolicy::Interest,
            discard: stream::DiscardPolicy::New,
            duplicate_window: Duration::from_secs(120),
            ..stream::Config::default()
        };
        let stream = jetstream.create_stream(config).await?;
        let config = jetstream::consumer::pull::Config {
            durable_name: Some("worker".to_string()),
            max_ack_pending: -1,
            ..Default::default()
        };
        Ok(ByHand { client, jetstream, consumer: stream.create_consumer(config).await?, body })
    }

    /// Publishes messages with these numbers as their ids.
    pub async fn publish(&self, first: u64, count: u64) -> Result {
        let mut at = first;
        while at < first + count {
            let until = (at + WINDOW).min(first + count);
            let mut confirmations = Vec::with_capacity(WINDOW as usize);
            for number in at..until {
                let message = PublishMessage::build().payload(self.body.clone()).message_id(format!("{number:032x}"));
                confirmations.push(self.jetstream.send_publish("by-hand", message).await?);
            }
            for confirmation in confirmations {
                black_box(confirmation.await?.sequence);
            }
            at = until;
        }
        Ok(())
    }

    /// Takes so many and acknowledges them.
    pub async fn settle(&self, count: u64) -> Result {
        let mut left = count;
        while left > 0 {
            let most = left.min(WINDOW) as usize;
            let mut messages = self.consumer.fetch().max_messages(most).messages().await?;
            let mut got = Vec::with_capacity(most);
            while let Some(message) = messages.next().await {
                got.push(message?);
            }
            // one subscription for all answers, as for other requests: double_ack makes one for each
            let ack = |message: jetstream::Message| {
                let client = self.client.clone();
                async move { client.request(message.reply.clone().unwrap_or_else(|| "".into()), "+ACK".into()).await }
            };
            left -= got.len() as u64;
            future::try_join_all(got.into_iter().map(ack)).await?;
        }
        Ok(())
    }
}
