//! tower's budget looks whether there is enough, then takes: threads that look at the same time all take.

use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    thread,
};
use tower::retry::budget::Budget as _;

const THREADS: usize = 4;
const ALLOWED: u64 = 10;
const ROUNDS: usize = 50_000;

/// All wait here for each other, spinning, so that they leave together.
#[derive(Default)]
struct Line(AtomicUsize);

impl Line {
    /// Waits for the others, for the nth time.
    fn wait(&self, nth: usize) {
        self.0.fetch_add(1, SeqCst);
        for spins in 0_u32.. {
            if self.0.load(SeqCst) >= nth * THREADS {
                return;
            }
            if spins.is_multiple_of(256) { thread::yield_now() } else { spin_loop() }
        }
    }
}

/// Each round, threads spend one new budget together. The first round in which they got more than was allowed.
fn overspends<B: Sync + Send>(budget: impl Fn() -> B, withdraw: impl Fn(&B) -> bool + Sync) -> Option<(usize, u64)> {
    let budgets: Vec<B> = (0..ROUNDS).map(|_| budget()).collect();
    let (spent, line): (Vec<AtomicU64>, Line) = ((0..ROUNDS).map(|_| AtomicU64::new(0)).collect(), Line::default());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    line.wait(2 * round + 1);
                    while withdraw(&budgets[round]) {
                        spent[round].fetch_add(1, SeqCst);
                    }
                    line.wait(2 * round + 2);
                    if spent[round].load(SeqCst) > ALLOWED {
                        break; // all see the same
                    }
                }
            });
        }
    });
    let spent = spent.into_iter().map(AtomicU64::into_inner);
    spent.enumerate().find(|(_, spent)| *spent > ALLOWED)
}

#[test]
fn ours_is_never_overspent_by_threads_that_race() {
    let now = seedpod::base::time::now();
    let ours = || seedpod::layer::Budget::new(1, 0); // ten seconds of one a second
    assert_eq!(overspends(ours, |budget| budget.withdraw(now)), None);
}

#[test]
fn towers_is_overspent() {
    let towers = || tower::retry::budget::TpsBudget::new(std::time::Duration::from_secs(10), 1, 0.0);
    let alone = towers();
    assert_eq!((0..100).filter(|_| alone.withdraw()).count() as u64, ALLOWED);
    let seen = overspends(towers, |budget| budget.withdraw());
    assert!(seen.is_some(), "{ROUNDS} rounds of {THREADS} threads, never more than {ALLOWED}");
}
