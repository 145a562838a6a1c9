//! How a stage runs: how many at once, how much at a time, how often again.

use crate::base::Backoff;
use std::time::Duration;

/// The settings of a stage. [`Flow::tune`](super::Flow::tune) sets them for all stages that begin after it,
/// [`Stream::tune`](super::Stream::tune) for the one in the making.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tuning {
    /// How many workers the stage has in each process that runs it. Default 1.
    pub workers: usize,
    /// How many items a worker takes at once, at most. Default 256.
    pub batch: u32,
    /// How many items a worker of a [`call`](super::Stream::call) works on at once. Default 1.
    pub concurrency: usize,
    /// How many items each edge that leaves the stage holds; beyond it the stage waits. Default 4,096.
    pub capacity: usize,
    /// For how long a lease holds unless it is renewed, which it is while the stage works. Default 30 s, as with SQS and
    /// NATS JetStream.
    pub hold: Duration,
    /// How often an item may fail before it goes to the dead letters. Default 25, as with Sidekiq, River and Asynq.
    pub attempts: u16,
    /// How often it may panic, or its process may die with it in hand, as a broker on disk charges it. Its last try is
    /// alone, one such item at a time in the whole run: so that an item that kills the process takes no other along.
    /// Default 3, as with Sidekiq's poison pills.
    pub crashes: u16,
    /// How often its lease may run out, its worker killed. Default 20, as RabbitMQ's delivery limit.
    pub lapses: u16,
    /// How long it waits before the next try. Default 1 s, doubling up to 10 minutes, with full jitter: Celery's.
    pub backoff: Backoff,
    /// How many items it takes in each second, at most. Default: as many as it can.
    pub per_second: Option<u32>,
    longest: Duration,
}

impl Tuning {
    /// So many workers in each process that runs the stage; 0 counts as 1.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// So many items at once, at most; 0 counts as 1.
    #[must_use]
    pub fn batch(mut self, items: u32) -> Self {
        self.batch = items.max(1);
        self
    }

    /// So many calls at once in each worker; 0 counts as 1.
    #[must_use]
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls.max(1);
        self
    }

    /// So many items on each edge that leaves the stage; 0 counts as 1.
    #[must_use]
    pub fn capacity(mut self, items: usize) -> Self {
        self.capacity = items.max(1);
        self
    }

    /// Leases hold this long, at least a millisecond and at most a year.
    #[must_use]
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold.clamp(Duration::from_millis(1), Duration::from_secs(86_400 * 365));
        self
    }

    /// How often an item may fail.
    #[must_use]
    pub fn attempts(mut self, most: u16) -> Self {
        self.attempts = most.max(1);
        self
    }

    /// How often it may panic.
    #[must_use]
    pub fn crashes(mut self, most: u16) -> Self {
        self.crashes = most.max(1);
        self
    }

    /// How often its lease may run out.
    #[must_use]
    pub fn lapses(mut self, most: u16) -> Self {
        self.lapses = most.max(1);
        self
    }

    /// How long it waits before the next try.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.longest = backoff.ceiling(u32::MAX);
        self.backoff = backoff;
        self
    }

    /// So many items in each second, at most, in each process that runs the stage; 0 counts as 1.
    #[must_use]
    pub fn per_second(mut self, items: u32) -> Self {
        self.per_second = Some(items.max(1));
        self
    }

    /// The redelivery horizon: how long after its first try an item may be tried for the last time. Where steps are not
    /// atomic, whatever the stage publishes to must know an id for that long.
    pub fn horizon(&self) -> Duration {
        let waits = self.longest.saturating_mul(u32::from(self.attempts) + u32::from(self.crashes));
        let leases = u32::from(self.attempts) + u32::from(self.crashes) + u32::from(self.lapses);
        waits.saturating_add(self.hold.saturating_mul(leases))
    }
}

impl Default for Tuning {
    fn default() -> Self {
        let longest = Duration::from_secs(600);
        Tuning {
            workers: 1,
            batch: 256,
            concurrency: 1,
            capacity: 4096,
            hold: Duration::from_secs(30),
            attempts: 25,
            crashes: 3,
            lapses: 20,
            backoff: Backoff::new(Duration::from_secs(1), longest),
            per_second: None,
            longest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_is_the_longest_course_there_is() {
        let second = Duration::from_secs(1);
        let tuning = Tuning::default().hold(10 * second).attempts(3).crashes(2).lapses(4);
        let tuning = tuning.backoff(Backoff::new(second, 5 * second));
        assert_eq!(tuning.horizon(), 5 * 5 * second + 9 * 10 * second);
        assert_eq!(Tuning::default().workers(0).batch(0).concurrency(0).capacity(0).workers, 1);
    }
}
