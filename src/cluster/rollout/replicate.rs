//! Which pods a ReplicaSet creates or deletes.

use crate::base::Rng;
use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

/// The most that one call of [`plan`] creates or deletes (Kubernetes' `BurstReplicas`); the rest is for the next.
pub const BURST: usize = 500;

/// How far a pod has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not all of its containers have started.
    #[default]
    Pending,
    /// Its node does not tell.
    Unknown,
    /// At least one container runs.
    Running,
}

/// A pod of the set that is neither over nor about to go.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// Its name.
    pub name: Arc<str>,
    /// Its node, if it has one.
    pub node: Option<Arc<str>>,
    /// How far it has come.
    pub phase: Phase,
    /// For how long it has been ready, in seconds; not at all otherwise.
    pub ready_for: Option<u64>,
    /// The annotation `controller.kubernetes.io/pod-deletion-cost`.
    pub deletion_cost: i32,
    /// Restarts of the container that restarted most.
    pub restarts: u32,
    /// Seconds since it was created.
    pub age: u64,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// As many as wanted are there.
    Keep,
    /// Create so many, in [`batches`].
    Create(usize),
    /// Delete these, the least useful first.
    Delete(Vec<Arc<str>>),
}

/// Creates what is missing, deletes what is too much.
///
/// Victims are ranked as in Kubernetes: without a node before those with one; pending, unknown, running; not ready
/// before ready; the lower deletion cost; the one that shares its node with more of its kind; ready for the shorter
/// time; more restarts; younger (times in powers of two, so that pods of about one age are equals); among equals, by
/// chance.
pub fn plan(wanted: usize, pods: &[Pod], rng: &mut Rng) -> Plan {
    if pods.len() < wanted {
        return Plan::Create((wanted - pods.len()).min(BURST));
    }
    let surplus = (pods.len() - wanted).min(BURST);
    if surplus == 0 {
        return Plan::Keep;
    }
    let mut on_node: BTreeMap<&str, usize> = BTreeMap::new();
    for node in pods.iter().filter_map(|pod| pod.node.as_deref()) {
        *on_node.entry(node).or_default() += 1;
    }
    let mut ranked: Vec<_> = pods
        .iter()
        .map(|pod| {
            let together = pod.node.as_deref().and_then(|node| on_node.get(node)).copied().unwrap_or(0);
            let ready = pod.ready_for.map(bucket);
            let rank = (
                pod.node.is_some(),
                pod.phase,
                ready.is_some(),
                pod.deletion_cost,
                Reverse(together),
                ready,
                Reverse(pod.restarts),
                bucket(pod.age),
                rng.next_u64(),
            );
            (rank, pod)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    Plan::Delete(ranked.into_iter().take(surplus).map(|(_, pod)| pod.name.clone()).collect())
}

fn bucket(seconds: u64) -> u32 {
    seconds.checked_ilog2().map_or(0, |log| log + 1)
}

/// 1, 2, 4, … up to `count` in all: a refusal is met by one pod, not by hundreds (Kubernetes' slow start).
pub fn batches(count: usize) -> impl Iterator<Item = usize> {
    let (mut left, mut next) = (count, 1);
    std::iter::from_fn(move || {
        let batch = next.min(left);
        (left, next) = (left - batch, next * 2);
        (batch > 0).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    fn pod(name: &str, node: &str) -> Pod {
        let node = (!node.is_empty()).then(|| node.into());
        Pod { name: name.into(), node, phase: Phase::Running, ready_for: Some(64), age: 64, ..Pod::default() }
    }

    #[test]
    fn the_least_useful_go_first() {
        let pods = [
            pod("old", "a"),
            Pod { ready_for: Some(10), ..pod("young", "b") },
            Pod { restarts: 3, ..pod("restless", "c") },
            pod("crowded-1", "d"),
            pod("crowded-2", "d"),
            Pod { deletion_cost: -1, ..pod("cheap", "e") },
            Pod { ready_for: None, ..pod("unready", "f") },
            Pod { phase: Phase::Pending, ready_for: None, ..pod("pending", "g") },
            Pod { phase: Phase::Pending, ready_for: None, ..pod("homeless", "") },
        ];
        let Plan::Delete(mut names) = plan(0, &pods, &mut Seed::new(3).rng()) else { panic!("it must delete") };
        names[4..6].sort();
        let expected =
            ["homeless", "pending", "unready", "cheap", "crowded-1", "crowded-2", "young", "restless", "old"];
        assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_hundred_thousand_plans_end_at_the_number_wanted() {
        let mut rng = Seed::new(5).rng();
        let mut equal = [0; 4];
        for _ in 0..100_000 {
            let pods: Vec<_> =
                (0..rng.below(20)).map(|i| pod(&format!("p{i}"), ["", "a", "b"][i as usize % 3])).collect();
            let wanted = rng.below(20) as usize;
            let after = match plan(wanted, &pods, &mut rng) {
                Plan::Keep => pods.len(),
                Plan::Create(count) => pods.len() + batches(count).sum::<usize>(),
                Plan::Delete(names) => pods.iter().filter(|pod| !names.contains(&pod.name)).count(),
            };
            assert_eq!(after, wanted);
            let twins = [0, 1, 2, 3].map(|i| pod(&format!("{i}"), &format!("{i}")));
            let Plan::Delete(victims) = plan(3, &twins, &mut rng) else { panic!("one is too many") };
            equal[victims[0].parse::<usize>().unwrap()] += 1;
        }
        assert!(equal.iter().all(|count| (24_000..26_000).contains(count)), "equals fall evenly: {equal:?}");
        assert_eq!(batches(10).collect::<Vec<_>>(), [1, 2, 4, 3]);
        assert_eq!(plan(2000, &[], &mut rng), Plan::Create(BURST));
    }
}
