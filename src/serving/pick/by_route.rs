//! Who is out for a route is passed over by its requests alone.

use super::{Choice, LeastPending, Picker};
use crate::{
    base::{Error, Kind, Result, time},
    serving::{
        Among, Draw, Ejection, Replicas, affinity::Told, among::OnRoute, cell::Cell, eject::Routes, ejecting::try_out,
        load::Watch,
    },
};
use std::fmt;

/// What one route does wrong at an endpoint is held against it there alone: who fails for `/checkout` is left out of its
/// requests for a while and goes on serving `/browse`. [`Replicas::eject_by_route`] makes it, around another picker.
#[derive(Clone)]
pub struct ByRoute<F, P = LeastPending> {
    by: F,
    routes: Routes,
    picker: P,
}

impl<F, P> ByRoute<F, P> {
    /// What watches each route by itself.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Nobody was found for a request of this route: all are used where too few are left by those who are out here and
    /// those who cannot be picked anyway.
    #[cold]
    fn last_resort<S>(
        &self,
        name: &str,
        among: &Among<'_, S>,
        choose: impl FnOnce() -> Option<Choice>,
    ) -> Result<Option<Choice>, Error> {
        let detector = self.routes.of(name);
        let left = (0..among.len()).filter(|place| among.takes(*place)).count();
        let explanation = detector.explain(time::now());
        let out = explanation.out.len();
        if out == 0 || left > 0 {
            return Ok(None); // where it is narrowed, there are others
        }
        if detector.settings().panics(left, explanation.endpoints)
            && let Some(choice) = choose()
        {
            return Ok(Some(choice));
        }
        let says = format!("none of its {} endpoints takes this call: {out} ejected", explanation.endpoints);
        let error = Error::new(Kind::Unavailable, says).at(format!("route {name}")).unsent();
        Err(match explanation.next() {
            Some(wait) => error.after(wait),
            None => error,
        })
    }
}

impl<Req: ?Sized, F: Fn(&Req) -> &str, P: Picker<Req>> Picker<Req> for ByRoute<F, P> {
    #[inline]
    fn choose<S>(&self, among: &Among<'_, S>, request: &Req, draw: &mut Draw) -> Option<Choice> {
        let name = (self.by)(request);
        let (number, some_out) = self.routes.look(name);
        let there = among.on(OnRoute { number, some_out });
        let choose = |among: &Among<'_, S>, draw: &mut Draw| {
            let choice = self.picker.choose(among, request, draw)?;
            Some(Choice { watch: choice.watch.of_route(number), ..choice })
        };
        draw.told = Told::Nothing;
        let Some(choice) = choose(&there, draw) else {
            if matches!(draw.told, Told::Refused(_)) {
                return None;
            }
            return self.last_resort(name, &there, || choose(among, draw)).unwrap_or_else(|error| {
                draw.told = Told::Refused(error);
                None
            });
        };
        if !some_out {
            return Some(choice);
        }
        // who is out as a whole proves itself as a whole first
        try_out(&there, choice, |among| choose(among, draw), |cell| out_on(number, cell), Watch::of_route_probe)
    }

    fn fixed<S>(&self, among: &Among<'_, S>, place: usize) -> Choice {
        Picker::<Req>::fixed(&self.picker, among, place)
    }
}

fn out_on(number: u16, cell: &Cell) -> Option<&Cell> {
    cell.on_route(number).filter(|there| there.is_out() && !cell.is_out()).map(|there| &**there)
}

impl<F, P: fmt::Debug> fmt::Debug for ByRoute<F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByRoute({:?}, {:?})", self.routes, self.picker)
    }
}

impl<S, C, P: Clone> Replicas<S, C, P> {
    /// Watches what becomes of calls by the route that this function sees in a request, and ejects who fails too much for
    /// the requests of that route alone: an entry stands for an endpoint and a route. Put last of what changes the picker.
    ///
    /// Use it where endpoints are well for some requests and not for others: one that has lost its payment provider still
    /// serves the catalogue. What hits all requests alike is better found over all of them, by
    /// [`Endpoints::eject`](crate::serving::Endpoints::eject); with both, let that one look at [rates](Ejection::rate), or
    /// one bad route soon puts the endpoint out for all.
    ///
    /// ```
    /// use seedpod::{base::{Outcome, time}, serving::{Ejection, Replicas}};
    /// use std::time::Duration;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let ejection = Ejection::none().failures(3).wait(Duration::from_secs(30)).jitter(0.0);
    /// let shop = Replicas::named("shop").eject_by_route(ejection, 100, |path: &str| path)?;
    /// for key in ["shop-a", "shop-b"] {
    ///     shop.endpoints().insert(key, ());
    /// }
    /// while shop.explain().routes.iter().all(|(_, route)| route.out.is_empty()) {
    ///     let picked = shop.pick_for("/checkout").unwrap();
    ///     let outcome = if picked.key() == "shop-a" { Outcome::Failure } else { Outcome::Success };
    ///     picked.lease.complete(outcome);
    ///     time::sleep(Duration::from_secs(1)).await; // for so long, who has failed is second choice anyway
    /// }
    /// let goes_to = |path| shop.pick_for(path).unwrap().key().to_owned();
    /// assert!((0..100).all(|_| goes_to("/checkout") == "shop-b"));
    /// assert!((0..100).any(|_| goes_to("/browse") == "shop-a"));
    /// assert_eq!(
    ///     shop.explain().to_string(),
    ///     "0 of 2 out, 0 allowed\n\
    ///      route /checkout: 1 of 2 out, 1 allowed\n\
    ///      shop-a: ejected since 1 s, 29 s to go: 3 failures in a row",
    /// );
    /// # Ok::<_, seedpod::Error>(()) }).unwrap();
    /// ```
    ///
    /// **Guarantees**
    /// - For each route as for a whole set: the cap, one probe at a time, who comes back starts slowly, and where too few
    ///   are left, all are used.
    /// - At most so many routes are told apart, in the order in which they come; all others are one route together.
    /// - Without it, nothing is looked up: it is part of the picker's type.
    /// - Who is ejected from the set as a whole is tried as a whole first.
    ///
    /// **Not guaranteed**: that other routes do not feel a failure at all: it counts in the endpoint's load, so that it is
    /// second choice for a second everywhere. A probe's word that an endpoint is ready ends no ejection here: it was not
    /// asked about the route.
    ///
    /// A change of the set costs a step for each endpoint and route. Other handles on the same set that ask for it share
    /// the detectors; settings that come later hold from then on, the number of routes stays.
    ///
    /// # Errors
    /// [`Kind::Invalid`] naming the setting that makes no sense; more than 4,096 routes are one. Calls of a route that
    /// nobody is left for fail with [`Kind::Unavailable`] naming the route, and say after how long somebody is tried again.
    pub fn eject_by_route<Req: ?Sized, F>(
        self,
        settings: Ejection,
        most: usize,
        by: F,
    ) -> Result<Replicas<S, C, ByRoute<F, P>>>
    where
        F: Fn(&Req) -> &str,
    {
        let routes = self.endpoints().eject_by_route(settings, most)?;
        let picker = self.picker().clone();
        Ok(self.pick_by(ByRoute { by, routes, picker }))
    }
}

#[cfg(test)]
#[cfg(not(seedpod_loom))]
mod tests;
