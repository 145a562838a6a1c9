//! What is told on the way of a call is told in the span of whoever made it.

use super::*;
use seedpod::layer::{ConcurrencyLimitLayer, HedgeLayer};
use std::sync::atomic::AtomicU64;
use tracing::{Event, Instrument, Metadata as About, Subscriber, info, info_span, span, subscriber};

/// Keeps the name of the innermost span of each event of ours.
#[derive(Clone, Default)]
struct Spans {
    last: Arc<AtomicU64>,
    names: Arc<Lock<BTreeMap<u64, &'static str>>>,
    entered: Arc<Lock<Vec<u64>>>,
    told: Arc<Lock<Vec<Option<&'static str>>>>,
}

impl Subscriber for Spans {
    fn enabled(&self, about: &About<'_>) -> bool {
        about.target().starts_with(module_path!())
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let id = self.last.fetch_add(1, SeqCst) + 1;
        self.names.lock().insert(id, span.metadata().name());
        span::Id::from_u64(id)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {
        let innermost = self.entered.lock().last().copied();
        self.told.lock().push(innermost.and_then(|id| self.names.lock().get(&id).copied()));
    }

    fn enter(&self, span: &span::Id) {
        self.entered.lock().push(span.into_u64());
    }

    fn exit(&self, span: &span::Id) {
        assert_eq!(self.entered.lock().pop(), Some(span.into_u64()));
    }
}

#[tokio::test(start_paused = true)]
async fn through_lines_retries_and_replicas_a_call_stays_in_the_span_of_its_caller() {
    let (spans, log) = (Spans::default(), Arc::new(Lock::new(Vec::new())));
    let _here = subscriber::set_default(spans.clone());
    let endpoints = seeded("cart");
    for key in ["a", "b"] {
        let log = log.clone();
        endpoints.insert(
            key,
            service_fn(move |request: Request<&'static str>| {
                let log = log.clone();
                async move {
                    time::sleep(10 * MILLI).await;
                    info!("called");
                    log.lock().push(*request.message());
                    let calls = log.lock().len();
                    if calls.is_multiple_of(3) { Ok(()) } else { Err(Error::from(Kind::Unavailable)) }
                }
            }),
        );
    }
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(30 * SECOND))
        .layer(ConcurrencyLimitLayer::wait(1, 10))
        .layer(RetryLayer::new())
        .layer(HedgeLayer::new(0.1).unwrap())
        .layer(ConcurrencyLimitLayer::wait(1, 10))
        .service(Replicas::new(endpoints));
    let call = |name| service.clone().oneshot(Request::new(name).idempotent());
    let calls = tokio::join!(
        call("checkout").instrument(info_span!("checkout")),
        tokio::spawn(call("search").instrument(info_span!("search"))),
    );
    assert!(calls.0.is_ok() && calls.1.unwrap().is_ok());
    let expected: Vec<_> = log.lock().iter().copied().map(Some).collect();
    assert_eq!((expected.len(), &expected), (6, &*spans.told.lock()));
    assert!(["checkout", "search"].iter().all(|name| log.lock().iter().filter(|call| *call == name).count() == 3));
}
