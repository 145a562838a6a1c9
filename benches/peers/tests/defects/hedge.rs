//! tower's hedge: a second attempt that fails kills a healthy first one; losers are never recorded; nothing bounds what
//! it adds; the second attempt goes wherever the first one went.

use futures::channel::mpsc;
use seedpod::{
    base::{Seed, time},
    layer::{HedgeLayer, Request},
    serving::{Endpoints, Replicas},
};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tower::{
    BoxError, Layer, Service, ServiceExt,
    balance::p2c::Balance,
    buffer::Buffer,
    discover::Change,
    hedge::{Hedge, Policy},
    load::{CompleteOnResponse, PendingRequests},
    service_fn,
};

const MILLI: Duration = Duration::from_millis(1);

type Ask = Request<u32>;

/// Every request may be sent twice.
#[derive(Clone)]
struct Always;

impl Policy<Ask> for Always {
    fn clone_request(&self, request: &Ask) -> Option<Ask> {
        Some(request.clone())
    }

    fn can_retry(&self, _: &Ask) -> bool {
        true
    }
}

/// Each service under test hedges one call in ten, and has seen twenty calls of 10 ms.
fn towers<S>(inner: S, period: Duration) -> Hedge<S, Always>
where
    S: Service<Ask, Response = u32> + Clone,
    S::Error: Into<BoxError>,
{
    Hedge::new_with_mock_latencies(inner, Always, 10, 0.9, period, &[10; 20])
}

async fn ours() -> HedgeLayer {
    let layer = HedgeLayer::new(0.1).unwrap();
    let mut quick = layer.layer(service_fn(|_: Ask| async {
        time::sleep(10 * MILLI).await;
        Ok::<_, Infallible>(1)
    }));
    for _ in 0..20 {
        quick.call(Request::new(0).idempotent()).await.unwrap();
    }
    layer
}

/// Attempts, by request.
#[derive(Clone, Default)]
struct Attempts(Arc<Mutex<BTreeMap<u32, u32>>>);

impl Attempts {
    /// Which one of this request it is, from 1.
    fn count(&self, request: &Ask) -> u32 {
        let mut made = self.0.lock().unwrap();
        let attempt = made.entry(*request.message()).or_default();
        *attempt += 1;
        *attempt
    }

    fn all(&self) -> u32 {
        self.0.lock().unwrap().values().sum()
    }
}

/// Answers the number of the attempt, after so many milliseconds, or fails.
fn scripted(
    attempts: &Attempts,
    script: impl Fn(u32, u32) -> (u32, bool) + Clone + Send + Sync + 'static,
) -> impl Service<Ask, Response = u32, Error = String, Future: Send> + Clone + Send + Sync + 'static {
    let attempts = attempts.clone();
    service_fn(move |request: Ask| {
        let attempt = attempts.count(&request);
        let (millis, well) = script(*request.message(), attempt);
        async move {
            time::sleep(millis * MILLI).await;
            if well { Ok(attempt) } else { Err("it fails".to_owned()) }
        }
    })
}

async fn call<S>(service: &mut S, number: u32) -> Result<u32, BoxError>
where
    S: Service<Ask, Response = u32, Error: Into<BoxError>>,
{
    let ready = service.ready().await.map_err(Into::into)?;
    ready.call(Request::new(number).idempotent()).await.map_err(Into::into)
}

/// The first attempt answers after 50 ms, the second fails after one.
fn fragile(_: u32, attempt: u32) -> (u32, bool) {
    if attempt == 1 { (50, true) } else { (1, false) }
}

#[tokio::test(start_paused = true)]
async fn ours_lets_a_healthy_original_answer_when_its_hedge_fails() {
    let attempts = Attempts::default();
    let mut service = ours().await.layer(scripted(&attempts, fragile));
    assert_eq!((call(&mut service, 1).await.unwrap(), attempts.all()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn towers_fails_the_call_with_the_error_of_the_hedge() {
    let attempts = Attempts::default();
    let mut service = towers(scripted(&attempts, fragile), 30_000 * MILLI);
    assert_eq!(call(&mut service, 1).await.unwrap_err().to_string(), "it fails");
}

/// Three first attempts of ten take a second; all others 10 ms.
fn often_slow(number: u32, attempt: u32) -> (u32, bool) {
    if attempt == 1 && number % 10 < 3 { (1_000, true) } else { (10, true) }
}

/// Makes four thousand calls. How many of the last thousand were made twice.
async fn late_hedges<S>(mut service: S, attempts: &Attempts) -> u32
where
    S: Service<Ask, Response = u32, Error: Into<BoxError>>,
{
    let mut before = 0;
    for number in 0..4_000 {
        if number == 3_000 {
            before = attempts.all();
        }
        call(&mut service, number).await.unwrap();
    }
    attempts.all() - before - 1_000
}

#[tokio::test(start_paused = true)]
async fn ours_records_losers_and_waits_longer_where_many_are_slow() {
    let (attempts, layer) = (Attempts::default(), ours().await);
    let hedged = late_hedges(layer.layer(scripted(&attempts, often_slow)), &attempts).await;
    let delay = layer.handle().delay().unwrap();
    assert!(hedged <= 100 && delay > 500 * MILLI, "{hedged} of 1,000 after {delay:?}");
}

#[tokio::test(start_paused = true)]
async fn towers_never_sees_the_slow_ones_and_hedges_three_in_ten_at_its_ninetieth_percentile() {
    let attempts = Attempts::default();
    let service = towers(scripted(&attempts, often_slow), 5_000 * MILLI);
    assert_eq!(late_hedges(service, &attempts).await, 300);
}

/// All calls take a hundred milliseconds from now on: how many attempts two hundred of them make.
async fn attempts_when_all_is_slow<S>(mut service: S, attempts: &Attempts) -> u32
where
    S: Service<Ask, Response = u32, Error: Into<BoxError>>,
{
    for number in 0..200 {
        call(&mut service, number).await.unwrap();
    }
    attempts.all()
}

fn all_slow(_: u32, _: u32) -> (u32, bool) {
    (100, true)
}

#[tokio::test(start_paused = true)]
async fn ours_adds_no_more_than_its_part_when_all_becomes_slow() {
    let attempts = Attempts::default();
    let made = attempts_when_all_is_slow(ours().await.layer(scripted(&attempts, all_slow)), &attempts).await;
    assert!((201..=222).contains(&made), "{made} for 200, and 20 before");
}

#[tokio::test(start_paused = true)]
async fn towers_doubles_the_load_when_all_becomes_slow() {
    let attempts = Attempts::default();
    let service = towers(scripted(&attempts, all_slow), 30_000 * MILLI);
    assert_eq!(attempts_when_all_is_slow(service, &attempts).await, 400);
}

/// An endpoint: holds request 0 for ever, answers others with its number after so many milliseconds.
#[derive(Clone, Copy)]
struct Endpoint {
    number: u32,
    millis: u32,
}

const BUSY: Endpoint = Endpoint { number: 1, millis: 10 };
const STALLED: Endpoint = Endpoint { number: 2, millis: 1_000 };

impl Service<Ask> for Endpoint {
    type Response = u32;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<u32, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Ask) -> Self::Future {
        let Endpoint { number, millis } = *self;
        Box::pin(async move {
            if *request.message() == 0 {
                std::future::pending::<()>().await;
            }
            time::sleep(millis * MILLI).await;
            Ok(number)
        })
    }
}

/// Holds three calls in what stands behind it.
async fn hold<S>(service: &S)
where
    S: Service<Ask, Response = u32, Future: Send, Error: Into<BoxError> + Send> + Clone + Send + 'static,
{
    for _ in 0..3 {
        let mut service = service.clone();
        tokio::spawn(async move { call(&mut service, 0).await.map_err(drop) });
    }
    time::sleep(MILLI).await;
}

#[tokio::test(start_paused = true)]
async fn ours_sends_the_second_attempt_elsewhere() {
    let replicas = Replicas::new(Endpoints::named("two").seed(Seed::new(1)));
    replicas.endpoints().insert("busy", BUSY);
    hold(&replicas).await;
    replicas.endpoints().insert("stalled", STALLED);
    let start = time::now();
    let answer = call(&mut ours().await.layer(replicas), 1).await.unwrap();
    assert_eq!(answer, 1, "the idle one stalls, the other answers");
    assert!(start.elapsed() < 300 * MILLI, "twenty calls before, then the hedge");
}

#[tokio::test(start_paused = true)]
async fn towers_sends_it_where_the_first_one_hangs() {
    let (changes, discover) = mpsc::unbounded();
    let insert = |endpoint: Endpoint| {
        let counted = PendingRequests::new(endpoint, CompleteOnResponse::default());
        changes.unbounded_send(Ok::<_, Infallible>(Change::Insert(endpoint.number, counted))).unwrap();
    };
    insert(BUSY);
    let balance = Buffer::new(Balance::new(discover), 10);
    hold(&balance).await;
    insert(STALLED);
    let start = time::now();
    let answer = call(&mut towers(balance, 30_000 * MILLI), 1).await.unwrap();
    assert_eq!(answer, 2);
    assert!(start.elapsed() >= 1_000 * MILLI);
}
