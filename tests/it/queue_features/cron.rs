//! Schedules: each tick once, from any number of processes; what was missed is made up for as told.

use super::*;
use seedpod::queue::{Job, Missed, Schedule, Unique, Work};
use std::time::SystemTime;

fn minute(tick: SystemTime) -> u32 {
    (tick.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 60) as u32
}

async fn all(queue: &Queue<u32>) -> Vec<u32> {
    let mut all = Vec::new();
    while let Some(task) = queue.take().await.unwrap() {
        all.push(task.value);
        task.complete(()).await.unwrap();
    }
    all
}

#[tokio::test(start_paused = true)]
async fn each_tick_once_from_all_processes() {
    for poor in [false, true] {
        let _simulation = seedpod::base::Seed::new(7).simulate();
        let broker: Arc<dyn Broker> = match poor {
            true => Arc::new(Poor(Memory::new(), Some(300 * SECOND))),
            false => Arc::new(Memory::new()),
        };
        let mut queues = Vec::new();
        for _ in 0..3 {
            queues.push(Queue::<u32>::open(broker.clone(), "reports").await.unwrap());
            time::sleep(SECOND).await; // their clocks begin at other times
        }
        let every: Schedule = "*/5 * * * *".parse().unwrap();
        let crons = queues.iter().map(|queue| {
            let cron = queue.cron("report", every.clone(), minute).missed(Missed::Skip);
            async move { cron.run_until(time::sleep(3600 * SECOND)).await }
        });
        futures::future::try_join_all(crons).await.unwrap();
        let ticks = all(&queues[0]).await;
        assert_eq!(ticks.len(), 12, "{ticks:?}");
        assert!(ticks.windows(2).all(|pair| pair[1] == pair[0] + 5), "{ticks:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_is_made_up_for_as_told() {
    for (missed, expected) in [(Missed::Last, 1), (Missed::All, 6), (Missed::Skip, 0)] {
        let queue = numbers().await;
        let hourly: Schedule = "@hourly".parse().unwrap();
        let cron = queue.cron("hourly", hourly, minute).missed(missed);
        cron.run_until(time::sleep(3600 * SECOND)).await.unwrap();
        assert_eq!(all(&queue).await.len(), 1);
        time::sleep(6 * 3600 * SECOND).await; // nobody runs it
        // not within a minute of a tick, where the tick would be just in time
        let wall = time::WallClock::ambient().now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        time::sleep(Duration::from_secs(120_u64.saturating_sub(wall % 3600))).await;
        cron.run_until(time::sleep(SECOND)).await.unwrap();
        let made_up = all(&queue).await;
        assert!((expected..=expected + usize::from(expected > 1)).contains(&made_up.len()), "{missed:?}: {made_up:?}");
        assert!(made_up.windows(2).all(|pair| pair[1] == pair[0] + 60), "the oldest first: {made_up:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_remembers_ticks_it_is_refused() {
    let run = |broker: Poor, missed| async move {
        let queue: Queue<u32> = Queue::open(Arc::new(broker), "reports").await.unwrap();
        let beat = Schedule::every(60 * SECOND).unwrap();
        queue.cron("report", beat, minute).missed(missed).run_until(time::sleep(SECOND)).await
    };
    for (window, missed, lack) in [
        (Some(300 * SECOND), Missed::Last, "which ticks were missed"),
        (Some(30 * SECOND), Missed::Skip, "less than a minute"),
        (None, Missed::Skip, "less than a minute"),
    ] {
        let error = run(Poor(Memory::new(), window), missed).await.unwrap_err();
        assert_eq!((error.kind(), error.place()), (Kind::Unsupported, Some("queue reports, cron report")));
        assert!(error.to_string().contains(lack), "{error}");
    }
    run(Poor(Memory::new(), Some(60 * SECOND)), Missed::Skip).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_job_of_a_tick_has_no_id_of_its_own() {
    let queue = numbers().await;
    let beat = || Schedule::every(SECOND).unwrap();
    for wrong in [Job::new(1).id("a"), Job::new(1).unique(Unique::key("a"))] {
        let error = queue.cron("wrong", beat(), move |_| wrong.clone()).run_until(time::sleep(5 * SECOND)).await;
        assert_eq!(error.unwrap_err().kind(), Kind::Invalid);
    }
}
