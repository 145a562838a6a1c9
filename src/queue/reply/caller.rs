//! The side that asks.

use super::{CORRELATION, ERROR, REPLY_TO, WITHIN};
use crate::base::{
    Deadline, Error, Kind, Result, Seed,
    hash::Map,
    sync::{
        Lock,
        atomic::{AtomicU64, Ordering},
    },
    time,
};
use crate::queue::{
    Broker, BrokerExt, Codec, Delivery, Id, Json, Payload, Publish, Step, Topic, TopicOptions, Want, id::Ids,
};
use futures::future::BoxFuture;
use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::oneshot;
use tower::Service;

/// Asks over one topic and is answered over another: a [`tower::Service`] from a request to its reply.
///
/// The request is a message of the topic that [responders](super::respond) consume; the reply comes to a topic of the
/// caller's own, and is told to the request that it answers by its correlation id. [`run_until`](Caller::run_until) takes
/// in the replies: run it beside the calls. Clones share.
///
/// # Guarantees
/// A request that was stored is worked on, though the caller be gone. A reply that nobody waits for any more is dropped.
///
/// # Not guaranteed
/// That replies to a caller that is gone are taken in: those to requests that were under way stay in its topic until a
/// caller of that name comes back. And that a request whose call timed out was not worked on: whether it was is unknown, as over any network. A responder
/// does not begin one whose deadline is over.
///
/// # Errors
/// [`Kind::Timeout`] where no reply came within [`within`](Caller::within), naming the topic and the request; the
/// responder's own error with its kind and words; the broker's.
///
/// **Cancel-safety**: a dropped call is forgotten; the request goes on.
///
/// ```
/// use seedpod::queue::{self, Broker, Caller, Memory, Topic, TopicOptions};
/// use std::{sync::Arc, time::Duration};
/// use tower::{Service, ServiceExt};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let (broker, squares): (Arc<dyn Broker>, _) = (Arc::new(Memory::new()), Topic::new("squares"));
/// broker.declare(&squares, TopicOptions::new().subscription("calculators")).await?;
///
/// let square = tower::service_fn(|number: u64| async move { Ok::<_, seedpod::Error>(number * number) });
/// let calculator = queue::respond::<u64, u64, _>(broker.clone(), squares.subscription("calculators"), square);
///
/// let caller: Caller<u64, u64> = Caller::open(broker, squares, "replies.desk-1").await?;
/// let call = async {
///     assert_eq!(caller.clone().oneshot(7).await?, 49);
///     Ok::<_, seedpod::Error>(())
/// };
/// let a_while = || tokio::time::sleep(Duration::from_secs(1));
/// tokio::try_join!(call, caller.run_until(a_while()), calculator.run_until(a_while()))?;
/// # Ok(()) }
/// ```
pub struct Caller<Req, Res> {
    inner: Arc<Inner>,
    types: PhantomData<fn(Req) -> Res>,
}

struct Inner {
    broker: Arc<dyn Broker>,
    requests: Topic,
    replies: Topic,
    within: AtomicU64,
    ids: Ids,
    waiting: Lock<Map<Id, oneshot::Sender<Delivery>>>,
}

/// The subscription of a caller to its own replies.
const CALLER: &str = "caller";

/// As long as HTTP clients wait by custom.
const PATIENCE: Duration = Duration::from_secs(30);

impl<Req, Res> Caller<Req, Res> {
    /// Asks over this topic, which its responders declare, and is answered over that one, which is the caller's alone:
    /// name it after the caller, such as its pod.
    ///
    /// # Errors
    /// The broker's.
    pub async fn open(
        broker: Arc<dyn Broker>,
        requests: impl Into<Topic>,
        replies: impl Into<Topic>,
    ) -> Result<Caller<Req, Res>> {
        let (requests, replies) = (requests.into(), replies.into());
        broker.declare(&replies, TopicOptions::new().subscription(CALLER)).await?;
        let ids = Ids::new(replies.name(), Seed::fresh().fork("caller"));
        let inner = Inner {
            broker,
            ids,
            requests,
            replies,
            within: AtomicU64::new(PATIENCE.as_millis() as u64),
            waiting: Lock::default(),
        };
        Ok(Caller { inner: Arc::new(inner), types: PhantomData })
    }

    /// Waits this long for a reply, to the millisecond. Default 30 s. For all clones, from the next call on.
    #[must_use]
    pub fn within(self, within: Duration) -> Self {
        let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.inner.within.store(millis, Ordering::Relaxed);
        self
    }

    /// Takes in replies until told to stop. Once for all clones; calls wait for it.
    ///
    /// **Cancel-safety**: dropped, replies stay in their topic until it runs again, or their callers give up.
    ///
    /// # Errors
    /// The broker's, where it refuses for good; while it is out of reach, it waits and tries again.
    pub async fn run_until(&self, stop: impl Future<Output = ()>) -> Result {
        let inner = &self.inner;
        let own = inner.replies.subscription(CALLER);
        let take_in = async {
            loop {
                let leased = inner.broker.lease(&own, Want::items(64).chunk(1)).await;
                match leased {
                    Ok(deliveries) => {
                        let mut step = Step::new();
                        for delivery in deliveries {
                            step = step.ack(delivery.lease);
                            inner.hand_over(delivery);
                        }
                        match inner.broker.settle(step).await {
                            Ok(()) => {}
                            // they come again, and nobody waits for them then
                            Err(error) if error.kind() == Kind::LeaseLost || error.is_retryable() => {}
                            Err(error) => return Err(error),
                        }
                    }
                    Err(error) if error.is_retryable() => {
                        time::sleep(error.retry_after().unwrap_or(Duration::from_secs(1))).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        tokio::select! {
            biased;
            () = stop => Ok(()),
            ended = take_in => ended,
        }
    }
}

impl Inner {
    fn hand_over(&self, reply: Delivery) {
        let Some(id) = reply.batch.headers.get(CORRELATION).and_then(|id| id.parse().ok()) else { return };
        let waiting = self.waiting.lock().remove(&id);
        if let Some(waiting) = waiting {
            let _ = waiting.send(reply); // it may have given up just now
        }
    }
}

/// A call that is forgotten when it is dropped.
struct Waiting<'a>(&'a Inner, Id);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.lock().remove(&self.1);
    }
}

impl<Req, Res> Service<Req> for Caller<Req, Res>
where
    Req: Send + Sync + 'static,
    Res: Clone + 'static,
    Json: Codec<Req> + Codec<Res>,
{
    type Response = Res;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Res>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let inner = self.inner.clone();
        Box::pin(async move {
            let id = inner.ids.next();
            let within = Duration::from_millis(inner.within.load(Ordering::Relaxed));
            let deadline = Deadline::within(within);
            let publish = Publish::new(&inner.requests, id, Payload::value(request, Json))
                .header(REPLY_TO, inner.replies.as_str())
                .header(CORRELATION, id.to_string())
                .header(WITHIN, within.as_millis().to_string());
            let (told, reply) = oneshot::channel();
            inner.waiting.lock().insert(id, told);
            let _waiting = Waiting(&inner, id);
            let answered = async {
                inner.broker.send(publish).await?;
                reply.await.map_err(|_| Error::new(Kind::Closed, "the caller is gone"))
            };
            let reply = tokio::select! {
                biased;
                reply = answered => reply?,
                () = time::sleep_until(deadline.instant()) => {
                    let message = format!("no reply to request {id} within {} s", within.as_secs_f64());
                    return Err(Error::new(Kind::Timeout, message).at(format!("topic {}", inner.requests)));
                }
            };
            read(&reply)
        })
    }
}

/// The reply, or the error that it is.
fn read<Res: Clone + 'static>(reply: &Delivery) -> Result<Res>
where
    Json: Codec<Res>,
{
    if let Some(kind) = reply.batch.headers.get(ERROR) {
        let kind = KINDS.into_iter().find(|known| known.as_str() == kind).unwrap_or(Kind::Failed);
        let words = String::from_utf8_lossy(&reply.bytes(0)?).into_owned();
        return Err(Error::new(kind, words).at("responder"));
    }
    match reply.get::<Res>(0) {
        Some(value) => Ok(value.clone()),
        None => Json::decode(&reply.bytes(0)?),
    }
}

/// Those that a responder's error may be of; others arrive as [`Kind::Failed`].
const KINDS: [Kind; 9] = [
    Kind::Timeout,
    Kind::Overloaded,
    Kind::Unavailable,
    Kind::Rejected,
    Kind::Conflict,
    Kind::NotFound,
    Kind::Invalid,
    Kind::Unsupported,
    Kind::Closed,
];

impl<Req, Res> Clone for Caller<Req, Res> {
    fn clone(&self) -> Self {
        Caller { inner: self.inner.clone(), types: PhantomData }
    }
}

impl<Req, Res> fmt::Debug for Caller<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("requests", &self.inner.requests)
            .field("replies", &self.inner.replies)
            .finish_non_exhaustive()
    }
}
