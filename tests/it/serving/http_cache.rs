//! The HTTP cache in front of replicas over the network: one call for a stampede, stale answers while all are out, the
//! rule of readiness, and nothing left behind by who is dropped.

use super::{
    drops::{Slow, leaves_nothing, slowly},
    *,
};
use ::http::{Request as Ask, Response};
use axum::{Router, routing::get};
use bytes::Bytes;
use futures::future::join_all;
use http_body_util::Full;
use seedpod::{
    http::{Body, Client, serve},
    layer::HttpCacheLayer,
    net::{Host, HostOptions, Net},
    testing::readiness::{Probe, check},
};
use std::future::IntoFuture;

fn ask(url: &str) -> Ask<Full<Bytes>> {
    Ask::get(url).body(Full::default()).unwrap()
}

fn answered(control: &str) -> Response<Full<Bytes>> {
    Response::builder().header("cache-control", control).header("etag", "\"1\"").body(Full::from("hello")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_http_cache_keeps_the_rule_of_readiness() {
    type Plain = Probe<Ask<Full<Bytes>>, Response<Full<Bytes>>>;
    let probe = |control: &'static str, method: &'static str| {
        let request = move || Ask::builder().method(method).uri("http://shop/").body(Full::<Bytes>::default()).unwrap();
        check(request, move |_| answered(control), |probe: Plain| HttpCacheLayer::new().layer(probe))
    };
    for (control, method) in [("max-age=0", "GET"), ("no-store", "GET"), ("max-age=9", "POST"), ("max-age=9", "HEAD")] {
        let report = probe(control, method).await.unwrap();
        assert!(report.calls > 5 && report.clones <= report.calls + 3 && report.cancelled > 0, "{method}: {report:?}");
    }
}

/// Takes 100 polls for a call, as the slow one beneath does.
fn page(
    slow: &Slow,
    control: &'static str,
) -> impl Service<Ask<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Error, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
+ use<> {
    let slow = slow.clone();
    service_fn(move |_: Ask<Full<Bytes>>| {
        let slow = slow.clone();
        async move { slow.oneshot(Request::new(1).idempotent()).await.map(|_| answered(control)) }
    })
}

#[tokio::test(start_paused = true)]
async fn http_calls_dropped_after_any_number_of_polls_leave_no_flight_no_waiter_and_no_byte() {
    for (control, kept) in [("max-age=60", true), ("no-store", false), ("max-age=0", true)] {
        let slow = slowly();
        let layer = HttpCacheLayer::new();
        let (service, handle) = (layer.layer(page(&slow, control)), layer.handle());
        let mut keeps = false;
        let left = || {
            let stats = handle.stats();
            keeps |= handle.purge("http://shop/").unwrap() > 0;
            handle.purge_all();
            (stats.in_flight, stats.waiting, slow.under_way(), handle.stats().urls, handle.stats().bytes)
        };
        let call = || service.clone().oneshot(ask("http://shop/"));
        // two of which none is for the other are one after the other: too long for 200 polls
        match control {
            "max-age=60" => leaves_nothing(|| async { tokio::join!(call(), call()) }, left).await,
            _ => leaves_nothing(call, left).await,
        }
        assert_eq!(keeps, kept, "{control}");
    }
}

fn host(net: &Net, name: &str) -> Host {
    net.host(HostOptions { name: name.into(), ..Default::default() }).unwrap()
}

/// Three replicas that say who they are, with the calls that have reached them.
async fn shop(net: &Net, caller: &Host) -> (Endpoints<Client>, Arc<AtomicU32>) {
    let (endpoints, calls) = (seeded("shop"), Arc::new(AtomicU32::new(0)));
    for name in ["a", "b", "c"] {
        let (server, counted) = (host(net, name), calls.clone());
        let page = get(move || async move {
            counted.fetch_add(1, SeqCst);
            time::sleep(20 * MILLI).await;
            ([("cache-control", "max-age=10, stale-if-error=600")], name)
        });
        let listener = server.listen(80).await.unwrap();
        server.scope().spawn(serve(listener, Router::new().route("/", page)).into_future());
        endpoints.insert(name, Client::new(caller).base(&format!("http://{}", server.ip())).unwrap());
    }
    (endpoints, calls)
}

#[tokio::test(start_paused = true)]
async fn over_http_a_stampede_reaches_one_replica_once_and_all_out_gives_the_stale_answer() {
    let net = Net::memory().seed(Seed::new(3)).build();
    let caller = host(&net, "caller");
    let (endpoints, calls) = shop(&net, &caller).await;
    let layer = HttpCacheLayer::new().clock(net.wall_clock());
    let service = layer.layer(Replicas::new(endpoints.clone()).classify(HttpStatus));
    let page = || Ask::get("/").body(Body::empty()).unwrap();
    let answers = join_all((0..1_000).map(|_| service.clone().oneshot(page()))).await;
    for answer in answers {
        assert_eq!(answer.unwrap().into_body_text().await.len(), 1);
    }
    assert_eq!((calls.load(SeqCst), layer.handle().stats().coalesced), (1, 999));

    for name in ["a", "b", "c"] {
        endpoints.remove(name);
    }
    time::sleep(60 * SECOND).await;
    let stale = service.clone().oneshot(page()).await.unwrap();
    let said = stale.headers()["cache-status"].to_str().unwrap();
    assert_eq!(
        (said, &stale.headers()["age"]),
        ("seedpod; fwd=stale; detail=stale-if-error; ttl=-50", &"60".parse().unwrap())
    );
    let error = service.clone().oneshot(Ask::get("/other").body(Body::empty()).unwrap()).await.unwrap_err();
    assert_eq!((error.kind(), layer.handle().stats().stale_if_error), (Kind::Unavailable, 1));

    // the cache is a service like any other: served, it is a caching proxy
    let proxy = host(&net, "proxy");
    proxy.scope().spawn(serve(proxy.listen(80).await.unwrap(), service).into_future());
    let answer = Client::new(&caller).get("http://proxy/").await.unwrap();
    assert_eq!(answer.status(), 503, "another host is another page");
}

/// Reads a body that came through the cache.
trait Text {
    async fn into_body_text(self) -> String;
}

impl<B> Text for Response<B>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<seedpod::BoxError>,
{
    async fn into_body_text(self) -> String {
        Body::new(self.into_body()).text().await.unwrap()
    }
}
