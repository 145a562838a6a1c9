//! A set of endpoints under watch: who fails too much is not picked for a while.

use super::{
    Among, Choice, Detector, Draw, Ejection, Endpoints, Picker,
    cell::{Cell, state},
    eject::{Admit, Explanation, Muster, Routes, Shown, Sign},
    load::Watch,
    snapshot::{About, Endpoint, Snapshot},
};
use crate::base::{Outcome, Result, Seed, sync::atomic::Ordering::Relaxed, time};

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

    /// Watches each route by itself as well, up to so many, for whoever tells which route a request is of:
    /// [`Replicas::eject_by_route`](super::Replicas::eject_by_route).
    pub(super) fn eject_by_route(&self, settings: Ejection, most: usize) -> Result<Routes> {
        if let Some(routes) = self.shared.routes.get() {
            routes.set(settings, time::now())?;
            return Ok(routes.clone());
        }
        let seed = Seed::new(self.shared.chance.0.load(Relaxed));
        let routes = Routes::new(settings.clone(), most)?.seed(seed.fork("routes"));
        if self.shared.routes.set(routes.clone()).is_err() {
            return self.eject_by_route(settings, most); // another has come first
        }
        self.call_roll();
        Ok(routes)
    }

    /// What watches each route by itself, to read and to change its settings; none where
    /// [nobody asked for it](super::Replicas::eject_by_route). Its endpoints are those of the set.
    pub fn routes(&self) -> Option<&Routes> {
        self.shared.routes.get()
    }

    /// Who is out at this moment, why, since when and until when; as a whole, and on which route alone.
    pub fn explain(&self) -> Explanation {
        let now = time::now();
        let all = self.ejection().map(|detector| detector.explain(now));
        let routes = self.routes().map_or_else(Vec::new, |routes| routes.explain(now));
        Explanation { routes, ..all.unwrap_or_else(|| Explanation::unwatched(self.len(), now)) }
    }

    /// Tells the detector who takes calls: whoever changed the set does, and the last one has seen all changes.
    pub(super) fn call_roll(&self) {
        if let Some(detector) = self.ejection() {
            let seen = detector.roll(time::now(), |roll| {
                let current = self.current_shared();
                for (endpoint, ready) in takers(&current) {
                    let cell = &endpoint.cell;
                    let sign = || -> Sign {
                        let endpoint = endpoint.witness();
                        Box::new(move |shown| show(&endpoint.cell, shown))
                    };
                    cell.watch(roll.call(cell.key(), cell.watched(), ready, sign));
                }
                current
            });
            drop(seen); // it may be the last that holds it, and services are foreign code: not under the detector's lock
        }
        if let Some(routes) = self.routes() {
            let seen = routes.muster(|| {
                let current = self.current_shared();
                let takers: Vec<_> = takers(&current).map(|(endpoint, ready)| (endpoint.witness(), ready)).collect();
                (muster(takers, routes.numbers()), current)
            });
            drop(seen);
        }
    }
}

/// Who takes calls, and whether they can be picked apart from ejection.
fn takers<S>(set: &Snapshot<S>) -> impl Iterator<Item = (&Endpoint<S>, bool)> {
    let ready =
        |endpoint: &Endpoint<S>, about: &About| about.attributes.ready && endpoint.cell.state() & state::UNREADY == 0;
    let all = set.list.iter().zip(&set.about).filter(|(_, about)| !about.draining && about.attributes.weight > 0);
    all.map(move |(endpoint, about)| (endpoint, ready(endpoint, about)))
}

/// What tells a route's detector of these endpoints, of so many routes.
fn muster(takers: Vec<(Endpoint<()>, bool)>, routes: usize) -> Muster {
    Box::new(move |number, detector| {
        detector.roll(time::now(), |roll| {
            for (endpoint, ready) in &takers {
                let Some(cell) = endpoint.cell.open_route(number, routes) else { continue };
                let sign = || -> Sign {
                    let cell = cell.clone();
                    Box::new(move |shown| show(&cell, shown))
                };
                cell.watch(roll.call(cell.key(), cell.watched(), *ready, sign));
            }
        });
    })
}

fn show(cell: &Cell, shown: Shown) {
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
    choice: Choice,
) -> Option<Choice> {
    try_out(among, choice, |among| picker.choose(among, request, draw), |cell| Some(cell), Watch::of_probe)
}

/// The same of any detector: `out` gives what it holds against an endpoint, unless that is nothing to it, and `probe` is
/// the watch of its probe of that number.
pub(super) fn try_out<S>(
    among: &Among<'_, S>,
    mut choice: Choice,
    mut choose: impl FnMut(&Among<'_, S>) -> Option<Choice>,
    out: impl for<'c> Fn(&'c Cell) -> Option<&'c Cell>,
    probe: impl Fn(Watch, u32) -> Watch,
) -> Option<Choice> {
    let mut lost = Vec::new();
    loop {
        let cell: &Cell = &among.snapshot.list.get(choice.place)?.cell;
        let Some(held) = out(cell) else { return Some(choice) };
        let watch = match held.admit() {
            Admit::Probe(admitted) => admitted.number().map_or(choice.watch, |number| probe(choice.watch, number)),
            Admit::Out if held.state() & state::EJECTED != 0 && !lost.contains(&choice.place) => {
                // another call was faster
                if choice.watch.is_probe() {
                    cell.observe(choice.watch, Outcome::Cancelled); // of another detector, whose turn it gives back
                }
                lost.push(choice.place);
                choice = among.only(&|place| !lost.contains(&place), &mut choose)?;
                continue;
            }
            Admit::In | Admit::Out => choice.watch,
        };
        return Some(Choice { watch, ..choice });
    }
}

#[cfg(test)]
#[cfg(not(seedpod_loom))]
mod tests;
