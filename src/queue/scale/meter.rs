//! What happens in a queue and its workers, measured.

use super::{
    Measured, Metrics,
    estimate::{Arrivals, Durations, Utilisation},
};
use crate::{
    base::{
        sync::Lock,
        time::{self, Instant},
    },
    queue::TopicStats,
};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// Measures a queue and its workers; cheap to clone, clones share.
///
/// Workers report the beginning and the end of each item, by [`around`](Meter::around) their service or by
/// [`begin`](Meter::begin). Arrivals are [reported](Meter::arrived) by whoever publishes; where nobody does, they follow
/// from what the broker [tells](Meter::seen): what is stored now, and what was worked on since. An item that comes back
/// arrives again, since it has to be worked on again.
///
/// Old values fade with a half-life of 30 s. What is not over counts too: the silence since the last arrival lowers the
/// rate, an item that takes longer than usual raises the service time before it ends.
///
/// ```
/// use seedpod::{base::time, queue::scale::Meter};
/// use std::time::Duration;
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let meter = Meter::default();
/// for _ in 0..10 {
///     meter.arrived(2);
///     let work = meter.begin();
///     time::sleep(Duration::from_secs(1)).await;
///     work.done();
/// }
/// let metrics = meter.read();
/// assert_eq!(metrics.service_time, Some(Duration::from_secs(1)));
/// assert!((metrics.arrival_rate - 2.0).abs() < 0.2);
/// assert_eq!(metrics.done, 10);
/// # });
/// ```
#[derive(Clone)]
pub struct Meter(Arc<Lock<Book>>);

struct Book {
    arrivals: Arrivals,
    /// Whether whoever publishes reports it.
    reported: bool,
    durations: Durations,
    utilisation: Utilisation,
    workers: u32,
    /// When those under way began, by number: the first is the oldest.
    under_way: BTreeMap<u64, Instant>,
    next: u64,
    done: u64,
    failed: u64,
    lost: u64,
    stats: TopicStats,
    /// What was stored, how many had ended, and how many of these since the look before: at the last look.
    looked: Option<(usize, u64, u64)>,
    /// Counted as arrived, and in truth only not settled yet.
    early: u64,
}

impl Default for Meter {
    fn default() -> Self {
        let now = time::now();
        Meter(Arc::new(Lock::new(Book {
            arrivals: Arrivals::new(now),
            reported: false,
            durations: Durations::new(now),
            utilisation: Utilisation::new(now),
            workers: 0,
            under_way: BTreeMap::new(),
            next: 0,
            done: 0,
            failed: 0,
            lost: 0,
            stats: TopicStats::default(),
            looked: None,
            early: 0,
        })))
    }
}

impl Meter {
    /// Measures this service: each of its calls is an item that is worked on.
    pub fn around<S>(&self, service: S) -> Measured<S> {
        Measured::new(self.clone(), service, Arc::default())
    }

    /// So many items were published just now. From the first time on, arrivals are no longer taken from what the broker
    /// tells.
    pub fn arrived(&self, items: u64) {
        let (now, mut book) = (time::now(), self.0.lock());
        if !std::mem::replace(&mut book.reported, true) {
            book.arrivals = Arrivals::new(now);
        }
        book.arrivals.record(now, items);
    }

    /// The broker tells this of the topic. Where the topic has several subscriptions, it tells of all of them.
    pub fn seen(&self, stats: &TopicStats) {
        let now = time::now();
        self.0.lock().seen(now, stats);
    }

    /// An item is worked on from now until what this returns is told how it ended, or dropped: then it was given up.
    pub fn begin(&self) -> Work {
        let (now, mut book) = (time::now(), self.0.lock());
        book.pass(now);
        let number = book.next;
        book.next += 1;
        book.under_way.insert(number, now);
        Work { meter: self.clone(), number, how: How::Lost }
    }

    /// So many workers are there from now on.
    pub fn workers(&self, workers: u32) {
        let (now, mut book) = (time::now(), self.0.lock());
        book.pass(now);
        book.workers = workers;
    }

    /// What it has measured up to now.
    pub fn read(&self) -> Metrics {
        let (now, mut book) = (time::now(), self.0.lock());
        book.pass(now);
        book.read(now)
    }
}

impl Book {
    /// Counts how busy the workers were until now.
    fn pass(&mut self, now: Instant) {
        let busy = u32::try_from(self.under_way.len()).unwrap_or(u32::MAX);
        self.utilisation.record(now, busy, self.workers.max(busy));
    }

    fn ended(&self) -> u64 {
        self.done + self.failed + self.lost
    }

    fn seen(&mut self, now: Instant, stats: &TopicStats) {
        self.stats = *stats;
        let ended = self.ended();
        let Some((stored_before, ended_before, last)) = self.looked else {
            self.looked = Some((stats.stored, ended, 0)); // what is there at the first look is a backlog, not a rush
            return;
        };
        let worked_on = ended - ended_before;
        self.looked = Some((stats.stored, ended, worked_on));
        if self.reported {
            return;
        }
        // what has ended left the store (it was done or given up), or came back and arrived again
        let gained = (stats.stored as u64).saturating_add(worked_on);
        let lost = (stored_before as u64).saturating_add(self.early);
        let arrived = gained.saturating_sub(lost);
        // an item that has ended and is not settled yet was counted, and is missing at the next look; what is missing
        // beyond those was settled by others
        self.early = lost.saturating_sub(gained).min(self.under_way.len() as u64 + worked_on + last);
        self.arrivals.record_since(now, arrived);
    }

    fn end(&mut self, now: Instant, number: u64, how: How) {
        self.pass(now);
        let Some(began) = self.under_way.remove(&number) else { return };
        let took = now.saturating_duration_since(began);
        let oldest = self.under_way.values().next().map(|began| now.saturating_duration_since(*began));
        match how {
            How::Done => self.done += 1,
            How::Failed => self.failed += 1,
            How::Lost => self.lost += 1,
        }
        if how != How::Lost {
            self.durations.record(now, took, oldest);
        }
        if how != How::Done && self.reported {
            self.arrivals.record(now, 1);
        }
    }

    fn read(&self, now: Instant) -> Metrics {
        let ages = self.under_way.values().map(|began| now.saturating_duration_since(*began));
        let service_time = self.durations.mean(ages.filter(|age| !age.is_zero()));
        let arrival_rate = self.arrivals.rate(now);
        let interarrival = Duration::try_from_secs_f64(1.0 / arrival_rate).ok();
        Metrics {
            depth: self.stats.ready,
            oldest: self.stats.oldest,
            arrival_rate,
            interarrival,
            arrival_variation: self.arrivals.variation(),
            service_time,
            service_variation: self.durations.variation(),
            load: arrival_rate * service_time.unwrap_or_default().as_secs_f64(),
            utilisation: self.utilisation.get(),
            workers: self.workers,
            busy: u32::try_from(self.under_way.len()).unwrap_or(u32::MAX),
            done: self.done,
            failed: self.failed,
            lost: self.lost,
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meter").field(&self.read()).finish()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Done,
    Failed,
    Lost,
}

/// An item that is worked on; dropped, it was given up.
#[must_use = "an item that is dropped was given up"]
pub struct Work {
    meter: Meter,
    number: u64,
    how: How,
}

impl Work {
    /// It was worked on with success.
    pub fn done(mut self) {
        self.how = How::Done;
    }

    /// It was worked on in vain.
    pub fn failed(mut self) {
        self.how = How::Failed;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let now = time::now();
        self.meter.0.lock().end(now, self.number, self.how);
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Work({})", self.number)
    }
}
