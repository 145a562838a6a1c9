//! One endpoint under watch, as picks and outcomes meet it.

use super::{
    Reason, Shared,
    patient::{IN, Patient},
    ward::Turn,
};
use crate::base::{
    Outcome,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Instant,
};
use std::fmt;

/// One endpoint under watch: [`Detector::join`](super::Detector::join).
#[derive(Clone)]
pub struct Watched {
    pub(super) patient: Arc<Patient>,
    pub(super) shared: Arc<Shared>,
}

/// What a pick may do with an endpoint: [`Watched::admit`].
#[derive(Debug)]
#[must_use = "a probe that is dropped was in vain"]
pub enum Admit {
    /// It is in: pick it.
    In,
    /// It is out: pick another.
    Out,
    /// It is out, and this request is the one that decides.
    Probe(Probe),
}

impl Watched {
    /// The endpoint's key.
    pub fn key(&self) -> &str {
        &self.patient.key
    }

    /// Whether it is in: one load, for the pick.
    #[inline]
    pub fn is_in(&self) -> bool {
        self.patient.word.load(Relaxed) == IN
    }

    /// Whether it is out and its time is over: [`admit`](Self::admit) would let a request through.
    #[inline]
    pub fn is_due(&self, now: Instant) -> bool {
        let until = self.patient.word.load(Relaxed);
        until != IN && self.shared.nanos(now) >= until
    }

    /// Whether it may be picked at this moment. Of one that is out and whose time is over, one request is let through.
    #[inline]
    pub fn admit(&self, now: Instant) -> Admit {
        match self.patient.word.load(Relaxed) {
            IN => Admit::In,
            until if self.shared.nanos(now) < until => Admit::Out,
            _ => self.turn(now),
        }
    }

    #[cold]
    fn turn(&self, now: Instant) -> Admit {
        self.shared.sweep(now);
        let mut ward = self.shared.ward.lock();
        let turn = ward.turn(&self.patient, now);
        self.shared.publish(&mut ward);
        match turn {
            Turn::In => Admit::In,
            Turn::Out => Admit::Out,
            Turn::Probe(number) => Admit::Probe(Probe { watched: self.clone(), number: Some(number) }),
        }
    }

    /// Takes in what became of a call to it. The time is asked for only where it is needed. What becomes of a probe goes
    /// to [`Probe::settle`] instead.
    #[inline]
    pub fn record(&self, outcome: Outcome, now: impl FnOnce() -> Instant) {
        let rules = &self.shared.rules;
        if outcome != Outcome::Success {
            return self.suffer(outcome, now);
        }
        if self.is_in() {
            self.patient.rows.end();
            if rules.interval.load(Relaxed) {
                self.patient.counts.add(true);
            }
            let part = rules.part.load(Relaxed);
            if part != 0 {
                self.count(now(), part, true);
            }
        }
    }

    #[cold]
    fn suffer(&self, outcome: Outcome, now: impl FnOnce() -> Instant) {
        let (shared, patient, rules) = (&*self.shared, &self.patient, &self.shared.rules);
        let (local, throttled) = match outcome {
            Outcome::Failure => (false, false),
            Outcome::LocalOrigin => (true, false),
            Outcome::Throttled(_) => (false, true),
            _ => return,
        };
        if !self.is_in() {
            return;
        }
        let (now, split) = (now(), rules.split.load(Relaxed));
        let mut why = None;
        if !throttled {
            let (failures, locals) = patient.rows.grow(local, split);
            let reached = |rule: &AtomicU32, row: u32| (1..=row).contains(&rule.load(Relaxed));
            if reached(&rules.failures, failures) {
                why = Some(Reason::InARow { failures });
            } else if reached(&rules.local_origin, locals) {
                why = Some(Reason::LocalOrigin { failures: locals });
            }
        }
        if (rules.throttled.load(Relaxed) || !throttled) && !(local && split) {
            if rules.interval.load(Relaxed) {
                patient.counts.add(false);
            }
            let part = rules.part.load(Relaxed);
            if part != 0 {
                self.count(now, part, false);
                why = why.or_else(|| self.rate());
            }
        }
        if let Some(why) = why {
            let mut ward = shared.ward.lock();
            ward.eject(patient, why, now);
            shared.publish(&mut ward);
        }
        shared.sweep(now);
    }

    #[inline(never)]
    fn count(&self, now: Instant, part: u64, good: bool) {
        let tick = self.shared.nanos(now) / part;
        if !self.patient.window.add(tick, good) {
            self.turn_window(tick);
            self.patient.window.add(tick, good);
        }
    }

    #[cold]
    fn turn_window(&self, tick: u64) {
        let _ward = self.shared.ward.lock();
        self.patient.window.turn(tick);
    }

    /// The probe of this number has ended.
    pub(crate) fn settle(&self, number: u32, outcome: Outcome, now: Instant) {
        let mut ward = self.shared.ward.lock();
        ward.settle(&self.patient, number, outcome, now);
        self.shared.publish(&mut ward);
    }

    fn rate(&self) -> Option<Reason> {
        let rule = self.shared.ward.lock().settings.rate?;
        let seen = self.patient.window.sum();
        let bad = seen.all() >= rule.least && seen.rate() < rule.below;
        bad.then(|| Reason::Rate { rate: seen.rate(), requests: seen.all(), below: rule.below })
    }

    /// An active probe has found it well: it comes back at once, where the settings say so.
    pub fn heal(&self, now: Instant) {
        if !self.is_in() {
            let mut ward = self.shared.ward.lock();
            ward.heal(&self.patient, now);
            self.shared.publish(&mut ward);
        }
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watched({}, {})", self.key(), if self.is_in() { "in" } else { "out" })
    }
}

/// The one request that decides whether an endpoint comes back. Dropped without an outcome, it was in vain, and the next
/// request decides.
#[must_use = "dropping it leaves the decision to the next request"]
pub struct Probe {
    watched: Watched,
    number: Option<u32>,
}

impl Probe {
    /// Ends it with what became of it.
    pub fn settle(mut self, outcome: Outcome, now: Instant) {
        self.end(outcome, now);
    }

    fn end(&mut self, outcome: Outcome, now: Instant) {
        if let Some(number) = self.number.take() {
            self.watched.settle(number, outcome, now);
        }
    }

    /// Its number, for whoever ends it by [`Watched::settle`] instead.
    pub(crate) fn number(mut self) -> Option<u32> {
        self.number.take()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.end(Outcome::Cancelled, self.watched.shared.start);
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Probe({})", self.watched.key())
    }
}
