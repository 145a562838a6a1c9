//! Servers that are killed and paused under load, and a checker of the whole queue: what was lost, doubled, unexpected.

use crate::servers;
use seedpod::{
    base::{Rng, Seed},
    queue::{Broker, BrokerExt, Id, Nats, Publish, Topic, TopicOptions, Want},
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// What is known of each message: how often it was confirmed, handled, and acknowledged for sure.
#[derive(Default)]
struct Witness {
    confirmed: BTreeMap<Id, u32>,
    handled: BTreeMap<Id, u32>,
    /// Handled again after an acknowledgement that the server had confirmed.
    after_ack: u32,
    acknowledged: BTreeMap<Id, u32>,
    errors: u32,
    longest_stall: Duration,
}

fn rounds() -> u32 {
    std::env::var("SEEDPOD_SERVER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_paused_under_load_nothing_is_lost() {
    for program in servers::programs() {
        tell(program).await;
    }
}

async fn tell(program: PathBuf) {
    let name = program.display().to_string();
    let mut server = servers::start(program);
    let broker =
        Arc::new(Nats::builder(servers::url(&server)).timeout(Duration::from_secs(2)).connect().await.unwrap());
    let topic = Topic::new("load");
    let options = TopicOptions::new().subscription("s").dedup(Duration::from_secs(120));
    broker.declare(&topic, options).await.unwrap();
    let witness = Arc::new(Mutex::new(Witness::default()));
    let (publishing, working) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
    let publishers: Vec<_> = (0..3)
        .map(|number| tokio::spawn(publish(broker.clone(), topic.clone(), number, publishing.clone(), witness.clone())))
        .collect();
    let workers: Vec<_> =
        (0..3).map(|_| tokio::spawn(work(broker.clone(), topic.clone(), working.clone(), witness.clone()))).collect();
    let mut rng = Seed::new(11).rng();
    let (mut killed, mut paused) = (0, 0);
    for round in 0..rounds() {
        sleep(300 + rng.below(700)).await;
        if round % 2 == 0 {
            killed += 1;
            server.kill();
            sleep(rng.below(1500)).await;
            server.begin();
        } else {
            paused += 1;
            server.pause();
            sleep(500 + rng.below(5000)).await;
            server.resume();
        }
    }
    sleep(500).await;
    publishing.store(false, Ordering::Relaxed);
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let began = Instant::now();
    let handled_all = || {
        let seen = witness.lock().unwrap();
        seen.confirmed.keys().all(|id| seen.handled.contains_key(id))
    };
    while !(handled_all() && broker.inspect(&topic).await.is_ok_and(|stats| stats.stored == 0)) {
        let stats = broker.inspect(&topic).await;
        assert!(began.elapsed() < Duration::from_secs(100), "it does not drain: {stats:?}\n{}", server.log());
        sleep(200).await;
    }
    working.store(false, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    let seen = witness.lock().unwrap();
    let lost: Vec<_> = seen.confirmed.keys().filter(|id| !seen.handled.contains_key(id)).collect();
    let unexpected = seen.handled.keys().filter(|id| !seen.confirmed.contains_key(id)).count();
    let doubled = seen.handled.values().filter(|times| **times > 1).count();
    println!(
        "summary {name}: killed {killed}, paused {paused}; {} confirmed, {} lost, {unexpected} unexpected, {doubled} handled more \
         than once, {} of them after a confirmed acknowledgement; {} calls failed, the longest stall {:.1} s, drained in {:.1} s",
        seen.confirmed.len(),
        lost.len(),
        seen.after_ack,
        seen.errors,
        seen.longest_stall.as_secs_f64(),
        began.elapsed().as_secs_f64(),
    );
    assert!(seen.confirmed.len() > 100, "there was hardly any load");
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert_eq!(unexpected, 0, "handled, and never published");
    // a call is bounded by twice its time-out, and then tried again: never a silent stall
    assert!(seen.longest_stall < Duration::from_secs(30), "{:?}", seen.longest_stall);
}

async fn sleep(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Publishes one message after the other, each until it is confirmed.
async fn publish(broker: Arc<Nats>, topic: Topic, who: u32, go_on: Arc<AtomicBool>, witness: Arc<Mutex<Witness>>) {
    let mut rng: Rng = Seed::new(u64::from(who)).rng();
    for number in 0_u32.. {
        if !go_on.load(Ordering::Relaxed) {
            return;
        }
        let id = Id::of(format!("{who} {number}"));
        let began = Instant::now();
        while let Err(error) = broker.send(Publish::new(&topic, id, "x")).await {
            assert!(error.is_retryable(), "{}", error.chain());
            assert!(error.place().is_some_and(|place| place.contains("topic load")), "{error}");
            witness.lock().unwrap().errors += 1;
        }
        {
            let mut seen = witness.lock().unwrap();
            *seen.confirmed.entry(id).or_default() += 1;
            seen.longest_stall = seen.longest_stall.max(began.elapsed());
        }
        sleep(rng.below(5)).await;
    }
}

async fn work(broker: Arc<Nats>, topic: Topic, go_on: Arc<AtomicBool>, witness: Arc<Mutex<Witness>>) {
    let subscription = topic.subscription("s");
    let want = Want::items(8).hold(Duration::from_secs(5)).wait(Duration::from_secs(1));
    while go_on.load(Ordering::Relaxed) {
        let began = Instant::now();
        let leased = broker.lease(&subscription, want).await;
        {
            let mut seen = witness.lock().unwrap();
            seen.longest_stall = seen.longest_stall.max(began.elapsed());
        }
        let deliveries = match leased {
            Ok(deliveries) => deliveries,
            Err(error) => {
                assert!(error.is_retryable(), "{}", error.chain());
                witness.lock().unwrap().errors += 1;
                continue;
            }
        };
        for delivery in deliveries {
            let id = delivery.id(0);
            {
                let mut seen = witness.lock().unwrap();
                *seen.handled.entry(id).or_default() += 1;
                seen.after_ack += u32::from(seen.acknowledged.contains_key(&id));
            }
            match broker.ack(delivery.lease).await {
                Ok(()) => *witness.lock().unwrap().acknowledged.entry(id).or_default() += 1,
                Err(error) => {
                    assert!(error.is_retryable() || error.kind() == seedpod::Kind::LeaseLost, "{}", error.chain());
                    witness.lock().unwrap().errors += 1;
                }
            }
        }
    }
}
