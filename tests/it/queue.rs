//! Queues: the broker in memory keeps every promise, and the pump settles as it says.

use bytes::Bytes;
use seedpod::{
    Error, Kind, Result,
    base::{Answer, Backoff, Few, Name, Rng, Seed, sync::Lock, time},
    net::Net,
    pod::{Container, ContainerSpec, Context, Phase, Pod, PodSpec, RestartPolicy},
    queue::{
        self, Attempts, Broker, BrokerExt, Brokers, Consume, DEAD_LETTERS, DeadLetter, Delivery, Guarantees, Id, Lease,
        Memory, Message, Publish, Receipt, Step, Subscription, Topic, TopicOptions, TopicStats, Want,
    },
    testing,
};
use std::{future::Future, sync::Arc, time::Duration};
use tower::Service;

#[tokio::test(start_paused = true)]
async fn memory_keeps_every_promise() {
    testing::broker::all(&Memory::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn memory_keeps_every_promise_in_a_simulation_too() {
    let _simulation = Seed::new(1).simulate();
    testing::broker::all(&Memory::new()).await.unwrap();
}

const SECOND: Duration = Duration::from_secs(1);

/// Knows the last lease that it gave.
struct Spy {
    inner: Arc<dyn Broker>,
    last: Lock<Option<Lease>>,
}

/// Fails every third call or so, half of those after it took effect.
struct Flaky {
    inner: Arc<dyn Broker>,
    rng: Lock<Rng>,
}

impl Flaky {
    async fn perhaps<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let dice = self.rng.lock().below(6);
        let out_of_reach = || Err(Error::new(Kind::Unavailable, "out of reach"));
        match dice {
            0 => out_of_reach(),
            1 => call.await.and_then(|_| out_of_reach()),
            _ => call.await,
        }
    }
}

macro_rules! delegate {
    ($broker:ty, |$own:ident, $lease:ident| $leased:expr, |$me:ident, $call:ident| $other:expr) => {
        impl Broker for $broker {
            fn guarantees(&self) -> Guarantees {
                self.inner.guarantees()
            }
            fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
                self.inner.declare(topic, options)
            }
            fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt> {
                self.inner.publish(batches)
            }
            fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<Delivery>> {
                let ($own, $lease) = (self, self.inner.lease(subscription, want));
                Answer::later($leased)
            }
            fn settle(&self, step: Step) -> Answer<'_, ()> {
                let ($me, $call) = (self, async move { self.inner.settle(step).await });
                Answer::later($other)
            }
            fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)> {
                self.inner.load(key)
            }
            fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
                self.inner.inspect(topic)
            }
        }
    };
}

delegate!(
    Spy,
    |own, lease| async move {
        let leased = lease.await?;
        *own.last.lock() = leased.first().map(|delivery| delivery.lease);
        Ok(leased)
    },
    |_own, settled| settled
);
delegate!(Mute, |_own, leased| leased, |_own, settled| async move {
    drop(settled);
    std::future::pending().await
});
delegate!(Flaky, |own, lease| own.perhaps(lease), |own, settled| own.perhaps(settled));

/// Never answers who settles, nor who asks it to extend a lease.
struct Mute {
    inner: Arc<dyn Broker>,
}

struct Shop {
    broker: Arc<dyn Broker>,
    brokers: Brokers,
    orders: Topic,
    dead: Topic,
    start: time::Instant,
    /// What the handlers saw: the second, the number, and the attempts before.
    seen: Arc<Lock<Vec<(u64, u32, Attempts)>>>,
}

impl Shop {
    async fn new() -> Shop {
        let brokers = Brokers::default();
        let broker = brokers.get("memory:").unwrap();
        let (orders, dead) = (Topic::new("orders"), Topic::new("orders.dead"));
        broker.declare(&orders, TopicOptions::new().subscription("mailer").dead_letters(&dead)).await.unwrap();
        Shop { broker, brokers, orders, dead, start: time::now(), seen: Arc::default() }
    }

    async fn order(&self, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            self.broker.send(Publish::json(&self.orders, Id::of(number.to_string()), number)).await.unwrap();
        }
    }

    fn pump<Fut>(
        &self,
        handler: impl Fn(Message) -> Fut + Clone + Send + Sync + 'static,
    ) -> Consume<impl Service<Message, Response = (), Error = Error, Future: Send> + Clone + Send + Sync + 'static>
    where
        Fut: Future<Output = Result> + Send + 'static,
    {
        self.pump_on(self.broker.clone(), handler)
    }

    /// A pump whose handler notes what it sees, then does this.
    fn pump_on<Fut>(
        &self,
        broker: Arc<dyn Broker>,
        handler: impl Fn(Message) -> Fut + Clone + Send + Sync + 'static,
    ) -> Consume<impl Service<Message, Response = (), Error = Error, Future: Send> + Clone + Send + Sync + 'static>
    where
        Fut: Future<Output = Result> + Send + 'static,
    {
        let (seen, start) = (self.seen.clone(), self.start);
        let service = tower::service_fn(move |message: Message| {
            seen.lock().push(((time::now() - start).as_secs(), message.json().unwrap(), message.attempts()));
            handler(message)
        });
        queue::consume(broker, self.orders.subscription("mailer"), service)
    }

    fn seen(&self) -> Vec<(u64, u32, Attempts)> {
        std::mem::take(&mut self.seen.lock())
    }

    async fn stats(&self) -> TopicStats {
        self.broker.inspect(&self.orders).await.unwrap()
    }

    async fn dead_letters(&self) -> Vec<DeadLetter> {
        let want = Want::items(100).chunk(1).wait(Duration::ZERO);
        let letters = self.broker.lease(&self.dead.subscription(DEAD_LETTERS), want).await.unwrap();
        letters.iter().map(|letter| DeadLetter::read(&letter.batch.headers).unwrap()).collect()
    }

    /// Runs it as the only container of a pod.
    fn pod(&self, pump: impl Container) -> Pod {
        let spec = PodSpec::new("mailer")
            .restart(RestartPolicy::Never)
            .resource(Brokers::RESOURCE, self.brokers.clone())
            .container(ContainerSpec::new("mailer", pump));
        Pod::start(spec, &Net::memory().seed(Seed::new(1)).build()).unwrap()
    }
}

fn attempts(failures: u16, crashes: u16, lapses: u16) -> Attempts {
    Attempts::new(failures, crashes, lapses)
}

#[tokio::test(start_paused = true)]
async fn failures_come_back_after_the_back_off_and_die_at_the_budget() {
    let shop = Shop::new().await;
    shop.order([7]).await;
    let pump = shop.pump(|_| async { Err(Error::new(Kind::Unavailable, "no mail server")) });
    let backoff = Backoff::new(SECOND, 60 * SECOND).exact();
    pump.attempts(4).backoff(backoff).run_until(time::sleep(100 * SECOND)).await.unwrap();
    let expected = [(0, 0), (1, 1), (3, 2), (7, 3)].map(|(second, failures)| (second, 7, attempts(failures, 0, 0)));
    assert_eq!(shop.seen(), expected);
    let letter = DeadLetter::new(
        "unavailable: no mail server",
        shop.orders.subscription("mailer"),
        Id::of("7"),
        attempts(3, 0, 0),
    );
    assert_eq!(shop.dead_letters().await, [letter]);
    assert_eq!(shop.stats().await.stored, 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_dies_at_once_and_what_is_told_to_wait_is_not_charged() {
    let shop = Shop::new().await;
    shop.order([1, 2]).await;
    let pump = shop.pump(|message| async move {
        match message.json::<u32>()? {
            1 => message.json::<Vec<String>>().map(drop),
            _ => Err(Error::new(Kind::Overloaded, "").after(10 * SECOND)),
        }
    });
    pump.attempts(2).run_until(time::sleep(35 * SECOND)).await.unwrap();
    let expected =
        [(0, 1), (0, 2), (10, 2), (20, 2), (30, 2)].map(|(second, number)| (second, number, attempts(0, 0, 0)));
    assert_eq!(shop.seen(), expected);
    let letters = shop.dead_letters().await;
    assert_eq!(letters.len(), 1);
    let named = format!("message {}: invalid: this is not the JSON expected", Id::of("1"));
    assert!(letters[0].reason.starts_with(&named), "{}", letters[0].reason);
    assert_eq!(shop.stats().await.delayed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_the_message_a_crash_and_the_worker_nothing() {
    let shop = Shop::new().await;
    shop.order([1, 2]).await;
    let pump = shop.pump(|message| async move {
        assert!(message.json::<u32>()? != 1, "poison");
        Ok(())
    });
    let backoff = Backoff::new(SECOND, SECOND).exact();
    pump.crashes(2).backoff(backoff).run_until(time::sleep(10 * SECOND)).await.unwrap();
    let expected = [(0, 1, attempts(0, 0, 0)), (0, 2, attempts(0, 0, 0)), (1, 1, attempts(0, 1, 0))];
    assert_eq!(shop.seen(), expected);
    assert_eq!(shop.dead_letters().await[0].reason, "its handler panicked: poison");
}

#[tokio::test(start_paused = true)]
async fn a_long_handler_keeps_its_lease() {
    let shop = Shop::new().await;
    shop.order([1]).await;
    let pump = shop.pump(|_| async {
        time::sleep(600 * SECOND).await;
        Ok(())
    });
    let watch = async {
        time::sleep(500 * SECOND).await;
        let want = Want::one().wait(50 * SECOND);
        assert!(shop.broker.lease(&shop.orders.subscription("mailer"), want).await.unwrap().is_empty());
    };
    let (ended, ()) = tokio::join!(pump.concurrency(2).hold(10 * SECOND).run_until(time::sleep(550 * SECOND)), watch);
    ended.unwrap();
    assert_eq!(shop.seen().len(), 1, "told to stop, it waited for the handler");
    assert_eq!(shop.stats().await.stored, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_cancels_the_handler() {
    let shop = Shop::new().await;
    shop.order([1]).await;
    let held = Arc::new(Lock::new(None));
    let thief = held.clone();
    // the only ones who can end a lease are the broker and whoever knows it
    let broker = Arc::new(Spy { inner: shop.broker.clone(), last: Lock::default() });
    let pump = shop.pump_on(broker.clone(), move |message| {
        let thief = thief.clone();
        async move {
            let ended = Arc::new(());
            *thief.lock() = Some((message.attempts(), Arc::downgrade(&ended)));
            time::sleep(1000 * SECOND).await;
            drop(ended);
            panic!("nobody may get here");
        }
    });
    let steal = async {
        time::sleep(SECOND).await;
        let lease = broker.last.lock().expect("a lease was given");
        shop.broker.ack(lease).await.unwrap();
        time::sleep(5 * SECOND).await;
        let (_, ended) = held.lock().take().unwrap();
        assert_eq!(ended.strong_count(), 0, "the handler goes on without its lease");
    };
    let (ended, ()) = tokio::join!(pump.hold(10 * SECOND).run_until(time::sleep(10 * SECOND)), steal);
    ended.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_gone_before_another_gets_its_message_though_the_broker_says_nothing() {
    let shop = Shop::new().await;
    shop.order([1]).await;
    let held = Arc::new(());
    let own = Arc::downgrade(&held);
    let pump = shop.pump_on(Arc::new(Mute { inner: shop.broker.clone() }), move |_| {
        let held = own.upgrade();
        async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok(())
        }
    });
    let other = async {
        time::sleep(SECOND).await;
        assert_eq!(Arc::strong_count(&held), 2);
        assert_eq!(shop.broker.lease(&shop.orders.subscription("mailer"), Want::one()).await.unwrap().len(), 1);
        assert_eq!(Arc::strong_count(&held), 1, "two have it in hand");
    };
    let (ended, ()) = tokio::join!(pump.hold(10 * SECOND).run_until(time::sleep(9 * SECOND)), other);
    ended.unwrap();
}

#[tokio::test(start_paused = true)]
async fn killed_with_a_message_in_hand_it_comes_back_when_the_lease_has_run_out() {
    let shop = Shop::new().await;
    shop.order(0..3).await;
    let slow = || {
        shop.pump(|_| async {
            time::sleep(5 * SECOND).await;
            Ok(())
        })
    };
    let pod = shop.pod(slow().hold(20 * SECOND).concurrency(2));
    time::sleep(2 * SECOND).await;
    assert_eq!(shop.stats().await.leased, 2);
    pod.kill();
    pod.gone().await;
    assert_eq!(shop.seen().iter().map(|seen| seen.1).collect::<Vec<_>>(), [0, 1]);
    let pod = shop.pod(slow().hold(20 * SECOND).concurrency(3));
    time::sleep(40 * SECOND).await;
    let expected = [(2, 2, attempts(0, 0, 0)), (20, 0, attempts(0, 0, 1)), (20, 1, attempts(0, 0, 1))];
    assert_eq!(shop.seen(), expected, "none is lost, and those in hand come back at the end of their leases");
    assert_eq!(shop.stats().await.stored, 0);
    assert_eq!(pod.stop(SECOND).await, Phase::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_kills_its_workers_dies_in_the_end() {
    let shop = Shop::new().await;
    shop.order([1]).await;
    for _ in 0..3 {
        let pod = shop.pod(shop.pump(|_| std::future::pending()).hold(10 * SECOND).lapses(2));
        time::sleep(2 * SECOND).await;
        pod.kill();
        time::sleep(20 * SECOND).await;
    }
    assert_eq!(shop.seen().len(), 2);
    assert_eq!(shop.dead_letters().await[0].attempts, attempts(0, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_leases_no_more_and_lets_what_runs_end() {
    let shop = Shop::new().await;
    shop.order(0..10).await;
    let pump = shop.pump(|_| async {
        time::sleep(5 * SECOND).await;
        Ok(())
    });
    let pod = shop.pod(pump.concurrency(4));
    time::sleep(SECOND).await;
    assert_eq!(pod.stop(30 * SECOND).await, Phase::Succeeded);
    assert_eq!((time::now() - shop.start).as_secs(), 5, "it stopped as soon as it could");
    let stats = shop.stats().await;
    assert_eq!((stats.stored, stats.ready, stats.leased), (6, 6, 0));

    let stuck = shop.pump(|_| std::future::pending());
    let pod = shop.pod(stuck.hold(60 * SECOND));
    time::sleep(SECOND).await;
    let before = time::now();
    assert_eq!(pod.stop(7 * SECOND).await, Phase::Failed);
    assert_eq!((time::now() - before).as_secs(), 7, "the grace ends it");
    assert_eq!(shop.stats().await.leased, 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_gives_no_sign_of_life_loses_its_lease_and_one_that_does_keeps_it() {
    let shop = Shop::new().await;
    shop.order([1, 2, 3]).await;
    let pump = shop.pump(|message| async move {
        match message.json::<u32>()? {
            1 => std::future::pending().await,
            2 => {
                for _ in 0..10 {
                    time::sleep(20 * SECOND).await; // moves by itself
                }
            }
            _ => {
                let alive = async {
                    loop {
                        message.alive();
                        time::sleep(25 * SECOND).await;
                    }
                };
                let long = time::sleep(200 * SECOND);
                tokio::select! { () = alive => {}, () = long => {} }
            }
        }
        Ok(())
    });
    let pump = pump.hold(10 * SECOND).silence(30 * SECOND).concurrency(3);
    let control = pump.control();
    let stop = async {
        time::sleep(45 * SECOND).await;
        assert_eq!(control.tally().lost, 1, "the hung one");
        time::sleep(160 * SECOND).await;
    };
    pump.drain(SECOND).run_until(stop).await.unwrap();
    assert_eq!(control.tally().done, 2);
    let hung: Vec<_> = shop.seen().into_iter().filter(|(_, number, _)| *number == 1).collect();
    assert_eq!(hung[1], (35, 1, attempts(0, 0, 1)), "silent for 30 s, renewed at 25 s for the last time");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_within_the_drain_is_handed_back_uncharged() {
    let shop = Shop::new().await;
    shop.order(0..4).await;
    let pump = shop.pump(|message| async move {
        time::sleep(SECOND * if message.json::<u32>()? == 0 { 3 } else { 600 }).await;
        Ok(())
    });
    let pump = pump.concurrency(3).drain(5 * SECOND);
    let control = pump.control();
    pump.run_until(time::sleep(SECOND)).await.unwrap();
    assert_eq!((time::now() - shop.start).as_secs(), 6);
    let tally = control.tally();
    assert_eq!((tally.done, tally.handed_back, tally.lost), (1, 2, 0));
    let stats = shop.stats().await;
    assert_eq!((stats.ready, stats.leased), (3, 0), "nothing is left in hand");
    let again = shop.broker.lease(&shop.orders.subscription("mailer"), Want::items(3).chunk(1)).await.unwrap();
    assert!(again.iter().all(|delivery| delivery.attempts == Attempts::default()));
}

#[tokio::test(start_paused = true)]
async fn paused_it_leases_nothing_and_resumed_it_goes_on_with_as_many_as_it_is_told() {
    let shop = Shop::new().await;
    shop.order(0..20).await;
    let pump = shop.pump(|_| async {
        time::sleep(10 * SECOND).await;
        Ok(())
    });
    let pump = pump.concurrency(4);
    let control = pump.control();
    let leased = async || shop.stats().await.leased;
    let steer = async {
        time::sleep(SECOND).await;
        assert_eq!(leased().await, 4);
        control.pause();
        assert!(control.is_paused());
        time::sleep(30 * SECOND).await;
        assert_eq!((leased().await, control.tally().done), (0, 4), "what ran has ended, and no more was leased");
        control.set_concurrency(2);
        assert!(control.is_paused(), "it does not resume it");
        control.resume();
        time::sleep(SECOND).await;
        assert_eq!((leased().await, control.concurrency()), (2, 2));
        control.set_concurrency(9);
        time::sleep(20 * SECOND).await;
        assert_eq!(leased().await, 4, "no more than it was made for");
        control.set_concurrency(0);
        time::sleep(20 * SECOND).await;
        assert_eq!(leased().await, 1, "one is the least");
    };
    pump.run_until(steer).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_messages_is_paused_too() {
    let shop = Shop::new().await;
    let pump = shop.pump(|_| async { Ok(()) });
    let control = pump.control();
    let steer = async {
        time::sleep(SECOND).await; // it waits by now
        control.pause();
        time::sleep(SECOND).await;
        shop.order([1]).await;
        time::sleep(60 * SECOND).await;
        assert_eq!(shop.stats().await.ready, 1);
        control.resume();
        time::sleep(SECOND).await;
    };
    pump.run_until(steer).await.unwrap();
    assert_eq!(control.tally().done, 1);
}

#[tokio::test(start_paused = true)]
async fn what_crashes_twice_is_tried_alone_and_then_dies_with_its_history() {
    let shop = Shop::new().await;
    shop.order(0..6).await;
    let together = Arc::new(Lock::new((0_u32, 0_u32)));
    let pump = {
        let together = together.clone();
        shop.pump(move |message| {
            let together = together.clone();
            async move {
                if message.topic().as_str() == "orders.quarantine" {
                    {
                        let mut together = together.lock();
                        together.0 += 1;
                        together.1 = together.1.max(together.0);
                    }
                    time::sleep(SECOND).await;
                    together.lock().0 -= 1;
                }
                let number = message.json::<u32>()?;
                assert!(number >= 3, "poison {number}");
                Ok(())
            }
        })
    };
    let pump = pump
        .concurrency(4)
        .crashes(5)
        .backoff(Backoff::new(SECOND, SECOND).exact())
        .quarantine(queue::Quarantine::new("orders.quarantine").dead_letters("orders.dead"));
    let control = pump.control();
    let other = pump.clone();
    tokio::try_join!(pump.run_until(time::sleep(60 * SECOND)), other.run_until(time::sleep(60 * SECOND))).unwrap();
    let tally = control.tally();
    assert_eq!((tally.done, tally.quarantined, tally.rejected), (3, 3, 3));
    assert_eq!(together.lock().1, 1, "one at a time, though two pumps run");
    for _ in 0..3 {
        let letters = shop.broker.lease(&shop.dead.subscription(DEAD_LETTERS), Want::one()).await.unwrap();
        let letter = &letters[0];
        let dead = DeadLetter::read(&letter.batch.headers).unwrap();
        assert_eq!((dead.attempts, dead.subscription.topic.as_str()), (attempts(0, 1, 0), "orders.quarantine"));
        let note = queue::QuarantineNote::read(&letter.batch.headers).unwrap();
        assert_eq!(note.attempts, attempts(0, 1, 0));
        assert!(note.reason.starts_with("its handler panicked: poison"), "{}", note.reason);
        let number: u32 = letter.json(0).unwrap();
        assert_eq!(dead.id, Id::of(number.to_string()), "it keeps its id");
        shop.broker.ack(letter.lease).await.unwrap();
    }
    assert_eq!(shop.stats().await.stored, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_makes_is_committed_with_the_acknowledgement_or_fails_it() {
    let shop = Shop::new().await;
    let mails = Topic::new("mails");
    shop.broker.declare(&mails, TopicOptions::new().subscription("outbox")).await.unwrap();
    shop.order(0..3).await;
    let service = {
        let mails = mails.clone();
        tower::service_fn(move |message: Message| {
            let mails = mails.clone();
            async move {
                let number: u32 = message.json()?;
                let mail = Publish::json(&mails, message.derive(0, 0), number);
                Ok::<_, Error>(match number {
                    0 => queue::Done::new().publish(mail).write("count", 0, "1"),
                    1 => queue::Done::new().publish(mail).write("count", 7, "2"), // of a version that never was
                    _ => queue::Done::new().publish(Publish::new("nowhere", message.derive(0, 0), "x")),
                })
            }
        })
    };
    let pump = queue::consume(shop.broker.clone(), shop.orders.subscription("mailer"), service)
        .attempts(2)
        .backoff(Backoff::new(SECOND, SECOND).exact());
    let control = pump.control();
    pump.run_until(time::sleep(10 * SECOND)).await.unwrap();
    let tally = control.tally();
    assert_eq!((tally.done, tally.retried, tally.rejected), (1, 2, 2));
    assert_eq!(shop.broker.inspect(&mails).await.unwrap().ready, 1, "all or nothing");
    assert_eq!(shop.broker.load(&"count".into()).await.unwrap(), (1, Bytes::from_static(b"1")));
    let reasons: Vec<_> = shop.dead_letters().await.into_iter().map(|letter| letter.reason).collect();
    assert_eq!(
        reasons,
        ["state count: conflict: version 1 is there, not 7", "topic nowhere: not found: it is not declared"]
    );
}

#[tokio::test(start_paused = true)]
async fn progress_is_fenced_and_gone_with_the_message() {
    let shop = Shop::new().await;
    shop.order([1]).await;
    let (mailer, id) = (shop.orders.subscription("mailer"), Id::of("1"));
    let late = Arc::new(Lock::new(None));
    let pump = {
        let late = late.clone();
        shop.pump(move |message| {
            let late = late.clone();
            async move {
                for step in 0..40 {
                    message.progress(f64::from(step) / 40.0, format!("step {step}")).await?;
                    time::sleep(SECOND / 4).await;
                }
                *late.lock() = Some(message);
                Ok(())
            }
        })
    };
    let watch = async {
        let mut notes = Vec::new();
        for _ in 0..4 {
            time::sleep(SECOND * 2 + SECOND / 8).await;
            notes.push(queue::Progress::of(&*shop.broker, &mailer, id).await.unwrap().unwrap().note);
        }
        assert_eq!(notes, ["step 8", "step 16", "step 24", "step 32"]);
    };
    let (ended, ()) = tokio::join!(pump.run_until(time::sleep(11 * SECOND)), watch);
    ended.unwrap();
    assert_eq!(queue::Progress::of(&*shop.broker, &mailer, id).await.unwrap(), None);
    let message = late.lock().take().unwrap();
    let error = message.progress(1.0, "too late").await.unwrap_err();
    assert_eq!(error.kind(), Kind::LeaseLost, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_service_was_never_ready_goes_back_uncharged() {
    #[derive(Clone)]
    struct NeverReady;
    impl Service<Message> for NeverReady {
        type Response = ();
        type Error = Error;
        type Future = std::future::Ready<Result>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result> {
            std::task::Poll::Pending
        }
        fn call(&mut self, _: Message) -> Self::Future {
            panic!("it is not ready")
        }
    }
    let shop = Shop::new().await;
    shop.order([1]).await;
    let pump = queue::consume(shop.broker.clone(), shop.orders.subscription("mailer"), NeverReady);
    pump.run_until(time::sleep(SECOND)).await.unwrap();
    let stats = shop.stats().await;
    assert_eq!((stats.ready, stats.leased), (1, 0));
    let again = shop.broker.lease(&shop.orders.subscription("mailer"), Want::one()).await.unwrap();
    assert_eq!(again[0].attempts, Attempts::default());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_declared_ends_it_unless_it_declares_it() {
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let done = |_: Message| async { Ok::<_, Error>(()) };
    let subscription = Subscription::new("new", "worker");
    let pump = queue::consume(broker.clone(), subscription.clone(), tower::service_fn(done)).concurrency(3);
    let error = pump.clone().run_until(std::future::pending()).await.unwrap_err();
    assert_eq!(error.to_string(), "subscription new/worker: not found: it is not declared");
    pump.declare(TopicOptions::new().capacity(5)).run_until(time::sleep(SECOND)).await.unwrap();
    broker.send(Publish::new("new", Id::of("x"), "y")).await.unwrap();
    assert_eq!(broker.lease(&subscription, Want::one()).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_out_of_reach_is_tried_again() {
    let shop = Shop::new().await;
    shop.order(0..5).await;
    let flaky = Arc::new(Flaky { inner: shop.broker.clone(), rng: Lock::new(Seed::new(3).rng()) });
    let pump = shop.pump_on(flaky, |_| async { Ok(()) });
    pump.run_until(time::sleep(300 * SECOND)).await.unwrap();
    assert_eq!(shop.stats().await.stored, 0);
    assert!(shop.dead_letters().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn pods_of_one_map_share_their_brokers_and_configuration_chooses() {
    let shop = Shop::new().await;
    let lines = Arc::new(Lock::new(Vec::new()));
    let container = {
        let lines = lines.clone();
        move |context: Context| {
            let lines = lines.clone();
            async move {
                let shared = context.broker("orders")?;
                shared.send(Publish::json("orders", Id::of(context.pod()), 1_u32)).await?;
                let errors =
                    ["audit-log", "broken"].map(|name| context.broker(name).err().map(|error| error.to_string()));
                lines.lock().push(errors);
                Ok::<_, Error>(())
            }
        }
    };
    let net = Net::memory().build();
    for name in ["a", "b"] {
        let spec = PodSpec::new(name)
            .restart(RestartPolicy::Never)
            .env("SEEDPOD_BROKER", "kafka://127.0.0.1:4222")
            .env("SEEDPOD_BROKER_ORDERS", "memory:")
            .env("SEEDPOD_BROKER_BROKEN", "here")
            .resource(Brokers::RESOURCE, shop.brokers.clone())
            .container(ContainerSpec::new("app", container.clone()));
        assert_eq!(Pod::start(spec, &net).unwrap().finished().await, Phase::Succeeded);
    }
    assert_eq!(shop.stats().await.ready, 2, "the broker outlives the pods");
    let expected = [
        "broker \"audit-log\" (SEEDPOD_BROKER: kafka://127.0.0.1:4222): unsupported: no broker of scheme kafka; there are: memory, file, nats, amqp",
        "broker \"broken\" (SEEDPOD_BROKER_BROKEN: here): invalid: it has no scheme, such as memory:",
    ];
    assert_eq!(lines.lock()[0], expected.map(|text| Some(text.to_string())));
    let bare = PodSpec::new("c").restart(RestartPolicy::Never).container(ContainerSpec::new("app", container));
    let pod = Pod::start(bare, &net).unwrap();
    assert_eq!(pod.finished().await, Phase::Failed);
}

/// Lost wake-ups show only between threads: publishers that wait for room, workers that wait for messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn between_threads_nobody_waits_in_vain() {
    const EACH: u32 = 3000;
    let (broker, jobs): (Arc<dyn Broker>, _) = (Arc::new(Memory::new()), Topic::new("jobs"));
    broker.declare(&jobs, TopicOptions::new().subscription("workers").capacity(16)).await.unwrap();
    let done = Arc::new(Lock::new(Vec::new()));
    let producers: Vec<_> = (0..4)
        .map(|producer| {
            let (broker, jobs) = (broker.clone(), jobs.clone());
            tokio::spawn(async move {
                for number in producer * EACH..(producer + 1) * EACH {
                    broker.send(Publish::json(&jobs, Id::of(number.to_string()), number)).await.unwrap();
                }
            })
        })
        .collect();
    let finished = Arc::new(tokio::sync::Notify::new());
    let handler = {
        let (done, finished) = (done.clone(), finished.clone());
        tower::service_fn(move |message: Message| {
            let (done, finished) = (done.clone(), finished.clone());
            async move {
                tokio::task::yield_now().await;
                let mut done = done.lock();
                done.push(message.json::<u32>()?);
                if done.len() == 4 * EACH as usize {
                    finished.notify_one();
                }
                Ok::<_, Error>(())
            }
        })
    };
    let net = Net::memory().build();
    let pods: Vec<_> = (0..3)
        .map(|number| {
            let pump = queue::consume(broker.clone(), jobs.subscription("workers"), handler.clone()).concurrency(4);
            let spec = PodSpec::new(format!("worker-{number}")).container(ContainerSpec::new("worker", pump));
            Pod::start(spec, &net).unwrap()
        })
        .collect();
    let all = async {
        for producer in producers {
            producer.await.unwrap();
        }
        finished.notified().await;
        for pod in pods {
            pod.stop(10 * SECOND).await;
        }
    };
    tokio::time::timeout(120 * SECOND, all).await.expect("somebody waits in vain");
    let mut done = std::mem::take(&mut *done.lock());
    done.sort_unstable();
    assert_eq!(done, (0..4 * EACH).collect::<Vec<_>>(), "each exactly once: no lease ran out");
    assert_eq!(broker.inspect(&jobs).await.unwrap().stored, 0);
}
