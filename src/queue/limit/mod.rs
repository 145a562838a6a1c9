//! How many messages are begun in a time, or worked on at once: all together or by key, in a pump or in all processes.

mod permit;
mod places;
mod shared;

pub(super) use permit::{Admission, Kept, Limits};

use super::Message;
use crate::{
    base::{
        Name,
        sync::{Arc, Lock},
        time::{self, Instant},
    },
    layer::Rate,
};
use places::{Places, What};
use std::fmt;

type KeyOf = Arc<dyn Fn(&Message) -> Option<Name> + Send + Sync>;

/// A limit on what a pump begins: so many in a time ([`rate`](Limit::rate)), or so many at once
/// ([`at_once`](Limit::at_once)); of all its messages, or of those of each [key](Limit::per).
///
/// Clones share: pumps that are given clones of one limit keep it together. [`shared`](Limit::shared) is kept by all
/// processes together, in the broker's state.
///
/// What a limit without keys holds back waits in the hand of its worker, under its lease, for half of the time that the
/// lease holds, and is told to come back only then. What a limit by key holds back is told at once to come back about when
/// its turn comes, uncharged, so that the worker goes on with other keys.
///
/// | bound | what happens there |
/// | --- | --- |
/// | 10,000 keys active at a time, in a process | those that come new share one place |
/// | a wait of 60 s | who would have to wait longer is told to come back then, and is weighed anew |
///
/// # Guarantees
/// In a process: in no stretch of time do more begin than the rate allows in it and its burst on top; no more run at once
/// than may. Between processes the same, up to the difference of their wall clocks; the place of a worker that was killed
/// is free again after the [hold](crate::queue::Consume::hold) of its lease.
///
/// # Not guaranteed
/// First come, first served among those that are held back, unless the broker keeps the order of their
/// [key](crate::queue::Publish::key).
///
/// # Errors
/// The pump ends with [`Unsupported`](crate::base::Kind::Unsupported) where a limit is shared and the broker keeps no state.
///
/// ```
/// use seedpod::queue::{Job, Limit, Memory, Queue, Rate};
/// use std::{sync::Arc, time::Duration};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let mails: Queue<String> = Queue::open(Arc::new(Memory::new()), "mails").await?;
/// for host in ["a.example", "a.example", "b.example"] {
///     mails.submit(Job::new("hello".to_string()).key(host)).await?;
/// }
/// let second = Duration::from_secs(1);
/// let worker = mails
///     .worker(|_: String| async { Ok::<_, seedpod::Error>(()) })
///     .concurrency(8)
///     .limit(Limit::rate(Rate::new(100, second)?)) // in all
///     .limit(Limit::rate(Rate::new(1, 60 * second)?).per_key()) // to each host
///     .limit(Limit::at_once(20).shared("mail server")); // from all processes
/// let control = worker.control();
/// worker.run_until(tokio::time::sleep(second)).await?;
/// assert_eq!((control.tally().done, control.tally().limited), (2, 1));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Limit {
    what: What,
    key: Option<KeyOf>,
    shared: Option<Name>,
    places: Arc<Lock<Places>>,
    /// From when on its places count.
    start: Instant,
}

impl Limit {
    /// So many are begun in a time.
    pub fn rate(rate: Rate) -> Limit {
        Limit::new(What::Rate(rate))
    }

    /// So many are worked on at once; 0 counts as 1.
    pub fn at_once(most: u32) -> Limit {
        Limit::new(What::AtOnce(most.max(1)))
    }

    fn new(what: What) -> Limit {
        Limit { what, key: None, shared: None, places: Arc::default(), start: time::now() }
    }

    /// For each key by itself; what has none is not limited. The closure must not panic: a panic in it is the pump's, not the
    /// message's.
    #[must_use]
    pub fn per<K: Into<Name>>(mut self, key: impl Fn(&Message) -> Option<K> + Send + Sync + 'static) -> Self {
        self.key = Some(Arc::new(move |message| key(message).map(Into::into)));
        self
    }

    /// For each [key](crate::queue::Publish::key) that messages are ordered by.
    #[must_use]
    pub fn per_key(self) -> Self {
        self.per(|message| message.key().cloned())
    }

    /// For each [tenant](crate::queue::Job::tenant).
    #[must_use]
    pub fn per_tenant(self) -> Self {
        self.per(|message| message.tenant().map(Name::from))
    }

    /// Kept by all processes together, under this name, which must be that of one limit: each message costs a row to be
    /// read and written in the broker's state, and one more at its end where it is [`at_once`](Limit::at_once). What it took
    /// of a shared rate is lost where a limit that stands behind it holds the message back: put shared ones last.
    #[must_use]
    pub fn shared(mut self, name: impl Into<Name>) -> Self {
        self.shared = Some(name.into());
        self
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit")
            .field("what", &self.what)
            .field("by_key", &self.key.is_some())
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}
