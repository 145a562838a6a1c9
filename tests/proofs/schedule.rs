//! Seeded fault schedules: how many, what they hit, and how a failing one is told.
//!
//! `SEEDPOD_SCHEDULES` says how many (by default as many as are usual for the subject); `SEEDPOD_SEED` runs just that one.

pub(crate) use crate::simulated::simulate;
use seedpod::base::Seed;
use std::{
    collections::BTreeMap,
    fmt::{Debug, Write},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

/// What faults hit in one schedule: a fault counts only where it met something in flight.
#[derive(Debug, Default)]
pub(crate) struct Hits {
    faults: BTreeMap<&'static str, u64>,
    /// By what was in flight, where the subject tells its features apart.
    met: BTreeMap<(&'static str, &'static str), u64>,
}

impl Hits {
    pub(crate) fn hit(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// The fault hit something that has these features.
    pub(crate) fn met(&mut self, fault: &'static str, features: impl IntoIterator<Item = &'static str>) {
        self.hit(fault);
        for feature in features {
            *self.met.entry((fault, feature)).or_default() += 1;
        }
    }

    fn add(&mut self, more: Hits) {
        for (fault, hits) in more.faults {
            *self.faults.entry(fault).or_default() += hits;
        }
        for (cell, hits) in more.met {
            *self.met.entry(cell).or_default() += hits;
        }
    }
}

/// The schedules of one subject.
pub(crate) struct Subject {
    /// The path of the test, for the command that replays a failure.
    pub(crate) test: &'static str,
    /// What may happen. Each must meet something in flight in at least one schedule of ten, on the average.
    pub(crate) faults: &'static [&'static str],
    /// One of how many is run, where each is a whole world of its own.
    pub(crate) one_in: u64,
    /// How many are asked for where nobody says.
    pub(crate) usual: u64,
}

/// Every so many schedules one is run twice: what it returns must be the same, or its seed would not replay it.
const REPLAYED: u64 = 20;

/// Each fault must meet each feature once in so many schedules, on the average.
const THIN: u64 = 100;

impl Subject {
    /// Runs the schedules, prints the hit table, and holds every fault to its share. A schedule returns what tells its
    /// course from another's.
    pub(crate) fn run<T: PartialEq + Debug>(&self, one: impl FnMut(Seed, &mut Hits) -> T) {
        self.run_by_feature(&[], one);
    }

    /// The same, where each fault must meet each of these features in flight. A fault that is only ever hit, and meets no
    /// feature, is held to its share alone.
    pub(crate) fn run_by_feature<T: PartialEq + Debug>(
        &self,
        features: &[&'static str],
        mut one: impl FnMut(Seed, &mut Hits) -> T,
    ) {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let only = number("SEEDPOD_SEED");
        let asked = number("SEEDPOD_SCHEDULES").unwrap_or(self.usual);
        let count = only.map_or((asked / self.one_in).max(1), |_| 1);
        let first = only.or(number("SEEDPOD_FIRST")).unwrap_or(0);
        let mut total = Hits::default();
        for seed in first..first + count {
            if seed % 1000 == 0 && seed > first {
                eprintln!("{} schedules of {}", seed - first, self.test); // after an abort, it was one of the next thousand
            }
            let mut hits = Hits::default();
            let run = catch_unwind(AssertUnwindSafe(|| {
                let course = one(Seed::new(seed), &mut hits);
                if seed % REPLAYED == 0 || only.is_some() {
                    assert_eq!(one(Seed::new(seed), &mut Hits::default()), course, "one seed took two courses");
                }
            }));
            if let Err(panic) = run {
                let release = if cfg!(debug_assertions) { "" } else { "--release " };
                eprintln!(
                    "seed {seed} fails; replay it: SEEDPOD_SEED={seed} cargo test {release}--test proofs {} -- --exact --nocapture",
                    self.test
                );
                resume_unwind(panic);
            }
            total.add(hits);
        }
        println!("{}", self.table(count, &total));
        print!("{}", self.cells(features, &total));
        if only.is_some() {
            return;
        }
        for fault in self.faults {
            let hit = total.faults.get(fault).copied().unwrap_or(0);
            assert!(hit * 10 >= count, "{fault} met something in flight only {hit} times in {count} schedules");
        }
        let all: u64 = total.faults.values().sum();
        assert!(all >= 3 * count, "{all} faults in {count} schedules are fewer than three each");
        let meets = |fault: &&&str| total.met.keys().any(|(met, _)| *met == **fault);
        let faults = self.faults.iter().filter(meets);
        for (fault, feature) in faults.flat_map(|fault| features.iter().map(move |of| (*fault, *of))) {
            let met = total.met.get(&(fault, feature)).copied().unwrap_or(0);
            assert!(met >= count / THIN, "{fault} met {feature} only {met} times in {count} schedules");
        }
    }

    fn table(&self, count: u64, total: &Hits) -> String {
        let mut text = format!("{}: {count} schedules", self.test);
        if self.one_in > 1 {
            let _ = write!(text, " (one for each {} asked for)", self.one_in);
        }
        for fault in self.faults.iter().filter(|fault| !total.faults.contains_key(*fault)) {
            let _ = write!(text, "\n  {:>7} {fault}", 0);
        }
        for (fault, hit) in &total.faults {
            let _ = write!(text, "\n  {hit:>7} {fault}");
        }
        text
    }

    /// How often each fault met each feature.
    fn cells(&self, features: &[&'static str], total: &Hits) -> String {
        if features.is_empty() {
            return String::new();
        }
        let width = self.faults.iter().map(|fault| fault.len()).max().unwrap_or(0);
        let mut text = format!("  {:width$}", "");
        for feature in features {
            let _ = write!(text, " {feature:>10}");
        }
        let meets = |fault: &&&str| total.met.keys().any(|(met, _)| *met == **fault);
        for fault in self.faults.iter().filter(meets) {
            let _ = write!(text, "\n  {fault:width$}");
            for feature in features {
                let met = total.met.get(&(*fault, *feature)).copied().unwrap_or(0);
                let _ = write!(text, " {met:>10}");
            }
        }
        text.push('\n');
        text
    }
}

/// How many tasks this runtime has.
pub(crate) fn alive() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}
