//! A hundred thousand random steps of a set and its pickers against a plain model.

use super::{
    Among, Choice, Draw, Endpoints, Lease, LeastPending, PeakEwma, Picker, Random, Ring, RoundRobin, SlowStart,
    cell::state, load::Lease as Held,
};
use crate::base::{Outcome, Rng, Seed};
use std::{collections::BTreeMap, time::Duration};

#[derive(Default)]
struct Model {
    weight: u32,
    ready: bool,
    probed: bool,
    ejected: bool,
    draining: bool,
    pending: u32,
}

impl Model {
    fn is_left(&self) -> bool {
        self.weight > 0 && self.ready && self.probed && !self.draining
    }
}

fn key(rng: &mut Rng) -> String {
    rng.below(12).to_string()
}

fn choose(endpoints: &Endpoints<u32>, picker: u64, request: u64, draw: &mut Draw, turns: &RoundRobin) -> Option<Lease> {
    let current = endpoints.current();
    let among = Among::new(&current);
    let choice: Option<Choice> = match picker {
        0 => LeastPending.choose(&among, &request, draw),
        1 => PeakEwma::new().choose(&among, &request, draw),
        2 => Random.choose(&among, &request, draw),
        3 => turns.choose(&among, &request, draw),
        _ => Ring::by_number(|request: &u64| *request).choose(&among, &request, draw),
    };
    let choice = choice?;
    Some(Held::new(&current.list[choice.place].cell, choice.watch))
}

#[tokio::test(start_paused = true)]
async fn a_pick_is_made_exactly_where_one_can_be_and_the_counts_agree() {
    let seed = Seed::new(11);
    let (mut rng, mut draw, turns) = (seed.rng(), Draw::new(seed.fork("draw").rng()), RoundRobin::seed(seed));
    let endpoints = Endpoints::named("churn").slow_start(SlowStart::over(Duration::from_secs(3)).requests(5));
    let mut model: BTreeMap<String, Model> = BTreeMap::new();
    // calls under way; those of an endpoint that was taken out end without a count
    let mut leases: Vec<(u64, String, Lease)> = Vec::new();
    let (mut generation, mut generations) = (0_u64, BTreeMap::new());
    let (mut picks, mut refusals) = (0_u32, 0_u32);
    for step in 0..100_000_u32 {
        let key = key(&mut rng);
        match rng.below(24) {
            0 | 1 => {
                let (weight, ready) = (rng.below(4) as u32, rng.chance(0.9));
                endpoints.update(|changes| {
                    changes.insert(key.as_str(), step).weight(weight).ready(ready);
                });
                let known = model.entry(key.clone()).or_insert_with(|| {
                    generation += 1;
                    generations.insert(key.clone(), generation);
                    Model { probed: true, ..Model::default() }
                });
                (known.weight, known.ready, known.draining) = (weight, ready, false);
            }
            2 => {
                endpoints.remove(&key);
                if model.remove(&key).is_some() {
                    generations.remove(&key);
                }
            }
            3 => {
                endpoints.drain(&key);
                if let Some(known) = model.get_mut(&key) {
                    known.draining = true;
                }
            }
            4 | 5 => {
                let ready = rng.chance(0.7);
                assert_eq!(endpoints.set_ready(&key, ready), model.contains_key(&key));
                if let Some(known) = model.get_mut(&key) {
                    known.probed = ready;
                }
            }
            6 => {
                let ejected = rng.chance(0.3);
                if let (Some(known), Some(endpoint)) = (model.get_mut(&key), endpoints.current().find(&key)) {
                    known.ejected = ejected;
                    endpoint.cell.mark(state::EJECTED, ejected);
                }
            }
            7 => {
                let weight = rng.below(6) as u32;
                endpoints.alter(&key, move |about| {
                    about.weight(weight);
                });
                if let Some(known) = model.get_mut(&key) {
                    known.weight = weight;
                }
            }
            8..16 => {
                let picked = choose(&endpoints, rng.below(5), rng.next_u64(), &mut draw, &turns);
                let healthy = model.values().any(|known| known.is_left() && !known.ejected);
                assert_eq!(picked.is_some(), healthy, "step {step}");
                match picked {
                    Some(lease) => {
                        let known = model.get_mut(lease.key()).unwrap();
                        assert!(known.is_left() && !known.ejected, "step {step}: {}", lease.key());
                        known.pending += 1;
                        picks += 1;
                        let key = lease.key().to_owned();
                        leases.push((generations[&key], key, lease));
                    }
                    None => refusals += 1,
                }
            }
            16..23 if !leases.is_empty() => {
                let (born, key, lease) = leases.swap_remove(rng.below(leases.len() as u64) as usize);
                match rng.below(5) {
                    0 => drop(lease),
                    1 => lease.complete(Outcome::Failure),
                    2 => lease.complete(Outcome::Throttled(None)),
                    _ => lease.complete(Outcome::Success),
                }
                if generations.get(&key) == Some(&born)
                    && let Some(known) = model.get_mut(&key)
                {
                    known.pending -= 1;
                }
            }
            _ => tokio::time::advance(Duration::from_millis(rng.below(500))).await,
        }
        assert_eq!(endpoints.pending(&key), model.get(&key).map(|known| known.pending), "step {step}");
        if !step.is_multiple_of(32) {
            continue;
        }
        let seen: BTreeMap<String, u32> =
            endpoints.describe().into_iter().map(|endpoint| (endpoint.key.to_string(), endpoint.pending)).collect();
        let expected: BTreeMap<String, u32> = model.iter().map(|(key, known)| (key.clone(), known.pending)).collect();
        assert_eq!(seen, expected, "step {step}");
    }
    assert!(picks > 20_000 && refusals > 100, "{picks} picks, {refusals} refusals");
    leases.clear();
    assert!(endpoints.describe().iter().all(|endpoint| endpoint.pending == 0));
}
