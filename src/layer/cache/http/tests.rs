//! The cache in front of a service that counts, on paused time.

use super::*;
use crate::base::{
    Error, Kind, Seed,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time,
};
use ::http::{HeaderValue, Method, Request, Response};
use bytes::Bytes;
use futures::{FutureExt, future::join_all, poll};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tower::{Layer, Service, service_fn, util::BoxCloneSyncService};

type Answer = UnsyncBoxBody<Bytes, Error>;
type Page = Arc<dyn Fn(&Request<Full<Bytes>>) -> Response<Answer> + Send + Sync>;
type Front = HttpCache<BoxCloneSyncService<Request<Full<Bytes>>, Response<Answer>, Error>, Answer>;

fn full(text: impl Into<Bytes>) -> Answer {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

/// `200`, then headers as `name: value`, then the body.
fn page(status: u16, headers: &[&str], body: &str) -> Response<Answer> {
    let mut response = Response::builder().status(status);
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        response = response.header(name, value);
    }
    response.body(full(body.to_owned())).unwrap()
}

/// Answers after a second as told; nobody is there while told nothing.
#[derive(Clone, Default)]
struct Origin {
    calls: Arc<AtomicU32>,
    page: Arc<Lock<Option<Page>>>,
}

impl Origin {
    fn new(page: impl Fn(&Request<Full<Bytes>>) -> Response<Answer> + Send + Sync + 'static) -> Self {
        let origin = Origin::default();
        origin.tell(page);
        origin
    }

    fn tell(&self, page: impl Fn(&Request<Full<Bytes>>) -> Response<Answer> + Send + Sync + 'static) {
        *self.page.lock() = Some(Arc::new(page));
    }

    fn front(&self, layer: &HttpCacheLayer<Answer>) -> Front {
        let origin = self.clone();
        layer.layer(BoxCloneSyncService::new(service_fn(move |request: Request<Full<Bytes>>| {
            origin.calls.fetch_add(1, SeqCst);
            let page = origin.page.clone();
            async move {
                time::sleep(Duration::from_secs(1)).await;
                let page = page.lock().clone();
                page.map(|page| page(&request)).ok_or(Error::from(Kind::Unavailable))
            }
        })))
    }

    fn calls(&self) -> u32 {
        self.calls.load(SeqCst)
    }
}

fn request(method: &str, path: &str, headers: &[&str]) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(format!("http://shop{path}"));
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    request.body(Full::default()).unwrap()
}

/// The status, the body, and what `Cache-Status` says.
async fn told(response: Response<KeptBody<Answer>>) -> (u16, String, String) {
    let said = response.headers()["cache-status"].to_str().unwrap().to_owned();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap(), said.replace("seedpod; ", ""))
}

async fn get(front: &mut Front, path: &str, headers: &[&str]) -> (u16, String, String) {
    told(front.call(request("GET", path, headers)).await.unwrap()).await
}

async fn pass(seconds: u64) {
    time::sleep(Duration::from_secs(seconds)).await;
}

fn answer(status: u16, body: &str, said: &str) -> (u16, String, String) {
    (status, body.into(), said.into())
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_fresh_then_asked_for_by_its_validator_and_kept_on() {
    let origin = Origin::new(|request| match request.headers().get("if-none-match") {
        Some(tag) if tag == "\"1\"" => page(304, &["etag: \"1\"", "cache-control: max-age=20", "x-new: yes"], ""),
        _ => page(200, &["etag: \"1\"", "cache-control: max-age=10", "content-length: 5", "x-old: yes"], "hello"),
    });
    let layer = HttpCacheLayer::new();
    let mut front = origin.front(&layer);
    let first = get(&mut front, "/", &[]).await;
    assert_eq!(first, answer(200, "hello", "fwd=uri-miss; fwd-status=200; stored; ttl=9"));
    pass(8).await;
    let hit = front.call(request("GET", "/", &[])).now_or_never().unwrap().unwrap();
    assert_eq!((&hit.headers()["age"], hit.headers().contains_key("date")), (&HeaderValue::from(9), true));
    pass(1).await;
    let again = front.call(request("GET", "/", &[])).await.unwrap();
    let said = ["x-new", "x-old", "content-length"].map(|name| again.headers()[name].to_str().unwrap().to_owned());
    assert_eq!(said, ["yes", "yes", "5"]);
    assert_eq!(told(again).await, answer(200, "hello", "fwd=stale; fwd-status=304; stored; ttl=19"));
    pass(18).await;
    assert_eq!(get(&mut front, "/", &[]).await.2, "hit; ttl=1");
    let stats = layer.handle().stats();
    assert_eq!((origin.calls(), stats.hits, stats.misses, stats.revalidated, stats.urls), (2, 2, 2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_304_that_speaks_of_another_is_asked_for_anew_and_whole() {
    let origin = Origin::new(|request| match request.headers().contains_key("if-none-match") {
        true => page(304, &["etag: \"2\""], ""),
        false => page(200, &["etag: \"1\"", "cache-control: max-age=5"], "whole"),
    });
    let mut front = origin.front(&HttpCacheLayer::new());
    get(&mut front, "/", &[]).await;
    pass(5).await;
    assert_eq!(get(&mut front, "/", &[]).await, answer(200, "whole", "fwd=stale; fwd-status=200; stored; ttl=4"));
    assert_eq!(origin.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_stampede_of_a_thousand_is_one_call_whoever_stays() {
    let origin = Origin::new(|_| page(200, &["cache-control: max-age=60"], "hello"));
    let layer = HttpCacheLayer::new();
    let front = origin.front(&layer);
    let callers: Vec<_> = (0..1_000).map(|_| tokio::spawn(front.clone().call(request("GET", "/", &[])))).collect();
    time::sleep(Duration::from_millis(500)).await;
    callers.iter().step_by(2).for_each(|caller| caller.abort());
    let answered = join_all(callers).await.into_iter().flatten().filter(|answer| answer.is_ok()).count();
    let stats = layer.handle().stats();
    assert_eq!((answered, origin.calls(), stats.misses, stats.coalesced), (500, 1, 1, 999));
    assert_eq!((stats.in_flight, stats.waiting, stats.urls), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_turns_out_to_be_for_one_alone_is_given_to_nobody_else() {
    for headers in [
        &["cache-control: private, max-age=60"][..],
        &["cache-control: max-age=60", "set-cookie: user=1"],
        &["cache-control: no-cache", "etag: \"1\""],
        &["cache-control: max-age=0", "etag: \"1\""],
        &[],
    ] {
        let count = AtomicU32::new(0);
        let origin = Origin::new(move |_| page(200, headers, &count.fetch_add(1, SeqCst).to_string()));
        let layer = HttpCacheLayer::new();
        let mut front = origin.front(&layer);
        let start = time::now();
        let answers = join_all((0..100).map(|_| front.call(request("GET", "/", &[])))).await;
        let mut bodies = Vec::new();
        for answer in answers {
            bodies.push(told(answer.unwrap()).await.1.parse::<u32>().unwrap());
        }
        bodies.sort_unstable();
        assert_eq!((bodies, start.elapsed().as_secs()), ((0..100).collect(), 2), "{headers:?}");
        let start = time::now();
        join_all((0..100).map(|_| front.call(request("GET", "/", &[])))).await;
        assert_eq!(start.elapsed().as_secs(), 1, "now none waits for another: {headers:?}");
        assert_eq!((layer.handle().stats().in_flight, layer.handle().stats().waiting), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn fields_that_are_left_out_reach_the_one_whose_request_was_sent_and_nobody_else() {
    let controls = ["no-cache=\"set-cookie\"", "private=\"set-cookie, x-user\", no-cache=\"set-cookie\""];
    for (control, names) in controls.into_iter().zip([&["set-cookie"][..], &["set-cookie", "x-user"]]) {
        let control: &str = format!("cache-control: public, max-age=10, {control}").leak();
        let origin = Origin::new(move |request| {
            let asked = request.headers().contains_key("if-none-match");
            let headers = [control, "etag: \"1\"", "set-cookie: a=1", "set-cookie: b=2", "x-user: one"];
            page(if asked { 304 } else { 200 }, &headers, "hello")
        });
        let mut front = origin.front(&HttpCacheLayer::new());
        let count = |response: &Response<_>, name: &str| response.headers().get_all(name).iter().count();
        for round in 1..3 {
            let answers = join_all((0..10).map(|_| front.call(request("GET", "/", &[])))).await;
            let hit = front.call(request("GET", "/", &[])).now_or_never().unwrap();
            for (at, given) in answers.into_iter().chain([hit]).enumerate() {
                let given = given.unwrap();
                for name in names {
                    let all = if *name == "set-cookie" { 2 } else { 1 };
                    assert_eq!(count(&given, name), if at == 0 { all } else { 0 }, "{name} of {at}: {control}");
                }
                assert_eq!(count(&given, "x-user") > 0, at == 0 || names.len() == 1, "{at}: {control}");
            }
            assert_eq!(origin.calls(), round, "one call for ten");
            pass(10).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_differ_by_what_vary_names_get_their_own() {
    let origin = Origin::new(|request| {
        let language = request.headers().get("accept-language").map_or("none", |said| said.to_str().unwrap());
        page(200, &["cache-control: max-age=60", "vary: Accept-Language"], language)
    });
    let layer = HttpCacheLayer::new();
    let mut front = origin.front(&layer);
    let languages = ["accept-language: de", "accept-language: en"];
    let answers = join_all((0..1_000).map(|at| front.call(request("GET", "/", &languages[at % 2..=at % 2])))).await;
    for (at, answer) in answers.into_iter().enumerate() {
        assert_eq!(told(answer.unwrap()).await.1, ["de", "en"][at % 2]);
    }
    assert_eq!(origin.calls(), 2, "one each, though at first nobody knew that they differ");
    assert_eq!(get(&mut front, "/", &[]).await.2, "fwd=vary-miss; fwd-status=200; stored; ttl=59");
    assert_eq!(get(&mut front, "/", &["accept-language:  de "]).await.2, "hit; ttl=57");
    assert_eq!(layer.handle().purge("HTTP://SHOP:80/").unwrap(), 3, "all of the URL");
    assert_eq!(get(&mut front, "/", &languages[..1]).await.2, "fwd=uri-miss; fwd-status=200; stored; ttl=59");
    assert_eq!(layer.handle().purge("no address").unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_variant_of_a_url_goes_first() {
    let origin = Origin::new(|_| page(200, &["cache-control: max-age=600", "vary: x-user"], ""));
    let layer = HttpCacheLayer::new().variants(4);
    let mut front = origin.front(&layer);
    for user in 0..10 {
        get(&mut front, "/", &[&format!("x-user: {user}")]).await;
    }
    assert_eq!(layer.handle().purge("http://shop/").unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_is_given_and_refreshed_once_behind_it() {
    let count = AtomicU32::new(0);
    let headers = ["cache-control: max-age=10, stale-while-revalidate=30"];
    let origin = Origin::new(move |_| page(200, &headers, &count.fetch_add(1, SeqCst).to_string()));
    let layer = HttpCacheLayer::new();
    let mut front = origin.front(&layer);
    get(&mut front, "/", &[]).await;
    pass(20).await;
    for _ in 0..100 {
        let stale = front.call(request("GET", "/", &[])).now_or_never().unwrap().unwrap();
        assert_eq!(told(stale).await, answer(200, "0", "hit; ttl=-11"));
    }
    pass(2).await;
    assert_eq!(get(&mut front, "/", &[]).await.1, "1");
    let stats = layer.handle().stats();
    assert_eq!((origin.calls(), stats.stale, stats.refreshes, stats.hits), (2, 100, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_gives_way_to_a_stale_answer_unless_that_is_forbidden() {
    let tell = |origin: &Origin, control: &'static str| origin.tell(move |_| page(200, &[control], "good"));
    let origin = Origin::default();
    tell(&origin, "cache-control: max-age=10, stale-if-error=100");
    let layer = HttpCacheLayer::new();
    let mut front = origin.front(&layer);
    get(&mut front, "/", &[]).await;
    pass(20).await;
    *origin.page.lock() = None;
    assert_eq!(get(&mut front, "/", &[]).await, answer(200, "good", "fwd=stale; detail=stale-if-error; ttl=-12"));
    origin.tell(|_| page(503, &["cache-control: max-age=1000"], "bad"));
    let answers = join_all((0..10).map(|_| front.call(request("GET", "/", &[])))).await;
    for given in answers {
        let expected = answer(200, "good", "fwd=stale; fwd-status=503; detail=stale-if-error; ttl=-13");
        assert_eq!(told(given.unwrap()).await, expected);
    }
    let head = told(front.call(request("HEAD", "/", &[])).await.unwrap()).await;
    assert_eq!(head, answer(200, "", "fwd=stale; fwd-status=503; detail=stale-if-error; ttl=-14"));
    assert_eq!((origin.calls(), layer.handle().stats().stale_if_error), (4, 12), "one call for ten");
    assert_eq!(get(&mut front, "/", &["cache-control: no-cache"]).await.0, 503, "not where it was not wanted");
    pass(100).await;
    assert_eq!(get(&mut front, "/", &[]).await.1, "bad", "too old even for that");

    tell(&origin, "cache-control: max-age=10, must-revalidate");
    get(&mut front, "/must", &[]).await;
    pass(11).await;
    *origin.page.lock() = None;
    assert_eq!(front.call(request("GET", "/must", &[])).await.unwrap_err().kind(), Kind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn an_unsafe_request_that_succeeds_forgets_what_it_changed() {
    let origin = Origin::new(|request| match *request.method() {
        Method::GET => page(200, &["cache-control: max-age=600"], ""),
        _ if request.uri().path() == "/refused" => page(403, &[], ""),
        _ => page(201, &["location: /b", "content-location: http://other/c"], ""),
    });
    let layer = HttpCacheLayer::new();
    let mut front = origin.front(&layer);
    for path in ["/a", "/b", "/c", "/refused"] {
        get(&mut front, path, &[]).await;
    }
    let mut early = Box::pin(front.call(request("GET", "/a?late", &[])));
    assert!(poll!(early.as_mut()).is_pending());
    assert_eq!(told(front.call(request("POST", "/a", &[])).await.unwrap()).await.2, "fwd=method; fwd-status=201");
    told(front.call(request("DELETE", "/refused", &[])).await.unwrap()).await;
    let mut hits = Vec::new();
    for path in ["/a", "/b", "/c", "/refused"] {
        hits.push(get(&mut front, path, &[]).await.2.starts_with("hit"));
    }
    assert_eq!((hits, layer.handle().stats().invalidated), (vec![false, false, true, true], 2));

    // asked for before, answered after: not kept
    layer.handle().purge_all();
    let mut early = Box::pin(front.call(request("GET", "/a", &[])));
    let mut alone = Box::pin(front.call(request("GET", "/a", &["cache-control: no-cache"])));
    assert!(poll!(early.as_mut()).is_pending() && poll!(alone.as_mut()).is_pending());
    layer.handle().purge("http://shop/a").unwrap();
    early.await.unwrap();
    alone.await.unwrap();
    assert_eq!(layer.handle().stats().urls, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_for_a_cache_passes_and_is_not_kept() {
    let origin = Origin::new(|request| match request.headers().contains_key("range") {
        true => page(206, &["cache-control: max-age=60", "content-range: bytes 0-1/5"], "he"),
        false => page(200, &["cache-control: max-age=60"], "hello"),
    });
    let layer = HttpCacheLayer::new();
    let mut front = origin.front(&layer);
    assert_eq!(get(&mut front, "/", &["range: bytes=0-1"]).await, answer(206, "he", "fwd=bypass; fwd-status=206"));
    for headers in [["cache-control: no-store"], ["if-match: \"1\""], ["upgrade: websocket"], ["host: evil"]] {
        assert_eq!(get(&mut front, "/", &headers).await.2, "fwd=bypass; fwd-status=200", "{headers:?}");
    }
    let body = Request::get("http://shop/").body(Full::from("search")).unwrap();
    assert_eq!(told(front.call(body).await.unwrap()).await.2, "fwd=bypass; fwd-status=200");
    assert_eq!((layer.handle().stats().urls, layer.handle().stats().passed), (0, 6));
    let only = ["cache-control: only-if-cached"];
    assert_eq!(get(&mut front, "/", &only).await, answer(504, "", "detail=only-if-cached"));
    get(&mut front, "/", &[]).await;
    assert_eq!((get(&mut front, "/", &only).await.2.as_str(), origin.calls()), ("hit; ttl=59", 7));
}

#[tokio::test(start_paused = true)]
async fn head_and_conditions_are_answered_from_what_is_kept() {
    let headers = ["cache-control: max-age=60", "etag: W/\"1\"", "last-modified: Tue, 01 Jan 2030 00:00:00 GMT"];
    let origin = Origin::new(move |request| {
        assert!(!request.headers().contains_key("if-none-match"), "what is kept is asked for whole");
        page(200, if request.method() == Method::HEAD { &headers[..1] } else { &headers }, "hello")
    });
    let layer = HttpCacheLayer::new();
    let mut front = origin.front(&layer);
    let had = get(&mut front, "/", &["if-none-match: \"0\", \"1\""]).await;
    assert_eq!(had, answer(304, "", "fwd=uri-miss; fwd-status=200; stored; ttl=59"));
    for (condition, status) in [
        ("if-none-match: *", 304),
        ("if-none-match: \"1\"", 304),
        ("if-none-match: \"2\"", 200),
        ("if-modified-since: Tue, 01 Jan 2030 00:00:00 GMT", 304),
        ("if-modified-since: Mon, 31 Dec 2029 23:59:59 GMT", 200),
        ("if-modified-since: yesterday", 200),
    ] {
        let response = front.call(request("GET", "/", &[condition])).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers().contains_key("etag")),
            (status, true),
            "{condition}"
        );
    }
    let head = front.call(request("HEAD", "/", &[])).await.unwrap();
    assert_eq!((&head.headers()["content-length"], origin.calls()), (&HeaderValue::from(5), 1));
    assert_eq!(told(head).await, answer(200, "", "hit; ttl=59"));
    pass(60).await;
    told(front.call(request("HEAD", "/", &[])).await.unwrap()).await;
    assert_eq!((origin.calls(), layer.handle().stats().urls), (2, 0), "it speaks of another one: forgotten");
}

#[tokio::test(start_paused = true)]
async fn requests_that_want_a_new_answer_get_one_and_it_is_kept() {
    let count = AtomicU32::new(0);
    let origin =
        Origin::new(move |_| page(200, &["cache-control: max-age=60"], &count.fetch_add(1, SeqCst).to_string()));
    let mut front = origin.front(&HttpCacheLayer::new());
    get(&mut front, "/", &[]).await;
    let reload = get(&mut front, "/", &["cache-control: no-cache"]).await;
    assert_eq!(reload, answer(200, "1", "fwd=request; fwd-status=200; stored; ttl=59"));
    assert_eq!(get(&mut front, "/", &["pragma: no-cache"]).await.1, "2");
    assert_eq!(get(&mut front, "/", &["cache-control: max-age=0"]).await.1, "3");
    assert_eq!(get(&mut front, "/", &[]).await.1, "3");
}

#[tokio::test(start_paused = true)]
async fn what_is_authorized_is_kept_only_where_it_says_that_it_is_for_all() {
    let origin = Origin::new(|request| match request.uri().path() {
        "/all" => page(200, &["cache-control: public, max-age=60"], ""),
        _ => page(200, &["cache-control: max-age=60"], ""),
    });
    let user = ["authorization: Bearer a"];
    for (layer, hits) in [(HttpCacheLayer::new(), [false, true]), (HttpCacheLayer::new().private(), [true, true])] {
        let mut front = origin.front(&layer);
        for (path, hit) in ["/own", "/all"].into_iter().zip(hits) {
            get(&mut front, path, &user).await;
            assert_eq!(get(&mut front, path, &user).await.2.starts_with("hit"), hit, "{path}");
        }
    }
}

/// Pieces of a body with a pause before each, and trailers.
fn pieces(count: usize, breaks: bool) -> Answer {
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("1"))]);
    let frames = futures::stream::unfold(0, move |at| {
        let trailers = trailers.clone();
        async move {
            time::sleep(Duration::from_millis(10)).await;
            let frame = match at {
                at if at < count => Ok(Frame::data(Bytes::from(vec![b'x'; 1_000]))),
                _ if breaks => Err(Error::new(Kind::Unavailable, "broken off")),
                at if at == count => Ok(Frame::trailers(trailers)),
                _ => return None,
            };
            Some((frame, at + 1))
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

#[tokio::test(start_paused = true)]
async fn bodies_are_kept_whole_with_trailers_and_longer_ones_pass_as_they_come() {
    let origin = Origin::new(|request| {
        let (count, breaks) = match request.uri().path() {
            "/short" => (3, false),
            "/long" => (9, false),
            "/announced" => return page(200, &["cache-control: max-age=60", "content-length: 4"], "cut"),
            _ => (2, true),
        };
        let kept = ["transfer-encoding", "x-hop"].iter().fold(Response::builder(), |all, name| all.header(*name, "1"));
        kept.header("connection", "x-hop").header("cache-control", "max-age=60").body(pieces(count, breaks)).unwrap()
    });
    let layer = HttpCacheLayer::new().body(5_000);
    let mut front = origin.front(&layer);
    for said in ["fwd=uri-miss; fwd-status=200; stored; ttl=59", "hit; ttl=59"] {
        let response = front.call(request("GET", "/short", &[])).await.unwrap();
        assert_eq!(response.headers()["cache-status"].to_str().unwrap(), format!("seedpod; {said}"));
        assert!(
            ["transfer-encoding", "x-hop", "connection"].iter().all(|name| !response.headers().contains_key(*name))
        );
        let body = response.into_body().collect().await.unwrap();
        assert!(body.trailers().is_some_and(|trailers| trailers["x-sum"] == "1"));
        assert_eq!(body.to_bytes().len(), 3_000);
    }
    let mut long = front.call(request("GET", "/long", &[])).await.unwrap().into_body();
    assert_eq!(
        (long.frame().await.unwrap().unwrap().into_data().unwrap().len(), layer.handle().stats().bytes < 5_000),
        (6_000, true)
    );
    assert!(long.frame().now_or_never().is_none(), "the rest is not there yet");
    let rest = long.collect().await.unwrap();
    assert!(rest.trailers().is_some() && rest.to_bytes().len() == 3_000);
    let error = front.call(request("GET", "/breaks", &[])).await.unwrap_err();
    assert_eq!(error.message(), "broken off");
    assert_eq!(get(&mut front, "/announced", &[]).await, answer(200, "cut", "fwd=uri-miss; fwd-status=200"));
    assert!(get(&mut front, "/announced", &[]).await.2.starts_with("fwd"), "what was cut short is not kept");
}

#[tokio::test(start_paused = true)]
async fn bytes_stay_within_their_bound_whatever_is_asked_for() {
    let origin = Origin::new(|request| {
        let size = request.uri().path().len() * 100;
        page(200, &["cache-control: max-age=600", "vary: x-user"], &"x".repeat(size))
    });
    let layer = HttpCacheLayer::new().bytes(20_000).urls(8);
    let (mut front, mut rng) = (origin.front(&layer), Seed::new(3).rng());
    for _ in 0..500 {
        let (path, user) = ("/x".repeat(1 + rng.below(12) as usize), format!("x-user: {}", rng.below(5)));
        get(&mut front, &path, &[&user]).await;
        let stats = layer.handle().stats();
        assert!(stats.bytes <= 20_000 && stats.urls <= 8, "{stats:?}");
    }
    let stats = layer.handle().stats();
    assert!(stats.evicted > 50 && stats.hits > 20, "{stats:?}");
    layer.handle().set_bytes(0);
    assert_eq!((layer.handle().stats().urls, layer.handle().stats().bytes), (0, 0));
}
