//! The session that a header names.

use super::Session;
use http::{HeaderName, Request};

/// The session that this header names, the first where there are several: for
/// [`Replicas::affinity`](crate::serving::Replicas::affinity) and [`Affinity::by`](super::Affinity::by).
///
/// ```
/// use http::{HeaderName, Request};
/// use seedpod::serving::{Replicas, affinity::header};
///
/// let replicas = Replicas::named("cart").affinity(header(HeaderName::from_static("x-session")));
/// replicas.endpoints().insert("a", ());
/// let picked = replicas.pick_for(&Request::get("/cart").header("x-session", "4711").body(()).unwrap());
/// assert_eq!((picked.unwrap().key(), replicas.picker().stats().hit), ("a", 1));
/// ```
pub fn header<B>(name: HeaderName) -> impl Fn(&Request<B>) -> Session + Clone {
    move |request: &Request<B>| request.headers().get(&name).map_or(Session::NONE, Session::of)
}
