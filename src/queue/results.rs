//! What becomes of the bytes that a worker answers with.

use super::{Done, Id, Message, Publish, Topic};
use crate::base::{BoxError, Error, Kind, Result};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::{
    fmt,
    task::{Context, Poll},
};
use tower::Service;

/// A service that answers with bytes, as a worker of [`consume`](super::consume): the answer is published, or dropped.
///
/// # Guarantees
/// A result is published with the acknowledgement of its message, as all that a handler [made](super::Done), under an id
/// that is [derived](Id::derive) from the message's: where a broker's steps are not atomic and a message is worked on
/// twice, a topic that [dedups](super::TopicOptions::dedup) keeps one result.
///
/// # Errors
/// Those of the service; a refused publish fails the message, which is worked on again.
#[derive(Clone)]
pub struct Results<S> {
    service: S,
    to: Option<Topic>,
}

impl<S> Results<S> {
    /// Nobody needs them.
    pub fn dropped(service: S) -> Self {
        Results { service, to: None }
    }

    /// They go to this topic, with the key of the message.
    pub fn published(service: S, topic: impl Into<Topic>) -> Self {
        Results { service, to: Some(topic.into()) }
    }

    /// The id of the result that is published for this message.
    pub fn id(message: &Message) -> Id {
        message.derive(0, 0)
    }
}

impl<S> Service<Message> for Results<S>
where
    S: Service<Message, Response = Bytes>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send + 'static,
{
    type Response = Done;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Done>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        self.service.poll_ready(cx).map_err(|error| Error::adopt(error, Kind::Failed))
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let work = self.service.call(message.clone());
        let to = self.to.clone();
        Box::pin(async move {
            let result = work.await.map_err(|error| Error::adopt(error, Kind::Failed))?;
            let Some(topic) = to else { return Ok(Done::new()) };
            let mut publish = Publish::new(topic, Results::<S>::id(&message), result);
            publish.key = message.key().cloned();
            Ok(Done::new().publish(publish))
        })
    }
}

impl<S> fmt::Debug for Results<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").field("to", &self.to).finish_non_exhaustive()
    }
}
