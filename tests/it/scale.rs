//! Workers that scale themselves: the pool, the loop, and what they do when things go wrong.

use seedpod::{
    Error, Kind, Result,
    base::{Seed, sync::Lock, time},
    net::Net,
    pod::{ContainerSpec, Pod, PodSpec},
    queue::{
        self, Broker, BrokerExt, Done, Id, Memory, Message, Publish, Queue, Subscription, Task, Topic, TopicOptions,
        scale::{Autoscaler, Count, Meter, Policy, Reason, Scale, Workers},
    },
};
use std::{sync::Arc, time::Duration};
use tower::Service;

const SECOND: Duration = Duration::from_secs(1);

fn jobs() -> Subscription {
    Subscription::new("jobs", "workers")
}

async fn broker(jobs: u32) -> Arc<Memory> {
    let broker = Arc::new(Memory::new());
    broker.declare(&Topic::new("jobs"), TopicOptions::new().subscription("workers")).await.unwrap();
    publish(&broker, 0, jobs).await;
    broker
}

async fn publish(broker: &Memory, first: u32, jobs: u32) {
    for job in first..first + jobs {
        broker.send(Publish::json("jobs", Id::of(format!("job {job}")), job)).await.unwrap();
    }
}

async fn stored(broker: &Memory) -> usize {
    broker.inspect(&Topic::new("jobs")).await.unwrap().stored
}

/// Takes this long, and notes how each message that it begins ends.
#[derive(Clone, Default)]
struct Seen(Arc<Lock<(u32, u32)>>);

impl Seen {
    fn taking(
        &self,
        time: Duration,
    ) -> impl Service<Message, Response = (), Error = Error, Future: Send> + Clone + Send + Sync + 'static {
        let seen = self.clone();
        tower::service_fn(move |_: Message| {
            let seen = seen.clone();
            async move {
                seen.0.lock().0 += 1;
                time::sleep(time).await;
                seen.0.lock().1 += 1;
                Ok(())
            }
        })
    }

    fn begun_and_ended(&self) -> (u32, u32) {
        *self.0.lock()
    }
}

#[tokio::test(start_paused = true)]
async fn fewer_workers_means_that_idle_ones_go_and_busy_ones_end_what_they_do() {
    let (broker, seen) = (broker(6).await, Seen::default());
    let workers = Workers::new(queue::consume(broker.clone(), jobs(), seen.taking(100 * SECOND)));
    workers.set(8).await.unwrap();
    assert_eq!(workers.count(), Count { starting: 8, ..Count::default() }, "nobody runs it yet");
    let script = async {
        time::sleep(SECOND).await;
        assert_eq!(workers.count(), Count { running: 8, busy: 6, ..Count::default() });
        workers.set(6).await.unwrap();
        time::sleep(SECOND).await;
        assert_eq!(workers.count(), Count { running: 6, busy: 6, ..Count::default() }, "the idle ones");
        publish(&broker, 6, 6).await;
        workers.set(2).await.unwrap();
        time::sleep(50 * SECOND).await;
        assert_eq!(workers.count(), Count { running: 2, busy: 2, leaving: 4, ..Count::default() });
        time::sleep(60 * SECOND).await;
        assert_eq!(workers.count(), Count { running: 2, busy: 2, ..Count::default() });
        assert_eq!(seen.begun_and_ended(), (8, 6), "those that went have ended their message, and taken no other");
        assert_eq!(workers.meter().read().workers, 2);
    };
    workers.run_until(script).await.unwrap();
    assert_eq!(seen.begun_and_ended(), (8, 8), "told to stop, what runs ends");
    assert_eq!(stored(&broker).await, 4);
    let attempts = broker.lease(&jobs(), seedpod::queue::Want::items(4)).await.unwrap()[0].attempts;
    assert_eq!(attempts.total(), 0, "and nothing is charged to what was not begun");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_dropped_gives_back_what_it_held_and_can_be_run_again() {
    let (broker, seen) = (broker(3).await, Seen::default());
    let workers = Workers::new(queue::consume(broker.clone(), jobs(), seen.taking(20 * SECOND)).seed(Seed::new(1)));
    workers.set(3).await.unwrap();
    tokio::select! {
        _ = workers.run_until(std::future::pending()) => unreachable!(),
        () = time::sleep(10 * SECOND) => {}
    }
    assert_eq!((workers.count().running, workers.count().starting), (0, 3));
    assert_eq!((workers.meter().read().lost, workers.meter().read().busy), (3, 0));
    workers.run_until(time::sleep(50 * SECOND)).await.unwrap();
    assert_eq!(seen.begun_and_ended(), (6, 3), "their leases ran out, and they came again");
    assert_eq!(stored(&broker).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_not_run_twice_at_once() {
    let workers = Workers::new(queue::consume(broker(0).await, jobs(), Seen::default().taking(SECOND)));
    let second = async {
        time::sleep(SECOND).await;
        workers.run_until(std::future::pending()).await
    };
    let (first, second) = tokio::join!(workers.run_until(time::sleep(10 * SECOND)), second);
    first.unwrap();
    let error = second.unwrap_err();
    assert_eq!(error.to_string(), "workers of jobs/workers: conflict: they are run already");
    workers.run_until(time::sleep(SECOND)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_refuses_for_good_ends_pool_and_autoscaler() {
    let broker = Arc::new(Memory::new());
    let workers = Workers::new(queue::consume(broker.clone(), jobs(), Seen::default().taking(SECOND)));
    assert!(workers.run_until(std::future::pending()).await.unwrap_err().is_not_found());
    let scaler = Autoscaler::new(broker, jobs(), workers, Policy::between(1..=2));
    let error = scaler.run_until(std::future::pending()).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("jobs"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_worker_is_the_messages_and_a_wrong_setting_is_not_obeyed() {
    let broker = broker(1).await;
    let service = tower::service_fn(|message: Message| async move {
        assert!(message.attempts().crashes > 0, "the first time");
        Ok::<_, Error>(())
    });
    let workers = Workers::new(queue::consume(broker.clone(), jobs(), service).concurrency(50).crashes(3));
    let script = async {
        time::sleep(30 * SECOND).await;
        assert_eq!(workers.count(), Count { running: 1, ..Count::default() });
    };
    workers.run_until(script).await.unwrap();
    assert_eq!(stored(&broker).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_worked_off_in_time_and_the_workers_go_again() {
    let (broker, seen) = (broker(1000).await, Seen::default());
    let workers = Workers::new(queue::consume(broker.clone(), jobs(), seen.taking(2 * SECOND)));
    let scaler = Autoscaler::new(broker.clone(), jobs(), workers.clone(), Policy::between(1..=64));
    let all = Arc::new(Lock::new(Vec::new()));
    let told = all.clone();
    let scaler = scaler.on_decision(move |decision| told.lock().push(*decision));
    let last = scaler.decisions();
    assert!(last.borrow().is_none());
    let (end, start) = (3600 * SECOND, time::now());
    let worked_off = async {
        while stored(&broker).await > 0 {
            time::sleep(SECOND).await;
        }
        time::now() - start
    };
    let (pool, scaled, took) =
        tokio::join!(workers.run_until(time::sleep(end)), scaler.run_until(time::sleep(end)), worked_off);
    pool.and(scaled).unwrap();
    assert!(took < 150 * SECOND, "{took:?}, where one worker takes 2000 s");
    let all = all.lock();
    assert_eq!(all[0].reason, Reason::Probe);
    let most = all.iter().map(|decision| decision.want).max().unwrap();
    assert!((20..=64).contains(&most), "{most}");
    assert!(all.iter().all(|decision| decision.want >= decision.inputs.workers.busy));
    let last = last.borrow().unwrap();
    assert_eq!((last.want, last.inputs.backlog), (1, 0), "{last}");
    assert_eq!(seen.begun_and_ended(), (1000, 1000));
}

#[tokio::test(start_paused = true)]
async fn arrivals_that_a_publisher_reports_are_believed() {
    let (broker, meter) = (broker(0).await, Meter::default());
    let workers = Workers::new(queue::consume(broker.clone(), jobs(), Seen::default().taking(SECOND)));
    let scaler = Autoscaler::new(broker.clone(), jobs(), workers.clone(), Policy::between(0..=64));
    let scaler = scaler.meter(meter.clone()).every(SECOND);
    let publisher = async {
        for job in 0..120 {
            publish(&broker, job, 1).await;
            meter.arrived(1);
            time::sleep(SECOND / 2).await;
        }
    };
    let end = || time::sleep(60 * SECOND);
    let _ = tokio::join!(workers.run_until(end()), scaler.run_until(end()), publisher);
    assert!((meter.read().arrival_rate - 2.0).abs() < 0.1, "{:?}", meter.read());
    assert_eq!(meter.read().service_time, None, "the workers report elsewhere");
}

/// A platform that takes its time, does not know who is busy, and is out of reach now and then.
#[derive(Default)]
struct Platform {
    replicas: Lock<u32>,
    asked: Lock<Vec<u32>>,
    out_of_reach: Lock<u32>,
}

#[async_trait::async_trait]
impl Scale for Platform {
    async fn current(&self) -> Result<Count> {
        let mut out_of_reach = self.out_of_reach.lock();
        if *out_of_reach > 0 {
            *out_of_reach -= 1;
            return Err(Error::new(Kind::Unavailable, "the API server is away"));
        }
        let (running, wanted) = (*self.replicas.lock(), self.asked.lock().last().copied().unwrap_or(1));
        Ok(Count { running, starting: wanted.saturating_sub(running), ..Count::default() })
    }

    async fn set(&self, workers: u32) -> Result {
        self.asked.lock().push(workers);
        if workers == 13 {
            return Err(Error::new(Kind::Rejected, "over the quota"));
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_platform_is_not_asked_for_the_same_workers_again() {
    let (broker, platform) = (broker(500).await, Arc::new(Platform::default()));
    *platform.replicas.lock() = 1;
    *platform.out_of_reach.lock() = 3;
    let scaler = Autoscaler::new(broker, jobs(), platform.clone(), Policy::between(1..=10));
    let meter = Meter::default();
    meter.begin().done();
    let work = meter.begin();
    let scaler = scaler.meter(meter.clone());
    scaler.run_until(time::sleep(300 * SECOND)).await.unwrap();
    assert_eq!(*platform.asked.lock(), [5, 10], "out of reach at first, then step by step, each step once");
    let last = scaler.decisions().borrow().unwrap();
    assert_eq!(last.inputs.workers.busy, 1, "the meter knows who is busy");
    drop(work);
}

#[tokio::test(start_paused = true)]
async fn a_platform_that_refuses_for_good_ends_the_autoscaler() {
    let (broker, platform) = (broker(0).await, Arc::new(Platform::default()));
    let scaler = Autoscaler::new(broker, jobs(), platform, Policy::between(13..=20));
    let error = scaler.run_until(std::future::pending()).await.unwrap_err();
    assert_eq!(error.to_string(), "autoscaler of jobs/workers: rejected: over the quota");
}

#[tokio::test(start_paused = true)]
async fn pool_and_autoscaler_are_containers() {
    let (broker, seen) = (broker(200).await, Seen::default());
    let workers = Workers::new(queue::consume(broker.clone(), jobs(), seen.taking(2 * SECOND)));
    let scaler = Autoscaler::new(broker.clone(), jobs(), workers.clone(), Policy::between(1..=64));
    let spec = PodSpec::new("jobs")
        .container(ContainerSpec::new("workers", workers.clone()))
        .container(ContainerSpec::new("autoscaler", scaler));
    let pod = Pod::start(spec, &Net::memory().build()).unwrap();
    time::sleep(61 * SECOND).await;
    let (begun, ended) = seen.begun_and_ended();
    assert!(workers.count().running > 4 && begun > 100, "{:?} {begun}", workers.count());
    assert!(pod.logs("autoscaler").iter().any(|line| line.text.contains("more are needed")));
    pod.kill();
    pod.gone().await;
    assert_eq!(workers.count().running, 0, "a kill takes the workers along");
    assert_eq!(seen.begun_and_ended().1, ended);
    assert_eq!(stored(&broker).await as u32, 200 - ended, "and loses nothing");
}

#[tokio::test(start_paused = true)]
async fn the_workers_of_a_queue_are_a_pool_as_any_and_keep_what_the_queue_gives_them() {
    let queue: Queue<u32> = Queue::open(Arc::new(Memory::new()), "numbers").await.unwrap();
    let pump = queue.tasks(tower::service_fn(|task: Task<u32>| async move {
        time::sleep(SECOND).await;
        Done::new().result(&(task.value + 1))
    }));
    let workers = Workers::new(pump);
    let id = queue.submit(7).await.unwrap().id;
    for number in 0..9 {
        queue.submit(number).await.unwrap();
    }
    workers.set(5).await.unwrap();
    workers.run_until(time::sleep(3 * SECOND)).await.unwrap();
    assert_eq!(queue.inspect().await.unwrap().stored, 0, "ten of a second each, by five");
    assert_eq!(workers.meter().read().done, 10);
    assert_eq!(queue.result::<u32>(id).await.unwrap(), 8);
}
