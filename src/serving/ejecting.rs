//! A set of endpoints under watch: who fails too much is not picked for a while.

use super::{
    Among, Choice, Detector, Draw, Ejection, Endpoints, Picker,
    eject::{Admit, Explanation, Shown},
    load::{Cell, state},
    snapshot::Endpoint,
};
use crate::base::{Result, Seed, sync::atomic::Ordering::Relaxed, time};

impl<S> Endpoints<S> {
    /// Watches what becomes of calls, and ejects who fails too much: picks pass it over for a while, then one call is let
    /// through that decides whether it comes back. Nobody is ejected before this is called. Also later, by any handle:
    /// then these are the settings from now on.
    ///
    /// Every picker obeys, since it is the choice of candidates that narrows. Whatever the settings, never more are out
    /// than [the cap](Ejection::cap) allows; and where too few are left, [all are used](Ejection::panic) as if none were
    /// out. Who comes back begins with a part of its share, where there is a [slow start](Self::slow_start).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// use seedpod::{base::{Outcome, time}, serving::{Ejection, Endpoints, Random, Replicas}};
    /// use std::time::Duration;
    ///
    /// let endpoints = Endpoints::named("cart").eject(Ejection::none().failures(3).wait(Duration::from_secs(30)).jitter(0.0))?;
    /// let replicas = Replicas::new(endpoints.clone()).pick_by(Random);
    /// endpoints.insert("a", ());
    /// for _ in 0..3 {
    ///     replicas.pick().unwrap().lease.complete(Outcome::Failure);
    /// }
    /// assert!(replicas.pick().is_some(), "one of one may not be out");
    /// endpoints.insert("b", ());
    /// while endpoints.explain().out.is_empty() {
    ///     let picked = replicas.pick().unwrap();
    ///     let outcome = if picked.key() == "a" { Outcome::Failure } else { Outcome::Success };
    ///     picked.lease.complete(outcome);
    /// }
    /// assert_eq!(endpoints.describe()[0].to_string(), "a: ejected");
    /// assert!((0..100).all(|_| replicas.pick().unwrap().key() == "b"));
    ///
    /// time::sleep(Duration::from_secs(30)).await;
    /// let probe = (0..100).find_map(|_| replicas.pick().filter(|picked| picked.key() == "a")).unwrap();
    /// assert!((0..100).all(|_| replicas.pick().unwrap().key() == "b"), "one at a time");
    /// probe.lease.complete(Outcome::Success);
    /// assert_eq!(endpoints.describe()[0].to_string(), "a: ready");
    /// # Ok::<_, seedpod::Error>(()) }).unwrap();
    /// ```
    ///
    /// Who is put in anew under its key stays out; who is [drained](Self::drain), weighs nothing or is taken out is
    /// forgotten. A probe's word that an endpoint is [ready](Self::set_ready) brings it back at once, unless the settings
    /// [say otherwise](Ejection::heal).
    ///
    /// **Defaults**: [`Ejection`] tells them and whose they are.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::base::Kind::Invalid) naming the setting that makes no sense; nothing is changed then.
    pub fn eject(self, settings: Ejection) -> Result<Self> {
        if let Some(detector) = self.shared.detector.get() {
            detector.set(settings, time::now())?;
            return Ok(self);
        }
        let seed = Seed::new(self.shared.chance.0.load(Relaxed));
        let detector = Detector::new(settings.clone())?.seed(seed);
        if self.shared.detector.set(detector).is_err() {
            return self.eject(settings); // another has come first
        }
        self.call_roll();
        Ok(self)
    }

    /// What watches it, to read and to change its settings; none before [`eject`](Self::eject). Its endpoints are those
    /// of the set.
    pub fn ejection(&self) -> Option<&Detector> {
        self.shared.detector.get()
    }

    /// Who is out at this moment, why, since when and until when.
    pub fn explain(&self) -> Explanation {
        let now = time::now();
        self.ejection().map_or_else(|| Explanation::unwatched(self.len(), now), |detector| detector.explain(now))
    }

    /// Tells the detector who takes calls: whoever changed the set does, and the last one has seen all changes.
    pub(super) fn call_roll(&self) {
        let Some(detector) = self.ejection() else { return };
        let seen = detector.roll(time::now(), |roll| {
            let current = self.current_shared();
            for (endpoint, about) in current.list.iter().zip(&current.about) {
                if about.draining || about.attributes.weight == 0 {
                    continue;
                }
                let cell = &endpoint.cell;
                let ready = about.attributes.ready && cell.state() & state::UNREADY == 0;
                let sign = || -> super::eject::Sign {
                    let endpoint = endpoint.witness();
                    Box::new(move |shown| show(&endpoint, shown))
                };
                cell.watch(roll.call(cell.key(), cell.watched(), ready, sign));
            }
            current
        });
        drop(seen); // it may be the last that holds it, and services are foreign code: not under the detector's lock
    }
}

fn show(endpoint: &Endpoint<()>, shown: Shown) {
    let cell = &endpoint.cell;
    cell.mark(state::EJECTED, shown == Shown::Out);
    cell.mark(state::USED, shown == Shown::Used);
    if let Shown::Back(now) = shown {
        cell.warm(now); // without a slow start, the first who looks finds that it is over
    }
}

/// Of a choice that fell on an endpoint that is out: the call is the one that decides whether it comes back, or another is
/// chosen. A picker that insists has its way.
pub(super) fn on_trial<S, Req: ?Sized, P: Picker<Req>>(
    picker: &P,
    among: &Among<'_, S>,
    request: &Req,
    draw: &mut Draw,
    mut choice: Choice,
) -> Option<Choice> {
    let mut lost = Vec::new();
    loop {
        let cell: &Cell = &among.snapshot.list.get(choice.place)?.cell;
        let watch = match cell.admit() {
            Admit::Probe(probe) => probe.number().map_or(choice.watch, |number| choice.watch.of_probe(number)),
            Admit::Out if cell.state() & state::EJECTED != 0 && !lost.contains(&choice.place) => {
                // another call was faster
                lost.push(choice.place);
                choice = among.only(&|place| !lost.contains(&place), |others| picker.choose(others, request, draw))?;
                continue;
            }
            Admit::In | Admit::Out => choice.watch,
        };
        return Some(Choice { watch, ..choice });
    }
}

#[cfg(test)]
mod tests;
