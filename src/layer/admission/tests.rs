//! How much is refused, by the counts and in a service.

use super::*;
use tower::{ServiceExt, service_fn};

const MILLI: Duration = Duration::from_millis(1);

/// A thousand requests a second to a service that accepts so many of each hundred that it gets; sent in each second.
fn run(counts: &mut Counts, rng: &mut Rng, now: &mut Instant, seconds: u32, accepts: impl Fn(u32) -> bool) -> Vec<u32> {
    let second = |_| {
        let mut sent = 0;
        for _ in 0..1_000 {
            *now += MILLI;
            if counts.admit(*now, rng) {
                sent += 1;
                counts.count(*now, accepts(sent));
            }
        }
        sent
    };
    (0..seconds).map(second).collect()
}

#[test]
fn half_a_million_requests_settle_at_twice_what_is_accepted_and_recover() {
    let (mut rng, mut now) = (Seed::new(21).rng(), time::now());
    let mut counts = Counts::new(Throttle::new().most(0.95), now);
    let sent = run(&mut counts, &mut rng, &mut now, 60, |_| true);
    assert!(sent.iter().all(|sent| *sent == 1_000), "nothing is refused while all is accepted");
    let sent = run(&mut counts, &mut rng, &mut now, 300, |sent| sent <= 100);
    assert!(sent[200..].iter().all(|sent| (130..280).contains(sent)), "{sent:?}");
    let sent = run(&mut counts, &mut rng, &mut now, 240, |_| true);
    assert_eq!(sent.last(), Some(&1_000), "{sent:?}");
}

#[test]
fn a_service_that_accepts_nothing_is_still_asked_now_and_then() {
    let (mut rng, mut now) = (Seed::new(22).rng(), time::now());
    let mut counts = Counts::new(Throttle::new(), now);
    let sent = run(&mut counts, &mut rng, &mut now, 300, |_| false);
    assert!(sent[10..].iter().all(|sent| (200..300).contains(sent)), "one of four: {sent:?}");
    let sent = run(&mut counts, &mut rng, &mut now, 240, |_| true);
    assert_eq!(sent.last(), Some(&1_000), "what it refused is forgotten: {sent:?}");
}

#[test]
fn a_pause_of_any_length_forgets_all_that_is_older_than_the_window() {
    let (mut rng, start) = (Seed::new(23).rng(), time::now());
    let mut counts = Counts::new(Throttle::new(), start);
    let (mut now, mut history) = (start, std::collections::VecDeque::new());
    for step in 0..100_000 {
        now += Duration::from_millis(if rng.chance(0.001) { rng.below(400_000) } else { rng.below(200) });
        let tick = (now - start).as_secs() / 5;
        let accepted = rng.chance(0.5);
        counts.count(now, accepted);
        history.push_back((tick, accepted));
        while history.front().is_some_and(|(then, _)| then + SLOTS <= tick) {
            history.pop_front();
        }
        if step % 100 == 0 {
            let accepts = history.iter().filter(|(_, accepted)| *accepted).count() as u64;
            assert_eq!((counts.requests, counts.accepts), (history.len() as u64, accepts), "step {step}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_at_its_work_has_accepted_it_and_what_is_cancelled_does_not_count() {
    for (kind, accepted) in [(Kind::Failed, true), (Kind::Overloaded, false), (Kind::Unavailable, false)] {
        let layer = AdmissionLayer::new(Throttle::new()).unwrap().seed(Seed::new(1));
        let service = layer.layer(service_fn(move |()| async move { Err::<(), _>(Error::from(kind)) }));
        for _ in 0..50 {
            assert!(service.clone().oneshot(()).await.is_err());
        }
        assert_eq!(layer.handle().refused() == 0, accepted, "{kind}");
    }
    let layer = AdmissionLayer::new(Throttle::new()).unwrap();
    let mut never = layer.layer(service_fn(|()| std::future::pending::<Result>()));
    for _ in 0..50 {
        assert!(futures::poll!(Box::pin(never.call(()))).is_pending());
    }
    assert_eq!(layer.handle().probability(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn settings_change_live_and_those_that_make_no_sense_are_refused() {
    let layer = AdmissionLayer::new(Throttle::new()).unwrap();
    let service = layer.layer(service_fn(|()| async { Err::<(), _>(Error::from(Kind::Overloaded)) }));
    for _ in 0..50 {
        service.clone().oneshot(()).await.unwrap_err();
    }
    let handle = layer.handle();
    assert_eq!(handle.probability(), 0.75);
    handle.set(Throttle::new().most(0.5)).unwrap();
    assert_eq!(handle.probability(), 0.5);
    handle.set(Throttle::new().window(Duration::from_secs(30))).unwrap();
    assert_eq!(handle.probability(), 0.0, "another window, other counts");
    for wrong in [
        Throttle::new().ratio(0.5),
        Throttle::new().ratio(f64::NAN),
        Throttle::new().most(1.1),
        Throttle::new().most(f64::NAN),
        Throttle::new().window(Duration::ZERO),
    ] {
        assert_eq!(handle.set(wrong.clone()).unwrap_err().kind(), Kind::Invalid);
        assert!(AdmissionLayer::new(wrong).is_err());
    }
    assert_eq!(handle.settings(), Throttle::new().window(Duration::from_secs(30)));
}
