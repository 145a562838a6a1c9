//! Typed queues: what is submitted is worked on as its terms say, and what cannot be read or done is a dead letter.

use crate::settling::{Settling, at_once};
use bytes::Bytes;
use seedpod::{
    Error, Kind, Result,
    base::{Answer, Backoff, Few, Name, Seed, sync::Lock, time},
    queue::{
        self, Broker, BrokerExt, DEAD_LETTERS, DeadLetter, Delivery, Done, Guarantees, Id, Job, Json, Memory, Need,
        Postcard, Publish, Queue, Receipt, Redrive, Schema, Step, Submit, Subscription, Taken, Task, Topic,
        TopicOptions, TopicStats, Unique, Want, Work,
    },
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

const SECOND: Duration = Duration::from_secs(1);

/// Memory that claims to be able to do less.
struct Poor(Memory);

impl Broker for Poor {
    fn guarantees(&self) -> Guarantees {
        let mut poor = Guarantees::default();
        poor.name = "poor";
        poor.dedup = Some(60 * SECOND);
        poor
    }
    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        self.0.declare(topic, options)
    }
    fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt> {
        self.0.publish(batches)
    }
    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
        self.0.lease(subscription, want)
    }
    fn settle(&self, step: Step) -> Answer<'_, ()> {
        assert!(step.state.is_empty(), "it has no state");
        self.0.settle(step)
    }
    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)> {
        let refused = Error::new(Kind::Unsupported, "it has no state").at(format!("state {key}"));
        Answer::now(Err(refused))
    }
    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        self.0.inspect(topic)
    }
}

async fn numbers() -> Queue<u32> {
    Queue::open(Arc::new(Memory::new()), "numbers").await.unwrap()
}

async fn take(queue: &Queue<u32>) -> Option<u32> {
    let task = queue.take().await.unwrap()?;
    task.complete(()).await.unwrap();
    Some(task.value)
}

async fn letters(queue: &Queue<u32>) -> Vec<DeadLetter> {
    let dead = queue.dead_letters().subscription(DEAD_LETTERS);
    let letters = queue.broker().lease(&dead, Want::items(100).chunk(1).wait(Duration::ZERO)).await.unwrap();
    letters.iter().map(|letter| DeadLetter::read(&letter.batch.headers).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_lacks_what_a_queue_needs_is_refused_by_name() {
    let poor: Arc<dyn Broker> = Arc::new(Poor(Memory::new()));
    let wanting = Queue::<u32>::builder(poor.clone(), "resize").needs(Need::Durable).needs(Need::Delays);
    let error = wanting.dedup(120 * SECOND).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "queue resize: unsupported: the broker poor has no durable storage, no delays, no deduplication over 120 s"
    );
    let queue = Queue::<u32>::builder(poor, "resize").dedup(60 * SECOND).await.unwrap();
    queue.submit(1).await.unwrap();
    let unique = Job::new(2).unique(Unique::key("a"));
    for refused in [
        queue.submit(unique).await.map(drop),
        queue.cancel(Id::of("x")).await,
        queue.result::<u32>(Id::of("x")).await.map(drop),
    ] {
        let error = refused.unwrap_err().to_string();
        assert!(error.starts_with("queue resize: unsupported: the broker poor keeps no state"), "{error}");
    }
    let pump =
        queue.worker(|number: u32| async move { if number == 1 { Ok(()) } else { Err(Error::from(Kind::Failed)) } });
    let control = pump.control();
    pump.run_until(time::sleep(SECOND)).await.unwrap();
    assert_eq!(control.tally().done, 1, "the rest works without state");
}

#[tokio::test(start_paused = true)]
async fn ids_are_never_the_same_unless_given_and_those_given_are_remembered() {
    let (one, other) = (numbers().await, numbers().await);
    let mut ids = Vec::new();
    for queue in [&one, &one.clone(), &other] {
        for _ in 0..3 {
            ids.push(queue.submit(7).await.unwrap().id);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 9);
    let first = one.submit(Job::new(1).id("order 17")).await.unwrap();
    let again = one.submit(Job::new(1).id("order 17")).await.unwrap();
    assert_eq!((first.id, first.is_new, again.id, again.is_new), (Id::of("order 17"), true, first.id, false));
}

#[tokio::test(start_paused = true)]
async fn delays_priorities_and_keys_are_heeded() {
    let queue = numbers().await;
    queue.submit(Job::new(1).delay(10 * SECOND)).await.unwrap();
    queue.submit(2).await.unwrap();
    queue.submit(Job::new(3).priority(9)).await.unwrap();
    let then = time::WallClock::ambient().now() + 20 * SECOND;
    queue.submit(Job::new(4).at(then)).await.unwrap();
    assert_eq!([take(&queue).await, take(&queue).await, take(&queue).await], [Some(3), Some(2), None]);
    time::sleep(11 * SECOND).await;
    assert_eq!([take(&queue).await, take(&queue).await], [Some(1), None]);
    time::sleep(10 * SECOND).await;
    assert_eq!(take(&queue).await, Some(4));
    for number in [5, 6] {
        queue.submit(Job::new(number).key("ann")).await.unwrap();
    }
    let first = queue.take().await.unwrap().unwrap();
    assert!(queue.take().await.unwrap().is_none(), "one of a key at a time");
    first.retry(SECOND).await.unwrap();
    assert!(queue.take().await.unwrap().is_none(), "the next does not overtake it");
    time::sleep(2 * SECOND).await;
    assert_eq!([take(&queue).await, take(&queue).await], [Some(5), Some(6)]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_a_dead_letter_and_never_a_crash_loop() {
    let queue = numbers().await;
    let broker = queue.broker().clone();
    let publish = |name: &str, body: &'static str| Publish::new("numbers", Id::of(name), body);
    broker.send(publish("bad", "not a number")).await.unwrap();
    broker.send(publish("unknown", "1").header("schema-version", "7")).await.unwrap();
    broker.send(publish("no version", "1").header("schema-version", "new")).await.unwrap();
    broker.send(publish("other", "1").header("content-type", "text/csv")).await.unwrap();
    broker.send(publish("good", "5")).await.unwrap();
    assert_eq!(take(&queue).await, Some(5), "by hand");
    let reasons: Vec<_> = letters(&queue).await.into_iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons.len(), 4);
    assert!(reasons[0].contains("this is not the JSON expected"), "{}", reasons[0]);
    let id = Id::of("unknown");
    assert_eq!(reasons[1], format!("message {id}: invalid: schema-version 7 is not known here, only 1"));
    assert!(reasons[2].ends_with("schema-version: \"new\" is no version"), "{}", reasons[2]);
    assert!(reasons[3].ends_with("content-type text/csv is not the queue's, application/json"), "{}", reasons[3]);

    broker.send(publish("bad again", "{")).await.unwrap();
    let pump = queue.worker(|_: u32| async { Ok::<_, Error>(()) });
    let control = pump.control();
    pump.run_until(time::sleep(SECOND)).await.unwrap();
    assert_eq!((control.tally().rejected, control.tally().done), (1, 0), "by a worker");
}

fn encoded<T>(value: &T) -> Bytes
where
    Postcard: queue::Codec<T>,
{
    <Postcard as queue::Codec<T>>::encode(value).unwrap()
}

#[tokio::test(start_paused = true)]
async fn older_versions_are_brought_up_to_date_and_codecs_are_told_apart() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Resize {
        path: String,
        width: u32,
    }
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let schema = || {
        Schema::version(3)
            .upcast::<String, Json>(1, |path| Resize { path, width: 100 })
            .upcast::<(String, u32), Postcard>(2, |(path, width)| Resize { path, width })
    };
    let open = Queue::builder(broker.clone(), "resize").codec(Postcard).schema(schema());
    let queue: Queue<Resize, Postcard> = open.await.unwrap();
    let versions: [(&str, Bytes); 3] = [
        ("1", Bytes::from_static(b"\"a\"")),
        ("2", encoded(&("b".to_string(), 7_u32))),
        ("3", encoded(&Resize { path: "c".into(), width: 8 })),
    ];
    for (version, body) in versions {
        let mut publish = Publish::new("resize", Id::of(version), body).header("schema-version", version);
        if version == "3" {
            publish = publish.header("content-type", "application/vnd.postcard");
        }
        broker.send(publish).await.unwrap();
    }
    queue.submit(Resize { path: "d".into(), width: 9 }).await.unwrap();
    let mut all = Vec::new();
    while let Some(task) = queue.take().await.unwrap() {
        task.complete(()).await.unwrap();
        all.push((task.value.path, task.value.width));
    }
    assert_eq!(all, [("a".into(), 100), ("b".into(), 7), ("c".into(), 8), ("d".into(), 9)]);
}

#[tokio::test(start_paused = true)]
async fn a_unique_key_is_taken_until_its_job_is_settled() {
    let queue = numbers().await;
    let job = |number| Job::new(number).unique(Unique::key("ann"));
    let first = queue.submit(job(1)).await.unwrap();
    let second = queue.submit(job(2)).await.unwrap();
    assert_eq!((second.id, second.is_new), (first.id, false));
    let refused = Job::new(3).unique(Unique::key("ann").when_taken(Taken::Refuse));
    let error = queue.submit(refused.clone()).await.unwrap_err();
    let text = format!("queue numbers, unique key ann: conflict: it is taken by message {}", first.id);
    assert_eq!(error.to_string(), text);
    assert!(queue.submit(Job::new(4).unique(Unique::key("bob"))).await.unwrap().is_new, "another key");

    let task = queue.take().await.unwrap().unwrap();
    assert!(!queue.submit(job(5)).await.unwrap().is_new, "while it is worked on");
    task.retry(Duration::ZERO).await.unwrap();
    assert!(!queue.submit(job(6)).await.unwrap().is_new, "while it is to be tried again");
    assert_eq!([take(&queue).await, take(&queue).await], [Some(4), Some(1)]);
    assert!(queue.submit(refused).await.unwrap().is_new, "done");
    queue.take().await.unwrap().unwrap().reject("no").await.unwrap();
    assert!(queue.submit(job(7)).await.unwrap().is_new, "given up");
    let both = Job::new(8).id("x").unique(Unique::key("carl"));
    assert_eq!(queue.submit(both).await.unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn a_unique_key_within_a_window_is_taken_for_the_window_and_forgotten_then() {
    let queue = numbers().await;
    let job = |number| Job::new(number).unique(Unique::key("ann").within(60 * SECOND));
    assert!(queue.submit(job(1)).await.unwrap().is_new);
    assert_eq!(take(&queue).await, Some(1));
    time::sleep(59 * SECOND).await;
    assert!(!queue.submit(job(2)).await.unwrap().is_new, "though it is done");
    time::sleep(2 * SECOND).await;
    assert!(queue.submit(job(3)).await.unwrap().is_new);
    let pump = queue.worker(|_: u32| async { Ok::<_, Error>(()) });
    pump.run_until(time::sleep(70 * SECOND)).await.unwrap();
    let row = queue.broker().load(&"unique/numbers/ann".into()).await.unwrap();
    assert_eq!(row, (0, Bytes::new()), "swept by the workers");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_job_is_dropped_and_the_new_one_done() {
    let queue = numbers().await;
    let replacing = |number| Job::new(number).unique(Unique::key("ann").when_taken(Taken::Replace));
    for number in [1, 2, 3] {
        assert!(queue.submit(replacing(number)).await.unwrap().is_new);
    }
    let seen = Arc::new(Lock::new(Vec::new()));
    let pump = {
        let seen = seen.clone();
        queue.worker(move |number: u32| {
            seen.lock().push(number);
            async { Ok::<_, Error>(()) }
        })
    };
    let control = pump.control();
    pump.run_until(time::sleep(SECOND)).await.unwrap();
    assert_eq!((std::mem::take(&mut *seen.lock()), control.tally().dropped, control.tally().done), (vec![3], 2, 1));
    assert_eq!(queue.inspect().await.unwrap().stored, 0);
    let row = queue.broker().load(&"unique/numbers/ann".into()).await.unwrap();
    assert_eq!(row.0, 0, "the last one's claim went with it");
    queue.submit(replacing(4)).await.unwrap();
    queue.submit(replacing(5)).await.unwrap();
    assert_eq!([take(&queue).await, take(&queue).await], [Some(5), None], "by hand likewise");
}

/// Versions of a row begin anew once it is forgotten: one that was replaced must not free what another took since.
#[tokio::test(start_paused = true)]
async fn a_key_is_freed_by_its_holder_alone() {
    let queue = numbers().await;
    let replacing = |number| Job::new(number).unique(Unique::key("ann").when_taken(Taken::Replace));
    queue.submit(replacing(1).delay(60 * SECOND)).await.unwrap();
    queue.submit(replacing(2)).await.unwrap();
    assert_eq!(take(&queue).await, Some(2));
    let third = queue.submit(Job::new(3).delay(600 * SECOND).unique(Unique::key("ann"))).await.unwrap();
    assert!(third.is_new, "the second is done");
    time::sleep(61 * SECOND).await;
    assert_eq!(take(&queue).await, None, "the first was replaced");
    let fourth = queue.submit(Job::new(4).unique(Unique::key("ann"))).await.unwrap();
    assert_eq!((fourth.id, fourth.is_new), (third.id, false));
}

#[tokio::test(start_paused = true)]
async fn a_replaced_job_stays_dropped_though_its_successor_is_done() {
    let queue = numbers().await;
    let replacing = |number| Job::new(number).unique(Unique::key("ann").when_taken(Taken::Replace));
    queue.submit(replacing(1).delay(60 * SECOND)).await.unwrap();
    queue.submit(replacing(2)).await.unwrap();
    let pump = queue.worker(|number: u32| async move {
        assert_eq!(number, 2);
        Ok::<_, Error>(())
    });
    let control = pump.control();
    pump.run_until(time::sleep(100 * SECOND)).await.unwrap();
    assert_eq!((control.tally().done, control.tally().dropped), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_redriven_job_has_no_key_to_lose() {
    let queue = numbers().await;
    let replacing = |number| Job::new(number).unique(Unique::key("ann").when_taken(Taken::Replace));
    queue.submit(replacing(1)).await.unwrap();
    queue.take().await.unwrap().unwrap().reject("odd").await.unwrap();
    let second = queue.submit(replacing(2).delay(60 * SECOND)).await.unwrap();
    assert_eq!(Redrive::new(queue.broker().clone(), queue.dead_letters()).run().await.unwrap().moved, 1);
    assert_eq!(take(&queue).await, Some(1), "it is done beside the other");
    let third = queue.submit(Job::new(3).unique(Unique::key("ann"))).await.unwrap();
    assert_eq!((third.id, third.is_new), (second.id, false));
}

#[tokio::test(start_paused = true)]
async fn what_was_said_of_progress_is_forgotten_whoever_said_it() {
    let queue = numbers().await;
    let id = queue.submit(1).await.unwrap().id;
    let taken = || queue.assign(Want::one().hold(10 * SECOND));
    let killed = taken().await.unwrap().pop().unwrap();
    killed.progress(0.5, "half").await.unwrap();
    time::sleep(11 * SECOND).await;
    let next = taken().await.unwrap().pop().unwrap();
    assert_eq!(next.attempts().lapses, 1);
    next.progress(0.7, "more").await.unwrap();
    next.postpone(Duration::ZERO).await.unwrap();
    assert_eq!(queue.progress(id).await.unwrap(), None, "it is not under way");
    let last = taken().await.unwrap().pop().unwrap();
    last.complete(()).await.unwrap();
    assert_eq!(queue.progress(id).await.unwrap(), None);
}

/// A report that was not answered may still be under way: it comes before the settlement, or never.
#[tokio::test(start_paused = true)]
async fn a_report_that_comes_late_is_forgotten_too() {
    let late = Lock::new(None::<Step>);
    let broker = Settling(Memory::new(), move |memory: &Memory, step: Step| {
        if step.state.iter().any(|write| write.value.is_some()) {
            *late.lock() = Some(step);
            return Err(Error::new(Kind::Unavailable, "no answer"));
        }
        if let Some(late) = late.lock().take() {
            at_once(memory, late).unwrap();
        }
        at_once(memory, step)
    });
    let queue: Queue<u32> = Queue::open(Arc::new(broker), "numbers").await.unwrap();
    let id = queue.submit(1).await.unwrap().id;
    let task = queue.take().await.unwrap().unwrap();
    assert_eq!(task.progress(0.5, "half").await.unwrap_err().kind(), Kind::Unavailable);
    task.complete(()).await.unwrap();
    assert_eq!(queue.progress(id).await.unwrap(), None);
}

/// A result that nobody would keep is not dropped in silence.
#[tokio::test(start_paused = true)]
async fn by_hand_there_is_no_result() {
    let queue = numbers().await;
    queue.submit(1).await.unwrap();
    let task = queue.take().await.unwrap().unwrap();
    let error = task.complete(Done::new().result(&1).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    task.complete(()).await.unwrap();
}

#[test]
fn handles_of_a_simulation_give_out_ids_of_their_own_and_share_its_clock() {
    crate::simulated::simulate(Seed::new(1), async {
        let broker: Arc<dyn Broker> = Arc::new(Memory::new());
        let one: Queue<u32> = Queue::open(broker.clone(), "numbers").await.unwrap();
        let first = one.submit(1).await.unwrap();
        time::sleep(100 * SECOND).await;
        let other: Queue<u32> = Queue::open(broker, "numbers").await.unwrap();
        let second = other.submit(2).await.unwrap();
        assert!(second.is_new && second.id != first.id);
        let job = |number| Job::new(number).unique(Unique::key("ann").within(50 * SECOND));
        one.submit(job(3)).await.unwrap();
        time::sleep(49 * SECOND).await;
        assert!(!other.submit(job(4)).await.unwrap().is_new);
        time::sleep(SECOND).await;
        assert!(other.submit(job(5)).await.unwrap().is_new);
    });
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_is_dropped_wherever_it_is() {
    let queue = numbers().await;
    let (waiting, running, by_hand) = (Id::of("waiting"), Id::of("running"), Id::of("by hand"));
    queue.submit(Job::new(3).with_id(by_hand)).await.unwrap();
    queue.cancel(by_hand).await.unwrap();
    queue.cancel(by_hand).await.unwrap();
    assert!(queue.take().await.unwrap().is_none());
    queue.submit(Job::new(1).with_id(running)).await.unwrap();
    queue.submit(Job::new(2).with_id(waiting)).await.unwrap();
    let seen = Arc::new(Lock::new(Vec::new()));
    let pump = {
        let seen = seen.clone();
        queue.worker(move |number: u32| {
            seen.lock().push(number);
            async move {
                time::sleep(1000 * SECOND).await;
                Ok::<_, Error>(())
            }
        })
    };
    let control = pump.control();
    let cancel = async {
        time::sleep(SECOND).await;
        queue.cancel(waiting).await.unwrap();
        queue.cancel(running).await.unwrap();
        time::sleep(10 * SECOND).await;
        assert_eq!(control.tally().dropped, 2);
    };
    pump.hold(30 * SECOND).run_until(cancel).await.unwrap();
    assert_eq!(*seen.lock(), [1], "the one that waited was never begun");
    let letters = letters(&queue).await;
    assert_eq!(letters.iter().map(|letter| &*letter.reason).collect::<Vec<_>>(), ["cancelled"; 3]);
    for id in [waiting, running, by_hand] {
        let row = queue.broker().load(&format!("cancel/numbers/workers/{id}").into()).await.unwrap();
        assert_eq!(row.0, 0, "its row went with it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_can_be_awaited_and_is_forgotten_in_time() {
    let queue = numbers().await;
    let pump = queue.tasks(tower::service_fn(|task: Task<u32>| async move {
        time::sleep(3 * SECOND).await;
        Done::new().result(&(task.value * task.value))
    }));
    let submit = async {
        let id = queue.submit(7).await?.id;
        let square: u32 = queue.result(id).await?;
        assert_eq!(square, 49);
        assert_eq!(queue.result::<u32>(id).await?, 49, "again");
        let error = queue.result::<Vec<String>>(id).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().contains(&id.to_string())), (Kind::Invalid, true));
        time::sleep(130 * SECOND).await;
        let row = queue.broker().load(&format!("result/numbers/workers/{id}").into()).await?;
        assert_eq!(row.0, 0);
        Ok::<_, Error>(())
    };
    let (ended, submitted) = tokio::join!(pump.results(60 * SECOND).run_until(time::sleep(200 * SECOND)), submit);
    ended.unwrap();
    submitted.unwrap();

    let plain = queue::consume(
        queue.broker().clone(),
        queue.subscription().clone(),
        tower::service_fn(|_: queue::Message| async { Done::new().result(&1) }),
    );
    queue.submit(1).await.unwrap();
    let control = plain.control();
    plain.attempts(1).run_until(time::sleep(SECOND)).await.unwrap();
    assert_eq!(control.tally().rejected, 1, "a pump that keeps none says so");
}

/// Rows that are kept for a while have a bound: who would keep another waits until one goes, and loses nothing.
#[tokio::test(start_paused = true)]
async fn results_beyond_the_rows_wait_for_those_before_them() {
    let queue: Queue<u32> = Queue::builder(Arc::new(Memory::new()), "numbers").rows(2).open().await.unwrap();
    let mut ids = Vec::new();
    for number in 1..=3 {
        ids.push(queue.submit(number).await.unwrap().id);
    }
    let pump = queue.tasks(tower::service_fn(|task: Task<u32>| async move { Done::new().result(&task.value) }));
    let pump = pump.results(60 * SECOND).hold(10 * SECOND);
    let control = pump.control();
    let story = async {
        time::sleep(59 * SECOND).await;
        assert_eq!(control.tally().done, 2);
        time::sleep(2 * SECOND).await;
        assert_eq!(queue.result::<u32>(ids[2]).await.unwrap(), 3);
        let tally = control.tally();
        assert_eq!((tally.done, tally.lost, tally.retried), (3, 0, 0));
    };
    tokio::join!(pump.run_until(time::sleep(70 * SECOND)), story).0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_subscription_sees_every_job_and_its_workers_compete() {
    let queue: Queue<u32> = Queue::builder(Arc::new(Memory::new()), "orders")
        .subscription("workers")
        .subscription("audit")
        .open()
        .await
        .unwrap();
    let seen = Arc::new(Lock::new(Vec::new()));
    let note = |who: &'static str| {
        let seen = seen.clone();
        tower::service_fn(move |task: Task<u32>| {
            seen.lock().push((who, task.value));
            async { Ok::<_, Error>(()) }
        })
    };
    let (one, two) = (queue.tasks(note("workers")), queue.tasks(note("workers")));
    let audit = queue.tasks_of("audit", note("audit"));
    for number in 0..10 {
        queue.submit(number).await.unwrap();
    }
    let a_while = || time::sleep(SECOND);
    tokio::try_join!(one.run_until(a_while()), two.run_until(a_while()), audit.run_until(a_while())).unwrap();
    let mut seen = std::mem::take(&mut *seen.lock());
    seen.sort_unstable();
    let expected: Vec<_> =
        ["audit", "workers"].iter().flat_map(|who| (0..10).map(move |number| (*who, number))).collect();
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_stored_whole_and_worked_on_one_by_one() {
    let queue = numbers().await;
    let receipt = queue.submit_all(Id::of("one to five"), vec![1, 2, 3, 4, 5]).await.unwrap();
    assert_eq!((receipt.stored, receipt.duplicates), (5, 0));
    assert_eq!(queue.submit_all(Id::of("one to five"), vec![1, 2, 3, 4, 5]).await.unwrap().duplicates, 5);
    let tasks = queue.assign(Want::items(3)).await.unwrap();
    assert_eq!(tasks.iter().map(|task| task.value).collect::<Vec<_>>(), [1, 2, 3]);
    let ids: std::collections::BTreeSet<_> = tasks.iter().map(Task::id).collect();
    assert_eq!(ids.len(), 3, "each has an id of its own");
    tasks[0].complete(()).await.unwrap();
    tasks[1].postpone(5 * SECOND).await.unwrap();
    tasks[2].extend(600 * SECOND).await.unwrap();
    assert_eq!([take(&queue).await, take(&queue).await, take(&queue).await], [Some(4), Some(5), None]);
    time::sleep(60 * SECOND).await;
    let again = queue.take().await.unwrap().unwrap();
    assert_eq!((again.value, again.attempts().total()), (2, 0));
    tasks[2].complete(()).await.unwrap();
    let error = tasks[0].complete(()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::LeaseLost, "settled twice");
}

#[tokio::test(start_paused = true)]
async fn clients_and_workers_need_only_their_interface() {
    async fn client(jobs: &dyn Submit<u32>) -> Result<Id> {
        Ok(jobs.submit(Job::new(5)).await?.id)
    }
    async fn worker(jobs: &dyn Work<u32>) -> Result<u32> {
        let task = jobs.take().await?.expect("one is there");
        task.progress(0.5, "half").await?;
        task.complete(()).await?;
        Ok(task.value)
    }
    let queue = numbers().await;
    let id = client(&queue).await.unwrap();
    assert_eq!(worker(&queue).await.unwrap(), 5);
    assert_eq!(queue.progress(id).await.unwrap(), None, "gone with the job");
}

#[tokio::test(start_paused = true)]
async fn redriven_letters_match_keep_their_pace_and_their_idempotency_key() {
    let queue = numbers().await;
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(queue.submit(Job::new(number).id(format!("n{number}"))).await.unwrap().id);
        let reason = if number % 2 == 0 { "even" } else { "odd" };
        queue.take().await.unwrap().unwrap().reject(reason).await.unwrap();
    }
    let redrive =
        Redrive::new(queue.broker().clone(), queue.dead_letters()).filter(|letter, _| letter.reason == "even");
    let dry = redrive.clone().dry_run().run().await.unwrap();
    assert_eq!((dry.seen, dry.matched, dry.moved), (20, 10, 0));
    assert_eq!(queue.inspect().await.unwrap().stored, 0);
    let few = redrive.clone().most(4).run().await.unwrap();
    assert_eq!((few.seen, few.matched, few.moved), (4, 2, 2));
    let before = time::now();
    let rest = redrive.filter(|letter, _| letter.reason == "even" && letter.attempts.total() == 0).rate(1).run().await;
    let rest = rest.unwrap();
    assert_eq!((rest.seen, rest.matched, rest.moved), (18, 8, 8));
    assert!((7..=9).contains(&(time::now() - before).as_secs()), "one in a second");
    let dead = queue.broker().inspect(queue.dead_letters()).await.unwrap();
    assert_eq!((dead.ready, dead.leased), (10, 0), "the odd ones stay, and nobody holds them");
    let mut keys = Vec::new();
    while let Some(task) = queue.take().await.unwrap() {
        assert_ne!(task.id().to_string(), task.message().idempotency_key(), "an id that the topic has not seen");
        keys.push(task.message().idempotency_key());
        task.reject("again").await.unwrap();
    }
    let expected: Vec<_> = ids.iter().step_by(2).map(Id::to_string).collect();
    assert_eq!(keys, expected);
    let again = Redrive::new(queue.broker().clone(), queue.dead_letters()).filter(|letter, _| letter.reason == "again");
    assert_eq!(again.run().await.unwrap().moved, 10);
    let task = queue.take().await.unwrap().unwrap();
    assert_eq!(task.message().idempotency_key(), expected[0], "the first one's, however often");
}

#[tokio::test(start_paused = true)]
async fn a_slow_redrive_holds_what_stays() {
    let queue = numbers().await;
    for number in 0..100 {
        queue.submit(number).await.unwrap();
        queue.take().await.unwrap().unwrap().reject(if number < 2 { "stay" } else { "go" }).await.unwrap();
    }
    let redrive = Redrive::new(queue.broker().clone(), queue.dead_letters()).filter(|letter, _| letter.reason == "go");
    let done = redrive.rate(1).run().await.unwrap();
    assert_eq!((done.seen, done.moved), (100, 98), "none is seen twice, though it takes longer than a lease");
    let letters = letters(&queue).await;
    assert!(letters.len() == 2 && letters.iter().all(|letter| letter.attempts.total() == 0), "{letters:?}");
}

#[tokio::test(start_paused = true)]
async fn what_crashes_its_workers_ends_in_quarantine_and_then_with_the_dead() {
    let queue = numbers().await;
    queue.submit(13).await.unwrap();
    let pump = queue.worker(|number: u32| async move {
        assert_ne!(number, 13, "unlucky");
        Ok::<_, Error>(())
    });
    let pump = pump.backoff(Backoff::new(SECOND, SECOND)).seed(Seed::new(1));
    let control = pump.control();
    pump.run_until(time::sleep(30 * SECOND)).await.unwrap();
    assert_eq!((control.tally().quarantined, control.tally().rejected), (1, 1));
    let letter = &letters(&queue).await[0];
    assert_eq!(
        letter.reason,
        "its handler panicked: assertion `left != right` failed: unlucky\n  left: 13\n right: 13"
    );
}

#[tokio::test(start_paused = true)]
async fn in_quarantine_a_job_is_still_its_queues() {
    let queue = numbers().await;
    let (fine, stuck) = (Id::of("fine"), Id::of("stuck"));
    queue.submit(Job::new(1).with_id(fine)).await.unwrap();
    queue.submit(Job::new(2).with_id(stuck)).await.unwrap();
    let pump = queue.tasks(tower::service_fn(|task: Task<u32>| async move {
        assert!(task.message().topic().as_str().ends_with(".quarantine"), "only alone");
        if task.value == 2 {
            task.progress(0.5, "stuck").await?;
            std::future::pending::<()>().await;
        }
        Done::new().result(&task.value)
    }));
    let pump = pump.backoff(Backoff::new(SECOND, SECOND).exact());
    let control = pump.control();
    let watch = async {
        assert_eq!(queue.result::<u32>(fine).await.unwrap(), 1);
        time::sleep(10 * SECOND).await;
        assert_eq!(queue.progress(stuck).await.unwrap().unwrap().note, "stuck");
        queue.cancel(stuck).await.unwrap();
        time::sleep(10 * SECOND).await;
    };
    pump.run_until(watch).await.unwrap();
    assert_eq!((control.tally().quarantined, control.tally().done, control.tally().dropped), (2, 1, 1));
    assert_eq!(queue.progress(stuck).await.unwrap(), None);
}
