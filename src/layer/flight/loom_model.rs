//! Every interleaving of two threads, up to three preemptions; who waits sleeps until woken, so that a wake that is lost
//! is a deadlock.

use super::*;
use crate::base::sync::atomic::AtomicUsize;
use loom::{future::block_on, model::Builder, thread};

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn flights() -> Arc<Flights<u8, u32>> {
    Arc::new(Flights::new(Limits { flights: 1, waiters: 2 }))
}

/// A call that is over when it is polled a second time; it counts how often it was made.
fn call(made: &Arc<AtomicUsize>) -> Call<u32> {
    made.fetch_add(1, SeqCst);
    let mut polled = false;
    Box::pin(std::future::poll_fn(move |cx| {
        if !std::mem::replace(&mut polled, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(7))
    }))
}

#[test]
fn both_get_the_answer_and_nothing_stays_under_way() {
    check(|| {
        let (flights, made) = (flights(), Arc::new(AtomicUsize::new(0)));
        let other = {
            let (flights, made) = (flights.clone(), made.clone());
            thread::spawn(move || block_on(flights.join(1, |_| call(&made)).unwrap()))
        };
        let mine = block_on(flights.join(1, |_| call(&made)).unwrap());
        let theirs = other.join().unwrap();
        assert_eq!((mine.unwrap(), theirs.unwrap()), (7, 7));
        assert_eq!(flights.under_way(), (0, 0));
        let counts = flights.counts();
        assert_eq!((made.load(SeqCst) as u64, counts.led + counts.joined), (counts.led, 2));
    });
}

#[test]
fn who_gives_up_in_the_middle_leaves_the_call_to_the_other() {
    check(|| {
        let (flights, made) = (flights(), Arc::new(AtomicUsize::new(0)));
        let other = {
            let (flights, made) = (flights.clone(), made.clone());
            thread::spawn(move || {
                let mut waiter = flights.join(1, |_| call(&made)).unwrap();
                drop(waiter.poll_shared(&mut Context::from_waker(Waker::noop())));
            })
        };
        let mine = block_on(flights.join(1, |_| call(&made)).unwrap());
        other.join().unwrap();
        assert_eq!((mine.unwrap(), flights.under_way()), (7, (0, 0)));
    });
}
