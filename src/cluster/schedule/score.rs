//! How good a node is: the resource scores of Kubernetes' default profile.

use super::Amount;

/// CPU and memory as the scores see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) cpu: i64,
    pub(super) memory: i64,
}

impl Load {
    /// What a pod counts for that asks for so much: one that asks for nothing counts 100m and 200 MB (Kubernetes'
    /// `DefaultMilliCPURequest` and `DefaultMemoryRequest`), so that such pods do not pile up on one node.
    pub(super) fn nominal(request: &Amount) -> Load {
        let or = |asked: i64, default| if asked == 0 { default } else { asked };
        Load { cpu: or(request.cpu, 100), memory: or(request.memory, 200 << 20) }
    }

    /// What a pod counts for that asks for so much, no more.
    pub(super) fn exact(request: &Amount) -> Load {
        Load { cpu: request.cpu, memory: request.memory }
    }

    pub(super) fn plus(self, other: Load) -> Load {
        Load { cpu: self.cpu.saturating_add(other.cpu), memory: self.memory.saturating_add(other.memory) }
    }

    pub(super) fn minus(self, other: Load) -> Load {
        Load { cpu: self.cpu.saturating_sub(other.cpu), memory: self.memory.saturating_sub(other.memory) }
    }
}

/// `LeastAllocated`: how much would be left, 0 to 100, averaged over CPU and memory.
pub(super) fn least_allocated(after: Load, there: &Amount) -> i64 {
    let free = |used: i64, all: i64| {
        if all <= 0 || used > all { 0 } else { (i128::from(all - used) * 100 / i128::from(all)) as i64 }
    };
    (free(after.cpu, there.cpu) + free(after.memory, there.memory)) / 2
}

/// `BalancedAllocation`: 100 less the standard deviation of the used fractions.
pub(super) fn balanced(after: Load, there: &Amount) -> i64 {
    let fraction = |used: i64, all: i64| if all <= 0 { 1.0 } else { (used as f64 / all as f64).min(1.0) };
    let apart = (fraction(after.cpu, there.cpu) - fraction(after.memory, there.memory)).abs();
    ((1.0 - apart / 2.0) * 100.0) as i64
}

/// `PodTopologySpread`: 0 to 100, where the least crowded node of all has 100.
pub(super) fn spread(crowd: f64, least: f64, most: f64) -> i64 {
    if most <= 0.0 { 100 } else { (100.0 * (most + least - crowd) / most) as i64 }
}

/// What each domain's count weighs: fewer domains, less weight (Kubernetes' `topologyNormalizingWeight`).
pub(super) fn weight(domains: usize) -> f64 {
    ((domains + 2) as f64).ln()
}

/// `TaintToleration`: 100 for a node without intolerable soft taints, 0 for the one with the most.
pub(super) fn untainted(taints: usize, most: usize) -> i64 {
    (100 * taints).checked_div(most).map_or(100, |share| 100 - share as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_stay_within_their_bounds() {
        let mut rng = crate::base::Seed::new(1).rng();
        for _ in 0..100_000 {
            let there = Amount::new(rng.below(64_000) as i64, rng.below(1 << 40) as i64);
            let after = Load { cpu: rng.below(128_000) as i64, memory: rng.below(1 << 41) as i64 };
            for score in [least_allocated(after, &there), balanced(after, &there)] {
                assert!((0..=100).contains(&score), "{after:?} of {there:?}: {score}");
            }
        }
        assert_eq!(least_allocated(Load { cpu: 500, memory: 0 }, &Amount::new(1000, 100)), 75);
        assert_eq!(balanced(Load { cpu: 500, memory: 50 }, &Amount::new(1000, 100)), 100);
        assert_eq!((spread(0.0, 0.0, 0.0), spread(3.0, 1.0, 3.0), spread(1.0, 1.0, 3.0)), (100, 33, 100));
    }
}
