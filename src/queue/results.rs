//! What becomes of the bytes that a worker answers with.

use super::{Broker, BrokerExt, Id, Message, Publish, Topic};
use crate::base::{BoxError, Error, Kind, Result};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

/// A service that answers with bytes, as a worker of [`consume`](super::consume): the answer is published, or dropped.
///
/// # Guarantees
/// A result is published before its message is acknowledged, under an id that is [derived](Id::derive) from the message's:
/// where a message is worked on twice, a topic that [dedups](super::TopicOptions::dedup) keeps one result.
///
/// # Errors
/// Those of the service; a refused publish fails the message, which is worked on again.
#[derive(Clone)]
pub struct Results<S> {
    service: S,
    to: Option<(Arc<dyn Broker>, Topic)>,
}

impl<S> Results<S> {
    /// Nobody needs them.
    pub fn dropped(service: S) -> Self {
        Results { service, to: None }
    }

    /// They go to this topic, with the key of the message.
    pub fn published(service: S, broker: Arc<dyn Broker>, topic: impl Into<Topic>) -> Self {
        Results { service, to: Some((broker, topic.into())) }
    }

    /// The id of the result that is published for this message.
    pub fn id(message: &Message) -> Id {
        Id::derive(&message.subscription().name, message.id(), 0, 0)
    }
}

impl<S> Service<Message> for Results<S>
where
    S: Service<Message, Response = Bytes>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = Error;
    type Future = BoxFuture<'static, Result>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        self.service.poll_ready(cx).map_err(|error| Error::adopt(error, Kind::Failed))
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let work = self.service.call(message.clone());
        let to = self.to.clone();
        Box::pin(async move {
            let result = work.await.map_err(|error| Error::adopt(error, Kind::Failed))?;
            if let Some((broker, topic)) = to {
                let mut publish = Publish::new(topic, Results::<S>::id(&message), result);
                publish.key = message.key().cloned();
                broker.send(publish).await?;
            }
            Ok(())
        })
    }
}

impl<S> fmt::Debug for Results<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").field("to", &self.to.as_ref().map(|(_, topic)| topic)).finish_non_exhaustive()
    }
}
