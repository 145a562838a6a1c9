//! Wrong servers, hostile messages, full topics, late leases: each is an error that says what to do, or a dead letter.

use crate::servers;
use seedpod::{
    Kind, Result,
    queue::{
        Bound, Broker, BrokerExt, Brokers, DEAD_LETTERS, DeadLetter, Id, Nats, Publish, Step, Topic, TopicOptions, Want,
    },
};
use seedpod_server_tests::{Server, free_port};
use std::{
    io::Write,
    net::TcpListener,
    time::{Duration, Instant},
};

fn quick(url: String) -> seedpod::queue::NatsBuilder {
    Nats::builder(url).timeout(Duration::from_secs(1))
}

#[tokio::test]
async fn what_is_no_server_says_what_to_start() {
    let nobody = free_port();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let wrong = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = wrong.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in wrong.incoming().flatten() {
            let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    for port in [nobody, silent.local_addr().unwrap().port(), port] {
        let began = Instant::now();
        let error = quick(format!("nats://joe:secret@127.0.0.1:{port}")).connect().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{}", error.chain());
        let said = error.to_string();
        assert!(said.contains("nats-server -js") && said.contains(&format!("nats://127.0.0.1:{port}")), "{said}");
        assert!(!error.chain().contains("secret"), "{}", error.chain());
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(quick("nats://[".to_string()).connect().await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(quick(String::new()).prefix("a.b").build().unwrap_err().kind(), Kind::Invalid);
    assert_eq!(quick(String::new()).timeout(Duration::ZERO).build().unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test]
async fn a_server_whose_jetstream_is_off_says_so() {
    for program in servers::programs() {
        let server = servers::start_with(program, &[]);
        let error = quick(servers::url(&server)).connect().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.message().contains("JetStream is off") && error.message().contains("nats-server -js"), "{error}");
    }
}

/// By configuration, connected at the first call: which fails while the server is not there, and not for good.
#[tokio::test]
async fn by_url_it_connects_at_the_first_call() -> Result {
    let mut server = servers::start("nats-server".into());
    server.kill();
    let broker = Brokers::default().get(&servers::url(&server))?;
    let topic = Topic::new("late");
    let error = broker.declare(&topic, TopicOptions::new().subscription("s")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    server.begin();
    broker.declare(&topic, TopicOptions::new().subscription("s")).await?;
    assert_eq!(broker.send(Publish::new(&topic, Id::of("a"), "x")).await?.stored, 1);
    Ok(())
}

/// The topic of this name, with dead letters, and the client that speaks NATS alone.
async fn begin(server: &Server, name: &str) -> Result<(Nats, Topic, async_nats::Client)> {
    let broker = servers::connect(server).await;
    let topic = Topic::new(name);
    let options = TopicOptions::new().subscription("s").dead_letters(format!("{name}.dead").as_str());
    broker.declare(&topic, options).await?;
    let raw = async_nats::connect(servers::url(server)).await.expect("a connection");
    Ok((broker, topic, raw))
}

#[tokio::test]
async fn what_others_publish_is_taken_or_laid_aside() -> Result {
    for program in servers::programs() {
        let server = servers::start(program);
        let (broker, topic, raw) = begin(&server, "hostile").await?;
        let subscription = topic.subscription("s");
        let jetstream = async_nats::jetstream::new(raw);
        let publish = async |headers: &[(&str, &str)], body: &str| {
            let mut map = async_nats::HeaderMap::new();
            headers.iter().for_each(|(name, value)| map.append(*name, *value));
            let subject = "seedpod.hostile.1";
            jetstream.publish_with_headers(subject, map, body.to_string().into()).await.unwrap().await.unwrap();
        };
        publish(&[("traceparent", "00-1-2-01")], "plain").await;
        let id = ("Seedpod-Id", "87c4c04b43ea728b7b255245cac3bb0f");
        let bad: &[(&[(&str, &str)], &str)] = &[
            (&[("Seedpod-Wire", "1")], "no id"),
            (&[("Seedpod-Wire", "9"), id], "version"),
            (&[("Seedpod-Wire", "1"), id, ("Seedpod-Items", "4000000000")], "items"),
            (&[("Seedpod-Wire", "1"), id, id], "twice"),
            (&[("Seedpod-Wire", "1"), id, ("Seedpod-Headers", "{")], "headers"),
        ];
        for (headers, body) in bad {
            publish(headers, body).await;
        }
        broker.send(Publish::new(&topic, Id::of("good"), "good")).await?;
        let mut good = Vec::new();
        while good.len() < 2 {
            for delivery in broker.lease(&subscription, Want::items(10).wait(Duration::from_secs(5))).await? {
                good.push((delivery.bytes(0)?, delivery.batch.headers.get("traceparent").map(str::to_string)));
                broker.ack(delivery.lease).await?;
            }
        }
        assert_eq!(good, [("plain".into(), Some("00-1-2-01".to_string())), ("good".into(), None)]);
        let dead = Topic::new("hostile.dead").subscription(DEAD_LETTERS);
        let mut letters = Vec::new();
        while letters.len() < bad.len() {
            let letter = broker.lease(&dead, Want::one().wait(Duration::from_secs(5))).await?.remove(0);
            let told = DeadLetter::read(&letter.batch.headers).expect("a dead letter");
            letters.push((String::from_utf8_lossy(&letter.bytes(0)?).into_owned(), told.reason));
            broker.ack(letter.lease).await?;
        }
        letters.sort();
        let bodies: Vec<_> = letters.iter().map(|letter| letter.0.as_str()).collect();
        assert_eq!(bodies, ["headers", "items", "no id", "twice", "version"]);
        assert!(letters.iter().all(|letter| letter.1.starts_with("invalid: ")), "{letters:?}");
        let stats = broker.inspect(&topic).await?;
        assert_eq!((stats.stored, stats.rejected), (0, 5));
    }
    Ok(())
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_sent() -> Result {
    let server = servers::start("nats-server".into());
    let (broker, topic, _raw) = begin(&server, "large").await?;
    let large = Publish::new(&topic, Id::of("large"), vec![0_u8; 2 << 20]);
    let error = broker.send(large).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("topic large, message ") && error.to_string().contains("1048576"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_full_topic_refuses_or_waits() -> Result {
    for program in servers::programs() {
        let server = servers::start(program);
        let broker = servers::connect(&server).await;
        let publish =
            |topic: &Topic, number: u32| broker.send(Publish::json(topic, Id::of(number.to_string()), number));
        let refusing = Topic::new("refusing");
        broker.declare(&refusing, TopicOptions::new().subscription("s").capacity(3).bound(Bound::Refuse)).await?;
        for number in 0..3 {
            publish(&refusing, number).await?;
        }
        let error = publish(&refusing, 3).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Overloaded);
        assert!(error.place().unwrap().starts_with("topic refusing on NATS server nats://127.0.0.1:"), "{error}");
        let got = broker.lease(&refusing.subscription("s"), Want::one()).await?.remove(0);
        broker.ack(got.lease).await?;
        publish(&refusing, 3).await?;
        let batch = seedpod::queue::Payload::values(vec![1_u32, 2], seedpod::queue::Json);
        let error = broker.send(Publish::new(&refusing, Id::of("batch"), batch)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Overloaded, "a batch is counted by its items");

        let waiting = Topic::new("waiting");
        broker.declare(&waiting, TopicOptions::new().subscription("s").capacity(1)).await?;
        publish(&waiting, 0).await?;
        let give_way = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let got = broker.lease(&waiting.subscription("s"), Want::one()).await?.remove(0);
            broker.ack(got.lease).await
        };
        let began = Instant::now();
        let (published, gave_way) = futures::future::join(publish(&waiting, 1), give_way).await;
        gave_way?;
        assert_eq!(published?.stored, 1);
        assert!(began.elapsed() >= Duration::from_millis(300));
    }
    Ok(())
}

/// The broker says nothing of a settlement whose confirmation came too late to tell whose it was, but that it is lost;
/// and a lease is over by this client's own clock, whatever the server thinks.
#[tokio::test]
async fn a_late_settlement_is_refused() -> Result {
    for program in servers::programs() {
        let server = servers::start(program);
        let (broker, topic, _raw) = begin(&server, "stale").await?;
        let subscription = topic.subscription("s");
        broker.send(Publish::new(&topic, Id::of("a"), "x")).await?;
        let held = broker.lease(&subscription, Want::one().hold(Duration::from_millis(300))).await?.remove(0);
        server.pause();
        tokio::time::sleep(Duration::from_millis(400)).await;
        let began = Instant::now();
        let error = broker.ack(held.lease).await.unwrap_err();
        assert_eq!(error.kind(), Kind::LeaseLost, "{error}");
        assert!(began.elapsed() < Duration::from_millis(200), "it asked a server that is silent");
        server.resume();
        let again = broker.lease(&subscription, Want::one().wait(Duration::from_secs(60))).await?.remove(0);
        assert_eq!(again.attempts.lapses, 1);
        broker.ack(again.lease).await?;
    }
    Ok(())
}

#[tokio::test]
async fn work_that_may_be_done_again_needs_a_window_that_lasts() -> Result {
    let server = servers::start("nats-server".into());
    let (broker, topic, _raw) = begin(&server, "in").await?;
    let out = Topic::new("out");
    broker.declare(&out, TopicOptions::new().subscription("s").dedup(Duration::from_secs(5))).await?;
    broker.send(Publish::new(&topic, Id::of("a"), "x")).await?;
    let held = broker.lease(&topic.subscription("s"), Want::one()).await?.remove(0);
    let step = || Step::new().ack(held.lease).publish(Publish::new(&out, Id::of("b"), "y"));
    let error = broker.settle(step()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("topic out") && error.to_string().contains("longer dedup"), "{error}");
    assert_eq!(broker.inspect(&out).await?.stored, 0);
    broker.settle(Step::new().extend(held.lease, Duration::from_secs(2))).await?;
    broker.ack(held.lease).await
}

#[tokio::test]
async fn a_late_subscription_sees_the_history_that_is_kept() -> Result {
    for program in servers::programs() {
        let server = servers::start(program);
        let broker = Nats::builder(servers::url(&server)).history(Duration::from_secs(3600)).connect().await?;
        let topic = Topic::new("history");
        broker.declare(&topic, TopicOptions::new().subscription("early")).await?;
        for number in 0..3_u32 {
            broker.send(Publish::json(&topic, Id::of(number.to_string()), number)).await?;
        }
        for delivery in broker.lease(&topic.subscription("early"), Want::items(3)).await? {
            broker.ack(delivery.lease).await?;
        }
        broker.declare(&topic, TopicOptions::new().subscription("late")).await?;
        let mut seen = Vec::new();
        while seen.len() < 3 {
            for delivery in broker.lease(&topic.subscription("late"), Want::items(3)).await? {
                seen.push(delivery.json::<u32>(0)?);
                broker.ack(delivery.lease).await?;
            }
        }
        assert_eq!(seen, [0, 1, 2]);
        assert_eq!(broker.inspect(&topic).await?.stored, 0);
    }
    Ok(())
}

/// What the server does not keep as asked is an error, not a surprise: one server cannot keep three copies.
#[tokio::test]
async fn what_the_server_cannot_keep_is_an_error() -> Result {
    for program in servers::programs() {
        let server = servers::start(program);
        let error = Nats::builder(servers::url(&server)).replicas(3).connect().await.unwrap_err();
        assert!(error.to_string().contains("replicas") && error.to_string().contains("NATS server"), "{error}");
        // a stream that is there and otherwise is nothing to build on
        let raw = async_nats::jetstream::new(async_nats::connect(servers::url(&server)).await.unwrap());
        let config = async_nats::jetstream::stream::Config {
            name: "seedpod-topic-taken".to_string(),
            subjects: vec!["seedpod.taken.*".to_string()],
            ..Default::default()
        };
        raw.create_stream(config).await.unwrap();
        let broker = servers::connect(&server).await;
        let topic = Topic::new("taken");
        let error = broker.declare(&topic, TopicOptions::new().subscription("s")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_taken_away_is_missed_by_name() -> Result {
    for program in servers::programs() {
        let server = servers::start(program);
        let raw = async_nats::jetstream::new(async_nats::connect(servers::url(&server)).await.unwrap());
        let broker = servers::connect(&server).await;
        let gone = Topic::new("gone");
        broker.declare(&gone, TopicOptions::new().subscription("s")).await?;
        assert!(broker.lease(&gone.subscription("s"), Want::one().wait(Duration::ZERO)).await?.is_empty());
        raw.delete_stream("seedpod-topic-gone").await.unwrap();
        let error = broker.lease(&gone.subscription("s"), Want::one()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
        let error = broker.send(Publish::new(&gone, Id::of("a"), "x")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
    }
    Ok(())
}
