//! What is injected, and when it ends.

use super::*;
use futures::poll;
use tower::{ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

async fn echo(n: u32) -> Result<u32> {
    Ok(n)
}

#[tokio::test(start_paused = true)]
async fn a_delay_comes_later_a_failure_is_never_made_and_both_end_with_their_guards() {
    let layer = FaultLayer::new();
    let calls = std::cell::Cell::new(0);
    let counted = service_fn(|n: u32| {
        calls.set(calls.get() + 1);
        echo(n)
    });
    let (mut service, handle, start) = (layer.layer(counted), layer.handle(), time::now());
    let slow = handle.inject(Injection::delay(3 * SECOND).when(|n| *n == 1)).unwrap();
    let cut = handle.inject(Injection::fail(Error::new(Kind::Unavailable, "cut off"))).unwrap();
    assert_eq!((service.call(1).await.unwrap(), start.elapsed()), (1, 3 * SECOND));
    assert_eq!(service.call(2).await.unwrap_err().to_string(), "unavailable: cut off");
    assert_eq!((calls.get(), handle.delayed(), handle.failed()), (1, 1, 1));
    drop((slow, cut));
    assert_eq!((service.call(1).await.unwrap(), start.elapsed()), (1, 3 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn one_seed_one_sequence_of_faults_in_the_share_asked_for() {
    let run = async |seed: u64| {
        let layer = FaultLayer::new().seed(Seed::new(seed));
        let service = layer.layer(service_fn(echo));
        layer.handle().inject(Injection::fail(Kind::Timeout).share(0.2)).unwrap().forever();
        let mut failed = Vec::new();
        for n in 0..10_000 {
            failed.push(service.clone().oneshot(n).await.is_err());
        }
        failed
    };
    let (one, again, other) = (run(1).await, run(1).await, run(2).await);
    assert!(one == again && one != other);
    assert!((1_850..2_150).contains(&one.iter().filter(|failed| **failed).count()));
}

#[tokio::test(start_paused = true)]
async fn no_more_faults_are_active_than_allowed_and_one_that_is_dropped_is_over() {
    let layer = FaultLayer::new().max_active(2);
    let (mut service, handle) = (layer.layer(service_fn(echo)), layer.handle());
    handle.inject(Injection::delay(SECOND)).unwrap().forever();
    let mut calls: Vec<_> = (0..3).map(|n| Box::pin(service.call(n))).collect();
    assert_eq!(handle.active(), 2);
    assert!(poll!(calls[0].as_mut()).is_pending() && poll!(calls[2].as_mut()).is_ready());
    drop(calls);
    assert_eq!(handle.active(), 0);
    handle.set_max_active(0);
    assert!(poll!(Box::pin(service.call(1))).is_ready());
    for wrong in [-0.1, 1.1, f64::NAN] {
        assert_eq!(handle.inject(Injection::delay(SECOND).share(wrong)).unwrap_err().kind(), Kind::Invalid);
    }
}
