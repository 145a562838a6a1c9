//! The shell, with time paused.

use super::*;
use futures::{FutureExt, future::join_all, poll};
use tower::service_fn;

const SECOND: Duration = Duration::from_secs(1);

async fn echo(n: u32) -> Result<u32> {
    Ok(n)
}

fn every_second(burst: u32) -> Rate {
    Rate::new(1, SECOND).unwrap().burst(burst)
}

#[tokio::test(start_paused = true)]
async fn all_services_and_all_clones_share_the_rate_and_a_refusal_says_exactly_when_to_come_back() {
    let layer = RateLimitLayer::shed(Rate::new(5, SECOND).unwrap());
    let mut clones: Vec<_> = (0..300).map(|_| layer.layer(service_fn(echo))).collect();
    let mut passed = 0;
    for service in &mut clones {
        for clone in [service.clone(), service.clone()] {
            passed += u32::from(clone.clone().call(1).await.is_ok());
        }
    }
    assert_eq!((passed, layer.handle().refused()), (5, 595), "one connection each changes nothing");
    let error = clones[7].call(1).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (Kind::Overloaded, Some(SECOND / 5)));
    time::sleep(SECOND / 5 - Duration::from_millis(1)).await;
    assert!(clones[7].call(1).await.is_err());
    time::sleep(Duration::from_millis(1)).await;
    assert!(clones[7].call(1).await.is_ok() && clones[7].call(1).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_rate_and_some_another() {
    let layer = RateLimitLayer::shed(every_second(2)).keyed(|n: &u32| *n);
    let mut service = layer.layer(service_fn(echo));
    layer.handle().set_rate_of(3, Some(every_second(4)));
    for (key, burst) in [(1, 2), (2, 2), (3, 4)] {
        let calls = (0..6).map(|_| service.call(key));
        assert_eq!(join_all(calls).await.iter().filter(|result| result.is_ok()).count(), burst, "{key}");
    }
    layer.handle().set_rate(every_second(3));
    assert!(service.call(1).await.is_ok(), "one more than before");
    layer.handle().set_rate_of(3, None);
    assert!(service.call(3).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn who_waits_has_its_turn_in_order_and_only_within_its_patience() {
    let layer = RateLimitLayer::wait(every_second(1), 3 * SECOND);
    let (mut service, start) = (layer.layer(service_fn(echo)), time::now());
    let calls = (0..6).map(|n| service.call(n).map(|result| (result.is_ok(), start.elapsed().as_secs())));
    let ended = join_all(calls).await;
    assert_eq!(ended, [(true, 0), (true, 1), (true, 2), (true, 3), (false, 0), (false, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_not_used_goes_back_where_nobody_came_after_it() {
    let layer = RateLimitLayer::wait(every_second(1), 9 * SECOND);
    let (mut service, start) = (layer.layer(service_fn(echo)), time::now());
    let idle = service.call(0);
    service.call(0).await.unwrap();
    let (mut second, mut third) = (Box::pin(service.call(0)), Box::pin(service.call(0)));
    assert!(poll!(second.as_mut()).is_pending() && poll!(third.as_mut()).is_pending());
    drop(third);
    service.call(0).await.unwrap();
    assert_eq!(start.elapsed(), 2 * SECOND, "in place of the third");
    second.await.unwrap();
    assert_eq!(start.elapsed(), 2 * SECOND);
    let (mut fourth, mut fifth) = (Box::pin(service.call(0)), Box::pin(service.call(0)));
    assert!(poll!(fourth.as_mut()).is_pending() && poll!(fifth.as_mut()).is_pending());
    drop(fourth);
    fifth.await.unwrap();
    assert_eq!(start.elapsed(), 4 * SECOND, "two turns, one of them lost: never more than the rate");
    idle.await.unwrap();
    assert_eq!(start.elapsed(), 5 * SECOND, "a call that nobody polls takes no turn");
}
