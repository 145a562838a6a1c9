//! The promises of the pickers, over a set without services.

use super::*;
use crate::{
    base::{
        Outcome, Seed,
        time::{self, Instant},
    },
    serving::{
        Endpoints, Lease, SlowStart, Status,
        cell::{Cell, state},
    },
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

pub(super) const MILLI: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A set of these weights, under the keys 0, 1, 2 …
pub(crate) fn set(weights: &[u32]) -> Endpoints<()> {
    let endpoints = Endpoints::named("test").seed(Seed::new(1));
    endpoints.update(|changes| {
        for (number, weight) in weights.iter().enumerate() {
            changes.insert(number.to_string(), ()).weight(*weight);
        }
    });
    endpoints
}

/// One handle.
pub(crate) struct Client<P> {
    pub(crate) picker: P,
    draw: Draw,
}

impl<P: Picker<u64>> Client<P> {
    pub(crate) fn new(picker: P) -> Self {
        Client { picker, draw: Draw::new(Seed::new(7).rng()) }
    }

    pub(crate) fn pick(&mut self, endpoints: &Endpoints<()>) -> Option<Lease> {
        self.pick_for(endpoints, 0)
    }

    pub(crate) fn pick_for(&mut self, endpoints: &Endpoints<()>, request: u64) -> Option<Lease> {
        let current = endpoints.current();
        let choice = self.picker.choose(&Among::new(&current), &request, &mut self.draw)?;
        Some(Lease::new(&current.list[choice.place].cell, choice.watch))
    }

    /// How many of so many picks each got, where every call ends before the next begins.
    pub(crate) fn idle(&mut self, endpoints: &Endpoints<()>, picks: u32) -> Vec<u32> {
        let mut got = vec![0; endpoints.len()];
        for _ in 0..picks {
            let lease = self.pick(endpoints).unwrap();
            got[lease.key().parse::<usize>().unwrap()] += 1;
            lease.complete(Outcome::Success);
        }
        got
    }

    /// The same for calls that come at this pace, where each endpoint takes its time.
    async fn busy(
        &mut self,
        endpoints: &Endpoints<()>,
        picks: u32,
        pace: Duration,
        takes: impl Fn(usize) -> Duration,
    ) -> Vec<u32> {
        let mut got = vec![0; endpoints.len()];
        let mut under_way: Vec<VecDeque<(Instant, Lease)>> = (0..endpoints.len()).map(|_| VecDeque::new()).collect();
        for _ in 0..picks {
            let lease = self.pick(endpoints).unwrap();
            let place = lease.key().parse::<usize>().unwrap();
            got[place] += 1;
            under_way[place].push_back((time::now() + takes(place), lease));
            tokio::time::advance(pace).await;
            for calls in &mut under_way {
                while calls.front().is_some_and(|(end, _)| *end <= time::now()) {
                    calls.pop_front().unwrap().1.complete(Outcome::Success);
                }
            }
        }
        got
    }
}

/// Chi-square against the weights, below what one in a thousand exceeds (Wilson and Hilferty), and each within half a
/// percentage point.
pub(crate) fn follows(got: &[u32], weights: &[u32], name: &str) {
    let (picks, total) = (got.iter().sum::<u32>(), weights.iter().sum::<u32>());
    let expected = |weight: u32| f64::from(picks) * f64::from(weight) / f64::from(total);
    let (mut chi, mut free) = (0.0, -1.0);
    for (got, weight) in got.iter().zip(weights) {
        let expected = expected(*weight);
        if *weight == 0 {
            assert_eq!(*got, 0, "{name}");
            continue;
        }
        let off = (f64::from(*got) - expected) / f64::from(picks);
        assert!(off.abs() < 0.005, "{name}: {got} instead of {expected}");
        chi += (f64::from(*got) - expected).powi(2) / expected;
        free += 1.0;
    }
    let part = 2.0 / (9.0 * f64::max(free, 1.0));
    let most = free * (1.0 - part + 3.09 * f64::sqrt(part)).powi(3);
    assert!(chi <= most, "{name}: chi-square {chi} of at most {most}: {got:?}");
}

fn million_idle_picks<P: Picker<u64> + Clone>(picker: P, name: &str) {
    for (weights, picks) in [
        (&[1, 2, 3, 4, 0, 90][..], 1_000_000),
        (&[198, 1, 1], 200_000),
        (&[1, 1, 1, 1], 200_000),
        (&[5, 5, 0, 5], 200_000),
    ] {
        let got = Client::new(picker.clone()).idle(&set(weights), picks);
        follows(&got, weights, &format!("{name} {weights:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_million_idle_picks_follow_the_weights_by_least_pending() {
    million_idle_picks(LeastPending, "least pending");
}

#[tokio::test(start_paused = true)]
async fn a_million_idle_picks_follow_the_weights_by_peak_ewma() {
    million_idle_picks(PeakEwma::new(), "peak ewma");
}

#[tokio::test(start_paused = true)]
async fn a_million_idle_picks_follow_the_weights_by_chance_and_in_turn() {
    million_idle_picks(Random, "random");
    million_idle_picks(RoundRobin::seed(Seed::new(1)), "round robin");
}

#[tokio::test(start_paused = true)]
async fn weights_change_while_calls_are_under_way() {
    let endpoints = set(&[1, 1]);
    for weights in [[2, 1], [1, 1], [4, 1]] {
        for (key, weight) in ["0", "1"].into_iter().zip(weights) {
            endpoints.alter(key, move |about| {
                about.weight(weight);
            });
        }
        // thirty calls of thirty milliseconds under way at a time
        let got = Client::new(LeastPending).busy(&endpoints, 30_000, MILLI, |_| 30 * MILLI).await;
        let share = f64::from(got[0]) / 30_000.0;
        let expected = f64::from(weights[0]) / f64::from(weights[0] + weights[1]);
        assert!((share - expected).abs() < 0.03, "{weights:?}: {got:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn load_is_spread_evenly_over_a_hundred_equal_endpoints() {
    async fn even<P: Picker<u64>>(picker: P, name: &str) {
        let got = Client::new(picker).busy(&set(&[1; 100]), 100_000, MILLI, |_| 150 * MILLI).await;
        assert!(got.iter().all(|got| (900..1_100).contains(got)), "{name}: {got:?}");
    }
    even(LeastPending, "least pending").await;
    even(PeakEwma::new(), "peak ewma").await;
    even(RoundRobin::seed(Seed::new(1)), "round robin").await;
}

#[tokio::test(start_paused = true)]
async fn by_latency_the_slow_get_less_in_proportion() {
    let endpoints = set(&[1; 10]);
    // five times slower, and a hundred calls under way at a time
    let takes = |place| if place == 0 { 250 * MILLI } else { 50 * MILLI };
    let got = Client::new(PeakEwma::new()).busy(&endpoints, 40_000, MILLI / 2, takes).await;
    let mean = got[1..].iter().sum::<u32>() / 9;
    assert!(got[0] * 4 < mean && got[0] > 20, "{got:?}");
    assert!(got[1..].iter().all(|got| got.abs_diff(mean) * 10 < mean), "{got:?}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_without_history_is_tried_at_most_once_until_it_answers() {
    let endpoints = set(&[1, 1]);
    let mut client = Client::new(PeakEwma::new());
    client.busy(&endpoints, 100, MILLI, |_| 2 * MILLI).await;
    endpoints.insert("new", ());
    let (mut held, mut others) = (Vec::new(), 0);
    for _ in 0..1_000 {
        let lease = client.pick(&endpoints).unwrap();
        if lease.key() == "new" {
            held.push(lease);
        } else {
            others += 1;
            tokio::time::advance(MILLI).await;
            lease.complete(Outcome::Success);
        }
    }
    assert_eq!((held.len(), others), (1, 999));
    endpoints.remove("new");
    endpoints.insert("newer", ());
    while client.pick(&endpoints).unwrap().key() != "newer" {}
    let mut turn = async || {
        let lease = client.pick(&endpoints).unwrap();
        let found = lease.key() == "newer";
        tokio::time::advance(MILLI).await;
        lease.complete(Outcome::Success);
        found
    };
    for _ in 0..1_000 {
        assert!(!turn().await, "given up at once, it counts as thirty milliseconds");
    }
    let mut forgiven = 0;
    for _ in 0..60_000 {
        forgiven += u32::from(turn().await);
    }
    assert!(forgiven > 5, "and is asked again in time: {forgiven}");
}

/// What a healthy endpoint of 10 ms and another one cost by now, after this outcome of a call to the other that took
/// this long.
async fn costs(outcome: Option<Outcome>, took: Duration) -> [f32; 2] {
    let endpoints = set(&[1]);
    let mut client = Client::new(PeakEwma::new());
    let lease = client.pick(&endpoints).unwrap();
    tokio::time::advance(10 * MILLI).await;
    lease.complete(Outcome::Success);
    let (current, before) = (endpoints.current_shared(), cost(&endpoints));
    let lease = client.pick(&endpoints).unwrap();
    tokio::time::advance(took).await;
    match outcome {
        Some(outcome) => lease.complete(outcome),
        None => drop(lease),
    }
    assert_eq!(Cell::pending(&current.list[0].cell), 0);
    [before, cost(&endpoints)]
}

fn cost(endpoints: &Endpoints<()>) -> f32 {
    let current = endpoints.current();
    current.list[0].cell.cost(crate::serving::cell::nanos(current.epoch, time::now()), 10e9).unwrap() / 1e6
}

#[tokio::test(start_paused = true)]
async fn a_fast_failure_costs_more_than_a_healthy_answer() {
    let throttled = |wait: Option<u64>| Some(Outcome::Throttled(wait.map(Duration::from_secs)));
    for (outcome, took, expected) in [
        (Some(Outcome::Success), 10 * MILLI, 10.0),
        (Some(Outcome::Failure), MILLI, 5_000.0),
        (Some(Outcome::LocalOrigin), MILLI, 5_000.0),
        (Some(Outcome::Failure), 7 * SECOND, 7_000.0),
        (throttled(None), MILLI, 5_000.0),
        (throttled(Some(60)), MILLI, 60_000.0),
        (throttled(Some(9_000)), MILLI, 300_000.0),
    ] {
        let [before, after] = costs(outcome, took).await;
        assert!((before - 10.0).abs() < 0.1 && (after - expected).abs() < expected / 100.0, "{outcome:?}: {after}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_counts_only_as_far_as_it_was_slow() {
    for outcome in [None, Some(Outcome::Cancelled), Some(Outcome::Superseded), Some(Outcome::Ignored)] {
        let [before, after] = costs(outcome, MILLI).await;
        assert!((before - after).abs() < 0.1, "{outcome:?}: {after}");
        let [_, after] = costs(outcome, 400 * MILLI).await;
        assert!((after - 400.0).abs() < 4.0, "{outcome:?}: {after}");
    }
    // without any measurement what is assumed stands, so that the next call is not drawn to it at once
    let endpoints = set(&[1]);
    drop(Client::new(PeakEwma::new()).pick(&endpoints));
    assert!((cost(&endpoints) - 30.0).abs() < 0.3);
}

#[tokio::test(start_paused = true)]
async fn choosing_reads_and_changes_nothing() {
    let endpoints = set(&[1]);
    let mut client = Client::new(PeakEwma::new());
    client.busy(&endpoints, 10, MILLI, |_| MILLI).await;
    let before = cost(&endpoints);
    for _ in 0..100 {
        std::mem::forget(client.pick(&endpoints)); // nothing is settled
    }
    assert_eq!(cost(&endpoints), before);
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_is_kept_gives_each_exactly_its_turn() {
    let mut client = Client::new(RoundRobin::seed(Seed::new(3)));
    assert!(client.idle(&set(&[1; 7]), 7_000).iter().all(|got| *got == 1_000));
    let endpoints = set(&[1; 7]);
    for key in ["2", "3"] {
        endpoints.set_ready(key, false);
    }
    assert_eq!(client.idle(&endpoints, 5_000), [1_000, 1_000, 0, 0, 1_000, 1_000, 1_000], "nobody inherits two turns");
    endpoints.drain("0");
    assert_eq!(client.idle(&endpoints, 4_000), [0, 1_000, 0, 0, 1_000, 1_000, 1_000]);
}

#[tokio::test(start_paused = true)]
async fn handles_of_one_call_each_take_turns_too() {
    let (endpoints, picker) = (set(&[1; 5]), RoundRobin::seed(Seed::new(3)));
    let mut got = [0; 5];
    for _ in 0..1_000 {
        let _simulation = Seed::new(1).simulate(); // one stripe, whatever thread this is
        got[Client::new(picker.clone()).pick(&endpoints).unwrap().key().parse::<usize>().unwrap()] += 1;
    }
    assert_eq!(got, [200; 5]);
}

#[tokio::test(start_paused = true)]
async fn a_new_endpoint_warms_up_with_every_picker() {
    async fn warms<P: Picker<u64>>(picker: P, name: &str) {
        let endpoints = set(&[1; 4]).slow_start(SlowStart::over(100 * SECOND));
        assert!(endpoints.describe().iter().all(|endpoint| endpoint.status == Status::Ready));
        endpoints.insert("4", ());
        let mut client = Client::new(picker);
        for (at, share) in [(0, 0.1), (10, 0.1), (20, 0.2), (50, 0.5), (75, 0.75), (100, 1.0)] {
            let now = endpoints.describe()[4].clone();
            let seconds = match now.status {
                Status::Warming(now) => (now * 100.0).round() as u64,
                _ => 100,
            };
            assert!(seconds == u64::max(at, 10), "{name}: {now}");
            let mut got = [0_u32; 5];
            for request in 0..40_000 {
                let lease = client.pick_for(&endpoints, request).unwrap();
                got[lease.key().parse::<usize>().unwrap()] += 1;
                lease.complete(Outcome::Success);
            }
            let rest = f64::from(got[..4].iter().sum::<u32>()) / 4.0;
            let part = f64::from(got[4]) / rest;
            let ring = if name == "ring" { 0.25 } else { 0.08 }; // a ring's shares are uneven
            assert!((part - share).abs() < ring, "{name} at {at} s: {part} instead of {share}: {got:?}");
            let next = [10, 20, 50, 75, 100, 100][[0, 10, 20, 50, 75, 100].iter().position(|on| *on == at).unwrap()];
            tokio::time::advance((next - at as u32) * SECOND).await;
        }
        assert!(endpoints.set_ready("4", false) && endpoints.set_ready("4", true));
        assert_eq!(endpoints.describe()[4].status, Status::Warming(0.1), "{name}: ready again, it begins anew");
    }
    warms(LeastPending, "least pending").await;
    warms(PeakEwma::new(), "peak ewma").await;
    warms(Random, "random").await;
    warms(RoundRobin::seed(Seed::new(1)), "round robin").await;
    warms(Ring::by_number(|request: &u64| *request), "ring").await;
}

#[tokio::test(start_paused = true)]
async fn at_low_traffic_a_new_endpoint_does_not_jump_to_its_share() {
    let endpoints = set(&[1, 1]).slow_start(SlowStart::over(10 * SECOND).requests(100));
    endpoints.insert("2", ());
    tokio::time::advance(3_600 * SECOND).await;
    let mut client = Client::new(LeastPending);
    let first = client.idle(&endpoints, 30)[2];
    assert!(first < 6, "an hour later it has still answered nothing: {first}");
    while endpoints.describe()[2].status != Status::Ready {
        client.idle(&endpoints, 10);
    }
    let got = client.idle(&endpoints, 3_000);
    assert!(got[2].abs_diff(1_000) < 100, "{got:?}");
}

#[tokio::test(start_paused = true)]
async fn where_all_are_new_nothing_slows_down() {
    let endpoints = Endpoints::named("fresh").seed(Seed::new(1)).slow_start(SlowStart::over(60 * SECOND));
    endpoints.update(|changes| {
        for number in 0..4 {
            changes.insert(number.to_string(), ()).weight(number + 1);
        }
    });
    follows(&Client::new(LeastPending).idle(&endpoints, 100_000), &[1, 2, 3, 4], "all are new");
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_picked_never_is() {
    async fn holds<P: Picker<u64>>(picker: P, name: &str) {
        let endpoints = set(&[1, 1, 1, 1, 1]);
        let mut client = Client::new(picker);
        let mut keys = |endpoints: &Endpoints<()>| {
            let mut got = BTreeMap::new();
            for request in 0..2_000 {
                if let Some(lease) = client.pick_for(endpoints, request) {
                    *got.entry(lease.key().to_owned()).or_insert(0) += 1;
                }
            }
            got.into_keys().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys(&endpoints), "0 1 2 3 4", "{name}");
        endpoints.drain("0");
        endpoints.set_ready("1", false);
        endpoints.alter("2", |about| {
            about.weight(0);
        });
        let current = endpoints.current_shared();
        assert!(current.list[3].cell.mark(state::EJECTED, true));
        assert_eq!(keys(&endpoints), "4", "{name}");
        endpoints.remove("4");
        assert_eq!(keys(&endpoints), "", "{name}");
        let told: Vec<String> = endpoints.describe().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["0: draining", "1: not ready", "2: draining, weight 0", "3: ejected"], "{name}");
        assert!(current.list[3].cell.mark(state::EJECTED, false) && current.list[3].cell.mark(state::USED, true));
        assert_eq!(keys(&endpoints), "3", "{name}: too many are out");
        endpoints.alter("3", |about| {
            about.ready(false);
        });
        assert_eq!(keys(&endpoints), "", "{name}");
        endpoints.insert("0", ());
        assert_eq!(keys(&endpoints), "0", "{name}: put in again, it drains no more");
    }
    holds(LeastPending, "least pending").await;
    holds(PeakEwma::new(), "peak ewma").await;
    holds(Random, "random").await;
    holds(RoundRobin::seed(Seed::new(1)), "round robin").await;
    holds(Ring::by_number(|request: &u64| *request), "ring").await;
}
