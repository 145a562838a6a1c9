//! Pausing a queue for all processes, and what was left when a pump stopped.

use super::*;
use seedpod::queue::{Control, Work};

#[tokio::test(start_paused = true)]
async fn paused_for_all_processes_and_resumed_for_all() {
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let (log, mut queues) = (Log::new(), Vec::new());
    for _ in 0..2 {
        queues.push(Queue::<u32>::open(broker.clone(), "numbers").await.unwrap());
    }
    let pump = |queue: &Queue<u32>| {
        let log = log.clone();
        queue.worker(move |number: u32| {
            let log = log.clone();
            async move {
                log.say(number);
                Ok::<_, Error>(())
            }
        })
    };
    let (one, other) = (pump(&queues[0]), pump(&queues[1]));
    let controls = [one.control(), other.control()];
    let story = async {
        queues[0].submit(1).await.unwrap();
        time::sleep(SECOND).await;
        queues[1].pause().await.unwrap();
        queues[0].pause().await.unwrap(); // again does nothing
        time::sleep(2 * SECOND).await;
        assert!(queues[0].is_paused().await.unwrap());
        for number in 2..6 {
            queues[0].submit(number).await.unwrap();
        }
        time::sleep(30 * SECOND).await;
        assert_eq!(log.all(), [1], "nobody works");
        assert!(controls.iter().all(Control::is_paused), "who had a job in hand has looked");
        controls[0].resume(); // a handle does not undo what holds for all
        time::sleep(5 * SECOND).await;
        assert_eq!(log.all(), [1]);
        let before = time::now();
        let patient = queues[0].assign(Want::one().wait(3 * SECOND)).await.unwrap();
        assert!(patient.is_empty() && time::now() - before == 3 * SECOND, "by hand neither");
        queues[0].resume().await.unwrap();
        time::sleep(2 * SECOND).await;
        assert_eq!(log.all(), [1, 2, 3, 4, 5]);
        assert!(!queues[1].is_paused().await.unwrap());
    };
    let stop = || time::sleep(60 * SECOND);
    let ((), first, second) = futures::future::join3(story, one.run_until(stop()), other.run_until(stop())).await;
    first.and(second).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_comes_while_it_is_paused_works_on_nothing() {
    let queue = numbers().await;
    queue.submit(1).await.unwrap();
    queue.pause().await.unwrap();
    let worker = queue.worker(|_: u32| async { Ok::<_, Error>(()) });
    let control = worker.control();
    worker.run_until(time::sleep(10 * SECOND)).await.unwrap();
    assert_eq!((control.tally().done, queue.inspect().await.unwrap().ready), (0, 1));
    let poor: Queue<u32> = Queue::open(Arc::new(Poor(Memory::new(), None)), "numbers").await.unwrap();
    let error = poor.pause().await.unwrap_err();
    assert!(error.to_string().contains("the broker poor keeps no state"), "{error}");
    assert!(!poor.is_paused().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_drain_burns_no_attempt_and_tells_what_was_left() {
    let queue = numbers().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(queue.submit(number).await.unwrap().id);
    }
    let worker = queue.worker(|number: u32| async move {
        time::sleep(if number == 0 { SECOND } else { 100 * SECOND }).await;
        Ok::<_, Error>(())
    });
    let worker = worker.concurrency(3).drain(5 * SECOND);
    let control = worker.control();
    assert_eq!(control.left().topic, None, "it has not stopped");
    worker.run_until(time::sleep(Duration::from_millis(500))).await.unwrap();
    let (left, tally) = (control.left(), control.tally());
    assert_eq!((tally.done, tally.handed_back), (1, 2));
    let mut handed_back = left.handed_back.clone();
    handed_back.sort_unstable();
    let mut expected = ids[1..3].to_vec();
    expected.sort_unstable();
    assert_eq!(handed_back, expected);
    let topic = left.topic.unwrap();
    assert_eq!((topic.stored, topic.ready, topic.leased), (4, 4, 0));
    let task = queue.take().await.unwrap().unwrap();
    assert_eq!(task.attempts().total(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_snapshot_tells_depth_age_arrivals_service_time_and_utilisation() {
    use seedpod::queue::scale::{Meter, Metrics};
    let (queue, meter) = (numbers().await, Meter::default());
    let worker = queue.worker(|_: u32| async {
        time::sleep(SECOND).await;
        Ok::<_, Error>(())
    });
    let worker = worker.concurrency(2).metered(&meter);
    let submit = async {
        for number in 0..60 {
            queue.submit(number).await.unwrap();
            meter.arrived(1);
            time::sleep(SECOND).await;
        }
    };
    let ((), ended) = futures::future::join(submit, worker.run_until(time::sleep(60 * SECOND))).await;
    ended.unwrap();
    queue.submit(99).await.unwrap();
    time::sleep(5 * SECOND).await;
    let metrics = queue.metrics(&meter).await.unwrap();
    assert_eq!((metrics.depth, metrics.oldest, metrics.workers), (1, Some(5 * SECOND), 2));
    assert_eq!(metrics.service_time, Some(SECOND));
    assert!((0.8..1.1).contains(&metrics.arrival_rate), "{metrics:?}");
    assert!((0.3..0.6).contains(&metrics.utilisation.unwrap()), "{metrics:?}");
    let text = Metrics::prometheus(&[("numbers", metrics)]);
    assert!(text.contains("seedpod_queue_oldest_seconds{queue=\"numbers\"} 5\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_delay_longer_than_the_lease_is_waited_for_once() {
    let (queue, log) = (numbers().await, Log::new());
    queue.submit(seedpod::queue::Job::new(1).delay(3600 * SECOND)).await.unwrap();
    let worker = {
        let log = log.clone();
        queue.worker(move |number: u32| {
            let log = log.clone();
            async move {
                log.say(number);
                Ok::<_, Error>(())
            }
        })
    };
    worker.hold(10 * SECOND).run_until(time::sleep(7200 * SECOND)).await.unwrap();
    assert_eq!(log.times(), [3600 * SECOND]);
}

/// Memory whose state is out of reach for a while.
struct Away(Memory, seedpod::base::sync::atomic::AtomicBool);

impl Away {
    fn is(&self) -> bool {
        self.1.load(seedpod::base::sync::atomic::Ordering::Relaxed)
    }

    fn set(&self, away: bool) {
        self.1.store(away, seedpod::base::sync::atomic::Ordering::Relaxed);
    }
}

impl Broker for Away {
    fn guarantees(&self) -> Guarantees {
        self.0.guarantees()
    }
    fn declare<'a>(&'a self, topic: &'a Topic, options: TopicOptions) -> Answer<'a, ()> {
        self.0.declare(topic, options)
    }
    fn publish(&self, batches: Few<Publish>) -> Answer<'_, Receipt> {
        self.0.publish(batches)
    }
    fn lease<'a>(&'a self, subscription: &'a Subscription, want: Want) -> Answer<'a, Few<seedpod::queue::Delivery>> {
        self.0.lease(subscription, want)
    }
    fn settle(&self, step: Step) -> Answer<'_, ()> {
        self.0.settle(step)
    }
    fn load<'a>(&'a self, key: &'a Name) -> Answer<'a, (u64, Bytes)> {
        match self.is() {
            true => Answer::now(Err(Error::new(Kind::Unavailable, "away"))),
            false => self.0.load(key),
        }
    }
    fn inspect<'a>(&'a self, topic: &'a Topic) -> Answer<'a, TopicStats> {
        self.0.inspect(topic)
    }
}

/// Replaced jobs, results, shared limits and pausing read rows: while those are out of reach the pump waits, and nothing is
/// charged.
#[tokio::test(start_paused = true)]
async fn rows_that_are_out_of_reach_for_a_while_end_no_pump() {
    use seedpod::queue::{Done, Job, Limit, Taken, Unique};
    let away = Arc::new(Away(Memory::new(), false.into()));
    let queue: Queue<u32> = Queue::open(away.clone(), "numbers").await.unwrap();
    let unique = || Unique::key("one").when_taken(Taken::Replace);
    let id = queue.submit(Job::new(1).unique(unique())).await.unwrap().id;
    let worker = queue.tasks(tower::service_fn(|task: seedpod::queue::Task<u32>| async move {
        assert_eq!(task.attempts().total(), 0);
        Done::new().result(&task.value)
    }));
    let worker = worker.limit(Limit::at_once(1).shared("one"));
    let control = worker.control();
    let story = async {
        time::sleep(SECOND).await;
        assert_eq!(control.tally().done, 1);
        away.set(true);
        for number in 2..5 {
            seedpod::queue::Submit::submit(&queue, Job::new(number)).await.unwrap();
        }
        time::sleep(40 * SECOND).await;
        assert_eq!(control.tally().done, 1, "none is begun that cannot be weighed");
        away.set(false);
        time::sleep(30 * SECOND).await;
        assert_eq!(control.tally().done, 4, "{:?}", control.tally());
    };
    let ((), ended) = futures::future::join(story, worker.run_until(time::sleep(100 * SECOND))).await;
    ended.unwrap();
    assert_eq!(queue.result::<u32>(id).await.unwrap(), 1);
}
