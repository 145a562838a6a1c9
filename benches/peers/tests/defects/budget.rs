//! tower's budget looks whether there is enough, then takes: threads that look at the same time all take.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};
use tower::retry::budget::{Budget as _, TpsBudget};

const THREADS: usize = 4;
/// What both allow beside what is deposited.
const FLOOR: u64 = 10;

/// Threads deposit one and take all that they get, over and over, for at most so long. Whether at any moment more had been
/// taken than had ever been there.
fn is_overspent(most: Duration, deposit: impl Fn() + Sync, withdraw: impl Fn() -> bool + Sync) -> bool {
    let (deposited, taken, seen) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let end = Instant::now() + most;
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !seen.load(SeqCst) && Instant::now() < end {
                    deposited.fetch_add(1, SeqCst); // before it is there
                    deposit();
                    while withdraw() {
                        let taken = taken.fetch_add(1, SeqCst) + 1; // after it has been taken
                        if taken > FLOOR + deposited.load(SeqCst) {
                            seen.store(true, SeqCst);
                        }
                    }
                }
            });
        }
    });
    assert!(taken.load(SeqCst) > 10 * FLOOR);
    seen.into_inner()
}

#[test]
fn ours_is_never_overspent_by_threads_that_race() {
    let (budget, now) = (seedpod::layer::Budget::new(1, 100), seedpod::base::time::now());
    assert_eq!(budget.left(now), FLOOR);
    assert!(!is_overspent(Duration::from_secs(3), || budget.deposit(now), || budget.withdraw(now)));
}

#[test]
fn towers_is_overspent() {
    let budget = || TpsBudget::new(Duration::from_secs(10), 1, 1.0);
    let alone = budget();
    assert_eq!((0..100).filter(|_| alone.withdraw()).count() as u64, FLOOR);
    // a budget lasts less than its ten seconds
    let seen = (0..10).any(|_| {
        let raced = budget();
        is_overspent(Duration::from_secs(5), || raced.deposit(), || raced.withdraw())
    });
    assert!(seen);
}
