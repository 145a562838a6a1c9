//! The side that answers.

use super::{CORRELATION, ERROR, REPLY_TO, WITHIN};
use crate::base::{BoxError, Error, Kind, Result, time};
use crate::queue::{Broker, Codec, Consume, Done, Json, Message, Payload, Publish, Subscription, Topic, consume};
use futures::future::BoxFuture;
use std::{
    fmt,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower::Service;

/// The pump that answers requests.
pub type Respond<S, Req, Res> = Consume<Responder<S, Req, Res>>;

/// Answers the requests of this subscription with this service: the reply is published with the acknowledgement, in one
/// step where the broker [can](crate::queue::Guarantees::atomic_step). See [`Caller`](super::Caller) for the other side.
///
/// | the service | the caller gets |
/// | --- | --- |
/// | answers | the answer |
/// | fails as [`Overloaded`](Kind::Overloaded) or [`Unavailable`](Kind::Unavailable) | nothing yet: the request comes back, as in [`consume`] |
/// | fails otherwise | the error: its kind and its words |
/// | panics | nothing: the request comes back, until it is given up |
///
/// A request whose deadline is over is dropped unanswered, and one without an address is worked on and not answered.
/// One that cannot be read is answered as [`Invalid`](Kind::Invalid).
pub fn respond<Req, Res, S>(broker: Arc<dyn Broker>, subscription: Subscription, service: S) -> Respond<S, Req, Res>
where
    S: Service<Req, Response = Res> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send + 'static,
    Req: Clone + Send + 'static,
    Res: Send + Sync + 'static,
    Json: Codec<Req> + Codec<Res>,
{
    consume(broker, subscription, Responder { service, types: PhantomData })
}

/// A service of requests and replies as one of messages: what [`respond`] puts into its pump.
pub struct Responder<S, Req, Res> {
    service: S,
    types: PhantomData<fn(Req) -> Res>,
}

impl<S: Clone, Req, Res> Clone for Responder<S, Req, Res> {
    fn clone(&self) -> Self {
        Responder { service: self.service.clone(), types: PhantomData }
    }
}

impl<S, Req, Res> Service<Message> for Responder<S, Req, Res>
where
    S: Service<Req, Response = Res>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send + 'static,
    Req: Clone + Send + 'static,
    Res: Send + Sync + 'static,
    Json: Codec<Req> + Codec<Res>,
{
    type Response = Done;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Done>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        self.service.poll_ready(cx).map_err(|error| Error::adopt(error, Kind::Failed))
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let within = message.headers().get(WITHIN).and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
        let over = within.is_some_and(|within| time::after(message.published(), within) <= time::now());
        if over {
            tracing::debug!(message = %message.id(), "its caller has given up");
            return Box::pin(std::future::ready(Ok(Done::new())));
        }
        match message.decode::<Req, Json>() {
            Err(error) => Box::pin(std::future::ready(answer(&message, Err::<Res, _>(error)))),
            Ok(request) => {
                let answered = self.service.call(request);
                Box::pin(async move {
                    let answered = answered.await.map_err(|error| Error::adopt(error, Kind::Failed));
                    answer(&message, answered)
                })
            }
        }
    }
}

/// The reply to be published, if there is an address.
fn answer<Res>(message: &Message, answered: Result<Res>) -> Result<Done>
where
    Res: Send + Sync + 'static,
    Json: Codec<Res>,
{
    if let Err(error) = &answered
        && matches!(error.kind(), Kind::Overloaded | Kind::Unavailable)
    {
        return Err(error.clone());
    }
    let Some(address) = message.headers().get(REPLY_TO) else { return answered.map(|_| Done::new()) };
    let (topic, id) = (Topic::new(address), message.derive(0, 0));
    let mut reply = match answered {
        Ok(value) => Publish::new(topic, id, Payload::value(value, Json)),
        Err(error) => {
            let words = error.chain();
            let words = words.strip_prefix(&format!("{}: ", error.kind())).unwrap_or(&words).to_string();
            Publish::new(topic, id, words).header(ERROR, error.kind().as_str())
        }
    };
    if let Some(correlation) = message.headers().get(CORRELATION) {
        reply = reply.header(CORRELATION, correlation);
    }
    Ok(Done::new().publish(reply))
}

impl<S, Req, Res> fmt::Debug for Responder<S, Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}
