//! Every interleaving of two threads, up to three preemptions.

use super::*;
use loom::{model::Builder, thread};

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// A budget of as many extra attempts as were deposited, and a moment.
fn budget(deposits: u32) -> (Budget, Instant) {
    let budget = Budget::new(0, 100);
    let start = budget.0.start;
    (0..deposits).for_each(|_| budget.deposit(start));
    (budget, start)
}

#[test]
fn two_that_race_for_the_last_never_get_two() {
    check(|| {
        let (budget, now) = budget(1);
        let other = {
            let budget = budget.clone();
            thread::spawn(move || budget.withdraw(now))
        };
        let mine = budget.withdraw(now);
        let taken = u64::from(mine) + u64::from(other.join().unwrap());
        assert!(taken <= 1);
        assert_eq!(budget.left(now), 1 - taken, "what was refused was not kept");
    });
}

#[test]
fn what_never_left_is_given_back_whoever_takes_meanwhile() {
    check(|| {
        let (budget, now) = budget(2);
        let other = {
            let budget = budget.clone();
            thread::spawn(move || drop(budget.extra(now)))
        };
        let mine = budget.withdraw(now);
        other.join().unwrap();
        assert!(mine, "two are there");
        assert_eq!(budget.left(now), 1);
    });
}

#[test]
fn a_deposit_and_a_slot_that_turns_over_lose_nothing() {
    check(|| {
        let (budget, start) = budget(3);
        let later = start + Duration::from_secs(SLOTS);
        let other = {
            let budget = budget.clone();
            thread::spawn(move || budget.deposit(later))
        };
        budget.deposit(later);
        other.join().unwrap();
        assert_eq!(budget.left(later), 2, "the slot's old count is gone, both new ones are there");
    });
}
