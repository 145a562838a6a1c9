//! The shell, with time paused.

use super::*;
use crate::base::{Seed, sync::Lock};
use crate::layer::Request;
use futures::{StreamExt, stream::FuturesUnordered};
use std::{sync::Arc as StdArc, time::Duration};
use tower::{ServiceExt, service_fn};

const MILLI: Duration = Duration::from_millis(1);

/// What each attempt of a call does: how many milliseconds it takes, and whether it ends well.
type Script = [(u64, bool); 2];

const FAST: Script = [(10, true); 2];

/// Which attempts were made, and which of them were dropped unfinished and how.
#[derive(Clone, Default)]
struct Log(StdArc<Lock<(Vec<u64>, Vec<(u64, bool)>)>>);

struct Under(Log, u64, bool);

impl Drop for Under {
    fn drop(&mut self) {
        if !self.2 {
            self.0.0.lock().1.push((self.1, attempt::dropped() == Outcome::Superseded));
        }
    }
}

/// Follows the script of its request; the answer is the number of the attempt.
fn scripted(
    log: &Log,
) -> impl Service<Request<Script>, Response = u64, Error = Error, Future: Send> + Clone + Send + Sync + 'static + use<>
{
    let log = log.clone();
    let made = StdArc::new(Lock::new(std::collections::BTreeMap::<String, u64>::new()));
    service_fn(move |request: Request<Script>| {
        let attempt = {
            let mut made = made.lock();
            let key = request.idempotency_key().unwrap_or("none").to_string();
            let attempt = made.entry(key).or_default();
            *attempt += 1;
            *attempt
        };
        log.0.lock().0.push(attempt);
        let under = Under(log.clone(), attempt, false);
        async move {
            let mut under = under;
            let (wait, well) = request.message()[(attempt as usize - 1).min(1)];
            time::sleep(Duration::from_millis(wait)).await;
            under.2 = true;
            if well { Ok(attempt) } else { Err(Error::new(Kind::Unavailable, format!("attempt {attempt}"))) }
        }
    })
}

/// A hedge after 10 ms, with so many calls seen.
async fn tuned<S>(layer: &HedgeLayer, inner: S, calls: u64) -> Hedge<S>
where
    S: Service<Request<Script>, Response = u64, Error = Error> + Clone,
{
    let service = layer.layer(inner);
    for call in 0..calls {
        service.clone().oneshot(Request::new(FAST).keyed(format!("warm {call}"))).await.unwrap();
    }
    assert!(layer.handle().delay().is_some_and(|delay| delay >= 10 * MILLI && delay < 11 * MILLI));
    service
}

/// Makes one call with a hedge after 10 ms: its result, how long it took in milliseconds, and what was dropped.
async fn one(script: Script) -> (Result<u64>, u64, Vec<(u64, bool)>, HedgeHandle) {
    let (layer, log) = (HedgeLayer::new(0.1).unwrap(), Log::default());
    let service = tuned(&layer, scripted(&log), 20).await;
    let start = time::now();
    let result = service.oneshot(Request::new(script).keyed("the one")).await;
    let dropped = std::mem::take(&mut log.0.lock().1);
    (result, start.elapsed().as_millis() as u64, dropped, layer.handle())
}

#[tokio::test(start_paused = true)]
async fn what_is_answered_before_the_delay_is_made_once() {
    let (result, took, _, handle) = one([(9, true), (1, true)]).await;
    assert_eq!((result.unwrap(), took, handle.hedged()), (1, 9, 0));
    let (result, took, _, handle) = one([(9, false), (1, true)]).await;
    assert_eq!((result.unwrap_err().message(), took, handle.hedged()), ("attempt 1", 9, 0), "a failure, too");
}

#[tokio::test(start_paused = true)]
async fn the_first_wins_where_it_is_first_and_the_second_where_that_is() {
    let (result, took, dropped, handle) = one([(30, true), (100, true)]).await;
    assert_eq!((result.unwrap(), took, handle.hedged(), handle.won()), (1, 30, 1, 0));
    assert_eq!(dropped, [(2, true)], "told that it was superseded");
    let (result, took, dropped, handle) = one([(100, true), (5, true)]).await;
    assert!(result.unwrap() == 2 && (15..=17).contains(&took), "{took}");
    assert_eq!((handle.won(), dropped), (1, vec![(1, true)]));
}

/// tower's hedge answers with whatever ends first: a second attempt that fails fast ends a healthy first one.
#[tokio::test(start_paused = true)]
async fn a_hedge_that_fails_fast_never_fails_a_healthy_original() {
    let (result, took, dropped, handle) = one([(50, true), (1, false)]).await;
    assert_eq!((result.unwrap(), took, handle.hedged(), handle.won()), (1, 50, 1, 0));
    assert!(dropped.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_original_that_fails_waits_for_the_hedge_and_where_both_fail_it_is_the_first_that_stands() {
    let (result, took, ..) = one([(15, false), (40, true)]).await;
    assert!(result.unwrap() == 2 && (50..=52).contains(&took), "{took}");
    for script in [[(15, false), (40, false)], [(70, false), (5, false)]] {
        let (result, took, ..) = one(script).await;
        assert_eq!(result.unwrap_err().message(), "attempt 1");
        assert!((50..=52).contains(&took) || took == 70, "{took}");
    }
    let (result, took, _, handle) = one([(5, false), (1, true)]).await;
    assert_eq!((result.unwrap_err().message(), took, handle.hedged()), ("attempt 1", 5, 0), "that is for a retry");
}

/// tower's hedge drops losers before it records them: the delay creeps down and it hedges ever more.
#[tokio::test(start_paused = true)]
async fn losers_are_recorded_with_the_time_until_they_lost() {
    let (layer, log) = (HedgeLayer::new(0.1).unwrap(), Log::default());
    let service = tuned(&layer, scripted(&log), 20).await;
    for call in 0..400 {
        // one of five hangs: its second attempt is fast, its first one never ends
        let script = if call % 5 == 0 { [(60_000, true), (10, true)] } else { FAST };
        let result = tokio::spawn(service.clone().oneshot(Request::new(script).keyed(format!("call {call}"))));
        time::sleep(5 * MILLI).await;
        drop(result);
    }
    let handle = layer.handle();
    assert!(handle.won() >= 30, "{handle:?}");
    handle.set_extra_load(0.05).unwrap();
    let delay = handle.delay().unwrap();
    assert!(delay >= 20 * MILLI, "those that lost took more than 20 ms before they did: {delay:?}");
}

/// tower's hedge has no budget: where everything becomes slow, all is sent twice.
#[tokio::test(start_paused = true)]
async fn no_window_has_more_hedges_than_their_part_when_all_becomes_ten_times_as_slow() {
    let most = 0.05;
    let (layer, mut rng) = (HedgeLayer::new(most).unwrap(), Seed::new(71).rng());
    let hedges = StdArc::new(Lock::new(Vec::<Duration>::new()));
    let (log, start) = (hedges.clone(), time::now());
    let service = service_fn(move |request: Request<(Duration, StdArc<Lock<u32>>)>| {
        let (took, made) = request.message().clone();
        *made.lock() += 1;
        if *made.lock() == 2 {
            log.lock().push(start.elapsed());
        }
        async move {
            time::sleep(took).await;
            Ok::<_, Error>(())
        }
    });
    let service = layer.layer(service);
    let mut calls = FuturesUnordered::new();
    for call in 0..24_000 {
        let slow = if (8_000..16_000).contains(&call) { 10 } else { 1 };
        let took = MILLI.mul_f64(5.0 + 20.0 * rng.unit()) * slow;
        let request = Request::new((took, StdArc::default())).idempotent();
        calls.push(tokio::spawn(service.clone().oneshot(request)));
        time::sleep(5 * MILLI).await;
    }
    while let Some(result) = calls.next().await {
        result.unwrap().unwrap();
    }
    let hedges = hedges.lock();
    assert!(hedges.len() > 200 && layer.handle().over_budget() > 100, "{} {:?}", hedges.len(), layer.handle());
    // 200 calls a second; slots of one second, so that the window may begin up to one later than ten seconds ago
    for (at, hedge) in hedges.iter().enumerate() {
        let within = hedges[..=at].iter().filter(|other| **other + Duration::from_secs(9) > *hedge).count();
        assert!(within as f64 <= most * 2_000.0 + 1.0, "{within} at {hedge:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_shared_budget_refuses_a_hedge_and_the_first_attempt_goes_on() {
    let budget = Budget::new(0, 0);
    let (layer, log) = (HedgeLayer::new(0.5).unwrap().budget(budget.clone()), Log::default());
    let service = tuned(&layer, scripted(&log), 20).await;
    let start = time::now();
    let call = |key: &'static str| service.clone().oneshot(Request::new([(100, true), (1, true)]).keyed(key));
    assert_eq!(call("a").await.unwrap(), 1);
    assert_eq!((start.elapsed(), layer.handle().hedged(), layer.handle().over_budget()), (100 * MILLI, 0, 1));
    budget.set(1, 0);
    assert_eq!((call("b").await.unwrap(), budget.left(time::now())), (2, 9));
}

/// tower's hedge sends the second attempt wherever the first one went.
#[tokio::test(start_paused = true)]
async fn the_second_attempt_learns_where_the_first_one_went() {
    let keys: [StdArc<str>; 2] = ["a", "b"].map(Into::into);
    let went = StdArc::new(Lock::new(Vec::new()));
    let (log, slow) = (went.clone(), StdArc::new(Lock::new(false)));
    let hang = slow.clone();
    let choosing = service_fn(move |_: Request<()>| {
        let key = keys.iter().find(|key| !attempt::tried(key)).unwrap_or(&keys[0]);
        attempt::note_tried(key);
        log.lock().push(key.to_string());
        let wait = if *hang.lock() && &**key == "a" { 60_000 } else { 10 };
        async move {
            time::sleep(Duration::from_millis(wait)).await;
            Ok::<_, Error>(())
        }
    });
    let layer = HedgeLayer::new(0.1).unwrap();
    let service = layer.layer(choosing);
    for _ in 0..20 {
        service.clone().oneshot(Request::new(()).idempotent()).await.unwrap();
    }
    went.lock().clear();
    *slow.lock() = true;
    service.oneshot(Request::new(()).idempotent()).await.unwrap();
    assert_eq!(*went.lock(), ["a", "b"]);
}

/// A request that says it is idempotent, and cannot be made again.
struct Unrepeatable;

impl Metadata for Unrepeatable {
    fn deadline(&self) -> Option<Deadline> {
        None
    }

    fn set_deadline(&mut self, _: Deadline) {}

    fn idempotency_key(&self) -> Option<&str> {
        None
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    fn repeat(&self) -> Option<Self> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn what_must_not_or_cannot_be_sent_twice_or_has_no_time_left_is_made_once() {
    let (layer, log) = (HedgeLayer::new(0.5).unwrap(), Log::default());
    let service = tuned(&layer, scripted(&log), 20).await;
    let script = [(30, true), (1, true)];
    assert_eq!(service.clone().oneshot(Request::new(script)).await.unwrap(), 1, "not idempotent");
    let hurried = Request::new(script).keyed("hurried").within(9 * MILLI);
    assert_eq!(service.oneshot(hurried).await.unwrap(), 1, "the deadline comes before the delay");
    let slow = service_fn(|_: Unrepeatable| async {
        time::sleep(30 * MILLI).await;
        Ok::<_, Error>(())
    });
    layer.layer(slow).oneshot(Unrepeatable).await.unwrap();
    assert_eq!(layer.handle().hedged(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_extra_load_changes_live_and_nothing_of_it_ends_hedging() {
    let (layer, log) = (HedgeLayer::new(0.1).unwrap(), Log::default());
    let (service, handle) = (tuned(&layer, scripted(&log), 20).await, layer.handle());
    let call = |key: &'static str| service.clone().oneshot(Request::new([(30, true), (1, true)]).keyed(key));
    handle.set_extra_load(0.0).unwrap();
    assert_eq!((call("off").await.unwrap(), handle.hedged(), handle.delay()), (1, 0, None));
    handle.set_extra_load(0.1).unwrap();
    assert_eq!((call("on").await.unwrap(), handle.hedged()), (2, 1));
    handle.set_delay_min(25 * MILLI);
    assert_eq!(handle.delay(), Some(25 * MILLI));
    for wrong in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(handle.set_extra_load(wrong).unwrap_err().kind(), Kind::Invalid);
        assert!(HedgeLayer::new(wrong).is_err());
    }
    assert_eq!(handle.extra_load(), 0.1);
}

#[tokio::test(start_paused = true)]
async fn time_outs_are_recorded_other_failures_are_not_and_no_latency_is_too_long_to_tell() {
    let layer = HedgeLayer::new(0.5).unwrap();
    let fail = service_fn(|(kind, took): (Kind, Duration)| async move {
        time::sleep(took).await;
        Err::<(), _>(Error::from(kind))
    });
    let service = ServiceExt::<Request<(Kind, Duration)>>::map_err(
        layer.layer(tower::util::MapRequest::new(fail, Request::into_message)),
        |error| error,
    );
    let call = |kind, took| service.clone().oneshot(Request::new((kind, took)));
    for _ in 0..10 {
        call(Kind::Unavailable, MILLI).await.unwrap_err();
    }
    assert_eq!(layer.handle().delay(), None);
    for _ in 0..4 {
        call(Kind::Timeout, Duration::from_secs(5)).await.unwrap_err();
    }
    let delay = layer.handle().delay().unwrap();
    assert!(delay >= Duration::from_secs(5) && delay < Duration::from_secs(6), "{delay:?}");
}

#[tokio::test(start_paused = true)]
async fn the_service_is_cloned_and_made_ready_a_second_time_only_when_it_hedges() {
    #[derive(Default)]
    struct Counts(Lock<(u32, u32)>);
    struct Counting<S>(S, StdArc<Counts>);
    impl<S: Clone> Clone for Counting<S> {
        fn clone(&self) -> Self {
            self.1.0.lock().0 += 1;
            Counting(self.0.clone(), self.1.clone())
        }
    }
    impl<S: Service<Request<Script>>> Service<Request<Script>> for Counting<S> {
        type Response = S::Response;
        type Error = S::Error;
        type Future = S::Future;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
            self.1.0.lock().1 += 1;
            self.0.poll_ready(cx)
        }

        fn call(&mut self, request: Request<Script>) -> Self::Future {
            self.0.call(request)
        }
    }
    let (layer, counts) = (HedgeLayer::new(0.1).unwrap(), StdArc::new(Counts::default()));
    let service = tuned(&layer, Counting(scripted(&Log::default()), counts.clone()), 20).await;
    assert_eq!(*counts.0.lock(), (20, 20));
    service.oneshot(Request::new([(30, true), (1, true)]).keyed("slow")).await.unwrap();
    assert_eq!(*counts.0.lock(), (22, 22));
}
