//! Replicas whose sessions are kept by a cookie.

use super::{
    AffinityStats, Cookie, Counters, Session, Told,
    cookie::{Read, Roster, Ticket},
    settle,
};
use crate::{
    base::{BoxError, Error, time::WallClock},
    layer::{Classify, Standard},
    serving::{Among, Choice, Draw, Endpoints, LeastPending, Picker, Replicas, part::Memo, replicas::Calling},
};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{CACHE_CONTROL, SET_COOKIE},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower::Service;

/// Replicas whose sessions are kept by a [`Cookie`]: whoever answers the first request of a session answers the others.
///
/// Made by [`Replicas::sticky`]. A request without a session goes where the picker says; the response sets a cookie that
/// names the endpoint to whoever has the key, and nobody else. So nothing is remembered here, and any balancer that has
/// the key finds the endpoint.
///
/// ```text
/// browser ── GET /cart ─────────────────► Sticky ─?─► cart-b
///         ◄─ Set-Cookie: seat=01f3… ─────
///         ── GET /cart, Cookie: seat=… ─► Sticky ───► cart-b, until it drains: then once to another
/// ```
///
/// ```
/// use http::{Request, Response, header::{COOKIE, SET_COOKIE}};
/// use seedpod::{base::Error, serving::{Endpoints, Replicas, affinity::{Cookie, CookieKey}}};
/// use tower::{ServiceExt, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let endpoints = Endpoints::named("cart");
/// let cart = Replicas::new(endpoints.clone()).sticky(Cookie::new("seat", CookieKey::new(&[7; 32])?)?);
/// for key in ["a", "b", "c"] {
///     endpoints.insert(key, service_fn(move |_: Request<()>| async move { Ok::<_, Error>(Response::new(key)) }));
/// }
/// let first = cart.clone().oneshot(Request::new(())).await?;
/// let cookie = first.headers()[SET_COOKIE].to_str().unwrap().split(';').next().unwrap();
/// for _ in 0..100 {
///     let again = Request::builder().header(COOKIE, cookie).body(()).unwrap();
///     assert_eq!(cart.clone().oneshot(again).await?.body(), first.body());
/// }
/// assert_eq!((cart.stats().miss, cart.stats().hit), (1, 100));
/// # Ok::<_, Error>(()) }).unwrap();
/// ```
///
/// **Guarantees**
/// - A session whose endpoint drains, leaves, is ejected or not ready moves once, to the same from whichever balancer, and
///   stays there whoever comes or comes back.
/// - A cookie that is forged, expired or of another key is counted and never followed: the request counts as the first of
///   a new session.
/// - A further attempt of the same request (retry, hedge: in front of this) goes elsewhere and sets no cookie while the
///   session's endpoint is well. A strict session's attempts all go to its endpoint.
/// - A response with a status of 5xx sets no cookie. All others of a new or moved session do, and those that come when
///   half the cookie's time is over, or with one that a previous key has signed.
/// - A cache in front gives nobody another's cookie: a response that sets one says `Cache-Control: no-cache="set-cookie"`,
///   beside what it said before, and is kept without it (RFC 9111 §5.2.2.4). One that sets other cookies too is its
///   user's, and says `private`.
///
/// **Not guaranteed**: that sessions are spread evenly over endpoints that come later: those that exist stay where they
/// are.
///
/// # Errors
/// Those of [`Replicas`]. With [`strict`](Self::strict), [`Kind::Unavailable`](crate::base::Kind::Unavailable) naming the
/// endpoint that cannot be picked: the request [was not sent](Error::is_unsent).
pub struct Sticky<S, C = Standard, P = LeastPending> {
    replicas: Replicas<S, C, Seated<P>>,
    clock: WallClock,
}

/// Follows the ticket that the cookie was.
#[derive(Clone, Debug)]
struct Seated<P> {
    cookie: Arc<Cookie>,
    strict: bool,
    counters: Counters,
    roster: Memo<Roster>,
    picker: P,
}

impl<S, C, P: Clone> Replicas<S, C, P> {
    /// Keeps sessions by this cookie: [`Sticky`] around the picker that it has.
    pub fn sticky(self, cookie: Cookie) -> Sticky<S, C, P> {
        let (cookie, counters, roster) = (Arc::new(cookie), Counters::default(), Memo::new());
        let seated = Seated { cookie, strict: false, counters, roster, picker: self.picker.clone() };
        Sticky { replicas: self.pick_by(seated), clock: WallClock::ambient() }
    }
}

impl<S, C, P: Clone> Sticky<S, C, P> {
    /// Fails requests instead of moving their sessions; for a handle that nobody has cloned yet.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.replicas.picker.strict = strict;
        self
    }

    /// Reads the age of cookies by this clock.
    #[must_use]
    pub fn clock(self, clock: WallClock) -> Self {
        Sticky { clock, ..self }
    }

    /// The set behind it.
    pub fn endpoints(&self) -> &Endpoints<S> {
        self.replicas.endpoints()
    }

    /// What became of the requests so far, over all clones.
    pub fn stats(&self) -> AffinityStats {
        self.replicas.picker.counters.stats()
    }
}

impl<P> Seated<P> {
    /// What the request's cookies say; what is not ours is counted.
    fn ticket<B>(&self, request: &Request<B>, clock: WallClock) -> Option<Ticket> {
        match self.cookie.read(request.headers(), clock.now()) {
            Read::Valid(ticket) => return Some(ticket),
            Read::Missing => {}
            Read::Forged => self.counters.add(|counts| &counts.forged),
            Read::Expired => self.counters.add(|counts| &counts.expired),
        }
        None
    }

    fn session<S>(&self, ticket: &Ticket, among: &Among<'_, S>) -> Session {
        let keys = (0..among.len()).map(|place| among.key(place));
        let find = |roster: &Roster| roster.find(ticket);
        let home = self.roster.with((among.snapshot.id, 0), |_| self.cookie.roster(keys), find);
        Session::bound(ticket.session(), home)
    }
}

impl<B, P: Picker<Request<B>>> Picker<Request<B>> for Seated<P> {
    fn choose<S>(&self, among: &Among<'_, S>, request: &Request<B>, draw: &mut Draw) -> Option<Choice> {
        let ticket = request.extensions().get::<Ticket>();
        let session = ticket.map_or(Session::NONE, |ticket| self.session(ticket, among));
        settle(session, self.strict, &self.counters, among, draw, |among, draw| match draw {
            Ok(draw) => self.picker.choose(among, request, draw),
            Err(place) => Some(Picker::<Request<B>>::fixed(&self.picker, among, place)),
        })
    }
}

impl<S, C, P, B, R> Service<Request<B>> for Sticky<S, C, P>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError> + 'static,
    C: Classify<Response<R>> + Clone,
    P: Picker<Request<B>>,
{
    type Response = Response<R>;
    type Error = Error;
    type Future = Seating<S, Request<B>, C>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.replicas.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let ticket = self.replicas.picker.ticket(&request, self.clock);
        match ticket {
            Some(ticket) => drop(request.extensions_mut().insert(ticket)),
            None => drop(request.extensions_mut().remove::<Ticket>()), // of a balancer in front of this one
        }
        let call = self.replicas.call(request);
        let seat = self.seat(ticket, call.lease.cell().map(|cell| cell.key()));
        Seating { call, seat }
    }
}

impl<S, C, P> Sticky<S, C, P> {
    /// The cookie that the response is to set, where it is to set one: the call goes to the endpoint of this key.
    fn seat(&mut self, ticket: Option<Ticket>, endpoint: Option<&Arc<str>>) -> Option<Seat> {
        let draw = self.replicas.draw.as_mut()?;
        let session = match (ticket, &draw.told) {
            (Some(ticket), Told::Stayed) if !ticket.renew() => return None,
            (_, Told::Detour) => return None,
            (Some(ticket), _) => ticket.session(),
            (None, _) => draw.word(),
        };
        let cookie = self.replicas.picker.cookie.clone();
        Some(Seat { cookie, endpoint: endpoint?.clone(), session, clock: self.clock })
    }
}

/// Where a session is from now on.
struct Seat {
    cookie: Arc<Cookie>,
    endpoint: Arc<str>,
    session: u64,
    clock: WallClock,
}

pin_project! {
    /// The future of [`Sticky`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Seating<S: Service<Req>, Req, C> {
        #[pin]
        call: Calling<S, Req, C>,
        seat: Option<Seat>,
    }
}

impl<S, Req, C, R> Future for Seating<S, Req, C>
where
    S: Service<Req, Response = Response<R>>,
    S::Error: Into<BoxError> + 'static,
    C: Classify<Response<R>>,
{
    type Output = Result<Response<R>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.call.poll(cx))?;
        if let Some(seat) = this.seat.take().filter(|_| !response.status().is_server_error()) {
            let set = seat.cookie.issue(&seat.endpoint, seat.session, seat.clock.now());
            give(response.headers_mut(), set);
        }
        Poll::Ready(Ok(response))
    }
}

/// Gives a session its cookie, and keeps it out of caches.
fn give(headers: &mut HeaderMap, cookie: HeaderValue) {
    // without its cookies, an answer that sets others might seem to be for all
    let control = if headers.contains_key(SET_COOKIE) { "private" } else { "no-cache=\"set-cookie\"" };
    headers.append(SET_COOKIE, cookie);
    headers.append(CACHE_CONTROL, HeaderValue::from_static(control));
}

impl<S, C: Clone, P: Clone> Clone for Sticky<S, C, P> {
    fn clone(&self) -> Self {
        Sticky { replicas: self.replicas.clone(), clock: self.clock }
    }
}

impl<S, C, P> fmt::Debug for Sticky<S, C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sticky").field(&self.replicas).finish()
    }
}

impl<S: Service<Req>, Req, C> fmt::Debug for Seating<S, Req, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seating").field("call", &self.call).finish_non_exhaustive()
    }
}
