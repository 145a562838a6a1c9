//! Seeded fault schedules: how many, and how a failing one is told.
//!
//! `SEEDPOD_SCHEDULES` says how many (200 by default); `SEEDPOD_SEED` runs just that one.

use seedpod::base::Seed;
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

/// What faults hit in one schedule: a fault counts only where it met something in flight.
#[derive(Debug, Default)]
pub(crate) struct Hits(BTreeMap<&'static str, u64>);

impl Hits {
    pub(crate) fn hit(&mut self, fault: &'static str) {
        *self.0.entry(fault).or_default() += 1;
    }
}

/// Runs the schedules of this subject, prints the hit table, and holds every fault listed to at least one hit in ten
/// schedules. `test` is the path of the test, for the command that replays a failure.
pub(crate) fn run(test: &str, faults: &[&'static str], mut one: impl FnMut(Seed, &mut Hits)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let only = number("SEEDPOD_SEED");
    let count = only.map_or_else(|| number("SEEDPOD_SCHEDULES").unwrap_or(200), |_| 1);
    let first = only.unwrap_or(0);
    let mut hits = Hits::default();
    for seed in first..first + count {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| one(Seed::new(seed), &mut hits))) {
            eprintln!(
                "seed {seed} fails; replay it: SEEDPOD_SEED={seed} cargo test --test it {test} -- --exact --nocapture"
            );
            resume_unwind(panic);
        }
    }
    println!("{count} schedules of {test}: hits {:?}", hits.0);
    if only.is_none() {
        for fault in faults {
            let hit = hits.0.get(fault).copied().unwrap_or(0);
            assert!(hit * 10 >= count, "{fault} hit something in flight only {hit} times in {count} schedules");
        }
    }
}

/// Runs a future on a paused current-thread runtime under this seed, as a simulation.
pub(crate) fn simulate<F: Future>(seed: Seed, future: F) -> F::Output {
    let _simulation = seed.simulate();
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(future)
}
