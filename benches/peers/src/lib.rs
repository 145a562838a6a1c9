//! The harness that all subjects share: CPU time, interleaved, median of several rounds.
//!
//! A [`Group`] is one case of a subject: ours, the bare thing and the peers, each a closure that does so many operations.
//! Rounds go over all of them in turn, so that whatever else the machine does hits each alike. It prints a table and
//! closes with one line:
//!
//! ```text
//! verdict replicas/typed/10 ours_over_target=0.52 ahead_of_best_peer=14.1
//! ```
//!
//! Arguments: a word selects the groups whose name contains it. `PEERS_ROUNDS` (11) and `PEERS_SLICE_MS` (20) set how long
//! it measures. Built with `--features allocations` it counts allocations instead. Where `valgrind` is at hand, the bare
//! thing's and our instructions per operation are printed too.

#![allow(clippy::disallowed_macros, reason = "a program that prints a table")]
#![cfg_attr(feature = "allocations", allow(dead_code, reason = "counting knows no target in time"))]

pub mod bare;
#[cfg(feature = "allocations")]
#[path = "allocations.rs"]
mod measure;
#[cfg(not(feature = "allocations"))]
#[path = "time.rs"]
mod measure;

use std::{env, hint::black_box};

/// How many operations callgrind is shown.
const COUNTED: u64 = 20_000;

/// A closure that does so many operations.
type Work<'a> = Box<dyn FnMut(u64) + 'a>;

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Ours,
    Bare,
    Peer,
    /// Measured for the reader; the verdict passes over it.
    Beside,
}

/// What must hold of ours.
#[derive(Clone, Copy)]
pub struct Target {
    /// Nanoseconds per operation, at most.
    pub nanos: f64,
    /// How many times ahead of the best peer, at least.
    pub ahead: Option<f64>,
}

/// One case of a subject and all who compete in it.
pub struct Group<'a> {
    name: String,
    target: Target,
    cases: Vec<(Role, String, Work<'a>)>,
}

impl<'a> Group<'a> {
    /// A case of this name, as `subject/case`.
    pub fn new(name: impl Into<String>, target: Target) -> Self {
        Group { name: name.into(), target, cases: Vec::new() }
    }

    /// Ours.
    #[must_use]
    pub fn ours(self, name: &str, work: impl FnMut(u64) + 'a) -> Self {
        self.case(Role::Ours, name, work)
    }

    /// What an expert writes by hand for this one case.
    #[must_use]
    pub fn bare(self, name: &str, work: impl FnMut(u64) + 'a) -> Self {
        self.case(Role::Bare, name, work)
    }

    /// What a user would pick instead.
    #[must_use]
    pub fn peer(self, name: &str, work: impl FnMut(u64) + 'a) -> Self {
        self.case(Role::Peer, name, work)
    }

    /// What helps to read the others.
    #[must_use]
    pub fn beside(self, name: &str, work: impl FnMut(u64) + 'a) -> Self {
        self.case(Role::Beside, name, work)
    }

    fn case(mut self, role: Role, name: &str, work: impl FnMut(u64) + 'a) -> Self {
        self.cases.push((role, name.to_owned(), Box::new(work)));
        self
    }

    /// Measures and prints.
    pub fn run(mut self) {
        let arguments: Vec<String> = env::args().skip(1).collect();
        if let [flag, group, case] = &arguments[..]
            && flag == "--counted"
        {
            // we are the child under callgrind
            for (_, name, work) in self.cases.iter_mut().filter(|(_, name, _)| *group == self.name && name == case) {
                work(COUNTED / 4); // warm: first calls fill caches
                black_box(name);
                seedpod_peers_counted_region(work);
            }
            return;
        }
        if arguments.first().is_some_and(|word| word.starts_with("--") || !self.name.contains(word.as_str())) {
            return;
        }
        measure::measure(&mut self);
    }
}

/// What callgrind collects; found by its name.
#[inline(never)]
fn seedpod_peers_counted_region(work: &mut Work<'_>) {
    work(COUNTED);
    black_box(());
}
