//! Jobs that are submitted together, and worked on together.

use super::*;
use seedpod::queue::{BatchBy, DEAD_LETTERS, Id, Job, Task, Unique, Work};

#[tokio::test(start_paused = true)]
async fn many_are_stored_or_none_each_on_its_own_terms() {
    let queue: Queue<u32> = Queue::builder(Arc::new(Memory::new()) as Arc<dyn Broker>, "numbers")
        .capacity(4)
        .bound(seedpod::queue::Bound::Refuse)
        .await
        .unwrap();
    let jobs = |numbers: std::ops::Range<u32>| {
        numbers.map(|number| Job::new(number).id(format!("n{number}")).priority(number as u8))
    };
    let done = queue.submit_many(jobs(0..3)).await.unwrap();
    assert_eq!(
        (done.ids, done.stored, done.duplicates),
        ((0..3).map(|number| Id::of(format!("n{number}"))).collect(), 3, 0)
    );
    assert_eq!(queue.submit_many(jobs(10..13)).await.unwrap_err().kind(), Kind::Overloaded);
    assert_eq!(queue.inspect().await.unwrap().stored, 3, "none of them");
    let again = queue.submit_many(jobs(2..3)).await.unwrap();
    assert_eq!((again.stored, again.duplicates), (0, 1));
    assert_eq!(queue.submit_many([]).await.unwrap().ids, []);
    let unique = [Job::new(7), Job::new(8).unique(Unique::key("eight"))];
    assert_eq!(queue.submit_many(unique).await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(queue.take().await.unwrap().unwrap().value, 2, "its priority is its own");
}

/// Batches as they were made: when, and of what.
fn seen(queue: &Queue<u32>, by: BatchBy, log: &Log<Vec<u32>>) -> impl Future<Output = seedpod::Result> + use<> {
    let log = log.clone();
    let worker = queue.batches(by, move |numbers: Vec<u32>| {
        let log = log.clone();
        async move {
            log.say(numbers.clone());
            Ok::<_, Error>(numbers.iter().map(|_| Ok(())).collect())
        }
    });
    worker.run_until(time::sleep(60 * SECOND))
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_full_or_its_time_is_over() {
    let (queue, log) = (numbers().await, Log::new());
    let submit = async {
        for number in 0..25 {
            queue.submit(number).await.unwrap();
        }
        time::sleep(30 * SECOND).await;
        queue.submit(99).await.unwrap();
    };
    let by = BatchBy::size(10).within(5 * SECOND);
    let ((), ended) = futures::future::join(submit, seen(&queue, by, &log)).await;
    ended.unwrap();
    let sizes: Vec<_> = log.all().iter().map(Vec::len).collect();
    assert_eq!(sizes, [10, 10, 5, 1]);
    let times: Vec<_> = log.times().iter().map(|time| time.as_secs()).collect();
    assert_eq!(times, [0, 0, 5, 35]);
    let mut all: Vec<_> = log.all().concat();
    all.sort_unstable();
    assert_eq!(all, (0..25).chain([99]).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn bytes_close_a_batch_too() {
    let (broker, log) = (Arc::new(Memory::new()), Log::new());
    let queue: Queue<u32> = Queue::open(broker.clone(), "numbers").await.unwrap();
    for number in 0..6_u32 {
        let bytes = format!("{:>100}", 1000 + number);
        let publish = Publish::new(queue.topic(), Id::of(number.to_string()), bytes);
        seedpod::queue::BrokerExt::send(&*broker, publish).await.unwrap();
    }
    seen(&queue, BatchBy::size(10).bytes(200).within(SECOND), &log).await.unwrap();
    assert_eq!(log.all().iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn each_has_its_own_end() {
    let queue = numbers().await;
    for number in 0..6 {
        queue.submit(number).await.unwrap();
    }
    let tries = Log::new();
    let worker = {
        let tries = tries.clone();
        queue.batches(BatchBy::size(6).within(SECOND), move |numbers: Vec<u32>| {
            tries.say(numbers.clone());
            let first = tries.all().len() == 1;
            let ends = numbers.into_iter().map(move |number| match number {
                1 => Err(Error::new(Kind::Invalid, "never")),
                2 if first => Err(Error::new(Kind::Unavailable, "not now")),
                _ => Ok(()),
            });
            // it says nothing of the last one at first
            let ends: Vec<_> = ends.take(if first { 5 } else { 6 }).collect();
            async move { Ok::<_, Error>(ends) }
        })
    };
    let control = worker.control();
    worker.run_until(time::sleep(60 * SECOND)).await.unwrap();
    let tally = control.tally();
    assert_eq!((tally.done, tally.rejected, tally.retried), (5, 1, 2), "{tally:?}");
    let mut again: Vec<_> = tries.all()[1..].concat();
    again.sort_unstable();
    assert_eq!((tries.all()[0].len(), again), (6, vec![2, 5]), "the others are not worked on again");
    let dead = queue.dead_letters().subscription(DEAD_LETTERS);
    let letters = queue.broker().lease(&dead, Want::items(9).wait(Duration::ZERO)).await.unwrap();
    assert_eq!((letters.len(), letters[0].json::<u32>(0).unwrap()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_error_or_a_panic_of_the_whole_is_each_ones() {
    for panics in [false, true] {
        let queue = numbers().await;
        for number in 0..4 {
            queue.submit(number).await.unwrap();
        }
        let worker = queue.batches(BatchBy::size(4), move |_: Vec<u32>| async move {
            assert!(!panics, "oh");
            Err::<Vec<Result<(), Error>>, _>(Error::new(Kind::Invalid, "all of them"))
        });
        let control = worker.control();
        worker.crashes(1).run_until(time::sleep(60 * SECOND)).await.unwrap();
        assert_eq!(control.tally().rejected, 4, "panics: {panics}");
    }
}

/// One leaves before the batch is closed, one while it runs: the others get their ends.
#[tokio::test(start_paused = true)]
async fn who_leaves_takes_nobody_along() {
    use seedpod::queue::{Batched, Done, Ends, Message};
    use tower::Service;
    let (queue, log) = (numbers().await, Log::new());
    let mut messages: Vec<Message> = Vec::new();
    for number in 0..4 {
        queue.submit(number).await.unwrap();
        let task: Task<u32> = queue.take().await.unwrap().unwrap();
        messages.push(task.message().clone());
    }
    let service = {
        let log = log.clone();
        tower::service_fn(move |batch: Vec<Message>| {
            log.say(batch.len());
            async move {
                time::sleep(10 * SECOND).await;
                let ends: Ends = batch.iter().map(|_| Ok(Done::new())).collect();
                Ok::<_, Error>(ends)
            }
        })
    };
    let mut batched = Batched::new(BatchBy::size(9).within(5 * SECOND), service);
    let mut calls: Vec<_> = messages.into_iter().map(|message| batched.call(message)).collect();
    for call in &mut calls {
        assert!(futures::poll!(call).is_pending());
    }
    drop(calls.remove(0));
    time::sleep(6 * SECOND).await;
    for call in &mut calls {
        assert!(futures::poll!(call).is_pending());
    }
    assert_eq!(log.all(), [3]);
    drop(calls.remove(0)); // it drove the call of all
    let ends = futures::future::join_all(calls).await;
    assert!(ends.len() == 2 && ends.iter().all(Result::is_ok));
    assert_eq!(log.all(), [3], "called once");
}
