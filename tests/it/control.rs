//! control: the work queue and the pump, with time paused.

use futures::FutureExt;
use seedpod::base::{Backoff, Error, Kind, Result, sync::Lock, time};
use seedpod::control::{self, Job, Next, WorkQueue};
use seedpod::net::Net;
use seedpod::pod::{ContainerSpec, Phase, Pod, PodSpec};
use seedpod::store::{Change, Key, Store, Write};
use std::{
    collections::BTreeMap,
    future::{Future, pending},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::Notify;
use tower::service_fn;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn settle() {
    time::sleep(Duration::from_nanos(1)).await; // paused time moves on when nobody has anything left to do
}

fn taken<K: Ord + Clone>(queue: &WorkQueue<K>) -> Option<Job<K>> {
    queue.get().now_or_never().flatten()
}

#[tokio::test(start_paused = true)]
async fn a_key_in_work_is_not_handed_out_and_not_lost() {
    let queue = WorkQueue::new();
    queue.add("a");
    let job = taken(&queue).unwrap();
    queue.add("a");
    queue.add("a");
    queue.add("b");
    let other = taken(&queue).unwrap();
    assert_eq!(*other, "b");
    assert!(taken(&queue).is_none(), "never twice at once");
    assert_eq!((queue.len(), queue.in_work()), (0, 2));
    job.done();
    let again = taken(&queue).unwrap();
    assert_eq!(*again, "a", "never lost");
    again.done();
    other.done();
    assert!(taken(&queue).is_none(), "and once is enough");
}

#[tokio::test(start_paused = true)]
async fn delays_end_in_order_and_the_shortest_stands() {
    let queue: WorkQueue<&str> = WorkQueue::new();
    let start = time::now();
    queue.add_after("late", millis(500));
    queue.add_after("soon", millis(100));
    queue.add_after("late", millis(900));
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move {
            let mut seen = Vec::new();
            for _ in 0..3 {
                let job = queue.get().await.unwrap();
                seen.push((*job, start.elapsed().as_millis()));
                job.done();
            }
            seen
        }
    });
    settle().await;
    queue.add_after("sooner", millis(50)); // while the worker sleeps until the one before
    assert_eq!(queue.delayed(), 3);
    let seen = waiting.await.unwrap();
    assert_eq!(seen, [("sooner", 51), ("soon", 100), ("late", 500)]);
    queue.add_after("now", Duration::ZERO);
    assert_eq!(queue.len(), 1);
    queue.add_after("never", Duration::MAX);
    assert_eq!(queue.delayed(), 1);
}

#[tokio::test(start_paused = true)]
async fn failures_come_back_later_and_later_until_forgotten() {
    let queue = WorkQueue::new();
    let waits: Vec<_> = (0..20).map(|_| queue.add_rate_limited("a").as_millis()).collect();
    assert_eq!(waits[..6], [5, 10, 20, 40, 80, 160]);
    assert_eq!(waits[17..], [655_360, 1_000_000, 1_000_000]);
    assert_eq!((queue.failures(&"a"), queue.failures(&"b"), queue.delayed()), (20, 0, 1));
    queue.forget(&"a");
    assert_eq!(queue.add_rate_limited("a"), millis(5));
}

#[tokio::test(start_paused = true)]
async fn a_job_dropped_unfinished_comes_back() {
    let queue = WorkQueue::new();
    queue.add("a");
    let worker = queue.clone();
    let cancelled = tokio::spawn(async move {
        let _job = worker.get().await.unwrap();
        pending::<()>().await;
    });
    settle().await;
    assert_eq!(queue.in_work(), 1);
    cancelled.abort();
    assert!(cancelled.await.unwrap_err().is_cancelled());
    assert_eq!((queue.in_work(), queue.delayed(), queue.failures(&"a")), (0, 1, 1));
    let job = queue.get().await.unwrap();
    assert_eq!(job.retry(), millis(10));
}

#[tokio::test(start_paused = true)]
async fn every_waiter_finds_work_and_a_dropped_one_passes_it_on() {
    let queue: WorkQueue<i32> = WorkQueue::new();
    let worked = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (queue, worked) = (queue.clone(), worked.clone());
            tokio::spawn(async move {
                while let Some(job) = queue.get().await {
                    worked.fetch_add(1, SeqCst);
                    job.done();
                }
            })
        })
        .collect();
    settle().await;
    for key in 0..100 {
        queue.add(key);
        workers[key as usize % 4].abort(); // perhaps the very one that was woken for it
    }
    settle().await;
    assert_eq!((worked.load(SeqCst), queue.len()), (100, 0));
    queue.shut_down();
    for worker in workers {
        assert!(worker.await.map_or_else(|end| end.is_cancelled(), |()| true));
    }
}

#[tokio::test(start_paused = true)]
async fn shut_down_hands_out_what_is_queued_and_takes_nothing_more() {
    let queue = WorkQueue::new();
    queue.add("a");
    queue.add("b");
    queue.add_after("later", millis(10));
    let job = taken(&queue).unwrap();
    queue.add("a");
    queue.shut_down();
    queue.add("c");
    assert_eq!((queue.delayed(), queue.add_rate_limited("d")), (0, millis(5)));
    assert_eq!(queue.delayed(), 0);
    queue.get().await.unwrap().done();
    assert!(queue.get().await.is_none());
    job.done();
    queue.get().await.unwrap().done();
    assert!(queue.get().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_never_share_a_key_and_lose_none() {
    let queue: WorkQueue<usize> = WorkQueue::new();
    let wanted: Arc<Vec<AtomicUsize>> = Arc::new((0..8).map(|_| AtomicUsize::new(0)).collect());
    let seen: Arc<Vec<AtomicUsize>> = Arc::new((0..8).map(|_| AtomicUsize::new(0)).collect());
    let busy: Arc<Vec<AtomicBool>> = Arc::new((0..8).map(|_| AtomicBool::new(false)).collect());
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (queue, wanted, seen, busy) = (queue.clone(), wanted.clone(), seen.clone(), busy.clone());
            tokio::spawn(async move {
                while let Some(job) = queue.get().await {
                    assert!(!busy[*job].swap(true, SeqCst), "never twice at once");
                    seen[*job].store(wanted[*job].load(SeqCst), SeqCst);
                    tokio::task::yield_now().await;
                    busy[*job].store(false, SeqCst);
                    job.done();
                }
            })
        })
        .collect();
    let adders: Vec<_> = (0..4)
        .map(|adder| {
            let (queue, wanted) = (queue.clone(), wanted.clone());
            tokio::spawn(async move {
                for step in 0..5_000 {
                    let key = (adder + step * 3) % 8;
                    wanted[key].fetch_add(1, SeqCst);
                    queue.add(key);
                    if step % 16 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for adder in adders {
        adder.await.unwrap();
    }
    queue.shut_down();
    for worker in workers {
        worker.await.unwrap();
    }
    for (wanted, seen) in wanted.iter().zip(seen.iter()) {
        assert_eq!(wanted.load(SeqCst), seen.load(SeqCst), "the last add of a key is followed by a run");
    }
}

/// Runs a pump beside the test, until the test tells it to stop.
struct Running {
    stop: Arc<Notify>,
    task: tokio::task::JoinHandle<Result>,
}

fn start<F: Future<Output = Result> + Send + 'static>(run: impl FnOnce(Arc<Notify>) -> F) -> Running {
    let stop = Arc::new(Notify::new());
    Running { task: tokio::spawn(run(stop.clone())), stop }
}

impl Running {
    async fn stop(self) -> Result {
        self.stop.notify_one();
        self.task.await.unwrap()
    }
}

macro_rules! start {
    ($pump:expr) => {{
        let pump = $pump.clone();
        start(|stop| async move { pump.run_until(stop.notified()).await })
    }};
}

type Log = Arc<Lock<Vec<(u128, String)>>>;

#[tokio::test(start_paused = true)]
async fn all_that_is_there_then_each_change() -> Result {
    let store = Store::new();
    store.commit(vec![Write::put("a/1", 0), Write::put("a/2", 0), Write::put("b/1", 0)]).await?;
    let seen: Log = Log::default();
    let handler = service_fn({
        let seen = seen.clone();
        move |key: Key| {
            seen.lock().push((0, key.to_string()));
            async { Ok::<_, Error>(Next::Done) }
        }
    });
    let pump = control::reconcile(store.clone(), handler).prefix("a/");
    let running = start!(pump);
    let said = async || {
        settle().await;
        std::mem::take(&mut *seen.lock()).into_iter().map(|(_, key)| key).collect::<Vec<_>>()
    };
    assert_eq!(said().await, ["a/1", "a/2"]);
    store.put("b/1", 1).await?;
    store.put("a/3", 1).await?;
    store.remove("a/1").await?;
    store.put("a/3", 2).await?;
    assert_eq!(said().await, ["a/3", "a/1"], "removals too; each key once");
    running.stop().await?;
    store.put("a/3", 3).await?;
    assert_eq!(said().await, Vec::<String>::new());
    assert_eq!(pump.stats(), control::Stats { succeeded: 4, ..Default::default() });
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn one_key_one_call_and_the_last_change_is_seen() -> Result {
    let store = Store::new();
    let (running_now, most, total) =
        (Arc::new(Lock::new(BTreeMap::new())), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let last: Arc<Lock<BTreeMap<Key, u64>>> = Arc::default();
    let handler = service_fn({
        let (store, last, running_now, most, total) =
            (store.clone(), last.clone(), running_now.clone(), most.clone(), total.clone());
        move |key: Key| {
            let (store, last, running_now, most, total) =
                (store.clone(), last.clone(), running_now.clone(), most.clone(), total.clone());
            async move {
                assert!(running_now.lock().insert(key.clone(), ()).is_none(), "one call per key");
                most.fetch_max(running_now.lock().len(), SeqCst);
                total.fetch_add(1, SeqCst);
                let value = store.get(&key).map_or(0, |entry| entry.value);
                time::sleep(millis(10)).await;
                last.lock().insert(key.clone(), value);
                running_now.lock().remove(&key);
                Ok::<_, Error>(Next::Done)
            }
        }
    });
    let pump = control::reconcile(store.clone(), handler).concurrency(3);
    let running = start!(pump);
    for value in 1..=300_u64 {
        store.put(format!("{}", value % 7), value).await?;
        time::sleep(millis(1)).await;
    }
    time::sleep(millis(100)).await;
    for key in 0..7_u64 {
        let key = Key::new(&key.to_string());
        assert_eq!(last.lock()[&key], store.get(&key).unwrap().value);
    }
    assert_eq!(most.load(SeqCst), 3, "as many at once as allowed, and no more");
    assert!(total.load(SeqCst) < 150, "changes while busy are one more call");
    assert_eq!(pump.stats().failed, 0);
    running.stop().await
}

#[tokio::test(start_paused = true)]
async fn an_error_comes_back_later_and_later_until_it_goes_well() -> Result {
    let store = Store::new();
    let log: Log = Log::default();
    let begin = time::now();
    let failing = Arc::new(AtomicBool::new(true));
    let handler = service_fn({
        let (log, failing) = (log.clone(), failing.clone());
        move |key: Key| {
            log.lock().push((begin.elapsed().as_millis(), key.to_string()));
            let fails = failing.load(SeqCst);
            async move { if fails { Err(Error::from(Kind::Unavailable)) } else { Ok(Next::Done) } }
        }
    });
    let pump = control::reconcile(store.clone(), handler);
    let running = start!(pump);
    store.put("a", 1).await?;
    time::sleep(millis(100)).await;
    let times = || std::mem::take(&mut *log.lock()).into_iter().map(|(at, _)| at).collect::<Vec<_>>();
    assert_eq!(times(), [0, 5, 15, 35, 75]);
    assert_eq!((pump.stats().failed, pump.stats().delayed), (5, 1));
    store.put("a", 2).await?; // a change does not wait for the back-off
    settle().await;
    assert_eq!(times(), [100]);
    failing.store(false, SeqCst);
    time::sleep(millis(1000)).await;
    assert_eq!(times(), [155]);
    failing.store(true, SeqCst);
    let now = begin.elapsed().as_millis();
    store.put("a", 3).await?;
    time::sleep(millis(17)).await;
    assert_eq!(times(), [now, now + 5, now + 15], "going well ended the back-off");
    running.stop().await
}

#[tokio::test(start_paused = true)]
async fn after_means_again_after_that_time() -> Result {
    let store = Store::new();
    let log: Log = Log::default();
    let begin = time::now();
    let handler = service_fn({
        let log = log.clone();
        move |key: Key| {
            log.lock().push((begin.elapsed().as_millis(), key.to_string()));
            async { Ok::<_, std::convert::Infallible>(Next::After(millis(250))) }
        }
    });
    let pump = control::reconcile(store.clone(), handler).named("clock");
    let running = start!(pump);
    store.put("a", ()).await?;
    time::sleep(millis(600)).await;
    store.put("a", ()).await?;
    time::sleep(millis(600)).await;
    running.stop().await?;
    let times: Vec<_> = log.lock().iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [0, 250, 500, 600, 750, 1000], "sooner if something changes, and one clock per key");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn resync_works_on_everything_again() -> Result {
    let store = Store::new();
    store.put("a", ()).await?;
    store.put("b", ()).await?;
    let calls = Arc::new(AtomicUsize::new(0));
    let handler = service_fn({
        let calls = calls.clone();
        move |_: Key| {
            calls.fetch_add(1, SeqCst);
            async { Ok::<_, Error>(Next::Done) }
        }
    });
    let pump = control::reconcile(store.clone(), handler).resync(millis(100));
    let running = start!(pump);
    time::sleep(millis(350)).await;
    assert_eq!(calls.load(SeqCst), 8);
    running.stop().await
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_of_its_key_alone() -> Result {
    let store = Store::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let handler = service_fn({
        let calls = calls.clone();
        move |key: Key| {
            let call = calls.fetch_add(1, SeqCst);
            assert!(key != "early" || call > 0, "before the future is made");
            async move {
                assert!(key != "late" || call > 2, "in the future");
                Ok::<_, Error>(Next::Done)
            }
        }
    });
    let pump = control::reconcile(store.clone(), handler);
    let running = start!(pump);
    store.put("early", 0).await?;
    settle().await;
    store.put("late", 0).await?;
    store.put("other", 0).await?;
    time::sleep(millis(100)).await;
    assert!(pump.stats().panicked >= 1 && pump.stats().panicked == pump.stats().failed);
    assert_eq!((pump.stats().succeeded, pump.stats().delayed), (3, 0), "all keys came through in the end");
    running.stop().await
}

/// Never ready until told, and counts who is called without being ready.
#[derive(Clone)]
struct Shy {
    open: Arc<AtomicBool>,
    ready: bool,
    violations: Arc<AtomicUsize>,
}

impl tower::Service<Key> for Shy {
    type Response = Next;
    type Error = Error;
    type Future = std::future::Ready<Result<Next>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result> {
        self.ready = self.open.load(SeqCst);
        if self.ready {
            return Poll::Ready(Ok(()));
        }
        let waker = context.waker().clone();
        tokio::spawn(async move {
            time::sleep(millis(10)).await;
            waker.wake();
        });
        Poll::Pending
    }

    fn call(&mut self, _: Key) -> Self::Future {
        self.violations.fetch_add(usize::from(!std::mem::take(&mut self.ready)), SeqCst);
        std::future::ready(Ok(Next::Done))
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_is_called_when_it_is_ready() -> Result {
    let store = Store::new();
    let shy = Shy { open: Arc::default(), ready: false, violations: Arc::default() };
    let pump = control::reconcile(store.clone(), shy.clone()).concurrency(2);
    let running = start!(pump);
    for key in 0..10 {
        store.put(key.to_string(), 0).await?;
    }
    time::sleep(millis(100)).await;
    assert_eq!((pump.stats().succeeded, pump.stats().in_work, pump.stats().queued), (0, 2, 8));
    shy.open.store(true, SeqCst);
    time::sleep(millis(100)).await;
    assert_eq!((pump.stats().succeeded, shy.violations.load(SeqCst)), (10, 0));
    running.stop().await
}

#[tokio::test(start_paused = true)]
async fn stop_finishes_what_is_queued_and_drop_does_not() -> Result {
    let store = Store::new();
    for key in 0..5 {
        store.put(key.to_string(), 0).await?;
    }
    let finished = Arc::new(AtomicUsize::new(0));
    let handler = service_fn({
        let finished = finished.clone();
        move |_: Key| {
            let finished = finished.clone();
            async move {
                time::sleep(millis(100)).await;
                finished.fetch_add(1, SeqCst);
                Err::<Next, _>(Error::from(Kind::Failed)) // which does not hold up the end
            }
        }
    });
    let pump = control::reconcile(store.clone(), handler).concurrency(2);
    let begin = time::now();
    pump.run_until(time::sleep(millis(50))).await?;
    assert_eq!((finished.load(SeqCst), begin.elapsed().as_millis()), (5, 300));
    assert_eq!(store.stats().watches, 0);
    let given_up = tokio::time::timeout(millis(50), pump.run_until(pending::<()>())).await;
    assert!(given_up.is_err());
    time::sleep(millis(1000)).await;
    assert_eq!(finished.load(SeqCst), 5, "workers end with the pump");
    assert_eq!(store.stats().watches, 0);
    pump.run_until(time::sleep(millis(50))).await?;
    assert_eq!(finished.load(SeqCst), 10, "and it can be run again, from the beginning");
    Ok(())
}

#[derive(Clone)]
struct Member {
    owner: &'static str,
}

#[tokio::test(start_paused = true)]
async fn several_sources_feed_one_queue_and_old_owners_are_named() -> Result {
    let sets: Store<u32> = Store::new();
    let pods: Store<Member> = Store::builder().ring(2).tombstones(1).build();
    let log: Log = Log::default();
    let busy = Arc::new(tokio::sync::Semaphore::new(1));
    let handler = service_fn({
        let (log, busy) = (log.clone(), busy.clone());
        move |key: Key| {
            let (log, busy) = (log.clone(), busy.clone());
            async move {
                let _turn = busy.acquire().await.map_err(|_| Kind::Closed)?;
                log.lock().push((0, key.to_string()));
                Ok::<_, Error>(Next::Done)
            }
        }
    });
    let owners = |change: &Change<Member>| {
        assert!(!matches!(change, Change::Reset { .. }));
        change.values().map(|pod| Key::from(["sets", pod.owner])).collect()
    };
    let pump = control::reconcile(sets.clone(), handler).prefix("sets/").also(pods.clone(), "pods/", owners);
    sets.put("sets/a", 1).await?;
    let running = start!(pump);
    let said = async || {
        settle().await;
        let mut keys: Vec<_> = std::mem::take(&mut *log.lock()).into_iter().map(|(_, key)| key).collect();
        keys.sort();
        keys
    };
    assert_eq!(said().await, ["sets/a"]);
    pods.put("pods/1", Member { owner: "a" }).await?;
    pods.put("pods/2", Member { owner: "c" }).await?;
    assert_eq!(said().await, ["sets/a", "sets/c"]);
    // more than the ring holds and than is remembered, in one go: the watch is told everything anew
    for _ in 0..10 {
        pods.put("pods/x", Member { owner: "x" }).await?;
        pods.remove("pods/x").await?;
    }
    pods.put("pods/1", Member { owner: "b" }).await?;
    pods.remove("pods/2").await?;
    assert_eq!(said().await, ["sets/a", "sets/b", "sets/c"], "the owner before, the owner now, and who lost one");
    running.stop().await
}

#[tokio::test(start_paused = true)]
async fn another_backoff() -> Result {
    let store = Store::new();
    store.put("a", 0).await?;
    let calls = Arc::new(AtomicUsize::new(0));
    let handler = service_fn({
        let calls = calls.clone();
        move |_: Key| {
            calls.fetch_add(1, SeqCst);
            async { Err::<Next, _>("not yet") }
        }
    });
    let backoff = Backoff::new(millis(100), millis(200)).exact();
    let pump = control::reconcile(store.clone(), handler).backoff(backoff);
    pump.run_until(time::sleep(millis(950))).await?;
    assert_eq!(calls.load(SeqCst), 6, "at 0, 100, 300, 500, 700, 900");
    assert_eq!(pump.stats().panicked, 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn it_runs_in_a_pod_and_dies_with_it() -> Result {
    let store = Store::new();
    store.put("a", 0).await?;
    let finished = Arc::new(AtomicUsize::new(0));
    let handler = service_fn({
        let (store, finished) = (store.clone(), finished.clone());
        move |key: Key| {
            let (store, finished) = (store.clone(), finished.clone());
            async move {
                time::sleep(millis(100)).await;
                finished.fetch_add(1, SeqCst);
                let odd = store.get(&key).is_some_and(|entry| entry.value % 2 == 1);
                if odd { Err(Error::new(Kind::Rejected, "it is odd").at("the rule")) } else { Ok(Next::Done) }
            }
        }
    });
    let pump = control::reconcile(store.clone(), handler).named("evens").concurrency(2);
    let net = Net::memory().build();
    let start = || Pod::start(PodSpec::new("controller").container(ContainerSpec::new("pump", pump.clone())), &net);

    let pod = start()?;
    time::sleep(millis(150)).await;
    assert_eq!((finished.load(SeqCst), store.stats().watches), (1, 1));
    store.put("b", 1).await?;
    time::sleep(millis(120)).await;
    let logs: Vec<_> = pod.logs("pump").into_iter().map(|line| line.text.to_string()).collect();
    assert_eq!(logs, ["evens: b: the rule: rejected: it is odd; again in 5ms"]);
    store.put("b", 2).await?;
    store.put("c", 2).await?;
    settle().await;
    assert_eq!(pod.stop(millis(1000)).await, Phase::Succeeded);
    assert!(finished.load(SeqCst) >= 4, "what was queued is finished");
    assert_eq!(store.stats().watches, 0);

    let before = finished.load(SeqCst);
    let pod = start()?;
    time::sleep(millis(50)).await;
    assert_eq!(pump.stats().in_work, 2, "in another pod it begins anew");
    pod.kill();
    pod.gone().await;
    time::sleep(millis(1000)).await;
    assert_eq!((finished.load(SeqCst), pump.stats().in_work), (before, 0), "a kill stops it at the next await");
    assert_eq!(store.stats().watches, 0);
    Ok(())
}
