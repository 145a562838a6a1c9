//! The loop: look, decide, set.

use super::{Decision, Inputs, Meter, Policy, Scale, State};
use crate::{
    base::{Result, time},
    pod::{Container, Context},
    queue::{Broker, Subscription, Topic, TopicStats},
};
use futures::future::BoxFuture;
use std::{fmt, future::Future, pin::pin, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Sees to it that a subscription has as many workers as its [`Policy`] wants.
///
/// Every 5 s it asks the broker what waits and the [`Scale`] what is there, reads the [`Meter`], decides, and sets the
/// number of workers where it is to change. Each [`Decision`] says why: it is traced, handed to
/// [`on_decision`](Autoscaler::on_decision), and [watched](Autoscaler::decisions).
///
/// Workers report to the meter that the [`Scale`] has, or that it is [given](Autoscaler::meter). Where nobody reports,
/// nothing is known of how long items take: one worker stays a probe for ever.
///
/// When it ends the workers stay as they are. It remembers nothing from one run to the next, and takes what it finds for
/// what was wanted: no run begins by taking workers away.
///
/// # Not guaranteed
/// A broker tells what a topic holds over all of its subscriptions: where there are several, the backlog counts all.
///
/// # Errors
/// It ends when the broker or the scale refuses for good; while they are overloaded or out of reach, it leaves the workers
/// as they are and looks again.
///
/// ```
/// use seedpod::queue::{self, Broker, BrokerExt, Id, Memory, Message, Publish, Topic, TopicOptions};
/// use seedpod::queue::scale::{Autoscaler, Policy, Workers};
/// use std::{sync::Arc, time::Duration};
/// use tokio::time::sleep;
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let (broker, jobs) = (Arc::new(Memory::new()), Topic::new("jobs"));
/// broker.declare(&jobs, TopicOptions::new().subscription("workers")).await?;
/// for job in 0..1000 {
///     broker.send(Publish::json(&jobs, Id::of(format!("job {job}")), job)).await?;
/// }
/// let work = tower::service_fn(|_: Message| async {
///     sleep(Duration::from_secs(1)).await;
///     Ok::<_, seedpod::Error>(())
/// });
/// let workers = Workers::new(queue::consume(broker.clone(), jobs.subscription("workers"), work));
/// let scaler = Autoscaler::new(broker.clone(), jobs.subscription("workers"), workers.clone(), Policy::between(1..=32));
/// let decisions = scaler.decisions();
///
/// let two_minutes = || sleep(Duration::from_secs(120));
/// futures::future::try_join(workers.run_until(two_minutes()), scaler.run_until(two_minutes())).await?;
/// assert_eq!(broker.inspect(&jobs).await?.stored, 0, "one worker would have taken 1000 s");
/// println!("{}", decisions.borrow().as_ref().unwrap());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Autoscaler {
    broker: Arc<dyn Broker>,
    subscription: Subscription,
    /// What waits there: the subscription's topic, or all lines of its queue.
    topics: Vec<Topic>,
    scale: Arc<dyn Scale>,
    policy: Policy,
    meter: Meter,
    every: Duration,
    told: Option<Arc<dyn Fn(&Decision) + Send + Sync>>,
    decisions: Arc<watch::Sender<Option<Decision>>>,
}

impl Autoscaler {
    /// Scales the workers of this subscription by this policy.
    pub fn new(broker: Arc<dyn Broker>, subscription: Subscription, scale: impl Scale, policy: Policy) -> Self {
        let meter = scale.meter().unwrap_or_default();
        let (decisions, scale) = (Arc::new(watch::Sender::new(None)), Arc::new(scale));
        let every = Duration::from_secs(5);
        let topics = vec![subscription.topic.clone()];
        Autoscaler { broker, subscription, topics, scale, policy, meter, every, told: None, decisions }
    }

    /// What waits in all of these is its backlog.
    pub(super) fn topics(mut self, topics: Vec<Topic>) -> Self {
        self.topics = topics;
        self
    }

    /// Reads this meter, to which the workers report; whoever publishes may report the arrivals to it.
    #[must_use]
    pub fn meter(mut self, meter: Meter) -> Self {
        self.meter = meter;
        self
    }

    /// How often it decides; at least every hour, at most every 10 ms. Default 5 s, three times as often as Kubernetes'.
    #[must_use]
    pub fn every(mut self, time: Duration) -> Self {
        self.every = time.clamp(Duration::from_millis(10), Duration::from_secs(3600));
        self
    }

    /// Is told each decision.
    #[must_use]
    pub fn on_decision(mut self, told: impl Fn(&Decision) + Send + Sync + 'static) -> Self {
        self.told = Some(Arc::new(told));
        self
    }

    /// The last decision, and each that follows; none before the first.
    pub fn decisions(&self) -> watch::Receiver<Option<Decision>> {
        self.decisions.subscribe()
    }

    /// Runs in the caller's task until told to stop.
    ///
    /// **Cancel-safety**: may be dropped at any time; the workers stay as they are.
    ///
    /// # Errors
    /// As above.
    pub async fn run_until(&self, stop: impl Future<Output = ()>) -> Result {
        let (mut stop, mut state) = (pin!(stop), State::default());
        loop {
            let step = async {
                if let Err(error) = self.step(&mut state).await {
                    if !error.is_retryable() {
                        return Err(error);
                    }
                    tracing::warn!(subscription = %self.subscription, error = %error.chain(), "nothing decided for now");
                }
                time::sleep(self.every).await;
                Ok(())
            };
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                stepped = step => stepped?,
            }
        }
    }

    /// Looks, decides, sets.
    async fn step(&self, state: &mut State) -> Result {
        let place = || format!("autoscaler of {}", self.subscription);
        let mut stats = TopicStats::default();
        for topic in &self.topics {
            stats = stats.and(self.broker.inspect(topic).await.map_err(|error| error.at(place()))?);
        }
        self.meter.seen(&stats);
        let mut workers = self.scale.current().await.map_err(|error| error.at(place()))?;
        let metrics = self.meter.read();
        if workers.busy == 0 {
            workers.busy = metrics.busy.saturating_sub(workers.leaving).min(workers.running);
        }
        let inputs = Inputs {
            arrival_rate: metrics.arrival_rate,
            service_time: metrics.service_time,
            backlog: stats.ready as u64,
            workers,
            finished: metrics.done + metrics.failed,
        };
        let decision = self.policy.decide(state, time::now(), &inputs);
        if decision.change() == 0 {
            tracing::debug!(subscription = %self.subscription, %decision);
        } else {
            tracing::info!(subscription = %self.subscription, %decision);
            self.scale.set(decision.want).await.map_err(|error| error.at(place()))?;
        }
        if let Some(told) = &self.told {
            told(&decision);
        }
        self.decisions.send_replace(Some(decision));
        Ok(())
    }
}

/// Told to stop, it leaves the workers as they are. What it changes goes to the container's log.
impl Container for Autoscaler {
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        let mut scaler = self.clone();
        Box::pin(async move {
            context.ready();
            let (told, own) = (scaler.told.take(), context.clone());
            let scaler = scaler.on_decision(move |decision| {
                if decision.change() != 0 {
                    own.log(decision.to_string());
                }
                if let Some(told) = &told {
                    told(decision);
                }
            });
            scaler.run_until(context.stopped()).await
        })
    }
}

impl fmt::Debug for Autoscaler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Autoscaler")
            .field("subscription", &self.subscription)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
