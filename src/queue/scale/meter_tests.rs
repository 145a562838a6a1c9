//! What a meter tells of arrivals, times and utilisation.

use super::Meter;
use crate::{base::time, queue::TopicStats};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn stored(stored: usize) -> TopicStats {
    TopicStats { stored, ready: stored, ..TopicStats::default() }
}

#[tokio::test(start_paused = true)]
async fn arrivals_follow_from_what_is_stored_and_what_was_done() {
    let meter = Meter::default();
    meter.seen(&stored(500));
    assert_eq!(meter.read().arrival_rate, 0.0, "a backlog is no rush");
    let mut there = 500;
    for _ in 0..40 {
        for _ in 0..5 {
            let work = meter.begin();
            time::sleep(SECOND).await;
            work.done();
        }
        there = there - 5 + 10; // five were settled, ten came
        meter.seen(&stored(there));
    }
    let rate = meter.read().arrival_rate;
    assert!((rate - 2.0).abs() < 0.1, "{rate}");
    assert_eq!((meter.read().depth, meter.read().done), (700, 200));
}

#[tokio::test(start_paused = true)]
async fn an_item_that_is_settled_after_the_look_is_counted_once() {
    let meter = Meter::default();
    meter.seen(&stored(10));
    for there in (0..10).rev() {
        let work = meter.begin();
        time::sleep(SECOND).await;
        work.done();
        meter.seen(&stored(there + 1)); // not settled yet
        time::sleep(SECOND).await;
        meter.seen(&stored(there));
    }
    assert!(meter.read().arrival_rate < 0.06, "{}", meter.read().arrival_rate);
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_arrives_again() {
    let derived = Meter::default();
    let reported = Meter::default();
    derived.seen(&stored(1));
    reported.arrived(1);
    for _ in 0..60 {
        for meter in [&derived, &reported] {
            meter.begin().failed();
        }
        time::sleep(SECOND).await;
        derived.seen(&stored(1));
    }
    for meter in [derived, reported] {
        assert!((meter.read().arrival_rate - 1.0).abs() < 0.1, "{:?}", meter.read());
        assert_eq!(meter.read().failed, 60);
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_settle_is_no_debt_for_ever() {
    let meter = Meter::default();
    meter.seen(&stored(100_000));
    time::sleep(SECOND).await;
    meter.seen(&stored(0)); // another subscription's, or other processes' workers
    let mut there = 0;
    for _ in 0..60 {
        time::sleep(SECOND).await;
        there += 3;
        meter.seen(&stored(there));
    }
    assert!((meter.read().arrival_rate - 3.0).abs() < 0.2, "{}", meter.read().arrival_rate);
}

#[tokio::test(start_paused = true)]
async fn a_given_up_item_says_nothing_of_how_long_one_takes() {
    let meter = Meter::default();
    let work = meter.begin();
    time::sleep(100 * SECOND).await;
    assert_eq!(meter.read().service_time, Some(100 * SECOND), "seen before it ends");
    drop(work);
    assert_eq!((meter.read().service_time, meter.read().lost, meter.read().busy), (None, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn utilisation_counts_idle_workers() {
    let meter = Meter::default();
    meter.workers(4);
    let work = meter.begin();
    time::sleep(10 * SECOND).await;
    assert_eq!(meter.read().utilisation, Some(0.25));
    work.done();
}
