//! So much of the traffic here, so much there.

use super::on_call::OnCall;
use crate::base::{
    BoxError, Error, Kind, Result, Rng, Seed, hash,
    sync::{Arc, Lock},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::Service;

/// Divides calls among several services by weight: a new version gets one call in a hundred, then ten, then all of them.
/// By a seeded draw, or [by a key](Self::by_key) of the request that always goes the same way.
///
/// ```text
///         95 ┌─► v1
/// Split ─────┤
///          5 └─► v2      weights change while requests flow
/// ```
///
/// **Guarantees**
/// - Drawn, each service gets its part of the calls; weight 0 gets none. What is under way is not touched by a change.
/// - By key, a key goes where it went before as long as the weights are the same, in every process; when they change, a
///   key moves only to a service whose part has grown, or away from one whose part has shrunk (weighted rendezvous).
/// - Always ready: only the service that is chosen, which must be `Sync` for that, is cloned and made ready inside the
///   call. One that is not ready, or fails, holds up nothing that goes elsewhere.
///
/// # Errors
/// [`Kind::Unavailable`] while all weights are 0. Errors of the services pass through with the name as the place, unless
/// they name one closer to the cause; foreign ones are widened.
///
/// ```
/// use seedpod::{base::{Error, Seed}, layer::Split};
/// use tower::{Service, service_fn};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let version = |n: u32| service_fn(move |_: &str| async move { Ok::<_, Error>(n) });
/// let mut split = Split::new([("v1", version(1), 90), ("v2", version(2), 10)])?.seed(Seed::new(7));
/// let mut second = 0;
/// for _ in 0..1_000 {
///     second += u32::from(split.call("ann").await? == 2);
/// }
/// assert!((70..130).contains(&second));
/// split.handle().set_weight("v1", 0)?;
/// assert_eq!(split.call("ann").await?, 2);
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
pub struct Split<S, F = Drawn> {
    services: Arc<[S]>,
    handle: SplitHandle,
    by: F,
}

/// No key: each call is drawn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drawn;

/// Tells by what a request is split: any `Fn(&Req) -> K` whose key is bytes, or [`Drawn`].
pub trait SplitBy<Req> {
    /// The hash of the request's key; none to draw.
    fn hash(&self, request: &Req) -> Option<u64>;
}

impl<Req> SplitBy<Req> for Drawn {
    fn hash(&self, _: &Req) -> Option<u64> {
        None
    }
}

impl<Req, K: AsRef<[u8]>, F: Fn(&Req) -> K> SplitBy<Req> for F {
    fn hash(&self, request: &Req) -> Option<u64> {
        Some(hash::of(self(request).as_ref()))
    }
}

impl<S> Split<S> {
    /// These services, by name and weight, seeded by the running simulation or the system.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where there is none, or two of one name.
    pub fn new<N: Into<Arc<str>>>(services: impl IntoIterator<Item = (N, S, u32)>) -> Result<Self> {
        let (mut all, mut parts) = (Vec::new(), Vec::<Part>::new());
        for (name, service, weight) in services {
            let name = name.into();
            if parts.iter().any(|part| part.name == name) {
                return Err(Error::new(Kind::Invalid, format!("split: two services are named {name}")));
            }
            parts.push(Part { salt: hash::of(name.as_bytes()), name, weight, calls: 0 });
            all.push(service);
        }
        if all.is_empty() {
            return Err(Error::new(Kind::Invalid, "split: there is no service"));
        }
        let table = Table { parts, rng: Seed::ambient().fork("split").rng() };
        Ok(Split { services: all.into(), handle: SplitHandle(Arc::new(Lock::new(table))), by: Drawn })
    }
}

impl<S, F> Split<S, F> {
    /// Sends requests of one key the same way: of a user, a session.
    #[must_use]
    pub fn by_key<G>(self, key: G) -> Split<S, G> {
        Split { services: self.services, handle: self.handle, by: key }
    }

    /// Where chance comes from.
    #[must_use]
    pub fn seed(self, seed: Seed) -> Self {
        self.handle.0.lock().rng = seed.rng();
        self
    }

    /// Reads and changes the weights of this split and of all its clones.
    pub fn handle(&self) -> SplitHandle {
        self.handle.clone()
    }
}

/// The live side of [`Split`].
#[derive(Clone)]
pub struct SplitHandle(Arc<Lock<Table>>);

struct Part {
    name: Arc<str>,
    salt: u64,
    weight: u32,
    calls: u64,
}

/// The decision: weights, and which is next.
struct Table {
    parts: Vec<Part>,
    rng: Rng,
}

impl Table {
    fn choose(&mut self, key: Option<u64>) -> Option<(usize, Arc<str>)> {
        let chosen = match key {
            None => self.draw(),
            Some(key) => self.rendezvous(key),
        }?;
        let part = self.parts.get_mut(chosen)?;
        part.calls += 1;
        Some((chosen, part.name.clone()))
    }

    fn draw(&mut self) -> Option<usize> {
        let total = self.parts.iter().map(|part| u64::from(part.weight)).sum();
        let mut point = self.rng.below(total);
        self.parts.iter().position(|part| match point.checked_sub(part.weight.into()) {
            None => true,
            Some(rest) => {
                point = rest;
                false
            }
        })
    }

    /// The service whose draw for this key, stretched by its weight, is the greatest: another's weight changes nothing
    /// between two of them.
    fn rendezvous(&self, key: u64) -> Option<usize> {
        let score = |part: &Part| {
            let unit = Seed::new(key ^ part.salt).rng().unit().max(f64::MIN_POSITIVE);
            f64::from(part.weight) / -unit.ln()
        };
        let weighted = self.parts.iter().enumerate().filter(|(_, part)| part.weight > 0);
        weighted.max_by(|(_, a), (_, b)| score(a).total_cmp(&score(b))).map(|(at, _)| at)
    }
}

impl SplitHandle {
    /// The weights, by name.
    pub fn weights(&self) -> Vec<(Arc<str>, u32)> {
        self.0.lock().parts.iter().map(|part| (part.name.clone(), part.weight)).collect()
    }

    /// How many calls each was chosen for, by name.
    pub fn calls(&self) -> Vec<(Arc<str>, u64)> {
        self.0.lock().parts.iter().map(|part| (part.name.clone(), part.calls)).collect()
    }

    /// Changes a weight.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is no service of this name.
    pub fn set_weight(&self, name: &str, weight: u32) -> Result {
        self.set([(name, weight)])
    }

    /// Changes these weights together: all, or none where one of the names is not there.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is no service of a name.
    pub fn set<'a>(&self, weights: impl IntoIterator<Item = (&'a str, u32)>) -> Result {
        let weights: Vec<_> = weights.into_iter().collect();
        let mut table = self.0.lock();
        if let Some((name, _)) = weights.iter().find(|(name, _)| !table.parts.iter().any(|part| &*part.name == *name)) {
            return Err(Error::new(Kind::NotFound, format!("split: no service is named {name}")));
        }
        for (name, weight) in weights {
            table.parts.iter_mut().filter(|part| &*part.name == name).for_each(|part| part.weight = weight);
        }
        Ok(())
    }
}

impl fmt::Debug for SplitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Split").field(&self.weights()).finish()
    }
}

impl<S, F: Clone> Clone for Split<S, F> {
    fn clone(&self) -> Self {
        Split { services: self.services.clone(), handle: self.handle.clone(), by: self.by.clone() }
    }
}

impl<S, F> fmt::Debug for Split<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

impl<S, Req, F> Service<Req> for Split<S, F>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError> + 'static,
    F: SplitBy<Req>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Splitting<S, Req>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let chosen = self.handle.0.lock().choose(self.by.hash(&request));
        let service = chosen.and_then(|(at, name)| Some((self.services.get(at)?.clone(), name)));
        Splitting { call: service.map(|(service, name)| Named { call: OnCall::new(service, request), name }) }
    }
}

pin_project! {
    struct Named<S: Service<Req>, Req> {
        #[pin]
        call: OnCall<S, Req>,
        name: Arc<str>,
    }
}

pin_project! {
    /// The future of [`Split`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Splitting<S: Service<Req>, Req> {
        #[pin]
        call: Option<Named<S, Req>>,
    }
}

impl<S, Req> Future for Splitting<S, Req>
where
    S: Service<Req>,
    S::Error: Into<BoxError> + 'static,
{
    type Output = Result<S::Response>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(named) = self.project().call.as_pin_mut() else {
            return Poll::Ready(Err(Error::new(Kind::Unavailable, "split: every weight is 0").unsent()));
        };
        let named = named.project();
        let result = ready!(named.call.poll(cx));
        Poll::Ready(result.map_err(|error| Error::adopt(error, Kind::Failed).at(named.name.clone())))
    }
}

impl<S: Service<Req>, Req> fmt::Debug for Splitting<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Splitting").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use tower::service_fn;

    fn table(weights: &[u32]) -> Table {
        let part = |(at, weight): (usize, &u32)| {
            let name: Arc<str> = at.to_string().into();
            Part { salt: hash::of(name.as_bytes()), name, weight: *weight, calls: 0 }
        };
        Table { parts: weights.iter().enumerate().map(part).collect(), rng: Seed::new(81).rng() }
    }

    #[test]
    fn a_million_draws_follow_the_weights_and_so_do_the_keys() {
        let mut table = table(&[70, 0, 25, 5]);
        for by_key in [false, true] {
            table.parts.iter_mut().for_each(|part| part.calls = 0);
            for call in 0..1_000_000_u64 {
                table.choose(by_key.then(|| hash::of(&call.to_be_bytes()))).unwrap();
            }
            for (part, expected) in table.parts.iter().zip([0.70, 0.0, 0.25, 0.05]) {
                assert!((part.calls as f64 / 1e6 - expected).abs() < 0.002, "{by_key} {} {}", part.name, part.calls);
            }
        }
        assert_eq!(self::table(&[0, 0]).choose(None), None);
        assert_eq!(self::table(&[0, 0]).choose(Some(7)), None);
    }

    #[test]
    fn a_key_moves_only_where_a_part_has_grown_or_shrunk() {
        let mut rng = Seed::new(82).rng();
        let mut table = table(&[40, 30, 20, 10]);
        let keys: Vec<_> = (0..2_000_u64).map(|key| hash::of(&key.to_be_bytes())).collect();
        for _ in 0..200 {
            let before: Vec<_> = keys.iter().map(|key| table.rendezvous(*key)).collect();
            let (changed, weight) = (rng.below(4) as usize, rng.below(60) as u32);
            let old = std::mem::replace(&mut table.parts[changed].weight, weight);
            for (key, before) in keys.iter().zip(before) {
                let after = table.rendezvous(*key);
                let (into, out) = (after == Some(changed), before == Some(changed));
                assert!(after == before || (weight > old && into) || (weight < old && out));
            }
        }
    }

    #[test]
    fn weights_change_together_or_not_at_all_and_the_name_is_told() {
        let fail = |fails: bool| {
            service_fn(move |(): ()| async move { if fails { Err(Error::from(Kind::Failed)) } else { Ok(()) } })
        };
        let mut split = Split::new([("old", fail(false), 1), ("new", fail(true), 0)]).unwrap();
        let handle = split.handle();
        let mut call = || split.call(()).now_or_never().unwrap();
        call().unwrap();
        assert_eq!(handle.set([("old", 0), ("none", 1)]).unwrap_err().kind(), Kind::NotFound);
        call().unwrap();
        handle.set([("old", 0), ("new", 1)]).unwrap();
        assert_eq!(call().unwrap_err().place(), Some("new"));
        handle.set_weight("new", 0).unwrap();
        assert!(call().unwrap_err().is_unsent());
        assert_eq!(handle.calls(), [("old".into(), 2), ("new".into(), 1)]);
        assert!(Split::new([("a", fail(true), 1), ("a", fail(true), 1)]).is_err());
        assert!(Split::<()>::new([] as [(&str, (), u32); 0]).is_err());
    }
}
