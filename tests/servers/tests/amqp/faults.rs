//! The server killed and paused under load: nothing that it answered for is lost, and nothing stalls in silence.

use seedpod::{
    Kind,
    queue::{Amqp, Broker, BrokerExt, Id, Publish, Step, Subscription, Topic, TopicOptions, Want},
};
use seedpod_server_tests::{
    rabbit::Rabbit,
    total::{Total, Verdict},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// How often the server is hurt in a run: 20 in the soak, by `SEEDPOD_SERVER_ROUNDS=20`.
fn rounds() -> u64 {
    std::env::var("SEEDPOD_SERVER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// What publishers and workers share.
struct Load {
    broker: Amqp,
    topic: Topic,
    workers: Subscription,
    total: Total,
    next: AtomicU64,
    publishing: AtomicBool,
    working: AtomicBool,
    errors: AtomicU64,
}

/// Publishes number after number. One that failed may be there or not, and is not sent again: that would double it.
async fn publisher(load: Arc<Load>) {
    while load.publishing.load(Relaxed) {
        let number = load.next.fetch_add(1, Relaxed);
        load.total.sent(number);
        let delay = if number.is_multiple_of(10) { SECOND / 2 } else { Duration::ZERO };
        let publish = Publish::json(&load.topic, Id::of(number.to_string()), number).delay(delay);
        match load.broker.send(publish).await {
            Ok(receipt) if receipt.stored == 1 => load.total.confirmed(number),
            Ok(receipt) => panic!("kept by nobody: {receipt:?}"),
            Err(error) => hurt(&load, &error).await,
        }
        sleep(Duration::from_millis(2)).await;
    }
}

async fn worker(load: Arc<Load>) {
    while load.working.load(Relaxed) {
        match load.broker.lease(&load.workers, Want::items(4).wait(SECOND).hold(20 * SECOND)).await {
            Ok(deliveries) => {
                for delivery in deliveries {
                    let number = delivery.json::<u64>(0).unwrap();
                    load.total.delivered(number);
                    match load.broker.ack(delivery.lease).await {
                        Ok(()) => load.total.settled(number),
                        Err(error) if error.kind() == Kind::LeaseLost => {} // it comes again
                        Err(error) => {
                            load.total.unclear(number);
                            hurt(&load, &error).await;
                        }
                    }
                }
            }
            Err(error) => hurt(&load, &error).await,
        }
    }
}

async fn hurt(load: &Load, error: &seedpod::Error) {
    assert!(error.is_retryable(), "it would stop a worker: {}", error.chain());
    assert!(error.to_string().contains("broker amqp://127.0.0.1:"), "{error}");
    load.errors.fetch_add(1, Relaxed);
    sleep(Duration::from_millis(50)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_server_is_killed_and_paused() {
    let mut rabbit = Rabbit::start("");
    let broker = Amqp::new(&rabbit.url()).unwrap().patience(2 * SECOND);
    let topic = Topic::new("load");
    broker.declare(&topic, TopicOptions::new().subscription("workers").dead_letters("load.dead")).await.unwrap();
    let load = Arc::new(Load {
        workers: topic.subscription("workers"),
        broker,
        topic,
        total: Total::default(),
        next: AtomicU64::new(0),
        publishing: AtomicBool::new(true),
        working: AtomicBool::new(true),
        errors: AtomicU64::new(0),
    });
    let publishers: Vec<_> = (0..3).map(|_| tokio::spawn(publisher(load.clone()))).collect();
    let workers: Vec<_> = (0..3).map(|_| tokio::spawn(worker(load.clone()))).collect();
    for round in 0..rounds() {
        sleep(2 * SECOND).await;
        let before = load.total.verdict().confirmed;

        if round % 2 == 0 {
            rabbit.server().kill();
            sleep(SECOND / 2).await;
            tokio::task::block_in_place(|| rabbit.server().begin());
        } else {
            rabbit.server().pause();
            sleep(4 * SECOND).await;
            rabbit.server().resume();
        }
        // it goes on by itself
        let began = Instant::now();
        while load.total.verdict().confirmed < before + 10 {
            assert!(began.elapsed() < 60 * SECOND, "no publish since the server is back: {}", rabbit.server().log());
            sleep(SECOND / 20).await;
        }
    }
    load.publishing.store(false, Relaxed);
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let began = Instant::now();
    while load.total.verdict().unsettled > 0 && began.elapsed() < 240 * SECOND {
        sleep(SECOND / 10).await;
    }
    sleep(3 * SECOND).await; // what comes twice, comes now
    load.working.store(false, Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    let verdict = load.total.verdict();
    let errors = load.errors.load(Relaxed);
    eprintln!("verdict amqp: the server killed or paused {} times: {verdict}; {errors} calls failed", rounds());
    let Verdict { lost, unexpected, unsettled, .. } = verdict;
    assert_eq!((lost, unexpected, unsettled), (0, 0, 0), "{:?}", load.total.unsettled());
    assert!(verdict.confirmed > 50 * rounds() as usize, "hardly any load");
    let stats = load.broker.inspect(&load.topic).await.unwrap();
    assert_eq!((stats.ready, stats.leased), (0, 0), "something is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_end_with_their_server_and_who_waits_is_told() {
    let mut rabbit = Rabbit::start("");
    after_a_kill(&mut rabbit).await;
    while_it_waits(&mut rabbit).await;
}

/// A lease does not outlive its server: who holds it is told so, and the message comes again, counted as a lapse.
async fn after_a_kill(rabbit: &mut Rabbit) {
    let broker = Amqp::new(&rabbit.url()).unwrap().patience(2 * SECOND);
    let topic = Topic::new("stale");
    broker.declare(&topic, TopicOptions::new().subscription("one")).await.unwrap();
    let subscription = topic.subscription("one");
    broker.send(Publish::new(&topic, Id::of("a"), "x")).await.unwrap();
    let want = Want::one().wait(30 * SECOND).hold(600 * SECOND);
    let held = broker.lease(&subscription, want).await.unwrap().remove(0);
    // a queue that is younger than a second when the server is killed answers nobody any more, whichever client asks
    sleep(2 * SECOND).await;
    rabbit.server().kill();
    tokio::task::block_in_place(|| rabbit.server().begin());
    let again = loop {
        match broker.lease(&subscription, want).await {
            Ok(mut got) => break got.remove(0),
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        sleep(SECOND / 10).await;
    };
    assert_eq!((again.id(0), again.attempts.lapses), (held.id(0), 1));
    for step in [Step::new().ack(held.lease), Step::new().extend(held.lease, SECOND)] {
        let error = broker.settle(step).await.unwrap_err();
        assert_eq!((error.kind(), error.place()), (Kind::LeaseLost, Some("subscription stale/one")), "{error}");
    }
    broker.ack(again.lease).await.unwrap();
}

/// Whoever waits for messages is told when the server stops answering, and does not wait for ever.
async fn while_it_waits(rabbit: &mut Rabbit) {
    let broker = Amqp::new(&rabbit.url()).unwrap().patience(2 * SECOND);
    let topic = Topic::new("silent");
    broker.declare(&topic, TopicOptions::new().subscription("one")).await.unwrap();
    let subscription = topic.subscription("one");
    let began = Instant::now();
    let waiting = broker.lease(&subscription, Want::one());
    let pause = async {
        sleep(SECOND).await;
        rabbit.server().pause();
    };
    let (waited, ()) = tokio::time::timeout(30 * SECOND, futures::future::join(waiting, pause)).await.expect("a stall");
    let error = waited.unwrap_err();
    eprintln!("a paused server was noticed by who waits after {:?}: {error}", began.elapsed());
    assert!(error.is_retryable(), "{error}");
    rabbit.server().resume();
    let began = Instant::now();
    while let Err(error) = broker.send(Publish::new(&topic, Id::of("a"), "x")).await {
        assert!(error.is_retryable() && began.elapsed() < 30 * SECOND, "{error}");
        sleep(SECOND / 10).await;
    }
    assert_eq!(broker.lease(&subscription, Want::one().wait(30 * SECOND)).await.unwrap().len(), 1);
}
