//! Every interleaving of the leaves' threads and the parent's, up to three preemptions.

use super::*;
use crate::base::sync::atomic::{AtomicBool, Ordering::Release};
use loom::{model::Builder, thread};

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Who waits for the leaves.
struct Parent(AtomicBool);

impl Wake for Parent {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Release);
    }
}

fn parent() -> (Arc<Parent>, Waker) {
    let parent = Arc::new(Parent(AtomicBool::new(false)));
    (parent.clone(), parent.into())
}

impl Parent {
    /// Until it is woken: a wake that was lost is found as a wait without end.
    fn wait(&self) {
        while !self.0.swap(false, AcqRel) {
            thread::yield_now();
        }
    }
}

fn look(wakers: &Wakers) -> u64 {
    wakers.woken(&mut (0..1)).map_or(0, |(_, bits)| bits)
}

#[test]
fn no_wake_is_lost_between_two_leaves_and_the_poll() {
    check(|| {
        let (flag, parent) = parent();
        let mut wakers = Wakers::of(Set::new(2));
        wakers.register(&parent);
        let leaf = |place: usize| wakers.get(place).cloned().unwrap();
        let (first, second) = (leaf(0), leaf(1));
        let others = [thread::spawn(move || first.wake()), thread::spawn(move || second.wake_by_ref())];
        let mut seen = look(&wakers);
        while seen != 0b11 {
            flag.wait();
            wakers.register(&parent);
            seen |= look(&wakers);
        }
        others.into_iter().for_each(|other| other.join().unwrap());
        drop(wakers.end());
    });
}

#[test]
fn a_wake_while_the_parent_changes_reaches_the_new_one() {
    check(|| {
        let ((_, old), (flag, new)) = (parent(), parent());
        let mut wakers = Wakers::of(Set::new(1));
        wakers.register(&old);
        assert_eq!(look(&wakers), 0);
        let leaf = wakers.get(0).cloned().unwrap();
        let other = thread::spawn(move || leaf.wake());
        wakers.register(&new);
        let mut seen = look(&wakers);
        while seen == 0 {
            flag.wait();
            wakers.register(&new);
            seen = look(&wakers);
        }
        other.join().unwrap();
        drop(wakers.end());
    });
}

#[test]
fn a_request_that_is_dropped_while_it_is_woken_lets_go_of_its_parent_and_the_next_one_is_woken_all_the_same() {
    check(|| {
        let ((flag, old), (next_flag, next)) = (parent(), parent());
        let mut wakers = Wakers::of(Set::new(2));
        wakers.register(&old);
        drop(old);
        let stale = wakers.get(0).cloned().unwrap();
        let other = thread::spawn(move || stale.wake());
        let set = wakers.end();
        drop(wakers);
        // as the next request finds it: kept, or a new one
        let mut wakers = Wakers::of(set.unwrap_or_else(|| Set::new(2)));
        wakers.register(&next);
        look(&wakers);
        let leaf = wakers.get(1).cloned().unwrap();
        leaf.wake();
        wakers.register(&next);
        while look(&wakers) & 0b10 == 0 {
            next_flag.wait();
            wakers.register(&next);
        }
        other.join().unwrap();
        drop(wakers.end());
        assert_eq!(Arc::strong_count(&flag), 1, "nobody holds the first parent any more");
    });
}
