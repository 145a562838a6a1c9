//! The shell, with time paused.

use super::*;
use crate::layer::{Request, RetryLayer};
use futures::poll;
use tower::{ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

fn few() -> Trip {
    Trip::new().window(Window::Calls(10)).probes(1)
}

/// Fails with this kind; answers where there is none.
async fn fail(kind: Option<Kind>) -> Result {
    kind.map_or(Ok(()), |kind| Err(kind.into()))
}

#[tokio::test(start_paused = true)]
async fn it_opens_refuses_without_calling_and_recovers() {
    let layer = BreakerLayer::new("cart", few()).unwrap();
    let (service, handle) = (layer.layer(service_fn(fail)), layer.handle());
    let call = |kind| service.clone().oneshot(kind);
    for _ in 0..10 {
        call(Some(Kind::Timeout)).await.unwrap_err();
    }
    let error = call(None).await.unwrap_err();
    assert_eq!((error.kind(), error.place(), error.is_unsent()), (Kind::Overloaded, Some("cart"), true));
    assert_eq!((error.retry_after(), handle.refused()), (Some(60 * SECOND), 1));
    time::sleep(60 * SECOND).await;
    call(Some(Kind::Timeout)).await.unwrap_err();
    assert_eq!(handle.explain().until, Some(time::now() + 120 * SECOND), "longer");
    time::sleep(120 * SECOND).await;
    call(None).await.unwrap();
    assert_eq!((handle.explain().circuit, handle.explain().why), (Circuit::Closed, Why::Recovered));
    assert_eq!(handle.turns(), 5, "open, half open, open, half open, closed");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_opens_it_also_where_the_time_out_stands_in_front() {
    let hangs = service_fn(|_: Request<()>| std::future::pending::<Result>());
    let layer = BreakerLayer::new("cart", few()).unwrap();
    let handle = layer.handle();
    let service = RetryLayer::new().attempts(1).attempt_timeout(SECOND).layer(layer.layer(hangs));
    for call in 1..=10 {
        assert!(service.clone().oneshot(Request::new(()).idempotent()).await.unwrap_err().is_timeout());
        assert_eq!(handle.explain().circuit == Circuit::Open, call == 10, "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_ignored_cancelled_or_never_sent_does_not_count() {
    let layer = BreakerLayer::new("cart", few()).unwrap();
    let (service, handle) = (layer.layer(service_fn(fail)), layer.handle());
    for _ in 0..20 {
        service.clone().oneshot(Some(Kind::NotFound)).await.unwrap_err();
    }
    let mut never = layer.layer(service_fn(|()| std::future::pending::<Result>()));
    for _ in 0..20 {
        assert!(poll!(Box::pin(never.call(()))).is_pending());
    }
    let full = layer.layer(service_fn(|()| async { Err::<(), _>(Error::from(Kind::Overloaded).unsent()) }));
    for _ in 0..20 {
        full.clone().oneshot(()).await.unwrap_err();
    }
    assert_eq!((handle.explain().calls, handle.turns()), (0, 0));
    for _ in 0..10 {
        service.clone().oneshot(Some(Kind::Overloaded)).await.unwrap_err();
    }
    assert_eq!(handle.explain().circuit, Circuit::Open, "who is throttled by the other side has been there");
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time_and_one_that_is_dropped_lets_another_in() {
    let layer = BreakerLayer::new("cart", few()).unwrap();
    let slow = service_fn(|fails: bool| async move {
        time::sleep(SECOND).await;
        if fails { Err(Error::from(Kind::Failed)) } else { Ok(()) }
    });
    let mut service = layer.layer(slow);
    for _ in 0..10 {
        service.call(true).await.unwrap_err();
    }
    time::sleep(60 * SECOND).await;
    let mut probe = Box::pin(service.call(false));
    assert!(poll!(probe.as_mut()).is_pending());
    let refused = service.call(false).await.unwrap_err();
    assert_eq!(refused.message(), "the circuit is half open: it has been open long enough");
    drop(probe);
    service.call(false).await.unwrap();
    assert_eq!(layer.handle().explain().circuit, Circuit::Closed);
}

#[tokio::test(start_paused = true)]
async fn slow_answers_count_by_the_clock() {
    let layer = BreakerLayer::new("cart", few().slow(2 * SECOND, 0.5)).unwrap();
    let wait = service_fn(|wait: Duration| async move {
        time::sleep(wait).await;
        Ok::<_, Error>(())
    });
    let mut service = layer.layer(wait);
    for call in 0..10 {
        service.call(if call % 2 == 0 { SECOND } else { 2 * SECOND }).await.unwrap();
    }
    assert_eq!(layer.handle().explain().why, Why::Slow { calls: 10, slow: 5 });
}

#[tokio::test(start_paused = true)]
async fn it_is_forced_reset_and_changed_while_calls_flow() {
    let layer = BreakerLayer::new("cart", few()).unwrap();
    let (mut service, handle) = (layer.layer(service_fn(fail)), layer.handle());
    handle.force(Some(Forced::Open));
    assert!(service.call(None).await.unwrap_err().is_unsent());
    handle.force(Some(Forced::Disabled));
    for _ in 0..50 {
        service.call(Some(Kind::Failed)).await.unwrap_err();
    }
    handle.force(None);
    assert_eq!((handle.explain().circuit, handle.explain().calls), (Circuit::Closed, 0));
    handle.set(few().window(Window::Calls(2))).unwrap();
    service.call(Some(Kind::Failed)).await.unwrap_err();
    service.call(Some(Kind::Failed)).await.unwrap_err();
    assert_eq!(handle.explain().circuit, Circuit::Open);
    handle.reset();
    service.call(None).await.unwrap();
    for wrong in [
        Trip::new().failures(0.0),
        Trip::new().failures(f64::NAN),
        Trip::new().slow(SECOND, 1.5),
        Trip::new().window(Window::Calls(0)),
        Trip::new().window(Window::Time(Duration::ZERO)),
    ] {
        assert_eq!(handle.set(wrong.clone()).unwrap_err().kind(), Kind::Invalid);
        assert!(BreakerLayer::new("", wrong).is_err());
    }
    assert_eq!(handle.settings(), few().window(Window::Calls(2)));
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_circuit_and_keys_without_end_leave_nothing_behind() {
    let layer = BreakerLayer::new("routes", few()).unwrap().keyed(|(key, _): &(u32, bool)| *key).keys(8);
    let answer = service_fn(|(_, fails): (u32, bool)| fail(fails.then_some(Kind::Failed)));
    let (mut service, handle) = (layer.layer(answer), layer.handle());
    for _ in 0..10 {
        service.call((1, true)).await.unwrap_err();
        service.call((2, false)).await.unwrap();
    }
    assert_eq!(handle.explain_of(&1).map(|said| said.circuit), Some(Circuit::Open));
    assert!(service.call((1, false)).await.unwrap_err().is_unsent());
    for key in 10..2_000 {
        service.call((key, false)).await.unwrap();
        assert!(handle.keys() <= 8);
    }
    assert_eq!(handle.explain_of(&1).map(|said| said.circuit), Some(Circuit::Open), "who is open is not forgotten");
    for key in 0..20 {
        for _ in 0..5 {
            service.call((key, true)).await.unwrap_err();
        }
    }
    assert_eq!(handle.keys(), 8);
    handle.force_of(1, Some(Forced::Closed));
    assert!(service.call((1, false)).await.is_ok());
    assert!(service.call((99, false)).await.unwrap_err().is_unsent(), "those beyond share one, and it is open");
}
