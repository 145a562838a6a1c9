//! Every interleaving of the leaves' threads and the parent's, up to three preemptions; who waits sleeps until woken, so
//! that a wake that is lost is a deadlock.

use super::*;
use loom::{future::block_on, model::Builder, thread};
use std::{future::poll_fn, task::Poll};

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// A parent that goes on to wait elsewhere.
struct Elsewhere;

impl Wake for Elsewhere {
    fn wake(self: Arc<Self>) {}
}

fn elsewhere() -> (Arc<Elsewhere>, Waker) {
    let parent = Arc::new(Elsewhere);
    (parent.clone(), parent.into())
}

/// Polls as a request does, until all of these bits have been seen.
fn wait(wakers: &mut Wakers, bits: u64) {
    let mut seen = 0;
    block_on(poll_fn(|cx| {
        wakers.register(cx.waker());
        while let Some((_, woken)) = wakers.woken(&mut (0..1)) {
            seen |= woken;
        }
        if seen & bits == bits { Poll::Ready(()) } else { pending() }
    }));
}

/// Lets others go on before the next poll, also where that is due at once.
fn pending() -> Poll<()> {
    thread::yield_now();
    Poll::Pending
}

fn leaf(wakers: &Wakers, place: usize) -> Waker {
    wakers.get(place).cloned().unwrap()
}

#[test]
fn no_wake_is_lost_between_two_leaves_and_the_poll() {
    check(|| {
        let mut wakers = Wakers::of(Set::new(2));
        let (first, second) = (leaf(&wakers, 0), leaf(&wakers, 1));
        let others = [thread::spawn(move || first.wake()), thread::spawn(move || second.wake_by_ref())];
        wait(&mut wakers, 0b11);
        others.into_iter().for_each(|other| other.join().unwrap());
        drop(wakers.end());
    });
}

#[test]
fn a_wake_while_the_parent_changes_reaches_the_new_one() {
    check(|| {
        let (_, old) = elsewhere();
        let mut wakers = Wakers::of(Set::new(2));
        wakers.register(&old);
        assert_eq!(wakers.woken(&mut (0..1)), None);
        let (first, second) = (leaf(&wakers, 0), leaf(&wakers, 1));
        let other = thread::spawn(move || {
            first.wake();
            second.wake();
        });
        wait(&mut wakers, 0b11);
        other.join().unwrap();
        drop(wakers.end());
    });
}

#[test]
fn a_request_that_is_dropped_while_it_is_woken_lets_go_of_its_parent_and_the_next_one_is_woken_all_the_same() {
    check(|| {
        let (held, old) = elsewhere();
        let mut wakers = Wakers::of(Set::new(2));
        wakers.register(&old);
        drop(old);
        let stale = leaf(&wakers, 0);
        let other = thread::spawn(move || stale.wake());
        let set = wakers.end();
        drop(wakers);
        // as the next request finds it: kept, or a new one
        let mut wakers = Wakers::of(set.unwrap_or_else(|| Set::new(2)));
        let mut asked = false;
        block_on(poll_fn(|cx| {
            wakers.register(cx.waker());
            let woken = wakers.woken(&mut (0..1)).map_or(0, |(_, bits)| bits);
            if !std::mem::replace(&mut asked, true) {
                leaf(&wakers, 1).wake();
            }
            if woken & 0b10 != 0 { Poll::Ready(()) } else { pending() }
        }));
        other.join().unwrap();
        drop(wakers.end());
        assert_eq!(Arc::strong_count(&held), 1, "nobody holds the first parent any more");
    });
}
