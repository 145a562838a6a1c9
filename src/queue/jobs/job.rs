//! What is submitted: a value, and on which terms.

use crate::base::{Name, time};
use crate::queue::{Headers, Id, Trace, consume::TENANT};
use std::time::{Duration, SystemTime};

/// What is submitted to a [`Queue`](crate::queue::Queue): a value, and on which terms. A plain value is one without any.
///
/// ```
/// use seedpod::queue::{Job, Unique};
/// use std::time::Duration;
/// let job = Job::new("a.png")
///     .id("resize a.png") // twice under this id within the queue's dedup window is once
///     .priority(9)
///     .key("user 17") // in order with the others of this user
///     .tenant("acme") // by turns with other tenants, where the queue is fair
///     .delay(Duration::from_secs(60))
///     .unique(Unique::key("a.png")); // not while another of this key is under way
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Job<T> {
    /// What is to be worked on.
    pub value: T,
    /// Its id. Default: one that no other submission of the queue's handle has.
    pub id: Option<Id>,
    /// The higher, the sooner. Default 0.
    pub priority: u8,
    /// Not before this has passed. Default: at once.
    pub delay: Duration,
    /// In order with others of the same key. Default: in no order.
    pub key: Option<Name>,
    /// Words about it.
    pub headers: Headers,
    /// Not while, or not soon after, another like it. Default: as often as it is submitted.
    pub unique: Option<Unique>,
}

impl<T> Job<T> {
    /// This value, at once and on no further terms.
    pub fn new(value: T) -> Job<T> {
        Job {
            value,
            id: None,
            priority: 0,
            delay: Duration::ZERO,
            key: None,
            headers: Headers::default(),
            unique: None,
        }
    }

    /// Under the id made of this name: submitted again under the same name, it is a duplicate.
    #[must_use]
    pub fn id(mut self, name: impl AsRef<[u8]>) -> Self {
        self.id = Some(Id::of(name));
        self
    }

    /// Under this id, as of something that it was derived from.
    #[must_use]
    pub fn with_id(mut self, id: Id) -> Self {
        self.id = Some(id);
        self
    }

    /// Sooner than those of a lower priority.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Not before this has passed.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Not before this time of the wall clock; at once where it has passed.
    #[must_use]
    pub fn at(self, then: SystemTime) -> Self {
        let now = time::WallClock::ambient().now();
        self.delay(then.duration_since(now).unwrap_or_default())
    }

    /// In order with the others of this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Name>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// On behalf of this tenant: a [fair](crate::queue::QueueBuilder::tenants) queue works on those of each by turns, and a
    /// [limit](crate::queue::Limit::per_tenant) may hold for each. It travels as the header `tenant`.
    #[must_use]
    pub fn tenant(self, tenant: impl Into<String>) -> Self {
        self.header(TENANT, tenant)
    }

    /// As part of this trace. Default: that of the handler which submits it, if any: [`Trace::current`].
    #[must_use]
    pub fn trace(mut self, trace: Trace) -> Self {
        trace.write(&mut self.headers);
        self
    }

    /// With this said about it.
    #[must_use]
    pub fn header(mut self, name: impl Into<Name>, value: impl Into<String>) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Not twice at the same time, or within a while.
    #[must_use]
    pub fn unique(mut self, unique: Unique) -> Self {
        self.unique = Some(unique);
        self
    }
}

impl<T> From<T> for Job<T> {
    fn from(value: T) -> Job<T> {
        Job::new(value)
    }
}

/// What becomes of a submission whose unique key is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Taken {
    /// The one that is there stays; the submission answers with its id.
    #[default]
    Keep,
    /// The submission is refused as a [conflict](crate::base::Kind::Conflict).
    Refuse,
    /// The new one takes the place of the one that is there, which is dropped when a worker comes to it; one that is
    /// being worked on goes on.
    Replace,
}

/// A key of which one message is under way at a time, in the whole queue.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Unique {
    /// The key.
    pub key: Name,
    /// For how long it is taken, counted from the submission. Default: until the message is done or given up.
    pub within: Option<Duration>,
    /// What becomes of the next of the same key.
    pub taken: Taken,
}

impl Unique {
    /// Taken until the message is done or given up; the next is not stored, and answers with the id of the first.
    pub fn key(key: impl Into<Name>) -> Unique {
        Unique { key: key.into(), within: None, taken: Taken::Keep }
    }

    /// Taken for this long from the submission on, whether it is done or not.
    #[must_use]
    pub fn within(mut self, window: Duration) -> Self {
        self.within = Some(window);
        self
    }

    /// Where it is taken, does this.
    #[must_use]
    pub fn when_taken(mut self, taken: Taken) -> Self {
        self.taken = taken;
        self
    }
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Submitted {
    /// The id of the message that is stored: its own, or that of the one whose unique key it has.
    pub id: Id,
    /// Whether it was stored by this submission; otherwise one like it was there.
    pub is_new: bool,
}

impl Submitted {
    pub(super) fn new(id: Id, is_new: bool) -> Submitted {
        Submitted { id, is_new }
    }
}

/// What became of many jobs that were submitted together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubmittedAll {
    /// Their ids, in the order of the jobs.
    pub ids: Vec<Id>,
    /// How many of them were stored.
    pub stored: u32,
    /// How many had been seen before, and were not stored again.
    pub duplicates: u32,
}
