//! Endpoints that are not ready, that fail to become so, and that are taken out meanwhile.

use super::*;
use futures::future::join_all;
use seedpod::serving::{Ejection, Status};
use std::{
    future::Ready,
    task::{Context, Poll, Waker},
};

#[derive(Clone, Copy)]
enum Mood {
    Ready,
    NotReady,
    Fails,
}

/// An endpoint whose readiness is set by the test; it counts its calls, and answers them at once.
#[derive(Clone)]
struct Gated {
    mood: Arc<Lock<(Mood, Vec<Waker>)>>,
    calls: Arc<AtomicU32>,
}

impl Gated {
    fn new(mood: Mood) -> Self {
        Gated { mood: Arc::new(Lock::new((mood, Vec::new()))), calls: Arc::default() }
    }

    fn set(&self, mood: Mood) {
        let (_, waiting) = std::mem::replace(&mut *self.mood.lock(), (mood, Vec::new()));
        waiting.into_iter().for_each(Waker::wake);
    }

    fn calls(&self) -> u32 {
        self.calls.load(SeqCst)
    }
}

impl Service<Request<u32>> for Gated {
    type Response = u32;
    type Error = Error;
    type Future = Ready<Result<u32>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        let (mood, waiting) = &mut *self.mood.lock();
        match mood {
            Mood::Ready => Poll::Ready(Ok(())),
            Mood::Fails => Poll::Ready(Err(Error::new(Kind::Unavailable, "no connection"))),
            Mood::NotReady => {
                waiting.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn call(&mut self, request: Request<u32>) -> Self::Future {
        self.calls.fetch_add(1, SeqCst);
        std::future::ready(Ok(request.into_message()))
    }
}

fn read(n: u32) -> Request<u32> {
    Request::new(n).idempotent()
}

#[tokio::test(start_paused = true)]
async fn who_fails_to_become_ready_fails_that_call_by_name_and_is_used_again_when_it_is_well() {
    let (endpoints, a, b) = (seeded("cart"), Gated::new(Mood::Ready), Gated::new(Mood::Ready));
    endpoints.insert("a", a.clone());
    endpoints.insert("b", b.clone());
    let mut replicas = Replicas::new(endpoints.clone());
    for n in 0..100 {
        assert_eq!(replicas.call(read(n)).await.unwrap(), n);
    }
    assert!(a.calls() > 30 && b.calls() > 30);

    a.set(Mood::Fails);
    let (before, mut errors) = (a.calls(), Vec::new());
    for n in 0..100 {
        errors.extend(replicas.call(read(n)).await.err());
    }
    let errors: Vec<String> = errors.iter().map(Error::chain).collect();
    assert_eq!(errors, ["a: unavailable: no connection"], "then it is second choice");
    assert_eq!((a.calls(), endpoints.pending("a"), endpoints.len()), (before, Some(0), 2));

    let mut service = RetryLayer::new().layer(replicas.clone());
    for n in 0..100 {
        time::sleep(SECOND / 2).await;
        assert_eq!(service.call(read(n)).await.unwrap(), n, "with a retry in front it costs no call");
    }
    a.set(Mood::Ready);
    time::sleep(2 * SECOND).await;
    for n in 0..100 {
        replicas.call(read(n)).await.unwrap();
    }
    assert!(a.calls() > before + 30);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_ready_holds_up_its_own_call_alone_which_goes_out_when_it_is() {
    let (endpoints, a) = (seeded("cart"), Gated::new(Mood::NotReady));
    endpoints.insert("a", a.clone());
    endpoints.insert("b", Gated::new(Mood::Ready));
    let mut replicas = Replicas::new(endpoints.clone());
    let (mut waiting, mut answered) = (Vec::new(), 0);
    for n in 0..1_000 {
        let mut call = Box::pin(replicas.call(read(n)));
        match call.as_mut().now_or_never() {
            Some(answer) => answered += u32::from(answer.unwrap() == n),
            None => waiting.push(call),
        }
    }
    assert_eq!((waiting.len(), answered, endpoints.pending("a")), (1, 999, Some(1)));
    let call = tokio::spawn(waiting.pop().unwrap());
    tokio::task::yield_now().await;
    assert_eq!(a.calls(), 0);
    a.set(Mood::Ready);
    call.await.unwrap().unwrap();
    assert_eq!((a.calls(), endpoints.pending("a")), (1, Some(0)));

    a.set(Mood::NotReady);
    let service = RetryLayer::new().attempt_timeout(100 * MILLI).layer(replicas);
    for n in 0..100 {
        assert_eq!(service.clone().oneshot(read(n)).await.unwrap(), n, "an attempt that waits in vain goes elsewhere");
    }
    assert_eq!((a.calls(), endpoints.pending("a")), (1, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn late_errors_of_who_was_taken_out_say_nothing_of_who_has_its_name() {
    let endpoints = seeded("cart").eject(Ejection::none().failures(1).cap(100)).unwrap();
    let gated = Gated::new(Mood::NotReady);
    let reset = service_fn(|_: Request<u32>| async {
        time::sleep(SECOND).await;
        Err::<u32, _>(Error::new(Kind::Unavailable, "reset"))
    });
    endpoints.insert("called", Erased::new(reset));
    endpoints.insert("waiting", Erased::new(gated.clone()));
    let mut replicas = Replicas::new(endpoints.clone());
    let calls = [1, 2].map(|n| tokio::spawn(replicas.call(read(n))));
    tokio::task::yield_now().await;
    let names = ["called", "waiting"];
    assert_eq!(names.map(|name| endpoints.pending(name)), [Some(1); 2]);

    names.iter().for_each(|name| endpoints.remove(name));
    for name in [names[0], names[1], "other"] {
        endpoints.insert(name, Erased::new(Gated::new(Mood::Ready)));
    }
    assert_eq!(names.map(|name| endpoints.pending(name)), [Some(0); 2]);
    time::sleep(2 * SECOND).await;
    gated.set(Mood::Fails);
    let mut errors: Vec<_> =
        join_all(calls).await.into_iter().map(|answer| answer.unwrap().unwrap_err().chain()).collect();
    errors.sort();
    assert_eq!(errors, ["called: unavailable: reset", "waiting: unavailable: no connection"]);

    assert_eq!(endpoints.explain().to_string(), "0 of 3 out, 3 allowed");
    assert!(endpoints.describe().iter().all(|endpoint| endpoint.status == Status::Ready && endpoint.pending == 0));
    let mut picks = BTreeMap::<String, u32>::new();
    for n in 0..300 {
        let picked = replicas.pick_for(&read(n)).unwrap();
        *picks.entry(picked.key().to_owned()).or_default() += 1;
    }
    assert!(picks.values().all(|picks| (70..130).contains(picks)), "nobody is second choice: {picks:?}");
}

#[tokio::test(start_paused = true)]
async fn who_was_taken_out_is_dropped_with_its_last_call() {
    let (endpoints, held) = (seeded("cart"), Arc::new(()));
    let takes = |held: Arc<()>| {
        Erased::new(service_fn(move |n: u32| {
            let held = held.clone();
            async move {
                time::sleep(n * SECOND).await;
                drop(held);
                Ok::<_, Error>(n)
            }
        }))
    };
    endpoints.insert("a", takes(held.clone()));
    let mut replicas = Replicas::new(endpoints.clone());
    let calls = [1, 2, 3].map(|n| Box::pin(replicas.call(n)));
    endpoints.remove("a");
    endpoints.insert("b", takes(Arc::default()));
    replicas.call(0).await.unwrap(); // the handle sees the change at its next call
    let [first, second, given_up] = calls;
    assert_eq!(first.await.unwrap(), 1);
    assert!(Arc::strong_count(&held) > 1, "two calls are left");
    drop(given_up);
    assert!(Arc::strong_count(&held) > 1, "one call is left");
    assert_eq!(second.await.unwrap(), 2);
    assert_eq!(Arc::strong_count(&held), 1);
}
