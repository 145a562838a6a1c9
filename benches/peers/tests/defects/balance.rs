//! tower's balancer keeps its choice as an index: an endpoint that is removed before the call puts another one there.

use futures::channel::mpsc;
use seedpod::{
    base::Seed,
    serving::{Endpoints, Replicas},
};
use std::{
    convert::Infallible,
    future::{Ready, poll_fn, ready},
    task::{Context, Poll},
};
use tower::{BoxError, Service, balance::p2c::Balance, discover::Change, load::Load, service_fn, util::rng::Rng};

/// Answers its name.
#[derive(Clone, Copy)]
struct Named {
    name: &'static str,
    load: u32,
}

impl Load for Named {
    type Metric = u32;

    fn load(&self) -> u32 {
        self.load
    }
}

impl Service<()> for Named {
    type Response = &'static str;
    type Error = Infallible;
    type Future = Ready<Result<&'static str, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(self.name))
    }
}

/// A generator of this seed.
struct Seeded(seedpod::base::Rng);

impl Rng for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Of a hundred calls, each in front of a set of its own, how many went to the busy one.
async fn busy_calls<S>(mut trial: impl FnMut(u64) -> (S, Box<dyn FnOnce()>)) -> usize
where
    S: Service<(), Response = &'static str, Error: Into<BoxError>>,
{
    let mut busy = 0;
    for number in 0..100 {
        let (mut service, remove_one) = trial(number);
        assert!(poll_fn(|cx| service.poll_ready(cx)).await.is_ok());
        remove_one();
        // as who waits for something else meanwhile: readiness is asked for again, then the call is made
        assert!(poll_fn(|cx| service.poll_ready(cx)).await.is_ok());
        let Ok(answer) = service.call(()).await else { unreachable!("endpoints that never fail") };
        assert_ne!(answer, "removed");
        busy += usize::from(answer == "busy");
    }
    busy
}

#[tokio::test]
async fn ours_calls_the_idle_one_whoever_is_removed_meanwhile() {
    let mut held = Vec::new();
    let calls = busy_calls(|number| {
        let endpoints = Endpoints::named("set").seed(Seed::new(number));
        let answers = |name| service_fn(move |()| ready(Ok::<_, Infallible>(name)));
        endpoints.insert("busy", answers("busy"));
        held.extend((0..9).map(|_| Replicas::new(endpoints.clone()).pick().unwrap()));
        endpoints.update(|changes| {
            for name in ["removed", "idle"] {
                changes.insert(name, answers(name));
            }
        });
        let replicas = Replicas::new(endpoints.clone());
        let remove = move || endpoints.remove("removed");
        (replicas, Box::new(remove) as Box<dyn FnOnce()>)
    });
    assert_eq!(calls.await, 0);
}

#[tokio::test]
async fn towers_calls_the_busy_one() {
    let calls = busy_calls(|number| {
        let (changes, discover) = mpsc::unbounded();
        let insert = |name, load| {
            let change: Result<_, Infallible> = Ok(Change::Insert(name, Named { name, load }));
            changes.unbounded_send(change).unwrap();
        };
        insert("removed", 0);
        insert("idle", 0);
        insert("busy", 9);
        let seeded = Seeded(Seed::new(number).rng());
        let remove = move || changes.unbounded_send(Ok(Change::Remove("removed"))).unwrap();
        (Balance::from_rng(discover, seeded), Box::new(remove) as Box<dyn FnOnce()>)
    });
    let calls = calls.await;
    assert!(calls > 20, "of two it compares both: the busy one must never be called, and was {calls} times of 100");
}
