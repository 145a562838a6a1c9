//! All that stands above the broker, under faults: typed jobs with keys, priorities, delays, unique keys, results, what
//! they make and how far they are; cancelled, quarantined, redriven; settled by hand; request and reply; a container per
//! item. Nothing that was acknowledged is lost, no effect is committed twice, keys keep their order, and all is drained.

mod checks;
mod clients;
mod course;
mod ground;
mod workers;
mod world;

use super::{
    features::FEATURES,
    wire::{ANSWER_LOST, CALL_DELAYED, CALL_DOUBLED, CALL_LOST, CALLS_REORDERED, KILLED, PARTITIONED},
};
use crate::schedule::{Hits, Subject, simulate};
use course::{PAUSED, STOPPED, schedule};
use ground::{DISK_FULL, Ground, POWER_CUT, SYNC_FAILED, TORN};
use seedpod::base::Seed;
use workers::{FAILED, HUNG, PANICKED};

const SUBJECT: Subject = Subject {
    test: "queue::jobs::schedules_jobs",
    faults: &[
        ANSWER_LOST,
        CALL_DELAYED,
        CALL_DOUBLED,
        CALL_LOST,
        CALLS_REORDERED,
        FAILED,
        HUNG,
        PANICKED,
        KILLED,
        PARTITIONED,
        PAUSED,
        STOPPED,
    ],
    one_in: 1,
    usual: 200,
};

/// The same on a disk that fails, which is a world of its own each time.
const ON_DISK: Subject = Subject {
    test: "queue::jobs::schedules_jobs_on_disk",
    faults: &[
        ANSWER_LOST,
        CALL_DELAYED,
        CALL_DOUBLED,
        CALL_LOST,
        FAILED,
        PANICKED,
        KILLED,
        PARTITIONED,
        PAUSED,
        STOPPED,
        POWER_CUT,
        SYNC_FAILED,
        DISK_FULL,
        TORN,
    ],
    one_in: 5,
    usual: 150,
};

#[test]
fn schedules_jobs() {
    SUBJECT.run_by_feature(FEATURES, |seed, hits| simulate(seed, schedule(seed, hits, Ground::memory(), false)).0);
}

#[test]
fn schedules_jobs_on_disk() {
    ON_DISK.run_by_feature(FEATURES, |seed, hits| simulate(seed, schedule(seed, hits, Ground::disk(), false)).0);
}

/// Not only the numbers that tell courses apart: every event, in words.
#[test]
fn one_seed_is_one_trace() {
    let trace =
        |seed| simulate(Seed::new(seed), schedule(Seed::new(seed), &mut Hits::default(), Ground::memory(), true)).1;
    for seed in 0..5 {
        let (one, again) = (trace(seed), trace(seed));
        assert!(one.lines().count() > 100, "{one}");
        assert_eq!(one, again);
    }
    assert_ne!(trace(0), trace(1));
}
