//! Who is out: the decisions, made under one short lock.

use super::{
    Explained, Explanation, Reason, Standing,
    fleet::judge,
    meter::Seen,
    patient::{IN, Patient, Shown, Sign},
    policy::{Ejection, Growth},
};
use crate::base::{
    Rng,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};
use std::{collections::BTreeMap, time::Duration};

mod probation;

pub(super) use probation::Turn;

pub(super) struct Ward {
    pub(super) settings: Ejection,
    pub(super) rng: Rng,
    start: Instant,
    /// In the order of their keys.
    beds: BTreeMap<std::sync::Arc<str>, Bed>,
    out: usize,
    panics: bool,
    spared: u64,
    turns: u32,
    /// The number of this calling of the roll.
    roll: u64,
    /// Whether what [`reckon`](Self::reckon) counts may have changed.
    changed: bool,
    /// How many times the set of those who are out has changed.
    pub(super) changes: u64,
}

struct Bed {
    patient: Arc<Patient>,
    sign: Option<Sign>,
    /// Whether it could be picked were it in.
    ready: bool,
    /// The last calling of the roll that named it.
    roll: u64,
    times: u32,
    /// When it came back the last time.
    back: Option<Instant>,
    out: Option<Out>,
}

impl Bed {
    fn new(patient: Arc<Patient>) -> Self {
        Bed { patient, sign: None, ready: true, roll: 0, times: 0, back: None, out: None }
    }

    fn show(&self, shown: Shown) {
        if let Some(sign) = &self.sign {
            sign(shown);
        }
    }
}

#[derive(Clone, Copy)]
struct Out {
    why: Reason,
    since: Instant,
    until: Instant,
    /// The probe under way, by its number, and when it loses its place.
    probe: Option<(u32, Instant)>,
    probes_failed: u32,
}

impl Ward {
    pub(super) fn new(settings: Ejection, rng: Rng, start: Instant) -> Self {
        Ward {
            settings,
            rng,
            start,
            beds: BTreeMap::new(),
            out: 0,
            panics: false,
            spared: 0,
            turns: 0,
            roll: 1,
            changed: true,
            changes: 0,
        }
    }

    pub(super) fn census(&self) -> (usize, usize) {
        (self.beds.len(), self.out)
    }

    pub(super) fn join(&mut self, key: std::sync::Arc<str>) -> Arc<Patient> {
        if let Some(bed) = self.beds.get(&key) {
            return bed.patient.clone();
        }
        let patient = Patient::new(key.clone());
        self.beds.insert(key, Bed::new(patient.clone()));
        self.changed = true;
        patient
    }

    pub(super) fn leave(&mut self, key: &str, now: Instant) {
        if let Some(bed) = self.beds.remove(key) {
            self.part(&bed);
            self.relieve(now);
        }
    }

    /// It has gone.
    fn part(&mut self, bed: &Bed) {
        self.changed = true;
        bed.patient.word.store(IN, Relaxed); // whoever still holds it finds nothing to wait for
        bed.show(Shown::In);
        if bed.out.is_some() {
            self.out -= 1;
            self.changes += 1;
        }
    }

    /// Somebody is named on the roll. Whom the roll does not name is [dismissed](Self::dismiss).
    pub(super) fn call(
        &mut self,
        key: &std::sync::Arc<str>,
        known: Option<&Arc<Patient>>,
        ready: bool,
        sign: impl FnOnce() -> Sign,
    ) -> Arc<Patient> {
        let another = |bed: &Bed| known.is_none_or(|known| !Arc::ptr_eq(known, &bed.patient));
        if self.beds.get(key).is_some_and(another)
            && let Some(other) = self.beds.remove(key)
        {
            self.part(&other);
        }
        let bed = self.beds.entry(key.clone()).or_insert_with(|| {
            let patient = known.cloned().unwrap_or_else(|| Patient::new(key.clone()));
            patient.forget();
            Bed { sign: Some(sign()), ..Bed::new(patient) }
        });
        (bed.roll, bed.ready, self.changed) = (self.roll, ready, true);
        bed.patient.clone()
    }

    /// The roll is over: whom it did not name has gone.
    pub(super) fn dismiss(&mut self, now: Instant) {
        let gone = |(key, bed): (&std::sync::Arc<str>, &Bed)| (bed.roll != self.roll).then(|| key.clone());
        let gone: Vec<_> = self.beds.iter().filter_map(gone).collect();
        for key in gone {
            if let Some(bed) = self.beds.remove(&key) {
                self.part(&bed);
            }
        }
        self.relieve(now);
        self.roll += 1;
    }

    /// Whether so many are out that all are used, which it shows where that has changed.
    pub(super) fn reckon(&mut self) -> bool {
        if std::mem::take(&mut self.changed) {
            let pickable = self.beds.values().filter(|bed| bed.out.is_none() && bed.ready).count();
            let panics = self.out > 0 && self.settings.panics(pickable, self.beds.len());
            if panics != self.panics {
                self.panics = panics;
                self.beds.values().filter(|bed| bed.out.is_some()).for_each(|bed| bed.show(self.shown()));
            }
        }
        self.panics
    }

    /// What is shown of those who are out.
    fn shown(&self) -> Shown {
        if self.panics { Shown::Used } else { Shown::Out }
    }

    pub(super) fn set(&mut self, settings: Ejection, now: Instant) {
        if settings.rate.map(|rate| rate.window) != self.settings.rate.map(|rate| rate.window) {
            self.beds.values().for_each(|bed| bed.patient.window.clear());
        }
        self.settings = settings;
        self.changed = true;
        self.relieve(now);
    }

    /// Over the cap nobody stays out: the longest comes back first.
    fn relieve(&mut self, now: Instant) {
        while self.out > self.settings.allowed(self.beds.len()) {
            let out = self.beds.iter().filter_map(|(key, bed)| Some((bed.out?.since, key)));
            let Some(key) = out.min().map(|(_, key)| key.clone()) else { return };
            self.back(&key, now, false);
        }
    }

    fn back(&mut self, key: &str, now: Instant, proved: bool) {
        let Some(bed) = self.beds.get_mut(key) else { return };
        if bed.out.take().is_some() {
            self.out -= 1;
            self.changes += 1;
            self.changed = true;
            bed.back = Some(now);
            bed.patient.forget();
            bed.patient.word.store(IN, Relaxed);
            bed.show(Shown::Back(now));
        }
        if proved && self.settings.growth == Growth::Doubling {
            bed.times = 0;
        }
    }

    /// The bed of this very endpoint; one of the same key that came later is another.
    fn bed(&mut self, patient: &Arc<Patient>) -> Option<&mut Bed> {
        self.beds.get_mut(&patient.key).filter(|bed| Arc::ptr_eq(&bed.patient, patient))
    }

    /// Puts it out, unless it is out already or the cap forbids.
    pub(super) fn eject(&mut self, patient: &Arc<Patient>, why: Reason, now: Instant) {
        let allowed = self.settings.allowed(self.beds.len());
        let (out, interval) = (self.out, self.settings.interval);
        let Some(bed) = self.bed(patient).filter(|bed| bed.out.is_none()) else { return };
        patient.forget();
        if out >= allowed {
            self.spared += 1;
            return;
        }
        let healthy = bed.back.map_or(0, |back| intervals(now.saturating_duration_since(back), interval));
        bed.times = bed.times.saturating_sub(healthy).saturating_add(1);
        let times = bed.times;
        let until = now + self.settings.out_for(times, &mut self.rng);
        let (word, shown) = (self.word(until), self.shown());
        if let Some(bed) = self.bed(patient) {
            bed.out = Some(Out { why, since: now, until, probe: None, probes_failed: 0 });
            patient.word.store(word, Relaxed);
            bed.show(shown);
            self.out += 1;
            self.changes += 1;
            self.changed = true;
        }
    }

    fn word(&self, until: Instant) -> u64 {
        let nanos = until.saturating_duration_since(self.start).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX).max(IN + 1)
    }

    /// An active probe has found it well.
    pub(super) fn heal(&mut self, patient: &Arc<Patient>, now: Instant) {
        if self.settings.heal && self.bed(patient).is_some_and(|bed| bed.out.is_some()) {
            self.back(&patient.key, now, true);
        }
    }

    /// The end of an interval: compares all that are in.
    pub(super) fn sweep(&mut self, now: Instant) {
        let of_interval = |bed: &Bed| (bed.patient.clone(), bed.patient.counts.take());
        let interval: Vec<(Arc<Patient>, Seen)> =
            self.beds.values().filter(|bed| bed.out.is_none()).map(of_interval).collect();
        for (patient, why) in judge(self.settings.fleet, self.settings.failing, &interval) {
            self.eject(&patient, why, now);
        }
    }

    /// Without probation, brings back those whose time is over.
    pub(super) fn release(&mut self, now: Instant) {
        if !self.settings.probation {
            let over = |(key, bed): (&std::sync::Arc<str>, &Bed)| (bed.out?.until <= now).then(|| key.clone());
            let over: Vec<_> = self.beds.iter().filter_map(over).collect();
            over.iter().for_each(|key| self.back(key, now, false));
        }
    }

    pub(super) fn explain(&self, now: Instant) -> Explanation {
        let explained = |(key, bed): (&std::sync::Arc<str>, &Bed)| {
            let out = bed.out?;
            let standing = match out.probe {
                Some((_, lapses)) if now < lapses => Standing::Probing,
                _ if out.until <= now => Standing::Due,
                _ => Standing::Ejected,
            };
            let (Out { why, since, until, probes_failed, .. }, times) = (out, bed.times);
            Some(Explained { key: key.clone(), standing, why, since, until, times, probes_failed })
        };
        let mut out: Vec<_> = self.beds.iter().filter_map(explained).collect();
        out.sort_by_key(|out| out.since);
        let endpoints = self.beds.len();
        Explanation {
            now,
            endpoints,
            allowed: self.settings.allowed(endpoints),
            panics: self.panics,
            spared: self.spared,
            out,
            routes: Vec::new(),
        }
    }
}

fn intervals(since: Duration, interval: Duration) -> u32 {
    u32::try_from(since.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u32::MAX)
}
