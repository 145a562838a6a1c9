//! The near ones first.

use super::{Choice, LeastPending, Picker};
use crate::serving::{
    Among, Draw, Replicas,
    part::{Memo, Part},
};
use std::sync::Arc;

/// The near ones first, and from there on as much as they cannot carry: zones in the order of preference, and all others
/// after them.
///
/// Another picker chooses inside the zone; weights count there as everywhere.
///
/// ```
/// use seedpod::serving::Replicas;
///
/// let replicas = Replicas::named("cart").locality(["eu-1a", "eu-1b"]);
/// replicas.endpoints().update(|changes| {
///     changes.insert("near", 'n').zone("eu-1a");
///     changes.insert("next", 'x').zone("eu-1b");
///     changes.insert("far", 'f').zone("us-2c");
/// });
/// let picked = || replicas.pick().map(|picked| picked.key().to_owned());
/// assert_eq!(picked().as_deref(), Some("near"));
/// replicas.endpoints().drain("near");
/// assert_eq!(picked().as_deref(), Some("next"));
/// ```
///
/// **Guarantees**
/// - The first zone gets `min(1, 1.4 × healthy / all)` of the calls, by weight; what is left goes to the next one up to
///   as much as that can carry, and so on. So three of four healthy ones carry all, one of two 70 %. Where even all zones
///   together cannot carry everything, each gets in proportion to what it can.
/// - Shares follow readiness and ejection from the next pick on. What drains counts neither as healthy nor at all.
/// - Where nobody can be picked in any zone, the choice is that of the whole set: the same last resort as without.
/// - A zone that is passed over since all of it is ejected gets the calls that decide whether that ends, as long as the
///   zones before it cannot carry everything.
///
/// **Not guaranteed**: that a zone with many callers and few endpoints is not overloaded: this rule looks at who is
/// healthy, not at who is busy.
///
/// **Defaults**: overprovisioning 1.4 (Envoy's `overprovisioning_factor`, and its priority levels' rule).
#[derive(Clone, Debug)]
pub struct Locality<P = LeastPending> {
    zones: Arc<[Arc<str>]>,
    factor: f64,
    survey: Memo<Survey>,
    picker: P,
}

impl Locality {
    /// These zones in this order; what is in none of them comes last.
    pub fn zones<Z: Into<Arc<str>>>(zones: impl IntoIterator<Item = Z>) -> Self {
        let zones = zones.into_iter().map(Into::into).collect();
        Locality { zones, factor: 1.4, survey: Memo::new(), picker: LeastPending }
    }
}

impl<P> Locality<P> {
    /// Chooses inside a zone by this picker.
    #[must_use]
    pub fn by<Q>(self, picker: Q) -> Locality<Q> {
        Locality { zones: self.zones, factor: self.factor, survey: self.survey, picker }
    }

    /// How much more than its part a healthy endpoint can carry: at 1 every one that is missing is missed, at 2 half of
    /// them are enough. Below 1 counts as 1, and what is no number as 1.4.
    #[must_use]
    pub fn overprovisioning(self, factor: f64) -> Self {
        let factor = if factor.is_finite() { factor.max(1.0) } else { 1.4 };
        Locality { factor, survey: Memo::new(), ..self }
    }

    fn survey<S>(&self, among: &Among<'_, S>, before: Option<&Survey>) -> Survey {
        let levels = match before {
            Some(survey) => survey.levels.clone(),
            None => self.levels(among),
        };
        let capacity: Vec<_> = levels.iter().map(|level| level.capacity(among)).collect();
        let shares = shares(&capacity, self.factor);
        let upto = upto(&shares);
        let carried = capacity.iter().map(|level| health(level, self.factor)).sum::<f64>() >= 1.0;
        let wanted = if carried { upto.len() } else { levels.len() };
        let dark = |level: &usize| capacity.get(*level).is_some_and(|(fit, all)| *fit == 0 && *all > 0);
        let dark = (0..wanted).filter(dark).collect();
        Survey { upto, dark, levels }
    }

    fn levels<S>(&self, among: &Among<'_, S>) -> Arc<[Level]> {
        let last = self.zones.len();
        let level = |place: usize| {
            let zone = among.attributes(place).and_then(|about| about.zone.as_ref());
            zone.and_then(|zone| self.zones.iter().position(|other| other == zone)).unwrap_or(last)
        };
        let of: Vec<usize> = (0..among.len()).map(level).collect();
        let weight = |level: usize, (place, of): (usize, &usize)| if *of == level { among.weight(place) } else { 0 };
        let part = |level| Part::new(&of.iter().enumerate().map(|each| weight(level, each)).collect::<Vec<_>>());
        let members = |level| (0..among.len()).filter(|place| of.get(*place) == Some(&level)).collect();
        (0..=last).map(|level| Level { part: part(level), members: members(level) }).collect()
    }
}

/// Where the calls go at present.
#[derive(Debug)]
struct Survey {
    levels: Arc<[Level]>,
    /// Of 2^32 calls, as many go to this level or to one before it. The last is all; empty where nobody can be picked.
    upto: Box<[u64]>,
    /// The levels that would get calls and are passed over, since nobody there is fit.
    dark: Box<[usize]>,
}

#[derive(Debug)]
struct Level {
    part: Part,
    members: Box<[usize]>,
}

impl Level {
    /// By weight: who can be picked, and all but those that drain.
    fn capacity<S>(&self, among: &Among<'_, S>) -> (u64, u64) {
        let stays = |place: usize| match among.snapshot.about.get(place) {
            Some(about) if among.is_whole() && !about.draining => u64::from(about.attributes.weight),
            _ => u64::from(among.weight(place)),
        };
        let add = |(fit, all): (u64, u64), place: &usize| {
            let weight = stays(*place);
            (fit + if among.takes(*place) { weight } else { 0 }, all + weight)
        };
        self.members.iter().fold((0, 0), add)
    }
}

/// What part of all calls a level can carry, of how much of it is fit and how much there is.
fn health((fit, all): &(u64, u64), factor: f64) -> f64 {
    if *all == 0 { 0.0 } else { (factor * *fit as f64 / *all as f64).min(1.0) }
}

/// What part of the calls goes to each level. All 0 where none is fit.
fn shares(capacity: &[(u64, u64)], factor: f64) -> Vec<f64> {
    let total: f64 = capacity.iter().map(|level| health(level, factor)).sum::<f64>().min(1.0);
    let mut left = 1.0;
    let mut share = |level: &(u64, u64)| {
        let share = if total > 0.0 { f64::min(left, health(level, factor) / total) } else { 0.0 };
        left -= share;
        share
    };
    capacity.iter().map(&mut share).collect()
}

/// Shares, added up, of 2^32.
fn upto(shares: &[f64]) -> Box<[u64]> {
    let Some(last) = shares.iter().rposition(|share| *share > 0.0) else { return Box::new([]) };
    let mut sum = 0.0;
    let mut add = |(level, share): (usize, &f64)| {
        sum += share;
        if level == last { 1 << 32 } else { (sum * 2_f64.powi(32)).round() as u64 }
    };
    shares.iter().take(last + 1).enumerate().map(&mut add).collect()
}

impl Survey {
    #[inline]
    fn draw<S>(&self, among: &Among<'_, S>, draw: &mut Draw) -> Option<usize> {
        if let Some(due) = self.dark.iter().find(|level| self.is_due(among, **level)) {
            return Some(*due);
        }
        let coin = match self.upto.first() {
            Some(first) if *first == 1 << 32 => 0,
            _ => draw.word() >> 32,
        };
        self.upto.iter().position(|upto| coin < *upto)
    }

    #[cold]
    fn is_due<S>(&self, among: &Among<'_, S>, level: usize) -> bool {
        self.levels.get(level).is_some_and(|level| among.within(&level.part).has_due())
    }
}

impl<Req: ?Sized, P: Picker<Req>> Picker<Req> for Locality<P> {
    #[inline]
    fn choose<S>(&self, among: &Among<'_, S>, request: &Req, draw: &mut Draw) -> Option<Choice> {
        self.survey.with(
            among.known_as(),
            |before| self.survey(among, before),
            |survey| {
                let drawn = survey.draw(among, draw);
                let order = drawn.into_iter().chain((0..survey.levels.len()).filter(|level| Some(*level) != drawn));
                let mut levels =
                    order.filter_map(|level| survey.levels.get(level).map(|level| among.within(&level.part)));
                let found = levels.find_map(|near| {
                    // a share says that somebody there can be picked, not that he was not tried before
                    let fit = drawn.is_some() && (!near.is_narrowed() || near.has_pickable());
                    if fit { self.picker.choose(&near, request, draw) } else { None }
                });
                found.or_else(|| self.picker.choose(among, request, draw))
            },
        )
    }

    fn fixed<S>(&self, among: &Among<'_, S>, place: usize) -> Choice {
        Picker::<Req>::fixed(&self.picker, among, place)
    }
}

impl<S, C, P: Clone> Replicas<S, C, P> {
    /// Chooses in these zones first, in this order, and spills over to the next where one cannot carry all:
    /// [`Locality`] around the picker that it has.
    #[must_use]
    pub fn locality<Z: Into<Arc<str>>>(self, zones: impl IntoIterator<Item = Z>) -> Replicas<S, C, Locality<P>> {
        let picker = self.picker.clone();
        self.pick_by(Locality::zones(zones).by(picker))
    }
}

#[cfg(test)]
mod tests;
