//! A detector for each route: an endpoint can be out for one and in for all others.

use super::{Detector, Ejection, Explanation};
use crate::base::{
    Result, Seed,
    sync::{Arc, Lock},
    time::Instant,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// A [`Detector`] per route over the same endpoints, so that what one route does wrong at an endpoint is held against it
/// there alone: an entry stands for an endpoint and a route.
///
/// **Guarantees**: the cap holds for each route, since a request of that route has just these endpoints to go to. No more
/// than so many routes are told apart; those that come later share one detector, which is theirs together.
///
/// A handle: clones are the same. Keep the detector of a route rather than asking for it at each call.
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
pub struct Routes(Arc<Lock<Inner>>);

struct Inner {
    settings: Ejection,
    seed: Seed,
    most: usize,
    endpoints: BTreeSet<std::sync::Arc<str>>,
    routes: BTreeMap<Box<str>, Detector>,
    rest: Option<Detector>,
}

impl Routes {
    /// Tells so many routes apart, all by these settings.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::base::Kind::Invalid) naming the setting that makes no sense.
    pub fn new(settings: Ejection, most: usize) -> Result<Self> {
        settings.check()?;
        let (endpoints, routes, seed) = (BTreeSet::new(), BTreeMap::new(), Seed::ambient());
        Ok(Routes(Arc::new(Lock::new(Inner { settings, seed, most, endpoints, routes, rest: None }))))
    }

    /// Where its chance comes from, instead.
    #[must_use]
    pub fn seed(self, seed: Seed) -> Self {
        self.0.lock().seed = seed;
        self
    }

    /// An endpoint has come, for all routes.
    pub fn join(&self, key: impl Into<std::sync::Arc<str>>) {
        let mut inner = self.0.lock();
        let key = key.into();
        inner.each(|detector| drop(detector.join(key.clone())));
        inner.endpoints.insert(key);
    }

    /// An endpoint has gone.
    pub fn leave(&self, key: &str, now: Instant) {
        let mut inner = self.0.lock();
        inner.endpoints.remove(key);
        inner.each(|detector| detector.leave(key, now));
    }

    /// The detector of this route.
    pub fn of(&self, route: &str) -> Detector {
        let mut inner = self.0.lock();
        if let Some(detector) = inner.routes.get(route) {
            return detector.clone();
        }
        if inner.routes.len() < inner.most {
            let detector = inner.make(route);
            inner.routes.insert(route.into(), detector.clone());
            return detector;
        }
        let rest = inner.rest.take().unwrap_or_else(|| inner.make("the rest"));
        inner.rest.insert(rest).clone()
    }

    /// Other settings from now on, for all routes.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::base::Kind::Invalid) naming the setting that makes no sense; nothing is changed then.
    pub fn set(&self, settings: Ejection, now: Instant) -> Result {
        settings.check()?;
        let mut inner = self.0.lock();
        inner.each(|detector| drop(detector.set(settings.clone(), now)));
        inner.settings = settings;
        Ok(())
    }

    /// Who is out at this moment, by route; those that share a detector come last, as "the rest".
    pub fn explain(&self, now: Instant) -> Vec<(String, Explanation)> {
        let inner = self.0.lock();
        let of = |(route, detector): (&str, &Detector)| (route.to_string(), detector.explain(now));
        let told = inner.routes.iter().map(|(route, detector)| (&**route, detector));
        told.chain(inner.rest.as_ref().map(|detector| ("the rest", detector))).map(of).collect()
    }
}

impl Inner {
    fn each(&self, apply: impl FnMut(&Detector)) {
        self.routes.values().chain(&self.rest).for_each(apply);
    }

    fn make(&self, route: &str) -> Detector {
        let detector = Detector::checked(self.settings.clone()).seed(self.seed.fork(route));
        self.endpoints.iter().for_each(|key| drop(detector.join(key.clone())));
        detector
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.0.lock();
        write!(f, "Routes({} of {}, {} endpoints)", inner.routes.len(), inner.most, inner.endpoints.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Kind, Outcome, time};

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
    }
}
