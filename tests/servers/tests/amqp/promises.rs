//! One node, and all that a broker on it promises.

use crate::rabbitmq_queue;
use bytes::Bytes;
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use seedpod::{
    Kind, Result,
    queue::{
        self, Amqp, Attempts, Bound, Broker, BrokerExt, DEAD_LETTERS, DeadLetter, Delivery, Id, Json, Message, Payload,
        Publish, Retry, Step, Subscription, Topic, TopicOptions, Want,
    },
    testing,
};
use seedpod_server_tests::rabbit::Rabbit;
use std::{fs, path::PathBuf, sync::Arc, time::Duration};
use tower::service_fn;

const SECOND: Duration = Duration::from_secs(1);

/// One node for all of these, since a node takes long to begin.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_keeps_all_promises() {
    let rabbit = Rabbit::start("max_message_size = 1000000\n");
    let broker = Amqp::connect(&rabbit.url()).await.unwrap();
    testing::broker::all(&broker).await.unwrap();
    eprintln!("the conformance suite holds");
    capacity(&broker).await.unwrap();
    delays(&broker).await.unwrap();
    strangers(&broker, &rabbit.url()).await.unwrap();
    oversized(&broker).await.unwrap();
    given_up_by_the_server(&rabbit.url()).await.unwrap();
    declared_by_another(&rabbit.url()).await.unwrap();
    held_by_nobody(&rabbit.url()).await.unwrap();
    one_call_each(&broker).await.unwrap();
    user(&rabbit.url()).await;
    story(&rabbit.url()).await;
}

async fn declared(broker: &Amqp, name: &str, options: TopicOptions) -> Result<(Topic, Subscription)> {
    let topic = Topic::new(name);
    broker.declare(&topic, options.subscription("one")).await?;
    Ok((topic.clone(), topic.subscription("one")))
}

async fn one(broker: &Amqp, subscription: &Subscription) -> Result<Delivery> {
    let got = broker.lease(subscription, Want::one().wait(10 * SECOND)).await?;
    Ok(got.into_iter().next().unwrap_or_else(|| panic!("nothing came to {subscription}")))
}

/// A topic that refuses does so at its bound, give or take what the server lets pass; one that waits loses nothing.
async fn capacity(broker: &Amqp) -> Result<()> {
    let (topic, _) = declared(broker, "refusing", TopicOptions::new().capacity(10).bound(Bound::Refuse)).await?;
    let mut taken = 0;
    let error = loop {
        match broker.send(Publish::new(&topic, Id::of(format!("{taken}")), "x")).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 30, "a topic for 10 took {taken}");
    };
    assert_eq!(error.kind(), Kind::Overloaded, "{error}");
    assert!(error.to_string().contains("topic refusing") && taken >= 10, "{taken} {error}");
    eprintln!("a topic for 10 took {taken}, then: {error}");

    let (topic, subscription) = declared(broker, "waiting", TopicOptions::new().capacity(5)).await?;
    let publisher = async {
        for number in 0..100_u32 {
            broker.send(Publish::json(&topic, Id::of(number.to_string()), number)).await?;
        }
        Ok::<_, seedpod::Error>(())
    };
    let worker = async {
        let mut all = Vec::new();
        while all.len() < 100 {
            let delivery = one(broker, &subscription).await?;
            all.push(delivery.json::<u32>(0)?);
            broker.ack(delivery.lease).await?;
        }
        Ok::<_, seedpod::Error>(all)
    };
    let (published, all) = futures::future::join(publisher, worker).await;
    published?;
    assert_eq!(all?, (0..100).collect::<Vec<_>>());
    Ok(())
}

/// Not before its time, and not much later; for one subscription where it is a retry.
async fn delays(broker: &Amqp) -> Result<()> {
    let (topic, subscription) = declared(broker, "delays", TopicOptions::new().subscription("two")).await?;
    let mut late = Vec::new();
    for wait in [50, 150, 700, 1300, 3200].map(Duration::from_millis) {
        let before = std::time::Instant::now();
        broker.send(Publish::new(&topic, Id::of("a"), "x").delay(wait)).await?;
        let sent = before.elapsed();
        let delivery = one(broker, &subscription).await?;
        let waited = before.elapsed();
        assert!(waited >= wait && waited < sent + wait + SECOND, "{wait:?} became {waited:?}");
        late.push(format!("{wait:?} +{} ms", (waited - wait).as_millis()));
        broker.ack(delivery.lease).await?;
    }
    eprintln!("delays: {}", late.join(", "));
    let two = topic.subscription("two");
    assert_eq!(broker.lease(&two, Want::items(10).wait(SECOND)).await?.len(), 5, "each subscription has seen each");
    broker.send(Publish::new(&topic, Id::of("b"), "y")).await?;
    let delivery = one(broker, &subscription).await?;
    broker.settle(Step::new().retry(Retry::new(delivery.lease).after(SECOND / 2))).await?;
    let again = one(broker, &subscription).await?;
    assert_eq!((again.id(0), again.attempts), (Id::of("b"), Attempts::new(1, 0, 0)));
    broker.ack(again.lease).await?;
    let seen = broker.lease(&two, Want::items(10).wait(SECOND)).await?;
    assert_eq!(seen.len(), 1, "the retry came to the other subscription too");
    let error = broker.send(Publish::new(&topic, Id::of("c"), "").delay(30 * 86_400 * SECOND)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    Ok(())
}

/// What a stranger puts in: taken where it can be read, given up with a reason where it says to be ours and is not.
async fn strangers(broker: &Amqp, url: &str) -> Result<()> {
    let (topic, subscription) = declared(broker, "strange", TopicOptions::new().dead_letters("strange.dead")).await?;
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let put = async |headers: &[(&str, AMQPValue)], body: &[u8]| {
        let mut table = FieldTable::default();
        headers.iter().for_each(|(name, value)| {
            table.insert((*name).into(), value.clone());
        });
        let properties = BasicProperties::default().with_headers(table).with_message_id("17".into());
        let exchange = topic.as_str().into();
        let sent = channel.basic_publish(exchange, "".into(), BasicPublishOptions::default(), body, properties).await;
        assert!(sent.unwrap().await.unwrap().is_ack());
    };
    let text = |text: &'static str| AMQPValue::LongString(text.into());
    put(&[("origin", text("far")), ("count", AMQPValue::LongInt(7))], b"\xFF\0").await;
    let delivery = one(broker, &subscription).await?;
    assert_eq!((delivery.bytes(0)?, delivery.id(0)), (Bytes::from_static(b"\xFF\0"), Id::of("amqp message 17")));
    let headers = &delivery.batch.headers;
    assert_eq!((headers.get("origin"), headers.get("count")), (Some("far"), Some("7")));
    broker.ack(delivery.lease).await?;

    let malformed: &[(&[(&str, AMQPValue)], &str)] = &[
        (&[("Seedpod-Id", text("zz"))], "header Seedpod-Wire is missing"),
        (&[("Seedpod-Wire", text("99"))], "wire version"),
        (&[("Seedpod-Wire", text("1")), ("Seedpod-Id", text("zz"))], "no message id"),
        (
            &[
                ("Seedpod-Wire", text("1")),
                ("Seedpod-Id", text("87c4c04b43ea728b7b255245cac3bb0f")),
                ("Seedpod-Items", AMQPValue::LongLongInt(i64::MAX)),
            ],
            "header Seedpod-Items is no such number",
        ),
    ];
    for (headers, why) in malformed {
        put(headers, b"broken").await;
        assert!(broker.lease(&subscription, Want::one().wait(SECOND)).await?.is_empty(), "{why}");
        let dead = one(broker, &Subscription::new("strange.dead", DEAD_LETTERS)).await?;
        let letter = DeadLetter::read(&dead.batch.headers).expect("it says why");
        assert!(letter.reason.contains(why), "{} and not {why}", letter.reason);
        assert_eq!((dead.bytes(0)?, letter.subscription), (Bytes::from_static(b"broken"), subscription.clone()));
        broker.ack(dead.lease).await?;
    }
    assert_eq!(broker.inspect(&topic).await?.stored, 0);
    Ok(())
}

/// What is larger than the server takes is an error that names it, and the next publish works.
async fn oversized(broker: &Amqp) -> Result<()> {
    let (topic, subscription) = declared(broker, "large", TopicOptions::new()).await?;
    let error = broker.send(Publish::new(&topic, Id::of("large"), vec![7; 1_000_001])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{}", error.chain());
    assert!(error.to_string().contains("topic large") && error.to_string().contains("larger"), "{error}");
    broker.send(Publish::new(&topic, Id::of("fits"), vec![7; 900_000])).await?;
    let delivery = one(broker, &subscription).await?;
    assert_eq!((delivery.id(0), delivery.bytes(0)?.len()), (Id::of("fits"), 900_000));
    broker.ack(delivery.lease).await?;
    let long = "v".repeat(70_000);
    let error = broker.send(Publish::new(&topic, Id::of("a"), "x").header("long", long)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    let error = broker.declare(&Topic::new("t".repeat(300)), TopicOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    Ok(())
}

/// What comes back too often is moved by the server, and arrives as a dead letter with its history.
async fn given_up_by_the_server(url: &str) -> Result<()> {
    let broker = Amqp::new(url)?.delivery_limit(2);
    let options = TopicOptions::new().dead_letters("limited.dead");
    let (topic, subscription) = declared(&broker, "limited", options).await?;
    broker.send(Publish::new(&topic, Id::of("a"), "x").header("origin", "here")).await?;
    for lapses in 0..3 {
        let want = Want::one().wait(10 * SECOND).hold(SECOND / 5);
        let got = broker.lease(&subscription, want).await?;
        assert_eq!(got.first().map(|delivery| delivery.attempts.lapses), Some(lapses));
    }
    let dead = one(&broker, &Subscription::new("limited.dead", DEAD_LETTERS)).await?;
    let letter = DeadLetter::read(&dead.batch.headers).expect("it says why");
    assert_eq!((letter.subscription, letter.id), (subscription.clone(), Id::of("a")));
    assert_eq!(dead.id(0), Id::derive(&subscription.name, Id::of("a"), DeadLetter::PORT, 0));
    assert_eq!((dead.batch.headers.get("origin"), dead.attempts), (Some("here"), Attempts::default()));
    eprintln!("given up by the server: {}, {:?}", letter.reason, letter.attempts);
    broker.ack(dead.lease).await
}

/// Another process's declaration is seen: what is there may be used, what contradicts it is refused.
async fn declared_by_another(url: &str) -> Result<()> {
    let (first, second) = (Amqp::connect(url).await?, Amqp::connect(url).await?);
    let (topic, subscription) = declared(&first, "shared", TopicOptions::new().capacity(7)).await?;
    second.send(Publish::new(&topic, Id::of("a"), "x")).await?;
    let error = declared(&second, "shared", TopicOptions::new().capacity(8)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{}", error.chain());
    assert!(error.to_string().contains("topic shared, broker amqp://127.0.0.1:"), "{error}");
    let held = one(&second, &subscription).await?;
    assert!(first.lease(&subscription, Want::one().wait(SECOND / 5)).await?.is_empty(), "another holds it");
    drop(second); // as a process that dies: the server takes the message back at once
    let again = one(&first, &subscription).await?;
    assert_eq!((again.id(0), again.attempts.lapses), (held.id(0), 1));
    first.ack(again.lease).await
}

/// Whoever asks for one gets one, and the others stay where anybody can have them.
async fn held_by_nobody(url: &str) -> Result<()> {
    let (first, second) = (Amqp::connect(url).await?, Amqp::connect(url).await?);
    let (topic, subscription) = declared(&first, "idle", TopicOptions::new()).await?;
    let waiting = tokio::spawn({
        let subscription = subscription.clone();
        async move {
            let got = first.lease(&subscription, Want::one().wait(10 * SECOND)).await;
            (first, got)
        }
    });
    tokio::time::sleep(SECOND / 2).await;
    second.send(Publish::new(&topic, Id::of("batch"), Payload::values((0..10_u32).collect(), Json))).await?;
    let (first, got) = waiting.await.expect("it ended");
    assert_eq!(got?.len(), 1);
    let stats = first.inspect(&topic).await?;
    assert_eq!((stats.ready, stats.leased), (9, 1), "nobody holds what nobody asked for");
    let rest = second.lease(&subscription, Want::items(100).wait(SECOND)).await?;
    assert_eq!(rest.len(), 9);
    drop(first);
    Ok(())
}

/// The pump on this broker: a worker that panics, and what it made.
async fn one_call_each(broker: &Amqp) -> Result<()> {
    let (topic, subscription) = declared(broker, "pumped", TopicOptions::new().dead_letters("pumped.dead")).await?;
    let (out, out_subscription) = declared(broker, "pumped.out", TopicOptions::new()).await?;
    for number in 0..20_u32 {
        broker.send(Publish::json(&topic, Id::of(number.to_string()), number)).await?;
    }
    let worker = service_fn(move |message: Message| {
        let made = Publish::new(&out, message.derive(0, 0), message.bytes().unwrap_or_default());
        async move {
            let number: u32 = message.json()?;
            assert!(number != 7 || message.attempts().crashes > 0, "it panics once");
            Ok::<_, seedpod::Error>(queue::Done::new().publish(made))
        }
    });
    let own: Arc<dyn Broker> = Arc::new(Amqp::connect(&broker_url(broker)).await?);
    let pump = queue::consume(own, subscription, worker).concurrency(4);
    let control = pump.control();
    let done = async move {
        while control.tally().done < 20 {
            tokio::time::sleep(SECOND / 20).await;
        }
    };
    tokio::time::timeout(60 * SECOND, pump.run_until(done)).await.expect("it hangs")?;
    let made = broker.lease(&out_subscription, Want::items(100).wait(SECOND)).await?;
    let mut numbers = made.iter().map(|delivery| delivery.json::<u32>(0)).collect::<Result<Vec<_>>>()?;
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    assert_eq!(broker.inspect(&topic).await?.stored, 0);
    Ok(())
}

fn broker_url(broker: &Amqp) -> String {
    let shown = format!("{broker:?}");
    shown.split_whitespace().find_map(|word| word.strip_suffix(',')).unwrap_or_default().to_string()
}

/// A user that the server does not know, and a virtual host that is not there: said, without the password.
async fn user(url: &str) {
    let error = Amqp::connect(&url.replace("//", "//me:se@cret@")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Rejected, "{}", error.chain());
    assert!(!error.chain().contains("cret") && error.to_string().contains("user"), "{}", error.chain());
    let error = Amqp::connect(&format!("{url}/nowhere")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Rejected, "{}", error.chain());
    assert!(error.to_string().contains("nowhere"), "{error}");
}

/// The example's transcript. `SEEDPOD_RECORD=1` writes it anew.
async fn story(url: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../data/examples/rabbitmq_queue.txt");
    let told = rabbitmq_queue::story(url, "shop").await.unwrap() + "\n";
    if std::env::var_os("SEEDPOD_RECORD").is_some() {
        fs::write(&path, &told).unwrap();
    }
    assert_eq!(told, fs::read_to_string(&path).unwrap_or_default(), "{}", path.display());
}
