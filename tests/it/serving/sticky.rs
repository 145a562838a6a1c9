//! Sessions kept by a cookie, through the service that a caller uses.

use super::*;
use ::http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{CACHE_CONTROL, COOKIE, SET_COOKIE},
};
use bytes::Bytes;
use http_body_util::Full;
use seedpod::{
    layer::HttpCacheLayer,
    serving::{
        LeastPending,
        affinity::{AffinityStats, Cookie, CookieKey, Sticky},
    },
    testing::readiness,
};

type Endpoint = Erased<Request<()>, Response<String>>;
type Balancer = Sticky<Endpoint>;

fn key(byte: u8) -> CookieKey {
    CookieKey::new(&[byte; 32]).unwrap()
}

fn cookie() -> Cookie {
    Cookie::new("seat", key(1)).unwrap()
}

fn set(name: &str, keys: &[&'static str]) -> Endpoints<Endpoint> {
    let endpoints = seeded(name);
    keys.iter().for_each(|key| endpoints.insert(*key, says(key)));
    endpoints
}

/// Answers with its name.
fn says(key: &'static str) -> Endpoint {
    Erased::new(service_fn(move |_: Request<()>| async move { Ok::<_, Error>(Response::new(key.to_owned())) }))
}

fn with(cookie: &str) -> Request<()> {
    Request::builder().header(COOKIE, cookie).body(()).unwrap()
}

/// The cookie that the response sets, as a browser sends it back.
fn given(headers: &HeaderMap) -> Option<String> {
    assert!(headers.get_all(SET_COOKIE).iter().count() <= 1);
    headers.get(SET_COOKIE).map(|set| set.to_str().unwrap().split(';').next().unwrap().to_owned())
}

/// What a browser keeps of one site.
#[derive(Default)]
struct Browser {
    cookie: Option<String>,
}

impl Browser {
    /// Who answered, and whether a cookie was set.
    async fn get(&mut self, balancer: &Balancer) -> (String, bool) {
        let request = self.cookie.as_deref().map_or_else(|| Request::new(()), with);
        let response = balancer.clone().oneshot(request).await.unwrap();
        let set = given(response.headers());
        let was_set = set.is_some();
        self.cookie = set.or(self.cookie.take());
        (response.into_body(), was_set)
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_moves_each_session_once_and_both_balancers_move_it_to_the_same() {
    let keys = ["a", "b", "c", "d"];
    let (one, two) = (set("one", &keys), set("two", &["d", "b", "a", "c"]));
    let balancers = [one, two].map(|endpoints| Replicas::new(endpoints).sticky(cookie()));
    let mut browsers: Vec<(Browser, String)> = Vec::new();
    for number in 0..400 {
        let mut browser = Browser::default();
        let (home, was_set) = browser.get(&balancers[number % 2]).await;
        assert!(was_set);
        browsers.push((browser, home));
    }
    let both = |change: fn(&Endpoints<Endpoint>)| balancers.iter().for_each(|balancer| change(balancer.endpoints()));
    let of_b = browsers.iter().filter(|(_, home)| home == "b").count();
    assert!(of_b > 70, "{of_b}");
    let mut moves = 0;
    for step in 0..5 {
        match step {
            1 => both(|endpoints| endpoints.drain("b")),
            2 => both(|endpoints| endpoints.remove("b")),
            3 => both(|endpoints| endpoints.insert("b", says("b"))),
            4 => both(|endpoints| endpoints.insert("new", says("new"))),
            _ => {}
        }
        for (number, (browser, home)) in browsers.iter_mut().enumerate() {
            // the first answer after a drain is lost, and its cookie with it: the other balancer moves it to the same
            let lost = browser.cookie.clone();
            let (first, _) = browser.get(&balancers[number % 2]).await;
            if step == 1 && number % 3 == 0 {
                browser.cookie = lost;
            }
            let (second, _) = browser.get(&balancers[(number + 1) % 2]).await;
            assert_eq!(first, second, "step {step}");
            moves += usize::from(first != *home);
            assert!(first == *home || (step == 1 && home == "b"), "step {step}: from {home} to {first}");
            *home = first;
        }
        assert_eq!(moves, if step == 0 { 0 } else { of_b }, "each of b's, once, whoever comes or comes back");
    }
    let stats = balancers.each_ref().map(Sticky::stats);
    assert_eq!(stats.map(|stats| (stats.forged, stats.expired, stats.refused)), [(0, 0, 0); 2]);
    assert_eq!(stats.iter().map(|stats| stats.miss).sum::<u64>(), 400);
}

#[tokio::test(start_paused = true)]
async fn a_forged_cookie_is_counted_and_never_followed_and_so_is_one_that_is_too_old() {
    let balancer = Replicas::new(set("shop", &["a", "b", "c"])).sticky(cookie());
    let other = Replicas::new(set("other", &["a"])).sticky(Cookie::new("seat", key(2)).unwrap());
    let ours = Replicas::new(set("ours", &["a"])).sticky(cookie());
    let of = async |balancer: &Balancer| {
        let mut browser = Browser::default();
        browser.get(balancer).await;
        browser.cookie.unwrap()
    };
    let (foreign, to_a) = (of(&other).await, of(&ours).await);
    let mut tampered = to_a.clone();
    let last = if tampered.pop() == Some('0') { '1' } else { '0' };
    tampered.push(last);
    for (number, wrong) in [foreign, tampered, "seat=".into(), "seat=a".into()].iter().enumerate() {
        let mut answered = BTreeMap::new();
        for _ in 0..100 {
            let mut browser = Browser { cookie: Some(wrong.clone()) };
            let (who, was_set) = browser.get(&balancer).await;
            assert!(was_set && browser.cookie.as_ref() != Some(wrong), "it gets one that is right instead");
            *answered.entry(who).or_insert(0) += 1;
        }
        assert!(answered.len() == 3 && answered.values().all(|count| *count > 15), "{wrong}: {answered:?}");
        assert_eq!(balancer.stats().forged, 100 * (number as u64 + 1));
    }
    for _ in 0..100 {
        assert_eq!(Browser { cookie: Some(to_a.clone()) }.get(&balancer).await, ("a".to_owned(), false));
    }
    time::sleep(3_600 * SECOND).await;
    let mut late = BTreeMap::new();
    for _ in 0..100 {
        let (who, was_set) = Browser { cookie: Some(to_a.clone()) }.get(&balancer).await;
        assert!(was_set);
        *late.entry(who).or_insert(0) += 1;
    }
    assert!(late.len() == 3, "{late:?}");
    let AffinityStats { hit, miss, forged, expired, .. } = balancer.stats();
    assert_eq!((hit, miss, forged, expired), (100, 500, 400, 100));
}

#[tokio::test(start_paused = true)]
async fn a_cookie_is_renewed_at_half_time_and_when_the_key_has_changed() {
    let endpoints = set("shop", &["a", "b", "c"]);
    let before = Replicas::new(endpoints.clone()).sticky(cookie());
    let mut browser = Browser::default();
    let (home, _) = browser.get(&before).await;
    time::sleep(1_790 * SECOND).await;
    assert_eq!(browser.get(&before).await, (home.clone(), false));
    time::sleep(20 * SECOND).await;
    assert_eq!(browser.get(&before).await, (home.clone(), true));
    time::sleep(3_000 * SECOND).await;
    assert_eq!(browser.get(&before).await, (home.clone(), true), "an hour from the last renewal");
    // first all balancers believe the new key, then they sign by it
    let both = |first, second| Cookie::new("seat", key(first)).unwrap().previous(key(second));
    let believes = Replicas::new(endpoints.clone()).sticky(both(1, 9));
    assert_eq!(browser.get(&believes).await, (home.clone(), false));
    let signs = Replicas::new(endpoints.clone()).sticky(both(9, 1));
    assert_eq!(browser.get(&signs).await, (home.clone(), true));
    assert_eq!(browser.get(&believes).await, (home.clone(), true), "the other way round, too");
    assert_eq!(browser.get(&signs).await, (home.clone(), true));
    let after = Replicas::new(endpoints).sticky(Cookie::new("seat", key(9)).unwrap());
    assert_eq!(browser.get(&after).await, (home, false), "the old key is gone, and no session");
}

#[tokio::test(start_paused = true)]
async fn a_strict_session_fails_by_the_name_of_its_endpoint() {
    let balancer = Replicas::new(set("shop", &["a", "b", "c"])).sticky(cookie()).strict(true);
    let mut browser = Browser::default();
    let (home, _) = browser.get(&balancer).await;
    balancer.endpoints().drain(&home);
    let refused = async || balancer.clone().oneshot(with(browser.cookie.as_ref().unwrap())).await.unwrap_err();
    let error = refused().await;
    assert_eq!(error.to_string(), format!("{home}: unavailable: it cannot be picked, and sessions are strict"));
    assert!(error.is_unsent());
    balancer.endpoints().remove(&home);
    assert_eq!(
        refused().await.to_string(),
        "affinity: unavailable: the session's endpoint is gone, and sessions are strict"
    );
    assert_eq!((balancer.stats().refused, balancer.stats().moved), (2, 0));
    assert!(Browser::default().get(&balancer).await.1, "new sessions go on");
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_elsewhere_and_leaves_the_session_where_it_is_while_that_is_well() {
    let (endpoints, sick) = (seeded("shop"), Arc::new(Lock::new(None::<(&str, u16)>)));
    for key in ["a", "b", "c"] {
        let sick = sick.clone();
        let service = service_fn(move |_: Request<()>| {
            let status = sick.lock().filter(|(sick, _)| *sick == key).map_or(200, |(_, status)| status);
            let response = Response::builder().status(status).body(key.to_owned()).unwrap();
            async move { Ok::<_, Error>(response) }
        });
        endpoints.insert(key, Erased::new(service));
    }
    let balancer = Replicas::new(endpoints).classify(HttpStatus).sticky(cookie());
    let service = RetryLayer::new().classify(HttpStatus).seed(Seed::new(3)).layer(balancer.clone());
    let first = balancer.clone().oneshot(Request::new(())).await.unwrap();
    let (home, cookie) = (*first.body().as_str().chars().next().as_ref().unwrap(), given(first.headers()).unwrap());
    let home = ["a", "b", "c"][(home as u8 - b'a') as usize];
    *sick.lock() = Some((home, 503));
    let elsewhere = service.clone().oneshot(with(&cookie)).await.unwrap();
    assert!(elsewhere.status() == 200 && elsewhere.body() != home && given(elsewhere.headers()).is_none());
    assert_eq!((balancer.stats().detour, balancer.stats().moved), (1, 0));
    let failed = balancer.clone().oneshot(with(&cookie)).await.unwrap();
    assert_eq!((failed.status(), failed.body().as_str()), (StatusCode::SERVICE_UNAVAILABLE, home));
    *sick.lock() = None;
    assert_eq!(service.oneshot(with(&cookie)).await.unwrap().body(), home);
    // who fails gets no new session
    for key in ["a", "b", "c"] {
        *sick.lock() = Some((key, 500));
        for _ in 0..20 {
            let response = balancer.clone().oneshot(Request::new(())).await.unwrap();
            assert_eq!(given(response.headers()).is_some(), response.status() == 200);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hostile_headers_are_answered_like_any_other_and_never_panic() {
    let balancer = Replicas::new(set("shop", &["a", "b"])).sticky(cookie());
    let mut browser = Browser::default();
    let (home, _) = browser.get(&balancer).await;
    let right = browser.cookie.unwrap();
    let (mut rng, mut followed) = (Seed::new(5).rng(), 0);
    for round in 0..20_000_u32 {
        let mut headers = HeaderMap::new();
        for _ in 0..rng.range(1..4) {
            let mut text = match rng.below(4) {
                0 => right.clone().into_bytes(),
                1 => format!("a=b; {right}; seat=x").into_bytes(),
                2 => vec![b"seat=;\x80\xff"[rng.below(8) as usize]; rng.below(300) as usize],
                _ => "seat=".repeat(rng.below(2_000) as usize).into_bytes(),
            };
            for _ in 0..rng.below(4) {
                let place = rng.below(text.len().max(1) as u64) as usize;
                if let Some(byte) = text.get_mut(place) {
                    *byte = rng.range(0x20..0x100) as u8;
                }
            }
            let Ok(value) = HeaderValue::from_bytes(&text) else { continue };
            headers.append(COOKIE, value);
        }
        let mut request = Request::new(());
        *request.headers_mut() = headers;
        let response = balancer.clone().oneshot(request).await.unwrap();
        match given(response.headers()) {
            None => {
                assert_eq!(*response.body(), home, "round {round}: followed, so it was the right one");
                followed += 1;
            }
            Some(set) => assert_ne!(set, right),
        }
    }
    let AffinityStats { hit, miss, forged, .. } = balancer.stats();
    assert_eq!((hit, hit + miss), (followed, 20_001));
    assert!(hit > 2_000 && forged > 5_000, "{hit} {forged}");
}

#[tokio::test(start_paused = true)]
async fn what_an_endpoint_sets_itself_stays_and_levels_do_not_mix() {
    let inner = Replicas::new(seeded("inner")).sticky(Cookie::new("room", key(3)).unwrap());
    for key in ["x", "y", "z"] {
        let own = service_fn(move |_: Request<()>| async move {
            Ok::<_, Error>(Response::builder().header(SET_COOKIE, "own=1").body(key.to_owned()).unwrap())
        });
        inner.endpoints().insert(key, Erased::new(own));
    }
    let outer: Sticky<Endpoint, _, LeastPending> = Replicas::new(seeded("outer")).sticky(cookie());
    outer.endpoints().insert("one", Erased::new(inner.clone()));
    outer.endpoints().insert("two", Erased::new(inner.clone()));
    let first = outer.clone().oneshot(Request::new(())).await.unwrap();
    let set: Vec<&str> = first
        .headers()
        .get_all(SET_COOKIE)
        .iter()
        .map(|set| set.to_str().unwrap().split(';').next().unwrap())
        .collect();
    assert_eq!(set.iter().map(|set| set.split('=').next().unwrap()).collect::<Vec<_>>(), ["own", "room", "seat"]);
    for _ in 0..20 {
        let again = outer.clone().oneshot(with(&set.join("; "))).await.unwrap();
        assert_eq!((again.body(), again.headers().len()), (first.body(), 1), "its own alone");
    }
    // a session outside says nothing inside
    let only_outer = outer.clone().oneshot(with(set[2])).await.unwrap();
    let cookies = only_outer.headers().get_all(SET_COOKIE).iter().count();
    assert_eq!((cookies, inner.stats().moved, outer.stats().moved), (2, 0, 0), "a room alone");
    assert_eq!((inner.stats().miss, outer.stats().miss), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn it_keeps_the_rule_of_readiness_and_leaves_nothing_behind_wherever_it_is_dropped() {
    let layer = |probe: readiness::Probe<seedpod::layer::Request<u32>, u32>| {
        let endpoints = seeded("probed");
        endpoints.insert("probe", probe.map_request(Request::into_body).map_response(Response::new));
        let sticky = Replicas::new(endpoints).sticky(cookie());
        sticky.map_request(Request::new).map_response(Response::into_body)
    };
    readiness::check(|| seedpod::layer::Request::new(7).idempotent(), |request| request.into_message(), layer)
        .await
        .unwrap();

    let slow = drops::slowly();
    let endpoints = seeded("drops");
    let inner = slow.clone();
    let service = service_fn(move |_: Request<()>| {
        let slow = inner.clone();
        async move { Ok::<_, Error>(Response::new(slow.oneshot(seedpod::layer::Request::new(1)).await?)) }
    });
    endpoints.insert("a", service);
    let balancer = Replicas::new(endpoints.clone()).sticky(cookie());
    let call = || balancer.clone().oneshot(Request::new(()));
    drops::leaves_nothing(call, || (endpoints.pending("a"), slow.under_way())).await;
}

type Pages = Erased<Request<Full<Bytes>>, Response<Full<Bytes>>>;

/// Answers with a cookie of its own under `/own`.
fn pages(control: &'static str) -> Pages {
    Erased::new(service_fn(move |request: Request<Full<Bytes>>| async move {
        let mut page = Response::builder().header(CACHE_CONTROL, control);
        if request.uri().path() == "/own" {
            page = page.header(SET_COOKIE, "user=1");
        }
        Ok::<_, Error>(page.body(Full::from("hello")).unwrap())
    }))
}

#[tokio::test(start_paused = true)]
async fn behind_a_cache_each_visitor_gets_a_seat_of_its_own_and_none_is_kept() {
    for control in ["max-age=60", "public, max-age=60", "s-maxage=60"] {
        let endpoints = seeded("shop");
        ["a", "b", "c"].into_iter().for_each(|key| endpoints.insert(key, pages(control)));
        let layer = HttpCacheLayer::new();
        let shop = layer.layer(Replicas::new(endpoints).sticky(cookie()));
        let get = async |path: &str, cookie: Option<&str>| {
            let mut request = Request::get(format!("http://shop{path}")).body(Full::<Bytes>::default()).unwrap();
            if let Some(cookie) = cookie {
                request.headers_mut().insert(COOKIE, HeaderValue::from_str(cookie).unwrap());
            }
            let response = shop.clone().oneshot(request).await.unwrap();
            let cookies = response.headers().get_all(SET_COOKIE).iter();
            let seats = cookies.map(|set| set.to_str().unwrap().split(';').next().unwrap().to_owned());
            seats.filter(|set| set.starts_with("seat=")).collect::<Vec<_>>()
        };
        let one = get("/a", None).await;
        assert_eq!(get("/a", None).await, Vec::<String>::new(), "what is kept carries none: {control}");
        let two = get("/b", None).await;
        assert_eq!((one.len(), two.len(), one != two), (1, 1, true), "{control}");
        assert!(get("/b", Some(&one[0])).await.is_empty() && get("/c", Some(&one[0])).await.is_empty());
        assert_eq!((layer.handle().stats().hits, layer.handle().stats().urls), (2, 3), "{control}");
        // what sets a cookie of its own is its user's
        assert_ne!(get("/own", None).await, get("/own", None).await, "{control}");
    }
}
