//! The settings of a pump.

use super::{Adaptive, Consume, Control, Quarantine};
use crate::{
    base::{Backoff, Name, Result, Seed},
    layer::Gradient2,
    pod::Context,
    queue::{
        Broker, Limit, Subscription, Topic, TopicOptions,
        lines::Lines,
        scale::{Measured, Meter},
    },
};
use std::{sync::Arc, time::Duration};

/// As good as for ever, and within what the clock can tell.
const HOLD_MAX: Duration = Duration::from_secs(86_400 * 365);

impl<S> Consume<S> {
    /// How many messages are worked on at once. Default 1; 0 counts as 1.
    pub fn concurrency(mut self, workers: usize) -> Self {
        self.concurrency = workers.max(1);
        self.control = Control::new(self.concurrency);
        self
    }

    /// How long a lease holds: a message whose worker was killed comes back after this. Default 30 s, as with SQS and
    /// NATS JetStream.
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold.clamp(Duration::from_millis(1), HOLD_MAX);
        self
    }

    /// How often a message may fail before it goes to the dead letters. Default 25, as with Sidekiq, River and Asynq.
    pub fn attempts(mut self, most: u16) -> Self {
        self.policy.attempts = most;
        self
    }

    /// How often its handler may panic before it goes to the dead letters. Default 3, as with Sidekiq's poison pills.
    pub fn crashes(mut self, most: u16) -> Self {
        self.policy.crashes = most;
        self
    }

    /// How often its lease may run out before it goes to the dead letters untried. Default 20, as RabbitMQ's delivery
    /// limit.
    pub fn lapses(mut self, most: u16) -> Self {
        self.policy.lapses = most.max(1);
        self
    }

    /// Where those go whose handlers crash, or lose their leases, again and again. Default: nowhere, they stay in line
    /// with the others.
    pub fn quarantine(mut self, quarantine: Quarantine) -> Self {
        self.policy.quarantine = Some(quarantine.after);
        self.quarantine = Some(quarantine);
        self
    }

    /// For how long a handler may wait without a sign of life before its lease is no longer renewed; it ends with the
    /// lease, charged as a lapse. A sign of life is whatever wakes its future, and
    /// [`Message::alive`](crate::queue::Message::alive). Default 1 hour, as long as Google's Pub/Sub clients extend a lease.
    pub fn silence(mut self, most: Duration) -> Self {
        self.silence = most;
        self
    }

    /// Told to stop, waits this long for what runs, then drops it and hands it back, uncharged. Default: until it has
    /// ended; in a pod the grace ends it, and what it held comes back as a lapse when its lease has run out. Less than the
    /// pod's grace burns no attempt.
    pub fn drain(mut self, within: Duration) -> Self {
        self.drain = Some(within);
        self
    }

    /// For how long the results of a queue's jobs are kept. Default 1 hour.
    pub fn results(mut self, keep: Duration) -> Self {
        self.results = keep;
        self
    }

    /// Holds back what is too much at a time: see [`Limit`]. Default: none; several are all kept.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits.add(limit);
        self
    }

    /// Works on as many at once as the handlers take without slowing down, and finds out itself how many those are, within
    /// the bounds of these settings: [`Gradient2`], from how long handlers take. It replaces
    /// [`concurrency`](Consume::concurrency). Handlers that fail as [`Overloaded`](crate::base::Kind::Overloaded) or
    /// [`Timeout`](crate::base::Kind::Timeout) make it fewer; other failures say nothing.
    ///
    /// It is honest only where the time of a handler tells of the load: where messages take about equally long, and what
    /// slows them down is what they do at the same time. Of a mix of long and short ones it learns nothing.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) for settings that make no sense.
    pub fn adaptive(mut self, settings: Gradient2) -> Result<Self> {
        let most = settings.most() as usize;
        let adaptive = Adaptive::new(settings)?;
        self = self.concurrency(most);
        self.control.set_concurrency(adaptive.limit());
        self.adaptive = Some(Arc::new(adaptive));
        Ok(self)
    }

    /// A message that has a [key](crate::queue::Publish::key) is never given up and never set aside in quarantine: when its
    /// tries are spent it comes back after the longest wait again and again, uncharged, and no other of its key comes
    /// before it. Whoever looks after the queue mends the handler, or [calls it off](crate::queue::Queue::cancel), which
    /// sends it to the dead letters. [`Tally::blocking`](crate::queue::Tally::blocking) counts. Other keys go on.
    ///
    /// Default: a failed message holds its key while it has tries left, and lets the next pass once it is a dead letter.
    pub fn hold_key(mut self) -> Self {
        self.policy.holds_key = true;
        self
    }

    /// Reports to this meter what is worked on, and for how long: [`Metrics`](crate::queue::scale::Metrics) has depth, age,
    /// arrivals, service time and utilisation in one snapshot.
    pub fn metered(self, meter: &Meter) -> Consume<Measured<S>> {
        meter.workers(u32::try_from(self.concurrency).unwrap_or(u32::MAX));
        let meter = meter.clone();
        self.with(|service| meter.around(service))
    }

    /// Runs another service, made of its own, with a handle of its own, one message at a time.
    pub(in crate::queue) fn around<R>(self, service: impl FnOnce(S) -> R) -> Consume<R> {
        let alone = Consume { adaptive: None, ..self.concurrency(1) };
        alone.with(service)
    }

    fn with<R>(self, service: impl FnOnce(S) -> R) -> Consume<R> {
        Consume {
            service: service(self.service),
            control: self.control,
            broker: self.broker,
            subscription: self.subscription,
            lines: self.lines,
            home: self.home,
            concurrency: self.concurrency,
            hold: self.hold,
            policy: self.policy,
            quarantine: self.quarantine,
            silence: self.silence,
            drain: self.drain,
            limits: self.limits,
            adaptive: self.adaptive,
            paused: self.paused,
            rows: self.rows,
            results: self.results,
            declare: self.declare,
            seed: self.seed,
            context: self.context,
        }
    }

    /// Runs as part of this container: its log tells of failures, its leases say whose they are.
    pub(in crate::queue) fn inside(mut self, context: Option<Context>) -> Self {
        self.context = context;
        self
    }

    /// The seed that it was given.
    pub(in crate::queue) fn seeded(&self) -> Option<Seed> {
        self.seed
    }

    /// Where it gets its messages from.
    pub(in crate::queue) fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    pub(in crate::queue) fn broker(&self) -> Arc<dyn Broker> {
        self.broker.clone()
    }

    /// Where its messages wait.
    pub(in crate::queue) fn topics(&self) -> Vec<Topic> {
        self.lines.all().iter().map(|line| line.topic.clone()).collect()
    }

    /// Heeds what stands in the broker's state of its messages, and sweeps it by this topic; and whether its queue is
    /// paused by this row.
    pub(in crate::queue) fn rows(mut self, sweep: Option<Topic>, paused: Option<Name>) -> Self {
        (self.rows, self.paused) = (sweep, paused);
        self
    }

    /// Leases from all of these by turns.
    pub(in crate::queue) fn lines(mut self, lines: Lines) -> Self {
        self.lines = lines;
        self
    }

    /// The live handle: pause, resume, how many at once, what was done. Set [`concurrency`](Consume::concurrency) first.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// How long to wait before the next try. Default 1 s, doubling up to 10 minutes, with full jitter: Celery's.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.policy.backoff = backoff;
        self
    }

    /// Declares the topic so before it begins, with this subscription among the others.
    pub fn declare(mut self, options: TopicOptions) -> Self {
        self.declare = Some(options);
        self
    }

    /// What the jitter comes from. Default: the container's seed, else the simulation's, else the system's.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }
}
