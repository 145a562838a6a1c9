//! Priorities with ageing, and fairness between tenants.

use super::*;
use seedpod::queue::{Job, Work};

async fn leveled(broker: Arc<dyn Broker>) -> Queue<(u8, Duration)> {
    Queue::builder(broker, "jobs").levels(3, 10 * SECOND).await.unwrap()
}

/// More of the highest level than can be worked off: what waits lower comes all the same, and not before its time.
#[tokio::test(start_paused = true)]
async fn nothing_starves_and_nothing_is_overtaken_by_more_than_its_steps() {
    for poor in [false, true] {
        let broker: Arc<dyn Broker> = if poor { Arc::new(Poor(Memory::new(), None)) } else { Arc::new(Memory::new()) };
        let (jobs, log, start) = (leveled(broker).await, Log::new(), time::now());
        let worker = {
            let log = log.clone();
            jobs.worker(move |job: (u8, Duration)| {
                let log = log.clone();
                async move {
                    log.say(job);
                    time::sleep(SECOND).await;
                    Ok::<_, Error>(())
                }
            })
        };
        let submit = async {
            for second in 0..200 {
                let now = time::now() - start;
                for level in [2, 2, u8::from(second % 4 == 0)] {
                    jobs.submit(Job::new((level, now)).priority(level)).await.unwrap();
                }
                time::sleep(SECOND).await;
            }
        };
        let stop = time::sleep(200 * SECOND);
        let (_, ended) = futures::future::join(submit, worker.run_until(stop)).await;
        ended.unwrap();
        let mut waits = [Duration::ZERO; 3];
        let begun: Vec<_> = log.times().into_iter().zip(log.all()).collect();
        for (at, (level, submitted)) in &begun {
            let wait = &mut waits[usize::from(*level)];
            *wait = (*wait).max(*at - *submitted);
        }
        assert!(begun.iter().any(|(_, (level, _))| *level == 0), "the lowest starve");
        // those of the highest level wait for each other; the others at most two levels longer, and a turn
        assert!(waits[0] <= waits[2] + 20 * SECOND + 3 * SECOND, "{waits:?}");
        for (at, (level, submitted)) in &begun {
            let overtaken = begun.iter().find(|(later, (other, when))| {
                later < at && other > level && *when > *submitted + 10 * SECOND * u32::from(other - level) + 5 * SECOND
            });
            assert!(overtaken.is_none(), "{level} of {submitted:?} was overtaken by {overtaken:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_higher_level_goes_first_where_none_has_waited() {
    let jobs = leveled(Arc::new(Memory::new())).await;
    for level in [0, 2, 1, 200, 0] {
        jobs.submit(Job::new((level, Duration::ZERO)).priority(level)).await.unwrap();
    }
    assert_eq!(jobs.inspect().await.unwrap().ready, 5, "of all lines together");
    let mut levels = Vec::new();
    while let Some(task) = jobs.take().await.unwrap() {
        levels.push(task.value.0);
        task.complete(()).await.unwrap();
    }
    // of a line that nobody has looked into yet, nobody knows how long its jobs have waited
    assert_eq!(levels, [2, 1, 0, 200, 0]);
    for level in [0, 2, 1, 0] {
        jobs.submit(Job::new((level, Duration::ZERO)).priority(level)).await.unwrap();
    }
    let mut levels = Vec::new();
    while let Some(task) = jobs.take().await.unwrap() {
        levels.push(task.value.0);
        task.complete(()).await.unwrap();
    }
    assert_eq!(levels, [2, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_with_much_holds_up_another_by_its_turn_only() {
    let jobs: Queue<&'static str, Names> =
        Queue::builder(Arc::new(Poor(Memory::new(), None)) as Arc<dyn Broker>, "jobs")
            .codec(Names)
            .tenants(16)
            .await
            .unwrap();
    for _ in 0..1_000 {
        jobs.submit(Job::new("whale").tenant("whale")).await.unwrap();
    }
    for _ in 0..5 {
        for tenant in ["ann", "bob"] {
            jobs.submit(Job::new(tenant).tenant(tenant)).await.unwrap();
        }
    }
    let log = Log::new();
    let worker = {
        let log = log.clone();
        jobs.worker(move |tenant: &'static str| {
            let log = log.clone();
            async move {
                log.say(tenant);
                time::sleep(SECOND).await;
                Ok::<_, Error>(())
            }
        })
    };
    worker.run_until(time::sleep(16 * SECOND)).await.unwrap();
    let begun = log.all();
    for tenant in ["ann", "bob"] {
        let places: Vec<_> =
            begun.iter().enumerate().filter(|(_, who)| **who == tenant).map(|(place, _)| place).collect();
        assert_eq!(places.len(), 5, "{begun:?}");
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] <= 3), "a turn each: {begun:?}");
    }
    assert_eq!(jobs.inspect().await.unwrap().stored, 1_010 - begun.len());
}

/// A codec of names that are known.
struct Names;
impl seedpod::queue::Codec<&'static str> for Names {
    fn encode(value: &&'static str) -> seedpod::Result<Bytes> {
        Ok(Bytes::from_static(value.as_bytes()))
    }
    fn decode(bytes: &[u8]) -> seedpod::Result<&'static str> {
        let known = ["whale", "ann", "bob"].into_iter().find(|name| name.as_bytes() == bytes);
        known.ok_or_else(|| Error::from(Kind::Invalid))
    }
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_a_job_is_found_whatever_line_it_is_in() {
    let jobs: Queue<u32> =
        Queue::builder(Arc::new(Memory::new()) as Arc<dyn Broker>, "jobs").levels(2, SECOND).tenants(4).await.unwrap();
    let mut ids = Vec::new();
    for (number, tenant) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let job = Job::new(number as u32).tenant(tenant).priority((number % 2) as u8);
        ids.push(jobs.submit(job).await.unwrap().id);
    }
    jobs.cancel(ids[0]).await.unwrap();
    let worker = jobs.worker(|number: u32| async move {
        if number == 1 {
            return Err(Error::new(Kind::Invalid, "one"));
        }
        seedpod::queue::Done::new().result(&(number * 2))
    });
    let control = worker.control();
    worker.concurrency(1).run_until(time::sleep(SECOND)).await.unwrap();
    drop(control);
    assert_eq!(jobs.result::<u32>(ids[4]).await.unwrap(), 8);
    let stats = jobs.inspect().await.unwrap();
    assert_eq!((stats.stored, stats.rejected), (0, 2), "one called off, one given up");
    let moved = seedpod::queue::Redrive::new(jobs.broker().clone(), jobs.dead_letters()).run().await.unwrap().moved;
    assert_eq!((moved, jobs.inspect().await.unwrap().ready), (2, 2), "each back into its line");
}

#[tokio::test]
async fn too_many_lines_are_refused() {
    let wide = Queue::<u32>::builder(Arc::new(Memory::new()) as Arc<dyn Broker>, "wide").levels(5, SECOND).tenants(60);
    let error = wide.await.unwrap_err();
    assert_eq!((error.kind(), error.place()), (Kind::Invalid, Some("queue wide")));
}

#[tokio::test(start_paused = true)]
async fn workers_that_scale_themselves_see_what_waits_in_all_lines() {
    use seedpod::queue::scale::Scale;
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let jobs: Queue<u32> = Queue::builder(broker, "jobs").levels(2, SECOND).tenants(4).await.unwrap();
    for number in 0..600 {
        let job = Job::new(number).priority(1).tenant(format!("{}", number % 10));
        jobs.submit(job).await.unwrap();
    }
    let worker = jobs.worker(|_: u32| async {
        time::sleep(SECOND).await;
        Ok::<_, Error>(())
    });
    let workers = worker.autoscale(1..=32);
    let most = async {
        let mut most = 0;
        for _ in 0..120 {
            time::sleep(SECOND).await;
            most = most.max(workers.workers().current().await.unwrap().total());
        }
        most
    };
    let (most, ended) = futures::future::join(most, workers.run_until(time::sleep(121 * SECOND))).await;
    ended.unwrap();
    assert!((8..=32).contains(&most), "{most}");
    assert_eq!(jobs.inspect().await.unwrap().stored, 0);
}
