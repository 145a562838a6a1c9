//! Readiness asked over HTTP and gRPC: at the endpoint itself, and at the sidecar beside it.

use super::*;
use axum::{Router, http::StatusCode, routing::get};
use seedpod::{
    net::{Host, HostOptions, Net},
    pod::{Check, Probe},
    serving::Probes,
};
use std::{
    future::IntoFuture,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

fn host(net: &Net, name: &str) -> Host {
    net.host(HostOptions { name: name.into(), ..Default::default() }).unwrap()
}

async fn serve(host: &Host, port: u16, router: Router) {
    let listener = host.listen(port).await.unwrap();
    host.scope().spawn(seedpod::http::serve(listener, router).into_future());
}

fn said(endpoints: &Endpoints<u32>) -> Vec<String> {
    endpoints.describe().iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_status_below_400_is_ready_also_where_a_sidecar_gives_it() {
    let net = Net::memory().build();
    let (one, two, client) = (host(&net, "one"), host(&net, "two"), host(&net, "client"));
    let well = Arc::new(AtomicBool::new(true));
    let answer = |well: Arc<AtomicBool>| {
        get(move || async move { if well.load(Relaxed) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE } })
    };
    serve(&one, 15021, Router::new().route("/ready", answer(well.clone()))).await;
    serve(&two, 15021, Router::new().route("/ready", get(|| async { StatusCode::FOUND }))).await;
    let endpoints = Endpoints::named("cart");
    for (number, server) in [&one, &two].into_iter().enumerate() {
        endpoints.insert(format!("{}:7070", server.ip()), number as u32);
    }
    let probes = Probes::new(&client, Probe::http(15021, "/ready").period(SECOND).failures(2));
    let report = probes.report();
    tokio::spawn(endpoints.probe(probes).into_future());
    time::sleep(5 * SECOND).await;
    let (first, second) = (format!("{}:7070", one.ip()), format!("{}:7070", two.ip()));
    assert_eq!(said(&endpoints), [format!("{first}: ready"), format!("{second}: ready")]);
    well.store(false, SeqCst);
    time::sleep(3 * SECOND).await;
    assert_eq!(said(&endpoints), [format!("{first}: not ready"), format!("{second}: ready")]);
    let place = format!("{}:15021, path /ready", one.ip());
    let complaint = format!("{first}: not ready, last: {place}: failed: status 503 Service Unavailable");
    assert_eq!(report.list()[0].to_string(), complaint);
    well.store(true, SeqCst);
    time::sleep(2 * SECOND).await;
    assert_eq!(said(&endpoints)[0], format!("{first}: ready"));
    one.scope().kill();
    time::sleep(3 * SECOND).await;
    assert_eq!(said(&endpoints), [format!("{first}: not ready"), format!("{second}: ready")], "nobody listens");
}

#[tokio::test(start_paused = true)]
async fn the_grpc_health_check_is_asked_by_service() {
    let net = Net::memory().build();
    let (server, client) = (host(&net, "server"), host(&net, "client"));
    let health = axum::routing::post(|body: axum::body::Bytes| async move {
        // a request for "cart" alone is answered with SERVING
        let status = if body.ends_with(b"cart") { 1 } else { 2 };
        let frame = bytes::Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]);
        let trailers =
            ::http::HeaderMap::from_iter([(::http::HeaderName::from_static("grpc-status"), "0".parse().unwrap())]);
        let frames = [Ok::<_, Error>(http_body::Frame::data(frame)), Ok(http_body::Frame::trailers(trailers))];
        let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
        ::http::Response::builder()
            .header("content-type", "application/grpc")
            .body(axum::body::Body::new(body))
            .unwrap()
    });
    serve(&server, 7070, Router::new().route("/grpc.health.v1.Health/Check", health)).await;
    for (service, expected) in [("cart", "server: ready"), ("other", "server: not ready")] {
        let endpoints = Endpoints::named("cart");
        let probe = Probe::new(Check::Grpc { port: 7070, service: service.into() });
        let probes = Probes::new(&client, probe);
        let report = probes.report();
        let _probing = tokio::spawn(endpoints.probe(probes).into_future());
        time::sleep(MILLI).await;
        endpoints.insert("server", 1);
        time::sleep(SECOND).await;
        assert_eq!(said(&endpoints), [expected], "{report:?}");
    }
}
