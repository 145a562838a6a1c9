//! Allocations per operation, instead of time, which counting them would change.

use crate::Group;

/// Counts and prints.
pub(crate) fn measure(group: &mut Group<'_>) {
    for (_, name, work) in &mut group.cases {
        work(64); // warm: first calls fill caches
        let seen = allocation_counter::measure(|| work(1000));
        println!("{:<24} {name:<36} {:>8.3} allocations", group.name, seen.count_total as f64 / 1000.0);
    }
}

/// Scaling is not measured here: once is enough.
pub(crate) fn setting(_: &str, _: u64) -> u64 {
    1
}
