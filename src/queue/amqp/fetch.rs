//! Leasing: what is there is taken, and else waited for; and nothing is held by who does not work on it.
//!
//! A consumer lives only while a lease waits, and may be sent as many messages as that lease wants: the prefetch is the
//! number of idle slots. It is made anew every few seconds, so that one which died in silence stalls nobody.

use super::{
    Shared, letter,
    session::{Lane, Session},
    unsettled::Unsettled,
};
use crate::base::{Deadline, Few, Result, time, time::Instant};
use crate::queue::{Batch, Delivery, Publish, Subscription, Want, wire};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use lapin::{
    Consumer,
    message::Delivery as Raw,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions},
    types::FieldTable,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// How long a consumer lives.
const ROUND: Duration = Duration::from_secs(10);
/// How many items one lease takes, at most.
const ITEMS_MAX: u32 = 4096;

/// Gives what a lease asks for to whoever asked; what comes too late for that goes back.
pub(super) async fn lease(
    shared: Arc<Shared>,
    session: Arc<Session>,
    subscription: Subscription,
    queue: String,
    want: Want,
    mut answer: oneshot::Sender<Result<Few<Delivery>>>,
) {
    let fetch = Fetch { shared: &shared, session: &session, subscription: &subscription, queue: &queue, want: &want };
    let leased = fetch.run(&mut answer).await;
    let Err(Ok(unwanted)) = answer.send(leased) else { return };
    for delivery in unwanted {
        let ended = shared.held.lock().end(&delivery.lease, time::now());
        if let Ok(out) = ended {
            out.requeue().await;
        }
    }
}

struct Fetch<'a> {
    shared: &'a Shared,
    session: &'a Arc<Session>,
    subscription: &'a Subscription,
    queue: &'a str,
    want: &'a Want,
}

impl Fetch<'_> {
    async fn run(&self, answer: &mut oneshot::Sender<Result<Few<Delivery>>>) -> Result<Few<Delivery>> {
        let until = self.want.until(time::now());
        loop {
            let lane = self.session.lane().await?;
            let mut raw = Vec::new();
            let fetched = self.fetch(&lane, until, answer, &mut raw).await;
            self.session.idle_lane(lane.clone());
            fetched?;
            let deliveries = self.hand_out(&lane, raw).await;
            let over = until.is_some_and(|until| until <= time::now()) || answer.is_closed();
            if !deliveries.is_empty() || over {
                return Ok(deliveries);
            }
        }
    }

    /// Takes what is there, and waits one round for the first where nothing is.
    async fn fetch(
        &self,
        lane: &Lane,
        until: Option<Instant>,
        answer: &mut oneshot::Sender<Result<Few<Delivery>>>,
        raw: &mut Vec<Raw>,
    ) -> Result {
        let wanted = self.want.items.min(ITEMS_MAX);
        let Some(first) = self.get(lane).await? else {
            let left = until.map_or(ROUND, |until| until.saturating_duration_since(time::now()).min(ROUND));
            if left.is_zero() {
                return Ok(());
            }
            let at_once = if self.want.bytes == usize::MAX { wanted } else { 1 };
            return self.consume(lane, at_once, Some((left, answer)), raw).await;
        };
        let mut left = self.want.bytes.saturating_sub(first.data.len());
        raw.push(first);
        if self.want.bytes == usize::MAX {
            let more = wanted.saturating_sub(1);
            return if more > 0 { self.consume(lane, more, None, raw).await } else { Ok(()) };
        }
        // the next is taken to be as large as the last: nobody tells before it is taken
        while (raw.len() as u32) < wanted && raw.last().is_some_and(|last| last.data.len() <= left) {
            let Some(next) = self.get(lane).await? else { break };
            if next.data.len() > left {
                let _ = next.acker.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await;
                break;
            }
            left -= next.data.len();
            raw.push(next);
        }
        Ok(())
    }

    async fn get(&self, lane: &Lane) -> Result<Option<Raw>> {
        let got = self.session.call(lane.basic_get(self.queue.into(), BasicGetOptions::default())).await?;
        Ok(got.map(|got| got.delivery))
    }

    /// Lets up to this many come; where it is to wait, until the first has come, its time is over, or nobody waits.
    async fn consume(
        &self,
        lane: &Lane,
        wanted: u32,
        wait: Option<(Duration, &mut oneshot::Sender<Result<Few<Delivery>>>)>,
        raw: &mut Vec<Raw>,
    ) -> Result {
        let prefetch = u16::try_from(wanted).unwrap_or(u16::MAX);
        self.session.call(lane.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let tag = format!("seedpod-{}", self.shared.next_number());
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let begun = lane.basic_consume(self.queue.into(), tag.as_str().into(), options, none);
        let mut consumer = self.session.call(begun).await?;
        if let Some((wait, answer)) = wait {
            tokio::select! {
                biased;
                () = answer.closed() => {}
                came = consumer.next() => self.put(came, raw)?,
                () = time::sleep(wait) => {}
            }
        }
        self.session.call(lane.basic_cancel(tag.as_str().into(), BasicCancelOptions::default())).await?;
        self.empty(&mut consumer, raw)
    }

    /// What had been sent when the consumer ended has come by now.
    fn empty(&self, consumer: &mut Consumer, raw: &mut Vec<Raw>) -> Result {
        while let Some(Some(came)) = consumer.next().now_or_never() {
            self.put(Some(came), raw)?;
        }
        Ok(())
    }

    fn put(&self, came: Option<lapin::Result<Raw>>, raw: &mut Vec<Raw>) -> Result {
        match came.transpose() {
            Ok(came) => raw.extend(came),
            Err(error) => return Err(super::fault::of_call(error)),
        }
        Ok(())
    }

    /// Leases what came, and gives up what nobody can read.
    async fn hand_out(&self, lane: &Lane, raw: Vec<Raw>) -> Few<Delivery> {
        let (now, mut deliveries) = (time::now(), Few::new());
        let deadline = time::after(now, self.want.hold);
        let wall = self.shared.wall.unix_millis() / 1000;
        for Raw { data, properties, acker, .. } in raw {
            let body = Bytes::from(data);
            let letter = match letter::read(&self.subscription.topic, &properties, body.clone()) {
                Ok(letter) if !letter.publish.payload.is_empty() => letter,
                read => {
                    let why = read.err().map_or("it holds no item".to_string(), |error| error.chain());
                    let topic = &self.subscription.topic;
                    let unreadable = wire::unreadable(topic, body.clone(), letter::strangers_id(&properties, &body));
                    let batch = Arc::new(Batch::new(unreadable, now));
                    let out = Unsettled::new(lane, self.session, acker, batch, Default::default());
                    self.give_up(&out, &why).await;
                    continue;
                }
            };
            let age = letter.seconds.map_or(0, |then| wall.saturating_sub(then));
            let published = now.checked_sub(Duration::from_secs(age)).unwrap_or(now);
            let batch = Arc::new(Batch::new(letter.publish, published));
            let items = batch.payload.len();
            let out = Unsettled::new(lane, self.session, acker, batch.clone(), letter.attempts);
            let mut held = self.shared.held.lock();
            let lease = held.lease(self.subscription, self.want.owner, self.session.number, deadline, out);
            drop(held);
            deliveries.push(Delivery::new(lease, letter.attempts, batch, 0..items));
        }
        if !deliveries.is_empty() {
            self.shared.changed.notify_one();
        }
        deliveries
    }

    async fn give_up(&self, out: &Unsettled, why: &str) {
        tracing::warn!(subscription = %self.subscription, "a message that cannot be read is given up: {why}");
        let given_up = async {
            self.shared.bury(self.subscription, out, 0..out.batch.payload.len(), why).await?;
            out.ack().await.map(drop)
        };
        // where the dead letters are full, it comes again
        if !matches!(Deadline::within(self.shared.patience).bound(given_up).await, Ok(Ok(()))) {
            out.requeue().await;
        }
    }
}

/// A message as it was published, apart from what only a batch in hand has.
pub(super) fn again(subscription: &Subscription, batch: &Batch) -> Publish {
    let mut publish = Publish::new(&subscription.topic, batch.id, batch.payload.clone()).priority(batch.priority);
    (publish.key, publish.headers) = (batch.key.clone(), batch.headers.clone());
    publish
}
