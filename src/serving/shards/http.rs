//! Shards behind HTTP: the map's version goes out as a header, a refusal comes back as a status.

use super::{Moved, Route};
use crate::{
    base::{Error, Result},
    http::{Body, text},
};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};

/// The header that carries a map's version: in a request the one that it was sent under, in a refusal the one that says
/// where to ask, with `, undecided` behind it where the shard [does not know it yet](Moved::undecided).
pub const MAP_VERSION: HeaderName = HeaderName::from_static("shard-map-version");

/// Routes HTTP requests as another [`Route`] does, and carries the version of the router's map in the header
/// [`MAP_VERSION`]: the same at the router and at the fence.
///
/// What a caller has set there himself is replaced when the router sends the request on.
///
/// ```
/// use http::Request;
/// use seedpod::serving::{By, Route, Versioned};
///
/// let by_path = Versioned(By::new(|request: &Request<String>| request.uri().path()));
/// let mut request = Request::get("http://carts/ann").body(String::new())?;
/// by_path.stamp(&mut request, 7);
/// assert_eq!(request.headers()["shard-map-version"], "7");
/// assert_eq!(by_path.version(&request), Some(7));
/// # Ok::<(), seedpod::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Versioned<R>(pub R);

impl<B, R: Route<Request<B>>> Route<Request<B>> for Versioned<R> {
    fn with_key<T>(&self, request: &Request<B>, then: impl FnOnce(&[u8]) -> T) -> T {
        self.0.with_key(request, then)
    }

    fn each_key(&self, request: &Request<B>, then: impl FnMut(&[u8])) {
        self.0.each_key(request, then);
    }

    fn stamp(&self, request: &mut Request<B>, version: u64) {
        request.headers_mut().insert(MAP_VERSION, HeaderValue::from(version));
    }

    fn version(&self, request: &Request<B>) -> Option<u64> {
        version(request.headers().get(MAP_VERSION))
    }
}

impl Moved {
    /// The server's end of a refusal: what a [fence](super::FenceLayer) refused is answered by 421 Misdirected Request and
    /// the version in the header [`MAP_VERSION`]. Everything else passes through. For `map_result`, around a fenced service.
    ///
    /// ```
    /// use seedpod::{Error, http, serving::Moved};
    ///
    /// let refused = Moved::answer(Err(Moved::at(7).into()))?;
    /// assert_eq!((refused.status().as_u16(), &refused.headers()["shard-map-version"]), (421, &"7".parse().unwrap()));
    /// assert_eq!(Moved::read(Ok(refused)).unwrap_err().chain(), "conflict: the key has moved: map 7 says where");
    /// assert_eq!(Moved::read(Ok(http::text(200, "ann")))?.status(), 200);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// Those that come in, but for refusals.
    pub fn answer(result: Result<Response<Body>>) -> Result<Response<Body>> {
        let moved = match &result {
            Err(error) => Moved::of(error),
            Ok(_) => None,
        };
        let Some(moved) = moved else { return result };
        let mut response = text(StatusCode::MISDIRECTED_REQUEST, moved.to_string());
        let version = HeaderValue::from(moved.version());
        let told = match moved.is_decided() {
            true => version,
            false => HeaderValue::try_from(format!("{}{UNDECIDED}", moved.version())).unwrap_or(version),
        };
        response.headers_mut().insert(MAP_VERSION, told);
        Ok(response)
    }

    /// The client's end: a response that is such a refusal is the error again, so that [`Shards`](super::Shards) waits for
    /// the map and sends the request anew. For `map_result`, around a client.
    ///
    /// A 421 without a version, or with one that cannot be read, is a response like any other.
    ///
    /// # Errors
    /// [`Moved`], and those that come in.
    pub fn read<B>(result: Result<Response<B>>) -> Result<Response<B>> {
        let response = result?;
        let header =
            response.headers().get(MAP_VERSION).filter(|_| response.status() == StatusCode::MISDIRECTED_REQUEST);
        match header.and_then(refusal) {
            Some(moved) => Err(Error::from(moved)),
            None => Ok(response),
        }
    }
}

/// Stands behind a version that the shard does not know yet.
const UNDECIDED: &str = ", undecided";

fn refusal(header: &HeaderValue) -> Option<Moved> {
    let told = header.to_str().ok()?;
    match told.strip_suffix(UNDECIDED) {
        Some(version) => version.parse().ok().map(Moved::undecided),
        None => told.parse().ok().map(Moved::at),
    }
}

fn version(header: Option<&HeaderValue>) -> Option<u64> {
    header?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::Kind,
        serving::{By, Endpoints, Fence, FenceLayer, ShardMap, ShardMaps, Shards},
    };
    use futures::FutureExt;
    use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};

    type Sent = Request<&'static str>;
    type Endpoint = BoxCloneSyncService<Sent, Response<Body>, Error>;
    type ByPath = Versioned<By<fn(&Sent) -> &str>>;

    fn by_path() -> ByPath {
        Versioned(By::new(|request| request.uri().path()))
    }

    /// A shard behind a fence of its own maps, as it looks from the other end of the wire.
    fn shard(name: &'static str, maps: &ShardMaps) -> Endpoint {
        let fence = FenceLayer::new(Fence::new(name, maps.clone()), by_path());
        let serve = service_fn(move |_: Sent| async move { Ok::<_, Error>(text(200, name)) });
        BoxCloneSyncService::new(fence.layer(serve).map_result(Moved::answer).map_result(Moved::read))
    }

    #[tokio::test(start_paused = true)]
    async fn a_router_whose_map_is_old_waits_for_the_next_and_one_whose_map_is_new_for_the_shard() {
        let old = ShardMap::planned(["s0"]).build().unwrap();
        let new = old.next(|shards| {
            shards.add("s1").remove("s0");
        });
        let new = new.unwrap();
        let (routed, theirs) = (ShardMaps::new(old.clone()), ShardMaps::new(old.clone()));
        let endpoints = Endpoints::named("store");
        endpoints.insert("s0", shard("s0", &theirs));
        endpoints.insert("s1", shard("s1", &theirs));
        let mut shards = Shards::routed(routed.clone(), by_path(), endpoints.clone());
        let request = || Request::get("/ann").body("").unwrap();
        let body = async |response: Response<Body>| response.into_body().text().await.unwrap();
        assert_eq!(body(shards.call(request()).await.unwrap()).await, "s0");

        theirs.publish(new.clone()).unwrap();
        let mut waiting = Box::pin(shards.call(request()));
        assert!(waiting.as_mut().now_or_never().is_none());
        routed.publish(new.clone()).unwrap();
        assert_eq!(body(waiting.await.unwrap()).await, "s1");

        let newer = new.with_version(9);
        routed.publish(newer.clone()).unwrap();
        let mut waiting = Box::pin(shards.call(request()));
        assert!(waiting.as_mut().now_or_never().is_none(), "it was sent under map 9, which the shard does not know");
        theirs.publish(newer).unwrap();
        assert_eq!(body(waiting.await.unwrap()).await, "s1");
    }

    #[test]
    fn a_refusal_comes_out_as_it_went_in() {
        for moved in [Moved::at(7), Moved::undecided(7), Moved::at(u64::MAX)] {
            let error = Moved::read(Moved::answer(Err(moved.into()))).unwrap_err();
            assert_eq!(Moved::of(&error), Some(moved));
        }
    }

    #[test]
    fn what_is_no_refusal_passes_through() {
        let other = || Error::new(Kind::Conflict, "two writers");
        assert_eq!(Moved::answer(Err(other())).unwrap_err().to_string(), "conflict: two writers");
        assert_eq!(Moved::read::<Body>(Err(other())).unwrap_err().to_string(), "conflict: two writers");
        for version in ["", "-1", "seven", "18446744073709551616"] {
            let mut response = text(421, "");
            response.headers_mut().insert(MAP_VERSION, version.parse().unwrap());
            assert_eq!(Moved::read(Ok(response)).unwrap().status(), 421);
            let request = Request::get("/").header(MAP_VERSION, version).body("").unwrap();
            assert_eq!(by_path().version(&request), None);
        }
        let mut response = text(200, "");
        response.headers_mut().insert(MAP_VERSION, HeaderValue::from(7_u64));
        assert!(Moved::read(Ok(response)).is_ok());
    }
}
