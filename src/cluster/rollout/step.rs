//! One step of a rollout.

use super::{Bound, scale};

/// How old pods give way to new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// All old ones go before the first new one comes.
    Recreate,
    /// Gradually, within these bounds.
    Rolling {
        /// How many pods there may be beyond those wanted.
        surge: Bound,
        /// How many of those wanted may be unavailable.
        unavailable: Bound,
    },
}

impl Default for Strategy {
    /// Rolling, 25 % either way, as Kubernetes has it.
    fn default() -> Self {
        Strategy::Rolling { surge: Bound::default(), unavailable: Bound::default() }
    }
}

/// What a Deployment asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How many pods.
    pub replicas: u32,
    /// How they are replaced.
    pub strategy: Strategy,
    /// Only scale, roll nothing.
    pub paused: bool,
}

impl Wanted {
    /// How many pods there may be beyond those wanted.
    pub fn surge(&self) -> u32 {
        match self.strategy {
            Strategy::Recreate => 0,
            Strategy::Rolling { surge, .. } => surge.up(self.replicas),
        }
    }

    /// How many of those wanted may be unavailable. One, where both bounds round to nothing: else it could not move.
    pub fn unavailable(&self) -> u32 {
        match self.strategy {
            Strategy::Recreate => 0,
            Strategy::Rolling { unavailable, .. } if self.replicas > 0 => {
                let down = unavailable.down(self.replicas).min(self.replicas);
                if down == 0 && self.surge() == 0 { 1 } else { down }
            }
            Strategy::Rolling { .. } => 0,
        }
    }

    /// The most pods that may exist.
    pub fn most(&self) -> u32 {
        self.replicas.saturating_add(self.surge())
    }
}

/// A ReplicaSet of the Deployment, as it stands.
#[derive(Clone, Debug, Default)]
pub struct Set {
    /// Its name.
    pub name: Box<str>,
    /// Whether it has the Deployment's present template.
    pub current: bool,
    /// When it came: a smaller number is an older set.
    pub created: u64,
    /// How many replicas it is asked for.
    pub replicas: u32,
    /// How many pods it has, in whatever state, those ending included.
    pub pods: u32,
    /// How many of its pods are available.
    pub available: u32,
    /// The Deployment's `replicas` and [`most`](Wanted::most) when it was last scaled (its annotations).
    pub scaled_for: Option<(u32, u32)>,
}

/// A set is to have this many replicas from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The set's name.
    pub name: Box<str>,
    /// How many.
    pub replicas: u32,
}

/// How many replicas a set for the present template begins with, beside these others.
pub fn opening(wanted: &Wanted, others: &[Set]) -> u32 {
    match wanted.strategy {
        Strategy::Recreate if others.iter().any(|set| set.pods > 0 || set.replicas > 0) => 0,
        Strategy::Recreate => wanted.replicas,
        Strategy::Rolling { .. } => grown(wanted, 0, others.iter().map(|set| set.replicas).sum()),
    }
}

/// The replicas of the current set, which has so many, next to all that exist: as many more as the surge leaves room.
fn grown(wanted: &Wanted, current: u32, all: u32) -> u32 {
    let room = wanted.most().saturating_sub(all);
    current + room.min(wanted.replicas.saturating_sub(current))
}

/// What to scale now. Empty when the rollout is over, or when it must wait for pods to come or go.
///
/// One of three things, as in Kubernetes: a change of `replicas` is shared out over all sets in proportion; else the
/// current set grows as far as the surge allows; else old sets shrink, unhealthy pods first, then as far as the pods
/// available allow.
pub fn step(wanted: &Wanted, sets: &[Set]) -> Vec<Scale> {
    let resized =
        |set: &Set| set.replicas > 0 && set.scaled_for.is_some_and(|(replicas, _)| replicas != wanted.replicas);
    if wanted.paused || sets.iter().any(resized) {
        return scale::proportionally(wanted, sets);
    }
    let Some(current) = sets.iter().find(|set| set.current) else { return Vec::new() };
    let mut old: Vec<_> = sets.iter().filter(|set| !set.current && set.replicas > 0).collect();
    old.sort_by_key(|set| (set.created, set.name.clone()));
    if wanted.strategy == Strategy::Recreate {
        let left = sets.iter().any(|set| !set.current && (set.pods > 0 || set.replicas > 0));
        return match old.is_empty() {
            false => old.iter().map(|set| Scale { name: set.name.clone(), replicas: 0 }).collect(),
            true if left || current.replicas == wanted.replicas => Vec::new(),
            true => vec![Scale { name: current.name.clone(), replicas: wanted.replicas }],
        };
    }
    let all: u32 = sets.iter().map(|set| set.replicas).sum();
    let next = if current.replicas > wanted.replicas { wanted.replicas } else { grown(wanted, current.replicas, all) };
    if next != current.replicas {
        return vec![Scale { name: current.name.clone(), replicas: next }];
    }
    // a set that was just scaled down may still count pods that are about to go: they are no reserve
    shrink(wanted, current, &old, all, sets.iter().map(|set| set.available.min(set.replicas)).sum())
}

fn shrink(wanted: &Wanted, current: &Set, old: &[&Set], all: u32, available: u32) -> Vec<Scale> {
    let least = wanted.replicas.saturating_sub(wanted.unavailable());
    let missing = current.replicas.saturating_sub(current.available);
    let mut budget = all.saturating_sub(least).saturating_sub(missing);
    if budget == 0 {
        return Vec::new();
    }
    let mut replicas: Vec<_> = old.iter().map(|set| set.replicas).collect();
    for (set, left) in old.iter().zip(&mut replicas) {
        let unhealthy = left.saturating_sub(set.available).min(budget);
        *left -= unhealthy;
        budget -= unhealthy;
    }
    // what is taken from the healthy is counted anew, from those available
    let mut spare = available.saturating_sub(least);
    for left in &mut replicas {
        let taken = spare.min(*left);
        *left -= taken;
        spare -= taken;
    }
    let changed = old.iter().zip(replicas).filter(|(set, left)| set.replicas != *left);
    changed.map(|(set, replicas)| Scale { name: set.name.clone(), replicas }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Seed};

    fn wanted(replicas: u32, surge: u32, unavailable: u32) -> Wanted {
        let strategy = Strategy::Rolling { surge: Bound::Percent(surge), unavailable: Bound::Percent(unavailable) };
        Wanted { replicas, strategy, paused: false }
    }

    fn set(name: &str, current: bool, replicas: u32) -> Set {
        let created = if current { 9 } else { 1 };
        Set { name: name.into(), current, created, replicas, pods: replicas, available: replicas, ..Set::default() }
    }

    fn obey(sets: &mut [Set], scales: Vec<Scale>) {
        for scale in scales {
            sets.iter_mut().find(|set| set.name == scale.name).unwrap().replicas = scale.replicas;
        }
    }

    /// Pods come, become available, and go, in any order.
    fn drift(sets: &mut [Set], rng: &mut Rng) {
        for set in sets {
            match rng.below(3) {
                0 if set.pods < set.replicas => set.pods += 1,
                1 if set.available < set.pods => set.available += 1,
                _ if set.pods > set.replicas => {
                    set.pods -= 1;
                    set.available = set.available.min(set.pods);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn bounds_that_round_to_nothing_still_move() {
        assert_eq!((wanted(3, 25, 25).surge(), wanted(3, 25, 25).unavailable()), (1, 0));
        assert_eq!(
            (wanted(10, 0, 0).unavailable(), wanted(0, 0, 0).unavailable(), wanted(1, 0, 100).unavailable()),
            (1, 0, 1)
        );
    }

    #[test]
    fn a_rollout_reads_as_in_kubernetes() {
        let wanted = wanted(4, 25, 25);
        let mut sets = vec![set("old", false, 4)];
        let replicas = opening(&wanted, &sets);
        assert_eq!(replicas, 1, "only the surge");
        sets.push(Set { replicas, pods: 0, available: 0, ..set("new", true, 0) });
        assert_eq!(step(&wanted, &sets), [Scale { name: "old".into(), replicas: 3 }], "one may be unavailable");
        sets[0].replicas = 3;
        assert_eq!(step(&wanted, &sets), [Scale { name: "new".into(), replicas: 2 }]);
    }

    /// A million steps of rollouts in which pods come and go at random: bounds hold at each, and all of them end.
    #[test]
    fn never_too_many_never_too_few_and_always_an_end() {
        let mut rng = Seed::new(11).rng();
        let mut steps = 0;
        while steps < 1_000_000 {
            let wanted = wanted(rng.below(12) as u32, rng.below(101) as u32, rng.below(101) as u32);
            let mut sets = vec![set("a", false, wanted.replicas), set("b", true, 0)];
            let least = wanted.replicas - wanted.unavailable();
            for round in 0.. {
                steps += 1;
                let scales = step(&wanted, &sets);
                let over = sets[1].replicas == wanted.replicas && sets[0].replicas == 0;
                if over && sets[1].available == wanted.replicas && sets[0].pods == 0 {
                    assert!(scales.is_empty());
                    break;
                }
                obey(&mut sets, scales);
                let asked: u32 = sets.iter().map(|set| set.replicas).sum();
                assert!(asked <= wanted.most(), "{wanted:?} {sets:?}");
                // what is available and not about to go
                let safe: u32 = sets.iter().map(|set| set.available.min(set.replicas)).sum();
                assert!(safe >= least, "{wanted:?} {sets:?}");
                drift(&mut sets, &mut rng);
                assert!(round < 10_000, "stuck: {wanted:?} {sets:?}");
            }
        }
    }

    #[test]
    fn recreate_waits_until_the_last_has_gone() {
        let wanted = Wanted { replicas: 2, strategy: Strategy::Recreate, paused: false };
        let mut sets = vec![set("old", false, 2)];
        assert_eq!(opening(&wanted, &sets), 0);
        sets.push(set("new", true, 0));
        assert_eq!(step(&wanted, &sets), [Scale { name: "old".into(), replicas: 0 }]);
        sets[0].replicas = 0;
        assert_eq!(step(&wanted, &sets), [], "its pods are still ending");
        sets[0].pods = 0;
        assert_eq!(step(&wanted, &sets), [Scale { name: "new".into(), replicas: 2 }]);
        assert_eq!(opening(&wanted, &[]), 2);
    }

    #[test]
    fn unhealthy_old_pods_go_first() {
        let wanted = wanted(4, 25, 25);
        let mut sets = vec![Set { available: 1, ..set("old", false, 4) }, Set { available: 0, ..set("new", true, 1) }];
        assert_eq!(step(&wanted, &sets), [Scale { name: "old".into(), replicas: 3 }]);
        sets[0].available = 4;
        assert_eq!(step(&wanted, &sets), [Scale { name: "old".into(), replicas: 3 }]);
    }
}
