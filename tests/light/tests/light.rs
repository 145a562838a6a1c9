//! What the default features give, used as a consumer would: one test per feature, and what they say of what is off.

use seedpod::{
    Kind, Result,
    adapter::{HealthAdapter, LogAdapter, MetricsAdapter, logs::Format},
    control::{self, Next},
    layer::{Request, RetryLayer},
    net::Net,
    pod::{ContainerSpec, Context, Pod, PodSpec, Probe, Volume},
    queue::{Broker, BrokerExt, Id, Memory, Publish, Topic, TopicOptions, Want},
    serving::{Endpoints, Replicas},
    store::{Key, Store},
};
use std::time::Duration;
use tower::{Layer, ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn replicas_behind_a_retry() -> Result {
    let endpoints = Endpoints::named("greeter");
    endpoints
        .insert("a", service_fn(|_: Request<u8>| async { Err::<&str, _>(seedpod::Error::from(Kind::Unavailable)) }));
    let replicas = Replicas::new(endpoints);
    let error = RetryLayer::new().layer(replicas).oneshot(Request::new(1).idempotent()).await.unwrap_err();
    assert_eq!((error.kind(), error.place()), (Kind::Unavailable, Some("a")));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_queue() -> Result {
    let (broker, jobs) = (Memory::new(), Topic::new("jobs"));
    broker.declare(&jobs, TopicOptions::new().subscription("workers")).await?;
    broker.send(Publish::json(&jobs, Id::of("job 1"), 21_u32)).await?;
    let leased = broker.lease(&jobs.subscription("workers"), Want::one()).await?;
    assert_eq!(leased[0].json::<u32>(0)?, 21);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_store_and_its_control_loop() -> Result {
    let store = Store::new();
    let (also, copies) = (store.clone(), store.clone());
    let step = service_fn(move |key: Key| {
        let store = also.clone();
        async move {
            if let Some(wanted) = store.get(&key) {
                store.put(["copies", key.name()], wanted.value).await?;
            }
            Ok::<_, seedpod::Error>(Next::Done)
        }
    });
    store.put("originals/a", 7).await?;
    let pump = control::reconcile(store, step).prefix("originals/");
    pump.run_until(tokio::time::sleep(Duration::from_secs(1))).await?;
    assert_eq!(copies.get("copies/a").map(|entry| entry.value), Some(7));
    Ok(())
}

/// Metrics go to a file and logs to the adapter's own; what needs HTTP says which feature that is.
#[tokio::test(start_paused = true)]
async fn adapters() -> Result {
    let (net, volume) = (Net::memory().build(), Volume::memory());
    volume.write("app.log", "[WARN] slow\n")?;
    let metrics = MetricsAdapter::to_file("shared", "app.prom", Duration::from_secs(1)).statsd(8125);
    let spec = PodSpec::new("app")
        .volume("shared", volume.clone())
        .container(ContainerSpec::new("metrics", metrics).mount("shared", "/shared"))
        .container(
            ContainerSpec::new("logs", LogAdapter::new(Format::plain()).file("shared", "app.log"))
                .mount("shared", "/shared"),
        )
        .container(ContainerSpec::new("http", MetricsAdapter::new(9090)))
        .container(ContainerSpec::new("health", HealthAdapter::new(8086)));
    let pod = Pod::start(spec, &net)?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(volume.read("app.prom")?.starts_with(b"# HELP seedpod_adapter_dropped_total"));
    assert!(pod.logs("logs")[0].text.ends_with(r#""level":"warn","message":"slow"}"#));
    for container in &pod.status().containers[2..] {
        let told = format!("{container:?}");
        assert!(told.contains("needs the feature `http` of seedpod"), "{told}");
    }
    Ok(())
}

/// The default has no HTTP: a check that needs it says so, and counts neither way.
#[tokio::test(start_paused = true)]
async fn a_check_over_http_says_which_feature_it_needs() -> Result {
    async fn app(context: Context) -> Result {
        let _listener = context.listen(80).await?;
        context.stopped().await;
        Ok(())
    }
    for (probe, kind) in [(Probe::http(80, "/"), "an HTTP"), (Probe::grpc(80), "a gRPC")] {
        let app = ContainerSpec::new("app", app).liveness(probe).readiness(Probe::tcp(80));
        let pod = Pod::start(PodSpec::new("web").container(app), &Net::memory().build())?;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let status = pod.status();
        assert!(status.ready.holds && status.restarts() == 0);
        let said = status.containers[0].unhealthy.as_deref().unwrap_or_default();
        assert!(said.ends_with(&format!("{kind} check needs the feature `http` of seedpod")), "{said}");
    }
    Ok(())
}
