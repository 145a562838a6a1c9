//! The harness that all subjects share: CPU time, interleaved, median of several rounds.
//!
//! A [`Group`] is one case of a subject: ours, the bare thing and the peers, each a closure that does so many operations.
//! Rounds go over all of them in turn, so that whatever else the machine does hits each alike. A [`Footprint`] is a case
//! about memory: how much resident memory each thing takes, a process for each, so that none finds what another freed. A
//! [`Scaling`] is one about threads, a [`Figure`] one about what is counted once. Each closes with one line:
//!
//! ```text
//! verdict replicas/typed/10 ours_over_target=0.52 ahead_of_best_peer=14.1
//! ```
//!
//! The first is ours divided by its [`Target`] (at most 1 passes), the worst where there are several; the second how many
//! times ahead of the best peer ours is.
//!
//! Arguments: a word selects the cases whose name contains it. `PEERS_ROUNDS` (11) and `PEERS_SLICE_MS` (20) set how long
//! it measures. Built with `--features allocations` it counts allocations instead. Where `valgrind` is at hand, the bare
//! thing's and our instructions per operation are printed too.

#![allow(clippy::disallowed_macros, reason = "a program that prints a table")]
#![cfg_attr(feature = "allocations", allow(dead_code, reason = "counting knows no target in time"))]

#[cfg(not(feature = "allocations"))]
mod apart;
#[cfg(feature = "allocations")]
#[path = "uncounted.rs"]
mod apart;
pub mod bare;
mod figure;
mod footprint;
#[cfg(feature = "allocations")]
#[path = "allocations.rs"]
mod measure;
#[cfg(not(feature = "allocations"))]
#[path = "time.rs"]
mod measure;
mod scaling;
mod table;
mod target;

pub use apart::apart;
pub use figure::Figure;
pub use footprint::Footprint;
pub use scaling::Scaling;
pub use target::Target;

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

/// One case of a subject and all who compete in it: time per operation.
pub struct Group<'a> {
    name: String,
    target: Target,
    counted: u64,
    cases: Vec<(Role, String, Work<'a>)>,
}

impl<'a> Group<'a> {
    /// A case of this name, as `subject/case`.
    pub fn new(name: impl Into<String>, target: Target) -> Self {
        Group { name: name.into(), target, counted: COUNTED, cases: Vec::new() }
    }

    /// How many operations callgrind is shown: 20,000 unless said otherwise; none: instructions say nothing here.
    #[must_use]
    pub fn counted(mut self, operations: u64) -> Self {
        self.counted = operations;
        self
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
        if let Some(case) = child("--counted", &self.name) {
            // we are under callgrind
            for (_, name, work) in self.cases.iter_mut().filter(|(_, name, _)| *name == case) {
                work(self.counted / 4); // warm: first calls fill caches
                black_box(name);
                apart::counting(true);
                seedpod_peers_counted_region(work, self.counted);
            }
            return;
        }
        if selected(&self.name) {
            measure::measure(&mut self);
        }
    }
}

/// What callgrind collects; found by its name.
#[inline(never)]
fn seedpod_peers_counted_region(work: &mut Work<'_>, operations: u64) {
    work(operations);
    black_box(());
}

/// The case that this process is to run as a child of another, if it is one of this group.
fn child(flag: &str, group: &str) -> Option<String> {
    let mut arguments = env::args().skip(1);
    let ours = arguments.next().as_deref() == Some(flag) && arguments.next().as_deref() == Some(group);
    ours.then(|| arguments.next()).flatten()
}

/// Whether the arguments ask for this group.
fn selected(group: &str) -> bool {
    env::args().nth(1).is_none_or(|word| !word.starts_with("--") && group.contains(word.as_str()))
}
