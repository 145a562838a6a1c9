//! What a request is routed by: its key, and the version of the map it was sent under.

use super::super::ShardKey;
use std::fmt;

/// What a request is routed by, the same at the router and at the fence: its key, and the version of the map that it was
/// sent under, where it carries that.
///
/// Made of a function: [`By`] borrows the key from the request, [`Computed`] makes one. Implement it for requests that
/// carry the version, or that have several keys: the first one routes, and a fence asks for all.
///
/// ```
/// use seedpod::serving::Route;
///
/// struct Get { key: String, map: Option<u64> }
///
/// /// The key, and the version beside it.
/// #[derive(Clone)]
/// struct Stamped;
///
/// impl Route<Get> for Stamped {
///     fn with_key<T>(&self, request: &Get, then: impl FnOnce(&[u8]) -> T) -> T {
///         then(request.key.as_bytes())
///     }
///     fn stamp(&self, request: &mut Get, version: u64) {
///         request.map = Some(version);
///     }
///     fn version(&self, request: &Get) -> Option<u64> {
///         request.map
///     }
/// }
/// ```
pub trait Route<Req> {
    /// Shows the key's bytes.
    fn with_key<T>(&self, request: &Req, then: impl FnOnce(&[u8]) -> T) -> T;

    /// Shows each key's bytes, for a request that has several. Unless overridden, the one.
    fn each_key(&self, request: &Req, mut then: impl FnMut(&[u8])) {
        self.with_key(request, |key| then(key));
    }

    /// Writes the version of the map into a request that is about to leave. Unless overridden, it carries none.
    fn stamp(&self, _request: &mut Req, _version: u64) {}

    /// The version that a request carries.
    fn version(&self, _request: &Req) -> Option<u64> {
        None
    }
}

/// Borrows the key from the request.
#[derive(Clone, Copy)]
pub struct By<F>(F);

impl<F> By<F> {
    /// By this function.
    pub const fn new<Req, K>(key: F) -> Self
    where
        F: Fn(&Req) -> &K,
        K: ShardKey + ?Sized,
    {
        By(key)
    }
}

/// Makes the key from the request.
///
/// ```
/// use seedpod::{Error, layer::Request, serving::{Computed, Endpoints, ShardMap, Shards}};
/// use tower::{Service, service_fn};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let endpoints = Endpoints::named("carts");
/// endpoints.insert("s0", service_fn(|request: Request<(u32, u32)>| async move { Ok::<_, Error>(request.into_message().1) }));
/// let tenant_and_user = Computed::new(|request: &Request<(u32, u32)>| {
///     let (tenant, user) = *request.message();
///     u64::from(tenant) << 32 | u64::from(user)
/// });
/// let mut shards = Shards::routed(ShardMap::planned(["s0"]).build()?, tenant_and_user, endpoints);
/// assert_eq!(shards.call(Request::new((7, 9))).await?, 9);
/// # Ok::<_, Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy)]
pub struct Computed<F>(F);

impl<F> Computed<F> {
    /// By this function.
    pub const fn new<Req, K>(key: F) -> Self
    where
        F: Fn(&Req) -> K,
        K: ShardKey,
    {
        Computed(key)
    }
}

impl<Req, F, K> Route<Req> for By<F>
where
    F: Fn(&Req) -> &K,
    K: ShardKey + ?Sized,
{
    #[inline(always)]
    fn with_key<T>(&self, request: &Req, then: impl FnOnce(&[u8]) -> T) -> T {
        then((self.0)(request).shard_bytes().as_ref())
    }
}

impl<Req, F, K> Route<Req> for Computed<F>
where
    F: Fn(&Req) -> K,
    K: ShardKey,
{
    #[inline(always)]
    fn with_key<T>(&self, request: &Req, then: impl FnOnce(&[u8]) -> T) -> T {
        then((self.0)(request).shard_bytes().as_ref())
    }
}

impl<F> fmt::Debug for By<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("By")
    }
}

impl<F> fmt::Debug for Computed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Computed")
    }
}
