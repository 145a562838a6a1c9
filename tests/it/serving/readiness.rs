//! Layers of ours keep the rule of readiness; layers that break it are caught, each by its own violation.

use super::*;
use futures::future::BoxFuture;
use seedpod::testing::readiness::{Probe, Report, check};
use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

type Plain = Probe<Request<u32>, u32>;

fn request() -> Request<u32> {
    Request::new(7).idempotent()
}

async fn probe<S>(layer: impl Fn(Plain) -> S) -> Result<Report>
where
    S: Service<Request<u32>, Error = Error>,
{
    check(request, Request::into_message, layer).await
}

fn replicas<S: Clone>(service: S) -> Replicas<S> {
    let endpoints = seeded("probed");
    endpoints.insert("probe", service);
    Replicas::new(endpoints)
}

#[tokio::test(start_paused = true)]
async fn ours_keep_it_alone_and_stacked() {
    let deadline = || DeadlineLayer::new(5 * SECOND);
    let alone = probe(|probe| probe).await.unwrap();
    let passed = probe(|probe| deadline().layer(probe)).await.unwrap();
    assert_eq!((passed, passed.clones), (alone, 0), "what passes on adds nothing");

    let retried = probe(|probe| RetryLayer::new().layer(probe)).await.unwrap();
    assert_eq!(
        retried.calls,
        alone.calls + 4 - 1,
        "two calls that failed for now have two more attempts; one dropped unpolled has none"
    );
    assert!(retried.clones < retried.calls, "{retried:?}");
    probe(|probe| RetryLayer::new().attempt_timeout(SECOND).layer(probe)).await.unwrap();

    let chosen = probe(replicas).await.unwrap();
    assert!(
        chosen.calls + 1 == alone.calls && chosen.clones > chosen.calls,
        "a clone each, also of those dropped: {chosen:?}"
    );
    probe(|probe| replicas(replicas(probe))).await.unwrap();
    probe(|probe| replicas(Erased::new(probe))).await.unwrap();
    probe(|probe| {
        let outer = ServiceBuilder::new().layer(deadline()).layer(RetryLayer::new()).layer(deadline());
        outer.service(replicas(deadline().layer(replicas(RetryLayer::new().attempts(1).layer(probe)))))
    })
    .await
    .unwrap();
}

/// Wrong in one way.
#[derive(Clone)]
struct Broken {
    inner: Plain,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    CallsAClone,
    IsAlwaysReady,
    DropsTheWaker,
    KeepsTheFirstWaker,
    ClonesTwice,
    LetsGo,
    CallsWhenDropped,
    NeverCalls,
    NeverEnds,
}

impl Service<Request<u32>> for Broken {
    type Response = u32;
    type Error = Error;
    type Future = BoxFuture<'static, Result<u32>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result> {
        match self.how {
            How::IsAlwaysReady | How::ClonesTwice | How::CallsWhenDropped => Poll::Ready(Ok(())),
            How::DropsTheWaker => self.inner.poll_ready(&mut Context::from_waker(Waker::noop())),
            _ => self.inner.poll_ready(cx),
        }
    }

    fn call(&mut self, request: Request<u32>) -> Self::Future {
        match self.how {
            How::CallsAClone => Box::pin(self.inner.clone().call(request)),
            How::IsAlwaysReady | How::DropsTheWaker => Box::pin(self.inner.call(request)),
            How::KeepsTheFirstWaker => Box::pin(FirstWaker { inner: self.inner.call(request), first: None }),
            How::ClonesTwice => {
                let mut kept = (self.inner.clone(), self.inner.clone());
                async move { kept.0.ready().await?.call(request).await }.boxed()
            }
            How::LetsGo => {
                let call = tokio::spawn(self.inner.call(request));
                async move { call.await.unwrap() }.boxed()
            }
            How::CallsWhenDropped => {
                let mut inner = self.inner.clone();
                let call = tokio::spawn(async move { inner.ready().await?.call(request).await });
                async move { call.await.unwrap() }.boxed()
            }
            How::NeverCalls => Box::pin(std::future::ready(Ok(7))),
            How::NeverEnds => {
                let call = self.inner.call(request);
                async move {
                    call.await?;
                    std::future::pending().await
                }
                .boxed()
            }
        }
    }
}

struct FirstWaker<F> {
    inner: F,
    first: Option<Waker>,
}

impl<F: Future + Unpin> Future for FirstWaker<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let first = this.first.get_or_insert_with(|| cx.waker().clone());
        Pin::new(&mut this.inner).poll(&mut Context::from_waker(first))
    }
}

#[tokio::test(start_paused = true)]
async fn layers_that_break_it_are_caught() {
    for (how, violation) in [
        (How::CallsAClone, "at once: an instance was called that had not become ready"),
        (How::IsAlwaysReady, "ready late: an instance was called that had not become ready"),
        (How::IsAlwaysReady, "never ready: it was called although it had failed to become ready"),
        (How::DropsTheWaker, "ready late: whoever polled last was not woken"),
        (How::KeepsTheFirstWaker, "answered late: whoever polled last was not woken"),
        (How::ClonesTwice, "at once: 2 clones for 1 attempts"),
        (How::LetsGo, "dropped in flight: dropping the call did not drop what was under way"),
        (How::CallsWhenDropped, "dropped before ready: it was called after the caller had given up"),
        (How::NeverCalls, "at once: the call never reached it"),
        (How::NeverCalls, "dropped in flight: it ended without the probe"),
        (How::NeverEnds, "at once: it never ended"),
    ] {
        let error = probe(|inner| Broken { inner, how }).await.expect_err(&format!("{how:?}"));
        assert!(error.message().contains(violation), "{how:?}: {error}");
    }
}
