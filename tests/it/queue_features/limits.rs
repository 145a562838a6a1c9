//! Limits: rates and numbers at once, in a pump, by key, and between processes.

use super::*;
use seedpod::{
    base::sync::atomic::{AtomicU32, Ordering},
    queue::{Job, Limit, Rate},
};

/// Counts what runs at once.
#[derive(Clone, Default)]
struct AtOnce(Arc<(AtomicU32, AtomicU32)>);

impl AtOnce {
    async fn run(&self, time: Duration) {
        let (now, most) = &*self.0;
        most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        time::sleep(time).await;
        now.fetch_sub(1, Ordering::Relaxed);
    }

    fn most(&self) -> u32 {
        self.0.1.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn in_no_stretch_of_time_more_than_the_rate() {
    let (jobs, log) = (numbers().await, Log::new());
    for number in 0..100 {
        jobs.submit(number).await.unwrap();
    }
    let worker = {
        let log = log.clone();
        jobs.worker(move |number: u32| {
            let log = log.clone();
            async move {
                log.say(number);
                Ok::<_, Error>(())
            }
        })
    };
    let worker = worker.concurrency(8).limit(Limit::rate(Rate::new(10, SECOND).unwrap().burst(5)));
    let control = worker.control();
    worker.run_until(time::sleep(11 * SECOND)).await.unwrap();
    let times = log.times();
    assert_eq!(times.len(), 100, "and it is used: 5 at once, then ten in a second");
    assert!(times[99] >= Duration::from_millis(9_400), "{:?}", times[99]);
    for (at, first) in times.iter().enumerate() {
        let within = times[at..].iter().filter(|time| **time < *first + SECOND).count();
        assert!(within <= 15, "{within} in a second from {first:?}");
    }
    assert_eq!(control.tally().limited, 0, "without keys they wait in the worker's hand");
}

#[tokio::test(start_paused = true)]
async fn a_limit_by_key_holds_up_its_key_and_no_other() {
    let (jobs, log) = (numbers().await, Log::new());
    for number in 0..40 {
        let tenant = if number < 30 { "much" } else { "little" };
        jobs.submit(Job::new(number).tenant(tenant)).await.unwrap();
    }
    let worker = {
        let log = log.clone();
        jobs.worker(move |number: u32| {
            let log = log.clone();
            async move {
                log.say(number);
                Ok::<_, Error>(())
            }
        })
    };
    let worker = worker.concurrency(2).limit(Limit::rate(Rate::new(1, SECOND).unwrap()).per_tenant());
    let control = worker.control();
    worker.run_until(time::sleep(35 * SECOND)).await.unwrap();
    let of = |much: bool| {
        log.0.lock().iter().filter(|(_, it)| (*it < 30) == much).map(|(when, _)| *when).collect::<Vec<_>>()
    };
    let (much, little) = (of(true), of(false));
    assert_eq!((much.len(), little.len()), (30, 10));
    assert!(little[9] < 12 * SECOND, "{little:?}");
    for times in [much, little] {
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(999)), "{times:?}");
    }
    assert!(control.tally().limited < 120, "each comes back when its turn comes: {:?}", control.tally());
}

#[tokio::test(start_paused = true)]
async fn no_more_at_once_than_may_be_by_key_and_attempts_are_not_charged() {
    let (jobs, runs) = (numbers().await, [AtOnce::default(), AtOnce::default()]);
    for number in 0..40 {
        jobs.submit(Job::new(number).key(format!("{number}")).header("host", format!("{}", number % 2))).await.unwrap();
    }
    let worker = {
        let runs = runs.clone();
        jobs.tasks(tower::service_fn(move |task: seedpod::queue::Task<u32>| {
            let run = runs[task.value as usize % 2].clone();
            async move {
                assert_eq!(task.attempts().total(), 0);
                run.run(SECOND).await;
                Ok::<_, Error>(())
            }
        }))
    };
    let limit = Limit::at_once(3).per(|message| message.headers().get("host").map(Name::from));
    let worker = worker.concurrency(10).limit(limit);
    let control = worker.control();
    worker.run_until(time::sleep(60 * SECOND)).await.unwrap();
    assert_eq!((runs[0].most(), runs[1].most(), control.tally().done), (3, 3, 40));
}

#[tokio::test(start_paused = true)]
async fn processes_keep_a_shared_limit_together_and_a_killed_one_frees_its_places() {
    let (jobs, run) = (numbers().await, AtOnce::default());
    for number in 0..12 {
        jobs.submit(number).await.unwrap();
    }
    let sleeper = || {
        let run = run.clone();
        let worker = jobs.worker(move |_: u32| {
            let run = run.clone();
            async move {
                run.run(20 * SECOND).await;
                Ok::<_, Error>(())
            }
        });
        // a limit of its own for each, as in processes of their own: only the name is the same
        let worker = worker.concurrency(4).hold(10 * SECOND).limit(Limit::at_once(2).shared("database"));
        (worker.control(), worker)
    };
    let (counts, one) = sleeper();
    let (more, other) = sleeper();
    let (_, killed) = sleeper();
    {
        let mut killed = Box::pin(killed.run_until(std::future::pending()));
        assert!(futures::poll!(&mut killed).is_pending());
        time::sleep(Duration::from_millis(10)).await;
        assert!(futures::poll!(&mut killed).is_pending());
        assert_eq!(run.most(), 2, "it took both places");
    }
    run.0.0.store(0, Ordering::Relaxed); // those that were killed run no more
    let stop = || time::sleep(200 * SECOND);
    let (first, second) = futures::future::join(one.run_until(stop()), other.run_until(stop())).await;
    first.and(second).unwrap();
    assert_eq!(run.most(), 2, "though each takes longer than a lease");
    let (counts, more) = (counts.tally(), more.tally());
    assert_eq!(counts.done + more.done, 12, "{counts:?} {more:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shared_rate_holds_for_all_and_idle_keys_leave_nothing_behind() {
    let (jobs, log) = (numbers().await, Log::new());
    for number in 0..20 {
        jobs.submit(Job::new(number).tenant(format!("{}", number % 2))).await.unwrap();
    }
    let worker = || {
        let log = log.clone();
        let worker = jobs.worker(move |number: u32| {
            let log = log.clone();
            async move {
                log.say(number % 2);
                Ok::<_, Error>(())
            }
        });
        worker.limit(Limit::rate(Rate::new(1, SECOND).unwrap()).per_tenant().shared("api"))
    };
    let stop = || time::sleep(30 * SECOND);
    futures::future::try_join3(worker().run_until(stop()), worker().run_until(stop()), worker().run_until(stop()))
        .await
        .unwrap();
    assert_eq!(log.all().len(), 20);
    for tenant in 0..2 {
        let times: Vec<_> = log.0.lock().iter().filter(|(_, of)| *of == tenant).map(|(when, _)| *when).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(999)), "{times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_without_state_cannot_share_a_limit_and_says_so() {
    let jobs: Queue<u32> = Queue::open(Arc::new(Poor(Memory::new(), None)), "numbers").await.unwrap();
    let worker = jobs.worker(|_: u32| async { Ok::<_, Error>(()) }).limit(Limit::at_once(1).shared("x"));
    let error = worker.run_until(std::future::pending()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().starts_with("limit x: unsupported: the broker poor keeps no state"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_what_a_limit_holds_back_goes_back_uncharged() {
    let jobs = numbers().await;
    for number in 0..3 {
        jobs.submit(number).await.unwrap();
    }
    let worker = jobs.worker(|_: u32| async { Ok::<_, Error>(()) }).concurrency(3).hold(60 * SECOND);
    let worker = worker.limit(Limit::rate(Rate::new(1, 10 * SECOND).unwrap()));
    let control = worker.control();
    worker.run_until(time::sleep(SECOND)).await.unwrap();
    assert_eq!((control.tally().done, control.tally().handed_back), (1, 2));
    let left = control.left();
    assert_eq!((left.handed_back.len(), left.topic.map(|topic| topic.ready)), (2, Some(2)));
}

/// A service that slows down beyond eight at once: it is given about that many.
#[tokio::test(start_paused = true)]
async fn as_many_at_once_as_the_service_takes_without_slowing_down() {
    use seedpod::queue::Gradient2;
    let (jobs, run) = (numbers().await, AtOnce::default());
    let under_way = Arc::new(AtomicU32::new(0));
    let worker = {
        let (run, under_way) = (run.clone(), under_way.clone());
        jobs.worker(move |_: u32| {
            let (run, under_way) = (run.clone(), under_way.clone());
            async move {
                let beside = under_way.fetch_add(1, Ordering::Relaxed) + 1;
                run.run(Duration::from_millis(100) * beside.max(8) / 8).await;
                under_way.fetch_sub(1, Ordering::Relaxed);
                Ok::<_, Error>(())
            }
        })
    };
    let worker = worker.adaptive(Gradient2::new().between(1, 64).initial(2)).unwrap();
    let control = worker.control();
    assert_eq!(control.concurrency(), 2);
    let submit = async {
        for number in 0..30_000 {
            jobs.submit(number).await.unwrap();
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    let stop = time::sleep(150 * SECOND);
    let (_, ended) = futures::future::join(submit, worker.run_until(stop)).await;
    ended.unwrap();
    let found = control.concurrency();
    assert!((6..=40).contains(&found), "{found}, and never more than {}", run.most());
    assert!(run.most() <= 64);
    assert!(jobs.worker(|_: u32| async { Ok::<_, Error>(()) }).adaptive(Gradient2::new().between(3, 2)).is_err());
}
