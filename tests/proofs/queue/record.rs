//! What is written down of a schedule: its course, what its faults met, and what must not be.

use super::features::Features;
use crate::schedule::Hits;
use seedpod::base::{Name, hash, sync::Lock, time};
use std::collections::BTreeSet;

/// Panics of tasks are contained, so what is found is told at the end.
pub(super) struct Record {
    start: time::Instant,
    violations: Lock<Vec<String>>,
    course: Lock<u64>,
    /// Each event in words, where somebody wants to read them.
    log: Option<Lock<Vec<String>>>,
    met: Lock<Vec<(&'static str, Features)>>,
    /// Every row of the broker's state that anybody ever wrote.
    rows: Lock<BTreeSet<Name>>,
}

impl Record {
    pub(super) fn new(in_words: bool) -> Record {
        Record {
            start: time::now(),
            violations: Lock::default(),
            course: Lock::new(0),
            log: in_words.then(Lock::default),
            met: Lock::default(),
            rows: Lock::default(),
        }
    }

    /// A fault met something in flight.
    pub(super) fn hit(&self, fault: &'static str) {
        self.met(fault, Features::NONE);
    }

    /// A fault met something in flight that has these features.
    pub(super) fn met(&self, fault: &'static str, features: Features) {
        self.met.lock().push((fault, features));
    }

    pub(super) fn hold(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violations.lock().push(format!("{:?}: {}", self.start.elapsed(), what()));
        }
    }

    /// Somebody writes this row.
    pub(super) fn row(&self, key: &Name) {
        self.rows.lock().insert(key.clone());
    }

    pub(super) fn rows(&self) -> BTreeSet<Name> {
        self.rows.lock().clone()
    }

    /// An event of the schedule's course.
    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        let line = format!("{:?} {}", self.start.elapsed(), what());
        let mut course = self.course.lock();
        *course = hash::of(line.as_bytes()).rotate_left(17) ^ course.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        if let Some(log) = &self.log {
            log.lock().push(line);
        }
    }

    /// Tells what was found, and what was met; a number that tells this course from others.
    pub(super) fn close(&self, hits: &mut Hits) -> u64 {
        let violations = std::mem::take(&mut *self.violations.lock());
        assert!(violations.is_empty(), "{violations:#?}\n{}", self.words());
        for (fault, features) in self.met.lock().drain(..) {
            hits.met(fault, features.names());
        }
        *self.course.lock()
    }

    /// The events in words.
    pub(super) fn words(&self) -> String {
        self.log.as_ref().map_or_else(String::new, |log| log.lock().join("\n"))
    }
}
