//! How far a message's handler is: a row of the broker's state, written under the lease, gone with the settlement.

use super::{Broker, Id, Lease, StateWrite, Step, Subscription};
use crate::base::{
    Name, Result,
    sync::Lock,
    time::{self, Instant},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How far the handler of a message is: what it said last by [`Message::progress`](crate::queue::Message::progress).
///
/// ```
/// use seedpod::queue::{self, Broker, BrokerExt, Id, Memory, Message, Progress, Publish, Topic, TopicOptions};
/// use std::{sync::Arc, time::Duration};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let (broker, films) = (Arc::new(Memory::new()), Topic::new("films"));
/// broker.declare(&films, TopicOptions::new().subscription("cutter")).await?;
/// broker.send(Publish::new(&films, Id::of("film 1"), "a film")).await?;
/// let (cutter, second) = (films.subscription("cutter"), Duration::from_secs(1));
/// let service = tower::service_fn(move |film: Message| async move {
///     film.progress(0.25, "the first reel").await?;
///     tokio::time::sleep(10 * second).await;
///     Ok::<_, seedpod::Error>(())
/// });
/// let watch = async {
///     tokio::time::sleep(second).await;
///     let progress = Progress::of(&*broker, &cutter, Id::of("film 1")).await?;
///     assert_eq!(progress.map(|it| it.note).as_deref(), Some("the first reel"));
///     Ok::<_, seedpod::Error>(())
/// };
/// let pump = queue::consume(broker.clone(), cutter.clone(), service);
/// tokio::try_join!(watch, pump.run_until(tokio::time::sleep(20 * second)))?;
/// assert_eq!(Progress::of(&*broker, &cutter, Id::of("film 1")).await?, None, "it is done");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// From 0.0 to 1.0.
    pub fraction: f64,
    /// In words.
    pub note: String,
}

/// What was reported of one delivery so far.
#[derive(Default)]
pub(super) struct Reports {
    /// The version that stands in the broker's state; 0 for none.
    version: u64,
    last: Option<Instant>,
    /// The last one has not been answered, or not well: it may be kept still.
    in_doubt: bool,
}

impl Reports {
    /// Whether anything was said, though it be unknown whether it was kept.
    pub(super) fn has_any(&self) -> bool {
        self.last.is_some()
    }

    /// Whether something that was said may yet be kept, as long as the lease stands.
    pub(super) fn in_doubt(&self) -> bool {
        self.in_doubt
    }
}

/// Two reports come no closer than this.
const EVERY: Duration = Duration::from_secs(1);

impl Progress {
    /// How far the handler of this message is; none where it has said nothing, is done, or never was.
    ///
    /// # Errors
    /// Those of the broker; [`Kind::Unsupported`](crate::base::Kind::Unsupported) where it keeps no state.
    pub async fn of(broker: &dyn Broker, subscription: &Subscription, id: Id) -> Result<Option<Progress>> {
        let (version, row) = broker.load(&key(subscription, id)).await?;
        Ok(if version == 0 { None } else { serde_json::from_slice(&row).ok() })
    }

    pub(super) async fn keep(
        &self,
        broker: &dyn Broker,
        subscription: &Subscription,
        id: Id,
        (lease, hold): (Lease, Duration),
        reports: &Lock<Reports>,
    ) -> Result {
        let now = time::now();
        {
            let mut reports = reports.lock();
            if reports.last.is_some_and(|last| now.saturating_duration_since(last) < EVERY) {
                return Ok(());
            }
            reports.last = Some(now);
            reports.in_doubt = true;
        }
        let (key, row) = (key(subscription, id), serde_json::to_vec(self)?);
        let mut version = reports.lock().version;
        if version == 0 {
            version = broker.load(&key).await?.0; // an earlier handler may have left something
        }
        broker.settle(Step::new().extend(lease, hold).write(key, version, row)).await?;
        let mut reports = reports.lock();
        (reports.version, reports.in_doubt) = (version.saturating_add(1), false);
        Ok(())
    }

    /// Forgets what was said, as part of the settlement. Where a report is `in_doubt` and nothing is there, the settlement
    /// stands only if nothing has come meanwhile.
    pub(super) async fn forget(
        broker: &dyn Broker,
        subscription: &Subscription,
        id: Id,
        in_doubt: bool,
    ) -> Result<Option<StateWrite>> {
        let key = key(subscription, id);
        let (version, _) = broker.load(&key).await?;
        Ok((version > 0 || in_doubt).then_some(StateWrite { key, expect: version, value: None }))
    }
}

fn key(subscription: &Subscription, id: Id) -> Name {
    Name::from(format!("progress/{subscription}/{id}"))
}
