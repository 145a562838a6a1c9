//! Idempotency keys: the rule of readiness, nothing left behind by who is dropped, and the header over HTTP.

use super::{
    drops::{leaves_nothing, oneshot, slowly},
    *,
};
use ::http::{Request as Ask, Response};
use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt, Full};
use seedpod::{
    layer::{HttpIdempotencyLayer, IdempotencyKey, IdempotencyLayer},
    testing::readiness::{Probe, check},
};

fn key(request: &Request<u32>) -> Option<IdempotencyKey> {
    Some(IdempotencyKey::new("order").of(request.message()))
}

#[tokio::test(start_paused = true)]
async fn idempotency_keeps_the_rule_of_readiness_with_and_without_a_key() {
    let request = || Request::new(7).idempotent();
    // no answer is kept, so that every call reaches the probe
    let none = |_: Result<&u32, &Error>| Outcome::Failure;
    let keyed = check(request, Request::into_message, |probe: Probe<Request<u32>, u32>| {
        IdempotencyLayer::by(key).classify(none).layer(probe)
    });
    let report = keyed.await.unwrap();
    assert!(report.calls > 5 && report.cancelled > 0 && report.clones <= report.calls + 3, "{report:?}");
    let passing = check(request, Request::into_message, |probe: Probe<Request<u32>, u32>| {
        IdempotencyLayer::by(|_: &Request<u32>| None).layer(probe)
    });
    passing.await.unwrap();

    type Http = Probe<Ask<Full<Bytes>>, Response<Full<Bytes>>>;
    for headers in [&["k"][..], &[]] {
        let post = || {
            let post = headers.iter().fold(Ask::post("/"), |post, key| post.header("idempotency-key", *key));
            post.body(Full::<Bytes>::from("5 EUR")).unwrap()
        };
        let answer = |_| Response::builder().status(404).body(Full::<Bytes>::from("no")).unwrap();
        let report = check(post, answer, |probe: Http| HttpIdempotencyLayer::new().layer(probe)).await.unwrap();
        assert!(report.calls > 5 && report.cancelled > 0, "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn keyed_calls_dropped_after_any_number_of_polls_leave_no_claim_no_flight_and_no_waiter() {
    let slow = slowly();
    for pair in [false, true] {
        let layer = IdempotencyLayer::by(key).window(Duration::ZERO);
        let (service, handle) = (layer.layer(slow.clone()), layer.handle());
        let left = || {
            let stats = handle.stats();
            (stats.in_flight, stats.waiting, stats.held.claims, stats.held.bytes, slow.under_way())
        };
        if pair {
            leaves_nothing(|| async { tokio::join!(oneshot(&service), oneshot(&service)) }, left).await;
        } else {
            leaves_nothing(|| oneshot(&service), left).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn posts_dropped_after_any_number_of_polls_leave_no_claim_no_flight_and_no_waiter() {
    let slow = slowly();
    let beneath = slow.clone();
    let order = service_fn(move |_: Ask<Full<Bytes>>| {
        let slow = beneath.clone();
        async move {
            slow.oneshot(Request::new(1).idempotent()).await?;
            Response::builder().status(201).body(Full::<Bytes>::from("done")).map_err(Error::from)
        }
    });
    for (keyed, pair) in [(true, false), (true, true), (false, false)] {
        let layer = HttpIdempotencyLayer::new().window(Duration::ZERO);
        let (service, handle) = (layer.layer(order.clone()), layer.handle());
        let left = || {
            let stats = handle.stats();
            (stats.in_flight, stats.waiting, stats.held.claims, stats.held.bytes, slow.under_way())
        };
        let call = || {
            let post = if keyed { Ask::post("/").header("idempotency-key", "k") } else { Ask::post("/") };
            service.clone().oneshot(post.body(Full::<Bytes>::from("5 EUR")).unwrap())
        };
        if pair {
            leaves_nothing(|| async { tokio::join!(call(), call()) }, left).await;
        } else {
            leaves_nothing(call, left).await;
        }
        assert_eq!(handle.stats().calls > 0, keyed, "it was carried out");
    }
}

/// Counts orders; the body says what becomes of them.
fn orders(
    count: &Arc<AtomicU32>,
) -> impl Service<Ask<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Error, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
+ use<> {
    let count = count.clone();
    service_fn(move |request: Ask<Full<Bytes>>| {
        let count = count.clone();
        async move {
            time::sleep(10 * MILLI).await;
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let number = count.fetch_add(1, SeqCst) + 1;
            let (status, size) = match &*body {
                b"refuse" => (422, 1),
                b"break" => (503, 1),
                b"large" => (201, 5_000),
                _ => (201, 1),
            };
            let answer = Response::builder().status(status).header("x-order", number.to_string());
            Ok(answer.body(Full::from(number.to_string().repeat(size))).unwrap())
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_post_with_the_header_is_carried_out_once_and_answered_alike() {
    let count = Arc::new(AtomicU32::new(0));
    let layer = HttpIdempotencyLayer::new().body(1_000);
    let service = layer.layer(orders(&count));
    let send = async |method: &str, headers: &[(&str, &str)], body: &str| {
        let request = headers
            .iter()
            .fold(Ask::builder().method(method).uri("/orders"), |all, (name, value)| all.header(*name, *value));
        let request = request.body(Full::<Bytes>::from(body.to_owned())).unwrap();
        let answer = service.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        (status, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    };
    let seven = [("idempotency-key", "\"7\"")];
    let answers = join_all((0..100).map(|_| send("POST", &seven, "apple"))).await;
    assert!(answers.iter().all(|answer| *answer == (201, "1".into())), "{answers:?}");
    assert_eq!(send("POST", &[("idempotency-key", "7")], "apple").await, (201, "1".into()), "with or without quotes");
    assert_eq!(send("POST", &seven, "pear").await.0, 422);
    assert_eq!(send("PATCH", &seven, "apple").await.0, 422);
    let other = [seven[0], ("authorization", "Bearer other")];
    assert_eq!(send("POST", &other, "apple").await, (201, "2".into()), "another user's key is another key");

    for (status, counts) in [(503, "3"), (503, "4")] {
        assert_eq!(send("POST", &[("idempotency-key", "8")], "break").await, (status, counts.into()), "not kept");
    }
    let large = send("POST", &[("idempotency-key", "9")], "large").await;
    assert_eq!((large.0, large.1.contains("carried out")), (502, true));
    assert_eq!((send("POST", &[("idempotency-key", "9")], "large").await, count.load(SeqCst)), (large, 5), "only once");

    for (headers, body, status) in [
        (&[("idempotency-key", "")][..], "", 400),
        (&[("idempotency-key", &*"x".repeat(256))], "", 400),
        (&[("idempotency-key", "1"), ("idempotency-key", "2")], "", 400),
        (&[("idempotency-key", "1")], &*"x".repeat(1_001), 413),
        (&[], "no key", 201),
        (&[], "no key", 201),
    ] {
        assert_eq!(send("POST", headers, body).await.0, status, "{headers:?}");
    }
    assert_eq!((send("PUT", &seven, "apple").await.0, count.load(SeqCst)), (201, 8), "a PUT needs none");
    let required = HttpIdempotencyLayer::new().required().layer(orders(&count));
    let answer = required.oneshot(Ask::post("/").body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (400, &"application/problem+json".parse().unwrap())
    );
}

/// What a connection was read into.
struct Buffer {
    _held: Arc<()>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &[b'x'; 65_536]
    }
}

#[tokio::test(start_paused = true)]
async fn kept_answers_hold_no_buffer_of_a_connection() {
    let buffer = Arc::new(());
    let held = buffer.clone();
    let service = service_fn(move |_: Ask<Full<Bytes>>| {
        let whole = Bytes::from_owner(Buffer { _held: held.clone() });
        let name = ::http::HeaderValue::from_maybe_shared(whole.slice(..9)).unwrap();
        async move { Response::builder().header("x-name", name).body(Full::from(whole.slice(9..19))).map_err(Error::from) }
    });
    let layer = HttpIdempotencyLayer::new();
    let service = layer.layer(service);
    let post = || Ask::post("/orders").header("idempotency-key", "7").body(Full::<Bytes>::from("5 EUR")).unwrap();
    let alone = Arc::strong_count(&buffer);
    for _ in 0..2 {
        let answer = service.clone().oneshot(post()).await.unwrap();
        assert_eq!(answer.headers()["x-name"], "xxxxxxxxx");
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "xxxxxxxxxx");
    }
    let held = layer.handle().stats().held;
    assert_eq!((held.answers, held.bytes < 1_000, Arc::strong_count(&buffer)), (1, true, alone));
}

#[tokio::test(start_paused = true)]
async fn a_key_belongs_to_its_user_and_stands_for_the_host_that_was_asked() {
    let count = Arc::new(AtomicU32::new(0));
    let send = async |layer: &HttpIdempotencyLayer, uri: &str, headers: &[(&str, &str)]| {
        let post = Ask::post(uri).header("idempotency-key", "7");
        let post = headers.iter().fold(post, |post, (name, value)| post.header(*name, *value));
        let answer =
            layer.layer(orders(&count)).oneshot(post.body(Full::<Bytes>::from("apple")).unwrap()).await.unwrap();
        let number = answer.headers().get("x-order").map(|number| number.to_str().unwrap().to_owned());
        (answer.status().as_u16(), number.unwrap_or_default())
    };
    let layer = HttpIdempotencyLayer::new();
    let (one, other) = (("cookie", "session=1"), ("cookie", "session=2"));
    assert_eq!(send(&layer, "/orders", &[one]).await, (201, "1".into()));
    assert_eq!(send(&layer, "/orders", &[other]).await, (201, "2".into()), "another session");
    assert_eq!(send(&layer, "/orders", &[("authorization", "session=1")]).await, (201, "3".into()), "another user");
    assert_eq!(send(&layer, "/orders", &[one]).await, (201, "1".into()));

    let at = |host| [("host", host), ("cookie", "session=3")];
    assert_eq!(send(&layer, "/orders", &at("shop")).await, (201, "4".into()));
    assert_eq!(send(&layer, "/orders", &at("bank")).await.0, 422, "another host");
    for uri in ["/orders", "http://shop/orders", "http://SHOP:80/orders"] {
        assert_eq!(send(&layer, uri, &at("SHOP")[1..]).await.0, if uri == "/orders" { 422 } else { 201 }, "{uri}");
    }

    // signed anew for every attempt
    let user =
        |head: &::http::request::Parts| head.headers.get("x-user").map_or(Vec::new(), |user| user.as_bytes().into());
    let layer = HttpIdempotencyLayer::new().owner(user);
    let signed = |user, signature| [("x-user", user), ("authorization", signature)];
    assert_eq!(send(&layer, "/orders", &signed("one", "a")).await, (201, "5".into()));
    assert_eq!(send(&layer, "/orders", &signed("one", "b")).await, (201, "5".into()));
    assert_eq!(send(&layer, "/orders", &signed("two", "b")).await, (201, "6".into()));
}
