//! Who is polled drives; nobody hangs; nothing is left behind.

use super::*;
use crate::base::{Seed, time};
use futures::{FutureExt, future::join_all, poll};
use std::{
    future::poll_fn,
    sync::atomic::{AtomicU32, AtomicUsize},
    time::Duration,
};

fn flights<T>(flights: usize, waiters: usize) -> Arc<Flights<u64, T>> {
    Arc::new(Flights::new(Limits { flights, waiters }))
}

/// Counts those that live.
struct Counted(Arc<AtomicU32>);

impl Counted {
    fn new(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, SeqCst);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

fn slow(millis: u64, calls: &Arc<AtomicU32>) -> Call<u32> {
    let calls = calls.clone();
    Box::pin(async move {
        for _ in 0..millis {
            time::sleep(Duration::from_millis(1)).await;
        }
        Ok(calls.fetch_add(1, SeqCst))
    })
}

#[tokio::test(start_paused = true)]
async fn a_thousand_who_come_at_once_make_one_call() {
    let (flights, calls) = (flights(10, 1_000), Arc::default());
    let waiters: Vec<_> = (0..1_000).map(|_| flights.join(1, |_| slow(5, &calls)).unwrap()).collect();
    assert_eq!(flights.under_way(), (1, 1_000));
    let refused = flights.join(1, |_| slow(5, &calls)).err().unwrap();
    assert_eq!((refused.kind(), refused.message()), (Kind::Overloaded, "too many wait for the same call"));
    let answers = join_all(waiters.into_iter().map(tokio::spawn)).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().unwrap() == 0));
    assert_eq!((calls.load(SeqCst), flights.under_way()), (1, (0, 0)));
    assert_eq!(flights.counts(), Counts { led: 1, joined: 999, refused: 1 });
}

#[tokio::test(start_paused = true)]
async fn whoever_is_polled_drives_when_the_first_is_dropped_or_forgotten() {
    let (flights, calls) = (flights(10, 10), Arc::default());
    for dropped in [true, false] {
        let mut first = flights.join(1, |_| slow(5, &calls)).unwrap();
        let second = flights.join(1, |_| unreachable!("one is under way")).unwrap();
        assert!(first.led() && !second.led());
        assert!(poll!(&mut first).is_pending());
        let kept = (!dropped).then_some(first); // held, and never polled again
        second.await.unwrap();
        drop(kept);
    }
    assert_eq!((calls.load(SeqCst), flights.under_way()), (2, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn the_last_to_leave_drops_the_call_and_the_next_makes_its_own() {
    let (flights, live) = (flights::<()>(10, 10), Arc::default());
    let never = |_: &Arc<Aboard>| -> Call<()> {
        let counted = Counted::new(&live);
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(counted);
            Ok(())
        })
    };
    let mut waiters: Vec<_> = (0..3).map(|_| flights.join(1, never).unwrap()).collect();
    for waiter in &mut waiters {
        assert!(poll!(waiter).is_pending());
    }
    while waiters.pop().is_some() {
        assert_eq!(live.load(SeqCst), u32::from(!waiters.is_empty()));
    }
    assert_eq!(flights.under_way(), (0, 0));
    assert!(flights.join(1, |_| async { Ok(()) }.boxed()).unwrap().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_one_flight_and_everybody_in_it() {
    let flights = flights::<u32>(10, 10);
    let bad = |_: &Arc<Aboard>| -> Call<u32> {
        Box::pin(async {
            time::sleep(Duration::from_millis(1)).await;
            panic!("in the call")
        })
    };
    let waiters: Vec<_> = (0..3).map(|_| tokio::spawn(flights.join(1, bad).unwrap())).collect();
    let other = tokio::spawn(flights.join(2, |_| async { Ok(2) }.boxed()).unwrap());
    let (mut panicked, mut told) = (0, 0);
    for ended in join_all(waiters).await {
        match ended {
            Err(task) => panicked += u32::from(task.is_panic()),
            Ok(answer) => told += u32::from(answer.unwrap_err().kind() == Kind::Panicked),
        }
    }
    assert_eq!((panicked, told), (1, 2));
    assert_eq!((other.await.unwrap().unwrap(), flights.under_way()), (2, (0, 0)));
    assert_eq!(flights.join(1, |_| async { Ok(1) }.boxed()).unwrap().await.unwrap(), 1);
    let making = std::panic::AssertUnwindSafe(|| flights.join(1, |_| panic!("while it is made")).map(drop));
    assert!(std::panic::catch_unwind(making).is_err());
    assert_eq!(flights.under_way(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn errors_are_shared_and_who_is_recalled_is_joined_by_nobody() {
    let flights = flights::<u32>(2, 10);
    let failing = |_: &Arc<Aboard>| async { Err(Error::new(Kind::Unavailable, "nobody is there")) }.boxed();
    let (one, two) = (flights.join(1, failing).unwrap(), flights.join(1, failing).unwrap());
    assert_eq!((one.await.unwrap_err().kind(), two.await.unwrap_err().kind()), (Kind::Unavailable, Kind::Unavailable));

    let old = flights.join(1, |aboard| {
        let aboard = aboard.clone();
        async move { Ok(u32::from(aboard.is_recalled())) }.boxed()
    });
    flights.recall(Some(&1));
    assert!(!flights.has(&1));
    let new = flights.join(1, |_| async { Ok(7) }.boxed()).unwrap();
    assert_eq!((old.unwrap().await.unwrap(), flights.has(&1)), (1, true), "the old one does not take the new one away");
    let more = flights.join(2, |_| async { Ok(8) }.boxed()).unwrap();
    let refused = flights.join(3, |_| unreachable!()).err().unwrap();
    assert_eq!(refused.message(), "too many different calls are under way");
    assert_eq!((new.await.unwrap(), more.await.unwrap()), (7, 8));
}

/// Every schedule of a few steps: polls, drops, wakes and joins in any order leave nothing behind and lose no wake.
#[test]
fn a_hundred_thousand_random_schedules_lose_no_wake() {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, SeqCst);
        }
    }
    let mut rng = Seed::new(11).rng();
    let (mut answered, mut abandoned) = (0, 0);
    for round in 0..100_000 {
        let flights = flights::<u32>(4, 100);
        let (wakers, polls) = (Arc::new(Lock::new(None::<Waker>)), Arc::new(AtomicUsize::new(0)));
        let needed = rng.range(1..4) as usize;
        let make = |_: &Arc<Aboard>| -> Call<u32> {
            let (wakers, polls) = (wakers.clone(), polls.clone());
            Box::pin(poll_fn(move |cx| {
                if polls.fetch_add(1, SeqCst) >= needed {
                    return Poll::Ready(Ok(1));
                }
                *wakers.lock() = Some(cx.waker().clone());
                Poll::Pending
            }))
        };
        let mut waiters: Vec<(Waiter<u64, u32>, Arc<Flag>)> = Vec::new();
        for _ in 0..rng.range(1..24) {
            match rng.below(6) {
                0 | 1 => {
                    let flag = Arc::new(Flag(AtomicBool::new(true)));
                    waiters.push((flights.join(1, make).unwrap(), flag));
                }
                2 if !waiters.is_empty() => {
                    let at = rng.below(waiters.len() as u64) as usize;
                    waiters.swap_remove(at);
                    abandoned += 1;
                }
                3 => {
                    if let Some(waker) = wakers.lock().take() {
                        waker.wake();
                    }
                }
                _ if !waiters.is_empty() => {
                    let at = rng.below(waiters.len() as u64) as usize;
                    let (waiter, flag) = &mut waiters[at];
                    flag.0.store(false, SeqCst);
                    if waiter.poll_unpin(&mut Context::from_waker(&Waker::from(flag.clone()))).is_ready() {
                        waiters.swap_remove(at);
                        answered += 1;
                    }
                }
                _ => {}
            }
        }
        // from here only who has been woken is polled, as an executor does it
        for _ in 0..1_000 {
            if waiters.is_empty() {
                break;
            }
            match waiters.iter().position(|(_, flag)| flag.0.swap(false, SeqCst)) {
                Some(at) => {
                    let (waiter, flag) = &mut waiters[at];
                    if waiter.poll_unpin(&mut Context::from_waker(&Waker::from(flag.clone()))).is_ready() {
                        waiters.swap_remove(at);
                        answered += 1;
                    }
                }
                None => wakers.lock().take().unwrap_or_else(|| panic!("round {round}: nobody will be woken")).wake(),
            }
        }
        assert!(waiters.is_empty() && flights.under_way() == (0, 0), "round {round}");
    }
    assert!(answered > 100_000 && abandoned > 50_000, "{answered} {abandoned}");
}

#[test]
fn threads_that_race_share_calls_and_leave_nothing_behind() {
    let (flights, live) = (flights::<u64>(4, 100), Arc::default());
    std::thread::scope(|scope| {
        for thread in 0..6_u64 {
            let (flights, live) = (&flights, &live);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for round in 0..2_000 {
                    let key = round % 3;
                    let waiter = flights.join(key, |_| {
                        let counted = Counted::new(live);
                        Box::pin(async move {
                            for _ in 0..3 {
                                tokio::task::yield_now().await;
                            }
                            drop(counted);
                            Ok(key)
                        })
                    });
                    let Ok(mut waiter) = waiter else { continue };
                    if (round + thread) % 5 == 0 {
                        let _ = waiter.poll_unpin(&mut Context::from_waker(Waker::noop()));
                        continue;
                    }
                    assert_eq!(runtime.block_on(waiter).unwrap(), key);
                }
            });
        }
    });
    assert_eq!((flights.under_way(), live.load(SeqCst)), ((0, 0), 0));
}
