//! A container per item: the seam behind which a pod here, or a cluster's job, works on one message and ends.

mod pod;

pub use pod::PodLauncher;

use super::{Broker, Consume, Message, Results, Subscription, consume};
use crate::base::{Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

/// Starts one container for one item, waits for its end, and returns what it left.
///
/// Object-safe. [`PodLauncher`] is one, so is an `Arc` of one; a cluster's jobs are another.
///
/// # Guarantees that the implementor owes
/// - Another call is another container, also for the same item: nothing of a failed one is used again.
/// - Dropping the future kills the container: a lost lease or a stop leaves none behind that works on.
///
/// # Errors
/// They say what becomes of the item, as those of any worker do: [`Invalid`](crate::Kind::Invalid) gives it up, one with a
/// [`retry_after`](Error::retry_after) costs no attempt, any other does.
#[async_trait]
pub trait Launcher: Send + Sync + 'static {
    /// Works on this item in a container of its own.
    ///
    /// # Errors
    /// As above.
    async fn launch(&self, item: &Message) -> Result<Bytes>;
}

#[async_trait]
impl<L: Launcher + ?Sized> Launcher for Arc<L> {
    async fn launch(&self, item: &Message) -> Result<Bytes> {
        (**self).launch(item).await
    }
}

/// Works on each message of the subscription in a container of its own, one at a time unless told otherwise: a
/// [`consume`] whose service is [`PerItem`], with the same leases, retries and dead letters. What a container leaves is
/// dropped: [`Results`] does more with it.
///
/// ```
/// use seedpod::{net::Net, pod::{ContainerSpec, Context, PodSpec}};
/// use seedpod::queue::{self, Broker, BrokerExt, Id, Memory, PodLauncher, Publish, Topic, TopicOptions};
/// use std::{sync::Arc, time::Duration};
///
/// async fn resize(context: Context) -> seedpod::Result {
///     let picture = context.volume("item")?.read("input")?;
///     context.log(format!("{} bytes", picture.len()));
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let (broker, pictures) = (Arc::new(Memory::new()), Topic::new("pictures"));
/// broker.declare(&pictures, TopicOptions::new().subscription("resize")).await?;
/// broker.send(Publish::new(&pictures, Id::of("cat.png"), "a cat")).await?;
///
/// let pods = PodLauncher::new(PodSpec::new("resize").container(ContainerSpec::new("app", resize)), &Net::memory().build());
/// let pump = queue::launch(broker.clone(), pictures.subscription("resize"), pods).concurrency(4);
/// pump.run_until(tokio::time::sleep(Duration::from_secs(1))).await?;
/// assert_eq!(broker.inspect(&pictures).await?.stored, 0);
/// # Ok(()) }
/// ```
pub fn launch<L: Launcher>(
    broker: Arc<dyn Broker>,
    subscription: Subscription,
    launcher: L,
) -> Consume<Results<PerItem<L>>> {
    consume(broker, subscription, Results::dropped(PerItem::new(launcher)))
}

/// A [`Launcher`] as a service from messages to what their containers leave. Cheap to clone.
pub struct PerItem<L>(Arc<L>);

impl<L: Launcher> PerItem<L> {
    /// A container of this launcher per message.
    pub fn new(launcher: L) -> Self {
        PerItem(Arc::new(launcher))
    }
}

impl<L> Clone for PerItem<L> {
    fn clone(&self) -> Self {
        PerItem(self.0.clone())
    }
}

impl<L: Launcher> Service<Message> for PerItem<L> {
    type Response = Bytes;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Bytes>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, item: Message) -> Self::Future {
        let launcher = self.0.clone();
        Box::pin(async move { launcher.launch(&item).await })
    }
}

impl<L> std::fmt::Debug for PerItem<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PerItem(..)")
    }
}
