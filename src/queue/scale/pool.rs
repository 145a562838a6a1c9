//! Which workers of a pool stay and which go: a pure table.

use super::Count;
use crate::base::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

/// The workers of a pool, and how many there should be.
#[derive(Default)]
pub(super) struct Pool {
    want: u32,
    members: BTreeMap<u64, Member>,
    next: u64,
    /// Whether anybody runs it.
    run: bool,
    ending: bool,
}

struct Member {
    stop: CancellationToken,
    busy: Arc<AtomicU32>,
    leaving: bool,
}

impl Member {
    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }
}

impl Pool {
    pub(super) fn new(want: u32) -> Pool {
        Pool { want, ..Pool::default() }
    }

    /// Whether it may be run: not twice at the same time.
    pub(super) fn begin(&mut self) -> bool {
        if self.run {
            return false;
        }
        (self.run, self.ending) = (true, false);
        true
    }

    /// Nobody runs it any more: its workers are gone.
    pub(super) fn over(&mut self) {
        self.run = false;
        for (_, member) in std::mem::take(&mut self.members) {
            member.stop.cancel();
        }
    }

    fn staying(&self) -> impl Iterator<Item = (&u64, &Member)> {
        self.members.iter().filter(|(_, member)| !member.leaving)
    }

    fn stay(&self) -> u32 {
        u32::try_from(self.staying().count()).unwrap_or(u32::MAX)
    }

    /// How many are to be started.
    pub(super) fn missing(&self) -> u32 {
        if self.ending { 0 } else { self.want.saturating_sub(self.stay()) }
    }

    /// One more worker, under this number, until that is cancelled.
    pub(super) fn start(&mut self, busy: Arc<AtomicU32>) -> (u64, CancellationToken) {
        let (number, stop) = (self.next, CancellationToken::new());
        self.next += 1;
        self.members.insert(number, Member { stop: stop.clone(), busy, leaving: false });
        (number, stop)
    }

    pub(super) fn ended(&mut self, number: u64) {
        self.members.remove(&number);
    }

    /// So many from now on. Who is idle goes first, the youngest of them first.
    pub(super) fn set(&mut self, want: u32) {
        self.want = want;
        self.dismiss(self.stay().saturating_sub(want));
    }

    /// All end after what they work on, and none is started.
    pub(super) fn end(&mut self) {
        self.ending = true;
        self.dismiss(u32::MAX);
    }

    fn dismiss(&mut self, surplus: u32) {
        let mut order: Vec<_> = self.staying().map(|(number, member)| (member.is_busy(), *number)).collect();
        order.sort_unstable_by_key(|(busy, number)| (*busy, u64::MAX - number));
        for (_, number) in order.into_iter().take(surplus as usize) {
            if let Some(member) = self.members.get_mut(&number) {
                member.leaving = true;
                member.stop.cancel();
            }
        }
    }

    pub(super) fn count(&self) -> Count {
        let running = self.stay();
        let busy = self.staying().filter(|(_, member)| member.is_busy()).count();
        let busy = u32::try_from(busy).unwrap_or(u32::MAX);
        let leaving = u32::try_from(self.members.len()).unwrap_or(u32::MAX).saturating_sub(running);
        Count { running, starting: self.missing(), busy, leaving }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_idle_go_first_and_the_youngest_of_them() {
        let mut pool = Pool::new(4);
        assert!(pool.begin() && !pool.begin());
        assert_eq!(pool.count(), Count { starting: 4, ..Count::default() });
        let members: Vec<_> = (0..4_u32).map(|number| pool.start(Arc::new(AtomicU32::new(number % 2)))).collect();
        assert_eq!(pool.count(), Count { running: 4, busy: 2, ..Count::default() });
        let gone = || members.iter().map(|(_, stop)| stop.is_cancelled()).collect::<Vec<_>>();
        pool.set(3);
        assert_eq!(gone(), [false, false, true, false]);
        pool.set(1);
        assert_eq!(gone(), [true, false, true, true], "the busy ones last");
        assert_eq!(pool.count(), Count { running: 1, busy: 1, leaving: 3, ..Count::default() });
        pool.set(2);
        assert_eq!(pool.missing(), 1, "who was told to go goes");
        pool.ended(3);
        assert_eq!(pool.count().leaving, 2);
        pool.end();
        assert_eq!((pool.missing(), gone()), (0, vec![true; 4]));
    }
}
