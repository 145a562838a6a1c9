//! What becomes of a key whose message fails.

use super::*;
use seedpod::{base::Backoff, queue::Job};

/// Works on three of one key and one of another, of which the first fails until the time is over that it is mended.
async fn worked(hold: bool, mended: Duration, cancel: bool) -> (Vec<(u64, u32)>, seedpod::queue::Tally) {
    let (queue, log, start) = (numbers().await, Log::new(), time::now());
    let mut first = None;
    for number in 1..=3 {
        let id = queue.submit(Job::new(number).key("a")).await.unwrap().id;
        first.get_or_insert(id);
    }
    queue.submit(Job::new(9).key("b")).await.unwrap();
    let worker = {
        let log = log.clone();
        queue.worker(move |number: u32| {
            let log = log.clone();
            async move {
                if number == 1 && time::now() - start < mended {
                    return Err(Error::new(Kind::Unavailable, "not yet"));
                }
                log.say(number);
                Ok(())
            }
        })
    };
    let worker = worker.attempts(3).backoff(Backoff::new(SECOND, 8 * SECOND).exact()).concurrency(4);
    let worker = if hold { worker.hold_key() } else { worker };
    let control = worker.control();
    let calls_off = async {
        if cancel {
            time::sleep(50 * SECOND).await;
            queue.cancel(first.unwrap()).await.unwrap();
        }
    };
    let ((), ended) = futures::future::join(calls_off, worker.run_until(time::sleep(200 * SECOND))).await;
    ended.unwrap();
    let begun = log.times().iter().map(Duration::as_secs).zip(log.all()).collect();
    (begun, control.tally())
}

#[tokio::test(start_paused = true)]
async fn it_lets_the_next_pass_once_it_is_given_up_or_holds_its_key_until_it_is_done() {
    let (passing, tally) = worked(false, 100 * SECOND, false).await;
    assert_eq!(passing, [(0, 9), (3, 2), (3, 3)], "given up after three tries");
    assert_eq!((tally.rejected, tally.blocking), (1, 0));

    let (holding, tally) = worked(true, 100 * SECOND, false).await;
    let order: Vec<_> = holding.iter().map(|(_, number)| *number).collect();
    assert_eq!(order, [9, 1, 2, 3], "no other of its key before it, and no other key behind it");
    assert!((100..110).contains(&holding[1].0), "{holding:?}");
    assert!(tally.rejected == 0 && tally.blocking > 5, "{tally:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_called_off_lets_its_key_go() {
    let (begun, tally) = worked(true, 10_000 * SECOND, true).await;
    let order: Vec<_> = begun.iter().map(|(_, number)| *number).collect();
    assert_eq!((order, tally.dropped), (vec![9, 2, 3], 1));
    assert!((50..60).contains(&begun[1].0), "{begun:?}");
}
