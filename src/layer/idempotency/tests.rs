//! Once for each key: on paused time.

use super::*;
use crate::base::{
    Answer, Error, Kind, Outcome,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time,
};
use futures::{FutureExt, future::join_all, poll};
use tower::{Service, service_fn, util::BoxCloneSyncService};

const SECOND: Duration = Duration::from_secs(1);

type Order = (&'static str, u32);
type Till = BoxCloneSyncService<Order, u32, Error>;

/// Takes a second, and answers with how many calls there were; fails while told to.
#[derive(Clone, Default)]
struct Origin {
    calls: Arc<AtomicU32>,
    fails: Arc<Lock<Option<Kind>>>,
}

impl Origin {
    fn service(&self) -> Till {
        let origin = self.clone();
        BoxCloneSyncService::new(service_fn(move |_: Order| {
            let (calls, fails) = (origin.calls.clone(), origin.fails.clone());
            async move {
                time::sleep(SECOND).await;
                let call = calls.fetch_add(1, SeqCst) + 1;
                let fails = *fails.lock();
                fails.map_or(Ok(call), |kind| Err(kind.into()))
            }
        }))
    }

    fn calls(&self) -> u32 {
        self.calls.load(SeqCst)
    }
}

fn key(order: &Order) -> Option<IdempotencyKey> {
    (order.0 != "none").then(|| IdempotencyKey::new(order.0).of(&order.1))
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_gets_the_first_answer_until_the_window_is_over() {
    let (origin, layer) = (Origin::default(), IdempotencyLayer::by(key).window(10 * SECOND));
    let mut service = layer.layer(origin.service());
    let answers = join_all((0..1_000).map(|_| service.call(("a", 5)))).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap() == 1));
    time::sleep(9 * SECOND).await;
    assert_eq!(service.call(("a", 5)).now_or_never().unwrap().unwrap(), 1);
    assert_eq!((service.call(("b", 5)).await.unwrap(), service.call(("a", 5)).await.unwrap()), (2, 3));
    join_all((0..3).map(|_| service.call(("none", 5)))).await;
    let stats = layer.handle().stats();
    assert_eq!((origin.calls(), stats.calls, stats.waited, stats.replayed), (6, 3, 999, 1));
    assert_eq!((stats.held.answers, stats.held.claims, stats.in_flight, stats.waiting), (2, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn another_request_under_the_key_is_a_conflict_before_and_after_the_answer() {
    let (origin, layer) = (Origin::default(), IdempotencyLayer::by(key));
    let mut service = layer.layer(origin.service());
    let mut first = Box::pin(service.call(("a", 5)));
    assert!(poll!(first.as_mut()).is_pending());
    let early = service.call(("a", 9)).now_or_never().unwrap().unwrap_err();
    assert_eq!(first.await.unwrap(), 1);
    let late = service.call(("a", 9)).await.unwrap_err();
    for error in [early, late] {
        assert_eq!((error.kind(), error.downcast_ref()), (Kind::Conflict, Some(&Refused::Reused)));
        assert_eq!(error.chain(), "a: conflict: the idempotency key stands for another request");
    }
    assert_eq!((origin.calls(), layer.handle().stats().conflicts), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_failure_reaches_all_who_wait_and_is_not_kept() {
    let (origin, layer) = (Origin::default(), IdempotencyLayer::by(key));
    let mut service = layer.layer(origin.service());
    *origin.fails.lock() = Some(Kind::Unavailable);
    let answers = join_all((0..10).map(|_| service.call(("a", 5)))).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap_err().kind() == Kind::Unavailable));
    assert_eq!(layer.handle().stats().held, Held::default(), "the key is free");
    *origin.fails.lock() = None;
    assert_eq!(service.call(("a", 9)).await.unwrap(), 2, "even for another request");

    let odd = |result: Result<&u32, &Error>| match result {
        Ok(answer) if answer % 2 == 1 => Outcome::Success,
        _ => Outcome::Failure,
    };
    let mut service = IdempotencyLayer::by(key).classify(odd).layer(origin.service());
    assert_eq!((service.call(("a", 5)).await.unwrap(), service.call(("a", 5)).await.unwrap()), (3, 3));
    assert_eq!((service.call(("b", 5)).await.unwrap(), service.call(("b", 5)).await.unwrap()), (4, 5));
}

#[tokio::test(start_paused = true)]
async fn who_waits_takes_over_and_the_last_to_leave_frees_the_key() {
    let (origin, layer) = (Origin::default(), IdempotencyLayer::by(key));
    let mut service = layer.layer(origin.service());
    let mut calls: Vec<_> = (0..3).map(|_| Box::pin(service.call(("a", 5)))).collect();
    for call in &mut calls {
        assert!(poll!(call.as_mut()).is_pending());
    }
    drop(calls.remove(0));
    assert_eq!((calls.remove(1).await.unwrap(), origin.calls()), (1, 1));
    drop(calls);

    let mut only = Box::pin(service.call(("b", 5)));
    assert!(poll!(only.as_mut()).is_pending());
    assert_eq!(layer.handle().stats().held.claims, 1);
    drop(only);
    let stats = layer.handle().stats();
    assert_eq!((stats.held.claims, stats.in_flight, stats.waiting), (0, 0, 0));
    time::sleep(2 * SECOND).await;
    assert_eq!((origin.calls(), service.call(("b", 9)).await.unwrap()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn where_asked_to_a_call_goes_on_when_all_have_left_and_its_answer_is_kept() {
    let (origin, layer) = (Origin::default(), IdempotencyLayer::by(key).carry_on());
    let mut service = layer.layer(origin.service());
    let mut only = Box::pin(service.call(("a", 5)));
    assert!(poll!(only.as_mut()).is_pending());
    drop(only);
    time::sleep(2 * SECOND).await;
    assert_eq!((origin.calls(), service.call(("a", 5)).now_or_never().unwrap().unwrap()), (1, 1));
    assert_eq!((layer.handle().stats().in_flight, layer.handle().stats().waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn answers_stay_within_their_bounds_and_the_oldest_go_first() {
    let origin = Origin::default();
    let memory = IdempotencyMemory::new().bytes(1_000).answers(5).weigh(|answer: &u32| *answer as usize);
    let layer = IdempotencyLayer::by(key).store(memory.clone());
    let mut service = layer.layer(origin.service());
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    for name in names {
        service.call((name, 0)).await.unwrap();
        let held = memory.held();
        assert!(held.bytes <= 1_000 && held.answers <= 5, "{held:?}");
    }
    assert_eq!((memory.held().answers, memory.held().evicted), (5, 4));
    for name in &names[4..] {
        service.call((name, 0)).now_or_never().unwrap().unwrap();
    }
    origin.calls.store(2_000, SeqCst);
    assert_eq!((service.call(("large", 0)).await.unwrap(), layer.handle().stats().lost), (2_001, 1));
    assert_eq!((memory.held().answers, memory.held().claims), (5, 0), "alone it is too large: the others stay");
    time::sleep(Duration::from_secs(86_400)).await;
    origin.calls.store(0, SeqCst);
    service.call(("a", 0)).await.unwrap();
    assert_eq!((memory.held().answers, memory.held().evicted), (1, 4), "what is over goes by itself");
}

/// As storage that another process uses: every call takes a while.
struct Remote(IdempotencyMemory<u32>);

impl IdempotencyStore<u32> for Remote {
    fn claim<'a>(&'a self, key: &'a IdempotencyKey, lease: Duration) -> Answer<'a, Claim<u32>> {
        Answer::later(async move {
            time::sleep(SECOND / 10).await;
            match key.name() {
                "broken" => Err(Error::new(Kind::Unavailable, "no storage")),
                _ => self.0.claim(key, lease).await,
            }
        })
    }

    fn keep<'a>(&'a self, key: &'a IdempotencyKey, ticket: u64, answer: Arc<u32>, window: Duration) -> Answer<'a, ()> {
        Answer::later(async move {
            time::sleep(SECOND / 10).await;
            self.0.keep(key, ticket, answer, window).await
        })
    }

    fn release(&self, key: &IdempotencyKey, ticket: u64) {
        self.0.release(key, ticket);
    }
}

#[tokio::test(start_paused = true)]
async fn processes_that_share_a_store_carry_a_request_out_once() {
    let (origin, memory) = (Origin::default(), IdempotencyMemory::new());
    let process = || IdempotencyLayer::by(key).store(Remote(memory.clone())).layer(origin.service());
    let (mut one, mut other) = (process(), process());
    let later = async {
        time::sleep(SECOND / 2).await;
        other.call(("a", 5)).await
    };
    let (first, meanwhile) = tokio::join!(one.call(("a", 5)), later);
    let meanwhile = meanwhile.unwrap_err();
    assert_eq!((first.unwrap(), meanwhile.downcast_ref()), (1, Some(&Refused::UnderWay)));
    assert_eq!((meanwhile.kind(), meanwhile.retry_after()), (Kind::Conflict, Some(SECOND)));
    assert_eq!((other.call(("a", 5)).await.unwrap(), origin.calls()), (1, 1));
    let error = other.call(("broken", 5)).await.unwrap_err();
    assert_eq!((error.message(), origin.calls()), ("no storage", 1), "refused before it is sent");
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_a_call_is_being_dropped_is_no_conflict() {
    type Next = Lock<Option<Till>>;
    /// Sends the request again when it is dropped.
    struct Again(Arc<Next>, Arc<Lock<Option<futures::future::BoxFuture<'static, Result<u32, Error>>>>>);
    impl Drop for Again {
        fn drop(&mut self) {
            let Some(mut service) = self.0.lock().take() else { return };
            let mut call: futures::future::BoxFuture<'static, _> =
                Box::pin(async move { service.call(("a", 5)).await });
            assert!(call.as_mut().now_or_never().is_none(), "the key is not free yet");
            *self.1.lock() = Some(call);
        }
    }
    let (next, second) = (Arc::new(Next::new(None)), Arc::new(Lock::new(None)));
    let (again, started) = (next.clone(), second.clone());
    let service = BoxCloneSyncService::new(service_fn(move |_: Order| {
        let again = Again(again.clone(), started.clone());
        async move {
            time::sleep(SECOND).await;
            drop(again);
            Ok::<_, Error>(7)
        }
    }));
    let layer = IdempotencyLayer::by(key);
    let mut service = layer.layer(service);
    *next.lock() = Some(BoxCloneSyncService::new(service.clone()));
    let mut first = Box::pin(service.call(("a", 5)));
    assert!(poll!(first.as_mut()).is_pending());
    drop(first);
    let second = second.lock().take().unwrap();
    assert_eq!((second.await.unwrap(), layer.handle().stats().conflicts), (7, 0));
}
