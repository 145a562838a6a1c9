//! Readiness inside the call: the only place where a service is made ready for a call that is already under way.

use pin_project_lite::pin_project;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::Service;

pin_project! {
    /// Waits until the service is ready, calls that very instance, and answers what it answers.
    ///
    /// The instance stays, so that another attempt needs no other clone: [`again`](OnCall::again) makes it ready anew.
    pub(crate) struct OnCall<S: Service<Req>, Req> {
        service: S,
        request: Option<Req>,
        #[pin]
        future: Option<S::Future>,
    }
}

impl<S: Service<Req>, Req> OnCall<S, Req> {
    #[inline(always)]
    pub(crate) fn new(service: S, request: Req) -> Self {
        OnCall { service, request: Some(request), future: None }
    }

    /// Drops what is under way; nothing more happens until [`again`](Self::again).
    pub(crate) fn stop(self: Pin<&mut Self>) {
        let mut this = self.project();
        *this.request = None;
        this.future.set(None);
    }

    /// Whether the service has still to become ready for the call.
    pub(crate) fn is_waiting(&self) -> bool {
        self.request.is_some()
    }

    /// Makes another attempt with this request, in place of the one before.
    pub(crate) fn again(mut self: Pin<&mut Self>, request: Req) {
        self.as_mut().stop();
        *self.project().request = Some(request);
    }
}

impl<S: Service<Req>, Req> Future for OnCall<S, Req> {
    type Output = Result<S::Response, S::Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.request.is_some() {
            if let Err(error) = ready!(this.service.poll_ready(cx)) {
                *this.request = None;
                return Poll::Ready(Err(error));
            }
            if let Some(request) = this.request.take() {
                this.future.set(Some(this.service.call(request)));
            }
        }
        match this.future.as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Pending, // stopped, or polled after it was over: no answer is owed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::{convert::Infallible, future::Ready, pin::pin, task::Waker};

    /// Ready at every third poll, and only for one call.
    struct Third(u32);

    impl Service<u32> for Third {
        type Response = u32;
        type Error = Infallible;
        type Future = Ready<Result<u32, Infallible>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            self.0 += 1;
            if self.0.is_multiple_of(3) {
                return Poll::Ready(Ok(()));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }

        fn call(&mut self, request: u32) -> Self::Future {
            assert!(self.0.is_multiple_of(3), "called without readiness");
            std::future::ready(Ok(request + self.0))
        }
    }

    #[test]
    fn one_instance_serves_one_attempt_after_the_other() {
        let mut call = pin!(OnCall::new(Third(0), 10));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(call.as_mut().poll(&mut cx).is_pending());
        assert!(call.as_mut().poll(&mut cx).is_pending());
        assert_eq!(call.as_mut().now_or_never(), Some(Ok(13)));
        call.as_mut().again(20);
        assert!(call.as_mut().poll(&mut cx).is_pending());
        assert!(call.as_mut().poll(&mut cx).is_pending());
        assert_eq!(call.as_mut().now_or_never(), Some(Ok(26)));
        call.as_mut().stop();
        assert!(call.as_mut().poll(&mut cx).is_pending());
    }
}
