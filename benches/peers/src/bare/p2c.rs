//! Power of two choices by hand: a fixed list, a counter per endpoint, a guard that counts down.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};
use tower::Service;

/// The list, with how many calls each endpoint has in flight, and a draw of a number below another.
pub struct Hand<S, D> {
    endpoints: Vec<(S, Arc<AtomicU32>)>,
    draw: D,
}

struct Guard(Arc<AtomicU32>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl<S: Clone, D: Fn(usize) -> usize> Hand<S, D> {
    /// In front of these endpoints, at least two.
    pub fn new(endpoints: impl IntoIterator<Item = S>, draw: D) -> Self {
        Hand { endpoints: endpoints.into_iter().map(|service| (service, Arc::default())).collect(), draw }
    }

    /// Calls the less loaded of two.
    #[inline(always)]
    pub async fn call<Req>(&self, request: Req) -> Result<S::Response, S::Error>
    where
        S: Service<Req>,
    {
        let first = (self.draw)(self.endpoints.len());
        let mut second = (self.draw)(self.endpoints.len() - 1);
        if second >= first {
            second += 1;
        }
        let (first, second) = (&self.endpoints[first], &self.endpoints[second]);
        let (service, load) = if first.1.load(Relaxed) <= second.1.load(Relaxed) { first } else { second };
        load.fetch_add(1, Relaxed);
        let _guard = Guard(load.clone());
        let mut service = service.clone();
        poll_fn(|cx| service.poll_ready(cx)).await?;
        service.call(request).await
    }
}
