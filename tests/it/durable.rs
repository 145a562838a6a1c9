//! The broker on disk: every promise on a file and in a simulation, over endings of every kind.

use seedpod::{
    Kind,
    base::{
        Seed,
        time::{self, WallClock},
    },
    queue::{Broker, BrokerExt, Brokers, Durable, Id, Publish, Topic, TopicOptions, Want},
    testing::{
        broker::{self, Ending},
        disk::Platter,
    },
};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// A folder of its own for a test, which ends with it.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("seedpod-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_simulated_disk_keeps_every_promise() {
    let _simulation = Seed::new(1).simulate();
    let broker = Durable::on(Arc::new(Platter::new()));
    broker::all(&broker).await.unwrap();
}

#[tokio::test]
async fn a_file_keeps_every_promise() {
    let folder = Folder::new("promises");
    broker::all(&Durable::open(folder.file("a.db")).await.unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whatever_ends_it_what_it_answered_for_is_there_again() {
    for seed in 0..20 {
        let _simulation = Seed::new(seed).simulate();
        let (mut platter, clock, mut rng) = (Platter::new(), WallClock::ambient(), Seed::ambient().rng());
        let kept = broker::reopening(async |open: Option<Durable>, ending| {
            if ending == Ending::Crash {
                platter.cut();
                platter = platter.after_power_cut(&mut rng);
            }
            drop(open);
            Durable::on(Arc::new(platter.clone())).clock(clock).opened().await
        });
        kept.await.unwrap();
    }
}

fn topic() -> (Topic, TopicOptions) {
    (Topic::new("jobs"), TopicOptions::new().subscription("workers").capacity(1 << 30))
}

#[tokio::test]
async fn a_url_of_a_file_is_opened_at_the_first_call() {
    let folder = Folder::new("url");
    let brokers = Brokers::default();
    let url = format!("file:{}", folder.file("a.db").display());
    let broker = brokers.get(&url).unwrap();
    assert!(!folder.file("a.db").exists(), "it was opened before anybody asked");
    let (jobs, options) = topic();
    broker.declare(&jobs, options).await.unwrap();
    assert!(folder.file("a.db").exists());

    let nowhere = brokers.get("file:/nowhere/at/all.db").unwrap();
    let error = nowhere.inspect(&jobs).await.unwrap_err();
    assert_eq!(error.place(), Some("file /nowhere/at/all.db"), "{}", error.chain());
    assert_eq!(brokers.get("file:").err().unwrap().kind(), Kind::Invalid);
}

#[tokio::test]
async fn a_file_is_open_once() {
    let folder = Folder::new("once");
    let path = folder.file("a.db");
    let first = Durable::open(&path).await.unwrap();
    let error = Durable::open(&path).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{}", error.chain());
    assert!(error.place().unwrap().ends_with("a.db"), "{error}");
    drop(first);
    Durable::open(&path).await.unwrap();
}

#[tokio::test]
async fn what_is_no_file_of_messages_is_refused() {
    let folder = Folder::new("foreign");
    let path = folder.file("notes.txt");
    std::fs::write(&path, "these are notes of mine, and no messages\n".repeat(400)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Durable::open(&path).await.unwrap_err();
    assert!(error.place().unwrap().ends_with("notes.txt"), "{}", error.chain());
    assert_eq!(std::fs::read(&path).unwrap(), before, "it was written to");
}

/// A failed sync, a panic and a full disk: the call that meets it and all later ones say so.
#[tokio::test(start_paused = true)]
async fn once_the_disk_has_failed_every_call_says_so() {
    let _simulation = Seed::new(1).simulate();
    for fault in ["sync", "panic", "full"] {
        let platter = Platter::new();
        let broker = Durable::on(Arc::new(platter.clone()));
        let (jobs, options) = topic();
        broker.declare(&jobs, options.clone()).await.unwrap();
        let publish = |name: &str, bytes: usize| Publish::new(&jobs, Id::of(name), vec![7; bytes]);
        broker.send(publish("kept", 10)).await.unwrap();
        match fault {
            "sync" => platter.fail_sync_after(1),
            "panic" => platter.panic_after(1),
            _ => platter.room(0),
        }
        let waiting = broker.lease(&Topic::new("jobs").subscription("workers"), Want::one()).await.unwrap();
        let (workers, idle) = (jobs.subscription("workers"), Want::one());
        let idle = broker.lease(&workers, idle);
        let failed = broker.send(publish("failing", 16 << 20)).await.unwrap_err();
        let told = idle.await.unwrap_err();
        let ack = broker.ack(waiting[0].lease).await.unwrap_err();
        let errors = [
            failed,
            told,
            ack,
            broker.send(publish("later", 1)).await.unwrap_err(),
            broker.declare(&Topic::new("other"), options.clone()).await.unwrap_err(),
            broker.load(&"state".into()).await.unwrap_err(),
            broker.inspect(&jobs).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), Kind::Closed, "{fault}: {}", error.chain());
            assert!(error.to_string().contains("opened again"), "{fault}: {error}");
        }
        platter.cut();
        drop(broker);
        let again = Durable::on(Arc::new(Platter::holding(platter.bytes())));
        assert!(again.inspect(&jobs).await.unwrap().stored >= 1, "{fault}: what was answered for is lost");
    }
}

/// The one stands on the disk before the other does, and comes after it in line.
#[tokio::test(start_paused = true)]
async fn what_falls_due_while_another_is_on_its_way_to_the_disk_does_not_pass_it() {
    let _simulation = Seed::new(1).simulate();
    let broker = Durable::on(Arc::new(Platter::new()));
    let (jobs, options) = topic();
    let workers = jobs.subscription("workers");
    broker.declare(&jobs, options).await.unwrap();
    for round in 0..20 {
        let publish = |name: &str| Publish::new(&jobs, Id::of(format!("{round} {name}")), name.to_string());
        let due = time::now() + Duration::from_millis(10);
        broker.send(publish("later").delay(Duration::from_millis(10))).await.unwrap();
        tokio::time::advance(due - time::now() - Duration::from_micros(50 * (1 + round))).await;
        let now = broker.send(publish("now"));
        let worker = async {
            let mut order = Vec::new();
            while order.len() < 2 {
                let leased = broker.lease(&workers, Want::one().wait(Duration::from_secs(5))).await.unwrap();
                let [delivery] = &leased[..] else { panic!("round {round}: only {order:?} came") };
                order.push(String::from_utf8(delivery.bytes(0).unwrap().to_vec()).unwrap());
                broker.ack(delivery.lease).await.unwrap();
            }
            order
        };
        let (sent, order) = tokio::join!(now, worker);
        sent.unwrap();
        assert_eq!(order, ["now", "later"], "round {round}");
    }
}

/// While it is open, space is used again; when it is opened and most of it is unused, it shrinks.
#[tokio::test]
async fn a_file_that_is_worked_off_does_not_grow_and_shrinks_when_opened() {
    let folder = Folder::new("compaction");
    let path = folder.file("a.db");
    let size = || std::fs::metadata(&path).unwrap().len();
    let (jobs, options) = topic();
    let workers = jobs.subscription("workers");
    let broker = Durable::open(&path).await.unwrap();
    broker.declare(&jobs, options).await.unwrap();
    let mut sizes = Vec::new();
    for round in 0..8 {
        for batch in 0..100 {
            let payload = seedpod::queue::Payload::many((0..200).map(|_| bytes::Bytes::from(vec![round as u8; 1000])));
            broker.send(Publish::new(&jobs, Id::of(format!("{round} {batch}")), payload)).await.unwrap();
        }
        loop {
            let leased = broker.lease(&workers, Want::items(1000).wait(Duration::ZERO)).await.unwrap();
            if leased.is_empty() {
                break;
            }
            let step = leased.iter().fold(seedpod::queue::Step::new(), |step, delivery| step.ack(delivery.lease));
            broker.settle(step).await.unwrap();
        }
        sizes.push(size());
    }
    println!("20 MB in and out, eight times: {sizes:?} bytes");
    assert!(sizes.iter().all(|size| *size < 80 << 20), "160 MB went through: {sizes:?}");
    drop(broker);
    let broker = Durable::open(&path).await.unwrap();
    println!("opened again: {} bytes", size());
    assert!(size() < 4 << 20, "it did not shrink: {}", size());
    assert_eq!(broker.inspect(&jobs).await.unwrap().stored, 0);
}
