//! Session affinity: the requests of a session go to one endpoint for as long as it can be picked.
//!
//! - [`Affinity`], a picker, by a key of the request — start here
//! - [`Session`], what a request says: nothing, or a key (of a header, or computed)
//! - with feature `http`: `Sticky`, a service around replicas, by a [`Cookie`] that is opaque and signed; [`header`]

use super::{
    Among, Choice, Draw, LeastPending, Picker, Replicas,
    endpoints::Apart,
    pick::round_robin::{STRIPES, stripe},
    rendezvous,
};
use crate::{
    base::{
        Error, Kind,
        sync::atomic::{AtomicU64, Ordering::Relaxed},
    },
    layer::attempt,
};
use decide::{Decision, decide};
use std::{fmt, sync::Arc};

#[cfg(feature = "http")]
mod cookie;
mod decide;
#[cfg(feature = "http")]
mod header;
mod homes;
#[cfg(feature = "http")]
mod sticky;
#[cfg(test)]
mod tests;

#[cfg(feature = "http")]
pub use cookie::{Cookie, CookieKey, SameSite};
#[cfg(feature = "http")]
pub use header::header;
#[cfg(feature = "http")]
pub use sticky::{Seating, Sticky};

pub(super) use homes::Homes;

/// The requests of a session to one endpoint: to the first choice of its key in an order that all balancers share, and
/// where that one cannot be picked, to the next in it. What has no session goes where another picker says.
///
/// Use it where an endpoint is better at what it has seen before, a cache or a conversation. The key is whatever a
/// function makes of the request; a browser's session is better kept by a cookie
/// ([`Replicas::sticky`](super::Replicas::sticky), feature `http`).
///
/// ```
/// use seedpod::serving::{Affinity, Endpoints, PeakEwma, Replicas, affinity::Session};
///
/// struct Order { customer: &'static str }
///
/// let endpoints = Endpoints::named("cart");
/// let affinity = Affinity::by(|order: &Order| Session::of(order.customer)).or(PeakEwma::new());
/// let replicas = Replicas::new(endpoints.clone()).pick_by(affinity);
/// for key in ["cart-a", "cart-b", "cart-c"] {
///     endpoints.insert(key, ());
/// }
/// let serves = |customer| replicas.pick_for(&Order { customer }).unwrap().key().to_owned();
/// let first = serves("ann");
/// assert_eq!(serves("ann"), first);
/// endpoints.drain(&first);
/// assert_ne!(serves("ann"), first);
/// assert_eq!(replicas.picker().stats().to_string(), "2 hit, 0 miss, 1 moved, 0 detour, 0 refused, 0 forged, 0 expired");
/// ```
///
/// **Guarantees**
/// - Equal keys and endpoints give equal choices in every process, in whatever order the endpoints came.
/// - A session whose endpoint drains, leaves, is ejected or not ready moves to one other. Nothing is remembered, so that
///   it goes back where its first choice comes back; an endpoint that comes new takes its share of the sessions over, one
///   by one while it is [warming](super::SlowStart), and no others move.
/// - A further attempt of the same request (retry, hedge) goes elsewhere, by the other picker, and moves nothing. A strict
///   session's attempts all go to its endpoint.
/// - Where so many endpoints are ejected that [all are used](super::Ejection::panic), sessions stay where they are.
///
/// **Not guaranteed**: that sessions are spread by weight; that a key chosen by a hostile caller does not crowd one
/// endpoint: let it be a key that was given out, or take the cookie. A session that is new to a set costs a
/// multiplication or two per endpoint; from 32 endpoints on, where it belongs is remembered for the 16,384 keys that came
/// last. One whose endpoint cannot be picked is looked for again each time.
///
/// # Errors
/// With [`strict`](Self::strict), [`Kind::Unavailable`] naming the endpoint that cannot be picked, instead of moving: the
/// request [was not sent](Error::is_unsent).
///
/// Around another it is the outermost picker: inside a [`Subset`](super::Subset) sessions would stay among the few of this
/// client, and other balancers have other few.
#[derive(Clone)]
pub struct Affinity<F, P = LeastPending> {
    by: F,
    strict: bool,
    counters: Counters,
    picker: P,
}

impl Affinity<()> {
    /// By the session that this function sees in a request.
    pub fn by<Req: ?Sized, F: Fn(&Req) -> Session>(by: F) -> Affinity<F> {
        Affinity { by, strict: false, counters: Counters::default(), picker: LeastPending }
    }
}

impl<F, P> Affinity<F, P> {
    /// Chooses by this picker where there is no session.
    #[must_use]
    pub fn or<Q>(self, picker: Q) -> Affinity<F, Q> {
        Affinity { by: self.by, strict: self.strict, counters: self.counters, picker }
    }

    /// Fails requests instead of moving their sessions.
    #[must_use]
    pub fn strict(self, strict: bool) -> Self {
        Affinity { strict, ..self }
    }

    /// What became of the requests so far, over all clones.
    pub fn stats(&self) -> AffinityStats {
        self.counters.stats()
    }
}

impl<Req: ?Sized, F: Fn(&Req) -> Session, P: Picker<Req>> Picker<Req> for Affinity<F, P> {
    fn choose<S>(&self, among: &Among<'_, S>, request: &Req, draw: &mut Draw) -> Option<Choice> {
        settle((self.by)(request), self.strict, &self.counters, among, draw, |among, draw| match draw {
            Ok(draw) => self.picker.choose(among, request, draw),
            Err(place) => Some(Picker::<Req>::fixed(&self.picker, among, place)),
        })
    }

    fn fixed<S>(&self, among: &Among<'_, S>, place: usize) -> Choice {
        Picker::<Req>::fixed(&self.picker, among, place)
    }
}

impl<F, P: fmt::Debug> fmt::Debug for Affinity<F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Affinity({}, {:?})", self.stats(), self.picker)
    }
}

impl<S, C, P: Clone> Replicas<S, C, P> {
    /// The requests of a session to one endpoint, by the session that this function sees in them: [`Affinity`] around the
    /// picker that it has.
    ///
    /// ```
    /// use seedpod::serving::{Replicas, affinity::Session};
    ///
    /// let replicas = Replicas::named("cart").affinity(|customer: &&str| Session::of(customer));
    /// # replicas.endpoints().insert("a", ());
    /// # assert!(replicas.pick_for(&"ann").is_some());
    /// ```
    #[must_use]
    pub fn affinity<Req: ?Sized, F: Fn(&Req) -> Session>(self, by: F) -> Replicas<S, C, Affinity<F, P>> {
        let picker = self.picker.clone();
        self.pick_by(Affinity::by(by).or(picker))
    }
}

impl<S, C, P> Replicas<S, C, P> {
    /// How it chooses.
    pub fn picker(&self) -> &P {
        &self.picker
    }
}

/// What a request says of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session(Said);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Key(u64),
    /// The session's number, and its endpoint's place; none where that one is gone.
    Bound(u64, Option<usize>),
}

impl Session {
    /// It has none.
    pub const NONE: Session = Session(Said::Nothing);

    /// The session of this key: a header's value, or what a function makes of the request. An empty key is no session.
    pub fn of(key: impl AsRef<[u8]>) -> Self {
        let key = key.as_ref();
        if key.is_empty() { Session::NONE } else { Session(Said::Key(rendezvous::of(key))) }
    }

    /// The session of this number, bound to the endpoint at this place; none where it has left.
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "cookies alone bind"))]
    fn bound(number: u64, endpoint: Option<usize>) -> Self {
        Session(Said::Bound(number, endpoint))
    }
}

/// What affinity has made of the last pick of a handle.
#[derive(Debug, Default)]
pub(crate) enum Told {
    /// Nothing: it has no session.
    #[default]
    Nothing,
    Stayed,
    Moved,
    /// This once elsewhere.
    Detour,
    /// Why there was none.
    Refused(Error),
}

/// Follows a session, or asks another picker: with the draw for any endpoint, else for this place.
fn settle<S>(
    session: Session,
    strict: bool,
    counters: &Counters,
    among: &Among<'_, S>,
    draw: &mut Draw,
    other: impl FnOnce(&Among<'_, S>, Result<&mut Draw, usize>) -> Option<Choice>,
) -> Option<Choice> {
    let (told, choice, counter): (_, _, fn(&Counts) -> &AtomicU64) = match decide(session, strict, among) {
        Decision::Stay(place) => (Told::Stayed, other(among, Err(place)), |counts| &counts.hit),
        Decision::Moved(place) => (Told::Moved, other(among, Err(place)), |counts| &counts.moved),
        // whoever asks for another endpoint then asks for any: that is the session's own
        Decision::Detour if strict => (Told::Nothing, None, |counts| &counts.detour),
        Decision::Detour => (Told::Detour, other(among, Ok(draw)), |counts| &counts.detour),
        Decision::Any => (Told::Nothing, other(among, Ok(draw)), |counts| &counts.miss),
        Decision::Homeless(home) => {
            draw.told = Told::Refused(homeless(home.map(|home| among.key(home))));
            // a further attempt asks twice: among those that were not tried, then among all
            if !(among.is_narrowed() && attempt::any_tried()) {
                counters.add(|counts| &counts.refused);
            }
            return None;
        }
    };
    draw.told = told;
    if choice.is_some() {
        counters.add(counter);
    }
    choice
}

#[cold]
fn homeless(endpoint: Option<&str>) -> Error {
    let (place, says) = match endpoint {
        Some(key) => (key, "it cannot be picked, and sessions are strict"),
        None => ("affinity", "the session's endpoint is gone, and sessions are strict"),
    };
    Error::new(Kind::Unavailable, says).at(place).unsent()
}

/// What became of the requests so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AffinityStats {
    /// Went to the endpoint of their session.
    pub hit: u64,
    /// Had no session.
    pub miss: u64,
    /// Went elsewhere, since the endpoint of their session could not be picked.
    pub moved: u64,
    /// Went elsewhere this once, since an earlier attempt had gone to the endpoint of their session.
    pub detour: u64,
    /// Failed since they would have had to move, where sessions are strict.
    pub refused: u64,
    /// Came with a cookie that we did not sign, or not so.
    pub forged: u64,
    /// Came with a cookie that was ours and too old.
    pub expired: u64,
}

impl fmt::Display for AffinityStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AffinityStats { hit, miss, moved, detour, refused, forged, expired } = self;
        write!(f, "{hit} hit, {miss} miss, {moved} moved, {detour} detour, {refused} refused, ")?;
        write!(f, "{forged} forged, {expired} expired")
    }
}

/// Counts by thread, so that threads do not wait for each other's cache line.
#[derive(Clone, Debug, Default)]
struct Counters(Arc<[Apart<Counts>; STRIPES]>);

#[derive(Debug, Default)]
struct Counts {
    hit: AtomicU64,
    miss: AtomicU64,
    moved: AtomicU64,
    detour: AtomicU64,
    refused: AtomicU64,
    forged: AtomicU64,
    expired: AtomicU64,
}

impl Counters {
    fn add(&self, counter: impl Fn(&Counts) -> &AtomicU64) {
        if let Some(counts) = self.0.get(stripe()) {
            counter(&counts.0).fetch_add(1, Relaxed);
        }
    }

    fn stats(&self) -> AffinityStats {
        let sum =
            |counter: fn(&Counts) -> &AtomicU64| self.0.iter().map(|counts| counter(&counts.0).load(Relaxed)).sum();
        AffinityStats {
            hit: sum(|counts| &counts.hit),
            miss: sum(|counts| &counts.miss),
            moved: sum(|counts| &counts.moved),
            detour: sum(|counts| &counts.detour),
            refused: sum(|counts| &counts.refused),
            forged: sum(|counts| &counts.forged),
            expired: sum(|counts| &counts.expired),
        }
    }
}
