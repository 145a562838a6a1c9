//! Leasing: what is here first, then what the server has, then waiting for what comes.

use super::{
    core::Core,
    letters::Lane,
    link::Link,
    plan,
    table::{Table, Taken},
};
use crate::base::{
    Error, Few, Kind, Result,
    time::{self, Instant},
};
use crate::queue::{Delivery, Subscription, Want};
use futures::future;
use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// How much longer than a pull request runs its end may take to come; then the connection is looked at.
const WATCHDOG: Duration = Duration::from_secs(2);
/// How many messages one request asks for at most.
const PULL_MAX: u32 = 1024;

impl Core {
    pub(super) async fn lease(self: &Arc<Self>, subscription: &Subscription, want: Want) -> Result<Few<Delivery>> {
        if want.items == 0 {
            let place = self.at(format!("subscription {subscription}"));
            return Err(Error::new(Kind::Invalid, "it asks for 0 items").at(place));
        }
        let until = want.until(time::now());
        let hold = want.hold.min(plan::HOLD_MAX);
        let at = self.open(subscription, hold).await?;
        let link = self.link().await?;
        let mut leasing = Leasing { core: self, at, want, hold, taken: Vec::new() };
        leasing.take();
        let one = want.items == 1 && !want.wait.is_zero();
        if !one {
            leasing.gather(link).await?;
        }
        if leasing.taken.is_empty() && want.wait.is_zero() && self.has_more(subscription).await? {
            // what was stored a moment ago may not have come to the consumer's notice yet
            leasing.wait(link, Some(time::now() + Duration::from_secs(1))).await?;
        }
        while leasing.taken.is_empty() && until.is_none_or(|until| until > time::now()) {
            leasing.wait(link, until).await?;
            if leasing.lacks() > 0 && self.decide(|table| table.station(at).is_some_and(|it| it.pending > 0)) {
                leasing.gather(link).await?;
            }
        }
        leasing.finish(link).await
    }

    /// Whether the server has messages that were never delivered.
    async fn has_more(self: &Arc<Self>, subscription: &Subscription) -> Result<bool> {
        let info = self.find(subscription).await?;
        let pending = info.as_ref().and_then(|info| info.get("num_pending")?.as_u64());
        Ok(pending.is_some_and(|pending| pending > 0))
    }
}

/// What one call has taken; dropped on the way, it puts all of it back.
struct Leasing<'a> {
    core: &'a Arc<Core>,
    at: usize,
    want: Want,
    hold: Duration,
    taken: Vec<Taken>,
}

impl Leasing<'_> {
    fn take(&mut self) {
        let now = time::now();
        let (at, want, hold) = (self.at, self.want, self.hold);
        let taken = &mut self.taken;
        self.core.decide(|table| table.take(now, at, &want, hold, taken));
    }

    /// How many items more it wants; none once its bytes are used up, as far as that can be known.
    fn lacks(&self) -> u32 {
        let items: u32 = self.taken.iter().map(|taken| taken.delivery.len()).sum();
        let spent = self.want.bytes < usize::MAX && !self.taken.is_empty();
        if spent { 0 } else { self.want.items.saturating_sub(items) }
    }

    /// Takes what the server has now, without waiting for more.
    async fn gather(&mut self, link: &Link) -> Result {
        loop {
            let lacks = self.lacks();
            if lacks == 0 {
                return Ok(());
            }
            // one message tells how many items they have; then no more are asked for than there is room for
            let typical = self.core.decide(|table| table.station(self.at).map_or(0, |station| station.typical));
            let count = if typical == 0 { 1 } else { lacks.div_ceil(typical).min(PULL_MAX) };
            let pull = Pulling::send(self.core, link, self.at, count, None).await?;
            let came = pull.end().await?;
            self.take();
            if came < count {
                return Ok(());
            }
        }
    }

    /// Waits for a message, until then at most; the request ends with the lease's grace at the latest.
    async fn wait(&mut self, link: &Link, until: Option<Instant>) -> Result {
        let grace = plan::grace(self.hold);
        let wait = until.map_or(grace, |until| until.saturating_duration_since(time::now()).min(grace));
        if wait.is_zero() {
            return Ok(());
        }
        let spare = self.core.decide(|table| table.station(self.at).map(|station| station.spare.clone()));
        let spare = spare.unwrap_or_default();
        let pull = Pulling::send(self.core, link, self.at, 1, Some(wait)).await?;
        loop {
            self.take();
            if !self.taken.is_empty() {
                if self.core.decide(|table| table.station(self.at).is_some_and(|station| station.has_ready())) {
                    spare.notify_one();
                }
                return Ok(());
            }
            tokio::select! {
                biased;
                over = pull.changed() => if over? {
                    self.take();
                    return Ok(());
                },
                () = spare.notified() => {}
            }
        }
    }

    /// Hands it out. Where the server's timer may end before a lease does, it begins anew first.
    async fn finish(mut self, link: &Link) -> Result<Few<Delivery>> {
        let renewals: Vec<_> = self.taken.iter().filter_map(|taken| taken.renew.clone()).collect();
        if !renewals.is_empty() {
            let sure = time::now();
            let renewing = renewals.into_iter().map(|reply| link.ask(reply.to_string(), None, "+WPI".into()));
            let renewed = future::try_join_all(renewing).await;
            renewed.map_err(|error| error.at(self.core.at(self.subscription())))?;
            let taken = &self.taken;
            self.core.decide(|table| {
                for taken in taken.iter().filter(|taken| taken.renew.is_some()) {
                    table.extend(&taken.delivery.lease, Some(sure), taken.delivery.lease.deadline);
                }
            });
        }
        Ok(mem::take(&mut self.taken).into_iter().map(|taken| taken.delivery).collect())
    }

    fn subscription(&self) -> String {
        self.core.decide(|table| {
            table.station(self.at).map_or(String::new(), |station| format!("subscription {}", station.subscription))
        })
    }
}

impl Drop for Leasing<'_> {
    fn drop(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        let (now, taken) = (time::now(), mem::take(&mut self.taken));
        self.core.decide(|table| taken.iter().for_each(|taken| table.untake(now, &taken.delivery.lease)));
    }
}

/// A pull request under way; dropped, what comes of it is for whoever leases next.
struct Pulling<'a> {
    core: &'a Arc<Core>,
    number: u64,
    count: u32,
    at: usize,
    changed: Arc<Notify>,
    /// By then its end has come, or something is wrong.
    ends: Instant,
    doubted: AtomicBool,
}

impl<'a> Pulling<'a> {
    async fn send(core: &'a Arc<Core>, link: &Link, at: usize, count: u32, wait: Option<Duration>) -> Result<Self> {
        let lane = match core.decide(Table::free_lane) {
            Some(lane) => lane,
            None => Lane::open(core, format!("{}.{}", core.inbox().await?, core.next())).await?,
        };
        let now = time::now();
        let ends = now + wait.unwrap_or_default() + WATCHDOG;
        let (number, changed, reply, names) = core.decide(|table| {
            let (number, changed) = table.pull(now, at, count, ends);
            let reply = table.assign(number, lane);
            let names = table.station(at).map(|station| (station.stream.clone(), station.consumer.clone()));
            (number, changed, reply, names)
        });
        let pull = Pulling { core, number, count, at, changed, ends, doubted: AtomicBool::new(false) };
        let (stream, consumer) = names.unwrap_or_default();
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        let body = match wait {
            Some(wait) => format!(r#"{{"batch":{count},"expires":{}}}"#, plan::nanos(wait)),
            None => format!(r#"{{"batch":{count},"no_wait":true}}"#),
        };
        let sent = link.client.publish_with_reply(subject, reply, body.into()).await;
        sent.map_err(|error| Error::new(Kind::Unavailable, "the connection failed").because(error).at(pull.place()))?;
        Ok(pull)
    }

    fn place(&self) -> String {
        let subscription = self.core.decide(|table| table.station(self.at).map(|it| it.subscription.to_string()));
        self.core.at(format!("subscription {}", subscription.unwrap_or_default()))
    }

    /// Waits until something has come of it; whether it is over.
    async fn changed(&self) -> Result<bool> {
        if !self.core.decide(|table| table.is_over(self.number)) {
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = time::sleep_until(self.ends) => {
                    self.doubted.store(true, Ordering::Relaxed);
                    self.is_there("a request for messages was not answered").await?;
                }
            }
        }
        let (over, trouble) = self.core.decide(|table| (table.is_over(self.number), table.trouble(self.number)));
        if let Some(trouble) = trouble {
            self.is_there(&trouble).await?;
            time::sleep(Duration::from_millis(100)).await; // it begins again, or has too many requests
        }
        Ok(over || self.doubted.load(Ordering::Relaxed))
    }

    /// Waits until it is over; how many messages have come.
    async fn end(&self) -> Result<u32> {
        while !self.changed().await? {}
        Ok(self
            .core
            .decide(|table| table.pulling(self.number).map_or(0, |pull| self.count - pull.left.min(self.count))))
    }

    /// No silent stall: the server answers that the consumer is there, or that is the error. Requests to one that is
    /// gone are answered by nobody.
    async fn is_there(&self, trouble: &str) -> Result {
        let Some(station) = self.core.decide(|table| table.station(self.at).map(|it| it.subscription.clone())) else {
            return Ok(());
        };
        if self.core.find(&station).await?.is_none() {
            self.core.forget(&station.topic);
            return Err(Error::new(Kind::NotFound, format!("it is gone: {trouble}")).at(self.place()));
        }
        Ok(())
    }
}

impl Drop for Pulling<'_> {
    fn drop(&mut self) {
        self.core.decide(|table: &mut Table| table.abandon(self.number));
    }
}
