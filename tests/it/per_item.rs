//! A container per item, and ambassadors of workers that know no queue: how each end settles the message.

use bytes::Bytes;
use seedpod::{
    Error, Kind, Result,
    base::{Backoff, sync::Lock, time},
    http::{self, Body},
    net::Net,
    pod::{ContainerSpec, Context, Exit, Images, Pod, PodSpec, RestartPolicy, Volume},
    queue::{
        self, Attempts, Broker, BrokerExt, ByFile, ByHttp, DEAD_LETTERS, DeadLetter, HandOver, Id, Memory, Payload,
        PerItem, PodLauncher, Publish, Results, Subscription, Topic, TopicOptions, Want,
    },
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);

fn resize() -> Subscription {
    Subscription::new("pictures", "resize")
}

async fn broker() -> Arc<Memory> {
    let broker = Arc::new(Memory::new());
    let options = TopicOptions::new().subscription("resize").dead_letters("dead");
    broker.declare(&Topic::new("pictures"), options).await.unwrap();
    let results = TopicOptions::new().subscription("all").dedup(3600 * SECOND);
    broker.declare(&Topic::new("results"), results).await.unwrap();
    broker
}

async fn publish(broker: &Memory, name: &str, payload: impl Into<Payload>) {
    broker.send(Publish::new("pictures", Id::of(name), payload)).await.unwrap();
}

async fn stored(broker: &Memory) -> usize {
    broker.inspect(&Topic::new("pictures")).await.unwrap().stored
}

async fn dead(broker: &Memory) -> Vec<(String, Attempts)> {
    let mut letters = Vec::new();
    let all = Want::items(100).wait(Duration::ZERO);
    for delivery in broker.lease(&Topic::new("dead").subscription(DEAD_LETTERS), all).await.unwrap() {
        let letter = DeadLetter::read(&delivery.batch.headers).unwrap();
        letters.push((letter.reason, letter.attempts));
    }
    letters
}

async fn results(broker: &Memory) -> Vec<(Id, Bytes)> {
    let all = Want::items(100).wait(Duration::ZERO);
    let deliveries = broker.lease(&Topic::new("results").subscription("all"), all).await.unwrap();
    deliveries.iter().map(|delivery| (delivery.id(0), delivery.bytes(0).unwrap())).collect()
}

/// Whoever leases it next sees what it was charged.
async fn charged(broker: &Memory) -> Attempts {
    broker.lease(&resize(), Want::one()).await.unwrap()[0].attempts
}

fn template(image: impl Into<seedpod::pod::Image>) -> PodSpec {
    PodSpec::new("resize").container(ContainerSpec::new("app", image))
}

fn launcher(image: impl Into<seedpod::pod::Image>) -> PodLauncher {
    PodLauncher::new(template(image), &Net::memory().build())
}

/// Runs a container per message for so many seconds, with waits of exactly a second between tries.
async fn run(broker: &Arc<Memory>, launcher: PodLauncher, seconds: u32) {
    let pump = queue::launch(broker.clone(), resize(), launcher);
    pump.backoff(Backoff::new(SECOND, SECOND).exact()).run_until(time::sleep(seconds * SECOND)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_item_enters_by_file_and_environment_and_its_result_is_published() {
    async fn app(context: Context) -> Result {
        let item = context.volume("/item")?;
        let mut seen = vec![String::from_utf8_lossy(&item.read("input")?).into_owned()];
        let names = ["MESSAGE_ID", "MESSAGE_TOPIC", "MESSAGE_SUBSCRIPTION", "MESSAGE_ATTEMPT"];
        seen.extend(names.map(|name| context.env(&format!("SEEDPOD_{name}")).unwrap_or("none").to_string()));
        seen.push(context.env("PICTURE").unwrap_or("none").to_string());
        item.write("output", seen.join(" "))
    }
    let broker = broker().await;
    publish(&broker, "cat.png", "cat").await;
    let service = PerItem::new(launcher(app).payload_env("PICTURE"));
    let service = Results::published(service, "results");
    queue::consume(broker.clone(), resize(), service).run_until(time::sleep(SECOND)).await.unwrap();
    let id = Id::of("cat.png");
    let expected = format!("cat {id} pictures resize 0 cat");
    assert_eq!(results(&broker).await, [(Id::derive(&"resize".into(), id, 0, 0), Bytes::from(expected))]);
    assert_eq!(stored(&broker).await, 0);
}

#[tokio::test(start_paused = true)]
async fn each_try_is_a_fresh_pod_until_the_attempts_are_spent() {
    let pods = Arc::new(Lock::new(Vec::new()));
    let seen = pods.clone();
    let app = move |context: Context| {
        let seen = seen.clone();
        async move {
            let item = context.volume("item").unwrap();
            seen.lock().push((context.pod().to_string(), item.list("").unwrap()));
            item.write("left behind", "x").unwrap();
            Err::<(), _>(Exit::new(3, "no such codec"))
        }
    };
    let broker = broker().await;
    publish(&broker, "cat.png", "cat").await;
    let pump = queue::launch(broker.clone(), resize(), launcher(app)).attempts(3);
    pump.backoff(Backoff::new(SECOND, SECOND).exact()).run_until(time::sleep(60 * SECOND)).await.unwrap();
    let names: Vec<_> = pods.lock().iter().map(|(name, _)| name.clone()).collect();
    let short = &Id::of("cat.png").to_string()[..8];
    assert_eq!(names, [0, 1, 2].map(|number| format!("resize-{short}-{number}")));
    assert!(pods.lock().iter().all(|(_, files)| *files == ["input"]), "nothing of a failed one is used again");
    let (reason, attempts) = dead(&broker).await.pop().unwrap();
    assert_eq!(
        reason,
        format!("pod default/resize-{short}-2: failed: container app: failed: exit code 3: no such codec")
    );
    assert_eq!(attempts.failures, 2);
}

#[tokio::test(start_paused = true)]
async fn exit_65_gives_up_and_75_comes_back_uncharged() {
    let broker = broker().await;
    publish(&broker, "cat.png", "cat").await;
    run(&broker, launcher(|_: Context| async { Err::<(), _>(Exit::new(65, "no picture")) }), 1).await;
    let (reason, attempts) = dead(&broker).await.pop().unwrap();
    assert!(reason.contains("invalid: container app: failed: exit code 65: no picture"), "{reason}");
    assert_eq!(attempts.total(), 0);

    let later = |seconds: Option<&'static str>| {
        move |context: Context| async move {
            if let Some(seconds) = seconds {
                context.volume("item").unwrap().write("retry-after", seconds).unwrap();
            }
            Err::<(), _>(Exit::new(75, "the store is away"))
        }
    };
    for (said, wait) in [(None, 30), (Some("90\n"), 90), (Some("soon"), 30)] {
        publish(&broker, "dog.png", "dog").await;
        run(&broker, launcher(later(said)), 1).await;
        let since = time::now();
        let delivery = broker.lease(&resize(), Want::one()).await.unwrap().remove(0);
        let waited = (time::now() - since + SECOND).as_secs();
        assert_eq!((waited, delivery.attempts.total()), (wait, 0), "{said:?}");
        broker.ack(delivery.lease).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_charged_and_named() {
    async fn app(_: Context) -> Result {
        panic!("the codec's mistake")
    }
    let broker = broker().await;
    publish(&broker, "cat.png", "cat").await;
    let pump = queue::launch(broker.clone(), resize(), launcher(app)).attempts(1).crashes(1);
    pump.run_until(time::sleep(SECOND)).await.unwrap();
    let (reason, _) = dead(&broker).await.pop().unwrap();
    assert!(reason.contains("exit code 101: panicked: the codec's mistake"), "{reason}");
}

/// Counts those that run, until they are dropped.
struct Alive(Arc<AtomicU32>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn forever(alive: &Arc<AtomicU32>) -> impl Fn(Context) -> futures::future::BoxFuture<'static, Result> + use<> {
    let alive = alive.clone();
    move |_: Context| {
        let alive = alive.clone();
        Box::pin(async move {
            alive.fetch_add(1, Ordering::Relaxed);
            let _alive = Alive(alive);
            std::future::pending().await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_takes_too_long_is_killed_and_charged() {
    let (broker, alive) = (broker().await, Arc::default());
    publish(&broker, "cat.png", "cat").await;
    let launcher = launcher(forever(&alive)).within(10 * SECOND);
    let pump = queue::launch(broker.clone(), resize(), launcher).attempts(2);
    pump.backoff(Backoff::new(SECOND, SECOND).exact()).run_until(time::sleep(60 * SECOND)).await.unwrap();
    let (reason, attempts) = dead(&broker).await.pop().unwrap();
    assert!(reason.ends_with("timed out: it was not over after 10s"), "{reason}");
    assert_eq!((attempts.failures, alive.load(Ordering::Relaxed)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_the_message_kills_the_pod() {
    let (broker, alive) = (broker().await, Arc::<AtomicU32>::default());
    publish(&broker, "cat.png", "cat").await;
    let pump = queue::launch(broker.clone(), resize(), launcher(forever(&alive)));
    tokio::select! {
        _ = pump.clone().run_until(std::future::pending()) => unreachable!(),
        () = time::sleep(100 * SECOND) => assert_eq!(alive.load(Ordering::Relaxed), 1, "its lease is renewed"),
    }
    time::sleep(SECOND).await;
    assert_eq!(alive.load(Ordering::Relaxed), 0, "the pump was dropped");

    // a lost lease: someone else settles the message under the pump's nose
    struct Thief(Arc<Memory>, Lock<Option<queue::Lease>>);
    impl Broker for Thief {
        fn guarantees(&self) -> queue::Guarantees {
            self.0.guarantees()
        }
        fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> seedpod::base::Answer<'a, ()> {
            self.0.declare(topic, options)
        }
        fn publish(&self, batches: seedpod::base::Few<Publish>) -> seedpod::base::Answer<'_, queue::Receipt> {
            self.0.publish(batches)
        }
        fn lease<'a>(
            &'a self,
            subscription: &'a Subscription,
            want: Want,
        ) -> seedpod::base::Answer<'a, seedpod::base::Few<queue::Delivery>> {
            seedpod::base::Answer::later(async move {
                let leased = self.0.lease(subscription, want).await?;
                *self.1.lock() = leased.first().map(|delivery| delivery.lease);
                Ok(leased)
            })
        }
        fn settle(&self, step: queue::Step) -> seedpod::base::Answer<'_, ()> {
            self.0.settle(step)
        }
        fn load<'a>(&'a self, key: &'a seedpod::base::Name) -> seedpod::base::Answer<'a, (u64, Bytes)> {
            self.0.load(key)
        }
        fn inspect<'a>(&'a self, topic: &'a Topic) -> seedpod::base::Answer<'a, queue::TopicStats> {
            self.0.inspect(topic)
        }
    }
    let thief = Arc::new(Thief(broker.clone(), Lock::default()));
    let pump = queue::launch(thief.clone(), resize(), launcher(forever(&alive)));
    let script = async {
        time::sleep(40 * SECOND).await;
        assert_eq!(alive.load(Ordering::Relaxed), 1);
        let stolen = thief.1.lock().unwrap();
        broker.ack(stolen).await.unwrap();
        time::sleep(40 * SECOND).await;
        assert_eq!(alive.load(Ordering::Relaxed), 0, "its lease is lost");
    };
    pump.run_until(script).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_and_a_wrong_template_are_not_the_items_fault() {
    let (broker, images) = (broker().await, Images::default());
    publish(&broker, "cat.png", "cat").await;
    let late = images.clone();
    let register = async {
        time::sleep(25 * SECOND).await;
        assert_eq!(stored(&broker).await, 1);
        late.register("resize", |_: Context| async { Ok::<_, Error>(()) });
    };
    let pump = queue::launch(broker.clone(), resize(), launcher(images.image("resize:v1"))).attempts(1);
    let (pumped, ()) = tokio::join!(pump.run_until(time::sleep(60 * SECOND)), register);
    pumped.unwrap();
    assert_eq!((stored(&broker).await, dead(&broker).await), (0, vec![]));

    publish(&broker, "dog.png", "dog").await;
    let lacks = PodSpec::new("resize")
        .container(ContainerSpec::new("app", |_: Context| async { Ok::<_, Error>(()) }).mount("nowhere", "/x"));
    run(&broker, PodLauncher::new(lacks, &Net::memory().build()), 60).await;
    assert_eq!(dead(&broker).await, []);
    assert_eq!(charged(&broker).await.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_cannot_enter_is_given_up() {
    let broker = broker().await;
    publish(&broker, "big", vec![b'x'; 100]).await;
    publish(&broker, "no text", vec![0xFF_u8]).await;
    let app = |_: Context| async { Ok::<_, Error>(()) };
    run(&broker, launcher(app).volume_bytes(50).payload_env("PICTURE"), 1).await;
    let reasons: Vec<_> = dead(&broker).await.into_iter().map(|(reason, _)| reason).collect();
    assert!(reasons[0].contains("would hold 100 bytes, its limit is 50"), "{reasons:?}");
    assert!(reasons[1].contains("it is no text, and cannot stand in PICTURE"), "{reasons:?}");
}

#[tokio::test(start_paused = true)]
async fn containers_may_run_again_in_the_same_pod_a_few_times() {
    let (broker, runs) = (broker().await, Arc::new(AtomicU32::new(0)));
    let app = {
        let runs = runs.clone();
        move |_: Context| {
            let run = runs.fetch_add(1, Ordering::Relaxed);
            async move { if run < 2 { Err(Exit::new(1, "not yet")) } else { Ok(()) } }
        }
    };
    let on_failure = || template(app.clone()).restart(RestartPolicy::OnFailure);
    publish(&broker, "cat.png", "cat").await;
    run(&broker, PodLauncher::new(on_failure(), &Net::memory().build()), 60).await;
    assert_eq!((runs.swap(0, Ordering::Relaxed), stored(&broker).await), (3, 0));

    publish(&broker, "dog.png", "dog").await;
    let pump =
        queue::launch(broker.clone(), resize(), PodLauncher::new(on_failure(), &Net::memory().build()).restarts(0));
    pump.attempts(1).run_until(time::sleep(60 * SECOND)).await.unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 2, "run again once, and then no more");
    assert!(dead(&broker).await[0].0.contains("exit code 1: not yet"));
}

#[tokio::test(start_paused = true)]
async fn as_many_pods_at_once_as_are_allowed_and_none_is_left_behind() {
    let (broker, net, most) = (broker().await, Net::memory().build(), Arc::new(AtomicU32::new(0)));
    let now = Arc::new(AtomicU32::new(0));
    let app = {
        let (now, most) = (now.clone(), most.clone());
        move |_: Context| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                let _alive = Alive(now);
                time::sleep(SECOND).await;
                Ok::<_, Error>(())
            }
        }
    };
    for item in 0..500 {
        publish(&broker, &format!("{item}"), "x").await;
    }
    let pump = queue::launch(broker.clone(), resize(), PodLauncher::new(template(app), &net)).concurrency(8);
    pump.run_until(time::sleep(70 * SECOND)).await.unwrap();
    assert_eq!((stored(&broker).await, most.load(Ordering::Relaxed), now.load(Ordering::Relaxed)), (0, 8, 0));
}

/// A pod of an ambassador beside this worker.
fn beside(broker: &Arc<Memory>, hand_over: impl HandOver, volume: Volume, worker: ContainerSpec) -> Pod {
    let ambassador = queue::ambassador(broker.clone(), resize(), hand_over)
        .results("results")
        .each(|pump| pump.attempts(2).backoff(Backoff::new(SECOND, SECOND).exact()));
    let spec = PodSpec::new("resize")
        .volume("desk", volume)
        .container(ContainerSpec::new("ambassador", ambassador).mount("desk", "/desk"))
        .container(worker.mount("desk", "/desk"));
    Pod::start(spec, &Net::memory().build()).unwrap()
}

type Request = ::http::Request<hyper_body::Incoming>;
type Response = ::http::Response<Body>;

/// Stands in for hyper's body type, which the server hands on as ours.
mod hyper_body {
    pub(super) type Incoming = seedpod::http::Body;
}

/// Answers requests on port 80 so.
fn web(answer: impl Fn(Request) -> Response + Clone + Send + Sync + 'static) -> ContainerSpec {
    let worker = move |context: Context| {
        let answer = answer.clone();
        async move {
            let listener = context.listen(80).await?;
            let service = tower::service_fn(move |request: Request| {
                let answer = answer(request);
                async move { Ok::<_, Error>(answer) }
            });
            http::serve(listener, service).until(context.stopped()).await
        }
    };
    ContainerSpec::new("worker", worker)
}

#[tokio::test(start_paused = true)]
async fn an_http_answer_settles_the_message() {
    let dated = |seconds: u64| {
        let then = std::time::UNIX_EPOCH + time::WallClock::SIMULATED_EPOCH + Duration::from_secs(seconds);
        let mut answer = http::text(429, "");
        answer.headers_mut().insert("retry-after", httpdate::fmt_http_date(then).parse().unwrap());
        answer
    };
    let after = |status: u16, seconds: &'static str| {
        let mut answer = http::text(status, "busy");
        answer.headers_mut().insert("retry-after", seconds.parse().unwrap());
        answer
    };
    // status and waiting time in seconds until it is there again; none: it is done or dead
    type Case = (&'static str, Arc<dyn Fn() -> Response + Send + Sync>, Option<u64>, u16);
    let cases: Vec<Case> = vec![
        ("200", Arc::new(|| http::text(200, "small")), None, 0),
        ("204", Arc::new(|| http::text(204, "")), None, 0),
        ("404", Arc::new(|| http::text(404, "no such codec")), None, 0),
        ("429", Arc::new(move || after(429, "7")), Some(7), 0),
        ("503", Arc::new(|| http::text(503, "")), Some(1), 0),
        ("dated", Arc::new(move || dated(60)), Some(60), 0),
        ("408", Arc::new(|| http::text(408, "")), Some(1), 1),
        ("500", Arc::new(|| http::text(500, "")), Some(1), 1),
        ("302", Arc::new(|| http::text(302, "")), Some(1), 1),
    ];
    for (name, answer, wait, failures) in cases {
        let _simulation = seedpod::base::Seed::new(1).simulate();
        let broker = broker().await;
        publish(&broker, name, name).await;
        let answers = answer.clone();
        let pod = beside(&broker, ByHttp::port(80), Volume::memory(), web(move |_| answers()));
        let since = time::now();
        while broker.inspect(&Topic::new("pictures")).await.unwrap().ready
            + broker.inspect(&Topic::new("pictures")).await.unwrap().leased
            > 0
        {
            time::sleep(SECOND / 100).await;
        }
        pod.kill();
        match wait {
            Some(wait) => {
                assert_eq!(charged(&broker).await, Attempts::new(failures, 0, 0), "{name}");
                let waited = (time::now() - since).as_secs_f64();
                assert!((waited - wait as f64).abs() < 0.5, "{name}: {waited}");
            }
            None => assert_eq!(stored(&broker).await, 0, "{name}"),
        }
        let (dead, results) = (dead(&broker).await, results(&broker).await);
        match name {
            "404" => {
                let reason = "http://localhost:80/: invalid: 404 Not Found: no such codec";
                assert_eq!(dead, [(reason.to_string(), Attempts::default())]);
            }
            "200" => assert_eq!(results[0].1, "small"),
            "204" => assert_eq!(results[0].1, ""),
            _ => assert!(dead.is_empty() && results.is_empty(), "{name}: {dead:?} {results:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_says_what_the_message_is_and_hostile_headers_stay_out() {
    let seen = Arc::new(Lock::new(Vec::new()));
    let told = seen.clone();
    let worker = web(move |request| {
        told.lock().push((request.method().clone(), request.uri().clone(), request.headers().clone()));
        http::text(200, "")
    });
    let broker = broker().await;
    let publish = Publish::new("pictures", Id::of("cat.png"), "cat")
        .header("content-type", "image/png")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .header("host", "elsewhere")
        .header("content-length", "7")
        .header("idempotency-key", "mine")
        .header("split", "a\r\nx: y")
        .header("no name", "x");
    broker.send(publish).await.unwrap();
    let _pod = beside(&broker, ByHttp::port(80).path("/resize?to=small"), Volume::memory(), worker);
    time::sleep(SECOND).await;
    assert_eq!(stored(&broker).await, 0);
    let (method, uri, headers) = seen.lock().remove(0);
    assert_eq!((method.as_str(), uri.to_string().as_str()), ("POST", "/resize?to=small"));
    let headers: BTreeMap<_, _> =
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_string())).collect();
    let expected = [
        ("content-length", "3"),
        ("content-type", "image/png"),
        ("host", "localhost:80"),
        ("idempotency-key", &Id::of("cat.png").to_string()),
        ("message-attempt", "0"),
        ("message-header-content-length", "7"),
        ("message-header-host", "elsewhere"),
        ("message-header-idempotency-key", "mine"),
        ("message-subscription", "resize"),
        ("message-topic", "pictures"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    let expected: BTreeMap<_, _> = expected.map(|(name, value)| (name.to_string(), value.to_string())).into();
    assert_eq!(headers, expected);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_comes_late_is_waited_for_and_one_that_never_comes_costs_nothing() {
    let broker = broker().await;
    publish(&broker, "cat.png", "cat").await;
    let late = |context: Context| async move {
        time::sleep(10 * SECOND).await;
        let listener = context.listen(80).await?;
        let service = tower::service_fn(|_: Request| async { Ok::<_, Error>(http::text(200, "")) });
        http::serve(listener, service).until(context.stopped()).await
    };
    let pod = beside(&broker, ByHttp::port(80), Volume::memory(), ContainerSpec::new("worker", late));
    time::sleep(12 * SECOND).await;
    assert_eq!(stored(&broker).await, 0);
    pod.kill();

    publish(&broker, "dog.png", "dog").await;
    let never = ContainerSpec::new("worker", |context: Context| async move {
        context.stopped().await;
        Ok::<_, Error>(())
    });
    let pod = beside(&broker, ByHttp::port(80).patience(5 * SECOND), Volume::memory(), never);
    time::sleep(60 * SECOND).await;
    assert!(pod.logs("ambassador").iter().any(|line| line.text.contains("localhost:80: unavailable: nothing listens")));
    pod.kill();
    assert_eq!(charged(&broker).await.failures, 0);
}

#[tokio::test(start_paused = true)]
async fn what_kills_its_worker_or_hangs_is_charged_until_it_is_given_up() {
    let broker = broker().await;
    publish(&broker, "poison", "x").await;
    let dies = |context: Context| async move {
        let mut listener = context.listen(80).await?;
        drop(listener.accept().await?); // the one that asks whether anybody listens
        let connection = listener.accept().await?;
        drop(connection);
        Err::<(), _>(Error::new(Kind::Failed, "killed by what it was given"))
    };
    let pod = beside(&broker, ByHttp::port(80), Volume::memory(), ContainerSpec::new("worker", dies));
    time::sleep(120 * SECOND).await;
    pod.kill();
    let (reason, attempts) = dead(&broker).await.pop().unwrap();
    assert!(reason.contains("failed: the worker gave no answer"), "{reason}");
    assert_eq!(attempts.failures, 1);

    let broker = self::broker().await;
    publish(&broker, "slow", "x").await;
    let hangs = |context: Context| async move {
        let listener = context.listen(80).await?;
        let service = tower::service_fn(|_: Request| std::future::pending::<Result<Response>>());
        http::serve(listener, service).until(context.stopped()).await
    };
    let pod =
        beside(&broker, ByHttp::port(80).within(5 * SECOND), Volume::memory(), ContainerSpec::new("worker", hangs));
    time::sleep(60 * SECOND).await;
    pod.kill();
    assert_eq!(dead(&broker).await[0].0, "timed out: the worker did not answer within 5s");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_long_fails_the_message() {
    let broker = broker().await;
    publish(&broker, "cat.png", "cat").await;
    let worker = web(|_| http::text(200, "x".repeat(1000)));
    let _pod = beside(&broker, ByHttp::port(80).answer_bytes(999), Volume::memory(), worker);
    time::sleep(10 * SECOND).await;
    assert!(dead(&broker).await[0].0.contains("the body is longer than 999 bytes"));
}

/// A worker that answers each item by a file in the folder that the payload names.
async fn desk(context: Context) -> Result {
    let desk = context.volume("desk")?;
    loop {
        for path in desk.list("in/")? {
            let folder = String::from_utf8_lossy(&desk.read(&path)?).into_owned();
            if let Some((folder, content)) = folder.split_once(' ') {
                desk.write(&path.replacen("in/", &format!("{folder}/"), 1), content.to_string())?;
            }
        }
        time::sleep(SECOND / 10).await;
    }
}

async fn file_answers(volume: Volume) {
    let broker = broker().await;
    for item in ["done small", "later 45", "rejected no picture", "failed disk full"] {
        publish(&broker, item, item).await;
    }
    let _pod = beside(&broker, ByFile::volume("desk"), volume.clone(), ContainerSpec::new("worker", desk));
    time::sleep(20 * SECOND).await;
    assert_eq!(results(&broker).await[0].1, "small");
    let dead = dead(&broker).await;
    assert_eq!(dead[0], ("invalid: no picture".to_string(), Attempts::default()));
    assert_eq!(dead[1], ("failed: disk full".to_string(), Attempts::new(1, 0, 0)));
    let stats = broker.inspect(&Topic::new("pictures")).await.unwrap();
    assert_eq!((stats.delayed, stats.stored), (1, 1), "the one that comes back later");
    assert_eq!(volume.list("").unwrap(), [""; 0], "nothing is left behind");
}

#[tokio::test(start_paused = true)]
async fn a_file_settles_the_message() {
    file_answers(Volume::memory()).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_in_a_real_directory_does_too() {
    let path = std::env::temp_dir().join(format!("seedpod-desk-{}", seedpod::base::Seed::ambient().get()));
    file_answers(Volume::directory(&path)).await;
    std::fs::remove_dir_all(path).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_file_worker_that_hangs_is_charged_and_a_late_answer_is_nobodys() {
    let (broker, volume) = (broker().await, Volume::memory());
    publish(&broker, "hangs", "hangs").await;
    let hand = ByFile::volume("desk").within(5 * SECOND);
    let pod = beside(&broker, hand, volume.clone(), ContainerSpec::new("worker", desk));
    time::sleep(2 * SECOND).await;
    let answer = volume.list("in/").unwrap()[0].replacen("in/", "done/", 1);
    time::sleep(60 * SECOND).await;
    pod.kill();
    assert_eq!(dead(&broker).await[0].0, "timed out: the worker did not answer within 5s");
    assert_eq!(volume.list("in/").unwrap(), [""; 0]);

    volume.write(&answer, "late").unwrap();
    publish(&broker, "hangs", "hangs").await;
    let _pod = beside(&broker, ByFile::volume("desk"), volume.clone(), ContainerSpec::new("worker", desk));
    time::sleep(60 * SECOND).await;
    assert_eq!((results(&broker).await, stored(&broker).await), (vec![], 1), "the old answer is not the new one's");
}

#[tokio::test(start_paused = true)]
async fn an_ambassador_without_its_volume_says_so() {
    let spec = PodSpec::new("resize").restart(RestartPolicy::Never).container(ContainerSpec::new(
        "ambassador",
        queue::ambassador(broker().await, resize(), ByFile::volume("desk")),
    ));
    let pod = Pod::start(spec, &Net::memory().build()).unwrap();
    pod.finished().await;
    let status = pod.status();
    let end = status.containers[0].state.terminated().unwrap();
    assert_eq!(&*end.message, "volume desk: not found: container ambassador mounts no volume");
}
