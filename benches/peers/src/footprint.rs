//! Resident memory: what so many things take, each kind in a process of its own.

use crate::{Role, Target, child, selected, table};
use std::{any::Any, env, fs, hint::black_box, process::Command};

/// A closure that makes so many things, and returns what keeps them.
type Make<'a> = Box<dyn FnMut(u64) -> Box<dyn Any> + 'a>;

/// How often each is measured.
const ROUNDS: usize = 3;

/// One case of a subject about memory, and all who compete in it: resident bytes per thing.
pub struct Footprint<'a> {
    name: String,
    target: Target,
    count: u64,
    payload: f64,
    cases: Vec<(Role, String, Make<'a>)>,
}

impl<'a> Footprint<'a> {
    /// A case of this name that makes so many things, after a tenth as many that are there already.
    pub fn new(name: impl Into<String>, count: u64, target: Target) -> Self {
        Footprint { name: name.into(), target, count, payload: 0.0, cases: Vec::new() }
    }

    /// So many bytes of each are what the user put in: what is measured is above them.
    #[must_use]
    pub fn above(mut self, bytes: f64) -> Self {
        self.payload = bytes;
        self
    }

    /// Ours.
    #[must_use]
    pub fn ours<T: 'static>(self, name: &str, make: impl FnMut(u64) -> T + 'a) -> Self {
        self.case(Role::Ours, name, make)
    }

    /// What an expert writes by hand for this one case.
    #[must_use]
    pub fn bare<T: 'static>(self, name: &str, make: impl FnMut(u64) -> T + 'a) -> Self {
        self.case(Role::Bare, name, make)
    }

    /// What a user would pick instead.
    #[must_use]
    pub fn peer<T: 'static>(self, name: &str, make: impl FnMut(u64) -> T + 'a) -> Self {
        self.case(Role::Peer, name, make)
    }

    /// What helps to read the others.
    #[must_use]
    pub fn beside<T: 'static>(self, name: &str, make: impl FnMut(u64) -> T + 'a) -> Self {
        self.case(Role::Beside, name, make)
    }

    fn case<T: 'static>(mut self, role: Role, name: &str, mut make: impl FnMut(u64) -> T + 'a) -> Self {
        self.cases.push((role, name.to_owned(), Box::new(move |count| Box::new(make(count)))));
        self
    }

    /// Measures and prints.
    pub fn run(mut self) {
        if let Some(case) = child("--held", &self.name) {
            for (_, _, make) in self.cases.iter_mut().filter(|(_, name, _)| *name == case) {
                let warm = make(self.count / 10);
                let before = resident();
                let made = make(self.count);
                println!("{}", (resident() - before) / self.count as f64 - self.payload);
                black_box((warm, made));
            }
            return;
        }
        if cfg!(feature = "allocations") || !selected(&self.name) {
            return;
        }
        let mut rows: Vec<table::Row> =
            self.cases.iter().map(|(role, name, _)| (*role, name.clone(), Vec::new())).collect();
        for _ in 0..ROUNDS {
            for (_, name, measured) in &mut rows {
                measured.extend(held(&self.name, name));
            }
        }
        rows.retain(|(_, name, measured)| {
            if measured.is_empty() {
                println!("{}: {name} not measured: needs /proc", self.name);
            }
            !measured.is_empty()
        });
        table::print(&self.name, "bytes", self.target, rows, || {});
    }
}

/// What the child that is to measure this case says.
fn held(group: &str, case: &str) -> Option<f64> {
    let output = Command::new(env::current_exe().ok()?).args(["--held", group, case]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// The bytes of this process that are in memory.
fn resident() -> f64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = pages.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(f64::NAN);
    pages * rustix::param::page_size() as f64
}
