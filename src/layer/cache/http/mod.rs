//! Answers to HTTP requests are kept and given again as HTTP has it: RFC 9111.
//!
//! It may use the mechanism beside it (what is kept within bounds, one call for all who want it) and the plain types of
//! the `http` crate. The rules are pure and take the time as an argument; `service` obeys them.

use super::store::{Bounds, Store};
use crate::base::{
    Result,
    sync::{Arc, Lock},
    time::WallClock,
};
use crate::layer::flight::{Aboard, Flights, Limits};
use ::http::HeaderMap;
use std::{fmt, time::Duration};

mod body;
mod directives;
mod fetch;
mod handle;
mod route;
mod rules;
mod service;
mod status;
mod stored;
mod url;

pub use body::KeptBody;
pub(crate) use body::{Read, read};
pub use handle::{HttpCacheHandle, HttpCacheStats};
pub use service::{HttpCache, HttpCaching};
pub(crate) use stored::copied;
pub(crate) use url::of as address;

use directives::Asked;
use fetch::Fetched;
use rules::Rules;
use stored::{Group, Stored};

/// Keeps answers to HTTP requests and gives them again, as RFC 9111 has it: in front of replicas, one cache for all
/// endpoints, asked before the pick.
///
/// ```text
/// GET /a ──► fresh? ──────────────────────────────────────► the kept answer       Age: 7
///              │ stale ──► has it changed? ── 304, not ───► the kept answer, fresh again
///              │ none               └──────── 200, yes ───► the new one, kept
///              └──► one call for all who ask at a time        └ 5xx, nobody there ► the stale one
/// ```
///
/// What may be kept, how long, and for whom, is said by the headers: `Cache-Control` of both sides, `Expires`, `Age`,
/// `Vary`, validators, `Authorization`. What they leave open is set here.
///
/// | setting | default | whose |
/// | --- | --- | --- |
/// | [`private`](Self::private) | no: it stands between several users and the service | RFC 9111 |
/// | [`heuristic`](Self::heuristic) | a tenth of the time since `Last-Modified`, a day at most | RFC 9111 §4.2.2, RFC 7234 |
/// | [`stale_while_revalidate`](Self::stale_while_revalidate) | as answers say | RFC 5861 |
/// | [`stale_if_error`](Self::stale_if_error) | as answers say, or else 10 s | Varnish `default_grace` |
/// | [`body`](Self::body) | 1 MiB; longer ones pass as they come | |
/// | [`bytes`](Self::bytes), [`urls`](Self::urls) | 64 MiB, 10,000 | |
/// | [`variants`](Self::variants) | 32 of each URL, by `Vary` | |
/// | [`alone`](Self::alone) | 120 s in which none waits for what turned out to be for one alone | Varnish's hit-for-miss |
/// | [`calls`](Self::calls), [`waiters`](Self::waiters) | 10,000 each; any beyond are refused | linkerd's request queue |
/// | [`clock`](Self::clock) | the system's time; in a simulation the fixed one | |
///
/// **Guarantees**
/// - A thousand who miss at once make one call, whoever of them stays. What turns out not to be for others is given to none
///   of them: they go on by themselves, and for a while none waits for the like. Requests with `Authorization`, and such
///   as do not want a kept answer, wait for no other's.
/// - Where the call fails, or answers 500, 502, 503 or 504, a stale answer is given, unless the answer itself, or the
///   request, forbids it: so while all replicas are out.
/// - An unsafe request that succeeds forgets its URL, and those of the same origin in `Location` and `Content-Location`;
///   what was asked for before it, or before a [`purge`](HttpCacheHandle::purge), is not kept after it.
/// - Fields that an answer names in `no-cache="…"` or `private="…"` reach the one whose request was sent, and nobody else.
/// - HEAD is answered from a kept GET; a client that has the answer already (`If-None-Match`, `If-Modified-Since`) gets 304.
/// - `Age` on what was kept, and `Cache-Status` (RFC 9211) on every answer tell how it came.
/// - Never more bytes than set, heads, trailers and places included; what goes first is decided by S3-FIFO. Whatever
///   headers say, nothing overflows, and nothing is fresh for more than 68 years.
/// - Always ready: the service, which must be `Sync` for that, is cloned once per call made, and made ready inside it.
///
/// **Passed on, and not kept**: methods other than GET and HEAD, requests with a body, with `Range` or other conditions, with
/// two different hosts; parts (206). In a shared cache an answer with `Set-Cookie` is one user's, unless it says `public` or
/// `s-maxage`, or leaves the cookie out (`no-cache="set-cookie"`); and the answer to a request with `Cookie` is never taken
/// as fresh by heuristic. `s-maxage` forbids stale answers, except those that the same answer allows.
///
/// **Not guaranteed**: that a kept answer's first byte comes before its last: it is read to its end, up to the limit, before
/// it is given.
///
/// # Errors
/// [`Kind::Overloaded`](crate::base::Kind::Overloaded) where too many calls are under way or wait for one. Errors of the
/// service are given to all who wait, widened where they are foreign; so is that of a body which breaks off. With
/// `only-if-cached` and nothing kept the answer is 504.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use seedpod::{Error, layer::HttpCacheLayer};
/// use tower::{Layer, Service, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let page = service_fn(|_: Request<Full<Bytes>>| async {
///     Response::builder().header("cache-control", "max-age=60").body(Full::from("hello")).map_err(Error::from)
/// });
/// let layer = HttpCacheLayer::new();
/// let mut service = layer.layer(page);
/// let request = || Request::get("http://shop/").body(Full::default()).unwrap();
/// let first = service.call(request()).await?;
/// assert_eq!(first.headers()["cache-status"], "seedpod; fwd=uri-miss; fwd-status=200; stored; ttl=60");
/// tokio::time::sleep(std::time::Duration::from_secs(7)).await;
/// let again = service.call(request()).await?;
/// assert_eq!((&again.headers()["age"], &again.headers()["cache-status"]), (&"7".parse()?, &"seedpod; hit; ttl=53".parse()?));
/// layer.handle().purge("http://shop/")?;
/// # Ok::<_, seedpod::BoxError>(()) }).unwrap();
/// ```
pub struct HttpCacheLayer<B> {
    shared: Arc<Shared<B>>,
}

/// Under which name a call is under way: the address, what distinguishes the request, and a number of its own where it is
/// made for one alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    url: Arc<str>,
    variant: Vec<u8>,
    alone: u64,
}

struct Shared<B> {
    flights: Arc<Flights<Key, Fetched<B>>>,
    state: Lock<State>,
}

struct State {
    store: Store<Arc<str>, Arc<Group>>,
    settings: Settings,
    stats: HttpCacheStats,
    tickets: u64,
}

#[derive(Clone, Debug)]
struct Settings {
    rules: Rules,
    body: usize,
    variants: usize,
    alone: Duration,
    clock: WallClock,
    name: Arc<str>,
}

impl<B> HttpCacheLayer<B> {
    /// A shared cache, named `seedpod`.
    pub fn new() -> Self {
        let rules = Rules {
            shared: true,
            heuristic: (0.1, Duration::from_secs(86_400)),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::from_secs(10),
        };
        let (alone, clock, name) = (Duration::from_secs(120), WallClock::ambient(), "seedpod".into());
        let settings = Settings { rules, body: 1 << 20, variants: 32, alone, clock, name };
        let store = Store::new(Bounds { bytes: 64 << 20, entries: 10_000 });
        let flights = Arc::new(Flights::new(Limits { flights: 10_000, waiters: 10_000 }));
        let state = Lock::new(State { store, settings, stats: HttpCacheStats::default(), tickets: 0 });
        HttpCacheLayer { shared: Arc::new(Shared { flights, state }) }
    }

    fn set(self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.shared.state.lock().settings);
        self
    }

    /// Is one user's own: it keeps what is `private`, and what was asked for with `Authorization`.
    #[must_use]
    pub fn private(self) -> Self {
        self.set(|settings| settings.rules.shared = false)
    }

    /// Takes an answer that does not say how long it is fresh as fresh for this part of the time since it was last
    /// changed, up to so long. A part that is not a positive number is none.
    #[must_use]
    pub fn heuristic(self, part: f64, most: Duration) -> Self {
        let part = if part.is_finite() { part.max(0.0) } else { 0.0 };
        self.set(|settings| settings.rules.heuristic = (part, most))
    }

    /// How much longer than fresh an answer that does not say it is given while one call refreshes it.
    #[must_use]
    pub fn stale_while_revalidate(self, more: Duration) -> Self {
        self.handle().set_stale_while_revalidate(more);
        self
    }

    /// How much longer than fresh an answer that does not say it is given in place of a failure.
    #[must_use]
    pub fn stale_if_error(self, more: Duration) -> Self {
        self.handle().set_stale_if_error(more);
        self
    }

    /// How many bytes of a body are read before it is given; an answer with a longer one is not kept.
    #[must_use]
    pub fn body(self, most: usize) -> Self {
        self.set(|settings| settings.body = most)
    }

    /// How many bytes are kept.
    #[must_use]
    pub fn bytes(self, most: usize) -> Self {
        self.handle().set_bytes(most);
        self
    }

    /// How many URLs there are answers of.
    #[must_use]
    pub fn urls(self, most: usize) -> Self {
        self.handle().set_urls(most);
        self
    }

    /// How many answers are kept of one URL, which differ by what `Vary` names; the oldest go first.
    #[must_use]
    pub fn variants(self, most: usize) -> Self {
        self.set(|settings| settings.variants = most.max(1))
    }

    /// How long, after an answer has turned out to be for one alone, nobody waits for another's call to that URL.
    #[must_use]
    pub fn alone(self, time: Duration) -> Self {
        self.set(|settings| settings.alone = time)
    }

    /// How many different calls may be under way at a time, those that refresh included.
    #[must_use]
    pub fn calls(self, most: usize) -> Self {
        self.handle().set_calls(most);
        self
    }

    /// How many may wait for one call, the first included.
    #[must_use]
    pub fn waiters(self, most: usize) -> Self {
        self.handle().set_waiters(most);
        self
    }

    /// What `Date` and `Expires` are compared with.
    #[must_use]
    pub fn clock(self, clock: WallClock) -> Self {
        self.set(|settings| settings.clock = clock)
    }

    /// Calls itself this in `Cache-Status`.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::base::Kind::Invalid) where it is empty, or not printable ASCII.
    pub fn named(self, name: &str) -> Result<Self> {
        let name = status::name(name)?;
        Ok(self.set(|settings| settings.name = name))
    }

    /// Reads, changes and purges what this layer, and all that it made, keeps.
    pub fn handle(&self) -> HttpCacheHandle<B> {
        HttpCacheHandle::new(self.shared.clone())
    }
}

impl<B> Default for HttpCacheLayer<B> {
    fn default() -> Self {
        HttpCacheLayer::new()
    }
}

impl<B> Clone for HttpCacheLayer<B> {
    fn clone(&self) -> Self {
        HttpCacheLayer { shared: self.shared.clone() }
    }
}

impl<B> fmt::Debug for HttpCacheLayer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle().fmt(f)
    }
}

impl<B> Shared<B> {
    /// Forgets a URL: nothing of it is kept, nor will be of what is under way.
    fn forget(&self, url: &Arc<str>) -> usize {
        let mut state = self.state.lock();
        let first = Key { url: url.clone(), variant: Vec::new(), alone: 0 };
        self.flights.recall_from(&first, |key| key.url == *url);
        let gone = state.store.remove(url);
        drop(state);
        gone.map_or(0, |group| group.answers.len())
    }

    /// Puts an answer, or none, in place of what would be given for this request; unless it was recalled.
    fn put(&self, url: &Arc<str>, request: &HeaderMap, answer: Option<Arc<Stored>>, aboard: &Aboard) {
        let mut state = self.state.lock();
        if aboard.is_recalled() {
            return;
        }
        let (variants, most) = (state.settings.variants, state.store.bounds().bytes);
        let mut group = state.store.get(url).map(|group| Group::clone(group)).unwrap_or_default();
        group.answers.retain(|kept| !kept.is_for(request));
        let (rules, now) = (&state.settings.rules, state.settings.clock.now());
        let shares = answer.as_ref().is_some_and(|new| rules.judge(&new.terms, &Asked::default(), now).gives());
        let alone = state.settings.alone.min(Duration::from_secs(directives::FOREVER));
        group.alone = (!shares).then(|| now + alone);
        group.answers.extend(answer);
        let mut weight = group.weight() + url.len();
        while group.answers.len() > variants || group.answers.len() > 1 && weight > most {
            weight -= group.answers.remove(0).weight();
        }
        let gone = state.store.insert(url.clone(), Arc::new(group), weight);
        drop(state);
        drop(gone);
    }
}

#[cfg(test)]
mod tests;
