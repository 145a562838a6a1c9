//! A detector for each route: an endpoint can be out for one and in for all others.

use super::{Detector, Ejection, Explanation};
use crate::base::{
    Error, Kind, Result, Seed, hash,
    sync::{Arc, Lock},
    time::Instant,
};
use crate::serving::load::ROUTES;
use arc_swap::ArcSwap;
use std::{collections::BTreeSet, fmt};

/// The most routes that can be told apart: each endpoint has a place for each.
const MOST: usize = 4_096;

const _: () = assert!(MOST < ROUTES);

/// What routes have in common whom nobody tells apart any more.
const REST: &str = "the rest";

/// A [`Detector`] per route over the same endpoints, so that what one route does wrong at an endpoint is held against it
/// there alone: an entry stands for an endpoint and a route.
///
/// **Guarantees**: the cap holds for each route, since a request of that route has just these endpoints to go to. No more
/// than so many routes are told apart; those that come later share one detector, which is theirs together.
///
/// [`Replicas::eject_by_route`](crate::serving::Replicas::eject_by_route) puts them in front of a set of endpoints; alone,
/// it is told who they are.
///
/// A handle: clones are the same. Asking for a route takes no lock once it is known.
///
/// ```
/// use seedpod::{base::{time, Outcome}, serving::{Ejection, eject::Routes}};
///
/// let (routes, now) = (Routes::new(Ejection::none().failures(3), 100)?, time::now());
/// routes.join("cart-a");
/// routes.join("cart-b");
/// let (pay, list) = (routes.of("/pay"), routes.of("/list"));
/// (0..3).for_each(|_| pay.join("cart-a").record(Outcome::Failure, || now));
/// assert_eq!((pay.join("cart-a").is_in(), list.join("cart-a").is_in()), (false, true));
/// # Ok::<_, seedpod::Error>(())
/// ```
#[derive(Clone)]
pub struct Routes(Arc<Shared>);

struct Shared {
    most: usize,
    known: ArcSwap<Known>,
    inner: Lock<Inner>,
}

/// The routes by name, and the detector that those beyond the bound share.
#[derive(Clone, Default)]
struct Known {
    routes: hash::Map<std::sync::Arc<str>, Route>,
    rest: Option<Route>,
}

#[derive(Clone)]
struct Route {
    /// Counted from 0 in the order in which they came; of the rest, as many as are told apart.
    number: u16,
    detector: Detector,
}

impl Known {
    /// In the order of their names, the rest at the end.
    fn each(&self) -> impl Iterator<Item = (&str, &Route)> {
        let mut routes: Vec<_> = self.routes.iter().map(|(name, route)| (&**name, route)).collect();
        routes.sort_by_key(|(name, _)| *name);
        routes.into_iter().chain(self.rest.as_ref().map(|rest| (REST, rest)))
    }
}

/// Tells the detector of the route of this number who the endpoints are.
pub(crate) type Muster = Box<dyn Fn(u16, &Detector) + Send + Sync>;

struct Inner {
    settings: Ejection,
    seed: Seed,
    endpoints: BTreeSet<std::sync::Arc<str>>,
    /// Of a set, which tells who they are instead.
    muster: Option<Muster>,
}

impl Routes {
    /// Tells so many routes apart, 4,096 at most, all by these settings.
    ///
    /// # Errors
    /// [`Kind::Invalid`] naming the setting that makes no sense.
    pub fn new(settings: Ejection, most: usize) -> Result<Self> {
        settings.check()?;
        if most > MOST {
            let says = format!("no more than {MOST} routes can be told apart, not {most}");
            return Err(Error::new(Kind::Invalid, says).at("ejection"));
        }
        let inner = Inner { settings, seed: Seed::ambient(), endpoints: BTreeSet::new(), muster: None };
        let known = ArcSwap::from_pointee(Known::default());
        Ok(Routes(Arc::new(Shared { most, known, inner: Lock::new(inner) })))
    }

    /// Where its chance comes from, instead.
    #[must_use]
    pub fn seed(self, seed: Seed) -> Self {
        self.reseed(seed);
        self
    }

    pub(crate) fn reseed(&self, seed: Seed) {
        self.0.inner.lock().seed = seed;
    }

    /// An endpoint has come, for all routes.
    pub fn join(&self, key: impl Into<std::sync::Arc<str>>) {
        let mut inner = self.0.inner.lock();
        let key = key.into();
        self.0.each(|route| drop(route.detector.join(key.clone())));
        inner.endpoints.insert(key);
    }

    /// An endpoint has gone.
    pub fn leave(&self, key: &str, now: Instant) {
        let mut inner = self.0.inner.lock();
        inner.endpoints.remove(key);
        self.0.each(|route| route.detector.leave(key, now));
    }

    /// The detector of this route.
    pub fn of(&self, route: &str) -> Detector {
        self.with(route, |route| route.detector.clone())
    }

    /// The number of this route, and whether any endpoint is out for it.
    #[inline]
    pub(crate) fn look(&self, route: &str) -> (u16, bool) {
        self.with(route, |route| (route.number, route.detector.out() > 0))
    }

    /// How many numbers there are.
    pub(crate) fn numbers(&self) -> usize {
        self.0.most + 1
    }

    #[inline]
    fn with<R>(&self, name: &str, then: impl FnOnce(&Route) -> R) -> R {
        let known = self.0.known.load();
        let full = || known.routes.len() >= self.0.most;
        match known.routes.get(name).or_else(|| known.rest.as_ref().filter(|_| full())) {
            Some(route) => then(route),
            None => then(&self.open(name)),
        }
    }

    /// A route that is new.
    #[cold]
    fn open(&self, name: &str) -> Route {
        let inner = self.0.inner.lock(); // whoever changes what is known holds it
        let mut known = Known::clone(&self.0.known.load());
        if let Some(route) = known.routes.get(name) {
            return route.clone();
        }
        let beyond = known.routes.len() >= self.0.most;
        if let Some(rest) = known.rest.as_ref().filter(|_| beyond) {
            return rest.clone();
        }
        let seed = inner.seed.fork(if beyond { REST } else { name });
        let detector = Detector::checked(inner.settings.clone()).seed(seed);
        let route = Route { number: known.routes.len() as u16, detector };
        match &inner.muster {
            Some(muster) => muster(route.number, &route.detector),
            None => inner.endpoints.iter().for_each(|key| drop(route.detector.join(key.clone()))),
        }
        if beyond {
            known.rest = Some(route.clone());
        } else {
            known.routes.insert(name.into(), route.clone());
        }
        self.0.known.store(Arc::new(known));
        route
    }

    /// Who the endpoints are is told by this from now on. It is made under the lock: whoever reads a set that changes
    /// reads it there, so that the last to come has seen the last change.
    pub(crate) fn muster<R>(&self, make: impl FnOnce() -> (Muster, R)) -> R {
        let mut inner = self.0.inner.lock();
        let (muster, result) = make();
        self.0.each(|route| muster(route.number, &route.detector));
        inner.muster = Some(muster);
        result
    }

    /// Other settings from now on, for all routes.
    ///
    /// # Errors
    /// [`Kind::Invalid`] naming the setting that makes no sense; nothing is changed then.
    pub fn set(&self, settings: Ejection, now: Instant) -> Result {
        settings.check()?;
        let mut inner = self.0.inner.lock();
        self.0.each(|route| drop(route.detector.set(settings.clone(), now)));
        inner.settings = settings;
        Ok(())
    }

    /// Who is out at this moment, by route; those that share a detector come last, as "the rest".
    pub fn explain(&self, now: Instant) -> Vec<(String, Explanation)> {
        let known = self.0.known.load();
        known.each().map(|(name, route)| (name.to_owned(), route.detector.explain(now))).collect()
    }
}

impl Shared {
    fn each(&self, apply: impl Fn(&Route)) {
        self.known.load().each().for_each(|(_, route)| apply(route));
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Routes({} of {})", self.0.known.load().routes.len(), self.0.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Outcome, time};

    fn fail(detector: &Detector, key: &str, now: Instant) {
        (0..5).for_each(|_| detector.join(key).record(Outcome::Failure, || now));
    }

    #[test]
    fn an_endpoint_is_out_for_the_route_it_fails_and_in_for_all_others() {
        let (routes, now) = (Routes::new(Ejection::new(), 10).unwrap(), time::now());
        ["a", "b", "c"].iter().for_each(|key| routes.join(*key));
        fail(&routes.of("/pay"), "a", now);
        fail(&routes.of("/pay"), "b", now); // above the cap
        fail(&routes.of("/list"), "b", now);
        let out =
            |route: &str| routes.of(route).explain(now).out.iter().map(|out| out.key.to_string()).collect::<Vec<_>>();
        assert_eq!((out("/pay"), out("/list"), out("/new")), (vec!["a".into()], vec!["b".into()], vec![]));
        routes.leave("a", now);
        assert_eq!((out("/pay"), routes.of("/new").explain(now).endpoints), (vec![], 2));
        let names: Vec<_> = routes.explain(now).into_iter().map(|(route, _)| route).collect();
        assert_eq!(names, ["/list", "/new", "/pay"]);
    }

    #[test]
    fn routes_beyond_the_bound_share_one_detector() {
        let (routes, now) = (Routes::new(Ejection::new(), 2).unwrap(), time::now());
        ["a", "b"].iter().for_each(|key| routes.join(*key));
        (0..1_000).for_each(|route| fail(&routes.of(&route.to_string()), "a", now));
        let names: Vec<_> = routes.explain(now).into_iter().map(|(route, of)| (route, of.out.len())).collect();
        assert_eq!(names, [("0".into(), 1), ("1".into(), 1), ("the rest".into(), 1)]);
        routes.set(Ejection::new().cap(0), now).unwrap();
        assert!(routes.explain(now).iter().all(|(_, of)| of.out.is_empty()));
        assert_eq!(routes.set(Ejection::new().cap(101), now).unwrap_err().kind(), Kind::Invalid);
        assert_eq!(routes.of("7").settings(), Ejection::new().cap(0));
        assert_eq!(
            Routes::new(Ejection::new(), 4_097).unwrap_err().to_string(),
            "ejection: invalid: no more than 4096 routes can be told apart, not 4097"
        );
    }
}
