//! The ambassador of a worker container that knows no queue: it leases, hands over, and settles by the answer.

mod files;
#[cfg(feature = "http")]
mod http;

pub use files::ByFile;
#[cfg(feature = "http")]
pub use http::ByHttp;

use super::{Broker, Consume, Message, Results, Subscription, Topic, consume};
use crate::{
    base::{Error, Result},
    pod::{Container, Context},
};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::{fmt, sync::Arc};
use tower::util::BoxCloneSyncService;

/// How an ambassador hands items to the container beside it: [`ByFile`], or `ByHttp` (feature `http`).
pub trait HandOver: Send + Sync + 'static {
    /// What hands over, for one run of the ambassador: a service from messages to what the worker answers. Its errors say
    /// what becomes of the message, as those of any worker do.
    ///
    /// # Errors
    /// What the container lacks: its volume, say.
    fn begin(&self, context: &Context) -> Result<Hand>;
}

/// A service from messages to what the worker answers.
pub type Hand = BoxCloneSyncService<Message, Bytes, Error>;

/// The ambassador of the worker container beside it: leases messages of the subscription, one at a time unless told
/// otherwise, hands each over, and settles it by the answer.
///
/// So a worker needs no library and knows no queue: it answers HTTP requests, or reads and writes files.
///
/// ```text
///            pod
///  broker ◀──┼── ambassador ──localhost or a volume──▶ worker
/// ```
///
/// Leases, retries, dead letters and the stop are those of [`consume`]: [`each`](Ambassador::each) sets them.
///
/// ```
/// use seedpod::{net::Net, pod::{ContainerSpec, Context, Pod, PodSpec, Volume}};
/// use seedpod::queue::{self, Broker, BrokerExt, ByFile, Id, Memory, Publish, Topic, TopicOptions};
/// use std::sync::Arc;
///
/// async fn shout(context: Context) -> seedpod::Result {
///     let desk = context.volume("desk")?;
///     let mut changes = desk.watch();
///     loop {
///         for item in desk.list("in/")? {
///             let text = String::from_utf8_lossy(&desk.read(&item)?).to_uppercase();
///             desk.remove(&item)?;
///             desk.write(&item.replacen("in/", "done/", 1), text)?;
///         }
///         changes.changed().await;
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let (broker, words) = (Arc::new(Memory::new()), Topic::new("words"));
/// broker.declare(&words, TopicOptions::new().subscription("shout")).await?;
/// broker.declare(&Topic::new("loud"), TopicOptions::new().subscription("all")).await?;
/// broker.send(Publish::new(&words, Id::of("1"), "hello")).await?;
///
/// let ambassador = queue::ambassador(broker.clone(), words.subscription("shout"), ByFile::volume("desk")).results("loud");
/// let spec = PodSpec::new("shout")
///     .volume("desk", Volume::memory())
///     .container(ContainerSpec::new("worker", shout).mount("desk", "/desk"))
///     .container(ContainerSpec::new("ambassador", ambassador).mount("desk", "/desk"));
/// let _pod = Pod::start(spec, &Net::memory().build())?;
/// let loud = broker.lease(&Topic::new("loud").subscription("all"), queue::Want::one()).await?;
/// assert_eq!(loud[0].bytes(0)?, "HELLO");
/// # Ok(()) }
/// ```
pub fn ambassador(broker: Arc<dyn Broker>, subscription: Subscription, hand_over: impl HandOver) -> Ambassador {
    let each = Arc::new(|consume| consume);
    Ambassador { broker, subscription, hand_over: Arc::new(hand_over), results: None, each }
}

type Pump = Consume<Results<Hand>>;

/// The container that [`ambassador`] makes.
#[derive(Clone)]
#[must_use = "it is a container: a pod has to run it"]
pub struct Ambassador {
    broker: Arc<dyn Broker>,
    subscription: Subscription,
    hand_over: Arc<dyn HandOver>,
    results: Option<Topic>,
    each: Arc<dyn Fn(Pump) -> Pump + Send + Sync>,
}

impl Ambassador {
    /// Publishes what the worker answers to this topic of the same broker, as [`Results`] does. Default: it is dropped.
    pub fn results(mut self, topic: impl Into<Topic>) -> Self {
        self.results = Some(topic.into());
        self
    }

    /// Makes the pump so: how many messages at once, attempts, back-off, how long a lease holds.
    pub fn each(mut self, each: impl Fn(Pump) -> Pump + Send + Sync + 'static) -> Self {
        self.each = Arc::new(each);
        self
    }
}

impl Container for Ambassador {
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        let own = self.clone();
        Box::pin(async move {
            let hand = own.hand_over.begin(&context)?;
            let service = match own.results {
                Some(topic) => Results::published(hand, topic),
                None => Results::dropped(hand),
            };
            (own.each)(consume(own.broker, own.subscription, service)).run(context).await
        })
    }
}

impl fmt::Debug for Ambassador {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ambassador").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}
