//! Bad input to queues: whatever a publisher puts into payloads and headers, and whatever a caller asks for, is done,
//! refused by name, or a dead letter that says why; it breaks no worker and touches nothing of others.

use bytes::Bytes;
use seedpod::{
    Error, Kind,
    base::{Backoff, Name, time},
    queue::{
        self, Broker, BrokerExt, Caller, DEAD_LETTERS, DeadLetter, Id, Job, Memory, Message, Payload, Publish,
        QuarantineNote, Queue, Redrive, Step, Topic, TopicOptions, Unique, Want, Work,
    },
};
use std::{sync::Arc, time::Duration};
use tower::ServiceExt;

const SECOND: Duration = Duration::from_secs(1);

async fn letters(broker: &dyn Broker, dead: &Topic) -> Vec<DeadLetter> {
    let want = Want::items(1000).chunk(1).wait(Duration::ZERO);
    let letters = broker.lease(&dead.subscription(DEAD_LETTERS), want).await.unwrap();
    letters.iter().map(|letter| DeadLetter::read(&letter.batch.headers).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_value_of_another_type_is_a_dead_letter_that_names_the_message() {
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let words: Queue<String> = Queue::open(broker.clone(), "things").await.unwrap();
    let numbers: Queue<u32> = Queue::open(broker.clone(), "things").await.unwrap();
    words.submit(Job::new("no number".into()).id("word")).await.unwrap();
    words.submit(Job::new("7".into()).id("digits in quotes")).await.unwrap();
    numbers.submit(Job::new(7).id("number")).await.unwrap();
    let pump = numbers.worker(|number: u32| async move {
        assert_eq!(number, 7);
        Ok::<_, Error>(())
    });
    let control = pump.control();
    pump.run_until(time::sleep(SECOND)).await.unwrap();
    assert_eq!((control.tally().done, control.tally().rejected), (1, 2));
    let letters = letters(&*broker, numbers.dead_letters()).await;
    for (letter, name) in letters.iter().zip(["word", "digits in quotes"]) {
        let named = format!("message {}: invalid: ", Id::of(name));
        assert!(letter.reason.starts_with(&named), "{}", letter.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_larger_than_asked_for_comes_alone_and_what_is_larger_than_all_room_enters_alone() {
    let (broker, topic) = (Memory::new(), Topic::new("films"));
    let films = topic.subscription("cutter");
    broker.declare(&topic, TopicOptions::new().subscription("cutter").capacity(3)).await.unwrap();
    let large = vec![7_u8; 32 << 20];
    broker.send(Publish::new(&topic, Id::of("large"), large.clone())).await.unwrap();
    broker.send(Publish::new(&topic, Id::of("small"), "x")).await.unwrap();
    let got = broker.lease(&films, Want::items(10).bytes(1000)).await.unwrap();
    assert_eq!((got.len(), got[0].bytes(0).unwrap().len()), (1, large.len()));
    broker.ack(got[0].lease).await.unwrap();
    let small = broker.lease(&films, Want::items(10).bytes(0)).await.unwrap();
    assert_eq!((small.len(), small[0].bytes(0).unwrap()), (1, Bytes::from_static(b"x")), "the first comes in any case");

    let many = Payload::many((0..10).map(|_| Bytes::from_static(b"y")));
    let entering = broker.send(Publish::new(&topic, Id::of("many"), many));
    let mut entering = std::pin::pin!(entering);
    assert!(tokio::time::timeout(SECOND, &mut entering).await.is_err(), "something is there");
    broker.ack(small[0].lease).await.unwrap();
    assert_eq!(entering.await.unwrap().stored, 10);
}

#[tokio::test(start_paused = true)]
async fn no_capacity_and_nothing_asked_for_are_refused_by_name() {
    let (broker, topic) = (Memory::new(), Topic::new("orders"));
    let error = broker.declare(&topic, TopicOptions::new().capacity(0)).await.unwrap_err();
    assert_eq!(error.to_string(), "topic orders: invalid: its capacity is 0");
    let queue = Queue::<u32>::builder(Arc::new(Memory::new()), "orders").capacity(0).open().await;
    assert_eq!(queue.unwrap_err().to_string(), "topic orders: invalid: its capacity is 0");
    broker.declare(&topic, TopicOptions::new().subscription("mailer").dead_letters("orders.dead")).await.unwrap();
    for want in [Want::items(0), Want::one().chunk(0)] {
        let error = broker.lease(&topic.subscription("mailer"), want).await.unwrap_err();
        assert_eq!(error.to_string(), "subscription orders/mailer: invalid: it asks for nothing");
    }
    let stored = broker.send(Publish::new(&topic, Id::of("empty"), Payload::many([]))).await.unwrap().stored;
    assert_eq!((stored, broker.inspect(&topic).await.unwrap().stored), (0, 0), "a batch of nothing is nothing");
    let own_dead = TopicOptions::new().dead_letters("loop");
    let error = broker.declare(&Topic::new("loop"), own_dead).await.unwrap_err();
    assert_eq!(error.to_string(), "topic loop: invalid: its dead letters cannot go to itself");
}

#[tokio::test(start_paused = true)]
async fn what_was_never_declared_is_named() {
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let nowhere = Topic::new("nowhere");
    let work = tower::service_fn(|_: Message| async { Ok::<_, Error>(()) });
    let pump = queue::consume(broker.clone(), nowhere.subscription("a"), work);
    let caller: Caller<u32, u32> = Caller::open(broker.clone(), "nowhere", "replies").await.unwrap();
    for (what, error, name) in [
        ("publish", broker.send(Publish::new(&nowhere, Id::of("x"), "x")).await.map(drop), "topic nowhere"),
        ("inspect", broker.inspect(&nowhere).await.map(drop), "topic nowhere"),
        ("lease", broker.lease(&nowhere.subscription("a"), Want::one()).await.map(drop), "subscription nowhere/a"),
        ("step", broker.settle(Step::new().publish(Publish::new(&nowhere, Id::of("x"), "x"))).await, "topic nowhere"),
        ("pump", pump.run_until(time::sleep(SECOND)).await, "subscription nowhere/a"),
        ("redrive", Redrive::new(broker.clone(), "nowhere").run().await.map(drop), "subscription nowhere/dead-letters"),
        ("ask", caller.oneshot(1).await.map(drop), "topic nowhere"),
    ] {
        let error = error.unwrap_err();
        assert_eq!((error.kind(), error.place()), (Kind::NotFound, Some(name)), "{what}");
    }
}

/// Headers are the publisher's to write: those that the layers above the broker read must do no harm.
#[tokio::test(start_paused = true)]
async fn hostile_headers_touch_nothing_of_others_and_break_no_worker() {
    let queue: Queue<u32> = Queue::open(Arc::new(Memory::new()), "jobs").await.unwrap();
    let broker = queue.broker().clone();
    broker.settle(Step::new().write("account/ann", 0, "100")).await.unwrap();
    let held = queue.submit(Job::new(1).delay(60 * SECOND).unique(Unique::key("ann"))).await.unwrap();
    let long = "9".repeat(10_000);
    let hostile = [
        ("unique-row", "1 account/ann"),
        ("unique-row", "1 unique/jobs/ann"),
        ("unique-row", "x"),
        ("unique-row", " "),
        ("unique-replaceable", "account/ann"),
        ("unique-replaceable", "nothing"),
        ("schema-version", "-1"),
        ("schema-version", &long),
        ("content-type", "\u{0}\n"),
        ("quarantine-attempts", "1 x"),
        ("quarantine-attempts", "65536 0 0"),
        ("quarantine-reason", "\u{202e}"),
        ("redriven-id", "../../etc"),
        ("dead-letter-reason", "forged"),
        ("dead-letter-failures", "-1"),
        ("reply-to", "account/ann"),
        ("", ""),
    ];
    for (number, (name, value)) in hostile.iter().enumerate() {
        let publish = Publish::new("jobs", Id::of(format!("hostile {number}")), "5").header(*name, *value);
        broker.send(publish).await.unwrap();
    }
    let pump = queue.worker(|number: u32| async move {
        assert_eq!(number, 5);
        Ok::<_, Error>(())
    });
    let control = pump.control();
    pump.run_until(time::sleep(30 * SECOND)).await.unwrap();
    let tally = control.tally();
    assert_eq!(tally.done + tally.rejected + tally.dropped, hostile.len() as u64, "{tally:?}");
    assert_eq!((tally.rejected, tally.retried, tally.lost), (3, 0, 0), "only those that cannot be read");
    assert_eq!(broker.load(&Name::from("account/ann")).await.unwrap(), (1, Bytes::from_static(b"100")));
    let second = queue.submit(Job::new(2).unique(Unique::key("ann"))).await.unwrap();
    assert_eq!((second.id, second.is_new), (held.id, false), "its key is still taken");
    for letter in letters(&*broker, queue.dead_letters()).await {
        assert!(letter.reason.contains("schema-version") || letter.reason.contains("content-type"), "{letter:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn forged_letters_are_left_where_they_are() {
    let queue: Queue<u32> = Queue::open(Arc::new(Memory::new()), "jobs").await.unwrap();
    let (broker, dead) = (queue.broker().clone(), queue.dead_letters().clone());
    let letter = |number: u32| Publish::new(&dead, Id::of(number.to_string()), "5");
    let partly = letter(2).header("dead-letter-reason", "x").header("dead-letter-topic", "jobs");
    let mut garbled = letter(3);
    DeadLetter::new("x", queue.subscription().clone(), Id::of("y"), queue::Attempts::default())
        .write(&mut garbled.headers);
    garbled.headers.insert("dead-letter-id", "no id");
    for publish in [letter(1), partly, garbled] {
        broker.send(publish).await.unwrap();
    }
    queue.submit(6).await.unwrap();
    queue.take().await.unwrap().unwrap().reject("odd").await.unwrap();
    let done = Redrive::new(broker.clone(), &dead).run().await.unwrap();
    assert_eq!((done.seen, done.matched, done.moved), (4, 1, 1));
    assert_eq!(queue.take().await.unwrap().unwrap().value, 6);
    assert_eq!(broker.inspect(&dead).await.unwrap().ready, 3);
    let mut headers = queue::Headers::default();
    for counts in ["", "1", "1 2", "1 2 x", "-1 0 0"] {
        headers.insert("quarantine-attempts", counts);
        headers.insert("quarantine-reason", "x");
        assert_eq!(QuarantineNote::read(&headers), None, "{counts}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_with_hostile_addresses_are_worked_on_and_their_responder_lives() {
    let (broker, topic): (Arc<dyn Broker>, _) = (Arc::new(Memory::new()), Topic::new("questions"));
    broker.declare(&topic, TopicOptions::new().subscription("oracle").dead_letters("questions.dead")).await.unwrap();
    let hostile = [
        ("reply-to", "nowhere"),
        ("reply-to", ""),
        ("reply-within", "-5"),
        ("reply-within", "18446744073709551615"),
        ("correlation-id", "\u{0}"),
    ];
    for (number, (name, value)) in hostile.iter().enumerate() {
        broker.send(Publish::new(&topic, Id::of(number.to_string()), "7").header(*name, *value)).await.unwrap();
    }
    let oracle = tower::service_fn(|number: u32| async move { Ok::<_, Error>(number) });
    let pump = queue::respond::<u32, u32, _>(broker.clone(), topic.subscription("oracle"), oracle);
    let pump = pump.attempts(2).backoff(Backoff::new(SECOND, SECOND).exact());
    let control = pump.control();
    let caller: Caller<u32, u32> = Caller::open(broker.clone(), &topic, "replies.desk").await.unwrap();
    let ask = async {
        time::sleep(5 * SECOND).await;
        assert_eq!(caller.clone().oneshot(8).await.unwrap(), 8);
        // a reply that names no request, and one that names none of ours
        for (number, correlation) in ["x", &Id::of("another").to_string()].iter().enumerate() {
            let reply = Publish::new("replies.desk", Id::of(number.to_string()), "9");
            broker.send(reply.header("correlation-id", *correlation)).await.unwrap();
        }
        assert_eq!(caller.clone().oneshot(9).await.unwrap(), 9);
        Ok::<_, Error>(())
    };
    let a_while = || time::sleep(10 * SECOND);
    tokio::try_join!(ask, caller.run_until(a_while()), pump.run_until(a_while())).unwrap();
    assert_eq!((control.tally().done, control.tally().rejected), (5, 2), "two have nowhere to go");
    for letter in letters(&*broker, &Topic::new("questions.dead")).await {
        assert!(letter.reason.contains("it is not declared"), "{}", letter.reason);
    }
    assert_eq!(
        broker.inspect(&Topic::new("replies.desk")).await.unwrap().stored,
        0,
        "what nobody waits for is dropped"
    );
}
