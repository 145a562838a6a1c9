//! How much of each resource.

use std::collections::BTreeMap;

/// Amounts of resources: CPU in thousandths of a core, memory in bytes, anything else in whole units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Thousandths of a core.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Extended resources (`vendor.example/gpu`) and the like, by name.
    pub others: BTreeMap<Box<str>, i64>,
}

impl Amount {
    /// This much CPU (thousandths of a core) and memory (bytes).
    pub fn new(cpu: i64, memory: i64) -> Self {
        Amount { cpu, memory, others: BTreeMap::new() }
    }

    /// Adds what the other holds.
    pub fn add(&mut self, other: &Amount) {
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.memory = self.memory.saturating_add(other.memory);
        for (name, amount) in &other.others {
            let mine = self.others.entry(name.clone()).or_insert(0);
            *mine = mine.saturating_add(*amount);
        }
    }

    /// Takes away what the other holds.
    pub fn subtract(&mut self, other: &Amount) {
        self.cpu = self.cpu.saturating_sub(other.cpu);
        self.memory = self.memory.saturating_sub(other.memory);
        for (name, amount) in &other.others {
            if let Some(mine) = self.others.get_mut(name) {
                *mine = mine.saturating_sub(*amount);
            }
        }
        self.others.retain(|_, amount| *amount != 0);
    }

    /// The greater of both, resource by resource: what a pod needs whose init containers run before the others.
    pub fn raise_to(&mut self, other: &Amount) {
        self.cpu = self.cpu.max(other.cpu);
        self.memory = self.memory.max(other.memory);
        for (name, amount) in &other.others {
            let mine = self.others.entry(name.clone()).or_insert(0);
            *mine = (*mine).max(*amount);
        }
    }

    /// The resources of which `used` and this request together exceed what there is.
    pub(super) fn lacking(&self, used: &Amount, there: &Amount) -> impl Iterator<Item = &str> {
        // a request of nothing fits even a node that is over-committed, as in Kubernetes' fit plugin
        let over = |asked: i64, used: i64, there: i64| asked > 0 && used.saturating_add(asked) > there;
        let cpu = over(self.cpu, used.cpu, there.cpu).then_some("cpu");
        let memory = over(self.memory, used.memory, there.memory).then_some("memory");
        let of = |amount: &Amount, name: &str| amount.others.get(name).copied().unwrap_or(0);
        let others = self
            .others
            .iter()
            .filter(move |(name, asked)| over(**asked, of(used, name), of(there, name)))
            .map(|(name, _)| &**name);
        cpu.into_iter().chain(memory).chain(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_and_taking_away_leaves_nothing_behind() {
        let mut gpu = Amount::new(500, 1 << 20);
        gpu.others.insert("gpu".into(), 2);
        let mut used = Amount::new(100, 100);
        used.add(&gpu);
        used.add(&gpu);
        used.subtract(&gpu);
        used.subtract(&gpu);
        assert_eq!(used, Amount::new(100, 100));
    }

    #[test]
    fn what_lacks_is_named() {
        let mut asked = Amount::new(500, 0);
        asked.others.insert("gpu".into(), 1);
        let lacking = |used: &Amount, there: &Amount| asked.lacking(used, there).map(String::from).collect::<Vec<_>>();
        assert_eq!(lacking(&Amount::new(600, 9), &Amount::new(1000, 1)), ["cpu", "gpu"]);
        let mut there = Amount::new(1000, 0);
        there.others.insert("gpu".into(), 1);
        assert_eq!(lacking(&Amount::new(500, 9), &there), Vec::<String>::new());
    }
}
