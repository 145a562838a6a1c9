//! The shop of `examples/boutique`, in paused time: it stays open, and its summary sees what a broken service does.

#[path = "../../examples/boutique/main.rs"]
#[allow(dead_code, reason = "the example has a main of its own")]
mod example;

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode},
    middleware::{self, Next},
    response::IntoResponse,
};
use example::{
    call::Caller,
    inspect, manifest,
    model::Order,
    services::{self, Ledger, payment},
    shop::Shop,
    show,
    summary::Summary,
    table::Table,
};
use seedpod::{
    Error, Kind, Result,
    base::{Seed, sync::Lock, time},
    pod::{Context, Image},
    queue::{self, Message, Topic},
};
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// What a show has printed.
#[derive(Clone, Default)]
struct Transcript(Arc<Lock<Vec<u8>>>);

impl Transcript {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl io::Write for Transcript {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A short show, with some of the images replaced: how it ended, and what it printed.
async fn play(seed: u64, replaced: Vec<(&'static str, Image)>) -> (Summary, String) {
    let seed = Seed::new(seed);
    let _simulation = seed.simulate();
    let images = services::images().into_iter().chain(replaced);
    let shop = Shop::open(seed, images).await.unwrap();
    let transcript = Transcript::default();
    let mut table = Table::plain(transcript.clone());
    let length = Duration::from_secs(2);
    let summary = show::play(&shop, seed, length, std::future::pending(), &mut table).await.unwrap();
    shop.close().await;
    (summary, transcript.text())
}

#[tokio::test(start_paused = true)]
async fn the_shop_stays_open() {
    let (summary, printed) = play(1, Vec::new()).await;
    assert!(summary.is_clean(), "{printed}{summary}");
    assert!(summary.orders > 20 && summary.requests > 200, "{printed}{summary}");
    let killed = printed.lines().find(|line| line.starts_with(">> killed checkout-"));
    assert!(killed.is_some_and(|line| line.contains("× POST /orders")), "{printed}");
    assert!(printed.contains(">> drained node-") && printed.contains(">> rolled recommendation to v2"), "{printed}");
    assert_eq!(play(1, Vec::new()).await, (summary, printed), "the same seed, in paused time");
}

#[tokio::test(start_paused = true)]
async fn a_show_that_ends_early_ends_in_order_at_any_moment() {
    for seed in 0..4 {
        let seed = Seed::new(seed);
        let _simulation = seed.simulate();
        let shop = Shop::open(seed, services::images()).await.unwrap();
        let mut table = Table::plain(Transcript::default());
        let (began, length) = (time::now(), Duration::from_secs(4));
        let early = time::sleep(Duration::from_millis(seed.fork("early").rng().range(0..3000)));
        let summary = show::play(&shop, seed, length, early, &mut table).await.unwrap();
        assert!(summary.is_clean(), "{seed:?}: {summary}");
        assert!(began.elapsed() < length, "{seed:?}");
        shop.close().await;
    }
}

/// A payment service of which every third answer gets lost on the way, after the card has been charged.
async fn shaky(context: Context, keeps_its_key: bool) -> Result {
    let (charges, pod) = (Arc::new(AtomicU64::new(0)), context.pod().to_string());
    let shaken = middleware::from_fn(move |mut request: Request, next: Next| {
        let charge = charges.fetch_add(1, Ordering::Relaxed);
        let new_key = HeaderValue::try_from(format!("{pod}-{charge}"));
        async move {
            if !keeps_its_key {
                request.headers_mut().insert("idempotency-key", new_key.unwrap());
            }
            let answer = next.run(request).await;
            if charge % 3 == 0 { StatusCode::SERVICE_UNAVAILABLE.into_response() } else { answer }
        }
    });
    services::serve(&context, payment::router(&context)?.layer(shaken)).await
}

#[tokio::test(start_paused = true)]
async fn lost_answers_double_no_payment() {
    let (summary, _) = play(2, vec![("shop/payment:v1", Image::new(|context| shaky(context, true)))]).await;
    assert!(summary.is_clean() && summary.orders > 20, "{summary}");
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_forgets_its_key_is_found() {
    let (summary, _) = play(2, vec![("shop/payment:v1", Image::new(|context| shaky(context, false)))]).await;
    assert!(summary.orders_doubled > 0 && !summary.is_clean(), "{summary}");
    assert_eq!(summary.orders_lost, 0, "{summary}");
}

/// An e-mail service that acknowledges first and sends afterwards; not every mail server takes the mail at once.
async fn hasty(context: Context) -> Result {
    let broker = context.broker("orders")?;
    let (caller, ledger, sent) = (Caller::new(&context), Ledger::new(&context, "email"), Arc::new(AtomicU64::new(0)));
    let background = context.clone();
    let send = tower::service_fn(move |message: Message| {
        let (caller, ledger, number) = (caller.clone(), ledger.clone(), sent.fetch_add(1, Ordering::Relaxed));
        let order = message.json::<Order>();
        background.spawn(async move {
            let order = order?;
            match number % 5 {
                0 => Err(Error::new(Kind::Unavailable, "the mail server is busy")),
                _ => ledger.once(&caller.keyed(&order.id), &order.id, &order.id, "a mail".to_string()).await,
            }
        });
        async { Ok::<_, Error>(()) }
    });
    let sending = queue::consume(broker, Topic::new("orders").subscription("email"), send);
    tokio::try_join!(services::serve(&context, Router::new()), sending.run_until(context.stopped()))?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_mail_acknowledged_before_it_is_sent_is_found() {
    let (summary, _) = play(3, vec![("shop/email:v1", Image::new(hasty))]).await;
    assert!(summary.orders_lost > 0 && !summary.is_clean(), "{summary}");
    assert_eq!((summary.failed, summary.orders_doubled), (0, 0), "{summary}");
}

fn online_boutique() -> String {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/manifests");
    let folder = std::env::var_os("SEEDPOD_MANIFESTS").map_or(default, PathBuf::from);
    let file = folder.join("microservices-demo/release__kubernetes-manifests.yaml");
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[tokio::test(start_paused = true)]
#[ignore = "needs the manifests, which are not part of this repository: SEEDPOD_MANIFESTS says where they are"]
async fn manifests_online_boutique_becomes_available() {
    let _simulation = Seed::new(1).simulate();
    let mut told = Vec::new();
    let within = Duration::from_secs(180);
    let summary = manifest::run(&online_boutique(), Seed::new(1), within, |line| told.push(line)).await.unwrap();
    assert_eq!(summary.to_string(), "summary workloads=12 available=12", "{told:#?}");
}

#[tokio::test(start_paused = true)]
#[ignore = "needs the manifests, which are not part of this repository: SEEDPOD_MANIFESTS says where they are"]
async fn manifests_online_boutique_without_a_frontend_keeps_its_load_generator_waiting() {
    let _simulation = Seed::new(1).simulate();
    let (cluster, _) = manifest::start(&online_boutique(), Seed::new(1)).await.unwrap();
    cluster.scale("deployment/frontend", 0).await.unwrap();
    let waits = |after: u64| {
        let pods = cluster.list("pods").unwrap();
        let pod = pods.iter().find(|pod| pod.name().starts_with("loadgenerator-")).unwrap();
        assert_eq!(inspect::word(pod).unwrap(), "Init:0/1", "after {after} s");
    };
    for after in (10..=100).step_by(10) {
        time::sleep(Duration::from_secs(10)).await;
        waits(after);
    }
    let frontend = cluster.list("pods").unwrap().into_iter().filter(|pod| pod.name().starts_with("frontend-"));
    assert_eq!(frontend.count(), 0);
    cluster.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_not_there_is_named() {
    let _simulation = Seed::new(1).simulate();
    let manifest = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec: {containers: [{name: main, image: example.org/api:v3, workingDir: /}, {name: b, image: x, workingDir: /}]}
";
    let mut told = Vec::new();
    let within = Duration::from_secs(60);
    let summary = manifest::run(manifest, Seed::new(1), within, |line| told.push(line)).await.unwrap();
    assert_eq!(summary.to_string(), "summary workloads=1 available=0");
    assert_eq!(
        told[..2],
        ["2 fields are stored and not acted on:", "    2 × spec.template.spec.containers[].workingDir"]
    );
    assert_eq!(told[2], "api is not available: 0 of 1 pods are available");
    assert!(told[3].contains("ImagePullBackOff: image example.org/api:v3: not found"), "{told:?}");
}

/// Where [`as_a_process`] finds its command line.
pub(super) const ARGUMENTS: &str = "SEEDPOD_BOUTIQUE_ARGUMENTS";

#[test]
#[ignore = "the example in a process of its own, started by other tests"]
fn as_a_process() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert!(runtime.block_on(example::run(arguments.split_whitespace().map(str::to_owned))).unwrap());
}
