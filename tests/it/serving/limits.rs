//! Time-outs, limits, shedding and admission keep the rule of readiness, alone and stacked.

use super::*;
use seedpod::{
    layer::{
        AdaptiveLimitLayer, AdmissionLayer, BulkheadLayer, ConcurrencyLimitLayer, Gradient2, Rate, RateLimitLayer,
        ShedLayer, Throttle, TimeoutLayer, TotalTimeoutLayer,
    },
    testing::readiness::{Probe, Report, check},
};

type Plain = Probe<Request<u32>, u32>;

async fn probe<S>(layer: impl Fn(Plain) -> S) -> Result<Report>
where
    S: Service<Request<u32>, Error = Error>,
{
    check(|| Request::new(7).idempotent(), Request::into_message, layer).await
}

fn rate() -> Rate {
    Rate::new(1_000, SECOND).unwrap()
}

#[tokio::test(start_paused = true)]
async fn those_that_pass_on_add_nothing_and_those_that_wait_clone_once_per_call() {
    let alone = probe(|probe| probe).await.unwrap();
    let timed = probe(|probe| TimeoutLayer::new(5 * SECOND).layer(probe)).await.unwrap();
    let admitted = probe(|probe| AdmissionLayer::new(Throttle::new()).unwrap().layer(probe)).await.unwrap();
    assert_eq!((timed, admitted), (alone, alone));

    let key = |request: &Request<u32>| *request.message();
    for report in [
        probe(|probe| TotalTimeoutLayer::new(5 * SECOND).layer(probe)).await.unwrap(),
        probe(|probe| ConcurrencyLimitLayer::shed(1).layer(probe)).await.unwrap(),
        probe(|probe| ConcurrencyLimitLayer::wait(1, 9).patience(SECOND).layer(probe)).await.unwrap(),
        probe(|probe| BulkheadLayer::wait(1, 9, key).layer(probe)).await.unwrap(),
        probe(|probe| AdaptiveLimitLayer::wait(Gradient2::new().between(1, 1), 9).unwrap().layer(probe)).await.unwrap(),
        probe(|probe| RateLimitLayer::shed(rate()).layer(probe)).await.unwrap(),
        probe(|probe| RateLimitLayer::wait(rate(), SECOND).keyed(key).layer(probe)).await.unwrap(),
        probe(|probe| ShedLayer::new().patience(SECOND).layer(probe)).await.unwrap(),
    ] {
        // the scenarios that drop a call before it has been made have cloned too
        assert!(report.calls + 1 == alone.calls && report.clones > report.calls, "{report:?} {alone:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_of_them_stacked_keep_it_too() {
    probe(|probe| {
        ServiceBuilder::new()
            .layer(TotalTimeoutLayer::new(30 * SECOND))
            .layer(ShedLayer::new().patience(SECOND))
            .layer(RateLimitLayer::wait(rate(), SECOND))
            .layer(ConcurrencyLimitLayer::wait(5, 5))
            .layer(BulkheadLayer::wait(5, 5, |request: &Request<u32>| *request.message()))
            .layer(RetryLayer::new())
            .layer(AdaptiveLimitLayer::wait(Gradient2::new(), 5).unwrap())
            .layer(AdmissionLayer::new(Throttle::new()).unwrap())
            .layer(TimeoutLayer::new(5 * SECOND))
            .service(probe)
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_back_when_the_limit_says_and_not_before() {
    let limited = RateLimitLayer::shed(Rate::new(1, SECOND).unwrap());
    let echo = service_fn(|request: Request<u32>| async move { Ok::<_, Error>(request.into_message()) });
    let mut service = ServiceBuilder::new().layer(RetryLayer::new()).layer(limited.clone()).service(echo);
    let start = time::now();
    for second in 0..5 {
        assert_eq!(service.call(Request::new(second).idempotent()).await.unwrap(), second);
        assert_eq!(start.elapsed(), second * SECOND);
    }
    assert_eq!(limited.handle().refused(), 4, "each came back once, at the very moment");
}

#[tokio::test(start_paused = true)]
async fn limits_change_while_requests_flow_and_none_is_lost() {
    let (limit, rate) = (ConcurrencyLimitLayer::wait(4, 1_000), RateLimitLayer::wait(rate(), 60 * SECOND));
    let calls = Arc::new(AtomicU32::new(0));
    let service = ServiceBuilder::new().layer(rate.clone()).layer(limit.clone()).service(slow(&calls, 10 * MILLI));
    let mut flow: FuturesUnordered<_> = (0..500)
        .map(|n| {
            let mut service = service.clone();
            async move {
                time::sleep(n * MILLI).await;
                service.call(Request::new(n)).await
            }
        })
        .collect();
    let (mut answered, mut change) = (0, Seed::new(3).rng());
    while let Some(result) = flow.next().await {
        result.unwrap();
        answered += 1;
        limit.handle().set_limit(change.range(0..8) as u32);
        rate.handle().set_rate(Rate::new(change.range(1..2_000) as u32, SECOND).unwrap());
    }
    assert_eq!((answered, calls.load(SeqCst)), (500, 500));
    assert_eq!((limit.handle().in_flight(), limit.handle().waiting()), (0, 0));
}
